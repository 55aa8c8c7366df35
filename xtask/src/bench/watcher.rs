//! The ways of watching that take turns: none, rstscope, and the tools one would use instead.

use super::scene::Scene;
use crate::lab::cleanup::{self, Action, Guard};
use crate::lab::net::Node;
use crate::lab::tracer::{Setup, Tracer};
use crate::lab::{nginx, wait};
use crate::shell;
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What `tcpdump` is asked for: connection ends and beginnings, no data.
const FILTER: &str = "tcp[tcpflags] & (tcp-rst|tcp-syn) != 0";

/// The questions of rstscope in the language of bpftrace: who sent or received a RST, and how connections ended.
const SCRIPT: &str = r#"
tracepoint:tcp:tcp_receive_reset { printf("%lu received %d %d\n", nsecs, args->sport, args->dport); }
tracepoint:tcp:tcp_send_reset { printf("%lu sent %d %s\n", nsecs, pid, comm); }
tracepoint:tcp:tcp_retransmit_skb { @retransmits[args->dport] = count(); }
tracepoint:sock:inet_sock_set_state /args->protocol == 6/ {
  if (args->newstate == 1) { @began[args->skaddr] = nsecs; @owner[args->skaddr] = pid; }
  if (args->newstate == 7) {
    @life = hist((nsecs - @began[args->skaddr]) / 1000);
    delete(@began[args->skaddr]); delete(@owner[args->skaddr]);
  }
}
"#;

/// One way of watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nobody looks.
    Nothing,
    /// rstscope.
    Rstscope,
    /// A packet capture.
    Tcpdump,
    /// A bpftrace script.
    Bpftrace,
}

/// Every way, in the order of their turns.
pub const WAYS: [Way; 4] = [Way::Nothing, Way::Rstscope, Way::Tcpdump, Way::Bpftrace];

/// A way of watching at work; ended when dropped.
pub enum Watcher {
    /// Nothing runs.
    Nothing,
    /// rstscope runs.
    Rstscope(Tracer),
    /// Another program runs.
    Other(Other),
}

/// Another program; killed when dropped.
pub struct Other {
    child: Child,
    guard: Option<Guard>,
}

impl Way {
    /// Name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Rstscope => "rstscope",
            Self::Tcpdump => "tcpdump",
            Self::Bpftrace => "bpftrace",
        }
    }

    /// Whether the machine has it.
    pub fn is_here(self) -> bool {
        matches!(self, Self::Nothing | Self::Rstscope) || shell::find(self.name()).is_some()
    }

    /// Begins to watch, and waits until it does.
    pub fn begin(self, scene: &Scene, setup: &Setup) -> Result<Watcher> {
        let folder = scene.nginx.folder();
        Ok(match self {
            Self::Nothing => Watcher::Nothing,
            Self::Rstscope => Watcher::Rstscope(Tracer::start(setup, &scene.view(), folder, None)?),
            Self::Tcpdump => Watcher::Other(tcpdump(scene, folder)?),
            Self::Bpftrace => Watcher::Other(bpftrace(folder)?),
        })
    }
}

impl Watcher {
    /// The process that holds its programs.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Nothing => None,
            Self::Rstscope(tracer) => Some(tracer.pid()),
            Self::Other(other) => Some(other.child.id()),
        }
    }
}

fn tcpdump(scene: &Scene, folder: &Path) -> Result<Other> {
    let mut command = scene.network.inside(Node::Web, shell::need("tcpdump")?);
    command.args(["-i", "any", "-s", "128", "-Z", "root", "-w"]).arg(folder.join("capture")).arg(FILTER);
    Other::start(&mut command, folder, "listening on")
}

/// bpftrace needs tracefs, which not every machine has mounted: it gets one that nobody else sees.
fn bpftrace(folder: &Path) -> Result<Other> {
    let mount = "mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", mount, "sh"]).arg(shell::need("bpftrace")?);
    command.arg("-o").arg(folder.join("bpftrace.out")).args(["-e", SCRIPT]);
    Other::start(&mut command, folder, "Attaching")
}

impl Other {
    /// Starts it and waits for the line that says it is ready.
    fn start(command: &mut Command, folder: &Path, ready: &str) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let shown = shell::show(command);
        let says = folder.join("says");
        let file = std::fs::File::create(&says)?;
        let (output, errors) = (file.try_clone()?, file);
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0).spawn();
        let child = child.with_context(|| format!("cannot start `{shown}`"))?;
        let other = Self { guard: Some(cleanup::later(Action::Kill(child.id()))), child };
        let output = folder.join("bpftrace.out");
        wait::until(&format!("`{shown}` is ready"), wait::SOON, || {
            let text =
                [&says, &output].map(|file| std::fs::read_to_string(file).unwrap_or_default()).concat();
            text.contains(ready).then_some(())
        })?;
        Ok(other)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(nginx::signal(self.child.id(), Signal::INT));
        let ended =
            wait::until("the watcher ends", Duration::from_secs(5), || self.child.try_wait().ok().flatten());
        if ended.is_err() {
            self.guard = None;
            drop(self.child.wait());
        } else if let Some(guard) = self.guard.take() {
            guard.forget();
        }
    }
}
