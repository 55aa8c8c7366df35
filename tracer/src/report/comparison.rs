//! Before and after: rates of incidents per cause in two windows, what changed, and how sure that is.
//!
//! The ratio of the rates has an exact interval ([`super::poisson`]). What makes the windows unlike (losses, other
//! hooks, cut recordings, other versions) is stated and lowers what is claimed.

use std::collections::BTreeSet;

use crate::model::verdict::{Cause, Party};
use crate::output::layout::{count, span};

use super::document::{Answer, Block, Column, Document, Section, Table, paragraph};
use super::observed;
use super::page::Material;
use super::poisson::{Rate, Ratio, holm, probability, ratio};
use super::source::Origin;

/// Confidence of every interval.
const CONFIDENCE: f64 = 0.95;

/// One of the two windows.
#[derive(Debug)]
pub struct Side {
    /// Its incidents and what is known of the session.
    pub material: Material,
    /// Connections that Nginx had in it, where that is known.
    pub connections: Option<u64>,
}

/// What the rates are measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Against {
    Connections,
    Time,
    /// Neither is known: there is no rate.
    Nothing,
}

/// What happened to one cause, or to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Fewer,
    More,
    NoEvidence,
    /// The windows cannot be compared.
    Unknown,
}

/// The comparison.
pub fn document(before: &Side, after: &Side) -> Document {
    let against = against(before, after);
    let reservations = reservations(before, after);
    let all = compared(before, after, against, None);
    let causes = causes(before, after, against);
    let title = format!(
        "Before and after: {} then {}",
        count(before.material.window.total, "incident"),
        count(after.material.window.total, "incident")
    );
    let mut sections = vec![
        Section::new("answer", "Answer", vec![answer(&all, &causes, against, &reservations)]),
        Section::new("by-cause", "By cause", by_cause(&causes, against)),
        Section::new("reservations", "What makes the windows unlike", listed(&reservations)),
        Section::new("method", "How the rates are compared", vec![method(against)]),
    ];
    for (name, side) in [("before", before), ("after", after)] {
        let mut inner = observed::sections(&side.material, None);
        for section in &mut inner {
            section.id = format!("{name}-{}", section.id);
        }
        let title = if name == "before" { "The window before" } else { "The window after" };
        sections.push(Section { sections: inner, ..Section::new(name, title, Vec::new()) });
    }
    Document { title, sections }
}

fn against(before: &Side, after: &Side) -> Against {
    let time = |side: &Side| observed::length_ms(&side.material).is_some_and(|milliseconds| milliseconds > 0);
    match (before.connections, after.connections) {
        (Some(one), Some(other)) if one > 0 && other > 0 => Against::Connections,
        _ if time(before) && time(after) => Against::Time,
        _ => Against::Nothing,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exposures beyond 2^53 would differ in no digit that is shown"
)]
fn exposure(side: &Side, against: Against) -> f64 {
    match against {
        Against::Connections => side.connections.unwrap_or(0) as f64 / 1000.0,
        Against::Time => observed::length_ms(&side.material).unwrap_or(0) as f64 / 3_600_000.0,
        Against::Nothing => 0.0,
    }
}

/// The two rates of a cause, or of all incidents.
struct Compared {
    before: Rate,
    after: Rate,
    ratio: Option<Ratio>,
    /// How probable counts so unequal are if nothing changed.
    chance: Option<f64>,
    change: Change,
}

/// One cause in both windows.
struct OfCause {
    party: Party,
    cause: Cause,
    found: Compared,
}

