//! The lab's end of a peer process: starts it in a namespace, sends commands, reads answers.
//!
//! A command may be started before the event it waits for is caused, and finished afterwards.

use super::cleanup::{self, Action, Guard};
use super::net::{Network, Node};
use super::wait;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A peer process; killed when dropped.
#[derive(Debug)]
pub struct Puppet {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
    guard: Option<Guard>,
    /// Where it lives, for messages.
    node: Node,
}

impl Puppet {
    /// Starts a peer inside a node.
    pub fn start(network: &Network, node: Node) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut child = network
            .inside(node, std::env::current_exe()?)
            .arg("peer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot start a peer")?;
        let guard = Some(cleanup::later(Action::Kill(child.id())));
        let (stdin, stdout) = child.stdin.take().zip(child.stdout.take()).context("a peer without pipes")?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { child, stdin, answers, guard, node })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts a command.
    pub fn start_command(&mut self, command: &str) -> Result<()> {
        writeln!(self.stdin, "{command}")
            .with_context(|| format!("{:?} peer is gone before `{command}`", self.node))
    }

    /// Waits for the answer of the oldest unanswered command; gives what follows `ok `.
    pub fn finish_command(&mut self, limit: Duration) -> Result<String> {
        let node = self.node;
        let answer =
            wait::until(&format!("an answer of the {node:?} peer"), limit, || self.answers.try_recv().ok())?;
        match answer.strip_prefix("ok") {
            Some(text) => Ok(text.trim().to_owned()),
            None => bail!("the {node:?} peer says `{answer}`"),
        }
    }

    /// One command and its answer.
    pub fn tell(&mut self, command: &str) -> Result<String> {
        self.start_command(command)?;
        self.finish_command(wait::SOON).with_context(|| format!("after `{command}`"))
    }

    /// The same, but the caller expects an error or does not care.
    pub fn try_tell(&mut self, command: &str) -> Result<()> {
        self.start_command(command)?;
        self.finish_any()
    }

    /// Waits for an answer that may well be an error.
    pub fn finish_any(&mut self) -> Result<()> {
        wait::until("an answer", wait::SOON, || self.answers.try_recv().ok()).map(drop)
    }

    /// Kills the process without warning, as `kill -9` does, and waits until it is gone.
    pub fn murder(mut self) -> Result<()> {
        // The guard kills; the process is reaped when `self` goes.
        self.guard = None;
        let _status = self.child.wait()?;
        Ok(())
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        // Still our child, so the number cannot have passed to somebody else.
        self.guard = None;
        drop(self.child.wait());
    }
}

/// Splits an answer of `listen`, `accept` or `connect` into number and address.
pub fn numbered(answer: &str) -> Result<(u32, String)> {
    let (id, address) =
        answer.split_once(' ').with_context(|| format!("answer `{answer}` without an address"))?;
    Ok((id.parse()?, address.to_owned()))
}
