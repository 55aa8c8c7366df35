//! What an incident is called in a title: plain words for each cause, no more sure than the verdict. The slug stands with
//! the identity of the incident.

use crate::model::Verdict;
use crate::model::verdict::{Cause, Certainty, Party};

use super::words;

/// What happened, as the title of a page or a section.
pub fn title(verdict: &Verdict) -> String {
    let plain = plain(verdict.cause);
    match verdict.certainty {
        Certainty::Weak | Certainty::Undetermined if verdict.party != Party::Unknown => {
            format!("Perhaps {plain}")
        }
        _ => words::capital(plain),
    }
}

/// A cause in plain words, as they stand in the middle of a sentence.
pub fn plain(cause: Cause) -> &'static str {
    TITLES.iter().find(|(known, _)| *known == cause).map_or("", |(_, title)| *title)
}

use Cause as C;

const TITLES: &[(Cause, &str)] = &[
    (C::ClientAbort, "the client left before the response was complete"),
    (C::ClientIdleReset, "the client reset an idle connection"),
    (C::ClientLateReset, "the client reset a connection that had served its purpose"),
    (C::ClientHandshakeReset, "the client reset the connection before any request"),
    (C::ClientVanished, "the client fell silent"),
    (C::NginxTimeoutReset, "Nginx reset the connection after a timeout"),
    (C::NginxClosedUnread, "Nginx closed before it had read everything"),
    (C::NginxWorkerExit, "an Nginx worker ended"),
    (C::NginxListenOverflow, "a listener of Nginx was full"),
    (C::NginxNotListening, "Nginx does not listen there"),
    (C::NginxResourceLimit, "a limit of the Nginx host ran out"),
    (C::NginxConfig, "a setting of Nginx ended the request"),
    (C::UpstreamRefused, "the upstream refused the connection"),
    (C::UpstreamKeepaliveRace, "the upstream closed a kept connection just as Nginx used it"),
    (C::UpstreamAbort, "the upstream reset the connection"),
    (C::UpstreamProcessExit, "the upstream's process ended"),
    (C::UpstreamOomKill, "the upstream's process was killed for its memory"),
    (C::UpstreamRestarted, "the upstream no longer knew the connection"),
    (C::UpstreamClosedEarly, "the upstream closed before its response was complete"),
    (C::UpstreamListenOverflow, "the upstream's listener was full"),
    (C::UpstreamSlow, "the upstream took longer than Nginx waits"),
    (C::UpstreamUnavailable, "no upstream was available"),
    (C::MiddleboxForgedReset, "a device on the path reset the connection in another's name"),
    (C::MiddleboxIdleReset, "a device on the path reset an idle connection"),
    (C::MiddleboxIdleDrop, "a device on the path forgot an idle connection"),
    (C::MiddleboxReject, "a device on the path rejected the connection"),
    (C::MiddleboxDrop, "packets were lost on the path"),
    (C::MiddleboxMtuBlackhole, "large packets were lost on the path"),
    (C::MiddleboxBothEndsReset, "a device on the path reset both ends"),
    (C::LocalFirewall, "the packet filter of the Nginx host rejected or dropped packets"),
    (C::InsufficientEvidence, "who ended the connection is not known"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn every_cause_has_one_title_in_plain_words() {
        for cause in Cause::ALL {
            assert_eq!(TITLES.iter().filter(|(known, _)| known == cause).count(), 1, "{cause}");
            assert!(!plain(*cause).contains('_'), "{cause}");
        }
    }

    #[test]
    fn a_title_is_no_surer_than_its_verdict() {
        let weak = Verdict { certainty: Certainty::Weak, ..samples::upstream_abort() };
        assert_eq!(title(&weak), "Perhaps the upstream reset the connection");
        assert_eq!(title(&samples::upstream_abort()), "The upstream reset the connection");
    }
}
