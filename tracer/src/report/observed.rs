//! What a report says of the observation itself: how long and with what it was made, what was lost, the clock, the host.

use crate::model::{CaptureFacts, ConfigLine, HostFacts, Losses, Utc, Verdict};
use crate::output::layout::{count, span};

use super::document::{Block, Column, Section, Table, fields, paragraph};
use super::page::Material;
use super::source::Origin;
use super::{relevant, setting, words};

/// Length of the observation, cut to what was selected.
pub fn length_ms(material: &Material) -> Option<u64> {
    let (since, until) = material.selection.bounds();
    let (since, until) = (since.map_or(i64::MIN, |since| since.0), until.map_or(i64::MAX, |until| until.0));
    let spans = material.origin.observed.iter();
    let length = |(from, to): &(Utc, Utc)| until.min(to.0).saturating_sub(since.max(from.0)).max(0);
    let observed: i64 = spans.map(length).sum();
    let known = !material.origin.observed.is_empty();
    u64::try_from(observed / 1_000_000).ok().filter(|_| known)
}

/// What is known of the observation: selection, host, losses, clock, redaction.
/// `verdict` is that of the one incident which the report is about.
pub fn sections(material: &Material, verdict: Option<&Verdict>) -> Vec<Section> {
    let mut sections = vec![
        Section::new("observation", "What was observed, and how", observation(material)),
        Section::new("losses", "What was lost", losses(&material.origin)),
        Section::new("clock", "Clock", clock(&material.origin)),
    ];
    if let Some(host) = &material.origin.last_host {
        sections.push(Section::new("host", "Host and Nginx", self::host(host)));
        sections.extend(configuration(host, verdict));
    }
    sections.extend(counters(&material.origin));
    if !material.redaction.is_empty() {
        let items = material.redaction.clone();
        sections.push(Section::new("redaction", "What was replaced", vec![Block::List { items }]));
    }
    sections.push(Section::new("reading", "How to read this report", reading()));
    sections
}

fn observation(material: &Material) -> Vec<Block> {
    let origin = &material.origin;
    let mut pairs: Vec<(String, String)> = origin
        .inputs
        .iter()
        .map(|(name, kind)| ("Made from".to_owned(), format!("{name} ({kind})")))
        .collect();
    let mut pair = |name: &str, value: Option<String>| {
        pairs.extend(value.map(|value| (name.to_owned(), value)));
    };
    pair("Observed (UTC)", spans(&origin.observed));
    pair("Observed by", origin.version.as_ref().map(|version| format!("rstscope {version}")));
    pair("Report made by", Some(format!("rstscope {} at {}", env!("CARGO_PKG_VERSION"), material.made)));
    let changes = origin.changes.filter(|changes| *changes > 0);
    pair(
        "Nginx found changed",
        changes.map(|times| format!("{} (started, reloaded or stopped)", count(times, "time"))),
    );
    pair("Connections seen", origin.connections.map(|number| number.to_string()));
    for (name, value) in material.selection.words() {
        pair(name, Some(value));
    }
    let mut blocks = vec![fields(pairs.iter().map(|(name, value)| (name.as_str(), Some(value.clone()))))];
    let items: Vec<String> = origin.remarks.iter().chain(&origin.notes).cloned().collect();
    if !items.is_empty() {
        blocks.push(Block::List { items });
    }
    blocks
}

/// When somebody observed; gaps stand between two spans.
fn spans(observed: &[(Utc, Utc)]) -> Option<String> {
    const MOST: usize = 12;
    let named = observed.iter().take(MOST);
    let named = named.map(|(from, to)| format!("{} to {}", from.rfc3339(), to.rfc3339()));
    let text = named.collect::<Vec<_>>().join(", ");
    let more = observed.len().saturating_sub(MOST);
    let more = if more > 0 { format!(" and {more} more spans") } else { String::new() };
    (!observed.is_empty()).then(|| text + &more)
}

