//! Faults that a single piece of evidence tells from others: what the judge would not notice to have lost otherwise.

use super::super::net::{Family, Node};
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use super::super::wait;
use super::PLAIN;
use super::inject::{EXACT, FORGED, Rst, inject, reset};
use super::upstream::{ABORT, RECV, in_flight, in_flight_beside_another};
use anyhow::Result;
use std::time::Duration;

const STATIC: &str = "server { listen @LISTEN@; root @ROOT@; }\n";
const UNLINGERING: &str = "server { listen @LISTEN@; root @ROOT@; lingering_close off; }\n";
/// No certificate is needed for what is said in plain text to it.
pub(super) const TLS: &str =
    "server { listen @LISTEN@ ssl; ssl_reject_handshake on; root @ROOT@; lingering_close off; }\n";
const PROBING: &str = "server { listen @LISTEN@ so_keepalive=1s:1s:2; root @ROOT@; }\n";
const PROBING_UPSTREAM: &str = "upstream @NAME@ { server @UPSTREAM@; keepalive 8; }\n\
     server { listen @LISTEN@; location / { proxy_pass http://@NAME@; proxy_http_version 1.1; \
     proxy_set_header Connection \"\"; proxy_socket_keepalive on; } }\n";

/// Silence from which a client's connection is between two requests.
const IDLE: Duration = Duration::from_millis(1_300);
/// Until probes that are sent each second were given up.
const PROBED: Duration = Duration::from_secs(5);

const NOTICED: &[&str] = &["connection_only", "harmless", "unknown"];

pub(super) const FAREWELL: Expect = Expect {
    party: "client",
    causes: &["client_late_reset"],
    impacts: &["harmless"],
    side: Some(Side::Client),
    harmless: true,
    ..INCIDENT
};

pub(super) const FAREWELL_LINE: LogTruth = LogTruth::Info("client sent plain HTTP request to HTTPS port");

