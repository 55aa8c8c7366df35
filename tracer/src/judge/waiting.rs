//! What Nginx was waiting for from a client when it gave the connection up, as its line or its socket tells.

use super::case::Case;

/// What did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The head of the request (`client_header_timeout`).
    Head,
    /// Its body (`client_body_timeout`).
    Body,
    /// Something of the request; no line tells which part.
    Request,
    /// Acknowledgments of the response (`send_timeout`).
    Response,
}

/// Beginnings of what a line says Nginx was doing.
const DOING: [(&str, Wait); 5] = [
    ("reading client request line", Wait::Head),
    ("reading client request headers", Wait::Head),
    ("SSL handshaking", Wait::Head),
    ("reading client request body", Wait::Body),
    ("sending", Wait::Response),
];

impl Wait {
    /// What the client did, after its name.
    pub fn told(self) -> &'static str {
        match self {
            Self::Head => "did not finish the head of its request",
            Self::Body => "stopped sending the body of its request",
            Self::Request => "did not finish its request",
            Self::Response => "did not take the response",
        }
    }

    /// The directives that give it the time.
    pub fn directive(self) -> &'static str {
        match self {
            Self::Head => "client_header_timeout",
            Self::Body => "client_body_timeout",
            Self::Request => "client_header_timeout or client_body_timeout",
            Self::Response => "send_timeout",
        }
    }
}

/// What Nginx waited for, if that can be told.
pub fn waited_for(case: &Case) -> Option<Wait> {
    if let Some(action) = case.line.and_then(|line| line.record.action.as_deref()) {
        let known = DOING.iter().find(|(beginning, _)| action.starts_with(beginning));
        return known.map(|(_, wait)| *wait);
    }
    let socket = case.socket()?;
    if case.outstanding() > 0 {
        return Some(Wait::Response);
    }
    (socket.bytes_sent == 0 && socket.bytes_received > 0).then_some(Wait::Request)
}

/// Bytes of the segment that came after Nginx had closed, if the RST answers one.
pub fn late_bytes(case: &Case) -> Option<u32> {
    let event = case.incident.reset_sent()?;
    event.packet.as_ref().map(|packet| packet.payload_len).filter(|bytes| *bytes > 0)
}
