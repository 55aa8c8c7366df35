//! The head of a line: `TIME [LEVEL] PID#TID: *CONN ` (`ngx_log_error_core`). It is searched near the start of
//! the line, since carriers put text in front; every part may be missing in pasted lines.

use jiff::civil::DateTime;
use memchr::{memchr, memmem};

use super::{Problem, carrier, time};
use crate::model::Level;

/// How far from the start of a line its head may begin.
const SEARCH_LIMIT: usize = 400;

/// The head, and what follows it.
pub(super) struct Head<'a> {
    pub time: Option<DateTime>,
    pub level: Option<Level>,
    pub pid: Option<u32>,
    pub tid: Option<u32>,
    pub connection: Option<u64>,
    pub rest: &'a [u8],
    pub problems: Vec<Problem>,
}

const LEVELS: [(&[u8], Level); 8] = [
    (b"error] ", Level::Error),
    (b"info] ", Level::Info),
    (b"warn] ", Level::Warn),
    (b"notice] ", Level::Notice),
    (b"crit] ", Level::Crit),
    (b"alert] ", Level::Alert),
    (b"emerg] ", Level::Emerg),
    (b"debug] ", Level::Debug),
];

/// Reads the head of a line.
pub(super) fn read(line: &[u8]) -> Head<'_> {
    match find_level(line) {
        Some((bracket, level, rest)) => with_level(line, bracket, level, rest),
        None => without_level(line),
    }
}

/// The first `[level] ` near the start: where it begins, which it is, what follows.
pub(super) fn find_level(line: &[u8]) -> Option<(usize, Level, &[u8])> {
    let mut from = 0;
    while let Some(found) = memchr(b'[', line.get(from..line.len().min(SEARCH_LIMIT))?) {
        let at = from + found;
        let inside = &line[at + 1..];
        if let Some((text, level)) = LEVELS.iter().find(|(text, _)| inside.starts_with(text)) {
            return is_plausible(&line[..at]).then(|| (at, *level, &inside[text.len()..]));
        }
        from = at + 1;
    }
    without_bracket(line)
}

/// A line that was copied from behind the bracket on.
fn without_bracket(line: &[u8]) -> Option<(usize, Level, &[u8])> {
    let (text, level) = LEVELS.iter().find(|(text, _)| line.starts_with(text))?;
    Some((0, *level, &line[text.len()..]))
}

/// A `[error]` behind a field or a quoted text belongs to somebody's request, not to the head.
fn is_plausible(before: &[u8]) -> bool {
    memmem::find(before, b", client: ").is_none() && memmem::find(before, b"() failed").is_none()
}

fn with_level<'a>(line: &[u8], bracket: usize, level: Level, rest: &'a [u8]) -> Head<'a> {
    let (time, problems) = match time_before(&line[..bracket]) {
        Ok(time) => (Some(time), Vec::new()),
        Err(problem) => (None, vec![problem]),
    };
    let mut head = Head { time, level: Some(level), pid: None, tid: None, connection: None, rest, problems };
    read_process(&mut head);
    read_connection(&mut head);
    head
}

/// The time stamp that ends right before ` [level]`.
fn time_before(before: &[u8]) -> Result<DateTime, Problem> {
    let before = before.strip_suffix(b" ").unwrap_or(before);
    let longest = (time::LENGTH + 16).min(before.len());
    for start in before.len() - longest..(before.len() + 1).saturating_sub(time::LENGTH) {
        match time::read(&before[start..]) {
            Some((value, length)) if start + length == before.len() => return value.ok_or(Problem::BadTime),
            _ => {}
        }
    }
    Err(Problem::NoTime)
}

fn without_level(line: &[u8]) -> Head<'_> {
    let rest = carrier::without_prefix(line);
    let (time, rest) = match time::read(rest) {
        Some((time, length)) => (time, rest[length..].trim_ascii_start()),
        None => (None, rest),
    };
    let problems = match time {
        Some(_) => vec![Problem::NoLevel],
        None => vec![Problem::NoTime, Problem::NoLevel],
    };
    let mut head = Head { time, level: None, pid: None, tid: None, connection: None, rest, problems };
    read_process(&mut head);
    read_connection(&mut head);
    head
}

