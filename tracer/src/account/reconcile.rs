//! Sets what was seen against what the kernel counted, and explains every difference by rule.
//!
//! Both cover every TCP socket of the network namespaces compared. So they must agree, except for what the kernel is
//! known to count without telling, or to tell without counting: its other counters say how much of that there was.
//! Pure: takes numbers, gives rows.

use serde::Serialize;

use super::mib::{Counter, Snapshot};

/// What the hooks saw in the namespaces compared. `None`: no hook that could see it was running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Observed {
    /// RSTs sent by the TCP stack.
    pub resets_sent: Option<u64>,
    /// This kernel traces every answer to a segment that no connection takes (6.10 and later).
    pub sees_answers: bool,
    /// Connections that went from ESTABLISHED or CLOSE-WAIT to CLOSED.
    pub established_resets: Option<u64>,
    /// Segments retransmitted, SYN and SYN-ACK included.
    pub retransmits: Option<u64>,
    /// Times a listener's accept queue was seen full.
    pub listen_overflows: Option<u64>,
    /// This kernel names the ACKs that a full accept queue drops (6.15 and later); otherwise they show by their
    /// repeated SYN-ACKs only.
    pub sees_dropped_acks: bool,
    /// Connections closed with unread data.
    pub closed_unread: Option<u64>,
    /// Connections closed with zero linger, or met by data after the close.
    pub aborted_on_data: Option<u64>,
    /// Connections given up with `ETIMEDOUT`.
    pub aborted_on_timeout: Option<u64>,
    /// RSTs for lack of memory or too many orphans.
    pub aborted_on_memory: Option<u64>,
    /// RSTs of `TCP_LINGER2`.
    pub aborted_on_linger: Option<u64>,
    /// RSTs that the kernel refused because their sequence number was in the window, but not the expected one.
    pub resets_refused: Option<u64>,
}

impl Observed {
    /// What is comparable with `counter`.
    fn of(&self, counter: Counter) -> Option<u64> {
        match counter {
            Counter::OutRsts => self.resets_sent,
            Counter::EstabResets => self.established_resets,
            Counter::RetransSegs => self.retransmits,
            Counter::ListenOverflows => self.listen_overflows,
            Counter::AbortOnClose => self.closed_unread,
            Counter::AbortOnData => self.aborted_on_data,
            Counter::AbortOnTimeout => self.aborted_on_timeout,
            Counter::AbortOnMemory => self.aborted_on_memory,
            Counter::AbortOnLinger => self.aborted_on_linger,
            Counter::ChallengeAck => self.resets_refused,
            _ => None,
        }
    }
}

/// The kernel's counters over the time that was watched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counted {
    /// What they grew by, from just before our counts began until just after they were read.
    pub grown: Snapshot,
    /// The part of it that came while counts and counters were being read, on neither or either side.
    pub between: Snapshot,
}

/// How seen and counted relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// Nothing was counted and nothing was seen, or both are equal, as far as they can be read at one moment.
    Equal,
    /// The kernel counted more, and the rule for this counter says why it may.
    KernelMore,
    /// The kernel counted less, and the rule for this counter says why it may.
    KernelLess,
    /// The kernel counted less than was seen, and no rule allows that: the counts are suspect.
    Suspect,
    /// Nothing comparable was seen: no hook, or none that ran.
    NotComparable,
    /// The kernel's counter could not be had.
    NoCounter,
}

/// One counter compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The kernel's counter.
    pub counter: Counter,
    /// What it grew by.
    pub kernel: Option<u64>,
    /// What was seen.
    pub seen: Option<u64>,
    /// How they relate.
    pub agreement: Agreement,
    /// Why, in a sentence. Empty when there is nothing to explain.
    pub explanation: String,
}

/// One row per counter that moved or was seen to move, and always `TcpOutRsts`.
/// `lost` is the number of events lost in the session: the first suspect when something is missing.
pub fn reconcile(of_kernel: &Counted, observed: &Observed, lost: u64) -> Vec<Row> {
    let rows = Counter::ALL.into_iter().map(|counter| row(counter, of_kernel, observed, lost));
    rows.filter(|row| row.counter == Counter::OutRsts || moved(row)).collect()
}

fn moved(row: &Row) -> bool {
    row.kernel.unwrap_or(0) > 0 || row.seen.unwrap_or(0) > 0
}

