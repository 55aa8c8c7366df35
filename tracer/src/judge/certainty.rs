//! Certainty from the evidence list alone (`verdict.md`, section 3). It is earned, never set by a rule.

use std::collections::BTreeSet;

use crate::model::verdict::{Certainty, Evidence, Party, Weight};

use super::finding::{Class, class_of, is_witness};

/// What the list allows, before anything missing lowers it.
pub fn earned(evidence: &[Evidence], party: Party) -> Certainty {
    let count = |weight| evidence.iter().filter(|piece| piece.weight == weight).count();
    let for_it = || evidence.iter().filter(|piece| piece.weight != Weight::Against);
    let classes: BTreeSet<_> = for_it().filter_map(|piece| class_of(&piece.code)).collect();
    let log_alone = classes.iter().all(|class| *class == Class::Log);
    let witnesses = for_it().filter(|piece| is_witness(&piece.code));
    let witnesses: BTreeSet<_> = witnesses.filter_map(|piece| class_of(&piece.code)).collect();
    match (count(Weight::Decisive), witnesses.len(), count(Weight::Against)) {
        _ if party == Party::Unknown || log_alone => Certainty::Undetermined,
        (1.., _, 0) => Certainty::Proven,
        (0, 2.., 0) => Certainty::Strong,
        (.., against) if classes.len() >= against => Certainty::Weak,
        _ => Certainty::Undetermined,
    }
}

/// One step down. A verdict with a party and a kernel event stays `weak`: the contract keeps
/// `undetermined` for an unknown party and for the log alone.
pub fn lowered(certainty: Certainty, steps: usize) -> Certainty {
    (0..steps).fold(certainty, |certainty, _| match certainty {
        Certainty::Proven => Certainty::Strong,
        Certainty::Strong | Certainty::Weak => Certainty::Weak,
        Certainty::Undetermined => Certainty::Undetermined,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::judge::finding::CODES;

    fn piece(code: &'static str, weight: Weight) -> Evidence {
        Evidence { code: code.into(), weight, detail: String::new(), value: None, baseline: None }
    }

    #[test]
    fn two_pieces_of_one_class_count_once() {
        let one_class =
            [piece("active_form", Weight::Supporting), piece("timestamps_continue", Weight::Supporting)];
        assert_eq!(earned(&one_class, Party::Upstream), Certainty::Weak);
        let two_classes =
            [piece("timestamps_continue", Weight::Supporting), piece("hop_equal", Weight::Supporting)];
        assert_eq!(earned(&two_classes, Party::Upstream), Certainty::Strong);
    }

    #[test]
    fn what_would_be_the_same_whoever_it_was_is_no_second_witness() {
        let pieces =
            [piece("hop_equal", Weight::Supporting), piece("request_unanswered", Weight::Supporting)];
        assert_eq!(earned(&pieces, Party::Client), Certainty::Weak);
        assert_eq!(earned(&pieces[1..], Party::Client), Certainty::Weak);
    }

    #[test]
    fn the_log_alone_and_an_unknown_party_are_undetermined() {
        assert_eq!(
            earned(&[piece("log_alone", Weight::Supporting)], Party::Upstream),
            Certainty::Undetermined
        );
        assert_eq!(earned(&[piece("peer_alive", Weight::Decisive)], Party::Unknown), Certainty::Undetermined);
        assert_eq!(earned(&[], Party::Client), Certainty::Undetermined);
    }

    fn evidence() -> impl Strategy<Value = Vec<Evidence>> {
        let weight = prop_oneof![Just(Weight::Decisive), Just(Weight::Supporting), Just(Weight::Against)];
        let one = (0..CODES.len(), weight).prop_map(|(index, weight)| piece(CODES[index].0, weight));
        prop::collection::vec(one, 0..8)
    }

    proptest! {
        #[test]
        fn proven_needs_a_decisive_piece_and_nothing_against(list in evidence(), steps in 0usize..4) {
            let certainty = lowered(earned(&list, Party::Upstream), steps);
            let against = list.iter().any(|piece| piece.weight == Weight::Against);
            let decisive = list.iter().any(|piece| piece.weight == Weight::Decisive);
            prop_assert!(certainty != Certainty::Proven || (decisive && !against && steps == 0));
            prop_assert!(certainty != Certainty::Strong || !against);
        }

        #[test]
        fn one_more_piece_against_never_raises(list in evidence(), index in 0..CODES.len()) {
            let before = earned(&list, Party::Upstream);
            let mut more = list;
            more.push(piece(CODES[index].0, Weight::Against));
            // `Certainty` is declared from `proven` down, so less certain is greater.
            prop_assert!(earned(&more, Party::Upstream) >= before);
        }
    }
}
