//! `cargo xtask peer`: one end of TCP connections, worked by hand.
//!
//! The lab starts it inside a network namespace and tells it, line by line on stdin, what to do with its
//! sockets; each command is answered by one line, `ok …` or `err NAME`. So a client or an upstream does
//! exactly what a scenario says, in the order it says, and no step depends on how long another takes.
//! It ends when stdin ends. It decides nothing by itself, except `serve` and `load`, the healthy traffic, `hasty` and
//! `storm`, which fail in one way each, and the hostile neighbours.

mod hasty;
mod inject;
mod load;
pub mod neighbour;
mod serve;
pub mod sockets;
mod storm;

use anyhow::{Result, bail};
use inject::{Forgery, Watch};
use sockets::Sockets;
use std::io::{BufRead, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;
use storm::Storm;

/// Runs the sub-command until stdin ends.
pub fn run() -> Result<ExitCode> {
    let mut sockets = Sockets::default();
    for line in std::io::stdin().lock().lines() {
        let answer = match obey(&mut sockets, &line?) {
            Ok(text) => format!("ok {text}"),
            Err(error) => format!("err {}", name(&error)),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The kernel's name for an error, so that a scenario can compare it.
fn name(error: &anyhow::Error) -> String {
    let number = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    match number {
        Some(libc::ECONNRESET) => "ECONNRESET".to_owned(),
        Some(libc::EPIPE) => "EPIPE".to_owned(),
        Some(libc::ECONNREFUSED) => "ECONNREFUSED".to_owned(),
        Some(libc::ETIMEDOUT) => "ETIMEDOUT".to_owned(),
        _ => format!("{error:#}").replace('\n', " "),
    }
}

/// One command. Words are separated by blanks; the text of `send` reaches to the end of the line.
fn obey(sockets: &mut Sockets, line: &str) -> Result<String> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut words = rest.split(' ');
    let mut word = || {
        words.next().filter(|word| !word.is_empty()).ok_or_else(|| anyhow::anyhow!("{verb}: too few words"))
    };
    match verb {
        "listen" => sockets.listen(word()?.parse()?, word()?.parse()?),
        "accept" => sockets.accept(word()?.parse()?),
        "connect" => {
            let (from, to): (IpAddr, SocketAddr) = (word()?.parse()?, word()?.parse()?);
            sockets.connect(from, to, word().ok().map(str::parse).transpose()?)
        }
        "listen-unix" => sockets.listen_unix(word()?),
        "listen-mptcp" => sockets.listen_mptcp(word()?.parse()?, word()?.parse()?),
        "connect-mptcp" => sockets.connect_mptcp(word()?.parse()?, word()?.parse()?),
        "flood" => sockets.flood(word()?.parse()?, word()?.parse()?, word()?.parse()?),
        "send" => {
            let (id, text) = rest.split_once(' ').unwrap_or((rest, ""));
            sockets.send(id.parse()?, unescape(text).as_bytes())
        }
        "hex" => {
            let (id, digits) = rest.split_once(' ').unwrap_or((rest, ""));
            sockets.send(id.parse()?, &from_hex(digits)?)
        }
        "fill" => sockets.fill(word()?.parse()?, word()?.parse()?),
        "head" => sockets.head(word()?.parse()?),
        "response" => sockets.response(word()?.parse()?),
        "read" => sockets.read(word()?.parse()?, word()?.parse()?),
        "drain" => sockets.drain(word()?.parse()?),
        "readable" => sockets.readable(word()?.parse()?),
        "ttl" => sockets.set_ttl(word()?.parse()?, word()?.parse()?),
        "reset" => sockets.reset(word()?.parse()?),
        "forget" => sockets.forget(word()?.parse()?),
        "close" => sockets.close(word()?.parse()?),
        "finish" => sockets.finish(word()?.parse()?),
        "hog" => hog(),
        "watch" => {
            sockets.watch = Watch::start()?;
            Ok(String::new())
        }
        "inject" => sockets.watch.inject(&Forgery {
            from: word()?.parse()?,
            to: word()?.parse()?,
            hops: word()?.parse()?,
            identification: word()?.parse()?,
            flags: word()?.to_owned(),
            offset: word()?.parse()?,
            window: word()?.parse()?,
            payload: word()?.parse()?,
            copies_clock: word().is_ok_and(|option| option == "clock"),
        }),
        "storm-upstream" => storm::upstream(word()?.parse()?, word()?.parse()?),
        "storm" => Ok(storm::run(Storm {
            from: word()?.parse()?,
            to: word()?.parse()?,
            abort: Some(word()?.parse()?).filter(|after| *after > 0).map(Duration::from_millis),
            clients: word()?.parse()?,
            rate: word()?.parse()?,
            time: Duration::from_secs(word()?.parse()?),
        })),
        "serve-short" => serve::start_short(word()?.parse()?),
        "serve" => serve::start(word()?.parse()?),
        "load" => Ok(load::run(word()?.parse()?, word()?.parse()?)),
        "syn-flood" => {
            let (network, to, rate) = (word()?.parse()?, word()?.parse()?, word()?.parse()?);
            neighbour::syn_flood(network, to, rate, Duration::from_secs(word()?.parse()?))
        }
        "scan" => neighbour::scan(word()?.parse()?, word()?.parse()?, word()?.parse()?, word()?.parse()?),
        "crowd" => neighbour::crowd(word()?.parse()?, word()?.parse()?),
        "hasty" => hasty::run(word()?.parse()?, word()?.parse()?),
        "hasty-waiting" => hasty::run_waiting(word()?.parse()?, word()?.parse()?),
        _ => bail!("unknown command {verb}"),
    }
}

/// Bytes written as pairs of hexadecimal digits.
fn from_hex(digits: &str) -> Result<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

/// Uses up all the memory it can get; ends by the OOM killer, if there is a limit.
fn hog() -> Result<String> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1; 1 << 20]));
        if all.len() > 256 {
            bail!("no limit on the memory");
        }
    }
}

/// `\r` and `\n` cannot stand in a line, so they are written out.
fn unescape(text: &str) -> String {
    text.replace("\\r", "\r").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_between_two_sockets() {
        let mut sockets = Sockets::default();
        let listener = obey(&mut sockets, "listen 127.0.0.1:0 8").unwrap();
        let (id, address) = listener.split_once(' ').unwrap();
        let client = obey(&mut sockets, &format!("connect 127.0.0.1 {address}")).unwrap();
        let client = client.split(' ').next().unwrap().to_owned();
        let server = obey(&mut sockets, &format!("accept {id}")).unwrap();
        let server = server.split(' ').next().unwrap().to_owned();
        obey(&mut sockets, &format!("send {client} GET / HTTP/1.1\\r\\n\\r\\n")).unwrap();
        assert_eq!(obey(&mut sockets, &format!("head {server}")).unwrap(), "GET / HTTP/1.1");
        obey(&mut sockets, &format!("reset {server}")).unwrap();
        assert_eq!(obey(&mut sockets, &format!("drain {client}")).unwrap(), "ECONNRESET 0");
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let error = obey(&mut Sockets::default(), "dance 1").unwrap_err();
        assert_eq!(name(&error), "unknown command dance");
        assert!(obey(&mut Sockets::default(), "close").is_err());
        assert!(obey(&mut Sockets::default(), "close 77").is_err());
    }
}
