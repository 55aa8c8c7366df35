//! Which listen sockets the kernel programs have to know: those that Nginx has, and for a while those it had when it
//! ended. A client that comes in a restart gap is refused in Nginx's name, and only its port tells so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::Mono;

/// A listen socket: network namespace and address.
pub type Listener = (u32, SocketAddr);

/// Longest restart gap. After it, the port may long belong to another program.
const GAP: Duration = Duration::from_mins(1);

/// Listen sockets that are told to the kernel programs.
#[derive(Debug, Default)]
pub struct Listeners {
    listening: BTreeSet<Listener>,
    /// Left behind by an Nginx that ended, and since when.
    vacated: BTreeMap<Listener, Mono>,
}

impl Listeners {
    /// Takes what is listened on now, and the namespaces in which an Nginx runs; gives what has to be forgotten.
    pub fn update(
        &mut self,
        now: Mono,
        listening: BTreeSet<Listener>,
        inhabited: &BTreeSet<u32>,
    ) -> Vec<Listener> {
        let mut gone = Vec::new();
        for listener in self.listening.difference(&listening) {
            if inhabited.contains(&listener.0) {
                gone.push(*listener); // Nginx gave it up: a reload without this port.
            } else {
                self.vacated.insert(*listener, now);
            }
        }
        self.vacated.retain(|listener, since| {
            let back = listening.contains(listener);
            let over = inhabited.contains(&listener.0) || now.since(*since) > GAP;
            if over && !back {
                gone.push(*listener);
            }
            !over && !back
        });
        self.listening = listening;
        gone
    }

    /// Whether something has to be forgotten although nothing changed.
    pub fn is_overdue(&self, now: Mono) -> bool {
        self.vacated.values().any(|since| now.since(*since) > GAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(port: u16) -> Listener {
        (1, SocketAddr::from(([0, 0, 0, 0], port)))
    }

    fn second(number: u64) -> Mono {
        Mono(number * 1_000_000_000)
    }

    fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
        items.into_iter().collect()
    }

    #[test]
    fn what_a_running_nginx_gives_up_is_forgotten_at_once() {
        let mut listeners = Listeners::default();
        assert!(listeners.update(second(1), set([listener(80), listener(81)]), &set([1])).is_empty());
        assert_eq!(listeners.update(second(2), set([listener(80)]), &set([1])), [listener(81)]);
    }

    #[test]
    fn what_an_ended_nginx_leaves_is_kept_for_the_gap() {
        let mut listeners = Listeners::default();
        listeners.update(second(1), set([listener(80)]), &set([1]));
        assert!(listeners.update(second(2), set([]), &set([])).is_empty());
        assert!(!listeners.is_overdue(second(62)));
        assert!(listeners.is_overdue(second(63)));
        assert_eq!(listeners.update(second(63), set([]), &set([])), [listener(80)]);
        assert!(!listeners.is_overdue(second(99)));
    }

    #[test]
    fn an_nginx_that_comes_back_keeps_its_ports_and_loses_the_others() {
        let mut listeners = Listeners::default();
        listeners.update(second(1), set([listener(80), listener(81)]), &set([1]));
        listeners.update(second(2), set([]), &set([]));
        assert_eq!(listeners.update(second(3), set([listener(80)]), &set([1])), [listener(81)]);
        assert!(listeners.update(second(4), set([listener(80)]), &set([1])).is_empty());
    }
}