fn losses(origin: &Origin) -> Vec<Block> {
    if let (Some(losses), Some(_)) = (&origin.losses, captured(origin)) {
        return of_capture(losses);
    }
    let Some(losses) = &origin.losses else {
        return vec![paragraph(
            "Not told by this source: verdicts alone do not say what was lost. An incident that suffered from a loss \
             has it in what is missing.",
        )];
    };
    let idle = origin.last_host.iter().flat_map(|host| &host.hooks).filter(|hook| !hook.running);
    let idle = idle.map(|hook| {
        let why = hook.problem.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default();
        format!("Hook {} did not run{why}: {}", hook.name, hook.lost_evidence)
    });
    let lost = losses.by_handover.iter().filter(|(_, number)| **number > 0);
    let items: Vec<String> =
        lost.map(|(name, number)| format!("{name}: {} lost", count(*number, "event"))).chain(idle).collect();
    if items.is_empty() {
        let hooks = if origin.last_host.is_some() { "every hook ran, and " } else { "" };
        return vec![paragraph(format!("Nothing: {hooks}0 events were lost at any hand-over."))];
    }
    vec![Block::List { items }]
}

/// What is known of the capture, where the observer is one.
fn captured(origin: &Origin) -> Option<&CaptureFacts> {
    origin.last_host.as_ref()?.capture.as_ref()
}

fn of_capture(losses: &Losses) -> Vec<Block> {
    let lost = losses.by_handover.iter().filter(|(_, number)| **number > 0);
    let items: Vec<String> =
        lost.map(|(name, number)| format!("{name}: {} lost", count(*number, "event"))).collect();
    if items.is_empty() {
        return vec![paragraph(
            "Nothing that is known: the capture names no packets that its system lost, and every packet could be used. \
             A pcap file cannot say what was lost.",
        )];
    }
    vec![Block::List { items }]
}

fn clock(origin: &Origin) -> Vec<Block> {
    if captured(origin).is_some() {
        return vec![paragraph(
            "Times are those in the capture. Whether the clock of the capturing host was right is not known.",
        )];
    }
    let state = origin.last_host.as_ref().and_then(|host| host.system.clock);
    let offset = origin.clock.map(|clock| format!("{} ns", clock.offset_ns));
    let Some(state) = state else {
        let unknown = "Whether this host's clock was synchronised is not known from this source.";
        return match offset {
            Some(offset) => vec![fields([("UTC minus kernel clock", Some(offset))]), paragraph(unknown)],
            None => vec![paragraph(unknown)],
        };
    };
    let offset = [("UTC minus kernel clock", offset)];
    vec![fields(setting::clock_fields(state).into_iter().chain(offset))]
}

fn host(host: &HostFacts) -> Vec<Block> {
    let running = host.hooks.iter().filter(|hook| hook.running).count();
    let list = |items: Vec<String>| items.join(", ");
    let milliseconds = |values: &[u64]| {
        let mut values = values.to_vec();
        values.sort_unstable();
        values.dedup();
        list(values.into_iter().map(span).collect())
    };
    let nginx = &host.nginx;
    let mut blocks = vec![fields([
        ("Host", Some(host.host.clone())),
        ("Kernel", Some(host.kernel.clone())),
        ("Lockdown", host.system.lockdown.clone()),
        ("Hooks running", (!host.hooks.is_empty()).then(|| format!("{running} of {}", host.hooks.len()))),
        ("Nginx configuration", Some(list(host.system.configuration_files.clone()))),
        ("Upstreams", Some(some_of(nginx.upstreams.iter().map(ToString::to_string)))),
        ("Listeners", Some(some_of(nginx.listeners.iter().map(|(address, _)| address.to_string())))),
        ("Connect timeouts", Some(milliseconds(&nginx.connect_timeouts_ms))),
        ("Read timeouts", Some(milliseconds(&nginx.read_timeouts_ms))),
        ("Upstream keep-alive timeouts", Some(milliseconds(&nginx.upstream_keepalive_timeouts_ms))),
    ])];
    if !host.system.sysctls.is_empty() {
        let rows = host.system.sysctls.iter().map(|(name, value)| vec![name.clone(), value.clone()]);
        blocks.push(Block::Table(Table {
            caption: "Settings of the kernel (sysctl)".to_owned(),
            columns: vec![Column::words("Setting"), Column::words("Value")],
            rows: rows.collect(),
            searchable: false,
        }));
    }
    blocks
}

