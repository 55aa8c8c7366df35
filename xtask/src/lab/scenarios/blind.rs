//! What is left where the kernel refuses a hook: less evidence, and nobody accused wrongly for it.

use super::super::net::{Family, Node};
use super::super::scenario::{Certainty, Check, Expect, LogTruth, ORDINARY, Place, Scenario, Side};
use super::super::stage::Stage;
use super::super::wait;
use super::PLAIN;
use super::clients::UNLOGGED_ABORT;
use super::details::{FAREWELL, FAREWELL_LINE, TLS, farewell};
use super::halves::{CLOSES_TWICE, EAGER, closes_twice};
use super::silence::{IMPATIENT, SLOW, TIMED_OUT, slow_late};
use super::upstream::{ABORT, RECV, in_flight, linger_zero};
use anyhow::Result;
use std::time::Duration;

/// From what is lost until it has been sent again.
const REPEATED: Duration = Duration::from_millis(700);

const V4: &[Family] = &[Family::V4];

/// The process at the upstream's end is seen ending.
const ENDED: Expect = Expect {
    causes: &["upstream_process_exit"],
    kinds: &[],
    most: Certainty::Proven,
    checks: &[Check::Sender],
    ..ABORT
};

/// Hooks that are missing.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "blind-to-packets",
        says: "the hook that sees the RST's packet is missing, and the upstream resets",
        families: V4,
        servers: PLAIN,
        drive: linger_zero,
        expect: &[Expect { most: Certainty::Weak, checks: &[Check::Evidence(&["reset_accepted"])], ..ABORT }],
        log: RECV,
        alone: true,
        disabled: "cgroup_ingress",
        ..ORDINARY
    },
    Scenario {
        name: "blind-to-packets-fin",
        says: "the same with an upstream that closes in the middle of its response and then resets",
        families: V4,
        servers: EAGER,
        drive: closes_twice,
        expect: &[Expect { most: Certainty::Weak, ..CLOSES_TWICE }],
        log: LogTruth::Either,
        alone: true,
        disabled: "cgroup_ingress",
        ..ORDINARY
    },
    Scenario {
        name: "blind-to-packets-client",
        says: "the same with a client that resets while its request is worked on",
        families: V4,
        servers: PLAIN,
        drive: client_resets,
        expect: &[UNLOGGED_ABORT],
        log: LogTruth::Either,
        alone: true,
        disabled: "cgroup_ingress",
        ..ORDINARY
    },
    Scenario {
        name: "blind-to-resets",
        says: "the hook that sees RSTs accepted is missing, and a local upstream resets: its process is seen doing it",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| {
            stage.server_acts()?;
            linger_zero(stage)
        },
        expect: &[Expect { kinds: &[], most: Certainty::Proven, checks: &[Check::Sender], ..ABORT }],
        log: RECV,
        alone: true,
        disabled: "tcp_receive_reset",
        ..ORDINARY
    },
    Scenario {
        name: "blind-to-resets-killed",
        says: "the same with a local upstream that is killed with the request unread",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: killed,
        expect: &[ENDED],
        log: RECV,
        alone: true,
        disabled: "tcp_receive_reset",
        ..ORDINARY
    },
    Scenario {
        name: "blind-to-closes",
        says: "the hook that sees connections begin and end is missing, and a local upstream is killed",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: killed,
        expect: &[Expect { most: Certainty::Weak, ..ENDED }],
        log: RECV,
        alone: true,
        disabled: "inet_sock_set_state",
        ..ORDINARY
    },
    Scenario {
        name: "blind-to-segments",
        says: "no segment can be read, as under lockdown=confidentiality, and an answer comes after Nginx has given up",
        families: V4,
        servers: IMPATIENT,
        drive: slow_late,
        expect: &[SLOW],
        log: TIMED_OUT,
        alone: true,
        disabled: "probe_read_kernel",
        ..ORDINARY
    },
    Scenario {
        name: "blind-to-farewell",
        says: "no segment can be read, and a client answers Nginx's close of a TLS listener with a close_notify",
        families: V4,
        servers: TLS,
        drive: farewell,
        expect: &[Expect { most: Certainty::Strong, ..FAREWELL }],
        log: FAREWELL_LINE,
        alone: true,
        disabled: "probe_read_kernel",
        ..ORDINARY
    },
    Scenario {
        name: "blind-to-sent-resets",
        says: "the hook that sees RSTs sent is missing, and a process destroys a connection whose response is stuck",
        families: V4,
        servers: "server { listen @LISTEN@; root @ROOT@; }\n",
        drive: destroyed,
        expect: &[Expect {
            party: "unknown",
            causes: &["insufficient_evidence"],
            kinds: &[],
            impacts: &[],
            least: Certainty::Undetermined,
            most: Certainty::Undetermined,
            side: Some(Side::Client),
            logged: false,
            checks: &[Check::Evidence(&["local_kill"])],
            ..ABORT
        }],
        log: LogTruth::Either,
        alone: true,
        disabled: "tcp_send_reset",
        needs: &["ss"],
        ..ORDINARY
    },
];

fn client_resets(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.client.tell(&format!("reset {client}"))?;
    stage.server()?.tell(&format!("drain {upstream}")).map(drop)
}

/// Nothing is heard of the client any more, so that what was sent is repeated.
fn destroyed(stage: &mut Stage<'_>) -> Result<()> {
    let rule = format!("{} drop", stage.towards_client());
    let client = stage.connect()?;
    stage.silence(Node::Inner, &rule)?;
    stage.request(client, "GET /big")?;
    stage.wait_client("the response is stuck", |socket| {
        socket.is_some_and(|socket| socket.unacknowledged > 0)
    })?;
    wait::pass(REPEATED)?;
    stage.destroy_client_socket()
}

fn killed(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.server()?.tell(&format!("readable {upstream}"))?;
    stage.kill_server()?;
    stage.response(client, "502")
}
