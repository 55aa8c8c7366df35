//! Facts for tests of checks: an Nginx with a configuration from a text, everything else unknown.

use crate::doctor::Facts;
use crate::doctor::facts::NginxFacts;
use crate::doctor::report::{Seen, Severity};
use crate::nginx::config::tree::Tree;

/// Facts with one Nginx.
pub(super) fn with(configuration: &str, edit: impl FnOnce(&mut NginxFacts)) -> Facts {
    let mut nginx = NginxFacts { master: 7, version: Some((1, 22, 1)), ..NginxFacts::default() };
    nginx.tree = Tree::of_text(configuration);
    edit(&mut nginx);
    Facts { nginx: vec![nginx], ..Facts::default() }
}

/// The one finding there is, its severity checked; panics when there is another number.
#[track_caller]
pub(super) fn only(found: &[Seen], severity: Severity) -> &Seen {
    let [one] = found else { panic!("one finding was expected: {found:#?}") };
    assert_eq!(one.severity, severity, "{one:#?}");
    one
}
