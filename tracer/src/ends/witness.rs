//! The second recording, read whole: what its tracer saw of each connection that its host accepted, and whether what
//! is missing there means anything. Bounded; what does not fit makes it a lossy witness.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};

use crate::model::{
    Clock, Elsewhere, Event, EventKind, HostFacts, Input, Losses, Mono, ProcessFacts, Side, Socket,
};
use crate::recording::{Call, Reader};
use crate::timeline::listens_on;

use super::numbers::Numbers;

/// Events kept.
const MOST: usize = 500_000;

/// A connection as the other host saw it.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Its own address.
    pub local: SocketAddr,
    /// Who connected, by its packets.
    pub remote: SocketAddr,
    /// Initial sequence numbers, where an event tells them.
    pub numbers: Option<Numbers>,
    /// When its handshake was completed, where that was seen.
    pub opened: Option<Mono>,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// Why a recording says nothing about another host's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAWitness {
    /// Nothing in it tells what was watched.
    #[error("it does not say what was watched: its session ended before it had found anything")]
    Empty,
    /// It was made of a capture.
    #[error("it was made of a capture; give the capture itself")]
    Capture,
}

/// What one tracer saw.
#[derive(Debug)]
pub struct Witness {
    /// Name of its host.
    pub host: String,
    /// From kernel time to UTC there.
    pub clock: Clock,
    facts: HostFacts,
    span: (Mono, Mono),
    lossy: bool,
    flows: Vec<Flow>,
    by_cookie: HashMap<(u32, u64), usize>,
    by_tuple: HashMap<(SocketAddr, SocketAddr), Vec<usize>>,
    by_opener: HashMap<u32, Vec<usize>>,
    clients: BTreeSet<IpAddr>,
    processes: BTreeMap<u32, ProcessFacts>,
    oom: BTreeSet<u32>,
    /// Overflows of listeners.
    pub overflows: Vec<Event>,
}

impl Witness {
    /// Reads a recording to its end, or as far as it can be read.
    pub fn read<R: BufRead>(reader: &mut Reader<R>) -> Result<Self, NotAWitness> {
        let mut witness = Self::new(reader.header().host.clone());
        let mut events = 0;
        for step in reader {
            let Ok(step) = step else {
                witness.lossy = true;
                break;
            };
            witness.note(step.now);
            match step.call {
                Call::Handle(Input::Event(_)) if events >= MOST => witness.lossy = true,
                Call::Handle(input) => {
                    events += usize::from(matches!(input, Input::Event(_)));
                    witness.take(input);
                }
                Call::Stopped(_) => witness.lossy = true,
                Call::Advance | Call::Finish => {}
            }
        }
        match () {
            () if witness.facts.capture.is_some() => Err(NotAWitness::Capture),
            () if witness.facts.kernel.is_empty() => Err(NotAWitness::Empty),
            () => {
                witness.index();
                Ok(witness)
            }
        }
    }

    fn new(host: String) -> Self {
        Self {
            host,
            clock: Clock::default(),
            facts: HostFacts::default(),
            span: (Mono(u64::MAX), Mono(0)),
            lossy: false,
            flows: Vec::new(),
            by_cookie: HashMap::new(),
            by_tuple: HashMap::new(),
            by_opener: HashMap::new(),
            clients: BTreeSet::new(),
            processes: BTreeMap::new(),
            oom: BTreeSet::new(),
            overflows: Vec::new(),
        }
    }

