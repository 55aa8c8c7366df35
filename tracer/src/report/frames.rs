//! Numbers of an incident's packets as a packet viewer counts them in the file of that incident alone: from 1, in the
//! order of time. The report, the comments in every file and the file itself use the same ones.

use crate::engine::Captured;
use crate::model::{Utc, Verdict};

use super::rebuilt::{DEFAULT_TTL, rebuilt};

/// Which packet a frame holds: the number and time of a captured one, or none for the RST that was rebuilt.
type Key = Option<(u32, Utc)>;

/// The frames of one incident, the first is number 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frames(Vec<Key>);

impl Frames {
    /// The frames of the file that `rstscope report --id … --format pcapng` writes.
    pub fn of_incident(verdict: &Verdict, packets: &[Captured]) -> Self {
        let with_headers = packets.iter().filter(|packet| !packet.packet.raw.is_empty());
        let mut keys: Vec<(u32, Utc)> = with_headers.map(|packet| (packet.index, packet.time)).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut frames: Vec<(Utc, Key)> = keys.into_iter().map(|key| (key.1, Some(key))).collect();
        let time = rebuilt(verdict, DEFAULT_TTL).and(Utc::parse(&verdict.time));
        frames.extend(time.map(|time| (time, None)));
        // What happened at one moment stays in the order of the capture, as in the file.
        frames.sort_by_key(|(time, _)| *time);
        Self(frames.into_iter().map(|(_, key)| key).collect())
    }

    /// Number of the frame with this packet.
    pub fn of(&self, packet: &Captured) -> Option<usize> {
        self.position(Some((packet.index, packet.time)))
    }

    /// Number of the frame with the RST that was rebuilt.
    pub fn of_rebuilt(&self) -> Option<usize> {
        self.position(None)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn position(&self, wanted: Key) -> Option<usize> {
        self.0.iter().position(|key| *key == wanted).map(|at| at + 1)
    }
}
