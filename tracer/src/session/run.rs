//! The event loop of a session. Everything that can wake it stands in `Wake`.

use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use rstscope_ebpf::abi::Counter;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::access::{self, AccessLogs};
use super::closing::{self, Baseline};
use super::inbox::{Arrived, Inbox};
use super::kernel::{KernelSide, check_privileges, check_sight};
use super::lines::Lines;
use super::losses::KnownLosses;
use super::observe::Standing;
use super::premature::PrematureCloses;
use super::processes::Processes;
use super::ticks::{Ticks, until};
use super::watch::Watch;
use super::{Pulse, SessionError, Settings, View, host, record};
use crate::account::loss;
use crate::collect::{Overflows, clock};
use crate::engine::{Engine, Limits};
use crate::model::facts::CONNECTIONS_SEEN;
use crate::model::{Clock, Event, HostFacts, Input, Losses, Mono, Verdict};
use crate::nginx::tail::TailedLine;
use crate::output::{Closing, SessionHeader};
use crate::probe::{Environment, ProbeError};
use crate::recording::{Recorded, Recorder};

/// Inputs handled before the loop looks at anything else.
const BATCH: usize = 256;
/// How often Nginx is looked for again, and losses and clocks are read.
const LOOK: Duration = Duration::from_secs(1);

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// By signal, by `--duration`, or because nobody reads any more.
    Done {
        /// What is said at the end.
        closing: Box<Closing>,
        /// What became of the recording, if one was asked for.
        recorded: Option<Recorded>,
    },
    /// No Nginx runs, and waiting was not wanted.
    NoNginx,
}

/// What can wake the loop.
enum Wake {
    Inputs,
    Accesses,
    Look,
    Settings(Box<Settings>),
    Deadline,
    Stop,
}

