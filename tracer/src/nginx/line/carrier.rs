//! What stands around a line: JSON objects of Docker, journald and log shippers, and the text prefixes of CRI,
//! compose, kubectl and syslog. The head of a line is found behind any prefix; the known prefixes are only needed
//! for lines without a head.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

use super::head::digits;
use crate::model::Utc;

/// A line without its carrier.
pub struct Carried<'a> {
    /// The line as Nginx wrote it, without a line feed.
    pub payload: Cow<'a, [u8]>,
    /// The moment the carrier saw the line.
    pub time: Option<Utc>,
}

/// Keys that hold the line in JSON carriers, Docker's first.
const LINE_KEYS: [&str; 7] = ["log", "MESSAGE", "message", "msg", "line", "_raw", "textPayload"];
/// Keys that hold the carrier's time.
const TIME_KEYS: [&str; 3] = ["time", "@timestamp", "timestamp"];

/// Removes a JSON carrier and the end of the line.
pub fn unwrap(line: &[u8]) -> Carried<'_> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let line = without_end(line);
    if line.first() == Some(&b'{')
        && let Some(carried) = from_json(line)
    {
        return carried;
    }
    Carried { payload: with_plain_quotes(line), time: cri_time(line) }
}

/// Field openings without their quote.
const QUOTED_FIELDS: [&[u8]; 3] = [b", request: ", b", upstream: ", b", host: "];
/// Spellings of a quote and of what else changes with it: string literals, HTML, typography.
const SPELLINGS: [&[(&str, &str)]; 3] = [
    &[("\\\"", "\""), ("\\\\", "\\")],
    &[("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&#39;", "'"), ("&amp;", "&")],
    &[("\u{201c}", "\""), ("\u{201d}", "\""), ("\u{201e}", "\""), ("\u{2033}", "\"")],
];

/// A line that was pasted out of a string, a page or a text processor, with its quotes as Nginx printed them.
/// Nginx always prints plain quotes around the request, so nothing that a client sends can bring this about.
fn with_plain_quotes(line: &[u8]) -> Cow<'_, [u8]> {
    let after = |opening: &[u8]| memchr::memmem::find(line, opening).map(|at| &line[at + opening.len()..]);
    let values: Vec<&[u8]> = QUOTED_FIELDS.iter().filter_map(|opening| after(opening)).collect();
    if values.is_empty() || values.iter().any(|value| value.starts_with(b"\"")) {
        return Cow::Borrowed(line);
    }
    let is_spelled = |spelling: &&&[(&str, &str)]| {
        values.iter().any(|value| {
            spelling.iter().any(|(quote, plain)| *plain == "\"" && value.starts_with(quote.as_bytes()))
        })
    };
    match SPELLINGS.iter().find(is_spelled) {
        Some(spelling) => Cow::Owned(respelled(without_literal_end(line), spelling)),
        None => Cow::Borrowed(line),
    }
}

/// Removes the end of a string literal, `\n",` or a part of it, if the quote is not part of the text.
fn without_literal_end(line: &[u8]) -> &[u8] {
    let inside = line.strip_suffix(b",").unwrap_or(line);
    match inside.strip_suffix(b"\"") {
        Some(inside) if !inside.ends_with(b"\\") => inside.strip_suffix(b"\\n").unwrap_or(inside),
        _ => line,
    }
}

