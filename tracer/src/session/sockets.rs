//! What was found of late at the paths of unix sockets that lines of the log name: a file's mode and who listens are the
//! only witnesses of such an upstream beside the log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::UnixState;

/// What was found is good for this long: in a storm of lines the same socket is not looked at for each.
const FRESH: Duration = Duration::from_millis(500);
/// Sockets remembered; beyond it the memory starts anew, which only means looking again.
const MOST: usize = 64;

/// What was found, and when, by the pid of the Nginx master and the path as it sees it: in containers one path is several
/// files.
#[derive(Debug, Default)]
pub struct UnixSockets {
    found: BTreeMap<(u32, String), (Instant, UnixState)>,
}

impl UnixSockets {
    /// The state of the socket at a path of an Nginx; it is looked at unless that was done a moment ago.
    pub fn state(&mut self, master: u32, path: &str, look: impl FnOnce() -> UnixState) -> UnixState {
        let now = Instant::now();
        let key = (master, path.to_owned());
        let fresh = self.found.get(&key).filter(|(at, _)| now.duration_since(*at) < FRESH);
        if let Some((_, state)) = fresh {
            return state.clone();
        }
        let state = look();
        if self.found.len() >= MOST {
            self.found.clear();
        }
        self.found.insert(key, (now, state.clone()));
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_looked_at_once_in_a_while_and_the_memory_has_an_end() {
        let mut sockets = UnixSockets::default();
        assert_eq!(sockets.state(1, "/a", || UnixState::Missing), UnixState::Missing);
        assert_eq!(sockets.state(1, "/a", || panic!("looked again")), UnixState::Missing);
        assert_eq!(sockets.state(2, "/a", || UnixState::Good), UnixState::Good, "another container's");
        for number in 0..MOST * 2 {
            sockets.state(1, &number.to_string(), || UnixState::Good);
        }
        assert!(sockets.found.len() <= MOST);
    }
}
