//! One program per file, named after the kernel function or tracepoint it hangs on.

mod cgroup_getpeername;
mod cgroup_ingress;
mod icmp_error;
mod inet_sk_error_report;
mod inet_sock_set_state;
mod kfree_skb;
mod mark_victim;
mod null_probe;
mod sched_process_exit;
mod sched_process_fork;
mod sock_ops;
mod tcp_destroy_sock;
mod tcp_rcv_space_adjust;
mod tcp_receive_reset;
mod tcp_retransmit_skb;
mod tcp_retransmit_synack;
mod tcp_send_reset;
