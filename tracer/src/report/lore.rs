//! How each piece of evidence is obtained and what it does not prove, as data: the reader of a report is told with
//! every piece. The long form is `docs/verdicts.md`.

/// What is to be said with a piece of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lore {
    /// Slug of the detector's finding.
    pub code: &'static str,
    /// Hook, kernel function or RFC that it comes from.
    pub obtained: &'static str,
    /// What it does not prove.
    pub limits: &'static str,
}

impl Lore {
    /// How it was obtained, live or from a capture.
    pub fn obtained_in(&self, capture: bool) -> &'static str {
        let from_packets = capture && self.obtained != LOGGED && self.obtained != OTHER_CAPTURE;
        if from_packets { IN_A_CAPTURE } else { self.obtained }
    }
}

const fn lore(code: &'static str, obtained: &'static str, limits: &'static str) -> Lore {
    Lore { code, obtained, limits }
}

/// What is to be said with the piece of evidence `code`.
pub fn of(code: &str) -> Option<&'static Lore> {
    LORE.iter().find(|lore| lore.code == code)
}

/// How everything is obtained that a verdict on a capture rests on, but for the log and the capture beside it.
const IN_A_CAPTURE: &str = "Headers and times of the packets in the capture, beside those of the other packets of the connection; a live session asks the kernel";

const HOP: &str = "TTL of the RST at the cgroup ingress hook, beside the TTL of this connection's SYN-ACK or handshake (inet_sock.mc_ttl); hops are counted from the initial values 64, 128 and 255";
const FORM: &str = "TCP header of the RST as captured by the cgroup ingress hook, compared with what Linux sends (tcp_send_active_reset, tcp_v4_send_reset)";
const SENT: &str = "Tracepoint tcp_send_reset with the kernel's own reason (include/net/rstreason.h), or the state of the socket in __tcp_close on kernels without one";
const COUNTERS: &str = "Counters of the socket (struct tcp_sock) at the moment of the event";
const OTHER_CAPTURE: &str = "The same connection in the capture taken at the other end (rstscope correlate)";
const ICMP: &str = "An ICMP message that quotes a segment of this connection, read by a filter on a raw socket in Nginx's network namespace (raw_local_deliver, rawv6_rcv)";
/// What is looked at when a line about a unix socket has come.
const UNIX: &str = "The path of the unix socket when the line came: file mode and owner, and /proc/PID/net/unix (net/unix/af_unix.c)";
const LOGGED: &str = "The joined line of error.log, read by the catalogue of Nginx's messages";
const OTHER_END: &str = "Tracepoints on the other end's socket, which is on this host";
const WHY_CLOSED: &str = "Why Nginx closed when it did";
const ORIGIN: &str = "Who sent the RST";
const SEGMENT: &str = "Who sent a segment: an errno alone is no evidence for a party";
const LOST_WHERE: &str = "Whether the path, the host or its listener is at fault";

