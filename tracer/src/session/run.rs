//! The event loop of a session. Everything that can wake it stands in `Wake`.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::closing::{self, Baseline};
use super::feed::{self, Processes};
use super::watch::Watch;
use super::{SessionError, Settings, View, host};
use crate::collect::{Decoder, Drain, Overflows, clock};
use crate::engine::{Engine, Limits};
use crate::model::{Clock, Event, Input, Losses, Mono};
use crate::nginx::tail::{Follower, TailedLine};
use crate::output::{Closing, SessionHeader};
use crate::probe::{Environment, Probe, ProbeError, environment, load};

/// Events that may wait between the drain thread and the loop.
const EVENTS_WAITING: usize = 8192;
/// Lines that may wait between the follower and the loop.
const LINES_WAITING: usize = 4096;
/// Events handled before the loop looks at anything else.
const BATCH: usize = 256;
/// How often Nginx is looked for again, and losses and clocks are read.
const LOOK: Duration = Duration::from_secs(1);
/// Sleep when no incident is waiting.
const IDLE: Duration = Duration::from_secs(1);
/// Hooks of which at least one must run, or no reset can be seen at all.
const ESSENTIAL: [&str; 2] = ["tcp_receive_reset", "tcp_send_reset"];

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// By signal, by `--duration`, or because nobody reads any more.
    Done(Box<Closing>),
    /// No Nginx runs, and waiting was not wanted.
    NoNginx,
}

/// What can wake the loop.
enum Wake {
    Events,
    Lines,
    Look,
    Deadline,
    Stop,
}

