//! The real Nginx of a bench: its folder, configuration, start, worker, log.
//!
//! One instance serves every scenario of the bench, each with a listener of its own.

use super::cleanup::{self, Action, Guard, PREFIX};
use super::net::{Network, Node};
use super::{inherited, kernel, wait};
use crate::shell;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A worker's limit of connections, unless told otherwise.
const CONNECTIONS: &str = "worker_connections 4096;";

/// Bytes of the static file that a client stops reading; far more than all socket buffers hold.
const BIG_FILE: u64 = 64 << 20;

/// How far a port that was given up is from the one that replaces it.
const GIVEN_UP: u16 = 1_000;

/// Where distributions put the module for `stream {}`.
pub const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Severity of the error log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The default of Nginx.
    Error,
    /// Client-side failures are logged from here on.
    Info,
}

impl Level {
    /// As Nginx spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Info => "info",
        }
    }
}

/// Server blocks of a configuration.
#[derive(Debug, Default)]
pub struct Servers {
    /// Those in `http {}`.
    pub http: String,
    /// Those in `stream {}`.
    pub streams: String,
}

impl Servers {
    /// Of HTTP alone.
    pub fn http(http: String) -> Self {
        Self { http, ..Self::default() }
    }
}

impl FromIterator<Servers> for Servers {
    fn from_iter<T: IntoIterator<Item = Servers>>(parts: T) -> Self {
        parts.into_iter().fold(Self::default(), |all, one| Self {
            http: all.http + &one.http,
            streams: all.streams + &one.streams,
        })
    }
}

/// Which Nginx.
#[derive(Debug, Clone, Copy)]
pub struct Instance {
    /// Where it runs.
    pub node: Node,
    /// A number of its own among those of one process.
    pub number: usize,
    /// What it logs.
    pub level: Level,
    /// Worker processes.
    pub workers: u32,
}

impl Instance {
    /// One on Nginx's own host, with one worker.
    pub fn web(number: usize, level: Level) -> Self {
        Self { node: Node::Web, number, level, workers: 1 }
    }
}

/// A running Nginx; stopped when dropped, its folder removed.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    folder: PathBuf,
    guard: Option<Guard>,
    _folder_guard: Guard,
}

