//! How one verdict came about, as text: what belonged to the incident, what the detectors said, the rule that
//! decided, the certainty, and what else was considered. Shows an [`Explanation`] and adds nothing to it.

use super::layout::{count, hang};
use super::sanitize;
use super::style;
use super::text::{TextOptions, clock};
use crate::judge::{Explanation, Said, Step, What};
use crate::model::verdict::Weight;
use crate::model::{Backlog, Event, EventKind, LogRecord, Overflow, Packet, Socket, Task};

/// Columns of the indent.
const INDENT: usize = 4;
/// Characters of one entry, before it is broken.
const MOST: usize = 1000;

/// The explanation as text.
pub fn text(explanation: &Explanation, options: &TextOptions) -> String {
    let mut page = Page { out: String::new(), options };
    let verdict = &explanation.verdict;
    let head = format!("{} {}, {} ({})", verdict.party, verdict.cause, verdict.certainty, verdict.id);
    let painted = options.palette.paint(style::party(verdict.party), &sanitize::line(&head, MOST));
    page.out.push_str(&painted);
    page.out.push('\n');
    page.entry(&verdict.summary);
    happened(&mut page, explanation);
    said(&mut page, &explanation.said);
    rule(&mut page, explanation);
    certainty(&mut page, explanation);
    considered(&mut page, explanation);
    page.out
}

struct Page<'a> {
    out: String,
    options: &'a TextOptions,
}

impl Page<'_> {
    fn title(&mut self, title: &str) {
        self.out.push('\n');
        self.out.push_str(&self.options.palette.bold(title));
        self.out.push('\n');
    }

    fn entry(&mut self, text: &str) {
        let indent = " ".repeat(INDENT);
        hang(&mut self.out, &indent, INDENT, &sanitize::line(text, MOST), self.options.width);
    }
}

fn happened(page: &mut Page<'_>, explanation: &Explanation) {
    page.title("1. What belonged to the incident");
    for step in &explanation.steps {
        let time = step.time.rfc3339();
        let text = format!("{}  {}: {}", clock(&time, &page.options.zone), step.witness, what(step));
        page.entry(&text);
    }
    if explanation.beyond > 0 {
        page.entry(&format!("{} more events were counted and not kept", explanation.beyond));
    }
    if let Some(id) = &explanation.caused_by {
        page.entry(&format!("the client incident {id} came just before"));
    }
    let judged = explanation.judged.rfc3339();
    let text = format!("{}  judged", clock(&judged, &page.options.zone));
    page.entry(&text);
}

fn what(step: &Step) -> String {
    match &step.what {
        What::Event(event) => self::event(event),
        What::Overflow(overflow) => self::overflow(overflow),
        What::Line(record) => line(record),
    }
}

fn event(event: &Event) -> String {
    let mut parts = vec![kind(&event.kind)];
    parts.extend(event.socket.as_ref().map(socket));
    parts.extend(event.packet.as_ref().map(packet));
    parts.extend(task(&event.task));
    parts.join("; ")
}

fn kind(kind: &EventKind) -> String {
    match kind {
        EventKind::ResetReceived => "a RST was accepted".to_owned(),
        EventKind::Standing => "nothing had moved on the connection for a while".to_owned(),
        EventKind::OtherCapture(seen) if seen.is_recording => {
            format!("the recording of {} shows the other end", seen.file)
        }
        EventKind::OtherCapture(seen) => format!("the capture {} shows the other end", seen.file),
        EventKind::ResetSeen { .. } => "the capture shows a RST in Nginx's name".to_owned(),
        EventKind::ResetSent { reason, after_reset, local, remote, backlog } => {
            let reason = reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let after = if after_reset.is_some() { ", after a RST had killed the connection" } else { "" };
            let full =
                if backlog.is_some_and(Backlog::is_full) { ", by a listener that was full" } else { "" };
            format!("a RST was sent{reason} from {local} to {remote}{after}{full}")
        }
        EventKind::ResetRefused { reason, local, remote } => {
            format!("a RST from {remote} to {local} was refused ({reason})")
        }
        EventKind::IcmpError(error) => {
            format!(
                "{} answered a segment from {} to {}: {}",
                error.sender,
                error.local,
                error.remote,
                error.name()
            )
        }
        EventKind::Closed { old, new } => format!("the socket went from {} to {}", old.name(), new.name()),
        EventKind::ListenOverflow(full) => overflow(full),
        EventKind::ProcessExit => "a process ended".to_owned(),
        EventKind::OomVictim => "the OOM killer chose a process".to_owned(),
    }
}

