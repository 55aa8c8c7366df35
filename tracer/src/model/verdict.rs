//! The verdict: the one record every output is a view of. Field names and slugs are a contract
//! (`docs/verdict.schema.json`); a field may be added, none is renamed without a new `schema` number.

use schemars::JsonSchema;
use serde::Serialize;

use super::event::QueueKind;
use super::log::Level;

/// Value of `Verdict::schema`.
pub const SCHEMA: &str = "rstscope.verdict/1";

/// A ULID in Crockford's alphabet.
const ULID: &str = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$";
/// RFC 3339 in UTC with nanoseconds, what [`super::Utc::rfc3339`] writes.
const TIME: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z$";
/// `ip:port`, IPv6 in brackets and never IPv4-mapped.
const ADDRESS: &str = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[([0-9a-f]{1,4})?:([0-9a-f]{0,4}:)*[0-9a-f]{0,4}(%[0-9]+)?\]):[0-9]{1,5}$";
/// A slug.
const SLUG: &str = "^[a-z][a-z0-9_]*$";
/// Names of TCP flags.
const FLAGS: &str = r"^[A-Z]{3}(\|[A-Z]{3})*$";

/// One incident, judged.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Verdict {
    /// `rstscope.verdict/1`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: &'static str,
    /// ULID: unique, sortable by time.
    #[schemars(regex(pattern = ULID))]
    pub id: String,
    /// Host name of the observer.
    pub host: String,
    /// RFC 3339 UTC with nanoseconds, from the kernel event or, without one, from the log line.
    #[schemars(regex(pattern = TIME), extend("format" = "date-time"))]
    pub time: String,
    /// What happened to the connection.
    pub kind: Kind,
    /// Whose doing it was.
    pub party: Party,
    /// The segment of the path where the fault lies.
    pub segment: Segment,
    /// Why.
    pub cause: Cause,
    /// How sure that is; earned from the evidence, see `docs/verdicts.md`.
    pub certainty: Certainty,
    /// What it did to the request.
    pub impact: Impact,
    /// Where the connection was.
    pub phase: Phase,
    /// The same in the terms of Cloudflare Radar's reset statistics.
    pub stage: Stage,
    /// `id` of the incident that caused this one.
    #[schemars(regex(pattern = ULID))]
    pub consequence_of: Option<String>,
    /// One sentence a person can forward.
    #[schemars(length(min = 1))]
    pub summary: String,
    /// What the verdict rests on, and what speaks against it.
    pub evidence: Vec<Evidence>,
    /// Evidence that was looked for and could not be had.
    pub missing: Vec<Missing>,
    /// What else was considered.
    pub alternatives: Vec<Alternative>,
    /// The connection concerned.
    pub connection: Option<Connection>,
    /// The other half of the proxied request.
    pub peer_connection: Option<Connection>,
    /// The reset, if there was one.
    pub reset: Option<Reset>,
    /// The joined line of error.log.
    pub log: Option<LogLine>,
    /// How line and kernel were joined.
    #[serde(rename = "match")]
    pub matched: Option<Match>,
    /// For overflows: the listener.
    pub listener: Option<Listener>,
    /// What to change.
    pub advice: Vec<Advice>,
    /// Indexes of this incident's packets in the evidence capture.
    pub packets: Vec<u32>,
}

macro_rules! slugs {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $slug:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
        pub enum $name { $($(#[$variant_meta])* #[serde(rename = $slug)] $variant,)+ }

        impl $name {
            /// Every value, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The slug of the contract.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)+ }
            }

            /// The value of a slug.
            pub fn from_slug(slug: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.slug() == slug)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.slug())
            }
        }
    };
}

slugs! {
    /// What happened to the connection.
    Kind {
        /// A RST arrived.
        ResetReceived = "reset_received",
        /// This host sent a RST.
        ResetSent = "reset_sent",
        /// The SYN was answered by a RST or an ICMP error.
        Refused = "refused",
        /// Nothing came in time.
        Timeout = "timeout",
        /// The peer closed before it was done.
        ClosedEarly = "closed_early",
        /// A listener had no room.
        ListenOverflow = "listen_overflow",
        /// Only the log speaks of it.
        LogOnly = "log_only",
    }
}

