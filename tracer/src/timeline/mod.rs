//! The living incidents: events of one connection come together here and wait until they have settled.
//! Bounded in every direction; what does not fit is counted. Judges nothing.

mod incident;
mod memory;
mod route;
mod tuple;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::{Event, EventKind, HostFacts, Mono, Overflow, Socket, TcpState};

pub use incident::{Incident, OverflowSum, Subject};
pub use memory::{Judged, Memory, REMEMBER};
pub use route::{Known, Route, route};
pub use tuple::{Tuple, canonical, listens_on};

/// Overflows of one listener that are further apart than this are two incidents. A dropped SYN is repeated after 1 s.
pub const OVERFLOW_GAP: Duration = Duration::from_millis(1_500);
/// An overflow incident is told after this time even if it goes on.
pub const OVERFLOW_LONGEST: Duration = Duration::from_secs(5);

/// How long moments are known: longer than any incident lives and is remembered together.
const MOMENTS: Duration = Duration::from_secs(20);

/// An incident, living or remembered.
#[derive(Debug, Clone, Copy)]
pub struct Recent<'a> {
    /// The incident.
    pub incident: &'a Incident,
    /// It was judged, and with a line of the log.
    pub logged: bool,
}

/// Bounds of the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Living incidents.
    pub incidents: usize,
    /// Events kept per incident and kind of witness.
    pub events: usize,
    /// Judged incidents remembered.
    pub judged: usize,
    /// Refused resets and ICMP errors remembered.
    pub asides: usize,
}

/// What the timeline did with the events; the numbers only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Events that joined an incident.
    pub merged: u64,
    /// Events of incidents that were judged already, absorbed.
    pub absorbed: u64,
    /// Events beyond the bound of their incident.
    pub beyond: u64,
    /// Living incidents judged early because the table was full.
    pub evicted: u64,
    /// Events that concern no connection of Nginx.
    pub unrelated: u64,
}

/// The living incidents and the memory of the judged ones.
#[derive(Debug)]
pub struct Timeline {
    bounds: Bounds,
    next: u64,
    living: BTreeMap<u64, Incident>,
    by_cookie: HashMap<(u32, u64), u64>,
    by_tuple: HashMap<Tuple, u64>,
    by_listener: HashMap<(u32, SocketAddr), u64>,
    deadlines: BTreeSet<(Mono, u64)>,
    deadline_of: HashMap<u64, Mono>,
    asides: VecDeque<(Tuple, Event)>,
    /// When something happened, and to which incident, living or remembered.
    moments: BTreeSet<(Mono, u64)>,
    memory: Memory,
    tally: Tally,
}

/// The tables together with the configuration, for the router.
struct Tables<'a> {
    timeline: &'a Timeline,
    host: &'a HostFacts,
}

impl Known for Tables<'_> {
    fn has(&self, tuple: Tuple) -> bool {
        self.timeline.by_tuple.contains_key(&tuple) || self.timeline.memory.of(tuple).is_some()
    }

    fn listens(&self, address: SocketAddr) -> bool {
        self.host.nginx.listeners.iter().any(|(listener, _)| listens_on(*listener, address))
    }

    fn is_upstream(&self, address: SocketAddr) -> bool {
        self.host.nginx.upstreams.iter().any(|upstream| canonical(*upstream) == address)
    }
}