/// Details.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "client-idle-reset-late",
        says: "the client resets a connection on which nothing had moved for more than a second",
        servers: STATIC,
        drive: idle_reset,
        expect: &[Expect {
            party: "client",
            causes: &["client_idle_reset"],
            impacts: &["harmless"],
            side: Some(Side::Client),
            harmless: true,
            checks: &[Check::Evidence(&["connection_idle"])],
            ..INCIDENT
        }],
        log: LogTruth::Info("closed keepalive connection (104"),
        ..ORDINARY
    },
    Scenario {
        name: "client-talks-after-close",
        says: "the client goes on sending after Nginx has answered and closed",
        servers: UNLINGERING,
        drive: |stage| talks_on(stage, "send @ and another thing that nobody has asked for"),
        expect: &[Expect {
            party: "nginx",
            causes: &["nginx_closed_unread"],
            kinds: &["reset_sent"],
            // Whether what the client went on about was wanted cannot be known, and a slow client finds the socket gone.
            impacts: &["connection_only", "response_truncated", "unknown"],
            least: Certainty::Strong,
            side: Some(Side::Client),
            checks: &[Check::Evidence(&["data_after_close"])],
            ..INCIDENT
        }],
        log: LogTruth::Silent,
        ..ORDINARY
    },
    Scenario {
        name: "trap-short-words-after-close",
        says: "the same with as few bytes as a farewell of TLS has, where nobody speaks TLS",
        servers: UNLINGERING,
        drive: |stage| talks_on(stage, "send @ one more"),
        expect: &[Expect {
            party: "nginx",
            causes: &["nginx_closed_unread"],
            kinds: &["reset_sent"],
            // Whether what the client went on about was wanted cannot be known.
            impacts: &["connection_only", "response_truncated"],
            least: Certainty::Strong,
            side: Some(Side::Client),
            checks: &[Check::Evidence(&["data_after_close"])],
            ..INCIDENT
        }],
        log: LogTruth::Silent,
        ..ORDINARY
    },
    Scenario {
        name: "client-farewell-after-close",
        says: "the client answers Nginx's close of a TLS listener with a close_notify: nothing is lost",
        servers: TLS,
        drive: farewell,
        expect: &[FAREWELL],
        log: FAREWELL_LINE,
        ..ORDINARY
    },
    Scenario {
        name: "client-probes-unanswered",
        says: "an idle client answers no TCP keepalive probe any more",
        servers: PROBING,
        drive: client_probed,
        expect: &[Expect {
            party: "client",
            causes: &["client_vanished"],
            impacts: NOTICED,
            most: Certainty::Strong,
            side: Some(Side::Client),
            ..INCIDENT
        }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-probes-unanswered",
        says: "a pooled connection's TCP keepalive probes vanish on the path",
        servers: PROBING_UPSTREAM,
        drive: upstream_probed,
        expect: &[Expect {
            party: "middlebox",
            causes: &["middlebox_idle_drop"],
            impacts: NOTICED,
            most: Certainty::Strong,
            logged: false,
            ..INCIDENT
        }],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "killed-by-another-process",
        says: "a process of the Nginx host destroys Nginx's connection (ss -K), as some agents do",
        servers: PLAIN,
        drive: destroyed,
        expect: &[Expect {
            party: "unknown",
            causes: &["insufficient_evidence"],
            impacts: &["request_failed"],
            least: Certainty::Undetermined,
            most: Certainty::Undetermined,
            checks: &[Check::Evidence(&["local_kill"])],
            ..INCIDENT
        }],
        log: LogTruth::Always("recv() failed (103"),
        needs: &["ss"],
        ..ORDINARY
    },
    Scenario {
        name: "forged-near-known-upstream",
        says: "a router rejects a request to an upstream that other connections have shown the distance of",
        servers: PLAIN,
        drive: forged_known,
        expect: &[Expect { checks: &[Check::Evidence(&["hop_differs_history"])], ..FORGED }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-resets-without-timestamps",
        says: "the upstream's host uses no TCP timestamps, and its application resets",
        servers: PLAIN,
        drive: without_timestamps,
        expect: &[Expect { most: Certainty::Strong, checks: &[Check::Evidence(&["active_form"])], ..ABORT }],
        log: RECV,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "inject-bare-with-identification",
        says: "a bare RST from elsewhere with an IP identification, which no Linux host gives it",
        families: &[Family::V4],
        servers: PLAIN,
        drive: |stage| reset(stage, Rst { hops: 60, identification: 9, ..EXACT }, None),
        expect: &[Expect { checks: &[Check::Evidence(&["ip_id_not_zero"])], ..FORGED }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "inject-like-a-balancer",
        says: "a RST as Citrix ADC builds it: the advice names whose it resembles and how far away it is",
        servers: PLAIN,
        drive: |stage| {
            reset(stage, Rst { hops: 252, identification: 4_711, flags: "RA", window: 9_300, ..EXACT }, None)
        },
        expect: &[Expect {
            least: Certainty::Weak,
            checks: &[Check::Says("Citrix ADC"), Check::Says("routers away")],
            ..FORGED
        }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "inject-like-an-ips",
        says: "a RST as intrusion prevention builds it, with ACK and without a window",
        servers: PLAIN,
        drive: |stage| reset(stage, Rst { hops: 60, identification: 77, flags: "RA", ..EXACT }, None),
        expect: &[Expect {
            least: Certainty::Weak,
            checks: &[Check::Says("intrusion prevention")],
            ..FORGED
        }],
        log: RECV,
        ..ORDINARY
    },
];

fn idle_reset(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, "GET /small")?;
    stage.response(client, "200")?;
    wait::pass(IDLE)?;
    stage.client.tell(&format!("reset {client}")).map(drop)
}

/// `words` is a command in which the connection's number stands for `@`.
fn talks_on(stage: &mut Stage<'_>, words: &str) -> Result<()> {
    let client = stage.connect()?;
    stage.last_exchange(client)?;
    talk(stage, client, words)
}

fn talk(stage: &mut Stage<'_>, client: u32, words: &str) -> Result<()> {
    stage.client.tell(&words.replace('@', &client.to_string()))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn client_probed(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, "GET /small")?;
    stage.response(client, "200")?;
    let rule = format!("{} drop", stage.towards_client());
    stage.silence(Node::Outer, &rule)?;
    stage.wait_client_for(PROBED, |socket| socket.is_none())
}

fn upstream_probed(stage: &mut Stage<'_>) -> Result<()> {
    for (name, value) in [("time", "1"), ("intvl", "1"), ("probes", "2")] {
        stage.setting(Node::Web, &format!("ipv4/tcp_keepalive_{name}"), value)?;
    }
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.exchange(client, listener)?;
    let rule = format!("{} drop", stage.towards_upstream());
    stage.silence(Node::Near, &rule)?;
    stage.wait_upstream("the probes are given up", |socket| socket.is_none())
}

fn destroyed(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.destroy_upstream_connections()?;
    stage.response(client, "502")
}

pub(super) fn farewell(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, "GET /small")?;
    stage.response(client, "400")?;
    talk(stage, client, "hex @ 15030300020100")
}

fn forged_known(stage: &mut Stage<'_>) -> Result<()> {
    let mut device = stage.device(Node::Far)?;
    let (client, _) = in_flight_beside_another(stage)?;
    stage.mute_upstream()?;
    inject(stage, &mut device, Rst { hops: 60, identification: 7, flags: "RA", ..EXACT })?;
    stage.response(client, "502")
}

fn without_timestamps(stage: &mut Stage<'_>) -> Result<()> {
    stage.setting(Node::Upstream, "ipv4/tcp_timestamps", "0")?;
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "502")
}
