//! The kernel side of a session: probes and the thread that drains them, or the reason why there are none.
//! Without it the session goes on with what the log alone can say.

use std::net::SocketAddr;
use std::path::Path;

use rstscope_ebpf::abi::{Config, Counter, Departed, MISSING, NetnsCounts};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{SessionError, Settings};
use crate::account::loss;
use crate::collect::{Decoder, Drain, clock};
use crate::model::{Event, HookState, Losses};
use crate::output::SessionHeader;
use crate::probe::filter::Dropped;
use crate::probe::programs::ProgramCost;
use crate::probe::{Environment, Probe, ProbeError, Sizes, environment, hooks, load, namespace, sizes};

/// Probes, or why there are none.
#[derive(Debug)]
pub struct KernelSide {
    running: Option<(Probe, Drain)>,
    /// Keeps the channel open where nobody will ever send: a closed one would wake the loop without end.
    _silent: Option<Sender<Event>>,
    /// Every hook and its state.
    pub hooks: Vec<HookState>,
    /// Why nothing of the kernel is seen.
    pub problem: Option<String>,
}

impl KernelSide {
    /// Loads and attaches what this kernel allows. `attached` is called then, and before any thread is started.
    pub fn start(
        settings: &Settings,
        netns: u32,
        environment: &Environment,
        attached: impl FnOnce(),
    ) -> Result<(Self, Receiver<Event>), SessionError> {
        let load = load_settings(settings, netns);
        let (sender, events) = mpsc::channel(load.sizes.events as usize);
        let mut probe = match Probe::load(&load, environment) {
            Ok(probe) => probe,
            Err(error) => {
                attached();
                return Ok((Self::absent(&error, sender), events));
            }
        };
        probe.set_upstream_filter(&settings.upstreams)?;
        // Where Nginx runs beside us, and the leave to open raw sockets goes before it is found. A failure is told then.
        let _told_later = probe.watch_icmp(namespace::own(), Path::new(namespace::OWN));
        attached();
        let drain = Drain::start(probe.take_ring()?, Decoder::new(probe.names.clone()), sender).map_err(
            |source| SessionError::System { what: "start the thread that drains the ring", source },
        )?;
        let hooks = probe.hooks.clone();
        let mut this = Self { running: Some((probe, drain)), _silent: None, hooks, problem: None };
        this.problem = this.blindness(environment);
        Ok((this, events))
    }

    fn absent(error: &ProbeError, sender: Sender<Event>) -> Self {
        let problem = error.to_string();
        let off = |spec: &hooks::HookSpec| HookState {
            name: spec.name.to_owned(),
            running: false,
            problem: Some(problem.clone()),
            lost_evidence: spec.lost_evidence.to_owned(),
        };
        Self {
            running: None,
            _silent: Some(sender),
            hooks: hooks::HOOKS.iter().map(off).collect(),
            problem: Some(problem),
        }
    }

    /// Why nothing that sees resets runs although the programs could be created.
    fn blindness(&self, environment: &Environment) -> Option<String> {
        if self.sees_resets() {
            return None;
        }
        let locked = environment.lockdown.as_deref() == Some("confidentiality");
        let why = if locked {
            "this kernel is locked down (confidentiality) and lets no program read its memory; \
             boot with lockdown=integrity or without lockdown to trace"
        } else {
            "every hook that sees resets was refused"
        };
        Some(why.to_owned())
    }

    /// The probes, if there are any.
    pub fn probe(&mut self) -> Option<&mut Probe> {
        self.running.as_mut().map(|(probe, _)| probe)
    }

    /// Whether RSTs that the kernel refused can be told from other dropped packets.
    pub fn sees_refused_resets(&self) -> bool {
        self.runs("kfree_skb") && self.tells(|config| config.kfree_skb_has_socket == 1)
    }

    /// Whether every answer to a segment that no connection takes is seen.
    pub fn sees_answers(&self) -> bool {
        self.runs("tcp_send_reset") && self.tells(|config| config.send_reset_has_reason == 1)
    }

    /// Whether every ACK that a full accept queue drops is seen.
    pub fn sees_dropped_acks(&self) -> bool {
        self.runs("kfree_skb") && self.tells(|config| config.drop_reason_tells_overflow == 1)
    }

    /// Whether RSTs of our own accord come with the reason.
    pub fn names_aborts(&self) -> bool {
        self.runs("tcp_send_reset") && self.tells(|config| config.reason_abort_on_memory != MISSING)
    }

