//! Where members of kernel structures are on the running kernel, resolved from BTF by name.

/// A member this kernel does not have.
pub const MISSING: u32 = u32::MAX;

macro_rules! offsets {
    ($($(#[$doc:meta])* $field:ident = $structure:literal $path:literal,)+) => {
        /// Byte offsets from the start of the named structure, `MISSING` where there is no such member.
        /// Those that end in `_bit` are bit offsets.
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Offsets { $($(#[$doc])* #[doc = concat!("`", $structure, ".", $path, "`.")] pub $field: u32,)+ }

        impl Offsets {
            /// Nothing resolved.
            pub const MISSING: Self = Self { $($field: MISSING,)+ };

            /// Resolves every member with `find(structure, path)`, which answers in bits.
            /// Names of members that were not found are returned beside the offsets.
            #[cfg(not(target_arch = "bpf"))]
            pub fn resolve(mut find: impl FnMut(&str, &str) -> Option<u32>) -> (Self, Vec<&'static str>) {
                let mut missing = Vec::new();
                let offsets = Self {
                    $($field: {
                        let bits = find($structure, $path);
                        if bits.is_none() { missing.push(concat!($structure, ".", $path)); }
                        let scale = if stringify!($field).ends_with("_bit") { 1 } else { 8 };
                        bits.map_or(MISSING, |bits| bits / scale)
                    },)+
                };
                (offsets, missing)
            }
        }
    };
}

offsets! {
    family = "sock_common" "skc_family",
    state = "sock_common" "skc_state",
    num = "sock_common" "skc_num",
    dport = "sock_common" "skc_dport",
    daddr = "sock_common" "skc_daddr",
    saddr = "sock_common" "skc_rcv_saddr",
    daddr6 = "sock_common" "skc_v6_daddr",
    saddr6 = "sock_common" "skc_v6_rcv_saddr",
    cookie = "sock_common" "skc_cookie",
    net = "sock_common" "skc_net",
    flags = "sock_common" "skc_flags",
    protocol = "sock" "sk_protocol",
    err = "sock" "sk_err",
    shutdown = "sock" "sk_shutdown",
    lingertime = "sock" "sk_lingertime",
    owned = "sock" "sk_lock.owned",
    ack_backlog = "sock" "sk_ack_backlog",
    max_ack_backlog = "sock" "sk_max_ack_backlog",
    sport = "inet_sock" "inet_sport",
    mc_ttl = "inet_sock" "mc_ttl",
    pinet6 = "inet_sock" "pinet6",
    mcast_hops_bit = "ipv6_pinfo" "mcast_hops",
    retransmits = "inet_connection_sock" "icsk_retransmits",
    lrcvtime = "inet_connection_sock" "icsk_ack.lrcvtime",
    rcv_nxt = "tcp_sock" "rcv_nxt",
    copied_seq = "tcp_sock" "copied_seq",
    snd_nxt = "tcp_sock" "snd_nxt",
    snd_una = "tcp_sock" "snd_una",
    write_seq = "tcp_sock" "write_seq",
    snd_wnd = "tcp_sock" "snd_wnd",
    srtt_us = "tcp_sock" "srtt_us",
    rtt_min = "tcp_sock" "rtt_min",
    total_retrans = "tcp_sock" "total_retrans",
    bytes_sent = "tcp_sock" "bytes_sent",
    bytes_retrans = "tcp_sock" "bytes_retrans",
    bytes_acked = "tcp_sock" "bytes_acked",
    bytes_received = "tcp_sock" "bytes_received",
    data_segs_in = "tcp_sock" "data_segs_in",
    data_segs_out = "tcp_sock" "data_segs_out",
    lsndtime = "tcp_sock" "lsndtime",
    delivered_mstamp = "tcp_sock" "delivered_mstamp",
    rcv_tstamp = "tcp_sock" "rcv_tstamp",
    mss_cache = "tcp_sock" "mss_cache",
    packets_out = "tcp_sock" "packets_out",
    sacked_out = "tcp_sock" "sacked_out",
    ts_recent = "tcp_sock" "rx_opt.ts_recent",
    tstamp_ok_bit = "tcp_sock" "rx_opt.tstamp_ok",
    rtx_queue = "sock" "tcp_rtx_queue.rb_node",
    rb_right = "rb_node" "rb_right",
    ns_inum = "net" "ns.inum",
    skb_head = "sk_buff" "head",
    skb_network_header = "sk_buff" "network_header",
    skb_transport_header = "sk_buff" "transport_header",
    skb_iif = "sk_buff" "skb_iif",
    skb_sk = "sk_buff" "sk",
    skb_dev = "sk_buff" "dev",
    dev_net = "net_device" "nd_net.net",
    skb_rbnode = "sk_buff" "rbnode",
    skb_mstamp_ns = "sk_buff" "skb_mstamp_ns",
    tcp_end_seq = "tcp_skb_cb" "end_seq",
    tcp_gso_segs = "tcp_skb_cb" "tcp_gso_segs",
    skb_cb = "sk_buff" "cb",
    task_pid = "task_struct" "pid",
    task_tgid = "task_struct" "tgid",
    task_flags = "task_struct" "flags",
    task_exit_code = "task_struct" "exit_code",
    task_leader = "task_struct" "group_leader",
    task_comm = "task_struct" "comm",
    task_signal = "task_struct" "signal",
    task_nvcsw = "task_struct" "nvcsw",
    group_exit_code = "signal_struct" "group_exit_code",
    req_acked_bit = "inet_request_sock" "acked",
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: a `repr(C)` struct of `u32` only, no padding, every bit pattern valid.
    unsafe impl aya::Pod for super::Offsets {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_do_not_resolve_are_named() {
        let (offsets, missing) =
            Offsets::resolve(|structure, path| (structure == "tcp_sock" && path == "rcv_nxt").then_some(80));
        assert_eq!(offsets.rcv_nxt, 10);
        assert_eq!(offsets.family, MISSING);
        assert!(missing.contains(&"sock_common.skc_family"));
        assert!(!missing.contains(&"tcp_sock.rcv_nxt"));
    }

    #[test]
    fn bit_members_keep_their_bit() {
        let (offsets, _) = Offsets::resolve(|_, path| (path == "rx_opt.tstamp_ok").then_some(1201));
        assert_eq!(offsets.tstamp_ok_bit, 1201);
    }
}