/// Every cause of either window; what changed is told with regard to how many are compared.
fn causes(before: &Side, after: &Side, against: Against) -> Vec<OfCause> {
    let mut named: BTreeSet<(Party, Cause)> = BTreeSet::new();
    for side in [before, after] {
        named.extend(side.material.window.groups().iter().map(|(key, _)| (key.party, key.cause)));
    }
    let of = |(party, cause)| OfCause {
        party,
        cause,
        found: compared(before, after, against, Some((party, cause))),
    };
    let mut causes: Vec<OfCause> = named.into_iter().map(of).collect();
    let chances: Vec<Option<f64>> = causes.iter().map(|one| one.found.chance).collect();
    for (one, chance) in causes.iter_mut().zip(holm(&chances)) {
        one.found.chance = chance;
        if chance.is_some_and(|chance| chance >= 1.0 - CONFIDENCE) {
            one.found.change = Change::NoEvidence;
        }
    }
    causes
}

fn compared(before: &Side, after: &Side, against: Against, cause: Option<(Party, Cause)>) -> Compared {
    let rate = |side: &Side| Rate { count: counted(side, cause), exposure: exposure(side, against) };
    let (before, after) = (rate(before), rate(after));
    let ratio = ratio(before, after, CONFIDENCE);
    let change = match ratio {
        None if against == Against::Nothing => Change::Unknown,
        Some(ratio) if ratio.high < 1.0 => Change::Fewer,
        Some(ratio) if ratio.low > 1.0 => Change::More,
        _ => Change::NoEvidence,
    };
    Compared { before, after, ratio, chance: probability(before, after), change }
}

fn counted(side: &Side, wanted: Option<(Party, Cause)>) -> u64 {
    let groups = side.material.window.groups();
    let of = groups.iter().filter(|(key, _)| wanted.is_none_or(|wanted| (key.party, key.cause) == wanted));
    of.map(|(_, group)| group.count).sum::<u64>()
        + if wanted.is_none() { side.material.window.other_groups } else { 0 }
}

fn answer(all: &Compared, causes: &[OfCause], against: Against, reservations: &[String]) -> Block {
    let reserved = if reservations.is_empty() {
        String::new()
    } else {
        format!(
            " The windows are unlike in {}, so this is no proof of an effect.",
            count(reservations.len() as u64, "way")
        )
    };
    let interval = all
        .ratio
        .map_or_else(|| "no interval".to_owned(), |ratio| format!("{}{}", words(ratio), unit(against)));
    let unlike = if reservations.is_empty() {
        String::new()
    } else {
        format!(". Unlike: {}", reservations.join("; "))
    };
    let changed = changed(causes);
    Block::Answer(Answer {
        what: format!("{}{reserved}", headline(all, causes.len(), &changed)),
        when: None,
        who: if changed.is_empty() {
            "of no cause is a change shown; a rate says nothing about whose doing a change was".to_owned()
        } else {
            format!("{}; a rate says nothing about whose doing a change was", changed.join(", "))
        },
        party: None,
        sure: format!("{interval}{unlike}"),
        certainty: None,
        effect: None,
        next: vec![next(all.change, &changed, reservations).to_owned()],
    })
}

/// What happened to all incidents together, and to single causes.
fn headline(all: &Compared, causes: usize, changed: &[String]) -> String {
    let (before, after) = (all.before.count, all.after.count);
    let counts = format!("{} before, {after} after", count(before, "incident"));
    let by_cause = if changed.is_empty() || causes < 2 {
        String::new()
    } else {
        format!(" By cause: {}.", changed.join(", "))
    };
    match all.change {
        Change::Fewer => format!("Fewer incidents: {counts}.{by_cause}"),
        Change::More => format!("More incidents: {counts}.{by_cause}"),
        Change::NoEvidence if by_cause.is_empty() => format!("No evidence of a change: {counts}."),
        Change::NoEvidence => {
            format!("Single causes changed, their sum shows no change: {counts}.{by_cause}")
        }
        Change::Unknown => {
            format!("{counts}; how long was observed is not known, so there is no rate to compare.")
        }
    }
}

/// The causes that changed, each with its counts.
fn changed(causes: &[OfCause]) -> Vec<String> {
    let said = |one: &OfCause, change| {
        format!("{change} {} ({} to {})", one.cause, one.found.before.count, one.found.after.count)
    };
    let of = |wanted: Change, name: &'static str| {
        causes.iter().filter(move |one| one.found.change == wanted).map(move |one| said(one, name))
    };
    of(Change::More, "more").chain(of(Change::Fewer, "fewer")).collect()
}

