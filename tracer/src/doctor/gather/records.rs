//! Records of the kernel's log and of the audit log: OOM kills and refused accesses. Pure.

use std::time::Duration;

use crate::doctor::facts::{Denial, OomKill};

/// Different refusals kept.
const DENIALS_LIMIT: usize = 32;
/// Longest record shown, bytes.
const RECORD_LIMIT: usize = 400;

/// `…Out of memory: Killed process 123 (name) …` (`__oom_kill_process` in `mm/oom_kill.c`), also of a memory cgroup.
/// The record begins with priority, sequence number and microseconds since boot.
pub(super) fn oom_kill(record: &str, now: Duration) -> Option<OomKill> {
    let (head, message) = record.split_once(';')?;
    let microseconds: u64 = head.split(',').nth(2)?.parse().ok()?;
    let (_, rest) = message.split_once("Killed process ")?;
    let (pid, rest) = rest.split_once(" (")?;
    let name = rest.split_once("), ").or_else(|| rest.split_once(')'))?.0;
    let ago = now.saturating_sub(Duration::from_micros(microseconds));
    Some(OomKill { pid: pid.parse().ok()?, name: name.to_owned(), ago_s: ago.as_secs() })
}

/// Refusals that concern Nginx, each kind once with its number.
pub(super) fn denials<'a>(records: impl Iterator<Item = &'a str>) -> Vec<Denial> {
    let mut found: Vec<Denial> = Vec::new();
    for (module, record) in records.filter_map(denial) {
        if let Some(known) = found.iter_mut().find(|known| known.module == module && known.record == record) {
            known.times += 1;
        } else if found.len() < DENIALS_LIMIT {
            found.push(Denial { module, record, times: 1 });
        }
    }
    found
}

fn denial(record: &str) -> Option<(&'static str, String)> {
    if !record.contains("nginx") && !record.contains("httpd_t") {
        return None;
    }
    let kinds =
        [("SELinux", "avc:  denied"), ("SELinux", "avc: denied"), ("AppArmor", "apparmor=\"DENIED\"")];
    let (module, at) = kinds.iter().find_map(|(module, mark)| Some((*module, record.find(mark)?)))?;
    let line = record[at..].lines().next().unwrap_or_default();
    // Pids differ from time to time; without them the same refusal is the same text.
    let words =
        line.split_ascii_whitespace().filter(|word| !word.starts_with("pid=") && !word.starts_with("ino="));
    let mut text = words.collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = text.char_indices().find(|(end, _)| *end >= RECORD_LIMIT) {
        text.truncate(end);
    }
    Some((module, text))
}

/// The number behind a name that begins a line.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn victims_of_both_kinds() {
        let global = "3,1204,60000000,-;Out of memory: Killed process 812 (node (x)), UID 33, total-vm:1kB";
        let found = oom_kill(global, Duration::from_secs(100)).unwrap();
        assert_eq!(found, OomKill { pid: 812, name: "node (x)".to_owned(), ago_s: 40 });
        let cgroup =
            "3,5,1,-;Memory cgroup out of memory: Killed process 9 (php-fpm8.2) total-vm:1kB\n SUBSYSTEM=x";
        assert_eq!(oom_kill(cgroup, Duration::ZERO).unwrap().name, "php-fpm8.2");
        for other in
            ["", "3,1,1,-;Killed by signal", "x;Killed process 1 (a)", "3,1,1,-;Killed process x (a)"]
        {
            assert_eq!(oom_kill(other, Duration::ZERO), None, "{other}");
        }
    }

    #[test]
    fn refusals_of_nginx_are_counted_by_kind() {
        let selinux = "type=AVC msg=audit(1.2:3): avc:  denied  { name_connect } for  pid=7 comm=\"nginx\" dest=8080 tclass=tcp_socket";
        let again = selinux.replace("pid=7", "pid=8");
        let apparmor = "5,1,1,-;audit: type=1400 audit(1.2:3): apparmor=\"DENIED\" operation=\"open\" profile=\"/usr/sbin/nginx\" name=\"/x\" pid=7";
        let other = "5,1,1,-;apparmor=\"DENIED\" operation=\"open\" profile=\"/usr/bin/man\"";
        let found = denials([selinux, &again, apparmor, other].into_iter());
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].module, found[0].times), ("SELinux", 2));
        assert!(found[0].record.contains("name_connect") && !found[0].record.contains("pid="));
        assert_eq!((found[1].module, found[1].times), ("AppArmor", 1));
    }

    #[test]
    fn fields_are_whole_names() {
        assert_eq!(field("oom_killer 1\noom_kill 4\n", "oom_kill"), Some(4));
        assert_eq!(field("", "oom_kill"), None);
    }
}
