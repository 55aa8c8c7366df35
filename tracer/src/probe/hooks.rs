//! The hooks as data: what each hangs on, in which forms it exists, and which evidence is lost while it does not run.

use rstscope_ebpf::abi::Hook;

/// How a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// `raw_tracepoint`: arguments are scalars.
    RawTracepoint,
    /// `tp_btf`: typed arguments.
    BtfTracepoint,
    /// `cgroup_skb/ingress` at the root cgroup v2.
    CgroupIngress,
    /// `sock_ops` at the root cgroup v2.
    SockOps,
    /// `cgroup_sock_addr` at the root cgroup v2; the program says for which call.
    SockAddr,
    /// A filter on raw ICMP sockets, which are opened where Nginx runs; see `probe::icmp`.
    RawSockets,
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
    /// It is used only in place of these hooks, where one of them is refused.
    InPlaceOf(&'static [&'static str]),
}

/// What one form of a hook asks of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Typed loads only; every argument it dereferences is never null.
    Types,
    /// Typed loads of arguments that can be null: a verifier that respects tests for null, see `probe::nullable`.
    NullableTypes,
    /// `bpf_probe_read_kernel`, which lockdown=confidentiality forbids.
    Memory,
}

/// One form of a hook.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Name of the program in the object.
    pub program: &'static str,
    /// How it is attached.
    pub attachment: Attachment,
    /// What it asks for.
    pub ask: Ask,
    /// What it cannot tell although it runs; empty if nothing.
    pub lost: &'static str,
}

/// One hook.
#[derive(Debug, Clone, Copy)]
pub struct HookSpec {
    /// Its name, and that of the tracepoint it hangs on.
    pub name: &'static str,
    /// Index in the loss counters.
    pub hook: Hook,
    /// Its forms, the best first; the first one that the kernel takes is used.
    pub forms: &'static [Form],
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

macro_rules! lost {
    () => {
        ""
    };
    ($lost:literal) => {
        $lost
    };
}

macro_rules! hooks {
    ($($name:literal $hook:ident [$($program:literal $attachment:ident $ask:ident $($lost:literal)?),+]
       $(if $need:expr;)? $lost_evidence:literal,)+) => {
        &[$(HookSpec {
            name: $name,
            hook: Hook::$hook,
            forms: &[$(Form {
                program: $program,
                attachment: Attachment::$attachment,
                ask: Ask::$ask,
                lost: lost!($($lost)?),
            }),+],
            need: need!($($need)?),
            lost_evidence: $lost_evidence,
        },)+]
    };
}

/// The hook that knows which connections are Nginx's. It decides whether the kernel lets tracepoint programs make
/// cookies: if it is refused with them, it is loaded without, and the hooks that need `NoTracingCookies` join in.
pub const MAKES_COOKIES: &str = "inet_sock_set_state";

/// Every hook, in the order in which they are attached: state first, events last.
pub const HOOKS: &[HookSpec] = hooks! {
    "sched_process_fork" SchedProcessFork
        ["sched_process_fork_typed" BtfTracepoint Types, "sched_process_fork" RawTracepoint Memory]
        "workers started by a reload are noticed up to a second late",
    "sched_process_exit" SchedProcessExit
        ["sched_process_exit_typed" BtfTracepoint Types, "sched_process_exit" RawTracepoint Memory]
        "the exit status of Nginx's processes",
    "inet_sock_set_state" InetSockSetState
        ["inet_sock_set_state_typed" BtfTracepoint Types, "inet_sock_set_state" BtfTracepoint Memory]
        "which connections are Nginx's, timeouts, and connections that ended without a RST",
    "sock_ops" SockOps ["sock_ops" SockOps Memory] if Need::NoTracingCookies;
        "connections that begin: this kernel makes their cookies nowhere else",
    "cgroup_getpeername4" CgroupGetpeername4
        ["getpeername4_typed" SockAddr Types, "getpeername4" SockAddr Memory]
        "nothing, but the owner of a client connection over IPv4 is learnt with its reads, at a higher cost",
    "cgroup_getpeername6" CgroupGetpeername6
        ["getpeername6_typed" SockAddr Types, "getpeername6" SockAddr Memory]
        "nothing, but the owner of a client connection over IPv6 is learnt with its reads, at a higher cost",
    "tcp_rcv_space_adjust" TcpRcvSpaceAdjust
        ["tcp_rcv_space_adjust_typed" BtfTracepoint Types, "tcp_rcv_space_adjust" RawTracepoint Memory]
        if Need::InPlaceOf(&["cgroup_getpeername4", "cgroup_getpeername6"]);
        "which worker owns a client connection",
    "tcp_destroy_sock" TcpDestroySock
        ["tcp_destroy_sock_typed" BtfTracepoint Types, "tcp_destroy_sock" RawTracepoint Memory]
        "connections that begin once the table is full of those that ended",
    "cgroup_ingress" CgroupIngress ["cgroup_ingress" CgroupIngress Types]
        "TTL, flags and options of received RSTs (middlebox evidence), SYN drops of full listeners",
    "icmp_error" IcmpError ["icmp_error" RawSockets Types]
        "which router refused a segment by ICMP",
    "tcp_retransmit_skb" TcpRetransmitSkb
        ["tcp_retransmit_skb_typed" BtfTracepoint Types, "tcp_retransmit_skb" RawTracepoint Memory]
        "the reconciliation of retransmissions",
    "tcp_retransmit_synack" TcpRetransmitSynack ["tcp_retransmit_synack" RawTracepoint Memory]
        "full accept queues, on kernels whose drop reasons do not name them",
    "mark_victim" MarkVictim
        ["mark_victim_typed" BtfTracepoint Types, "mark_victim" RawTracepoint Memory]
        "whether the OOM killer ended a process",
    "inet_sk_error_report" InetSkErrorReport
        ["inet_sk_error_report_typed" BtfTracepoint Types, "inet_sk_error_report" RawTracepoint Memory]
        "socket errors on connections that go on",
    "kfree_skb" KfreeSkb ["kfree_skb" RawTracepoint Memory] if Need::Argument(2, "a reason");
        "RSTs that were refused, segments answered without a socket, what full accept queues drop at first, and what netfilter of this host drops",
    "tcp_send_reset" TcpSendReset
        ["tcp_send_reset" RawTracepoint Memory,
         "tcp_send_reset_typed" BtfTracepoint NullableTypes
            "the packets that RSTs answer, and whether a peer spoke after its own RST"]
        "RSTs that this host sends: reason, process, and whether a peer spoke after its own RST",
    "tcp_receive_reset" TcpReceiveReset
        ["tcp_receive_reset_typed" BtfTracepoint Types, "tcp_receive_reset" RawTracepoint Memory]
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

    #[test]
    fn arguments_that_can_be_null_are_never_taken_for_granted() {
        let typed = |form: &&Form| form.attachment == Attachment::BtfTracepoint && form.ask == Ask::Types;
        for name in ["tcp_send_reset", "kfree_skb"] {
            let spec = HOOKS.iter().find(|spec| spec.name == name).unwrap();
            assert!(!spec.forms.iter().any(|form| typed(&form)), "{name}");
        }
    }

    #[test]
    fn what_reads_memory_is_not_typed() {
        let forms = HOOKS.iter().flat_map(|spec| spec.forms);
        assert!(forms.filter(|form| form.program.ends_with("_typed")).all(|form| form.ask != Ask::Memory));
    }
}