impl Nginx {
    /// Writes the configuration, starts Nginx and waits until it listens everywhere.
    pub fn start(
        network: &Network,
        instance: Instance,
        servers: impl Fn(&str) -> Servers,
        listeners: &[SocketAddr],
        inherited: &[TcpListener],
    ) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let (folder, folder_guard) = lay_folder(instance.number)?;
        let servers = servers(&folder.join("static").display().to_string());
        std::fs::write(folder.join("nginx.conf"), configuration(&folder, instance, &servers))?;
        let mut command = network.inside(instance.node, shell::need("nginx")?);
        inherited::hand_over(&mut command, inherited);
        let child = command
            .arg("-p")
            .arg(&folder)
            .arg("-e")
            .arg(folder.join("error.log"))
            .args(["-c", "nginx.conf"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("stderr"))?)
            .process_group(0)
            .spawn()
            .context("cannot start nginx")?;
        let guard = Some(cleanup::later(Action::Kill(child.id())));
        let mut nginx = Self { child, folder, guard, _folder_guard: folder_guard };
        nginx.wait_until_listening(listeners)?;
        Ok(nginx)
    }

    fn wait_until_listening(&mut self, listeners: &[SocketAddr]) -> Result<()> {
        let pid = self.master();
        let ready = wait::until("nginx listens and has a worker", wait::SOON, || {
            if let Ok(Some(_)) = self.child.try_wait() {
                return Some(false);
            }
            let sockets = kernel::sockets(pid);
            let listens = |address: &SocketAddr| sockets.iter().any(|socket| socket.listens_on(*address));
            (listeners.iter().all(listens) && self.worker().is_ok()).then_some(true)
        })?;
        if !ready {
            bail!("nginx refuses to start: {}", std::fs::read_to_string(self.folder.join("stderr"))?.trim());
        }
        Ok(())
    }

    /// Process id of the master.
    pub fn master(&self) -> u32 {
        self.child.id()
    }

    /// Process id of the only worker.
    pub fn worker(&self) -> Result<u32> {
        kernel::children(self.master()).first().copied().context("nginx has no worker")
    }

    /// Stops the worker (SIGSTOP) and waits until it is stopped.
    pub fn freeze(&self) -> Result<Frozen> {
        Frozen::new(self.worker()?)
    }

    /// Reloads the configuration and waits until only a new worker is left.
    pub fn reload(&self) -> Result<()> {
        let old = self.worker()?;
        signal(self.master(), Signal::HUP)?;
        wait::until("a new worker has taken over", wait::SOON, || {
            let workers = kernel::children(self.master());
            (!workers.is_empty() && !workers.contains(&old)).then_some(())
        })
    }

    /// Reloads with a `worker_shutdown_timeout`, which those workers have that the next reload ends.
    pub fn limit_shutdown(&self, time: &str) -> Result<()> {
        self.edit(|text| format!("worker_shutdown_timeout {time};\n{text}"))?;
        self.reload()
    }

    /// Reloads with as many connections per worker as this.
    pub fn limit_connections(&self, number: usize) -> Result<()> {
        self.edit(|text| text.replace(CONNECTIONS, &format!("worker_connections {number};")))?;
        self.reload()
    }

    /// Reloads without a listener, waits for the next worker, and tells the one before to end. That one's descriptor is
    /// the last of the listener then.
    pub fn give_up(&self, listener: SocketAddr) -> Result<()> {
        let old = self.worker()?;
        let elsewhere = SocketAddr::new(listener.ip(), listener.port() + GIVEN_UP);
        self.edit(|text| text.replace(&listener.to_string(), &elsewhere.to_string()))?;
        self.renew()?;
        signal(old, Signal::QUIT)
    }

    /// Reloads the configuration and waits for a new worker, beside which the old one may go on.
    pub fn renew(&self) -> Result<()> {
        signal(self.master(), Signal::HUP)?;
        wait::until("the next worker", wait::SOON, || {
            (kernel::children(self.master()).len() > 1).then_some(())
        })
    }

    fn edit(&self, change: impl Fn(&str) -> String) -> Result<()> {
        let file = self.folder.join("nginx.conf");
        let text = std::fs::read_to_string(&file)?;
        Ok(std::fs::write(&file, change(&text))?)
    }

    /// Kills the worker (SIGKILL) and waits until the master has started another.
    pub fn kill_worker(&self) -> Result<()> {
        let old = self.worker()?;
        signal(old, Signal::KILL)?;
        wait::until("another worker", wait::SOON, || {
            self.worker().is_ok_and(|worker| worker != old).then_some(())
        })
    }

    /// Kills workers and master as `kill -9` does; waits until they are gone. The master is stopped before, so that no
    /// worker comes back, and goes last: when it ends, the kernel wakes workers that are stopped.
    pub fn kill_all(&self) -> Result<()> {
        let _stopped = Frozen::new(self.master())?;
        let workers = kernel::children(self.master());
        for pid in workers.into_iter().chain([self.master()]) {
            signal(pid, Signal::KILL)?;
            wait::until("nginx is gone", wait::SOON, || {
                kernel::state(pid).is_none_or(|state| state == 'Z').then_some(())
            })?;
        }
        Ok(())
    }

    /// Its folder: configuration, logs and the static file.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything in the error log so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.join("error.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(signal(self.child.id(), Signal::TERM));
        let gone = wait::until("nginx ends", Duration::from_secs(3), || self.child.try_wait().ok().flatten());
        if gone.is_err() {
            self.guard = None;
            drop(self.child.wait());
        } else if let Some(guard) = self.guard.take() {
            guard.forget();
        }
    }
}

/// A stopped process; goes on when dropped.
#[derive(Debug)]
pub struct Frozen(u32);

impl Frozen {
    /// Stops a process of ours (SIGSTOP) and waits until it is stopped.
    pub fn new(pid: u32) -> Result<Self> {
        let frozen = Self(pid);
        signal(pid, Signal::STOP)?;
        wait::until("the process stops", wait::SOON, || (kernel::state(pid) == Some('T')).then_some(()))?;
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(signal(self.0, Signal::CONT));
    }
}

/// Sends a signal to a process of ours.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    Ok(rustix::process::kill_process(pid, signal).map_err(std::io::Error::from)?)
}

/// A folder that Nginx's unprivileged worker may read.
fn lay_folder(number: usize) -> Result<(PathBuf, Guard)> {
    use std::os::unix::fs::PermissionsExt;
    let folder = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", std::process::id()));
    std::fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let guard = cleanup::later(Action::Folder(folder.clone()));
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
    std::fs::create_dir(folder.join("static"))?;
    std::fs::File::create(folder.join("static/big"))?.set_len(BIG_FILE)?;
    std::fs::write(folder.join("static/small"), "small\n")?;
    Ok((folder, guard))
}

fn configuration(folder: &Path, instance: Instance, servers: &Servers) -> String {
    let folder = folder.display();
    let Instance { workers, level, .. } = instance;
    let Servers { http, streams } = servers;
    let module = if streams.is_empty() { String::new() } else { format!("load_module {STREAM_MODULE};\n") };
    let streams = if streams.is_empty() { String::new() } else { format!("stream {{\n{streams}}}\n") };
    format!(
        "{module}daemon off;\nmaster_process on;\nworker_processes {workers};\nworker_rlimit_nofile 20000;\n\
         pid {folder}/nginx.pid;\nerror_log {folder}/error.log {};\n\
         events {{ {CONNECTIONS} }}\n\
         http {{\n  access_log {folder}/access.log;\n\
         client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n\
         sendfile on;\n  keepalive_requests 100000;\n{http}}}\n{streams}",
        level.name()
    )
}
