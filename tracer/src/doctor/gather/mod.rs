//! Reads the facts: `/proc`, the kernel's log, sockets, the configuration, a trial of the hooks. Changes nothing.
//! What cannot be read is noted with the reason, never guessed.

mod host;
mod kernel;
mod network;
mod nginx;
mod records;
mod verdicts;

use std::path::PathBuf;

use super::facts::{Facts, Unseen};

pub use verdicts::VerdictsError;

/// What is looked at.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Only the Nginx with this master.
    pub pid: Option<u32>,
    /// Verdicts of earlier traces, for measured idle times.
    pub verdicts: Option<PathBuf>,
}

/// Notes of what could not be seen.
#[derive(Debug, Default)]
struct Notes(Vec<Unseen>);

impl Notes {
    fn add(&mut self, what: impl Into<String>, why: impl Into<String>, checks: &[&'static str]) {
        let unseen = Unseen { what: what.into(), why: why.into(), checks: checks.to_vec() };
        if !self.0.contains(&unseen) {
            self.0.push(unseen);
        }
    }
}

/// Gathers everything.
pub fn gather(settings: &Settings) -> Result<Facts, VerdictsError> {
    let mut notes = Notes::default();
    let measured = settings.verdicts.as_deref().map(verdicts::read).transpose()?.unwrap_or_default();
    let kernel = kernel::facts(&mut notes);
    let host = host::facts(&mut notes);
    let nginx = nginx::facts(settings.pid, &measured, &mut notes);
    Ok(Facts { kernel, host, nginx, unseen: notes.0 })
}
