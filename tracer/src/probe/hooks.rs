//! The hooks as data: what each hangs on, and which evidence is lost while it does not run.

use rstscope_ebpf::abi::Hook;

/// How a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// `raw_tracepoint`: arguments are scalars, fields are read with `bpf_probe_read_kernel`.
    RawTracepoint,
    /// `tp_btf`: typed arguments. Used only where no argument can be null.
    BtfTracepoint,
    /// `cgroup_skb/ingress` at the root cgroup v2.
    CgroupIngress,
    /// `sock_ops` at the root cgroup v2.
    SockOps,
}

/// What a hook needs of the kernel beyond its tracepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// A tracepoint that passes this argument, counted from zero; the text names what it is.
    Argument(usize, &'static str),
    /// It is used only in place of something that the kernel lacks: cookies made by tracepoint programs.
    NoTracingCookies,
}

/// One hook.
#[derive(Debug, Clone, Copy)]
pub struct HookSpec {
    /// Name of the program in the object, and of the tracepoint it hangs on.
    pub name: &'static str,
    /// Index in the loss counters.
    pub hook: Hook,
    /// How it is attached.
    pub attachment: Attachment,
    /// What it needs beyond that.
    pub need: Need,
    /// What cannot be told without it.
    pub lost_evidence: &'static str,
}

macro_rules! need {
    () => {
        Need::Nothing
    };
    ($need:expr) => {
        $need
    };
}

macro_rules! hooks {
    ($($name:literal $hook:ident $attachment:ident $(if $need:expr;)? $lost:literal,)+) => {
        &[$(HookSpec {
            name: $name,
            hook: Hook::$hook,
            attachment: Attachment::$attachment,
            need: need!($($need)?),
            lost_evidence: $lost,
        },)+]
    };
}

/// The hook that knows which connections are Nginx's. It decides whether the kernel lets tracepoint programs make
/// cookies: if it is refused with them, it is loaded without, and the hooks that need `NoTracingCookies` join in.
pub const MAKES_COOKIES: &str = "inet_sock_set_state";

/// Every hook, in the order in which they are attached: state first, events last.
pub const HOOKS: &[HookSpec] = hooks! {
    "sched_process_fork" SchedProcessFork RawTracepoint
        "workers started by a reload are noticed up to a second late",
    "sched_process_exit" SchedProcessExit RawTracepoint
        "the exit status of Nginx's processes",
    "inet_sock_set_state" InetSockSetState BtfTracepoint
        "which connections are Nginx's, timeouts, and connections that ended without a RST",
    "sock_ops" SockOps SockOps if Need::NoTracingCookies;
        "connections that begin: this kernel makes their cookies nowhere else",
    "tcp_rcv_space_adjust" TcpRcvSpaceAdjust RawTracepoint
        "which worker owns a client connection",
    "tcp_destroy_sock" TcpDestroySock RawTracepoint
        "nothing, but ended connections stay in the table until they are evicted",
    "cgroup_ingress" CgroupIngress CgroupIngress
        "TTL, flags and options of received RSTs (middlebox evidence), SYN drops of full listeners",
    "tcp_retransmit_skb" TcpRetransmitSkb RawTracepoint
        "the reconciliation of retransmissions",
    "tcp_retransmit_synack" TcpRetransmitSynack RawTracepoint
        "full accept queues, on kernels whose drop reasons do not name them",
    "mark_victim" MarkVictim RawTracepoint
        "whether the OOM killer ended a process",
    "inet_sk_error_report" InetSkErrorReport RawTracepoint
        "socket errors on connections that go on",
    "kfree_skb" KfreeSkb RawTracepoint if Need::Argument(2, "a reason");
        "RSTs that were refused, segments answered without a socket, what full accept queues drop at first",
    "tcp_send_reset" TcpSendReset RawTracepoint
        "RSTs that this host sends: reason, process, and whether a peer spoke after its own RST",
    "tcp_receive_reset" TcpReceiveReset RawTracepoint
        "received RSTs",
};

#[cfg(test)]
mod tests {
    use super::*;
    use rstscope_ebpf::abi;

    #[test]
    fn every_loss_counter_has_one_hook() {
        let mut indexes: Vec<u32> = HOOKS.iter().map(|spec| spec.hook as u32).collect();
        indexes.sort_unstable();
        assert_eq!(indexes, (0..abi::HOOKS).collect::<Vec<_>>());
    }
}
