//! `cargo xtask storm`: five causes at once at a high rate, on four workers. Whose incident a record is follows from
//! its addresses, since every cause has an upstream or a listener of its own; so each record has a ground truth.

use super::net::{Family, Network, Node};
use super::nginx::{Instance, Level, Nginx, Servers};
use super::puppet::Puppet;
use super::tracer::{self, Setup, Tracer};
use super::{cleanup, neighbour, wait};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Nginx's workers.
const WORKERS: u32 = 4;
/// Number of the network, apart from those of the lab's benches.
const NETWORK: usize = 90;
/// From the request until the client resets.
const ABORT_AFTER: &str = "20";
/// How long the tracer may still write after the storm.
const REST: Duration = Duration::from_secs(20);
/// Share of records, in thousandths, whose party must be right.
const RIGHT: u64 = 990;

/// Options of `storm`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Incidents a second, all causes together.
    #[arg(long, value_name = "N", default_value_t = 500)]
    rate: u32,
    /// Clients at the same time.
    #[arg(long, value_name = "N", default_value_t = 200)]
    clients: u32,
    /// How long, seconds.
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// Instead: do counts reconcile beside a SYN flood, port scans, 50,000 sockets of others and reloads?
    #[arg(long)]
    neighbour: bool,
    /// A tracer that is built already.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Copy the tracer's records into this file.
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
}

/// One cause in the storm.
struct Wind {
    party: &'static str,
    cause: &'static str,
    /// What its upstream does; nothing listens without one.
    upstream: Option<&'static str>,
    /// A router rejects the requests.
    forged: bool,
    /// The client does it.
    aborts: bool,
}

const CALM: Wind = Wind { party: "upstream", cause: "", upstream: None, forged: false, aborts: false };

const WINDS: [Wind; 5] = [
    Wind { cause: "upstream_abort", upstream: Some("reset"), ..CALM },
    Wind { cause: "upstream_closed_early", upstream: Some("close"), ..CALM },
    Wind { cause: "upstream_refused", ..CALM },
    Wind { party: "client", cause: "client_abort", upstream: Some("wait"), aborts: true, ..CALM },
    Wind {
        party: "middlebox",
        cause: "middlebox_forged_reset",
        upstream: Some("wait"),
        forged: true,
        ..CALM
    },
];

/// What came of one cause.
#[derive(Debug, Default)]
struct Outcome {
    met: u64,
    recorded: u64,
    party_right: u64,
    cause_right: u64,
    joined: BTreeMap<String, u64>,
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    cleanup::prepare();
    cleanup::leftovers();
    let binary = options.binary.clone().map_or_else(super::build, Ok)?;
    if options.neighbour {
        neighbour::test(&binary)?;
        crate::say!("ok {}", neighbour::NAME);
        return Ok(ExitCode::SUCCESS);
    }
    let setup = Setup::quiet(binary);
    let network = Network::lay(NETWORK, None)?;
    let servers: Vec<String> = (0..).take(WINDS.len()).map(proxied).collect();
    let (_nginx, tracer) = start(&network, &setup, (NETWORK, WORKERS), &servers)?;
    let met = blow(options, &network)?;
    let file = tracer.records_file();
    settle(&tracer)?;
    let stats = tracer.stop().context("the tracer")?;
    if let Some(copy) = &options.records {
        std::fs::copy(&file, copy).with_context(|| format!("cannot write {}", copy.display()))?;
    }
    let outcomes = judge(&met, &tracer::read_records(&file)?);
    report(&outcomes, &stats, options)
}

/// Nginx with these servers, the first of which listens at `listener(0)`, the next at `listener(1)`, and the tracer that
/// watches it. Beside that the number of the network, and how many workers there are.
pub(super) fn start(
    network: &Network,
    setup: &Setup,
    (number, workers): (usize, u32),
    servers: &[String],
) -> Result<(Nginx, Tracer)> {
    let listeners: Vec<SocketAddr> = (0..).take(servers.len()).map(listener).collect();
    let all = |_: &str| Servers::http(servers.concat());
    let nginx = Nginx::start(
        network,
        Instance { workers, ..Instance::web(number, Level::Error) },
        all,
        &listeners,
        &[],
    )?;
    let netns = format!("/run/netns/{}", network.name(Node::Web));
    let tracer = Tracer::start(setup, &["--netns".to_owned(), netns], nginx.folder(), None)?;
    Ok((nginx, tracer))
}

/// Where Nginx listens for one kind of reset.
pub(super) fn listener(number: u8) -> SocketAddr {
    SocketAddr::new(Family::V4.web(), 8000 + u16::from(number))
}

/// Where its upstream is.
pub(super) fn upstream(number: u8) -> SocketAddr {
    SocketAddr::new(Family::V4.upstream(number), 8080)
}

