//! Directives that make Nginx repeat requests, or reset and cut connections by itself.

use super::seen;
use crate::doctor::Facts;
use crate::doctor::facts::NginxFacts;
use crate::doctor::report::{Seen, Severity};
use crate::nginx::config::value::milliseconds;

/// Reloads that cut connections sooner than this are worth a word, milliseconds.
const SHORT_SHUTDOWN_MS: u64 = 60_000;

/// Groups with more servers than this can make one request fail slowly many times.
const MANY_SERVERS: usize = 3;

pub(super) fn retries(facts: &Facts) -> Vec<Seen> {
    let directives =
        ["proxy", "fastcgi", "uwsgi", "scgi", "grpc"].map(|module| format!("{module}_next_upstream"));
    let mut found = Vec::new();
    for nginx in &facts.nginx {
        for name in &directives {
            for (block, one) in nginx.tree.named(name) {
                if one.arguments.iter().any(|word| word == "non_idempotent") {
                    found.push(seen(
                        Severity::Warning,
                        nginx.tree.place(block),
                        format!("{name} {}", one.arguments.join(" ")),
                        "POST, PATCH and LOCK requests go to the next upstream after a failure, although the first may \
                         have carried them out: orders and payments happen twice",
                        format!("Leave non_idempotent out of {name}, or make the upstream recognise repetitions"),
                    ));
                }
            }
        }
    }
    found
}

pub(super) fn unbounded(facts: &Facts) -> Vec<Seen> {
    facts.nginx.iter().filter_map(many_servers).collect()
}

/// One finding for all groups: it is a default that nobody changed.
fn many_servers(nginx: &NginxFacts) -> Option<Seen> {
    let tree = &nginx.tree;
    let bounded = ["proxy_next_upstream_tries", "proxy_next_upstream_timeout"];
    let is_bounded =
        |block: usize| bounded.iter().any(|name| tree.value(block, name).is_some_and(|value| value != "0"));
    let is_off = |block: usize| tree.value(block, "proxy_next_upstream") == Some("off");
    let groups = tree.of_kind("upstream").filter(|(_, block)| {
        block.directives.iter().filter(|one| one.name == "server").count() > MANY_SERVERS
    });
    let large: Vec<&str> =
        groups.filter_map(|(_, block)| block.arguments.first().map(String::as_str)).collect();
    let passes = tree.named("proxy_pass").filter(|(block, _)| !is_bounded(*block) && !is_off(*block));
    let mut hit: Vec<&str> = passes
        .filter_map(|(_, one)| {
            let target = one.arguments.first()?;
            large
                .iter()
                .find(|name| target.split("://").last().and_then(|rest| rest.split('/').next()) == Some(name))
        })
        .copied()
        .collect();
    hit.sort_unstable();
    hit.dedup();
    (!hit.is_empty()).then(|| {
        seen(
            Severity::Notice,
            format!("upstream {}", hit.join(", ")),
            format!("more than {MANY_SERVERS} servers, proxy_next_upstream_tries and _timeout unlimited"),
            "One bad request, or one slow moment, is tried on every server of the group: a small fault takes all of \
             them down for fail_timeout (no live upstreams)",
            "proxy_next_upstream_tries 2; proxy_next_upstream_timeout 10s;",
        )
    })
}

pub(super) fn reset_on_timeout(facts: &Facts) -> Vec<Seen> {
    let on = |nginx: &NginxFacts| {
        let (block, _) =
            nginx.tree.named("reset_timedout_connection").find(|(_, one)| is(&one.arguments, "on"))?;
        Some(seen(
            Severity::Notice,
            nginx.tree.place(block),
            "reset_timedout_connection on",
            "Clients that are too slow, and every return 444, get a RST from Nginx: these resets are on purpose",
            "reset_timedout_connection off; if clients complain about resets",
        ))
    };
    facts.nginx.iter().filter_map(on).collect()
}

pub(super) fn lingering(facts: &Facts) -> Vec<Seen> {
    let off = |nginx: &NginxFacts| {
        let (block, _) = nginx.tree.named("lingering_close").find(|(_, one)| is(&one.arguments, "off"))?;
        Some(seen(
            Severity::Warning,
            nginx.tree.place(block),
            "lingering_close off",
            "An error answered before the whole request body has come (413, 401, 444) is closed with unread bytes: the \
             kernel sends a RST, and the client often loses the answer, too",
            "lingering_close on; (the default)",
        ))
    };
    facts.nginx.iter().filter_map(off).collect()
}

pub(super) fn shutdown(facts: &Facts) -> Vec<Seen> {
    let short = |nginx: &NginxFacts| {
        let (_, one) = nginx.tree.named("worker_shutdown_timeout").next()?;
        let text = one.arguments.first()?;
        milliseconds(text).filter(|time| *time > 0 && *time < SHORT_SHUTDOWN_MS)?;
        Some(seen(
            Severity::Notice,
            "main",
            format!("worker_shutdown_timeout {text}"),
            "At each reload connections that live longer (downloads, websockets, gRPC streams) are cut by the old workers",
            "worker_shutdown_timeout longer than the longest ordinary request, and fewer reloads",
        ))
    };
    facts.nginx.iter().filter_map(short).collect()
}

fn is(arguments: &[String], word: &str) -> bool {
    arguments.first().is_some_and(|first| first == word)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{only, with};
    use super::*;

    #[test]
    fn repeated_posts_are_warned_of() {
        let facts = with(
            "http { server { location /pay { proxy_next_upstream error timeout non_idempotent; } } }",
            |_| {},
        );
        let found = retries(&facts);
        assert!(only(&found, Severity::Warning).subject.ends_with("location /pay"));
        assert_eq!(retries(&with("http { proxy_next_upstream error timeout; }", |_| {})), []);
    }

    #[test]
    fn only_large_groups_without_a_bound() {
        let group = |servers: usize, bound: &str| {
            let servers = "server 10.0.0.1; ".repeat(servers);
            with(
                &format!(
                    "http {{ upstream a {{ {servers} }} server {{ {bound} location / {{ proxy_pass http://a/x; }} }} }}"
                ),
                |_| {},
            )
        };
        only(&unbounded(&group(4, "")), Severity::Notice);
        only(&unbounded(&group(4, "proxy_next_upstream_tries 0;")), Severity::Notice);
        assert_eq!(unbounded(&group(3, "")), []);
        assert_eq!(unbounded(&group(4, "proxy_next_upstream_tries 2;")), []);
        assert_eq!(unbounded(&group(4, "proxy_next_upstream off;")), []);
    }

    #[test]
    fn directives_that_reset_or_cut() {
        let bad = with(
            "worker_shutdown_timeout 10s; http { reset_timedout_connection on; lingering_close off; }",
            |_| {},
        );
        only(&reset_on_timeout(&bad), Severity::Notice);
        only(&lingering(&bad), Severity::Warning);
        only(&shutdown(&bad), Severity::Notice);
        let good = with(
            "worker_shutdown_timeout 4m; http { reset_timedout_connection off; lingering_close always; }",
            |_| {},
        );
        assert_eq!((reset_on_timeout(&good), lingering(&good), shutdown(&good)), (vec![], vec![], vec![]));
    }
}
