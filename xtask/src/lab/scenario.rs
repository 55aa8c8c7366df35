//! What a scenario is: its ground truth as data, and a small function that produces it.
//!
//! The truth is stated from what the driver really did, never from what the tracer is likely to say.

use super::net::Family;
use super::nginx::Level;
use super::stage::Stage;
use anyhow::Result;
use std::time::Duration;

/// One scenario; a table of them is the lab.
pub struct Scenario {
    /// Unique name, also the pattern of `--scenario`.
    pub name: &'static str,
    /// Number of the fault in the tour of `cargo xtask demo`; none when it is not part of it.
    pub tour: Option<u8>,
    /// One sentence for people: what is being done.
    pub says: &'static str,
    /// Families it makes sense in.
    pub families: &'static [Family],
    /// Where the upstream lives.
    pub place: Place,
    /// Part of `http {}`; `@LISTEN@`, `@UPSTREAM@`, `@NAME@` and `@ROOT@` are filled in.
    pub servers: &'static str,
    /// Part of `stream {}`, filled in alike; Nginx needs its module for it.
    pub streams: &'static str,
    /// Nginx's listener speaks MPTCP; such a scenario is alone.
    pub mptcp: bool,
    /// Produces what has to be older than the tracer; such a scenario is alone.
    pub before: Option<fn(&mut Stage<'_>) -> Result<()>>,
    /// Produces the fault.
    pub drive: fn(&mut Stage<'_>) -> Result<()>,
    /// Incidents that must be reported, each once; no other may be, except harmless ones.
    pub expect: &'static [Expect],
    /// The same where Nginx writes what it does at level `info`, if a line says more than the kernel.
    pub expect_at_info: &'static [Expect],
    /// Parties that a capture taken elsewhere than at Nginx may name as well, because it shows what Nginx's host does not see.
    pub elsewhere: &'static [&'static str],
    /// Likewise parties that two observers, at Nginx and at another end, may name.
    pub with_both: &'static [&'static str],
    /// The line that Nginx must write.
    pub log: LogTruth,
    /// Needs a tracer of its own; where nothing is expected, its kernel side must stay silent.
    pub alone: bool,
    /// Clients and upstreams are [`FAR_AWAY`]; such scenarios have benches of their own.
    pub far: bool,
    /// The kernel side has something to tell although nothing is expected.
    pub hidden: bool,
    /// What it does reaches every tracer of the host.
    pub host_wide: bool,
    /// What its tracer sees; only one of its own may see the whole host.
    pub view: View,
    /// Further arguments of the tracer of its own, filled in like `servers`.
    pub arguments: &'static [&'static str],
    /// Programs and files without which it is skipped.
    pub needs: &'static [&'static str],
    /// Hooks that the tracer does without, as on a kernel that refuses them; such a scenario is alone.
    pub disabled: &'static str,
    /// How the kernel side must lose something, if it must; verdicts are not compared then.
    pub loss: Option<Loss>,
}

/// How long a packet takes where they are: another continent, so that also on a busy machine what is near answers in
/// less than half of the way there and back.
pub const FAR_AWAY: Duration = Duration::from_millis(150);

/// A loss that is made to happen.
#[derive(Debug, Clone, Copy)]
pub struct Loss {
    /// Sizes that the tracer gets instead of those for the host.
    pub sizes: &'static str,
    /// It is stopped while the scenario is played, so that nobody empties the ring.
    pub frozen: bool,
    /// What must be counted as lost at the end.
    pub counted: &'static str,
}

/// What most scenarios share.
pub const ORDINARY: Scenario = Scenario {
    name: "",
    tour: None,
    says: "",
    families: BOTH,
    place: Place::Remote,
    servers: "",
    streams: "",
    mptcp: false,
    before: None,
    drive: |_| Ok(()),
    expect: &[],
    expect_at_info: &[],
    elsewhere: &[],
    with_both: &[],
    log: LogTruth::Silent,
    alone: false,
    far: false,
    disabled: "",
    loss: None,
    hidden: false,
    host_wide: false,
    view: View::NginxHost,
    arguments: &[],
    needs: &[],
};

impl Scenario {
    /// What of its needs is not here.
    pub fn missing(&self) -> Option<String> {
        self.needs.iter().find_map(|need| super::program::missing(need))
    }

