//! What `trace` and `replay` show, and where: the flags they share.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::trace::text_options;
use super::value;
use crate::model::verdict::Party;
use crate::output::{ColorChoice, Fanout, Ndjson, OpenError, Selection, Sink, Text, TextOptions};

/// Form of the live output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people
    Text,
    /// One verdict per line, as docs/verdict.schema.json says
    Json,
}

/// Flags about what is shown.
#[derive(Debug, Clone, Args)]
pub struct ShownArgs {
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Write verdicts as JSON lines to this file, too
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Show only incidents of these parties: client, nginx, upstream, middlebox, unknown
    #[arg(long, value_name = "PARTY", value_delimiter = ',', value_parser = value::party)]
    pub only: Vec<Party>,

    /// Show harmless incidents, too; they are always counted
    #[arg(long)]
    pub include_harmless: bool,

    /// Write the closing summary as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,

    /// Colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}

impl ShownArgs {
    /// Where verdicts go: standard output, and the file if one is given.
    pub fn outputs(&self) -> Result<Fanout, OpenError> {
        let mut outputs = Fanout::default();
        // The file first: it has the verdict even if nobody reads standard output any more.
        if let Some(path) = &self.output {
            outputs.push(Ndjson::new(Sink::create(path)?));
        }
        match self.format {
            Format::Text => outputs.push(Text::new(Sink::stdout(), self.on_stdout())),
            Format::Json => outputs.push(Ndjson::new(Sink::stdout())),
        }
        Ok(outputs)
    }

    /// Which incidents are shown.
    pub fn selection(&self) -> Selection {
        Selection { only: self.only.clone(), include_harmless: self.include_harmless }
    }

    /// The display filters in force, as typed.
    pub fn typed(&self) -> Vec<String> {
        let only: Vec<&str> = self.only.iter().map(|party| party.slug()).collect();
        let only = (!only.is_empty()).then(|| format!("--only {}", only.join(",")));
        let harmless = self.include_harmless.then(|| "--include-harmless".to_owned());
        only.into_iter().chain(harmless).collect()
    }

    /// Where the closing summary goes as JSON.
    pub fn stats(&self) -> Option<&Path> {
        self.stats.as_deref()
    }

    /// How text looks on standard output.
    pub fn on_stdout(&self) -> TextOptions {
        text_options(self.color, &io::stdout())
    }
}
