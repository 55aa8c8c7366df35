//! The upstream's address inside the `upstream: "…"` field: `SCHEME PEER URI` without scheme and URI.
//! The path of a unix socket is as it is printed; Passenger 4 prints it without `unix:`.

use memchr::memmem;

/// `addr:port`, `[v6]:port`, a group name, or `unix:/path`; `None` when nothing is left.
pub(super) fn of_url(url: &[u8]) -> Option<&[u8]> {
    let peer = without_scheme(url);
    if let Some(length) = plain_length(peer) {
        return Some(&peer[..length]);
    }
    let length = match peer.first() {
        Some(b'/') => memchr::memchr(b':', peer).unwrap_or(0),
        _ if peer.starts_with(b"unix:") => unix_length(peer),
        _ => inet_length(peer),
    };
    let peer = &peer[..length];
    (!peer.is_empty()).then_some(peer)
}

/// Whether the scheme is one that speaks TLS to the upstream.
pub(super) fn is_tls(url: &[u8]) -> bool {
    [&b"https://"[..], b"grpcs://", b"suwsgi://"].iter().any(|scheme| url.starts_with(scheme))
}

fn without_scheme(url: &[u8]) -> &[u8] {
    if let Some((b"http://", rest)) = url.split_first_chunk() {
        return rest;
    }
    if let Some(at) = url.iter().take(22).position(|byte| *byte == b':')
        && url[at..].starts_with(b"://")
    {
        return &url[at + 3..];
    }
    if let Some(at) = memmem::find(url.get(..24).unwrap_or(url), b"://") {
        return &url[at + 3..];
    }
    // Passenger prints `passenger:unix:/path:` or `passenger:/path:`.
    let start = url.get(..24).unwrap_or(url);
    match memmem::find(start, b":unix:").or_else(|| memmem::find(start, b"passenger:/").map(|_| 9)) {
        Some(at) => &url[at + 1..],
        None => url,
    }
}

/// Length of `1.2.3.4:80` in front of a slash, which is what most lines have.
fn plain_length(peer: &[u8]) -> Option<usize> {
    let host = peer.iter().position(|byte| !(byte.is_ascii_digit() || *byte == b'.'))?;
    let port = peer[host..].strip_prefix(b":")?;
    let digits = port.iter().position(|byte| !byte.is_ascii_digit())?;
    (host > 0 && (1..=5).contains(&digits) && port[digits] == b'/').then_some(host + 1 + digits)
}

/// Up to the colon that separates path and URI. Some lines, as those of timers, have none (seen in 1.22): there the path
/// ends with what sockets are usually called.
fn unix_length(peer: &[u8]) -> usize {
    const SCHEME: usize = b"unix:".len();
    if let Some(at) = memchr::memchr(b':', &peer[SCHEME..]) {
        return SCHEME + at;
    }
    let named = |ending: &[u8]| memmem::find(peer, ending).map(|at| at + ending.len() - 1);
    [&b".sock/"[..], b".socket/"].into_iter().filter_map(named).min().unwrap_or(peer.len())
}

/// Host and port; the URI may follow without a slash when `proxy_pass` has variables.
fn inet_length(peer: &[u8]) -> usize {
    let host = match peer.first() {
        Some(b'[') => memchr::memchr(b']', peer).map_or(peer.len(), |at| at + 1),
        _ => peer.iter().position(|byte| b":/?\" ".contains(byte)).unwrap_or(peer.len()),
    };
    let Some(port) = peer[host..].strip_prefix(b":") else { return host };
    let digits = port.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { host } else { host + 1 + digits.min(5) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_peer() {
        for (url, peer) in [
            ("http://127.0.0.1:8080/a?b", "127.0.0.1:8080"),
            ("https://[2001:db8::1]:443/", "[2001:db8::1]:443"),
            ("http://backend/", "backend"),
            ("http://127.0.0.1:5001version", "127.0.0.1:5001"),
            ("http://127.0.0.1:500012", "127.0.0.1:50001"),
            ("fastcgi://unix:/run/php.sock:", "unix:/run/php.sock"),
            ("http://unix:/tmp/a.sock:/uri", "unix:/tmp/a.sock"),
            ("http://unix:/tmp/a.sock/uri", "unix:/tmp/a.sock"),
            ("http://unix:/tmp/a.sock/odd:/uri", "unix:/tmp/a.sock/odd"),
            ("http://unix:/tmp/other/uri", "unix:/tmp/other/uri"),
            ("passenger:unix:/tmp/p.1/server.socket:", "unix:/tmp/p.1/server.socket"),
            ("passenger:/tmp/passenger.1/request:", "/tmp/passenger.1/request"),
            ("10.0.0.1:3306", "10.0.0.1:3306"),
            ("fastcgi://127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://example.org:80?x=http://y/", "example.org:80"),
        ] {
            assert_eq!(of_url(url.as_bytes()).map(String::from_utf8_lossy).as_deref(), Some(peer), "{url}");
        }
        assert_eq!(of_url(b"http:///x"), None);
    }
}
