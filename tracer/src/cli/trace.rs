//! `rstscope trace`: its flags, and what they mean.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::value;

/// Form of the live output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people
    Text,
    /// One verdict per line, as docs/verdict.schema.json says
    Json,
}

/// Flags of `rstscope trace`.
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// Only client connections on these listen ports
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = value::port)]
    pub nginx_port: Vec<u16>,

    /// Only these upstreams: ADDR, ADDR:PORT or [ADDR6]:PORT
    #[arg(long, value_name = "ADDR", value_delimiter = ',', value_parser = value::upstream)]
    pub upstream: Vec<SocketAddr>,

    /// Follow this error.log, instead of those Nginx writes
    #[arg(long, value_name = "PATH")]
    pub error_log: Vec<PathBuf>,

    /// Only the Nginx with this master process
    #[arg(long, value_name = "PID", value_parser = value::pid)]
    pub pid: Option<u32>,

    /// See and use only what happens in this network namespace
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,

    /// End after this time: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = value::span)]
    pub duration: Option<Duration>,

    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Write verdicts as JSON lines to this file, too
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
