//! The whole report: one incident, or a window of many, and what is known of the observation itself.

use std::cmp::Reverse;

use crate::history::words as pattern_words;
use crate::model::verdict::{Cause, Certainty, Impact, Party};
use crate::output::layout::{count, span};
use crate::output::parts;

use super::document::{Answer, Block, Chart, Column, Document, Section, Series, Table, paragraph};
use super::selection::Selection;
use super::setting::Setting;
use super::source::{Entry, Origin};
use super::window::{Counted, Group, GroupKey, Keys, Row, Window};
use super::{incident, observed, titles, words};

/// Rows of a table by upstream or network.
const MOST_KEY_ROWS: usize = 100;
/// Shortest observation from which a rate is told, milliseconds.
const LEAST_FOR_A_RATE: u64 = 60_000;
/// Rows of them that are shown at once.
const FIRST_KEY_ROWS: usize = 12;
/// Causes for which the first screen says what to do.
const MOST_STEPS: usize = 5;
/// Rows of a chart by cause.
const MOST_SERIES: usize = 12;

/// What a report is made of.
#[derive(Debug)]
pub struct Material {
    /// What it is about.
    pub selection: Selection,
    /// What is known of the session.
    pub origin: Origin,
    /// The incidents.
    pub window: Window,
    /// When the report is made, RFC 3339.
    pub made: String,
    /// What was replaced by pseudonyms, in sentences.
    pub redaction: Vec<String>,
    /// Incidents that are shown in full.
    pub top: usize,
}

/// The report.
pub fn document(material: &Material) -> Document {
    let groups = material.window.groups();
    let single = (material.window.total == 1).then(|| groups.first()).flatten();
    match single {
        Some((_, group)) => of_incident(material, &group.example),
        None => of_window(material, &groups),
    }
}

/// The verdicts that a report shows in full, in its order.
pub fn shown(material: &Material) -> Vec<&Entry> {
    let groups = material.window.groups();
    groups.into_iter().take(material.top.max(1)).map(|(_, group)| &*group.example).collect()
}

fn of_incident(material: &Material, entry: &Entry) -> Document {
    let verdict = &entry.verdict;
    let mut sections = incident::sections(verdict, entry.dossier().as_deref(), &setting(material));
    sections.extend(observed::sections(material, Some(verdict)));
    let time = words::whole_second(&verdict.time);
    Document { title: format!("{}, {time}, seen on {}", titles::title(verdict), verdict.host), sections }
}

fn setting(material: &Material) -> Setting<'_> {
    Setting { origin: &material.origin, selection: &material.selection }
}

fn of_window(material: &Material, groups: &[(&GroupKey, &Group)]) -> Document {
    let window = &material.window;
    let mut sections = vec![
        Section::new("answer", "Answer", vec![window_answer(material, groups)]),
        Section::new("over-time", "Incidents over time", over_time(window)),
        Section::new("by-cause", "By party and cause", vec![by_cause(material, groups)]),
        Section::new("by-upstream", "By upstream", by_key(&window.upstreams, "Upstream")),
        Section::new("by-network", "By client network", by_key(&window.networks, "Client network")),
        Section::new("patterns", "Patterns", patterns(window)),
    ];
    let tops =
        shown(material).into_iter().enumerate().map(|(at, entry)| top(at + 1, entry, &setting(material)));
    let lead = "The most telling incident of each group of like ones, the largest groups first.";
    sections.push(Section {
        sections: tops.collect(),
        ..Section::new("incidents", "Top incidents", vec![paragraph(lead)])
    });
    sections.push(Section::new("all", "All incidents", all(window, groups)));
    sections.extend(observed::sections(material, None));
    Document { title: title(window), sections }
}

fn title(window: &Window) -> String {
    let incidents = count(window.total, "incident");
    match &window.span {
        Some((first, last)) => {
            let second = |time: &str| time.split('.').next().unwrap_or_default().to_owned();
            format!("{incidents}, {}Z to {}Z", second(first), second(last))
        }
        None => "No incident".to_owned(),
    }
}

fn top(number: usize, entry: &Entry, setting: &Setting<'_>) -> Section {
    /// Answer, path, statement, ladder and packets.
    const SHOWN: usize = 5;
    let (id, verdict) = (format!("incident-{number}"), &entry.verdict);
    let mut sections = incident::sections(verdict, entry.dossier().as_deref(), setting);
    for section in &mut sections {
        section.id = format!("{id}-{}", section.id);
    }
    let details = sections.split_off(SHOWN.min(sections.len()));
    let name = format!("Everything else on incident {number}");
    let details =
        Section { sections: details, folded: true, ..Section::new(&format!("{id}-more"), &name, Vec::new()) };
    sections.push(details);
    let place = parts::culprit(verdict);
    let place = if place.is_empty() { String::new() } else { format!(": {place}") };
    let title =
        format!("{number}. {}{place}, {}", titles::title(verdict), words::whole_second(&verdict.time));
    Section { sections, incident: Some(verdict.id.clone()), ..Section::new(&id, &title, Vec::new()) }
}

