//! How much memory the kernel side takes, computed from the host and bounded.

/// Bytes of a connection in the table: key, value, and the kernel's own part.
const CONNECTION_BYTES: u64 = 232;

/// Connections that have a slot of their own, at most: more would not stay in the processor's cache, because
/// connections that come and go use one slot after the other.
const SLOTS: u32 = 8_192;

/// Sizes of what is fixed while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the ring buffer; a power of two, at least a page.
    pub ring_bytes: u32,
    /// Connections of Nginx that can be followed at the same time.
    pub connections: u32,
    /// Records that one processor may make in about a second.
    pub records: u32,
    /// Events that may wait between the thread that drains the ring and the loop; at least one.
    pub events: u32,
    /// Killed connections that are remembered.
    pub tombstones: u32,
}

const EVENTS: u32 = 8_192;
const TOMBSTONES: u32 = 8_192;
/// Far above what anybody can read, and a few per cent of a processor.
const RECORDS: u32 = 20_000;

impl Sizes {
    /// For a host with so many processors and bytes of memory.
    pub fn of(cpus: usize, memory: u64) -> Self {
        Self {
            ring_bytes: ring_bytes(cpus),
            connections: connections(memory),
            records: RECORDS,
            events: EVENTS,
            tombstones: TOMBSTONES,
        }
    }

    /// Slots of the table of connections, a power of two. The hash table beside it has room for all of them, because
    /// slots meet before all are taken.
    pub fn slots(&self) -> u32 {
        let most = self.connections.clamp(1, SLOTS);
        1 << most.ilog2()
    }

    /// Replaces what is named in `ring=BYTES,connections=N,records=N,events=N,tombstones=N`; tests make losses happen with it.
    #[must_use]
    pub fn overridden(mut self, list: &str) -> Self {
        for (name, value) in list.split(',').filter_map(|part| part.split_once('=')) {
            let Ok(value) = value.trim().parse::<u32>() else { continue };
            match name.trim() {
                "ring" => self.ring_bytes = value,
                "connections" => self.connections = value,
                "records" => self.records = value,
                "events" => self.events = value.max(1),
                "tombstones" => self.tombstones = value.max(1),
                _ => {}
            }
        }
        self
    }
}

/// 512 KiB for each processor, within 1 and 16 MiB.
fn ring_bytes(cpus: usize) -> u32 {
    let wanted = u32::try_from(cpus).unwrap_or(u32::MAX).saturating_mul(512 << 10);
    wanted.clamp(1 << 20, 16 << 20).next_power_of_two().min(16 << 20)
}

/// At most a five-hundredth of the memory, within 16,384 and 262,144 connections (5 and 62 MB).
fn connections(memory: u64) -> u32 {
    let fit = memory / 500 / CONNECTION_BYTES;
    u32::try_from(fit).unwrap_or(u32::MAX).clamp(1 << 14, 1 << 18)
}

/// Bytes of memory of this host.
pub fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_size_is_a_bounded_power_of_two() {
        for cpus in [1, 2, 3, 8, 12, 64, 1024] {
            let bytes = ring_bytes(cpus);
            assert!(bytes.is_power_of_two());
            assert!((1 << 20..=16 << 20).contains(&bytes));
        }
    }

    #[test]
    fn the_table_grows_with_the_memory_between_bounds() {
        assert_eq!(connections(256 << 20), 1 << 14);
        assert_eq!(connections(1 << 40), 1 << 18);
        assert!(connections(8 << 30) > 1 << 16);
    }

    #[test]
    fn slots_are_a_bounded_power_of_two() {
        let slots = |connections| Sizes { connections, ..Sizes::of(2, 8 << 30) }.slots();
        assert_eq!([0, 1, 4, 5, 16_384, 1 << 18].map(slots), [1, 1, 4, 4, SLOTS, SLOTS]);
    }

    #[test]
    fn a_size_can_be_replaced_by_name() {
        let sizes = Sizes::of(2, 8 << 30);
        let small = sizes.overridden("ring=4096, records=5,unknown=1,connections=x");
        assert_eq!(small, Sizes { ring_bytes: 4096, records: 5, ..sizes });
        assert_eq!(sizes.overridden(""), sizes);
    }

    #[test]
    fn this_host_has_memory() {
        assert!(memory() > 64 << 20);
    }
}
