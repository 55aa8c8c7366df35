//! Real upstream servers: started inside a namespace, awaited, killed at the end.

use super::cleanup::{self, Action, Guard};
use super::net::{Network, Node};
use super::{kernel, nginx, wait};
use crate::{project, shell};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// A server process with its children; killed when dropped, its folder removed.
#[derive(Debug)]
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    guard: Option<Guard>,
    _folder: Guard,
}

impl Program {
    /// Starts a program in a folder with every fixture and waits until it listens. `@HOST@`, `@PORT@`, `@ADDRESS@`,
    /// `@SOCKET@` and `@FOLDER@` are filled in, in the arguments and in the fixtures.
    pub fn start(
        network: &Network,
        node: Node,
        program: &str,
        arguments: &[&str],
        home: &Home,
    ) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let (folder, folder_guard) = lay_folder(network, home)?;
        let mut child = network
            .inside(node, system(program)?)
            .args(arguments.iter().map(|argument| home.fill(argument, &folder)))
            .current_dir(&folder)
            .env("PYTHONDONTWRITEBYTECODE", "1")
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
        let mut server = Self { child, lines, guard, _folder: folder_guard };
        let pid = server.pid();
        let listens = wait::until(&format!("{program} listens"), wait::SOON, || {
            if let Ok(Some(_)) = server.child.try_wait() {
                return Some(false);
            }
            home.is_listened_on(pid).then_some(true)
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

    /// Its only child: the worker of a server that has one.
    pub fn worker(&self) -> Result<u32> {
        let children = || kernel::children(self.pid()).first().copied();
        wait::until("the server has a worker", wait::SOON, children)
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
        // It leads a process group, which its children have not left.
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _gone = rustix::process::kill_process_group(group, Signal::KILL).is_err();
        }
        self.guard = None;
        drop(self.child.wait());
    }
}

/// Where the servers' scripts and configurations lie.
pub fn fixtures() -> PathBuf {
    project::root().join("tests/lab")
}

/// Where a server listens.
#[derive(Debug)]
pub struct Home {
    /// Its address.
    pub address: SocketAddr,
    /// The path of its unix socket, where it listens on that instead.
    pub socket: Option<PathBuf>,
}

impl Home {
    fn is_listened_on(&self, pid: u32) -> bool {
        match &self.socket {
            Some(socket) => kernel::listens_unix(pid, socket),
            None => kernel::sockets(pid)
                .iter()
                .any(|socket| socket.local == self.address && socket.state == kernel::LISTEN),
        }
    }

    fn fill(&self, text: &str, folder: &Path) -> String {
        let socket = self.socket.as_ref().map(|socket| socket.display().to_string()).unwrap_or_default();
        text.replace("@ADDRESS@", &self.address.to_string())
            .replace("@HOST@", &self.address.ip().to_string())
            .replace("@PORT@", &self.address.port().to_string())
            .replace("@SOCKET@", &socket)
            .replace("@FOLDER@", &folder.display().to_string())
    }
}

/// A folder with a copy of every fixture, filled in.
fn lay_folder(network: &Network, home: &Home) -> Result<(PathBuf, Guard)> {
    let address_name = home.address.to_string().replace(['[', ']', ':'], "-");
    let name = format!("{}-{address_name}", network.name(Node::Web));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let guard = cleanup::later(Action::Folder(folder.clone()));
    for entry in std::fs::read_dir(fixtures())? {
        let file = entry?.path();
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        std::fs::write(folder.join(file.file_name().unwrap_or_default()), home.fill(&text, &folder))?;
    }
    Ok((folder, guard))
}

/// Why a program that a scenario needs cannot be had; a path stands for a file that has to be there.
pub fn missing(program: &str) -> Option<String> {
    let there = if program.starts_with('/') { Path::new(program).exists() } else { system(program).is_ok() };
    (!there).then(|| format!("{program} is not installed"))
}

/// The distribution's own program first: version managers put wrappers on `PATH` that are not the server.
fn system(program: &str) -> Result<PathBuf> {
    let own = PathBuf::from("/usr/bin").join(program);
    if own.exists() { Ok(own) } else { shell::need(program) }
}
