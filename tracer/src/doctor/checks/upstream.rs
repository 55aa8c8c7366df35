//! Connections to upstreams: kept longer than the upstream keeps them, or not kept although that was meant.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::seen;
use crate::doctor::Facts;
use crate::doctor::facts::NginxFacts;
use crate::doctor::report::{Seen, Severity};
use crate::nginx::config::tree::Block;
use crate::nginx::config::value::{Address, Hosts, milliseconds, upstream};
use crate::output::layout::span;

/// From this version on connections to upstream groups are kept, over HTTP/1.1, unless the configuration says
/// otherwise (changes of 1.29.7).
const KEEPS_BY_DEFAULT: (u32, u32, u32) = (1, 29, 7);

/// `keepalive_timeout` of an upstream group that sets none (`ngx_http_upstream_keepalive_module`).
const DEFAULT_IDLE_MS: u64 = 60_000;

/// Idle times after which servers close by default, milliseconds, as their documentation states them.
const SERVERS: [(&str, u64); 7] = [
    ("node", 5000),
    ("gunicorn", 2000),
    ("uvicorn", 5000),
    ("hypercorn", 5000),
    ("apache2", 5000),
    ("httpd", 5000),
    ("lighttpd", 5000),
];

/// An upstream group that keeps connections.
struct Keeping<'a> {
    name: &'a str,
    idle_ms: u64,
    is_default: bool,
    servers: BTreeSet<SocketAddr>,
}

pub(super) fn idle(facts: &Facts) -> Vec<Seen> {
    facts
        .nginx
        .iter()
        .flat_map(|nginx| groups(nginx).into_iter().flat_map(move |group| too_long(nginx, &group)))
        .collect()
}

fn groups(nginx: &NginxFacts) -> Vec<Keeping<'_>> {
    let keeps_by_default = nginx.is_at_least(KEEPS_BY_DEFAULT).unwrap_or(false);
    let groups = nginx.tree.of_kind("upstream").map(|(_, block)| block);
    groups.filter(|block| keeps(block, keeps_by_default)).map(keeping).collect()
}

fn keeps(block: &Block, by_default: bool) -> bool {
    let size =
        block.directives.iter().find(|one| one.name == "keepalive").and_then(|one| one.arguments.first());
    size.map_or(by_default, |size| size != "0")
}

fn keeping(block: &Block) -> Keeping<'_> {
    let first = |name: &str| block.directives.iter().find(|one| one.name == name)?.arguments.first();
    let told = first("keepalive_timeout").and_then(|text| milliseconds(text));
    let servers = block.directives.iter().filter(|one| one.name == "server");
    let hosts = Hosts::default();
    let known = servers.filter_map(|one| match upstream(one.arguments.first()?, 80, &hosts) {
        Address::Known(addresses) => Some(addresses),
        _ => None,
    });
    Keeping {
        name: block.arguments.first().map_or("", String::as_str),
        idle_ms: told.unwrap_or(DEFAULT_IDLE_MS),
        is_default: told.is_none(),
        servers: known.flatten().collect(),
    }
}

fn too_long(nginx: &NginxFacts, group: &Keeping<'_>) -> Vec<Seen> {
    let measured = nginx.measured_idle.iter().filter(|one| group.servers.contains(&one.address));
    let measured: Vec<Seen> = measured
        .filter(|one| one.idle_ms <= group.idle_ms)
        .map(|one| {
            let how = format!("measured in {} incidents", one.times);
            finding(group, one.address, one.idle_ms, &how, Severity::Critical)
        })
        .collect();
    if !measured.is_empty() {
        return measured;
    }
    let local = nginx.local_upstreams.iter().filter(|one| group.servers.contains(&one.address));
    let known = local.filter_map(|one| {
        let (name, idle_ms) = SERVERS.iter().find(|(name, _)| *name == one.program)?;
        let how = format!("the default of {name}, which listens there");
        (*idle_ms <= group.idle_ms).then(|| finding(group, one.address, *idle_ms, &how, Severity::Warning))
    });
    known.collect()
}

fn finding(group: &Keeping<'_>, server: SocketAddr, idle_ms: u64, how: &str, severity: Severity) -> Seen {
    let default = if group.is_default { " (the default)" } else { "" };
    let lower = (idle_ms / 1000).saturating_sub(1).max(1);
    seen(
        severity,
        format!("upstream {}, server {server}", group.name),
        format!(
            "Nginx keeps idle connections {}{default}, the upstream {} ({how})",
            span(group.idle_ms),
            span(idle_ms)
        ),
        "Nginx sometimes sends a request at the moment the upstream closes: recv() failed (104) or upstream prematurely \
         closed connection, and a 502 where the request must not be repeated",
        format!(
            "keepalive_timeout {lower}s; in upstream {}, or let the upstream keep idle connections longer than {}",
            group.name,
            span(group.idle_ms)
        ),
    )
}

