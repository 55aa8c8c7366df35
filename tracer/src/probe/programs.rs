//! What the kernel keeps of each program that runs: its cost, and runs that it skipped. Asking is dear beside
//! everything else that an idle session does, so it is done when something happened, and now and then.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use aya::programs::Program;

use crate::model::Mono;

/// How old an answer may be while the programs made no record.
const OLDEST: Duration = Duration::from_secs(10);

/// What one kernel program cost so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its name.
    pub name: String,
    /// Times it ran.
    pub runs: u64,
    /// CPU time it took.
    pub time: Duration,
}

/// The last answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// When, and how many records there were then.
    asked: Option<(Mono, u64)>,
    /// Empty unless the kernel counts it (`sysctl kernel.bpf_stats_enabled=1`).
    pub costs: Vec<ProgramCost>,
    /// Runs skipped because the program was already running on that processor, by hook (Linux 5.12).
    pub skipped: BTreeMap<&'static str, u64>,
}

impl Answers {
    /// Whether it is time to ask again.
    pub fn are_old(&self, now: Mono, records: u64) -> bool {
        self.asked.is_none_or(|(asked, then)| then != records || now.since(asked) >= OLDEST)
    }

    /// Asks.
    pub fn ask<'a>(
        &mut self,
        (now, records): (Mono, u64),
        running: impl Iterator<Item = (&'static str, &'a Program)>,
    ) {
        *self = Self { asked: Some((now, records)), ..Self::default() };
        for (hook, program) in running {
            self.costs.extend(cost(hook, program));
            self.skipped.insert(hook, skipped(program));
        }
    }
}

fn cost(hook: &str, program: &Program) -> Option<ProgramCost> {
    let info = program.info().ok()?;
    let (runs, time) = (info.run_count(), info.run_time());
    (runs > 0).then(|| ProgramCost { name: hook.to_owned(), runs, time })
}

/// It is told only in the text of the program's descriptor.
fn skipped(program: &Program) -> u64 {
    let Ok(fd) = program.fd() else { return 0 };
    // One read is enough: the text is much shorter.
    let mut text = [0; 2048];
    let file = File::open(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()));
    let length = file.and_then(|mut file| file.read(&mut text)).unwrap_or(0);
    told(&String::from_utf8_lossy(&text[..length])).unwrap_or(0)
}

fn told(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_runs_are_read_where_the_kernel_tells_them() {
        assert_eq!(told("prog_id:\t4\nrun_cnt:\t0\nrecursion_misses:\t17\n"), Some(17));
        assert_eq!(told("prog_id:\t4\n"), None);
    }

    #[test]
    fn answers_are_old_when_records_came_or_time_went_by() {
        let mut answers = Answers::default();
        assert!(answers.are_old(Mono(0), 0), "nothing was asked yet");
        answers.ask((Mono(0), 5), std::iter::empty());
        let before = Mono(0).after(OLDEST).before(Duration::from_nanos(1));
        assert!(!answers.are_old(before, 5));
        assert!(answers.are_old(before, 6), "a record came");
        assert!(answers.are_old(Mono(0).after(OLDEST), 5));
    }
}
