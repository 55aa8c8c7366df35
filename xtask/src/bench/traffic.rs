//! The kinds of traffic, as data: healthy ones by `wrk`, a storm of broken-off requests by our own clients.

use super::scene::{OTHER, PLAIN, Scene, TLS};
use super::wrk::{self, Measured};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// One kind of traffic.
#[derive(Debug)]
pub struct Traffic {
    /// Name for tables.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub says: &'static str,
    /// What one of these is counted as.
    pub unit: &'static str,
    how: How,
}

/// Clients at the same time.
const CLIENTS: usize = 32;

#[derive(Debug)]
enum How {
    /// Requests for this path by this many clients.
    Healthy { tls: bool, path: &'static str, clients: usize, short: bool },
    /// The same to a server that is not Nginx.
    Others,
    /// Clients that send a request and reset the connection at once.
    Storm,
}

const fn healthy(
    name: &'static str,
    says: &'static str,
    unit: &'static str,
    tls: bool,
    path: &'static str,
    short: bool,
) -> Traffic {
    Traffic { name, says, unit, how: How::Healthy { tls, path, clients: CLIENTS, short } }
}

/// Connections whose Nginx's end is compared with those of others.
pub const SHORT: &str = "short-lived";
/// The same with connections to an upstream.
pub const PROXIED: &str = "short-lived, proxied";
/// Traffic of others.
pub const OTHERS: &str = "of others";

/// Every kind.
pub const TRAFFIC: &[Traffic] = &[
    healthy(SHORT, "a small file, each over a connection of its own", "connection", false, "small", true),
    healthy(
        PROXIED,
        "each over a client connection and an upstream connection of its own",
        "pair of connections",
        false,
        "new",
        true,
    ),
    healthy(
        "kept alive",
        "proxied, 32 client connections and kept upstream connections",
        "request",
        false,
        "kept",
        false,
    ),
    healthy("TLS", "a small file over 32 kept TLS connections", "request", true, "small", false),
    healthy("large", "responses of 64 MiB on kept connections", "response", false, "big", false),
    Traffic {
        name: OTHERS,
        says: "short connections to another server on the same host; neither end is Nginx's",
        unit: "connection",
        how: How::Others,
    },
    Traffic {
        name: "storm",
        says: "clients that send a request and reset the connection",
        unit: "connection",
        how: How::Storm,
    },
];

impl Traffic {
    /// Whether it is Nginx's, and nothing goes wrong in it.
    pub fn is_healthy(&self) -> bool {
        matches!(self.how, How::Healthy { .. })
    }

    /// Lets it flow for some seconds.
    pub fn flow(&self, scene: &mut Scene, seconds: u64) -> Result<Measured> {
        let before = worker_time(scene)?;
        let measured = self.drive(scene, seconds)?;
        let spent = worker_time(scene)?.saturating_sub(before);
        Ok(Measured { worker_us: spent as f64 / 1e3 / measured.requests.max(1) as f64, ..measured })
    }

    fn drive(&self, scene: &mut Scene, seconds: u64) -> Result<Measured> {
        match self.how {
            How::Healthy { tls, path, clients, short } => {
                let url =
                    if tls { format!("https://{TLS}/{path}") } else { format!("http://{PLAIN}/{path}") };
                let clients = if path == "big" { clients / 8 } else { clients };
                wrk::run(scene, &url, clients, seconds, short.then_some("Connection: close"))
            }
            How::Others => {
                wrk::run(scene, &format!("http://{OTHER}/"), CLIENTS, seconds, Some("Connection: close"))
            }
            How::Storm => storm(scene, seconds),
        }
    }
}

/// Processor time of Nginx's worker so far, nanoseconds (first word of `/proc/PID/schedstat`).
fn worker_time(scene: &Scene) -> Result<u64> {
    let file = format!("/proc/{}/schedstat", scene.nginx.worker()?);
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    text.split(' ').next().and_then(|word| word.parse().ok()).with_context(|| format!("{file} says `{text}`"))
}

fn storm(scene: &mut Scene, seconds: u64) -> Result<Measured> {
    let begin = Instant::now();
    scene.client.start_command(&format!("hasty {PLAIN} {seconds}"))?;
    let answer = scene.client.finish_command(Duration::from_secs(seconds + 30))?;
    let requests: u64 = answer.parse().with_context(|| format!("the storm answers `{answer}`"))?;
    Ok(Measured {
        requests,
        rate: requests as f64 / begin.elapsed().as_secs_f64(),
        p99_us: 0.0,
        worker_us: 0.0,
    })
}
