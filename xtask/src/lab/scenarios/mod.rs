//! The table of scenarios, by where the fault lies.
//!
//! Adding a scenario is adding an entry to one of these tables and, where none fits, a driver beside it.

mod blind;
mod clients;
mod cut;
mod details;
mod doubts;
mod emitters;
mod ending;
mod ends;
mod far;
mod filters;
mod firewall;
mod halves;
mod healthy;
mod host;
mod hot;
mod icmp;
mod idle;
mod inject;
mod leaving;
mod limits;
mod losses;
mod mapped;
mod middlebox;
mod mptcp;
mod mtu;
mod nginx;
mod once;
mod overflow;
mod paths;
mod protocols;
mod proxies;
mod race;
mod sequels;
mod servers;
mod shutdown;
mod silence;
mod slots;
mod topology;
mod traps;
mod unavailable;
mod unix;
mod upstream;
mod witnesses;

use super::scenario::Scenario;
use std::time::Duration;

/// Every scenario.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    [
        upstream::TABLE,
        race::TABLE,
        protocols::TABLE,
        clients::TABLE,
        cut::TABLE,
        details::TABLE,
        doubts::TABLE,
        ending::TABLE,
        nginx::TABLE,
        overflow::TABLE,
        once::TABLE,
        middlebox::TABLE,
        silence::TABLE,
        mptcp::TABLE,
        mtu::TABLE,
        firewall::TABLE,
        emitters::TABLE,
        icmp::TABLE,
        host::TABLE,
        hot::TABLE,
        unavailable::TABLE,
        unix::TABLE,
        healthy::TABLE,
        losses::TABLE,
        mapped::TABLE,
        filters::TABLE,
        inject::TABLE,
        leaving::TABLE,
        ends::TABLE,
        idle::TABLE,
        sequels::TABLE,
        servers::TABLE,
        shutdown::TABLE,
        slots::TABLE,
        proxies::TABLE,
        topology::TABLE,
        traps::TABLE,
        paths::TABLE,
        halves::TABLE,
        witnesses::TABLE,
        blind::TABLE,
        limits::TABLE,
        far::TABLE,
    ]
    .into_iter()
    .flatten()
}

/// From the RST until the other end speaks again: longer than segments overtake each other, also where the first round
/// trip of a connection had to wait for the neighbour's address.
const THINKS: Duration = Duration::from_millis(150);

/// One upstream, a new connection for each request.
const PLAIN: &str = "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; } }\n";

/// One upstream whose connections are kept.
const KEPT: &str = "upstream @NAME@ { server @UPSTREAM@; keepalive 8; }\n\
     server { listen @LISTEN@; location / { proxy_pass http://@NAME@; proxy_http_version 1.1; \
     proxy_set_header Connection \"\"; } }\n";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_every_fault_of_the_tour_is_there_once() {
        let names: HashSet<&str> = all().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().count());
        let mut tour: Vec<u8> = all().filter_map(|scenario| scenario.tour).collect();
        tour.sort_unstable();
        assert_eq!(tour, (1..=12).collect::<Vec<u8>>());
    }

    #[test]
    fn the_range_of_certainty_is_not_empty_and_no_cause_is_missing() {
        for scenario in all() {
            for expect in scenario.expect {
                assert!(expect.least <= expect.most, "{}", scenario.name);
                assert!(!expect.causes.is_empty() && !expect.party.is_empty(), "{}", scenario.name);
            }
        }
    }
}
