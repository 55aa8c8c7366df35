//! Inputs in, verdicts out: the pure heart. It has no clock of its own; `now` comes with every call, and what
//! has settled by then is judged before the input is taken. The same inputs at the same moments give the same
//! verdicts, byte for byte, however often `advance` is called in between.

mod access;
mod capture;
pub mod identity;
mod limits;
mod lines;
mod losses;
mod pairing;
mod races;
mod shortages;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod together;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::bounded;
use crate::join::{self, Access, Line, Pair};
use crate::judge::{self, Case, Explanation, Joined, OverflowNote, Processes, Seen, Step};
use crate::model::{
    AccessRecord, Clock, Event, EventKind, HostFacts, Input, LogRecord, MessageClass, Mono, ProcessFacts,
    Side, Socket, Verdict,
};
use crate::timeline::{Incident, Judged, Subject, Timeline};

pub use capture::{Captured, Dossier};
pub use limits::{Counters, Limits};

use access::Accesses;
use capture::Numbering;
use lines::Lines;
use losses::LossLog;
use shortages::Shortages;

/// An overflow may end in a reset as late as the last SYN-ACK is given up (63 s by default, doubled for safety).
const OVERFLOW_MATTERS: Duration = Duration::from_secs(130);
/// Both ends of a connection on one host tell of a RST within this time.
const TRANSLATED: Duration = Duration::from_millis(50);
/// Incidents and lines around one incident that are compared to assign lines; the nearest are taken.
const NEIGHBOURS: usize = 64;

/// The engine.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    timeline: Timeline,
    lines: Lines,
    /// Lines whose patience ended before their incident settled, by the incident's number.
    reserved: BTreeMap<u64, (Line, Pair)>,
    host: HostFacts,
    processes: Processes,
    losses: LossLog,
    clock: Clock,
    accesses: Accesses,
    overflows: Vec<OverflowNote>,
    races: races::History,
    shortages: Shortages,
    ready: VecDeque<Verdict>,
    counters: Counters,
    /// The id of the incident whose verdict has to be explained.
    wanted: Option<String>,
    explanation: Option<Box<Explanation>>,
    numbering: Numbering,
    /// What stands behind each verdict is kept, too.
    witnessing: bool,
    dossiers: VecDeque<Dossier>,
}

