//! The host: clock, OOM kills, and what security modules refused.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use super::{Notes, records};
use crate::doctor::facts::HostFacts;

/// Records of the kernel's log that are read at most.
const RECORDS_LIMIT: usize = 100_000;
/// Longest record of the kernel's log (`CONSOLE_EXT_LOG_MAX`).
const RECORD_BYTES: usize = 8192;
/// Bytes at the end of the audit log that are read.
const AUDIT_BYTES: u64 = 4 << 20;
/// Where auditd writes.
const AUDIT_LOG: &str = "/var/log/audit/audit.log";

pub(super) fn facts(notes: &mut Notes) -> HostFacts {
    let kernel_log = kernel_log(notes);
    let audit = audit_log(notes);
    let now = uptime();
    HostFacts {
        name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        clock_synchronised: clock(notes),
        oom_kills: kernel_log.iter().filter_map(|record| records::oom_kill(record, now)).collect(),
        oom_total: fs::read_to_string("/proc/vmstat").ok().and_then(|text| records::field(&text, "oom_kill")),
        denials: records::denials(kernel_log.iter().map(String::as_str).chain(audit.lines())),
    }
}

fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
}

/// Asks without changing anything (`modes` is zero), which needs no privilege.
fn clock(notes: &mut Notes) -> Option<bool> {
    // SAFETY: `timex` is plain integers, for which zero is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `timex`, which the call fills.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        notes.add("clock", format!("adjtimex: {}", std::io::Error::last_os_error()), &["clock"]);
        return None;
    }
    Some(timex.status & libc::STA_UNSYNC == 0)
}

/// Records of `/dev/kmsg`, oldest first.
fn kernel_log(notes: &mut Notes) -> Vec<String> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => {
            let why = format!("/dev/kmsg: {error}; run it as root");
            notes.add("the kernel's log", why, &["oom_kills", "security_denials"]);
            return Vec::new();
        }
    };
    let mut records = Vec::new();
    let mut buffer = vec![0; RECORD_BYTES];
    for _ in 0..RECORDS_LIMIT {
        match file.read(&mut buffer) {
            Ok(length) if length > 0 => records.push(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            // A record that was overwritten while it was read; the next one is there.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
            _ => break,
        }
    }
    records
}

/// The end of the audit log. A host without auditd has its records in the kernel's log.
fn audit_log(notes: &mut Notes) -> String {
    let mut bytes = Vec::new();
    let read = File::open(AUDIT_LOG).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(AUDIT_BYTES)))?;
        file.take(AUDIT_BYTES).read_to_end(&mut bytes)
    });
    if let Err(error) = read
        && error.kind() != ErrorKind::NotFound
    {
        notes.add("the audit log", format!("{AUDIT_LOG}: {error}; run it as root"), &["security_denials"]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