fn window_answer(material: &Material, groups: &[(&GroupKey, &Group)]) -> Block {
    let window = &material.window;
    if window.total == 0 {
        return Block::Answer(Answer {
            what: "No incident is in this selection.".to_owned(),
            when: None,
            who: "nobody".to_owned(),
            party: None,
            sure: "see below what was observed and what was lost".to_owned(),
            certainty: None,
            effect: None,
            next: Vec::new(),
        });
    }
    let by_party = Party::ALL.iter().filter_map(|party| {
        let number = sum(groups, |key, group| if key.party == *party { group.count } else { 0 });
        (number > 0).then(|| format!("{party} {number} ({})", share(number, window.total)))
    });
    let by_certainty = Certainty::ALL.iter().filter_map(|certainty| {
        let number = sum(groups, |_, group| group.certainty.get(certainty).copied().unwrap_or(0));
        (number > 0).then(|| format!("{certainty} {number}"))
    });
    let causes = causes(groups);
    let mut next: Vec<String> = causes.iter().take(MOST_STEPS).map(step).collect();
    let more = causes.len().saturating_sub(MOST_STEPS) as u64;
    if more > 0 {
        next.push(format!("{} more: see by party and cause, and the top incidents.", count(more, "cause")));
    }
    Block::Answer(Answer {
        what: format!("{}{}, {}.", count(window.total, "incident"), lasting(material), effects(groups)),
        when: window
            .span
            .as_ref()
            .map(|(first, last)| format!("{first} to {last} ({})", setting(material).clock())),
        who: by_party.collect::<Vec<_>>().join(", "),
        party: None,
        sure: by_certainty.collect::<Vec<_>>().join(", "),
        certainty: None,
        effect: None,
        next,
    })
}

/// How many of the incidents did harm, and of how many that is not known.
fn effects(groups: &[(&GroupKey, &Group)]) -> String {
    let of = |wanted| sum(groups, |_, group| group.impact.get(&wanted).copied().unwrap_or(0));
    let failed = of(Impact::RequestFailed) + of(Impact::ResponseTruncated);
    match (failed, of(Impact::Unknown)) {
        (failed, 0) => format!("{failed} of them failed or truncated a request"),
        (0, unknown) => format!("of {unknown} the effect on a request is not known"),
        (failed, unknown) => format!(
            "{failed} of them failed or truncated a request, of {unknown} the effect on a request is not known"
        ),
    }
}

/// A cause with its incidents and the places they were at.
struct OfCause<'a> {
    cause: Cause,
    incidents: u64,
    /// Those of them that are proven or strong.
    sure: u64,
    places: Vec<&'a str>,
}

/// The causes, most incidents first; those that nobody has to act on come last.
fn causes<'a>(groups: &[(&'a GroupKey, &Group)]) -> Vec<OfCause<'a>> {
    let mut causes: Vec<OfCause<'a>> = Vec::new();
    for (key, group) in groups {
        let of = |certainty| group.certainty.get(&certainty).copied().unwrap_or(0);
        let sure = of(Certainty::Proven) + of(Certainty::Strong);
        if let Some(one) = causes.iter_mut().find(|one| one.cause == key.cause) {
            one.incidents += group.count;
            one.sure += sure;
            one.places.push(&key.place);
        } else {
            let places = vec![key.place.as_str()];
            causes.push(OfCause { cause: key.cause, incidents: group.count, sure, places });
        }
    }
    let idle = |one: &OfCause<'_>| words::next(one.cause).starts_with("Nothing");
    causes.sort_by_key(|one| (idle(one), Reverse(one.incidents), Reverse(one.sure)));
    causes
}

fn step(one: &OfCause<'_>) -> String {
    const NAMED: usize = 3;
    let named = one.places.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    let more = one.places.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}, {} ({named}{more}): {}", one.cause, count(one.incidents, "incident"), words::next(one.cause))
}

/// Over which time the incidents were counted, where that is known; a rate follows from nothing else.
fn lasting(material: &Material) -> String {
    match observed::length_ms(material) {
        Some(milliseconds) if milliseconds > 0 => format!(" in {} of observation", span(milliseconds)),
        _ => material
            .window
            .span
            .as_ref()
            .map(|(first, last)| format!(" between {first} and {last}"))
            .unwrap_or_default(),
    }
}

fn sum(groups: &[(&GroupKey, &Group)], of: impl Fn(&GroupKey, &Group) -> u64) -> u64 {
    groups.iter().map(|(key, group)| of(key, group)).sum()
}

