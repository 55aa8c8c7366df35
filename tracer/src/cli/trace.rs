//! `rstscope trace`: its flags, what they mean, and what is said on standard error.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use jiff::tz::TimeZone;

use super::afterwards::Afterwards;
use super::exit::Exit;
use super::shown::{Format, ShownArgs};
use super::value;
use crate::nginx::syslog::Address;
use crate::nginx::tail::positions::PositionsError;
use crate::output::{ColorChoice, Palette, TextOptions, header, ndjson, sanitize, summary, terminal};
use crate::recording::Recorded;
use crate::session::run::{Changes, Say};
use crate::session::settings::{Record, Told};
use crate::session::{self, Ended, SessionError, Settings, View};

/// Longest message shown of one error.
const MOST_CHARS: usize = 2000;

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

    /// What is shown.
    #[command(flatten)]
    pub shown: ShownArgs,

    /// End with exit code 3 when no Nginx runs, instead of waiting for one
    #[arg(long)]
    pub no_wait: bool,

    /// Record everything the verdicts rest on, for `rstscope replay`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Longest recording: bytes, or a number with K, M or G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = value::size)]
    pub record_limit: u64,

    /// At the end, write a report to this file; its name tells the form: .html, .md, .json, .txt, .pcapng, .tar.zst
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Watch what listens on this port of a host without Nginx, an upstream's: records for `rstscope correlate`, judges
    /// nothing
    #[arg(
        long,
        value_name = "PORT",
        value_delimiter = ',',
        value_parser = value::port,
        requires = "record",
        conflicts_with_all = ["nginx_port", "upstream", "error_log", "pid", "netns", "syslog", "report"]
    )]
    pub listen_port: Vec<u16>,

    /// Keep the positions in the logs in this file and go on from there, so that no line is missed or read twice
    #[arg(long, value_name = "FILE")]
    pub positions: Option<PathBuf>,

    /// Receive the lines of `error_log syslog:server=…` here: udp:ADDR:PORT or unix:PATH
    #[arg(long, value_name = "ADDR", value_parser = value::syslog)]
    pub syslog: Vec<Address>,

    /// Type information (BTF) to use instead of the running kernel's
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
}

/// Runs `rstscope trace`.
pub fn run(args: &TraceArgs) -> anyhow::Result<Exit> {
    let outputs = match args.shown.outputs() {
        Ok(outputs) => outputs,
        Err(error) => return Ok(refuse(&error, Exit::Output)),
    };
    let afterwards = match args.report.as_deref().map(|path| Afterwards::open(path, args.record.as_deref())) {
        Some(Err(error)) => return Ok(refuse(format!("cannot write the report: {error}"), Exit::Output)),
        afterwards => afterwards.and_then(Result::ok),
    };
    let view = View::new(args.shown.selection(), outputs);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the event loop")?;
    let errors = text_options(args.shown.color, &io::stderr());
    let say = |said: Say<'_>| match said {
        Say::Waiting => {
            notice("no Nginx is running; waiting for one (Ctrl-C ends, --no-wait does not wait)");
        }
        Say::Notice(text) => notice(text),
        Say::Header(page) => complain(&header::text(page, &errors)),
        Say::Attached | Say::Pulse(_) => {}
    };
    let session =
        session::run(settings(args, afterwards.as_ref()), args.shown.typed(), view, Changes::default(), say);
    match runtime.block_on(session) {
        Ok(Ended::NoNginx) => Ok(refuse("no Nginx is running, and --no-wait was given", Exit::NoNginx)),
        Ok(Ended::Done { closing, recorded }) => {
            finish(args, &closing, (recorded.as_ref(), afterwards), &errors)
        }
        Err(error) => Ok(refuse(&error, exit_code(&error))),
    }
}

