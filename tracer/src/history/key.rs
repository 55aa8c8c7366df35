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
    out.extend_from_slice(UriPattern::default().of(request));
}

impl UriPattern {
    /// The pattern of a request line, in one pass over its bytes: every incident of a log comes through here.
    pub fn of(&mut self, request: &[u8]) -> &[u8] {
        (self.length, self.segments) = (0, 0);
        let method_end = memchr(b' ', request).unwrap_or(0);
        let (method, rest) = request.split_at(method_end);
        for byte in method.iter().take(16) {
            self.push(*byte);
        }
        self.push(b' ');
        let target = rest.strip_prefix(b" ").unwrap_or(rest);
        for byte in target {
            match CLASS[usize::from(*byte)] {
                END => break,
                SLASH => self.end_segment(),
                class => self.take(*byte, class),
            }
        }
        self.end_segment();
        if self.segments > MAX_SEGMENTS {
            for byte in "/…".bytes() {
                self.push(byte);
            }
        } else if self.segments == 0 {
            self.push(b'/');
        }
        &self.text[..self.length]
    }
}

/// Classes of bytes in a path.
const OTHER: u8 = 0;
const HEX: u8 = 1;
const DIGIT: u8 = 2;
const SLASH: u8 = 3;
const END: u8 = 4;

static CLASS: [u8; 256] = {
    let mut classes = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'f' | b'A'..=b'F' | b'-' => HEX,
            b'/' => SLASH,
            b'?' | b' ' | b'#' | b';' => END,
            _ => OTHER,
        };
        byte += 1;
    }
    classes
};

/// Method, blank, segments with their slashes, and the sign that there are more.
const LONGEST: usize = 16 + 1 + MAX_SEGMENTS * (1 + MAX_WORD) + "/…".len();

/// A pattern in the making; the room for its text serves one request after the other.
pub struct UriPattern {
    text: [u8; LONGEST],
    length: usize,
    /// Segments that have begun, those beyond the limit included.
    segments: usize,
    /// Of the segment at hand: where its slash stands, bytes, digits, and whether a byte was not hexadecimal.
    start: usize,
    bytes: usize,
    digits: usize,
    plain: bool,
}

impl Default for UriPattern {
    fn default() -> Self {
        Self { text: [0; LONGEST], length: 0, segments: 0, start: 0, bytes: 0, digits: 0, plain: false }
    }
}

impl UriPattern {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn take(&mut self, byte: u8, class: u8) {
        if self.bytes == 0 {
            self.segments += 1;
            self.start = self.length;
            if self.segments <= MAX_SEGMENTS {
                self.push(b'/');
            }
        }
        self.bytes += 1;
        self.digits += usize::from(class == DIGIT);
        self.plain |= class == OTHER;
        if self.bytes <= MAX_WORD && self.segments <= MAX_SEGMENTS {
            self.push(byte);
        }
    }

    /// Replaces numbers and identifiers: hexadecimal and UUIDs, and long words in which digits and letters take turns.
    fn end_segment(&mut self) {
        let Self { bytes, digits, plain, .. } = *self;
        (self.bytes, self.digits, self.plain) = (0, 0, false);
        if bytes == 0 || self.segments > MAX_SEGMENTS {
            return;
        }
        let is_hex = !plain && bytes >= 8 && digits > 0;
        let word: &[u8] = match () {
            () if digits == bytes => b"{n}",
            () if is_hex || (bytes >= 16 && digits * 4 >= bytes) => b"{id}",
            () => return,
        };
        self.length = self.start + 1;
        for byte in word {
            self.push(*byte);
        }
    }
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

/// The first three octets of an IPv4 address, which stand for its /24 without a byte being copied.
pub fn octets(client: &[u8]) -> Option<&[u8]> {
    first_three_octets(client).map(|end| &client[..end])
}

/// The /24 that three octets stand for, as [`network`] writes it; other keys as they are.
pub fn network_name(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key);
    let is_short = text.split('.').count() == 3 && text.split('.').all(|octet| octet.parse::<u16>().is_ok());
    if is_short { format!("{text}.0/24") } else { text.into_owned() }
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
        assert_eq!(octets(b"10.1.2.3").map(network_name).as_deref(), Some("10.1.2.0/24"));
        assert_eq!(octets(b"2001:db8::9"), None);
        assert_eq!(network_name(b"10.1.2.0/24"), "10.1.2.0/24");
        assert_eq!(network_name(b"unix:"), "unix:");
        assert_eq!(net("2001:db8:7:1::9"), "2001:db8:7::/48");
        assert_eq!(net("::ffff:10.1.2.3"), "10.1.2.0/24");
        assert_eq!(net("unix:"), "unix:");
        assert_eq!(net("1.2.3.4.5"), "1.2.3.4.5");
    }
}
