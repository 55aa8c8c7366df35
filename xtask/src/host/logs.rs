//! Ways to the log that need a real Nginx: syslog, and a place in the log that survives restarts and rotations.

use super::server::{Folder, Nginx, Process};
use crate::lab::wait;
use crate::shell;
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// Every request becomes one line of level error: its unix socket does not exist.
fn configuration(folder: &Folder, log: &str) -> String {
    format!(
        "worker_processes 2; error_log {log} error; events {{ worker_connections 128; }}
         http {{ access_log off; client_body_temp_path {body}; proxy_temp_path {proxy}; fastcgi_temp_path {fastcgi};
         uwsgi_temp_path {uwsgi}; scgi_temp_path {scgi};
         server {{ listen unix:{listen}; location / {{ proxy_pass http://unix:{missing}; }} }} }}",
        body = folder.file("body"),
        proxy = folder.file("proxy"),
        fastcgi = folder.file("fastcgi"),
        uwsgi = folder.file("uwsgi"),
        scgi = folder.file("scgi"),
        listen = folder.file("listen.sock"),
        missing = folder.file("missing.sock"),
    )
}

/// Sends one request and waits for its 502.
fn request(folder: &Folder, path: &str) -> Result<()> {
    let mut stream = UnixStream::connect(folder.path().join("listen.sock"))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.contains(" 502 "), "not a 502: {answer}");
    Ok(())
}

/// A trace of this Nginx that writes verdicts to `out`.
fn trace(binary: &Path, nginx: &Nginx, folder: &Folder, out: &str, arguments: &[String]) -> Result<Process> {
    let header = folder.path().join(format!("{out}.header"));
    let mut command = Command::new(binary);
    command.args(["trace", "--pid", &nginx.master().to_string(), "--include-harmless", "--output"]);
    command.arg(folder.path().join(out)).args(arguments);
    let stderr = std::fs::File::create(&header)?;
    let process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr))?;
    wait::until("the tracer is ready", wait::SOON, || {
        std::fs::read_to_string(&header).ok().filter(|text| text.contains("watching 1 Nginx")).map(drop)
    })?;
    Ok(process)
}

/// Log lines of the verdicts in a file: request and file.
fn lines(folder: &Folder, out: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder.path().join(out)).unwrap_or_default();
    let verdicts = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    verdicts.map(|verdict| (word(&verdict["log"]["request"]), word(&verdict["log"]["file"]))).collect()
}

pub fn syslog(binary: &Path) -> Result<()> {
    let folder = Folder::new("syslog")?;
    let address = format!("unix:{}", folder.file("log.sock"));
    let target = format!("syslog:server={address},tag=nginx,nohostname");
    let nginx = Nginx::start(None, &folder, &configuration(&folder, &target))?;
    // Without the listener the header says where the lines go.
    let plain = trace(binary, &nginx, &folder, "plain", &[])?;
    plain.end(Signal::INT)?;
    let header = std::fs::read_to_string(folder.path().join("plain.header"))?;
    ensure!(header.contains("goes to a syslog server") && header.contains("--syslog"), "{header}");
    let tracer = trace(binary, &nginx, &folder, "verdicts", &["--syslog".to_owned(), address])?;
    request(&folder, "/one")?;
    wait::until("a verdict of the syslog line", wait::SOON, || {
        let found = lines(&folder, "verdicts");
        found
            .iter()
            .any(|(request, file)| request.contains("/one") && file.starts_with("syslog unix:"))
            .then_some(())
    })?;
    tracer.end(Signal::INT)?;
    let header = std::fs::read_to_string(folder.path().join("verdicts.header"))?;
    ensure!(header.contains("syslog unix:") && !header.contains("goes to a syslog server"), "{header}");
    ensure!(!folder.path().join("log.sock").exists(), "the socket was left behind");
    Ok(())
}

/// Syslog over UDP, as most daemons take it.
pub fn syslog_udp(binary: &Path) -> Result<()> {
    let folder = Folder::new("syslog-udp")?;
    // The kernel names a free port; nobody else on this host takes it in the meantime but by accident.
    let address = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let target = format!("syslog:server={address},tag=nginx");
    let nginx = Nginx::start(None, &folder, &configuration(&folder, &target))?;
    let listen = ["--syslog".to_owned(), format!("udp:{address}")];
    let tracer = trace(binary, &nginx, &folder, "verdicts", &listen)?;
    for path in ["/one", "/two", "/three"] {
        request(&folder, path)?;
    }
    wait::until("a verdict of every datagram", wait::SOON, || {
        let found = lines(&folder, "verdicts");
        let is_there = |path: &str| {
            found.iter().any(|(request, file)| request.contains(path) && file.starts_with("syslog udp:"))
        };
        ["/one ", "/two ", "/three "].iter().all(|path| is_there(path)).then_some(())
    })?;
    tracer.end(Signal::INT)
}

/// A log that goes into a pipe, as in a container: it can't be read without taking the lines from their reader, and
/// the header says so; a file beside it is followed.
pub fn pipe(binary: &Path) -> Result<()> {
    let folder = Folder::new("pipe")?;
    let fifo = folder.file("pipe");
    shell::read(Command::new("mkfifo").arg(&fifo))?;
    // Nginx opens a pipe for writing only once somebody reads it.
    let reader = Process::start(Command::new("cat").arg(&fifo).stdout(Stdio::null()))?;
    let logs = format!("{fifo} error; error_log {}", folder.file("error.log"));
    let nginx = Nginx::start(None, &folder, &configuration(&folder, &logs))?;
    let tracer = trace(binary, &nginx, &folder, "verdicts", &[])?;
    request(&folder, "/one")?;
    wait::until("a verdict of the line in the file", wait::SOON, || {
        let found = lines(&folder, "verdicts");
        found
            .iter()
            .any(|(request, file)| request.contains("/one") && file.ends_with("/error.log"))
            .then_some(())
    })?;
    tracer.end(Signal::INT)?;
    let header = std::fs::read_to_string(folder.path().join("verdicts.header"))?;
    ensure!(header.contains("pipe"), "{header}");
    drop(nginx);
    drop(reader);
    Ok(())
}

pub fn positions(binary: &Path) -> Result<()> {
    let folder = Folder::new("positions")?;
    let nginx = Nginx::start(None, &folder, &configuration(&folder, &folder.file("error.log")))?;
    let arguments = ["--positions".to_owned(), folder.file("positions")];
    let mut number = 0;
    let mut requests = |count: usize| -> Result<()> {
        for _ in 0..count {
            number += 1;
            request(&folder, &format!("/line-{number}-"))?;
        }
        Ok(())
    };
    let log = folder.path().join("error.log");
    let mut tracer = trace(binary, &nginx, &folder, "1", &arguments)?;
    requests(20)?;
    rotate(&nginx, &log, 1)?;
    requests(20)?;
    tracer.end(Signal::INT)?;
    // While nobody reads: lines, a rotation with USR1, lines, copytruncate, lines.
    requests(20)?;
    rotate(&nginx, &log, 2)?;
    requests(20)?;
    std::fs::copy(&log, folder.path().join("error.log.3"))?;
    std::fs::OpenOptions::new().write(true).open(&log)?.set_len(0)?;
    requests(20)?;
    tracer = trace(binary, &nginx, &folder, "2", &arguments)?;
    requests(20)?;
    tracer.end(Signal::TERM)?;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (request, _) in lines(&folder, "1").into_iter().chain(lines(&folder, "2")) {
        *seen.entry(request).or_default() += 1;
    }
    let wrong: Vec<String> = (1..=120)
        .map(|number| (number, seen.get(&format!("GET /line-{number}- HTTP/1.0")).copied().unwrap_or(0)))
        .filter(|(_, times)| *times != 1)
        .map(|(number, times)| format!("line {number} {times} times"))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join(", "));
    Ok(())
}

/// Rename and USR1, as logrotate does; waits until a worker writes to the new file.
fn rotate(nginx: &Nginx, log: &Path, number: usize) -> Result<()> {
    std::fs::rename(log, log.with_extension(format!("log.{number}")))?;
    crate::lab::nginx::signal(nginx.master(), Signal::USR1)?;
    wait::until("the log is opened again", wait::SOON, || log.exists().then_some(()))
        .context("nginx did not reopen its log")
}