fn row(counter: Counter, of_kernel: &Counted, observed: &Observed, lost: u64) -> Row {
    let (kernel, seen) = (of_kernel.grown.get(counter), observed.of(counter));
    let (agreement, explanation) = match (kernel, seen) {
        (None, _) => (
            Agreement::NoCounter,
            "the kernel has no such counter, or the namespace changed during the session".to_owned(),
        ),
        (Some(_), None) => (Agreement::NotComparable, information(counter, &of_kernel.grown)),
        (Some(kernel), Some(seen)) => {
            let between = of_kernel.between.get(counter).unwrap_or(0);
            compare(&Gap { counter, kernel, seen, between }, &of_kernel.grown, observed, lost)
        }
    };
    Row { counter, kernel, seen, agreement, explanation }
}

/// Two numbers that should be the same.
struct Gap {
    counter: Counter,
    kernel: u64,
    seen: u64,
    /// The kernel's number may be smaller by up to this.
    between: u64,
}

fn compare(gap: &Gap, grown: &Snapshot, observed: &Observed, lost: u64) -> (Agreement, String) {
    let Gap { counter, kernel, seen, between } = *gap;
    let least = kernel.saturating_sub(between);
    if kernel == seen {
        return (Agreement::Equal, String::new());
    }
    if (least..=kernel).contains(&seen) {
        return (Agreement::Equal, format!("{} came while the counters were being read", kernel - seen));
    }
    if kernel > seen {
        return (Agreement::KernelMore, more(counter, least - seen, grown, observed, lost));
    }
    less(counter, seen - kernel, grown, observed)
}

/// Why the kernel counted `gap` more than was seen.
fn more(counter: Counter, gap: u64, grown: &Snapshot, observed: &Observed, lost: u64) -> String {
    let (mut reasons, rest) = named(gap, grown, untold(counter));
    if rest > 0 {
        let suspects =
            if lost == 0 { String::new() } else { format!("; up to {lost} may be events that were lost") };
        reasons.push(format!("{rest} {}{suspects}", beyond(counter, observed)));
    }
    reasons.join(", ")
}

/// Why `gap` more was seen than the kernel counted; where no rule allows that, the counts are suspect.
fn less(counter: Counter, gap: u64, grown: &Snapshot, observed: &Observed) -> (Agreement, String) {
    let (mut reasons, rest) = named(gap, grown, uncounted(counter));
    if rest == 0 {
        return (Agreement::KernelLess, reasons.join(", "));
    }
    let (agreement, why) = match counter {
        Counter::ChallengeAck => {
            (Agreement::KernelLess, "seen: challenge ACKs are rate-limited, refused RSTs are not")
        }
        Counter::ListenOverflows if !observed.sees_dropped_acks => (
            Agreement::KernelLess,
            "seen: this kernel tells of a dropped ACK only by repeating its SYN-ACK, which it may do more than once",
        ),
        _ => (
            Agreement::Suspect,
            "seen than counted: events of another namespace, or outside the time compared",
        ),
    };
    reasons.push(format!("{rest} more {why}"));
    (agreement, reasons.join(", "))
}

/// Takes from `gap` what other counters of the kernel explain; gives the words for it, and what is left.
fn named(gap: u64, grown: &Snapshot, shares: &[(Counter, &str)]) -> (Vec<String>, u64) {
    let mut rest = gap;
    let mut words = Vec::new();
    for (counter, why) in shares {
        let share = grown.get(*counter).unwrap_or(0).min(rest);
        if share > 0 {
            words.push(format!("{share} {why}"));
        }
        rest -= share;
    }
    (words, rest)
}

/// What the kernel counts and does not tell, with its own counter of it.
fn untold(counter: Counter) -> &'static [(Counter, &'static str)] {
    match counter {
        Counter::OutRsts => {
            &[(Counter::AbortFailed, "not sent after all, for lack of memory (TCPAbortFailed)")]
        }
        Counter::RetransSegs => &[(Counter::RetransFail, "that did not leave this host (TCPRetransFail)")],
        Counter::ChallengeAck => {
            &[(Counter::SynChallenge, "for a SYN on a live connection (TCPSYNChallenge)")]
        }
        _ => &[],
    }
}

/// What the kernel tells and does not count, with its own counter of it.
fn uncounted(counter: Counter) -> &'static [(Counter, &'static str)] {
    match counter {
        Counter::ChallengeAck => {
            &[(Counter::SkippedChallenge, "not answered, to keep a limit (TCPACKSkippedChallenge)")]
        }
        Counter::ListenOverflows => &[(
            Counter::ReqQFullDrop,
            "dropped by the full SYN queue, before the accept queue (TCPReqQFullDrop)",
        )],
        _ => &[],
    }
}

