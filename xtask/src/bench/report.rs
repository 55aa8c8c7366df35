//! The measurements as the page for operators, docs/performance.md.

use super::kernel::{Packet, Spent, Throughput};
use super::paired;
use super::traffic::{OTHERS, PROXIED, SHORT, TRAFFIC};
use super::watcher::{WAYS, Way};
use super::wrk::Measured;
use std::fmt::Write;

/// Everything measured.
pub struct Report {
    /// The packet hook alone.
    pub packet: Packet,
    /// Time of the programs.
    pub spent: Vec<Spent>,
    /// Nginx's throughput.
    pub throughput: Vec<Throughput>,
}

/// Most that a healthy connection may take.
const GOAL_NS: f64 = 1_000.0;

const TITLE: &str = "# What watching costs

Written by `cargo xtask bench kernel --write-docs`; do not edit by hand.
";

const METHOD: &str = "## Method

One Nginx with one worker in a network namespace, `wrk` with one thread in the namespace on its one side, an upstream in that on its other side.
Both ends of every connection live on the same machine: hooks on sockets run for the clients' and the upstream's sockets, too, about twice as often as on a server whose peers are elsewhere.
The time of a program is what the kernel measures (`BPF_ENABLE_STATS`), less what an empty program in the place of the packet hook shows during the same traffic, because that is the measuring itself.
The packet hook is also run alone, a million times on an ordinary data segment (`BPF_PROG_TEST_RUN`), without statistics.
Throughput is measured without statistics. The ways of watching take turns in every round, each round begins with another one, and each is compared with the same round without any: what else the machine does, and how it slows down and speeds up, hits all of a round alike. Shown are medians of the rounds.
The figure to compare is the processor time of Nginx's worker, which contains what the kernel does in its name: requests per second also tell what the clients and the upstream on the same processors do.
The range is where the median lies with a certainty of 95 %, whatever the distribution (order statistics of the rounds).
tcpdump captures `tcp[tcpflags] & (tcp-rst|tcp-syn) != 0` with a snapshot length of 128; the bpftrace script prints received and sent RSTs and keeps begin and owner of every connection.
Neither of the two says who was to blame.

What the daemon takes of memory and processor, idle, in a soak, in a flood of RSTs and with millions of stored verdicts, stands in [daemon.md](daemon.md#what-it-takes), with the commands that measure it.
";

/// The whole page.
pub fn text(report: &Report) -> String {
    let mut page = TITLE.to_owned();
    let parts =
        [machine(), sums(report), packet(report), programs(report), throughput(report), METHOD.to_owned()];
    for part in parts.iter().filter(|part| !part.is_empty()) {
        page.push('\n');
        page.push_str(part);
    }
    page
}

fn machine() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    format!(
        "Linux {} on {cpus} virtual CPUs ({}).\n",
        release.trim().split('-').next().unwrap_or_default(),
        model.trim_start_matches([':', '\t', ' '])
    )
}

/// Kernel time per unit, by traffic and way.
fn sums(report: &Report) -> String {
    let ways: Vec<Way> =
        WAYS.into_iter().filter(|way| report.spent.iter().any(|one| one.way == *way)).collect();
    let heads: Vec<String> = ways.iter().map(|way| format!("{}, ns", way.name())).collect();
    let mut table = format!(
        "## Time in kernel programs\n\n| traffic | for each | {} |\n| --- | --- | {}\n",
        heads.join(" | "),
        "--: | ".repeat(ways.len()).trim_end()
    );
    for traffic in TRAFFIC {
        let cell = |way: &Way| {
            let one = report.spent.iter().find(|one| one.traffic.name == traffic.name && one.way == *way);
            one.map_or_else(String::new, |one| format!("{:.0}", one.each()))
        };
        let cells: Vec<String> = ways.iter().map(cell).collect();
        line(&mut table, &[&[traffic.name.to_owned(), traffic.unit.to_owned()][..], &cells].concat());
    }
    table.push('\n');
    for traffic in TRAFFIC {
        // Writing into a string cannot fail.
        let _written = writeln!(table, "- {}: {}", traffic.name, traffic.says);
    }
    table.push_str(&own_ends(report).unwrap_or_default());
    table
}

