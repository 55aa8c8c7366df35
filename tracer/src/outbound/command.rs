//! Notices on the standard input of a command. The threads of the daemon may start no program, so a helper does: this
//! very program, started before anything is given up, with no capability, no secret and no file but two pipes.
//!
//! [`Helper`] is the daemon's end of the pipes, [`serve`] what runs at the other. One line of JSON goes in, one line
//! comes out: nothing for success, or what went wrong. The command gets the notice on standard input only, never as
//! an argument or in the environment.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::outlet::{Deliver, Failure};
use crate::output::sanitize;

/// Longest answer of the helper, bytes.
const MAX_ANSWER: u64 = 1024;
/// Longest notice that the helper takes, bytes.
const MAX_NOTICE: u64 = 1 << 20;
/// Where the command, and what it starts, finds programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The daemon's end.
#[derive(Debug)]
pub struct Helper {
    /// Ended by the end of its input, and waited for when this is dropped.
    child: Child,
    notices: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts it. Must happen before this process gives anything up.
    pub fn start(run: &[OsString], limit: Duration) -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("run-command").arg(limit.as_secs().to_string()).arg("--").args(run);
        let command = command.env_clear().env("PATH", PATH).current_dir("/");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        let notices = Some(child.stdin.take().ok_or_else(pipe)?);
        let answers = BufReader::new(child.stdout.take().ok_or_else(pipe)?);
        Ok(Self { child, notices, answers })
    }

    /// What delivers by it.
    pub fn deliver(mut self) -> Deliver {
        Box::new(move |line| {
            let gone = |error: io::Error| Failure {
                why: format!("the helper that starts the command has ended: {error}"),
                is_temporary: false,
            };
            let said = self.ask(line).map_err(gone)?;
            if said.is_empty() { Ok(()) } else { Err(Failure { why: said, is_temporary: false }) }
        })
    }

    fn ask(&mut self, line: &[u8]) -> io::Result<String> {
        let notices = self.notices.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        notices.write_all(line)?;
        let mut said = String::new();
        let length = self.answers.by_ref().take(MAX_ANSWER).read_line(&mut said)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(said.trim_end().to_owned())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.notices = None;
        // It ends with its input, at the latest when a command has used up its time.
        let _ended = self.child.wait();
    }
}

/// What the helper does: one command per line of `notices`, one answer each, until the input ends.
pub fn serve(
    notices: impl io::Read,
    mut answers: impl Write,
    run: &[OsString],
    limit: Duration,
) -> io::Result<()> {
    let mut notices = BufReader::new(notices);
    let mut line = Vec::new();
    loop {
        line.clear();
        if notices.by_ref().take(MAX_NOTICE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let said = match once(&line, run, limit) {
            Ok(()) => String::new(),
            Err(why) => sanitize::line(&why, 200).into_owned(),
        };
        answers.write_all(format!("{said}\n").as_bytes())?;
        answers.flush()?;
    }
}

/// Starts the command and waits for its end, or ends it.
fn once(line: &[u8], run: &[OsString], limit: Duration) -> Result<(), String> {
    let failed = |what: &str| {
        let what =
            format!("cannot {what} {}", run.first().map(OsString::as_os_str).unwrap_or_default().display());
        move |error: io::Error| format!("{what}: {error}")
    };
    let mut child = start(line, run).map_err(failed("start"))?;
    let pid = Pid::from_child(&child);
    let in_time = ends_within(pid, limit).map_err(failed("wait for"))?;
    // With it goes what it left behind in its group, also after it has ended by itself.
    let _gone = kill_process_group(pid, Signal::KILL);
    let status = child.wait().map_err(failed("wait for"))?;
    if !in_time {
        return Err(format!("the command was killed: it took more than {} s", limit.as_secs()));
    }
    judge(status)
}

/// The notice lies in memory as a file, so that a command which reads nothing holds nobody up.
fn start(line: &[u8], run: &[OsString]) -> io::Result<Child> {
    use std::os::unix::process::CommandExt as _;
    let [program, arguments @ ..] = run else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut notice = File::from(memfd_create("notice", MemfdFlags::CLOEXEC)?);
    notice.write_all(line)?;
    notice.rewind()?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).current_dir("/");
    command.stdin(notice).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()
}

fn ends_within(pid: Pid, limit: Duration) -> io::Result<bool> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit))? > 0)
}

fn judge(status: ExitStatus) -> Result<(), String> {
    if status.success() { Ok(()) } else { Err(format!("the command ended with {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(script: &str, notices: &str, limit: u64) -> Vec<String> {
        let run: Vec<OsString> = ["/bin/sh", "-c", script].into_iter().map(OsString::from).collect();
        let mut answers = Vec::new();
        serve(notices.as_bytes(), &mut answers, &run, Duration::from_secs(limit)).unwrap();
        String::from_utf8(answers).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_line_reaches_the_command_as_it_is_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out").display().to_string();
        let hostile = "{\"text\":\"$(touch /tmp/x); `id` %s ' \\u001b\"}";
        let script = format!("cat >> {out}; printf '%s|' \"$#\" >> {out}; env >> {out}");
        assert_eq!(served(&script, &format!("{hostile}\n"), 10), [""]);
        let written = std::fs::read_to_string(out).unwrap();
        assert!(written.starts_with(&format!("{hostile}\n0|")), "{written}");
        let names: Vec<&str> = written.lines().skip(1).filter_map(|line| line.split('=').next()).collect();
        let known = ["0|PATH", "PATH", "PWD", "0|PWD", "_", "0|_", "SHLVL", "0|SHLVL", "OLDPWD", "0|OLDPWD"];
        assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
    }

    #[test]
    fn what_fails_is_said_and_the_next_is_tried() {
        let said = served("read line; test \"$line\" = good", "bad\ngood\n", 10);
        assert!(said[0].contains("exit status: 1") && said[1].is_empty() && said.len() == 2, "{said:?}");
        let run = [OsString::from("/nonexistent/\x1b[31mhook")];
        let mut answers = Vec::new();
        serve(&b"{}\n"[..], &mut answers, &run, Duration::from_secs(1)).unwrap();
        let said = String::from_utf8(answers).unwrap();
        assert!(said.contains("cannot start") && !said.contains('\x1b'), "{said}");
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("pid").display().to_string();
        let said = served(&format!("sleep 1000 & echo $! > {out}; sleep 1000"), "{}\n", 1);
        assert!(said[0].contains("killed"), "{said:?}");
        let pid = std::fs::read_to_string(out).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while !(state().is_empty() || state().contains(") Z ")) {
            assert!(std::time::Instant::now() < end, "still there: {}", state());
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_command_that_reads_nothing_holds_nobody_up() {
        let large = format!("{}\n", "x".repeat(900_000));
        assert_eq!(served("exit 0", &large, 10), [""]);
    }
}
