//! IPv4 on IPv6 sockets (`::ffff:a.b.c.d`): a listener for both families, and an upstream that is named by such an
//! address. The kernel keeps these connections in IPv6 sockets, Nginx writes their addresses as it sees them, and the
//! verdict must name the IPv4 addresses that are on the wire.

use super::super::net::Family;
use super::super::scenario::{Certainty, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::clients::abort_waiting;
use super::traps::{older, opened};
use super::upstream::{ABORT, RECV, RETRIED, linger_zero};

/// There is nothing to map in IPv6.
const V4: &[Family] = &[Family::V4];

const BOTH_FAMILIES: &str = "server { listen [::]:@LISTEN_PORT@ ipv6only=off; \
     location / { proxy_pass http://@UPSTREAM@; } }\n";
const UPSTREAM: &str = "server { listen @LISTEN@; location / { proxy_pass http://@MAPPED_UPSTREAM@; } }\n";
const KEPT: &str = "upstream @NAME@ { server @MAPPED_UPSTREAM@; keepalive 8; }\n\
     server { listen [::]:@LISTEN_PORT@ ipv6only=off; location / { proxy_pass http://@NAME@; \
     proxy_http_version 1.1; proxy_set_header Connection \"\"; } }\n";

/// Mapped addresses.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "mapped-client-aborts",
        says: "an IPv4 client of a listener for both families resets while the upstream works",
        families: V4,
        servers: BOTH_FAMILIES,
        drive: abort_waiting,
        expect: &[Expect {
            party: "client",
            causes: &["client_abort"],
            kinds: &["reset_received"],
            impacts: &["request_failed"],
            most: Certainty::Strong,
            side: Some(Side::Client),
            ..INCIDENT
        }],
        log: LogTruth::Info("so upstream connection is closed too (104"),
        ..ORDINARY
    },
    Scenario {
        name: "mapped-upstream-resets",
        says: "an upstream that Nginx reaches by a mapped address reads the request and resets",
        families: V4,
        servers: UPSTREAM,
        drive: linger_zero,
        expect: &[ABORT],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "mapped-older-upstream-resets",
        says: "the same, on a connection that is older than the tracer: found in the kernel's list of IPv6 sockets",
        families: V4,
        servers: KEPT,
        before: Some(opened),
        drive: |stage| older(stage, false),
        expect: &[RETRIED],
        log: RECV,
        alone: true,
        ..ORDINARY
    },
];
