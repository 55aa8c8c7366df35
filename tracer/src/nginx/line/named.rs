//! Addresses that stand inside a message because the line has no fields: idle connections that a client closed, and
//! the notes on stream sessions, which carry whole tuples.

use memchr::memmem;

use super::tail::Tail;
use crate::model::MessageKind;

/// Fills the fields that the message names.
pub(super) fn fill<'a>(kind: MessageKind, message: &'a [u8], tail: &mut Tail<'a>) {
    if tail.client.is_some() || tail.upstream.is_some() {
        return;
    }
    match kind {
        MessageKind::CLIENT_CLOSED_KEEPALIVE => {
            tail.client = word_after(message, b"client ").filter(|word| *word != b"closed");
        }
        MessageKind::STREAM_CLIENT_CONNECTED => {
            tail.client = word_after(message, b"client ").map(without_port);
            tail.server = word_after(message, b" connected to ");
        }
        MessageKind::STREAM_UPSTREAM_CONNECTED => tail.upstream = word_after(message, b" connected to "),
        _ => {}
    }
}

fn word_after<'a>(message: &'a [u8], text: &[u8]) -> Option<&'a [u8]> {
    let at = memmem::find(message, text)? + text.len();
    let word = message[at..].split(|byte| *byte == b' ').next()?;
    (!word.is_empty()).then_some(word)
}

/// `1.2.3.4:5` and `[::1]:5` without port and brackets, as `client:` prints addresses.
fn without_port(address: &[u8]) -> &[u8] {
    let colon = memchr::memrchr(b':', address);
    match (address.strip_prefix(b"["), colon) {
        (Some(inside), _) => inside.split(|byte| *byte == b']').next().unwrap_or(inside),
        (None, Some(colon)) if !address.starts_with(b"unix:") => &address[..colon],
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_messages() {
        let read = |kind, message: &'static str| {
            let mut tail = Tail::default();
            fill(kind, message.as_bytes(), &mut tail);
            tail
        };
        let idle =
            read(MessageKind::CLIENT_CLOSED_KEEPALIVE, "client 2001:db8::1 closed keepalive connection");
        assert_eq!(idle.client, Some(&b"2001:db8::1"[..]));
        let nameless = read(MessageKind::CLIENT_CLOSED_KEEPALIVE, "client closed keepalive connection");
        assert_eq!(nameless.client, None);
        let client = read(MessageKind::STREAM_CLIENT_CONNECTED, "client [::1]:5000 connected to [::]:443");
        assert_eq!((client.client, client.server), (Some(&b"::1"[..]), Some(&b"[::]:443"[..])));
        let upstream =
            read(MessageKind::STREAM_UPSTREAM_CONNECTED, "proxy 10.0.0.1:4 connected to 10.0.0.2:5");
        assert_eq!(upstream.upstream, Some(&b"10.0.0.2:5"[..]));
    }
}
