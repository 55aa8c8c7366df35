//! One line of error.log in plain words: what it says, which socket and call it is about, which part of the path it
//! points to, and what would prove it. Pure text from the record; it concludes no more than the log alone allows.

use crate::model::{LogRecord, LogSide, MessageClass, MessageKind};

/// What a class means, and what would decide the open question.
struct Meaning {
    class: MessageClass,
    text: &'static str,
    proof: &'static str,
}

const fn meaning(class: MessageClass, text: &'static str, proof: &'static str) -> Meaning {
    Meaning { class, text, proof }
}

#[rustfmt::skip]
const MEANINGS: &[Meaning] = &[
    meaning(MessageClass::ResetByPeer, "The kernel had received a RST for this socket. The log does not tell whether the peer sent it or a device on the path did.", "the RST packet itself: its TTL, IP-ID and sequence number against those of the peer, and whether the peer goes on sending"),
    meaning(MessageClass::BrokenPipe, "The peer had closed the connection first (FIN); data sent after that was answered by a RST.", "the order of FIN, data and RST on this connection"),
    meaning(MessageClass::Refused, "The SYN was answered by a RST: nothing listens there, or a packet filter rejects it. For a unix socket: nobody accepts.", "the RST answering the SYN and its TTL, or the listener on the peer's host"),
    meaning(MessageClass::Unreachable, "No way to the peer: no route, no answer to ARP, or an ICMP error.", "the ICMP message and its sender, or the missing ARP answer"),
    meaning(MessageClass::TimedOut, "A timer ran out: nothing came in time. It is a timer of Nginx unless a socket call is named.", "whether the data sent was acknowledged: then the peer's application is slow; if not, packets are lost"),
    meaning(MessageClass::LocalAbort, "The socket was killed on this host by a third process (ss -K, an agent): neither the peer nor Nginx did it.", "the process that was running when the socket was aborted"),
    meaning(MessageClass::ClosedEarly, "The upstream ended the connection before its answer was complete. Over TLS this can have been a RST, because the TLS library hides it.", "whether a FIN or a RST arrived, and what became of the upstream's process"),
    meaning(MessageClass::ClientAborted, "The client ended the connection in mid-request; Nginx answers with status 499 or a cut response.", "whether a FIN or a RST arrived, and from how far away"),
    meaning(MessageClass::ClientIdleClosed, "The client ended a connection on which no request was open. Ordinary.", "nothing: no request was harmed"),
    meaning(MessageClass::HandshakeFailed, "The TLS handshake did not succeed: versions, certificates or names do not fit, or the peer gave up.", "whether the peer sent an alert, a FIN or a RST, and after which message"),
    meaning(MessageClass::TlsFailed, "TLS failed after the handshake.", "the reason in parentheses, and whether a RST arrived"),
    meaning(MessageClass::NoLiveUpstreams, "Every server of the group had failed shortly before. This line is a consequence; the cause stands in earlier lines.", "the failures of the group's servers within fail_timeout before this line"),
    meaning(MessageClass::ConfigLimit, "A limit or setting of Nginx decided. Where data was unread, closing made the kernel send a RST to the peer.", "the directive named by the message"),
    meaning(MessageClass::ResourceLimit, "Descriptors, connections, ports or memory ran out on this host.", "the count of open files and connections against their limits at that moment"),
    meaning(MessageClass::Permission, "The system forbade it: file permissions, SELinux, AppArmor or a packet filter.", "the audit log"),
    meaning(MessageClass::SocketMissing, "The unix socket does not exist: the upstream is not running, or elsewhere.", "the socket file and the process that should have made it"),
    meaning(MessageClass::InvalidRequest, "The client sent something Nginx does not accept.", "the bytes of the request"),
    meaning(MessageClass::InvalidResponse, "The upstream sent something Nginx does not accept.", "the bytes of the response"),
    meaning(MessageClass::StreamEnded, "A stream of HTTP/2 or HTTP/3 ended. No TCP connection was reset.", "nothing: it is not a TCP event"),
    meaning(MessageClass::ResolveFailed, "A name could not be resolved. The number is a DNS code, not an errno.", "the answer of the resolver"),
    meaning(MessageClass::WorkerExit, "A process of Nginx ended. The kernel closed all its connections in that moment; requests on them have no line in access.log.", "the resets sent by that process, and the signal that ended it"),
    meaning(MessageClass::Lifecycle, "Start, reload or stop of Nginx.", "nothing: it is a note"),
    meaning(MessageClass::Companion, "This line accompanies another one about the same failure.", "the line before it with the same connection number"),
    meaning(MessageClass::SocketError, "A socket call failed.", "the state of the connection at that moment"),
];

