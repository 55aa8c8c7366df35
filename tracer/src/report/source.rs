//! Where the verdicts of a report come from. A [`Source`] hands them out one by one, so that a report over millions
//! of them needs no room for all; a store becomes a source by implementing the trait.

use std::borrow::Cow;
use std::io::{self, BufRead};
use std::ops::ControlFlow;
use std::path::Path;

use crate::engine::{Dossier, Engine, Limits};
use crate::model::facts::CONNECTIONS_SEEN;
use crate::model::{Clock, HostFacts, Losses, Utc, Verdict};
use crate::output::layout::count;
use crate::recording::{End, OpenError, Reader, play_with};
use crate::store::{self, Coverage, Filter, Order, Store, StoreError};

/// Longest line of a file of verdicts, bytes.
const MAX_LINE: usize = 1 << 20;

/// A verdict and what stands behind it, where the source has that.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The verdict.
    pub verdict: Verdict,
    /// Everything that belonged to the incident.
    pub behind: Behind,
}

impl Entry {
    /// A verdict of which nothing else is known.
    pub fn bare(verdict: Verdict) -> Self {
        Self { verdict, behind: Behind::Nothing }
    }

    /// Everything that belonged to the incident, where the source has that.
    pub fn dossier(&self) -> Option<Cow<'_, Dossier>> {
        match &self.behind {
            Behind::Nothing => None,
            Behind::Open(dossier) => Some(Cow::Borrowed(dossier)),
            Behind::Packed(bytes) => store::unpack(bytes).map(Cow::Owned),
        }
    }
}

/// What stands behind a verdict. Of a million verdicts few are looked at so closely that it has to be unpacked.
#[derive(Debug, Clone, PartialEq)]
pub enum Behind {
    /// It is not known.
    Nothing,
    /// It is at hand.
    Open(Box<Dossier>),
    /// As a store keeps it.
    Packed(Vec<u8>),
}

/// What is known of the session that gave the verdicts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    /// Names of the files, and what each is.
    pub inputs: Vec<(String, Cow<'static, str>)>,
    /// Version of the tool that observed.
    pub version: Option<String>,
    /// When observation began and ended, earliest first, with a gap where nobody observed; empty where that is not
    /// known.
    pub observed: Vec<(Utc, Utc)>,
    /// Facts about the host as it was at first.
    pub first_host: Option<Box<HostFacts>>,
    /// Facts about the host as it was at last.
    pub last_host: Option<Box<HostFacts>>,
    /// Losses of the session; `None` where the source does not tell.
    pub losses: Option<Losses>,
    /// How far apart the clocks were at last.
    pub clock: Option<Clock>,
    /// What a reader has to know of the source because it limits what can be said, in sentences.
    pub notes: Vec<String>,
    /// What else is known of the source, in sentences.
    pub remarks: Vec<String>,
    /// How often Nginx was found changed while it was observed: started, reloaded, stopped; `None` where the source does
    /// not tell.
    pub changes: Option<u64>,
    /// Connections that Nginx had in the time, where that is known.
    pub connections: Option<u64>,
    /// Losses, changes and connections are those of the selected time, not of the whole source.
    pub is_cut: bool,
}

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
    /// A recording that cannot be opened.
    #[error("cannot replay: {0}")]
    Recording(#[from] OpenError),
    /// The store does not answer.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Neither a store, nor a recording, nor verdicts.
    #[error(
        "neither a store, nor a recording (`rstscope trace --record`) nor verdicts as JSON lines \
         (`rstscope trace --format json`): {0}"
    )]
    Unknown(String),
}

/// Takes verdicts one by one.
pub type Take<'a> = dyn FnMut(Entry) + 'a;

