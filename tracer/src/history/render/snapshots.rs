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
        lines
            .extend((0..10).map(|second| line(&format!("{hour:02}:15:{second:02}"), reset, "10.0.0.2:8080")));
    }
    lines.extend([3, 9, 17].map(|hour| line(&format!("{hour:02}:41:07"), slow, "10.0.0.3:8080")));
    lines.sort();
    lines
}

fn report(lines: &[String], access: Option<&str>) -> Report {
    let mut counts = Aggregate::new(TimeZone::UTC, Range::default());
    for line in lines {
        counts.line(line.as_bytes());
    }
    let source = Source { files: vec!["error.log".to_owned()], zone: "UTC".to_owned(), ..Source::default() };
    let access = access.map(|text| {
        let mut counts = AccessCounts::default();
        text.lines().for_each(|line| counts.line(line.as_bytes()));
        counts.report()
    });
    Report::new(&mut counts, source, access)
}

fn shown(report: &Report) -> String {
    let options = TextOptions { palette: Palette { colour: false }, width: Some(100), zone: TimeZone::UTC };
    text::text(report, &options)
}

#[test]
fn the_first_screen() {
    insta::assert_snapshot!(shown(&report(&hourly(), None)), @r#"
    log        error.log: 243 lines, 2026-11-20 00:15:00+00:00 to 2026-11-20 23:15:09+00:00 (printed
               times read as UTC)
    found      243 incidents

    who (weak) undecidable   99 %  ████████████████████ 240
               upstream       1 %  █                    3
    where      nginx_upstream 99 %, upstream 1 %

    what            240   99 %  reset while waiting for the answer [unknown]
                      3    1 %  upstream too slow to answer [upstream]
               the first: usually taken for `the backend crashed, was restarted or dropped the request`;
               no proof, since Nginx prints the same line for a reset by the upstream and for one that a
               device on the path put in its name; tracing shows the RST itself (TTL, sequence number,
               options against the peer's earlier packets), how long the connection had been idle, and
               on one host the sending process

    upstreams       240  10.0.0.2:8080  mostly: reset while waiting for the answer
                      3  10.0.0.3:8080  mostly: upstream too slow to answer
    URIs            243  GET /api/orders/{n}
    clients         243  203.0.113.0/24

    when       █·█··█·█▁·█··█·█··█·█··█▁·█·█··█·█··█··█·█··█▁█··█··█·█··█·█
               2026-11-20 00:15:00+00:00          2026-11-20 23:15:09+00:00
    patterns   upstream failures (502) return every 1 h 0 min, for example at 2026-11-20 00:15:00+00:00
               (in a window of 56.2 s): 24 of 24 cycles, 24 of 24 onsets
               upstream timeouts (504) are occasional: 3 in 3 of 201 slices of 6 min 54 s; restarts and
               single clients look like this

    can't show resets and aborts by clients: Nginx logs them at level info, and this log has no line of
               that level, so the client's share is unknown, not small
               who sent a reset: peer and device on the path leave the same line, so no certainty here
               is above weak
    next       1. `sudo rstscope trace --upstream 10.0.0.2:8080` decides the 99 % that this log leaves
               open
               2. find what runs at these times: cron, systemd timers, backups, deployments, on Nginx's
               host and on the upstream's
               3. `error_log … info;` for an hour shows the client's side
    "#);
}

#[test]
fn an_empty_log() {
    insta::assert_snapshot!(shown(&report(&[], None)), @r#"
    log        error.log: 0 lines (printed times read as UTC)
    found      0 incidents

    can't show resets and aborts by clients: Nginx logs them at level info, and this log has no line of
               that level, so the client's share is unknown, not small
    next       1. no connection of Nginx failed in this log; set `error_log … info;` for a while to see
               clients; `sudo rstscope trace` sees what Nginx does not log
    "#);
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
        .map(|at| {
            line(
                "06:00:00",
                "connect() failed (111: Connection refused) while connecting to upstream",
                "10.0.0.2:80",
            )
            .replace("/api/orders", &format!("/\x1b[2J`|<b>\u{202e}{at}"))
        })
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
    assert_eq!(
        report.topics.iter().filter(|row| !row.harmless).map(|row| row.count).sum::<u64>(),
        report.incidents
    );
}

#[test]
fn one_upstream_is_traced_only_where_most_of_it_happens() {
    let reset = "recv() failed (104: Connection reset by peer) while reading response header from upstream";
    let several: Vec<String> =
        (1..=4).map(|host| line("06:43:33", reset, &format!("10.0.0.{host}:8080"))).collect();
    assert!(report(&several, None).next[0].starts_with("`sudo rstscope trace` decides"));
    assert!(report(&several[..1], None).next[0].contains("--upstream 10.0.0.1:8080"));
}
