//! How long connections had been idle when an upstream ended them just as Nginx used them again: each race shows a
//! silence that was a little too long, and the shortest of several is close to the upstream's idle timeout.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::judge::Races;
use crate::model::Verdict;
use crate::model::verdict::Cause;

/// Upstreams remembered; races with further ones stand for themselves.
const MOST_UPSTREAMS: usize = 1024;

/// Races by upstream.
#[derive(Debug, Default)]
pub struct History(BTreeMap<SocketAddr, Races>);

impl History {
    /// Earlier races with this upstream.
    pub fn with(&self, upstream: SocketAddr) -> Option<Races> {
        self.0.get(&upstream).copied()
    }

    /// Takes note of a verdict if it is about a race.
    pub fn note(&mut self, verdict: &Verdict) {
        let Some(connection) = verdict.connection.as_ref() else { return };
        let upstream =
            connection.remote.parse().ok().filter(|_| verdict.cause == Cause::UpstreamKeepaliveRace);
        let (Some(upstream), Some(idle_ms)) = (upstream, connection.idle_ms) else { return };
        let earlier = self.with(upstream);
        if earlier.is_some() || self.0.len() < MOST_UPSTREAMS {
            self.0.insert(upstream, Races::with(earlier, idle_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::keepalive_race;

    #[test]
    fn the_shortest_silence_is_kept_for_each_upstream_apart() {
        let mut history = History::default();
        let mut verdict = keepalive_race();
        for (remote, idle) in [("10.0.0.2:80", 5_100), ("10.0.0.2:80", 5_010), ("[fd00::2]:80", 900)] {
            let connection = verdict.connection.as_mut().unwrap();
            (connection.remote, connection.idle_ms) = (remote.to_owned(), Some(idle));
            history.note(&verdict);
        }
        let races = history.with("10.0.0.2:80".parse().unwrap());
        assert_eq!(races, Some(Races { incidents: 2, least_ms: 5_010, most_ms: 5_100 }));
        assert_eq!(history.with("[fd00::2]:80".parse().unwrap()).map(|races| races.incidents), Some(1));
    }

    #[test]
    fn other_causes_and_upstreams_beyond_the_limit_are_not_remembered() {
        let mut history = History::default();
        let mut verdict = keepalive_race();
        for number in 0..MOST_UPSTREAMS + 5 {
            verdict.connection.as_mut().unwrap().remote =
                format!("10.{}.{}.1:80", number / 250, number % 250);
            history.note(&verdict);
        }
        verdict.cause = Cause::UpstreamAbort;
        verdict.connection.as_mut().unwrap().remote = "10.0.0.1:80".to_owned();
        history.note(&verdict);
        assert_eq!(history.0.len(), MOST_UPSTREAMS);
        assert_eq!(history.with("10.0.0.1:80".parse().unwrap()).map(|races| races.incidents), Some(1));
    }
}
