//! What lowers the claim of a comparison: losses, other coverage, restarts, other hooks and versions.

use std::collections::BTreeMap;

use super::*;
use crate::model::{HookState, HostFacts, Losses, Utc};
use crate::output::samples;
use crate::report::document::Block;
use crate::report::source::{Entry, Origin};
use crate::report::{Selection, Window};

const HOUR: i64 = 3_600_000_000_000;

/// A window of an hour with so many incidents, of which everything is known.
fn side(incidents: usize) -> Side {
    let mut window = Window::default();
    for _ in 0..incidents {
        window.add(Entry::bare(samples::upstream_abort()));
    }
    let hook = HookState {
        name: "tcp_receive_reset".to_owned(),
        running: true,
        problem: None,
        lost_evidence: String::new(),
    };
    let origin = Origin {
        version: Some("1".to_owned()),
        observed: vec![(Utc(0), Utc(HOUR))],
        last_host: Some(Box::new(HostFacts { hooks: vec![hook], ..HostFacts::default() })),
        losses: Some(Losses::default()),
        changes: Some(0),
        ..Origin::default()
    };
    let selection = Selection::default();
    let material = Material { selection, origin, window, made: String::new(), redaction: Vec::new(), top: 1 };
    Side { material, connections: Some(1000) }
}

/// The first sentence and what makes the windows unlike.
fn compare(before: &Side, after: &Side) -> (String, Vec<String>) {
    let document = document(before, after);
    let Block::Answer(answer) = &document.sections[0].blocks[0] else { panic!("no answer") };
    (answer.what.clone(), reservations(before, after))
}

/// The claim is lowered, for this reason and no other.
fn lowered(after: &Side, why: &str) {
    let (what, unlike) = compare(&side(40), after);
    assert_eq!(unlike.len(), 1, "{unlike:?}");
    assert!(unlike[0].contains(why), "{unlike:?}");
    assert!(what.contains("unlike in 1 way, so this is no proof of an effect"), "{what}");
}

#[test]
fn windows_that_are_alike_carry_the_claim() {
    let (what, unlike) = compare(&side(40), &side(2));
    assert_eq!((what.as_str(), unlike.len()), ("Fewer incidents: 40 incidents before, 2 after.", 0));
}

#[test]
fn losses_lower_the_claim() {
    let mut after = side(2);
    after.material.origin.losses = Some(Losses { by_handover: BTreeMap::from([("channel".to_owned(), 7)]) });
    lowered(&after, "7 events were lost in the window after");
    after.material.origin.losses = None;
    lowered(&after, "What was lost in the window after is not known");
}

#[test]
fn restarts_lower_the_claim() {
    let mut after = side(2);
    after.material.origin.changes = Some(2);
    lowered(&after, "Nginx was started, reloaded or stopped 2 times in the window after");
}

#[test]
fn unequal_coverage_lowers_the_claim() {
    let mut after = side(2);
    after.material.origin.observed = vec![(Utc(0), Utc(9 * HOUR))];
    lowered(&after, "The windows are");
    let mut after = side(2);
    after.material.selection.since = Some("1970-01-01T00:30:00.000000000Z".to_owned());
    after.material.selection.until = Some("1970-01-01T01:30:00.000000000Z".to_owned());
    lowered(&after, "Of the 1 h 0 min of the window after 30 min 0 s were observed");
    let mut after = side(2);
    if let Some(host) = &mut after.material.origin.last_host {
        host.hooks.clear();
    }
    lowered(&after, "Other hooks ran: only before [tcp_receive_reset]");
}

#[test]
fn other_versions_and_cut_recordings_lower_the_claim() {
    let mut after = side(2);
    after.material.origin.version = Some("2".to_owned());
    lowered(&after, "different versions, 1 and 2");
    let mut after = side(2);
    after.material.origin.notes = vec!["The recording has no end".to_owned()];
    lowered(&after, "Window after: The recording has no end");
    after.material.origin.remarks = std::mem::take(&mut after.material.origin.notes);
    assert_eq!(compare(&side(40), &after).1, Vec::<String>::new());
}

#[test]
fn what_changed_by_cause_is_said_even_where_the_sum_did_not_change() {
    let of = |aborts: usize, refused: usize| {
        let mut side = side(aborts);
        (0..refused).for_each(|_| side.material.window.add(Entry::bare(samples::refused())));
        side
    };
    let (what, _) = compare(&of(20, 0), &of(0, 20));
    assert!(what.starts_with("Single causes changed, their sum shows no change"), "{what}");
    assert!(what.contains("more upstream_refused (0 to 20), fewer upstream_abort (20 to 0)"), "{what}");
    // 6 to 0 alone would be told from chance; beside another comparison it is not.
    let (what, _) = compare(&of(6, 5), &of(0, 5));
    assert!(what.starts_with("No evidence of a change"), "{what}");
}

#[test]
fn what_makes_the_windows_unlike_is_named_with_the_answer() {
    let mut after = side(2);
    after.material.origin.version = Some("2".to_owned());
    let document = document(&side(40), &after);
    let Block::Answer(answer) = &document.sections[0].blocks[0] else { panic!("no answer") };
    assert!(answer.sure.contains("Unlike: The windows were observed by different versions"), "{answer:?}");
}