fn overflow(overflow: &Overflow) -> String {
    let Overflow { listener, queue, limit, dropped, .. } = overflow;
    format!(
        "{listener} had {} waiting with room for {limit}; {} dropped",
        count(u64::from(*queue), "connection"),
        count(u64::from(*dropped), "packet")
    )
}

fn socket(socket: &Socket) -> String {
    let mut parts = vec![format!("{} ↔ {} in {}", socket.local, socket.remote, socket.state.name())];
    let counted = [
        ("unread", u64::from(socket.unread)),
        ("unacknowledged", u64::from(socket.unacked)),
        ("unsent", u64::from(socket.unsent)),
        ("sent", socket.bytes_sent),
        ("received", socket.bytes_received),
    ];
    parts.extend(
        counted.iter().filter(|(_, bytes)| *bytes > 0).map(|(name, bytes)| format!("{bytes} bytes {name}")),
    );
    parts.extend((socket.error != 0).then(|| format!("errno {}", socket.error)));
    parts.extend((socket.retransmits > 0).then(|| format!("{} retransmitted", socket.retransmits)));
    let ago = [("sent", socket.last_sent_ms), ("received", socket.last_received_ms)];
    parts.extend(ago.iter().filter_map(|(name, ms)| Some(format!("last {name} {} ms before", (*ms)?))));
    parts.extend(socket.baseline.map(|baseline| format!("TTL {} expected", baseline.ttl)));
    parts.join(", ")
}

fn packet(packet: &Packet) -> String {
    let options = if packet.options.is_empty() { "no options".to_owned() } else { packet.options.join(" ") };
    format!(
        "packet {} from {} to {}, seq {}, ack {}, window {}, TTL {}, {} bytes, {options}",
        packet.flags.names(),
        packet.source,
        packet.destination,
        packet.seq,
        packet.ack,
        packet.window,
        packet.ttl,
        packet.payload_len
    )
}

fn task(task: &Task) -> Option<String> {
    let exit = task.exiting.map(|exit| match exit.signal {
        0 => format!(", ending with status {}", exit.status),
        signal => format!(", killed by signal {signal}"),
    });
    let acted = task.is_actor || exit.is_some();
    acted.then(|| format!("by {} ({}){}", task.pid, task.comm, exit.unwrap_or_default()))
}

fn line(record: &LogRecord) -> String {
    let errno = record.errno.map(|errno| format!(" (errno {errno})")).unwrap_or_default();
    let action = record.action.as_deref().map(|action| format!(" while {action}")).unwrap_or_default();
    let pid = record.pid.map(|pid| format!(", worker {pid}")).unwrap_or_default();
    format!(
        "{}{errno}{action} [{}]; {} at byte {}{pid}",
        record.message, record.kind.0, record.file, record.offset
    )
}

fn said(page: &mut Page<'_>, said: &[Said]) {
    page.title("2. What the detectors said");
    if said.is_empty() {
        page.entry("nothing");
    }
    for one in said {
        let weight = match one.weight {
            Some(Weight::Decisive) => "for it, decisive",
            Some(Weight::Supporting) => "for it",
            Some(Weight::Against) => "against it",
            None => "about something else",
        };
        page.entry(&format!("{weight}: {} ({}): {}", one.code, one.detector, one.detail));
    }
}

fn rule(page: &mut Page<'_>, explanation: &Explanation) {
    page.title("3. Which rule decided");
    match explanation.rule {
        Some(rule) if explanation.supported => page.entry(rule),
        Some(rule) => {
            page.entry(&format!("{rule} holds, but nothing was found that speaks for it: nobody is named"));
        }
        None => page.entry("none holds: nobody is named"),
    }
    if !explanation.passed.is_empty() {
        page.entry(&format!("read before, and did not hold: {}", explanation.passed.join(", ")));
    }
}

fn certainty(page: &mut Page<'_>, explanation: &Explanation) {
    page.title("4. How certain that is");
    page.entry(&format!("the evidence earns: {}", explanation.earned));
    for gap in &explanation.lowered_by {
        page.entry(&format!("one step down, {}: {}", gap.code, gap.why));
    }
    page.entry(&format!("so it is: {}", explanation.verdict.certainty));
}