fn share(part: u64, whole: u64) -> String {
    pattern_words::percent(crate::history::report::share(part, whole))
}

fn over_time(window: &Window) -> Vec<Block> {
    let Some((first, last)) = window.buckets() else { return vec![paragraph("No incident.")] };
    let width = window.width();
    let counts = |wanted: &dyn Fn(Party, &str) -> bool| -> Vec<u64> {
        (first..=last)
            .map(|bucket| {
                let of = window.times().filter(|(party, cause, _)| wanted(*party, cause.slug()));
                of.filter_map(|(_, _, counts)| counts.get(&bucket)).sum()
            })
            .collect()
    };
    let total = |series: &Series| series.counts.iter().sum::<u64>();
    let parties = Party::ALL
        .iter()
        .map(|party| Series { name: party.slug().to_owned(), counts: counts(&|of, _| of == *party) });
    let mut causes: Vec<&str> = window.times().map(|(_, cause, _)| cause.slug()).collect();
    causes.sort_unstable();
    causes.dedup();
    let mut causes: Vec<Series> = causes
        .into_iter()
        .map(|cause| Series { name: cause.to_owned(), counts: counts(&|_, of| of == cause) })
        .collect();
    causes.sort_by_key(|series| Reverse(total(series)));
    let left = causes.len().saturating_sub(MOST_SERIES);
    causes.truncate(MOST_SERIES);
    let times: Vec<String> = (first..=last).map(|bucket| utc(bucket * width)).collect();
    let chart = |caption: &str, series: Vec<Series>| {
        Block::Chart(Chart {
            caption: caption.to_owned(),
            from: utc(first * width),
            to: utc((last + 1) * width),
            bucket: span(u64::try_from(width).unwrap_or(0).saturating_mul(1000)),
            times: times.clone(),
            series,
        })
    };
    let parties = parties.filter(|series| total(series) > 0).collect();
    let mut blocks = vec![chart("Incidents per party", parties), chart("Incidents per cause", causes)];
    if left > 0 {
        blocks.push(paragraph(format!(
            "Only in the table below: {} with fewer incidents.",
            count(left as u64, "cause")
        )));
    }
    blocks
}

fn utc(seconds: i64) -> String {
    crate::history::report::rfc3339(seconds)
}

fn by_cause(material: &Material, groups: &[(&GroupKey, &Group)]) -> Block {
    let observed = observed::length_ms(material).filter(|milliseconds| *milliseconds > 0);
    let mut causes: Vec<_> = groups.iter().map(|(key, _)| (key.party, key.cause)).collect();
    causes.sort_unstable();
    causes.dedup();
    let total = material.window.total;
    let mut rows: Vec<(u64, Vec<String>)> = causes
        .into_iter()
        .map(|(party, cause)| {
            let of = |what: &dyn Fn(&Group) -> u64| {
                sum(
                    groups,
                    |key, group| if (key.party, key.cause) == (party, cause) { what(group) } else { 0 },
                )
            };
            let number = of(&|group| group.count);
            let certain =
                |certainty| of(&|group| group.certainty.get(&certainty).copied().unwrap_or(0)).to_string();
            let rate = observed.map(|milliseconds| rate(number, milliseconds));
            let row = vec![
                party.to_string(),
                cause.to_string(),
                number.to_string(),
                share(number, total),
                rate.unwrap_or_else(|| "not known".to_owned()),
                certain(Certainty::Proven),
                certain(Certainty::Strong),
                certain(Certainty::Weak),
                certain(Certainty::Undetermined),
            ];
            (number, row)
        })
        .collect();
    rows.sort_by_key(|(number, _)| Reverse(*number));
    Block::Table(Table {
        caption: if observed.is_some_and(|milliseconds| milliseconds < LEAST_FOR_A_RATE) {
            "Incidents per party and cause; a rate is not told from less than a minute"
        } else {
            "Incidents per party and cause, with the rate over the time observed"
        }
        .to_owned(),
        columns: vec![
            Column::words("Party"),
            Column::words("Cause"),
            Column::number("Incidents"),
            Column::number("Share"),
            Column::number("Per hour"),
            Column::number("Proven"),
            Column::number("Strong"),
            Column::number("Weak"),
            Column::number("Undetermined"),
        ],
        rows: rows.into_iter().map(|(_, row)| row).collect(),
        searchable: false,
    })
}

/// A rate, where the time is long enough to speak of one.
fn rate(number: u64, milliseconds: u64) -> String {
    if milliseconds < LEAST_FOR_A_RATE { "-".to_owned() } else { per_hour(number, milliseconds) }
}

