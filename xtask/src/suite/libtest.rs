//! Counts: of our own checks, and of Rust's test runner, read from the lines it prints.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// How many checks went how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Held.
    pub passed: usize,
    /// Did not hold.
    pub failed: usize,
    /// Could not be tried here.
    pub skipped: usize,
}

impl Count {
    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Adds one check by its result, and says it.
    pub fn add_one(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                crate::say!("ok {name}");
                self.passed += 1;
            }
            Err(error) => {
                crate::say!("FAILED {name}: {error:#}");
                self.failed += 1;
            }
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Runs `cargo test`, passes its output on, and counts; a run that ends badly without a failed test is a failure.
pub fn run(command: &mut Command) -> Count {
    let mut count = Count::default();
    let ended = follow(command, &mut count);
    if count.failed == 0 && ended.is_err() {
        count.add_one("unit tests", ended);
    }
    count
}

fn follow(command: &mut Command, count: &mut Count) -> Result<()> {
    let shown = shell::show(command);
    crate::say!("+ {shown}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let stdout = child.stdout.take().context("no output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        crate::say!("{line}");
        if let Some(more) = result(&line) {
            count.add(more);
        }
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { bail!("`{shown}` ended with {status}") }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn result(line: &str) -> Option<Count> {
    let numbers = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |word: &str| {
        let part = numbers.split("; ").find_map(|part| part.strip_suffix(word))?;
        part.trim().parse().ok()
    };
    Some(Count { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted_and_others_are_not() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(result(line), Some(Count { passed: 3, failed: 2, skipped: 1 }));
        assert_eq!(result("test a::b ... ok"), None);
        assert_eq!(result("running 5 tests"), None);
    }

    #[test]
    fn the_last_line_names_skipped_ones_only_when_there_are_any() {
        let mut count = Count { passed: 5, failed: 0, skipped: 0 };
        assert_eq!(count.to_string(), "5 passed, 0 failed");
        count.skipped = 2;
        assert_eq!(count.to_string(), "5 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn a_run_that_ends_badly_is_an_error_and_counts_nothing_by_itself() {
        let mut count = Count::default();
        assert!(follow(&mut Command::new("false"), &mut count).is_err());
        assert_eq!(count, Count::default());
    }
}
