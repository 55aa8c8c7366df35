//! Checks a bundle: every file against the manifest, the verdicts by playing the recording again, and everything that was
//! made of them by making it anew.
//!
//! Reads in one pass and in bounded memory, writes nothing to disk, and takes no name or number of the bundle on trust.
//! Nothing is signed: whoever changes the recording itself and packs anew is not found out here.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read};

use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest as _, Sha256};

use super::bundle::{self, Listed, MANIFEST, Manifest, RECORDING, Recipe, VERDICTS};
use super::page::Material;
use super::selection::Selection;
use super::source::{FileSource, Origin, Source, SourceError, Take};
use super::{Collected, Wanted, collect, member};
use crate::model::Verdict;
use crate::output::ndjson;

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
    /// What making the other files anew from the recording gave.
    pub remade: Remade,
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

/// Whether the files that a report consists of are those that the recording gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remade {
    /// There is no recording to make them of.
    Nothing,
    /// They were made by this other version, which may word them differently.
    OtherVersion(String),
    /// They were made anew.
    Compared {
        /// Files that came out the same, byte for byte.
        same: u64,
        /// Files that came out differently, or that a report has not.
        different: Vec<String>,
    },
}

impl Checked {
    /// Whether everything is as it was packed and the replay agrees.
    pub fn holds(&self) -> bool {
        let replayed =
            self.replay.as_ref().is_none_or(|replay| replay.different.is_empty() && replay.problem.is_none());
        let remade = !matches!(&self.remade, Remade::Compared { different, .. } if !different.is_empty());
        self.files.iter().all(|(_, state)| *state == State::Same)
            && self.unnamed.is_empty()
            && replayed
            && remade
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
    /// Verdicts of the bundle by id, as their lines stand; `None` until they were read.
    verdicts: Option<BTreeMap<String, Vec<u8>>>,
}

impl Check {
    fn new(manifest: Manifest, manifest_sha256: String) -> Self {
        let files = manifest.files.iter().map(|file| (file.name.clone(), State::Missing)).collect();
        let (unnamed, replay, remade) = (Vec::new(), None, Remade::Nothing);
        let checked = Checked { manifest, manifest_sha256, files, unnamed, replay, remade };
        Self { checked, verdicts: None }
    }

    fn entry<R: Read>(&mut self, entry: tar::Entry<'_, R>) -> Result<(), VerifyError> {
        let name = name_of(&entry);
        if entry.size() > MAX_FILE {
            return Err(VerifyError::NotABundle(format!("{name} is longer than {MAX_FILE} bytes")));
        }
        let mut hashed = Hashed { inner: entry, hash: Sha256::new(), bytes: 0 };
        match name.as_str() {
            VERDICTS => self.verdicts = Some(verdicts(&mut hashed)?),
            RECORDING => self.recording(&mut hashed)?,
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

    /// Plays the recording, compares each verdict, and makes the other files anew.
    fn recording(&mut self, input: &mut impl Read) -> io::Result<()> {
        let problem = |why: &str| Some(Replay { problem: Some(why.to_owned()), ..Replay::default() });
        let mut input = BufReader::new(input);
        let Some(recipe) = self.checked.manifest.recipe.clone() else {
            self.checked.replay =
                problem("the manifest does not say how the files were made of the recording");
            return Ok(());
        };
        let Some(packed) = self.verdicts.take() else {
            self.checked.replay = problem("the verdicts do not stand before the recording");
            return Ok(());
        };
        // Verdicts in the place of a recording would only be copied.
        if input.fill_buf()?.first().is_none_or(|first| *first == b'{') {
            self.checked.replay = problem("it is no recording");
            return Ok(());
        }
        let inner = FileSource::new(RECORDING.to_owned(), input);
        let (selection, replay) = (recipe.selection.clone(), Replay::default());
        let mut source = Compared { inner, packed, selection, replay };
        let wanted = Wanted { packets: true, lines: false };
        let collected = collect(&mut source, &recipe.selection, wanted);
        let mut replay = source.done(self.checked.manifest.verdicts);
        match collected {
            Ok(collected) => self.checked.remade = remade(&self.checked.manifest, &recipe, collected)?,
            Err(error) => replay.problem = Some(error.to_string()),
        }
        self.checked.replay = Some(replay);
        Ok(())
    }

    fn done(self) -> Checked {
        self.checked
    }
}

/// A recording whose verdicts are compared with those of the bundle on their way.
struct Compared<S> {
    inner: S,
    packed: BTreeMap<String, Vec<u8>>,
    selection: Selection,
    replay: Replay,
}

impl<S: Source> Source for Compared<S> {
    fn each(&mut self, origin: &mut Origin, take: &mut Take<'_>) -> Result<(), SourceError> {
        let Self { inner, packed, selection, replay } = self;
        inner.each(origin, &mut |entry| {
            compare(packed, selection, &entry.verdict, replay);
            take(entry);
        })
    }
}

impl<S> Compared<S> {
    /// What the comparison gave; `counted` is how many verdicts the manifest speaks of.
    fn done(self, counted: u64) -> Replay {
        let mut replay = self.replay;
        replay.different.extend(self.packed.into_keys());
        let found = replay.same + replay.different.len() as u64;
        if found != counted {
            let why = format!("the manifest counts {counted} of them and {found} were compared");
            replay.problem.get_or_insert(why);
        }
        replay
    }
}

/// A verdict of the replay has to stand in the bundle exactly if it is selected.
fn compare(
    packed: &mut BTreeMap<String, Vec<u8>>,
    selection: &Selection,
    verdict: &Verdict,
    replay: &mut Replay,
) {
    let packed = packed.remove(&verdict.id);
    let selected = selection.holds(verdict);
    if packed.is_none() && !selected {
        return;
    }
    let line = ndjson::line(verdict).ok().filter(|_| selected);
    if packed.is_some() && packed == line {
        replay.same += 1;
    } else {
        replay.different.push(verdict.id.clone());
    }
}

/// Makes the files of the report anew and compares their sums with those of the manifest.
fn remade(manifest: &Manifest, recipe: &Recipe, collected: Collected) -> io::Result<Remade> {
    if manifest.version != env!("CARGO_PKG_VERSION") {
        return Ok(Remade::OtherVersion(manifest.version.clone()));
    }
    let Collected { mut origin, window, capture, .. } = collected;
    recipe.tell(&mut origin);
    let (selection, top, made) = (recipe.selection.clone(), recipe.top, manifest.made.clone());
    let redaction = manifest.redaction.clone();
    let material = Material { selection, origin, window, made, redaction, top };
    let members = member::members(&material, capture.as_ref())?;
    let is_same = |file: &&Listed| {
        let made = members.iter().find(|member| member.name == file.name);
        made.is_some_and(|made| bundle::sha256(&made.bytes) == file.sha256)
    };
    let files = manifest.files.iter().filter(|file| file.name != VERDICTS && file.name != RECORDING);
    let (same, other): (Vec<&Listed>, Vec<&Listed>) = files.partition(is_same);
    let other = other.into_iter().map(|file| file.name.clone());
    let unlisted = members.iter().filter(|member| manifest.files.iter().all(|file| file.name != member.name));
    let different = other.chain(unlisted.map(|member| member.name.to_owned())).collect();
    Ok(Remade::Compared { same: same.len() as u64, different })
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
