//! Sets what was seen against what the kernel counted, and explains every difference by rule.
//!
//! The kernel's counters cover a whole network namespace; what is seen covers Nginx's connections. So
//! the kernel may count more, with a reason. Where it must not count less, that is our error, and is said.
//! Pure: takes numbers, gives rows.

use serde::Serialize;

use super::mib::{Counter, Snapshot};

/// What the hooks saw of Nginx's connections and listeners, in the namespaces compared.
/// `None`: no hook that could see it was running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Observed {
    /// RSTs sent by the TCP stack.
    pub resets_sent: Option<u64>,
    /// RSTs sent by the TCP stack for connections that are not Nginx's, where they are counted.
    pub resets_sent_elsewhere: Option<u64>,
    /// Connections that a RST ended, sent or received, in ESTABLISHED or CLOSE-WAIT.
    pub established_resets: Option<u64>,
    /// Segments retransmitted, SYN and SYN-ACK included.
    pub retransmits: Option<u64>,
    /// Times a listener's accept queue was seen full.
    pub listen_overflows: Option<u64>,
    /// Connections closed with unread data.
    pub closed_unread: Option<u64>,
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
            Counter::ChallengeAck => self.resets_refused,
            _ => None,
        }
    }
}

/// How seen and counted relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// Nothing was counted and nothing was seen, or both are equal.
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
    /// What was seen of Nginx.
    pub seen: Option<u64>,
    /// How they relate.
    pub agreement: Agreement,
    /// Why, in a sentence. Empty when there is nothing to explain.
    pub explanation: String,
}

/// One row per counter that moved or was seen to move, and always `TcpOutRsts`.
/// `lost` is the number of events lost in the session: the first suspect when something is missing.
pub fn reconcile(difference: &Snapshot, observed: &Observed, lost: u64) -> Vec<Row> {
    let rows = Counter::ALL.into_iter().map(|counter| row(counter, difference, observed, lost));
    rows.filter(|row| row.counter == Counter::OutRsts || moved(row)).collect()
}

fn moved(row: &Row) -> bool {
    row.kernel.unwrap_or(0) > 0 || row.seen.unwrap_or(0) > 0
}

fn row(counter: Counter, difference: &Snapshot, observed: &Observed, lost: u64) -> Row {
    let (kernel, seen) = (difference.get(counter), observed.of(counter));
    let agreement = compare(counter, kernel, seen);
    let explanation = explain(counter, agreement, kernel, seen, observed, lost);
    Row { counter, kernel, seen, agreement, explanation }
}

fn compare(counter: Counter, kernel: Option<u64>, seen: Option<u64>) -> Agreement {
    match (kernel, seen) {
        (None, _) => Agreement::NoCounter,
        (Some(_), None) => Agreement::NotComparable,
        (Some(kernel), Some(seen)) if kernel == seen => Agreement::Equal,
        (Some(kernel), Some(seen)) if kernel > seen => Agreement::KernelMore,
        (Some(_), Some(_)) if uncounted(counter).is_some() => Agreement::KernelLess,
        (Some(_), Some(_)) => Agreement::Suspect,
    }
}

fn explain(
    counter: Counter,
    agreement: Agreement,
    kernel: Option<u64>,
    seen: Option<u64>,
    observed: &Observed,
    lost: u64,
) -> String {
    let gap = kernel.unwrap_or(0).abs_diff(seen.unwrap_or(0));
    match agreement {
        Agreement::Equal => String::new(),
        Agreement::NoCounter => {
            "the kernel has no such counter, or the namespace changed during the session".to_owned()
        }
        Agreement::NotComparable => format!("for information: {}", meaning(counter)),
        Agreement::KernelLess => format!("{gap} more seen: {}", uncounted(counter).unwrap_or_default()),
        Agreement::Suspect => {
            format!("{gap} more seen than counted: events of another namespace, or outside the time compared")
        }
        Agreement::KernelMore => surplus(counter, gap, observed, lost),
    }
}

/// Why the kernel counted `gap` more than was seen.
fn surplus(counter: Counter, gap: u64, observed: &Observed, lost: u64) -> String {
    let suspects = match lost {
        0 => String::new(),
        lost => format!("; up to {lost} may be events that were lost"),
    };
    let elsewhere = observed.resets_sent_elsewhere.unwrap_or(0);
    if counter == Counter::OutRsts && elsewhere > 0 {
        let rest = gap.saturating_sub(elsewhere);
        let rest = if rest == 0 { String::new() } else { format!(", {rest} unaccounted for{suspects}") };
        return format!("{} sent for connections that are not Nginx's{rest}", elsewhere.min(gap));
    }
    format!("{gap} {}{suspects}", beyond(counter))
}

