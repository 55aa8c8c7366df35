//! One running session: probes, log followers and engine wired together, from start to summary.
//!
//! This is the only module that knows all the others. It moves data; what the data means is decided in `engine`.

pub mod addresses;
pub mod closing;
pub mod feed;
pub mod host;
pub mod run;
pub mod settings;
pub mod view;
pub mod watch;

pub use run::{Ended, run};
pub use settings::Settings;
pub use view::View;

use std::path::PathBuf;

use thiserror::Error;

use crate::nginx::tail;
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
    /// No hook can run here.
    #[error("the kernel programs cannot run here: {0}")]
    Kernel(#[from] ProbeError),
    /// Lockdown forbids what the hooks do.
    #[error(
        "this kernel is locked down (confidentiality): it lets no program read its memory (bpf_probe_read_kernel), \
         and the hooks that see resets have no other way; boot with lockdown=integrity or without lockdown to trace"
    )]
    Lockdown,
    /// Every hook that reports resets was refused.
    #[error("the kernel refused every hook that sees resets:\n  {}", .0.join("\n  "))]
    NoHooks(Vec<String>),
    /// `--netns` names something that is not there.
    #[error("cannot read the network namespace {path}: {source}")]
    Namespace {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
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
