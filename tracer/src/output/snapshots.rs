//! What people read while a session runs, as snapshots: incidents, plain and coloured.

use jiff::tz::TimeZone;

use super::samples;
use super::sanitize::is_dangerous;
use super::text::incident;
use super::{Palette, TextOptions};
use crate::model::Verdict;
use crate::model::verdict::Party;

pub(super) fn options(width: Option<usize>, colour: bool) -> TextOptions {
    TextOptions { palette: Palette { colour }, width, zone: TimeZone::UTC }
}

/// Escape sequences as text, for snapshots.
pub(super) fn visible(text: &str) -> String {
    text.replace('\x1b', "␛")
}

fn of(parties: &[Party]) -> String {
    let of_parties = samples::all().into_iter().filter(|verdict| parties.contains(&verdict.party));
    of_parties.map(|verdict| plain(&verdict) + "\n").collect()
}

#[test]
fn upstreams_on_a_terminal_of_100_columns() {
    insta::assert_snapshot!(of(&[Party::Upstream]), @r#"
    14:03:22.118  UPSTREAM   proven  upstream_abort  10.0.1.10:8080  failed: GET /api/orders/17
        Upstream 10.0.1.10:8080 (java, pid 4711) closed the connection with 312 bytes of the request
        unread.
        nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, open 3.2 s; client 198.51.100.7:51234
        decisive    the kernel sent the RST when java (pid 4711) closed the socket
        log         /var/log/nginx/error.log@18234 *57: recv() failed (104)

    14:03:22.118  UPSTREAM   proven  upstream_process_exit  10.0.1.10:8080  failed: GET /api/orders/17
        Upstream process gunicorn (pid 9120) was killed by signal 9 (SIGKILL) while the request was in
        flight.
        nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, open 3.2 s; client 198.51.100.7:51234
        decisive    the RST was sent by pid 9120 while it was exiting
        log         /var/log/nginx/error.log@18234 *57: upstream prematurely closed connection

    14:03:22.118  UPSTREAM   strong  upstream_keepalive_race  10.0.1.10:8080  retried: GET /api/orders/…
        Nginx reused a connection to 10.0.1.10:8080 that had been idle for 5.0 s, as the upstream closed
        it.
        nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, open 3.2 s; client 198.51.100.7:51234
        supporting  idle for 5003 ms before the request was sent
        supporting  no byte of an answer came after the request
        log         /var/log/nginx/error.log@18234 *57: upstream prematurely closed connection
        advice      keepalive_timeout 4s; (upstream block): the upstream closes connections that were
                    idle for 5.0 s; Nginx keeps them for 60 s

    14:03:22.118  UPSTREAM   strong  upstream_refused  10.0.1.10:8080  failed: GET /api/orders/17
        Nothing listens on 10.0.1.10:8080: the SYN was answered by a RST.
        nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, open 3.2 s; client 198.51.100.7:51234
        supporting  a RST acknowledged the SYN
        log         /var/log/nginx/error.log@18234 *57: connect() failed (111)

    14:03:22.118  UPSTREAM   strong  upstream_slow  10.0.1.10:8080  failed: GET /api/orders/17
        10.0.1.10:8080 acknowledged the request and did not answer within 60 s.
        nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, open 3.2 s; client 198.51.100.7:51234
        supporting  all 812 bytes were acknowledged
        log         /var/log/nginx/error.log@18234 *57: upstream timed out (110)

    14:03:22.118  UPSTREAM   strong  upstream_closed_early  10.0.1.10:8080  response truncated
        10.0.1.10:8080 closed after 1432 bytes of the response.
        nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, open 3.2 s; client 198.51.100.7:51234
        supporting  a FIN came after 1432 bytes

    14:03:22.118  UPSTREAM   undetermined  upstream_unavailable  backend  failed: GET /api/orders/17
        Nginx had marked every server of the group "backend" as failed.
        log         /var/log/nginx/error.log@18234 *57: no live upstreams

    14:03:22.118  UPSTREAM   proven  upstream_abort  [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535
        failed: GET /\x1b[2J\x1b]0;owned\x07\u{202e}\x9b31m\r\nfake linexxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
        sum \x1b[2J\x1b]0;owned\x07\u{202e}\x9b31m\r\nfake line
        nginx [2001:db8:1111:2222:3333:4444:5555:6666]:43210 ↔ upstream
        [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535, open 3.2 s; client 198.51.100.7:51234
        decisive    detail \x1b[2J\x1b]0;owned\x07\u{202e}\x9b31m\r\nfake line
        log         /var/log/\x1b[2J\x1b]0;owned\x07\u{202e}\x9b31m\r\nfake line@18234 *57: message
                    \x1b[2J\x1b]0;owned\x07\u{202e}\x9b31m\r\nfake line (104)
    "#);
}

#[test]
fn clients_and_nginx_on_a_terminal_of_100_columns() {
    insta::assert_snapshot!(of(&[Party::Client, Party::Nginx]), @r"
    14:03:22.118  CLIENT     strong  client_abort  198.51.100.7:51234  response truncated
        Client 198.51.100.7 reset the connection after 48 KiB of the response.
        nginx 10.0.0.5:443 ↔ client 198.51.100.7:51234, open 3.2 s
        supporting  14480 bytes were sent and not acknowledged
        supporting  TTL 52 is that of the handshake

    14:03:22.118  CLIENT     strong  client_late_reset  198.51.100.7:51234
        harmless: Client 198.51.100.7 reset the connection after the response was complete.

    14:03:22.118  CLIENT     strong  client_abort
        harmless consequence: Nginx reset 10.0.1.10:8080 because the client had aborted.

    14:03:22.118  NGINX      proven  nginx_timeout_reset  worker 813  request failed
        Nginx reset the timed-out connection of 198.51.100.7 on purpose (reset_timedout_connection).
        nginx 10.0.0.5:443 ↔ client 198.51.100.7:51234, older than the trace
        decisive    worker 813 closed the socket with zero linger

    14:03:22.118  NGINX      proven  nginx_listen_overflow  listener 0.0.0.0:443
        The accept queue of 0.0.0.0:443 was full (512 of 511): 37 connection attempts were dropped.
        decisive    the kernel dropped SYNs with 512 connections of 511 waiting
        advice      listen 443 backlog=4096; sysctl net.core.somaxconn=4096 (listen directive and
                    net.core.somaxconn): the queue holds 511 connections and was full
    ");
}

#[test]
fn devices_and_unknowns_on_a_terminal_of_100_columns() {
    insta::assert_snapshot!(of(&[Party::Middlebox, Party::Unknown]), @r#"
    14:03:22.118  MIDDLEBOX  proven  middlebox_forged_reset  path to 10.0.1.10:8080
        failed: GET /api/orders/17
        A device on the path sent a RST in the name of 10.0.1.10:8080, which went on talking afterwards.
        nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, open 3.2 s; client 198.51.100.7:51234
        decisive    10.0.1.10:8080 sent data 210 ms after "its" RST
        log         /var/log/nginx/error.log@18234 *57: recv() failed (104)
        advice      look for a REJECT rule or a session limit (router or firewall towards 10.0.1.10): a
                    device rejects established connections (and 1 more)

    14:03:22.118  MIDDLEBOX  weak    middlebox_idle_reset  path to 10.0.1.10:8080  no request
        A device seems to have answered for 10.0.1.10:8080 on a connection that was idle for 1 h 2 min.
        nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, open 1 h 2 min, idle 1 h 2 min; client
        198.51.100.7:51234
        supporting  TTL 64 instead of 63: the sender is one hop nearer
        supporting  idle for 3720 s before the request was sent
        against     the sequence number is exactly the expected one
        missing     other_end: the upstream's host was not observed

    14:03:22.118  UNKNOWN    undetermined  insufficient_evidence  10.0.1.10:8080
        A RST from 10.0.1.10:8080 ended the connection; who sent it can't be told.
        nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, open 3.2 s; client 198.51.100.7:51234
        missing     rst_header: cgroup v2 is not mounted, so the RST's TTL was not seen
        missing     hop_baseline: the connection is older than the trace
    "#);
}

#[test]
fn on_a_terminal_of_80_columns() {
    let two = [samples::keepalive_race(), samples::hostile()];
    let text: String =
        two.iter().map(|verdict| incident(verdict, &options(Some(80), false)) + "\n").collect();
    insta::assert_snapshot!(text, @r"
    14:03:22.118  UPSTREAM   strong  upstream_keepalive_race  10.0.1.10:8080
        retried: GET /api/orders/17
        Nginx reused a connection to 10.0.1.10:8080 that had been idle for 5.0 s, as
        the upstream closed it.
        nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, open 3.2 s; client
        198.51.100.7:51234
        supporting  idle for 5003 ms before the request was sent
        supporting  no byte of an answer came after the request
        log         /var/log/nginx/error.log@18234 *57: upstream prematurely closed
                    connection
        advice      keepalive_timeout 4s; (upstream block): the upstream closes
                    connections that were idle for 5.0 s; Nginx keeps them for 60 s

    14:03:22.118  UPSTREAM   proven  upstream_abort
        [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535  failed: GET /\x1b[2J\x1b]0;…
        sum \x1b[2J\x1b]0;owned\x07\u{202e}\x9b31m\r\nfake line
        nginx [2001:db8:1111:2222:3333:4444:5555:6666]:43210 ↔ upstream
        [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535, open 3.2 s; client
        198.51.100.7:51234
        decisive    detail \x1b[2J\x1b]0;owned\x07\u{202e}\x9b31m\r\nfake line
        log         /var/log/\x1b[2J\x1b]0;owned\x07\u{202e}\x9b31m\r\nfake
                    line@18234 *57: message
                    \x1b[2J\x1b]0;owned\x07\u{202e}\x9b31m\r\nfake line (104)
    ");
}

#[test]
fn in_a_pipe_no_line_is_broken() {
    let text = incident(&samples::keepalive_race(), &options(None, false));
    insta::assert_snapshot!(text, @r"
    14:03:22.118  UPSTREAM   strong  upstream_keepalive_race  10.0.1.10:8080  retried: GET /api/orders/17
        Nginx reused a connection to 10.0.1.10:8080 that had been idle for 5.0 s, as the upstream closed it.
        nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, open 3.2 s; client 198.51.100.7:51234
        supporting  idle for 5003 ms before the request was sent
        supporting  no byte of an answer came after the request
        log         /var/log/nginx/error.log@18234 *57: upstream prematurely closed connection
        advice      keepalive_timeout 4s; (upstream block): the upstream closes connections that were idle for 5.0 s; Nginx keeps them for 60 s
    ");
}

#[test]
fn in_colour_the_words_stay_the_same() {
    let coloured = incident(&samples::forged_reset(), &options(Some(100), true));
    insta::assert_snapshot!(visible(&coloured), @r#"
    14:03:22.118  ␛[1m␛[31mMIDDLEBOX␛[0m  ␛[1m␛[32mproven␛[0m  ␛[1mmiddlebox_forged_reset␛[0m  path to 10.0.1.10:8080
        failed: GET /api/orders/17
        A device on the path sent a RST in the name of 10.0.1.10:8080, which went on talking afterwards.
        nginx 10.0.0.5:43210 ↔ upstream 10.0.1.10:8080, open 3.2 s; client 198.51.100.7:51234
        ␛[32mdecisive␛[0m    10.0.1.10:8080 sent data 210 ms after "its" RST
        log         /var/log/nginx/error.log@18234 *57: recv() failed (104)
        ␛[1madvice␛[0m      look for a REJECT rule or a session limit (router or firewall towards 10.0.1.10): a
                    device rejects established connections (and 1 more)
    "#);
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain(&samples::forged_reset()));
}

fn plain(verdict: &Verdict) -> String {
    incident(verdict, &options(Some(100), false))
}

#[test]
fn a_time_zone_moves_the_clock() {
    let zone = TextOptions { zone: TimeZone::fixed(jiff::tz::offset(-5)), ..options(None, false) };
    assert!(incident(&samples::refused(), &zone).starts_with("09:03:22.118  UPSTREAM"));
}

#[test]
fn a_time_that_is_none_is_shown_as_it_is() {
    let mut verdict = samples::refused();
    verdict.time = "yester\x1bday".to_owned();
    assert!(plain(&verdict).starts_with("yester\\x1bday  UPSTREAM"));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [60, 80, 100, 132] {
        for verdict in samples::all() {
            let text = incident(&verdict, &options(Some(width), false));
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }
}

#[test]
fn nothing_hostile_reaches_the_terminal() {
    for width in [Some(80), None] {
        let text = incident(&samples::hostile(), &options(width, false));
        assert!(!text.replace('\n', "").chars().any(is_dangerous), "{text}");
        assert!(text.lines().all(|line| !line.starts_with("fake line")), "{text}");
    }
}
