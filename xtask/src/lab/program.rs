//! Real upstream servers: started inside a namespace, awaited, killed at the end.

use super::cleanup::{self, Action, Guard};
use super::net::{Network, Node};
use super::{kernel, nginx, wait};
use crate::{project, shell};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// A server process; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    guard: Option<Guard>,
}

impl Program {
    /// Starts a program with `HOST PORT` behind its arguments and waits until it listens there.
    pub fn start(
        network: &Network,
        node: Node,
        program: &str,
        arguments: &[&str],
        address: SocketAddr,
    ) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut child = network
            .inside(node, system(program)?)
            .args(arguments)
            .args([address.ip().to_string(), address.port().to_string()])
            .current_dir(fixtures())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let guard = Some(cleanup::later(Action::Kill(child.id())));
        let stdout = child.stdout.take().context("a server without stdout")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut server = Self { child, lines, guard };
        let pid = server.pid();
        let listens = wait::until(&format!("{program} listens on {address}"), wait::SOON, || {
            if let Ok(Some(_)) = server.child.try_wait() {
                return Some(false);
            }
            let sockets = kernel::sockets(pid);
            sockets
                .iter()
                .any(|socket| socket.local == address && socket.state == kernel::LISTEN)
                .then_some(true)
        })?;
        if !listens {
            bail!("{program} ended before it listened");
        }
        Ok(server)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it prints this line.
    pub fn wait_line(&self, line: &str) -> Result<()> {
        let said = || self.lines.try_iter().any(|said| said == line).then_some(());
        wait::until(&format!("the server says `{line}`"), wait::SOON, said)
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn end(mut self) -> Result<()> {
        nginx::signal(self.pid(), Signal::TERM)?;
        wait::until("the server ends", wait::SOON, || self.child.try_wait().ok().flatten())?;
        if let Some(guard) = self.guard.take() {
            guard.forget();
        }
        Ok(())
    }

    /// `kill -9`, and waits until it is gone.
    pub fn murder(mut self) -> Result<()> {
        self.guard = None;
        let _status = self.child.wait()?;
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.guard = None;
        drop(self.child.wait());
    }
}

/// Where the servers' scripts lie.
fn fixtures() -> PathBuf {
    project::root().join("tests/lab")
}

/// The distribution's own program first: version managers put wrappers on `PATH` that are not the server.
fn system(program: &str) -> Result<PathBuf> {
    let own = PathBuf::from("/usr/bin").join(program);
    if own.exists() { Ok(own) } else { shell::need(program) }
}
