//! Plain data: what was seen, what was concluded. Depends on nothing and does no I/O.
//!
//! Everything here is serialisable, so that a recorded stream of [`Input`]s gives the same
//! verdicts on any machine, without root.

pub mod access;
pub mod event;
pub mod facts;
pub mod icmp;
pub mod input;
pub mod log;
pub mod mac;
pub mod message;
pub mod packet;
pub mod slug;
pub mod socket;
pub mod time;
pub mod verdict;

pub use access::{AccessRecord, Attempt};
pub use event::{Backlog, Elsewhere, Event, EventKind, ExitStatus, OtherCapture, Overflow, QueueKind, Task};
pub use facts::{
    CaptureFacts, ClockState, ConfigLine, HookState, HostFacts, Interface, LossReport, Losses, NginxConfig,
    ProcessFacts, SystemFacts,
};
pub use icmp::{IcmpError, IcmpReason};
pub use input::Input;
pub use log::{Level, LogRecord, LogSide, MessageKind, UnixState};
pub use mac::Mac;
pub use message::MessageClass;
pub use packet::{Packet, TcpFlags, Timestamps};
pub use socket::{Baseline, BaselineSource, Filtered, PeerHistory, Side, Socket, TcpState};
pub use time::{Clock, Mono, Utc};
pub use verdict::Verdict;
