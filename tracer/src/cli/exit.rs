//! Exit codes. Scripts rely on them; `docs/exit-codes.md` documents them.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// The work was done. Also when the reader of a pipe went away, and on Ctrl-C.
    Success,
    /// Something failed that no code below names; the message says what.
    Failure,
    /// The command line was wrong: an unknown flag, or a value that is refused by name.
    Usage,
    /// No Nginx is running, and `--no-wait` was given.
    NoNginx,
    /// A privilege is missing; the message names the capability.
    MissingPrivilege,
    /// This kernel can't run any hook: too old, no BTF, eBPF switched off.
    UnsupportedKernel,
    /// The output file could not be opened, or verdicts could not be written to it.
    Output,
    /// An input file could not be read, or not to its end.
    Input,
    /// `rstscope doctor`: 0, 1 or 2 by the worst finding, a table of its own.
    Findings(u8),
}

impl Exit {
    /// Every exit code but those of `rstscope doctor`.
    pub const ALL: [Self; 8] = [
        Self::Success,
        Self::Failure,
        Self::Usage,
        Self::NoNginx,
        Self::MissingPrivilege,
        Self::UnsupportedKernel,
        Self::Output,
        Self::Input,
    ];

    /// The number a shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NoNginx => 3,
            Self::MissingPrivilege => 4,
            Self::UnsupportedKernel => 5,
            Self::Output => 6,
            Self::Input => 7,
            Self::Findings(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented_once() {
        let page = include_str!("../../../docs/exit-codes.md");
        // Commands with a table of their own come behind it.
        let page = page.split("\n## ").next().unwrap();
        for exit in Exit::ALL {
            let row = format!("| {} |", exit.code());
            assert_eq!(page.matches(&row).count(), 1, "{exit:?}");
        }
        assert_eq!(page.lines().filter(|line| line.starts_with("| ")).count(), Exit::ALL.len() + 1);
    }
}
