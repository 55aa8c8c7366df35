//! Counts of many incidents, in bounded memory: over time, by party and cause, by upstream and client network, with the
//! most telling incident of each group. What a bound leaves out is counted.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use crate::history::key;
use crate::history::pattern::live::VerdictEvent;
use crate::history::pattern::{self, Finding, window::Window as Patterns};
use crate::model::Verdict;
use crate::model::verdict::{Cause, Certainty, ConnectionSide, Impact, Party};
use crate::output::parts;

use super::source::Entry;

/// Buckets of time at most; beyond, neighbours are joined.
const MOST_BUCKETS: i64 = 120;
/// Widths of a bucket, seconds. Each is a multiple of the one before.
const WIDTHS: [i64; 15] =
    [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 21_600, 43_200, 86_400, 604_800, 2_419_200, 29_030_400];
/// Keys of a table that are kept apart.
const MOST_KEYS: usize = 2000;
/// Groups of like incidents that are kept apart.
const MOST_GROUPS: usize = 4000;
/// Incidents that are listed one by one; beyond, only groups are.
pub const MOST_ROWS: usize = 2000;

/// Counts over time of one key.
type Timeline<K> = BTreeMap<K, BTreeMap<i64, u64>>;

/// Incidents of one key of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// Incidents.
    pub total: u64,
    /// Incidents per party.
    pub parties: BTreeMap<Party, u64>,
}

/// A bounded table of counts.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    rows: HashMap<String, Counted>,
    /// Incidents of keys for which there was no room.
    pub other: u64,
}

impl Keys {
    fn add(&mut self, name: String, party: Party) {
        if !self.rows.contains_key(&name) && self.rows.len() >= MOST_KEYS {
            self.other += 1;
            return;
        }
        let row = self.rows.entry(name).or_default();
        row.total += 1;
        *row.parties.entry(party).or_default() += 1;
    }

    /// Rows, most incidents first.
    pub fn ranked(&self) -> Vec<(&String, &Counted)> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|one, other| {
            other.1.total.cmp(&one.1.total).then_with(|| by_address(one.0).cmp(&by_address(other.0)))
        });
        rows
    }
}

/// Addresses in the order of their numbers, then networks and names as text.
fn by_address(name: &str) -> (bool, Option<SocketAddr>, &str) {
    let address = name.parse().ok();
    (address.is_none(), address, name)
}

/// What like incidents have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey {
    /// Whose doing.
    pub party: Party,
    /// Why.
    pub cause: Cause,
    /// Upstream, listener, `clients` or `-`.
    pub place: String,
}

/// Like incidents.
#[derive(Debug, Clone)]
pub struct Group {
    /// Their number.
    pub count: u64,
    /// Their number per certainty.
    pub certainty: BTreeMap<Certainty, u64>,
    /// Their number per impact.
    pub impact: BTreeMap<Impact, u64>,
    /// Time of the earliest.
    pub first: String,
    /// Time of the latest.
    pub last: String,
    /// The one that shows most.
    pub example: Box<Entry>,
}

/// One incident in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Time.
    pub time: String,
    /// Id.
    pub id: String,
    /// Whose doing.
    pub party: Party,
    /// Why.
    pub cause: Cause,
    /// How sure.
    pub certainty: Certainty,
    /// What it did.
    pub impact: Impact,
    /// Who, as an address or a process.
    pub who: String,
    /// The request.
    pub request: String,
}

/// Counts of the incidents of a window.
#[derive(Debug, Default)]
pub struct Window {
    /// Incidents, harmless ones and consequences included if they were selected.
    pub total: u64,
    /// Time of the earliest and the latest.
    pub span: Option<(String, String)>,
    /// Harmless ones that were left out.
    pub harmless: u64,
    /// Consequences of other incidents; counted in nothing else.
    pub consequences: u64,
    groups: HashMap<GroupKey, Group>,
    /// Incidents of groups for which there was no room.
    pub other_groups: u64,
    width: usize,
    times: Timeline<(Party, Cause)>,
    /// By upstream.
    pub upstreams: Keys,
    /// By client network.
    pub networks: Keys,
    patterns: Patterns,
    rows: Vec<Row>,
}

impl Window {
    /// Takes one incident.
    pub fn add(&mut self, entry: Entry) {
        if entry.verdict.consequence_of.is_some() {
            self.consequences += 1;
        } else {
            self.take(entry);
        }
    }