/// What may be behind a difference that no counter explains.
fn beyond(counter: Counter, observed: &Observed) -> &'static str {
    match counter {
        Counter::OutRsts if !observed.sees_answers => {
            "answers to segments without a connection (closed ports, old connections), which this kernel does not \
             trace in full"
        }
        Counter::ListenOverflows if !observed.sees_dropped_acks => {
            "dropped ACKs, of which this kernel tells only when it repeats the SYN-ACK"
        }
        Counter::ChallengeAck => "for other reasons than a refused RST (an old ACK on a live connection)",
        Counter::AbortOnData => "closed with zero linger while there was no connection to abort",
        Counter::AbortOnTimeout => {
            "given up with the error of an ICMP message, or while a handshake was not complete"
        }
        _ => "not seen by any hook",
    }
}

/// What a counter says that nothing was compared with.
fn information(counter: Counter, grown: &Snapshot) -> String {
    if counter != Counter::ListenDrops {
        return format!("for information: {}", meaning(counter));
    }
    let all = grown.get(counter).unwrap_or(0);
    let (mut reasons, rest) = named(
        all,
        grown,
        &[
            (Counter::ListenOverflows, "by full accept queues (ListenOverflows)"),
            (Counter::ReqQFullDrop, "by full SYN queues (TCPReqQFullDrop)"),
        ],
    );
    if rest > 0 {
        reasons.push(format!(
            "{rest} for which no connection could be made (no way back to the client, memory)"
        ));
    }
    format!("for information: {}", reasons.join(", "))
}

