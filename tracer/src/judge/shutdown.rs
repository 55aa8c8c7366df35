//! A worker that was told to end, and gave up what it still had when its time was over.

use std::time::Duration;

use crate::model::{Event, EventKind, Mono, Socket, TcpState};

use super::case::Case;

/// A worker that has given up its connections ends in the same turn of its loop (`ngx_worker_process_cycle`).
const SAME_TURN: Duration = Duration::from_millis(500);

impl<'a> Case<'a> {
    /// `worker_shutdown_timeout` is set, the worker gave this connection up while it waited for the answer, no client was seen
    /// to leave, no line tells why, and right after it the worker ended in order: `ngx_shutdown_timer_handler` does this
    /// without a word.
    pub fn shut_down(&self) -> Option<&'a Event> {
        let close = self.incident.closed().filter(|event| event.task.is_own())?;
        let open = matches!(close.kind, EventKind::Closed { old: TcpState::Established, .. });
        let waited = open && self.error() == 0 && !self.is_client() && self.awaits_answer();
        let unexplained = self.line.is_none() && self.caused_by.is_none() && close.task.exiting.is_none();
        let limited = !self.host.nginx.shutdown_timeouts_ms.is_empty();
        (waited && unexplained && limited && self.ends_in_order(close.task.pid, close.time)).then_some(close)
    }

    /// The worker that held this socket ended in order right after this.
    pub fn is_of_ending_worker(&self, event: &Event, socket: &Socket) -> bool {
        socket.owner.as_ref().is_some_and(|owner| self.ends_in_order(owner.pid, event.time))
    }

    fn ends_in_order(&self, worker: u32, time: Mono) -> bool {
        self.processes.ended.get(&worker).is_some_and(|(ended, exit)| {
            let right_after = *ended >= time && ended.since(time) <= SAME_TURN;
            right_after && exit.signal == 0 && exit.status == 0
        })
    }
}
