//! What a line of error.log can mean for a connection: one row per situation, with whose doing it may be, what is
//! usually concluded from it, why that proves nothing, and what tracing would decide.
//!
//! Data only; which row a line belongs to is decided by [`super::classify`]. No row claims more than `weak`.

use crate::model::verdict::{Cause, Certainty, Party, Segment};

/// A situation that lines tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Stable name.
    pub slug: &'static str,
    /// What happened, as a heading.
    pub title: &'static str,
    /// Whose doing the log lets one suspect; `unknown` where it decides nothing.
    pub party: Party,
    /// The segment of the path.
    pub segment: Segment,
    /// The cause as far as the log carries it.
    pub cause: Cause,
    /// Never above [`Certainty::Weak`].
    pub certainty: Certainty,
    /// The status that the client usually gets: 502, 504, 499, 0 for none of these.
    pub status: u16,
    /// Nobody waits for anything on such a connection.
    pub harmless: bool,
    /// What happened on the socket.
    pub means: &'static str,
    /// The usual conclusion.
    pub usual: &'static str,
    /// Why the usual conclusion is not proof.
    pub but: &'static str,
    /// What tracing would decide.
    pub tracing: &'static str,
}

/// A row that suspects somebody.
const fn weak(
    slug: &'static str,
    title: &'static str,
    party: Party,
    segment: Segment,
    cause: Cause,
) -> Topic {
    let certainty = Certainty::Weak;
    let (means, usual, but, tracing) = ("", "", "", "");
    Topic {
        slug,
        title,
        party,
        segment,
        cause,
        certainty,
        status: 0,
        harmless: false,
        means,
        usual,
        but,
        tracing,
    }
}

/// A row that knows the side and nothing else.
const fn open(slug: &'static str, title: &'static str, segment: Segment) -> Topic {
    let topic = weak(slug, title, Party::Unknown, segment, Cause::InsufficientEvidence);
    Topic { certainty: Certainty::Undetermined, ..topic }
}

impl Topic {
    const fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    const fn harmless(self) -> Self {
        Self { harmless: true, ..self }
    }

    const fn says(self, means: &'static str, usual: &'static str) -> Self {
        Self { means, usual, ..self }
    }

    const fn needs(self, but: &'static str, tracing: &'static str) -> Self {
        Self { but, tracing, ..self }
    }
}

/// Number of a row in [`TOPICS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u8);

impl TopicId {
    /// The row with this slug; the first row if there is none.
    pub fn of(slug: &str) -> Self {
        let at = TOPICS.iter().position(|topic| topic.slug == slug).unwrap_or(0);
        Self(u8::try_from(at).unwrap_or(0))
    }

    /// The row.
    pub fn topic(self) -> &'static Topic {
        &TOPICS[usize::from(self.0) % TOPICS.len()]
    }
}

const RST_OR_DEVICE: &str = "Nginx prints the same line for a reset by the upstream and for one that a device on the path put in its name";
const WHO_SENT: &str = "tracing shows the RST itself (TTL, sequence number, options against the peer's earlier packets), \
     how long the connection had been idle, and on one host the sending process";
const NO_PEER: &str = "no port is printed, so no packet capture can be matched to this line with certainty";

use Segment::{ClientNginx, Nginx, NginxUpstream, Upstream};

