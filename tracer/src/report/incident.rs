//! The page of one incident: the verdict laid out for a reader who has never heard of rstscope and doubts it.
//! Lays out and words; it concludes nothing that the verdict does not say.

use crate::engine::Dossier;
use crate::judge::{Role, What};
use crate::model::verdict::{
    Advice, Connection, ConnectionSide, Direction, LogLine, Party, Segment as Fault,
};
use crate::model::{LogRecord, Verdict};
use crate::output::layout::span;
use crate::output::parts;

use super::document::{Answer, Block, Column, Path, PathSegment, Section, Table, fields, paragraph};
use super::frames::Frames;
use super::setting::Setting;
use super::{headers, ladder, lore, premise, words};

/// The sections of an incident: first those that are sent to another team, then what they rest on.
pub fn sections(verdict: &Verdict, dossier: Option<&Dossier>, setting: &Setting<'_>) -> Vec<Section> {
    let packets = dossier.map(|dossier| dossier.packets.as_slice()).unwrap_or_default();
    let frames = Frames::of_incident(verdict, dossier);
    let arrival = packets.iter().find(|packet| packet.role == Role::ResetReceived);
    let arrival = arrival.and_then(|one| setting.arrival(one.netns, &one.packet));
    let mut sections = vec![
        Section::new("answer", "Answer", vec![answer(verdict, setting)]),
        Section::new("path", "Where on the path", vec![Block::Path(path(verdict))]),
        Section::new(
            "statement",
            "Statement for the other team",
            statement(verdict, setting, arrival.as_deref()),
        ),
        Section::new("ladder", "The connection, step by step", steps(verdict, dossier, &frames)),
        Section::new("packets", "The packets", headers::packets(verdict, dossier, &frames, setting)),
        Section::new("evidence", "Evidence, for and against", evidence(verdict)),
        Section::new("missing", "What was looked for and is missing", missing(verdict)),
        Section::new("alternatives", "What else was considered", alternatives(verdict)),
    ];
    sections.extend(log(verdict, dossier, setting));
    sections.extend(headers::reset(verdict, packets));
    sections.extend(connections(verdict));
    sections.push(Section::new("identity", "Identity of the incident", vec![identity(verdict, &frames)]));
    sections
}

/// What has to be known first.
fn answer(verdict: &Verdict, setting: &Setting<'_>) -> Block {
    let who = match verdict.party {
        Party::Unknown => "not known: the evidence does not tell".to_owned(),
        party => {
            let culprit = parts::culprit(verdict);
            let culprit = if culprit.is_empty() { String::new() } else { format!(" ({culprit})") };
            words::hedged(verdict.certainty, &format!("{}{culprit}", words::party(party, verdict.cause)))
        }
    };
    let mut next = vec![words::next_of(verdict).to_owned()];
    next.extend(verdict.advice.iter().map(advice));
    let cause = verdict.consequence_of.as_ref();
    next.extend(cause.map(|id| format!("It followed from incident {id}: read that one for the cause.")));
    Block::Answer(Answer {
        what: verdict.summary.clone(),
        when: Some(format!("{} ({})", words::moment(verdict), setting.clock())),
        who,
        party: Some(verdict.party),
        sure: words::certainty(verdict),
        certainty: Some(verdict.certainty),
        effect: Some(words::effect(verdict.impact)),
        next,
    })
}

/// Why, and then what to change and where.
fn advice(advice: &Advice) -> String {
    let why = advice.text.trim_end_matches('.');
    format!("{}. Do: {} ({})", words::capital(why), advice.change, advice.place)
}

/// The four segments, with the addresses of both halves where they are known.
fn path(verdict: &Verdict) -> Path {
    let client = end(verdict, ConnectionSide::Client)
        .or_else(|| verdict.log.as_ref().and_then(|log| log.client.clone()))
        .unwrap_or_default();
    let upstream =
        end(verdict, ConnectionSide::Upstream).or_else(|| parts::log_upstream(verdict)).unwrap_or_default();
    let own = verdict.connection.as_ref().and_then(|connection| connection.owner.as_ref());
    let worker = own.map(|owner| format!("{} {}", owner.comm, owner.pid)).unwrap_or_default();
    let segment = |name: &str, detail: String, fault: Fault| PathSegment {
        name: name.to_owned(),
        detail,
        culprit: verdict.segment == fault,
    };
    Path {
        segments: vec![
            segment("Client to Nginx", client, Fault::ClientNginx),
            segment("Nginx", worker, Fault::Nginx),
            segment("Nginx to upstream", towards_upstream(verdict), Fault::NginxUpstream),
            segment("Upstream", upstream, Fault::Upstream),
        ],
        mark: words::mark(verdict),
    }
}

