//! One verdict in full, for `rstscope show`: every field of the record in words, in the order a person asks.
//! Shows and leaves nothing out; the live view ([`super::text`]) is the short form of the same.

use anstyle::Style;
use jiff::Timestamp;

use super::layout::{count, hang, length, span};
use super::text::TextOptions;
use super::{parts, sanitize, style};
use crate::model::Verdict;
use crate::model::verdict::{Connection, Listener, LogLine, Match, ProcessRef, Reset};

/// Columns that the labels take.
const LABEL_WIDTH: usize = 14;
/// Characters of one entry.
const MAX_ENTRY: usize = 2000;

/// The verdict as text.
pub fn text(verdict: &Verdict, options: &TextOptions) -> String {
    let mut page = Page { out: String::new(), options };
    page.title(verdict);
    page.entry("", &verdict.summary);
    facts(&mut page, verdict);
    for piece in &verdict.evidence {
        let compared = [("value", &piece.value), ("expected", &piece.baseline)];
        let compared = compared.iter().filter_map(|(name, text)| Some(format!("{name} {}", text.as_ref()?)));
        let compared = compared.collect::<Vec<_>>().join(", ");
        let compared = if compared.is_empty() { compared } else { format!(" [{compared}]") };
        let text = format!("{} ({}){compared}", piece.detail, piece.code);
        page.styled(style::weight(piece.weight), piece.weight.slug(), &text);
    }
    for gap in &verdict.missing {
        page.styled(Style::new().dimmed(), "missing", &format!("{}: {}", gap.code, gap.why));
    }
    for other in &verdict.alternatives {
        page.styled(
            Style::new().dimmed(),
            "considered",
            &format!("{} {}: {}", other.party, other.cause, other.why_not),
        );
    }
    for advice in &verdict.advice {
        page.styled(Style::new().bold(), "advice", &parts::advice(advice));
    }
    page.out
}

/// Local date and time with milliseconds and offset; the text itself when it is no time.
pub fn moment(time: &str, options: &TextOptions) -> String {
    match time.parse::<Timestamp>() {
        Ok(stamp) => stamp.to_zoned(options.zone.clone()).strftime("%Y-%m-%d %H:%M:%S.%3f %:z").to_string(),
        Err(_) => sanitize::line(time, 40).into_owned(),
    }
}

struct Page<'a> {
    out: String,
    options: &'a TextOptions,
}

impl Page<'_> {
    fn title(&mut self, verdict: &Verdict) {
        let palette = self.options.palette;
        let party = palette.paint(style::party(verdict.party), &verdict.party.slug().to_uppercase());
        let certainty = palette.paint(style::certainty(verdict.certainty), verdict.certainty.slug());
        let culprit = parts::culprit(verdict);
        let head = [&*party, &*certainty, verdict.cause.slug(), &*culprit].join("  ");
        self.out.push_str(head.trim_end());
        self.out.push('\n');
    }

    fn entry(&mut self, label: &str, text: &str) {
        self.styled(Style::new(), label, text);
    }

    fn styled(&mut self, style: Style, label: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let padding = " ".repeat(LABEL_WIDTH.saturating_sub(length(label)));
        let first = format!("{}{padding}", self.options.palette.paint(style, label));
        let first = if label.is_empty() { String::new() } else { first };
        let indent = if label.is_empty() { 0 } else { LABEL_WIDTH };
        hang(&mut self.out, &first, indent, &sanitize::line(text, MAX_ENTRY), self.options.width);
    }
}

fn facts(page: &mut Page<'_>, verdict: &Verdict) {
    page.entry("id", &verdict.id);
    page.entry("time", &moment(&verdict.time, page.options));
    page.entry("host", &verdict.host);
    let what =
        format!("{}, segment {}, phase {} ({})", verdict.kind, verdict.segment, verdict.phase, verdict.stage);
    page.entry("what", &what);
    page.entry("impact", verdict.impact.slug());
    page.entry("caused by", verdict.consequence_of.as_deref().unwrap_or_default());
    let ends = [("connection", &verdict.connection), ("other half", &verdict.peer_connection)];
    for (label, end) in ends {
        page.entry(label, &end.as_ref().map(connection).unwrap_or_default());
    }
    page.entry("listener", &verdict.listener.as_ref().map(listener).unwrap_or_default());
    page.entry("reset", &verdict.reset.as_ref().map(reset).unwrap_or_default());
    page.entry("log", &verdict.log.as_ref().map(log).unwrap_or_default());
    page.entry("joined", &verdict.matched.as_ref().map(joined).unwrap_or_default());
}

fn connection(end: &Connection) -> String {
    let age = match (end.age_ms, end.preexisting) {
        (Some(age), _) => format!("open {}", span(age)),
        (None, true) => "older than the trace".to_owned(),
        (None, false) => String::new(),
    };
    let parts = [
        format!("nginx {} ↔ {} {}", end.local, end.side, end.remote),
        end.state.clone(),
        age,
        end.idle_ms.map(|idle| format!("idle {}", span(idle))).unwrap_or_default(),
        format!("{} bytes sent, {} received", end.bytes_sent, end.bytes_received),
        format!("round trip {} µs, {} segments retransmitted", end.srtt_us, end.retransmits),
        end.owner.as_ref().map(owner).unwrap_or_default(),
        format!("network namespace {}, cookie {}", end.netns, end.cookie),
    ];
    together(&parts)
}

fn owner(owner: &ProcessRef) -> String {
    format!("held by {} ({})", owner.pid, owner.comm)
}

fn listener(listener: &Listener) -> String {
    let parts = [
        listener.address.clone(),
        format!("{} waiting with room for {}", listener.queue, listener.limit),
        format!("{} dropped", count(listener.dropped, "packet")),
        listener.owner.as_ref().map(owner).unwrap_or_default(),
    ];
    together(&parts)
}

