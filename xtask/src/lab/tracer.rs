//! The tracer under test: started on a bench's Nginx host, its records read while it runs.
//!
//! It is a black box: command line in, records out. It sees only the namespace of the Nginx host, as the
//! tracer of a real host would.

use super::cleanup::{self, Action, Guard};
use super::{nginx, wait};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the tracer prints when it is ready starts like this.
const READY: &str = "watching";
/// From its start until it watches: an emulated machine beside other work takes its time to check the programs.
const START: Duration = Duration::from_mins(1);
/// From the signal to its end.
const END: Duration = Duration::from_secs(15);

/// How the tracer is started.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The program.
    pub binary: PathBuf,
    /// `text` for people, `json` for the lab; records always go to a file as well.
    pub format: &'static str,
    /// Keep colours in a pipe.
    pub colour: bool,
    /// Print harmless incidents too.
    pub include_harmless: bool,
    /// Record what reaches its engine.
    pub record: bool,
    /// Program and arguments that start it somewhere else; empty: it is started here.
    pub launcher: Vec<String>,
    /// Sizes of its tables other than those for this host; empty for these.
    pub sizes: &'static str,
    /// Hooks that it does without; empty: none.
    pub disabled: String,
}

impl Setup {
    /// The tracer as it is when only its records are read.
    pub fn quiet(binary: PathBuf) -> Self {
        Self {
            binary,
            format: "json",
            colour: false,
            include_harmless: false,
            record: false,
            launcher: Vec::new(),
            sizes: "",
            disabled: String::new(),
        }
    }
}

/// The recording, in the folder of a bench.
pub const RECORDING: &str = "session.rec";

/// A running tracer; stopped when dropped.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    guard: Option<Guard>,
    records: PathBuf,
    stats: PathBuf,
    lines: Receiver<String>,
    relays: Vec<JoinHandle<()>>,
    shown: Arc<AtomicUsize>,
    /// From the start of the process to its readiness.
    pub start_up: Duration,
}

impl Tracer {
    /// Starts it with these further arguments and waits for its header. `live` gets every line of its stdout.
    pub fn start(setup: &Setup, arguments: &[String], folder: &Path, live: Option<fn(&str)>) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let (records, stats) = (folder.join("verdicts.ndjson"), folder.join("stats.json"));
        let mut command = match setup.launcher.split_first() {
            None => Command::new(&setup.binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&setup.binary);
                command
            }
        };
        command.arg("trace");
        command.args(["--format", setup.format]).arg("--output").arg(&records).arg("--stats").arg(&stats);
        command.args(["--color", if setup.colour { "always" } else { "never" }]);
        if setup.include_harmless {
            command.arg("--include-harmless");
        }
        if setup.record {
            command.arg("--record").arg(folder.join(RECORDING));
        }
        if !setup.sizes.is_empty() {
            command.env("RSTSCOPE_SIZES", setup.sizes);
        }
        if !setup.disabled.is_empty() {
            command.env("RSTSCOPE_DISABLE", &setup.disabled);
        }
        command.args(arguments);
        let begin = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", setup.binary.display()))?;
        let guard = Some(cleanup::later(Action::Kill(child.id())));
        let (stdout, stderr) =
            child.stdout.take().zip(child.stderr.take()).context("a tracer without pipes")?;
        let (sender, lines) = channel();
        let shown = Arc::new(AtomicUsize::new(0));
        let relays = vec![relay(stdout, None, live, &shown), relay(stderr, Some(sender), live, &shown)];
        let mut tracer =
            Self { child, guard, records, stats, lines, relays, shown, start_up: Duration::ZERO };
        tracer.wait_until_ready()?;
        tracer.start_up = begin.elapsed();
        Ok(tracer)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let mut header = Vec::new();
        let ready = wait::until("the tracer is ready", START, || {
            header.extend(self.lines.try_iter());
            if header.iter().any(|line: &String| plain(line).trim_start().starts_with(READY)) {
                return Some(true);
            }
            matches!(self.child.try_wait(), Ok(Some(_))).then_some(false)
        });
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => bail!("the tracer ended at once: {}", header.join(" | ")),
            Err(error) => Err(error.context(format!("its header so far: {}", header.join(" | ")))),
        }
    }

    /// Every record so far; a line that is no JSON becomes an error.
    pub fn records(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.records).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not a record: {line}")))
            .collect()
    }

    /// Ends it as Ctrl-C does, and waits; gives the statistics it wrote.
    pub fn stop(mut self) -> Result<Value> {
        nginx::signal(self.child.id(), Signal::INT)?;
        let status = wait::until("the tracer ends", END, || self.child.try_wait().ok().flatten())?;
        if let Some(guard) = self.guard.take() {
            guard.forget();
        }
        for relay in self.relays.drain(..) {
            drop(relay.join());
        }
        if !status.success() {
            let lines: Vec<String> = self.lines.try_iter().collect();
            bail!("the tracer ended with {status}: {}", lines.join(" | "));
        }
        let text = std::fs::read_to_string(&self.stats).context("the tracer wrote no statistics")?;
        serde_json::from_str(&text).context("the tracer's statistics are no JSON")
    }

    /// Stops it (SIGSTOP) until the guard goes.
    pub fn freeze(&self) -> Result<nginx::Frozen> {
        nginx::Frozen::new(self.pid())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lines it has printed so far.
    pub fn shown(&self) -> usize {
        self.shown.load(Ordering::Relaxed)
    }

    /// Where its records are.
    pub fn records_file(&self) -> PathBuf {
        self.records.clone()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.guard = None;
        drop(self.child.wait());
    }
}

fn relay(
    stream: impl std::io::Read + Send + 'static,
    sender: Option<Sender<String>>,
    live: Option<fn(&str)>,
    shown: &Arc<AtomicUsize>,
) -> JoinHandle<()> {
    let shown = Arc::clone(shown);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(show) = live {
                show(&line);
            }
            let _count = shown.fetch_add(1, Ordering::Relaxed);
            if let Some(sender) = &sender {
                drop(sender.send(line));
            }
        }
    })
}

/// The line without colour sequences.
fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// Every record of a file that is complete; used after the tracer is gone.
pub fn read_records(file: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a record: {line}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn colour_sequences_are_taken_out() {
        assert_eq!(plain("\u{1b}[1mwatching\u{1b}[0m nginx"), "watching nginx");
        assert_eq!(plain("watching"), "watching");
    }
}
