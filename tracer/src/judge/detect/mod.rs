//! Detectors: facts in, findings out. One file per class of evidence; none of them decides anything.

mod captured;
mod header;
mod hop;
mod icmp;
mod life;
mod link;
mod local;
mod log;
mod other_capture;
mod other_end;
mod sequence;
mod shutdown;
mod size;
mod state;
mod timing;
mod unix;

use super::case::Case;
use super::finding::Finding;

pub use header::continued_timestamps;
pub use hop::{difference as hop_difference, routers};
pub use icmp::about as icmp_error;
pub use link::is_taken_over;
pub use state::{answers_others, is_shut};
pub use timing::request_acknowledged;

/// A detector.
pub type Detector = fn(&Case, &mut Vec<Finding>);

/// Every detector with its name, in the order in which their findings are told. Those that can decide come first.
pub const DETECTORS: &[(&str, Detector)] = &[
    ("other_end", other_end::detect),
    ("other_capture", other_capture::detect),
    ("local", local::detect),
    ("icmp", icmp::detect),
    ("captured", captured::detect),
    ("life", life::detect),
    ("timing", timing::detect),
    ("hop", hop::detect),
    ("link", link::detect),
    ("header", header::detect),
    ("sequence", sequence::detect),
    ("size", size::detect),
    ("state", state::detect),
    ("shutdown", shutdown::detect),
    ("unix", unix::detect),
    ("log", log::detect),
];

/// What all detectors find, decisive findings first.
pub fn all(case: &Case) -> Vec<Finding> {
    told(case).into_iter().map(|(_, finding)| finding).collect()
}

/// As [`all`], each finding with the detector it comes from.
pub fn told(case: &Case) -> Vec<(&'static str, Finding)> {
    // A detector sees what those before it found.
    let (mut findings, mut names) = (Vec::new(), Vec::new());
    for (name, detector) in DETECTORS {
        detector(case, &mut findings);
        #[cfg(test)]
        super::tamper::findings(name, &mut findings, names.len());
        names.resize(findings.len(), *name);
    }
    let mut told: Vec<_> = names.into_iter().zip(findings).collect();
    told.sort_by_key(|(_, finding)| !finding.decisive);
    told
}
