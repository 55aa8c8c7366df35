//! Listeners that Nginx inherits instead of opening them, as it does from itself when its program is replaced (variable
//! `NGINX`, `ngx_add_inherited_sockets`): the way to give it one that its configuration cannot ask for.

use super::net::{Network, Node};
use crate::peer::sockets::{listening, open_mptcp};
use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The queue of such a listener.
const BACKLOG: i32 = 64;

/// A listener of MPTCP in the Nginx host's namespace; a thread that ends again goes there to open it.
pub fn mptcp_listener(network: &Network, address: SocketAddr) -> Result<TcpListener> {
    let namespace = File::open(Path::new("/run/netns").join(network.name(Node::Web)))?;
    let opening = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        listening(open_mptcp(address)?, address, BACKLOG)
    });
    let opened = opening.join().map_err(|_| anyhow!("the thread that opens a listener has ended"))?;
    opened.with_context(|| format!("cannot listen on {address} by MPTCP"))
}

/// Lets the program inherit these listeners.
pub fn hand_over(command: &mut Command, listeners: &[TcpListener]) {
    if listeners.is_empty() {
        return;
    }
    let numbers: Vec<_> = listeners.iter().map(AsRawFd::as_raw_fd).collect();
    let named: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    command.env("NGINX", format!("{};", named.join(";")));
    // SAFETY: between fork and exec only `fcntl` is called, which may be; the numbers stay open in the parent.
    unsafe {
        command.pre_exec(move || {
            for number in &numbers {
                if libc::fcntl(*number, libc::F_SETFD, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}
