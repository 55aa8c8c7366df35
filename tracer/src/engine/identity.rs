//! Ids of incidents: ULIDs whose time is the event's and whose other bits follow from what the incident is
//! about, so that a replay gives the same ids byte for byte. Unique in a session by the engine's number.

use ulid::Ulid;

use crate::model::{Clock, Event, EventKind, Mono};

/// Bits of a ULID below its time.
const RANDOM_BITS: u32 = 80;
/// Bits of the engine's number among them.
const NUMBER_BITS: u32 = 24;

/// The id of incident `number` on `host`.
pub fn id(number: u64, time: Mono, clock: Clock, host: &str, about: &[u8]) -> String {
    let milliseconds = u64::try_from(clock.utc(time).0 / 1_000_000).unwrap_or(0);
    let hash = fnv(about, fnv(host.as_bytes(), FNV_OFFSET)) ^ time.0;
    let low = u128::from(number) & ((1 << NUMBER_BITS) - 1);
    let high = u128::from(hash) & ((1 << (RANDOM_BITS - NUMBER_BITS)) - 1);
    Ulid::from_parts(milliseconds, (high << NUMBER_BITS) | low).to_string()
}

/// The incident's number in an id, given as a number.
pub fn number_of(id: u128) -> u128 {
    id & ((1 << NUMBER_BITS) - 1)
}

/// What an event is about, as bytes: cookie and addresses.
pub fn about(event: &Event) -> Vec<u8> {
    let socket =
        event.socket.as_ref().map(|socket| (socket.cookie, socket.netns, socket.local, socket.remote));
    let addresses = match &event.kind {
        EventKind::ResetSent { local, remote, .. } | EventKind::ResetRefused { local, remote, .. } => {
            Some((*local, *remote))
        }
        EventKind::IcmpError(error) => Some((error.local, error.remote)),
        EventKind::ListenOverflow(overflow) => Some((overflow.listener, overflow.listener)),
        _ => None,
    };
    format!("{socket:?} {addresses:?}").into_bytes()
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a, 64 bits (Fowler, Noll, Vo): no security, only spread.
fn fnv(bytes: &[u8], start: u64) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_and_sort_by_time() {
        let clock = Clock { offset_ns: 1_800_000_000_000_000_000 };
        let one = id(1, Mono(1_000_000_000), clock, "host", b"a");
        assert_eq!(one, id(1, Mono(1_000_000_000), clock, "host", b"a"));
        assert_eq!(one.len(), 26);
        assert!(one < id(2, Mono(1_002_000_000), clock, "host", b"a"));
        assert_ne!(one, id(2, Mono(1_000_000_000), clock, "host", b"a"));
    }
}