/// One line per code of `judge::CODES`.
pub const LORE: &[Lore] = &[
    lore(
        "hop_equal",
        HOP,
        "That no device at the same distance sent it, for example the peer's own firewall",
    ),
    lore(
        "hop_differs",
        HOP,
        "Which device sent it; the path may have changed since the handshake, one hop off is the usual sign of that",
    ),
    lore(
        "hop_differs_history",
        "TTL of the RST beside the TTL of the latest SYN-ACK of other connections to the address",
        "Which device sent it; the path may have changed",
    ),
    lore(
        "peer_answers_others",
        "Completed handshakes of other connections to the address, counted in the kernel",
        "That the same host answered: several hosts may share the address",
    ),
    lore(
        "timestamps_continue",
        "Timestamp option of the RST (RFC 7323, section 3.2) beside the last one accepted (tcp_sock.rx_opt.ts_recent)",
        "That no device copied the option",
    ),
    lore("active_form", FORM, "That the header was not forged"),
    lore(
        "stateless_form",
        FORM,
        "Whether a device, a restarted host or a full listener sent it: netfilter's REJECT looks the same",
    ),
    lore("header_incomplete", FORM, "Anything about a peer that only looks like Linux"),
    lore("ip_id_not_zero", FORM, "Anything about a peer that only looks like Linux"),
    lore(
        "syn_refused",
        "Acknowledgment number of the RST beside the SYN's (RFC 9293, section 3.10.7.3)",
        "Who sent it: everyone on the path can read the SYN",
    ),
    lore(
        "fin_before",
        "TCP state: the peer's FIN had been accepted before (RFC 9293, section 3.6)",
        "Why the peer closed",
    ),
    lore(
        "resets_refused",
        "Drop reasons of RSTs that the kernel refused (RFC 5961, section 3)",
        "Which device sent them",
    ),
    lore(
        "answered_too_soon",
        "Time from the last send to the RST beside the shortest round trip measured (tcp_sock, earlier handshakes)",
        "Which device sent it",
    ),
    lore(
        "keepalive_race",
        "Times of the last send and the last receive on the socket",
        "Who ended the connection: the hops speak of that",
    ),
    lore("waited_timeout", "Time Nginx waited beside the timers of its configuration", "Why no answer came"),
    lore(
        "peer_alive",
        "Segment of the peer after the connection was dead, captured where this kernel answered it (tcp_send_reset without a socket)",
        "Which device sent the RST; a load balancer that changes the server looks the same",
    ),
    lore("both_ends_reset", OTHER_END, "Which device sent the two RSTs"),
    lore("alive_there", OTHER_END, "Whether a device sent that RST, or the packet filter of that end"),
    lore("far_end_reset", OTHER_END, "Which device, or which packet filter of this host, sent that RST"),
    lore(
        "peer_process_exit",
        "Tracepoint sched_process_exit and the exiting flag of the process that held the other end, on this host",
        "Why the process ended",
    ),
    lore(
        "peer_process_reset",
        "Tracepoint tcp_send_reset in the context of the process that held the other end, on this host",
        "The program's motive",
    ),
    lore(
        "peer_no_socket",
        "Tracepoint tcp_send_reset without a socket, on this host",
        "Whether the socket was closed a second or a day ago",
    ),
    lore(
        "peer_listener_full",
        "Queue and limit of the upstream's listener on this host (sk_ack_backlog, sk_max_ack_backlog)",
        "Why the program accepted too slowly",
    ),
    lore(
        "upstream_leg_closed",
        "Close of an upstream socket by the same worker within 50 ms",
        "That it was this request's upstream, when several were open",
    ),
    lore(
        "client_went_first",
        "End of a client connection of the same worker up to 50 ms before",
        "That it was this request's client, when several ended",
    ),
    lore(
        "reset_on_loopback",
        "Interface on which the RST came in: lo",
        "Which rule of the packet filter it was",
    ),
    lore(
        "dropped_here",
        "Reason with which the kernel freed the packets: NETFILTER_DROP (kfree_skb)",
        "Which rule of the packet filter it was",
    ),
    lore("linger_zero_reset", SENT, WHY_CLOSED),
    lore("closed_with_unread", SENT, WHY_CLOSED),
    lore(
        "worker_exiting",
        "Exiting flag of the worker that held the socket (PF_EXITING)",
        "Why the worker ended",
    ),
    lore(
        "worker_shut_down",
        "Nginx's own close of the connection, and the end of its worker within 500 ms (sched_process_exit)",
        "That a client of HTTP/2 did not cancel the request in this very moment",
    ),
    lore(
        "shutdown_limited",
        "worker_shutdown_timeout in the configuration files",
        "That the worker had been started with this value",
    ),
    lore("memory_pressure", SENT, "What used the memory"),
    lore("data_after_close", SENT, WHY_CLOSED),
    lore("no_listener", SENT, "Since when nothing listens"),
    lore(
        "listener_full",
        "Queue and limit of the listener when the kernel dropped the packet (sk_ack_backlog, sk_max_ack_backlog)",
        "Why the queue was not emptied in time",
    ),
    lore("listener_closed", SENT, WHY_CLOSED),
    lore(
        "keepalive_unanswered",
        "Probes sent without an answer (tcp_keepalive_timer)",
        "Whether the peer or the path is gone",
    ),
    lore(
        "local_kill",
        "Errno 103 and the process that destroyed the socket (tcp_abort)",
        "On whose behalf it did so",
    ),
    lore(
        "kernel_error",
        "sk_err of the socket without any RST: an ICMP message or a local limit (tcp_v4_err)",
        "Who sent the ICMP message, if one was the reason",
    ),
    lore(
        "link_differs",
        "Ethernet source addresses of the RST and of the SYN-ACK at the cgroup ingress hook",
        "Whether a device made the RST, or the way through another gateway was taken since",
    ),
    lore("icmp_prohibited", ICMP, "Which rule of that device refused it"),
    lore("icmp_unreachable", ICMP, "Whether that device has no route, or the host behind it is down"),
    lore("icmp_from_peer", ICMP, "Whether the host itself sent it, or a device that answers in its name"),
    lore("icmp_from_here", ICMP, "Which rule of this host's packet filter refused it"),
    lore("next_hop_silent", ICMP, "Whether the next hop is the peer itself or a router in front of it"),
    lore(
        "reset_accepted",
        "Tracepoint tcp_receive_reset: the kernel accepted a RST (tcp_reset)",
        "Everything about its origin: its packet was not seen",
    ),
    lore(
        "closed_by_worker",
        "Tracepoint inet_sock_set_state in the context of the worker",
        "The worker's reason",
    ),
    lore("no_request", COUNTERS, ORIGIN),
    lore("request_unanswered", COUNTERS, ORIGIN),
    lore("response_in_flight", COUNTERS, ORIGIN),
    lore("nothing_outstanding", COUNTERS, ORIGIN),
    lore("connection_idle", COUNTERS, ORIGIN),
    lore("fin_received", "TCP state CLOSE_WAIT: the peer's FIN was accepted", "Why the peer closed"),
    lore(
        "request_acknowledged",
        "Acknowledged bytes of the socket (snd_una)",
        "That the program read the request",
    ),
    lore("answer_stalled", "Time of the last segment with data (lrcvtime)", "Why nothing more came"),
    lore("unacknowledged", "Retransmissions without an acknowledgment (icsk_retransmits)", LOST_WHERE),
    lore(
        "large_segments_lost",
        "Size and number of the segments not acknowledged (packets_out, sacked_out, mss_cache)",
        "Which link of the path is too small",
    ),
    lore(
        "small_segments_arrive",
        "Selective acknowledgments of the peer (RFC 2018)",
        "That the larger ones were lost for their size alone",
    ),
    lore(
        "late_data",
        "Two packets of the capture: Nginx's FIN, and data that came after it",
        "Why Nginx had closed",
    ),
    lore(
        "reset_after_silence",
        "Times of the packets before the RST in the capture",
        "Which timer ran out, or whether one did",
    ),
    lore("unread_possible", "Packets of the capture shortly before the RST", "Whether the data was read"),
    lore("nginx_alive", "Later packets of Nginx's end in the capture", "Which device sent the RST"),
    lore("not_sent", OTHER_CAPTURE, "Which device between the two captures sent the RST"),
    lore("sent_there", OTHER_CAPTURE, "What made that host send it: application, kernel or packet filter"),
    lore("never_arrived", OTHER_CAPTURE, LOST_WHERE),
    lore("answer_lost", OTHER_CAPTURE, LOST_WHERE),
    lore("arrived_unanswered", OTHER_CAPTURE, "Why that host stayed silent"),
    lore("log_timed_out", LOGGED, SEGMENT),
    lore("log_closed_early", LOGGED, SEGMENT),
    lore("log_client_aborted", LOGGED, SEGMENT),
    lore("log_limit", LOGGED, SEGMENT),
    lore("log_resource", LOGGED, SEGMENT),
    lore("log_rejected", LOGGED, "Why the upstream refused the stream"),
    lore("unix_peer", UNIX, "Whether that process closed of its own accord or ended"),
    lore("unix_denied", UNIX, "Whether a security module forbids it, too"),
    lore("unix_socket", UNIX, "Why it was so, and what it was at the moment of the failure itself"),
    lore("log_alone", LOGGED, "Anything the kernel did: no event of it was seen"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::CODES;

    #[test]
    fn every_code_of_the_judge_is_explained_once() {
        for (code, _) in CODES {
            assert_eq!(LORE.iter().filter(|lore| lore.code == *code).count(), 1, "{code}");
        }
        assert_eq!(LORE.len(), CODES.len());
    }
}
