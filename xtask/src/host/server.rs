//! A real Nginx for one check, in a folder of its own, and in a network namespace of its own if wanted.

use crate::lab::cleanup::{self, Action, Guard, PREFIX};
use crate::lab::nginx::signal;
use crate::lab::wait;
use crate::shell;
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A network namespace; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    _guard: Guard,
}

impl Namespace {
    /// Makes one with a loopback device and these sysctls (`net/…` and value).
    pub fn new(word: &str, sysctls: &[(&str, &str)]) -> Result<Self> {
        let name = format!("{PREFIX}{}-{word}", std::process::id());
        shell::read(Command::new(shell::need("ip")?).args(["netns", "add", &name]))?;
        let guard = cleanup::later(Action::Namespace(name.clone()));
        let namespace = Self { name, _guard: guard };
        shell::read(namespace.inside("ip").args(["link", "set", "lo", "up"]))?;
        for (key, value) in sysctls {
            let script = format!("echo '{value}' > /proc/sys/{key}");
            shell::read(namespace.inside("sh").args(["-c", &script])).with_context(|| (*key).to_owned())?;
        }
        Ok(namespace)
    }

    /// A command that runs inside.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }
}

/// A folder that workers may read; removed when dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _guard: Guard,
}

impl Folder {
    /// Makes one.
    pub fn new(word: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("{PREFIX}{}-{word}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let guard = cleanup::later(Action::Folder(path.clone()));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { path, _guard: guard })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it, as text for a configuration.
    pub fn file(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    guard: Option<Guard>,
}

impl Process {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let shown = shell::show(command);
        let child = command.process_group(0).spawn().with_context(|| format!("cannot start `{shown}`"))?;
        let guard = Some(cleanup::later(Action::Kill(child.id())));
        Ok(Self { child, guard })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal and waits until it has ended.
    pub fn end(mut self, with: Signal) -> Result<()> {
        signal(self.pid(), with)?;
        wait::until("a process ends", wait::SOON, || self.child.try_wait().ok().flatten())?;
        if let Some(guard) = self.guard.take() {
            guard.forget();
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.guard = None;
        drop(self.child.wait());
    }
}

/// A running Nginx.
#[derive(Debug)]
pub struct Nginx {
    process: Option<Process>,
    pid: u32,
}

impl Nginx {
    /// Starts it with this configuration and waits until it has a worker.
    pub fn start(namespace: Option<&Namespace>, folder: &Folder, configuration: &str) -> Result<Self> {
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, format!("daemon off;\npid {};\n{configuration}", folder.file("nginx.pid")))?;
        let mut command = namespace.map_or_else(|| Command::new("nginx"), |inside| inside.inside("nginx"));
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file).arg("-e").arg(folder.file("error.log"));
        let stderr = std::fs::File::create(folder.path().join("stderr"))?;
        let process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr))?;
        let pid = process.pid();
        let nginx = Self { process: Some(process), pid };
        wait::until("nginx has a worker", wait::SOON, || nginx.worker())
            .with_context(|| std::fs::read_to_string(folder.path().join("stderr")).unwrap_or_default())?;
        Ok(nginx)
    }

    /// Process id of the master.
    pub fn master(&self) -> u32 {
        self.pid
    }

    /// Process id of a worker that has its title.
    pub fn worker(&self) -> Option<u32> {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).ok()?;
        let mut pids = children.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok());
        pids.find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|title| title.contains("worker process"))
        })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            drop(process.end(Signal::TERM));
        }
    }
}
