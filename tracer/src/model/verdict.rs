//! The verdict: the one record every output is a view of. Field names and slugs are a contract
//! (`docs/verdict.schema.json`); a field may be added, none is renamed without a new `schema` number.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::QueueKind;
use super::log::Level;
pub use super::slug::{
    Cause, Certainty, ConnectionSide, Direction, Impact, Kind, MatchMethod, Party, Phase, Segment, Stage,
    Weight,
};

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Verdict {
    /// `rstscope.verdict/1`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: Cow<'static, str>,
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

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Evidence {
    /// Slug of the detector.
    #[schemars(regex(pattern = SLUG))]
    pub code: Cow<'static, str>,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Missing {
    /// Slug of what was looked for.
    #[schemars(regex(pattern = SLUG))]
    pub code: Cow<'static, str>,
    /// Why it could not be had.
    pub why: String,
}

/// Another explanation that was considered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ProcessRef {
    /// Process id.
    pub pid: u32,
    /// Name of the process.
    pub comm: String,
}

/// The process that sent a RST, seen on this host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Sender {
    /// The host it ran on, where that is not the observer's; the rest was seen there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Process id.
    pub pid: u32,
    /// Name of the process.
    pub comm: String,
    /// Executable path.
    pub exe: Option<String>,
    /// How it was ending, for example `killed by signal 9 (SIGKILL)` or `exited with status 1`.
    pub exit: Option<String>,
    /// Path of its control group.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// Container id, from the control group.
    #[serde(default)]
    pub container: Option<String>,
    /// systemd unit, from the control group.
    #[serde(default)]
    pub unit: Option<String>,
}

/// The RST.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