/// What a counter says by itself.
fn meaning(counter: Counter) -> &'static str {
    match counter {
        Counter::OutRsts => "RSTs sent by this namespace's TCP, netfilter REJECT not included",
        Counter::EstabResets => "established connections that ended without a FIN exchange",
        Counter::AttemptFails => "connection attempts that failed, of any process",
        Counter::RetransSegs => "segments retransmitted on any connection",
        Counter::ListenOverflows => "accept queue full, any listener",
        Counter::ListenDrops => "packets dropped by any listener, overflows included",
        Counter::ReqQFullDrop => "SYNs dropped because the SYN queue was full and SYN cookies are off",
        Counter::AbortOnData => "reset by zero linger, or by data that came after the close",
        Counter::AbortOnClose => "reset because of unread data at close",
        Counter::AbortOnMemory => "reset for lack of TCP memory or too many orphans",
        Counter::AbortOnTimeout => "given up after unanswered retransmissions or keep-alive probes",
        Counter::AbortOnLinger => "reset in FIN-WAIT-2 by TCP_LINGER2",
        Counter::AbortFailed => "RSTs that could not be sent for lack of memory",
        Counter::ChallengeAck => "challenge ACKs (RFC 5961)",
        Counter::SynChallenge => "challenge ACKs for a SYN on a live connection",
        Counter::SkippedChallenge => "challenge ACKs that a limit held back",
        Counter::RetransFail => "retransmissions that did not leave this host",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(tcp: &str, ext: &str) -> Snapshot {
        let group = |group: &str, text: &str| {
            let (names, values): (Vec<_>, Vec<_>) =
                text.split(' ').filter_map(|pair| pair.split_once('=')).unzip();
            format!("{group}: {}\n{group}: {}\n", names.join(" "), values.join(" "))
        };
        Snapshot::parse(&group("Tcp", tcp), &group("TcpExt", ext))
    }

    fn only(rows: &[Row], counter: Counter) -> (Agreement, String) {
        let row = rows.iter().find(|row| row.counter == counter).unwrap();
        (row.agreement, row.explanation.clone())
    }

    /// What was counted at once.
    fn exactly(tcp: &str, ext: &str) -> Counted {
        Counted { grown: counted(tcp, ext), between: Snapshot::default() }
    }

    #[test]
    fn equal_numbers_need_no_word() {
        let seen = Observed { resets_sent: Some(4), ..Observed::default() };
        let rows = reconcile(&exactly("OutRsts=4", ""), &seen, 0);
        assert_eq!(only(&rows, Counter::OutRsts), (Agreement::Equal, String::new()));
    }

    #[test]
    fn what_came_while_reading_is_no_difference_and_is_said() {
        let both = Counted { grown: counted("OutRsts=10", ""), between: counted("OutRsts=3", "") };
        let of = |sent| {
            let seen = Observed { resets_sent: Some(sent), ..Observed::default() };
            only(&reconcile(&both, &seen, 0), Counter::OutRsts)
        };
        assert_eq!(of(8), (Agreement::Equal, "2 came while the counters were being read".to_owned()));
        assert_eq!(of(7).0, Agreement::Equal);
        assert!(of(6).0 == Agreement::KernelMore && of(6).1.starts_with("1 "), "{:?}", of(6));
        assert_eq!(of(11).0, Agreement::Suspect);
    }

    #[test]
    fn other_counters_of_the_kernel_name_a_difference() {
        let seen = Observed { retransmits: Some(5), resets_refused: Some(9), ..Observed::default() };
        let ext = "TCPRetransFail=2 TCPChallengeACK=4 TCPACKSkippedChallenge=5";
        let rows = reconcile(&exactly("RetransSegs=8", ext), &seen, 0);
        let (agreement, why) = only(&rows, Counter::RetransSegs);
        assert_eq!(agreement, Agreement::KernelMore);
        assert_eq!(why, "2 that did not leave this host (TCPRetransFail), 1 not seen by any hook");
        let skipped = "5 not answered, to keep a limit (TCPACKSkippedChallenge)".to_owned();
        assert_eq!(only(&rows, Counter::ChallengeAck), (Agreement::KernelLess, skipped));
    }

    #[test]
    fn a_full_syn_queue_explains_overflows_that_were_not_counted_and_nothing_else_does() {
        let seen = Observed { listen_overflows: Some(7), sees_dropped_acks: true, ..Observed::default() };
        let of = |ext| only(&reconcile(&exactly("", ext), &seen, 0), Counter::ListenOverflows).0;
        assert_eq!(of("ListenOverflows=4 TCPReqQFullDrop=3"), Agreement::KernelLess);
        assert_eq!(of("ListenOverflows=4 TCPReqQFullDrop=2"), Agreement::Suspect);
    }

    #[test]
    fn dropped_packets_are_shared_out() {
        let ext = "ListenDrops=9 ListenOverflows=4 TCPReqQFullDrop=3";
        let (_, why) = only(&reconcile(&exactly("", ext), &Observed::default(), 0), Counter::ListenDrops);
        let wanted = "for information: 4 by full accept queues (ListenOverflows), 3 by full SYN queues \
                      (TCPReqQFullDrop), 2 for which no connection could be made (no way back to the client, memory)";
        assert_eq!(why, wanted);
    }

    #[test]
    fn where_answers_are_not_traced_they_are_the_difference() {
        let of = |sees_answers| {
            let seen = Observed { resets_sent: Some(4), sees_answers, ..Observed::default() };
            only(&reconcile(&exactly("OutRsts=10", ""), &seen, 0), Counter::OutRsts).1
        };
        assert!(of(false).starts_with("6 answers to segments without a connection"), "{}", of(false));
        assert_eq!(of(true), "6 not seen by any hook");
    }

    #[test]
    fn losses_are_a_suspect_when_the_kernel_counted_more() {
        let seen = Observed { listen_overflows: Some(1), ..Observed::default() };
        let (_, why) =
            only(&reconcile(&exactly("", "ListenOverflows=3"), &seen, 7), Counter::ListenOverflows);
        assert!(why.ends_with("; up to 7 may be events that were lost"), "{why}");
    }

    #[test]
    fn more_seen_than_counted_is_our_error_and_said() {
        let seen = Observed { resets_sent: Some(4), ..Observed::default() };
        let (agreement, why) = only(&reconcile(&exactly("OutRsts=1", ""), &seen, 0), Counter::OutRsts);
        assert_eq!(agreement, Agreement::Suspect);
        assert!(why.starts_with("3 more seen than counted"), "{why}");
    }

    #[test]
    fn refused_resets_need_not_have_been_answered() {
        let seen = Observed { resets_refused: Some(5), ..Observed::default() };
        let (agreement, why) =
            only(&reconcile(&exactly("", "TCPChallengeACK=2"), &seen, 0), Counter::ChallengeAck);
        assert_eq!(agreement, Agreement::KernelLess);
        assert!(why.starts_with("3 more seen: challenge ACKs are rate-limited"), "{why}");
    }

    #[test]
    fn counters_that_did_not_move_are_left_out_except_the_first() {
        let rows =
            reconcile(&exactly("OutRsts=0 RetransSegs=0", "TCPAbortOnMemory=2"), &Observed::default(), 0);
        let shown: Vec<_> = rows.iter().map(|row| (row.counter, row.agreement)).collect();
        assert_eq!(
            shown,
            [
                (Counter::OutRsts, Agreement::NotComparable),
                (Counter::AbortOnMemory, Agreement::NotComparable)
            ]
        );
    }

    #[test]
    fn an_absent_counter_is_not_read_as_zero() {
        let seen = Observed { resets_sent: Some(4), ..Observed::default() };
        let rows = reconcile(&Counted::default(), &seen, 0);
        assert_eq!(only(&rows, Counter::OutRsts).0, Agreement::NoCounter);
    }

    #[test]
    fn every_counter_has_its_words() {
        for counter in Counter::ALL {
            assert!(!meaning(counter).is_empty() && !beyond(counter, &Observed::default()).is_empty());
        }
    }
}
