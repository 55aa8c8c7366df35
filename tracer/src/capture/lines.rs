//! The error.log that belongs to a capture: its lines in the order of time, and the moment at which Nginx gave
//! up something that was silent on the wire.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::model::{LogRecord, MessageClass, Mono, Utc};
use crate::nginx::archive::{Archive, ArchiveError};
use crate::nginx::parse;

/// Lines kept.
const MOST: usize = 1_000_000;
/// Printed times are whole seconds.
const SECOND: Duration = Duration::from_secs(1);

/// Lines of the log inside the time of the capture.
#[derive(Debug, Default)]
pub struct Lines {
    records: Vec<(u64, LogRecord)>,
    given_up: Vec<bool>,
    /// Lines without a time, or outside the capture.
    pub outside: u64,
    /// Lines beyond the bound.
    pub beyond: u64,
}

impl Lines {
    /// Reads the files. Local times are those of `zone`.
    pub fn read(paths: &[PathBuf], zone: &TimeZone) -> Result<Self, ArchiveError> {
        let mut read = Self::default();
        for path in paths {
            let (name, mut offset) = (path.display().to_string(), 0);
            Archive::open(path)?.lines(
                |bytes| {
                    let mut record = parse(bytes, zone);
                    record.keep_line(bytes);
                    (record.file, record.offset) = (name.clone(), offset);
                    offset += bytes.len() as u64 + 1;
                    read.keep(record);
                },
                |_| true,
            )?;
        }
        read.records.sort_by_key(|(time, _)| *time);
        read.given_up = vec![false; read.records.len()];
        Ok(read)
    }

    fn keep(&mut self, record: LogRecord) {
        let Some(time) = record.time.and_then(|Utc(time)| u64::try_from(time).ok()) else {
            self.outside += 1;
            return;
        };
        if self.records.len() >= MOST {
            self.beyond += 1;
            return;
        }
        self.records.push((time, record));
    }

    /// Addresses that lines name as upstreams.
    pub fn upstreams(&self) -> impl Iterator<Item = SocketAddr> {
        self.records.iter().filter_map(|(_, record)| record.upstream_addr())
    }

    /// When Nginx says it gave up waiting for this upstream, inside a stretch of time.
    /// Each line is taken once.
    pub fn gave_up(&mut self, upstream: SocketAddr, last: Mono, until: Mono) -> Option<Mono> {
        let until = until.0;
        let from =
            self.records.partition_point(|(time, _)| time.saturating_add(SECOND.as_nanos() as u64) <= last.0);
        let rest = self.records.get(from..)?;
        let speaks = |(index, (time, record)): &(usize, &(u64, LogRecord))| {
            let about = record.upstream_addr() == Some(upstream) && record.class() == MessageClass::TimedOut;
            about && *time <= until && !self.given_up.get(from + index).copied().unwrap_or(true)
        };
        let (index, (time, _)) = rest.iter().enumerate().find(speaks)?;
        let time = *time;
        if let Some(given_up) = self.given_up.get_mut(from + index) {
            *given_up = true;
        }
        Some(Mono(time.max(last.0)))
    }

    /// The lines from `first` to `last`, widened by what the printed second hides.
    pub fn between(mut self, first: u64, last: u64) -> (Vec<(u64, LogRecord)>, u64) {
        let (first, last) = (Mono(first).before(SECOND * 2).0, Mono(last).after(SECOND * 2).0);
        let (before, mut given_up) = (self.records.len(), self.given_up.into_iter());
        self.records.retain(|(time, _)| given_up.next() == Some(true) || (first..=last).contains(time));
        let outside = self.outside + (before - self.records.len()) as u64;
        (self.records, outside)
    }
}
