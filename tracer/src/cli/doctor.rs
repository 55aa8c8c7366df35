//! `rstscope doctor`: its flags, the form of its report, and its exit code.

use std::io;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::exit::Exit;
use super::trace::{refuse, text_options};
use super::value;
use crate::doctor::{Report, gather, selftest, text};
use crate::output::{ColorChoice, Sink, ndjson};

/// Form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One object, see docs/doctor.md
    Json,
}

/// Flags of `rstscope doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Only the Nginx with this master process
    #[arg(long, value_name = "PID", value_parser = value::pid)]
    pub pid: Option<u32>,

    /// Verdicts of an earlier trace (--output), for idle times that were measured
    #[arg(long, value_name = "FILE")]
    pub verdicts: Option<PathBuf>,

    /// Provoke every event between two namespaces of its own and show that each hook fires (root)
    #[arg(long, conflicts_with_all = ["pid", "verdicts"])]
    pub self_test: bool,

    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}

/// Runs `rstscope doctor`.
pub fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    if args.self_test {
        return self_test(args);
    }
    let settings = gather::Settings { pid: args.pid, verdicts: args.verdicts.clone() };
    let facts = match gather::gather(&settings) {
        Ok(facts) => facts,
        Err(error) => return Ok(refuse(&error, Exit::Input)),
    };
    if args.pid.is_some() && facts.nginx.is_empty() {
        return Ok(refuse("no Nginx has this master process", Exit::NoNginx));
    }
    let report = Report::new(&facts);
    let page = match args.format {
        Format::Text => text::report(&report, &text_options(args.color, &io::stdout())).into_bytes(),
        Format::Json => ndjson::line(&report).context("cannot make the report JSON")?,
    };
    // A reader that went away is an ordinary end.
    let _closed = Sink::stdout().record(&page);
    Ok(Exit::Findings(report.exit_code))
}

fn self_test(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let result = match selftest::run() {
        Ok(result) => result,
        Err(selftest::SelfTestError::Privileges(why)) => return Ok(refuse(why, Exit::MissingPrivilege)),
        Err(error) => return Ok(refuse(&error, Exit::Failure)),
    };
    let page = match args.format {
        Format::Text => selftest::text(&result, &text_options(args.color, &io::stdout())).into_bytes(),
        Format::Json => ndjson::line(&result).context("cannot make the result JSON")?,
    };
    let _closed = Sink::stdout().record(&page);
    Ok(Exit::Findings(result.exit_code()))
}