slugs! {
    /// Whose doing it was.
    Party {
        /// The client or its host.
        Client = "client",
        /// Nginx or this host.
        Nginx = "nginx",
        /// The upstream or its host.
        Upstream = "upstream",
        /// A device on the path, or a packet filter.
        Middlebox = "middlebox",
        /// The evidence does not tell.
        Unknown = "unknown",
    }
}

slugs! {
    /// The segment of the path where the fault lies.
    Segment {
        /// Between client and Nginx, the client included.
        ClientNginx = "client_nginx",
        /// On the Nginx host.
        Nginx = "nginx",
        /// Between Nginx and upstream.
        NginxUpstream = "nginx_upstream",
        /// On the upstream host.
        Upstream = "upstream",
        /// Not known.
        Unknown = "unknown",
    }
}

slugs! {
    /// Why it happened. The slug is the contract.
    Cause {
        /// The client reset or closed while its request or our response was in flight.
        ClientAbort = "client_abort",
        /// The client reset an idle keep-alive connection; harmless.
        ClientIdleReset = "client_idle_reset",
        /// RST after the client had closed or the response was complete; harmless.
        ClientLateReset = "client_late_reset",
        /// RST before a request: port scan, health check, abandoned handshake.
        ClientHandshakeReset = "client_handshake_reset",
        /// Our data was never acknowledged.
        ClientVanished = "client_vanished",
        /// Nginx reset a timed-out connection on purpose.
        NginxTimeoutReset = "nginx_timeout_reset",
        /// Nginx closed a socket with unread data.
        NginxClosedUnread = "nginx_closed_unread",
        /// The worker that owned the connection exited.
        NginxWorkerExit = "nginx_worker_exit",
        /// Nginx's own listener had no room.
        NginxListenOverflow = "nginx_listen_overflow",
        /// The client's SYN met no listener.
        NginxNotListening = "nginx_not_listening",
        /// Connections, descriptors, ports or memory ran out.
        NginxResourceLimit = "nginx_resource_limit",
        /// The log names a configuration limit.
        NginxConfig = "nginx_config",
        /// SYN answered by a RST: nothing listens.
        UpstreamRefused = "upstream_refused",
        /// Nginx reused a kept-alive connection at the moment the upstream closed it.
        UpstreamKeepaliveRace = "upstream_keepalive_race",
        /// The upstream application closed with unread data or with zero linger in mid-request.
        UpstreamAbort = "upstream_abort",
        /// The upstream process exited, crashed or was killed.
        UpstreamProcessExit = "upstream_process_exit",
        /// The OOM killer ended the upstream process.
        UpstreamOomKill = "upstream_oom_kill",
        /// The upstream host no longer knows the connection.
        UpstreamRestarted = "upstream_restarted",
        /// FIN before a complete response.
        UpstreamClosedEarly = "upstream_closed_early",
        /// The upstream's listener had no room.
        UpstreamListenOverflow = "upstream_listen_overflow",
        /// The request was acknowledged and no answer came in time.
        UpstreamSlow = "upstream_slow",
        /// The log alone says so.
        UpstreamUnavailable = "upstream_unavailable",
        /// A RST in a party's name that this party did not send.
        MiddleboxForgedReset = "middlebox_forged_reset",
        /// A device that had expired an idle connection answered for it with a RST.
        MiddleboxIdleReset = "middlebox_idle_reset",
        /// Packets of a long idle connection vanish from then on.
        MiddleboxIdleDrop = "middlebox_idle_drop",
        /// A device answered the SYN.
        MiddleboxReject = "middlebox_reject",
        /// SYNs or data vanish although the peer is alive.
        MiddleboxDrop = "middlebox_drop",
        /// Only full-sized segments vanish.
        MiddleboxMtuBlackhole = "middlebox_mtu_blackhole",
        /// Both ends received a RST and neither sent one.
        MiddleboxBothEndsReset = "middlebox_both_ends_reset",
        /// netfilter on this host rejected or dropped the packet.
        LocalFirewall = "local_firewall",
        /// Nothing holds; `missing` says what would have decided it.
        InsufficientEvidence = "insufficient_evidence",
    }
}