/// Runs a session. `say` gets the header once Nginx is found, and notices before that.
pub async fn run(
    settings: &Settings,
    shown: Vec<String>,
    mut view: View,
    mut say: impl FnMut(Say<'_>),
) -> Result<Ended, SessionError> {
    let mut session = Session::start(settings)?;
    let mut signals = Signals::new()?;
    if !session.find_nginx(settings, &mut signals, &mut say).await? {
        return Ok(if settings.no_wait { Ended::NoNginx } else { session.end(&mut view)? });
    }
    session.watching(settings)?;
    say(Say::Header(&host::header(&session.probe, &session.environment, &session.watch, settings, shown)));
    session.serve(settings, &mut view, &mut signals).await?;
    session.end(&mut view)
}

/// What a session says beside verdicts.
#[derive(Debug)]
pub enum Say<'a> {
    /// A notice.
    Notice(&'a str),
    /// The header: watching begins.
    Header(&'a SessionHeader),
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
    probe: Probe,
    drain: Drain,
    events: Receiver<Event>,
    follower: Follower,
    lines: Receiver<TailedLine>,
    engine: Engine,
    processes: Processes,
    overflows: Overflows,
    watch: Watch,
    baseline: Baseline,
    netns: u32,
    clock: Clock,
    losses: Losses,
    began: Mono,
    event_batch: Vec<Event>,
    line_batch: Vec<TailedLine>,
}

impl Session {
    fn start(settings: &Settings) -> Result<Self, SessionError> {
        check_privileges()?;
        let environment = Environment::look();
        let netns = settings.netns_inode()?;
        let mut probe = Probe::load(&load_settings(settings, netns), &environment)?;
        check_hooks(&probe, &environment)?;
        probe.set_upstream_filter(&settings.upstreams)?;
        let (sender, events) = mpsc::channel(EVENTS_WAITING);
        let drain = Drain::start(probe.take_ring()?, Decoder::new(probe.names.clone()), sender).map_err(
            |source| SessionError::System { what: "start the thread that drains the ring", source },
        )?;
        let (follower, lines) = Follower::start(LINES_WAITING)?;
        Ok(Self {
            environment,
            probe,
            drain,
            events,
            follower,
            lines,
            engine: Engine::new(Limits::default()),
            processes: Processes::default(),
            overflows: Overflows::default(),
            watch: Watch::default(),
            baseline: Baseline::default(),
            netns,
            clock: clock::measure(),
            losses: Losses::default(),
            began: clock::now(),
            event_batch: Vec::with_capacity(BATCH),
            line_batch: Vec::with_capacity(BATCH),
        })
    }

    /// Waits until an Nginx runs; false if there is none and it should not or need not be waited for any longer.
    async fn find_nginx(
        &mut self,
        settings: &Settings,
        signals: &mut Signals,
        say: &mut impl FnMut(Say<'_>),
    ) -> Result<bool, SessionError> {
        let end = settings.duration.map(|span| Instant::now() + span);
        let mut looks = ticks(LOOK);
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
                say(Say::Notice(
                    "no Nginx is running; waiting for one (Ctrl-C ends, --no-wait does not wait)",
                ));
                waiting = true;
            }
            looks.reset();
            tokio::select! {
                _ = looks.tick() => {}
                () = signals.any() => return Ok(false),
                () = until(end) => return Ok(false),
            }
        }
    }

    /// Begins to watch what was found.
    fn watching(&mut self, settings: &Settings) -> Result<(), SessionError> {
        self.baseline.extend(self.watch.instances());
        self.watch.apply(&mut self.probe, settings)?;
        self.watch.follow(&self.follower, settings);
        let now = clock::now();
        self.engine.handle(now, Input::Clock(self.clock));
        self.engine
            .handle(now, Input::Host(Box::new(host::facts(&self.probe, &self.environment, &self.watch))));
        Ok(())
    }

    async fn serve(
        &mut self,
        settings: &Settings,
        view: &mut View,
        signals: &mut Signals,
    ) -> Result<(), SessionError> {
        let end = settings.duration.map(|span| Instant::now() + span);
        let mut looks = ticks(LOOK);
        loop {
            match self.wake(signals, &mut looks, end).await {
                Wake::Stop => return Ok(()),
                Wake::Events => self.take_events(),
                Wake::Lines => self.take_lines(),
                Wake::Look => self.look(settings, view).await?,
                Wake::Deadline => {}
            }
            if self.show(view).is_err() {
                return Ok(()); // Nobody reads any more.
            }
        }
    }

    async fn wake(&mut self, signals: &mut Signals, looks: &mut Interval, end: Option<Instant>) -> Wake {
        let wait = self.engine.next_deadline().map_or(IDLE, |deadline| deadline.since(clock::now()));
        let (events, lines) = (&mut self.event_batch, &mut self.line_batch);
        tokio::select! {
            biased;
            () = signals.any() => Wake::Stop,
            () = until(end) => Wake::Stop,
            _ = self.events.recv_many(events, BATCH) => Wake::Events,
            _ = self.lines.recv_many(lines, BATCH) => Wake::Lines,
            _ = looks.tick() => Wake::Look,
            () = tokio::time::sleep(wait.min(IDLE)) => Wake::Deadline,
        }
    }

    fn take_events(&mut self) {
        let now = clock::now();
        for mut event in self.event_batch.drain(..) {
            self.overflows.event(&mut event);
            self.processes.event(&mut self.engine, now, event);
        }
    }

    fn take_lines(&mut self) {
        let now = clock::now();
        for line in self.line_batch.drain(..) {
            let record = self.watch.record(&line);
            if let Some(event) = feed::premature(&mut self.probe, &record) {
                self.engine.handle(now, Input::Event(Box::new(event)));
            }
            self.engine.handle(now, Input::Log(Box::new(record)));
        }
    }

    /// Once a second: is Nginx still what it was, what was lost, how far apart are the clocks?
    async fn look(&mut self, settings: &Settings, view: &View) -> Result<(), SessionError> {
        self.clock = clock::measure();
        let now = clock::now();
        self.engine.handle(now, Input::Clock(self.clock));
        self.note_losses(now, view)?;
        self.note_overflows(now)?;
        if self.look_for_nginx(settings).await? {
            self.watching(settings)?;
        }
        Ok(())
    }

    /// Reading `/proc` takes milliseconds on a host with many processes; events must not wait for it.
    async fn look_for_nginx(&mut self, settings: &Settings) -> Result<bool, SessionError> {
        let (mut watch, settings, netns) = (std::mem::take(&mut self.watch), settings.clone(), self.netns);
        let looked = spawn_blocking(move || {
            let changed = watch.look(&settings, netns);
            (watch, changed)
        });
        let (watch, changed) = looked.await.map_err(|error| SessionError::System {
            what: "look for Nginx",
            source: io::Error::other(error),
        })?;
        self.watch = watch;
        Ok(changed)
    }

    fn note_losses(&mut self, now: Mono, view: &View) -> Result<(), ProbeError> {
        let abandoned = self.follower.counters().abandoned.load(Ordering::Relaxed);
        let losses = feed::losses(&self.probe, &self.drain, &view.losses(), abandoned)?;
        if losses != self.losses {
            self.losses = losses.clone();
            self.engine.handle(now, Input::Losses(losses));
        }
        Ok(())
    }

    /// Drops after the last record of a listener stand only in the kernel's table.
    fn note_overflows(&mut self, now: Mono) -> Result<(), ProbeError> {
        for event in self.overflows.unreported(&self.probe.dropped()?) {
            self.engine.handle(now, Input::Event(Box::new(event)));
        }
        Ok(())
    }

    fn show(&mut self, view: &mut View) -> io::Result<()> {
        self.engine.advance(clock::now()).iter().try_for_each(|verdict| view.verdict(verdict))
    }

    /// Takes what is still on the way, judges everything pending, and adds up.
    fn end(mut self, view: &mut View) -> Result<Ended, SessionError> {
        self.drain.stop();
        while let Ok(event) = self.events.try_recv() {
            self.event_batch.push(event);
        }
        self.take_events();
        self.follower.stop();
        while let Ok(line) = self.lines.try_recv() {
            self.line_batch.push(line);
        }
        self.take_lines();
        let now = clock::now();
        self.note_overflows(now)?;
        let verdicts = self.engine.finish(now);
        // A reader that went away does not want the rest.
        let _shown = verdicts.iter().try_for_each(|verdict| view.verdict(verdict));
        let abandoned = 0;
        let losses = feed::losses(&self.probe, &self.drain, &view.losses(), abandoned)?;
        let span = (self.began, now);
        let closing = closing::closing(&self.probe, &self.baseline, view.tally(), losses, self.clock, span)?;
        let _shown = view.finish(&closing);
        Ok(Ended::Done(Box::new(closing)))
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn check_privileges() -> Result<(), SessionError> {
    let missing = environment::missing_capabilities()
        .map_err(|source| SessionError::System { what: "read this process' capabilities", source })?;
    if missing.is_empty() { Ok(()) } else { Err(SessionError::Privileges(missing)) }
}

fn check_hooks(probe: &Probe, environment: &Environment) -> Result<(), SessionError> {
    let essential = || probe.hooks.iter().filter(|hook| ESSENTIAL.contains(&hook.name.as_str()));
    if essential().any(|hook| hook.running) {
        return Ok(());
    }
    if environment.lockdown.as_deref() == Some("confidentiality") {
        return Err(SessionError::Lockdown);
    }
    let problem =
        |hook: &crate::model::HookState| format!("{}: {}", hook.name, hook.problem.as_deref().unwrap_or("?"));
    Err(SessionError::NoHooks(essential().map(problem).collect()))
}

fn load_settings(settings: &Settings, netns: u32) -> load::Settings {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    load::Settings {
        netns,
        upstream_filter: !settings.upstreams.is_empty(),
        ring_bytes: load::ring_bytes(cpus),
        btf: settings.btf.clone(),
        disabled: settings.disabled_hooks.clone(),
    }
}
