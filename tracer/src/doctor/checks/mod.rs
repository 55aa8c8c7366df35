//! The checks: data, each a slug, a question, and a pure function over the facts. A check that needs what could not be
//! seen finds nothing; that it was blind stands in the facts.

mod access;
mod host;
mod kernel;
mod limits;
mod listen;
mod logs;
mod network;
mod proxy;
mod upstream;

#[cfg(test)]
mod testing;

use super::Facts;
use super::report::{Seen, Severity};

/// One check.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Stable name.
    pub slug: &'static str,
    /// What it asks.
    pub title: &'static str,
    /// Finds.
    pub run: fn(&Facts) -> Vec<Seen>,
}

/// Every check, in the order in which a person would ask.
pub const CHECKS: &[Check] = &[
    check("kernel_hooks", "Can every hook run on this kernel?", kernel::hooks),
    check("kernel_lockdown", "Does lockdown let programs read kernel memory?", kernel::lockdown),
    check("kernel_btf", "Does the kernel describe its types (BTF)?", kernel::btf),
    check("kernel_cgroup", "Is cgroup v2 mounted?", kernel::cgroup),
    check("kernel_capabilities", "Has this process the capabilities for the hooks?", kernel::capabilities),
    check(
        "keepalive_idle",
        "Does Nginx keep idle upstream connections longer than the upstream?",
        upstream::idle,
    ),
    check("keepalive_unused", "Can connections to upstreams be kept at all?", upstream::unused),
    check("retry_non_idempotent", "Are requests repeated that may have taken effect?", proxy::retries),
    check("retry_unbounded", "Is the number of retries bounded?", proxy::unbounded),
    check("reset_on_timeout", "Does Nginx reset timed-out connections on purpose?", proxy::reset_on_timeout),
    check("lingering_close", "Does Nginx close while clients still send?", proxy::lingering),
    check("shutdown_timeout", "Do reloads cut connections?", proxy::shutdown),
    check("listen_backlog", "Is a listener's queue as long as configured?", listen::backlog),
    check("listen_syn_queue", "Does the SYN queue limit new connections?", listen::syn_queue),
    check("listen_queue_now", "Is a listener's queue filling up now?", listen::now),
    check("listen_overflows", "Did listeners overflow since boot?", listen::overflows),
    check("listen_abort", "Does a full queue reset clients?", listen::abort),
    check("worker_files", "May workers open enough files for their connections?", limits::files),
    check("worker_use", "Are workers near a limit now?", limits::usage),
    check("ephemeral_ports", "Are there ports enough for upstream connections?", network::ports),
    check("conntrack_table", "Is the connection tracking table filling up?", network::conntrack_table),
    check(
        "conntrack_timeout",
        "Does connection tracking forget idle connections early?",
        network::conntrack_timeout,
    ),
    check("error_log_level", "What does the level of error.log hide?", logs::level),
    check("error_log_target", "Can error.log be read?", logs::target),
    check("access_log_fields", "Does access.log say what a failure needs?", logs::fields),
    check("security_denials", "Did SELinux or AppArmor refuse something to Nginx?", access::denials),
    check("unix_sockets", "Are unix sockets of upstreams there and permitted?", access::unix_sockets),
    check("oom_kills", "Did the OOM killer strike lately?", host::oom),
    check("clock", "Is the clock synchronised?", host::clock),
    check("configuration", "Could the configuration be read whole?", host::configuration),
];

const fn check(slug: &'static str, title: &'static str, run: fn(&Facts) -> Vec<Seen>) -> Check {
    Check { slug, title, run }
}

/// A finding.
fn seen(
    severity: Severity,
    subject: impl Into<String>,
    value: impl Into<String>,
    why: impl Into<String>,
    change: impl Into<String>,
) -> Seen {
    Seen { severity, subject: subject.into(), seen: value.into(), why: why.into(), change: change.into() }
}

/// `part` of `whole` in percent, rounded down.
fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique_and_documented() {
        let page = include_str!("../../../../docs/doctor.md");
        for (number, check) in CHECKS.iter().enumerate() {
            assert!(page.contains(&format!("`{}`", check.slug)), "{} is not in docs/doctor.md", check.slug);
            assert!(CHECKS[..number].iter().all(|other| other.slug != check.slug), "{}", check.slug);
        }
    }

    #[test]
    fn without_facts_only_the_kernel_is_complained_about() {
        let found: Vec<&str> = CHECKS
            .iter()
            .filter(|check| !(check.run)(&Facts::default()).is_empty())
            .map(|check| check.slug)
            .collect();
        assert_eq!(found, ["kernel_btf", "kernel_cgroup"]);
    }
}
