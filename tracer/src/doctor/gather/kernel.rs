//! The kernel: what it says of itself, and which hooks it takes. The trial loads and attaches every hook for a moment,
//! without telling it any connection, so that nothing is reported.

use std::path::Path;

use super::Notes;
use crate::doctor::facts::KernelFacts;
use crate::probe::environment::{KERNEL_BTF, below_floor, missing_capabilities};
use crate::probe::load::Settings;
use crate::probe::{Environment, Probe, Sizes};

pub(super) fn facts(notes: &mut Notes) -> KernelFacts {
    let environment = Environment::look();
    let missing = missing_capabilities().unwrap_or_default();
    let mut facts = KernelFacts {
        release: environment.kernel.clone(),
        too_old: below_floor(&environment.kernel),
        lockdown: environment.lockdown.clone(),
        btf: Path::new(KERNEL_BTF).exists(),
        cgroup: environment.cgroup.as_ref().map(|path| path.display().to_string()),
        missing_capabilities: missing.iter().map(|name| (*name).to_owned()).collect(),
        hooks: Vec::new(),
        trial_problem: None,
    };
    if facts.lockdown.is_none() {
        let why = "securityfs is not mounted; the trial of the hooks shows what it would forbid";
        notes.add("lockdown", why, &["kernel_lockdown"]);
    }
    if missing.is_empty() {
        try_hooks(&mut facts, &environment);
    } else {
        let why = format!("a trial needs {}; run it as root", missing.join(", "));
        notes.add("which hooks run", why, &["kernel_hooks"]);
    }
    facts
}

fn try_hooks(facts: &mut KernelFacts, environment: &Environment) {
    let settings = Settings {
        netns: 0,
        upstream_filter: false,
        sizes: Sizes::of(1, 0),
        btf: None,
        disabled: Vec::new(),
    };
    match Probe::load(&settings, environment) {
        Ok(probe) => facts.hooks.clone_from(&probe.hooks),
        Err(problem) => facts.trial_problem = Some(problem.to_string()),
    }
}
