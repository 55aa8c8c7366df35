//! `rstscope explain`: its flags.

use std::io::{self, Read as _};

use anyhow::Context;
use clap::Args;
use jiff::tz::TimeZone;

use super::exit::Exit;
use super::log::options;
use crate::history::explain::explain;
use crate::output::{ColorChoice, Sink};

/// Longest input read from standard input, bytes.
const MAX_INPUT: u64 = 1 << 16;

/// Flags of `rstscope explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// A line of error.log in quotes; - reads it from standard input
    #[arg(value_name = "LINE")]
    pub line: String,

    /// Colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}

/// Runs `rstscope explain`.
pub fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let mut line = args.line.clone().into_bytes();
    if args.line == "-" {
        line.clear();
        io::stdin().take(MAX_INPUT).read_to_end(&mut line).context("cannot read standard input")?;
    }
    let text = explain(line.trim_ascii(), &options(args.color, TimeZone::system()));
    // A reader that went away is an ordinary end.
    let _closed = Sink::stdout().record(text.as_bytes());
    Ok(Exit::Success)
}