/// Hands out verdicts.
pub trait Source {
    /// Hands every verdict to `take`, in the order in which they were given, and adds to `origin` what is known of
    /// the session.
    fn each(&mut self, origin: &mut Origin, take: &mut Take<'_>) -> Result<(), SourceError>;
}

/// A file: a recording, or verdicts as JSON lines. Its first line tells.
#[derive(Debug)]
pub struct FileSource<R> {
    name: String,
    input: R,
}

impl<R: BufRead> FileSource<R> {
    /// The file with this name.
    pub fn new(name: String, input: R) -> Self {
        Self { name, input }
    }
}

impl<R: BufRead> Source for FileSource<R> {
    fn each(&mut self, origin: &mut Origin, take: &mut Take<'_>) -> Result<(), SourceError> {
        // A recording begins with a checksum, JSON with a brace.
        if self.input.fill_buf()?.first().is_none_or(|first| *first == b'{') {
            origin.inputs.push((self.name.clone(), "verdicts as JSON lines".into()));
            return verdicts(&mut self.input, origin, take);
        }
        origin.inputs.push((self.name.clone(), "recording".into()));
        recording(&mut self.input, origin, take)
    }
}

/// The store of a daemon, from one moment to another.
#[derive(Debug)]
pub struct StoreSource {
    name: String,
    store: Store,
    since: Option<Utc>,
    until: Option<Utc>,
}

impl StoreSource {
    /// Opens a store for reading; an end that is left out is open.
    pub fn open(path: &Path, since: Option<Utc>, until: Option<Utc>) -> Result<Self, SourceError> {
        Ok(Self { name: path.display().to_string(), store: Store::open(path)?, since, until })
    }

    /// What the store knows of the time itself.
    fn tell(&self, origin: &mut Origin) -> Result<(), SourceError> {
        let Coverage { spans, connections, changes, losses, mut runs } =
            self.store.coverage(self.since, self.until)?;
        if spans.is_empty() {
            return Ok(());
        }
        let restarts = runs.len().saturating_sub(1) as u64;
        if restarts > 0 {
            origin
                .notes
                .push(format!("rstscope itself was restarted {} in this time.", count(restarts, "time")));
        }
        let mut versions: Vec<&str> = runs.iter().map(|run| run.version.as_str()).collect();
        versions.dedup();
        if versions.len() > 1 {
            origin.notes.push(format!("Observed by versions {}, one after the other.", versions.join(", ")));
        }
        let last = runs.pop();
        origin.version = last.as_ref().map(|run| run.version.clone());
        origin.last_host = last.and_then(|run| run.host).map(|mut host| {
            // They are those of the moment the daemon looked, not of the selected time.
            host.system.counters.clear();
            host
        });
        (origin.observed, origin.losses) = (spans, Some(losses));
        (origin.connections, origin.changes, origin.is_cut) = (Some(connections), Some(changes), true);
        Ok(())
    }
}

impl Source for StoreSource {
    fn each(&mut self, origin: &mut Origin, take: &mut Take<'_>) -> Result<(), SourceError> {
        origin.inputs.push((self.name.clone(), "store".into()));
        let mut bad = 0_u64;
        let filter = Filter {
            from: self.since.map(|since| since.0),
            // The end of a filter belongs to it, that of a selection does not.
            to: self.until.map(|until| until.0.saturating_sub(1)),
            with_dossiers: true,
            ..Filter::default()
        };
        self.store.query(&filter, Order::Oldest, |found| {
            let behind = found.dossier.map_or(Behind::Nothing, Behind::Packed);
            match serde_json::from_str(&found.json) {
                Ok(verdict) => take(Entry { verdict, behind }),
                Err(_) => bad += 1,
            }
            ControlFlow::Continue(())
        })?;
        if bad > 0 {
            origin.notes.push(format!("{bad} records of the store are no verdicts of this version."));
        }
        self.tell(origin)
    }
}

fn recording(input: impl BufRead, origin: &mut Origin, take: &mut Take<'_>) -> Result<(), SourceError> {
    let mut reader = match Reader::open(input) {
        Err(OpenError::NotARecording) => {
            return Err(SourceError::Unknown("the first line is neither".into()));
        }
        other => other?,
    };
    let header = reader.header().clone();
    let mut engine = Engine::witnessing(Limits::default());
    let played = play_with(&mut reader, &mut engine, |engine, verdicts| {
        let dossiers = engine.take_dossiers();
        for (verdict, dossier) in verdicts.into_iter().zip(dossiers) {
            take(Entry { verdict, behind: Behind::Open(Box::new(dossier)) });
        }
        Ok(())
    })?;
    if header.version != env!("CARGO_PKG_VERSION") {
        let ours = env!("CARGO_PKG_VERSION");
        origin.notes.push(format!("Recorded by version {}, judged anew by version {ours}.", header.version));
    }
    origin.notes.extend(ending(&played.end));
    origin.version = Some(header.version);
    let from_capture = played.last_host.as_ref().is_some_and(|host| host.capture.is_some());
    // Behind a capture a replay waits until everything has settled; nothing was observed then.
    let to = if from_capture { played.latest } else { played.to };
    origin.observed = vec![(played.clock.utc(played.from), played.clock.utc(to))];
    origin.first_host = played.first_host.or(origin.first_host.take());
    origin.last_host = played.last_host.or(origin.last_host.take());
    let counters = origin.last_host.as_ref().map(|host| &host.system.counters);
    origin.connections = counters.and_then(|counters| counters.get(CONNECTIONS_SEEN).copied());
    origin.changes = (!from_capture).then_some(played.changes);
    origin.losses = Some(played.losses);
    origin.clock = Some(played.clock);
    Ok(())
}

/// What is to be said of a recording that does not end with its session.
fn ending(end: &End) -> Option<String> {
    let pending = "what was pending there is judged as it stood";
    match end {
        End::Finished => None,
        End::Stopped(why) => Some(format!("The recording ends before its session did ({why}); {pending}.")),
        End::Open => Some(format!(
            "The recording has no end: its tracer was killed, or the file was cut between two lines; {pending}."
        )),
        End::Damaged(damage) => Some(format!(
            "The recording is damaged in {damage}; what stands before it was judged, {pending}."
        )),
    }
}

fn verdicts(input: &mut impl BufRead, origin: &mut Origin, take: &mut Take<'_>) -> Result<(), SourceError> {
    let (mut line, mut number, mut good) = (Vec::new(), 0_u64, 0_u64);
    let mut bad: Option<(u64, u64, String)> = None;
    while read_line(input, &mut line)? {
        number += 1;
        match parse(&line) {
            Ok(Some(verdict)) => {
                good += 1;
                take(Entry::bare(verdict));
            }
            Ok(None) => {}
            Err(why) => bad.get_or_insert((0, number, why)).0 += 1,
        }
    }
    match bad {
        Some((_, first, why)) if good == 0 => Err(SourceError::Unknown(format!("line {first}: {why}"))),
        Some((count, first, why)) => {
            origin.notes.push(format!(
                "{count} of {number} lines are no verdicts, the first is line {first}: {why}."
            ));
            Ok(())
        }
        None => Ok(()),
    }
}

fn parse(line: &[u8]) -> Result<Option<Verdict>, String> {
    if line.len() >= MAX_LINE {
        return Err(format!("it is longer than {MAX_LINE} bytes"));
    }
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    serde_json::from_slice(line).map(Some).map_err(|error| error.to_string())
}

/// Reads a line without its end; what is longer than the limit is skipped over. False at the end of the file.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = memchr::memchr(b'\n', buffer);
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        line.extend_from_slice(&piece[..piece.len().min(MAX_LINE.saturating_sub(line.len()))]);
        let used = end.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ndjson;
    use crate::output::samples;

