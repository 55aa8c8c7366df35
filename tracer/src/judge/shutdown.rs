//! A worker that was told to end, and gave up what it still had when its time was over.

use std::time::Duration;

use crate::model::{Event, EventKind, TcpState};

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
        let (ended, exit) = self.processes.ended.get(&close.task.pid)?;
        let right_after = *ended >= close.time && ended.since(close.time) <= SAME_TURN;
        let in_order = exit.signal == 0 && exit.status == 0;
        (waited && unexplained && limited && right_after && in_order).then_some(close)
    }
}