/// `PID#TID: `.
fn read_process(head: &mut Head<'_>) {
    let Some((pid, tid, rest)) = process(head.rest) else {
        head.problems.push(Problem::NoProcess);
        return;
    };
    head.pid = keep(pid, &mut head.problems);
    head.tid = keep(tid, &mut head.problems);
    head.rest = rest;
}

fn keep<T>(number: Option<T>, problems: &mut Vec<Problem>) -> Option<T> {
    if number.is_none() {
        problems.push(Problem::NumberTooLarge);
    }
    number
}

type Process<'a> = (Option<u32>, Option<u32>, &'a [u8]);

fn process(bytes: &[u8]) -> Option<Process<'_>> {
    let (pid, rest) = digits(bytes)?;
    let (tid, rest) = digits(rest.trim_ascii_start().strip_prefix(b"#")?)?;
    let rest = rest.strip_prefix(b":")?;
    Some((decimal(pid), decimal(tid), rest.strip_prefix(b" ").unwrap_or(rest)))
}

/// `*N `, also in `*58 open socket #5 left in connection 4`, where Nginx prints it as part of the message.
fn read_connection(head: &mut Head<'_>) {
    let Some((number, rest)) = head.rest.strip_prefix(b"*").and_then(digits) else { return };
    let Some(rest) = rest.strip_prefix(b" ") else { return };
    head.connection = keep(decimal(number), &mut head.problems);
    head.rest = rest;
}

/// Splits leading decimal digits off, at least one.
pub(super) fn digits(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (length > 0).then(|| bytes.split_at(length))
}

/// Decimal digits as a number, `None` if it does not fit.
pub(super) fn decimal<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_does_not_hide_the_head() {
        for prefix in [
            "",
            "nginx  | ",
            "\u{1b}[36mweb_1 |\u{1b}[0m ",
            "2022-05-21T23:01:44.470722263Z stderr F ",
            "<187>May 21 23:01:44 web nginx: ",
            "<187>1 2022-05-21T23:01:44Z web nginx - - - ",
            "May 21 23:01:44 web nginx[812]: ",
            "[pod/web-5c/nginx] ",
        ] {
            let line = format!("{prefix}2022/05/21 23:01:44 [error] 31#32: *9 recv() failed");
            let head = read(line.as_bytes());
            assert_eq!(head.time.map(DateTime::minute), Some(1), "{line}");
            assert_eq!((head.level, head.pid, head.tid), (Some(Level::Error), Some(31), Some(32)), "{line}");
            assert_eq!((head.connection, head.rest), (Some(9), &b"recv() failed"[..]), "{line}");
            assert_eq!(head.problems, vec![], "{line}");
        }
    }

    #[test]
    fn parts_may_be_missing() {
        let head = read(b"nginx: [emerg] bind() to 0.0.0.0:80 failed");
        assert_eq!((head.level, head.rest), (Some(Level::Emerg), &b"bind() to 0.0.0.0:80 failed"[..]));
        let head = read(b"error] 123 #124: *5 recv() failed");
        assert_eq!((head.level, head.pid, head.tid), (Some(Level::Error), Some(123), Some(124)));
        let head = read(b"123#0: *5 recv() failed");
        assert_eq!((head.pid, head.connection, head.level), (Some(123), Some(5), None));
        let head = read(b"*5 recv() failed, request: \"GET /[error] HTTP/1.1\"");
        assert_eq!((head.level, head.connection), (None, Some(5)));
        let head = read(b"2022/05/21 23:01:44 [error] 99999999999#0: x");
        assert_eq!((head.pid, head.problems), (None, vec![Problem::NumberTooLarge]));
    }
}