slugs! {
    /// How sure the verdict is.
    Certainty {
        /// At least one decisive piece of evidence and none against.
        Proven = "proven",
        /// Two independent supporting pieces, none against.
        Strong = "strong",
        /// One supporting piece, or several with one against.
        Weak = "weak",
        /// The party is unknown, or the log line alone speaks.
        Undetermined = "undetermined",
    }
}

slugs! {
    /// What it did to the request.
    Impact {
        /// The client got an error.
        RequestFailed = "request_failed",
        /// The client got part of the response.
        ResponseTruncated = "response_truncated",
        /// Another attempt served the request.
        RequestRetried = "request_retried",
        /// A connection without a request ended.
        ConnectionOnly = "connection_only",
        /// Nobody noticed.
        Harmless = "harmless",
        /// Not known.
        Unknown = "unknown",
    }
}

slugs! {
    /// Where the connection was.
    Phase {
        /// SYN sent, no handshake yet.
        Connecting = "connecting",
        /// TLS handshake.
        TlsHandshake = "tls_handshake",
        /// The request was being sent.
        Request = "request",
        /// Request sent, no answer yet.
        Waiting = "waiting",
        /// The response was under way.
        Response = "response",
        /// Between two requests.
        Idle = "idle",
        /// One end had closed.
        Closing = "closing",
        /// Both ends had closed.
        Closed = "closed",
    }
}

slugs! {
    /// Stage in the terms of Cloudflare Radar.
    Stage {
        /// Only a SYN was seen.
        PostSyn = "post_syn",
        /// Handshake complete, no data from the peer.
        PostAck = "post_ack",
        /// After the first data.
        PostPsh = "post_psh",
        /// After several data segments.
        Later = "later",
        /// Does not apply.
        None = "none",
    }
}

slugs! {
    /// What a piece of evidence weighs.
    Weight {
        /// Settles the party on its own.
        Decisive = "decisive",
        /// Points to the party.
        Supporting = "supporting",
        /// Speaks against the verdict.
        Against = "against",
    }
}

slugs! {
    /// Which half of the proxied request a connection is.
    ConnectionSide {
        /// Client to Nginx.
        Client = "client",
        /// Nginx to upstream.
        Upstream = "upstream",
    }
}

slugs! {
    /// Which way the RST went, seen from this host.
    Direction {
        /// It arrived.
        Received = "received",
        /// It was sent.
        Sent = "sent",
    }
}

slugs! {
    /// How a log line was joined to a kernel event.
    MatchMethod {
        /// The failing socket call and the write of the line are adjacent in one thread.
        Syscall = "syscall",
        /// Worker, remote address and errno agree.
        Address = "address",
        /// Worker and time agree, the line names no address.
        Window = "window",
    }
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Evidence {
    /// Slug of the detector.
    #[schemars(regex(pattern = SLUG))]
    pub code: &'static str,
    /// What it weighs.
    pub weight: Weight,
    /// A sentence with the numbers it rests on.
    pub detail: String,
    /// The value seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What it was compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
}

/// Evidence that could not be had.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Missing {
    /// Slug of what was looked for.
    #[schemars(regex(pattern = SLUG))]
    pub code: &'static str,
    /// Why it could not be had.
    pub why: String,
}

/// Another explanation that was considered.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Alternative {
    /// Whose doing it would have been.
    pub party: Party,
    /// Why it would have happened.
    pub cause: Cause,
    /// What speaks against it.
    pub why_not: String,
}

