//! The session header: what this kernel lets the tool see, what is watched, and what will stay unseen.
//!
//! Made from plain data; looks nothing up itself. The last line starts with `watching`, so that a script
//! can wait for it.

use serde::Serialize;

use super::layout::{count, hang};
use super::sanitize;
use super::text::TextOptions;
use crate::model::{HookState, Level};

/// Columns that the labels take.
const LABEL_WIDTH: usize = 11;
/// Entries of a list that are named; the rest is counted.
const MAX_NAMED: usize = 12;
/// Characters of one entry.
const MAX_ENTRY: usize = 200;

/// How the hooks read kernel memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HookTier {
    /// Raw tracepoints reading through `bpf_probe_read_kernel`.
    RawTracepoint,
    /// Typed tracepoints, where lockdown forbids the above.
    TypedTracepoint,
}

/// One running Nginx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatchedNginx {
    /// Process id of the master.
    pub master: u32,
    /// Process ids of the workers.
    pub workers: Vec<u32>,
    /// The configuration file.
    pub configuration: Option<String>,
    /// Inode number of its network namespace.
    pub netns: u32,
}

/// One error.log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatchedLog {
    /// Path, or `syslog:…`, `stderr` as configured.
    pub path: String,
    /// Configured level; `None` when it could not be found out.
    pub level: Option<Level>,
    /// Why it can't be followed.
    pub problem: Option<String>,
}

/// Everything the header says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionHeader {
    /// Version of the tool.
    pub version: String,
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// Lockdown state: `none`, `integrity`, `confidentiality`, or `not built in`.
    pub lockdown: String,
    /// How the hooks read the kernel.
    pub tier: HookTier,
    /// Hooks, running or not.
    pub hooks: Vec<HookState>,
    /// The Nginx found; empty while waiting for one.
    pub nginx: Vec<WatchedNginx>,
    /// Listen sockets.
    pub listeners: Vec<String>,
    /// Upstream addresses.
    pub upstreams: Vec<String>,
    /// Error logs.
    pub logs: Vec<WatchedLog>,
    /// Filters in force, each as the user would type it, for example `--only upstream`.
    pub filters: Vec<String>,
    /// What else could not be had and what that costs.
    pub notes: Vec<String>,
}

/// The header as text.
pub fn text(header: &SessionHeader, options: &TextOptions) -> String {
    let mut page = Page { out: String::new(), options };
    let (version, host) = (clean(&header.version), clean(&header.host));
    let identity = format!(
        "{version} on {host}, kernel {}, lockdown {}",
        clean(&header.kernel),
        clean(&header.lockdown)
    );
    page.line("rstscope", &identity);
    hooks(&mut page, header);
    for nginx in &header.nginx {
        page.line("nginx", &describe_nginx(nginx));
    }
    page.list(
        "listen",
        &header.listeners,
        "none found: client connections are recognised by their worker only",
    );
    page.list("upstreams", &header.upstreams, "none known yet: recognised when a worker connects");
    logs(&mut page, &header.logs);
    if !header.filters.is_empty() {
        page.line("filters", &named(&header.filters, " "));
    }
    for note in &header.notes {
        page.warning("note", note);
    }
    page.out.push_str(&watching(header));
    page.out.push('\n');
    page.out
}

/// What an `error_log` level keeps out of the file (`ngx_connection_error` in `src/core/ngx_connection.c`:
/// socket errors of clients are logged at `info`, those of upstreams at `error`).
pub fn hidden_by(level: Level) -> Option<&'static str> {
    match level {
        Level::Info | Level::Debug => None,
        Level::Error | Level::Warn | Level::Notice => {
            Some("resets, timeouts and closes by clients are never logged at this level (they are at info)")
        }
        Level::Emerg | Level::Alert | Level::Crit => {
            Some("neither upstream failures (error) nor client resets (info) are logged at this level")
        }
    }
}

struct Page<'a> {
    out: String,
    options: &'a TextOptions,
}

