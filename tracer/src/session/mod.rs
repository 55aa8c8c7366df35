//! One running session: probes, log followers and engine wired together, from start to summary.
//!
//! This is the only module that knows all the others. It moves data; what the data means is decided in `engine`.

pub mod access;
pub mod addresses;
pub mod closing;
pub mod host;
pub mod inbox;
pub mod kernel;
pub mod lines;
mod losses;
pub mod observe;
pub mod premature;
pub mod processes;
pub mod pulse;
pub mod record;
pub mod run;
pub mod settings;
mod sockets;
pub mod system;
mod ticks;
pub mod upstreams;
pub mod vacated;
pub mod view;
pub mod watch;

pub use pulse::Pulse;
pub use run::{Ended, Say, run};
pub use settings::{Record, Settings, Told};
pub use view::View;

use std::path::PathBuf;

use thiserror::Error;

use crate::nginx::syslog::ListenError;
use crate::nginx::tail::{self, positions::PositionsError};
use crate::probe::ProbeError;

/// Why a session could not begin or go on.
#[derive(Debug, Error)]
pub enum SessionError {
    /// A capability is missing.
    #[error(
        "loading kernel programs needs {}, which this process lacks; run it as root (sudo rstscope …), \
         or read a log without the kernel's help",
        .0.join(", ")
    )]
    Privileges(Vec<&'static str>),
    /// A map of the kernel side cannot be used.
    #[error("the kernel side does not work: {0}")]
    Kernel(#[from] ProbeError),
    /// Nothing can be seen at all.
    #[error("nothing can be watched here: {hooks}; and {logs}")]
    Blind {
        /// Why no hook runs.
        hooks: String,
        /// Why no log is followed.
        logs: String,
    },
    /// `--netns` names something that is not there.
    #[error("cannot read the network namespace {path}: {source}")]
    Namespace {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The recording could not be begun.
    #[error("cannot write the recording {path}: {source}")]
    Recording {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The positions in the logs cannot be kept.
    #[error(transparent)]
    Positions(#[from] PositionsError),
    /// Syslog messages cannot be received.
    #[error(transparent)]
    Syslog(#[from] ListenError),
    /// Log files cannot be followed at all.
    #[error(transparent)]
    Tail(#[from] tail::StartError),
    /// A thread could not be started, or signals not be received.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The reason.
        source: std::io::Error,
    },
}
