//! The host: memory, clock, and what of the configuration could not be read.

use std::collections::BTreeMap;

use super::seen;
use crate::doctor::Facts;
use crate::doctor::facts::{NginxFacts, OomKill};
use crate::doctor::report::{Seen, Severity};
use crate::output::layout::{count, span};

/// OOM kills longer ago are history, seconds.
const RECENT_S: u64 = 24 * 3600;

pub(super) fn oom(facts: &Facts) -> Vec<Seen> {
    let recent = facts.host.oom_kills.iter().filter(|kill| kill.ago_s <= RECENT_S);
    let mut by_name: BTreeMap<&str, Vec<&OomKill>> = BTreeMap::new();
    for kill in recent {
        by_name.entry(&kill.name).or_default().push(kill);
    }
    let mut found: Vec<Seen> =
        by_name.iter().filter_map(|(name, kills)| victims(facts, name, kills)).collect();
    if let (true, Some(total @ 1..)) = (found.is_empty(), facts.host.oom_total) {
        let why = "A killed upstream resets all its connections at once; the kernel's log names the victims";
        let value = format!(
            "{} since boot, none was seen in the kernel's log of the last day",
            count(total, "OOM kill")
        );
        found.push(seen(Severity::Notice, "OOM killer", value, why, "journalctl -k -g 'Killed process'"));
    }
    found
}

/// One finding for all processes of a name.
fn victims(facts: &Facts, name: &str, kills: &[&OomKill]) -> Option<Seen> {
    let latest = kills.iter().min_by_key(|kill| kill.ago_s)?;
    let serves = facts.nginx.iter().flat_map(|nginx| &nginx.local_upstreams).any(|one| one.program == name);
    let severity = if serves || name == "nginx" { Severity::Critical } else { Severity::Warning };
    let ago = span(latest.ago_s.saturating_mul(1000));
    Some(seen(
        severity,
        name,
        format!(
            "killed by the OOM killer {} in the last day, last {ago} ago (pid {})",
            count(kills.len() as u64, "time"),
            latest.pid
        ),
        "A process that is killed loses all its connections in one moment: resets and 502s in bulk",
        "More memory for it (MemoryMax= of its unit, the container's limit), or fewer and smaller workers",
    ))
}

pub(super) fn clock(facts: &Facts) -> Vec<Seen> {
    if facts.host.clock_synchronised != Some(false) {
        return Vec::new();
    }
    let why = "Logs and records of several hosts can only be compared when their clocks agree";
    let change = "systemctl enable --now chrony (or systemd-timesyncd)";
    vec![seen(Severity::Notice, "clock", "not synchronised (adjtimex: STA_UNSYNC)", why, change)]
}

pub(super) fn configuration(facts: &Facts) -> Vec<Seen> {
    let halves = |nginx: &NginxFacts| {
        let first = nginx.problems.first()?;
        let more = match nginx.problems.len() {
            1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        Some(seen(
            Severity::Notice,
            format!("Nginx {}", nginx.master),
            format!("{first}{more}"),
            "What could not be read was not checked, and is not known to verdicts",
            "Run it as root; names that only DNS knows are not asked, on purpose",
        ))
    };
    facts.nginx.iter().filter_map(halves).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{only, with};
    use super::*;
    use crate::doctor::facts::LocalUpstream;

    fn kill(name: &str, ago_s: u64) -> OomKill {
        OomKill { pid: 5, name: name.to_owned(), ago_s }
    }

    #[test]
    fn victims_that_serve_nginx_weigh_more() {
        let mut facts = with("", |nginx| {
            let address = "127.0.0.1:3000".parse().unwrap();
            nginx.local_upstreams.push(LocalUpstream { address, program: "node".to_owned() });
        });
        assert_eq!(oom(&facts), []);
        facts.host.oom_kills = vec![kill("node", 60)];
        only(&oom(&facts), Severity::Critical);
        facts.host.oom_kills = vec![kill("node", 60), kill("node", 7)];
        assert!(
            only(&oom(&facts), Severity::Critical).seen.contains("2 times in the last day, last 7.0 s ago")
        );
        facts.host.oom_kills = vec![kill("cc1plus", 60)];
        only(&oom(&facts), Severity::Warning);
        facts.host.oom_kills = vec![kill("node", RECENT_S + 1)];
        assert_eq!(oom(&facts), []);
        facts.host.oom_total = Some(2);
        only(&oom(&facts), Severity::Notice);
    }

    #[test]
    fn an_unknown_clock_is_not_a_wrong_one() {
        let mut facts = Facts::default();
        for (state, number) in [(None, 0), (Some(true), 0), (Some(false), 1)] {
            facts.host.clock_synchronised = state;
            assert_eq!(clock(&facts).len(), number);
        }
    }

    #[test]
    fn a_half_read_configuration_is_told() {
        assert_eq!(configuration(&with("", |_| {})), []);
        let facts = with("", |nginx| nginx.problems = vec!["a: missing".to_owned(), "b".to_owned()]);
        assert_eq!(only(&configuration(&facts), Severity::Notice).seen, "a: missing (and 1 more)");
    }
}