/// A rate with one decimal place.
fn per_hour(number: u64, milliseconds: u64) -> String {
    let tenths = u128::from(number) * 36_000_000 / u128::from(milliseconds.max(1));
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn by_key(keys: &Keys, title: &'static str) -> Vec<Block> {
    let ranked = keys.ranked();
    if ranked.is_empty() {
        return vec![paragraph("None is named by an incident.")];
    }
    let named = |party: &Party| ranked.iter().any(|(_, counted)| counted.parties.contains_key(party));
    let parties: Vec<Party> = Party::ALL.iter().copied().filter(named).collect();
    let row = |(name, counted): &(&String, &Counted)| {
        let of = |party: &Party| counted.parties.get(party).copied().unwrap_or(0).to_string();
        let first = [(*name).clone(), counted.total.to_string()];
        first.into_iter().chain(parties.iter().map(of)).collect()
    };
    let table = |rows: &[(&String, &Counted)]| {
        let columns = [Column::words(title), Column::number("Incidents")].into_iter();
        Block::Table(Table {
            caption: format!("Incidents per {}", title.to_lowercase()),
            columns: columns.chain(parties.iter().map(|party| Column::number(party.slug()))).collect(),
            rows: rows.iter().map(row).collect(),
            searchable: false,
        })
    };
    let listed = ranked.get(..MOST_KEY_ROWS).unwrap_or(&ranked);
    let (first, more) = listed.split_at(FIRST_KEY_ROWS.min(listed.len()));
    let mut blocks = vec![table(first)];
    if !more.is_empty() {
        let summary = format!("{} more with fewer incidents or as many", more.len());
        blocks.push(Block::Folded { summary, blocks: vec![table(more)] });
    }
    let beyond: u64 =
        ranked.iter().skip(MOST_KEY_ROWS).map(|(_, counted)| counted.total).sum::<u64>() + keys.other;
    blocks.extend((beyond > 0).then(|| paragraph(format!("{} more of others.", count(beyond, "incident")))));
    blocks
}

fn patterns(window: &Window) -> Vec<Block> {
    let zone = jiff::tz::TimeZone::UTC;
    let found: Vec<String> =
        window.patterns().iter().map(|finding| pattern_words::pattern(finding, &zone).text).collect();
    if found.is_empty() {
        return vec![paragraph("None that chance does not explain.")];
    }
    vec![Block::List { items: found }]
}

fn all(window: &Window, groups: &[(&GroupKey, &Group)]) -> Vec<Block> {
    let mut blocks = Vec::new();
    if let Some(rows) = window.rows() {
        blocks.push(listed(&rows));
    } else {
        blocks.push(paragraph(format!(
            "{} are too many to list one by one: like ones are one row. A selection (--id, --since, --party, \
             --upstream) lists them.",
            count(window.total, "incident")
        )));
        blocks.push(grouped(groups));
    }
    let left_out = [
        (window.other_groups, "of further groups were counted and not listed"),
        (window.consequences, "more are consequences of others and counted with those"),
        (window.harmless, "more were harmless and left out; --include-harmless shows them"),
    ];
    let left_out = left_out.iter().filter(|(number, _)| *number > 0);
    blocks.extend(left_out.map(|(number, why)| paragraph(format!("{number} {why}."))));
    blocks
}

fn listed(rows: &[&Row]) -> Block {
    let cells = |row: &&Row| {
        vec![
            row.time.clone(),
            row.party.to_string(),
            row.cause.to_string(),
            row.certainty.to_string(),
            row.impact.to_string(),
            row.who.clone(),
            row.request.clone(),
            row.id.clone(),
        ]
    };
    Block::Table(Table {
        caption: "Every incident, earliest first".to_owned(),
        columns: ["Time (UTC)", "Party", "Cause", "Certainty", "Impact", "Who", "Request", "Incident"]
            .map(Column::words)
            .to_vec(),
        rows: rows.iter().map(cells).collect(),
        searchable: true,
    })
}

fn grouped(groups: &[(&GroupKey, &Group)]) -> Block {
    let number = |number: u64| number.to_string();
    let rows = groups.iter().map(|(key, group)| {
        let proven = group.certainty.get(&Certainty::Proven).copied().unwrap_or(0);
        vec![
            key.party.to_string(),
            key.cause.to_string(),
            key.place.clone(),
            number(group.count),
            number(proven),
            group.first.clone(),
            group.last.clone(),
            group.example.verdict.id.clone(),
        ]
    });
    Block::Table(Table {
        caption: "Groups of like incidents, the largest first".to_owned(),
        columns: vec![
            Column::words("Party"),
            Column::words("Cause"),
            Column::words("Place"),
            Column::number("Incidents"),
            Column::number("Proven"),
            Column::words("First (UTC)"),
            Column::words("Last (UTC)"),
            Column::words("Example"),
        ],
        rows: rows.collect(),
        searchable: true,
    })
}