/// What the judge said of one incident.
struct Judgement {
    verdict: Option<Verdict>,
    explanation: Option<Explanation>,
    seen: Vec<Seen>,
    steps: Vec<Step>,
    beyond: u32,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            timeline: Timeline::new(limits.bounds()),
            lines: Lines::new(limits.lines),
            reserved: BTreeMap::new(),
            host: HostFacts::default(),
            processes: Processes::default(),
            losses: LossLog::default(),
            clock: Clock::default(),
            overflows: Vec::new(),
            races: races::History::default(),
            shortages: Shortages::default(),
            accesses: Accesses::default(),
            ready: VecDeque::new(),
            counters: Counters::default(),
            wanted: None,
            explanation: None,
            numbering: Numbering::default(),
            witnessing: false,
            dossiers: VecDeque::new(),
        }
    }

    /// An engine that knows nothing yet and hands out what stands behind each of its verdicts, too.
    pub fn witnessing(limits: Limits) -> Self {
        Self { witnessing: true, ..Self::new(limits) }
    }

    /// What stands behind the verdicts handed out since the last call, in their order.
    pub fn take_dossiers(&mut self) -> Vec<Dossier> {
        self.dossiers.drain(..).collect()
    }

    /// An engine that knows nothing yet and will explain its verdict on the incident with this id.
    pub fn explaining(limits: Limits, id: String) -> Self {
        Self { wanted: Some(id), ..Self::new(limits) }
    }

    /// Why the verdict asked for is what it is, once it has been given.
    pub fn explanation(&self) -> Option<&Explanation> {
        self.explanation.as_deref()
    }

    /// Takes one input that arrived at `now`.
    pub fn handle(&mut self, now: Mono, input: Input) {
        if let Input::Losses(report) = &input {
            self.losses.report(now, report); // What is due now is judged with it.
        }
        self.settle(now);
        match input {
            Input::Event(event) => self.event(now, *event),
            Input::Log(record) => self.line(now, record),
            Input::Access(record) => self.access(now, *record),
            Input::Host(host) => self.host = *host,
            Input::Process(facts) => self.process(facts),
            Input::Losses(_) => {}
            Input::Clock(clock) => self.clock = clock,
        }
    }

    /// Verdicts on everything that has settled by `now`.
    pub fn advance(&mut self, now: Mono) -> Vec<Verdict> {
        self.settle(now);
        self.ready.drain(..).collect()
    }

    /// When the next incident or line will have settled.
    pub fn next_deadline(&self) -> Option<Mono> {
        [self.timeline.next_deadline(), self.lines.next_deadline()].into_iter().flatten().min()
    }

    /// The end of the session: judges everything that is pending, as it stands.
    pub fn finish(&mut self, now: Mono) -> Vec<Verdict> {
        self.settle(now);
        while let Some(deadline) = self.next_deadline() {
            self.settle(deadline);
        }
        self.ready.drain(..).collect()
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        let tally = self.timeline.tally();
        Counters {
            merged: tally.merged,
            absorbed: tally.absorbed,
            beyond: tally.beyond,
            unrelated: tally.unrelated,
            evicted: tally.evicted,
            ..self.counters
        }
    }

    fn settle(&mut self, now: Mono) {
        while let Some(deadline) = self.next_deadline().filter(|deadline| *deadline <= now) {
            // What is forgotten by then must not depend on when the engine was last asked.
            self.expire(deadline);
            match self.timeline.settled(deadline) {
                Some(incident) => self.close(incident, deadline, false),
                None => self.give_up_line(deadline),
            }
        }
        self.expire(now);
    }

    fn expire(&mut self, now: Mono) {
        self.timeline.expire(now);
        self.accesses.expire(now);
        self.counters.lines_unmatched += self.lines.expire(now);
    }

    fn event(&mut self, now: Mono, event: Event) {
        self.counters.events += 1;
        self.note(&event);
        let (clock, host) = (self.clock, self.host.host.clone());
        let name = |number: u64, event: &Event| {
            identity::id(number, event.time, clock, &host, &identity::about(event))
        };
        let evicted = self.timeline.observe(event, &self.host, &name, &judge::hold);
        if let Some(incident) = evicted {
            self.close(incident, now, true);
        }
    }

    /// Facts that outlive the incident they came with.
    fn note(&mut self, event: &Event) {
        self.processes.note(event, self.limits.processes);
        let EventKind::ListenOverflow(overflow) = &event.kind else { return };
        self.overflows.retain(|note| event.time.since(note.time) <= OVERFLOW_MATTERS);
        if self.overflows.len() >= self.limits.overflows.max(1) {
            self.overflows.remove(0);
        }
        self.overflows.push(OverflowNote::of(event.time, overflow));
    }

    fn process(&mut self, facts: ProcessFacts) {
        bounded::insert(&mut self.processes.facts, facts.pid, facts, self.limits.processes);
    }

    fn line(&mut self, now: Mono, record: Box<LogRecord>) {
        self.counters.lines += 1;
        if join::is_rest(&record) {
            return self.lines.complete(&record);
        }
        let mut line = Line::new(self.counters.lines, record, now, self.clock, self.host.nginx.real_ip);
        line.peer = self.accesses.peer(line.record.connection);
        self.shortages.note(&line.record, line.at);
        if let Some(dropped) = self.lines.push(now, line) {
            self.counters.lines_dropped += 1;
            drop(dropped);
        }
    }

    fn access(&mut self, now: Mono, record: AccessRecord) {
        self.accesses.add(Access::new(record, now, self.clock));
        for line in self.lines.iter_mut() {
            line.peer = line.peer.or_else(|| self.accesses.peer(line.record.connection));
        }
    }

    /// Judges an incident that has settled, or has to go.
    fn close(&mut self, incident: Incident, at: Mono, evicted: bool) {
        if self.is_told_with_another(&incident) {
            self.remember(at, incident, false, true);
            return;
        }
        let line = self.line_of(&incident);
        if line.is_none() && self.merge_into_client(&incident) {
            self.remember(at, incident, false, false);
            return;
        }
        if line.is_none() && pairing::is_dropped_with_client(&self.timeline, &incident) {
            self.remember(at, incident, false, true);
            return;
        }
        let judgement = self.judge(&incident, at, line.as_ref(), evicted);
        let (logged, told) = (line.is_some(), judgement.verdict.is_some());
        self.hand_out(judgement);
        self.remember(at, incident, logged, told);
    }

    fn remember(&mut self, at: Mono, incident: Incident, logged: bool, told: bool) {
        self.timeline.memory_mut().remember(at, Judged { incident, logged, told });
    }

    /// The upstream half of a request that was lost with its worker is told as the client's, and the client of a stream whose
    /// upstream failed as the upstream's.
    fn is_told_with_another(&mut self, incident: &Incident) -> bool {
        if incident.side() == Some(Side::Upstream) {
            return together::lost_with(&self.timeline, incident, &self.host).is_some();
        }
        let upstream = together::ended_for(&self.timeline, incident, &self.host).map(|one| one.number);
        if let (Some(upstream), Some(end)) = (upstream, incident.reset_sent()) {
            self.timeline.set_other_half(upstream, end.clone());
        }
        upstream.is_some()
    }

    /// The client's FIN and the drop of its upstream leg are one failure, told as the client's.
    fn merge_into_client(&mut self, upstream: &Incident) -> bool {
        let Some(client) = pairing::one_go(&self.timeline, upstream) else { return false };
        let end = pairing::own_end(upstream).cloned();
        end.is_some_and(|end| self.timeline.set_other_half(client, end))
    }

    /// Takes the line that speaks of an incident.
    fn line_of(&mut self, incident: &Incident) -> Option<(Line, Pair)> {
        if let Some(reserved) = self.reserved.remove(&incident.number) {
            return Some(reserved);
        }
        let fitting: Vec<&Line> =
            self.lines.iter().filter(|line| join::fit(line, incident).is_some()).take(NEIGHBOURS).collect();
        if fitting.is_empty() {
            return None;
        }
        let mut rivals = self.rivals(incident.first);
        rivals.push(incident);
        let pair = join::partner(&fitting, &rivals, incident.number)?;
        Some((self.lines.take(pair.line)?, pair))
    }

    /// Living incidents without a line, the nearest in time.
    fn rivals(&self, around: Mono) -> Vec<&Incident> {
        let free = |incident: &&Incident| !self.reserved.contains_key(&incident.number);
        let mut rivals: Vec<&Incident> = self.timeline.living().filter(free).collect();
        if rivals.len() > NEIGHBOURS {
            let distance = |rival: &&Incident| (rival.first.distance(around), rival.number);
            rivals.select_nth_unstable_by_key(NEIGHBOURS, distance);
            rivals.truncate(NEIGHBOURS);
        }
        rivals
    }

    /// Keeps a line for a living incident that takes longer to settle than a line waits.
    fn reserve(&mut self, line: Line) -> Result<(), Line> {
        let pair = join::best(&line, &self.rivals(line.at));
        match pair {
            Some(pair) => {
                self.reserved.insert(pair.incident, (line, pair));
                Ok(())
            }
            None => Err(line),
        }
    }

    fn judge(&self, incident: &Incident, at: Mono, line: Option<&(Line, Pair)>, evicted: bool) -> Judgement {
        let joined = line.map(|(line, pair)| Joined { record: &line.record, pair: *pair });
        let explained = joined.is_some_and(|joined| explains_close(joined.record));
        let case = Case {
            incident,
            host: &self.host,
            clock: self.clock,
            processes: &self.processes,
            line: joined,
            caused_by: if explained { None } else { pairing::cause(&self.timeline, incident) },
            effects: pairing::effects(&self.timeline, incident, &self.host),
            peer: self.other_end(incident),
            overflows: &self.overflows,
            races: incident.tuple().and_then(|tuple| self.races.with(tuple.remote)),
            shortage: self.shortages.around(incident),
            losses: self.losses.during(incident.first, at),
            access: self.accesses.ending(incident, line.map(|(line, _)| &*line.record)),
            evicted,
        };
        let wanted = self.wanted.as_ref() == Some(&incident.id);
        let verdict = judge::judge(&case);
        let told = verdict.is_some();
        Judgement {
            verdict,
            explanation: wanted.then(|| judge::explain(&case, at)).flatten(),
            seen: if told { judge::seen(&case) } else { Vec::new() },
            steps: if told && self.witnessing { judge::steps(&case) } else { Vec::new() },
            beyond: incident.beyond,
        }
    }

    /// Events of the other end; where Nginx is both ends, those of the mirrored incident too.
    fn other_end<'a>(&'a self, incident: &'a Incident) -> Vec<&'a Event> {
        let mirrored = incident.tuple().and_then(|tuple| self.timeline.of(tuple.reversed()));
        let mirrored = mirrored.map(|mirror| mirror.own.as_slice()).unwrap_or_default();
        let given_up = pairing::given_up(incident);
        let plausible = |event: &&Event| {
            let after = given_up.is_some_and(|time| event.time > time);
            !after && one_connection(incident.socket(), event.socket.as_ref())
        };
        incident.peer.iter().chain(mirrored).chain(self.translated(incident)).filter(plausible).collect()
    }

    /// What the other end did under an address that this host had translated its own to: the RST came by the loopback
    /// interface, and Nginx's address and port have one connection at a time.
    fn translated<'a>(&'a self, incident: &'a Incident) -> impl Iterator<Item = &'a Event> {
        let reset = incident.reset_received().filter(|_| incident.peer.is_empty());
        let here = reset.filter(|event| event.packet.as_ref().is_some_and(|packet| packet.on_loopback));
        let ours = here.and(incident.tuple());
        let around = here.into_iter().flat_map(|event| {
            self.timeline.around(event.time.before(TRANSLATED), event.time.after(TRANSLATED))
        });
        let other = move |found: &Incident| {
            let theirs = found.tuple().filter(|_| found.own.is_empty());
            theirs.zip(ours).is_some_and(|(theirs, ours)| theirs.local == ours.local && theirs != ours)
        };
        around.map(|recent| recent.incident).filter(move |found| other(found)).flat_map(|found| &found.peer)
    }

    /// A line has waited long enough.
    fn give_up_line(&mut self, at: Mono) {
        let Some(line) = self.lines.pop() else { return };
        let Err(line) = self.reserve(line) else { return };
        if let Some(number) = self.judged_already(&line) {
            return self.late(line, number, at);
        }
        if !lines::is_incident(&line.record) {
            self.counters.lines_unmatched += 1;
            return;
        }
        let number = self.timeline.number();
        let about = format!("{} {}", line.record.file, line.record.offset);
        let id = identity::id(number, line.at, self.clock, &self.host.host, about.as_bytes());
        let incident = Incident::new(number, id, Subject::Line(line.record), line.at);
        let judgement = self.judge(&incident, at, None, false);
        self.hand_out(judgement);
    }

    fn judged_already(&self, line: &Line) -> Option<u64> {
        let memory = self.timeline.memory();
        let explains = |incident: &Incident| self.shortages.around(incident) == Some(&*line.record);
        let fits = |incident: &Incident| join::fit(line, incident).is_some() || explains(incident);
        let mut fitting = memory.iter().filter(|judged| !judged.logged && fits(&judged.incident));
        fitting.next().map(|judged| judged.incident.number)
    }

    /// The line of an incident that was judged without it. Mostly it adds nothing; but a reset of a pooled
    /// connection becomes a failed request only when Nginx uses the connection again, which the line tells.
    fn late(&mut self, line: Line, number: u64, at: Mono) {
        self.counters.lines_late += 1;
        let judged = self.timeline.memory().iter().find(|judged| judged.incident.number == number).cloned();
        self.timeline.memory_mut().mark_logged(number);
        let Some(judged) = judged.filter(|judged| !judged.told || join::pooled_probe(&line.record)) else {
            return;
        };
        let Some(fit) = join::fit(&line, &judged.incident) else { return };
        let mut incident = judged.incident;
        incident.number = self.timeline.number();
        incident.id =
            identity::id(incident.number, line.at, self.clock, &self.host.host, incident.id.as_bytes());
        let pair = Pair { line: line.number, incident: incident.number, fit, candidates: 1 };
        let judgement = self.judge(&incident, at, Some(&(line, pair)), false);
        self.hand_out(judgement);
    }

    fn hand_out(&mut self, judgement: Judgement) {
        let packets = self.numbering.number(&judgement.seen);
        if let Some(mut explanation) = judgement.explanation {
            explanation.verdict.packets.clone_from(&packets);
            self.explanation = Some(Box::new(explanation));
        }
        let Some(verdict) = judgement.verdict else {
            self.counters.unnoticed += 1;
            return;
        };
        if self.witnessing {
            self.keep(Dossier {
                id: verdict.id.clone(),
                steps: judgement.steps,
                packets: capture::captured(judgement.seen, &packets, self.clock),
                beyond: judgement.beyond,
            });
        }
        self.races.note(&verdict);
        let verdict = Verdict { packets, ..verdict };
        if self.ready.len() >= self.limits.verdicts.max(1) {
            self.ready.pop_front();
            self.counters.verdicts_dropped += 1;
        }
        self.counters.verdicts += 1;
        self.ready.push_back(verdict);
    }

    fn keep(&mut self, dossier: Dossier) {
        if self.dossiers.len() >= self.limits.verdicts.max(1) {
            self.dossiers.pop_front();
        }
        self.dossiers.push_back(dossier);
    }
}

