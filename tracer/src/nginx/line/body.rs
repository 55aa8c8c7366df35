//! What stands between head and tail: `MSG (SSL: …) (ERRNO: TEXT) while ACTION`. Read from its end, because the
//! message may hold anything and the rest may not.

use memchr::memmem;

use super::{Problem, errno, head};

/// The middle of a line, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Body<'a> {
    /// The message, `(SSL: …)` included.
    pub message: &'a [u8],
    /// The message without `(SSL: …)`: what the catalogue looks at.
    pub subject: &'a [u8],
    pub tls: Option<&'a [u8]>,
    pub errno: Option<i32>,
    /// The number as printed, where it is that of another system.
    pub errno_printed: Option<u32>,
    pub action: Option<&'a [u8]>,
    pub problem: Option<Problem>,
}

/// Longest text taken for an action; Nginx's own are under 50 bytes.
const ACTION_LIMIT: usize = 80;

/// First words of Nginx's actions. Scripts write sentences with ` while ` of their own; only these count there.
const ACTION_WORDS: [&[u8]; 16] = [
    b"SSL ",
    b"reading ",
    b"sending ",
    b"connecting ",
    b"proxying ",
    b"waiting ",
    b"processing ",
    b"handling ",
    b"logging ",
    b"resolving",
    b"requesting ",
    b"closing ",
    b"keepalive",
    b"prereading ",
    b"writing ",
    b"initializing ",
];

/// Takes the middle of a line apart.
pub(super) fn read(body: &[u8]) -> Body<'_> {
    let (rest, action) = split_action(body);
    let (message, errno) = split_errno(rest);
    let (subject, tls) = split_tls(message);
    let linux = errno.map(|(number, text)| errno::linux(number, text));
    let errno_printed = errno.map(|(number, _)| number).filter(|number| linux != Some(*number));
    let was_cut = errno.is_some() && message.ends_with(b"...");
    let problem = match errno_printed {
        _ if was_cut => Some(Problem::MessageCut),
        Some(_) => Some(Problem::ForeignErrno),
        None => None,
    };
    let errno = linux.and_then(|number| i32::try_from(number).ok());
    Body { message, subject, tls, errno, errno_printed, action, problem }
}

fn split_action(body: &[u8]) -> (&[u8], Option<&[u8]>) {
    const WHILE: &[u8] = b" while ";
    let Some(at) = memmem::rfind(body, WHILE) else { return (body, None) };
    let action = &body[at + WHILE.len()..];
    if !is_action(action, is_script(body)) {
        return (body, None);
    }
    (&body[..at], Some(action))
}

fn is_script(body: &[u8]) -> bool {
    body.starts_with(b"[lua]") || body.starts_with(b"lua ") || body.starts_with(b"js:")
}

fn is_action(text: &[u8], script: bool) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" /-_.".contains(byte);
    let known = || ACTION_WORDS.iter().any(|word| text.starts_with(word));
    !text.is_empty() && text.len() <= ACTION_LIMIT && text.iter().all(plain) && (!script || known())
}

type Errno<'a> = (u32, &'a [u8]);

/// Splits ` (NUM: TEXT)` off the end. DNS and OCSP codes look alike and stay in the message.
fn split_errno(text: &[u8]) -> (&[u8], Option<Errno<'_>>) {
    let text = without_place(text);
    let Some(inside_end) = text.strip_suffix(b")") else { return split_open_errno(text) };
    let mut end = inside_end.len();
    while let Some(at) = memmem::rfind(&inside_end[..end], b" (") {
        if let Some(found) = numbered(&inside_end[at + 2..]) {
            let message = &text[..at];
            return if is_other_code(message) { (text, None) } else { (message, Some(found)) };
        }
        end = at;
    }
    (text, None)
}

/// Errors of the configuration end in ` in FILE:LINE`, behind the errno.
fn without_place(text: &[u8]) -> &[u8] {
    const IN: &[u8] = b") in ";
    if !text.last().is_some_and(u8::is_ascii_digit) {
        return text;
    }
    memmem::rfind(text, IN).map_or(text, |at| &text[..=at])
}

/// ` (NUM: TE` at the end of a line that somebody shortened.
fn split_open_errno(text: &[u8]) -> (&[u8], Option<Errno<'_>>) {
    const FAILED: &[u8] = b" failed (";
    let Some(at) = memmem::rfind(text, FAILED) else { return (text, None) };
    let inside = &text[at + FAILED.len()..];
    match numbered(inside) {
        Some(found) if !inside.contains(&b')') => (&text[..at + FAILED.len() - 2], Some(found)),
        _ => (text, None),
    }
}

