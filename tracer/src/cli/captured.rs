//! A capture as the input of a report: judged once, and its recording kept in memory, so that everything that is made
//! of a recording is made of a capture, too. The flags say what `rstscope pcap` is told by its own.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use jiff::tz::TimeZone;

use super::{correlate, pcap, value};
use crate::capture::Named;
use crate::capture::session::{Account, CaptureError, Container, Packets, Session, Settings};
use crate::model::{Losses, Utc};
use crate::nginx::archive::ArchiveError;
use crate::recording::Writer;
use crate::report::Origin;

/// First bytes of pcap (both byte orders, microseconds, nanoseconds, and the modified form), of pcapng, of gzip and
/// of Zstandard.
const MAGIC: [&[u8]; 9] = [
    b"\xd4\xc3\xb2\xa1",
    b"\xa1\xb2\xc3\xd4",
    b"\x4d\x3c\xb2\xa1",
    b"\xa1\xb2\x3c\x4d",
    b"\x34\xcd\xb2\xa1",
    b"\xa1\xb2\xcd\x34",
    b"\x0a\x0d\x0d\x0a",
    b"\x1f\x8b\x08",
    ZSTANDARD,
];
/// First bytes of a Zstandard frame (RFC 8878, section 3.1.1).
const ZSTANDARD: &[u8] = b"\x28\xb5\x2f\xfd";
/// Connections tracked at the same time, as `rstscope pcap` does unless told otherwise.
const CONNECTIONS: usize = 200_000;

/// How a capture is judged.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "For a capture")]
pub struct CaptureArgs {
    /// error.log of the same time
    #[arg(long, value_name = "FILE")]
    pub error_log: Vec<PathBuf>,

    /// Time zone of the Nginx that wrote the log: UTC, Europe/Berlin, +02:00
    #[arg(long, value_name = "ZONE", value_parser = value::zone)]
    pub zone: Option<TimeZone>,

    /// Listen address of Nginx: ADDR:PORT, [ADDR6]:PORT, or ADDR for every port; without it, it is worked out
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', value_parser = value::upstream)]
    pub nginx: Vec<SocketAddr>,

    /// Capture of the same time taken at the other end, as in `rstscope correlate`
    #[arg(long, value_name = "FILE")]
    pub beside: Option<PathBuf>,
}

/// Why a capture cannot be reported on.
#[derive(Debug, thiserror::Error)]
pub enum CapturedError {
    /// It cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Its log cannot be read.
    #[error(transparent)]
    Log(#[from] ArchiveError),
    /// There is no room for its recording.
    #[error("cannot record what was judged: {0}")]
    Recording(#[from] io::Error),
}

/// A judged capture.
#[derive(Debug)]
pub struct Captured {
    /// Its recording.
    pub recording: Vec<u8>,
    losses: Losses,
    observed: Option<(Utc, Utc)>,
    remarks: Vec<String>,
    notes: Vec<String>,
}

impl Captured {
    /// Adds what only the reading of the capture tells.
    pub fn tell(self, origin: &mut Origin) {
        for (_, kind) in &mut origin.inputs {
            *kind = "capture".into();
        }
        origin.losses = Some(self.losses);
        origin.observed = self.observed.into_iter().collect();
        origin.remarks = self.remarks;
        origin.notes.extend(self.notes);
    }
}

/// Whether a file with these first bytes is taken for a capture.
pub fn is_capture(start: &[u8]) -> bool {
    MAGIC.iter().any(|magic| start.starts_with(magic))
}

/// Judges a capture whose bytes come from `input` and named `path`. `upstreams` are known to be upstreams, `limit` is
/// the longest recording, bytes.
pub fn judged(
    input: Box<dyn Read>,
    start: &[u8],
    path: &Path,
    args: &CaptureArgs,
    upstreams: &[SocketAddr],
    limit: u64,
) -> Result<Captured, CapturedError> {
    // Decompressing Zstandard is `Archive`'s; everything else is read as it comes.
    let container =
        if start.starts_with(ZSTANDARD) { Container::open(path) } else { Container::of(input, path) };
    let mut packets = Packets::of(vec![container?], CONNECTIONS);
    if let Some(other) = &args.beside {
        packets = packets.beside(other)?;
    }
    let lines = pcap::lines(&args.error_log, args.zone.as_ref())?;
    let mut remarks = vec![sentence(&pcap::lacks(lines.is_some()))];
    let recording = Shared::default();
    let writer = Writer::new(Box::new(recording.clone()), limit, &pcap::header(&packets))?;
    let named = Named { nginx: args.nginx.clone(), upstreams: upstreams.to_vec() };
    let mut session = Session::recorded_by(Some(writer), packets, Settings { named, lines });
    let mut roles = Vec::new();
    while session.step(&mut |found, _| roles.clone_from(&found.guess), &mut |_| true) {}
    let account = session.account();
    if !roles.is_empty() {
        remarks.push(format!("Worked out from the traffic: {}.", roles.join(". ")));
    }
    if args.beside.is_some() {
        remarks.push(sentence(&correlate::clocks(session.offset())));
    }
    remarks.push(sentence(&pcap::counted(&account)));
    let notes = pcap::remarks(&account).iter().map(|remark| sentence(remark)).collect();
    drop(session);
    let (losses, observed) = (pcap::losses(&account), observed(&account));
    Ok(Captured { recording: recording.taken(), losses, observed, remarks, notes })
}

/// A remark of standard error as a sentence of a page.
fn sentence(remark: &str) -> String {
    let mut characters = remark.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), characters.as_str())
}

fn observed(account: &Account) -> Option<(Utc, Utc)> {
    let utc = |time: u64| Utc(i64::try_from(time).unwrap_or(i64::MAX));
    account.span.map(|(first, last)| (utc(first), utc(last)))
}

/// Bytes that are written in one place and read in another.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn taken(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_told_by_their_first_bytes() {
        assert!(MAGIC.iter().all(|magic| is_capture(magic)));
        assert!(is_capture(b"\x1f\x8b\x08\x08"));
        for other in [&b"{\"schema\""[..], b"1a2b3c4d {", b"SQLite format 3\0", b"", b"\xa1\xb2"] {
            assert!(!is_capture(other), "{other:?}");
        }
    }
}