/// Where Nginx's end of the connection to the upstream is.
fn towards_upstream(verdict: &Verdict) -> String {
    let ends = [&verdict.connection, &verdict.peer_connection];
    let own = ends.into_iter().flatten().find(|end| end.side == ConnectionSide::Upstream);
    own.map(|end| format!("from {}", end.local)).unwrap_or_default()
}

fn end(verdict: &Verdict, side: ConnectionSide) -> Option<String> {
    let ends = [&verdict.connection, &verdict.peer_connection];
    ends.into_iter().flatten().find(|end| end.side == side).map(|end| end.remote.clone())
}

fn statement(verdict: &Verdict, setting: &Setting<'_>, arrival: Option<&str>) -> Vec<Block> {
    let premises = premise::premises(verdict);
    let mut blocks = vec![Block::Statement { text: premise::statement(verdict, &setting.clock(), arrival) }];
    if premises.is_empty() {
        return blocks;
    }
    let row = |one: &premise::Premise| {
        vec![
            one.party.to_string(),
            premise::reach(verdict, one).to_owned(),
            premise::sentence(verdict, one),
            one.rests_on.clone(),
        ]
    };
    blocks.push(Block::Table(Table {
        caption: "Premises of the statement".to_owned(),
        columns: vec![
            Column::words("Party"),
            Column::words("Is"),
            Column::words("Premise"),
            Column::words("Rests on"),
        ],
        rows: premises.iter().map(row).collect(),
        searchable: false,
    }));
    blocks
}

fn steps(verdict: &Verdict, dossier: Option<&Dossier>, frames: &Frames) -> Vec<Block> {
    let Some(ladder) = ladder::ladder(verdict, dossier, frames) else {
        return vec![paragraph("No connection belongs to this incident.")];
    };
    let mut blocks = vec![Block::Ladder(ladder)];
    if dossier.is_none() {
        blocks.push(paragraph(
            "Made from the verdict alone. A report on the recording of the session shows every step and packet.",
        ));
    }
    if let Some(beyond) = dossier.map(|dossier| dossier.beyond).filter(|beyond| *beyond > 0) {
        blocks.push(paragraph(format!("{beyond} more events of this incident were counted and not kept.")));
    }
    blocks
}

fn evidence(verdict: &Verdict) -> Vec<Block> {
    if verdict.evidence.is_empty() {
        return vec![paragraph("None.")];
    }
    let captured = words::of_capture(verdict);
    let rows = verdict.evidence.iter().map(|piece| {
        let (obtained, limits) =
            lore::of(&piece.code).map_or(("", ""), |lore| (lore.obtained_in(captured), lore.limits));
        vec![
            words::weight(piece).to_owned(),
            piece.detail.clone(),
            piece.value.clone().unwrap_or_default(),
            piece.baseline.clone().unwrap_or_default(),
            obtained.to_owned(),
            limits.to_owned(),
            piece.code.to_string(),
        ]
    });
    vec![Block::Table(Table {
        caption: "Each piece with its numbers, how it was obtained and what it does not prove".to_owned(),
        columns: vec![
            Column::words("Speaks"),
            Column::words("What was seen"),
            Column::words("Value"),
            Column::words("Compared with"),
            Column::words("How obtained"),
            Column::words("Does not prove"),
            Column::words("Code"),
        ],
        rows: rows.collect(),
        searchable: false,
    })]
}

fn missing(verdict: &Verdict) -> Vec<Block> {
    if verdict.missing.is_empty() {
        return vec![paragraph("Nothing.")];
    }
    let items = verdict.missing.iter().map(|missing| format!("{} ({})", missing.why, missing.code));
    vec![Block::List { items: items.collect() }]
}

