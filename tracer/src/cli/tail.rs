//! `rstscope tail`: the daemon's verdicts as they come, over its socket.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::shown::Format;
use super::trace::{notice, refuse, text_options};
use super::value;
use crate::model::Verdict;
use crate::model::verdict::Party;
use crate::output::{ColorChoice, Selection, ndjson, text};

/// Longest line that is read, bytes.
const MAX_LINE: u64 = 1 << 20;

/// Flags of `rstscope tail`.
#[derive(Debug, Clone, Args)]
pub struct TailArgs {
    /// Show only incidents of these parties: client, nginx, upstream, middlebox, unknown
    #[arg(long, value_name = "PARTY", value_delimiter = ',', value_parser = value::party)]
    pub only: Vec<Party>,

    /// Show harmless incidents, too
    #[arg(long)]
    pub include_harmless: bool,

    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = "/run/rstscope/live.sock")]
    pub socket: PathBuf,

    /// Colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}

/// Runs `rstscope tail`.
pub fn run(args: &TailArgs) -> Exit {
    let stream = match UnixStream::connect(&args.socket) {
        Ok(stream) => stream,
        Err(error) => {
            let socket = args.socket.display();
            return refuse(format!("cannot reach the daemon at {socket}: {error}"), Exit::Input);
        }
    };
    let selection = Selection { only: args.only.clone(), include_harmless: args.include_harmless };
    let options = text_options(args.color, &io::stdout());
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::by_ref(&mut reader).take(MAX_LINE).read_until(b'\n', &mut line);
        match read {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        // A verdict of a newer daemon that this version does not know is left out.
        let Ok(verdict) = serde_json::from_slice::<Verdict>(&line) else { continue };
        if !selection.shows(&verdict) {
            continue;
        }
        let shown = match args.format {
            Format::Text => text::incident(&verdict, &options).into_bytes(),
            Format::Json => ndjson::line(&verdict).unwrap_or_default(),
        };
        if io::stdout().write_all(&shown).is_err() {
            return Exit::Success; // Nobody reads any more.
        }
    }
    notice("the daemon has ended the connection: it has stopped, or this reader was too slow");
    Exit::Failure
}