/// A group with `keepalive` is of no use to a location that closes after each request.
pub(super) fn unused(facts: &Facts) -> Vec<Seen> {
    facts.nginx.iter().flat_map(closing_locations).collect()
}

fn closing_locations(nginx: &NginxFacts) -> Vec<Seen> {
    if nginx.is_at_least(KEEPS_BY_DEFAULT) == Some(true) {
        return Vec::new();
    }
    let keeping: BTreeSet<&str> = groups(nginx).iter().map(|group| group.name).collect();
    let tree = &nginx.tree;
    let mut found = Vec::new();
    for (block, pass) in tree.named("proxy_pass").filter(|(block, _)| tree.is_inside(*block, "http")) {
        let Some(group) = pass.arguments.first().and_then(|target| group_of(target)) else { continue };
        if !keeping.contains(group) {
            continue;
        }
        let version = tree.value(block, "proxy_http_version").unwrap_or("1.0");
        let headers = tree.holding(block, "proxy_set_header");
        let connection = headers
            .iter()
            .find(|one| one.arguments.first().is_some_and(|name| name.eq_ignore_ascii_case("connection")));
        let value = connection.and_then(|one| one.arguments.get(1)).map_or("close", String::as_str);
        if version != "1.0" && value != "close" {
            continue;
        }
        found.push(seen(
            Severity::Warning,
            format!("{} to upstream {group}", tree.place(block)),
            format!("proxy_http_version {version}, Connection \"{value}\""),
            "The group has keepalive, but every request opens a connection and closes it: more handshakes, more ports \
             in TIME-WAIT, more queue at the upstream",
            "proxy_http_version 1.1; proxy_set_header Connection \"\"; in this location",
        ));
    }
    found
}

/// The group that `http://group/uri` names.
fn group_of(target: &str) -> Option<&str> {
    let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
    rest.split(['/', '?']).next().filter(|name| !name.is_empty() && !name.contains('$'))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{only, with};
    use super::*;
    use crate::doctor::facts::{LocalUpstream, MeasuredIdle};

    const GROUP: &str = "http { upstream app { server 127.0.0.1:3000; keepalive 8; } }";

    fn address() -> SocketAddr {
        "127.0.0.1:3000".parse().unwrap()
    }

    fn local(nginx: &mut NginxFacts, program: &str) {
        nginx.local_upstreams.push(LocalUpstream { address: address(), program: program.to_owned() });
    }

    #[test]
    fn a_known_server_closes_sooner_than_the_default() {
        let facts = with(GROUP, |nginx| local(nginx, "node"));
        let found = idle(&facts);
        let one = only(&found, Severity::Warning);
        assert!(one.seen.contains("1 min 0 s (the default), the upstream 5.0 s"), "{}", one.seen);
        assert!(one.change.contains("keepalive_timeout 4s;"), "{}", one.change);
        assert_eq!(idle(&with(GROUP, |nginx| local(nginx, "haproxy"))), []);
        let short = "http { upstream app { server 127.0.0.1:3000; keepalive 8; keepalive_timeout 4s; } }";
        assert_eq!(idle(&with(short, |nginx| local(nginx, "node"))), []);
        let none = "http { upstream app { server 127.0.0.1:3000; } }";
        assert_eq!(idle(&with(none, |nginx| local(nginx, "node"))), []);
        let newer = with(none, |nginx| {
            local(nginx, "node");
            nginx.version = Some((1, 31, 0));
        });
        only(&idle(&newer), Severity::Warning);
    }

    #[test]
    fn what_was_measured_weighs_more_than_what_is_usual() {
        let measure = |idle_ms| {
            with(GROUP, |nginx| {
                local(nginx, "node");
                nginx.measured_idle.push(MeasuredIdle { address: address(), idle_ms, times: 3 });
            })
        };
        let found = idle(&measure(15_000));
        assert!(only(&found, Severity::Critical).seen.contains("measured in 3 incidents"));
        only(&idle(&measure(90_000)), Severity::Warning);
    }

    #[test]
    fn keepalive_needs_both_settings_of_the_location() {
        let location = |inner: &str| {
            let text = format!(
                "http {{ upstream app {{ server 127.0.0.1:3000; keepalive 8; }} server {{ location / {{ {inner} proxy_pass http://app/x; }} }} }}"
            );
            with(&text, |_| {})
        };
        let found = unused(&location("proxy_http_version 1.1;"));
        assert!(only(&found, Severity::Warning).seen.contains("Connection \"close\""));
        only(&unused(&location("proxy_set_header Connection \"\";")), Severity::Warning);
        assert_eq!(unused(&location("proxy_http_version 1.1; proxy_set_header connection \"\";")), []);
        let other = with(
            "http { upstream a { server 1.1.1.1; } server { location / { proxy_pass http://a; } } }",
            |_| {},
        );
        assert_eq!(unused(&other), []);
        let mut newer = location("");
        newer.nginx[0].version = Some((1, 30, 0));
        assert_eq!(unused(&newer), []);
    }
}
