//! How many sockets of a kind the Nginx host has.

use super::super::kernel;
use super::Stage;

impl Stage<'_> {
    /// How many connections wait in this scenario's listener.
    pub fn waiting(&self) -> u32 {
        let sockets = kernel::sockets(self.bench.nginx.master());
        let ours =
            |socket: &&kernel::Socket| socket.local == self.listener() && socket.state == kernel::LISTEN;
        sockets.iter().find(ours).map_or(0, |socket| socket.unread)
    }

    /// How many connections Nginx has with this scenario's upstream.
    pub fn upstreams(&self) -> usize {
        self.to_upstream().count()
    }

    /// How many clients Nginx has at this scenario's listener.
    pub fn clients(&self) -> usize {
        let listener = self.listener();
        let sockets = kernel::sockets(self.bench.nginx.master());
        sockets
            .iter()
            .filter(|socket| socket.local == listener && socket.state == kernel::ESTABLISHED)
            .count()
    }

    /// How many sockets of the Nginx host listen.
    pub fn listeners(&self) -> usize {
        let sockets = kernel::sockets(self.bench.nginx.master());
        sockets.iter().filter(|socket| socket.state == kernel::LISTEN).count()
    }
}
