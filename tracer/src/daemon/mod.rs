//! The long-running daemon: one session, whose verdicts go to the store, to local readers, to the metrics and to the
//! journal. Wires these together; each of them is bounded, none of them is waited for.
//!
//! ```text
//! session (main thread) ─► outputs ─► store thread ─► once stored: live readers, journal
//!        └── once a second: pulse ─► metrics, service manager
//! ```

mod allocator;
mod alone;
mod changes;
mod coverage;
mod export;
mod http;
mod journal;
mod live;
mod notices;
mod notify;
mod outputs;
mod patterns;
mod reload;
mod serve;
mod status;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use sd_notify::NotifyState;
use thiserror::Error;
use tokio::sync::{broadcast, mpsc};

use crate::config::{Config, ConfigError};
use crate::guard::{self, GuardError};
use crate::metrics::{Notices, Shared};
use crate::outbound::otlp::Verdicts;
use crate::output::{Fanout, Selection};
use crate::recording;
use crate::session::run::{Changes, Say};
use crate::session::{self, Record, SessionError, Settings, Told, View};
use crate::store::{Place, Store, StoreError, Writer};

pub use journal::{Journal, Level};

use coverage::Coverage;
use export::Export;
use notices::Outlets;
use outputs::HandOver;
use patterns::Patterns;
use status::Status;

/// Verdicts that a reader of the socket may be behind.
const LIVE_WAITING: usize = 1024;
/// Verdicts of the time before this start whose lines are known: longer than positions are behind.
const LINES_TOLD: (Duration, u32) = (Duration::from_mins(1), 32_768);
/// Longest time for an upgrade of the store, microseconds.
const UPGRADE_US: u32 = 3_600_000_000;

/// Why the daemon ends.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A thread could not be confined.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// Another daemon uses the folder of the store.
    #[error("another rstscope daemon keeps its state in {}; give this one a folder of its own (store.path)", folder.display())]
    Taken {
        /// The folder.
        folder: PathBuf,
    },
    /// Something of the system.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The reason.
        source: io::Error,
    },
}

/// Runs until it is told to end.
pub fn run(path: &Path, config: &Config) -> Result<(), DaemonError> {
    let system = |what: &str| {
        let what = what.to_owned();
        move |source| DaemonError::System { what, source }
    };
    allocator::set_up();
    let helper = notices::helper(config)?;
    let journal = Journal::start().map_err(system("start the thread that writes the log"))?;
    let claimed = alone::claim(&config.store.path)?;
    let mut store = open_store(&config.store.path, &journal)?;
    let settings = Settings { told: lines_told(&mut store), ..settings(config) };
    let (live, _) = broadcast::channel(LIVE_WAITING);
    let per_minute = Arc::new(AtomicU32::new(0));
    let accounts = Notices::default();
    let outlets = Outlets::start(config, helper, &accounts, &journal);
    let outlets = outlets.map_err(system("start the threads that send notices"))?;
    let otlp = Arc::default();
    let export = Export::prepare(config, &otlp);
    let told = Receivers {
        live: live.clone(),
        per_minute: Arc::clone(&per_minute),
        outlets: outlets.clone(),
        otlp: export.as_ref().and_then(|export| export.verdicts.clone()),
    };
    let writer =
        start_writer(store, config, &journal, told).map_err(system("start the thread that stores"))?;
    let mut shared = Shared::new(writer.account(), accounts, config.metrics.upstreams);
    shared.otlp = otlp;
    let shared = Arc::new(shared);
    journal.count_losses_in(&shared);
    let patterns = Patterns::start(journal.clone(), Arc::clone(&shared), outlets);
    let patterns = patterns.map_err(system("start the thread that looks for patterns"))?;
    serve::start(config, live, &shared, &journal)?;
    let export = export.map(|export| export.start(config, &shared, &journal)).transpose();
    let export = export.map_err(system("start the thread that exports by OTLP"))?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("start the event loop"))?;
    let mut view = Fanout::default();
    let writer = Arc::new(writer);
    view.push(HandOver::new(Arc::clone(&writer), Arc::clone(&shared), patterns.clone()));
    let view = View::new(Selection { include_harmless: true, ..Selection::default() }, view);
    let (sender, changes) = mpsc::channel(1);
    let reload = reload::Reload {
        path: path.to_owned(),
        running: config.clone(),
        writer: Arc::clone(&writer),
        per_minute,
        settings: sender,
        journal: journal.clone(),
    };
    reload.apply_limits(config);
    let coverage = Coverage::new(Arc::clone(&writer), Arc::clone(&shared));
    let mut status = Status::new(Arc::clone(&shared), journal.clone(), patterns, coverage);
    let say = |said: Say<'_>| match said {
        Say::Attached => confine(&journal),
        Say::Waiting => journal.line(Level::Notice, "no Nginx is running; waiting for one"),
        Say::Notice(text) => journal.line(Level::Notice, text),
        Say::Header(page) => status.header(page),
        Say::Pulse(pulse) => status.pulse(*pulse),
    };
    let ended = runtime.block_on(async {
        let reloading = tokio::spawn(reload.run());
        let ended = session::run(settings, Vec::new(), view, Changes(Some(changes)), say).await;
        reloading.abort();
        ended
    });
    drop(runtime);
    status.end();
    drop(status);
    drop(writer); // The last one: stores what is on the way.
    drop(export); // After it: nothing more comes.
    drop(claimed); // The next daemon may have the folder.
    let _told = notify::notify(&[NotifyState::Stopping]);
    journal.line(Level::Notice, "ended");
    journal.finish();
    ended?;
    Ok(())
}

