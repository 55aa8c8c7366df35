//! Checks a bundle: every file against the manifest, and the recording by playing it again.
//!
//! Reads in one pass and in bounded memory, writes nothing to disk, and takes no name or number of the bundle on trust.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest as _, Sha256};

use super::bundle::{self, Listed, MANIFEST, Manifest, RECORDING, VERDICTS};
use crate::engine::{Engine, Limits};
use crate::model::Verdict;
use crate::output::ndjson;
use crate::recording::{Reader, play};

/// Longest manifest, bytes.
const MAX_MANIFEST: u64 = 1 << 20;
/// Longest list of verdicts that is kept, bytes.
const MAX_VERDICTS: u64 = 1 << 30;
/// Longest file of a bundle, bytes; an archive may claim any length.
const MAX_FILE: u64 = 4 << 30;
/// Files of a bundle at most.
const MAX_FILES: usize = 32;

/// Why a bundle cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file cannot be read.
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    /// It is no bundle.
    #[error("it is not a bundle of rstscope: {0}")]
    NotABundle(String),
    /// Made by a later version.
    #[error("it is in the form {0}, which this version does not know")]
    Newer(String),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The manifest.
    pub manifest: Manifest,
    /// SHA-256 of the manifest itself.
    pub manifest_sha256: String,
    /// Each file of the manifest and whether it is the one that was packed.
    pub files: Vec<(String, State)>,
    /// Files that the manifest does not name.
    pub unnamed: Vec<String>,
    /// What the replay gave; `None` where there is no recording, or no verdict to compare with.
    pub replay: Option<Replay>,
}

/// State of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it was packed.
    Same,
    /// Other bytes.
    Changed,
    /// Not there.
    Missing,
}

/// What a replay gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replay {
    /// Verdicts that the replay gave byte for byte as they stand in the bundle.
    pub same: u64,
    /// Ids of verdicts that the replay gave differently, or not at all.
    pub different: Vec<String>,
    /// Why the recording could not be played to its end.
    pub problem: Option<String>,
}

impl Checked {
    /// Whether everything is as it was packed and the replay agrees.
    pub fn holds(&self) -> bool {
        let replayed =
            self.replay.as_ref().is_none_or(|replay| replay.different.is_empty() && replay.problem.is_none());
        self.files.iter().all(|(_, state)| *state == State::Same) && self.unnamed.is_empty() && replayed
    }
}

/// Checks a bundle.
pub fn verify(input: impl Read) -> Result<Checked, VerifyError> {
    let decoder = StreamingDecoder::new(BufReader::new(input))
        .map_err(|error| VerifyError::NotABundle(error.to_string()))?;
    let mut archive = tar::Archive::new(decoder);
    let mut entries = archive.entries()?;
    let first = entries.next().ok_or_else(|| VerifyError::NotABundle("it is empty".to_owned()))?;
    let (manifest, manifest_sha256) = manifest(first.map_err(|error| not_a_bundle(&error))?)?;
    let mut check = Check::new(manifest, manifest_sha256);
    for (number, entry) in entries.enumerate() {
        if number >= MAX_FILES {
            return Err(VerifyError::NotABundle(format!("it has more than {MAX_FILES} files")));
        }
        check.entry(entry?)?;
    }
    Ok(check.done())
}

fn not_a_bundle(error: &io::Error) -> VerifyError {
    VerifyError::NotABundle(error.to_string())
}

fn name_of<R: Read>(entry: &tar::Entry<'_, R>) -> String {
    String::from_utf8_lossy(&entry.path_bytes()).chars().take(100).collect()
}

fn manifest<R: Read>(entry: tar::Entry<'_, R>) -> Result<(Manifest, String), VerifyError> {
    if name_of(&entry) != MANIFEST {
        return Err(VerifyError::NotABundle("it does not begin with a manifest".to_owned()));
    }
    let mut bytes = Vec::new();
    entry.take(MAX_MANIFEST).read_to_end(&mut bytes)?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| VerifyError::NotABundle(error.to_string()))?;
    if manifest.schema != bundle::SCHEMA {
        return Err(VerifyError::Newer(manifest.schema));
    }
    Ok((manifest, bundle::sha256(&bytes)))
}

