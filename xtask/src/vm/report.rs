//! From the lines of a machine to the tables: kernel by hook, kernel by scenario. Prints and writes, judges nothing.

use super::machine::Outcome;
use super::plan::Told;
use super::tiers::{self, Lack};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that is known of one kernel.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Cell {
    /// Name in the table.
    pub name: String,
    release: String,
    /// Hooks that do not run, with the reason.
    off: BTreeMap<String, String>,
    /// `12 of 13 running (raw tracepoints)`.
    hooks: String,
    /// Notes of the tracer's header.
    notes: Vec<String>,
    scenarios: Vec<Played>,
    troubles: Vec<String>,
}

/// One scenario in one family.
#[derive(Debug, Serialize, Deserialize)]
struct Played {
    name: String,
    family: String,
    got: String,
    ok: bool,
    wrong: Vec<String>,
    /// What the lab complained about although nothing better can be known on this kernel, with the reason.
    #[serde(default)]
    weaker: Vec<String>,
}

impl Cell {
    /// Is everything as it should be? A hook that does not run is no failure by itself.
    pub fn passed(&self) -> bool {
        self.wrong().is_empty()
    }

    /// What is not as it should be.
    pub fn wrong(&self) -> Vec<String> {
        let failed = self.scenarios.iter().filter(|played| !played.ok);
        let failed =
            failed.map(|played| format!("{} {}: {}", played.name, played.family, played.wrong.join(", ")));
        self.troubles.iter().cloned().chain(failed).collect()
    }

    /// Adds something that is to be known of it.
    pub fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    /// How much of the lab was played.
    pub fn played(&self) -> usize {
        self.scenarios.len()
    }

    /// Hooks that do not run.
    pub fn hooks_off(&self) -> usize {
        self.off.len()
    }
}

/// Reads what a machine reported.
pub fn read(name: &str, outcome: &Outcome) -> Cell {
    let mut cell = Cell { name: name.to_owned(), troubles: outcome.alarms.clone(), ..Cell::default() };
    let mut ended = false;
    for line in outcome.report.lines() {
        let Some((word, value)) = line.trim().split_once(' ') else { continue };
        let value: Value = serde_json::from_str(value).unwrap_or_default();
        match Told::read(word) {
            Some(Told::Kernel) => cell.release = text(&value),
            Some(Told::Hooks) => read_hooks(&mut cell, &value),
            Some(Told::Lab) => read_lab(&mut cell, &value),
            Some(Told::Trouble) => cell.troubles.push(text(&value)),
            Some(Told::End) => ended = true,
            None => cell.troubles.push(format!("the machine said `{line}`")),
        }
    }
    if outcome.timed_out {
        cell.troubles.push("the machine had to be stopped".to_owned());
    } else if !ended {
        cell.troubles.push("the machine ended before its tests did".to_owned());
    }
    cell
}

fn read_hooks(cell: &mut Cell, value: &Value) {
    let lines = unwrapped(value["header"].as_str().unwrap_or_default());
    let labelled = |label: &str| {
        lines.iter().filter_map(|line| line.strip_prefix(label)).map(|rest| rest.trim().to_owned()).collect()
    };
    let hooks: Vec<String> = labelled("hooks ");
    cell.hooks = hooks.into_iter().next().unwrap_or_default();
    cell.notes = labelled("note ");
    let off = value["stats"]["hooks_not_running"].as_array().cloned().unwrap_or_default();
    cell.off = off.iter().map(|hook| (text(&hook["name"]), text(&hook["problem"]))).collect();
    if value["stats"].is_null() {
        cell.troubles.push(format!("the tracer {}: {}", text(&value["ended"]), lines.join(" / ")));
    }
}

/// The header breaks long lines and indents what follows.
fn unwrapped(header: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in header.lines() {
        match lines.last_mut().filter(|_| line.starts_with(' ')) {
            Some(last) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            None => lines.push(line.to_owned()),
        }
    }
    lines
}