    fn note(&mut self, now: Mono) {
        self.span = (self.span.0.min(now), self.span.1.max(now));
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.event(*event),
            Input::Host(host) => self.facts = *host,
            Input::Process(facts) => {
                self.processes.insert(facts.pid, facts);
            }
            Input::Losses(report) => self.lossy |= has_lost_events(&report.losses),
            Input::Clock(clock) => self.clock = clock,
            Input::Log(_) | Input::Access(_) => {}
        }
    }

    fn event(&mut self, event: Event) {
        match &event.kind {
            EventKind::OomVictim => {
                self.oom.insert(event.task.pid);
            }
            EventKind::ListenOverflow(_) => self.overflows.push(event),
            EventKind::ResetReceived
            | EventKind::Closed { .. }
            | EventKind::ResetSent { .. }
            | EventKind::Standing => self.of_connection(event),
            _ => {}
        }
    }

    /// Sorts an event to the connection it is about, if this host accepted it.
    fn of_connection(&mut self, event: Event) {
        let Some((local, remote)) = addresses(&event) else { return };
        let cookie = event.socket.as_ref().map(|socket| (socket.netns, socket.cookie));
        let cookie = cookie.filter(|(_, cookie)| *cookie != 0);
        let known = match cookie {
            Some(cookie) => self.by_cookie.get(&cookie).copied(),
            None => self.by_tuple.get(&(local, remote)).and_then(|flows| flows.last()).copied(),
        };
        let place = known.unwrap_or_else(|| {
            let flow = Flow { local, remote, numbers: None, opened: None, events: Vec::new() };
            self.flows.push(flow);
            let place = self.flows.len() - 1;
            self.by_tuple.entry((local, remote)).or_default().push(place);
            self.by_cookie.extend(cookie.map(|cookie| (cookie, place)));
            self.clients.insert(remote.ip());
            place
        });
        let Some(flow) = self.flows.get_mut(place) else { return };
        if let Some(socket) = &event.socket {
            flow.numbers = flow.numbers.or_else(|| Numbers::of_listener(socket));
            flow.opened = flow.opened.or(socket.opened);
        }
        flow.events.push(event);
    }

    fn index(&mut self) {
        for (place, flow) in self.flows.iter().enumerate() {
            if let Some(numbers) = flow.numbers {
                self.by_opener.entry(numbers.opener).or_default().push(place);
            }
        }
    }

    /// The connection that one of Nginx's sockets is the other end of: by addresses, or through a translation of
    /// addresses by its numbers alone. `at` gives a moment of the first host by the clock of this one, with its doubt.
    pub fn find(&self, ours: &Socket, at: impl Fn(Mono) -> (Mono, Mono)) -> Option<&Flow> {
        let numbers = Numbers::of_opener(ours);
        let opened = ours.opened.map(|opened| at(opened).0);
        let here = self.by_tuple.get(&(ours.remote, ours.local)).into_iter().flatten();
        let here = here.rev().filter_map(|place| self.flows.get(*place));
        let mut same = here.filter(|flow| match (numbers, flow.numbers) {
            (Some(ours), Some(theirs)) => ours.agree(theirs),
            _ => lived_since(flow, opened),
        });
        same.next().or_else(|| self.elsewhere(numbers?))
    }

    fn elsewhere(&self, numbers: Numbers) -> Option<&Flow> {
        let starts = [numbers.opener.wrapping_sub(1), numbers.opener, numbers.opener.wrapping_add(1)];
        let places = starts.iter().filter_map(|start| self.by_opener.get(start)).flatten();
        let mut fitting = places
            .filter_map(|place| self.flows.get(*place))
            .filter(|flow| flow.numbers.is_some_and(|theirs| theirs.agree(numbers)));
        let first = fitting.next();
        first.filter(|_| fitting.next().is_none())
    }

    /// This tracer saw everything between these moments of its clock.
    pub fn saw_all(&self, from: Mono, to: Mono) -> bool {
        !self.lossy && self.span.0 <= from && to <= self.span.1
    }

    /// Connections to this address would have been seen: it is one of this host's, and the port was watched.
    pub fn watched(&self, address: SocketAddr) -> bool {
        let here = self.facts.local_addresses.iter().any(|local| local.to_canonical() == address.ip());
        here && self.facts.nginx.listeners.iter().any(|(listener, _)| listens_on(*listener, address))
    }

    /// Connections of this client came under its own address.
    pub fn knows(&self, client: IpAddr) -> bool {
        self.clients.contains(&client)
    }

    /// Whether every RST that the TCP of this host sends is seen. Before 6.10 those without a socket pass unseen.
    pub fn sees_sent_resets(&self) -> bool {
        self.facts.has_hook("tcp_send_reset") && traces_all_resets(&self.facts.kernel)
    }

    /// Whether full listeners are seen.
    pub fn sees_overflows(&self) -> bool {
        self.facts.has_hook("kfree_skb") || self.facts.has_hook("tcp_retransmit_synack")
    }

    /// Where an event happened, with what is known of the process that acted.
    pub fn place(&self, event: &Event) -> Elsewhere {
        let pid = event.task.pid;
        Elsewhere {
            host: self.host.clone(),
            process: self.processes.get(&pid).cloned(),
            oom: self.oom.contains(&pid),
        }
    }
}

/// Whether a kernel of this release reports every RST that its TCP sends (`tcp_send_reset` from 6.10).
pub fn traces_all_resets(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) >= (6, 10)
}

/// What a tracer loses of its log lines says nothing about connections.
fn has_lost_events(losses: &Losses) -> bool {
    losses.by_handover.iter().any(|(name, lost)| *lost > 0 && !matches!(name.as_str(), "log" | "output"))
}

/// Own and other address of a connection that this host accepted.
fn addresses(event: &Event) -> Option<(SocketAddr, SocketAddr)> {
    match (&event.socket, &event.kind) {
        (Some(socket), _) if socket.side == Side::Client => Some((socket.local, socket.remote)),
        (None, EventKind::ResetSent { local, remote, .. }) => Some((*local, *remote)),
        _ => None,
    }
}

fn lived_since(flow: &Flow, opened: Option<Mono>) -> bool {
    let last = flow.events.last().map(|event| event.time);
    opened.is_none_or(|opened| last.is_some_and(|last| last >= opened))
}

#[cfg(test)]
mod tests {
    use super::traces_all_resets;

    #[test]
    fn kernels_from_6_10_on_tell_of_every_reset() {
        for release in ["6.10.0", "6.18.44", "7.0.0-rc1", "6.12-arch"] {
            assert!(traces_all_resets(release), "{release}");
        }
        for release in ["6.9.7", "5.15.0-91-generic", "", "linux"] {
            assert!(!traces_all_resets(release), "{release}");
        }
    }
}
