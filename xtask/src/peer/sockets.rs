//! The sockets of a peer and what can be done with them, one call per command.
//!
//! Every call blocks until it is done; the lab sets the time limit.

use super::inject::Watch;
use super::serve::content_length;
use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::collections::HashMap;
use std::fs::Permissions;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// A request or response head is never longer than this, bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Everything this peer has open, by number.
#[derive(Default)]
pub struct Sockets {
    next: u32,
    listeners: HashMap<u32, TcpListener>,
    streams: HashMap<u32, TcpStream>,
    flood: Vec<OwnedFd>,
    /// Unix sockets that nobody accepts from.
    unheard: Vec<UnixListener>,
    /// What passes through this host, for a device that makes up packets.
    pub watch: Watch,
}

impl Sockets {
    /// Listens with exactly this backlog; answers `ID ADDRESS`.
    pub fn listen(&mut self, address: SocketAddr, backlog: i32) -> Result<String> {
        self.listening(listening(open(address, SocketFlags::CLOEXEC)?, address, backlog)?)
    }

    /// Listens by MPTCP; whoever speaks TCP only gets that.
    pub fn listen_mptcp(&mut self, address: SocketAddr, backlog: i32) -> Result<String> {
        self.listening(listening(open_mptcp(address)?, address, backlog)?)
    }

