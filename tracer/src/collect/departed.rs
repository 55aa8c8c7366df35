//! An upstream connection that was closed in order, as an event: made only when a line of the log calls the close
//! premature, or timed out.

use std::net::SocketAddr;

use rstscope_ebpf::abi::Departed;

use super::decode::{address, baseless, payload};
use super::jiffies;
use crate::model::socket::Owner;
use crate::model::{Event, EventKind, Mono, Socket, Task, TcpState};

/// The close of this connection by worker `pid`, as the kernel side would have reported it.
pub fn event(departed: &Departed, pid: u32, upstream: SocketAddr, by_nginx: bool) -> Event {
    let (old, new) = if by_nginx {
        (TcpState::Established, TcpState::FinWait1)
    } else {
        (TcpState::CloseWait, TcpState::LastAck)
    };
    let hz = jiffies::rate(departed.jiffies, departed.time_ns);
    let age = |stamp: u32| jiffies::age_ms(departed.jiffies, stamp, hz);
    let owner = Owner { pid, comm: "nginx".to_owned() };
    let socket = Socket {
        cookie: departed.cookie,
        netns: departed.netns,
        state: old,
        receive_shutdown: !by_nginx,
        owner: Some(owner.clone()),
        opened: (departed.opened_ns > 0).then_some(Mono(departed.opened_ns)),
        preexisting: departed.preexisting == 1,
        bytes_sent: departed.bytes_sent,
        bytes_received: payload(departed.bytes_received, old.peer_closed()),
        data_segments_in: departed.data_segs_in,
        data_segments_out: departed.data_segs_out,
        srtt_us: departed.srtt_us_8 >> 3,
        last_sent_ms: (departed.data_segs_out > 0).then(|| age(departed.lsndtime)),
        last_received_ms: (departed.data_segs_in > 0).then(|| age(departed.lrcvtime)),
        ..baseless(address(departed.local, departed.local_port), upstream)
    };
    let task = Task { pid, tid: pid, comm: owner.comm, is_actor: true, exiting: None, is_nginx: true };
    Event {
        time: Mono(departed.time_ns),
        kind: EventKind::Closed { old, new },
        socket: Some(socket),
        packet: None,
        task,
        netns: departed.netns,
        elsewhere: None,
    }
}
