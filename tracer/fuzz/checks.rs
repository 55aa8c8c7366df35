//! What must hold for any bytes. Shared by the targets of cargo-fuzz and by the bounded run in tests/fuzz.rs.

#![allow(dead_code, reason = "every target uses one of these")]

use std::path::PathBuf;

use jiff::tz::TimeZone;
use rstscope::history::{Aggregate, Range};
use rstscope::nginx::config::tree::Tree;
use rstscope::nginx::config::{self, Location};
use rstscope::nginx::line::{self, Line, RawLine};

/// A line of error.log: it is read without a panic, the quick reader agrees with the full one, and it is counted once.
pub fn line(data: &[u8]) {
    let record = line::parse(data, &TimeZone::UTC);
    assert!(record.message.len() <= 3 * data.len(), "a message longer than its line");
    if let Some(raw) = RawLine::read(data) {
        let full = Line::read(data);
        assert_eq!((Some(raw.level), Some(raw.pid), raw.tail), (full.level, full.pid, full.tail));
        assert!(raw.body.starts_with(full.message));
    }
    forged(data);
    let mut counts = Aggregate::new(TimeZone::UTC, Range::default());
    counts.line(data);
    counts.settle();
    let incidents: u64 = counts.topics.iter().map(|cell| cell.count).sum();
    let rest = counts.unreadable + counts.companions + counts.lifecycle + counts.others.iter().sum::<u64>();
    assert_eq!((counts.lines, incidents + rest), (1, 1));
}

/// Whatever a client sends as its referrer, it does not become the client or the upstream of the line.
fn forged(data: &[u8]) {
    let text: Vec<u8> = data.iter().copied().filter(|byte| *byte != b'\n').take(1500).collect();
    let line = [
        &b"2026/11/20 06:43:33 [error] 3#3: *7 recv() failed (104: Connection reset by peer) while reading upstream, \
           client: 10.0.0.9, server: s, request: \"GET /a HTTP/1.1\", upstream: \"http://10.0.0.2:80/a\", host: \"h\", \
           referrer: \"http://r/"[..],
        &text,
        b"\"",
    ];
    let record = line::parse(&line.concat(), &TimeZone::UTC);
    assert_eq!(record.client.as_deref(), Some("10.0.0.9"));
    assert_eq!(record.upstream.as_deref(), Some("10.0.0.2:80"));
    assert_eq!((record.errno, record.pid), (Some(104), Some(3)));
}

/// A file of the configuration: it is read to its end, within bounds.
pub fn config(data: &[u8]) {
    let location = Location {
        file: PathBuf::from("/etc/nginx/nginx.conf"),
        prefix: PathBuf::from("/usr/share/nginx"),
        default_error_log: PathBuf::from("/var/log/nginx/error.log"),
    };
    let found = config::read_text(data, &location);
    assert!(!found.error_logs.is_empty() || !found.other_error_logs.is_empty());
    let tree = Tree::of_text(&String::from_utf8_lossy(data));
    let words: usize =
        tree.blocks.iter().flat_map(|block| &block.directives).map(|one| one.arguments.len() + 1).sum();
    // Bytes that are not text become three bytes each.
    assert!(words <= 3 * data.len() + 1, "more words than bytes");
}
