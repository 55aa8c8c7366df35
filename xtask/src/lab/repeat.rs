//! The lab played several times: which scenarios did not give the same each time.
//!
//! A verdict that differs between runs of one fault is either a race of the scenario or a race of the tracer;
//! both have to be known, even where each of the verdicts is right.

use super::bench::Row;
use super::net::Family;
use std::collections::BTreeMap;

/// One scenario in one family and at one level.
type Key = (&'static str, Family, &'static str);

/// What came out, and how often.
type Outcomes = BTreeMap<String, usize>;

/// Every scenario that did not come out alike in all runs.
pub fn varying(runs: &[Vec<Row>]) -> BTreeMap<Key, Outcomes> {
    let mut all: BTreeMap<Key, Outcomes> = BTreeMap::new();
    for row in runs.iter().flatten() {
        let outcomes = all.entry((row.name, row.family, row.level.name())).or_default();
        *outcomes.entry(outcome(row)).or_default() += 1;
    }
    all.retain(|_, outcomes| outcomes.len() > 1);
    all
}

fn outcome(row: &Row) -> String {
    let one = |finding: &super::judge::Finding| {
        format!("{} {} {}", finding.party, finding.cause, finding.certainty).trim_end().to_owned()
    };
    let mut findings: Vec<String> = row.findings.iter().map(one).collect();
    findings.sort_unstable();
    let troubles = if row.troubles.is_empty() { "" } else { " (trouble)" };
    let found = if findings.is_empty() { "none".to_owned() } else { findings.join(", ") };
    format!("{found}{troubles}")
}

/// Prints what varied.
pub fn print(runs: &[Vec<Row>]) {
    let varying = varying(runs);
    crate::say!("\n{} runs, {} scenarios not the same each time", runs.len(), varying.len());
    for ((name, family, level), outcomes) in varying {
        let outcomes: Vec<String> =
            outcomes.iter().map(|(outcome, times)| format!("{times} × {outcome}")).collect();
        crate::say!("{name:<40} {:<6} {level:<5} {}", family.name(), outcomes.join("; "));
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::Finding;
    use super::super::nginx::Level;
    use super::*;

    fn row(name: &'static str, certainty: &str) -> Row {
        let finding = Finding {
            wanted: "client".to_owned(),
            party: "client".to_owned(),
            cause: "client_abort".to_owned(),
            certainty: certainty.to_owned(),
            differences: Vec::new(),
        };
        Row {
            name,
            family: Family::V4,
            level: Level::Error,
            findings: vec![finding],
            troubles: Vec::new(),
            unseen: false,
            again: false,
        }
    }

    #[test]
    fn only_what_differs_between_runs_is_named() {
        let runs = [
            vec![row("steady", "strong"), row("shaky", "strong")],
            vec![row("steady", "strong"), row("shaky", "proven")],
        ];
        let varying = varying(&runs);
        assert_eq!(varying.len(), 1);
        let outcomes = &varying[&("shaky", Family::V4, "error")];
        assert_eq!(outcomes["client client_abort strong"], 1);
        assert_eq!(outcomes["client client_abort proven"], 1);
    }
}
