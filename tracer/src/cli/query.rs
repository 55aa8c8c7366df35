//! `rstscope query` and `rstscope show`: their flags, and the stored verdicts as text, JSON or CSV.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::exit::Exit;
use super::trace::{notice, refuse, text_options};
use super::value;
use crate::model::Verdict;
use crate::model::verdict::{Cause, Certainty, Impact, Party};
use crate::output::{ColorChoice, TextOptions, csv, full, listing, ndjson, sanitize};
use crate::store::{self, Filter, Found, Order, Store, StoreError};

/// Least letters of an id that `show` completes.
const LEAST_OF_ID: usize = 8;
/// Ids that are named when the beginning of one fits several.
const NAMED: u32 = 5;
/// So far verdicts beyond those shown are counted to say how many there are, however large the store is.
const COUNTED: u64 = 10_000;
const SECOND: i64 = 1_000_000_000;

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One line each, for people
    Text,
    /// One verdict per line, as docs/verdict.schema.json says
    Json,
    /// For spreadsheets
    Csv,
}

/// Where the store lies.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// The store; by default the one that the daemon keeps
    #[arg(long, value_name = "FILE", default_value = store::DEFAULT_PATH)]
    pub store: PathBuf,
}

/// Flags of `rstscope query`.
#[derive(Debug, Clone, Args)]
pub struct QueryArgs {
    /// Only from this time on: RFC 3339, "YYYY/MM/DD HH:MM:SS", or 2h for two hours ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Only up to this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// Only these parties: client, nginx, upstream, middlebox, unknown
    #[arg(long, value_name = "PARTY", value_delimiter = ',', value_parser = value::party)]
    pub party: Vec<Party>,

    /// Only these causes
    #[arg(long, value_name = "CAUSE", value_delimiter = ',', value_parser = value::cause)]
    pub cause: Vec<Cause>,

    /// Only these certainties: proven, strong, weak, undetermined
    #[arg(long, value_name = "CERTAINTY", value_delimiter = ',', value_parser = value::certainty)]
    pub certainty: Vec<Certainty>,

    /// Only these impacts: `request_failed`, `response_truncated` and so on
    #[arg(long, value_name = "IMPACT", value_delimiter = ',', value_parser = value::impact)]
    pub impact: Vec<Impact>,

    /// Only this upstream, with or without port
    #[arg(long, value_name = "ADDR")]
    pub upstream: Option<String>,

    /// Only this client address
    #[arg(long, value_name = "ADDR")]
    pub client: Option<String>,

    /// Only verdicts with this text in the sentence, the request or the log line; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub text: Vec<String>,

    /// Harmless incidents, too
    #[arg(long)]
    pub include_harmless: bool,

    /// At most so many, the latest; 0 for all
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub limit: u64,

    /// Only say how many there are
    #[arg(long)]
    pub count: bool,

    /// Form of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Where the store lies.
    #[command(flatten)]
    pub place: StoreArgs,

    /// Colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}

/// Flags of `rstscope show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// The id of the verdict, or as much of its beginning as is unique
    #[arg(value_name = "ID")]
    pub id: String,

    /// JSON instead of text
    #[arg(long)]
    pub json: bool,

    /// Where the store lies.
    #[command(flatten)]
    pub place: StoreArgs,

    /// Colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}

/// Runs `rstscope query`.
pub fn run(args: &QueryArgs) -> anyhow::Result<Exit> {
    let filter = match filter(args, &TimeZone::system()) {
        Ok(filter) => filter,
        Err(why) => return Ok(refuse(why, Exit::Usage)),
    };
    let store = match open(&args.place.store) {
        Ok(store) => store,
        Err(why) => return Ok(refuse(why, Exit::Input)),
    };
    let answered = if args.count { count(&store, &filter) } else { list(args, &store, &filter) };
    match answered {
        Ok(()) => Ok(Exit::Success),
        Err(error) if broken_pipe(&error) => Ok(Exit::Success), // Nobody reads any more.
        Err(error) => Err(error),
    }
}

/// Runs `rstscope show`.
pub fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let store = match open(&args.place.store) {
        Ok(store) => store,
        Err(why) => return Ok(refuse(why, Exit::Input)),
    };
    let json = match find(&store, &args.id.to_ascii_uppercase())? {
        Ok(json) => json,
        Err(why) => return Ok(refuse(why, Exit::Failure)),
    };
    let shown = match serde_json::from_str::<Verdict>(&json) {
        Ok(verdict) if !args.json => {
            full::text(&verdict, &text_options(args.color, &io::stdout())).into_bytes()
        }
        // A verdict of a newer version is shown as it stands.
        _ => format!("{json}\n").into_bytes(),
    };
    match io::stdout().write_all(&shown) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write"),
        _ => Ok(Exit::Success),
    }
}

