//! Findings and what they add up to. Pure.

use serde::Serialize;

use super::checks::CHECKS;
use super::facts::{Facts, Unseen};

/// Name of the form of [`Report`] as JSON.
pub const SCHEMA: &str = "rstscope.doctor/1";

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know; may be on purpose.
    Notice,
    /// Invites failures.
    Warning,
    /// Causes failures now, or blinds the tool.
    Critical,
}

impl Severity {
    /// Exit code of `rstscope doctor` when this is the worst finding.
    pub fn code(self) -> u8 {
        match self {
            Self::Notice => 0,
            Self::Warning => 1,
            Self::Critical => 2,
        }
    }

    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Finding {
    /// Slug of the check.
    pub check: String,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: a listener, a location, a process.
    pub subject: String,
    /// The value seen.
    pub seen: String,
    /// Why it matters.
    pub why: String,
    /// What to change, with the directive or sysctl.
    pub change: String,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Looked, and nothing was found.
    Good,
    /// Something was found.
    Found,
    /// What it needs could not be seen, or not all of it, and nothing was found in the rest.
    Unseen,
}

/// One check and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Checked {
    /// Slug of the check.
    pub check: String,
    /// What it asks.
    pub title: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// Everything that `rstscope doctor` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the tool.
    pub version: String,
    /// Host name.
    pub host: String,
    /// One line about the kernel.
    pub kernel: String,
    /// One line for every Nginx.
    pub nginx: Vec<String>,
    /// Findings, the worst first.
    pub findings: Vec<Finding>,
    /// Every check.
    pub checks: Vec<Checked>,
    /// What could not be seen, and why.
    pub unseen: Vec<Unseen>,
    /// Exit code: 0, 1 or 2.
    pub exit_code: u8,
}

impl Report {
    /// Runs every check.
    pub fn new(facts: &Facts) -> Self {
        let mut findings = Vec::new();
        let mut checks = Vec::new();
        for check in CHECKS {
            let found = (check.run)(facts);
            let is_unseen = facts.unseen.iter().any(|unseen| unseen.checks.contains(&check.slug));
            let outcome = match (found.is_empty(), is_unseen) {
                (false, _) => Outcome::Found,
                (true, true) => Outcome::Unseen,
                (true, false) => Outcome::Good,
            };
            checks.push(Checked { check: check.slug.to_owned(), title: check.title.to_owned(), outcome });
            findings.extend(merged(found).into_iter().map(|seen| seen.of(check.slug)));
        }
        // Stable: findings of equal weight stay in the order of the checks.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let exit_code = findings.first().map_or(0, |finding| finding.severity.code());
        Self {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: facts.host.name.clone(),
            kernel: facts.kernel.summary(),
            nginx: facts.nginx.iter().map(super::facts::NginxFacts::summary).collect(),
            findings,
            checks,
            unseen: facts.unseen.clone(),
            exit_code,
        }
    }

    /// Findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Several Nginx with the same setting are one finding.
fn merged(found: Vec<Seen>) -> Vec<Seen> {
    let mut kinds: Vec<(Seen, usize)> = Vec::new();
    for seen in found {
        match kinds.iter_mut().find(|(kind, _)| *kind == seen) {
            Some((_, number)) => *number += 1,
            None => kinds.push((seen, 1)),
        }
    }
    let named = |(seen, number): (Seen, usize)| match number {
        1 => seen,
        _ => Seen { subject: format!("{} ({number} times)", seen.subject), ..seen },
    };
    kinds.into_iter().map(named).collect()
}

/// A finding before it is known which check found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub subject: String,
    /// The value seen.
    pub seen: String,
    /// Why it matters.
    pub why: String,
    /// What to change.
    pub change: String,
}

impl Seen {
    fn of(self, check: &str) -> Finding {
        let Self { severity, subject, seen, why, change } = self;
        Finding { check: check.to_owned(), severity, subject, seen, why, change }
    }
}
