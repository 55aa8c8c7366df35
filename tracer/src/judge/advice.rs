//! What to change, in which directive or sysctl, from the values actually seen. One piece of advice per cause;
//! none where nothing on this side helps.

mod ends;
mod unix;

use crate::model::QueueKind;
use crate::model::verdict::{Advice, Cause};

use super::case::{Case, Races};
use super::detect::{icmp_error, is_taken_over};
use super::device;
use super::unix::Unix;

/// The advice for a cause.
pub fn advice(case: &Case, slug: Cause) -> Vec<Advice> {
    if let Some(unix) = Unix::of(case) {
        return unix::advice(&unix);
    }
    match slug {
        Cause::UpstreamKeepaliveRace | Cause::UpstreamRestarted | Cause::InsufficientEvidence
            if is_taken_over(case) =>
        {
            ends::taken_over(case)
        }
        Cause::UpstreamKeepaliveRace => keepalive_race(case),
        Cause::MiddleboxIdleReset | Cause::MiddleboxIdleDrop => idle_device(case),
        Cause::NginxListenOverflow | Cause::UpstreamListenOverflow => overflow(case),
        Cause::NginxTimeoutReset => ends::timed_out(case),
        Cause::NginxClosedUnread => ends::closed_unread(case),
        Cause::NginxWorkerExit => ends::worker_exit(case),
        Cause::MiddleboxReject if case.reset_packet().is_some() => one(
            &format!(
                "Something on the way answers the SYN in the name of this address{}",
                device::hints(case)
            ),
            "network: firewalls and load balancers on the path",
            "let connections of Nginx to this address and port through",
        ),
        Cause::UpstreamRefused => refused(case),
        Cause::UpstreamSlow => slow(case),
        Cause::UpstreamProcessExit | Cause::UpstreamOomKill => ends::process_exit(case),
        Cause::InsufficientEvidence => ends::destroyed(case),
        Cause::LocalFirewall => one(
            "A rule of this host's packet filter rejects or drops packets of Nginx's connections",
            "netfilter: OUTPUT, INPUT and FORWARD chains (nft list ruleset)",
            "remove or narrow the rule with `reject` or `drop` that matches this address",
        ),
        Cause::MiddleboxReject => rejected(case),
        Cause::NginxResourceLimit => ends::resource(case),
        Cause::NginxConfig => ends::refused_by_nginx(case),
        Cause::MiddleboxMtuBlackhole => one(
            "A link on the path seems to take only smaller packets, and no ICMP message said so here",
            "sysctl net.ipv4.tcp_mtu_probing; route mtu or advmss; network: ICMP type 3 code 4, ICMPv6 type 2",
            "let those ICMP messages through; until then net.ipv4.tcp_mtu_probing=1, or a smaller MTU on the route to this address",
        ),
        Cause::MiddleboxForgedReset | Cause::MiddleboxBothEndsReset => one(
            &format!(
                "Ask those who run the devices between Nginx and this address for a rule that resets; give them the time, the tuple and the TTL{}",
                device::hints(case)
            ),
            "network: firewalls, load balancers, intrusion prevention on the path",
            "compare captures on both sides of the device: the RST leaves it without having entered it",
        ),
        _ => Vec::new(),
    }
}

fn rejected(case: &Case) -> Vec<Advice> {
    let peer = case.tuple().map_or_else(String::new, |tuple| tuple.remote.to_string());
    let who = icmp_error(case).map_or_else(|| "the device".to_owned(), |error| error.sender.to_string());
    one(
        &format!(
            "{who} refuses connections to {peer}; those who run it can say by which rule, or that it has no way there"
        ),
        "network: firewalls and routes between Nginx and the upstream, packet filter of the upstream's host",
        &format!("allow TCP from this host to {peer}, or mend the route"),
    )
}

fn one(text: &str, place: &str, change: &str) -> Vec<Advice> {
    vec![Advice { text: text.to_owned(), place: place.to_owned(), change: change.to_owned() }]
}

fn keepalive_race(case: &Case) -> Vec<Advice> {
    let Some(idle) = case.idle_before_ms() else { return Vec::new() };
    let configured = case.host.nginx.upstream_keepalive_timeouts_ms.iter().min();
    let now = configured.map_or("60 s, the default".to_owned(), |timeout| format!("{} s", seconds(*timeout)));
    let races = Races::with(case.races, idle);
    let below = below(races.least_ms);
    let measured = match races {
        Races { incidents: 1, .. } => {
            format!("about {} (one such incident: more of them will show the timeout)", human(idle))
        }
        Races { incidents, least_ms, most_ms } => format!(
            "about {} ({incidents} such incidents, after {} to {} of silence)",
            human(least_ms),
            human(least_ms),
            human(most_ms)
        ),
    };
    let text = format!(
        "The upstream closes connections idle for {measured}; Nginx keeps them for {now}, so it sometimes uses one at that moment"
    );
    vec![Advice {
        text,
        place: "nginx: keepalive_timeout in the upstream block".to_owned(),
        change: format!(
            "keepalive_timeout {below}; (or let the upstream keep idle connections longer than Nginx does)"
        ),
    }]
}

