//! The daemon under check: started with a service manager's socket, its log and its readers' lines kept.

use super::{read, until};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where the metrics are.
const METRICS: &str = "127.0.0.1:9911";

/// A running daemon and one reader; both end with this.
pub struct Daemon {
    binary: PathBuf,
    folder: PathBuf,
    manager: UnixDatagram,
    notices: String,
    child: Child,
    reader: Option<Child>,
}

impl Daemon {
    /// Starts it.
    pub fn start(binary: &Path, folder: &Path) -> Result<Self> {
        Self::start_with(binary, folder, "")
    }

    /// Starts it with more lines of the configuration's `[store]`.
    pub fn start_with(binary: &Path, folder: &Path, store: &str) -> Result<Self> {
        // An earlier one may have been here.
        let _left = fs::remove_file(folder.join("notify.sock"));
        let manager = UnixDatagram::bind(folder.join("notify.sock"))?;
        manager.set_nonblocking(true)?;
        fs::write(folder.join("rstscope.toml"), configuration(folder, store))?;
        let child = spawn(binary, folder)?;
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        Ok(Self { binary, folder, manager, notices: String::new(), child, reader: None })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the service manager was told this, now or before.
    pub fn notified(&mut self, what: &str) -> bool {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.manager.recv(&mut buffer) {
            self.notices.push_str(&String::from_utf8_lossy(&buffer[..length]));
            self.notices.push('\n');
        }
        self.notices.lines().any(|line| line.starts_with(what))
    }

    /// Everything it wrote to its standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Name, permitted capabilities and `no_new_privs` of every thread.
    pub fn threads(&self) -> Result<Vec<(String, u64, bool)>> {
        let mut threads = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let permitted = u64::from_str_radix(field("CapPrm:").context("no CapPrm")?, 16)?;
            let name = field("Name:").unwrap_or_default().to_owned();
            threads.push((name, permitted, field("NoNewPrivs:") == Some("1")));
        }
        Ok(threads)
    }

    /// Begins to read verdicts as they come.
    pub fn tail(&mut self) -> Result<()> {
        self.stop_reader()?;
        let lines = File::options().create(true).append(true).open(self.folder.join("told"))?;
        let mut command = Command::new(&self.binary);
        command.args(["tail", "--format", "json", "--include-harmless", "--socket"]).arg(self.socket());
        self.reader = Some(command.stdout(lines).stderr(Stdio::null()).spawn()?);
        until("the reader is there", || Ok(ask("/metrics")?.contains("rstscope_live_readers 1.0")))
    }

    /// Ids of all verdicts that readers were told.
    pub fn told(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.folder.join("told")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let id = |line: &str| {
            Ok(serde_json::from_str::<Value>(line)?["id"].as_str().unwrap_or_default().to_owned())
        };
        whole.lines().map(id).collect()
    }

    /// Ids of all incidents that the command was told, a line each.
    pub fn commanded(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.folder.join("commanded")).unwrap_or_default();
        text.lines().map(notice_id).collect()
    }

    /// Everything that waits on disk for the collector.
    pub fn waiting_exports(&self) -> Result<String> {
        let mut all = String::new();
        for file in fs::read_dir(self.folder.join("state/otlp"))? {
            // It may have been sent meanwhile.
            all.push_str(&fs::read_to_string(file?.path()).unwrap_or_default());
        }
        Ok(all)
    }

    /// Ids that were told and are not in the store.
    pub fn missing(&self) -> Result<Vec<String>> {
        let stored = self.query(&["--include-harmless", "--limit", "0", "--format", "json"])?;
        Ok(self.told()?.into_iter().filter(|id| !stored.contains(id.as_str())).collect())
    }

    /// What `rstscope query` says.
    pub fn query(&self, arguments: &[&str]) -> Result<String> {
        let store = self.folder.join("state/verdicts.db").display().to_string();
        read(&self.binary, &[&["query", "--store", &store], arguments].concat())
    }

    /// What `rstscope report` says of the store.
    pub fn report(&self) -> Result<String> {
        let store = self.folder.join("state/verdicts.db").display().to_string();
        read(&self.binary, &["report", &store, "--include-harmless"])
    }

    /// Writes a configuration with other lines of `[store]` and says so.
    pub fn configure(&self, store: &str) -> Result<()> {
        fs::write(self.folder.join("rstscope.toml"), configuration(&self.folder, store))?;
        Ok(kill_process(Pid::from_child(&self.child), Signal::HUP)?)
    }

    /// Stops it in the middle of whatever it does, or lets it go on.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Takes all the room that the store's file system has; gives the file that takes it.
    pub fn fill_disk(&self) -> Result<PathBuf> {
        let path = self.folder.join("state/filler");
        let mut filler = File::create(&path)?;
        let block = vec![0x5a; 4096];
        loop {
            match filler.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(path),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Kills it without a warning and starts it again on the same store.
    pub fn kill_and_start_again(&mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::KILL)?;
        self.child.wait()?;
        self.stop_reader()?;
        // What the killed one had still said is not of the new one.
        let _drained = self.notified("");
        self.notices.clear();
        self.child = spawn(&self.binary, &self.folder)?;
        until("it watches again", || Ok(self.notified("STATUS=watching 1 Nginx master")))
    }

    /// Ends it in order.
    pub fn end(&mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "it ended with {status}: {}", self.log());
        Ok(())
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("live.sock")
    }

    fn stop_reader(&mut self) -> Result<()> {
        if let Some(mut reader) = self.reader.take() {
            reader.kill()?;
            reader.wait()?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both may have ended.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
        let _stopped = self.stop_reader();
    }
}

fn spawn(binary: &Path, folder: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    let mut command = Command::new(binary);
    command.arg("daemon").arg("--config").arg(folder.join("rstscope.toml"));
    command.env("NOTIFY_SOCKET", folder.join("notify.sock")).stdin(Stdio::null()).stderr(log);
    command.spawn().with_context(|| format!("cannot start {}", binary.display()))
}

/// Id of the incident that a notice is about.
pub fn notice_id(notice: &str) -> Result<String> {
    let notice: Value = serde_json::from_str(notice).with_context(|| format!("no notice: {notice}"))?;
    ensure!(notice["schema"] == "rstscope.notice/1" && notice["about"] == "incidents", "{notice}");
    Ok(notice["verdict"]["id"].as_str().context("no verdict")?.to_owned())
}

fn configuration(folder: &Path, store: &str) -> String {
    let folder = folder.display();
    let receiver = super::receiver::ADDRESS;
    // Another Nginx of this machine is none of its business.
    format!(
        "[watch]\nnetns = \"/proc/self/ns/net\"\n\
         [store]\npath = \"{folder}/state/verdicts.db\"\n{store}\n\
         [live]\nsocket = \"{folder}/live.sock\"\n\
         [metrics]\nlisten = \"{METRICS}\"\n\
         [webhook]\nurl = \"http://{receiver}/hook\"\nabout = [\"incidents\"]\nper_minute = 10000\n\
         [command]\nrun = [\"/bin/sh\", \"-c\", \"cat >> {folder}/commanded\"]\nabout = [\"incidents\"]\n\
         per_minute = 10000\n\
         [otlp]\nendpoint = \"http://{receiver}\"\ninterval_seconds = 1\n"
    )
}

/// Asks the daemon over HTTP; gives the whole answer.
pub fn ask(path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(METRICS).context("the daemon's HTTP does not answer")?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
