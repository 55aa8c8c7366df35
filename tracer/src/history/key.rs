//! Keys that lines are counted by: the pattern of a URI and the network of a client. Written into a caller's
//! buffer, so that counting a line allocates nothing.

use std::net::IpAddr;

use memchr::memchr;

/// Segments of a path that are kept.
const MAX_SEGMENTS: usize = 4;
/// Longer words of a path are cut, bytes.
const MAX_WORD: usize = 40;

/// Writes method and path of a request line: no query, numbers and identifiers replaced, four segments at most.
pub fn uri_pattern(request: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let method_end = memchr(b' ', request).unwrap_or(0);
    let (method, rest) = request.split_at(method_end);
    out.extend_from_slice(&method[..method.len().min(16)]);
    out.push(b' ');
    let target = rest.strip_prefix(b" ").unwrap_or(rest);
    let end =
        target.iter().position(|byte| matches!(byte, b'?' | b' ' | b'#' | b';')).unwrap_or(target.len());
    let mut segments = target[..end].split(|byte| *byte == b'/').filter(|segment| !segment.is_empty());
    for segment in segments.by_ref().take(MAX_SEGMENTS) {
        out.push(b'/');
        out.extend_from_slice(word(segment));
    }
    if segments.next().is_some() {
        out.extend_from_slice("/…".as_bytes());
    } else if out.last() == Some(&b' ') {
        out.push(b'/');
    }
}

fn word(segment: &[u8]) -> &[u8] {
    if segment.iter().all(u8::is_ascii_digit) {
        return b"{n}";
    }
    if is_identifier(segment) {
        return b"{id}";
    }
    &segment[..segment.len().min(MAX_WORD)]
}

/// Hexadecimal and UUIDs, and long words in which digits and letters take turns.
fn is_identifier(segment: &[u8]) -> bool {
    let digits = segment.iter().filter(|byte| byte.is_ascii_digit()).count();
    let hex = segment.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    (hex && segment.len() >= 8 && digits > 0) || (segment.len() >= 16 && digits * 4 >= segment.len())
}

/// Writes the /24 or /48 that an address lies in; what is no address as it is.
pub fn network(client: &[u8], out: &mut Vec<u8>) {
    out.clear();
    if let Some(end) = first_three_octets(client) {
        out.extend_from_slice(&client[..end]);
        out.extend_from_slice(b".0/24");
        return;
    }
    match std::str::from_utf8(client).ok().and_then(|text| text.parse::<IpAddr>().ok()) {
        Some(address) => push_network(address.to_canonical(), out),
        None => out.extend_from_slice(&client[..client.len().min(64)]),
    }
}

/// Where the third octet of `a.b.c.d` ends.
fn first_three_octets(client: &[u8]) -> Option<usize> {
    let (mut dots, mut third, mut digits) = (0, 0, 0);
    for (at, byte) in client.iter().enumerate() {
        match byte {
            b'.' if digits > 0 && dots < 3 => {
                (dots, third, digits) = (dots + 1, at, 0);
            }
            b'0'..=b'9' if digits < 3 => digits += 1,
            _ => return None,
        }
    }
    (dots == 3 && digits > 0).then_some(third)
}

fn push_network(address: IpAddr, out: &mut Vec<u8>) {
    let text = match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{}/48", std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    };
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(request: &str) -> String {
        let mut out = Vec::new();
        uri_pattern(request.as_bytes(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn net(client: &str) -> String {
        let mut out = Vec::new();
        network(client.as_bytes(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn what_differs_per_request_is_replaced() {
        assert_eq!(pattern("GET /api/v1/orders/4711?x=1 HTTP/1.1"), "GET /api/v1/orders/{n}");
        assert_eq!(pattern("GET /u/550e8400-e29b-41d4-a716-446655440000/a HTTP/1.1"), "GET /u/{id}/a");
        assert_eq!(pattern("POST / HTTP/1.1"), "POST /");
        assert_eq!(pattern("GET /a/b/c/d/e/f HTTP/2.0"), "GET /a/b/c/d/…");
        assert_eq!(pattern("GET /feedback/deadbeef HTTP/1.1"), "GET /feedback/deadbeef");
        assert_eq!(pattern("garbage"), " /garbage");
    }

    #[test]
    fn networks() {
        assert_eq!(net("10.1.2.3"), "10.1.2.0/24");
        assert_eq!(net("2001:db8:7:1::9"), "2001:db8:7::/48");
        assert_eq!(net("::ffff:10.1.2.3"), "10.1.2.0/24");
        assert_eq!(net("unix:"), "unix:");
        assert_eq!(net("1.2.3.4.5"), "1.2.3.4.5");
    }
}