    /// Listens on a unix socket and takes nothing from it.
    pub fn listen_unix(&mut self, path: &str) -> Result<String> {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o777))?;
        self.unheard.push(listener);
        Ok(String::new())
    }

    fn listening(&mut self, listener: TcpListener) -> Result<String> {
        let bound = listener.local_addr()?;
        let id = self.number();
        self.listeners.insert(id, listener);
        Ok(format!("{id} {bound}"))
    }

    /// Takes one connection; answers `ID REMOTE`.
    pub fn accept(&mut self, id: u32) -> Result<String> {
        let (stream, remote) = self.listeners.get(&id).context("no such listener")?.accept()?;
        stream.set_nodelay(true)?;
        Ok(format!("{} {remote}", self.keep(stream)))
    }

    /// Connects from an address, with a small receive buffer if asked; answers `ID LOCAL`.
    pub fn connect(&mut self, from: IpAddr, to: SocketAddr, receive_buffer: Option<usize>) -> Result<String> {
        self.connected(connected_narrow(open(to, SocketFlags::CLOEXEC)?, from, to, receive_buffer)?)
    }

    /// Connects by MPTCP, which falls back to TCP where the other end does not speak it; answers `ID LOCAL`.
    pub fn connect_mptcp(&mut self, from: IpAddr, to: SocketAddr) -> Result<String> {
        self.connected(connected_narrow(open_mptcp(to)?, from, to, None)?)
    }

    fn connected(&mut self, stream: TcpStream) -> Result<String> {
        let local = stream.local_addr()?;
        Ok(format!("{} {local}", self.keep(stream)))
    }

    /// Starts this many connects and waits for none of them.
    pub fn flood(&mut self, from: IpAddr, to: SocketAddr, count: usize) -> Result<String> {
        for _ in 0..count {
            let socket = open(to, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
            rustix::net::bind(&socket, &SocketAddr::new(from, 0)).map_err(std::io::Error::from)?;
            match rustix::net::connect(&socket, &to) {
                Ok(()) | Err(rustix::io::Errno::INPROGRESS) => self.flood.push(socket),
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
        }
        Ok(count.to_string())
    }

    /// Writes bytes.
    pub fn send(&mut self, id: u32, bytes: &[u8]) -> Result<String> {
        self.stream(id)?.write_all(bytes)?;
        Ok(bytes.len().to_string())
    }

    /// Writes this many bytes of filling; blocks while the other end does not read.
    pub fn fill(&mut self, id: u32, mut bytes: usize) -> Result<String> {
        let chunk = [b'x'; 16 * 1024];
        let stream = self.stream(id)?;
        while bytes > 0 {
            bytes -= stream.write(&chunk[..bytes.min(chunk.len())])?;
        }
        Ok(String::new())
    }

    /// Reads a head, up to and including its empty line and nothing after it; answers its first line.
    pub fn head(&mut self, id: u32) -> Result<String> {
        let head = read_head(self.stream(id)?)?;
        Ok(head.lines().next().unwrap_or_default().to_owned())
    }

    /// Reads a whole response, its body by `Content-Length`; answers the status line.
    pub fn response(&mut self, id: u32) -> Result<String> {
        let head = read_head(self.stream(id)?)?;
        self.read(id, content_length(&head))?;
        Ok(head.lines().next().unwrap_or_default().to_owned())
    }

    /// Reads exactly this many bytes.
    pub fn read(&mut self, id: u32, bytes: u64) -> Result<String> {
        let got = std::io::copy(&mut self.stream(id)?.take(bytes), &mut std::io::sink())?;
        if got < bytes {
            bail!("end after {got} of {bytes} bytes");
        }
        Ok(got.to_string())
    }

    /// Reads to the end; answers how it ended and how much came.
    pub fn drain(&mut self, id: u32) -> Result<String> {
        let stream = self.stream(id)?;
        let (mut total, mut chunk) = (0, [0; 16 * 1024]);
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(format!("eof {total}")),
                Ok(got) => total += got,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Ok(format!("ECONNRESET {total}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until there is something to read, and leaves it unread.
    pub fn readable(&mut self, id: u32) -> Result<String> {
        let got = self.stream(id)?.peek(&mut [0; 1])?;
        Ok(if got == 0 { "eof" } else { "data" }.to_owned())
    }

    /// Gives the socket a TTL (hop limit) of its own.
    pub fn set_ttl(&mut self, id: u32, ttl: u8) -> Result<String> {
        if let Some(listener) = self.listeners.get(&id) {
            // Connections that it accepts inherit it, their SYN-ACK included.
            sockopt::set_ip_ttl(listener, u32::from(ttl)).map_err(std::io::Error::from)?;
            return Ok(String::new());
        }
        let stream = self.stream(id)?;
        match stream.local_addr()? {
            SocketAddr::V4(_) => stream.set_ttl(u32::from(ttl))?,
            SocketAddr::V6(_) => sockopt::set_ipv6_unicast_hops(&*stream, Some(ttl))?,
        }
        Ok(String::new())
    }

    /// Closes with zero linger: the kernel sends a RST at once.
    pub fn reset(&mut self, id: u32) -> Result<String> {
        sockopt::set_socket_linger(self.stream(id)?, Some(Duration::ZERO))?;
        self.close(id)
    }

    /// Ends a connection without sending anything: a socket under repair goes silently (tcp(7) names no such thing; CRIU
    /// lives by it).
    pub fn forget(&mut self, id: u32) -> Result<String> {
        let (stream, on) = (self.stream(id)?.as_raw_fd(), 1_i32);
        // SAFETY: the descriptor is open, and the option is an int that lives through the call.
        let done = unsafe {
            libc::setsockopt(
                stream,
                libc::IPPROTO_TCP,
                libc::TCP_REPAIR,
                (&raw const on).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        };
        if done < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        self.close(id)
    }

    /// Closes a socket, or a listener.
    pub fn close(&mut self, id: u32) -> Result<String> {
        if self.streams.remove(&id).is_none() && self.listeners.remove(&id).is_none() {
            bail!("no such socket");
        }
        Ok(String::new())
    }

    /// Sends our FIN and keeps the other direction open.
    pub fn finish(&mut self, id: u32) -> Result<String> {
        self.stream(id)?.shutdown(Shutdown::Write)?;
        Ok(String::new())
    }

    fn stream(&mut self, id: u32) -> Result<&mut TcpStream> {
        self.streams.get_mut(&id).context("no such connection")
    }

    fn keep(&mut self, stream: TcpStream) -> u32 {
        let id = self.number();
        self.streams.insert(id, stream);
        id
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }
}

/// A connection from this address.
pub fn connected(from: IpAddr, to: SocketAddr) -> Result<TcpStream> {
    connected_narrow(open(to, SocketFlags::CLOEXEC)?, from, to, None)
}

/// Binds and listens.
pub fn listening(socket: OwnedFd, address: SocketAddr, backlog: i32) -> Result<TcpListener> {
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address).map_err(std::io::Error::from)?;
    rustix::net::listen(&socket, backlog).map_err(std::io::Error::from)?;
    Ok(TcpListener::from(socket))
}

fn connected_narrow(
    socket: OwnedFd,
    from: IpAddr,
    to: SocketAddr,
    receive_buffer: Option<usize>,
) -> Result<TcpStream> {
    if let Some(bytes) = receive_buffer {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(from, 0)).map_err(std::io::Error::from)?;
    rustix::net::connect(&socket, &to).map_err(std::io::Error::from)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn open(address: SocketAddr, flags: SocketFlags) -> Result<OwnedFd> {
    let socket = rustix::net::socket_with(family(address), SocketType::STREAM, flags, None);
    Ok(socket.map_err(std::io::Error::from)?)
}

/// A socket of MPTCP.
pub fn open_mptcp(address: SocketAddr) -> Result<OwnedFd> {
    let (flags, protocol) = (SocketFlags::CLOEXEC, Some(ipproto::MPTCP));
    let socket = rustix::net::socket_with(family(address), SocketType::STREAM, flags, protocol);
    Ok(socket.map_err(std::io::Error::from)?)
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// Reads byte by byte, so that nothing behind the head leaves the kernel.
pub fn read_head(stream: &mut impl Read) -> Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            bail!("head longer than {MAX_HEAD} bytes");
        }
        if stream.read(&mut byte)? == 0 {
            bail!("end after {} bytes of a head", head.len());
        }
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