/// The first of many names; all of them stand in the configuration.
fn some_of(names: impl ExactSizeIterator<Item = String>) -> String {
    const MOST: usize = 12;
    let more = names.len().saturating_sub(MOST);
    let shown = names.take(MOST).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more, see the configuration") } else { shown }
}

/// The directives that bear on resets, as they stand, file by file; what has no part in the one incident of the report
/// is folded.
fn configuration(host: &HostFacts, verdict: Option<&Verdict>) -> Option<Section> {
    let excerpt = &host.nginx.excerpt;
    let line = |one: &ConfigLine| {
        let place = if one.place.is_empty() { String::new() } else { format!("{}: ", one.place) };
        format!("{:>5}  {place}{};", one.line, one.text)
    };
    let listing = |lines: &[&ConfigLine]| Block::Lines {
        source: lines.first().map(|one| one.file.clone()).unwrap_or_default(),
        lines: lines.iter().map(|one| line(one)).collect(),
    };
    let by_file = |lines: &[&ConfigLine]| -> Vec<Block> {
        lines.chunk_by(|one, other| one.file == other.file).map(listing).collect()
    };
    let mut blocks = vec![paragraph(
        "Directives that bear on resets, with the number of their line and the blocks around them. Those that are not \
         here have Nginx's defaults. Read from the files when the trace began, which may be newer than what Nginx runs.",
    )];
    let (shown, rest) = relevant::split(excerpt, verdict);
    blocks.extend(by_file(&shown));
    if !rest.is_empty() {
        let others = if shown.is_empty() { "" } else { "other " };
        let summary = format!("{}: {}", words::capital(&format!("{others}directives")), rest.len());
        blocks.push(Block::Folded { summary, blocks: by_file(&rest) });
    }
    (!excerpt.is_empty()).then(|| Section::new("configuration", "Configuration of Nginx", blocks))
}

/// The kernel's counters before and after, as far as they moved.
fn counters(origin: &Origin) -> Option<Section> {
    let (first, last) = (origin.first_host.as_ref()?, origin.last_host.as_ref()?);
    let row = |(name, after): (&String, &u64)| {
        let before = first.system.counters.get(name)?;
        let moved = after.checked_sub(*before).filter(|moved| *moved > 0)?;
        Some(vec![name.clone(), before.to_string(), after.to_string(), moved.to_string()])
    };
    let rows: Vec<Vec<String>> = last.system.counters.iter().filter_map(row).collect();
    let still = last.system.counters.len() - rows.len();
    let rest = paragraph(format!("{still} more counters did not move."));
    let table = Block::Table(Table {
        caption:
            "Counters of the kernel (nstat) in the namespaces of Nginx, all traffic of the host included"
                .to_owned(),
        columns: vec![
            Column::words("Counter"),
            Column::number("Before"),
            Column::number("After"),
            Column::number("Moved"),
        ],
        rows,
        searchable: false,
    });
    let known = !last.system.counters.is_empty();
    known.then(|| Section::new("counters", "Counters before and after", vec![table, rest]))
}

fn reading() -> Vec<Block> {
    let rules = [
        "proven: at least one decisive piece of evidence, none against. strong: two independent pieces, none against. weak: one piece, or something against it. undetermined: the evidence does not tell.",
        "A packet that was not captured is never presumed. What was looked for and could not be had stands under what is missing.",
        "Times are UTC by the clock of the observing host; segments are identified by addresses and sequence numbers, so that the other side can find them in its own capture.",
        "rstscope replay --explain shows for a recording which events, detectors and rule led to a verdict.",
    ];
    vec![Block::List { items: rules.map(str::to_owned).to_vec() }]
}