/// Explains a line in a few short paragraphs.
pub fn explain(record: &LogRecord) -> String {
    let known = MEANINGS.iter().find(|meaning| meaning.class == record.class());
    let mut parts = vec![format!("{} ({})", printable(&record.message), record.kind.0)];
    parts.push(known.map_or_else(|| unknown(record), |meaning| meaning.text.to_owned()));
    parts.push(format!("Socket: {}", socket(record)));
    parts.push(format!("Segment: {}", segment(record)));
    if let Some(note) = note(record) {
        parts.push(format!("Note: {note}"));
    }
    if let Some(meaning) = known {
        parts.push(format!("Proof would be: {}.", meaning.proof));
    }
    if !record.problems.is_empty() {
        parts.push(format!("About the line itself: {}.", record.problems.join("; ")));
    }
    parts.join("\n") + "\n"
}

fn unknown(record: &LogRecord) -> String {
    let text = match record.kind {
        MessageKind::UNREADABLE => "This is not a line Nginx begins: no head and no known message.",
        MessageKind::OTHER => "This message is not in the catalogue.",
        _ => "This line is not about the end of a connection.",
    };
    text.to_owned()
}

fn socket(record: &LogRecord) -> String {
    let whose = match record.side {
        LogSide::Client => "the accepted connection of a client",
        LogSide::Upstream => "the connection Nginx opened to an upstream",
        LogSide::None => "no connection of a request",
    };
    let peer = match record.side {
        LogSide::Client => record.client.as_deref(),
        LogSide::Upstream => record.upstream.as_deref(),
        LogSide::None => None,
    };
    let peer = peer.map(|peer| format!(" ({})", printable(peer))).unwrap_or_default();
    let call = record.call.as_deref().map(|call| format!("; the failing call is {}()", printable(call)));
    let errno = record.errno.map(|errno| format!(", errno {errno}"));
    format!("{whose}{peer}{}{}.", call.unwrap_or_default(), errno.unwrap_or_default())
}

fn segment(record: &LogRecord) -> &'static str {
    match (record.class(), record.side) {
        (
            MessageClass::ResourceLimit
            | MessageClass::WorkerExit
            | MessageClass::LocalAbort
            | MessageClass::ConfigLimit
            | MessageClass::Permission,
            _,
        ) => "the Nginx host.",
        (_, LogSide::Client) => "between client and Nginx, the client included.",
        (_, LogSide::Upstream) => "between Nginx and upstream, the upstream included.",
        (_, LogSide::None) => "not told by this line.",
    }
}

/// What people get wrong about this line.
fn note(record: &LogRecord) -> Option<&'static str> {
    let is_client_in_upstream_phrase = record.side == LogSide::Client
        && record.action.as_deref().is_some_and(|action| action.contains("upstream"));
    if record.kind == MessageKind::CONNECT_FAILED && record.errno == Some(104) {
        return Some(
            "this is not a refused connect: the connection was reset after the handshake, or a kept-alive connection was \
             reset while it was idle and then reused.",
        );
    }
    if is_client_in_upstream_phrase {
        return Some("the level says whose socket failed; the phrase only says what Nginx was doing.");
    }
    if record.upstream.is_some() && record.class() == MessageClass::ResetByPeer {
        return Some(
            "a line like this does not prove a failed request: Nginx may have retried it elsewhere.",
        );
    }
    None
}

/// Lines hold what clients sent; control characters must not reach a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn explained(line: &str) -> String {
        explain(&crate::nginx::parse(line.as_bytes(), &TimeZone::UTC))
    }

    #[test]
    fn a_reset_on_a_reused_connection_is_not_called_refused() {
        let text = explained(
            "2026/11/20 06:43:33 [error] 3#3: *7 connect() failed (104: Connection reset by peer) while connecting to upstream, \
             client: 1.1.1.1, server: s, request: \"GET / HTTP/1.1\", upstream: \"http://10.0.0.2:80/\", host: \"h\"",
        );
        assert!(text.contains("received a RST") && text.contains("not a refused connect"), "{text}");
        assert!(text.contains("(10.0.0.2:80); the failing call is connect(), errno 104"), "{text}");
        assert!(text.contains("between Nginx and upstream"), "{text}");
    }

    #[test]
    fn the_phrase_is_corrected_where_it_misleads() {
        let text = explained(
            "2026/11/20 06:43:33 [info] 3#3: *7 writev() failed (32: Broken pipe) while reading upstream, client: 1.1.1.1, \
             server: s, request: \"GET / HTTP/1.1\", upstream: \"http://10.0.0.2:80/\", host: \"h\"",
        );
        assert!(text.contains("accepted connection of a client (1.1.1.1)"), "{text}");
        assert!(text.contains("the level says whose socket"), "{text}");
    }

    #[test]
    fn nothing_is_made_up_about_unknown_lines() {
        let text = explained("hello \u{1b}[31m");
        assert!(text.contains("not a line Nginx begins") && !text.contains('\u{1b}'), "{text}");
        assert!(!text.contains("Proof"), "{text}");
    }
}
