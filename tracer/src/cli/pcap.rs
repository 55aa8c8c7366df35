//! `rstscope pcap`: its flags, and what is said on standard error about the capture.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::tz::TimeZone;

use super::exit::Exit;
use super::shown::ShownArgs;
use super::{trace, value};
use crate::capture::session::{Account, Ending, Lines, Packets, Session, Settings};
use crate::capture::{Named, Offset, Roles};
use crate::model::{Losses, Utc};
use crate::nginx::archive::ArchiveError;
use crate::output::Closing;
use crate::output::layout::count;
use crate::recording::{Header, Writer};
use crate::session::{SessionError, View, record};

/// Flags of `rstscope pcap`.
#[derive(Debug, Clone, Args)]
pub struct PcapArgs {
    /// pcap or pcapng, plain, gzip or zstd; several are merged by time; - is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// How it is judged, and what is shown.
    #[command(flatten)]
    pub judged: JudgedArgs,
}

/// Flags of every command that judges captures.
#[derive(Debug, Clone, Args)]
pub struct JudgedArgs {
    /// error.log of the same time; lines are joined as in a live session
    #[arg(long, value_name = "FILE")]
    pub error_log: Vec<PathBuf>,

    /// Listen address of Nginx: ADDR:PORT, [ADDR6]:PORT, or ADDR for every port; without it, it is worked out
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', value_parser = value::upstream)]
    pub nginx: Vec<SocketAddr>,

    /// Upstream of Nginx: ADDR:PORT, [ADDR6]:PORT, or ADDR for every port
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', value_parser = value::upstream)]
    pub upstream: Vec<SocketAddr>,

    /// Time zone of the Nginx that wrote the log: UTC, Europe/Berlin, +02:00
    #[arg(long, value_name = "ZONE", value_parser = value::zone)]
    pub zone: Option<TimeZone>,

    /// Connections tracked at the same time; beyond, the longest silent one is judged early and counted
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = value::connections)]
    pub connections: usize,

    /// Record everything the verdicts rest on, for `rstscope report` and `rstscope replay`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// What is shown.
    #[command(flatten)]
    pub shown: ShownArgs,
}

impl JudgedArgs {
    /// Flags that were given and mean something for captures only.
    pub fn of_captures(&self) -> Vec<&'static str> {
        let given = [
            ("--error-log", !self.error_log.is_empty()),
            ("--nginx", !self.nginx.is_empty()),
            ("--upstream", !self.upstream.is_empty()),
            ("--zone", self.zone.is_some()),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| flag).collect()
    }
}

/// Runs `rstscope pcap`.
pub fn run(args: &PcapArgs) -> anyhow::Result<Exit> {
    match Packets::open(&args.files, args.judged.connections) {
        Ok(packets) => run_with(&args.judged, packets, &|_| String::new()),
        Err(error) => Ok(trace::refuse(&error, Exit::Input)),
    }
}

/// Judges packets that are open already; `clocks` says what is known of the clock of a second capture.
pub(super) fn run_with(
    args: &JudgedArgs,
    packets: Packets,
    clocks: &dyn Fn(Option<Offset>) -> String,
) -> anyhow::Result<Exit> {
    let lines = match lines(&args.error_log, args.zone.as_ref()) {
        Ok(lines) => lines,
        Err(error) => return Ok(trace::refuse(&error, Exit::Input)),
    };
    let writer = match recording(args.record.as_deref(), &packets) {
        Ok(writer) => writer,
        Err(error) => return Ok(trace::refuse(&error, Exit::Output)),
    };
    let outputs = match args.shown.outputs() {
        Ok(outputs) => outputs,
        Err(error) => return Ok(trace::refuse(&error, Exit::Output)),
    };
    trace::notice(&lacks(lines.is_some()));
    let named = Named { nginx: args.nginx.clone(), upstreams: args.upstream.clone() };
    let settings = Settings { named, lines };
    let view = View::new(args.shown.selection(), outputs);
    judge(args, Session::recorded_by(writer, packets, settings), view, clocks)
}

/// The log, if one is given.
pub(super) fn lines(paths: &[PathBuf], zone: Option<&TimeZone>) -> Result<Option<Lines>, ArchiveError> {
    if paths.is_empty() {
        return Ok(None);
    }
    Lines::read(paths, &zone.cloned().unwrap_or_else(TimeZone::system)).map(Some)
}

fn recording(path: Option<&Path>, packets: &Packets) -> Result<Option<Writer>, SessionError> {
    let Some(path) = path else { return Ok(None) };
    let writer = record::open(path, u64::MAX, &header(packets));
    writer.map(Some).map_err(|source| SessionError::Recording { path: path.to_owned(), source })
}

/// How the recording of a judged capture begins.
pub(super) fn header(packets: &Packets) -> Header {
    let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0);
    Header::of(packets.name(), "", Utc(now))
}

