//! RSTs that a kernel of this host sent and no hook captured, as packets: rebuilt from the verdict, whose numbers are the
//! socket's own or follow from the segment that was answered. They are never mixed with what was captured: whoever shows
//! one has to say what it is.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;

use crate::model::Verdict;
use crate::model::verdict::Direction;

/// Initial TTL of Linux where the host's own is not known (`IPDEFTTL`, include/net/ip.h).
pub const DEFAULT_TTL: u8 = 64;

/// IP and TCP header of the RST that `verdict` tells of, if none was captured. TTL is that of the host's setting; IP
/// identification and options are left out.
pub fn rebuilt(verdict: &Verdict, ttl: u8) -> Option<Vec<u8>> {
    let reset = verdict.reset.as_ref().filter(|reset| reset.ttl.is_none())?;
    let (flags, seq) = (reset.flags.as_ref()?, reset.seq?);
    let connection = verdict.connection.as_ref()?;
    let (local, remote): (SocketAddr, SocketAddr) =
        (connection.local.parse().ok()?, connection.remote.parse().ok()?);
    let (from, to) = match reset.direction {
        Direction::Sent => (local, remote),
        Direction::Received => (remote, local),
    };
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), ttl),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), ttl),
        _ => return None,
    };
    let window = u16::try_from(reset.window.unwrap_or(0)).unwrap_or(0);
    let mut builder = builder.tcp(from.port(), to.port(), seq, window).rst();
    if flags.contains("ACK") {
        builder = builder.ack(reset.ack.unwrap_or(0));
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[]).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn only_a_reset_that_was_not_captured_is_rebuilt() {
        let mut verdict = samples::upstream_abort();
        assert!(verdict.reset.as_ref().is_some_and(|reset| reset.ttl.is_some()));
        assert_eq!(rebuilt(&verdict, 64), None);
        let reset = verdict.reset.as_mut().unwrap();
        (reset.ttl, reset.direction) = (None, Direction::Sent);
        (reset.flags, reset.seq, reset.ack) = (Some("RST|ACK".to_owned()), Some(7), Some(9));
        let bytes = rebuilt(&verdict, 60).unwrap();
        let packet = etherparse::SlicedPacket::from_ip(&bytes).unwrap();
        let Some(etherparse::TransportSlice::Tcp(tcp)) = packet.transport else { panic!("no TCP") };
        assert!(tcp.rst() && tcp.ack() && !tcp.syn());
        assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number(), bytes[8]), (7, 9, 60));
        let connection = verdict.connection.as_ref().unwrap();
        let local: SocketAddr = connection.local.parse().unwrap();
        assert_eq!(tcp.source_port(), local.port());
    }
}
