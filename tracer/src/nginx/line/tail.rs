//! The fields at the end of a line, in the fixed order of `ngx_http_log_error_handler` (HTTP), of the stream module
//! and of mail. Clients write `request`, `host` and `referrer`, upstreams write into the message, and nothing is
//! escaped: where several readings are possible the first one that is consistent to the end of the line counts.

use memchr::{memchr, memchr_iter, memmem};

use super::{NGINX_LINE_LIMIT, Problem};

/// The fields of a line, raw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tail<'a> {
    /// `client:`, without ` using starttls`.
    pub client: Option<&'a [u8]>,
    /// `server:`.
    pub server: Option<&'a [u8]>,
    /// `request:`.
    pub request: Option<&'a [u8]>,
    /// `subrequest:`.
    pub subrequest: Option<&'a [u8]>,
    /// `upstream:` as printed.
    pub upstream: Option<&'a [u8]>,
    /// `host:`.
    pub host: Option<&'a [u8]>,
    /// `referrer:`.
    pub referrer: Option<&'a [u8]>,
}

/// A line without its head, split.
pub(super) struct Split<'a> {
    pub body: &'a [u8],
    pub tail: Tail<'a>,
    /// The fields follow `, context: ngx.timer`.
    pub is_timer: bool,
    pub problems: Vec<Problem>,
}

/// The names of fields in the order they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Client,
    Server,
    Request,
    Subrequest,
    Login,
    Upstream,
    Bytes,
    Host,
    Referrer,
    RequestId,
}

/// Field openings. A quote belongs to the opening.
const OPENINGS: [(&[u8], Key); 13] = [
    (b", client: ", Key::Client),
    (b", udp client: ", Key::Client),
    (b", server: ", Key::Server),
    (b", request: \"", Key::Request),
    (b", subrequest: \"", Key::Subrequest),
    (b", login: \"", Key::Login),
    (b", upstream: \"", Key::Upstream),
    (b", upstream: ", Key::Upstream),
    (b", bytes from/to client:", Key::Bytes),
    (b", bytes from/to upstream:", Key::Bytes),
    (b", host: \"", Key::Host),
    (b", referrer: \"", Key::Referrer),
    (b", request_id: \"", Key::RequestId),
];

/// How many possible beginnings of the tail, and ends of the request, are tried.
const TRIES: usize = 8;

/// How a line was read.
#[derive(Clone, Copy, Default)]
struct Reading<'a> {
    tail: Tail<'a>,
    problem: Option<Problem>,
    /// A field name stands inside text that others control.
    repeated: bool,
}

impl Reading<'_> {
    /// The fields explain the line to its end; a line may end early.
    fn is_consistent(&self) -> bool {
        matches!(self.problem, None | Some(Problem::Cut))
    }
}

/// Splits a line without its head into body and tail. `line_length` is that of the whole line, to know a cut.
pub(super) fn split(rest: &[u8], line_length: usize) -> Split<'_> {
    let reader = Reader { may_be_cut: line_length >= NGINX_LINE_LIMIT };
    let Some((start, reading)) = best_reading(rest, &reader) else { return without_fields(rest) };
    let mut problems: Vec<Problem> = reading.problem.into_iter().collect();
    if reading.repeated {
        problems.push(Problem::RepeatedField);
    }
    let (body, is_timer) = without_context(&rest[..start]);
    Split { body, tail: reading.tail, is_timer, problems }
}

/// The first beginning whose fields can be read to the end of the line, else the first beginning.
fn best_reading<'a>(rest: &'a [u8], reader: &Reader) -> Option<(usize, Reading<'a>)> {
    let mut first = None;
    for start in beginnings(rest) {
        let reading = reader.fields(&rest[start..]);
        if reading.is_consistent() {
            return Some((start, reading));
        }
        first.get_or_insert((start, reading));
    }
    first.filter(|(_, reading)| !is_inside_text(reading))
}

/// A message of several lines is cut at its line feed, inside quotes; what looks like a field there is none.
fn is_inside_text(reading: &Reading<'_>) -> bool {
    reading.tail.client.is_some_and(|client| client.contains(&b'"'))
}

