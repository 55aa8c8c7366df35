//! The command line: one file per sub-command. Wires the library together; decides nothing itself.

pub mod afterwards;
pub mod captured;
pub mod compare;
pub mod correlate;
pub mod daemon;
pub mod doctor;
pub mod exit;
pub mod explain;
pub mod generate;
pub mod input;
pub mod log;
pub mod pcap;
pub mod query;
mod recordings;
pub mod replay;
pub mod report;
pub mod reporting;
pub mod run_command;
pub mod shown;
pub mod tail;
pub mod top;
pub mod trace;
mod two_ends;
pub mod value;
pub mod verify;

use clap::{Parser, Subcommand};

/// Says who reset this connection of Nginx, why, and how to prove it.
#[derive(Debug, Parser)]
#[command(name = "rstscope", version = version(), about, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch resets, timeouts and full listen queues of a running Nginx, and name the culprit of each
    Trace(Box<trace::TraceArgs>),
    /// Read error.log files: what they say of failed connections, and what they can't (no root needed)
    Log(Box<log::LogArgs>),
    /// Check kernel, host and configuration for what invites resets, each with the change
    Doctor(doctor::DoctorArgs),
    /// Explain one line of error.log
    Explain(explain::ExplainArgs),
    /// Judge a recording again, on any machine and without root, or explain one of its verdicts
    Replay(Box<replay::ReplayArgs>),
    /// Judge captures (pcap, pcapng) taken at the Nginx host, at a client or at an upstream
    Pcap(Box<pcap::PcapArgs>),
    /// Judge two captures of the same time: one taken at the Nginx host, one at the other end
    Correlate(Box<correlate::CorrelateArgs>),
    /// Make proof material of a recording, a capture, a store or verdicts: HTML, Markdown, JSON, text, packets
    Report(Box<report::ReportArgs>),
    /// Check a bundle of report: its checksums, and its verdicts by replaying its recording
    Verify(verify::VerifyArgs),
    /// Compare the rates of incidents before and after a change
    Compare(Box<compare::CompareArgs>),
    /// Ask the daemon's store for verdicts: by time, party, cause, upstream, client, certainty, text
    Query(Box<query::QueryArgs>),
    /// Show one stored verdict in full
    Show(query::ShowArgs),
    /// Watch unattended: store every verdict, serve metrics and local readers
    Daemon(daemon::DaemonArgs),
    /// Show the daemon's verdicts as they come
    Tail(tail::TailArgs),
    /// Watch rates, upstreams and the latest incidents, and look into one of them
    Top(top::TopArgs),
    /// Check or print the daemon's configuration
    Config(daemon::ConfigArgs),
    /// Start the daemon's command for each notice on standard input
    #[command(hide = true)]
    RunCommand(run_command::RunCommandArgs),
    /// Write manual pages and completions, for packages
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

/// Runs what the command line asks for.
pub fn run(cli: &Cli) -> anyhow::Result<exit::Exit> {
    match &cli.command {
        Command::Trace(args) => trace::run(args),
        Command::Log(args) => log::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Pcap(args) => pcap::run(args),
        Command::Correlate(args) => correlate::run(args),
        Command::Report(args) => report::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Query(args) => query::run(args),
        Command::Show(args) => query::show(args),
        Command::Daemon(args) => daemon::run(args),
        Command::Tail(args) => Ok(tail::run(args)),
        Command::Top(args) => Ok(top::run(args)),
        Command::Config(args) => daemon::config(args),
        Command::RunCommand(args) => run_command::run(args),
        Command::Generate(args) => generate::run(args),
    }
}

/// Version of the tool and of the compiler that made the kernel programs.
fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (kernel programs: ", env!("RSTSCOPE_EBPF_COMPILER"), ")")
}
