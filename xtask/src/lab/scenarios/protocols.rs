//! The same faults in other protocols than HTTP/1.1 on both sides, and where the log names somebody else.

use super::super::nginx::STREAM_MODULE;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use super::PLAIN;
use super::unavailable::LINE_ALONE;
use super::upstream::{ABORT, RECV, in_flight, linger_zero};
use anyhow::Result;

const FASTCGI: &str = "server { listen @LISTEN@; location / { fastcgi_pass @UPSTREAM@; } }\n";
const UWSGI: &str = "server { listen @LISTEN@; location / { uwsgi_pass @UPSTREAM@; } }\n";
const SCGI: &str = "server { listen @LISTEN@; location / { scgi_pass @UPSTREAM@; } }\n";
const GRPC: &str = "server { listen @LISTEN@; location / { grpc_pass grpc://@UPSTREAM@; } }\n";
pub(super) const HTTPS: &str = "server { listen @LISTEN@; location / { proxy_pass https://@UPSTREAM@; } }\n";
pub(super) const UPGRADE: &str = "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; proxy_http_version 1.1; \
     proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; } }\n";
const PROXY_PROTOCOL: &str = "server { listen @LISTEN@ proxy_protocol; set_real_ip_from 10.77.0.0/16; \
     set_real_ip_from fd00:77::/32; real_ip_header proxy_protocol; root @ROOT@; }\n";
const HTTP2: &str = "server { listen @LISTEN@ http2; root @ROOT@; location / { try_files /big =404; } }\n";

/// Connection preface, empty SETTINGS, and HEADERS of stream 1 with `GET /` (RFC 9113, section 3.4; RFC 7541,
/// appendix A: 82 is `:method GET`, 86 `:scheme http`, 84 `:path /`, 41 `:authority`).
pub(super) const HTTP2_REQUEST: &str = "505249202a20485454502f322e300d0a0d0a534d0d0a0d0a\
     000000040000000000\
     00000801050000000182868441036c6162";
/// `RST_STREAM` of stream 1 with CANCEL.
pub(super) const HTTP2_CANCEL: &str = "00000403000000000100000008";

const CLIENT: Expect = Expect {
    party: "client",
    causes: &["client_abort"],
    kinds: &["reset_received"],
    least: Certainty::Weak,
    most: Certainty::Strong,
    side: Some(Side::Client),
    ..INCIDENT
};

/// Other protocols.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "fastcgi-reset",
        says: "a FastCGI upstream resets with the request in its hands",
        servers: FASTCGI,
        drive: reset_unparsed,
        expect: &[ABORT],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "uwsgi-reset",
        says: "the same with uwsgi",
        servers: UWSGI,
        drive: reset_unparsed,
        expect: &[ABORT],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "scgi-reset",
        says: "the same with SCGI",
        servers: SCGI,
        drive: reset_unparsed,
        expect: &[ABORT],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "grpc-reset",
        says: "the same with gRPC",
        servers: GRPC,
        drive: reset_unparsed,
        expect: &[ABORT],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "tls-upstream-reset-in-handshake",
        says: "an upstream that speaks TLS resets on the ClientHello",
        servers: HTTPS,
        drive: reset_unparsed,
        expect: &[ABORT],
        log: LogTruth::Always("peer closed connection in SSL handshake (104"),
        ..ORDINARY
    },
    Scenario {
        name: "websocket-upstream-reset",
        says: "the upstream resets an upgraded connection that has carried data both ways",
        servers: UPGRADE,
        drive: websocket_upstream,
        expect: &[Expect { impacts: &[], ..ABORT }],
        log: LogTruth::Always("recv() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "websocket-client-reset",
        says: "the client does it",
        servers: UPGRADE,
        drive: websocket_client,
        // Nothing is outstanding in a silent tunnel: a client that leaves it harms nobody, unless Nginx is seen to
        // drop the other leg for it at once.
        expect: &[Expect {
            causes: &["client_abort", "client_idle_reset", "client_late_reset"],
            impacts: &["request_failed", "response_truncated", "connection_only", "unknown", "harmless"],
            ..CLIENT
        }],
        log: LogTruth::Info("recv() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "http2-client-reset",
        says: "an HTTP/2 client resets the connection in the middle of a large response",
        servers: HTTP2,
        drive: http2_reset,
        expect: &[CLIENT],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "trap-http2-stream-reset",
        says: "an HTTP/2 client cancels a stream and closes in order: RST_STREAM is no reset of the connection",
        servers: HTTP2,
        drive: http2_cancel,
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "trap-proxy-protocol-abort",
        says: "the client behind a PROXY protocol header resets: the log names another address than the socket has",
        servers: PROXY_PROTOCOL,
        drive: proxy_protocol,
        expect: &[CLIENT],
        log: LogTruth::Either,
        // `set_real_ip_from` makes the addresses of every line of an Nginx doubtful.
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "proxy-header-missing",
        says: "a client speaks HTTP at once where Nginx expects a PROXY protocol header, and is closed in order",
        servers: PROXY_PROTOCOL,
        drive: plain_request,
        expect: &[Expect { party: "nginx", causes: &["nginx_config"], impacts: &["unknown"], ..LINE_ALONE }],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "proxy-header-missing-stream",
        says: "the same at a stream, which looks at the first words without reading them: the kernel resets for it",
        streams: "server { listen @LISTEN@ proxy_protocol; proxy_pass @UPSTREAM@; }\n",
        drive: plain_request,
        expect: &[Expect {
            party: "nginx",
            causes: &["nginx_config"],
            kinds: &["reset_sent"],
            impacts: &["request_failed"],
            least: Certainty::Proven,
            side: Some(Side::Client),
            logged: false,
            checks: &[Check::Says("PROXY")],
            ..INCIDENT
        }],
        log: LogTruth::Either,
        needs: &[STREAM_MODULE],
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "trap-two-in-one-second",
        says: "two requests of one worker to one upstream are reset in the same instant: two incidents",
        servers: PLAIN,
        drive: two_at_once,
        expect: &[ABORT, ABORT],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "trap-tuple-reused",
        says: "after a reset, the next healthy connection has the same addresses and ports",
        servers: PLAIN,
        drive: tuple_reused,
        expect: &[ABORT],
        log: RECV,
        ..ORDINARY
    },
];

/// The upstream does not understand the request, only that it is there.
fn reset_unparsed(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.server()?.tell(&format!("readable {upstream}"))?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "502")
}

