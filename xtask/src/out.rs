//! The one place that writes to the terminal.
//!
//! A reader that went away is no error of ours, so a failed write is dropped; nothing else is done here.

use std::fmt::Arguments;
use std::io::{IsTerminal, Write};

/// Writes one line to stdout.
pub fn say(line: Arguments<'_>) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// Writes one line to stderr.
pub fn complain(line: Arguments<'_>) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// Is a person looking, and did they not ask for plain text?
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes one line to stdout: `say!("{} things", count)`.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => { $crate::out::say(format_args!($($part)*)) };
}
