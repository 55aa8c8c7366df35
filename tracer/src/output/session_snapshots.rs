//! What people read at the start and the end of a session, as snapshots: header and summary.

use super::samples;
use super::sanitize::is_dangerous;
use super::snapshots::{options, visible};
use super::{Closing, HookTier, SessionHeader, Tally, WatchedLog, WatchedNginx};
use crate::account::mib::Snapshot;
use crate::account::reconcile::{Counted, Observed, reconcile};
use crate::model::verdict::{Certainty, Impact};
use crate::model::{HookState, Level, Losses};

fn hook(name: &str, problem: Option<&str>, lost: &str) -> HookState {
    HookState {
        name: name.to_owned(),
        running: problem.is_none(),
        problem: problem.map(str::to_owned),
        lost_evidence: lost.to_owned(),
    }
}

fn hooks() -> Vec<HookState> {
    vec![
        hook("tcp_receive_reset", None, "received resets"),
        hook("tcp_send_reset", None, "sent resets"),
        hook(
            "cgroup_skb",
            Some("cgroup v2 is not mounted"),
            "headers of RSTs, so TTL and sequence evidence of middle devices",
        ),
    ]
}

fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|entry| (*entry).to_owned()).collect()
}

fn header() -> SessionHeader {
    let log = |path: &str, level, problem: Option<&str>| WatchedLog {
        path: path.to_owned(),
        level,
        problem: problem.map(str::to_owned),
    };
    SessionHeader {
        version: "0.1.0".to_owned(),
        host: "web1".to_owned(),
        kernel: "6.12.41+deb13-amd64".to_owned(),
        lockdown: "none".to_owned(),
        tier: HookTier::RawTracepoint,
        hooks: hooks(),
        nginx: vec![WatchedNginx {
            master: 812,
            workers: vec![813, 814, 815, 816],
            configuration: Some("/etc/nginx/nginx.conf".to_owned()),
            netns: 4_026_531_840,
        }],
        listeners: list(&["0.0.0.0:80", "0.0.0.0:443", "[::]:443"]),
        upstreams: list(&["10.0.1.10:8080", "10.0.1.11:8080"]),
        logs: vec![
            log("/var/log/nginx/error.log", Some(Level::Error), None),
            log("/var/log/nginx/shop.log", Some(Level::Info), None),
            log("/srv/logs/api.log", None, Some("permission denied")),
        ],
        filters: list(&["--only upstream,middlebox", "--nginx-port 443"]),
        notes: Vec::new(),
    }
}

mod session_header {
    use super::super::header::text;
    use super::*;

