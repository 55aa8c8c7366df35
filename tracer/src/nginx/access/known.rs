//! Formats that many use, for access logs whose configuration is not at hand, and the guess which one a log has.

use super::format::Format;
use crate::nginx::config::LogFormat;

/// Fields that formats of packages, controllers and guides add behind `combined`.
const COMBINED: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;

/// What follows the combined fields, longest first: ingress-nginx, the formats of common guides, nginx.org's `main`.
const SUFFIXES: [&str; 9] = [
    r" $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id",
    r" $request_length $request_time [$proxy_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id",
    r#" "$http_x_forwarded_for" rt=$request_time uct="$upstream_connect_time" uht="$upstream_header_time" urt="$upstream_response_time" ua="$upstream_addr" us="$upstream_status""#,
    r#" "$http_x_forwarded_for" upstream_addr=$upstream_addr upstream_status=$upstream_status request_time=$request_time upstream_response_time=$upstream_response_time"#,
    r#" "$http_x_forwarded_for" $request_time $upstream_response_time $upstream_addr $upstream_status"#,
    r#" rt=$request_time uct="$upstream_connect_time" uht="$upstream_header_time" urt="$upstream_response_time""#,
    r" $request_time $upstream_response_time",
    r#" "$http_x_forwarded_for""#,
    "",
];

/// Part of the lines that a format must read to be taken for that of the log, in tenths.
const ENOUGH: usize = 8;

/// The formats, the more particular first.
pub fn formats() -> Vec<Format> {
    let format = |suffix: &&str| LogFormat {
        name: "known".to_owned(),
        escape: "default".to_owned(),
        format: format!("{COMBINED}{suffix}"),
    };
    SUFFIXES.iter().map(|suffix| Format::new(&format(suffix))).collect()
}

/// The first of these formats that reads nearly all of the lines.
pub fn guess(formats: &[Format], lines: &[Vec<u8>]) -> Option<Format> {
    let reads = |format: &&Format| {
        let read =
            lines.iter().filter(|line| format.read(line).is_some_and(|record| record.status.is_some()));
        !lines.is_empty() && read.count() * 10 >= lines.len() * ENOUGH
    };
    formats.iter().find(reads).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_a_log_is_found() {
        let ingress = br#"10.0.0.9 - - [20/Nov/2026:06:43:33 +0000] "GET / HTTP/1.1" 200 5 "-" "c" 80 0.010 [ns-app-80] [] 10.0.1.1:80, 10.0.1.2:80 0, 5 0.001, 0.009 502, 200 abc"#;
        let format = guess(&formats(), &[ingress.to_vec()]).expect("a format");
        assert!(format.has("proxy_alternative_upstream_name"));
        assert!(format.read(ingress).expect("a line").is_repaired());
        let combined = br#"10.0.0.9 - - [20/Nov/2026:06:43:33 +0000] "GET / HTTP/1.1" 200 5 "-" "c""#;
        let format = guess(&formats(), &[combined.to_vec()]).expect("a format");
        assert!(!format.has("upstream_addr"));
        assert_eq!(guess(&formats(), &[b"nonsense".to_vec()]), None);
        assert_eq!(guess(&formats(), &[]), None);
    }
}