/// Lines that say why Nginx itself closed an upstream connection.
fn explains_close(record: &LogRecord) -> bool {
    matches!(
        record.class(),
        MessageClass::TimedOut
            | MessageClass::ConfigLimit
            | MessageClass::InvalidResponse
            | MessageClass::ClosedEarly
    )
}

/// Whether two sockets can be the ends of one connection. In one namespace the addresses say it; across
/// namespaces the same addresses may exist twice, so the sequence numbers, or the bytes of both ways, have to agree too.
fn one_connection(ours: Option<&Socket>, theirs: Option<&Socket>) -> bool {
    const NEAR: u32 = 1 << 24;
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return true };
    if ours.netns == theirs.netns {
        return true;
    }
    // Of a connection that was looked up after its end no numbers are known, but what went either way.
    if [ours, theirs].iter().any(|socket| (socket.rcv_nxt, socket.snd_nxt) == (0, 0)) {
        let counts = (ours.bytes_sent, ours.bytes_received);
        return counts != (0, 0) && counts == (theirs.bytes_received, theirs.bytes_sent);
    }
    let near = |one: u32, other: u32| one.wrapping_sub(other).min(other.wrapping_sub(one)) <= NEAR;
    near(theirs.snd_nxt, ours.rcv_nxt) || near(theirs.rcv_nxt, ours.snd_nxt)
}
