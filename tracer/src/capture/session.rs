//! Captures and a log in, verdicts out: files merged by time, one pass over the packets, then the judge.
//! Bounded: connections, waiting sightings and lines have limits, and what goes beyond is counted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::{Engine, Limits};
use crate::model::{
    CaptureFacts, Clock, Event, HostFacts, Input, LogRecord, Mono, NginxConfig, TcpState, Verdict,
};
use crate::recording::{Recorded, Recorder, Sink, Writer};

pub use super::container::{CaptureError, Container, Ending};
pub use super::lines::Lines;

use super::container::Frame;
use super::events;
use super::ledger::{self, Ledger, Offset};
use super::link::{self, Carried};
use super::other::Other;
use super::roles::{Named, Roles};
use super::segment::{self, Content};
use super::sighting::Sighting;
use super::tracker::{Counts, Tracker};

/// Sightings that wait for the end of the capture before the older ones are judged.
const WAITING: usize = 60_000;
/// What a reset's sender does this long after belongs to its incident.
const AFTERWARDS_NS: u64 = 5_000_000_000;
/// After the last input, so that everything settles.
const LAST: Duration = Duration::from_mins(3);

/// What was not TCP, or could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Packets in all.
    pub packets: u64,
    /// Other protocols.
    pub others: u64,
    /// Later fragments, which carry no TCP header.
    pub fragments: u64,
    /// Broken or cut off before the end of the TCP header's fixed part.
    pub broken: u64,
    /// Packets of link layers that are not known, by their number.
    pub links: BTreeMap<u32, u64>,
    /// Packets that go back in time against the one before.
    pub backwards: u64,
}

/// What was read, for the header and the summary.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// File, how it ended, packets that the capturing system lost.
    pub files: Vec<(PathBuf, Ending, u64)>,
    /// Packets without a time.
    pub timeless: u64,
    /// First and last packet, nanoseconds since 1970.
    pub span: Option<(u64, u64)>,
    /// What could not be used.
    pub skipped: Skipped,
    /// What was tracked.
    pub counts: Counts,
    /// Incidents outside the roles: connections of others.
    pub unrelated: u64,
    /// Lines of the log outside the time of the capture.
    pub lines_outside: u64,
    /// Lines beyond the bound.
    pub lines_beyond: u64,
    /// Listening addresses beyond the bound.
    pub listeners_beyond: u64,
}

/// Everything a capture session needs.
#[derive(Debug)]
pub struct Settings {
    /// Who is who, as far as named.
    pub named: Named,
    /// Lines of the log; `None` when none was given.
    pub lines: Option<Lines>,
}

/// Packets read, not yet judged.
pub struct Packets {
    files: Vec<Container>,
    frames: Vec<Frame>,
    next: BinaryHeap<Reverse<(u64, usize)>>,
    tracker: Tracker,
    skipped: Skipped,
    span: Option<(u64, u64)>,
    pending: Vec<Sighting>,
    other: Option<Other>,
}