    /// Adds an incident as one of its own, even if it is a consequence of another.
    pub fn take(&mut self, entry: Entry) {
        let verdict = &entry.verdict;
        self.total += 1;
        self.widen(&verdict.time);
        self.count_time(verdict);
        self.count_keys(verdict);
        if let Some(event) = VerdictEvent::of(verdict) {
            self.patterns.add(&event.event());
        }
        if self.rows.len() < MOST_ROWS {
            self.rows.push(row(verdict));
        }
        self.group(entry);
    }

    /// Groups of like incidents, most incidents first.
    pub fn groups(&self) -> Vec<(&GroupKey, &Group)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by(|one, other| other.1.count.cmp(&one.1.count).then_with(|| one.0.cmp(other.0)));
        groups
    }

    /// Every incident, earliest first; `None` where there are too many to list.
    pub fn rows(&self) -> Option<Vec<&Row>> {
        if self.total > MOST_ROWS as u64 {
            return None;
        }
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by(|one, other| one.time.cmp(&other.time).then_with(|| one.id.cmp(&other.id)));
        Some(rows)
    }

    /// Patterns in the times and keys.
    pub fn patterns(&self) -> Vec<Finding> {
        pattern::find(&self.patterns)
    }

    /// Width of a bucket, seconds.
    pub fn width(&self) -> i64 {
        WIDTHS[self.width]
    }

    /// First and last bucket, as numbers of widths since 1970.
    pub fn buckets(&self) -> Option<(i64, i64)> {
        let keys = || self.times.values().flat_map(BTreeMap::keys).copied();
        Some((keys().min()?, keys().max()?))
    }

    /// Counts per bucket of every party and cause.
    pub fn times(&self) -> impl Iterator<Item = (Party, Cause, &BTreeMap<i64, u64>)> {
        self.times.iter().map(|((party, cause), counts)| (*party, *cause, counts))
    }

    fn widen(&mut self, time: &str) {
        match &mut self.span {
            None => self.span = Some((time.to_owned(), time.to_owned())),
            Some((first, _)) if time < first.as_str() => time.clone_into(first),
            Some((_, last)) if time > last.as_str() => time.clone_into(last),
            Some(_) => {}
        }
    }

    fn count_time(&mut self, verdict: &Verdict) {
        let Ok(stamp) = verdict.time.parse::<jiff::Timestamp>() else { return };
        let bucket = stamp.as_second().div_euclid(self.width());
        let counts = self.times.entry((verdict.party, verdict.cause)).or_default();
        *counts.entry(bucket).or_default() += 1;
        while self.buckets_of_span() > MOST_BUCKETS && self.width + 1 < WIDTHS.len() {
            self.coarsen();
        }
    }

    fn buckets_of_span(&self) -> i64 {
        let second = |time: &str| time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
        self.span.as_ref().map_or(0, |(first, last)| (second(last) - second(first)) / self.width() + 1)
    }

    fn coarsen(&mut self) {
        let factor = WIDTHS[self.width + 1] / WIDTHS[self.width];
        self.width += 1;
        for counts in self.times.values_mut() {
            let mut joined = BTreeMap::new();
            for (bucket, count) in std::mem::take(counts) {
                *joined.entry(bucket.div_euclid(factor)).or_default() += count;
            }
            *counts = joined;
        }
    }

    fn count_keys(&mut self, verdict: &Verdict) {
        let upstream = super::selection::upstream(verdict).map(|address| address.to_string());
        if let Some(upstream) = upstream.or_else(|| parts::log_upstream(verdict)) {
            self.upstreams.add(upstream, verdict.party);
        }
        if let Some(client) = client(verdict) {
            let mut network = Vec::new();
            key::network(client.as_bytes(), &mut network);
            self.networks.add(String::from_utf8_lossy(&network).into_owned(), verdict.party);
        }
    }

    fn group(&mut self, entry: Entry) {
        let verdict = &entry.verdict;
        let name = GroupKey { party: verdict.party, cause: verdict.cause, place: parts::place(verdict) };
        if !self.groups.contains_key(&name) && self.groups.len() >= MOST_GROUPS {
            self.other_groups += 1;
            return;
        }
        match self.groups.get_mut(&name) {
            Some(group) => group.add(entry),
            None => {
                self.groups.insert(name, Group::new(entry));
            }
        }
    }
}

impl Group {
    fn new(entry: Entry) -> Self {
        let verdict = &entry.verdict;
        Self {
            count: 1,
            certainty: BTreeMap::from([(verdict.certainty, 1)]),
            impact: BTreeMap::from([(verdict.impact, 1)]),
            first: verdict.time.clone(),
            last: verdict.time.clone(),
            example: Box::new(entry),
        }
    }

