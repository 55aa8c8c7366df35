//! The kernel part: what the hooks need, and what a trial of them showed.

use super::seen;
use crate::doctor::Facts;
use crate::doctor::report::{Seen, Severity};

/// Hooks without which no reset is seen.
const RESETS: [&str; 2] = ["tcp_receive_reset", "tcp_send_reset"];

pub(super) fn hooks(facts: &Facts) -> Vec<Seen> {
    let kernel = &facts.kernel;
    let off = kernel.hooks.iter().filter(|hook| !hook.running);
    let mut found: Vec<Seen> = off
        .map(|hook| {
            let severity =
                if RESETS.contains(&hook.name.as_str()) { Severity::Critical } else { Severity::Warning };
            let problem = hook.problem.as_deref().unwrap_or("not attached");
            let why = format!("Without it is lost: {}", hook.lost_evidence);
            seen(
                severity,
                format!("hook {}", hook.name),
                problem,
                why,
                "See docs/kernels.md for kernels where it runs",
            )
        })
        .collect();
    if let Some(problem) = &kernel.trial_problem {
        let change = if kernel.too_old { "A kernel of 5.8 or later" } else { "See docs/kernels.md" };
        let why = "No reset can be seen; the log alone speaks, and nothing can be proven";
        found.push(seen(Severity::Critical, "hooks", problem, why, change));
    }
    found
}

pub(super) fn lockdown(facts: &Facts) -> Vec<Seen> {
    if facts.kernel.lockdown.as_deref() != Some("confidentiality") {
        return Vec::new();
    }
    let why = "Programs may not read the kernel's memory, so most hooks see nothing";
    let change = "Boot with lockdown=integrity or without lockdown to trace";
    vec![seen(Severity::Critical, "lockdown", "confidentiality", why, change)]
}

pub(super) fn btf(facts: &Facts) -> Vec<Seen> {
    if facts.kernel.btf {
        return Vec::new();
    }
    let why = "The hooks find the kernel's structures by this description";
    let change = "A kernel built with CONFIG_DEBUG_INFO_BTF, or rstscope trace --btf FILE made for exactly this kernel";
    vec![seen(Severity::Critical, "BTF", "no /sys/kernel/btf/vmlinux", why, change)]
}

pub(super) fn cgroup(facts: &Facts) -> Vec<Seen> {
    if facts.kernel.cgroup.is_some() {
        return Vec::new();
    }
    let why = "The headers of received RSTs (TTL, flags, options) are read there: without them no middlebox is proven";
    let change = "mount -t cgroup2 none /sys/fs/cgroup/unified (also beside v1)";
    vec![seen(Severity::Warning, "cgroup v2", "not mounted", why, change)]
}

pub(super) fn capabilities(facts: &Facts) -> Vec<Seen> {
    let missing = &facts.kernel.missing_capabilities;
    if missing.is_empty() {
        return Vec::new();
    }
    let why = "rstscope trace loads kernel programs, and refuses to start without them";
    let change = "Run it as root, or grant them to its service (AmbientCapabilities)";
    vec![seen(Severity::Warning, "this process", format!("lacks {}", missing.join(", ")), why, change)]
}

#[cfg(test)]
mod tests {
    use super::super::testing::only;
    use super::*;
    use crate::model::HookState;

    fn hook(name: &str, running: bool) -> HookState {
        HookState {
            name: name.to_owned(),
            running,
            problem: (!running).then(|| "this kernel has no such tracepoint".to_owned()),
            lost_evidence: "something".to_owned(),
        }
    }

    #[test]
    fn hooks_that_see_resets_weigh_more() {
        let mut facts = Facts::default();
        facts.kernel.hooks = vec![hook("tcp_receive_reset", true), hook("mark_victim", true)];
        assert_eq!(hooks(&facts), []);
        facts.kernel.hooks = vec![hook("tcp_receive_reset", true), hook("mark_victim", false)];
        assert!(only(&hooks(&facts), Severity::Warning).seen.contains("no such tracepoint"));
        facts.kernel.hooks = vec![hook("tcp_receive_reset", false)];
        assert_eq!(only(&hooks(&facts), Severity::Critical).subject, "hook tcp_receive_reset");
        facts.kernel.hooks.clear();
        facts.kernel.trial_problem = Some("cannot create the kernel maps".to_owned());
        only(&hooks(&facts), Severity::Critical);
    }

    #[test]
    fn only_confidentiality_is_a_problem() {
        let mut facts = Facts::default();
        for mode in ["none", "integrity"] {
            facts.kernel.lockdown = Some(mode.to_owned());
            assert_eq!(lockdown(&facts), []);
        }
        facts.kernel.lockdown = Some("confidentiality".to_owned());
        only(&lockdown(&facts), Severity::Critical);
    }

    #[test]
    fn btf_cgroup_and_capabilities() {
        let mut facts = Facts::default();
        only(&btf(&facts), Severity::Critical);
        only(&cgroup(&facts), Severity::Warning);
        facts.kernel.btf = true;
        facts.kernel.cgroup = Some("/sys/fs/cgroup".to_owned());
        assert_eq!((btf(&facts), cgroup(&facts), capabilities(&facts)), (vec![], vec![], vec![]));
        facts.kernel.missing_capabilities = vec!["CAP_BPF".to_owned()];
        assert!(only(&capabilities(&facts), Severity::Warning).seen.contains("CAP_BPF"));
    }
}