/// Every row.
#[rustfmt::skip]
pub const TOPICS: &[Topic] = &[
    weak("upstream_refused", "upstream refused the connection", Party::Upstream, Upstream, Cause::UpstreamRefused)
        .status(502)
        .says("the SYN of Nginx was answered by a RST: connect() failed with ECONNREFUSED", "the backend is down or listens elsewhere")
        .needs("a firewall that rejects with a TCP reset makes the same line", "tracing compares the TTL of the answer with the host's other packets and sees whether the port has a listener again"),
    weak("upstream_unavailable", "no upstream available", Party::Upstream, Upstream, Cause::UpstreamUnavailable)
        .status(502)
        .says("Nginx had no server to try, or the unix socket is missing or refuses", "all backends are down")
        .needs("`no live upstreams` only repeats earlier failures, up to fail_timeout ago; those lines hold the reason", "tracing names the failures that took the servers out"),
    open("upstream_reset_connect", "reset on connect or on reuse", NginxUpstream)
        .status(502)
        .says("the connection was already reset when Nginx wanted to use it: SO_ERROR was ECONNRESET", "the backend refuses connections")
        .needs("it is either a fresh connection reset right after the handshake or a kept-alive one reset while idle; the log does not tell which", "tracing knows whether the connection was reused and how long it had been idle"),
    open("upstream_reset_waiting", "reset while waiting for the answer", NginxUpstream)
        .status(502)
        .says("recv() on the upstream connection failed with ECONNRESET after the request was sent", "the backend crashed, was restarted or dropped the request")
        .needs(RST_OR_DEVICE, WHO_SENT),
    open("upstream_reset_body", "reset inside the response", NginxUpstream)
        .says("the upstream connection was reset after a part of the response; the client got a cut one", "the backend died while answering")
        .needs(RST_OR_DEVICE, WHO_SENT),
    open("upstream_reset_request", "reset while sending the request", NginxUpstream)
        .status(502)
        .says("writing to the upstream connection failed (ECONNRESET or EPIPE): the peer had reset or closed it", "the backend crashed")
        .needs("an upstream that answers early (size limit, authentication) and closes makes the same line, and so does a stale kept-alive connection", WHO_SENT),
    open("upstream_reset_tls", "upstream TLS handshake failed", NginxUpstream)
        .status(502)
        .says("the upstream closed or reset the connection inside the TLS handshake, or the two sides did not agree", "the backend is down or its certificate is wrong")
        .needs("a missing server name (proxy_ssl_server_name), a mutual-TLS policy, a plain-text port and a filtering device look alike", "tracing tells FIN from RST, by whom, and after which packet"),
    open("upstream_reset_other", "upstream connection reset", NginxUpstream)
        .says("the upstream connection of an upgraded or stream session was reset", "the backend dropped the session")
        .needs(RST_OR_DEVICE, WHO_SENT),
    weak("upstream_closed_early", "upstream closed before answering", Party::Upstream, Upstream, Cause::UpstreamClosedEarly)
        .status(502)
        .says("recv() on the upstream connection returned 0 before the response was complete", "the backend crashed, or its keep-alive time is shorter than Nginx's")
        .needs("over TLS a RST looks the same, since the library turns ECONNRESET into an end of file; a stale kept-alive connection does, too", "tracing tells FIN from RST, measures the idle time before the request, and sees the process exit"),
    open("upstream_timeout_connect", "no answer to connect", NginxUpstream)
        .status(504)
        .says("proxy_connect_timeout passed, or the kernel gave up, without an answer to the SYN", "the backend is overloaded")
        .needs("a full listen queue, a dropping firewall and a dead host look alike", "tracing counts the SYN retransmissions and, on the upstream's host, the drops of the listen queue"),
    weak("upstream_timeout_answer", "upstream too slow to answer", Party::Upstream, Upstream, Cause::UpstreamSlow)
        .status(504)
        .says("proxy_read_timeout (or its fastcgi, uwsgi, grpc kin) passed without a byte of the response", "the application is slow")
        .needs("a path that lost the request or the response gives the same line", "tracing sees whether the upstream's TCP acknowledged the request: acknowledged means slow, never acknowledged means lost"),
    open("upstream_timeout_send", "upstream did not take the request", NginxUpstream)
        .status(504)
        .says("proxy_send_timeout passed while the upstream's window stayed shut or its packets were lost", "the backend is overloaded")
        .needs("a closed window and lost packets look alike", "tracing tells a zero window from retransmissions"),
    open("upstream_timeout_session", "idle session ended by Nginx", Segment::Unknown)
        .says("an upgraded (WebSocket) or stream session was silent for proxy_read_timeout or proxy_timeout; Nginx closed it", "the backend hung")
        .needs("an idle session is not a fault; a lost peer looks the same", "tracing tells an idle pair from unacknowledged data"),
    open("upstream_unreachable", "no route to the upstream", NginxUpstream)
        .status(502)
        .says("connect() failed because the host or network is unreachable (ICMP, ARP or routing)", "a network fault")
        .needs("a rejecting firewall, a host that is down and a missing route look alike", "tracing shows the ICMP message's sender and the ARP result"),
    weak("upstream_invalid", "answer refused by Nginx", Party::Nginx, Nginx, Cause::NginxConfig)
        .status(502)
        .says("the upstream answered, and Nginx refused the answer (header too big, invalid); it closes with unread data, so a RST goes to the upstream", "the backend is broken")
        .needs("the reset that the upstream then sees is Nginx's own; a limit (proxy_buffer_size) or a protocol mismatch decides", "tracing shows the RST sent by Nginx and the unread bytes"),
    open("upstream_socket", "upstream socket error", NginxUpstream)
        .status(502)
        .says("a call on the upstream connection failed with another errno", "a network fault")
        .needs(NO_PEER, "tracing shows the kernel's reason beside the call"),
    weak("client_abort", "client went away", Party::Client, ClientNginx, Cause::ClientAbort)
        .status(499)
        .says("the client ended its connection while a request or response was in flight", "the user cancelled, or a client timeout was shorter than the upstream's answer time")
        .needs("a half-closed connection and a load balancer that gave up look the same; if the upstream is slow, the client's leaving is the consequence", "tracing tells FIN from RST and joins the client's end with what the upstream was doing"),
    open("client_reset", "client connection reset", ClientNginx)
        .says("a call on the client's connection failed with ECONNRESET or EPIPE while a request or response was in flight", "the client reset the connection")
        .needs("a device between client and Nginx sends resets in the client's name", "tracing compares TTL, sequence number and options with the client's earlier packets"),
    weak("client_idle", "client left an idle connection", Party::Client, ClientNginx, Cause::ClientIdleReset)
        .harmless()
        .says("the client closed or reset a connection without a request in flight", "a network fault")
        .needs("health checks, port scans, preconnects and closed browsers all do this; nobody waited for an answer", "tracing shows that no request was cut"),
    weak("client_handshake", "client TLS handshake ended", Party::Client, ClientNginx, Cause::ClientHandshakeReset)
        .harmless()
        .says("the client ended the TLS handshake, or the two sides did not agree", "an attack or a broken client")
        .needs("scanners, health checks and old clients look alike", "tracing tells RST from FIN and after which packet"),
    open("client_timeout", "client too slow", ClientNginx)
        .says("a timer for the client ran out (client_header_timeout, send_timeout); Nginx closed the connection", "a slow client")
        .needs("a client that stopped reading, one that vanished and a lossy path look alike; a worker that shuts down writes the same line", "tracing tells a zero window from unacknowledged data"),
    weak("client_body_limit", "request body over the limit", Party::Nginx, Nginx, Cause::NginxConfig)
        .says("client_max_body_size was exceeded (413); if the client keeps sending, Nginx closes with unread data and the kernel sends a RST", "Nginx resets uploads")
        .needs("whether a RST followed is not in the log", "tracing shows the RST and the unread bytes"),
    weak("worker_exit", "Nginx process died", Party::Nginx, Nginx, Cause::NginxWorkerExit)
        .says("a process of Nginx ended by a signal or with an error; the kernel closed all its connections", "a crash")
        .needs("which connections were cut is not in the log, and no access.log line was written for them", "tracing lists the connections that the dying worker held"),
    weak("resource_limit", "Nginx ran out of a resource", Party::Nginx, Nginx, Cause::NginxResourceLimit)
        .status(500)
        .says("worker_connections, descriptors, ephemeral ports or memory ran out", "too much traffic")
        .needs("slow upstreams that hold connections make the same shortage", "tracing shows what the connections were waiting for"),
    weak("configuration", "Nginx configuration or permission", Party::Nginx, Nginx, Cause::NginxConfig)
        .status(502)
        .says("a setting, a name that does not resolve or a missing permission stopped the request", "a wrong configuration")
        .needs("name resolution can also fail in the network", "the configuration and the policy logs of the host decide; tracing adds little"),
    open("local_abort", "socket killed on this host", Nginx)
        .says("a call failed with ECONNABORTED: neither peer nor Nginx ended the connection, something on this host did (`ss -K`, an agent)", "a network fault")
        .needs("the log does not name the process", "tracing names the process that destroyed the socket"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::parts::party_of;

    #[test]
    fn every_row_is_complete_and_claims_little() {
        for topic in TOPICS {
            assert!(matches!(topic.certainty, Certainty::Weak | Certainty::Undetermined), "{}", topic.slug);
            for text in [topic.means, topic.usual, topic.but, topic.tracing] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text}", topic.slug);
            }
            assert_eq!(topic.party, party_of(topic.cause), "{}", topic.slug);
            assert_eq!(
                topic.party == Party::Unknown,
                topic.certainty == Certainty::Undetermined,
                "{}",
                topic.slug
            );
        }
    }

    #[test]
    fn slugs_are_unique() {
        for (at, topic) in TOPICS.iter().enumerate() {
            assert_eq!(usize::from(TopicId::of(topic.slug).0), at);
        }
    }
}