/// Runs a session. `say` gets the header once Nginx is found, and notices before that. Settings that come over
/// `changes` hold from then on, as far as they concern what is followed.
pub async fn run(
    mut settings: Settings,
    shown: Vec<String>,
    mut view: View,
    mut changes: Changes,
    mut say: impl FnMut(Say<'_>),
) -> Result<Ended, SessionError> {
    let settings = &mut settings;
    let mut session = Session::start(settings, &mut say)?;
    let mut signals = Signals::new()?;
    if !session.find_nginx(settings, &mut signals, &mut changes, &mut say).await? {
        return Ok(if settings.no_wait { Ended::NoNginx } else { session.end(settings, &mut view)? });
    }
    session.watching(settings)?;
    let header = host::header(&session.kernel, &session.environment, &session.watch, settings, shown);
    check_sight(&session.kernel, &header)?;
    say(Say::Header(&header));
    session.serve(settings, &mut view, (&mut signals, &mut changes), &mut say).await?;
    session.end(settings, &mut view)
}

/// What a session says beside verdicts.
#[derive(Debug)]
pub enum Say<'a> {
    /// Every program that this kernel takes is attached; no thread of the session runs yet.
    Attached,
    /// No Nginx runs, and one is waited for.
    Waiting,
    /// A notice.
    Notice(&'a str),
    /// The header: watching begins.
    Header(&'a SessionHeader),
    /// Once a second, where it was asked for: what the session is like.
    Pulse(Box<Pulse>),
}

/// Where new settings come from, if they can come at all.
#[derive(Debug, Default)]
pub struct Changes(pub Option<Receiver<Settings>>);

impl Changes {
    async fn next(&mut self) -> Settings {
        if let Some(receiver) = &mut self.0
            && let Some(settings) = receiver.recv().await
        {
            return settings;
        }
        std::future::pending().await
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, SessionError> {
        let error = |source| SessionError::System { what: "receive signals", source };
        let new = |kind| signal(kind).map_err(error);
        Ok(Self { interrupt: new(SignalKind::interrupt())?, terminate: new(SignalKind::terminate())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

struct Session {
    environment: Environment,
    kernel: KernelSide,
    sources: Lines,
    inbox: Inbox,
    accesses: AccessLogs,
    engine: Recorder,
    /// It was told that nothing is recorded any more.
    told: bool,
    processes: Processes,
    overflows: Overflows,
    premature: PrematureCloses,
    watch: Watch,
    standing: Standing,
    facts: Option<HostFacts>,
    /// They were not part of a pulse yet.
    facts_are_new: bool,
    baseline: Baseline,
    netns: u32,
    clock: Clock,
    losses: KnownLosses,
    began: Mono,
}

impl Session {
    fn start(settings: &Settings, say: &mut impl FnMut(Say<'_>)) -> Result<Self, SessionError> {
        check_privileges()?;
        let environment = Environment::look();
        let netns = settings.netns_inode()?;
        let (kernel, events) = KernelSide::start(settings, netns, &environment, || say(Say::Attached))?;
        let (sources, lines) = Lines::start(settings)?;
        let clock = clock::measure();
        let limits = Limits::default();
        let engine = if settings.witnessing { Engine::witnessing(limits) } else { Engine::new(limits) };
        let sink = record::begin(settings.record.as_ref(), &environment.kernel, clock.utc(clock::now()))?;
        Ok(Self {
            environment,
            kernel,
            sources,
            inbox: Inbox::new(events, lines),
            accesses: AccessLogs::start()?,
            engine: Recorder::new(engine, sink),
            told: false,
            processes: Processes::default(),
            overflows: Overflows::default(),
            premature: PrematureCloses::default(),
            watch: Watch::default(),
            standing: Standing::default(),
            facts: None,
            facts_are_new: false,
            baseline: Baseline::default(),
            netns,
            clock,
            losses: KnownLosses::default(),
            began: clock::now(),
        })
    }

    /// Waits until an Nginx runs; false if there is none and it should not or need not be waited for any longer.
    async fn find_nginx(
        &mut self,
        settings: &mut Settings,
        signals: &mut Signals,
        changes: &mut Changes,
        say: &mut impl FnMut(Say<'_>),
    ) -> Result<bool, SessionError> {
        let end = settings.duration.map(|span| Instant::now() + span);
        let looks = ticks(LOOK)?;
        let mut waiting = false;
        loop {
            self.watch.look(settings, self.netns);
            if !self.watch.instances().is_empty() {
                return Ok(true);
            }
            if settings.no_wait {
                return Ok(false);
            }
            if !waiting {
                say(Say::Waiting);
                waiting = true;
            }
            self.tell_pulse(settings, say)?;
            tokio::select! {
                () = looks.tick() => {}
                new = changes.next() => *settings = new,
                () = signals.any() => return Ok(false),
                () = until(end) => return Ok(false),
            }
        }
    }

    /// Begins to watch what was found.
    fn watching(&mut self, settings: &Settings) -> Result<(), SessionError> {
        self.baseline.extend(&mut self.kernel, self.watch.instances())?;
        self.processes.look(self.watch.processes());
        if let Some(probe) = self.kernel.probe() {
            self.watch.apply(probe, settings)?;
        }
        self.watch.follow(&self.sources, settings);
        self.accesses.follow(&self.watch);
        let now = self.inbox.now(clock::now());
        self.engine.handle(now, Input::Clock(self.clock));
        let host = self.host_facts(settings);
        self.engine.handle(now, Input::Host(Box::new(host)));
        Ok(())
    }

    /// What is known of the host. While no Nginx runs, what was known last: clients are refused in its name.
    fn host_facts(&mut self, settings: &Settings) -> HostFacts {
        if let Some(last) = self.facts.as_ref().filter(|_| self.watch.instances().is_empty()) {
            return last.clone();
        }
        let facts = host::facts(&self.kernel, &self.environment, &self.watch, settings);
        self.facts_are_new = true;
        self.facts.insert(facts).clone()
    }

    async fn serve(
        &mut self,
        settings: &mut Settings,
        view: &mut View,
        (signals, changes): (&mut Signals, &mut Changes),
        say: &mut impl FnMut(Say<'_>),
    ) -> Result<(), SessionError> {
        let end = settings.duration.map(|span| Instant::now() + span);
        let looks = ticks(Duration::ZERO)?;
        loop {
            let wake = self.wake((signals, changes), &looks, end).await;
            // After a stall a batch of inputs may be due as soon as it is taken.
            let asks = matches!(wake, Wake::Inputs | Wake::Look) || self.engine.next_deadline().is_some();
            if asks && self.losses.are_old(clock::now()) {
                self.note_losses(view)?;
            }
            match wake {
                Wake::Stop => return Ok(()),
                Wake::Inputs => self.take(settings, BATCH),
                Wake::Accesses => self.take_accesses(),
                Wake::Look => {
                    self.look(settings).await?;
                    self.tell_pulse(settings, say)?;
                }
                Wake::Settings(new) => {
                    *settings = *new;
                    self.watching(settings)?;
                }
                Wake::Deadline => {}
            }
            let now = self.inbox.now(clock::now());
            self.take_premature(now);
            if self.show(view).is_err() {
                return Ok(()); // Nobody reads any more.
            }
            self.tell_recording(say);
            if let Some(problem) = self.sources.problem_to_tell() {
                say(Say::Notice(&problem));
            }
        }
    }

    /// Says that the recording ended before the session, and that the daemon's goes on.
    fn tell_recording(&mut self, say: &mut impl FnMut(Say<'_>)) {
        let Some(recorded) = self.engine.recorded() else { return };
        if recorded.stopped.is_some() == self.told {
            return;
        }
        self.told = recorded.stopped.is_some();
        say(Say::Notice(&match recorded.stopped {
            Some(why) => format!("the recording ends here: {why}; the trace goes on"),
            None => format!("the recording goes on, without {} inputs", recorded.left_out),
        }));
    }

    fn tell_pulse(&mut self, settings: &Settings, say: &mut impl FnMut(Say<'_>)) -> Result<(), ProbeError> {
        if settings.pulse {
            let counters = self.engine.counters();
            let mut pulse = Pulse::take(&mut self.kernel, &mut self.watch, self.losses.known(), counters)?;
            pulse.log_problems = self.sources.lasting_problems(Instant::now().into_std());
            pulse.host =
                self.facts.as_ref().filter(|_| mem::take(&mut self.facts_are_new)).cloned().map(Box::new);
            say(Say::Pulse(Box::new(pulse)));
        }
        Ok(())
    }

    async fn wake(
        &mut self,
        (signals, changes): (&mut Signals, &mut Changes),
        looks: &Ticks,
        end: Option<Instant>,
    ) -> Wake {
        // Where nothing waits the next look is soon enough.
        let deadline = self.next_deadline().map(|deadline| deadline.since(clock::now()).min(LOOK));
        let deadline = deadline.map(|wait| Instant::now() + wait);
        tokio::select! {
            biased;
            () = signals.any() => Wake::Stop,
            () = until(end) => Wake::Stop,
            // Before what comes in: a storm of it must not keep Nginx's reloads from being seen.
            () = looks.tick() => Wake::Look,
            new = changes.next() => Wake::Settings(Box::new(new)),
            () = self.inbox.filled() => Wake::Inputs,
            () = self.accesses.ready() => Wake::Accesses,
            () = until(deadline) => Wake::Deadline,
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        [self.engine.next_deadline(), self.premature.next_deadline()].into_iter().flatten().min()
    }

    /// Takes up to so many inputs.
    fn take(&mut self, settings: &Settings, most: usize) {
        let (watch, of_day) = (&self.watch, self.clock);
        self.inbox.catch_up(clock::now(), |line| watch.record(line).time.map(|time| of_day.mono(time)));
        for _ in 0..most {
            match self.inbox.next(clock::now()) {
                Some((now, Arrived::Event(event))) => self.take_event(now, *event),
                Some((now, Arrived::Line(line))) => self.take_line(settings, now, &line),
                None => return,
            }
        }
    }

    fn take_event(&mut self, now: Mono, mut event: Event) {
        self.overflows.event(&mut event);
        access::hand_over(&mut self.engine, now, self.accesses.expect_event(&event));
        self.processes.event(&mut self.engine, now, event);
    }

    fn take_line(&mut self, settings: &Settings, now: Mono, line: &TailedLine) {
        self.sources.note(line);
        let Some(record) = self.watch.wanted(settings, line) else { return };
        self.premature.note(&record);
        access::hand_over(&mut self.engine, now, self.accesses.expect_line(&record));
        self.engine.handle(now, Input::Log(Box::new(record)));
    }

    fn take_accesses(&mut self) {
        let now = self.inbox.now(clock::now());
        access::hand_over(&mut self.engine, now, self.accesses.take());
    }

    /// Closes that a line of the log has called premature meanwhile.
    fn take_premature(&mut self, by: Mono) {
        let now = self.inbox.now(clock::now());
        for event in self.premature.due(&mut self.kernel, by) {
            self.engine.handle(now, Input::Event(Box::new(event)));
        }
    }

    /// Once a second: is Nginx still what it was, how far apart are the clocks?
    async fn look(&mut self, settings: &Settings) -> Result<(), SessionError> {
        self.clock = clock::measure();
        let now = self.inbox.now(clock::now());
        self.engine.handle(now, Input::Clock(self.clock));
        self.note_overflows(now)?;
        for event in self.standing.look(&settings.listen_ports, now) {
            self.engine.handle(now, Input::Event(Box::new(event)));
        }
        self.sources.save();
        if self.look_for_nginx(settings).await? {
            self.watching(settings)?;
        }
        Ok(())
    }

    /// Reading `/proc` takes milliseconds on a host with many processes; events must not wait for it.
    async fn look_for_nginx(&mut self, settings: &Settings) -> Result<bool, SessionError> {
        let (mut watch, settings, netns) = (mem::take(&mut self.watch), settings.clone(), self.netns);
        let mut processes = mem::take(&mut self.processes);
        let looked = spawn_blocking(move || {
            let changed = watch.look(&settings, netns);
            if settings.pulse && watch.queues_are_due() {
                watch.look_at_queues();
            }
            if watch.looked() || processes.awaits() {
                processes.look(watch.processes());
            }
            (watch, processes, changed)
        });
        let (watch, processes, changed) = looked.await.map_err(|error| SessionError::System {
            what: "look for Nginx",
            source: io::Error::other(error),
        })?;
        (self.watch, self.processes) = (watch, processes);
        Ok(changed)
    }

    /// Everything lost so far.
    fn lost(&mut self, view: &View) -> Result<Losses, ProbeError> {
        let followed = loss::merge(self.kernel.losses()?, &self.sources.losses());
        let mut losses = loss::merge(followed, &view.losses());
        losses.by_handover.extend(self.standing.lost());
        Ok(losses)
    }

    /// Tells the engine what was lost until now, also of what it has not reached yet.
    fn note_losses(&mut self, view: &View) -> Result<(), ProbeError> {
        let (read, losses) = (clock::now(), self.lost(view)?);
        if let Some(report) = self.losses.update(losses, read) {
            let now = self.inbox.now(read);
            self.engine.handle(now, Input::Losses(report));
        }
        Ok(())
    }

    /// Drops after the last record of a listener stand only in the kernel's table.
    fn note_overflows(&mut self, now: Mono) -> Result<(), ProbeError> {
        for event in self.overflows.unreported(&self.kernel.dropped()?) {
            self.engine.handle(now, Input::Event(Box::new(event)));
        }
        Ok(())
    }

    fn show(&mut self, view: &mut View) -> io::Result<()> {
        let now = self.inbox.now(clock::now());
        let verdicts = self.engine.advance(now);
        self.tell(view, &verdicts)
    }

    fn tell(&mut self, view: &mut View, verdicts: &[Verdict]) -> io::Result<()> {
        let mut dossiers = self.engine.take_dossiers().into_iter();
        verdicts.iter().try_for_each(|verdict| match dossiers.next() {
            Some(dossier) => view.witnessed(verdict, &Arc::new(dossier)),
            None => view.verdict(verdict),
        })
    }

    /// Takes what is still on the way, judges everything pending, and adds up.
    fn end(mut self, settings: &Settings, view: &mut View) -> Result<Ended, SessionError> {
        self.kernel.stop();
        self.sources.stop();
        self.note_losses(view)?;
        self.take(settings, usize::MAX);
        self.accesses.stop();
        self.take_accesses();
        self.take_premature(Mono(u64::MAX));
        let now = self.inbox.now(clock::now());
        self.note_overflows(now)?;
        // The counters of the kernel as they stand now, beside those of the start.
        let mut host = self.host_facts(settings);
        let connections = self.kernel.count(Counter::Connections)?;
        host.system.counters.insert(CONNECTIONS_SEEN.to_owned(), connections);
        self.engine.handle(now, Input::Host(Box::new(host)));
        let verdicts = self.engine.finish(now);
        // A reader that went away does not want the rest.
        let _shown = self.tell(view, &verdicts);
        self.sources.save_all();
        let mut losses = self.lost(view)?;
        let dropped = self.engine.counters().lost().into_iter().filter(|(_, lost)| *lost > 0);
        losses.by_handover.extend(dropped.map(|(name, lost)| (name.to_owned(), lost)));
        let span = (self.began, now);
        let closing = closing::closing(&self.kernel, &self.baseline, view.tally(), losses, self.clock, span)?;
        let _shown = view.finish(&closing);
        Ok(Ended::Done { closing: Box::new(closing), recorded: self.engine.recorded() })
    }
}

/// Ticks for every look, the first after so long.
fn ticks(first: Duration) -> Result<Ticks, SessionError> {
    Ticks::new(first, LOOK).map_err(|source| SessionError::System { what: "make a timer", source })
}