impl Timeline {
    /// An empty timeline.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            next: 0,
            living: BTreeMap::new(),
            by_cookie: HashMap::new(),
            by_tuple: HashMap::new(),
            by_listener: HashMap::new(),
            deadlines: BTreeSet::new(),
            deadline_of: HashMap::new(),
            asides: VecDeque::new(),
            moments: BTreeSet::new(),
            memory: Memory::new(bounds.judged),
            tally: Tally::default(),
        }
    }

    /// Takes one event. `name` makes an incident's id from its number, time and subject;
    /// `hold` says how long an incident waits after its first event.
    /// Returns the number of the incident that has to be judged at once because the table is full.
    pub fn observe(
        &mut self,
        event: Event,
        host: &HostFacts,
        name: &impl Fn(u64, &Event) -> String,
        hold: &impl Fn(&Incident) -> Duration,
    ) -> Option<Incident> {
        let event = without_listener(event);
        let way = route(&event, &Tables { timeline: self, host });
        let number = match way {
            Route::Nothing | Route::Process => return self.unrelated(),
            Route::Listener => self.overflow(&event, name),
            Route::Aside(tuple) => self.aside(tuple, event),
            Route::Own(tuple) => self.own(tuple, event, name),
            Route::Peer(tuple) => self.peer(tuple, event, name),
            Route::Aftermath(tuple) => self.aftermath(tuple, event),
            Route::Answered(tuple) => self.answered(tuple, event, name),
        };
        let number = number?;
        self.reschedule(number, hold);
        (self.living.len() > self.bounds.incidents).then(|| self.evict()).flatten()
    }

    /// When the next incident has settled.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out the incident that settled first, if one has by `now`.
    pub fn settled(&mut self, now: Mono) -> Option<Incident> {
        let (deadline, number) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.take(number)
    }

    /// Takes out one living incident.
    pub fn take(&mut self, number: u64) -> Option<Incident> {
        let incident = self.living.remove(&number)?;
        if let Some(deadline) = self.deadline_of.remove(&number) {
            self.deadlines.remove(&(deadline, number));
        }
        if let Some(tuple) = incident.tuple()
            && self.by_tuple.get(&tuple) == Some(&number)
        {
            self.by_tuple.remove(&tuple);
        }
        for socket in incident.own.iter().filter_map(|event| event.socket.as_ref()) {
            let key = (socket.netns, socket.cookie);
            if self.by_cookie.get(&key) == Some(&number) {
                self.by_cookie.remove(&key);
            }
        }
        if let Subject::Listener(address, netns) = &incident.subject {
            self.by_listener.remove(&(*netns, *address));
        }
        Some(incident)
    }

    /// Notes the close of the other half of the request that belongs to a living incident.
    pub fn set_other_half(&mut self, number: u64, event: Event) -> bool {
        let Some(incident) = self.living.get_mut(&number) else { return false };
        incident.other_half = Some(Box::new(event));
        self.tally.merged += 1;
        true
    }

    /// The incident has not been judged.
    pub fn is_living(&self, number: u64) -> bool {
        self.living.contains_key(&number)
    }

    /// Living incidents in the order of their creation.
    pub fn living(&self) -> impl Iterator<Item = &Incident> {
        self.living.values()
    }

    /// The living or remembered incident of a tuple.
    pub fn of(&self, tuple: Tuple) -> Option<&Incident> {
        let living = self.by_tuple.get(&tuple).and_then(|number| self.living.get(number));
        living.or_else(|| self.memory.of(tuple).map(|judged| &judged.incident))
    }

    /// Living and remembered incidents to which something happened between these times, by number.
    pub fn around(&self, from: Mono, to: Mono) -> impl Iterator<Item = Recent<'_>> {
        let numbers: BTreeSet<u64> =
            self.moments.range((from, 0)..=(to, u64::MAX)).map(|(_, number)| *number).collect();
        numbers.into_iter().filter_map(|number| {
            let living = || Some(Recent { incident: self.living.get(&number)?, logged: false });
            self.memory
                .get(number)
                .map(|it| Recent { incident: &it.incident, logged: it.logged })
                .or_else(living)
        })
    }

    /// Forgets what nothing can ask for any more.
    pub fn expire(&mut self, now: Mono) {
        self.memory.expire(now);
        while self.moments.first().is_some_and(|(time, _)| now.since(*time) > MOMENTS) {
            self.moments.pop_first();
        }
    }

    /// The memory of judged incidents.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The memory of judged incidents, to write.
    pub fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// A number for an incident that does not live here (a line of the log alone).
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// What was done with the events so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn unrelated(&mut self) -> Option<Incident> {
        self.tally.unrelated += 1;
        None
    }

    fn own(&mut self, tuple: Tuple, event: Event, name: &impl Fn(u64, &Event) -> String) -> Option<u64> {
        let cookie = event.socket.as_ref().map(|socket| (socket.netns, socket.cookie));
        let number = match self.find_own(tuple, cookie) {
            Found::Living(number) => number,
            Found::Judged => return self.absorb(),
            Found::Nothing if self.memory.has_told(&event) => return self.absorb(),
            Found::Nothing => {
                let number = self.create(Subject::Connection(tuple), &event, name);
                self.recall_other_end(number, tuple);
                number
            }
        };
        if let Some(key) = cookie.filter(|(_, cookie)| *cookie != 0) {
            self.by_cookie.insert(key, number);
        }
        self.attach(number, event, |incident| &mut incident.own)
    }

    fn find_own(&self, tuple: Tuple, cookie: Option<(u32, u64)>) -> Found {
        let cookie = cookie.filter(|(_, cookie)| *cookie != 0);
        if let Some(number) = cookie.and_then(|key| self.by_cookie.get(&key)) {
            return Found::Living(*number);
        }
        let same = |incident: &Incident| same_connection(incident, cookie);
        if let Some(number) = self.by_tuple.get(&tuple)
            && self.living.get(number).is_some_and(same)
        {
            return Found::Living(*number);
        }
        match self.memory.of(tuple) {
            // Of an incident that only the other end spoke of, Nginx had taken no notice so far.
            Some(judged) if same(&judged.incident) && !judged.incident.own.is_empty() => Found::Judged,
            _ => Found::Nothing,
        }
    }

    fn peer(&mut self, tuple: Tuple, event: Event, name: &impl Fn(u64, &Event) -> String) -> Option<u64> {
        if let Some(number) = self.by_tuple.get(&tuple).copied() {
            return self.attach(number, event, |incident| &mut incident.peer);
        }
        if self.memory.of(tuple).is_some() {
            return self.absorb();
        }
        let number = self.create(Subject::Connection(tuple), &event, name);
        self.attach(number, event, |incident| &mut incident.peer)
    }

    fn aftermath(&mut self, tuple: Tuple, event: Event) -> Option<u64> {
        match self.by_tuple.get(&tuple).copied() {
            Some(number) => self.attach(number, event, |incident| &mut incident.aftermath),
            None => self.absorb(),
        }
    }

    fn answered(&mut self, tuple: Tuple, event: Event, name: &impl Fn(u64, &Event) -> String) -> Option<u64> {
        let number = self.create(Subject::Connection(tuple), &event, name);
        self.attach(number, event, |incident| &mut incident.aftermath)
    }

    fn aside(&mut self, tuple: Tuple, event: Event) -> Option<u64> {
        if let Some(number) = self.by_tuple.get(&tuple).copied() {
            return self.attach(number, event, |incident| &mut incident.asides);
        }
        while self.asides.len() >= self.bounds.asides {
            self.asides.pop_front();
        }
        self.asides.push_back((tuple, event));
        None
    }

    fn overflow(&mut self, event: &Event, name: &impl Fn(u64, &Event) -> String) -> Option<u64> {
        let EventKind::ListenOverflow(overflow) = &event.kind else { return None };
        let key = (overflow.netns, overflow.listener);
        let number = match self.by_listener.get(&key) {
            Some(number) => *number,
            None => self.create(Subject::Listener(overflow.listener, overflow.netns), event, name),
        };
        self.by_listener.insert(key, number);
        let incident = self.living.get_mut(&number)?;
        incident.last = incident.last.max(event.time);
        add_overflow(incident, overflow);
        keep_dropped(incident, event);
        Some(number)
    }

    fn create(&mut self, subject: Subject, event: &Event, name: &impl Fn(u64, &Event) -> String) -> u64 {
        let number = self.number();
        let mut incident = Incident::new(number, name(number, event), subject, event.time);
        if let Some(tuple) = incident.tuple() {
            self.by_tuple.insert(tuple, number);
            incident.asides = self.recall_asides(tuple);
        }
        self.living.insert(number, incident);
        number
    }

    /// What the other end did shortly before, when Nginx had not noticed it yet.
    fn recall_other_end(&mut self, number: u64, tuple: Tuple) {
        let remembered = self.memory.of(tuple).filter(|judged| judged.incident.own.is_empty());
        let Some(events) = remembered.map(|judged| judged.incident.peer.clone()) else { return };
        if let Some(incident) = self.living.get_mut(&number) {
            incident.peer = events;
        }
    }

    /// What was said of a connection before it died belongs to its incident.
    fn recall_asides(&mut self, tuple: Tuple) -> Vec<Event> {
        if !self.asides.iter().any(|(of, _)| *of == tuple) {
            return Vec::new();
        }
        let limit = self.bounds.events;
        let (ours, others) = self.asides.drain(..).partition::<VecDeque<_>, _>(|(of, _)| *of == tuple);
        self.asides = others;
        ours.into_iter().map(|(_, event)| event).take(limit).collect()
    }

    fn attach(
        &mut self,
        number: u64,
        event: Event,
        list: fn(&mut Incident) -> &mut Vec<Event>,
    ) -> Option<u64> {
        let limit = self.bounds.events;
        let incident = self.living.get_mut(&number)?;
        incident.first = incident.first.min(event.time);
        incident.last = incident.last.max(event.time);
        if list(incident).len() >= limit {
            incident.beyond = incident.beyond.saturating_add(1);
            self.tally.beyond += 1;
            return Some(number);
        }
        self.moments.insert((event.time, number));
        if !(incident.own.is_empty() && incident.peer.is_empty()) {
            self.tally.merged += 1;
        }
        let list = list(incident);
        // Most incidents have one or two, and thousands of incidents may be remembered.
        list.reserve_exact(1);
        list.push(event);
        Some(number)
    }

    fn absorb(&mut self) -> Option<u64> {
        self.tally.absorbed += 1;
        None
    }

    fn reschedule(&mut self, number: u64, hold: &impl Fn(&Incident) -> Duration) {
        let Some(incident) = self.living.get(&number) else { return };
        let deadline = match incident.overflow {
            Some(_) => incident.last.after(OVERFLOW_GAP).min(incident.first.after(OVERFLOW_LONGEST)),
            // What the other end met may come long before what Nginx meets, and its line.
            None => incident.own.first().map_or(incident.first, |own| own.time).after(hold(incident)),
        };
        if let Some(earlier) = self.deadline_of.insert(number, deadline) {
            self.deadlines.remove(&(earlier, number));
        }
        self.deadlines.insert((deadline, number));
    }

    /// The incident next to settle has to go when there is no room.
    fn evict(&mut self) -> Option<Incident> {
        let (_, number) = *self.deadlines.first()?;
        self.tally.evicted += 1;
        self.take(number)
    }
}