    fn tells(&self, this: impl Fn(&Config) -> bool) -> bool {
        self.running.as_ref().is_some_and(|(probe, _)| this(&probe.config))
    }

    /// Whether hooks read memory that the verifier knows nothing of.
    pub fn reads_memory(&self) -> bool {
        self.running.as_ref().is_none_or(|(probe, _)| probe.reads_memory)
    }

    /// Members of kernel structures that this kernel does not have.
    pub fn missing_members(&self) -> &[&'static str] {
        self.running.as_ref().map_or(&[], |(probe, _)| &probe.missing_members)
    }

    /// What was lost between the kernel and the engine.
    pub fn losses(&mut self) -> Result<Losses, ProbeError> {
        let Some((probe, drain)) = &mut self.running else { return Ok(Losses::default()) };
        Ok(loss::merge(probe.losses(clock::now())?, &drain.losses()))
    }

    /// What every listener that ever overflowed has dropped so far.
    pub fn dropped(&mut self) -> Result<Vec<Dropped>, ProbeError> {
        self.probe().map_or_else(|| Ok(Vec::new()), Probe::dropped)
    }

    /// The latest connection of a worker to an upstream that the upstream closed first, or Nginx after silence.
    pub fn departed(
        &mut self,
        pid: u32,
        upstream: SocketAddr,
        by_nginx: bool,
    ) -> Result<Option<Departed>, ProbeError> {
        self.probe().map_or(Ok(None), |probe| probe.departed(pid, upstream, by_nginx))
    }

    /// One of the kernel side's counters.
    pub fn count(&self, counter: Counter) -> Result<u64, ProbeError> {
        self.running.as_ref().map_or(Ok(0), |(probe, _)| probe.count(counter))
    }

    /// Counts of this namespace, or of all that are watched.
    pub fn netns_counts(&self, netns: Option<u32>) -> Result<NetnsCounts, ProbeError> {
        let running = self.running.as_ref();
        running.map_or_else(|| Ok(NetnsCounts::default()), |(probe, _)| probe.netns_counts(netns))
    }

    /// What the kernel programs cost, where the kernel counts it.
    pub fn programs(&self) -> Vec<ProgramCost> {
        self.running.as_ref().map_or_else(Vec::new, |(probe, _)| probe.cost().to_vec())
    }

    /// Takes what is left in the ring and ends the thread.
    pub fn stop(&mut self) {
        if let Some((probe, drain)) = &mut self.running {
            drain.stop();
            probe.ask_again();
        }
    }

    /// Whether any hook that reports resets runs.
    pub fn sees_resets(&self) -> bool {
        self.runs("tcp_receive_reset") || self.runs("tcp_send_reset")
    }

    /// Whether the named hook runs.
    pub fn runs(&self, name: &str) -> bool {
        self.hooks.iter().any(|hook| hook.name == name && hook.running)
    }
}

/// Whether this process may load programs at all.
pub fn check_privileges() -> Result<(), SessionError> {
    let missing = environment::missing_capabilities()
        .map_err(|source| SessionError::System { what: "read this process' capabilities", source })?;
    if missing.is_empty() { Ok(()) } else { Err(SessionError::Privileges(missing)) }
}

/// A session that sees neither resets nor a log has nothing to say.
pub fn check_sight(kernel: &KernelSide, header: &SessionHeader) -> Result<(), SessionError> {
    let follows = header.logs.iter().any(|log| log.problem.is_none());
    if kernel.sees_resets() || follows {
        return Ok(());
    }
    let why = |problem: Option<&String>, other: &str| problem.cloned().unwrap_or_else(|| other.to_owned());
    let hook = kernel.hooks.iter().find_map(|hook| hook.problem.as_ref());
    let log = header.logs.iter().find_map(|log| log.problem.as_ref());
    Err(SessionError::Blind {
        hooks: format!("no kernel hook that sees resets runs ({})", why(hook, "no reason known")),
        logs: format!("no error.log can be followed ({})", why(log, "none was found")),
    })
}

fn load_settings(settings: &Settings, netns: u32) -> load::Settings {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    load::Settings {
        netns,
        upstream_filter: !settings.upstreams.is_empty(),
        sizes: Sizes::of(cpus, sizes::memory()).overridden(&settings.sizes),
        btf: settings.btf.clone(),
        disabled: settings.disabled_hooks.clone(),
    }
}
