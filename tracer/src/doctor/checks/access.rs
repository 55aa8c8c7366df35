//! What Nginx is not allowed to reach: security modules and unix sockets.

use super::seen;
use crate::doctor::Facts;
use crate::doctor::facts::UnixState;
use crate::doctor::report::{Seen, Severity};

pub(super) fn denials(facts: &Facts) -> Vec<Seen> {
    let finding = |denial: &crate::doctor::facts::Denial| {
        let change = if denial.module == "SELinux" {
            "setsebool -P httpd_can_network_connect 1 for connections to upstreams, a file context (semanage fcontext) for \
             files and sockets; audit2why < the record tells which"
        } else {
            "Allow it in Nginx's profile (/etc/apparmor.d) and reload it: apparmor_parser -r"
        };
        seen(
            Severity::Critical,
            format!("{} and Nginx", denial.module),
            format!("{} (seen {} times)", denial.record, denial.times),
            "Nginx sees (13: Permission denied) where everything looks right: a 502 or 403 for every such request",
            change,
        )
    };
    facts.host.denials.iter().map(finding).collect()
}

pub(super) fn unix_sockets(facts: &Facts) -> Vec<Seen> {
    let sockets = facts.nginx.iter().flat_map(|nginx| &nginx.unix_sockets);
    sockets.filter_map(|(path, state)| unusable(path, state)).collect()
}

fn unusable(path: &str, state: &UnixState) -> Option<Seen> {
    let (value, why, change) = match state {
        UnixState::Good | UnixState::Unknown(_) => return None,
        UnixState::Missing => (
            "does not exist".to_owned(),
            "connect() fails with (2: No such file or directory): every request is a 502",
            "Start the upstream, or correct the path on one side",
        ),
        UnixState::NotASocket => (
            "is not a socket".to_owned(),
            "connect() fails with (111: Connection refused): every request is a 502",
            "Remove it and let the upstream create its socket",
        ),
        UnixState::NotPermitted(what) => (
            what.clone(),
            "connect() fails with (13: Permission denied): every request is a 502",
            "Give the workers' user write permission on the socket and search permission on its directories \
             (listen.owner, listen.group, listen.mode of PHP-FPM; UMask or SocketGroup of a unit)",
        ),
        UnixState::NobodyListens => (
            "is there, and no process of this network namespace listens on it".to_owned(),
            "connect() fails with (111: Connection refused): every request is a 502",
            "Start the upstream; it left this socket behind when it ended",
        ),
    };
    Some(seen(Severity::Critical, format!("unix:{path}"), value, why, change))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{only, with};
    use super::*;
    use crate::doctor::facts::Denial;

    #[test]
    fn every_bad_state_of_a_socket_is_told_apart() {
        let found = |state: UnixState| {
            unix_sockets(&with("", |nginx| nginx.unix_sockets.push(("/run/a.sock".to_owned(), state))))
        };
        assert_eq!((found(UnixState::Good), found(UnixState::Unknown("x".to_owned()))), (vec![], vec![]));
        for (state, word) in [
            (UnixState::Missing, "(2: "),
            (UnixState::NotASocket, "(111: "),
            (UnixState::NotPermitted("mode 0600".to_owned()), "(13: "),
            (UnixState::NobodyListens, "(111: "),
        ] {
            assert!(only(&found(state), Severity::Critical).why.contains(word));
        }
    }

    #[test]
    fn a_refusal_is_shown_with_its_record() {
        let mut facts = Facts::default();
        assert_eq!(denials(&facts), []);
        let record = "avc: denied { name_connect } for pid=7 comm=\"nginx\"".to_owned();
        facts.host.denials.push(Denial { module: "SELinux", record, times: 3 });
        let found = denials(&facts);
        let one = only(&found, Severity::Critical);
        assert!(one.seen.contains("name_connect") && one.change.contains("setsebool"));
    }
}