/// Where the tail may begin: at `client:`, or without any at the first field there is.
fn beginnings(rest: &[u8]) -> impl Iterator<Item = usize> {
    let quoted = end_of_quoted_message(rest);
    let clients = openings(rest).filter(|(_, key, _)| *key == Key::Client).map(|(at, ..)| at);
    let mut clients = clients.filter(move |at| *at >= quoted).take(TRIES).peekable();
    let fallback = match clients.peek() {
        Some(_) => None,
        None => openings(rest).map(|(at, ..)| at).next(),
    };
    clients.chain(fallback)
}

/// Where the quoted part of a message ends, as in `open() "PATH" failed (2: …)` or `client sent …: "TEXT" while …`.
/// What stands between the quotes comes from others and holds no fields.
fn end_of_quoted_message(rest: &[u8]) -> usize {
    const ENDS: [&[u8]; 3] = [b"\" failed (", b"\" while ", b"\" is "];
    let Some(quote) = memchr(b'"', rest) else { return 0 };
    let is_in_message = openings(&rest[..quote]).next().is_none() && opening_at_quote(rest, quote).is_none();
    if !is_in_message {
        return 0;
    }
    let inside = &rest[quote + 1..];
    ENDS.iter().filter_map(|end| memmem::find(inside, end)).min().map_or(0, |at| quote + 1 + at)
}

/// The opening that ends with this quote.
fn opening_at_quote(rest: &[u8], quote: usize) -> Option<Key> {
    let before = &rest[..=quote];
    OPENINGS.iter().find(|(text, _)| text.ends_with(b"\"") && before.ends_with(text)).map(|(_, key)| *key)
}

/// Every field opening: where it stands, whose it is, where the value begins.
fn openings(bytes: &[u8]) -> impl Iterator<Item = (usize, Key, usize)> {
    memchr_iter(b',', bytes).filter_map(move |at| {
        let (key, length) = opening_at(&bytes[at..])?;
        Some((at, key, at + length))
    })
}

fn opening_at(bytes: &[u8]) -> Option<(Key, usize)> {
    /// First letters of the names, to pass over ordinary commas quickly.
    const INITIALS: &[u8] = b"usrcbhl";
    if !matches!(bytes, [b',', b' ', initial, ..] if INITIALS.contains(initial)) {
        return None;
    }
    OPENINGS.iter().find(|(text, _)| bytes.starts_with(text)).map(|(text, key)| (*key, text.len()))
}

/// Lines of the resolver and of OCSP end in fields of their own, which nobody asks for.
fn without_fields(rest: &[u8]) -> Split<'_> {
    let end = [&b", resolver: "[..], b", responder: "].iter().find_map(|text| memmem::find(rest, text));
    let (body, is_timer) = without_context(&rest[..end.unwrap_or(rest.len())]);
    Split { body, tail: Tail::default(), is_timer, problems: Vec::new() }
}

/// Timers of scripts put `, context: ngx.timer` in front of the fields, other phases their own name.
fn without_context(body: &[u8]) -> (&[u8], bool) {
    const CONTEXT: &[u8] = b", context: ";
    let Some(at) = memmem::rfind(body, CONTEXT) else { return (body, false) };
    let context = &body[at + CONTEXT.len()..];
    let is_word = !context.iter().any(|byte| b" ,\"".contains(byte));
    if is_word { (&body[..at], context == b"ngx.timer") } else { (body, false) }
}

struct Reader {
    may_be_cut: bool,
}

