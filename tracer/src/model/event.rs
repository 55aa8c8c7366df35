//! One thing the kernel did, as a hook reported it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Baseline, IcmpError, Mono, Packet, ProcessFacts, Side, Socket, TcpFlags, TcpState};

/// How a process ended, from `task_struct.exit_code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Signal that killed the process; zero for an ordinary exit.
    pub signal: u8,
    /// Exit status; meaningful when `signal` is zero.
    pub status: u8,
    /// A core dump was written.
    pub core_dumped: bool,
}

/// The task that ran when the hook fired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Process id (tgid).
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// `comm` of the thread group leader.
    pub comm: String,
    /// The task acted itself: process context, holding the socket.
    /// When false the task is whoever happened to run on that CPU, and means nothing.
    pub is_actor: bool,
    /// The task was exiting (`PF_EXITING`), and how; of a task that just happened to run it is not said.
    pub exiting: Option<ExitStatus>,
    /// The process is one of Nginx's.
    pub is_nginx: bool,
}

impl Task {
    /// Nobody in particular: what was seen had no task, or it is not known.
    pub fn nobody() -> Self {
        Self { pid: 0, tid: 0, comm: String::new(), is_actor: false, exiting: None, is_nginx: false }
    }

    /// It did what was seen, and is one of Nginx's.
    pub fn is_own(&self) -> bool {
        self.is_actor && self.is_nginx
    }

    /// It did what was seen, and is not Nginx.
    pub fn is_foreign(&self) -> bool {
        self.is_actor && !self.is_nginx
    }
}

/// Which queue of a listener was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueKind {
    /// Completed connections waiting for `accept()`.
    Accept,
    /// Half-open connections.
    Syn,
}

/// A listener that had no room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overflow {
    /// Listen address.
    pub listener: SocketAddr,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// `sk_ack_backlog`: connections waiting.
    pub queue: u32,
    /// `sk_max_ack_backlog`: the limit (`min(backlog, somaxconn)`).
    pub limit: u32,
    /// Which queue.
    pub queue_kind: QueueKind,
    /// Packets dropped since the last event of this listener, this one included.
    /// The kernel counts from its start on; `collect::overflow` turns that into differences.
    pub dropped: u32,
    /// The client whose packet was dropped last.
    pub client: Option<SocketAddr>,
    /// The listener is Nginx's own (`Client`) or a local upstream's (`UpstreamPeer`).
    pub side: Side,
}

/// The accept queue of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// `sk_ack_backlog`: connections waiting.
    pub queue: u32,
    /// `sk_max_ack_backlog`: the limit.
    pub limit: u32,
}

impl Backlog {
    /// Has it no room (`sk_acceptq_is_full`)?
    pub fn is_full(self) -> bool {
        self.queue > self.limit
    }
}

/// Where an event happened that a recording of another host tells of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Name of that host.
    pub host: String,
    /// What was known there of the process that acted.
    pub process: Option<ProcessFacts>,
    /// The kernel's OOM killer had chosen that process.
    pub oom: bool,
}