/// What is seen and rightly not in the counter.
fn uncounted(counter: Counter) -> Option<&'static str> {
    match counter {
        Counter::ChallengeAck => Some("challenge ACKs are rate-limited, refused RSTs are not"),
        _ => None,
    }
}

/// What the counter covers beyond Nginx's connections.
fn beyond(counter: Counter) -> &'static str {
    match counter {
        Counter::OutRsts => {
            "sent for other connections of this namespace (closed ports, other processes); \
             RSTs of netfilter REJECT are in neither number"
        }
        Counter::EstabResets => "connections of other processes, or ended by an error without a RST",
        Counter::RetransSegs => "retransmitted on other connections of this namespace",
        Counter::ListenOverflows => "on listeners that are not watched, or one per repeated SYN or ACK",
        Counter::AbortOnClose => "closed with unread data by other processes of this namespace",
        Counter::ChallengeAck => {
            "for other reasons than a refused RST (a SYN or an old ACK on a live connection)"
        }
        _ => "on connections that are not Nginx's",
    }
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

    #[test]
    fn equal_numbers_need_no_word() {
        let seen = Observed { resets_sent: Some(4), ..Observed::default() };
        let rows = reconcile(&counted("OutRsts=4", ""), &seen, 0);
        assert_eq!(only(&rows, Counter::OutRsts), (Agreement::Equal, String::new()));
    }

    #[test]
    fn resets_of_others_are_named_and_so_is_netfilter() {
        let seen = Observed { resets_sent: Some(4), ..Observed::default() };
        let (agreement, why) = only(&reconcile(&counted("OutRsts=10", ""), &seen, 0), Counter::OutRsts);
        assert_eq!(agreement, Agreement::KernelMore);
        assert!(why.starts_with("6 sent for other connections") && why.contains("netfilter REJECT"), "{why}");
    }

    #[test]
    fn resets_counted_elsewhere_leave_only_the_rest_open() {
        let seen = Observed { resets_sent: Some(4), resets_sent_elsewhere: Some(5), ..Observed::default() };
        let (_, why) = only(&reconcile(&counted("OutRsts=9", ""), &seen, 3), Counter::OutRsts);
        assert_eq!(why, "5 sent for connections that are not Nginx's");
        let (_, why) = only(&reconcile(&counted("OutRsts=10", ""), &seen, 3), Counter::OutRsts);
        assert_eq!(
            why,
            "5 sent for connections that are not Nginx's, 1 unaccounted for; up to 3 may be events that were lost"
        );
    }

    #[test]
    fn losses_are_a_suspect_when_the_kernel_counted_more() {
        let seen = Observed { listen_overflows: Some(1), ..Observed::default() };
        let (_, why) =
            only(&reconcile(&counted("", "ListenOverflows=3"), &seen, 7), Counter::ListenOverflows);
        assert!(why.ends_with("; up to 7 may be events that were lost"), "{why}");
    }

    #[test]
    fn more_seen_than_counted_is_our_error_and_said() {
        let seen = Observed { resets_sent: Some(4), ..Observed::default() };
        let (agreement, why) = only(&reconcile(&counted("OutRsts=1", ""), &seen, 0), Counter::OutRsts);
        assert_eq!(agreement, Agreement::Suspect);
        assert!(why.starts_with("3 more seen than counted"), "{why}");
    }

    #[test]
    fn refused_resets_need_not_have_been_answered() {
        let seen = Observed { resets_refused: Some(5), ..Observed::default() };
        let (agreement, why) =
            only(&reconcile(&counted("", "TCPChallengeACK=2"), &seen, 0), Counter::ChallengeAck);
        assert_eq!(agreement, Agreement::KernelLess);
        assert!(why.starts_with("3 more seen: challenge ACKs are rate-limited"), "{why}");
    }

    #[test]
    fn counters_that_did_not_move_are_left_out_except_the_first() {
        let rows =
            reconcile(&counted("OutRsts=0 RetransSegs=0", "TCPAbortOnMemory=2"), &Observed::default(), 0);
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
        let rows = reconcile(&Snapshot::default(), &seen, 0);
        assert_eq!(only(&rows, Counter::OutRsts).0, Agreement::NoCounter);
    }

    #[test]
    fn every_counter_has_its_words() {
        for counter in Counter::ALL {
            assert!(!meaning(counter).is_empty() && !beyond(counter).is_empty());
        }
    }
}