/// What Nginx's ends of short connections cost: both ends live here, and that of a client or an upstream is as much as
/// half a connection of others.
fn own_ends(report: &Report) -> Option<String> {
    let each = |name: &str| {
        let found = report.spent.iter().find(|one| one.way == Way::Rstscope && one.traffic.name == name);
        found.map(Spent::each)
    };
    let (short, pair, others) = (each(SHORT)?, each(PROXIED)?, each(OTHERS)?);
    let (client, upstream) = (short - others / 2.0, pair - short - others / 2.0);
    let met = |own: f64| if own <= GOAL_NS { "met" } else { "not met" };
    Some(format!(
        "\nNginx's own end of a short-lived connection takes {client:.0} ns with a client and {upstream:.0} ns with an \
         upstream: the whole, without the other end, which is as much as half a connection of others.\n\
         The goal of {GOAL_NS:.0} ns for a healthy connection is {} with clients and {} with upstreams in this run.\n\
         Connections of others make no record (scenarios `other-traffic` and `filter-*`).\n",
        met(client),
        met(upstream)
    ))
}

fn packet(report: &Report) -> String {
    let Packet { ours, nothing } = report.packet;
    let measuring: Vec<f64> = report.spent.iter().map(|one| one.measuring).collect();
    let (least, most) =
        (measuring.iter().fold(f64::MAX, |a, b| a.min(*b)), measuring.iter().fold(0.0, |a, b| b.max(a)));
    format!(
        "The packet hook takes {ours} ns for an ordinary data segment, {} ns more than a program that does nothing \
         ({nothing} ns: entering and leaving a program of this kind in a test run); the goal was 15 ns.\n\
         The measuring itself showed as {least:.0} to {most:.0} ns in every run, depending on the traffic; it is left out \
         above, and off in normal operation.\n",
        ours.saturating_sub(nothing)
    )
}

/// Every program under every kind of traffic.
fn programs(report: &Report) -> String {
    let mut table = "## Program by program\n\n| traffic | program | runs for each | ns per run |\n\
                     | --- | --- | --: | --: |\n"
        .to_owned();
    for one in report.spent.iter().filter(|one| one.way == Way::Rstscope) {
        for (name, runs) in &one.runs {
            let often = runs.count as f64 / one.units.max(1) as f64;
            let each = (runs.each() - one.measuring).max(0.0);
            line(
                &mut table,
                &[one.traffic.name.to_owned(), name.clone(), format!("{often:.2}"), format!("{each:.0}")],
            );
        }
    }
    table
}

/// Processor time, requests per second and 99th percentile.
fn throughput(report: &Report) -> String {
    let Some(first) = report.throughput.first() else { return String::new() };
    let mut table = format!(
        "## Nginx beside it\n\n{} rounds.\n\n| traffic | watching | worker, µs/request | beside none | range, % | requests/s | p99, ms |\n\
                     | --- | --- | --: | --: | --: | --: | --: |\n",
        first.rounds.len()
    );
    for one in &report.throughput {
        let none = report
            .throughput
            .iter()
            .find(|other| other.way == Way::Nothing && other.traffic.name == one.traffic.name);
        let (beside, range) =
            none.filter(|_| one.way != Way::Nothing).map_or_else(Default::default, |none| {
                paired::beside(&workers(&one.rounds), &workers(&none.rounds))
            });
        let of = |figure: fn(&Measured) -> f64| paired::median(one.rounds.iter().map(figure).collect());
        line(
            &mut table,
            &[
                one.traffic.name.to_owned(),
                one.way.name().to_owned(),
                format!("{:.1}", of(|round| round.worker_us)),
                beside,
                range,
                format!("{:.0}", of(|round| round.rate)),
                format!("{:.2}", of(|round| round.p99_us) / 1e3),
            ],
        );
    }
    table
}

fn workers(rounds: &[Measured]) -> Vec<f64> {
    rounds.iter().map(|round| round.worker_us).collect()
}

fn line(table: &mut String, cells: &[String]) {
    // Writing into a string cannot fail.
    let _written = writeln!(table, "| {} |", cells.join(" | "));
}
