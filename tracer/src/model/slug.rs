//! The enumerations of the verdict, each with the slug of the contract. Names are added, never renamed or dropped
//! without a new schema number.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! slugs {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $slug:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($(#[$variant_meta])* #[serde(rename = $slug)] $variant,)+ }

        impl $name {
            /// Every value, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The slug of the contract.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)+ }
            }

            /// The value of a slug.
            pub fn from_slug(slug: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.slug() == slug)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.slug())
            }
        }
    };
}

slugs! {
    /// What happened to the connection.
    Kind {
        /// A RST arrived.
        ResetReceived = "reset_received",
        /// This host sent a RST.
        ResetSent = "reset_sent",
        /// The SYN was answered by a RST or an ICMP error.
        Refused = "refused",
        /// Nothing came in time.
        Timeout = "timeout",
        /// The peer closed before it was done.
        ClosedEarly = "closed_early",
        /// A listener had no room.
        ListenOverflow = "listen_overflow",
        /// Only the log speaks of it.
        LogOnly = "log_only",
    }
}

slugs! {
    /// Whose doing it was.
    Party {
        /// The client or its host.
        Client = "client",
        /// Nginx or this host.
        Nginx = "nginx",
        /// The upstream or its host.
        Upstream = "upstream",
        /// A device on the path, or a packet filter.
        Middlebox = "middlebox",
        /// The evidence does not tell.
        Unknown = "unknown",
    }
}

slugs! {
    /// The segment of the path where the fault lies.
    Segment {
        /// Between client and Nginx, the client included.
        ClientNginx = "client_nginx",
        /// On the Nginx host.
        Nginx = "nginx",
        /// Between Nginx and upstream.
        NginxUpstream = "nginx_upstream",
        /// On the upstream host.
        Upstream = "upstream",
        /// Not known.
        Unknown = "unknown",
    }
}

slugs! {
    /// Why it happened. The slug is the contract.
    Cause {
        /// The client reset or closed while its request or our response was in flight.
        ClientAbort = "client_abort",
        /// The client reset an idle keep-alive connection; harmless.
        ClientIdleReset = "client_idle_reset",
        /// RST after the client had closed or the response was complete; harmless.
        ClientLateReset = "client_late_reset",
        /// RST before a request: port scan, health check, abandoned handshake.
        ClientHandshakeReset = "client_handshake_reset",
        /// Our data was never acknowledged.
        ClientVanished = "client_vanished",
        /// Nginx reset a timed-out connection on purpose.
        NginxTimeoutReset = "nginx_timeout_reset",
        /// Nginx closed a socket with unread data.
        NginxClosedUnread = "nginx_closed_unread",
        /// The worker that owned the connection exited.
        NginxWorkerExit = "nginx_worker_exit",
        /// Nginx's own listener had no room.
        NginxListenOverflow = "nginx_listen_overflow",
        /// The client's SYN met no listener.
        NginxNotListening = "nginx_not_listening",
        /// Connections, descriptors, ports or memory ran out.
        NginxResourceLimit = "nginx_resource_limit",
        /// The log names a configuration limit.
        NginxConfig = "nginx_config",
        /// SYN answered by a RST: nothing listens.
        UpstreamRefused = "upstream_refused",
        /// Nginx reused a kept-alive connection at the moment the upstream closed it.
        UpstreamKeepaliveRace = "upstream_keepalive_race",
        /// The upstream application closed with unread data or with zero linger in mid-request.
        UpstreamAbort = "upstream_abort",
        /// The upstream process exited, crashed or was killed.
        UpstreamProcessExit = "upstream_process_exit",
        /// The OOM killer ended the upstream process.
        UpstreamOomKill = "upstream_oom_kill",
        /// The upstream host no longer knows the connection.
        UpstreamRestarted = "upstream_restarted",
        /// FIN before a complete response.
        UpstreamClosedEarly = "upstream_closed_early",
        /// The upstream's listener had no room.
        UpstreamListenOverflow = "upstream_listen_overflow",
        /// The request was acknowledged and no answer came in time.
        UpstreamSlow = "upstream_slow",
        /// The log alone says so.
        UpstreamUnavailable = "upstream_unavailable",
        /// A RST in a party's name that this party did not send.
        MiddleboxForgedReset = "middlebox_forged_reset",
        /// A device that had expired an idle connection answered for it with a RST.
        MiddleboxIdleReset = "middlebox_idle_reset",
        /// Packets of a long idle connection vanish from then on.
        MiddleboxIdleDrop = "middlebox_idle_drop",
        /// A device answered the SYN.
        MiddleboxReject = "middlebox_reject",
        /// SYNs or data vanish although the peer is alive.
        MiddleboxDrop = "middlebox_drop",
        /// Only full-sized segments vanish.
        MiddleboxMtuBlackhole = "middlebox_mtu_blackhole",
        /// Both ends received a RST and neither sent one.
        MiddleboxBothEndsReset = "middlebox_both_ends_reset",
        /// netfilter on this host rejected or dropped the packet.
        LocalFirewall = "local_firewall",
        /// Nothing holds; `missing` says what would have decided it.
        InsufficientEvidence = "insufficient_evidence",
    }
}