    fn add(&mut self, entry: Entry) {
        let verdict = &entry.verdict;
        self.count += 1;
        *self.certainty.entry(verdict.certainty).or_default() += 1;
        *self.impact.entry(verdict.impact).or_default() += 1;
        if verdict.time < self.first {
            self.first.clone_from(&verdict.time);
        }
        if verdict.time > self.last {
            self.last.clone_from(&verdict.time);
        }
        if rank(verdict) < rank(&self.example.verdict) {
            *self.example = entry;
        }
    }
}

/// Order in which incidents of a group are worth showing: the surest, then the worst, then the one with a line.
fn rank(verdict: &Verdict) -> (Certainty, Impact, bool) {
    (verdict.certainty, verdict.impact, verdict.log.is_none())
}

fn row(verdict: &Verdict) -> Row {
    Row {
        time: verdict.time.clone(),
        id: verdict.id.clone(),
        party: verdict.party,
        cause: verdict.cause,
        certainty: verdict.certainty,
        impact: verdict.impact,
        who: parts::culprit(verdict),
        request: verdict.log.as_ref().and_then(|log| log.request.clone()).unwrap_or_default(),
    }
}

/// The client's address, from its connection or from the log.
fn client(verdict: &Verdict) -> Option<String> {
    let ends = [&verdict.connection, &verdict.peer_connection];
    let end = ends.into_iter().flatten().find(|end| end.side == ConnectionSide::Client);
    let address = end.and_then(|end| end.remote.parse::<SocketAddr>().ok());
    let logged = || verdict.log.as_ref().and_then(|log| log.client.clone());
    address.map(|address| address.ip().to_string()).or_else(logged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn window(verdicts: impl IntoIterator<Item = Verdict>) -> Window {
        let mut window = Window::default();
        verdicts.into_iter().for_each(|verdict| window.add(Entry::bare(verdict)));
        window
    }

    fn at(second: i64) -> Verdict {
        let time = jiff::Timestamp::from_second(1_790_000_000 + second).unwrap();
        Verdict { time: format!("{time:.9}"), ..samples::upstream_abort() }
    }

    #[test]
    fn time_is_counted_in_at_most_so_many_buckets_and_nothing_is_lost() {
        for step in [1, 7, 3600, 90_000] {
            let window = window((0..1000).rev().map(|number| at(number * step)));
            let (first, last) = window.buckets().unwrap();
            assert!(last - first <= MOST_BUCKETS + 1, "step {step}: {first} to {last}");
            let sum: u64 =
                window.times().flat_map(|(_, _, counts)| counts.values().copied().collect::<Vec<_>>()).sum();
            assert_eq!(sum, 1000);
        }
    }

    #[test]
    fn groups_keep_the_most_telling_incident() {
        let weak = Verdict { certainty: Certainty::Weak, id: "weak".to_owned(), ..samples::upstream_abort() };
        let window = window([weak, samples::upstream_abort(), samples::forged_reset()]);
        let groups = window.groups();
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].1.count, 2);
        assert_eq!(groups[0].1.example.verdict, samples::upstream_abort());
    }

    #[test]
    fn tables_are_bounded_and_the_rest_is_counted() {
        let mut keys = Keys::default();
        (0..MOST_KEYS + 5).for_each(|number| keys.add(number.to_string(), Party::Client));
        assert_eq!((keys.ranked().len(), keys.other), (MOST_KEYS, 5));
    }

    #[test]
    fn addresses_stand_in_the_order_of_their_numbers() {
        let mut keys = Keys::default();
        for name in ["backend", "10.0.0.109:80", "[::1]:80", "10.0.0.10:80", "10.0.0.9:8080", "10.0.0.9:80"] {
            keys.add(name.to_owned(), Party::Upstream);
        }
        let names: Vec<&str> = keys.ranked().iter().map(|(name, _)| name.as_str()).collect();
        let wanted = ["10.0.0.9:80", "10.0.0.9:8080", "10.0.0.10:80", "10.0.0.109:80", "[::1]:80", "backend"];
        assert_eq!(names, wanted);
    }

    #[test]
    fn incidents_are_listed_until_they_are_too_many() {
        assert_eq!(window((0..10).map(at)).rows().map(|rows| rows.len()), Some(10));
        assert_eq!(window((0..2001).map(at)).rows(), None);
    }

    #[test]
    fn consequences_are_not_counted_twice() {
        let window = window([samples::consequence(), samples::client_abort()]);
        assert_eq!((window.total, window.consequences), (1, 1));
    }
}
