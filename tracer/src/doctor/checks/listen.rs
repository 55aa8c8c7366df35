//! Listeners: how long their queues may get, how long they are, and what happens when they are full.

use super::{percent, seen};
use crate::doctor::Facts;
use crate::doctor::facts::{ListenerFacts, NginxFacts};
use crate::doctor::report::{Seen, Severity};

/// `backlog` of a listener that sets none, on Linux (`NGX_LISTEN_BACKLOG`).
const DEFAULT_BACKLOG: u64 = 511;

/// From this part of its limit on a queue is worth a word, percent.
const FILLING: u64 = 50;

pub(super) fn backlog(facts: &Facts) -> Vec<Seen> {
    facts
        .nginx
        .iter()
        .flat_map(|nginx| nginx.listeners.iter().filter_map(|one| shortened(nginx, one)))
        .collect()
}

fn shortened(nginx: &NginxFacts, listener: &ListenerFacts) -> Option<Seen> {
    let wanted = configured(nginx, listener);
    if listener.limit >= wanted {
        return None;
    }
    let somaxconn = nginx.network.somaxconn;
    let by_host = somaxconn.is_some_and(|limit| limit < wanted);
    let limit = somaxconn
        .filter(|_| by_host)
        .map_or_else(String::new, |limit| format!(", net.core.somaxconn {limit}"));
    let change = if by_host {
        format!(
            "sysctl -w net.core.somaxconn={wanted} (in Nginx's network namespace), then restart or reload Nginx"
        )
    } else {
        "Restart Nginx: a running listener keeps the limit it was opened with".to_owned()
    };
    Some(seen(
        Severity::Warning,
        format!("listen {}", listener.address),
        format!("the queue holds {}, wanted are {wanted}{limit}", listener.limit),
        "In a burst connections wait in this queue; what does not fit is dropped, and clients see timeouts of 1, 3, 7 s",
        change,
    ))
}

/// The `backlog` of the directive for this address, or the default.
fn configured(nginx: &NginxFacts, listener: &ListenerFacts) -> u64 {
    let port = listener.address.port();
    let is_for = |address: &str| {
        address.rsplit(':').next().is_some_and(|last| last.parse() == Ok(port))
            || (port == 80 && !address.contains(':') && address.parse::<u16>().is_err())
    };
    let told = nginx.tree.named("listen").filter_map(|(_, one)| {
        let address = one.arguments.first()?;
        let value = one.arguments.iter().find_map(|word| word.strip_prefix("backlog=")?.parse().ok())?;
        is_for(address).then_some(value)
    });
    told.max().unwrap_or(DEFAULT_BACKLOG)
}

pub(super) fn syn_queue(facts: &Facts) -> Vec<Seen> {
    let limits = |nginx: &NginxFacts| {
        let (backlog, cookies) = (nginx.network.max_syn_backlog?, nginx.network.syncookies?);
        let longest = nginx.listeners.iter().map(|one| one.limit).max()?;
        (cookies == 0 && backlog < longest).then(|| {
            seen(
                Severity::Warning,
                format!("Nginx {}", nginx.master),
                format!("net.ipv4.tcp_max_syn_backlog {backlog}, tcp_syncookies 0, longest listen queue {longest}"),
                "Without SYN cookies a listener refuses SYNs when three quarters of this number wait for their handshake",
                format!("sysctl -w net.ipv4.tcp_syncookies=1, or net.ipv4.tcp_max_syn_backlog={longest}"),
            )
        })
    };
    facts.nginx.iter().filter_map(limits).collect()
}

pub(super) fn now(facts: &Facts) -> Vec<Seen> {
    let listeners = facts.nginx.iter().flat_map(|nginx| &nginx.listeners);
    listeners.filter_map(filling).collect()
}

fn filling(listener: &ListenerFacts) -> Option<Seen> {
    let full = percent(listener.queue, listener.limit);
    if listener.limit == 0 || full < FILLING {
        return None;
    }
    // The kernel takes one more than the limit (`sk_acceptq_is_full`).
    let severity = if listener.queue >= listener.limit { Severity::Critical } else { Severity::Warning };
    Some(seen(
        severity,
        format!("listen {}", listener.address),
        format!("{} of {} places taken now ({full} %)", listener.queue, listener.limit),
        "Workers do not accept as fast as clients come; a full queue drops connections",
        "More workers or less work per worker (blocking modules, disk); then a longer backlog= and net.core.somaxconn",
    ))
}

