//! The stage of the self-test: two namespaces joined by a pair of devices, and the hooks, told that this process is
//! Nginx in the near one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rstscope_ebpf::abi::Counter;
use tokio::sync::mpsc::{self, Receiver};

use super::place::Place;
use super::{Fired, Outcome, SelfTestError, link};
use crate::collect::{Decoder, Drain};
use crate::model::Event;
use crate::probe::load::Settings;
use crate::probe::{Environment, Probe, Sizes, stats};

/// Addresses of the two ends (RFC 5737, TEST-NET-1).
pub(super) const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Where the near end listens, where it says that it listens and does not, and where it does not accept.
pub(super) const OPEN_PORT: u16 = 8000;
pub(super) const CLOSED_PORT: u16 = 8001;
pub(super) const FULL_PORT: u16 = 8002;
/// Where the far end listens.
pub(super) const UPSTREAM_PORT: u16 = 9000;

/// Events that may wait.
const EVENTS_WAITING: usize = 4096;
/// The longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(4);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Why a hook is not expected to fire.
const UNPROVOKED: [(&str, &str); 2] = [
    ("cgroup_getpeername6", "not provoked: the self-test speaks IPv4"),
    ("mark_victim", "not provoked: it would take an OOM kill"),
];

/// Namespaces and hooks.
#[derive(Debug)]
pub(super) struct Stage {
    pub near: Place,
    pub far: Place,
    probe: Probe,
    events: Receiver<Event>,
    _drain: Drain,
    /// While it is open the kernel counts how often programs run.
    _counting: Option<OwnedFd>,
    environment: Environment,
    seen: Vec<Event>,
}

impl Stage {
    pub(super) fn build() -> Result<Self, SelfTestError> {
        let failed = |what| move |source| SelfTestError::Stage { what, source };
        let near = Place::new("near").map_err(failed("make a network namespace"))?;
        let far = Place::new("far").map_err(failed("make a network namespace"))?;
        join(&near, &far).map_err(failed("join the namespaces (is the kernel module veth there?)"))?;
        let environment = Environment::look();
        let counting = stats::count_runs();
        let settings = Settings {
            netns: near.inode,
            upstream_filter: false,
            sizes: Sizes::of(1, 0),
            btf: None,
            disabled: Vec::new(),
        };
        let mut probe = Probe::load(&settings, &environment)?;
        tell(&mut probe, &near)?;
        let (sender, events) = mpsc::channel(EVENTS_WAITING);
        let drain = Drain::start(probe.take_ring()?, Decoder::new(probe.names.clone()), sender)
            .map_err(failed("start the thread that drains the ring"))?;
        let seen = Vec::new();
        Ok(Self { near, far, probe, events, _drain: drain, _counting: counting, environment, seen })
    }

    /// Kernel release.
    pub(super) fn kernel(&self) -> String {
        self.environment.kernel.clone()
    }

    /// Waits for an event.
    pub(super) fn await_event(&mut self, is_it: impl Fn(&Event) -> bool) -> Option<Event> {
        self.until(|stage| {
            while let Ok(event) = stage.events.try_recv() {
                stage.seen.push(event);
            }
            stage.seen.iter().rev().find(|event| is_it(event)).cloned()
        })
    }

    /// Retransmissions counted in the near namespace so far, those of SYN-ACKs included.
    pub(super) fn retransmits(&self) -> Option<u64> {
        self.probe.netns_counts(None).ok().map(|counts| counts.retransmits)
    }

    /// Waits until more retransmissions were counted than `before`.
    pub(super) fn await_retransmits(&mut self, before: u64) -> Option<u64> {
        self.until(|stage| stage.retransmits()?.checked_sub(before).filter(|more| *more > 0))
    }

    /// Waits until drops of a full listener were counted.
    pub(super) fn await_overflows(&mut self) -> Option<u64> {
        self.until(|stage| stage.probe.count(Counter::Overflows).ok().filter(|count| *count > 0))
    }

    /// How often a hook ran so far.
    pub(super) fn runs(&self, hook: &str) -> Option<u64> {
        stats::runs(&self.probe).into_iter().find(|(name, _)| *name == hook).map(|(_, runs)| runs)
    }

    /// Waits until a hook ran more often than `before`.
    pub(super) fn await_runs(&mut self, hook: &str, before: u64) -> Option<u64> {
        self.until(|stage| {
            stage.runs(hook).and_then(|runs| runs.checked_sub(before)).filter(|runs| *runs > 0)
        })
    }

    fn until<T>(&mut self, mut look: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = look(self);
            if found.is_some() || Instant::now() >= end {
                return found;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Every hook and whether it fired.
    pub(super) fn fired(&self) -> Vec<Fired> {
        let runs = stats::runs(&self.probe);
        let fired = |hook: &crate::model::HookState| {
            let runs = runs.iter().find(|(name, _)| *name == hook.name).map(|(_, runs)| *runs);
            let unprovoked =
                UNPROVOKED.iter().find(|(name, _)| *name == hook.name).map(|(_, why)| (*why).to_owned());
            let (outcome, note) = match (hook.running, runs, unprovoked) {
                (false, _, _) => (Outcome::NotRunning, hook.problem.clone()),
                (true, Some(1..), _) => (Outcome::Seen, None),
                (true, _, Some(why)) => (Outcome::NotProvoked, Some(why)),
                (true, None, None) => (Outcome::NotProvoked, None),
                (true, Some(0), None) => (Outcome::Missed, Some("runs, and did not fire".to_owned())),
            };
            Fired { hook: hook.name.clone(), outcome, runs, note }
        };
        self.probe.hooks.iter().map(fired).collect()
    }
}

fn join(near: &Place, far: &Place) -> io::Result<()> {
    let peer = far.namespace()?;
    near.run(move || link::create(&peer))?;
    near.run(|| link::configure(NEAR))?;
    far.run(|| link::configure(FAR))
}

/// This process is Nginx, these are its listeners and its upstream.
fn tell(probe: &mut Probe, near: &Place) -> Result<(), SelfTestError> {
    let at = |address: Ipv4Addr, port: u16| SocketAddr::new(address.into(), port);
    probe.set_processes(&[std::process::id()], &[])?;
    probe.count_namespaces(&[near.inode])?;
    // Where it cannot be, the hook is missed.
    let _missed_then = probe.watch_icmp(near.inode, &near.path());
    probe.add_listeners(near.inode, &[OPEN_PORT, CLOSED_PORT, FULL_PORT].map(|port| at(NEAR, port)))?;
    Ok(probe.add_upstreams(&[at(FAR, UPSTREAM_PORT)])?)
}
