//! What holds for any bytes, and for any line Nginx could print.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::parse;
use crate::model::{Level, LogSide};

/// A line as Nginx builds it, before it is printed.
#[derive(Debug, Clone)]
struct Printed {
    level: &'static str,
    pid: u32,
    connection: u64,
    call: &'static str,
    errno: Option<i32>,
    action: Option<&'static str>,
    client: String,
    server: String,
    request: String,
    upstream: Option<String>,
    host: String,
    referrer: Option<String>,
}

impl Printed {
    fn text(&self) -> String {
        let Self { level, pid, connection, call, client, server, request, host, .. } = self;
        let errno = self.errno.map(|errno| format!(" ({errno}: some text)")).unwrap_or_default();
        let action = self.action.map(|action| format!(" while {action}")).unwrap_or_default();
        let upstream = self.upstream.as_ref().map(|peer| format!(", upstream: \"http://{peer}/u\""));
        let referrer = self.referrer.as_ref().map(|text| format!(", referrer: \"{text}\""));
        format!(
            "2026/11/20 06:43:33 [{level}] {pid}#{pid}: *{connection} {call}() failed{errno}{action}, client: {client}, \
             server: {server}, request: \"{request}\"{}, host: \"{host}\"{}",
            upstream.unwrap_or_default(),
            referrer.unwrap_or_default()
        )
    }
}

fn client() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
        Just("unix:".to_owned()),
    ]
}

fn upstream() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<std::net::SocketAddrV4>().prop_map(|address| address.to_string()),
        any::<std::net::SocketAddrV6>().prop_map(|address| format!("[{}]:{}", address.ip(), address.port())),
        "[a-z_]{1,12}",
        "unix:/[a-z/]{1,20}\\.sock:",
    ]
}

/// What a client can put into a text field to pretend it is another.
fn forged() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\", upstream: \"http://6.6.6.6:66/".to_owned()),
        Just(", client: 6.6.6.6, server: evil".to_owned()),
        Just("\", host: \"evil".to_owned()),
        Just(" while connecting to upstream".to_owned()),
        Just(" (104: Connection reset by peer)".to_owned()),
        "[ -~]{0,20}",
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

fn printed(referrer: impl Strategy<Value = Option<String>>) -> impl Strategy<Value = Printed> {
    let head = (
        prop::sample::select(vec!["info", "error", "crit", "alert"]),
        any::<u32>(),
        any::<u64>(),
        prop::sample::select(vec!["recv", "send", "writev", "readv", "sendfile"]),
        prop::option::of(1..134_i32),
        prop::option::of(prop::sample::select(vec![
            "reading upstream",
            "sending to client",
            "reading response header from upstream",
        ])),
    );
    let tail = (
        client(),
        prop_oneof![Just(String::new()), Just("_".to_owned()), "[a-z.*]{1,20}"],
        "(GET|POST) /[!#-~]{0,30} HTTP/1\\.[01]",
        prop::option::of(upstream()),
        "[a-z0-9.:-]{1,20}",
        referrer,
    );
    (head, tail).prop_map(|((level, pid, connection, call, errno, action), tail)| {
        let (client, server, request, upstream, host, referrer) = tail;
        Printed {
            level,
            pid,
            connection,
            call,
            errno,
            action,
            client,
            server,
            request,
            upstream,
            host,
            referrer,
        }
    })
}

fn check(line: &Printed) -> Result<(), TestCaseError> {
    let record = parse(line.text().as_bytes(), &TimeZone::UTC);
    prop_assert_eq!(record.pid, Some(line.pid));
    prop_assert_eq!(record.connection, Some(line.connection));
    prop_assert_eq!(record.call.as_deref(), Some(line.call));
    prop_assert_eq!(record.errno, line.errno);
    prop_assert_eq!(record.action.as_deref(), line.action);
    prop_assert_eq!(record.client.as_deref(), Some(line.client.as_str()));
    prop_assert_eq!(record.server.as_deref(), Some(line.server.as_str()));
    prop_assert_eq!(record.request.as_deref(), Some(line.request.as_str()));
    let upstream = line
        .upstream
        .as_ref()
        .map(|peer| if peer.starts_with("unix:") { peer.trim_end_matches(':') } else { peer });
    prop_assert_eq!(record.upstream.as_deref(), upstream);
    prop_assert_eq!(record.host.as_deref(), Some(line.host.as_str()));
    match record.level {
        Some(Level::Info) => prop_assert_eq!(record.side, LogSide::Client),
        Some(Level::Error) => prop_assert_eq!(record.side, LogSide::Upstream),
        _ => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        parse(&bytes, &TimeZone::UTC);
    }

    #[test]
    fn any_mixture_of_known_pieces_is_read(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..20)) {
        parse(pieces.concat().as_bytes(), &TimeZone::UTC);
    }

    #[test]
    fn what_was_printed_is_read(line in printed(prop::option::of("[!#-+.-~]{0,30}"))) {
        check(&line)?;
    }

    #[test]
    fn a_forged_referrer_changes_nothing_else(line in printed(forged().prop_map(Some))) {
        check(&line)?;
    }

    #[test]
    fn a_cut_anywhere_keeps_what_stands_before(line in printed(forged().prop_map(Some)), cut in 0_usize..400) {
        let text = line.text();
        let cut = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= cut).last().unwrap_or(0);
        let record = parse(&text.as_bytes()[..cut], &TimeZone::UTC);
        if let (Some(whole), Some(client)) = (text.find(", server: "), &record.client) {
            prop_assert!(cut < whole || *client == line.client);
        }
    }
}

const PIECES: &[&str] = &[
    "2026/11/20 06:43:33 [error] 1#1: *2 ",
    "recv() failed",
    " (104: Connection reset by peer)",
    " (SSL: error:1)",
    " while ",
    "reading upstream",
    ", client: ",
    "1.2.3.4",
    ", server: ",
    ", request: \"",
    ", upstream: \"",
    "http://1.2.3.4:80/",
    ", host: \"",
    ", referrer: \"",
    "\"",
    " HTTP/1.1\"",
    "{\"log\":\"",
    "\\n\"}",
    "<187>",
    "[",
    "]",
    "unix:",
    "nginx | ",
];