impl Reader {
    /// Reads the fields from the first opening on.
    fn fields<'a>(&self, bytes: &'a [u8]) -> Reading<'a> {
        let mut reading = Reading::default();
        self.continue_with(bytes, None, &mut reading);
        reading
    }

    /// Reads fields until the end of the line or until one of them cannot be read.
    fn continue_with<'a>(&self, mut bytes: &'a [u8], mut last: Option<Key>, reading: &mut Reading<'a>) {
        while !bytes.trim_ascii().is_empty() {
            let Some((key, length)) = opening_at(bytes).filter(|(key, _)| may_follow(last, *key)) else {
                reading.problem = Some(Problem::TrailingText);
                return;
            };
            let is_quoted = bytes[..length].ends_with(b"\"");
            let value = &bytes[length..];
            if key == Key::Request {
                self.request(value, reading);
                return;
            }
            let end = if is_quoted { self.closing_quote(value, key) } else { Some(bare_end(value, key)) };
            let Some(end) = end else {
                set(key, value, reading);
                reading.problem = Some(Problem::Cut);
                return;
            };
            set(key, &value[..end], reading);
            bytes = &value[end + usize::from(is_quoted)..];
            last = Some(key);
        }
    }

    /// The request line may hold anything, so every possible end of it is tried. One behind `HTTP/x.y` is preferred.
    fn request<'a>(&self, value: &'a [u8], reading: &mut Reading<'a>) {
        let mut best: Option<(u8, Reading<'a>)> = None;
        for end in possible_ends(value, Key::Request).take(TRIES) {
            let mut attempt = *reading;
            set(Key::Request, &value[..end], &mut attempt);
            self.continue_with(&value[end + 1..], Some(Key::Request), &mut attempt);
            let worth = 2 * u8::from(attempt.is_consistent()) + u8::from(ends_in_version(&value[..end]));
            if worth == 3 {
                *reading = attempt;
                return;
            }
            if best.as_ref().is_none_or(|(other, _)| worth > *other) {
                best = Some((worth, attempt));
            }
        }
        match best {
            Some((_, attempt)) => *reading = attempt,
            None => self.request_without_end(value, reading),
        }
    }

    fn request_without_end<'a>(&self, value: &'a [u8], reading: &mut Reading<'a>) {
        let quote = if self.may_be_cut { None } else { memchr(b'"', value) };
        set(Key::Request, &value[..quote.unwrap_or(value.len())], reading);
        reading.problem = Some(if quote.is_some() { Problem::TrailingText } else { Problem::Cut });
    }

    fn closing_quote(&self, value: &[u8], key: Key) -> Option<usize> {
        match key {
            Key::Host | Key::Login | Key::RequestId => memchr(b'"', value),
            Key::Referrer => last_quote(value),
            _ => possible_ends(value, key).next().or_else(|| self.any_quote(value)),
        }
    }

    fn any_quote(&self, value: &[u8]) -> Option<usize> {
        if self.may_be_cut { None } else { memchr(b'"', value) }
    }
}

/// Puts a value where it belongs.
fn set<'a>(key: Key, value: &'a [u8], reading: &mut Reading<'a>) {
    let tail = &mut reading.tail;
    match key {
        Key::Client => {
            let client = value.strip_suffix(b" using starttls").unwrap_or(value);
            tail.client = Some(client);
            reading.problem = (!is_address(client)).then_some(Problem::ClientNotAnAddress);
        }
        Key::Server => tail.server = Some(value),
        Key::Request => tail.request = Some(value),
        Key::Subrequest => tail.subrequest = Some(value),
        Key::Upstream => tail.upstream = Some(value),
        Key::Host => tail.host = Some(value),
        Key::Referrer => tail.referrer = Some(value),
        Key::Login | Key::Bytes | Key::RequestId => return,
    }
    check(key, value, reading);
}

/// A host has no spaces, a server name no quotes: where they do, a field was read from forged text.
fn check(key: Key, value: &[u8], reading: &mut Reading<'_>) {
    let is_forged = match key {
        Key::Host => value.iter().any(|byte| b" \"".contains(byte)),
        Key::Server => value.contains(&b'"'),
        _ => false,
    };
    if is_forged {
        reading.problem = Some(Problem::TrailingText);
    }
    if matches!(key, Key::Request | Key::Referrer) {
        reading.repeated |= openings(value).next().is_some();
    }
}

fn may_follow(last: Option<Key>, key: Key) -> bool {
    last.is_none_or(|last| last < key || (last == Key::Bytes && key == Key::Bytes))
}

/// An unquoted value ends at the next field; a client address at the next comma.
fn bare_end(value: &[u8], key: Key) -> usize {
    let end = match key {
        Key::Client => memchr(b',', value),
        _ => openings(value).find(|(_, next, _)| may_follow(Some(key), *next)).map(|(at, ..)| at),
    };
    end.unwrap_or(value.len())
}

/// Quotes that are followed by a later field or by the end of the line.
fn possible_ends(value: &[u8], key: Key) -> impl Iterator<Item = usize> {
    memchr_iter(b'"', value).filter(move |at| {
        let after = &value[at + 1..];
        after.trim_ascii().is_empty()
            || opening_at(after).is_some_and(|(next, _)| may_follow(Some(key), next))
    })
}