    #[test]
    fn on_a_terminal_of_100_columns() {
        insta::assert_snapshot!(text(&header(), &options(Some(100), false)), @r"
        rstscope   0.1.0 on web1, kernel 6.12.41+deb13-amd64, lockdown none
        hooks      2 of 3 running (raw tracepoints)
        hook off   cgroup_skb: cgroup v2 is not mounted; lost: headers of RSTs, so TTL and sequence evidence
                   of middle devices
        nginx      master 812, workers 813 814 815 816, configuration /etc/nginx/nginx.conf
        listen     0.0.0.0:80, 0.0.0.0:443, [::]:443
        upstreams  10.0.1.10:8080, 10.0.1.11:8080
        logs       /var/log/nginx/error.log, level error: resets, timeouts and closes by clients are never
                   logged at this level (they are at info)
        logs       /var/log/nginx/shop.log, level info
        logs       /srv/logs/api.log: permission denied; its lines are not joined
        filters    --only upstream,middlebox --nginx-port 443
        watching 1 Nginx master, 4 workers, 3 listen sockets, 2 upstreams, 2 logs; end with Ctrl-C
        ");
    }

    #[test]
    fn in_colour_only_labels_are_painted() {
        let coloured = text(&header(), &options(None, true));
        insta::assert_snapshot!(visible(&coloured), @r"
        ␛[1mrstscope␛[0m   0.1.0 on web1, kernel 6.12.41+deb13-amd64, lockdown none
        ␛[1mhooks␛[0m      2 of 3 running (raw tracepoints)
        ␛[33mhook off␛[0m   cgroup_skb: cgroup v2 is not mounted; lost: headers of RSTs, so TTL and sequence evidence of middle devices
        ␛[1mnginx␛[0m      master 812, workers 813 814 815 816, configuration /etc/nginx/nginx.conf
        ␛[1mlisten␛[0m     0.0.0.0:80, 0.0.0.0:443, [::]:443
        ␛[1mupstreams␛[0m  10.0.1.10:8080, 10.0.1.11:8080
        ␛[1mlogs␛[0m       /var/log/nginx/error.log, level error: resets, timeouts and closes by clients are never logged at this level (they are at info)
        ␛[1mlogs␛[0m       /var/log/nginx/shop.log, level info
        ␛[33mlogs␛[0m       /srv/logs/api.log: permission denied; its lines are not joined
        ␛[1mfilters␛[0m    --only upstream,middlebox --nginx-port 443
        watching 1 Nginx master, 4 workers, 3 listen sockets, 2 upstreams, 2 logs; end with Ctrl-C
        ");
    }

    #[test]
    fn the_last_line_starts_with_watching_whatever_is_found() {
        let mut empty = header();
        empty.nginx.clear();
        empty.logs.clear();
        empty.listeners.clear();
        empty.upstreams.clear();
        for (header, colour) in [(header(), true), (header(), false), (empty, true)] {
            let text = text(&header, &options(Some(60), colour));
            assert!(text.lines().last().unwrap().starts_with("watching "), "{text}");
        }
    }

    #[test]
    fn without_nginx_it_says_what_is_missing() {
        let mut empty = SessionHeader { nginx: Vec::new(), logs: Vec::new(), ..header() };
        empty.listeners.clear();
        empty.upstreams.clear();
        empty.hooks.clear();
        empty.filters.clear();
        empty.notes = list(&["CAP_SYS_PTRACE is missing\x1b[2J: sockets of other users are not seen"]);
        insta::assert_snapshot!(text(&empty, &options(Some(100), false)), @r"
        rstscope   0.1.0 on web1, kernel 6.12.41+deb13-amd64, lockdown none
        hooks      0 of 0 running (raw tracepoints)
        listen     none found: client connections are recognised by their worker only
        upstreams  none known yet: recognised when a worker connects
        logs       no error_log found: verdicts rest on the kernel alone, without request or upstream name
        note       CAP_SYS_PTRACE is missing\x1b[2J: sockets of other users are not seen
        watching for an Nginx to start; end with Ctrl-C
        ");
    }

    #[test]
    fn long_lists_are_counted() {
        let many = SessionHeader { upstreams: vec!["10.0.0.1:80".to_owned(); 500], ..header() };
        let text = text(&many, &options(None, false));
        assert!(text.contains("10.0.0.1:80 and 488 more\n") && text.contains(" 500 upstreams"));
    }
}

fn closing() -> Closing {
    let mut tally = Tally::default();
    for verdict in samples::all() {
        tally.add(&verdict);
    }
    let mut weak = samples::upstream_abort();
    weak.certainty = Certainty::Weak;
    weak.impact = Impact::RequestRetried;
    weak.time = "2026-03-01T14:14:09.000000000Z".to_owned();
    tally.add(&weak);
    tally.add(&samples::keepalive_race());
    let grown = Snapshot::parse(
        "Tcp: OutRsts EstabResets RetransSegs\nTcp: 41 17 9\n",
        "TcpExt: ListenOverflows TCPAbortOnClose\nTcpExt: 37 3\n",
    );
    let seen = Observed {
        resets_sent: Some(12),
        established_resets: Some(17),
        retransmits: Some(12),
        listen_overflows: Some(36),
        ..Observed::default()
    };
    Closing {
        from: "2026-03-01T14:03:20.000000000Z".to_owned(),
        to: "2026-03-01T14:15:24.000000000Z".to_owned(),
        tally,
        losses: Losses { by_handover: [("tcp_send_reset".to_owned(), 2)].into() },
        hooks: hooks(),
        reconciliation: reconcile(&Counted { grown, between: Snapshot::default() }, &seen, 2),
        ring_records: 12,
        connections: 340,
    }
}

mod closing_summary {
    use super::super::summary::text;
    use super::*;

    #[test]
    fn on_a_terminal_of_100_columns() {
        insta::assert_snapshot!(text(&closing(), &options(Some(100), false)), @r"
        summary    16 incidents in 12 min 4 s, 14:03:20 to 14:15:24; 2 harmless

        party      cause                    where           count  certainty     impact       when
        client     client_abort             clients             1  strong        truncated    14:03:22
        nginx      nginx_timeout_reset      clients             1  proven        failed       14:03:22
        nginx      nginx_listen_overflow    0.0.0.0:443         1  proven        unknown      14:03:22
        upstream   upstream_keepalive_race  10.0.1.10:8080      2  strong        retried      14:03:22
        upstream   upstream_abort           10.0.1.10:8080      2  1 proven, 1   1 failed, 1  14:03:22
                                                                   weak          retried      14:14:09
        upstream   upstream_refused         10.0.1.10:8080      1  strong        failed       14:03:22
        upstream   upstream_abort           [2001:db8:aaaa      1  proven        failed       14:03:22
                                            :bbbb:cccc:ddd
                                            d:eeee:ffff]:6
                                            5535
        upstream   upstream_process_exit    10.0.1.10:8080      1  proven        failed       14:03:22
        upstream   upstream_closed_early    10.0.1.10:8080      1  strong        truncated    14:03:22
        upstream   upstream_slow            10.0.1.10:8080      1  strong        failed       14:03:22
        upstream   upstream_unavailable     backend             1  undetermined  failed       14:03:22
        middlebox  middlebox_forged_reset   10.0.1.10:8080      1  proven        failed       14:03:22
        middlebox  middlebox_idle_reset     10.0.1.10:8080      1  weak          no request   14:03:22
        unknown    insufficient_evidence    10.0.1.10:8080      1  undetermined  unknown      14:03:22

        harmless   1 client_abort, 1 client_late_reset
        advice     2 incidents: keepalive_timeout 4s; (upstream block): the upstream closes connections that
                   were idle for 5.0 s; Nginx keeps them for 60 s
        advice     1 incident: listen 443 backlog=4096; sysctl net.core.somaxconn=4096 (listen directive and
                   net.core.somaxconn): the queue holds 511 connections and was full
        advice     1 incident: look for a REJECT rule or a session limit (router or firewall towards
                   10.0.1.10): a device rejects established connections
        advice     1 incident: run rstscope there as well (upstream host): the proof needs both ends
        watched    340 new connections of Nginx followed, 12 kernel records made
        lost       2 events: 2 tcp_send_reset
        hook off   cgroup_skb: cgroup v2 is not mounted; lost: headers of RSTs, so TTL and sequence evidence
                   of middle devices

        kernel counter         kernel  seen  explanation
        TcpOutRsts                 41    12  29 answers to segments without a connection (closed ports,
                                             old connections), which this kernel does not trace in full;
                                             up to 2 may be events that were lost
        TcpEstabResets             17    17  equal
        TcpRetransSegs              9    12  SUSPECT: 3 more seen than counted: events of another
                                             namespace, or outside the time compared
        TcpExtListenOverflows      37    36  1 dropped ACKs, of which this kernel tells only when it
                                             repeats the SYN-ACK; up to 2 may be events that were lost
        TcpExtTCPAbortOnClose       3     -  for information: reset because of unread data at close
        ");
    }

    #[test]
    fn on_a_terminal_of_80_columns_the_times_give_way() {
        let text = text(&closing(), &options(Some(80), false));
        let table = text.lines().skip(3).take(8).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(table, @r"
        cause                    where           count  certainty          impact
        client_abort             clients             1  strong             truncated
        nginx_timeout_reset      clients             1  proven             failed
        nginx_listen_overflow    0.0.0.0:443         1  proven             unknown
        upstream_keepalive_race  10.0.1.10:8080      2  strong             retried
        upstream_abort           10.0.1.10:8080      2  1 proven, 1 weak   1 failed, 1
                                                                           retried
        upstream_refused         10.0.1.10:8080      1  strong             failed
        ");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn in_colour_the_words_stay_the_same() {
        let coloured = text(&closing(), &options(Some(100), true));
        assert!(coloured.contains("\x1b[1m\x1b[33mupstream\x1b[0m"));
        let plain = text(&closing(), &options(Some(100), false));
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
    }

    #[test]
    fn a_quiet_session_says_so() {
        let quiet =
            Closing { tally: Tally::default(), losses: Losses::default(), hooks: Vec::new(), ..closing() };
        let quiet = Closing { reconciliation: Vec::new(), ..quiet };
        insta::assert_snapshot!(text(&quiet, &options(None, false)), @r"
        summary    no incident in 12 min 4 s, 14:03:20 to 14:15:24; 0 harmless
        watched    340 new connections of Nginx followed, 12 kernel records made
        lost       nothing was lost
        ");
    }

    #[test]
    fn hostile_places_and_advice_are_made_safe() {
        let mut verdict = samples::keepalive_race();
        verdict.connection.as_mut().unwrap().remote = "\x1b[2J10.0.0.1:80".to_owned();
        verdict.advice[0].change = "\u{202e}\x07".to_owned();
        let mut closing = closing();
        closing.tally.add(&verdict);
        closing.losses.by_handover.insert("\x1b]0;x\x07".to_owned(), 1);
        let text = text(&closing, &options(Some(100), false));
        assert!(!text.replace('\n', "").chars().any(is_dangerous), "{text}");
    }

    #[test]
    fn stats_hold_the_same_numbers_as_the_text() {
        let closing = closing();
        let stats = serde_json::to_value(closing.stats()).unwrap();
        assert_eq!(stats["incidents"], 16);
        assert_eq!(stats["harmless"], serde_json::json!({"client_abort": 1, "client_late_reset": 1}));
        assert_eq!(stats["advice"][0]["incidents"], 2);
        assert_eq!(stats["advice"][0]["change"], "keepalive_timeout 4s;");
        assert_eq!(stats["rows"][0]["certainty"], serde_json::json!({"strong": 1}));
        assert_eq!(stats["reconciliation"][0]["counter"], "TcpOutRsts");
        assert_eq!(stats["hooks_not_running"][0]["name"], "cgroup_skb");
    }
}