fn judge(
    args: &JudgedArgs,
    mut session: Session,
    mut view: View,
    clocks: &dyn Fn(Option<Offset>) -> String,
) -> anyhow::Result<Exit> {
    let mut told =
        |verdicts: Vec<crate::model::Verdict>| verdicts.iter().all(|verdict| view.verdict(verdict).is_ok());
    while session.step(&mut |roles, _| who(roles), &mut told) {}
    let account = session.account();
    let said = clocks(session.offset());
    if !said.is_empty() {
        trace::notice(&said);
    }
    let closing = closing(&view, &account);
    let lost = view.losses();
    // A reader that went away does not want the summary either.
    let _shown = view.finish(&closing);
    if let Some(path) = args.shown.stats() {
        trace::write_stats(path, &closing)?;
    }
    for remark in std::iter::once(counted(&account)).chain(remarks(&account)) {
        trace::notice(&remark);
    }
    if let (Some(path), Some(recorded)) = (&args.record, session.recorded()) {
        trace::notice(&trace::recording(path, &recorded));
    }
    view.problems().iter().for_each(|problem| trace::notice(problem));
    let damaged = account.files.iter().any(|(_, ending, _)| *ending != Ending::Whole);
    Ok(match (lost.total() > 0, damaged) {
        (true, _) => Exit::Output,
        (false, true) => Exit::Input,
        (false, false) => Exit::Success,
    })
}

/// What a capture cannot say, whatever stands in it.
pub(super) fn lacks(has_log: bool) -> String {
    let log = if has_log {
        ""
    } else {
        ", and no error.log was given (--error-log): no requests and no words of Nginx"
    };
    format!("a capture carries no processes, no errors of sockets and no reasons of the kernel{log}")
}

fn who(roles: &Roles) {
    if roles.guess.is_empty() {
        return;
    }
    let words = roles.guess.join(". ");
    trace::notice(&format!("worked out from the traffic (--nginx and --upstream overrule it): {words}"));
}

fn closing(view: &View, account: &Account) -> Closing {
    let (first, last) = account.span.unwrap_or_default();
    let time = |time: u64| Utc(i64::try_from(time).unwrap_or(i64::MAX)).rfc3339();
    Closing {
        from: time(first),
        to: time(last),
        tally: view.tally().clone(),
        losses: losses(account),
        connections: account.counts.connections,
        ..Closing::default()
    }
}

/// What was there and could not be used.
pub(super) fn losses(account: &Account) -> Losses {
    let dropped: u64 = account.files.iter().map(|(_, _, dropped)| dropped).sum();
    let links: u64 = account.skipped.links.values().sum();
    let lost = [
        ("capturing system", dropped),
        ("connection table", account.counts.evicted),
        ("unknown link layer", links),
        ("broken packets", account.skipped.broken),
        ("log lines beyond the bound", account.lines_beyond),
        ("listening addresses beyond the bound", account.listeners_beyond),
    ];
    let lost = lost.into_iter().filter(|(_, count)| *count > 0);
    Losses { by_handover: lost.map(|(name, count)| (name.to_owned(), count)).collect() }
}

/// How much was read.
pub(super) fn counted(account: &Account) -> String {
    let (counts, skipped) = (&account.counts, &account.skipped);
    format!(
        "{} read, {} of TCP in {}, {} of them older than the capture; {}",
        count(skipped.packets, "packet"),
        counts.segments,
        count(counts.connections, "connection"),
        counts.preexisting,
        count(counts.resets, "reset")
    )
}

/// What a reader has to know of the capture, one sentence each.
pub(super) fn remarks(account: &Account) -> Vec<String> {
    let (counts, skipped) = (&account.counts, &account.skipped);
    let mut remarks = Vec::new();
    for (path, ending, _) in &account.files {
        let what = match ending {
            Ending::Whole => continue,
            Ending::CutOff => "is cut off in the middle of a packet; everything before was read".to_owned(),
            Ending::Damaged(why) => format!("is damaged: {why}; everything before was read"),
        };
        remarks.push(format!("{} {what}", path.display()));
    }
    let unknown = skipped.links.iter();
    remarks.extend(unknown.map(|(link, packets)| {
        format!("{} of the link type {link}, which is not known here", count(*packets, "packet"))
    }));
    let counted = [
        (
            counts.gaps,
            "connection",
            "without packets that must have been sent; verdicts say so where it matters",
        ),
        (counts.evicted, "connection", "judged early because more than --connections were open"),
        (
            counts.lonely_resets,
            "reset",
            "alone: no other packet of the connection is in the capture, or only a scan's, so nothing is said about that",
        ),
        (counts.half_open, "handshake", "answered and never completed by the opening end"),
        (counts.copies, "packet", "captured twice; the first copy was used"),
        (
            counts.seen_twice,
            "packet",
            "of connections captured at several places of the path, which makes moments and distances doubtful; \
             give one place to `pcap`, or two to `correlate`",
        ),
        (skipped.broken, "packet", "not readable: damaged, or cut off before the end of the TCP header"),
        (skipped.fragments, "packet", "without a TCP header: later fragments"),
        (skipped.backwards, "packet", "going back in time against the one before"),
        (account.timeless, "packet", "without a time; that of the packet before was used"),
        (account.unrelated, "sighting", "outside the connections of Nginx"),
        (account.lines_outside, "line", "of the log outside the time of the capture"),
    ];
    let seen = counted.into_iter().filter(|(number, ..)| *number > 0);
    remarks.extend(seen.map(|(number, noun, rest)| format!("{} {rest}", count(number, noun))));
    remarks
}
