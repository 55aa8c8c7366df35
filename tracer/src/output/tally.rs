//! Adds verdicts up while the session runs, in bounded memory. Shows nothing; see [`super::summary`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::parts;
use crate::model::Verdict;
use crate::model::verdict::{Advice, Cause, Certainty, Impact, Party};

/// Places (upstreams, listeners) that are kept apart; further ones are counted as [`OTHER`].
pub const MAX_PLACES: usize = 64;
/// Different pieces of advice that are kept; further ones are only counted.
pub const MAX_ADVICE: usize = 64;
/// The place of incidents beyond [`MAX_PLACES`].
pub const OTHER: &str = "other";

/// Incidents of one party, cause and place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Whose doing.
    pub party: Party,
    /// Why.
    pub cause: Cause,
    /// Upstream or listener address, `clients`, `other`, or `-` when there is none.
    pub place: String,
    /// Incidents.
    pub count: u64,
    /// Incidents per certainty, surest first.
    pub certainty: BTreeMap<Certainty, u64>,
    /// Incidents per impact, worst first.
    pub impact: BTreeMap<Impact, u64>,
    /// Time of the earliest, RFC 3339.
    pub first: String,
    /// Time of the latest, RFC 3339.
    pub last: String,
}

/// Advice and the number of incidents that came with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RankedAdvice {
    /// Incidents it would address.
    pub incidents: u64,
    /// The advice, in the words of the latest incident.
    #[serde(flatten)]
    pub advice: Advice,
}

/// What happened so far.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    rows: BTreeMap<(Party, Cause, String), Row>,
    places: BTreeSet<String>,
    harmless: BTreeMap<Cause, u64>,
    /// By place and change; the words around them differ from incident to incident.
    advice: BTreeMap<(String, String), RankedAdvice>,
    advice_dropped: u64,
}

impl Tally {
    /// Counts one verdict, shown or hidden.
    pub fn add(&mut self, verdict: &Verdict) {
        if verdict.impact == Impact::Harmless {
            *self.harmless.entry(verdict.cause).or_default() += 1;
            return;
        }
        self.add_row(verdict);
        self.add_advice(&verdict.advice);
    }

    /// Incidents that were not harmless.
    pub fn incidents(&self) -> u64 {
        self.rows.values().map(|row| row.count).sum()
    }

    /// Harmless incidents per cause.
    pub fn harmless(&self) -> &BTreeMap<Cause, u64> {
        &self.harmless
    }

    /// Rows in the order of the parties, within one the most frequent first.
    pub fn rows(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.values().collect();
        rows.sort_by_key(|row| (row.party, std::cmp::Reverse(row.count)));
        rows
    }

    /// Advice, the one that would address most incidents first.
    pub fn advice(&self) -> Vec<&RankedAdvice> {
        let mut advice: Vec<&RankedAdvice> = self.advice.values().collect();
        advice.sort_by_key(|ranked| std::cmp::Reverse(ranked.incidents));
        advice
    }

    /// Times that advice came up for which there was no room left.
    pub fn advice_dropped(&self) -> u64 {
        self.advice_dropped
    }

    fn add_row(&mut self, verdict: &Verdict) {
        let place = self.bounded_place(parts::place(verdict));
        let key = (verdict.party, verdict.cause, place);
        let row = self.rows.entry(key).or_insert_with_key(|(party, cause, place)| Row {
            party: *party,
            cause: *cause,
            place: place.clone(),
            count: 0,
            certainty: BTreeMap::new(),
            impact: BTreeMap::new(),
            first: verdict.time.clone(),
            last: verdict.time.clone(),
        });
        row.count += 1;
        *row.certainty.entry(verdict.certainty).or_default() += 1;
        *row.impact.entry(verdict.impact).or_default() += 1;
        // RFC 3339 in UTC with nine digits sorts as text.
        if verdict.time < row.first {
            row.first.clone_from(&verdict.time);
        }
        if verdict.time > row.last {
            row.last.clone_from(&verdict.time);
        }
    }

    fn bounded_place(&mut self, place: String) -> String {
        if !self.places.contains(&place) {
            if self.places.len() >= MAX_PLACES {
                return OTHER.to_owned();
            }
            self.places.insert(place.clone());
        }
        place
    }

    /// Counts each advice once per incident.
    fn add_advice(&mut self, advice: &[Advice]) {
        let distinct: BTreeMap<_, _> =
            advice.iter().map(|one| ((one.place.clone(), one.change.clone()), one)).collect();
        for (key, one) in distinct {
            if !self.advice.contains_key(&key) && self.advice.len() >= MAX_ADVICE {
                self.advice_dropped += 1;
                continue;
            }
            let fresh = || RankedAdvice { incidents: 0, advice: one.clone() };
            let ranked = self.advice.entry(key).or_insert_with(fresh);
            ranked.incidents += 1;
            ranked.advice = one.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn tally<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Tally {
        let mut tally = Tally::default();
        verdicts.into_iter().for_each(|verdict| tally.add(verdict));
        tally
    }

    #[test]
    fn rows_add_up_and_span_the_times_in_any_order() {
        let mut early = samples::upstream_abort();
        early.time = "2026-03-01T09:00:00.000000000Z".to_owned();
        early.certainty = Certainty::Weak;
        let tally = tally([&samples::upstream_abort(), &early, &samples::upstream_abort()]);
        let rows = tally.rows();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].count, 3);
        assert_eq!(rows[0].certainty, BTreeMap::from([(Certainty::Proven, 2), (Certainty::Weak, 1)]));
        assert_eq!(rows[0].first, early.time);
        assert_eq!(rows[0].last, samples::upstream_abort().time);
    }

    #[test]
    fn harmless_ones_are_counted_apart() {
        let tally = tally([&samples::client_late_reset(), &samples::client_late_reset()]);
        assert_eq!(tally.incidents(), 0);
        assert_eq!(tally.harmless().get(&Cause::ClientLateReset), Some(&2));
    }

    #[test]
    fn places_are_bounded_and_nothing_is_forgotten() {
        let mut verdict = samples::upstream_abort();
        let mut tally = Tally::default();
        for number in 0..5000 {
            verdict.connection.as_mut().unwrap().remote =
                format!("10.0.{}.{}:80", number / 250, number % 250);
            tally.add(&verdict);
        }
        assert_eq!(tally.rows().len(), MAX_PLACES + 1);
        assert_eq!(tally.incidents(), 5000);
        assert_eq!(tally.rows()[0].place, OTHER);
        assert_eq!(tally.rows()[0].count, 5000 - MAX_PLACES as u64);
    }

    #[test]
    fn the_same_change_counts_once_per_incident_with_the_latest_words() {
        let mut verdict = samples::keepalive_race();
        let mut again = verdict.advice[0].clone();
        again.text = "other words".to_owned();
        verdict.advice.push(again);
        let tally = tally([&samples::keepalive_race(), &verdict, &samples::upstream_abort()]);
        let advice = tally.advice();
        assert_eq!(advice[0].incidents, 2);
        assert_eq!(advice[0].advice.text, "other words");
    }

    #[test]
    fn advice_is_bounded() {
        let mut verdict = samples::keepalive_race();
        let mut tally = Tally::default();
        for number in 0..100 {
            verdict.advice[0].change = format!("keepalive_timeout {number}s;");
            tally.add(&verdict);
        }
        assert_eq!(tally.advice().len(), MAX_ADVICE);
        assert_eq!(tally.advice_dropped(), 100 - MAX_ADVICE as u64);
    }
}