/// The server block between the two.
pub(super) fn proxied(number: u8) -> String {
    let (from, to) = (listener(number), upstream(number));
    format!("server {{ listen {from}; location / {{ proxy_pass http://{to}; }} }}\n")
}

/// Produces the faults; gives how often each was met.
fn blow(options: &Options, network: &Network) -> Result<Vec<u64>> {
    let mut server = Puppet::start(network, Node::Upstream)?;
    let mut clients = Vec::new();
    for (number, wind) in (0..).zip(&WINDS) {
        if let Some(fault) = wind.upstream {
            server.tell(&format!("storm-upstream {} {fault}", upstream(number)))?;
        }
        if wind.forged {
            let rule = format!("ip daddr {} meta length > 88 reject with tcp reset", upstream(number).ip());
            let chain = "type filter hook forward priority 0; policy accept;";
            network
                .nft(Node::Near, &format!("table ip storm {{\n chain c {{\n {chain}\n {rule}\n }}\n}}\n"))?;
        }
        clients.push(Puppet::start(network, Node::Client)?);
    }
    let share = WINDS.len() as u32;
    for ((number, wind), client) in (0..).zip(&WINDS).zip(&mut clients) {
        let (from, to) = (Family::V4.client(number), listener(number));
        let abort = if wind.aborts { ABORT_AFTER } else { "0" };
        let (many, rate, time) = (options.clients / share, options.rate / share, options.seconds);
        client.start_command(&format!("storm {from} {to} {abort} {many} {rate} {time}"))?;
    }
    let limit = Duration::from_secs(options.seconds + 60);
    clients.iter_mut().map(|client| Ok(client.finish_command(limit)?.parse()?)).collect()
}

/// Waits until the tracer has nothing more to say.
fn settle(tracer: &Tracer) -> Result<()> {
    let mut before = usize::MAX;
    wait::until("the tracer is done", REST, || {
        let now = tracer.records().map_or(0, |records| records.len());
        let done = now == before;
        before = now;
        // Longer than any incident is held.
        drop(wait::pass(Duration::from_secs(4)));
        done.then_some(())
    })
}

fn judge(met: &[u64], records: &[Value]) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> =
        met.iter().map(|met| Outcome { met: *met, ..Outcome::default() }).collect();
    for record in records {
        let Some(number) = (0..).take(WINDS.len()).find(|number| concerns(record, *number)) else { continue };
        let (wind, outcome) = (&WINDS[usize::from(number)], &mut outcomes[usize::from(number)]);
        outcome.recorded += 1;
        outcome.party_right += u64::from(record["party"] == wind.party);
        outcome.cause_right += u64::from(record["cause"] == wind.cause);
        let method = record["match"]["method"].as_str().unwrap_or("none");
        let ambiguous = record["match"]["candidates"].as_u64().is_some_and(|candidates| candidates > 1);
        let method = if ambiguous { format!("{method}, ambiguous") } else { method.to_owned() };
        *outcome.joined.entry(method).or_default() += 1;
    }
    outcomes
}

fn concerns(record: &Value, number: u8) -> bool {
    let connection = &record["connection"];
    connection["remote"] == upstream(number).to_string().as_str()
        || connection["local"] == listener(number).to_string().as_str()
        || record["log"]["upstream"] == upstream(number).to_string().as_str()
}

fn report(outcomes: &[Outcome], stats: &Value, options: &Options) -> Result<ExitCode> {
    crate::say!(
        "{:<26} {:>8} {:>9} {:>12} {:>12}  joined by",
        "cause",
        "met",
        "recorded",
        "party right",
        "cause right"
    );
    for (wind, outcome) in WINDS.iter().zip(outcomes) {
        let joined: Vec<String> =
            outcome.joined.iter().map(|(method, count)| format!("{method}: {count}")).collect();
        let Outcome { met, recorded, party_right, cause_right, .. } = outcome;
        crate::say!(
            "{:<26} {met:>8} {recorded:>9} {party_right:>12} {cause_right:>12}  {}",
            wind.cause,
            joined.join("; ")
        );
    }
    let sum = |part: fn(&Outcome) -> u64| outcomes.iter().map(part).sum::<u64>();
    let (met, recorded, right) = (sum(|it| it.met), sum(|it| it.recorded), sum(|it| it.party_right));
    crate::say!(
        "\n{met} faults in {} s ({} a second), {recorded} recorded, party right in {right}; losses: {}",
        options.seconds,
        met / options.seconds.max(1),
        stats["losses"]
    );
    if recorded == 0 {
        bail!("nothing was recorded");
    }
    Ok(if right * 1_000 >= recorded * RIGHT { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
