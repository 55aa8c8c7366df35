//! A healthy HTTP/1.1 upstream: keep-alive, `Connection: close`, bodies by `Content-Length`.
//!
//! A thread per connection; it is a partner for measurements, not a server to reuse.

use super::sockets::read_head;
use anyhow::Result;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Threads that take short connections.
const TAKERS: usize = 2;
/// Bytes of every answer's body.
const BODY: usize = 512;

/// Starts the server; answers its address.
pub fn start(address: SocketAddr) -> Result<String> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(converse(&stream)));
        }
    });
    Ok(bound.to_string())
}

/// The same for many short connections: a few threads that take one after the other, so that none begins or ends a
/// process. Every connection ends after its first answer.
pub fn start_short(address: SocketAddr) -> Result<String> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    for _ in 0..TAKERS {
        let listener = listener.try_clone()?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(&stream);
                drop(read_request(&mut reader).and_then(|_| respond(&stream, false)));
            }
        });
    }
    Ok(bound.to_string())
}

/// Answers until the other end closes or asks for the end.
fn converse(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let keep = keeps_alive(&read_request(&mut reader)?);
        respond(stream, keep)?;
        if !keep {
            return Ok(());
        }
    }
}

/// Reads a request with its body; gives its head.
pub fn read_request(reader: &mut BufReader<&TcpStream>) -> Result<String> {
    let head = read_head(reader)?;
    std::io::copy(&mut reader.take(content_length(&head)), &mut std::io::sink())?;
    Ok(head)
}

fn respond(mut stream: &TcpStream, keep: bool) -> Result<()> {
    let word = if keep { "keep-alive" } else { "close" };
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\nConnection: {word}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + BODY, b'x');
    Ok(stream.write_all(&answer)?)
}

/// The value of a header field, by its lower-case name.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find_map(|(field, value)| field.eq_ignore_ascii_case(name).then_some(value.trim()))
}

/// Length of the body that follows, bytes.
pub fn content_length(head: &str) -> u64 {
    field(head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn keeps_alive(head: &str) -> bool {
    let old = head.lines().next().is_some_and(|line| line.ends_with("HTTP/1.0"));
    match field(head, "connection") {
        Some(word) => word.eq_ignore_ascii_case("keep-alive"),
        None => !old,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_field_decides_over_the_version() {
        assert!(keeps_alive("GET / HTTP/1.1\r\n\r\n"));
        assert!(!keeps_alive("GET / HTTP/1.0\r\n\r\n"));
        assert!(!keeps_alive("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"));
        assert_eq!(content_length("POST / HTTP/1.1\r\ncontent-LENGTH: 12\r\n\r\n"), 12);
    }
}
