//! Was Nginx working on a request when its client left? The client's own socket tells it badly: a response that pauses, or
//! whose last frame is unread, looks like one that is complete.

use std::time::Duration;

use super::case::Case;
use super::rules::TLS_FAREWELL_BYTES;
use crate::model::{Event, MessageClass, Socket};

/// A client connection silent for as long as this had not just got the end of a response.
const PAUSE_MS: u32 = 200;
/// From the end of a request to its line: what a file is read late by.
const LOGGED: Duration = Duration::from_secs(1);
/// What clocks differ by.
const CLOCKS: Duration = Duration::from_millis(5);

impl Case<'_> {
    /// error.log says so. The errno of the message tells only how the client left.
    pub fn is_at_work_by_line(&self) -> bool {
        const AT_WORK: [&str; 5] = [
            "connecting to upstream",
            "SSL handshaking to upstream",
            "sending request",
            "reading ",
            "sending ",
        ];
        let Some(line) = self.line else { return false };
        let action = line.record.action.as_deref().unwrap_or("");
        line.record.kind.class() == MessageClass::ClientAborted
            || AT_WORK.iter().any(|start| action.starts_with(start))
    }

    /// access.log says so: a request of this client ended with the RST, and had begun before the silence that came before.
    pub fn is_at_work_by_access(&self) -> bool {
        let reset = self.incident.reset_received().filter(|_| self.is_client()).map(|event| event.time);
        let logged = self.access.and_then(|access| access.arrival);
        let lasted = |idle: u32| self.access.is_some_and(|access| access.lasted(idle));
        let paused =
            self.socket().and_then(Socket::idle_ms).is_some_and(|idle| idle >= PAUSE_MS && lasted(idle));
        let with_it = |(reset, logged): (crate::model::Mono, crate::model::Mono)| {
            reset.before(CLOCKS) <= logged && logged <= reset.after(LOGGED)
        };
        paused && reset.zip(logged).is_some_and(with_it)
    }

    /// The upstream connection that Nginx gave up for this client waited for its answer.
    pub fn upstream_has_not_answered(&self) -> bool {
        let waits = |event: &&Event| event.socket.as_ref().is_some_and(Socket::awaits_answer);
        !self.is_tunnel() && self.effects.first().is_some_and(waits)
    }

    /// The client's RST itself acknowledges all that Nginx had sent just before, the last of it was no more than a frame or an alert in TLS, and Nginx gave nothing up for this client:
    /// a client of HTTP/2 that has its response closes without reading the empty frame behind it.
    pub fn has_all_but_read_it(&self) -> bool {
        let is_short = self.outstanding() <= u64::from(TLS_FAREWELL_BYTES);
        let is_sent = self.socket().is_some_and(|socket| socket.unsent == 0);
        let is_live = !self.is_capture() && self.is_tls() == Some(true) && !self.is_tunnel();
        is_live && is_short && is_sent && self.is_acknowledged_by_reset()
    }
}
