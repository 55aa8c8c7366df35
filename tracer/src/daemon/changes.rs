//! What happened to the processes behind upstreams, and whether incidents follow it: ends, starts of another process
//! (deployments), kills by the OOM killer. Holds the moments, in bounded memory; what follows what is decided in
//! `history::pattern`.

use std::collections::{BTreeSet, VecDeque};

use serde_json::json;

use crate::history::pattern::live::Recent;
use crate::history::pattern::spread::{self, AfterMarks};
use crate::history::pattern::window::Group;
use crate::history::report::PatternRow;
use crate::history::words;
use crate::model::Verdict;
use crate::model::verdict::Cause;
use crate::session::upstreams::{self, Happened};

/// Moments kept at most.
const MOST: usize = 1000;
/// Names in a sentence at most.
const MOST_NAMED: usize = 3;
/// Listeners are looked at once a second, so a change may be told this much later, seconds.
const LATE: i64 = 2;
/// Groups that upstreams can have a part in.
const GROUPS: [Group; 3] = [Group::BadGateway, Group::GatewayTimeout, Group::Client];

/// A kind of moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    End,
    Start,
    OomKill,
}

impl Kind {
    const ALL: [Self; 3] = [Self::End, Self::Start, Self::OomKill];

    /// Slug of the pattern, and its words.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::End => ("after_upstream_exit", "ends of upstream processes"),
            Self::Start => ("after_deployment", "starts of new upstream processes"),
            Self::OomKill => ("after_oom_kill", "upstream processes killed for lack of memory"),
        }
    }
}

/// One moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    kind: Kind,
    /// Seconds of UTC.
    time: i64,
    /// Which process of which upstream.
    what: String,
}

impl Moment {
    /// Of a change that was seen at `now`, seconds of UTC.
    pub(super) fn of_change(change: &upstreams::Change, now: i64) -> Self {
        let process = change.process.as_ref();
        let program =
            process.map(|process| format!(", {}", process.executable.display())).unwrap_or_default();
        let (kind, which) = match change.happened {
            Happened::Ended => (Kind::End, ""),
            Happened::Started { is_other_program: false } => (Kind::Start, ""),
            Happened::Started { is_other_program: true } => (Kind::Start, ", another program than before"),
        };
        Self { kind, time: now - LATE, what: format!("{}{program}{which}", change.upstream) }
    }

    /// Of a verdict that says how an upstream's process ended.
    pub(super) fn of_verdict(verdict: &Verdict) -> Option<Self> {
        let kind = match verdict.cause {
            Cause::UpstreamOomKill => Kind::OomKill,
            Cause::UpstreamProcessExit => Kind::End,
            _ => return None,
        };
        let upstream = crate::store::upstream_of(verdict).unwrap_or_default();
        let sender = verdict.reset.as_ref().and_then(|reset| reset.sender.as_ref());
        let process = sender.map(|sender| {
            let how = sender.exit.as_deref().map(|exit| format!(", {exit}")).unwrap_or_default();
            format!(", {}{how}", sender.comm)
        });
        let time = verdict.time.parse::<jiff::Timestamp>().ok()?.as_second();
        Some(Self { kind, time, what: format!("{upstream}{}", process.unwrap_or_default()) })
    }
}

/// The moments of the last while.
#[derive(Debug, Default)]
pub(super) struct Moments(VecDeque<Moment>);

impl Moments {
    pub(super) fn add(&mut self, moment: Moment) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(moment);
    }

    /// What follows the moments since `oldest`, seconds of UTC.
    pub(super) fn find(
        &mut self,
        recent: &mut Recent,
        started: i64,
        now: i64,
        oldest: i64,
    ) -> Vec<PatternRow> {
        self.0.retain(|moment| moment.time >= oldest);
        Kind::ALL.into_iter().flat_map(|kind| self.after(kind, recent, started, now)).collect()
    }

    fn after(&self, kind: Kind, recent: &mut Recent, started: i64, now: i64) -> Vec<PatternRow> {
        let of_kind: Vec<&Moment> = self.0.iter().filter(|moment| moment.kind == kind).collect();
        if of_kind.is_empty() {
            return Vec::new();
        }
        let marks: Vec<i64> = of_kind.iter().map(|moment| moment.time).collect();
        let window = recent.window_with(started, now, &marks);
        let found = GROUPS.into_iter().filter_map(|group| {
            let found = spread::after_marks(&window, window.series(group))?;
            Some(row(kind, group, &found, &names(&of_kind)))
        });
        found.collect()
    }
}

/// Each process once.
fn names(moments: &[&Moment]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let new = moments.iter().filter(|moment| seen.insert(moment.what.as_str()));
    new.map(|moment| moment.what.clone()).take(MOST_NAMED).collect()
}

fn row(kind: Kind, group: Group, found: &AfterMarks, names: &[String]) -> PatternRow {
    let (pattern, what) = kind.names();
    let text = format!(
        "{} of {} {} come within {} s after one of {} {what} ({})",
        found.count,
        found.of,
        words::group(Some(group)),
        found.within,
        found.marks,
        names.join("; "),
    );
    let numbers = json!({
        "count": found.count, "of": found.of, "within_s": found.within, "changes": found.marks, "processes": names,
    });
    PatternRow { pattern, group: Some(group.slug()), events: found.of, text, numbers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::pattern::live::VerdictEvent;
    use crate::output::samples;

    const START: i64 = 1_772_370_000;

    fn recent(times: impl IntoIterator<Item = i64>) -> Recent {
        let mut recent = Recent::new(86_400, 10_000);
        let event = VerdictEvent::of(&samples::upstream_abort()).unwrap();
        times.into_iter().for_each(|time| recent.add(&VerdictEvent { time: Some(time), ..event.clone() }));
        recent
    }

    fn moments(kind: Kind, times: &[i64]) -> Moments {
        let mut moments = Moments::default();
        for time in times {
            moments.add(Moment { kind, time: *time, what: "127.0.0.1:8081, /usr/bin/app".to_owned() });
        }
        moments
    }

    #[test]
    fn incidents_that_follow_are_told_with_the_process() {
        let times = [START + 1000, START + 9000];
        let mut recent = recent(times.iter().flat_map(|time| (0..6).map(move |at| time + at / 3)));
        let rows = moments(Kind::Start, &times).find(&mut recent, START, START + 20_000, START);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!((rows[0].pattern, rows[0].group), ("after_deployment", Some("bad_gateway")));
        assert!(
            rows[0].text.contains("12 of 12") && rows[0].text.contains("/usr/bin/app"),
            "{}",
            rows[0].text
        );
    }

    #[test]
    fn incidents_at_other_times_are_not() {
        let mut recent = recent((0..40).map(|at| START + at * 400));
        let rows =
            moments(Kind::End, &[START + 1150, START + 9150]).find(&mut recent, START, START + 20_000, START);
        assert_eq!(rows, []);
        let mut none = Moments::default();
        assert_eq!(none.find(&mut recent, START, START + 20_000, START), []);
    }

    #[test]
    fn verdicts_say_how_a_process_ended() {
        let exit = Moment::of_verdict(&samples::process_exit()).unwrap();
        assert_eq!(exit.kind, Kind::End);
        assert!(exit.what.contains(':'), "{}", exit.what);
        assert_eq!(Moment::of_verdict(&samples::slow()), None);
    }

    #[test]
    fn room_is_bounded() {
        let times: Vec<i64> = (0..3000).collect();
        assert_eq!(moments(Kind::End, &times).0.len(), MOST);
    }
}
