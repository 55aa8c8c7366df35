//! Which sequence numbers of one direction passed a place: everything up to the highest, less what is missing. An
//! acknowledgment behind lost data shows where the data should have been, not that it passed.

use super::end::behind;

/// Gaps remembered; beyond it the oldest counts as passed, so that nothing is called lost for lack of memory.
const MOST: usize = 8;

/// What passed, and when what was missing first came after all.
#[derive(Debug, Clone, Default)]
pub struct Stretch {
    /// Behind the highest sequence number that passed.
    end: Option<u32>,
    /// What did not pass when it was due.
    gaps: Vec<Gap>,
}

/// Sequence numbers that were missing when later ones passed.
#[derive(Debug, Clone, Copy)]
struct Gap {
    begin: u32,
    end: u32,
    /// When they passed after all, nanoseconds since 1970.
    filled: Option<u64>,
}

impl Stretch {
    /// A segment with these numbers passed at `time`; the second is behind its last.
    pub fn takes(&mut self, begin: u32, end: u32, time: u64) {
        let Some(reached) = self.end else {
            self.end = Some(end);
            return;
        };
        if behind(begin, reached) {
            self.gaps.push(Gap { begin: reached, end: begin, filled: None });
        } else {
            self.gaps = self.gaps.iter().flat_map(|gap| gap.meets(begin, end, time)).collect();
        }
        let surplus = self.gaps.len().saturating_sub(MOST);
        self.gaps.drain(..surplus);
        // An acknowledgment shows that what is before it was sent, too.
        if behind(end, reached) {
            self.end = Some(end);
        }
    }

    /// Nothing up to this number has passed yet.
    pub fn is_behind(&self, end: u32) -> bool {
        self.end.is_none_or(|reached| behind(end, reached))
    }

    /// Whether the byte with this number had passed by `time`.
    pub fn has(&self, number: u32, time: u64) -> bool {
        let missing = |gap: &Gap| gap.has(number) && gap.filled.is_none_or(|filled| filled > time);
        self.end.is_some_and(|end| behind(end, number)) && !self.gaps.iter().any(missing)
    }
}

impl Gap {
    fn has(&self, number: u32) -> bool {
        !behind(self.begin, number) && behind(self.end, number)
    }

    /// What a segment makes of it: up to three pieces, of which the one that it brings is filled.
    fn meets(self, begin: u32, end: u32, time: u64) -> impl Iterator<Item = Self> {
        let (from, to) = (larger(self.begin, begin), smaller(self.end, end));
        let touched = self.filled.is_none() && behind(to, from);
        let brought = Self { begin: from, end: to, filled: Some(time) };
        let pieces = [Self { end: from, ..self }, brought, Self { begin: to, ..self }];
        let whole = (!touched).then_some(self);
        whole
            .into_iter()
            .chain(pieces.into_iter().filter(move |piece| touched && behind(piece.end, piece.begin)))
    }
}

fn smaller(one: u32, other: u32) -> u32 {
    if behind(one, other) { other } else { one }
}

fn larger(one: u32, other: u32) -> u32 {
    if behind(one, other) { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments by number and length, one a nanosecond.
    fn of(seen: &[(u32, u32)]) -> Stretch {
        let mut stretch = Stretch::default();
        for (time, (seq, length)) in (1..).zip(seen) {
            stretch.takes(*seq, seq.wrapping_add(*length), time);
        }
        stretch
    }

    #[test]
    fn an_acknowledgment_behind_lost_data_does_not_make_it_pass() {
        let stretch = of(&[(100, 20), (155, 0)]);
        assert!(stretch.has(119, 9) && !stretch.has(120, 9) && !stretch.has(154, 9));
    }

    #[test]
    fn what_came_behind_a_gap_leaves_it_open_until_it_is_filled() {
        let before = [(u32::MAX - 9, 10), (30, 10)];
        let open = of(&before);
        assert!(open.has(u32::MAX, 9) && !open.has(0, 9) && !open.has(29, 9) && open.has(30, 9));
        let half = of(&[before[0], before[1], (10, 10)]);
        assert!(!half.has(9, 9) && half.has(10, 9) && half.has(19, 9) && !half.has(20, 9));
        let filled = of(&[before[0], before[1], (10, 10), (0, 30)]);
        assert!(filled.has(0, 9) && filled.has(29, 9) && !filled.has(40, 9));
        assert!(filled.has(15, 3), "what came first counts");
        assert!(!filled.has(15, 2) && !filled.has(5, 3) && filled.has(5, 4), "not before it came");
    }

    #[test]
    fn what_does_not_fit_the_memory_counts_as_passed() {
        let sparse: Vec<_> = (0..=MOST as u32 + 1).map(|number| (number * 20, 10)).collect();
        let stretch = of(&sparse);
        assert!(stretch.has(15, 99), "the oldest gap is forgotten");
        assert!(!stretch.has(35, 99), "the next is not");
    }
}
