//! `rstscope doctor --self-test`: builds a pair of namespaces, provokes every event between them, and shows which hook
//! saw it. This process plays Nginx in the near one. Everything it builds goes with its threads.

mod link;
mod place;
mod stage;
mod steps;

use anstyle::AnsiColor;
use serde::Serialize;
use thiserror::Error;

use crate::output::layout::{count, hang};
use crate::output::sanitize;
use crate::output::text::TextOptions;
use crate::probe::{ProbeError, environment};

/// Name of the form of [`SelfTest`] as JSON.
pub const SCHEMA: &str = "rstscope.self-test/1";

/// Hooks without which no reset is seen.
const RESETS: [&str; 2] = ["tcp_receive_reset", "tcp_send_reset"];
/// Columns of the first texts of a line.
const WORD_WIDTH: usize = 8;
const NAME_WIDTH: usize = 24;
/// Characters shown of one text.
const MAX_TEXT: usize = 300;

/// How a line of the test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was provoked and seen.
    Seen,
    /// It was provoked and not seen.
    Missed,
    /// It could not be provoked.
    NotProvoked,
    /// The hook does not run on this kernel.
    NotRunning,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Seen => "ok",
            Self::Missed => "MISSED",
            Self::NotProvoked => "-",
            Self::NotRunning => "OFF",
        }
    }
}

/// One event that was provoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Provoked {
    /// What was done.
    pub event: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen of it, or why not.
    pub seen: String,
}

/// One hook over the whole test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fired {
    /// Its name.
    pub hook: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How often the kernel ran it during the test, all namespaces together.
    pub runs: Option<u64>,
    /// Why it does not run, or why it was not provoked.
    pub note: Option<String>,
}

/// The whole result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SelfTest {
    /// [`SCHEMA`].
    pub schema: String,
    /// Kernel release.
    pub kernel: String,
    /// Events.
    pub events: Vec<Provoked>,
    /// Hooks.
    pub hooks: Vec<Fired>,
}

impl SelfTest {
    /// 0 when every event was seen and every hook fired, 2 when an event or a hook for resets was missed, else 1.
    pub fn exit_code(&self) -> u8 {
        let is_good = |outcome: Outcome| matches!(outcome, Outcome::Seen | Outcome::NotProvoked);
        let is_grave = |hook: &Fired| !is_good(hook.outcome) && RESETS.contains(&hook.hook.as_str());
        if self.events.iter().any(|event| !is_good(event.outcome)) || self.hooks.iter().any(is_grave) {
            return 2;
        }
        u8::from(self.hooks.iter().any(|hook| !is_good(hook.outcome)))
    }
}

/// Why the test could not be made.
#[derive(Debug, Error)]
pub enum SelfTestError {
    /// A privilege is missing.
    #[error("{0}")]
    Privileges(String),
    /// The kernel side cannot be loaded.
    #[error("no hook can be tried: {0}")]
    Kernel(#[from] ProbeError),
    /// The namespaces could not be built.
    #[error("cannot {what}: {source}")]
    Stage {
        /// What was tried.
        what: &'static str,
        /// The reason.
        source: std::io::Error,
    },
}

/// Makes the test.
pub fn run() -> Result<SelfTest, SelfTestError> {
    let missing = environment::missing_capabilities()
        .map_err(|source| SelfTestError::Stage { what: "read this process' capabilities", source })?;
    if !missing.is_empty() || !rustix::process::geteuid().is_root() {
        let why = "the self-test loads kernel programs and makes network namespaces; run it as root \
                   (sudo rstscope doctor --self-test)";
        return Err(SelfTestError::Privileges(why.to_owned()));
    }
    let mut stage = stage::Stage::build()?;
    let events = steps::play(&mut stage);
    Ok(SelfTest { schema: SCHEMA.to_owned(), kernel: stage.kernel(), events, hooks: stage.fired() })
}

/// The result as text.
pub fn text(result: &SelfTest, options: &TextOptions) -> String {
    let clean = |text: &str| sanitize::line(text, MAX_TEXT).into_owned();
    let mut out = format!("self-test on kernel {}\n\n", clean(&result.kernel));
    for event in &result.events {
        row(&mut out, options, event.outcome, &clean(&event.event), &clean(&event.seen));
    }
    out.push('\n');
    for hook in &result.hooks {
        let runs = hook
            .runs
            .map_or_else(|| "runs are not counted".to_owned(), |runs| format!("ran {}", count(runs, "time")));
        let text = hook.note.as_deref().map_or(runs, str::to_owned);
        row(&mut out, options, hook.outcome, &clean(&hook.hook), &clean(&text));
    }
    let seen = |outcome: &Outcome| *outcome == Outcome::Seen;
    let events = result.events.iter().map(|event| event.outcome).filter(seen).count();
    let hooks = result.hooks.iter().map(|hook| hook.outcome).filter(seen).count();
    let (all_events, all_hooks) = (result.events.len(), result.hooks.len());
    let summary = format!("{events} of {all_events} events seen, {hooks} of {all_hooks} hooks fired");
    for part in ["\n", &summary, "\n"] {
        out.push_str(part);
    }
    out
}

fn row(out: &mut String, options: &TextOptions, outcome: Outcome, name: &str, text: &str) {
    let word = outcome.word();
    let style = match outcome {
        Outcome::Seen => AnsiColor::Green.on_default(),
        Outcome::NotProvoked => anstyle::Style::new().dimmed(),
        Outcome::Missed | Outcome::NotRunning => AnsiColor::Red.on_default().bold(),
    };
    let painted = options.palette.paint(style, word);
    let padding = " ".repeat(WORD_WIDTH.saturating_sub(word.len()));
    let first = format!("{painted}{padding}{name:<NAME_WIDTH$}  ");
    let length = WORD_WIDTH + name.chars().count().max(NAME_WIDTH) + 2;
    hang(out, &first, length, text, options.width);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(event: Outcome, hook: &str, outcome: Outcome) -> SelfTest {
        SelfTest {
            schema: SCHEMA.to_owned(),
            kernel: "6.18".to_owned(),
            events: vec![Provoked { event: "a".to_owned(), outcome: event, seen: "b".to_owned() }],
            hooks: vec![Fired { hook: hook.to_owned(), outcome, runs: Some(1), note: None }],
        }
    }

    #[test]
    fn a_missed_event_or_reset_hook_is_grave() {
        use Outcome::{Missed, NotProvoked, NotRunning, Seen};
        assert_eq!(result(Seen, "mark_victim", NotProvoked).exit_code(), 0);
        assert_eq!(result(Seen, "kfree_skb", NotRunning).exit_code(), 1);
        assert_eq!(result(Seen, "tcp_send_reset", Missed).exit_code(), 2);
        assert_eq!(result(Missed, "kfree_skb", Seen).exit_code(), 2);
    }
}
