//! Healthy clients: every other request on a connection of its own, the rest on kept-alive ones.
//!
//! Every connection ends in order, with FIN from both ends and nothing unread, so no RST can come of it.

use super::serve::content_length;
use super::sockets::read_head;
use anyhow::{Result, bail};
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Clients at the same time.
const CLIENTS: usize = 8;
/// Requests on one kept-alive connection.
const KEPT: usize = 50;

/// Sends this many requests; answers `DONE FAILED`.
pub fn run(to: SocketAddr, requests: usize) -> String {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let share = requests / CLIENTS + usize::from(number < requests % CLIENTS);
            std::thread::spawn(move || client(to, share))
        })
        .collect();
    let done: usize = clients.into_iter().map(|client| client.join().unwrap_or(0)).sum();
    format!("{done} {}", requests - done)
}

/// One client's share; gives how many requests were answered well.
fn client(to: SocketAddr, requests: usize) -> usize {
    let (mut done, mut kept) = (0, true);
    while done < requests {
        let count = if kept { KEPT.min(requests - done) } else { 1 };
        let shorts = if kept { 1 } else { KEPT };
        for _ in 0..shorts.min(requests - done) {
            let Ok(answered) = connection(to, count) else { return done };
            done += answered;
        }
        kept = !kept;
    }
    done
}

/// One connection with this many requests; the last one asks for its end.
fn connection(to: SocketAddr, requests: usize) -> Result<usize> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(&stream);
    for left in (0..requests).rev() {
        let word = if left == 0 { "close" } else { "keep-alive" };
        (&stream)
            .write_all(format!("GET /load HTTP/1.1\r\nHost: lab\r\nConnection: {word}\r\n\r\n").as_bytes())?;
        let head = read_head(&mut reader)?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("answer: {}", head.lines().next().unwrap_or_default());
        }
        let length = content_length(&head);
        if std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())? < length {
            bail!("short body");
        }
    }
    if reader.read(&mut [0])? != 0 {
        bail!("bytes after the last answer");
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered_by_the_healthy_server() {
        let address = super::super::serve::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let answer = run(address.parse().unwrap(), 333);
        assert_eq!(answer, "333 0");
    }
}
