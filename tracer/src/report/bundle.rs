//! A bundle: everything of one report in one file, with a manifest of checksums, for somebody who was not there.
//!
//! A tar archive in a Zstandard frame. The manifest comes first and the recording last, so that a reader can check and
//! replay in one pass. Names are fixed; nothing from outside becomes one.

use std::fmt::Write as _;
use std::io;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::model::{ConfigLine, HostFacts, Losses, Utc};

use super::page::Material;
use super::selection::Selection;
use super::source::Origin;

/// Value of `Manifest::schema`.
pub const SCHEMA: &str = "rstscope.bundle/1";
/// Name of the manifest, the first file.
pub const MANIFEST: &str = "manifest.json";
/// Name of the selected verdicts, one per line.
pub const VERDICTS: &str = "verdicts.ndjson";
/// Name of the recording, the last file.
pub const RECORDING: &str = "session.rec";

/// What is in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the tool that made it.
    pub version: String,
    /// When it was made, RFC 3339 UTC.
    pub made: String,
    /// Verdicts in it.
    pub verdicts: u64,
    /// What was replaced by pseudonyms, in sentences; empty when nothing was.
    pub redaction: Vec<String>,
    /// What a reader has to know, in sentences.
    pub notes: Vec<String>,
    /// How the files were made of the recording; `None` where there is no recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
    /// The files, in their order.
    pub files: Vec<Listed>,
}

/// What `verify` needs to make the files of a bundle anew from its recording.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// What the report is about.
    pub selection: Selection,
    /// Incidents that are shown in full.
    pub top: usize,
    /// Names of the inputs and what each was.
    pub inputs: Vec<(String, String)>,
    /// What only the reader of the capture knew; `None` where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<OfCapture>,
}

/// What is known of a capture and does not stand in the recording made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfCapture {
    /// What its reader lost.
    pub losses: Option<Losses>,
    /// Times of its first and last packet.
    pub observed: Vec<(Utc, Utc)>,
    /// [`Origin::remarks`].
    pub remarks: Vec<String>,
    /// [`Origin::notes`].
    pub notes: Vec<String>,
}

impl Recipe {
    /// How a report was made.
    pub fn of(material: &Material) -> Self {
        let origin = &material.origin;
        let from_capture = origin.last_host.as_ref().is_some_and(|host| host.capture.is_some());
        let inputs = origin.inputs.iter().map(|(name, kind)| (name.clone(), kind.to_string()));
        Self {
            selection: material.selection.clone(),
            top: material.top,
            inputs: inputs.collect(),
            capture: from_capture.then(|| OfCapture {
                losses: origin.losses.clone(),
                observed: origin.observed.clone(),
                remarks: origin.remarks.clone(),
                notes: origin.notes.clone(),
            }),
        }
    }

    /// Completes what a replay found with what does not stand in a recording.
    pub fn tell(&self, origin: &mut Origin) {
        let inputs = self.inputs.iter().cloned();
        origin.inputs = inputs.map(|(name, kind)| (name, kind.into())).collect();
        if let Some(capture) = self.capture.clone() {
            origin.losses = capture.losses;
            (origin.observed, origin.remarks, origin.notes) =
                (capture.observed, capture.remarks, capture.notes);
        }
    }
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its length, bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// A file that goes into a bundle.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// SHA-256 in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Hexadecimal digits of a checksum.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a string does not fail.
        let _written = write!(digits, "{byte:02x}");
    }
    digits
}

/// Host, configuration as far as it was read, settings, and the kernel's counters before and after, as JSON.
pub fn host(origin: &Origin) -> io::Result<Vec<u8>> {
    let counters = |host: &Option<Box<HostFacts>>| host.as_ref().map(|host| host.system.counters.clone());
    let mut bytes = serde_json::to_vec_pretty(&json!({
        "host": origin.last_host,
        "counters": {"before": counters(&origin.first_host), "after": counters(&origin.last_host)},
        "losses": origin.losses,
        "clock": origin.clock,
    }))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The directives of Nginx's configuration that bear on resets, one per line with where it stands; `None` where the
/// source does not tell.
pub fn configuration(origin: &Origin) -> Option<Vec<u8>> {
    let lines = &origin.last_host.as_ref()?.nginx.excerpt;
    let line = |one: &ConfigLine| format!("{}:{}: {}: {};\n", one.file, one.line, one.place, one.text);
    (!lines.is_empty()).then(|| lines.iter().map(line).collect::<String>().into_bytes())
}

/// The bundle of these files. `manifest` needs no list of files yet.
pub fn pack(mut manifest: Manifest, members: &[Member]) -> io::Result<Vec<u8>> {
    manifest.files = members
        .iter()
        .map(|member| Listed {
            name: member.name.to_owned(),
            bytes: member.bytes.len() as u64,
            sha256: sha256(&member.bytes),
        })
        .collect();
    let mut archive = tar::Builder::new(Vec::new());
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    append(&mut archive, MANIFEST, &text)?;
    for member in members {
        append(&mut archive, member.name, &member.bytes)?;
    }
    let bytes = archive.into_inner()?;
    // Neither a slice nor a vector can fail to be read or written.
    Ok(compress_to_vec(bytes.as_slice(), CompressionLevel::Fastest))
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, name, bytes)
}
