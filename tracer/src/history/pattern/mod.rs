//! Patterns in events: the scenarios that tell an engineer where to look. Every finding carries the numbers it
//! rests on, and there is none where the events don't carry it. Pure; works on plain (time, keys) events, so it
//! serves log lines and live verdicts alike.

pub mod burst;
pub mod chance;
pub mod live;
pub mod periodic;
pub mod series;
pub mod spread;
pub mod window;

use burst::{Burst, Presence};
use periodic::Period;
use spread::{AfterMarks, Alternation, Concentration};
pub use window::{Dimension, Event, Group, Window};

/// Fewest events for a statement on time.
const FEWEST: u64 = 3;

/// A pattern, with its numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// A few events in a long time.
    Occasional(Presence),
    /// Events nearly all the time.
    Persistent(Presence),
    /// Events at regular times.
    Periodic(Period),
    /// Many events in a short time.
    Burst(Burst),
    /// Most events have one key.
    Concentration(Concentration),
    /// Every upstream named is hit about equally: their number, and the largest part of one.
    AllUpstreams(usize, f64),
    /// Refusals and timeouts mixed.
    Alternating(Alternation),
    /// Events follow starts and ends of Nginx's processes.
    AfterMarks(AfterMarks),
}

impl Pattern {
    /// Stable name.
    pub fn slug(&self) -> &'static str {
        match self {
            Self::Occasional(_) => "occasional",
            Self::Persistent(_) => "persistent",
            Self::Periodic(_) => "periodic",
            Self::Burst(_) => "burst",
            Self::Concentration(_) => "concentration",
            Self::AllUpstreams(..) => "all_upstreams",
            Self::Alternating(_) => "alternating",
            Self::AfterMarks(_) => "after_process_change",
        }
    }
}

/// A pattern of a group; without a group it is one of all events.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The group.
    pub group: Option<Group>,
    /// Events of the group.
    pub events: u64,
    /// The pattern.
    pub pattern: Pattern,
}

/// Everything that can be said of a window, the groups with most events first.
pub fn find(window: &Window) -> Vec<Finding> {
    let mut groups: Vec<Group> =
        Group::ALL.into_iter().filter(|group| window.count(*group) >= FEWEST).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(window.count(*group)));
    let of_groups = groups.iter().flat_map(|group| {
        let events = window.count(*group);
        of_group(window, *group).into_iter().map(move |pattern| Finding {
            group: Some(*group),
            events,
            pattern,
        })
    });
    let mixed = spread::alternation(window).map(Pattern::Alternating);
    let mixed = mixed.map(|pattern| Finding { group: None, events: window.total(), pattern });
    of_groups.chain(mixed).collect()
}

fn of_group(window: &Window, group: Group) -> Vec<Pattern> {
    let mut patterns = in_time(window, group);
    let series = window.series(group);
    patterns.extend(spread::after_marks(window, series).map(Pattern::AfterMarks));
    let named = [Dimension::Upstream, Dimension::Uri, Dimension::Client, Dimension::Worker];
    let concentrations =
        named.iter().filter_map(|dimension| spread::concentration(window, group, *dimension));
    patterns.extend(concentrations.map(Pattern::Concentration));
    if matches!(group, Group::BadGateway | Group::GatewayTimeout) {
        let even = spread::is_even(window.table(group, Dimension::Upstream));
        patterns.extend(even.map(|(keys, share)| Pattern::AllUpstreams(keys, share)));
    }
    patterns
}

/// What the times say: a period, else bursts; and how much of the time is concerned.
fn in_time(window: &Window, group: Group) -> Vec<Pattern> {
    let (series, Some(span)) = (window.series(group), window.span()) else { return Vec::new() };
    let period = periodic::find(series).map(Pattern::Periodic);
    let burst = burst::find(series, span).map(Pattern::Burst);
    let presence = Presence::of(series, span).and_then(|presence| match presence {
        _ if presence.is_persistent() => Some(Pattern::Persistent(presence)),
        _ if presence.is_occasional() && period.is_none() && burst.is_none() => {
            Some(Pattern::Occasional(presence))
        }
        _ => None,
    });
    period.into_iter().chain(burst).chain(presence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: i64, group: Group) -> Event<'static> {
        Event { time: Some(time), group, keys: [None; 5] }
    }

    fn slugs(window: &Window) -> Vec<&'static str> {
        find(window).iter().map(|finding| finding.pattern.slug()).collect()
    }

    #[test]
    fn an_empty_window_says_nothing() {
        assert_eq!(find(&Window::default()), vec![]);
    }

    #[test]
    fn a_period_and_its_group_are_named() {
        let mut window = Window::default();
        for hour in 0..30 {
            (0..8).for_each(|at| window.add(&event(1_760_000_000 + hour * 3600 + at, Group::GatewayTimeout)));
        }
        let findings = find(&window);
        assert_eq!(slugs(&window), ["periodic"]);
        assert_eq!((findings[0].group, findings[0].events), (Some(Group::GatewayTimeout), 240));
    }

    #[test]
    fn two_lines_in_a_day_say_nothing_of_time() {
        let mut window = Window::default();
        window.cover(1_760_000_000);
        window.cover(1_760_086_400);
        (0..2).for_each(|at| window.add(&event(1_760_000_500 + at * 40_000, Group::Client)));
        assert_eq!(find(&window), vec![]);
        window.add(&event(1_760_070_000, Group::Client));
        assert_eq!(slugs(&window), ["occasional"]);
    }
}