fn reset(reset: &Reset) -> String {
    let number =
        |name: &str, value: Option<u32>| value.map(|value| format!("{name} {value}")).unwrap_or_default();
    let expected = reset.baseline_ttl.map(|ttl| format!(" (expected {ttl})")).unwrap_or_default();
    let sender = reset.sender.as_ref().map(|sender| {
        let exit = sender.exit.as_ref().map(|exit| format!(", {exit}")).unwrap_or_default();
        format!("sent by {} ({}){exit}", sender.pid, sender.exe.as_ref().unwrap_or(&sender.comm))
    });
    let parts = [
        reset.direction.slug().to_owned(),
        reset.flags.clone().unwrap_or_default(),
        number("sequence", reset.seq),
        number("expected", reset.expected_seq),
        number("acknowledgment", reset.ack),
        number("window", reset.window),
        reset.ttl.map(|ttl| format!("TTL {ttl}{expected}")).unwrap_or_default(),
        reset.ip_id.map(|id| format!("IP id {id}")).unwrap_or_default(),
        reset.options.as_ref().map(|options| format!("options {}", options.join(" "))).unwrap_or_default(),
        reset.reason.as_ref().map(|reason| format!("the kernel's reason {reason}")).unwrap_or_default(),
        sender.unwrap_or_default(),
    ];
    together(&parts)
}

fn log(line: &LogLine) -> String {
    let named = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} {value}"));
    let errno = line.errno.map(|errno| format!(" ({errno})")).unwrap_or_default();
    let parts = [
        Some(format!("{}@{}", line.file, line.offset)),
        line.level.map(|level| format!("{level:?}").to_lowercase()),
        line.pid.map(|pid| format!("worker {pid}")),
        line.connection.map(|number| format!("*{number}")),
        Some(format!("{}{errno}", line.message)),
        named("while", &line.action),
        named("client", &line.client),
        named("server", &line.server),
        named("request", &line.request),
        named("upstream", &line.upstream),
        named("host", &line.host),
    ];
    together(&parts.map(Option::unwrap_or_default))
}

fn joined(matched: &Match) -> String {
    let Match { method, gap_ms, candidates } = matched;
    format!("by {method}, the line {gap_ms} ms after the kernel's event, {candidates} possible")
}

fn together(parts: &[String]) -> String {
    parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::{Palette, samples};
    use super::*;

    fn shown(verdict: &Verdict) -> String {
        let options =
            TextOptions { palette: Palette { colour: false }, width: Some(100), zone: TimeZone::UTC };
        text(verdict, &options)
    }

    #[test]
    fn everything_is_said() {
        insta::assert_snapshot!(shown(&samples::process_exit()), @r#"
        UPSTREAM  proven  upstream_process_exit  10.0.1.10:8080
        Upstream process gunicorn (pid 9120) was killed by signal 9 (SIGKILL) while the request was in
        flight.
        id            01JNA8VQ3W6T4Z0E5R7Y9HKMPC
        time          2026-03-01 14:03:22.118 +00:00
        host          web1
        what          reset_received, segment upstream, phase waiting (post_psh)
        impact        request_failed
        connection    nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, ESTABLISHED, open 3.2 s, idle 12 ms,
                      812 bytes sent, 0 received, round trip 420 µs, 0 segments retransmitted, held by 813
                      (nginx), network namespace 4026531840, cookie 4711
        other half    nginx 10.0.0.5:443 ↔ client 198.51.100.7:51234, ESTABLISHED, open 3.2 s, idle 12 ms,
                      812 bytes sent, 0 received, round trip 420 µs, 0 segments retransmitted, held by 813
                      (nginx), network namespace 4026531840, cookie 4711
        reset         received, RST|ACK, sequence 1000, expected 1000, acknowledgment 2000, window 501, TTL
                      63 (expected 63), IP id 4242, options timestamps, the kernel's reason
                      TCP_ABORT_ON_CLOSE, sent by 9120 (gunicorn), killed by signal 9 (SIGKILL)
        log           /var/log/nginx/error.log@18234, error, worker 813, *57, upstream prematurely closed
                      connection, while reading response header from upstream, client 198.51.100.7, server
                      shop.example, request GET /api/orders/17 HTTP/1.1, upstream 10.0.1.10:8080, host
                      shop.example
        joined        by address, the line 1 ms after the kernel's event, 1 possible
        decisive      the RST was sent by pid 9120 while it was exiting (sender_exiting)
        "#);
        insta::assert_snapshot!(shown(&samples::listen_overflow()), @r#"
        NGINX  proven  nginx_listen_overflow  listener 0.0.0.0:443
        The accept queue of 0.0.0.0:443 was full (512 of 511): 37 connection attempts were dropped.
        id            01JNA8VQ3W6T4Z0E5R7Y9HKMPC
        time          2026-03-01 14:03:22.118 +00:00
        host          web1
        what          listen_overflow, segment nginx, phase connecting (post_syn)
        impact        unknown
        listener      0.0.0.0:443, 512 waiting with room for 511, 37 packets dropped, held by 813 (nginx)
        decisive      the kernel dropped SYNs with 512 connections of 511 waiting (queue_full)
        advice        listen 443 backlog=4096; sysctl net.core.somaxconn=4096 (listen directive and
                      net.core.somaxconn): the queue holds 511 connections and was full
        "#);
    }

    #[test]
    fn hostile_strings_are_harmless() {
        let shown = shown(&samples::hostile());
        assert!(!shown.chars().any(|c| c != '\n' && sanitize::is_dangerous(c)), "{shown}");
    }
}
