//! The Nginx that the daemon watches: one server whose upstream refuses every connection.

use super::soak::RESETTING;
use super::until;
use crate::shell;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where it listens.
pub const ADDRESS: &str = "127.0.0.1:8080";

/// One Nginx; ended when dropped.
pub struct Nginx {
    /// By its whole path: an upgrade starts it again as it was started.
    program: PathBuf,
    folder: PathBuf,
}

impl Nginx {
    /// Writes its configuration; starts nothing.
    pub fn new(folder: &Path) -> Result<Self> {
        Self::with(folder, 2, 256, "")
    }

    /// The same with so many workers, each with room for fifteen thousand connections and a queue of its own.
    pub fn with_workers(folder: &Path, workers: usize) -> Result<Self> {
        Self::with(folder, workers, 15_000, "reuseport")
    }

    fn with(folder: &Path, workers: usize, connections: usize, listen: &str) -> Result<Self> {
        let here = folder.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {here}/nginx-{kind}; "))
            .concat();
        let descriptors = connections + 256;
        let text = format!(
            "worker_processes {workers}; pid {here}/nginx.pid; error_log {here}/error.log info;\n\
             events {{ worker_connections {connections}; }} worker_rlimit_nofile {descriptors};\n\
             http {{ access_log off; client_header_timeout 1h; {temporary}\n\
             server {{ listen {ADDRESS} {listen}; location / {{ proxy_pass http://127.0.0.1:9; }}\n\
             location /static {{ return 200; }} location /reset {{ proxy_pass http://{RESETTING}; }} }} }}\n"
        );
        fs::write(folder.join("nginx.conf"), text)?;
        Ok(Self { program: shell::need("nginx")?, folder: folder.to_owned() })
    }

    /// Starts it.
    pub fn start(&mut self) -> Result<()> {
        shell::run(&mut self.command(&[]))?;
        until("Nginx listens", || Ok(TcpStream::connect(ADDRESS).is_ok()))
    }

    /// Reads its configuration again.
    pub fn reload(&mut self) -> Result<()> {
        shell::run(&mut self.command(&["-s", "reload"]))
    }

    /// Ends and starts again.
    pub fn restart(&mut self) -> Result<()> {
        let master = self.master("nginx.pid")?;
        shell::run(&mut self.command(&["-s", "stop"]))?;
        until("Nginx has ended", || {
            Ok(!Path::new("/proc").join(master.as_raw_nonzero().to_string()).exists())
        })?;
        self.start()
    }

    /// Starts a new binary beside the old one, which then ends (USR2, QUIT).
    pub fn upgrade(&mut self) -> Result<()> {
        let old = self.master("nginx.pid")?;
        kill_process(old, Signal::USR2)?;
        until("the new master runs", || Ok(self.master("nginx.pid").is_ok_and(|new| new != old)))?;
        kill_process(old, Signal::QUIT)?;
        until("the old master has ended", || {
            Ok(!Path::new("/proc").join(old.as_raw_nonzero().to_string()).exists())
        })
    }

    /// Asks for something that the upstream refuses.
    pub fn fail(target: &str) -> Result<()> {
        let mut stream = TcpStream::connect(ADDRESS).context("Nginx does not answer")?;
        stream
            .write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(())
    }

    fn master(&self, file: &str) -> Result<Pid> {
        let pid = fs::read_to_string(self.folder.join(file))?.trim().parse()?;
        Pid::from_raw(pid).context("no process id")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.folder.join("nginx.conf")).arg("-e").arg(self.folder.join("error.log"));
        command.args(arguments);
        command
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Ok(master) = self.master("nginx.pid") {
            // It may have ended.
            let _ended = kill_process(master, Signal::TERM);
        }
    }
}