slugs! {
    /// How sure the verdict is.
    Certainty {
        /// At least one decisive piece of evidence and none against.
        Proven = "proven",
        /// Two independent supporting pieces, none against.
        Strong = "strong",
        /// One supporting piece, or several with one against.
        Weak = "weak",
        /// The party is unknown, or the log line alone speaks.
        Undetermined = "undetermined",
    }
}

slugs! {
    /// What it did to the request.
    Impact {
        /// The client got an error.
        RequestFailed = "request_failed",
        /// The client got part of the response.
        ResponseTruncated = "response_truncated",
        /// Another attempt served the request.
        RequestRetried = "request_retried",
        /// A connection without a request ended.
        ConnectionOnly = "connection_only",
        /// Nobody noticed.
        Harmless = "harmless",
        /// Not known.
        Unknown = "unknown",
    }
}

slugs! {
    /// Where the connection was.
    Phase {
        /// SYN sent, no handshake yet.
        Connecting = "connecting",
        /// TLS handshake.
        TlsHandshake = "tls_handshake",
        /// The request was being sent.
        Request = "request",
        /// Request sent, no answer yet.
        Waiting = "waiting",
        /// The response was under way.
        Response = "response",
        /// Between two requests.
        Idle = "idle",
        /// One end had closed.
        Closing = "closing",
        /// Both ends had closed.
        Closed = "closed",
    }
}

slugs! {
    /// Stage in the terms of Cloudflare Radar.
    Stage {
        /// Only a SYN was seen.
        PostSyn = "post_syn",
        /// Handshake complete, no data from the peer.
        PostAck = "post_ack",
        /// After the first data.
        PostPsh = "post_psh",
        /// After several data segments.
        Later = "later",
        /// Does not apply.
        None = "none",
    }
}

slugs! {
    /// What a piece of evidence weighs.
    Weight {
        /// Settles the party on its own.
        Decisive = "decisive",
        /// Points to the party.
        Supporting = "supporting",
        /// Speaks against the verdict.
        Against = "against",
    }
}

slugs! {
    /// Which half of the proxied request a connection is.
    ConnectionSide {
        /// Client to Nginx.
        Client = "client",
        /// Nginx to upstream.
        Upstream = "upstream",
    }
}

slugs! {
    /// Which way the RST went, seen from this host.
    Direction {
        /// It arrived.
        Received = "received",
        /// It was sent.
        Sent = "sent",
    }
}

slugs! {
    /// How a log line was joined to a kernel event.
    MatchMethod {
        /// The failing socket call and the write of the line are adjacent in one thread.
        Syscall = "syscall",
        /// Worker, remote address and errno agree.
        Address = "address",
        /// Worker and time agree, the line names no address.
        Window = "window",
    }
}
