//! What a worker's system call must have returned, given what the kernel saw: the bridge between an event
//! and the errno of a log line. Knows no addresses and no times.

use crate::model::{EventKind, LogSide, MessageClass, MessageKind, Side, TcpState};
use crate::timeline::Incident;

/// The failure as a worker of Nginx sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// RST in `SYN_SENT`: ECONNREFUSED (`tcp_reset`).
    Refused,
    /// RST in any other state but `CLOSE_WAIT`: ECONNRESET.
    Reset,
    /// RST in `CLOSE_WAIT`: EPIPE.
    ResetAfterFin,
    /// The peer's FIN came first, Nginx closed in `CLOSE_WAIT`: a read of zero bytes, no errno.
    PeerClosed,
    /// Nginx closed although no answer had come: a timer, a limit, or the other half ended.
    GaveUp,
    /// The same while connecting; the errno may have been kept aside for Nginx alone (`sk_err_soft`).
    ConnectGivenUp,
    /// Nginx's close sent a RST.
    ResetByUs,
    /// The same, and the peer had closed before.
    ResetByUsAfterFin,
    /// The kernel gave the socket this errno without a RST.
    Error(i32),
    /// Only the other end was seen.
    OtherEnd,
}

/// The fact of an incident about a connection.
pub fn fact(incident: &Incident) -> Fact {
    let Some(principal) = incident.principal() else { return Fact::OtherEnd };
    let state = incident.state();
    match (&principal.kind, state) {
        (EventKind::ResetReceived, _) if incident.is_echo(principal) => Fact::GaveUp,
        (EventKind::ResetReceived, TcpState::SynSent) => Fact::Refused,
        (EventKind::ResetReceived, TcpState::CloseWait) => Fact::ResetAfterFin,
        (EventKind::ResetReceived, _) => Fact::Reset,
        (EventKind::ResetSent { .. }, _) if incident.socket().is_some_and(|socket| socket.fin_received) => {
            Fact::ResetByUsAfterFin
        }
        (EventKind::ResetSent { .. } | EventKind::ResetSeen { .. }, _) => Fact::ResetByUs,
        (EventKind::Closed { .. }, state) => close_fact(incident, state),
        _ => Fact::OtherEnd,
    }
}

fn close_fact(incident: &Incident, state: TcpState) -> Fact {
    match incident.socket().map_or(0, |socket| socket.error) {
        0 if state == TcpState::CloseWait => Fact::PeerClosed,
        0 if state == TcpState::SynSent => Fact::ConnectGivenUp,
        0 => Fact::GaveUp,
        error => Fact::Error(error),
    }
}

/// Whether a line of this class and errno can be what Nginx says about the fact (`nginx.md`: `test_connect`,
/// `ngx_connection_error`; TLS turns ECONNRESET on read into an orderly end, so such lines carry no errno).
pub fn fits(fact: Fact, class: MessageClass, errno: Option<i32>) -> bool {
    use MessageClass as C;
    let hidden = errno.is_none()
        && matches!(
            class,
            C::ClosedEarly | C::HandshakeFailed | C::TlsFailed | C::ClientAborted | C::ClientIdleClosed
        );
    match fact {
        Fact::Refused => errno == Some(111),
        Fact::Reset => matches!(errno, Some(104 | 107)) || hidden,
        Fact::ResetAfterFin => errno == Some(32) || hidden,
        Fact::PeerClosed => hidden,
        Fact::GaveUp | Fact::ResetByUs => {
            matches!(
                class,
                C::TimedOut
                    | C::ConfigLimit
                    | C::InvalidResponse
                    | C::InvalidRequest
                    | C::ResourceLimit
                    | C::StreamEnded
            ) || (fact == Fact::ResetByUs && class == C::LocalAbort)
                || class == C::HandshakeFailed
        }
        Fact::ResetByUsAfterFin => {
            fits(Fact::PeerClosed, class, errno) || fits(Fact::ResetByUs, class, errno)
        }
        Fact::ConnectGivenUp => {
            let rejected = matches!(class, C::Unreachable | C::Permission) || errno == Some(111);
            rejected || fits(Fact::GaveUp, class, errno)
        }
        Fact::Error(error) => errno == Some(error),
        Fact::OtherEnd => matches!(errno, Some(32 | 104 | 111)) || hidden,
    }
}

/// Whether the line speaks of the half the incident is about.
pub fn side_fits(line: LogSide, incident: Option<Side>) -> bool {
    matches!(
        (line, incident),
        (LogSide::Client, Some(Side::Client)) | (LogSide::Upstream, Some(Side::Upstream))
    )
}

/// Messages without a side that still concern a connection (`worker_connections`, descriptors).
pub fn speaks_of_limits(kind: MessageKind) -> bool {
    kind.class() == MessageClass::ResourceLimit
}

#[cfg(test)]
mod tests {
    use super::*;
    use MessageClass as C;

    #[test]
    fn errnos_tell_refused_reset_and_broken_pipe_apart() {
        let cases = [
            (Fact::Refused, C::Refused, Some(111), true),
            (Fact::Refused, C::ResetByPeer, Some(104), false),
            (Fact::Reset, C::ResetByPeer, Some(104), true),
            (Fact::Reset, C::BrokenPipe, Some(32), false),
            (Fact::ResetAfterFin, C::BrokenPipe, Some(32), true),
            (Fact::ResetAfterFin, C::ResetByPeer, Some(104), false),
            (Fact::GaveUp, C::TimedOut, Some(110), true),
            (Fact::GaveUp, C::ResetByPeer, Some(104), false),
            (Fact::GaveUp, C::Unreachable, Some(113), false),
            (Fact::ConnectGivenUp, C::Unreachable, Some(113), true),
            (Fact::ConnectGivenUp, C::TimedOut, Some(110), true),
            (Fact::ConnectGivenUp, C::ResetByPeer, Some(104), false),
            (Fact::Error(113), C::Unreachable, Some(113), true),
            (Fact::Error(113), C::Unreachable, Some(101), false),
        ];
        for (fact, class, errno, expected) in cases {
            assert_eq!(fits(fact, class, errno), expected, "{fact:?} {class:?} {errno:?}");
        }
    }

    #[test]
    fn tls_hides_the_errno_of_a_reset() {
        assert!(fits(Fact::Reset, C::ClosedEarly, None));
        assert!(!fits(Fact::Refused, C::ClosedEarly, None));
    }
}