/// `NUM: TEXT`; the number may be hexadecimal on Windows.
fn numbered(text: &[u8]) -> Option<Errno<'_>> {
    let (number, rest) = head::digits(text)?;
    Some((head::decimal(number)?, rest.strip_prefix(b": ")?))
}

fn is_other_code(message: &[u8]) -> bool {
    message.ends_with(b"could not be resolved") || message.ends_with(b"response not successful")
}

/// `SSL_read() failed (SSL: error:…)`; the queue of errors may be empty: `(SSL:)`.
fn split_tls(message: &[u8]) -> (&[u8], Option<&[u8]>) {
    const OPENING: &[u8] = b" (SSL:";
    let Some(at) = memmem::find(message, OPENING) else { return (message, None) };
    let inside = &message[at + OPENING.len()..];
    let inside = inside.strip_suffix(b")").unwrap_or(inside);
    (&message[..at], Some(inside.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_errno_and_action() {
        let body = read(b"recv() failed (104: Connection reset by peer) while reading upstream");
        assert_eq!((body.message, body.errno), (&b"recv() failed"[..], Some(104)));
        assert_eq!(body.action, Some(&b"reading upstream"[..]));
    }

    #[test]
    fn tls_text_and_errno_stand_together() {
        let body = read(b"SSL_write() failed (SSL:) (32: Broken pipe) while sending to client");
        assert_eq!(
            (body.subject, body.tls, body.errno),
            (&b"SSL_write() failed"[..], Some(&b""[..]), Some(32))
        );
        let body =
            read(b"SSL_read() failed (SSL: error:0A000126:SSL routines::unexpected eof while reading) while keepalive");
        assert_eq!(body.tls, Some(&b"error:0A000126:SSL routines::unexpected eof while reading"[..]));
        assert_eq!(body.action, Some(&b"keepalive"[..]));
        let body = read(b"SSL_read() failed (SSL: error:1:SSL routines::unexpected eof while reading)");
        assert_eq!(body.action, None);
    }

    #[test]
    fn other_numbers_are_not_errnos() {
        let body = read(b"backend could not be resolved (3: Host not found)");
        assert_eq!(
            (body.errno, body.message),
            (None, &b"backend could not be resolved (3: Host not found)"[..])
        );
        assert_eq!(read(b"OCSP response not successful (6: unauthorized)").errno, None);
        assert_eq!(read(b"upstream SSL certificate verify error: (18:self signed certificate)").errno, None);
    }

    #[test]
    fn parentheses_inside_the_text_do_not_confuse() {
        let body =
            read(b"connect() failed (10061: FormatMessage() error:(15105)) while connecting to upstream");
        assert_eq!((body.message, body.errno), (&b"connect() failed"[..], Some(111)));
        let body = read(b"open() \"/srv/a (1: b)\" failed (2: No such file or directory)");
        assert_eq!(body.errno, Some(2));
        let body = read(b"aaaa... (36: File name too long)");
        assert_eq!((body.errno, body.problem), (Some(36), Some(Problem::MessageCut)));
    }

    #[test]
    fn an_errno_stands_before_the_place_in_the_configuration_and_may_be_open() {
        let body =
            read(b"open() \"/etc/nginx/x\" failed (2: No such file or directory) in /etc/nginx/nginx.conf:7");
        assert_eq!((body.errno, body.message), (Some(2), &b"open() \"/etc/nginx/x\" failed"[..]));
        let body = read(b"connect() failed (111: Connection ref$");
        assert_eq!((body.errno, body.message), (Some(111), &b"connect() failed"[..]));
        assert_eq!(read(b"x failed (111: y) z").errno, None);
    }

    #[test]
    fn the_number_of_another_system_is_kept() {
        let body = read(
            b"kevent() reported that connect() failed (61: Connection refused) while connecting to upstream",
        );
        assert_eq!((body.errno, body.errno_printed), (Some(111), Some(61)));
        assert_eq!(read(b"connect() failed (111: Connection refused)").errno_printed, None);
    }

    #[test]
    fn a_long_text_is_no_action() {
        assert_eq!(read(format!("x while {}", "a".repeat(80)).as_bytes()).action.map(<[u8]>::len), Some(80));
        assert_eq!(read(format!("x while {}", "a".repeat(81)).as_bytes()).action, None);
    }

    #[test]
    fn scripts_may_say_while() {
        assert_eq!(read(b"[lua] a.lua:1: lost it while talking to redis").action, None);
        assert_eq!(
            read(b"[lua] a.lua:1: lost it while sending to client").action,
            Some(&b"sending to client"[..])
        );
    }
}