fn finish(
    args: &TraceArgs,
    closing: &crate::output::Closing,
    (recorded, afterwards): (Option<&Recorded>, Option<Afterwards>),
    errors: &TextOptions,
) -> anyhow::Result<Exit> {
    if args.shown.format == Format::Json {
        complain(&summary::text(closing, errors));
    }
    if let Some(path) = args.shown.stats() {
        write_stats(path, closing)?;
    }
    if let (Some(path), Some(recorded)) = (&args.record, recorded) {
        notice(&recording(path, recorded));
    }
    let failed =
        closing.losses.by_handover.contains_key("output") || recorded.is_some_and(|recorded| recorded.failed);
    let exit = afterwards.map_or(Exit::Success, Afterwards::report);
    Ok(if failed { Exit::Output } else { exit })
}

/// What became of the recording.
pub(super) fn recording(path: &Path, recorded: &Recorded) -> String {
    let Recorded { steps, bytes, left_out, .. } = recorded;
    let whole = format!("recording {}: {steps} steps, {bytes} bytes", path.display());
    match &recorded.stopped {
        None => whole,
        Some(why) => {
            format!("{whole}; it ends before the trace did ({why}), without the last {left_out} steps")
        }
    }
}

/// Writes the closing summary as JSON.
pub(super) fn write_stats(path: &Path, closing: &crate::output::Closing) -> anyhow::Result<()> {
    let line = ndjson::line(&closing.stats()).context("cannot make the summary JSON")?;
    std::fs::write(path, line).with_context(|| format!("cannot write the summary to {}", path.display()))
}

/// How text is shown on a stream.
pub(super) fn text_options<S>(color: ColorChoice, stream: &S) -> TextOptions
where
    S: anstream::stream::RawStream + std::os::fd::AsFd,
{
    TextOptions {
        palette: Palette { colour: color.for_stream(stream) },
        width: terminal::width(stream),
        zone: TimeZone::system(),
    }
}

fn settings(args: &TraceArgs, afterwards: Option<&Afterwards>) -> Settings {
    let record = afterwards.map(Afterwards::recording).or_else(|| args.record.clone());
    Settings {
        nginx_ports: args.nginx_port.clone(),
        upstreams: args.upstream.clone(),
        error_logs: args.error_log.clone(),
        pid: args.pid,
        netns: args.netns.clone(),
        duration: args.duration,
        no_wait: args.no_wait,
        btf: args.btf.clone(),
        disabled_hooks: disabled_hooks(),
        pulse: false,
        unattended: false,
        witnessing: false,
        sizes: std::env::var("RSTSCOPE_SIZES").unwrap_or_default(),
        positions: args.positions.clone(),
        told: Told::default(),
        syslog: args.syslog.clone(),
        listen_ports: args.listen_port.clone(),
        record: record.map(|path| Record { path, limit: args.record_limit, without_end: false }),
    }
}

/// `RSTSCOPE_DISABLE=hook,…` switches hooks off, to see what is left without them; `probe_read_kernel` stands for
/// every form of a hook that needs it.
fn disabled_hooks() -> Vec<String> {
    let list = std::env::var("RSTSCOPE_DISABLE").unwrap_or_default();
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

pub(super) fn exit_code(error: &SessionError) -> Exit {
    match error {
        SessionError::Privileges(_) => Exit::MissingPrivilege,
        SessionError::Kernel(_) | SessionError::Blind { .. } => Exit::UnsupportedKernel,
        SessionError::Namespace { .. } => Exit::Usage,
        SessionError::Recording { .. } | SessionError::Positions(PositionsError::Write { .. }) => {
            Exit::Output
        }
        SessionError::Positions(_) => Exit::Input,
        SessionError::Syslog(_) | SessionError::Tail(_) | SessionError::System { .. } => Exit::Failure,
    }
}

/// Says why nothing more is done.
pub(super) fn refuse(why: impl std::fmt::Display, exit: Exit) -> Exit {
    notice(&why.to_string());
    exit
}

/// One line on standard error.
pub(super) fn notice(text: &str) {
    complain(&format!("rstscope: {}\n", sanitize::line(text, MOST_CHARS)));
}

/// Standard error may be closed; then nobody wanted to know.
fn complain(text: &str) {
    let _closed = io::stderr().write_all(text.as_bytes());
}
