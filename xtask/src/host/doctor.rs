//! `rstscope doctor` against a real Nginx: every bad setting is found, and none of them when the settings are good.

use super::output;
use super::server::{Folder, Namespace, Nginx, Process};
use crate::lab::wait;
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the bad settings must bring, each a slug and a word of what was seen.
const BAD: [(&str, &str); 19] = [
    ("keepalive_idle", "node"),
    ("keepalive_unused", "Connection \"close\""),
    ("retry_non_idempotent", "non_idempotent"),
    ("retry_unbounded", "more than 3 servers"),
    ("reset_on_timeout", "on"),
    ("lingering_close", "off"),
    ("shutdown_timeout", "5s"),
    ("listen_backlog", "holds 64, wanted are 2048, net.core.somaxconn 64"),
    ("listen_syn_queue", "tcp_max_syn_backlog 16"),
    ("listen_queue_now", "of 64 places"),
    ("listen_abort", "1"),
    ("worker_files", "open files for worker_connections"),
    ("ephemeral_ports", "1000 ports"),
    ("error_log_level", "crit"),
    ("error_log_target", "standard output or error"),
    ("access_log_fields", "$upstream_addr"),
    ("unix_sockets", "does not exist"),
    ("unix_sockets", "has mode 0600"),
    ("unix_sockets", "is not a socket"),
];

const BAD_NETWORK: [(&str, &str); 5] = [
    ("net/core/somaxconn", "64"),
    ("net/ipv4/tcp_max_syn_backlog", "16"),
    ("net/ipv4/tcp_syncookies", "0"),
    ("net/ipv4/tcp_abort_on_overflow", "1"),
    ("net/ipv4/ip_local_port_range", "40000 40999"),
];

const GOOD_NETWORK: [(&str, &str); 5] = [
    ("net/core/somaxconn", "4096"),
    ("net/ipv4/tcp_max_syn_backlog", "4096"),
    ("net/ipv4/tcp_syncookies", "1"),
    ("net/ipv4/tcp_abort_on_overflow", "0"),
    ("net/ipv4/ip_local_port_range", "20000 60999"),
];

/// Fills the queue of a listener whose worker stands still, and holds it until its standard input ends.
const FILL: &str = "import socket, sys\nheld = []\nfor _ in range(60):\n    s = socket.socket()\n    \
                    s.setblocking(False)\n    s.connect_ex(('127.0.0.1', 8080))\n    held.append(s)\n\
                    sys.stdin.read()\n";

fn temporary(folder: &Folder) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let lines = kinds.map(|kind| format!("{kind}_temp_path {};", folder.file(kind)));
    lines.join("\n")
}