/// Opens a store for reading; says what to do where there is none.
pub(super) fn open(path: &Path) -> Result<Store, String> {
    if !path.exists() {
        let path = path.display();
        return Err(format!(
            "there is no store at {path}; `rstscope daemon` keeps one, --store names another"
        ));
    }
    Store::open(path).map_err(|error: StoreError| error.to_string())
}

fn filter(args: &QueryArgs, zone: &TimeZone) -> Result<Filter, String> {
    let now = jiff::Timestamp::now().as_second();
    let bound = |name: &str, text: &Option<String>| match text {
        Some(text) => value::moment(text, zone, now).map(Some).map_err(|why| format!("{name}: {why}")),
        None => Ok(None),
    };
    let nanoseconds = |second: i64| second.saturating_mul(SECOND);
    Ok(Filter {
        from: bound("--since", &args.since)?.map(nanoseconds),
        // The whole second that is named.
        to: bound("--until", &args.until)?.map(|second| nanoseconds(second).saturating_add(SECOND - 1)),
        parties: args.party.clone(),
        causes: args.cause.clone(),
        certainties: args.certainty.clone(),
        impacts: args.impact.clone(),
        without_harmless: !args.include_harmless && args.impact.is_empty(),
        with_dossiers: false,
        upstream: args.upstream.clone(),
        client: args.client.clone(),
        text: args.text.clone(),
        limit: (args.limit > 0 && !args.count).then_some(args.limit),
    })
}

fn count(store: &Store, filter: &Filter) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{}", store.count(filter)?).context("cannot write")
}

fn list(args: &QueryArgs, store: &Store, filter: &Filter) -> anyhow::Result<()> {
    let options = text_options(args.color, &io::stdout());
    let mut out = BufWriter::new(io::stdout().lock());
    if args.format == Format::Csv {
        out.write_all(csv::HEAD.as_bytes())?;
    }
    let mut written = Ok(());
    let mut shown = 0;
    store.query(filter, Order::Oldest, |found| {
        shown += 1;
        written = out.write_all(&answer(&found, args.format, &options));
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    written.and_then(|()| out.flush()).context("cannot write")?;
    tell_rest(args, store, filter, shown)
}

/// Says that there are more than those that were shown.
fn tell_rest(args: &QueryArgs, store: &Store, filter: &Filter, shown: u64) -> anyhow::Result<()> {
    if filter.limit == Some(shown) {
        let most = shown.max(COUNTED);
        let all = store.count_up_to(&Filter { limit: None, ..filter.clone() }, most)?;
        if all > most {
            notice(&format!(
                "the latest {shown} of more than {most}; --limit 0 shows all, --count counts them"
            ));
        } else if all > shown {
            notice(&format!("the latest {shown} of {all}; --limit 0 shows all"));
        }
    } else if shown == 0 && args.format == Format::Text {
        notice("nothing is stored that fits");
    }
    Ok(())
}

fn answer(found: &Found, format: Format, options: &TextOptions) -> Vec<u8> {
    let Ok(verdict) = serde_json::from_str::<Verdict>(&found.json) else {
        // Of a newer version, or of a file that somebody else wrote into.
        let text = match format {
            Format::Json => serde_json::from_str::<serde_json::Value>(&found.json)
                .ok()
                .and_then(|value| ndjson::line(&value).ok())
                .unwrap_or_default(),
            Format::Text | Format::Csv => format!("{}\n", sanitize::line(&found.json, 200)).into_bytes(),
        };
        return text;
    };
    match format {
        Format::Text => listing::line(&verdict, options).into_bytes(),
        Format::Csv => csv::line(&verdict).into_bytes(),
        Format::Json => ndjson::line(&verdict).unwrap_or_default(),
    }
}

/// The verdict with this id, or with the only id that begins like this; otherwise why there is none.
fn find(store: &Store, id: &str) -> Result<Result<String, String>, StoreError> {
    if let Some(json) = store.by_id(id)? {
        return Ok(Ok(json));
    }
    let none = || format!("no stored verdict has the id {}", sanitize::line(id, 40));
    if id.len() < LEAST_OF_ID {
        return Ok(Err(none()));
    }
    match store.ids_like(id, NAMED)?.as_slice() {
        [] => Ok(Err(none())),
        [only] => Ok(store.by_id(only)?.ok_or_else(none)),
        several => Ok(Err(format!("several ids begin like this: {}", several.join(", ")))),
    }
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    let source = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::BrokenPipe)
}