fn considered(page: &mut Page<'_>, explanation: &Explanation) {
    let verdict = &explanation.verdict;
    page.title("5. What else was considered");
    if verdict.alternatives.is_empty() {
        page.entry("nothing");
    }
    for other in &verdict.alternatives {
        page.entry(&format!("{} {}: {}", other.party, other.cause, other.why_not));
    }
    page.title("6. What was looked for and could not be had");
    if verdict.missing.is_empty() {
        page.entry("nothing");
    }
    for gap in &verdict.missing {
        page.entry(&format!("{}: {}", gap.code, gap.why));
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::style::Palette;
    use super::*;
    use crate::engine::testing::{active_reset, at, host, line, logged, play_on, received, upstream};
    use crate::engine::{Engine, Limits};
    use crate::model::{Clock, Input, Losses, MessageKind};

    fn explained(id: &str, inputs: Vec<(u64, Input)>) -> Explanation {
        let mut engine = Engine::explaining(Limits::default(), id.to_owned());
        engine.handle(at(0), Input::Clock(Clock { offset_ns: 1_790_000_000_000_000_000 }));
        engine.handle(at(0), Input::Host(Box::new(host())));
        for (when, input) in inputs {
            engine.handle(at(when), input);
        }
        engine.finish(at(60_000));
        engine.explanation().unwrap().clone()
    }

    /// A reset of the upstream with its line, in a second in which events were lost.
    fn inputs() -> Vec<(u64, Input)> {
        let reset = active_reset(&upstream());
        let mut record = line(103, MessageKind::RECV_FAILED, Some(104), "reading response header");
        record.message = "recv() failed\u{1b}[2J".to_owned();
        let lost = |count| Input::Losses(Losses { by_handover: [("ring".to_owned(), count)].into() }.into());
        vec![(50, lost(0)), received(100, upstream(), Some(reset)), logged(record), (150, lost(3))]
    }

    #[test]
    fn every_step_of_the_way_is_shown() {
        let verdict = play_on(host(), inputs()).remove(0);
        let explanation = explained(&verdict.id, inputs());
        assert_eq!(explanation.verdict, verdict);
        let options =
            TextOptions { palette: Palette { colour: false }, width: Some(100), zone: TimeZone::UTC };
        insta::assert_snapshot!(text(&explanation, &options), @r#"
        upstream upstream_abort, weak (01M325ZBN49374N2Z12ZV00001)
            Upstream 10.0.0.2:8080 reset the connection 12 ms after the request was sent, before a response,
            request "GET /x HTTP/1.1" (weak evidence)

        1. What belonged to the incident
            14:30:00.100 nginx, to the upstream: a RST was accepted; 10.0.0.1:40000 ↔ 10.0.0.2:8080 in
            ESTABLISHED, 120 bytes sent, last sent 12 ms before, TTL 63 expected; packet RST|ACK from
            10.0.0.2:8080 to 10.0.0.1:40000, seq 5000, ack 9000, window 501, TTL 63, 0 bytes, timestamps
            14:30:00.103 error.log: recv() failed\x1b[2J (errno 104) while reading response header
            [recv_failed]; /var/log/nginx/error.log at byte 103, worker 100
            14:30:03.100 judged

        2. What the detectors said
            for it: hop_equal (hop): The RST arrived with TTL 63, which is as many hops away as the SYN-ACK
            of this connection (TTL 63)
            for it: timestamps_continue (header): RST|ACK with window 501 carries the peer's own running
            clock: TSval 700012 follows 700000

        3. Which rule decided
            received/peer_reset
            read before, and did not hold: received/reset_on_loopback, received/both_ends_reset,
            received/process_killed_for_memory, received/process_ended, received/listener_full,
            received/nobody_listens, received/seen_racing, received/seen_forgotten, received/seen_resetting,
            received/limit_of_the_configuration, received/connect_answered_elsewhere,
            received/connect_refused, received/device_after_silence, received/device_or_guess,
            received/large_segments_lost, received/data_lost, received/race_without_fin,
            received/keepalive_race, received/forgotten, received/never_taken

        4. How certain that is
            the evidence earns: strong
            one step down, events_lost: ring lost 3
            so it is: weak

        5. What else was considered
            middlebox middlebox_forged_reset: The RST arrived with TTL 63, which is as many hops away as the
            SYN-ACK of this connection (TTL 63)
            upstream upstream_process_exit: Not ruled out: the upstream's processes are on another host
            upstream upstream_keepalive_race: The connection had not served a request before

        6. What was looked for and could not be had
            events_lost: ring lost 3
            other_end: 10.0.0.2:8080 is on another host or in another container; only a tracer there could
            see its end of the connection
        "#);
    }

    #[test]
    fn what_lowered_the_certainty_accounts_for_it() {
        let verdict = play_on(host(), inputs()).remove(0);
        let explanation = explained(&verdict.id, inputs());
        let lowered = crate::judge::lowered(explanation.earned, explanation.lowered_by.len());
        assert_eq!(lowered, verdict.certainty);
        assert!(explanation.earned < verdict.certainty, "{explanation:#?}");
    }
}