fn alternatives(verdict: &Verdict) -> Vec<Block> {
    if verdict.alternatives.is_empty() {
        return vec![paragraph("Nothing else.")];
    }
    let row = |other: &crate::model::verdict::Alternative| {
        vec![other.party.to_string(), other.cause.to_string(), other.why_not.clone()]
    };
    vec![Block::Table(Table {
        caption: "Other explanations and what speaks against them".to_owned(),
        columns: vec![Column::words("Party"), Column::words("Cause"), Column::words("Why not")],
        rows: verdict.alternatives.iter().map(row).collect(),
        searchable: false,
    })]
}

/// Said of a line that nobody kept.
const TOGETHER: &str = "put together again from its fields";

/// The line of the log in the order in which Nginx writes it, and how it was joined.
fn log(verdict: &Verdict, dossier: Option<&Dossier>, setting: &Setting<'_>) -> Option<Section> {
    let line = verdict.log.as_ref()?;
    let record = dossier.and_then(|dossier| {
        dossier.steps.iter().find_map(|step| match &step.what {
            What::Line(record) => Some(&**record),
            _ => None,
        })
    });
    let place = format!("{} at byte {}", line.file, line.offset);
    let stood = if setting.selection.redacted.is_empty() {
        "as it stood"
    } else {
        "as it stood but for what was replaced by pseudonyms"
    };
    let (source, text) = match record {
        Some(LogRecord { line: Some(text), .. }) => (format!("{place}, {stood}"), text.clone()),
        Some(record) => (format!("{place}, {TOGETHER}"), with_record(line, record)),
        None => (format!("{place}, {TOGETHER}"), written(line)),
    };
    let printed = record.is_some_and(|record| record.arrival.is_none());
    let by_print = if printed { " by its printed time, which is in whole seconds" } else { "" };
    let joined = verdict.matched.as_ref().map(|joined| {
        fields([
            ("Joined by", Some(joined.method.to_string())),
            (
                if joined.gap_ms < 0 { "Line before the event" } else { "Line after the event" },
                Some(format!("{} ms{by_print}", joined.gap_ms.unsigned_abs())),
            ),
            ("Incidents it could belong to", Some(joined.candidates.to_string())),
        ])
    });
    let blocks = [Some(Block::Lines { source, lines: vec![text] }), joined];
    Some(Section::new("log", "The line of error.log", blocks.into_iter().flatten().collect()))
}

/// The line put together again from its parts; the referrer stands only in the record.
fn with_record(line: &LogLine, record: &LogRecord) -> String {
    let referrer = record.referrer.as_ref().map(|referrer| format!(", referrer: \"{referrer}\""));
    format!("{}{}", written(line), referrer.unwrap_or_default())
}

fn written(line: &LogLine) -> String {
    let level = line.level.map(|level| format!("{level:?}").to_lowercase()).unwrap_or_default();
    let number = line.connection.map(|number| format!(" *{number}")).unwrap_or_default();
    let errno = line.errno.map(|errno| format!(" ({errno})")).unwrap_or_default();
    let action = line.action.as_ref().map(|action| format!(" while {action}")).unwrap_or_default();
    let plain = [("client", &line.client), ("server", &line.server)];
    let quoted = [("request", &line.request), ("upstream", &line.upstream), ("host", &line.host)];
    let plain = plain.iter().filter_map(|(name, value)| Some(format!(", {name}: {}", value.as_ref()?)));
    let quoted = quoted.iter().filter_map(|(name, value)| Some(format!(", {name}: \"{}\"", value.as_ref()?)));
    let tail: String = plain.chain(quoted).collect();
    format!(
        "{} [{level}] {}#{number}: {}{errno}{action}{tail}",
        line.time.as_deref().map_or_else(|| "-".to_owned(), words::whole_second),
        line.pid.unwrap_or(0),
        line.message
    )
}

