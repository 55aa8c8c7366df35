//! What a run of the lab says in the end: the table, the confusion matrix, the count; as text or as JSON.

use super::bench::Row;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Parties in the order of the matrix; the last column is for incidents that are missing or too many.
const PARTIES: [&str; 6] = ["client", "nginx", "upstream", "middlebox", "unknown", "none"];

/// Prints the table, the matrix, and everything that is wrong.
pub fn print(rows: &[Row]) {
    crate::say!(
        "{:<40} {:<6} {:<5} {:<10} {:<36} {:<12} ok",
        "scenario",
        "family",
        "log",
        "expected",
        "got",
        "certainty"
    );
    rows.iter().for_each(print_row);
    print_matrix(rows);
    for row in rows.iter().filter(|row| row.again) {
        crate::say!(
            "\nplayed again, for the kernel counted what it had run no hook for: {} {} {}",
            row.name,
            row.family.name(),
            row.level.name()
        );
    }
    for row in rows.iter().filter(|row| !row.passed()) {
        crate::say!("\n{} {} {}:", row.name, row.family.name(), row.level.name());
        for line in complaints(row) {
            crate::say!("  {line}");
        }
    }
}

fn print_row(row: &Row) {
    let join = |part: fn(&super::judge::Finding) -> String| {
        let parts: Vec<String> = row.findings.iter().map(part).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    };
    crate::say!(
        "{:<40} {:<6} {:<5} {:<10} {:<36} {:<12} {}",
        row.name,
        row.family.name(),
        row.level.name(),
        join(|finding| finding.wanted.clone()),
        join(|finding| if finding.cause.is_empty() { finding.party.clone() } else { finding.cause.clone() }),
        join(|finding| finding.certainty.clone()),
        if row.passed() { "ok" } else { "FAILED" }
    );
}

fn complaints(row: &Row) -> Vec<String> {
    let differences = row.findings.iter().flat_map(|finding| finding.differences.iter());
    row.troubles.iter().chain(differences).cloned().collect()
}

/// Expected party against reported party.
fn confusion(rows: &[Row]) -> BTreeMap<(usize, usize), usize> {
    let place = |party: &str| PARTIES.iter().position(|other| *other == party).unwrap_or(PARTIES.len() - 1);
    let mut matrix = BTreeMap::new();
    for row in rows {
        if row.findings.is_empty() && row.passed() {
            *matrix.entry((place("none"), place("none"))).or_default() += 1;
        }
        for finding in &row.findings {
            *matrix.entry((place(&finding.wanted), place(&finding.party))).or_default() += 1;
        }
    }
    matrix
}

fn print_matrix(rows: &[Row]) {
    let matrix = confusion(rows);
    let line = |first: &str, cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>10}")).collect();
        crate::say!("{first:<20}{}", cells.concat());
    };
    crate::say!("");
    line("expected \\ got", PARTIES.map(str::to_owned).to_vec());
    for (place, party) in PARTIES.iter().enumerate() {
        let cell = |other| matrix.get(&(place, other)).map_or_else(|| "·".to_owned(), usize::to_string);
        line(party, (0..PARTIES.len()).map(cell).collect());
    }
}

/// The same for programs, on one line.
pub fn json(rows: &[Row]) -> Value {
    let matrix: Vec<Value> = confusion(rows)
        .into_iter()
        .map(|((wanted, got), count)| json!({"expected": PARTIES[wanted], "got": PARTIES[got], "count": count}))
        .collect();
    json!({
        "passed": rows.iter().filter(|row| row.passed()).count(),
        "failed": rows.iter().filter(|row| !row.passed()).count(),
        "confusion": matrix,
        "scenarios": rows.iter().map(row_json).collect::<Vec<_>>(),
    })
}

fn row_json(row: &Row) -> Value {
    let findings: Vec<Value> = row
        .findings
        .iter()
        .map(|finding| {
            json!({"expected": finding.wanted, "party": finding.party, "cause": finding.cause, "certainty": finding.certainty})
        })
        .collect();
    json!({
        "name": row.name, "family": row.family.name(), "level": row.level.name(), "ok": row.passed(),
        "incidents": findings, "wrong": complaints(row), "again": row.again,
    })
}
