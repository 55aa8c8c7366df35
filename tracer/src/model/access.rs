//! One line of access.log, read: how a request ended. Only what helps to judge a connection.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Mono, Utc};

/// The client went away before the response (`NGX_HTTP_CLIENT_CLOSED_REQUEST`).
const CLIENT_CLOSED: u16 = 499;

/// How a request ended. What the format does not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AccessRecord {
    /// File the line came from.
    pub file: String,
    /// When the line appeared, for a followed file.
    pub arrival: Option<Mono>,
    /// When the request ended (`$msec`, `$time_iso8601`, `$time_local`).
    pub time: Option<Utc>,
    /// `$pid`.
    pub pid: Option<u32>,
    /// `$connection`: the number that error.log prints as `*N`.
    pub connection: Option<u64>,
    /// The other end of the connection: `$realip_remote_addr`, else `$remote_addr`.
    pub client: Option<IpAddr>,
    /// Its port: `$realip_remote_port`, else `$remote_port`.
    pub client_port: Option<u16>,
    /// `$remote_addr` where it differs from `client`: who a proxy in front spoke for.
    pub behind: Option<IpAddr>,
    /// `$request`.
    pub request: Option<String>,
    /// `$status`.
    pub status: Option<u16>,
    /// `$body_bytes_sent`.
    pub body_bytes_sent: Option<u64>,
    /// `$sent_http_content_length`.
    pub content_length: Option<u64>,
    /// `$request_completion`: whether the whole response was sent.
    pub complete: Option<bool>,
    /// `$request_time`, milliseconds.
    pub request_ms: Option<u64>,
    /// The upstreams tried, in order.
    pub attempts: Vec<Attempt>,
}

/// One try of one upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attempt {
    /// `addr:port` or `unix:/path`.
    pub address: Option<String>,
    /// Its status; `None` if it gave none.
    pub status: Option<u16>,
}

impl Attempt {
    /// No answer, or one of a failing server.
    fn has_failed(&self) -> bool {
        self.status.is_none_or(|status| status >= 500)
    }
}

impl AccessRecord {
    /// The other end of the connection, where the format has its port.
    pub fn peer(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.client?.to_canonical(), self.client_port?))
    }

    /// The client got an error, or did not wait for the answer.
    pub fn has_failed(&self) -> bool {
        self.is_broken_off() || self.status.is_some_and(|status| status >= 500)
    }

    /// The client did not stay to the end: what Nginx gives a request whose connection was closed or reset.
    pub fn is_broken_off(&self) -> bool {
        self.status.is_some_and(|status| matches!(status, CLIENT_CLOSED | 400 | 408))
    }

    /// A later try served what an earlier one had failed to.
    pub fn is_repaired(&self) -> bool {
        let earlier = self.attempts.len().saturating_sub(1);
        self.attempts[..earlier].iter().any(Attempt::has_failed)
            && self.status.is_some()
            && !self.has_failed()
    }

    /// It took this long at least, milliseconds, give or take a tick; `false` where the format does not tell.
    pub fn lasted(&self, milliseconds: u32) -> bool {
        const TICK_MS: u64 = 20;
        self.request_ms.is_some_and(|took| took + TICK_MS >= u64::from(milliseconds))
    }

    /// A response of which the client got only a part.
    pub fn is_cut(&self) -> bool {
        let is_success = self.status.is_some_and(|status| (200..300).contains(&status));
        let is_head = self.request.as_deref().is_some_and(|request| request.starts_with("HEAD "));
        let is_short = match (self.body_bytes_sent, self.content_length) {
            (Some(sent), Some(length)) => sent < length,
            _ => false,
        };
        is_success && !is_head && (is_short || self.complete == Some(false))
    }

    /// Whether it may explain an incident at all; most lines tell of requests that went well.
    pub fn is_notable(&self) -> bool {
        self.has_failed() || self.is_cut() || self.attempts.len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: u16, attempts: &[Option<u16>]) -> AccessRecord {
        let attempt = |status: &Option<u16>| Attempt { address: None, status: *status };
        AccessRecord {
            status: Some(status),
            attempts: attempts.iter().map(attempt).collect(),
            ..AccessRecord::default()
        }
    }

    #[test]
    fn a_repaired_request_had_a_failure_before_its_success() {
        assert!(record(200, &[Some(502), Some(200)]).is_repaired());
        assert!(record(404, &[None, Some(404)]).is_repaired());
        assert!(!record(200, &[Some(200)]).is_repaired());
        assert!(!record(200, &[Some(200), Some(200)]).is_repaired());
        assert!(!record(502, &[Some(502), Some(502)]).is_repaired());
        assert!(!record(499, &[Some(502), None]).is_repaired());
    }

    #[test]
    fn clients_that_did_not_stay_and_errors_of_servers_are_failures() {
        for (status, is_failure) in
            [(499, true), (400, true), (408, true), (502, true), (404, false), (200, false)]
        {
            assert_eq!(record(status, &[]).has_failed(), is_failure, "{status}");
        }
    }

    #[test]
    fn a_cut_response_is_short_or_called_incomplete() {
        let sent = |sent, length| AccessRecord {
            body_bytes_sent: Some(sent),
            content_length: Some(length),
            ..record(200, &[])
        };
        assert!(sent(10, 20).is_cut() && !sent(20, 20).is_cut());
        assert!(AccessRecord { complete: Some(false), ..record(200, &[]) }.is_cut());
        let head = AccessRecord { request: Some("HEAD / HTTP/1.1".to_owned()), ..sent(0, 20) };
        assert!(!head.is_cut());
        assert!(!AccessRecord { complete: Some(false), ..record(304, &[]) }.is_cut());
    }
}
