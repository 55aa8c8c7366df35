//! Everything that brings log lines into a session: followed files, syslog listeners, and the positions that are kept
//! over a restart.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, Receiver};

use super::{SessionError, Settings};
use crate::model::Losses;
use crate::nginx::syslog::{Address, Listener};
use crate::nginx::tail::positions::{Positions, PositionsError};
use crate::nginx::tail::{Follower, Start, TailedLine, Target};

/// Lines that may wait between their sources and the loop.
const LINES_WAITING: usize = 4096;
/// Longest time until a line that was used is told and stored: so long its position is held back, so that it comes
/// again after a `kill -9`.
const UNTOLD: Duration = Duration::from_secs(8);
/// What keeps a log from being followed for so long is told. While logs are rotated none is there for a moment.
const LASTING: Duration = Duration::from_secs(5);

/// The sources of log lines.
#[derive(Debug)]
pub struct Lines {
    follower: Follower,
    listeners: Vec<Listener>,
    positions: Option<Positions>,
    /// How long those of lines that were used are held back.
    untold: Duration,
    /// Why the positions could not be written, and whether that was told.
    problem: Option<String>,
    told: bool,
    /// What keeps logs from being followed, since when.
    obstacles: BTreeMap<String, Instant>,
}

impl Lines {
    /// Starts the sources; nothing is followed yet.
    pub fn start(settings: &Settings) -> Result<(Self, Receiver<TailedLine>), SessionError> {
        let (sender, lines) = mpsc::channel(LINES_WAITING);
        let listen = |address: &Address| Listener::start(address, sender.clone());
        let listeners = settings.syslog.iter().map(listen).collect::<Result<_, _>>()?;
        let kept = settings.positions.as_deref().map(|file| keep(file, settings.unattended)).transpose()?;
        let (positions, problem) =
            kept.map_or((None, None), |(positions, problem)| (Some(positions), problem));
        Ok((
            Self {
                follower: Follower::start_on(sender)?,
                listeners,
                positions,
                // Elsewhere it is not known what was told, and all that is held back would be told twice.
                untold: if settings.unattended { UNTOLD } else { Duration::ZERO },
                problem,
                told: false,
                obstacles: BTreeMap::new(),
            },
            lines,
        ))
    }

    /// Follows a file: from its position, if positions are kept, and otherwise from its end.
    pub fn follow(&self, target: Target) {
        match &self.positions {
            Some(positions) => {
                let saved = positions.of(&target.path);
                self.follower.resume(target, saved);
            }
            None => self.follower.add(target, Start::End),
        }
    }

    /// A line was used and need not come again.
    pub fn note(&mut self, line: &TailedLine) {
        if let Some(positions) = &mut self.positions {
            positions.opened(self.follower.opened());
            positions.hold(line, Instant::now());
        }
    }

    /// Writes the positions, if they are kept. A full disk must not end the session.
    pub fn save(&mut self) {
        self.save_until(Instant::now().checked_sub(self.untold));
    }

    /// As [`Self::save`], once everything that was used is told.
    pub fn save_all(&mut self) {
        self.save_until(Some(Instant::now()));
    }

    fn save_until(&mut self, until: Option<Instant>) {
        let Some(positions) = &mut self.positions else { return };
        positions.opened(self.follower.opened());
        if let Some(until) = until {
            positions.release(until);
        }
        match positions.save() {
            Ok(()) => self.told = false,
            Err(error) => self.problem = Some(not_saved(&error)),
        }
    }

    /// What there is to tell about the positions; given once, until they could be saved again.
    pub fn problem_to_tell(&mut self) -> Option<String> {
        if self.told {
            return None;
        }
        let problem = self.problem.take()?;
        self.told = true;
        Some(problem)
    }

    /// What has kept logs from being followed for a while at `now`.
    pub fn lasting_problems(&mut self, now: Instant) -> Vec<String> {
        let problems = self.follower.problems();
        let known = |problem: &String| self.obstacles.get(problem).copied().unwrap_or(now);
        self.obstacles = problems.into_iter().map(|problem| (problem.clone(), known(&problem))).collect();
        let lasting = self.obstacles.iter().filter(|(_, since)| now.duration_since(**since) >= LASTING);
        lasting.map(|(problem, _)| problem.clone()).collect()
    }

    /// Takes what is there and ends the sources.
    pub fn stop(&mut self) {
        self.follower.stop();
        self.listeners.iter_mut().for_each(Listener::stop);
    }

    /// Lines that came to be missing on the way.
    pub fn losses(&self) -> Losses {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let of_files = self.follower.counters();
        let dropped = self.listeners.iter().map(|listener| load(&listener.counters().dropped)).sum();
        let by_kernel = self.listeners.iter().map(Listener::kernel_drops).sum();
        let all: [(&str, u64); 4] = [
            ("log files given up", load(&of_files.abandoned)),
            ("log files gone before they were read", load(&of_files.gaps)),
            ("syslog messages", dropped),
            ("syslog messages in the kernel", by_kernel),
        ];
        let lost = all.into_iter().filter(|(_, lost)| *lost > 0);
        Losses { by_handover: lost.map(|(name, lost)| (name.to_owned(), lost)).collect() }
    }
}

/// Reads the positions and writes them once, so that a place that cannot be written is said before anything else.
/// Where nobody is there to choose another, the session goes on with what it has, and gives what there is to tell.
fn keep(file: &Path, unattended: bool) -> Result<(Positions, Option<String>), PositionsError> {
    let (mut positions, damage) = match Positions::load(file) {
        Err(error @ PositionsError::Damaged { .. }) if unattended => (
            Positions::anew(file),
            Some(format!("{error}: it is replaced, and the logs are read from their end")),
        ),
        loaded => (loaded?, None),
    };
    match positions.save() {
        Err(error) if unattended => Ok((positions, Some(not_saved(&error)))),
        Err(error) => Err(error),
        Ok(()) => Ok((positions, damage)),
    }
}

fn not_saved(error: &PositionsError) -> String {
    format!("{error}; the trace goes on, and the next one reads what came since the last save again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_is_there_to_help_positions_are_done_without() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("positions.json");
        std::fs::write(&file, "cut").unwrap();
        assert!(keep(&file, false).is_err());
        let (mut positions, problem) = keep(&file, true).unwrap();
        assert!(problem.unwrap().contains("is replaced"));
        positions.save().unwrap();
        assert!(keep(&file, false).is_ok(), "it holds positions again");
        let nowhere = folder.path().join("absent/positions.json");
        assert!(keep(&nowhere, false).is_err());
        assert!(keep(&nowhere, true).unwrap().1.unwrap().contains("cannot write"));
    }

    #[test]
    fn a_log_that_is_missing_for_a_moment_is_no_problem_and_one_that_stays_away_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("error.log");
        let (mut lines, _receiver) = Lines::start(&Settings::default()).unwrap();
        lines.follow(Target::local(&path));
        let begin = Instant::now();
        while lines.follower.problems().is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(20), "nothing is said of it");
            std::thread::sleep(Duration::from_millis(5));
        }
        let now = Instant::now();
        assert_eq!(lines.lasting_problems(now), Vec::<String>::new());
        let [problem] = &lines.lasting_problems(now + LASTING)[..] else { panic!("one problem") };
        assert!(problem.contains("error.log does not exist"), "{problem}");
        std::fs::write(&path, "").unwrap();
        while !lines.follower.problems().is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(40), "it is not seen");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(lines.lasting_problems(now + LASTING * 2), Vec::<String>::new());
    }
}
