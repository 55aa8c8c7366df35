//! Real servers of a scenario, over TCP or a unix socket.

use super::Stage;
use crate::lab::kernel;
use crate::lab::net::Node;
use crate::lab::program::{Home, Program};
use crate::lab::scenario::Place;
use anyhow::Result;
use std::path::PathBuf;

impl Stage<'_> {
    /// Starts a real server on the upstream's host and waits until it listens; remembered as the one who acts.
    pub fn program(&mut self, program: &str, arguments: &[&str]) -> Result<Program> {
        self.program_at(program, arguments, &Home { address: self.upstream(), socket: None })
    }

    /// The same for one that listens on this scenario's unix socket.
    pub fn program_on_socket(&mut self, program: &str, arguments: &[&str]) -> Result<Program> {
        let socket = Some(self.socket_path());
        self.program_at(program, arguments, &Home { address: self.upstream(), socket })
    }

    /// Where the upstream's unix socket lies: `unix:@ROOT@/@NAME@.sock`.
    pub fn socket_path(&self) -> PathBuf {
        self.folder().join(format!("static/seat{}.sock", self.seat.number))
    }

    fn program_at(&mut self, program: &str, arguments: &[&str], home: &Home) -> Result<Program> {
        let node = if self.seat.scenario.place == Place::Local { Node::Web } else { Node::Upstream };
        let program = Program::start(&self.bench.network, node, program, arguments, home)?;
        self.truth.sender = Some((program.pid(), kernel::comm(program.pid())));
        Ok(program)
    }
}