fn next(change: Change, changed: &[String], reservations: &[String]) -> &'static str {
    match change {
        Change::Fewer if reservations.is_empty() => {
            "Keep watching: the interval says how large the effect is."
        }
        Change::Fewer => "Compare windows that are alike before you call it repaired.",
        Change::More => "Look at which causes grew, below.",
        Change::NoEvidence if !changed.is_empty() => {
            "Judge each cause by itself: the sum of all hides what changed."
        }
        Change::NoEvidence => "Observe longer: with more incidents a smaller change can be told from chance.",
        Change::Unknown => "Record both windows (trace --record): a recording says how long was observed.",
    }
}

fn unit(against: Against) -> &'static str {
    match against {
        Against::Connections => ", per connection of Nginx",
        Against::Time => ", per time observed (traffic is not known and may have changed)",
        Against::Nothing => "",
    }
}

fn words(ratio: Ratio) -> String {
    let interval = format!("95 % interval {} to {}", number(ratio.low), number(ratio.high));
    match ratio.value {
        Some(value) => format!("{} times the rate before ({interval})", number(value)),
        None => format!("nothing was counted before, so there is no ratio ({interval})"),
    }
}

/// Three significant digits, which is more than counts can carry.
fn number(value: f64) -> String {
    match value {
        value if value.is_infinite() => "unbounded".to_owned(),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.1 || value == 0.0 => format!("{value:.2}"),
        value if value >= 0.001 => format!("{value:.3}"),
        value => format!("{value:.1e}"),
    }
}

fn by_cause(causes: &[OfCause], against: Against) -> Vec<Block> {
    if causes.is_empty() {
        return vec![paragraph("No incident in either window.")];
    }
    let rate = |rate: Rate| if rate.exposure > 0.0 { number(per(rate)) } else { "not known".to_owned() };
    let rows = causes.iter().map(|OfCause { party, cause, found }| {
        vec![
            party.to_string(),
            cause.to_string(),
            found.before.count.to_string(),
            found.after.count.to_string(),
            rate(found.before),
            rate(found.after),
            found.ratio.map_or_else(
                || "not known".to_owned(),
                |ratio| ratio.value.map_or_else(|| "-".to_owned(), number),
            ),
            found.ratio.map_or_else(
                || "-".to_owned(),
                |ratio| format!("{} to {}", number(ratio.low), number(ratio.high)),
            ),
            found.chance.map_or_else(|| "-".to_owned(), number),
            change(found.change).to_owned(),
        ]
    });
    let caption = match against {
        Against::Connections => "Incidents and rates per 1000 connections",
        Against::Time => "Incidents and rates per hour observed",
        Against::Nothing => "Incidents; there is no rate",
    };
    vec![Block::Table(Table {
        caption: caption.to_owned(),
        columns: vec![
            Column::words("Party"),
            Column::words("Cause"),
            Column::number("Before"),
            Column::number("After"),
            Column::number("Rate before"),
            Column::number("Rate after"),
            Column::number("Ratio"),
            Column::words("95 % interval"),
            Column::number("p (Holm)"),
            Column::words("Change"),
        ],
        rows: rows.collect(),
        searchable: false,
    })]
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 would differ in no digit that is shown")]
fn per(rate: Rate) -> f64 {
    rate.count as f64 / rate.exposure
}

fn change(change: Change) -> &'static str {
    match change {
        Change::Fewer => "fewer",
        Change::More => "more",
        Change::NoEvidence => "no evidence of a change",
        Change::Unknown => "not comparable",
    }
}

fn listed(reservations: &[String]) -> Vec<Block> {
    if reservations.is_empty() {
        return vec![paragraph(
            "Nothing that the sources tell: no losses, the same hooks, the same version.",
        )];
    }
    vec![Block::List { items: reservations.to_vec() }]
}