/// The referrer reaches to the last quote of the line, or to the id that some builds append.
fn last_quote(value: &[u8]) -> Option<usize> {
    memmem::rfind(value, b"\", request_id: \"").or_else(|| {
        let trimmed = value.trim_ascii_end();
        trimmed.ends_with(b"\"").then(|| trimmed.len() - 1)
    })
}

/// Whether a request line ends in ` HTTP/x.y`.
pub(super) fn ends_in_version(request: &[u8]) -> bool {
    let Some(space) = memchr::memrchr(b' ', request) else { return false };
    let digits =
        |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    request[space + 1..].strip_prefix(b"HTTP/").is_some_and(digits)
}

/// IPv4, IPv6 without brackets, either with a port, or `unix:…`.
pub(super) fn is_address(client: &[u8]) -> bool {
    let digit = |byte: &u8| OF_ADDRESS[usize::from(*byte)];
    (!client.is_empty() && client.iter().all(digit)) || client.starts_with(b"unix:")
}

/// Bytes that addresses are made of.
static OF_ADDRESS: [bool; 256] = {
    let mut known = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        known[byte] =
            (byte as u8).is_ascii_hexdigit() || matches!(byte as u8, b'.' | b':' | b'%' | b'[' | b']');
        byte += 1;
    }
    known
};

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(text: &str) -> Tail<'_> {
        split(text.as_bytes(), text.len()).tail
    }

    fn text(value: Option<&[u8]>) -> Option<&str> {
        value.and_then(|value| std::str::from_utf8(value).ok())
    }

    #[test]
    fn fields_in_order() {
        let tail = tail(
            "x, client: ::1, server: , request: \"GET /a HTTP/1.1\", subrequest: \"/auth\", \
             upstream: \"http://127.0.0.1:1/a\", host: \"h\", referrer: \"http://r/\"",
        );
        assert_eq!(text(tail.client), Some("::1"));
        assert_eq!(text(tail.server), Some(""));
        assert_eq!(text(tail.request), Some("GET /a HTTP/1.1"));
        assert_eq!(text(tail.subrequest), Some("/auth"));
        assert_eq!(text(tail.upstream), Some("http://127.0.0.1:1/a"));
        assert_eq!((text(tail.host), text(tail.referrer)), (Some("h"), Some("http://r/")));
    }

    #[test]
    fn a_referrer_cannot_override() {
        let line = "x, client: 1.1.1.1, server: s, request: \"GET / HTTP/1.1\", upstream: \"http://2.2.2.2:80/\", \
                    host: \"h\", referrer: \"http://r/\"x\"\\y, client: 9.9.9.9, upstream: \"http://6.6.6.6/\"\"";
        let split = split(line.as_bytes(), line.len());
        assert_eq!(text(split.tail.client), Some("1.1.1.1"));
        assert_eq!(text(split.tail.upstream), Some("http://2.2.2.2:80/"));
        assert_eq!(split.problems, vec![Problem::RepeatedField]);
    }

    #[test]
    fn a_request_cannot_override() {
        let line = "x, client: 1.1.1.1, server: s, request: \"GET /\", upstream: \"http://6.6.6.6/\", host: \"e HTTP/1.1\", \
                    upstream: \"http://2.2.2.2:80/\", host: \"h\"";
        let split = split(line.as_bytes(), line.len());
        assert_eq!(text(split.tail.upstream), Some("http://2.2.2.2:80/"));
        assert_eq!(text(split.tail.host), Some("h"));
        assert_eq!(split.problems, vec![Problem::RepeatedField]);
    }

    #[test]
    fn a_forged_field_inside_the_request_stays_there() {
        let request = "GET /\", upstream: \"http://6.6.6.6/ HTTP/1.1";
        let line = format!(
            "x, client: 1.1.1.1, server: s, request: \"{request}\", upstream: \"http://2.2.2.2:80/\", host: \"h\""
        );
        let tail = tail(&line);
        assert_eq!((text(tail.request), text(tail.upstream)), (Some(request), Some("http://2.2.2.2:80/")));
    }

    #[test]
    fn a_request_that_ends_in_its_version_is_preferred() {
        let request = "GET /a\", referrer: \"x HTTP/1.1";
        let line = format!(
            "x, client: 1.1.1.1, server: s, request: \"{request}\", upstream: \"http://2.2.2.2:80/\""
        );
        let tail = tail(&line);
        assert_eq!((text(tail.request), text(tail.upstream)), (Some(request), Some("http://2.2.2.2:80/")));
    }

    #[test]
    fn of_equal_readings_the_first_counts() {
        let tail =
            tail("x, client: 1.1.1.1, server: s, request: \"GET /a\", referrer: \"b\", referrer: \"c\"");
        assert_eq!(text(tail.request), Some("GET /a"));
        assert_eq!(text(tail.referrer), Some("b\", referrer: \"c"));
    }

    #[test]
    fn only_a_line_of_full_length_was_cut() {
        let line = "x, client: 1.1.1.1, server: s, request: \"GET /a\"b";
        let request = |length| text(split(line.as_bytes(), length).tail.request);
        assert_eq!(request(NGINX_LINE_LIMIT - 1), Some("GET /a"));
        assert_eq!(request(NGINX_LINE_LIMIT), Some("GET /a\"b"));
    }

    #[test]
    fn a_host_with_spaces_is_part_of_the_request() {
        let request = "GET /\", upstream: \"http://6.6.6.6/\", host: \"e HTTP/1.1";
        let line = format!("x, client: 1.1.1.1, server: s, request: \"{request}\", referrer: \"http://r/\"");
        let tail = tail(&line);
        assert_eq!((text(tail.request), text(tail.upstream)), (Some(request), None));
        assert_eq!(text(tail.referrer), Some("http://r/"));
    }

    #[test]
    fn a_path_in_the_message_cannot_override() {
        let line = "open() \"/x, client: 6.6.6.6, server: y\" failed (2: No such file or directory), client: 1.1.1.1, \
                    server: _, request: \"GET /x,%20client HTTP/1.1\", host: \"h\"";
        let split = split(line.as_bytes(), line.len());
        assert_eq!(text(split.tail.client), Some("1.1.1.1"));
        assert!(split.body.ends_with(b"(2: No such file or directory)"));
    }

    #[test]
    fn a_path_with_forged_quotes_cannot_override() {
        let line = "open() \"/x, client: 6.6.6.6, server: y, request: \"GET\" failed (2: No such file or directory), \
                    client: 1.1.1.1, server: _, request: \"GET /x HTTP/1.1\", host: \"h\"";
        let tail = tail(line);
        assert_eq!((text(tail.client), text(tail.request)), (Some("1.1.1.1"), Some("GET /x HTTP/1.1")));
    }

    #[test]
    fn the_first_line_of_a_longer_message_has_no_fields() {
        let line = "FastCGI sent in stderr: \"PHP message: lost \"bar, client: 5.5.5.5\" in /x.php:3";
        let split = split(line.as_bytes(), line.len());
        assert_eq!((split.tail, split.body), (Tail::default(), line.as_bytes()));
    }

    #[test]
    fn stream_and_mail() {
        let stream = tail(
            "recv() failed, client: 10.0.0.1, server: 0.0.0.0:53, upstream: \"10.0.0.2:53\", \
             bytes from/to client:1/2, bytes from/to upstream:3/4",
        );
        assert_eq!((text(stream.server), text(stream.upstream)), (Some("0.0.0.0:53"), Some("10.0.0.2:53")));
        let mail = tail(
            "x, client: 10.0.0.1 using starttls, server: 0.0.0.0:25, login: \"a\", upstream: 10.0.0.2:25",
        );
        assert_eq!((text(mail.client), text(mail.upstream)), (Some("10.0.0.1"), Some("10.0.0.2:25")));
    }

    #[test]
    fn a_cut_line_keeps_what_there_is() {
        let line = "x, client: 1.1.1.1, server: s, request: \"GET /aaaa";
        let split = split(line.as_bytes(), NGINX_LINE_LIMIT);
        assert_eq!(text(split.tail.request), Some("GET /aaaa"));
        assert_eq!(split.problems, vec![Problem::Cut]);
    }

    #[test]
    fn fields_without_a_client() {
        let tail = tail(
            "recv() failed while reading upstream, server: s, request: \"GET / HTTP/1.1\", upstream: \"http://1.1.1.1:1/\"",
        );
        assert_eq!((text(tail.server), text(tail.upstream)), (Some("s"), Some("http://1.1.1.1:1/")));
    }
}
