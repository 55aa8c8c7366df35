//! `rstscope top`: its flags.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::trace::refuse;
use crate::store::DEFAULT_PATH;
use crate::top::{self, Source, TopError};

/// Flags of `rstscope top`.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = "/run/rstscope/live.sock")]
    pub socket: PathBuf,

    /// Show this store instead of the daemon
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    pub store: Option<PathBuf>,

    /// Show this recording instead of the daemon
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
}

/// Runs `rstscope top`.
pub fn run(args: &TopArgs) -> Exit {
    let source = match (&args.store, &args.replay) {
        (Some(store), _) => Source::Store(store.clone()),
        (None, Some(recording)) => Source::Recording(recording.clone()),
        (None, None) => Source::Live { socket: args.socket.clone(), store: PathBuf::from(DEFAULT_PATH) },
    };
    match top::run(&source) {
        Ok(()) => Exit::Success,
        Err(error @ TopError::Source(_)) => refuse(&error, Exit::Input),
        Err(error @ TopError::Terminal(_)) => refuse(&error, Exit::Failure),
    }
}
