//! The tables that make room by forgetting, as data: how long one of their entries is of use, and so when forgetting
//! it is a loss. How many that are is reckoned by `account::forgotten`.

use std::time::Duration;

use aya::Ebpf;
use aya::maps::Map;
use rstscope_ebpf::abi::Forgetful;

use crate::account::forgotten::Table;

/// One of these tables.
struct Spec {
    table: Forgetful,
    map: &'static str,
    /// Name among the losses.
    name: &'static str,
    /// For how long an entry is of use, seconds.
    of_use_s: u64,
}

/// Every table that forgets, but `FOLLOW`, which has an entry per thread of Nginx.
const TABLES: &[Spec] = &[
    // From the packet hook until TCP takes the segment; it may wait for a process that holds the socket.
    Spec { table: Forgetful::Resets, map: "RESETS", name: "headers of RSTs (forgotten)", of_use_s: 1 },
    // A peer that speaks after "its" RST does so within its retransmission timeouts.
    Spec {
        table: Forgetful::Tombstones,
        map: "TOMBSTONES",
        name: "killed connections (forgotten)",
        of_use_s: 10,
    },
    // As long as connections to an upstream wait in TIME_WAIT.
    Spec {
        table: Forgetful::Endpoints,
        map: "ENDPOINTS",
        name: "addresses of upstreams (forgotten)",
        of_use_s: 60,
    },
    Spec { table: Forgetful::Peers, map: "PEERS", name: "distances of peers (forgotten)", of_use_s: 60 },
    // A line about a premature close comes within a second.
    Spec { table: Forgetful::Departed, map: "DEPARTED", name: "orderly closes (forgotten)", of_use_s: 2 },
    // Until Nginx gives the connection up.
    Spec {
        table: Forgetful::Filtered,
        map: "FILTERED",
        name: "packets dropped here (forgotten)",
        of_use_s: 60,
    },
    Spec {
        table: Forgetful::Overflows,
        map: "OVERFLOWS",
        name: "full listeners (forgotten)",
        of_use_s: 3_600,
    },
];

/// One of these tables as it runs.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Its index among the counters.
    pub index: u32,
    /// Name among the losses.
    pub name: &'static str,
    /// What was forgotten.
    pub table: Table,
}

/// The tables of a loaded object, with the room that they have.
pub fn watched(ebpf: &Ebpf) -> Vec<Watched> {
    let one = |spec: &Spec| {
        let Some(Map::LruHashMap(map)) = ebpf.map(spec.map) else { return None };
        let room = map.info().ok()?.max_entries();
        let table = Table::new(room, Duration::from_secs(spec.of_use_s));
        Some(Watched { index: spec.table as u32, name: spec.name, table })
    };
    TABLES.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstscope_ebpf::abi::FORGETFUL;

    #[test]
    fn every_counter_has_one_table() {
        let mut indexes: Vec<u32> = TABLES.iter().map(|spec| spec.table as u32).collect();
        indexes.sort_unstable();
        assert_eq!(indexes, (0..FORGETFUL).collect::<Vec<_>>());
    }
}
