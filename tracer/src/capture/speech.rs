//! What the ends of a connection say, as far as that tells whether something is still due: TLS or HTTP or neither,
//! farewells that ask for no answer, requests behind a TLS handshake.

use memchr::memmem;

use super::segment::{Bytes, Segment};

/// TLS records: alert, handshake and application data.
const ALERT: u8 = 0x15;
const HANDSHAKE: u8 = 0x16;
const APPLICATION_DATA: u8 = 0x17;
/// Length of an encrypted alert as TLS 1.3 sends it, with the record header.
const ENCRYPTED_ALERT: u32 = 24;
/// Length of a TLS record's header.
const RECORD_HEADER: usize = 5;
/// Length of a TLS record with the 17 bytes of a GOAWAY or PING of HTTP/2 under the cipher suite that adds most. No request
/// of HTTP/1 is so short.
const SHORT_RECORD: usize = 46;
/// Fewer bytes do not tell a protocol.
const TELLING: usize = 6;
/// Bytes of a payload in which its first line is looked for.
const LOOKED_AT: usize = 512;

/// Whether these are words of TLS or of plain HTTP. Others may still be followed by TLS: a PROXY protocol, STARTTLS.
pub fn is_tls(payload: &[u8]) -> Option<bool> {
    const METHODS: [&[u8]; 8] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"PRI "];
    if payload.starts_with(&[HANDSHAKE, 3]) {
        return Some(true);
    }
    METHODS.iter().any(|method| payload.starts_with(method)).then_some(false)
}

/// Whether the first words of a connection are those of a protocol in which nothing is known of questions and
/// answers: neither HTTP nor TLS, nor a PROXY protocol before them. `None` where they do not tell.
pub fn is_foreign(segment: &Segment, payload: &[u8], by_opener: bool) -> Option<bool> {
    const PROXY: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];
    const OTHERS: [&[u8]; 2] = [b" SIP/2.0", b" RTSP/1.0"];
    if segment.payload == 0 || payload.len() < TELLING {
        return None;
    }
    let text = &payload[..payload.len().min(LOOKED_AT)];
    if !by_opener {
        return Some(!text.starts_with(b"HTTP/") && !text.starts_with(&[HANDSHAKE, 3]));
    }
    let line = memmem::find(text, b"\r\n").map_or(text, |end| &text[..end]);
    let method = line.iter().take_while(|letter| letter.is_ascii_uppercase()).count();
    let asks = method >= 3 && line.get(method) == Some(&b' ') && !OTHERS.iter().any(|it| line.ends_with(it));
    let http = asks && (memmem::find(line, b" HTTP/").is_some() || is_tls(text) == Some(false));
    Some(!http && !text.starts_with(&[HANDSHAKE, 3]) && !PROXY.iter().any(|start| text.starts_with(start)))
}

/// TLS and HTTP/2 say goodbye before FIN, and HTTP/2 keeps its books; that asks for no answer. An error that TLS reports to the opener is one.
pub fn is_farewell(segment: &Segment, bytes: &Bytes<'_>, by_opener: bool) -> bool {
    const FATAL: u8 = 2;
    match bytes.payload {
        [ALERT, 3, _, 0, 2, FATAL, ..] => by_opener,
        [ALERT, 3, ..] => true,
        [APPLICATION_DATA, 3, 3, 0, 19, ..] => segment.payload == ENCRYPTED_ALERT,
        _ => segment.payload > 0 && is_bookkeeping(bytes.payload, segment.payload, by_opener),
    }
}

/// Whole frames of clear HTTP/2 that ask for no answer: SETTINGS, PING, GOAWAY, `WINDOW_UPDATE`. Of who answers only the last
/// word is none.
fn is_bookkeeping(payload: &[u8], on_wire: u32, by_opener: bool) -> bool {
    const FRAME_HEADER: usize = 9;
    const GOAWAY: u8 = 7;
    const ASKING_NOTHING: [u8; 4] = [4, 6, GOAWAY, 8];
    let (mut rest, mut left) = (payload, usize::try_from(on_wire).unwrap_or(0));
    while left > 0 {
        let [0, high, low, kind, _, _, _, _, _, ..] = *rest else { return false };
        let length = FRAME_HEADER + usize::from(u16::from_be_bytes([high, low]));
        let is_none = if by_opener { ASKING_NOTHING.contains(&kind) } else { kind == GOAWAY };
        if !is_none || length > left {
            return false;
        }
        left -= length;
        rest = rest.get(length..).unwrap_or_default();
    }
    true
}

/// Records of TLS so short that they are most likely how HTTP/2 takes its leave or keeps its books: GOAWAY, PING, a larger
/// window, settings acknowledged. An alert may follow.
pub fn is_parting(segment: &Segment, bytes: &Bytes<'_>) -> bool {
    let mut rest = usize::try_from(segment.payload).unwrap_or(0);
    let mut records = bytes.payload;
    if !records.starts_with(&[APPLICATION_DATA, 3]) {
        return false;
    }
    while rest > 0 {
        let length = match records {
            [APPLICATION_DATA | ALERT, 3, 0..=4, high, low, ..] => {
                RECORD_HEADER + usize::from(u16::from_be_bytes([*high, *low]))
            }
            // Cut off by the capture.
            [] => rest,
            _ => return false,
        };
        if length > SHORT_RECORD || length > rest {
            return false;
        }
        rest -= length;
        records = records.get(length..).unwrap_or_default();
    }
    true
}

/// Whether a segment of TLS may carry what an application said: everything but records of the handshake. `rest` is
/// how much of the record before is still to come.
pub fn may_ask(segment: &Segment, bytes: &Bytes<'_>, rest: &mut usize) -> bool {
    let total = usize::try_from(segment.payload).unwrap_or(0);
    let mut at = *rest;
    while at < total {
        match bytes.payload.get(at..) {
            Some([kind, 3, 0..=4, high, low, ..]) if *kind != APPLICATION_DATA => {
                at += 5 + usize::from(u16::from_be_bytes([*high, *low]));
            }
            _ => return true,
        }
    }
    *rest = at - total;
    false
}
