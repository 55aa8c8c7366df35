//! Offers each hook to the kernel, form by form, until one is taken. What fails is recorded, not fatal.

use std::fs::File;

use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, ProgramError,
    RawTracePoint, SockOps, SocketFilter,
};
use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel, include_bytes_aligned};
use rstscope_ebpf::abi::{Config, DropReasons, Offsets};

use super::btf::KernelTypes;
use super::environment::Environment;
use super::hooks::{Ask, Attachment, Form, HOOKS, HookSpec, Need};
use super::load::{ProbeError, Settings};
use super::nullable;
use crate::model::HookState;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/rstscope-ebpf"));

/// What stands in `Settings::disabled` for every form that reads memory unchecked by the verifier.
const READING: &str = "probe_read_kernel";
/// The lockdown that forbids it. Kernels before 5.13 say so only by reading zeros.
const CONFIDENTIALITY: &str = "confidentiality";

/// What loading depends on.
#[derive(Clone, Copy)]
pub struct Kernel<'a> {
    /// What is wanted.
    pub settings: &'a Settings,
    /// What was found.
    pub environment: &'a Environment,
    /// The kernel's types.
    pub types: &'a KernelTypes,
    /// The same for aya.
    pub btf: &'a Btf,
}

/// The hooks after loading.
#[derive(Debug, Default)]
pub struct Attached {
    /// Every hook.
    pub states: Vec<HookState>,
    /// A form that reads memory runs.
    pub read_memory: bool,
    /// Hooks that run, and their programs in the object.
    pub programs: Vec<(&'static str, &'static str)>,
}

/// Whether the kernel did not take a hook.
pub fn refused(hooks: &[HookState], name: &str) -> bool {
    hooks.iter().any(|state| state.name == name && !state.running)
}

/// What only stands in for something is needed only without it.
fn is_needed(need: Need, so_far: &[HookState], config: Config) -> bool {
    match need {
        Need::NoTracingCookies => config.tracing_makes_cookies == 0,
        Need::InPlaceOf(others) => others.iter().any(|other| refused(so_far, other)),
        Need::Nothing | Need::Argument(..) => true,
    }
}

impl Kernel<'_> {
    /// Loads the object with these globals and attaches what can be attached.
    pub fn load(
        &self,
        loader: EbpfLoader<'_>,
        offsets: &Offsets,
        reasons: DropReasons,
        config: Config,
    ) -> Result<(Ebpf, Attached), ProbeError> {
        let sizes = self.settings.sizes;
        let mut loader = loader;
        let mut ebpf = loader
            .btf(Some(self.btf))
            .verifier_log_level(VerifierLogLevel::DEBUG | VerifierLogLevel::STATS)
            .override_global("OFFSETS", offsets, true)
            .override_global("REASONS", &reasons, true)
            .override_global("CONFIG", &config, true)
            .map_max_entries("EVENTS", sizes.ring_bytes)
            .map_max_entries("TOMBSTONES", sizes.tombstones)
            .map_max_entries("CONNS", sizes.slots())
            .map_max_entries("MORE_CONNS", sizes.connections.max(1))
            .load(OBJECT)?;
        let mut attached = Attached::default();
        for spec in HOOKS {
            if !is_needed(spec.need, &attached.states, config) {
                continue;
            }
            let result = self.attach(&mut ebpf, spec);
            if let Ok(taken) = &result {
                attached.read_memory |= taken.form.ask == Ask::Memory;
                attached.programs.push((spec.name, taken.form.program));
            }
            attached.states.push(state(spec, result));
        }
        Ok((ebpf, attached))
    }

    fn is_disabled(&self, name: &str) -> bool {
        self.settings.disabled.iter().any(|disabled| disabled == name)
    }

    /// The first form that the kernel takes, or why it takes none.
    fn attach(&self, ebpf: &mut Ebpf, spec: &HookSpec) -> Result<Taken, String> {
        if self.is_disabled(spec.name) {
            return Err("switched off".to_owned());
        }
        let mut problems: Vec<String> = Vec::new();
        for form in spec.forms {
            match self.try_attach(ebpf, spec, form) {
                Ok(()) => return Ok(Taken { form: *form, problem: problems.into_iter().next() }),
                Err(problem) if problems.contains(&problem) => {}
                Err(problem) => problems.push(problem),
            }
        }
        Err(problems.join("; "))
    }

    /// What the kernel's own description says against a form, before anything is tried.
    fn lacks(&self, ebpf: &mut Ebpf, spec: &HookSpec, form: &Form) -> Option<String> {
        if form.ask == Ask::Memory
            && let Some(problem) = self.forbids_reading()
        {
            return Some(problem);
        }
        if !matches!(form.attachment, Attachment::RawTracepoint | Attachment::BtfTracepoint) {
            return None;
        }
        let Some(arguments) = self.types.tracepoint(spec.name) else {
            return Some("this kernel has no such tracepoint".to_owned());
        };
        match spec.need {
            Need::Argument(index, what) if arguments.len() <= index => {
                return Some(format!("this kernel's tracepoint does not pass {what}"));
            }
            _ => {}
        }
        (form.ask == Ask::NullableTypes).then(|| nullable::check(ebpf, self.btf, self.types).err()).flatten()
    }

    /// Why no program may read memory that the verifier knows nothing of, if so.
    pub fn forbids_reading(&self) -> Option<String> {
        if self.is_disabled(READING) {
            return Some(format!("{READING} is switched off"));
        }
        let locked = self.environment.lockdown.as_deref() == Some(CONFIDENTIALITY);
        locked.then(|| "lockdown=confidentiality lets no program read the kernel's memory".to_owned())
    }

    fn try_attach(&self, ebpf: &mut Ebpf, spec: &HookSpec, form: &Form) -> Result<(), String> {
        if let Some(problem) = self.lacks(ebpf, spec, form) {
            return Err(problem);
        }
        let program = ebpf.program_mut(form.program).ok_or("the kernel object has no such program")?;
        match form.attachment {
            Attachment::RawTracepoint => {
                let program: &mut RawTracePoint = program.try_into().map_err(explain)?;
                program.load().map_err(explain)?;
                program.attach(spec.name).map_err(explain)?;
            }
            Attachment::BtfTracepoint => {
                let program: &mut BtfTracePoint = program.try_into().map_err(explain)?;
                program.load(spec.name, self.btf).map_err(explain)?;
                program.attach().map_err(explain)?;
            }
            Attachment::CgroupIngress => {
                let root = self.root_cgroup()?;
                let program: &mut CgroupSkb = program.try_into().map_err(explain)?;
                program.load().map_err(explain)?;
                let mode = CgroupAttachMode::Single;
                program.attach(root, CgroupSkbAttachType::Ingress, mode).map_err(explain)?;
            }
            Attachment::SockOps => {
                let root = self.root_cgroup()?;
                let program: &mut SockOps = program.try_into().map_err(explain)?;
                program.load().map_err(explain)?;
                program.attach(root, CgroupAttachMode::Single).map_err(explain)?;
            }
            Attachment::SockAddr => {
                let root = self.root_cgroup()?;
                let program: &mut CgroupSockAddr = program.try_into().map_err(explain)?;
                program.load().map_err(explain)?;
                program.attach(root, CgroupAttachMode::Single).map_err(explain)?;
            }
            Attachment::RawSockets => {
                let program: &mut SocketFilter = program.try_into().map_err(explain)?;
                program.load().map_err(explain)?;
            }
        }
        Ok(())
    }

    fn root_cgroup(&self) -> Result<File, String> {
        let root = self.environment.cgroup.as_deref().ok_or("cgroup v2 is not mounted")?;
        File::open(root).map_err(|error| format!("{}: {error}", root.display()))
    }
}

