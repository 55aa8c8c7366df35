//! What was not selected stays silent: `--nginx-port` and `--upstream` act in the kernel, `--only` on what is shown.
//!
//! Each plays a fault that is reported without the filter, so silence here is the filter's doing.

use super::super::scenario::{LogTruth, ORDINARY, Place, Scenario};
use super::PLAIN;
use super::clients::{STATIC, abort_static};
use super::upstream::{ABORT, RECV, linger_zero};

/// Filters of `rstscope trace`.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "filter-upstream-selected",
        says: "--upstream names the upstream that resets",
        servers: PLAIN,
        drive: linger_zero,
        expect: &[ABORT],
        log: RECV,
        alone: true,
        arguments: &["--upstream", "@UPSTREAM@"],
        ..ORDINARY
    },
    Scenario {
        name: "filter-upstream-other",
        says: "--upstream names another upstream than the one that resets",
        servers: PLAIN,
        drive: linger_zero,
        log: RECV,
        alone: true,
        arguments: &["--upstream", "192.0.2.1:80,[2001:db8::1]:80"],
        ..ORDINARY
    },
    Scenario {
        name: "filter-upstream-other-local",
        says: "the same when the upstream is a process of the Nginx host, whose own end is not selected either",
        place: Place::Local,
        servers: PLAIN,
        drive: linger_zero,
        log: RECV,
        alone: true,
        arguments: &["--upstream", "192.0.2.1:80,[2001:db8::1]:80"],
        ..ORDINARY
    },
    Scenario {
        name: "filter-port-other",
        says: "--nginx-port names another port than the one whose client aborts",
        servers: STATIC,
        drive: abort_static,
        log: LogTruth::Either,
        alone: true,
        arguments: &["--nginx-port", "9"],
        ..ORDINARY
    },
    Scenario {
        name: "filter-only-other",
        says: "--only names another party than the one that resets: seen, counted and not written",
        servers: PLAIN,
        drive: linger_zero,
        log: RECV,
        alone: true,
        hidden: true,
        arguments: &["--only", "middlebox,client"],
        ..ORDINARY
    },
];
