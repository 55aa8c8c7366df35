//! `rstscope correlate`: its flags, and what is said on standard error about two captures; two recordings are
//! `two_ends`.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::pcap::{self, JudgedArgs};
use super::recordings::Form;
use super::trace;
use super::two_ends;
use crate::capture::Offset;
use crate::capture::session::{CaptureError, Packets};
use crate::output::layout::count;

/// Flags of `rstscope correlate`.
#[derive(Debug, Clone, Args)]
pub struct CorrelateArgs {
    /// Capture, recording (`rstscope trace --record`) or store (`rstscope daemon`) of the Nginx host
    #[arg(value_name = "NGINX-HOST")]
    pub near: PathBuf,

    /// The same from the other end at the same time: a capture of the upstream's host or the client's, a recording or store
    /// of the upstream's (`--listen-port`, `watch.listen_ports`)
    #[arg(value_name = "OTHER-HOST")]
    pub far: PathBuf,

    /// How they are judged, and what is shown.
    #[command(flatten)]
    pub judged: JudgedArgs,
}

/// Runs `rstscope correlate`.
pub fn run(args: &CorrelateArgs) -> anyhow::Result<Exit> {
    match (Form::of(&args.near), Form::of(&args.far)) {
        (Form::Capture, Form::Capture) => captures(args),
        (Form::Capture, _) | (_, Form::Capture) => Ok(trace::refuse(
            "one of them is a capture and the other a recording; both ends have to be of one kind",
            Exit::Input,
        )),
        _ => two_ends::run(args),
    }
}

fn captures(args: &CorrelateArgs) -> anyhow::Result<Exit> {
    match open(args) {
        Ok(packets) => pcap::run_with(&args.judged, packets, &clocks),
        Err(error) => Ok(trace::refuse(&error, Exit::Input)),
    }
}

fn open(args: &CorrelateArgs) -> Result<Packets, CaptureError> {
    Packets::open(std::slice::from_ref(&args.near), args.judged.connections)?.beside(&args.far)
}

/// What is known of the two clocks.
pub(super) fn clocks(offset: Option<Offset>) -> String {
    let Some(offset) = offset else {
        return "no handshake passed both captures with a router between them, so how far their clocks are apart is not known; they are taken to agree within 2 s".to_owned();
    };
    let milliseconds = |nanoseconds: f64| nanoseconds / 1e6;
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let (apart, doubt) = (milliseconds(offset.nanoseconds as f64), milliseconds(offset.uncertainty as f64));
    format!(
        "the clock of the second capture is {apart:+.3} ms from that of the first, at most {doubt:.3} ms more or less, by {} that passed both",
        count(offset.handshakes as u64, "handshake")
    )
}