/// A check under way.
struct Check {
    checked: Checked,
    /// Verdicts of the bundle by id, as their lines stand.
    verdicts: BTreeMap<String, Vec<u8>>,
}

impl Check {
    fn new(manifest: Manifest, manifest_sha256: String) -> Self {
        let files = manifest.files.iter().map(|file| (file.name.clone(), State::Missing)).collect();
        let checked = Checked { manifest, manifest_sha256, files, unnamed: Vec::new(), replay: None };
        Self { checked, verdicts: BTreeMap::new() }
    }

    fn entry<R: Read>(&mut self, entry: tar::Entry<'_, R>) -> Result<(), VerifyError> {
        let name = name_of(&entry);
        if entry.size() > MAX_FILE {
            return Err(VerifyError::NotABundle(format!("{name} is longer than {MAX_FILE} bytes")));
        }
        let mut hashed = Hashed { inner: entry, hash: Sha256::new(), bytes: 0 };
        match name.as_str() {
            VERDICTS => self.verdicts = verdicts(&mut hashed)?,
            RECORDING => self.checked.replay = Some(self.replay(&mut hashed)),
            _ => {}
        }
        io::copy(&mut hashed, &mut io::sink())?;
        let (bytes, sha256) = (hashed.bytes, bundle::hexadecimal(&hashed.hash.finalize()));
        self.note(Listed { name, bytes, sha256 });
        Ok(())
    }

    fn note(&mut self, found: Listed) {
        let listed = self.checked.manifest.files.iter().find(|file| file.name == found.name);
        let known = self
            .checked
            .files
            .iter_mut()
            .find(|(name, state)| *name == found.name && *state == State::Missing);
        match (listed, known) {
            (Some(listed), Some((_, state))) => {
                *state = if *listed == found { State::Same } else { State::Changed };
            }
            _ => self.checked.unnamed.push(found.name),
        }
    }

    fn replay(&mut self, input: &mut impl Read) -> Replay {
        let mut replay = Replay::default();
        let mut reader = match Reader::open(BufReader::new(input)) {
            Ok(reader) => reader,
            Err(error) => return Replay { problem: Some(error.to_string()), ..replay },
        };
        let mut engine = Engine::new(Limits::default());
        let verdicts = &mut self.verdicts;
        let played = play(&mut reader, &mut engine, |more| {
            more.iter().try_for_each(|verdict| compare(verdicts, verdict, &mut replay))
        });
        replay.problem = match played.map(|played| played.end) {
            Ok(crate::recording::End::Damaged(damage)) => {
                Some(format!("the recording is damaged in {damage}"))
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        replay.different.extend(std::mem::take(verdicts).into_keys());
        replay
    }

    fn done(self) -> Checked {
        self.checked
    }
}

fn compare(
    verdicts: &mut BTreeMap<String, Vec<u8>>,
    verdict: &Verdict,
    replay: &mut Replay,
) -> io::Result<()> {
    let Some(packed) = verdicts.remove(&verdict.id) else { return Ok(()) };
    if ndjson::line(verdict)? == packed {
        replay.same += 1;
    } else {
        replay.different.push(verdict.id.clone());
    }
    Ok(())
}

fn verdicts(input: &mut impl Read) -> Result<BTreeMap<String, Vec<u8>>, VerifyError> {
    let mut bytes = Vec::new();
    input.take(MAX_VERDICTS).read_to_end(&mut bytes)?;
    let mut found = BTreeMap::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let verdict: Verdict = serde_json::from_slice(line)
            .map_err(|error| VerifyError::NotABundle(format!("{VERDICTS}: {error}")))?;
        found.insert(verdict.id, line.to_vec());
    }
    Ok(found)
}

/// A reader that takes the checksum of what goes through it.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}