pub(super) fn overflows(facts: &Facts) -> Vec<Seen> {
    let some = |nginx: &NginxFacts| {
        let count = nginx.network.listen_overflows.filter(|count| *count > 0)?;
        Some(seen(
            Severity::Notice,
            format!("network namespace of Nginx {}", nginx.master),
            format!("TcpExtListenOverflows {count} since it began"),
            "Some listener of this namespace (not necessarily Nginx's) had a full queue that often",
            "rstscope trace names the listener, its owner and the clients it hits",
        ))
    };
    facts.nginx.iter().filter_map(some).collect()
}

pub(super) fn abort(facts: &Facts) -> Vec<Seen> {
    let on = |nginx: &NginxFacts| {
        nginx.network.abort_on_overflow.filter(|value| *value != 0).map(|value| {
            seen(
                Severity::Warning,
                format!("network namespace of Nginx {}", nginx.master),
                format!("net.ipv4.tcp_abort_on_overflow {value}"),
                "A full accept queue answers clients with a RST instead of letting them try again a second later",
                "sysctl -w net.ipv4.tcp_abort_on_overflow=0",
            )
        })
    };
    facts.nginx.iter().filter_map(on).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{only, with};
    use super::*;

    fn listener(address: &str, queue: u64, limit: u64) -> ListenerFacts {
        ListenerFacts { address: address.parse().unwrap(), queue, limit }
    }

    #[test]
    fn the_limit_of_the_host_shortens_a_queue() {
        let facts = |limit, somaxconn| {
            with("http { server { listen 80; listen 8080 backlog=4096; } }", |nginx| {
                nginx.listeners = vec![listener("0.0.0.0:80", 0, 511), listener("0.0.0.0:8080", 0, limit)];
                nginx.network.somaxconn = Some(somaxconn);
            })
        };
        let found = backlog(&facts(1024, 1024));
        let one = only(&found, Severity::Warning);
        assert!(
            one.seen.contains("holds 1024, wanted are 4096") && one.change.contains("somaxconn=4096"),
            "{one:?}"
        );
        assert!(only(&backlog(&facts(1024, 4096)), Severity::Warning).change.contains("Restart"));
        assert_eq!(backlog(&facts(4096, 4096)), []);
    }

    #[test]
    fn the_directive_is_found_by_its_port() {
        let wanted = |text: &str, address: &str| {
            let facts = with(&format!("http {{ server {{ listen {text} backlog=9; }} }}"), |_| {});
            configured(&facts.nginx[0], &listener(address, 0, 1))
        };
        assert_eq!((wanted("8080", "0.0.0.0:8080"), wanted("[::]:8080", "[::]:8080")), (9, 9));
        assert_eq!(
            (wanted("10.0.0.1", "10.0.0.1:80"), wanted("10.0.0.1", "10.0.0.1:81")),
            (9, DEFAULT_BACKLOG)
        );
    }

    #[test]
    fn syn_cookies_make_the_syn_queue_harmless() {
        let facts = |cookies, limit| {
            with("", |nginx| {
                nginx.network.max_syn_backlog = Some(128);
                nginx.network.syncookies = Some(cookies);
                nginx.listeners = vec![listener("0.0.0.0:80", 0, limit)];
            })
        };
        only(&syn_queue(&facts(0, 511)), Severity::Warning);
        assert_eq!((syn_queue(&facts(1, 511)), syn_queue(&facts(0, 128))), (vec![], vec![]));
    }

    #[test]
    fn queues_now() {
        let facts = |queue| with("", |nginx| nginx.listeners = vec![listener("0.0.0.0:80", queue, 100)]);
        assert_eq!(now(&facts(49)), []);
        only(&now(&facts(50)), Severity::Warning);
        only(&now(&facts(100)), Severity::Critical);
    }

    #[test]
    fn overflows_and_aborts() {
        let facts = |count, value| {
            with("", |nginx| {
                nginx.network.listen_overflows = Some(count);
                nginx.network.abort_on_overflow = Some(value);
            })
        };
        only(&overflows(&facts(3, 0)), Severity::Notice);
        only(&abort(&facts(0, 1)), Severity::Warning);
        assert_eq!((overflows(&facts(0, 0)), abort(&facts(0, 0))), (vec![], vec![]));
    }
}