fn respelled(line: &[u8], spelling: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(first) = rest.first() {
        let spelled = spelling.iter().find(|(from, _)| rest.starts_with(from.as_bytes()));
        let (from, to) =
            spelled.map_or((1, std::slice::from_ref(first)), |(from, to)| (from.len(), to.as_bytes()));
        out.extend_from_slice(to);
        rest = &rest[from..];
    }
    out
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn from_json<'a>(line: &[u8]) -> Option<Carried<'a>> {
    let Value::Object(object) = serde_json::from_slice(line).ok()? else { return None };
    let payload = LINE_KEYS.iter().find_map(|key| object.get(*key)).and_then(bytes_of)?;
    let time = TIME_KEYS.iter().find_map(|key| object.get(*key)?.as_str()?.parse().ok());
    let journal = || object.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok().map(microseconds);
    Some(Carried {
        payload: Cow::Owned(without_end(&payload).to_vec()),
        time: time.and_then(utc).or_else(journal),
    })
}

/// journald writes text that is not UTF-8 as an array of numbers.
fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Array(numbers) => numbers.iter().map(|number| u8::try_from(number.as_u64()?).ok()).collect(),
        _ => None,
    }
}

fn utc(time: Timestamp) -> Option<Utc> {
    i64::try_from(time.as_nanosecond()).ok().map(Utc)
}

fn microseconds(count: i64) -> Utc {
    Utc(count.saturating_mul(1000))
}

/// The RFC 3339 time at the start of a CRI line or of `docker logs -t`.
fn cri_time(line: &[u8]) -> Option<Utc> {
    let word = line.get(..40).unwrap_or(line).split(|byte| *byte == b' ').next()?;
    if word.len() < 20 || word.get(10) != Some(&b'T') {
        return None;
    }
    utc(std::str::from_utf8(word).ok()?.parse().ok()?)
}

/// Removes one kind of prefix, `None` if the line has none of it.
type Step = fn(&[u8]) -> Option<&[u8]>;

/// Removes the known text prefixes from a line without a level.
pub(super) fn without_prefix(line: &[u8]) -> &[u8] {
    const STEPS: [Step; 7] = [compose, kubectl, priority, stamp, cri_stream, syslog, tag];
    let mut rest = line;
    for step in STEPS {
        rest = step(rest).unwrap_or(rest);
    }
    rest.strip_prefix(b"nginx: ").unwrap_or(rest)
}

/// `nginx_1  | `: a name, spaces, a bar.
fn compose(line: &[u8]) -> Option<&[u8]> {
    let bar = line.get(..80).unwrap_or(line).iter().position(|byte| *byte == b'|')?;
    let name = line[..bar].trim_ascii();
    let is_name =
        !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte));
    is_name.then(|| line[bar + 1..].trim_ascii_start())
}

/// `[pod/web-5c/nginx] `.
fn kubectl(line: &[u8]) -> Option<&[u8]> {
    let inside = line.strip_prefix(b"[pod/")?;
    let end = inside.iter().position(|byte| *byte == b']')?;
    Some(inside[end + 1..].trim_ascii_start())
}

/// `<187>` of syslog; with the version of RFC 5424 also time, host, program, process, message id and data.
fn priority(line: &[u8]) -> Option<&[u8]> {
    let (_, rest) = digits(line.strip_prefix(b"<")?)?;
    let rest = rest.strip_prefix(b">")?;
    let Some(mut rest) = rest.strip_prefix(b"1 ") else { return Some(rest) };
    for _ in 0..5 {
        rest = after_word(rest)?;
    }
    if let Some(inside) = rest.strip_prefix(b"[") {
        return Some(inside[memchr::memchr(b']', inside)? + 1..].trim_ascii_start());
    }
    Some(rest.strip_prefix(b"- ").unwrap_or(rest))
}

fn after_word(line: &[u8]) -> Option<&[u8]> {
    Some(&line[memchr::memchr(b' ', line)? + 1..])
}

/// `host nginx[812]: ` behind a time of RFC 3339.
fn tag(line: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memmem::find(line.get(..160).unwrap_or(line), b": ")?;
    let (host, program) = line[..colon].split_at(memchr::memchr(b' ', &line[..colon])?);
    let program = program.strip_prefix(b" ")?.split(|byte| *byte == b'[').next()?;
    let is_name = |name: &[u8]| name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte));
    (program.starts_with(b"nginx") && is_name(program) && is_name(host)).then(|| &line[colon + 2..])
}

