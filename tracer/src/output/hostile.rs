//! Hostile strings for the tests of every place that text goes to, and a verdict that carries one wherever text from
//! outside can stand. The strings are data (`tests/fixtures/hostile.json`), so that the tests of the program have the
//! same.

use super::csv;
use super::samples;
use super::sanitize::is_dangerous;
use super::snapshots::options;
use super::{full, ndjson, text};
use crate::model::Verdict;
use crate::model::verdict::{Missing, ProcessRef, Sender};

/// Strings that attack one of the places.
pub fn corpus() -> Vec<String> {
    serde_json::from_str(include_str!("../../../tests/fixtures/hostile.json")).unwrap()
}

/// A verdict in which every text from outside is this one.
pub fn verdict(attack: &str) -> Verdict {
    let mut verdict = samples::upstream_abort();
    let said = |what: &str| format!("{what} {attack}");
    attack.clone_into(&mut verdict.host);
    verdict.summary = said("sum");
    for piece in &mut verdict.evidence {
        piece.detail = said("detail");
        piece.value = Some(attack.to_owned());
        piece.baseline = Some(attack.to_owned());
    }
    verdict.missing.push(Missing { code: "x".into(), why: said("why") });
    for other in &mut verdict.alternatives {
        other.why_not = said("not");
    }
    if let Some(connection) = &mut verdict.connection {
        connection.owner = Some(ProcessRef { pid: 1, comm: said("comm") });
    }
    if let Some(reset) = &mut verdict.reset {
        reset.sender = Some(Sender {
            host: None,
            pid: 1,
            comm: said("comm"),
            exe: Some(said("exe")),
            exit: Some(said("exit")),
            cgroup: Some(said("cgroup")),
            container: Some(said("container")),
            unit: Some(said("unit")),
        });
        reset.reason = Some(attack.to_owned());
    }
    if let Some(log) = &mut verdict.log {
        log.file = format!("/var/log/{attack}");
        log.message = said("message");
        log.request = Some(format!("GET /{attack} HTTP/1.1"));
        log.host = Some(attack.to_owned());
        log.upstream = Some(attack.to_owned());
    }
    for advice in &mut verdict.advice {
        advice.text = said("advice");
    }
    verdict
}

#[test]
fn nothing_acts_on_a_terminal() {
    for attack in corpus() {
        let verdict = verdict(&attack);
        for page in
            [text::incident(&verdict, &options(Some(80), false)), full::text(&verdict, &options(None, false))]
        {
            assert!(!page.chars().any(|c| c != '\n' && is_dangerous(c)), "{attack}: {page}");
            assert!(!page.lines().any(|line| line.starts_with("next line")), "{attack}: {page}");
        }
    }
}

#[test]
fn a_line_of_csv_stays_one_line_of_as_many_cells_and_no_formula() {
    for attack in corpus() {
        let line = csv::line(&verdict(&attack));
        let cells = line.trim_end().strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        // A quote in a cell is two.
        let cells: Vec<&str> = cells.split("\",\"").filter(|cell| !cell.starts_with('"')).collect();
        assert!(!line.trim_end().chars().any(is_dangerous), "{attack}: {line}");
        assert_eq!(quoted_cells(&line), csv::HEAD.split(',').count(), "{attack}: {line}");
        for cell in cells {
            assert!(!cell.trim_start().starts_with(['=', '+', '-', '@', '\u{ff1d}']), "{attack}: {cell}");
        }
    }
}

/// Cells of a line, read as RFC 4180 has it.
fn quoted_cells(line: &str) -> usize {
    let mut inside = false;
    let commas = line.chars().filter(|character| {
        inside ^= *character == '"';
        *character == ',' && !inside
    });
    commas.count() + 1
}

#[test]
fn a_line_of_json_is_harmless_and_reads_back_the_same() {
    for attack in corpus() {
        let verdict = verdict(&attack);
        let line = String::from_utf8(ndjson::line(&verdict).unwrap()).unwrap();
        assert!(!line.trim_end_matches('\n').chars().any(is_dangerous), "{attack}");
        assert_eq!(serde_json::from_str::<Verdict>(&line).unwrap(), verdict);
    }
}