    fn read(bytes: &[u8]) -> Result<(Vec<Entry>, Origin), SourceError> {
        let (mut entries, mut origin) = (Vec::new(), Origin::default());
        FileSource::new("a".to_owned(), bytes).each(&mut origin, &mut |entry| entries.push(entry))?;
        Ok((entries, origin))
    }

    #[test]
    fn verdicts_are_read_and_what_is_none_is_told() {
        let mut bytes = ndjson::line(&samples::refused()).unwrap();
        bytes.extend(b"{\"schema\":\"other\"}\n\n");
        bytes.extend(vec![b'{'; MAX_LINE + 10]);
        let (entries, origin) = read(&bytes).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].verdict, samples::refused());
        assert_eq!(origin.notes.len(), 1);
        assert!(
            origin.notes[0].starts_with("2 of 4 lines are no verdicts, the first is line 2"),
            "{origin:?}"
        );
    }

    #[test]
    fn another_file_is_refused() {
        for bytes in [&b"{}\n"[..], b"2026/11/20 06:43:33 [error] 31#31: *7 x\n", b"\x1f\x8b\x08"] {
            assert!(matches!(read(bytes), Err(SourceError::Unknown(_))), "{bytes:?}");
        }
        assert_eq!(read(b"").unwrap().0, []);
    }
}
