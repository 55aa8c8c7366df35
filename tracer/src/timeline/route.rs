//! Where an event belongs: to Nginx's socket, to the other end of the connection, to a connection that is
//! already dead, or to a listener. Decides from the event and the known tuples alone.

use std::net::SocketAddr;

use crate::model::{Event, EventKind, Side, Socket, TcpFlags};

use super::Tuple;

/// Where an event belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// An event of Nginx's own socket or address.
    Own(Tuple),
    /// An event of the other end, on this host.
    Peer(Tuple),
    /// This host answers a peer that goes on speaking after its connection died.
    Aftermath(Tuple),
    /// The host of the other end, which is this host too, answers Nginx: a RST had killed that end before.
    Answered(Tuple),
    /// Something that concerns a connection and need not end it: a reset that the kernel refused, an ICMP error.
    Aside(Tuple),
    /// An overflow.
    Listener,
    /// The end of a process.
    Process,
    /// Concerns no connection of Nginx that failed.
    Nothing,
}

/// What the router asks of the tables.
pub trait Known {
    /// The tuple has an incident, living or judged lately.
    fn has(&self, tuple: Tuple) -> bool;
    /// Nginx is configured to listen there.
    fn listens(&self, address: SocketAddr) -> bool;
    /// The address is an upstream of the configuration.
    fn is_upstream(&self, address: SocketAddr) -> bool;
}

/// Routes one event.
pub fn route(event: &Event, known: &impl Known) -> Route {
    match &event.kind {
        EventKind::Standing => Route::Nothing,
        EventKind::ListenOverflow(_) => Route::Listener,
        EventKind::ProcessExit | EventKind::OomVictim => Route::Process,
        EventKind::ResetRefused { local, remote, .. } => Route::Aside(Tuple::new(*local, *remote)),
        EventKind::IcmpError(error) => Route::Aside(Tuple::new(error.local, error.remote)),
        EventKind::ResetSent { after_reset: Some(_), local, remote, .. } => {
            after_reset(Tuple::new(*local, *remote), known)
        }
        EventKind::ResetSent { local, remote, .. } => match &event.socket {
            Some(socket) if is_of_others(event, socket) => Route::Nothing,
            Some(socket) => of_socket(socket),
            None => without_socket(event, Tuple::new(*local, *remote), known),
        },
        EventKind::ResetReceived
        | EventKind::ResetSeen { .. }
        | EventKind::OtherCapture(_)
        | EventKind::Closed { .. } => event.socket.as_ref().map_or(Route::Nothing, of_socket),
    }
}

fn of_socket(socket: &Socket) -> Route {
    let tuple = Tuple::of(socket);
    if socket.side.is_nginx() { Route::Own(tuple) } else { Route::Peer(tuple) }
}

/// A process that is not Nginx resets a connection to an upstream of Nginx that nobody saw Nginx open: its own.
fn is_of_others(event: &Event, socket: &Socket) -> bool {
    let unknown = socket.opened.is_none() && socket.owner.is_none() && !socket.preexisting;
    unknown && socket.side == Side::Upstream && event.task.is_foreign()
}

fn after_reset(tuple: Tuple, known: &impl Known) -> Route {
    if known.has(tuple) || known.listens(tuple.local) || known.is_upstream(tuple.remote) {
        return Route::Aftermath(tuple);
    }
    if known.has(tuple.reversed()) {
        Route::Aftermath(tuple.reversed())
    } else {
        Route::Answered(tuple.reversed())
    }
}

/// A reset sent for a segment that met no connection.
/// The same host may be Nginx's side or the other end; on the reply path the sender's event comes first.
fn without_socket(event: &Event, tuple: Tuple, known: &impl Known) -> Route {
    if known.has(tuple) {
        return Route::Aftermath(tuple);
    }
    if known.has(tuple.reversed()) {
        return Route::Peer(tuple.reversed());
    }
    if known.listens(tuple.local) {
        return Route::Own(tuple);
    }
    if known.is_upstream(tuple.remote) && !is_syn(event) {
        return Route::Nothing;
    }
    Route::Peer(tuple.reversed())
}

fn is_syn(event: &Event) -> bool {
    event
        .packet
        .as_ref()
        .is_some_and(|packet| packet.flags.has(TcpFlags::SYN) && !packet.flags.has(TcpFlags::ACK))
}