fn open_store(path: &Path, journal: &Journal) -> Result<Place, DaemonError> {
    if Store::is_older(path) {
        journal.line(Level::Notice, "the store is of an earlier version and is brought up to date");
        // A service manager that hears nothing of it would end this in the middle.
        let _told = notify::notify(&[NotifyState::ExtendTimeoutUsec(UPGRADE_US)]);
    }
    Ok(Place::open(path)?)
}

/// Lines of the log that are in verdicts already: after a `kill -9` the last of them are read once more. Without a
/// store that can be read, some are told twice.
fn lines_told(store: &mut Place) -> Told {
    let lines = store.store().and_then(|store| store.latest_lines(LINES_TOLD.0, LINES_TOLD.1));
    Told(Arc::new(lines.unwrap_or_default()))
}

/// Settings of the session that a configuration asks for.
fn settings(config: &Config) -> Settings {
    let watch = &config.watch;
    let upstreams = watch.upstreams.iter().filter_map(|upstream| crate::cli::value::upstream(upstream).ok());
    Settings {
        nginx_ports: watch.nginx_ports.clone(),
        upstreams: upstreams.collect(),
        error_logs: watch.error_logs.clone(),
        netns: watch.netns.clone(),
        syslog: watch.syslog.iter().filter_map(|address| crate::cli::value::syslog(address).ok()).collect(),
        // Beside the store: what was read and what was stored belong together.
        positions: Some(config.store.path.with_file_name("positions.json")),
        listen_ports: watch.listen_ports.clone(),
        record: config.recording.enabled.then(|| Record {
            path: recording::runs::beside(&config.store.path),
            limit: config.recording.size.0,
            without_end: true,
        }),
        pulse: true,
        unattended: true,
        witnessing: true,
        ..Settings::default()
    }
}

/// Who is told of a verdict once it is on disk.
struct Receivers {
    live: live::Publisher,
    per_minute: Arc<AtomicU32>,
    outlets: Outlets,
    otlp: Option<Verdicts>,
}

fn start_writer(store: Place, config: &Config, journal: &Journal, told: Receivers) -> io::Result<Writer> {
    let folder = config.store.path.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    let said = journal.clone();
    let begin = move || said.confined("store", guard::worker(&[&folder], None));
    let mut lines = journal::Incidents::new(journal.clone(), told.per_minute);
    let stored: crate::store::Stored = Box::new(move |verdict, _on_disk| {
        lines.tell(verdict);
        told.outlets.verdict(verdict);
        told.otlp.iter().for_each(|otlp| otlp.hand_over(verdict));
        // Nobody may be listening.
        let _readers = told.live.send(Arc::clone(verdict));
    });
    Writer::start(store, config.store.retention(), stored, begin)
}

/// The probes are attached: from here on this thread only looks, and what it knew of the kernel's types is gone.
fn confine(journal: &Journal) {
    allocator::trim();
    let keeps_bpf = !crate::probe::maps_need_no_capability();
    journal.confined("watching", guard::watcher(keeps_bpf));
}