/// A time safely below another, as Nginx writes it.
fn below(milliseconds: u64) -> String {
    nginx_time(if milliseconds < 3_000 { milliseconds / 2 } else { milliseconds - 1_000 })
}

/// A time as Nginx reads it, no longer than this.
fn nginx_time(milliseconds: u64) -> String {
    match milliseconds {
        0..2_000 => format!("{}ms", milliseconds.max(1)),
        _ => format!("{}s", milliseconds / 1_000),
    }
}

fn idle_device(case: &Case) -> Vec<Advice> {
    let Some(idle) = case.idle_before_ms() else { return Vec::new() };
    let hints = device::hints(case);
    let text = format!(
        "Something on the path forgot the connection within {} of silence; how much earlier one such incident does not tell{hints}",
        human(idle)
    );
    let probes = match idle / 2_000 {
        0 => String::new(),
        seconds => format!(" or proxy_socket_keepalive on; with net.ipv4.tcp_keepalive_time={seconds}"),
    };
    vec![Advice {
        text,
        place: "nginx: keepalive_timeout in the upstream block, proxy_socket_keepalive; sysctl net.ipv4.tcp_keepalive_time".to_owned(),
        change: format!("keepalive_timeout {};{probes}", nginx_time(idle / 2)),
    }]
}

/// What no advice goes below: Nginx's own backlog is 511 (`NGX_LISTEN_BACKLOG`).
const LEAST_BACKLOG: u32 = 512;

fn overflow(case: &Case) -> Vec<Advice> {
    let Some(sum) = &case.incident.overflow else { return Vec::new() };
    let overflow = &sum.latest;
    let wanted = overflow
        .queue
        .max(overflow.limit)
        .max(1)
        .saturating_mul(2)
        .checked_next_power_of_two()
        .unwrap_or(u32::MAX)
        .max(LEAST_BACKLOG);
    let text = format!(
        "{} had {} connections waiting with room for {}; packets dropped: {}",
        overflow.listener, overflow.queue, overflow.limit, sum.dropped
    );
    let place = match (overflow.side.is_nginx(), overflow.queue_kind) {
        (true, QueueKind::Accept) => "nginx: listen … backlog=; sysctl net.core.somaxconn",
        (true, QueueKind::Syn) => {
            "sysctl net.ipv4.tcp_max_syn_backlog, net.core.somaxconn; nginx: listen … backlog="
        }
        (false, _) => "upstream: backlog of its listen(); sysctl net.core.somaxconn",
    };
    let change = if overflow.side.is_nginx() {
        format!(
            "listen … backlog={wanted}; with net.core.somaxconn no lower than {wanted} (the smaller one holds)"
        )
    } else {
        format!(
            "listen backlog {wanted} with net.core.somaxconn no lower than {wanted} (the smaller one holds)"
        )
    };
    vec![Advice { text, place: place.to_owned(), change }]
}

fn refused(case: &Case) -> Vec<Advice> {
    let Some(tuple) = case.tuple() else { return Vec::new() };
    vec![Advice {
        text: format!("Nothing accepts connections at {}", tuple.remote),
        place: "upstream: the service's listen address and port; nginx: server in the upstream block"
            .to_owned(),
        change: format!("start the service, or point Nginx elsewhere than {}", tuple.remote),
    }]
}

fn slow(case: &Case) -> Vec<Advice> {
    let waited = case.socket().and_then(|socket| socket.last_sent_ms);
    let Some(waited) = waited else { return Vec::new() };
    vec![Advice {
        text: format!("The upstream took the request and was silent for {}", human(u64::from(waited))),
        place: "upstream: the slow request; nginx: proxy_read_timeout".to_owned(),
        change: format!(
            "make the request faster; if it may take longer than {}, a longer proxy_read_timeout (how long it would have taken is not known)",
            human(u64::from(waited))
        ),
    }]
}

fn seconds(milliseconds: u64) -> u64 {
    milliseconds.div_ceil(1_000)
}

/// Milliseconds as people say them.
pub fn human(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..120_000 => {
            let tenths = (milliseconds + 50) / 100;
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        _ => format!("{} min", milliseconds / 60_000),
    }
}