impl Packets {
    /// Opens the files.
    pub fn open(paths: &[PathBuf], connections: usize) -> Result<Self, CaptureError> {
        let files = paths.iter().map(|path| Container::open(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::of(files, connections))
    }

    /// The capture stands for the observer.
    pub fn name(&self) -> String {
        let name = |file: &Container| {
            let name = file.path.file_name().filter(|_| file.path != Path::new("-"));
            name.map_or_else(|| "capture".to_owned(), |name| name.to_string_lossy().into_owned())
        };
        self.files.iter().map(name).collect::<Vec<_>>().join(",")
    }

    /// Captures that are open already.
    pub fn of(files: Vec<Container>, connections: usize) -> Self {
        let mut packets = Self {
            frames: files.iter().map(|_| Frame::default()).collect(),
            files,
            next: BinaryHeap::new(),
            tracker: Tracker::new(connections),
            skipped: Skipped::default(),
            span: None,
            pending: Vec::new(),
            other: None,
        };
        (0..packets.files.len()).for_each(|file| packets.read(file));
        packets
    }

    /// Reads the capture of the other end, which what is seen here is compared with.
    pub fn beside(mut self, path: &Path) -> Result<Self, CaptureError> {
        let mut container = Container::open(path)?;
        let (mut frame, mut ledger) = (Frame::default(), Ledger::default());
        while container.next(&mut frame) {
            if let Carried::Ip(ip, bytes) = link::carried(frame.link, &frame.bytes)
                && let Content::Tcp(segment, _) =
                    segment::content(frame.time, &ip, bytes, frame.original, frame.bytes.len())
            {
                ledger.takes(&segment);
            }
        }
        let is_lossy = container.dropped > 0 || ledger.beyond > 0 || container.ending != Some(Ending::Whole);
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.other = Some(Other {
            file,
            ledger,
            own: Ledger::default(),
            is_lossy,
            counts_losses: container.counts_losses,
            offset: None,
        });
        Ok(self)
    }

    fn read(&mut self, file: usize) {
        if let (Some(container), Some(frame)) = (self.files.get_mut(file), self.frames.get_mut(file))
            && container.next(frame)
        {
            self.next.push(Reverse((frame.time, file)));
        }
    }

    /// Reads on until enough sightings wait. False at the end of all files.
    fn fill(&mut self) -> bool {
        while let Some(Reverse((_, file))) = self.next.pop() {
            if let Some(frame) = self.frames.get(file) {
                let own = self.other.as_mut().map(|other| &mut other.own);
                take(frame, &mut self.tracker, own, &mut self.skipped, &mut self.span);
            }
            self.read(file);
            if self.tracker.waiting() + self.pending.len() >= WAITING {
                self.tracker.settle(self.latest().saturating_sub(AFTERWARDS_NS));
                self.pending.extend(self.tracker.take());
                return true;
            }
        }
        self.tracker.finish();
        self.pending.extend(self.tracker.take());
        false
    }

    fn latest(&self) -> u64 {
        self.span.map_or(0, |(_, last)| last)
    }
}

fn take(
    frame: &Frame,
    tracker: &mut Tracker,
    own: Option<&mut Ledger>,
    skipped: &mut Skipped,
    span: &mut Option<(u64, u64)>,
) {
    skipped.packets += 1;
    let (first, last) = span.unwrap_or((frame.time, frame.time));
    skipped.backwards += u64::from(frame.time < last);
    *span = Some((first.min(frame.time), last.max(frame.time)));
    match link::carried(frame.link, &frame.bytes) {
        Carried::UnknownLink(link) => *skipped.links.entry(link).or_default() += 1,
        Carried::OtherProtocol => skipped.others += 1,
        Carried::Broken => skipped.broken += 1,
        Carried::Ip(ip, bytes) => {
            match segment::content(frame.time, &ip, bytes, frame.original, frame.bytes.len()) {
                Content::Tcp(mut segment, bytes) => {
                    segment.on_loopback = link::is_loopback(frame.link, &frame.bytes);
                    segment.source_mac = link::source_mac(frame.link, &frame.bytes);
                    if link::is_outgoing(frame.link, &frame.bytes) {
                        tracker.census.leaves(segment.source.ip());
                    }
                    tracker.segment(&segment, &bytes);
                    if let Some(own) = own {
                        own.takes(&segment);
                    }
                }
                Content::Unreachable(message) => tracker.unreachable(&message),
                Content::Other => skipped.others += 1,
                Content::Fragment => skipped.fragments += 1,
                Content::Broken => skipped.broken += 1,
            }
        }
    }
}

/// A session over captures.
pub struct Session {
    packets: Packets,
    settings: Settings,
    engine: Recorder,
    roles: Option<Roles>,
    unrelated: u64,
    lines: std::vec::IntoIter<(u64, LogRecord)>,
    lines_outside: u64,
    lines_beyond: u64,
    next_line: Option<(u64, LogRecord)>,
    now: Mono,
    told: Vec<Verdict>,
}

impl Session {
    /// A session; nothing is read yet.
    pub fn new(packets: Packets, settings: Settings) -> Self {
        Self::recorded_by(None, packets, settings)
    }

    /// A session whose inputs are recorded, if there is a writer; its replay gives the same verdicts.
    pub fn recorded_by(writer: Option<Writer>, packets: Packets, settings: Settings) -> Self {
        Self {
            packets,
            settings,
            engine: Recorder::new(Engine::new(Limits::default()), writer.map(Sink::File)),
            roles: None,
            unrelated: 0,
            lines: Vec::new().into_iter(),
            lines_outside: 0,
            lines_beyond: 0,
            next_line: None,
            now: Mono(0),
            told: Vec::new(),
        }
    }

    /// Reads on and hands out verdicts. False when everything is told.
    pub fn step(
        &mut self,
        roles: &mut dyn FnMut(&Roles, &Account),
        told: &mut dyn FnMut(Vec<Verdict>) -> bool,
    ) -> bool {
        let more = self.packets.fill();
        let mut pending = std::mem::take(&mut self.packets.pending);
        pending.sort_by_key(|sighting| sighting.time);
        if more {
            // What is younger may still get company.
            let keep = pending.partition_point(|sighting| {
                sighting.time < self.packets.latest().saturating_sub(AFTERWARDS_NS)
            });
            self.packets.pending = pending.split_off(keep.max(pending.len() / 2));
        }
        if self.roles.is_none() {
            if let Some(lines) = &self.settings.lines {
                self.packets.tracker.census.logged(lines.upstreams());
            }
            let found = Roles::new(&self.settings.named, &self.packets.tracker.census);
            roles(&found, &self.account());
            self.begin(found);
        }
        self.feed(pending, more);
        let mut verdicts = std::mem::take(&mut self.told);
        verdicts.extend(if more {
            self.engine.advance(self.now)
        } else {
            self.engine.finish(self.now.after(LAST))
        });
        told(verdicts) && more
    }