/// One TCP connection at the moment of the failure.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Connection {
    /// Which half of the proxied request.
    pub side: ConnectionSide,
    /// `ip:port`, IPv6 in brackets.
    #[schemars(regex(pattern = ADDRESS))]
    pub local: String,
    /// `ip:port`, IPv6 in brackets.
    #[schemars(regex(pattern = ADDRESS))]
    pub remote: String,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Socket cookie.
    pub cookie: u64,
    /// RFC 3339; absent when the connection is older than the tracer.
    #[schemars(regex(pattern = TIME), extend("format" = "date-time"))]
    pub opened_at: Option<String>,
    /// Age, milliseconds.
    pub age_ms: Option<u64>,
    /// Time since the last byte either way, milliseconds.
    pub idle_ms: Option<u64>,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Smoothed round-trip time, microseconds.
    pub srtt_us: u32,
    /// Segments retransmitted.
    pub retransmits: u32,
    /// TCP state before the event.
    pub state: String,
    /// Older than the tracer.
    pub preexisting: bool,
    /// The process that holds the socket.
    pub owner: Option<ProcessRef>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ProcessRef {
    /// Process id.
    pub pid: u32,
    /// Name of the process.
    pub comm: String,
}

/// The process that sent a RST, seen on this host.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Sender {
    /// Process id.
    pub pid: u32,
    /// Name of the process.
    pub comm: String,
    /// Executable path.
    pub exe: Option<String>,
    /// How it was ending, for example `killed by signal 9 (SIGKILL)` or `exited with status 1`.
    pub exit: Option<String>,
}

/// The RST.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Reset {
    /// Which way it went.
    pub direction: Direction,
    /// Names of the flags, for example `RST|ACK`; absent when the packet itself was not seen.
    #[schemars(regex(pattern = FLAGS))]
    pub flags: Option<String>,
    /// Sequence number.
    pub seq: Option<u32>,
    /// Acknowledgment number.
    pub ack: Option<u32>,
    /// Window, unscaled.
    pub window: Option<u32>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// TTL expected of this peer.
    pub baseline_ttl: Option<u8>,
    /// IPv4 identification.
    pub ip_id: Option<u16>,
    /// Sequence number that was expected next.
    pub expected_seq: Option<u32>,
    /// `seq - expected_seq`, signed.
    pub seq_offset: Option<i64>,
    /// Names of the TCP options.
    pub options: Option<Vec<String>>,
    /// The kernel's name for the reason.
    pub reason: Option<String>,
    /// The sending process, when it was seen on this host.
    pub sender: Option<Sender>,
}

/// The joined line of error.log.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LogLine {
    /// File.
    pub file: String,
    /// Byte offset in that file.
    pub offset: u64,
    /// Printed time as RFC 3339 UTC.
    #[schemars(extend("format" = "date-time"))]
    pub time: Option<String>,
    /// Severity.
    pub level: Option<Level>,
    /// Process id of the worker.
    pub pid: Option<u32>,
    /// The `*N` number.
    pub connection: Option<u64>,
    /// The errno.
    pub errno: Option<i32>,
    /// The message.
    pub message: String,
    /// Text after `while`.
    pub action: Option<String>,
    /// `client:`.
    pub client: Option<String>,
    /// `server:`.
    pub server: Option<String>,
    /// Request line.
    pub request: Option<String>,
    /// Upstream as printed.
    pub upstream: Option<String>,
    /// `host:`.
    pub host: Option<String>,
}

/// How line and kernel event were joined.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Match {
    /// By what.
    pub method: MatchMethod,
    /// Line minus kernel event, milliseconds.
    pub gap_ms: i64,
    /// Incidents the line could have belonged to, the chosen one included.
    pub candidates: u32,
}

/// A listener that overflowed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Listener {
    /// Listen address.
    #[schemars(regex(pattern = ADDRESS))]
    pub address: String,
    /// Connections waiting.
    pub queue: u32,
    /// The limit.
    pub limit: u32,
    /// Which queue.
    pub queue_kind: QueueKind,
    /// Packets dropped during the incident.
    pub dropped: u64,
    /// The process that holds the listener.
    pub owner: Option<ProcessRef>,
}

/// What to change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Advice {
    /// Why and what, in a sentence.
    pub text: String,
    /// The directive, sysctl or place.
    #[serde(rename = "where")]
    pub place: String,
    /// The change itself.
    pub change: String,
}