/// The form that runs, and what spoke against a better one.
struct Taken {
    form: Form,
    problem: Option<String>,
}

/// A hook that runs in another form, which sees as much, is as good as the best.
fn state(spec: &HookSpec, result: Result<Taken, String>) -> HookState {
    let (running, problem, lost) = match result {
        Ok(Taken { form, .. }) if form.lost.is_empty() => (true, None, spec.lost_evidence),
        Ok(Taken { form, problem }) => (true, problem, form.lost),
        Err(problem) => (false, Some(problem), spec.lost_evidence),
    };
    HookState { name: spec.name.to_owned(), running, problem, lost_evidence: lost.to_owned() }
}

/// Lines of the verifier's log that are kept: the last ones say what it did not like.
const VERIFIER_LINES: usize = 6;

fn explain(error: ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = &error else {
        return format!("{:#}", anyhow::Error::new(error));
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(VERIFIER_LINES)..).unwrap_or_default().join(" | ");
    if last.is_empty() {
        format!("the kernel refused it: {io_error}")
    } else {
        format!("the kernel refused it: {io_error}: {last}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(lost: &'static str) -> Taken {
        let form = Form { program: "p", attachment: Attachment::BtfTracepoint, ask: Ask::Types, lost };
        Taken { form, problem: Some("locked".to_owned()) }
    }

    #[test]
    fn what_stands_in_is_used_only_where_something_is_refused() {
        let stands_in = Need::InPlaceOf(&["one", "two"]);
        let states = |running: [bool; 2]| {
            let hook = |(name, running): (&str, bool)| HookState {
                name: name.to_owned(),
                running,
                problem: None,
                lost_evidence: String::new(),
            };
            ["one", "two"].into_iter().zip(running).map(hook).collect::<Vec<_>>()
        };
        let config = Config::default();
        assert!(!is_needed(stands_in, &states([true, true]), config));
        assert!(is_needed(stands_in, &states([true, false]), config));
    }

    #[test]
    fn a_form_that_sees_as_much_is_as_good() {
        assert!(!state(&HOOKS[0], Ok(taken(""))).sees_less());
        let less = state(&HOOKS[0], Ok(taken("packets")));
        assert!(less.running && less.sees_less());
        assert_eq!((less.problem.as_deref(), less.lost_evidence.as_str()), (Some("locked"), "packets"));
        assert!(state(&HOOKS[0], Err("no".to_owned())).sees_less());
    }
}