fn connections(verdict: &Verdict) -> Option<Section> {
    let one = |title: &str, connection: &Option<Connection>| {
        let block = |connection| connection_fields(connection, verdict);
        connection.as_ref().map(|connection| Section::new(title, title, vec![block(connection)]))
    };
    let own = one("The connection that failed", &verdict.connection);
    let other = one("The other half of the request", &verdict.peer_connection);
    let listener = verdict.listener.as_ref().map(|listener| {
        let fields = fields([
            ("Address", Some(listener.address.clone())),
            ("Connections waiting", Some(listener.queue.to_string())),
            ("Limit", Some(listener.limit.to_string())),
            ("Packets dropped", Some(listener.dropped.to_string())),
        ]);
        Section::new("The listener", "The listener", vec![fields])
    });
    let sections: Vec<Section> = [own, other, listener]
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(at, section)| Section { id: format!("connection-{}", at + 1), ..section })
        .collect();
    (!sections.is_empty())
        .then(|| Section { sections, ..Section::new("connections", "Connections", Vec::new()) })
}

fn connection_fields(connection: &Connection, verdict: &Verdict) -> Block {
    let owner = connection.owner.as_ref().map(|owner| format!("pid {} ({})", owner.pid, owner.comm));
    let preexisting = connection.preexisting.then(|| "yes: its handshake was not seen".to_owned());
    fields([
        ("Side", Some(connection.side.to_string())),
        ("Local", Some(connection.local.clone())),
        ("Remote", Some(connection.remote.clone())),
        ("Owner", owner),
        ("State before", Some(state(connection, verdict))),
        ("Opened (UTC)", connection.opened_at.clone()),
        ("Age", connection.age_ms.map(span)),
        ("Silence", silence(connection)),
        ("Bytes sent", Some(connection.bytes_sent.to_string())),
        ("Bytes received", Some(connection.bytes_received.to_string())),
        ("Smoothed round trip", (connection.srtt_us > 0).then(|| format!("{} µs", connection.srtt_us))),
        ("Segments retransmitted", Some(connection.retransmits.to_string())),
        ("Older than the tracer", preexisting),
        ("Network namespace", (connection.netns != 0).then(|| connection.netns.to_string())),
        ("Socket cookie", (connection.netns != 0).then(|| connection.cookie.to_string())),
    ])
}

/// The kernel closes a socket before it sends its RST; the state before that it does not tell.
fn state(connection: &Connection, verdict: &Verdict) -> String {
    let own = verdict.connection.as_ref().is_some_and(|own| own.cookie == connection.cookie);
    let sent = verdict.reset.as_ref().is_some_and(|reset| reset.direction == Direction::Sent);
    if own && sent && connection.state == "CLOSE" {
        return "CLOSE when its RST was sent; the state before that is not known".to_owned();
    }
    connection.state.clone()
}

/// The times of a socket are in ticks: the last data cannot be older than the connection.
fn silence(connection: &Connection) -> Option<String> {
    let idle = connection.idle_ms?;
    let age = connection.age_ms.unwrap_or(u64::MAX);
    Some(if idle > age { format!("all its life, {} to a tick", span(age)) } else { span(idle) })
}

fn identity(verdict: &Verdict, frames: &Frames) -> Block {
    let numbers: Vec<String> = verdict.packets.iter().map(ToString::to_string).collect();
    let packets = (!numbers.is_empty()).then(|| {
        let numbers = numbers.join(", ");
        match frames.count() {
            0 => format!("numbers {numbers} of the session"),
            1 => format!("frame 1 of its own file, number {numbers} of the session"),
            count => format!("frames 1 to {count} of its own file, numbers {numbers} of the session"),
        }
    });
    fields([
        ("Incident", Some(verdict.id.clone())),
        ("Time (UTC)", Some(words::moment(verdict))),
        ("Observer", Some(verdict.host.clone())),
        ("Kind", Some(verdict.kind.to_string())),
        ("Party", Some(verdict.party.to_string())),
        ("Cause", Some(verdict.cause.to_string())),
        ("Certainty", Some(verdict.certainty.to_string())),
        ("Segment", Some(verdict.segment.to_string())),
        ("Impact", Some(verdict.impact.to_string())),
        ("Phase", Some(verdict.phase.to_string())),
        ("Stage (Cloudflare Radar)", Some(verdict.stage.to_string())),
        ("Consequence of", verdict.consequence_of.clone()),
        ("Packets", packets),
    ])
}
