//! The maps. What nobody takes out again is an LRU: full means that the oldest entry goes, not that a new one is refused.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use rstscope_ebpf::abi::{
    Budget, COUNTERS, Conn, Counter, Departed, DepartedKey, Endpoint, FORGETFUL, Filtered, Forgetful,
    GivenUp, HOOKS, Header, Hook, ListenAddress, ListenPort, NetnsCounts, OverflowKey, OverflowState, Peer,
    PeerKey, Slot, Tombstone, Tuple,
};

/// Records for user space. Sized by user space before loading.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Connections of Nginx, each in the slot of the last bits of its cookie, see `conns`. Entries go with their sockets.
/// Sized by user space before loading.
#[map]
pub static CONNS: Array<Slot> = Array::with_max_entries(8_192, 0);

/// Connections whose slot in `CONNS` is taken, by cookie. Not an LRU: what finds it full is counted. Sized by user
/// space before loading.
#[map]
pub static MORE_CONNS: HashMap<u64, Conn> = HashMap::with_max_entries(32_768, 0);

/// How many those are, in two words, see `Slot`: while there are none, nobody looks there.
#[map]
pub static MORE_CONNS_HELD: Array<u64> = Array::with_max_entries(2, 0);

/// Slots of `SETTLED`.
pub const SETTLED_SLOTS: u32 = 4_096;

/// Cookies whose owner is known, or that are not Nginx's; each in the slot of its last bits.
#[map]
pub static SETTLED: Array<u64> = Array::with_max_entries(SETTLED_SLOTS, 0);

/// Latest RST per socket cookie, put there by the cgroup hook for the tracepoint that follows.
#[map]
pub static RESETS: LruHashMap<u64, Header> = LruHashMap::with_max_entries(4_096, 0);

/// Tuples killed by a RST.
#[map]
pub static TOMBSTONES: LruHashMap<Tuple, Tombstone> = LruHashMap::with_max_entries(8_192, 0);

/// Addresses Nginx connects to.
#[map]
pub static ENDPOINTS: LruHashMap<Endpoint, u8> = LruHashMap::with_max_entries(4_096, 0);

/// What connections to a peer taught.
#[map]
pub static PEERS: LruHashMap<PeerKey, Peer> = LruHashMap::with_max_entries(4_096, 0);

/// When a thread gave up an upstream connection without an answer, by thread id.
#[map]
pub static FOLLOW: LruHashMap<u32, GivenUp> = LruHashMap::with_max_entries(1_024, 0);

/// Latest connection per worker and upstream that was closed in order.
#[map]
pub static DEPARTED: LruHashMap<DepartedKey, Departed> = LruHashMap::with_max_entries(4_096, 0);

/// Packets of Nginx's connections that netfilter of this host dropped, by cookie.
#[map]
pub static FILTERED: LruHashMap<u64, Filtered> = LruHashMap::with_max_entries(4_096, 0);

/// Overflows of a listener since its last record.
#[map]
pub static OVERFLOWS: LruHashMap<OverflowKey, OverflowState> = LruHashMap::with_max_entries(1_024, 0);

/// Nginx's processes.
#[map]
pub static NGINX: HashMap<u32, u8> = HashMap::with_max_entries(8_192, 0);

/// Ports Nginx listens on: 1 any address, 0 the addresses of `LISTEN_ADDRESSES`.
#[map]
pub static LISTEN_PORTS: HashMap<ListenPort, u8> = HashMap::with_max_entries(4_096, 0);

/// Listeners bound to one address.
#[map]
pub static LISTEN_ADDRESSES: HashMap<ListenAddress, u8> = HashMap::with_max_entries(4_096, 0);

/// `--upstream`: the only addresses to follow.
#[map]
pub static UPSTREAM_FILTER: HashMap<Endpoint, u8> = HashMap::with_max_entries(1_024, 0);

/// Connections on their way into `MORE_CONNS`, the stack being too small for them: one for each of `conns::Opened`.
#[map]
pub static NEW_CONNS: PerCpuArray<Conn> = PerCpuArray::with_max_entries(2, 0);

/// A header on its way into a map; the stack is too small for it.
#[map]
pub static SCRATCH: PerCpuArray<Header> = PerCpuArray::with_max_entries(1, 0);

/// Records that found the ring full, per hook.
#[map]
pub static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(HOOKS, 0);

/// Records that were not made because of the limit per connection or in total, per hook.
#[map]
pub static LIMITED: PerCpuArray<u64> = PerCpuArray::with_max_entries(HOOKS, 0);

/// Records made of late: all of them, those of ICMP errors, and those of RSTs for strangers.
#[map]
pub static BUDGET: PerCpuArray<Budget> = PerCpuArray::with_max_entries(3, 0);

/// Namespaces of our raw ICMP sockets, by their cookies.
#[map]
pub static ICMP_SOCKETS: HashMap<u64, u32> = HashMap::with_max_entries(1_024, 0);

/// Counters, see `abi::Counter`.
#[map]
pub static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Entries ever made in tables that forget, see `abi::Forgetful`.
#[map]
pub static MADE: PerCpuArray<u64> = PerCpuArray::with_max_entries(FORGETFUL, 0);

/// Counters per network namespace; user space puts in the namespaces to count.
#[map]
pub static NETNS_COUNTS: PerCpuHashMap<u32, NetnsCounts> = PerCpuHashMap::with_max_entries(256, 0);

/// The counters of a namespace on this CPU, if it is one to count.
#[inline(always)]
pub fn netns_counts(netns: u32) -> Option<&'static mut NetnsCounts> {
    // SAFETY: a per-CPU value; programs on one CPU do not preempt each other.
    NETNS_COUNTS.get_ptr_mut(netns).map(|counts| unsafe { &mut *counts })
}

/// Adds to a counter of this CPU.
#[inline(always)]
pub fn count(counter: Counter, by: u64) {
    if let Some(value) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: a per-CPU value; programs on one CPU do not preempt each other.
        unsafe { *value += by };
    }
}

/// `BPF_NOEXIST` of `include/uapi/linux/bpf.h`.
const NOT_THERE_YET: u64 = 1;

/// Puts an entry into a table that makes room by forgetting; a new one is counted.
#[inline(always)]
pub fn keep<K, V>(table: Forgetful, map: &LruHashMap<K, V>, key: &K, value: &V) {
    if map.insert(key, value, NOT_THERE_YET).is_ok() {
        count_made(table);
    } else {
        let _lru_makes_room = map.insert(key, value, 0);
    }
}

/// Counts an entry that was made.
#[inline(always)]
pub fn count_made(table: Forgetful) {
    if let Some(value) = MADE.get_ptr_mut(table as u32) {
        // SAFETY: a per-CPU value; programs on one CPU do not preempt each other.
        unsafe { *value += 1 };
    }
}

/// Counts a record that found the ring full.
#[inline(always)]
pub fn count_loss(hook: Hook) {
    if let Some(value) = LOSSES.get_ptr_mut(hook as u32) {
        // SAFETY: as above.
        unsafe { *value += 1 };
    }
}

/// Counts a record that a limit held back.
#[inline(always)]
pub fn count_limited(hook: Hook) {
    if let Some(value) = LIMITED.get_ptr_mut(hook as u32) {
        // SAFETY: as above.
        unsafe { *value += 1 };
    }
}
