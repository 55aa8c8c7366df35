//! `rstscope correlate`: its flags, and what is said on standard error about the two captures.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use jiff::tz::TimeZone;

use super::exit::Exit;
use super::pcap::{self, PcapArgs};
use super::shown::ShownArgs;
use super::{trace, value};
use crate::capture::Offset;
use crate::capture::session::{CaptureError, Packets};

/// Flags of `rstscope correlate`.
#[derive(Debug, Clone, Args)]
pub struct CorrelateArgs {
    /// Capture taken at the Nginx host
    #[arg(value_name = "NGINX-CAPTURE")]
    pub near: PathBuf,

    /// Capture taken at the other end at the same time: at the upstream's host, or at the client's
    #[arg(value_name = "OTHER-CAPTURE")]
    pub far: PathBuf,

    /// error.log of the same time
    #[arg(long, value_name = "FILE")]
    pub error_log: Vec<PathBuf>,

    /// Listen address of Nginx, as in `rstscope pcap`
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', value_parser = value::upstream)]
    pub nginx: Vec<SocketAddr>,

    /// Upstream of Nginx, as in `rstscope pcap`
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', value_parser = value::upstream)]
    pub upstream: Vec<SocketAddr>,

    /// Time zone of the Nginx that wrote the log: UTC, Europe/Berlin, +02:00
    #[arg(long, value_name = "ZONE", value_parser = value::zone)]
    pub zone: Option<TimeZone>,

    /// Connections tracked at the same time
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = value::connections)]
    pub connections: usize,

    /// What is shown.
    #[command(flatten)]
    pub shown: ShownArgs,
}

/// Runs `rstscope correlate`.
pub fn run(args: &CorrelateArgs) -> anyhow::Result<Exit> {
    let packets = match open(args) {
        Ok(packets) => packets,
        Err(error) => return Ok(trace::refuse(&error, Exit::Input)),
    };
    let args = PcapArgs {
        files: vec![args.near.clone()],
        error_log: args.error_log.clone(),
        nginx: args.nginx.clone(),
        upstream: args.upstream.clone(),
        zone: args.zone.clone(),
        connections: args.connections,
        shown: args.shown.clone(),
    };
    pcap::run_with(&args, packets, &clocks)
}

fn open(args: &CorrelateArgs) -> Result<Packets, CaptureError> {
    Packets::open(std::slice::from_ref(&args.near), args.connections)?.beside(&args.far)
}

/// What is known of the two clocks.
fn clocks(offset: Option<Offset>) -> String {
    let Some(offset) = offset else {
        return "no handshake passed both captures with a router between them, so how far their clocks are apart is not known; they are taken to agree within 2 s".to_owned();
    };
    let milliseconds = |nanoseconds: f64| nanoseconds / 1e6;
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let (apart, doubt) = (milliseconds(offset.nanoseconds as f64), milliseconds(offset.uncertainty as f64));
    format!(
        "the clock of the second capture is {apart:+.3} ms from that of the first, at most {doubt:.3} ms more or less, by {} handshake(s) that passed both",
        offset.handshakes
    )
}