/// An RFC 3339 time in front.
fn stamp(line: &[u8]) -> Option<&[u8]> {
    cri_time(line)?;
    let space = line.iter().position(|byte| *byte == b' ')?;
    Some(&line[space + 1..])
}

/// `stderr F `.
fn cri_stream(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"stderr ").or_else(|| line.strip_prefix(b"stdout "))?;
    rest.strip_prefix(b"F ").or_else(|| rest.strip_prefix(b"P "))
}

/// `May 21 23:01:44 host nginx[812]: ` of RFC 3164.
fn syslog(line: &[u8]) -> Option<&[u8]> {
    let is_stamp = line.len() > 16
        && line[..3].iter().all(u8::is_ascii_alphabetic)
        && line[3] == b' '
        && line[9] == b':'
        && line[12] == b':'
        && line[15] == b' ';
    if !is_stamp {
        return None;
    }
    let rest = &line[16..];
    let end = memchr::memmem::find(rest.get(..160).unwrap_or(rest), b": ")?;
    Some(&rest[end + 2..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_carriers_are_opened() {
        let docker = br#"{"log":"2022/05/21 23:01:44 [error] 3#3: *1 a \"b\"\n","stream":"stderr","time":"2022-05-21T23:01:44.5Z"}"#;
        let carried = unwrap(docker);
        assert_eq!(&*carried.payload, b"2022/05/21 23:01:44 [error] 3#3: *1 a \"b\"");
        assert_eq!(carried.time, Some(Utc(1_653_174_104_500_000_000)));
        let journal = br#"{"__REALTIME_TIMESTAMP":"1653174104000000","MESSAGE":[120,255]}"#;
        let carried = unwrap(journal);
        assert_eq!((&*carried.payload, carried.time), (&b"x\xff"[..], Some(Utc(1_653_174_104_000_000_000))));
    }

    #[test]
    fn broken_json_is_kept_as_it_is() {
        assert_eq!(&*unwrap(b"{\"log\":\"2022/05").payload, b"{\"log\":\"2022/05");
        assert_eq!(&*unwrap(b"{\"log\":5}\r\n").payload, b"{\"log\":5}");
    }

    #[test]
    fn quotes_are_as_nginx_prints_them() {
        let plain = r#"recv() failed, client: 1.1.1.1, server: s, request: "GET /a\b HTTP/1.1", host: "h""#;
        let typographic = plain.replace(": \"", ": \u{201c}").replace('"', "\u{201d}");
        let literal = plain.replace('\\', "\\\\").replace('"', "\\\"");
        for line in [&typographic, &literal, &plain.replace('"', "&quot;")] {
            assert_eq!(&*unwrap(line.as_bytes()).payload, plain.as_bytes(), "{line}");
        }
        let forged = r#"x, client: 1.1.1.1, server: s, request: "GET /, host: \"evil\"", host: "h""#;
        assert_eq!(&*unwrap(forged.as_bytes()).payload, forged.as_bytes());
    }

    #[test]
    fn known_prefixes_go_where_there_is_no_head() {
        for line in [
            "nginx-1  | recv() failed",
            "2022-05-21T23:01:44.470722263Z stderr F recv() failed",
            "2022-05-21T23:01:44.470722263Z stderr P recv() failed",
            "<187>May 21 23:01:44 web nginx: recv() failed",
            "<187>1 2022-05-21T23:01:44Z web nginx 812 - - recv() failed",
            "<187>1 2022-05-21T23:01:44Z web nginx - - [meta a=\"b\"] recv() failed",
            "2022-05-21T23:01:44.470722+00:00 web nginx[812]: recv() failed",
            "May  1 23:01:44 web nginx[812]: nginx: recv() failed",
            "[pod/web/nginx] recv() failed",
        ] {
            assert_eq!(without_prefix(line.as_bytes()), b"recv() failed", "{line}");
        }
    }
}
