//! Runs `wrk` and reads what it prints.

use super::scene::Scene;
use crate::lab::net::Node;
use crate::shell;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Requests in all.
    pub requests: u64,
    /// Requests per second.
    pub rate: f64,
    /// 99 % of the answers came within this, microseconds.
    pub p99_us: f64,
    /// Processor time of Nginx's worker for each request, microseconds; with it what the kernel did in its name.
    pub worker_us: f64,
}

/// Loads this address from Nginx's neighbour, with one thread.
pub fn run(
    scene: &Scene,
    url: &str,
    connections: usize,
    seconds: u64,
    header: Option<&str>,
) -> Result<Measured> {
    let mut command = scene.network.inside(Node::Inner, program()?);
    if let Some(header) = header {
        command.args(["--header", header]);
    }
    load(command, url, connections, seconds)
}

/// The program.
pub fn program() -> Result<PathBuf> {
    shell::find("wrk").context("wrk is not installed: apt-get install --no-install-recommends wrk")
}

/// Loads this address by this command, with one thread.
pub fn load(mut command: Command, url: &str, connections: usize, seconds: u64) -> Result<Measured> {
    command.args(["--threads", "1", "--latency", "--connections", &connections.to_string()]);
    command.args(["--duration", &format!("{seconds}s")]);
    let text = shell::read(command.arg(url))?;
    read(&text).with_context(|| format!("wrk says: {text}"))
}

fn read(text: &str) -> Option<Measured> {
    let after = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let requests = text.lines().find_map(|line| line.split_once(" requests in "))?.0.trim().parse().ok()?;
    Some(Measured {
        requests,
        rate: after("Requests/sec:")?.parse().ok()?,
        p99_us: microseconds(after("99%")?)?,
        worker_us: 0.0,
    })
}

fn microseconds(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7)];
    let (number, scale) = units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))?;
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_read() {
        let text = "Running 3s test @ http://10.77.2.2:8000/\n  Latency Distribution\n     50%    1.20ms\n     \
                    99%    4.50ms\n  40000 requests in 3.00s, 9.5MB read\nRequests/sec:  13333.33\n";
        assert_eq!(
            read(text),
            Some(Measured { requests: 40_000, rate: 13_333.33, p99_us: 4_500.0, worker_us: 0.0 })
        );
        assert_eq!(read("unable to connect"), None);
        assert_eq!(microseconds("900.00us"), Some(900.0));
    }
}