    /// What was read so far.
    pub fn account(&self) -> Account {
        let files = self.packets.files.iter();
        let ended = |file: &Container| file.ending.clone().unwrap_or(Ending::Whole);
        Account {
            files: files.clone().map(|file| (file.path.clone(), ended(file), file.dropped)).collect(),
            timeless: files.map(|file| file.timeless).sum(),
            span: self.packets.span,
            skipped: self.packets.skipped.clone(),
            counts: self.packets.tracker.counts,
            unrelated: self.unrelated,
            lines_outside: self.lines_outside,
            lines_beyond: self.lines_beyond,
            listeners_beyond: self.packets.tracker.census.beyond,
        }
    }

    /// What became of the recording, if there is one.
    pub fn recorded(&self) -> Option<Recorded> {
        self.engine.recorded()
    }

    /// The clock of the other capture against this one's.
    pub fn offset(&self) -> Option<Offset> {
        self.packets.other.as_ref().and_then(|other| other.offset)
    }

    fn begin(&mut self, roles: Roles) {
        if let Some(other) = self.packets.other.as_mut() {
            other.offset = ledger::offset(&other.own, &other.ledger);
        }
        let names = self.packets.files.iter().map(|file| file.path.display().to_string()).collect();
        let dropped = self.packets.files.iter().map(|file| file.dropped).sum();
        let several_places = self.packets.tracker.counts.seen_twice > 0;
        let host = HostFacts {
            host: self.packets.name(),
            follows_error_log: self.settings.lines.is_some(),
            local_addresses: self.packets.tracker.census.local.iter().copied().collect(),
            capture: Some(CaptureFacts { files: names, dropped, several_places }),
            nginx: NginxConfig {
                listeners: roles.listeners.iter().map(|address| (*address, None)).collect(),
                upstreams: roles.upstreams.iter().copied().collect(),
                ..NginxConfig::default()
            },
            ..HostFacts::default()
        };
        let first = Mono(self.packets.span.map_or(0, |(first, _)| first));
        self.now = first;
        self.engine.handle(first, Input::Clock(Clock { offset_ns: 0 }));
        self.engine.handle(first, Input::Host(Box::new(host)));
        self.roles = Some(roles);
    }

    fn feed(&mut self, pending: Vec<Sighting>, more: bool) {
        let Some(roles) = self.roles.clone() else { return };
        let mut events = Vec::new();
        for sighting in pending {
            let beside = self.packets.other.as_ref().and_then(|other| other.event(&sighting, &roles));
            let unrelated = roles.of(sighting.opener(), sighting.listener()).is_none();
            self.unrelated += u64::from(unrelated);
            events.extend(events::event(sighting, &roles).map(|event| (event, beside)));
        }
        self.give_up(&mut events);
        events.sort_by_key(|(event, _)| event.time);
        self.prepare_lines();
        for (event, beside) in events {
            let time = event.time;
            self.lines_until(time);
            self.hand_in(time, Input::Event(Box::new(event)));
            if let Some(beside) = beside {
                self.hand_in(time, Input::Event(Box::new(Event { time, ..beside })));
            }
        }
        if !more {
            self.lines_until(Mono(u64::MAX));
        }
    }

    /// Silence ends when Nginx says so.
    fn give_up(&mut self, events: &mut [(Event, Option<Event>)]) {
        let Some(lines) = self.settings.lines.as_mut() else { return };
        for (event, _) in events {
            if let Some((upstream, from, until)) = events::silent_upstream(event) {
                let Some(time) = lines.gave_up(upstream, from, until) else { continue };
                let opening = event.socket.as_ref().is_some_and(|socket| socket.state == TcpState::SynSent);
                *event = if opening {
                    Event { time, ..event.clone() }
                } else {
                    events::given_up(event.clone(), time)
                };
            } else if let Some((upstream, from, until)) = events::late_reset(event)
                && let Some(time) = lines.gave_up(upstream, from, until)
            {
                *event = events::given_up(event.clone(), time);
            }
        }
    }

    /// From here on the lines are read once, in order.
    fn prepare_lines(&mut self) {
        let Some(lines) = self.settings.lines.take() else { return };
        let (first, last) = self.packets.span.unwrap_or_default();
        self.lines_beyond = lines.beyond;
        let (inside, outside) = lines.between(first, last);
        self.lines_outside = outside;
        self.lines = inside.into_iter();
        self.next_line = self.lines.next();
    }

    /// Printed times are cut to the second: a line is handed in at the earliest moment it can be from.
    fn lines_until(&mut self, time: Mono) {
        while let Some((at, record)) = self.next_line.take_if(|(at, _)| *at <= time.0) {
            self.hand_in(Mono(at), Input::Log(Box::new(record)));
            self.next_line = self.lines.next();
        }
    }

    fn hand_in(&mut self, time: Mono, input: Input) {
        self.now = self.now.max(time);
        self.engine.handle(self.now, input);
        self.told.extend(self.engine.advance(self.now));
    }
}