    /// Incidents that must be reported at this level of error.log.
    pub fn expected_at(&self, level: Level) -> &'static [Expect] {
        let says_more = level == Level::Info && !self.expect_at_info.is_empty();
        if says_more { self.expect_at_info } else { self.expect }
    }

    /// Must the kernel side stay silent?
    pub fn expects_silence(&self) -> bool {
        self.alone && self.expect.is_empty() && !self.hidden && self.loss.is_none()
    }

    /// Nginx's own traffic, with nothing wrong in it?
    pub fn is_healthy(&self) -> bool {
        self.name.starts_with("healthy-")
    }
}

/// IPv4 and IPv6.
pub const BOTH: &[Family] = &[Family::V4, Family::V6];

/// Where the upstream lives, seen from Nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind two routers, in a namespace the tracer may not look into.
    Remote,
    /// On the Nginx host.
    Local,
}

/// What the tracer may look into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The Nginx host's network namespace, as if everything else were other machines.
    NginxHost,
    /// Every namespace, as on a host whose upstreams run in containers beside Nginx.
    WholeHost,
}

/// The part of the error line that must appear, up to the errno's number.
#[derive(Debug, Clone, Copy)]
pub enum LogTruth {
    /// Nginx writes nothing at either level.
    Silent,
    /// Written at level `error` and above, so always.
    Always(&'static str),
    /// Written only from level `info` on.
    Info(&'static str),
    /// Depends on which event the worker sees first; not compared.
    Either,
}

impl LogTruth {
    /// What must be in the log at this level.
    pub fn at(self, level: Level) -> Option<&'static str> {
        match (self, level) {
            (Self::Always(line), _) | (Self::Info(line), Level::Info) => Some(line),
            _ => None,
        }
    }

    /// Must the scenario leave no line at this level?
    pub fn silent_at(self, level: Level) -> bool {
        matches!((self, level), (Self::Silent, _) | (Self::Info(_), Level::Error))
    }
}

/// One incident that must be reported.
#[derive(Debug)]
pub struct Expect {
    /// The one right party.
    pub party: &'static str,
    /// Causes that are right.
    pub causes: &'static [&'static str],
    /// Kinds that are right; empty: any.
    pub kinds: &'static [&'static str],
    /// Impacts that are right; empty: any but `harmless`, or exactly `harmless` for a harmless one.
    pub impacts: &'static [&'static str],
    /// The least certainty the evidence allows.
    pub least: Certainty,
    /// The most certainty that is honest.
    pub most: Certainty,
    /// Side of the connection, and with it which addresses it must have.
    pub side: Option<Side>,
    /// Hidden by default.
    pub harmless: bool,
    /// The line of the ground truth speaks of this incident.
    pub logged: bool,
    /// Anything else in the record.
    pub checks: &'static [Check],
}

/// What most expectations share: an incident on the upstream side.
pub const INCIDENT: Expect = Expect {
    party: "",
    causes: &[],
    kinds: &[],
    impacts: &[],
    least: Certainty::Weak,
    most: Certainty::Proven,
    side: Some(Side::Upstream),
    harmless: false,
    logged: true,
    checks: &[],
};

/// `certainty` of a verdict, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// The party is unknown.
    Undetermined,
    /// One piece.
    Weak,
    /// Two independent pieces.
    Strong,
    /// A decisive piece.
    Proven,
}

impl Certainty {
    /// Reads the slug of the contract.
    pub fn parse(slug: &str) -> Option<Self> {
        [Self::Undetermined, Self::Weak, Self::Strong, Self::Proven].into_iter().find(|it| it.slug() == slug)
    }

    /// The slug of the contract.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Undetermined => "undetermined",
            Self::Weak => "weak",
            Self::Strong => "strong",
            Self::Proven => "proven",
        }
    }
}

/// `connection.side` of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Client to Nginx.
    Client,
    /// Nginx to upstream.
    Upstream,
}

impl Side {
    /// The slug of the contract.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }
}

/// Something else that must hold in the record.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// `connection.idle_ms` is the idle time the driver measured.
    Idle,
    /// `reset.sender` is the process the driver killed or let act.
    Sender,
    /// `reset.sender.exit`, an evidence detail, the summary or the advice names this.
    Says(&'static str),
    /// The RST carried this TCP option.
    Carries(&'static str),
    /// `listener` is Nginx's, full, with this limit.
    ListenerLimit(u64),
    /// `peer_connection` is Nginx's connection to the upstream.
    OtherHalf,
    /// A piece of evidence whose code contains one of these, and which does not speak against.
    Evidence(&'static [&'static str]),
}