fn method(against: Against) -> Block {
    let base = match against {
        Against::Connections => "Counts are divided by the connections seen in each window.",
        Against::Time => {
            "Counts are divided by the time observed: how many connections there were is not known. With --connections-before and --connections-after they are divided by those."
        }
        Against::Nothing => "Neither the connections nor the time observed are known for both windows.",
    };
    paragraph(format!(
        "{base} The interval of the ratio is exact for Poisson counts (conditional binomial, Clopper and Pearson), 95 % for \
         each row by itself. \"Fewer\" and \"more\" in the table mean that p, the probability of counts so unequal without \
         any change, is below 5 % even when it is raised for the number of causes compared (method of Holm); an interval \
         alone may leave out 1 by chance. Incidents that come in bursts are not independent; then the true interval is \
         wider."
    ))
}

/// What makes the windows unlike, as far as the sources tell.
fn reservations(before: &Side, after: &Side) -> Vec<String> {
    let mut found = Vec::new();
    for (name, side) in [("before", before), ("after", after)] {
        let origin = &side.material.origin;
        match &origin.losses {
            Some(losses) if losses.total() > 0 => {
                found.push(format!(
                    "{} were lost in the window {name}: its count is a least",
                    count(losses.total(), "event")
                ));
            }
            Some(_) => {}
            None => found
                .push(format!(
                    "What was lost in the window {name} is not known, nor what was restarted in it: verdicts alone do not tell"
                )),
        }
        found.extend(restarts(name, origin));
        found.extend(coverage(name, side));
        found.extend(origin.notes.iter().map(|note| format!("Window {name}: {note}")));
    }
    found.extend(hooks(before, after));
    found.extend(lengths(before, after));
    let versions = [before, after].map(|side| side.material.origin.version.clone());
    if let [Some(one), Some(other)] = versions
        && one != other
    {
        found.push(format!("The windows were observed by different versions, {one} and {other}"));
    }
    found
}

fn restarts(name: &str, origin: &Origin) -> Option<String> {
    let times = origin.changes.filter(|changes| *changes > 0)?;
    Some(format!("Nginx was started, reloaded or stopped {} in the window {name}", count(times, "time")))
}

/// A window of which only a part was observed.
fn coverage(name: &str, side: &Side) -> Option<String> {
    let (since, until) = side.material.selection.bounds();
    let wanted = u64::try_from((until?.0 - since?.0) / 1_000_000).ok()?;
    let observed = observed::length_ms(&side.material)?;
    // A recording begins and ends with an input, not on the dot.
    let partly = observed.saturating_add(1000) < wanted;
    partly.then(|| format!("Of the {} of the window {name} {} were observed", span(wanted), span(observed)))
}

fn hooks(before: &Side, after: &Side) -> Option<String> {
    let running = |side: &Side| -> Option<Vec<String>> {
        let host = side.material.origin.last_host.as_ref()?;
        Some(host.hooks.iter().filter(|hook| hook.running).map(|hook| hook.name.clone()).collect())
    };
    let (one, other) = (running(before)?, running(after)?);
    let lacks = |these: &[String], those: &[String]| {
        these.iter().filter(|name| !those.contains(name)).cloned().collect::<Vec<_>>().join(", ")
    };
    let (only_before, only_after) = (lacks(&one, &other), lacks(&other, &one));
    (one != other).then(|| format!("Other hooks ran: only before [{only_before}], only after [{only_after}]"))
}

fn lengths(before: &Side, after: &Side) -> Option<String> {
    const UNLIKE: u64 = 4;
    let length = |side: &Side| observed::length_ms(&side.material);
    let (one, other) = (length(before)?, length(after)?);
    let unlike = one.max(other) > one.min(other).saturating_mul(UNLIKE);
    unlike.then(|| format!("The windows are {} and {} long", span(one), span(other)))
}

#[cfg(test)]
#[path = "comparison_tests.rs"]
mod tests;
