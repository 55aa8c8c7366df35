//! A verdict as a row: its JSON, and the columns it is found by. Pure.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use super::StoreError;
use crate::model::Verdict;
use crate::model::verdict::{Connection, ConnectionSide};
use crate::output::{ndjson, parts};

/// Characters that a search for text looks at, per verdict.
const MAX_WORDS: usize = 2000;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The verdict's id.
    pub id: String,
    /// Nanoseconds since 1970, UTC.
    pub time: i64,
    /// Slug.
    pub party: &'static str,
    /// Slug.
    pub cause: &'static str,
    /// Slug.
    pub certainty: &'static str,
    /// Slug.
    pub impact: &'static str,
    /// Address and port of the upstream concerned, as the kernel or else the log has it.
    pub upstream: Option<String>,
    /// Address of the client concerned, without port.
    pub client: Option<String>,
    /// What a search for text looks at, in lower case.
    pub words: String,
    /// The whole record.
    pub json: String,
    /// What stands behind it, packed.
    pub dossier: Option<Vec<u8>>,
}

impl Row {
    /// The row of a verdict.
    pub fn of(verdict: &Verdict) -> Result<Self, StoreError> {
        let error = |why: &dyn std::fmt::Display| StoreError::Verdict(why.to_string());
        let stamp = verdict.time.parse::<Timestamp>().map_err(|why| error(&why))?;
        let time = i64::try_from(stamp.as_nanosecond()).map_err(|why| error(&why))?;
        let json = ndjson::line(verdict).map_err(|why| error(&why))?;
        let json = String::from_utf8(json).map_err(|why| error(&why))?;
        Ok(Self {
            id: verdict.id.clone(),
            time,
            party: verdict.party.slug(),
            cause: verdict.cause.slug(),
            certainty: verdict.certainty.slug(),
            impact: verdict.impact.slug(),
            upstream: upstream_of(verdict),
            client: client(verdict),
            words: words(verdict),
            json: json.trim_end().to_owned(),
            dossier: None,
        })
    }

    /// The same row with what stands behind the verdict, packed.
    #[must_use]
    pub fn with(self, dossier: Option<Vec<u8>>) -> Self {
        Self { dossier, ..self }
    }
}

fn side(verdict: &Verdict, side: ConnectionSide) -> Option<&Connection> {
    let both = [&verdict.connection, &verdict.peer_connection];
    both.into_iter().flatten().find(|connection| connection.side == side)
}

/// Address and port of the upstream that a verdict concerns, or its name where only the log speaks.
pub fn upstream_of(verdict: &Verdict) -> Option<String> {
    let seen = side(verdict, ConnectionSide::Upstream).map(|connection| connection.remote.clone());
    seen.or_else(|| parts::log_upstream(verdict))
}

fn client(verdict: &Verdict) -> Option<String> {
    let seen = side(verdict, ConnectionSide::Client).map(|connection| connection.remote.as_str());
    let text = seen.or_else(|| verdict.log.as_ref()?.client.as_deref())?;
    let address = text.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse::<IpAddr>());
    Some(address.map_or_else(|_| text.to_owned(), |address| address.to_canonical().to_string()))
}

/// Everything of a verdict that a person would remember: the sentence, the line of the log, the addresses.
fn words(verdict: &Verdict) -> String {
    let log = verdict.log.as_ref();
    let of_log = log.map(|log| {
        let parts = [&log.request, &log.host, &log.server, &log.upstream, &log.client, &log.action];
        let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        format!("{} {}", log.message, parts.join(" "))
    });
    let ends = [&verdict.connection, &verdict.peer_connection];
    let ends = ends.into_iter().flatten().map(|end| format!("{} {}", end.local, end.remote));
    let sender = verdict.reset.as_ref().and_then(|reset| reset.sender.as_ref()).map(|sender| &sender.comm);
    let all = std::iter::once(verdict.summary.clone()).chain(of_log).chain(ends).chain(sender.cloned());
    let text: String = all.collect::<Vec<_>>().join(" ");
    text.chars().take(MAX_WORDS).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn the_columns_come_from_the_kernel_first_and_from_the_log_without_it() {
        let row = Row::of(&samples::upstream_abort()).unwrap();
        assert_eq!(row.upstream.as_deref(), Some("10.0.1.10:8080"));
        assert_eq!(row.client.as_deref(), Some("198.51.100.7"));
        assert_eq!((row.party, row.cause), ("upstream", "upstream_abort"));
        let mut alone = samples::no_live_upstreams();
        assert_eq!(Row::of(&alone).unwrap().upstream, alone.log.clone().unwrap().upstream);
        let printed = [
            ("http://127.0.0.1:9009/none?n=1671", "127.0.0.1:9009"),
            ("http://unix:/run/app sock:/x%22%3Cb%3E?a=1", "unix:/run/app sock"),
            ("fastcgi://[2001:db8::1]:9000", "[2001:db8::1]:9000"),
        ];
        for (printed, upstream) in printed {
            alone.log.as_mut().unwrap().upstream = Some(printed.to_owned());
            assert_eq!(Row::of(&alone).unwrap().upstream.as_deref(), Some(upstream), "{printed}");
        }
    }

    #[test]
    fn every_sample_has_a_row_that_reads_back() {
        for verdict in samples::all() {
            let row = Row::of(&verdict).unwrap();
            assert_eq!(serde_json::from_str::<Verdict>(&row.json).unwrap(), verdict);
            assert!(row.words.chars().count() <= MAX_WORDS * 3 && row.time > 0);
        }
    }

    #[test]
    fn a_verdict_without_a_time_is_refused_not_stored_anywhere() {
        let verdict = Verdict { time: "yesterday".to_owned(), ..samples::refused() };
        assert!(Row::of(&verdict).unwrap_err().to_string().starts_with("cannot store a verdict: "));
    }
}