/// What a second capture or recording, taken at the other end of the connection, shows of its failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherCapture {
    /// Its file.
    pub file: String,
    /// It has the RST that Nginx's end received; `None` where there was none, or its absence would mean nothing.
    pub reset: Option<bool>,
    /// That it has no such RST cannot be a loss of its own: it counts its losses and had none, or that end went on.
    pub sure: bool,
    /// It has a RST in Nginx's name that the first capture does not have.
    pub other_reset: bool,
    /// It has what Nginx's end sent in vain; `None` as for `reset`.
    pub arrived: Option<bool>,
    /// It has an acknowledgment of that.
    pub answered: bool,
    /// Hops from the other end to the place of that capture, zero on its host.
    pub hops: Option<u8>,
    /// The upstream's listener was full while Nginx waited for it; whether it was this connection that it dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflow: Option<bool>,
    /// It is the recording of a tracer: what stands here is what that host's TCP did, not what its link carried.
    #[serde(default)]
    pub is_recording: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum EventKind {
    /// The kernel accepted a RST and killed the socket (`tcp_reset`). `packet` is the RST.
    ResetReceived,
    /// The kernel sent a RST (`tcp_send_active_reset`, `tcp_v4_send_reset`).
    /// `packet` is the segment it answers, `None` for an active reset.
    ResetSent {
        /// The kernel's name without prefix, for example `TCP_ABORT_ON_CLOSE`; `None` on kernels without one.
        reason: Option<String>,
        /// The tuple had been killed by a received RST shortly before.
        after_reset: Option<Mono>,
        /// Local and remote address, when there is no full socket to tell them.
        local: SocketAddr,
        /// See `local`.
        remote: SocketAddr,
        /// The accept queue of the listener that answered, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backlog: Option<Backlog>,
    },
    /// A capture shows a RST in the name of Nginx's end; `packet` is that RST. The kernel that may have sent it
    /// was not asked.
    ResetSeen {
        /// What TTL the packets of Nginx's end carry where the capture was taken.
        baseline: Option<Baseline>,
        /// Latest `TSval` of Nginx's end.
        ts_recent: Option<u32>,
        /// The segment it answers, if it quotes one.
        answers: Option<Box<Packet>>,
    },
    /// A connection of a watched listener on which nothing has moved for a while, as `sock_diag` shows it; only
    /// recordings for `rstscope correlate` have them. Of its numbers those that `struct tcp_info` tells are known.
    Standing,
    /// What a capture or recording taken at the other end shows of a connection that failed.
    OtherCapture(OtherCapture),
    /// A RST for a living connection arrived and was refused (out of window, challenge ACK). `packet` is the RST.
    ResetRefused {
        /// The kernel's drop reason without prefix.
        reason: String,
        /// Local address of the connection.
        local: SocketAddr,
        /// Remote address of the connection.
        remote: SocketAddr,
    },
    /// An ICMP error about a segment of the connection arrived.
    IcmpError(IcmpError),
    /// A connection ended in a way that healthy traffic does not: an error, an unanswered request,
    /// unacknowledged data, a dying owner.
    Closed {
        /// State before.
        old: TcpState,
        /// State after.
        new: TcpState,
    },
    /// A listener dropped a connection.
    ListenOverflow(Overflow),
    /// A process that Nginx or an upstream runs in ended. `task` is that process.
    ProcessExit,
    /// The OOM killer chose a process. `task` is the victim.
    OomVictim,
}

/// One event. Never changed after it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Kernel time.
    pub time: Mono,
    /// What happened.
    pub kind: EventKind,
    /// The socket concerned, when there was a full one.
    pub socket: Option<Socket>,
    /// The packet concerned, when a hook saw it.
    pub packet: Option<Packet>,
    /// The task that ran.
    pub task: Task,
    /// Inode number of the network namespace it happened in; zero if not known. Not in recordings before 0.2.
    #[serde(default)]
    pub netns: u32,
    /// It happened on another host, and came here by `rstscope correlate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Box<Elsewhere>>,
}

impl Event {
    /// The packet opens a connection: a RST, if one was sent, answers it.
    pub fn answers_syn(&self) -> bool {
        let opens = |packet: &Packet| packet.flags.has(TcpFlags::SYN) && !packet.flags.has(TcpFlags::ACK);
        self.packet.as_ref().is_some_and(opens)
    }

    /// A RST that one of Nginx's processes sent, and not because it was ending.
    pub fn is_own_reset(&self) -> bool {
        matches!(self.kind, EventKind::ResetSent { .. }) && self.task.is_own() && self.task.exiting.is_none()
    }

    /// The kernel sent this RST because a segment came, not of its own accord or for a process. Where the segment
    /// cannot be read (lockdown=confidentiality), the socket tells: one that its process had left is in CLOSE when data
    /// met it (`tcp_rcv_state_process`), and none in SYN-SENT is reset without a segment (`tcp_need_reset`).
    pub fn answers_segment(&self) -> bool {
        let alone = |socket: &Socket| match socket.state {
            TcpState::Close => socket.orphan,
            state => state == TcpState::SynSent,
        };
        self.packet.is_some() || (!self.task.is_actor && self.socket.as_ref().is_some_and(alone))
    }
}
