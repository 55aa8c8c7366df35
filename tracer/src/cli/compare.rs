//! `rstscope compare`: two windows of one file or two, before and after a change.

use std::path::{Path, PathBuf};

use clap::Args;

use super::captured::CaptureArgs;
use super::exit::Exit;
use super::input::Input;
use super::reporting::{Format, by_name, made, moment, rendered, write};
use super::trace;
use crate::report::{Collected, Material, Selection, Side, Wanted, comparison};

/// Flags of `rstscope compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// A recording, a capture, verdicts or a store with both windows, or with the window before
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The same with the window after
    #[arg(value_name = "AFTER")]
    pub other: Option<PathBuf>,

    /// The window before: FROM..TO, each RFC 3339, "YYYY/MM/DD HH:MM:SS" (UTC), a span before now (2h), or nothing
    #[arg(long, value_name = "FROM..TO", required_unless_present = "other")]
    pub before: Option<String>,

    /// The window after
    #[arg(long, value_name = "FROM..TO", required_unless_present = "other")]
    pub after: Option<String>,

    /// Connections that Nginx had in the window before, for example from Nginx's status page
    #[arg(long, value_name = "NUMBER", requires = "connections_after")]
    pub connections_before: Option<u64>,

    /// Connections that Nginx had in the window after
    #[arg(long, value_name = "NUMBER", requires = "connections_before")]
    pub connections_after: Option<u64>,

    /// Form; without it the name of --output tells, else it is text
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// Write to this file, readable by its owner only; - is standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs `rstscope compare`.
pub fn run(args: &CompareArgs) -> anyhow::Result<Exit> {
    let format = args.format.or_else(|| by_name(args.output.as_deref()?)).unwrap_or(Format::Text);
    if format == Format::Pcapng {
        return Ok(trace::refuse("a comparison has no packets", Exit::Usage));
    }
    let after_file = args.other.as_deref().unwrap_or(&args.file);
    let sides = [
        ("--before", args.file.as_path(), &args.before, args.connections_before),
        ("--after", after_file, &args.after, args.connections_after),
    ];
    let mut read = Vec::new();
    for (flag, file, window, connections) in sides {
        let selection = match selection(window.as_deref()) {
            Ok(selection) => selection,
            Err(why) => return Ok(trace::refuse(format!("{flag}: {why}"), Exit::Usage)),
        };
        match side(file, selection, connections) {
            Ok(side) => read.push(side),
            Err(why) => return Ok(trace::refuse(why, Exit::Input)),
        }
    }
    let [before, after] = read.as_slice() else { return Ok(Exit::Failure) };
    let bytes = rendered(&comparison::document(before, after), &[], format)?;
    Ok(write(args.output.as_deref(), &bytes))
}

/// `FROM..TO`; an end that is left out is open.
fn selection(window: Option<&str>) -> Result<Selection, String> {
    let Some(window) = window else { return Ok(Selection::default()) };
    let (from, to) = window.split_once("..").ok_or("a window is FROM..TO")?;
    let bound = |text: &str| if text.is_empty() { Ok(None) } else { moment(text).map(Some) };
    let (since, until) = (bound(from)?, bound(to)?);
    if since.is_some() && until.is_some() && since >= until {
        return Err("the window ends before it begins".to_owned());
    }
    Ok(Selection { since, until, ..Selection::default() })
}

fn side(file: &Path, selection: Selection, connections: Option<u64>) -> Result<Side, String> {
    let input = Input { path: file, title: None, capture: &CaptureArgs::default(), upstreams: &[] };
    let collected = input
        .collect(&selection, Wanted::default())
        .map_err(|error| format!("{}: {error}", file.display()))?;
    let Collected { origin, window, .. } = collected;
    let whole = selection.since.is_none() && selection.until.is_none();
    let connections = connections.or(origin.connections.filter(|_| whole || origin.is_cut));
    let material = Material { selection, origin, window, made: made(), redaction: Vec::new(), top: 0 };
    Ok(Side { material, connections })
}
