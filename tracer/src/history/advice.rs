//! What the log can't show, and what to do next. Sentences are chosen by the numbers of the report; none claims
//! more than they carry.

use jiff::tz::TimeZone;

use super::pattern::{Dimension, Finding, Pattern};
use super::report::{KeyRow, Report, TopicRow, share};
use super::words::percent;
use crate::model::verdict::Party;

/// Most steps given.
const MAX_STEPS: usize = 5;
/// Part of the incidents from which a situation is worth a step.
const WORTH: f64 = 0.05;
/// Part of the incidents from which it is enough to trace one upstream.
const MOST: f64 = 0.5;

/// What this log can't show.
pub fn blind(has_info: bool, incidents: u64) -> Vec<String> {
    let mut blind = Vec::new();
    if !has_info {
        blind.push(
            "resets and aborts by clients: Nginx logs them at level info, and this log has no line of that level, \
             so the client's share is unknown, not small"
                .to_owned(),
        );
    }
    if incidents > 0 {
        blind.push(
            "who sent a reset: peer and device on the path leave the same line, so no certainty here is above weak"
                .to_owned(),
        );
    }
    blind
}

/// What to do next, most useful first.
pub fn next(report: &Report, findings: &[Finding], zone: &TimeZone) -> Vec<String> {
    if report.incidents == 0 {
        return vec![nothing(report)];
    }
    let steps =
        trace(report).into_iter().chain(in_time(findings, zone)).chain(by_topic(report)).chain(level(report));
    steps.take(MAX_STEPS).collect()
}

fn nothing(report: &Report) -> String {
    let level =
        if report.blind.is_empty() { "" } else { "; set `error_log … info;` for a while to see clients" };
    format!(
        "no connection of Nginx failed in this log{level}; `sudo rstscope trace` sees what Nginx does not log"
    )
}

/// The command that decides what the log can't.
fn trace(report: &Report) -> Option<String> {
    let open = report.parties.iter().find(|party| party.name == Party::Unknown.slug());
    let top = report.ranking(Dimension::Upstream)?.rows.first();
    let is_worth_it = |row: &&KeyRow| is_address(&row.key) && share(row.count, report.incidents) >= MOST;
    let flag = top.filter(is_worth_it).map(|row| format!(" --upstream {}", row.key));
    let what = match open {
        Some(open) => format!("decides the {} that this log leaves open", percent(open.share)),
        None => "proves or refutes what this log suspects".to_owned(),
    };
    Some(format!("`sudo rstscope trace{}` {what}", flag.unwrap_or_default()))
}

fn is_address(key: &str) -> bool {
    key.parse::<std::net::SocketAddr>().is_ok()
}

fn in_time(findings: &[Finding], zone: &TimeZone) -> Option<String> {
    findings.iter().find_map(|finding| match &finding.pattern {
        Pattern::Periodic(_) => {
            Some("find what runs at these times: cron, systemd timers, backups, deployments, on Nginx's host and on the upstream's".to_owned())
        }
        Pattern::AfterMarks(_) => {
            Some("compare with reloads and deployments: worker_shutdown_timeout, keep-alive of clients, restarts of workers".to_owned())
        }
        Pattern::Burst(burst) => {
            Some(format!("read what the upstream's own log and `journalctl -k` say at {}", super::report::local(burst.start, zone)))
        }
        _ => None,
    })
}

/// One step per frequent situation whose remedy the log itself can name.
fn by_topic(report: &Report) -> Vec<String> {
    let worth =
        report.topics.iter().filter(|row| !row.harmless && share(row.count, report.incidents) >= WORTH);
    worth.filter_map(of_topic).collect()
}

fn of_topic(row: &TopicRow) -> Option<String> {
    let step = match row.topic {
        "upstream_refused" => {
            "check that the upstream listens (`ss -ltn` on its host) and was not restarting then"
        }
        "upstream_unavailable" => {
            "the reason stands in the lines up to fail_timeout earlier; look there, not at `no live upstreams`"
        }
        "upstream_closed_early" | "upstream_reset_connect" => {
            "compare keepalive_timeout of the upstream block with the upstream's own idle timeout: the upstream's must be longer"
        }
        "upstream_timeout_answer" => {
            "log $upstream_response_time to see whether the application or one URI is slow before raising proxy_read_timeout"
        }
        "upstream_timeout_connect" => {
            "look at the upstream's listen queue (`ss -ltn`, `nstat -az TcpExtListenOverflows`) and at packet filters between"
        }
        "upstream_invalid" => {
            "too big headers need proxy_buffer_size; the resets that the upstream sees are Nginx's own"
        }
        "resource_limit" => {
            "raise worker_connections and worker_rlimit_nofile together, after looking for what holds the connections"
        }
        "worker_exit" => "look for signal and core of the worker in `journalctl -k` and `coredumpctl`",
        "client_abort" => {
            "compare with the upstream's answer time: clients that give up are often the consequence"
        }
        _ => return None,
    };
    Some(format!("{} ({}): {step}", row.title, percent(row.share)))
}

fn level(report: &Report) -> Option<String> {
    let hides = report.blind.first().is_some_and(|text| text.contains("level info"));
    hides.then(|| "`error_log … info;` for an hour shows the client's side".to_owned())
}
