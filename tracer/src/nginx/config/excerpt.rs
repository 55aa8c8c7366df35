//! The directives that bear on resets, as they stand and where: what a reader of a report wants to see of the
//! configuration. Nothing else of it is kept, as it may hold secrets. Bounded.

use super::files::Place;
use super::token::Step;
use crate::model::ConfigLine;

/// Most directives kept.
const MOST: usize = 300;
/// Longest directive kept, characters.
const LONGEST: usize = 300;
/// Directives that decide when connections begin, wait and end.
const NAMES: [&str; 27] = [
    "client_body_timeout",
    "client_header_timeout",
    "client_max_body_size",
    "error_log",
    "keepalive",
    "keepalive_requests",
    "keepalive_time",
    "keepalive_timeout",
    "large_client_header_buffers",
    "lingering_close",
    "lingering_time",
    "lingering_timeout",
    "listen",
    "multi_accept",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_http_version",
    "proxy_request_buffering",
    "proxy_socket_keepalive",
    "proxy_timeout",
    "reset_timedout_connection",
    "send_timeout",
    "set_real_ip_from",
    "worker_connections",
    "worker_rlimit_nofile",
    "worker_shutdown_timeout",
];
/// Ends of the names of such directives, one set per protocol towards upstreams.
const ENDS: [&str; 7] = [
    "_connect_timeout",
    "_next_upstream",
    "_next_upstream_timeout",
    "_next_upstream_tries",
    "_pass",
    "_read_timeout",
    "_send_timeout",
];

/// Collects the directives.
#[derive(Debug, Default)]
pub struct Excerpt {
    /// In the order of the files.
    pub lines: Vec<ConfigLine>,
    open: Vec<String>,
}

impl Excerpt {
    /// Takes a step of the files.
    pub fn step(&mut self, step: &Step, place: Place<'_>) {
        match step {
            Step::Open(words) => self.open.push(written(words)),
            Step::Close => {
                self.open.pop();
            }
            Step::Directive(words) if self.bears_on_resets(words) && self.lines.len() < MOST => {
                self.lines.push(ConfigLine {
                    file: place.file.display().to_string(),
                    line: place.line,
                    place: self.open.join(", "),
                    text: written(words),
                });
            }
            Step::Directive(_) | Step::Problem(_) => {}
        }
    }

    fn bears_on_resets(&self, words: &[String]) -> bool {
        let Some(name) = words.first().map(String::as_str) else { return false };
        let in_upstream = self.open.last().is_some_and(|block| block.starts_with("upstream"));
        (name == "server" && in_upstream)
            || NAMES.contains(&name)
            || ENDS.iter().any(|end| name.ends_with(end))
    }
}

/// Words as they could stand in a file, at most [`LONGEST`] characters.
fn written(words: &[String]) -> String {
    let word = |word: &String| {
        let plain = !word.is_empty() && !word.contains([' ', '\t', '\n', ';', '{', '}', '"', '\'']);
        if plain { word.clone() } else { format!("{word:?}") }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ").chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::nginx::config::token::Tokens;

    #[test]
    fn what_bears_on_resets_is_kept_with_its_place_and_nothing_else() {
        let text = "worker_connections 10;\nhttp {\n  upstream back {\n    server 10.0.0.9:80\n      backup;\n    keepalive 4;\n  }\n  \
                    server { server_name x; listen 80; ssl_certificate_key /secret;\n    location /v1 {\n      # no\n      proxy_read_timeout 5s; proxy_pass http://back; }\n  } }";
        let mut excerpt = Excerpt::default();
        let mut tokens = Tokens::new(text.as_bytes());
        while let Some(step) = tokens.next() {
            excerpt.step(&step, Place { file: Path::new("/etc/nginx/nginx.conf"), line: tokens.began() });
        }
        let lines: Vec<String> =
            excerpt.lines.iter().map(|one| format!("{} [{}] {}", one.line, one.place, one.text)).collect();
        assert_eq!(
            lines,
            [
                "1 [] worker_connections 10",
                "4 [http, upstream back] server 10.0.0.9:80 backup",
                "6 [http, upstream back] keepalive 4",
                "8 [http, server] listen 80",
                "11 [http, server, location /v1] proxy_read_timeout 5s",
                "11 [http, server, location /v1] proxy_pass http://back",
            ]
        );
    }

    #[test]
    fn a_configuration_without_end_is_cut() {
        let mut excerpt = Excerpt::default();
        for line in 0..1000 {
            let step = Step::Directive(vec!["listen".to_owned(), "x".repeat(1000)]);
            excerpt.step(&step, Place { file: Path::new("a"), line });
        }
        assert_eq!((excerpt.lines.len(), excerpt.lines[0].text.len()), (MOST, LONGEST));
    }
}
