//! The time zone an Nginx writes its log in. Its `TZ` is usually not to be had (Nginx writes its title over its
//! environment), so what the log itself shows overrules everything: the last line against the time the file was
//! last written.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::logs::{self, LogFile};
use crate::nginx::line::Line;
use crate::nginx::proc::Proc;
use crate::nginx::tail;

/// Longest file with zone data, bytes.
const ZONE_LIMIT: u64 = 1024 * 1024;

/// Offsets are multiples of this, seconds.
const QUARTER: i64 = 15 * 60;

/// How far the time of a line may be from the time of the file's last write, seconds.
const TOLERANCE: i64 = 120;

/// Finds the zone, and says when the log contradicts what the system says.
pub(super) fn find(proc: &Proc, pid: u32, root: &Path, logs: &[LogFile]) -> (TimeZone, Option<String>) {
    let from_environment = proc.environment(pid, "TZ").and_then(|value| of_variable(&value, root));
    let zone = from_environment.or_else(|| of_system(root)).unwrap_or(TimeZone::UTC);
    let seen = logs.iter().filter(|log| log.is_open).find_map(of_log);
    match seen {
        Some((written, offset)) if zone.to_offset(written) != offset => {
            let note =
                format!("the log is written at UTC{offset}, which is not the zone of its system (TZ is set)");
            (TimeZone::fixed(offset), Some(note))
        }
        _ => (zone, None),
    }
}

/// `America/New_York`, `:America/New_York`, or a POSIX rule.
fn of_variable(value: &str, root: &Path) -> Option<TimeZone> {
    let name = value.strip_prefix(':').unwrap_or(value);
    if name.is_empty() {
        return Some(TimeZone::UTC);
    }
    let path = if name.starts_with('/') { name.to_owned() } else { format!("/usr/share/zoneinfo/{name}") };
    let named = || TimeZone::get(name).ok().or_else(|| TimeZone::posix(name).ok());
    of_file(root, Path::new(&path)).or_else(named)
}

/// `/etc/localtime` of its mount namespace.
fn of_system(root: &Path) -> Option<TimeZone> {
    of_file(root, Path::new("/etc/localtime"))
}

fn of_file(root: &Path, path: &Path) -> Option<TimeZone> {
    let (file, _) = tail::open_in_root(root, path).ok()?;
    let mut data = Vec::new();
    File::take(file, ZONE_LIMIT).read_to_end(&mut data).ok()?;
    TimeZone::tzif("local", &data).ok()
}

/// When a log was last written, and the offset its last line shows.
fn of_log(log: &LogFile) -> Option<(Timestamp, Offset)> {
    let (file, _) = tail::open_in_root(&log.target.root, &log.target.path).ok()?;
    let written = Timestamp::try_from(file.metadata().ok()?.modified().ok()?).ok()?;
    let line = logs::last_line(&log.target.root, &log.target.path)?;
    let local = Line::read(&line).time?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some((written, offset(local.duration_since(written))?))
}

/// The offset that a distance between local time and UTC means, if it is near one.
fn offset(distance: SignedDuration) -> Option<Offset> {
    let seconds = distance.as_secs();
    let rounded = (seconds + QUARTER / 2).div_euclid(QUARTER) * QUARTER;
    if (seconds - rounded).abs() > TOLERANCE || rounded.abs() > 14 * 3600 {
        return None;
    }
    Offset::from_seconds(i32::try_from(rounded).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plausible_distances_are_offsets() {
        let of = |seconds: i64| offset(SignedDuration::from_secs(seconds)).map(Offset::seconds);
        assert_eq!(of(-18_001), Some(-18_000));
        assert_eq!(of(19_790), Some(19_800));
        assert_eq!(of(-3), Some(0));
        assert_eq!(of(400), None);
        assert_eq!(of(-90_000), None);
    }
}
