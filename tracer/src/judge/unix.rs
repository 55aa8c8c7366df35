//! Upstreams behind unix sockets. No segment of TCP tells of them and no device lies between: whatever ended such a
//! connection was the process at its other end, on this host, so that an errno says more than it does for TCP.

use crate::model::{LogRecord, LogSide, MessageClass, UnixState};
use crate::timeline::Subject;

use super::case::Case;

/// `EAGAIN`: of `connect()` on a unix socket, that the queue of the listener is full (`unix_stream_connect`).
const AGAIN: i32 = 11;

/// What became of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// `ECONNRESET`: the other end closed, or ended, with data unread, or before it had accepted (`unix_release_sock`).
    Reset,
    /// The other end closed, or ended, otherwise.
    Closed,
    /// The other end kept the connection and neither read nor wrote until a timer of Nginx ran out.
    Silent,
    /// The listener's queue is full.
    QueueFull,
    /// No socket is there, or nobody listens on it.
    Absent,
    /// The worker may not connect.
    Denied,
}

/// A line about an upstream behind a unix socket.
#[derive(Debug, Clone, Copy)]
pub struct Unix<'a> {
    /// The line.
    pub record: &'a LogRecord,
    /// Path of the socket.
    pub path: &'a str,
    /// What it tells of.
    pub how: How,
}

impl<'a> Unix<'a> {
    /// What a case that only a line speaks of says about a unix socket.
    pub fn of(case: &Case<'a>) -> Option<Self> {
        let Subject::Line(record) = &case.incident.subject else { return None };
        let path = record.unix_path().filter(|_| record.side == LogSide::Upstream)?;
        Some(Self { record, path, how: how(record)? })
    }

    /// What was found at the path when the line had come.
    pub fn state(&self) -> Option<&'a UnixState> {
        self.record.socket.as_ref()
    }
}

fn how(record: &LogRecord) -> Option<How> {
    match record.class() {
        MessageClass::ResetByPeer => Some(How::Reset),
        MessageClass::ClosedEarly | MessageClass::BrokenPipe => Some(How::Closed),
        MessageClass::TimedOut => Some(How::Silent),
        MessageClass::ResourceLimit if record.errno == Some(AGAIN) => Some(How::QueueFull),
        MessageClass::SocketMissing | MessageClass::Refused => Some(How::Absent),
        MessageClass::Permission => Some(How::Denied),
        _ => None,
    }
}
