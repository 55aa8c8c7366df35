//! What this process takes, from `/proc/self`, under the names every Prometheus client library uses.

use std::fs;

/// What this process takes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Memory in RAM, bytes.
    pub resident: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// CPU time of user and kernel, seconds.
    pub cpu_seconds: f64,
    /// Threads.
    pub threads: u64,
}

/// Looks at this process; what cannot be read is zero.
pub fn usage() -> Usage {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    Usage {
        resident: field(&status, "VmRSS:") * 1024,
        threads: field(&status, "Threads:"),
        descriptors: u64::try_from(descriptors).unwrap_or(0),
        cpu_seconds: cpu_seconds(&stat, rustix::param::clock_ticks_per_second()),
    }
}

/// The first number behind a name in `/proc/PID/status`.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// `utime` and `stime` of `/proc/PID/stat`: the 12th and 13th field behind the name, which may hold anything.
#[expect(clippy::cast_precision_loss, reason = "ticks of CPU time")]
fn cpu_seconds(stat: &str, ticks_per_second: u64) -> f64 {
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    ticks.sum::<u64>() as f64 / ticks_per_second.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something_of_everything() {
        let usage = usage();
        assert!(usage.resident > 1 << 20 && usage.descriptors > 2 && usage.threads > 0, "{usage:?}");
    }

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0\n";
        assert!((cpu_seconds(stat, 100) - 2.0).abs() < 1e-9);
        assert!(cpu_seconds("", 100).abs() < 1e-9);
    }
}
