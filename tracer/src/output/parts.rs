//! The pieces of a verdict that more than one view words the same way. Pure; returns raw text,
//! the view makes it safe to show.

use super::sanitize;
use crate::model::Verdict;
use crate::model::verdict::{Advice, Cause, Connection, ConnectionSide, Impact, Party};
use crate::nginx::line::upstream_address;

/// Characters of an address: IPv6 with zone and port, or the name of an upstream group.
const MAX_ADDRESS: usize = 64;

/// Who did it, as an address or a process; empty when nothing of it is known. Safe to show.
pub fn culprit(verdict: &Verdict) -> String {
    let text = match verdict.party {
        Party::Client => remote(verdict, ConnectionSide::Client),
        Party::Upstream => remote(verdict, ConnectionSide::Upstream),
        Party::Nginx => worker(verdict),
        Party::Middlebox if verdict.cause == Cause::LocalFirewall => Some("on this host".to_owned()),
        Party::Middlebox => connection_remote(verdict).map(|remote| format!("path to {remote}")),
        Party::Unknown => connection_remote(verdict),
    };
    sanitize::line(&text.unwrap_or_default(), MAX_ADDRESS).into_owned()
}

/// Where it happened, for grouping: the listener, the upstream, or `clients`. Safe to show.
pub fn place(verdict: &Verdict) -> String {
    let text = match (&verdict.listener, &verdict.connection) {
        (Some(listener), _) => listener.address.clone(),
        (None, Some(connection)) if connection.side == ConnectionSide::Upstream => connection.remote.clone(),
        (None, Some(_)) => "clients".to_owned(),
        (None, None) => log_upstream(verdict).unwrap_or_else(|| "-".to_owned()),
    };
    sanitize::line(&text, MAX_ADDRESS).into_owned()
}

/// The party that a cause belongs to. A verdict never names another.
pub fn party_of(cause: Cause) -> Party {
    let prefix = cause.slug().split('_').next().and_then(Party::from_slug);
    match (cause, prefix) {
        (Cause::LocalFirewall, _) => Party::Middlebox,
        (_, Some(party)) => party,
        (_, None) => Party::Unknown,
    }
}

/// What it did to which request.
pub fn impact_and_request(verdict: &Verdict) -> String {
    match (verdict.impact, request(verdict)) {
        (Impact::Unknown, request) => request.unwrap_or_default().to_owned(),
        (impact, Some(request)) => format!("{}: {request}", self::impact(impact)),
        (Impact::RequestFailed, None) => "request failed".to_owned(),
        (Impact::ResponseTruncated, None) => "response truncated".to_owned(),
        (Impact::RequestRetried, None) => "request retried".to_owned(),
        (impact, None) => self::impact(impact).to_owned(),
    }
}

/// An impact in a word or two.
pub fn impact(impact: Impact) -> &'static str {
    match impact {
        Impact::RequestFailed => "failed",
        Impact::ResponseTruncated => "truncated",
        Impact::RequestRetried => "retried",
        Impact::ConnectionOnly => "no request",
        Impact::Harmless => "harmless",
        Impact::Unknown => "unknown",
    }
}

/// Advice in one sentence: the change, the place, the reason.
pub fn advice(advice: &Advice) -> String {
    format!("{} ({}): {}", advice.change, advice.place, advice.text)
}

/// Method and target, without the protocol.
fn request(verdict: &Verdict) -> Option<&str> {
    let line = verdict.log.as_ref()?.request.as_deref()?;
    Some(line.rsplit_once(" HTTP/").map_or(line, |(request, _)| request))
}

fn remote(verdict: &Verdict, side: ConnectionSide) -> Option<String> {
    let of = |connection: &Option<Connection>| {
        connection.as_ref().filter(|connection| connection.side == side).map(|one| one.remote.clone())
    };
    let from_log = || match side {
        ConnectionSide::Client => verdict.log.as_ref()?.client.clone(),
        ConnectionSide::Upstream => log_upstream(verdict),
    };
    let listener = || verdict.listener.as_ref().map(|listener| listener.address.clone());
    of(&verdict.connection).or_else(|| of(&verdict.peer_connection)).or_else(listener).or_else(from_log)
}

fn worker(verdict: &Verdict) -> Option<String> {
    if let Some(listener) = &verdict.listener {
        return Some(format!("listener {}", listener.address));
    }
    let owner = verdict.connection.as_ref().and_then(|connection| connection.owner.as_ref());
    let pid = owner.map(|owner| owner.pid).or_else(|| verdict.log.as_ref()?.pid)?;
    Some(format!("worker {pid}"))
}

fn connection_remote(verdict: &Verdict) -> Option<String> {
    let remote = verdict.connection.as_ref().map(|connection| connection.remote.clone());
    remote.or_else(|| log_upstream(verdict))
}

/// The upstream that the line of the log names: its address, group or socket, without what was asked of it.
pub fn log_upstream(verdict: &Verdict) -> Option<String> {
    let printed = verdict.log.as_ref()?.upstream.as_deref()?;
    upstream_address(printed).map(str::to_owned)
}