/// A tunnel in which a few bytes went each way.
pub(super) fn tunnel(stage: &mut Stage<'_>) -> Result<(u32, u32)> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let head =
        "GET /socket HTTP/1.1\\r\\nHost: lab\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n";
    stage.client.tell(&format!("send {client} {head}"))?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    let head =
        "HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n";
    stage.server()?.tell(&format!("send {upstream} {head}"))?;
    stage.client.tell(&format!("head {client}"))?;
    stage.client.tell(&format!("send {client} there"))?;
    stage.server()?.tell(&format!("read {upstream} 5"))?;
    stage.server()?.tell(&format!("send {upstream} again"))?;
    stage.client.tell(&format!("read {client} 5"))?;
    Ok((client, upstream))
}

fn websocket_upstream(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = tunnel(stage)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn websocket_client(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = tunnel(stage)?;
    stage.client.tell(&format!("reset {client}"))?;
    stage.server()?.tell(&format!("drain {upstream}")).map(drop)
}

/// A request over HTTP/2 whose response is stuck in the client's small buffer.
fn http2(stage: &mut Stage<'_>) -> Result<u32> {
    let client = stage.connect_narrow()?;
    stage.client.tell(&format!("hex {client} {HTTP2_REQUEST}"))?;
    stage.wait_client("the response is stuck", |socket| {
        socket.is_some_and(|socket| socket.unacknowledged > 0)
    })?;
    Ok(client)
}

fn http2_reset(stage: &mut Stage<'_>) -> Result<()> {
    let client = http2(stage)?;
    stage.client.tell(&format!("reset {client}")).map(drop)
}

fn http2_cancel(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.client.tell(&format!("hex {client} {HTTP2_REQUEST}"))?;
    stage.client.tell(&format!("read {client} 30000"))?;
    stage.client.tell(&format!("hex {client} {HTTP2_CANCEL}"))?;
    stage.client.tell(&format!("finish {client}"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn plain_request(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, "GET /small")?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn proxy_protocol(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect_narrow()?;
    let (family, from) =
        if stage.client_address().is_ipv4() { ("TCP4", "192.0.2.7") } else { ("TCP6", "2001:db8::7") };
    let to = if stage.client_address().is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
    let head =
        format!("PROXY {family} {from} {to} 40000 80\\r\\nGET /big HTTP/1.1\\r\\nHost: lab\\r\\n\\r\\n");
    stage.client.tell(&format!("send {client} {head}"))?;
    stage.wait_client("the response is stuck", |socket| {
        socket.is_some_and(|socket| socket.unacknowledged > 0)
    })?;
    stage.client.tell(&format!("reset {client}")).map(drop)
}

fn two_at_once(stage: &mut Stage<'_>) -> Result<()> {
    let (first, one) = in_flight(stage)?;
    let second = stage.connect()?;
    stage.request(second, "GET /fault")?;
    let two = stage.accept(1)?;
    stage.read_request(one)?;
    stage.read_request(two)?;
    // Which of the two a record is about is not stated.
    (stage.truth.client, stage.truth.upstream_local) = (None, None);
    stage.server()?.start_command(&format!("reset {one}"))?;
    stage.server()?.tell(&format!("reset {two}"))?;
    stage.server()?.finish_any()?;
    stage.response(first, "502")?;
    stage.response(second, "502")
}

fn tuple_reused(stage: &mut Stage<'_>) -> Result<()> {
    stage.single_local_port(39_000)?;
    linger_zero(stage)?;
    let client = stage.connect()?;
    let faulty = stage.truth.upstream_local.clone();
    stage.exchange(client, 1)?;
    anyhow::ensure!(stage.truth.upstream_local == faulty, "another port was taken");
    Ok(())
}
