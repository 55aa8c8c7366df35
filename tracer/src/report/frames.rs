//! Numbers of an incident's packets as a packet viewer counts them in the file of that incident alone: from 1, in the
//! order of time. The report, the comments in every file and the file itself use the same ones.

use crate::engine::{Captured, Dossier};
use crate::judge::{Role, What};
use crate::model::{EventKind, Utc, Verdict};

use super::rebuilt::{DEFAULT_TTL, rebuilt};

/// When the RST that was rebuilt went out: when its kernel told of it, but not before the segment that it answers.
pub fn rebuilt_at(verdict: &Verdict, dossier: Option<&Dossier>) -> Option<Utc> {
    let own_reset =
        |what: &What| matches!(what, What::Event(event) if matches!(event.kind, EventKind::ResetSent { .. }));
    let steps = dossier.into_iter().flat_map(|dossier| &dossier.steps);
    let told = steps
        .filter(|step| step.witness != "the other end" && own_reset(&step.what))
        .map(|step| step.time)
        .min();
    let packets = dossier.into_iter().flat_map(|dossier| &dossier.packets);
    let answered = packets.filter(|one| one.role == Role::Answered).map(|one| one.time).max();
    told.map(|told| answered.map_or(told, |answered| told.max(answered)))
        .or_else(|| Utc::parse(&verdict.time))
}

/// Which packet a frame holds: the number and time of a captured one, or none for the RST that was rebuilt.
type Key = Option<(u32, Utc)>;

/// The frames of one incident, the first is number 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frames(Vec<Key>);

impl Frames {
    /// The frames of the file that `rstscope report --id … --format pcapng` writes.
    pub fn of_incident(verdict: &Verdict, dossier: Option<&Dossier>) -> Self {
        let packets = dossier.map(|dossier| dossier.packets.as_slice()).unwrap_or_default();
        let with_headers = packets.iter().filter(|packet| !packet.packet.raw.is_empty());
        let mut keys: Vec<(u32, Utc)> = with_headers.map(|packet| (packet.index, packet.time)).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut frames: Vec<(Utc, Key)> = keys.into_iter().map(|key| (key.1, Some(key))).collect();
        let time = rebuilt(verdict, DEFAULT_TTL).and_then(|_| rebuilt_at(verdict, dossier));
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