fn read_lab(cell: &mut Cell, value: &Value) {
    let rows = value["scenarios"].as_array().cloned().unwrap_or_default();
    cell.scenarios.extend(rows.iter().map(|row| {
        let incidents = row["incidents"].as_array().cloned().unwrap_or_default();
        let got: Vec<String> = incidents
            .iter()
            .map(|one| format!("{} ({})", text(&one["cause"]), text(&one["certainty"])))
            .collect();
        Played {
            name: text(&row["name"]),
            family: text(&row["family"]),
            got: got.join(", "),
            ok: row["ok"] == true,
            wrong: row["wrong"].as_array().into_iter().flatten().map(text).collect(),
            weaker: Vec::new(),
        }
    }));
    let (off, release) = (&cell.off, &cell.release);
    let lacks = |lack: Lack<'_>| match lack {
        Lack::Hook(hook) => off.contains_key(hook),
        Lack::ResetReasons => tiers::lacks_reset_reasons(release),
    };
    cell.scenarios.iter_mut().for_each(|played| played.allow(lacks));
}

impl Played {
    /// Takes out of what is wrong what is right for a kernel that lacks this.
    fn allow(&mut self, lacks: impl Fn(Lack<'_>) -> bool) {
        for complaint in std::mem::take(&mut self.wrong) {
            match tiers::allowed(&self.name, &complaint, &lacks) {
                Some(why) => self.weaker.push(format!("{complaint}: {why}")),
                None => self.wrong.push(complaint),
            }
        }
        self.ok |= self.wrong.is_empty() && !self.weaker.is_empty();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What one kernel gave.
pub fn print(cell: &Cell) {
    crate::say!("kernel {} is {}, hooks: {}", cell.name, cell.release, cell.hooks);
    cell.off.iter().for_each(|(hook, why)| crate::say!("  off {hook}: {why}"));
    cell.notes.iter().for_each(|note| crate::say!("  note {note}"));
    for played in &cell.scenarios {
        let ok = match (played.ok, played.weaker.is_empty()) {
            (true, true) => "ok",
            (true, false) => "ok (weaker)",
            _ => "FAILED",
        };
        crate::say!("  {:<42} {} {:<44} {ok}", played.name, played.family, played.got);
        played.wrong.iter().for_each(|line| crate::say!("      {line}"));
    }
    cell.troubles.iter().for_each(|line| crate::say!("  TROUBLE {line}"));
}

/// `docs/kernels.md`.
pub fn document(cells: &[Cell]) -> String {
    let mut page = String::from(
        "# Kernels\n\nWritten by `cargo xtask vm --write-docs`; do not edit by hand. Debian's cloud kernels in QEMU, each with a real \
         Nginx, the scenarios of the lab over IPv4 and IPv6, and the console watched for warnings.\n\
         `ok (weaker)`: party and cause are right, and the verdict claims less, because on this kernel nothing better can be \
         known; why is said below the table.\n\n",
    );
    let mut line = |parts: &[String]| {
        let text = format!("| {} |\n", parts.join(" | "));
        page.push_str(&text);
    };
    let names = |first: &str| -> Vec<String> {
        std::iter::once(first.to_owned()).chain(cells.iter().map(|cell| cell.name.clone())).collect()
    };
    let rule: Vec<String> = (0..=cells.len()).map(|_| "---".to_owned()).collect();
    let row = |first: &str, each: &dyn Fn(&Cell) -> String| -> Vec<String> {
        std::iter::once(first.to_owned()).chain(cells.iter().map(each)).collect()
    };
    line(&names(""));
    line(&rule);
    line(&row("release", &|cell| cell.release.clone()));
    line(&row("hooks", &|cell| cell.hooks.clone()));
    let off: BTreeSet<&String> = cells.iter().flat_map(|cell| cell.off.keys()).collect();
    for hook in off {
        line(&row(&format!("`{hook}`"), &|cell| {
            if cell.off.contains_key(hook) { "off" } else { "runs" }.to_owned()
        }));
    }
    let mut seen = BTreeSet::new();
    let scenarios = cells.iter().flat_map(|cell| &cell.scenarios).map(|played| &played.name);
    for name in scenarios.filter(|name| seen.insert(name.as_str())) {
        line(&row(name, &|cell| verdict(cell, name)));
    }
    line(&row("console", &|cell| if cell.troubles.is_empty() { "clean" } else { "see below" }.to_owned()));
    for cell in cells {
        details(&mut page, cell);
    }
    page
}

/// How many families passed.
fn verdict(cell: &Cell, name: &str) -> String {
    let played: Vec<&Played> = cell.scenarios.iter().filter(|played| played.name == name).collect();
    let passed = played.iter().filter(|played| played.ok).count();
    match (passed, played.len()) {
        (_, 0) => "·".to_owned(),
        (passed, all) if passed == all && played.iter().any(|played| !played.weaker.is_empty()) => {
            "ok (weaker)".to_owned()
        }
        (passed, all) if passed == all => "ok".to_owned(),
        (passed, all) => format!("{passed} of {all}"),
    }
}

fn details(page: &mut String, cell: &Cell) {
    let mut lines = Vec::new();
    lines.extend(cell.off.iter().map(|(hook, why)| format!("`{hook}` does not run: {why}")));
    lines.extend(cell.notes.iter().cloned());
    let failed = cell.scenarios.iter().filter(|played| !played.ok);
    lines.extend(
        failed.map(|played| format!("{} {}: {}", played.name, played.family, played.wrong.join("; "))),
    );
    let mut weaker: Vec<String> = cell
        .scenarios
        .iter()
        .flat_map(|played| played.weaker.iter().map(|line| format!("{}, weaker: {line}", played.name)))
        .collect();
    weaker.dedup();
    lines.extend(weaker);
    lines.extend(cell.troubles.iter().cloned());
    if lines.is_empty() {
        return;
    }
    let list: Vec<String> = lines.iter().map(|line| format!("- {line}\n")).collect();
    let text = format!("\n## {}\n\n{}", cell.name, list.concat());
    page.push_str(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(report: &str) -> Outcome {
        Outcome { report: report.to_owned(), alarms: Vec::new(), timed_out: false }
    }

    #[test]
    fn a_machine_that_dies_is_no_success() {
        assert!(!read("6.1", &outcome("kernel \"6.1\"\n")).passed());
        assert!(read("6.1", &outcome("kernel \"6.1\"\nend null\n")).passed());
    }

    #[test]
    fn what_a_tier_cannot_know_is_weaker_and_no_failure() {
        let report = |wrong: &str| {
            format!(
                "hooks {{\"header\":\"\",\"stats\":{{\"hooks_not_running\":[{{\"name\":\"kfree_skb\",\"problem\":\"x\"}}]}}}}\n\
                 lab {{\"scenarios\":[{{\"name\":\"forged-near-speaks\",\"family\":\"v4\",\"ok\":false,\
                 \"wrong\":[\"{wrong}\"]}}]}}\nend null\n"
            )
        };
        let weaker = read("5.10", &outcome(&report("certainty is strong, not proven to proven")));
        assert!(weaker.passed() && document(&[weaker]).contains("| forged-near-speaks | ok (weaker) |"));
        assert!(!read("5.10", &outcome(&report("party is nginx, not middlebox"))).passed());
    }

    #[test]
    fn hooks_and_scenarios_reach_the_page() {
        let report = "kernel \"6.1.1\"\nhooks {\"header\":\"hooks      1 of 2\\n           running\\nnote       x\\n\",\
            \"stats\":{\"hooks_not_running\":[{\"name\":\"kfree_skb\",\"problem\":\"none\"}]}}\n\
            lab {\"scenarios\":[{\"name\":\"a\",\"family\":\"v4\",\"ok\":true},{\"name\":\"a\",\"family\":\"v6\",\"ok\":false,\"wrong\":[\"why\"]}]}\nend null\n";
        let page = document(&[read("6.1", &outcome(report))]);
        for wanted in ["1 of 2 running", "| `kfree_skb` | off |", "| a | 1 of 2 |", "- x", "a v6: why"] {
            assert!(page.contains(wanted), "{wanted} in {page}");
        }
    }
}
