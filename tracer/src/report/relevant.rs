//! Which directives of Nginx's configuration have a part in one incident: those of no server and no upstream block, and
//! the blocks in which its listener, its upstream or its group is named. What is not told apart is not left out.

use std::net::SocketAddr;

use crate::model::verdict::ConnectionSide;
use crate::model::{ConfigLine, Verdict};

/// The directives that have a part in the incident, and the others. Without an incident none is told from the others.
pub fn split<'a>(
    excerpt: &'a [ConfigLine],
    verdict: Option<&Verdict>,
) -> (Vec<&'a ConfigLine>, Vec<&'a ConfigLine>) {
    /// So few are read as they are.
    const FEW: usize = 40;
    if excerpt.len() <= FEW {
        return (excerpt.iter().collect(), Vec::new());
    }
    let Some(verdict) = verdict else { return (Vec::new(), excerpt.iter().collect()) };
    let mut wanted = Wanted::of(verdict);
    let blocks: Vec<&[ConfigLine]> = excerpt.chunk_by(same_block).collect();
    wanted.groups =
        blocks.iter().filter(|block| wanted.names(block)).filter_map(|block| group(block)).collect();
    let is_shown = |block: &&&[ConfigLine]| is_general(block) || wanted.names(block);
    let (shown, rest): (Vec<&[ConfigLine]>, Vec<&[ConfigLine]>) =
        blocks.iter().copied().partition(|block| is_shown(&block));
    (shown.into_iter().flatten().collect(), rest.into_iter().flatten().collect())
}

/// Addresses of the connection as a configuration has them.
#[derive(Debug, Default)]
struct Wanted {
    listener: Option<SocketAddr>,
    upstream: Option<SocketAddr>,
    /// Names of the upstream groups with that upstream.
    groups: Vec<String>,
}

impl Wanted {
    fn of(verdict: &Verdict) -> Self {
        let mut wanted = Self::default();
        for end in [&verdict.connection, &verdict.peer_connection].into_iter().flatten() {
            match end.side {
                ConnectionSide::Client => wanted.listener = end.local.parse().ok(),
                ConnectionSide::Upstream => wanted.upstream = end.remote.parse().ok(),
            }
        }
        wanted
    }

    fn names(&self, block: &[ConfigLine]) -> bool {
        block.iter().any(|line| self.named(&line.text))
    }

    fn named(&self, text: &str) -> bool {
        let mut words = text.split_whitespace();
        let directive = words.next().unwrap_or_default();
        let argument = words.next().unwrap_or_default();
        if directive == "listen" {
            return self.listener.is_some_and(|listener| listens(argument, listener));
        }
        let target = argument.split_once("://").map_or(argument, |(_, rest)| rest);
        let target = target.split('/').next().unwrap_or_default();
        let is_upstream = self.upstream.is_some_and(|upstream| target == upstream.to_string());
        let is_target = directive == "server" || directive.ends_with("_pass");
        is_target && (is_upstream || self.groups.iter().any(|group| group == target))
    }
}

/// `listen` names an address and a port, or one of them (`ngx_http_core_module`, `listen`).
fn listens(argument: &str, listener: SocketAddr) -> bool {
    let port = listener.port().to_string();
    argument == listener.to_string()
        || argument == port
        || argument.strip_prefix("*:").is_some_and(|rest| rest == port)
        || argument.strip_prefix("0.0.0.0:").is_some_and(|rest| rest == port)
        || argument.strip_prefix("[::]:").is_some_and(|rest| rest == port)
}

/// Lines of one server or upstream block. Two server blocks in a row are told apart by their `listen`, which comes first.
fn same_block(one: &ConfigLine, other: &ConfigLine) -> bool {
    let begins = other.text.starts_with("listen ") && !one.text.starts_with("listen ");
    one.file == other.file && outer(one) == outer(other) && !begins
}

/// The blocks around, as far as the first server or upstream.
fn outer(line: &ConfigLine) -> Option<&str> {
    let mut end = 0;
    for part in line.place.split(", ") {
        end += part.len();
        if part == "server" || part.starts_with("upstream") {
            return line.place.get(..end);
        }
        end += 2;
    }
    None
}

fn is_general(block: &[ConfigLine]) -> bool {
    block.first().is_some_and(|line| outer(line).is_none())
}

/// Name of the upstream group of a block.
fn group(block: &[ConfigLine]) -> Option<String> {
    let place = outer(block.first()?)?;
    place.rsplit(", ").next()?.strip_prefix("upstream ").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn line(number: u32, place: &str, text: &str) -> ConfigLine {
        ConfigLine {
            file: "nginx.conf".to_owned(),
            line: number,
            place: place.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_blocks_of_the_connection_are_shown_and_the_rest_is_kept() {
        let mut excerpt = vec![
            line(1, "", "worker_rlimit_nofile 20000"),
            line(2, "http, upstream app", "server 10.0.1.10:8080"),
            line(3, "http, upstream other", "server 10.0.9.9:80"),
        ];
        for number in 0..30 {
            excerpt.push(line(10 + number, "http, server", &format!("listen {}", 9000 + number)));
            excerpt.push(line(10 + number, "http, server, location /", "proxy_pass http://other"));
        }
        excerpt.push(line(90, "http, server", "listen 443 ssl"));
        excerpt.push(line(91, "http, server, location /", "proxy_pass http://app/x"));
        let verdict = samples::upstream_abort();
        let (shown, rest) = split(&excerpt, Some(&verdict));
        let numbers: Vec<u32> = shown.iter().map(|line| line.line).collect();
        assert_eq!(numbers, [1, 2, 90, 91]);
        assert_eq!(shown.len() + rest.len(), excerpt.len());
        let (shown, rest) = split(&excerpt, None);
        assert!(shown.is_empty() && rest.len() == excerpt.len());
    }
}
