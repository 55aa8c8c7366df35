//! Detectors: facts in, findings out. One file per class of evidence; none of them decides anything.

mod header;
mod hop;
mod life;
mod local;
mod log;
mod other_end;
mod sequence;
mod state;
mod timing;

use super::case::Case;
use super::finding::Finding;

pub use hop::difference as hop_difference;

/// A detector.
pub type Detector = fn(&Case, &mut Vec<Finding>);

/// Every detector, in the order in which its findings are told. Those that can decide come first.
pub const DETECTORS: &[Detector] = &[
    other_end::detect,
    local::detect,
    life::detect,
    timing::detect,
    hop::detect,
    header::detect,
    sequence::detect,
    state::detect,
    log::detect,
];

/// What all detectors find, decisive findings first.
pub fn all(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    for detector in DETECTORS {
        detector(case, &mut findings);
    }
    findings.sort_by_key(|finding| !finding.decisive);
    findings
}