/// A listener's socket says nothing about the connection the segment meant, and one listener serves many.
fn without_listener(mut event: Event) -> Event {
    event.socket =
        event.socket.filter(|socket| socket.state != TcpState::Listen && socket.remote.port() != 0);
    event
}

enum Found {
    Living(u64),
    Judged,
    Nothing,
}

/// Whether an incident is about the socket with this cookie; without cookies the tuple has to do.
fn same_connection(incident: &Incident, cookie: Option<(u32, u64)>) -> bool {
    let key = |socket: &Socket| (socket.netns, socket.cookie);
    let mut theirs = incident.own.iter().filter_map(|event| event.socket.as_ref()).map(key);
    match (cookie, theirs.rfind(|(_, cookie)| *cookie != 0)) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => true,
    }
}

fn add_overflow(incident: &mut Incident, overflow: &Overflow) {
    let sum = incident.overflow.get_or_insert_with(|| OverflowSum {
        latest: overflow.clone(),
        dropped: 0,
        events: 0,
        dropped_packet: None,
    });
    sum.dropped = sum.dropped.saturating_add(u64::from(overflow.dropped));
    sum.events += 1;
    let queue = sum.latest.queue.max(overflow.queue);
    sum.latest = Overflow { queue, ..overflow.clone() };
}

fn keep_dropped(incident: &mut Incident, event: &Event) {
    if let (Some(sum), Some(packet)) = (&mut incident.overflow, &event.packet) {
        sum.dropped_packet = Some((event.time, packet.clone()));
    }
}
