//! The first screen and its kin on a small log, as an engineer sees them.

use jiff::tz::TimeZone;

use super::{json, markdown, text};
use crate::history::access::AccessCounts;
use crate::history::{Aggregate, Range, Report, Source};
use crate::output::sanitize::is_dangerous;
use crate::output::{Palette, TextOptions};

fn line(time: &str, text: &str, upstream: &str) -> String {
    format!(
        "2026/11/20 {time} [error] 31#31: *7 {text}, client: 203.0.113.9, server: shop, request: \"GET /api/orders/7 HTTP/1.1\", \
         upstream: \"http://{upstream}/api\", host: \"shop\""
    )
}

/// Every hour at :15 ten resets of one upstream; now and then a timeout of another.
fn hourly() -> Vec<String> {
    let reset = "recv() failed (104: Connection reset by peer) while reading response header from upstream";
    let slow = "upstream timed out (110: Connection timed out) while reading response header from upstream";
    let mut lines = Vec::new();
    for hour in 0..24 {
        lines.extend((0..10).map(|second| line(&format!("{hour:02}:15:{second:02}"), reset, "10.0.0.2:8080")));
    }
    lines.extend([3, 9, 17].map(|hour| line(&format!("{hour:02}:41:07"), slow, "10.0.0.3:8080")));
    lines.sort();
    lines
}

fn report(lines: &[String], access: Option<&str>) -> Report {
    let mut counts = Aggregate::new(TimeZone::UTC, Range::default());
    lines.iter().for_each(|line| counts.line(line.as_bytes()));
    let source = Source { files: vec!["error.log".to_owned()], zone: "UTC".to_owned(), ..Source::default() };
    let access = access.map(|text| {
        let mut counts = AccessCounts::default();
        text.lines().for_each(|line| counts.line(line.as_bytes()));
        counts.report()
    });
    Report::new(&counts, source, access)
}

fn shown(report: &Report) -> String {
    let options = TextOptions { palette: Palette { colour: false }, width: Some(100), zone: TimeZone::UTC };
    text::text(report, &options)
}

#[test]
fn the_first_screen() {
    insta::assert_snapshot!(shown(&report(&hourly(), None)), @"");
}

#[test]
fn an_empty_log() {
    insta::assert_snapshot!(shown(&report(&[], None)), @"");
}

#[test]
fn access_log_beside() {
    let access = "10.0.0.9 - - [x] \"GET /api/orders/7 HTTP/1.1\" 502 157 \"-\" \"c\"\n{\"status\":200,\"us\":\"502, 200\"}";
    let text = shown(&report(&[], Some(access)));
    assert!(text.contains("2 lines of access.log; 502: 1; 1 retried, 1 of them repaired"), "{text}");
}

#[test]
fn markdown_of_the_same() {
    let text = markdown::markdown(&report(&hourly(), None));
    assert!(text.contains("| reset while waiting for the answer | 240 | unknown | undetermined |"), "{text}");
    assert!(text.contains("| `10.0.0.2:8080` | 240 |"), "{text}");
}

#[test]
fn hostile_text_is_harmless_in_every_form() {
    let lines: Vec<String> = (0..30)
        .map(|at| line("06:00:00", "connect() failed (111: Connection refused) while connecting to upstream", "10.0.0.2:80").replace("/api/orders", &format!("/\x1b[2J`|<b>\u{202e}{at}")))
        .collect();
    let report = report(&lines, None);
    let markdown = markdown::markdown(&report);
    assert!(!markdown.contains("<b>\\x") && !markdown.replace('\n', "").chars().any(is_dangerous));
    assert!(!shown(&report).replace('\n', "").chars().any(is_dangerous));
    let json = String::from_utf8(json::report(&report).expect("JSON")).expect("UTF-8");
    assert!(!json.trim_end().chars().any(is_dangerous));
}

#[test]
fn shares_add_up() {
    let report = report(&hourly(), None);
    for shares in [&report.parties, &report.segments] {
        assert_eq!(shares.iter().map(|row| row.count).sum::<u64>(), report.incidents);
    }
    for ranking in &report.rankings {
        let rows: u64 = ranking.rows.iter().map(|row| row.count).sum();
        assert_eq!(rows + ranking.other + ranking.unnamed, report.incidents, "{}", ranking.dimension);
    }
    assert_eq!(report.topics.iter().filter(|row| !row.harmless).map(|row| row.count).sum::<u64>(), report.incidents);
}
