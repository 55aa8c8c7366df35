//! Whether only large segments vanish. Selective acknowledgments (RFC 2018) tell: the peer confirms the small
//! segments that were sent after the large ones, and never the large ones, however often they are repeated.

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::Socket;
use crate::output::layout::count;

use super::state::times;

/// Timeouts in a row from which the loss is no accident.
const REPEATED: u32 = 3;

/// Adds the findings about the size of what vanished.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    let silent = case.incident.reset_received().is_none() || case.is_unheard();
    let lost = case.socket().filter(|_| silent).filter(|it| only_large(it));
    let Some(socket) = lost else { return };
    let large = socket.segments_unacked - socket.segments_sacked;
    let detail = format!(
        "{} of full size ({} bytes) never acknowledged although sent again {}",
        count(u64::from(large), "segment"),
        socket.mss,
        times(socket.retransmits_pending)
    );
    findings
        .push(Finding::supporting("large_segments_lost", Origins::LARGE_LOSS, detail).valued(&socket.mss));
    let detail = format!(
        "The peer acknowledged {} of this connection sent after them: peer and path are alive",
        count(u64::from(socket.segments_sacked), "smaller segment")
    );
    let arrived = Finding::supporting("small_segments_arrive", Origins::LARGE_LOSS, detail);
    findings.push(arrived.valued(&socket.segments_sacked));
}

/// What is outstanding is as many full segments as were not acknowledged selectively, and less than full ones
/// for those that were.
fn only_large(socket: &Socket) -> bool {
    let (all, arrived, mss) = (socket.segments_unacked, socket.segments_sacked, socket.mss);
    if arrived == 0 || all <= arrived || socket.retransmits_pending < REPEATED {
        return false;
    }
    let bytes = |segments: u32| u64::from(segments) * u64::from(mss);
    let outstanding = u64::from(socket.unacked);
    outstanding > bytes(all - arrived) && outstanding < bytes(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::upstream;

    fn lost() -> Socket {
        Socket {
            mss: 1448,
            unacked: 3 * 1448 + 300,
            segments_unacked: 4,
            segments_sacked: 1,
            retransmits_pending: 4,
            ..upstream()
        }
    }

    #[test]
    fn full_segments_missing_and_a_smaller_one_acknowledged_is_a_matter_of_size() {
        assert!(only_large(&lost()));
    }

    #[test]
    fn loss_of_any_size_is_not() {
        assert!(!only_large(&Socket { segments_sacked: 0, ..lost() }), "nothing arrives");
        assert!(!only_large(&Socket { retransmits_pending: 2, ..lost() }), "not repeated often enough");
        assert!(
            !only_large(&Socket { unacked: 2 * 1448 + 300, ..lost() }),
            "a small segment is missing, too"
        );
        assert!(!only_large(&Socket { unacked: 4 * 1448, ..lost() }), "a full segment arrived");
        assert!(
            !only_large(&Socket { segments_unacked: 0, segments_sacked: 1, ..lost() }),
            "a torn snapshot"
        );
    }
}
