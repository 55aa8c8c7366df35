//! A conntrack firewall with a short timer: it forgets an idle connection and does not know its packets any more.
//!
//! The silence has to be as long as real devices' timers, so these take over a minute; they wait beside the others.

use super::super::net::{Family, Node};
use super::super::scenario::{Certainty, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use anyhow::Result;
use std::time::Duration;

const KEPT_LONG: &str = "upstream @NAME@ { server @UPSTREAM@; keepalive 8; keepalive_timeout 300s; }\n\
     server { listen @LISTEN@; keepalive_timeout 300s; location / { proxy_pass http://@NAME@; \
     proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_read_timeout 6s; } }\n";

/// Longer than the shortest timer of a device in use.
const SILENCE: Duration = Duration::from_secs(62);

const FORGOT: Expect = Expect {
    party: "middlebox",
    impacts: &["request_failed", "request_retried"],
    least: Certainty::Weak,
    most: Certainty::Strong,
    ..INCIDENT
};

/// Devices that forget.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "idle-device-resets",
        says: "a firewall forgets a kept connection after 20 s and answers the next request with a RST",
        families: &[Family::V4],
        servers: KEPT_LONG,
        drive: |stage| forgotten(stage, "reject with tcp reset"),
        expect: &[
            Expect { causes: &["middlebox_idle_reset"], kinds: &["reset_received"], ..FORGOT },
            // A device between client and Nginx does the same meanwhile.
            Expect {
                causes: &["middlebox_idle_reset"],
                kinds: &["reset_received"],
                impacts: &["harmless", "connection_only"],
                side: Some(Side::Client),
                logged: false,
                ..FORGOT
            },
        ],
        log: LogTruth::Always("recv() failed (104"),
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "idle-device-drops",
        says: "a firewall forgets a kept connection after 20 s and drops the next request silently",
        families: &[Family::V6],
        servers: KEPT_LONG,
        drive: |stage| forgotten(stage, "drop"),
        expect: &[Expect { causes: &["middlebox_idle_drop"], kinds: &["timeout"], ..FORGOT }],
        log: LogTruth::Always("upstream timed out (110"),
        alone: true,
        ..ORDINARY
    },
];

fn forgotten(stage: &mut Stage<'_>, verdict: &str) -> Result<()> {
    let family = stage.family().nft();
    stage.script(
        Node::Far,
        &format!(
            "table {family} firewall {{\n chain lab {{\n  type filter hook forward priority 0; policy accept;\n  \
             ct state invalid tcp flags & rst == 0 {verdict}\n }}\n}}\n"
        ),
    )?;
    stage.setting(Node::Far, "netfilter/nf_conntrack_tcp_timeout_established", "20")?;
    // A packet in the middle of an unknown connection is invalid, as it is for the firewalls people buy.
    stage.setting(Node::Far, "netfilter/nf_conntrack_tcp_loose", "0")?;
    let mut device = stage.device(Node::Inner)?;
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let upstream = stage.exchange(client, listener)?;
    let forgotten = stage.truth.upstream_local.clone();
    let other = stage.connect()?;
    stage.request(other, "GET /healthy")?;
    stage.read_request(upstream)?;
    stage.answer(upstream)?;
    stage.response(other, "200")?;
    let start = stage.idle(SILENCE)?;
    stage.request(client, "GET /after-the-silence")?;
    stage.idle_ended(start);
    if verdict == "drop" {
        stage.response(client, "504")?;
    } else {
        let other = stage.truth.client.clone().unwrap_or_default();
        device.tell(&format!("inject {other} {} 64 0 R 0 0 0", stage.listener()))?;
        // Nginx tries again on a new connection.
        let again = stage.accept(listener)?;
        stage.read_request(again)?;
        stage.answer(again)?;
        stage.response(client, "200")?;
    }
    stage.truth.upstream_local = forgotten;
    Ok(())
}