fn bad(folder: &Folder) -> String {
    format!(
        "worker_processes 1; worker_rlimit_nofile 600; worker_shutdown_timeout 5s;
         error_log {log} crit; error_log {stderr} info;
         events {{ worker_connections 500; }}
         http {{ access_log {access}; {temporary} reset_timedout_connection on; lingering_close off;
         upstream app {{ server 127.0.0.1:3000; server 127.0.0.1:3001; server 127.0.0.1:3002; server 127.0.0.1:3003; keepalive 8; }}
         server {{ listen 127.0.0.1:8080 backlog=2048; server_name bad.example;
         location / {{ proxy_pass http://app; proxy_next_upstream error timeout non_idempotent; }}
         location /a {{ proxy_pass http://unix:{a}; }}
         location /b {{ proxy_pass http://unix:{b}; }}
         location /c {{ proxy_pass http://unix:{c}; }} }} }}",
        log = folder.file("error.log"),
        stderr = folder.file("stderr.log"),
        access = folder.file("access.log"),
        temporary = temporary(folder),
        a = folder.file("missing.sock"),
        b = folder.file("closed.sock"),
        c = folder.file("file"),
    )
}

fn good(folder: &Folder) -> String {
    format!(
        "worker_processes 1; worker_rlimit_nofile 4096; worker_shutdown_timeout 5m; error_log {log} info;
         events {{ worker_connections 500; }}
         http {{ log_format full '$msec $pid $connection $status $request_time $upstream_addr $upstream_status $upstream_response_time';
         access_log {access} full; {temporary}
         upstream app {{ server 127.0.0.1:3000; server 127.0.0.1:3001; server 127.0.0.1:3002; server 127.0.0.1:3003; keepalive 8; keepalive_timeout 4s; }}
         server {{ listen 127.0.0.1:8080 backlog=2048; server_name good.example;
         location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_next_upstream_tries 2; }}
         location /b {{ proxy_pass http://unix:{open}; }} }} }}",
        log = folder.file("error.log"),
        access = folder.file("access.log"),
        temporary = temporary(folder),
        open = folder.file("open.sock"),
    )
}

/// An HTTP server that is called `node`.
fn node(namespace: &Namespace) -> Result<Process> {
    let script = "exec -a node /usr/bin/python3 -m http.server 3000 --bind 127.0.0.1";
    let mut command = namespace.inside("bash");
    let server = Process::start(
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()),
    )?;
    wait::until("the upstream listens", wait::SOON, || {
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", server.pid())).ok()?;
        table.contains(":0BB8 00000000:0000 0A").then_some(())
    })?;
    Ok(server)
}

fn look(binary: &Path, nginx: &Nginx) -> Result<(i32, Value)> {
    let master = nginx.master().to_string();
    let (code, text, complaint) =
        output(Command::new(binary).args(["doctor", "--format", "json", "--pid", &master]))?;
    let report = serde_json::from_str(&text).with_context(|| format!("no report: {complaint}"))?;
    Ok((code, report))
}

fn findings(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = report["findings"].as_array().cloned().unwrap_or_default();
    list.iter().map(|finding| (text(&finding["check"]), text(&finding["seen"]))).collect()
}

pub fn bad_settings(binary: &Path) -> Result<()> {
    let (folder, namespace) = (Folder::new("bad")?, Namespace::new("bad", &BAD_NETWORK)?);
    std::os::unix::fs::symlink("/dev/stderr", folder.path().join("stderr.log"))?;
    std::fs::write(folder.path().join("file"), "")?;
    let _closed = std::os::unix::net::UnixListener::bind(folder.path().join("closed.sock"))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.path().join("closed.sock"), mode)?;
    let _node = node(&namespace)?;
    let nginx = Nginx::start(Some(&namespace), &folder, &bad(&folder))?;
    let worker = nginx.worker().context("no worker")?;
    crate::lab::nginx::signal(worker, Signal::STOP)?;
    let mut clients = namespace.inside("/usr/bin/python3");
    let _clients = Process::start(clients.args(["-c", FILL]).stdin(Stdio::piped()).process_group(0))?;
    let result = wait::until("the queue is seen to fill", wait::SOON, || {
        let (code, report) = look(binary, &nginx).ok()?;
        findings(&report).iter().any(|(slug, _)| slug == "listen_queue_now").then_some((code, report))
    });
    crate::lab::nginx::signal(worker, Signal::CONT)?;
    let (code, report) = result?;
    let found = findings(&report);
    let missing: Vec<&(&str, &str)> = BAD
        .iter()
        .filter(|(slug, word)| !found.iter().any(|(check, seen)| check == slug && seen.contains(word)))
        .collect();
    ensure!(missing.is_empty(), "not found: {missing:?}; found were {found:#?}");
    ensure!(code == 2, "exit code {code}");
    Ok(())
}

pub fn good_settings(binary: &Path) -> Result<()> {
    let (folder, namespace) = (Folder::new("good")?, Namespace::new("good", &GOOD_NETWORK)?);
    let _node = node(&namespace)?;
    // In the namespace, since only its own table shows who listens.
    let script = format!(
        "import os, socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.bind('{0}')\nos.chmod('{0}', 0o666)\ns.listen()\nsys.stdin.read()",
        folder.file("open.sock")
    );
    let mut upstream = namespace.inside("/usr/bin/python3");
    let _upstream = Process::start(upstream.args(["-c", &script]).stdin(Stdio::piped()))?;
    wait::until("the socket is there", wait::SOON, || {
        folder.path().join("open.sock").exists().then_some(())
    })?;
    let nginx = Nginx::start(Some(&namespace), &folder, &good(&folder))?;
    let (_, report) = look(binary, &nginx)?;
    let found = findings(&report);
    let wrong: Vec<_> = found.iter().filter(|(check, _)| BAD.iter().any(|(slug, _)| slug == check)).collect();
    ensure!(wrong.is_empty(), "found with good settings: {wrong:#?}");
    let outcomes = report["checks"].as_array().cloned().unwrap_or_default();
    let blind: Vec<_> = outcomes.iter().filter(|check| check["outcome"] == "unseen").collect();
    ensure!(blind.iter().all(|check| check["check"] == "kernel_lockdown"), "blind as root: {blind:?}");
    Ok(())
}

pub fn without_root(binary: &Path) -> Result<()> {
    // Everybody may run this copy, whatever the permissions of the folder it was built in.
    let folder = Folder::new("plain")?;
    let copy = folder.path().join("rstscope");
    std::fs::copy(binary, &copy)?;
    let mut command = Command::new(&copy);
    let (code, text, complaint) =
        output(command.args(["doctor", "--format", "json"]).uid(65_534).gid(65_534))?;
    let report: Value = serde_json::from_str(&text).with_context(|| format!("no report: {complaint}"))?;
    let unseen = report["unseen"].to_string();
    ensure!(unseen.contains("run it as root") && unseen.contains("CAP_BPF"), "{unseen}");
    ensure!(findings(&report).iter().any(|(check, _)| check == "kernel_capabilities"), "{report}");
    ensure!(code == 1 || code == 2, "exit code {code}");
    let (code, _, complaint) =
        output(Command::new(&copy).args(["doctor", "--self-test"]).uid(65_534).gid(65_534))?;
    ensure!(code == 4 && complaint.contains("as root"), "exit code {code}: {complaint}");
    Ok(())
}

pub fn self_test(binary: &Path) -> Result<()> {
    let (code, text, complaint) =
        output(Command::new(binary).args(["doctor", "--self-test", "--format", "json"]))?;
    let result: Value = serde_json::from_str(&text).with_context(|| format!("no result: {complaint}"))?;
    let events = result["events"].as_array().cloned().unwrap_or_default();
    let missed: Vec<_> = events.iter().filter(|event| event["outcome"] != "seen").collect();
    ensure!(missed.is_empty() && events.len() >= 9, "missed: {missed:?}");
    // Hooks that this kernel does not take are no fault of the test.
    ensure!(code < 2, "exit code {code}: {text}");
    Ok(())
}
