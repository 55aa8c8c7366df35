//! Colours, and when to use them. A colour never stands alone: the word it paints says the same.

use anstyle::{AnsiColor, Style};

use crate::model::verdict::{Certainty, Party, Weight};

/// The value of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    #[default]
    Auto,
    /// Also in a pipe.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    /// Whether to colour what goes to `stream`. A word on the command line beats the environment.
    pub fn for_stream<S: anstream::stream::RawStream>(self, stream: &S) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                stream.is_terminal() && anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never
            }
        }
    }
}

/// Paints words, or leaves them as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    /// Escape sequences are written.
    pub colour: bool,
}

impl Palette {
    /// `text` in `style`.
    pub fn paint(self, style: Style, text: &str) -> String {
        if !self.colour || style == Style::new() {
            return text.to_owned();
        }
        format!("{style}{text}{style:#}")
    }

    /// `text` in bold.
    pub fn bold(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    /// `text` stepping back.
    pub fn dim(self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }

    /// `text` as a warning.
    pub fn warn(self, text: &str) -> String {
        self.paint(AnsiColor::Yellow.on_default(), text)
    }
}

/// The colour of a party.
pub fn party(party: Party) -> Style {
    match party {
        Party::Client => AnsiColor::Cyan.on_default().bold(),
        Party::Nginx => AnsiColor::Magenta.on_default().bold(),
        Party::Upstream => AnsiColor::Yellow.on_default().bold(),
        Party::Middlebox => AnsiColor::Red.on_default().bold(),
        Party::Unknown => Style::new().dimmed(),
    }
}

/// The colour of a certainty.
pub fn certainty(certainty: Certainty) -> Style {
    match certainty {
        Certainty::Proven => AnsiColor::Green.on_default().bold(),
        Certainty::Strong => AnsiColor::Green.on_default(),
        Certainty::Weak => AnsiColor::Yellow.on_default(),
        Certainty::Undetermined => Style::new().dimmed(),
    }
}

/// The colour of a weight.
pub fn weight(weight: Weight) -> Style {
    match weight {
        Weight::Decisive => AnsiColor::Green.on_default(),
        Weight::Supporting => Style::new(),
        Weight::Against => AnsiColor::Red.on_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_no_escape_is_written() {
        for value in Party::ALL {
            assert_eq!(Palette { colour: false }.paint(party(*value), value.slug()), value.slug());
        }
    }

    #[test]
    fn with_colour_the_word_stays() {
        let painted = Palette { colour: true }.paint(party(Party::Upstream), "UPSTREAM");
        assert!(painted.starts_with('\x1b') && painted.contains("UPSTREAM") && painted.ends_with("\x1b[0m"));
    }

    #[test]
    fn a_file_is_never_coloured_by_itself() {
        let file = tempfile::tempfile().unwrap();
        assert!(!ColorChoice::Auto.for_stream(&file));
        assert!(ColorChoice::Always.for_stream(&file));
        assert!(!ColorChoice::Never.for_stream(&file));
    }
}