impl Page<'_> {
    /// `text` must be safe to show.
    fn line(&mut self, label: &str, text: &str) {
        let palette = self.options.palette;
        self.styled(label, &palette.bold(label), text);
    }

    fn warning(&mut self, label: &str, text: &str) {
        let text = clean(text);
        self.styled(label, &self.options.palette.warn(label), &text);
    }

    fn styled(&mut self, label: &str, painted: &str, text: &str) {
        let padding = " ".repeat(LABEL_WIDTH.saturating_sub(label.len()));
        hang(&mut self.out, &format!("{painted}{padding}"), LABEL_WIDTH, text, self.options.width);
    }

    fn list(&mut self, label: &str, entries: &[String], when_empty: &str) {
        match named(entries, ", ") {
            text if text.is_empty() => self.line(label, when_empty),
            text => self.line(label, &text),
        }
    }
}

fn hooks(page: &mut Page<'_>, header: &SessionHeader) {
    let running = header.hooks.iter().filter(|hook| hook.running).count();
    let tier = match header.tier {
        HookTier::RawTracepoint => "raw tracepoints",
        HookTier::TypedTracepoint => "typed tracepoints",
    };
    page.line("hooks", &format!("{running} of {} running ({tier})", header.hooks.len()));
    for line in silent_hooks(&header.hooks) {
        page.warning("hook off", &line);
    }
}

/// One sentence per hook that does not run, or not in its best form: which, why, and what that costs; a single one where all of them
/// fail alike. Raw text.
pub fn silent_hooks(hooks: &[HookState]) -> Vec<String> {
    if let [first, others @ ..] = hooks
        && !first.running
        && others.iter().all(|other| !other.running && other.problem == first.problem)
    {
        let problem = first.problem.as_deref().unwrap_or("not attached");
        return vec![format!("all {}: {problem}; lost: everything but what the log says", hooks.len())];
    }
    let sentence = |hook: &HookState| {
        let problem = hook.problem.as_deref().unwrap_or("not attached");
        let form = if hook.running { " (runs in a lesser form)" } else { "" };
        format!("{}{form}: {problem}; lost: {}", hook.name, hook.lost_evidence)
    };
    hooks.iter().filter(|hook| hook.sees_less()).map(sentence).collect()
}

fn describe_nginx(nginx: &WatchedNginx) -> String {
    let workers: Vec<String> = nginx.workers.iter().map(u32::to_string).collect();
    let workers = match workers.as_slice() {
        [] => "no workers".to_owned(),
        [one] => format!("worker {one}"),
        _ => format!("workers {}", named(&workers, " ")),
    };
    let configuration = nginx.configuration.as_deref().map(|path| format!(", configuration {}", clean(path)));
    format!("master {}, {workers}{}", nginx.master, configuration.unwrap_or_default())
}

fn logs(page: &mut Page<'_>, logs: &[WatchedLog]) {
    if logs.is_empty() {
        page.warning(
            "logs",
            "no error_log found: verdicts rest on the kernel alone, without request or upstream name",
        );
    }
    for log in logs {
        let path = clean(&log.path);
        match (&log.problem, log.level) {
            (Some(problem), _) => {
                page.warning("logs", &format!("{path}: {problem}; its lines are not joined"));
            }
            (None, None) => page.line("logs", &format!("{path}, level unknown")),
            (None, Some(level)) => page.line("logs", &format!("{path}, {}", describe_level(level))),
        }
    }
}

fn describe_level(level: Level) -> String {
    let name = format!("level {level:?}").to_lowercase();
    match hidden_by(level) {
        Some(hidden) => format!("{name}: {hidden}"),
        None => name,
    }
}

fn watching(header: &SessionHeader) -> String {
    if header.nginx.is_empty() {
        return "watching for an Nginx to start; end with Ctrl-C".to_owned();
    }
    let workers: usize = header.nginx.iter().map(|nginx| nginx.workers.len()).sum();
    let followed = header.logs.iter().filter(|log| log.problem.is_none()).count();
    let parts = [
        (header.nginx.len(), "Nginx master"),
        (workers, "worker"),
        (header.listeners.len(), "listen socket"),
        (header.upstreams.len(), "upstream"),
        (followed, "log"),
    ];
    let counted = parts.map(|(number, noun)| count(number as u64, noun)).join(", ");
    format!("watching {counted}; end with Ctrl-C")
}

/// The first entries, and how many more there are.
fn named(entries: &[String], separator: &str) -> String {
    let first: Vec<String> = entries.iter().take(MAX_NAMED).map(|entry| clean(entry)).collect();
    let more = match entries.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", first.join(separator))
}

fn clean(text: &str) -> String {
    sanitize::line(text, MAX_ENTRY).into_owned()
}
