//! The first program inside a virtual machine: mounts what is needed, loads modules, runs the tests, reports on
//! a line of its own, switches off.
//!
//! It judges nothing: every line it reports is `WORD JSON`, read by `report`.

use super::image::{MODULES, TRACER};
use super::plan::{HOOKS_TEST, Told};
use crate::lab;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::Duration;

const PATH: &str = "/usr/bin:/bin";
/// `(type, place)` of what is mounted, in order.
const MOUNTS: &[(&CStr, &CStr)] = &[
    (c"proc", c"/proc"),
    (c"sysfs", c"/sys"),
    (c"devtmpfs", c"/dev"),
    (c"tmpfs", c"/tmp"),
    (c"tmpfs", c"/run"),
    (c"securityfs", c"/sys/kernel/security"),
    (c"cgroup2", c"/sys/fs/cgroup"),
];

const NGINX: &str = "daemon off;\nworker_processes 1;\npid /tmp/hooks/pid;\nerror_log /tmp/hooks/error.log;\n\
    events { }\nhttp { access_log off; client_body_temp_path /tmp/hooks/b; proxy_temp_path /tmp/hooks/p;\n\
    fastcgi_temp_path /tmp/hooks/f; uwsgi_temp_path /tmp/hooks/u; scgi_temp_path /tmp/hooks/s;\n\
    server { listen 127.0.0.1:8080; return 200; } }\n";

/// Options of the hidden sub-command, put on the kernel's command line by the host.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// The line that the host reads.
    #[arg(long)]
    report: PathBuf,
    /// `hooks`, or names of scenarios separated by commas.
    tests: Vec<String>,
}

/// Runs as process 1; the return value is of no use to anybody, because the machine goes off.
pub fn run(options: &Options) -> Result<ExitCode> {
    if std::process::id() != 1 {
        bail!("this is the first program of a virtual machine, not one to be called by hand");
    }
    for (kind, place) in MOUNTS {
        mount(kind, place);
    }
    // The line may be a module's.
    let problems = load_modules()?;
    lab::wait::until("a line to report on", lab::wait::SOON, || options.report.exists().then_some(()))?;
    let mut report = File::options().write(true).open(&options.report)?;
    for problem in problems {
        tell(&mut report, Told::Trouble, &json!(problem))?;
    }
    if let Err(error) = tests(options, &mut report) {
        tell(&mut report, Told::Trouble, &json!(format!("{error:#}")))?;
    }
    tell(&mut report, Told::End, &Value::Null)?;
    power_off();
    Ok(ExitCode::SUCCESS)
}

fn tests(options: &Options, report: &mut File) -> Result<()> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    tell(report, Told::Kernel, &json!(release.trim()))?;
    finish(&program("ip").args(["link", "set", "lo", "up"]).output()?)?;
    tell(report, Told::Hooks, &hooks()?)?;
    let scenarios: Vec<&String> = options.tests.iter().filter(|name| *name != HOOKS_TEST).collect();
    for names in scenarios {
        tell(report, Told::Lab, &scenario(names)?)?;
    }
    Ok(())
}

/// What the kernel lacks is reported by the test that misses it.
fn mount(kind: &CStr, place: &CStr) {
    // SAFETY: every pointer is a C string or null, as the call wants.
    let _missing = unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
}

/// Loads every module in order; gives what was refused.
fn load_modules() -> Result<Vec<String>> {
    let mut files: Vec<_> = std::fs::read_dir(MODULES)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files.iter().filter_map(|file| load_module(file).err().map(|error| format!("{error:#}"))).collect())
}

fn load_module(file: &Path) -> Result<()> {
    let object = File::open(file)?;
    let none = CString::default();
    // SAFETY: a file of ours and an empty string; the kernel checks the rest.
    let result = unsafe { libc::syscall(libc::SYS_finit_module, object.as_raw_fd(), none.as_ptr(), 0) };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("module {}", file.display()));
    }
    Ok(())
}

/// A tracer beside an idle Nginx: which hooks run, and what it says about the kernel.
fn hooks() -> Result<Value> {
    std::fs::create_dir_all("/tmp/hooks")?;
    std::fs::write("/tmp/hooks/nginx.conf", NGINX)?;
    let nginx =
        program("nginx").args(["-e", "/tmp/hooks/error.log", "-c", "/tmp/hooks/nginx.conf"]).spawn()?;
    let _nginx = Ended(nginx);
    lab::wait::until("nginx runs", lab::wait::SOON, || Path::new("/tmp/hooks/pid").exists().then_some(()))?;
    let output = Command::new(TRACER)
        .args(["trace", "--duration", "2s", "--stats", "/tmp/hooks/stats.json", "--color", "never"])
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .output()?;
    let stats = std::fs::read_to_string("/tmp/hooks/stats.json").unwrap_or_default();
    Ok(json!({
        "header": String::from_utf8_lossy(&output.stderr),
        "stats": serde_json::from_str::<Value>(&stats).unwrap_or_default(),
        "ended": output.status.to_string(),
    }))
}

fn scenario(names: &str) -> Result<Value> {
    let output = Command::new("/init")
        .args(["lab", "--json", "--jobs", "1", "--level", "error", "--binary", TRACER, "--scenario", names])
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .output()?;
    let line = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(line.trim()).with_context(|| {
        format!("the lab ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())
    })
}

fn program(name: &str) -> Command {
    let mut command = Command::new(Path::new("/usr/bin").join(name));
    command.env("PATH", PATH).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn finish(output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())
}

/// A process that ends with us.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(lab::nginx::signal(self.0.id(), rustix::process::Signal::TERM));
        drop(self.0.wait());
    }
}

fn tell(report: &mut File, word: Told, value: &Value) -> Result<()> {
    writeln!(report, "{} {value}", word.word())?;
    // SAFETY: waits until a terminal of ours has sent what was written.
    let _drained = unsafe { libc::tcdrain(report.as_raw_fd()) };
    Ok(())
}

fn power_off() {
    // The host sees the end of the machine; should the kernel refuse, the end of process 1 makes it panic and end, too.
    std::thread::sleep(Duration::from_millis(100));
    // SAFETY: takes a number.
    let _refused = unsafe { libc::reboot(libc::RB_AUTOBOOT) };
}
