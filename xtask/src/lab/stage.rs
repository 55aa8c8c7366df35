//! What a driver works with: one client, one upstream, the routers' filters and a view of the kernel.
//!
//! The stage remembers what really happened (addresses, processes, idle times) as the ground truth, and puts
//! everything back when the scenario is over.

mod count;
mod path;
mod program;

use super::bench::Bench;
use super::memory::Group;
use super::net::{Family, Node, table};
use super::nginx::{Frozen, Nginx};
use super::puppet::{Puppet, numbered};
use super::scenario::Place;
use super::seat::Seat;
use super::{kernel, wait};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Local ports of a fresh network namespace (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: (u16, u16) = (32_768, 60_999);

/// Segments handed to a device at once, unless told otherwise (`GSO_MAX_SEGS`).
const SEGMENTS: u32 = 65_535;

/// A tracer looks at the processes of the host once a second.
const SEEN: Duration = Duration::from_millis(2_500);

/// Facts that only the run of a scenario can tell.
#[derive(Debug, Default, Clone)]
pub struct Truth {
    /// The client's end of the client connection.
    pub client: Option<String>,
    /// Nginx's end of the upstream connection.
    pub upstream_local: Option<String>,
    /// How long the connection was idle at least and at most.
    pub idle: Option<(Duration, Duration)>,
    /// The process that acted: pid and comm.
    pub sender: Option<(u32, String)>,
}

/// One scenario being played.
pub struct Stage<'a> {
    bench: &'a Bench,
    seat: &'a Seat,
    /// The client.
    pub client: Puppet,
    server: Option<Puppet>,
    /// What really happened.
    pub truth: Truth,
    /// A kept connection that was opened before the tracer was there: client, listener, upstream.
    pub kept: Option<(u32, u32, u32)>,
    tables: Vec<Node>,
    ports_changed: bool,
    segmenting: bool,
}

impl<'a> Stage<'a> {
    /// Starts client and upstream.
    pub fn set(bench: &'a Bench, seat: &'a Seat) -> Result<Self> {
        let home = if seat.scenario.place == Place::Local { Node::Web } else { Node::Upstream };
        Ok(Self {
            bench,
            seat,
            client: Puppet::start(&bench.network, Node::Client)?,
            server: Some(Puppet::start(&bench.network, home)?),
            truth: Truth::default(),
            kept: None,
            tables: Vec::new(),
            ports_changed: false,
            segmenting: false,
        })
    }

    /// The upstream.
    pub fn server(&mut self) -> Result<&mut Puppet> {
        self.server.as_mut().context("the upstream has been killed")
    }

    /// Remembers the upstream as the one who acts.
    pub fn server_acts(&mut self) -> Result<()> {
        let pid = self.server()?.pid();
        // An answered command: the process is our program by now, not the one that started it.
        self.server()?.try_tell("ready")?;
        self.truth.sender = Some((pid, kernel::comm(pid)));
        Ok(())
    }

    /// Kills the upstream as `kill -9` does, and remembers it as the one who acted.
    pub fn kill_server(&mut self) -> Result<()> {
        self.server_acts()?;
        self.server.take().context("the upstream has been killed")?.murder()
    }

    /// Puts the upstream where a container runtime would have put it, and waits until a tracer can have seen it there.
    pub fn contain(&mut self, group: &str) -> Result<Vec<Group>> {
        let groups = Group::named(group, self.server()?.pid())?;
        Self::processes_are_seen()?;
        Ok(groups)
    }

    /// Waits until a tracer can have seen every process that is there.
    pub fn processes_are_seen() -> Result<()> {
        wait::pass(SEEN)
    }

    /// Lets the upstream use up its memory until the OOM killer takes it, and remembers it as the one who acted.
    pub fn starve_server(&mut self) -> Result<()> {
        self.server_acts()?;
        let mut server = self.server.take().context("the upstream has been killed")?;
        let _limit = Group::limited(server.pid())?;
        server.start_command("hog")?;
        wait::until("the OOM killer", wait::SOON, || {
            kernel::state(server.pid()).is_none_or(|state| state == 'Z').then_some(())
        })?;
        server.murder()
    }

    /// A device at this place of the path, which watches what passes from now on.
    pub fn device(&self, node: Node) -> Result<Puppet> {
        let mut device = Puppet::start(&self.bench.network, node)?;
        device.tell("watch")?;
        Ok(device)
    }

    /// Kills Nginx, master and workers, as `kill -9` does; nothing listens any more.
    pub fn kill_nginx(&self) -> Result<()> {
        self.bench.nginx.kill_all()
    }

    /// Gives a node's packet filter a script, which stays until the network goes.
    pub fn script(&self, node: Node, script: &str) -> Result<()> {
        self.bench.network.nft(node, script)
    }

    /// Sets a value below `/proc/sys/net` of a node, until the network goes.
    pub fn setting(&self, node: Node, name: &str, value: &str) -> Result<()> {
        self.bench.network.setting(node, name, value)
    }

    /// Address of the upstream.
    pub fn upstream(&self) -> SocketAddr {
        self.seat.upstream()
    }

    /// Where the client connects to.
    pub fn listener(&self) -> SocketAddr {
        self.seat.listener()
    }

    /// Address of the client.
    pub fn client_address(&self) -> IpAddr {
        self.seat.client()
    }

    /// Address family.
    pub fn family(&self) -> Family {
        self.seat.family
    }

    /// The upstream listens; gives the listener's number.
    pub fn listen(&mut self) -> Result<u32> {
        let address = self.upstream();
        Ok(numbered(&self.server()?.tell(&format!("listen {address} 64"))?)?.0)
    }

    /// The client connects; gives the connection's number.
    pub fn connect(&mut self) -> Result<u32> {
        self.connect_with("")
    }

    /// The client connects with a small receive buffer, so that a large response gets stuck.
    pub fn connect_narrow(&mut self) -> Result<u32> {
        self.connect_with(" 4096")
    }

    fn connect_with(&mut self, option: &str) -> Result<u32> {
        let command = format!("connect {} {}{option}", self.client_address(), self.listener());
        let (id, local) = numbered(&self.client.tell(&command)?)?;
        self.truth.client = Some(local);
        Ok(id)
    }

    /// The client sends a whole request without a body.
    pub fn request(&mut self, id: u32, line: &str) -> Result<()> {
        self.client.tell(&format!("send {id} {line} HTTP/1.1\\r\\nHost: lab\\r\\n\\r\\n")).map(drop)
    }

    /// A request behind which Nginx closes, and its answer.
    pub fn last_exchange(&mut self, id: u32) -> Result<()> {
        let head = "GET /small HTTP/1.1\\r\\nHost: lab\\r\\nConnection: close\\r\\n\\r\\n";
        self.client.tell(&format!("send {id} {head}"))?;
        self.response(id, "200")
    }

    /// The upstream takes Nginx's next connection; gives its number.
    pub fn accept(&mut self, listener: u32) -> Result<u32> {
        let (id, remote) = numbered(&self.server()?.tell(&format!("accept {listener}"))?)?;
        self.truth.upstream_local = Some(remote);
        Ok(id)
    }

    /// The upstream reads a request's head.
    pub fn read_request(&mut self, id: u32) -> Result<()> {
        self.server()?.tell(&format!("head {id}")).map(drop)
    }

    /// The upstream answers completely and keeps the connection.
    pub fn answer(&mut self, id: u32) -> Result<()> {
        self.server()?
            .tell(&format!("send {id} HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello"))
            .map(drop)
    }

    /// The client reads a whole response, which must have this status.
    pub fn response(&mut self, id: u32, status: &str) -> Result<()> {
        let line = self.client.tell(&format!("response {id}"))?;
        if line.split(' ').nth(1) == Some(status) {
            return Ok(());
        }
        bail!("the client got `{line}` instead of {status}")
    }

    /// A request and its answer on a new upstream connection, whose number it gives.
    pub fn exchange(&mut self, id: u32, listener: u32) -> Result<u32> {
        self.request(id, "GET /healthy")?;
        let connection = self.accept(listener)?;
        self.read_request(connection)?;
        self.answer(connection)?;
        self.response(id, "200")?;
        Ok(connection)
    }

    /// Lets the connection be idle and remembers for how long.
    pub fn idle(&mut self, time: Duration) -> Result<Instant> {
        let start = Instant::now();
        wait::pass(time)?;
        self.truth.idle = Some((time, start.elapsed()));
        Ok(start)
    }

    /// The idle time ends now.
    pub fn idle_ended(&mut self, start: Instant) {
        if let Some((_, most)) = &mut self.truth.idle {
            *most = start.elapsed();
        }
    }

    /// An administrator destroys Nginx's end of the client connection.
    pub fn destroy_client_socket(&self) -> Result<()> {
        self.destroy(&self.truth.client.clone().context("no client connection yet")?)
    }

    /// Puts one rule into a router's forward chain.
    pub fn filter(&mut self, node: Node, rule: &str) -> Result<()> {
        self.tables.push(node);
        self.bench.network.nft(node, &table(self.family(), &self.table(), "forward", rule))
    }

    /// Puts one rule into a host's output chain.
    pub fn filter_output(&mut self, node: Node, rule: &str) -> Result<()> {
        self.tables.push(node);
        self.bench.network.nft(node, &table(self.family(), &self.table(), "output", rule))
    }

    /// Puts one rule into a host's input chain.
    pub fn filter_input(&mut self, node: Node, rule: &str) -> Result<()> {
        self.tables.push(node);
        self.bench.network.nft(node, &table(self.family(), &self.table(), "input", rule))
    }

    /// Leaves the Nginx host this single port for its own connections, until the scenario is over.
    pub fn single_local_port(&mut self, port: u16) -> Result<()> {
        self.ports_changed = true;
        self.bench.network.local_ports(Node::Web, port, port)
    }

    /// The Nginx host cuts its data into packets itself, as a network card would before the wire.
    pub fn segment_before_the_wire(&mut self) -> Result<()> {
        self.segmenting = true;
        self.bench.network.segments_at_once(Node::Web, 1)
    }

    /// Takes the routers' rules away again.
    pub fn clear_filters(&mut self) {
        let script = format!("delete table {} {}\n", self.family().nft(), self.table());
        for node in std::mem::take(&mut self.tables) {
            drop(self.bench.network.nft(node, &script));
        }
    }

    fn table(&self) -> String {
        format!("lab{}", self.seat.number)
    }

    /// The part of a rule that says: from Nginx to this scenario's upstream.
    pub fn towards_upstream(&self) -> String {
        format!("{} daddr {}", self.family().nft(), self.upstream().ip())
    }

    /// The part of a rule that says: from this scenario's upstream to Nginx.
    pub fn leaving_upstream(&self) -> String {
        format!("{} saddr {}", self.family().nft(), self.upstream().ip())
    }

    /// The part of a rule that says: from this scenario's client to Nginx.
    pub fn leaving_client(&self) -> String {
        format!("{} saddr {}", self.family().nft(), self.client_address())
    }

    /// The part of a rule that says: from Nginx to this scenario's client.
    pub fn towards_client(&self) -> String {
        format!("{} daddr {}", self.family().nft(), self.client_address())
    }

    /// Port of Nginx's end of the upstream connection.
    pub fn upstream_local_port(&self) -> Result<u16> {
        let local = self.truth.upstream_local.as_deref().context("no upstream connection yet")?;
        Ok(local.parse::<SocketAddr>()?.port())
    }

    /// The Nginx that is observed.
    pub fn nginx(&self) -> &Nginx {
        &self.bench.nginx
    }

    /// Stops Nginx's worker until the guard goes.
    pub fn freeze(&self) -> Result<Frozen> {
        self.bench.nginx.freeze()
    }

    /// Reloads Nginx without this scenario's port, and asks its worker, which may be stopped, to end in order.
    pub fn give_up_port(&self) -> Result<()> {
        self.bench.nginx.give_up(self.listener())
    }

    /// The folder of Nginx, with everything it serves in `static`.
    pub fn folder(&self) -> &std::path::Path {
        self.bench.nginx.folder()
    }

    /// A TCP counter of the Nginx host.
    pub fn counter(&self, name: &str) -> u64 {
        kernel::counter(self.bench.nginx.master(), name)
    }

    /// Waits for the socket of the Nginx host with this local and remote address to be as wished; `None` means gone.
    pub fn wait_socket(
        &self,
        what: &str,
        limit: Duration,
        (local, remote): (&str, &str),
        wished: impl Fn(Option<&kernel::Socket>) -> bool,
    ) -> Result<()> {
        let (local, remote): (SocketAddr, SocketAddr) = (local.parse()?, remote.parse()?);
        let master = self.bench.nginx.master();
        wait::until(what, limit, || {
            let sockets = kernel::sockets(master);
            let ours = sockets.iter().find(|socket| socket.local == local && socket.remote == remote);
            wished(ours).then_some(())
        })
    }

    /// Waits for Nginx's end of the upstream connection.
    pub fn wait_upstream(&self, what: &str, wished: impl Fn(Option<&kernel::Socket>) -> bool) -> Result<()> {
        let local = self.truth.upstream_local.clone().context("no upstream connection yet")?;
        self.wait_socket(what, wait::SOON, (&local, &self.upstream().to_string()), wished)
    }

    /// How much waits unread at the upstream's end of its connection.
    pub fn server_unread(&mut self) -> Result<u32> {
        let pid = self.server()?.pid();
        let local: SocketAddr = self.truth.upstream_local.as_deref().context("no connection yet")?.parse()?;
        let sockets = kernel::sockets(pid).into_iter();
        Ok(sockets.filter(|socket| socket.remote == local).map(|socket| socket.unread).sum())
    }

    /// More than this waits unread at Nginx's end of the upstream connection.
    pub fn has_unread(&self, bytes: u32) -> bool {
        self.to_upstream().any(|socket| socket.unread > bytes)
    }

    /// Waits for Nginx's end of the client connection.
    pub fn wait_client(&self, what: &str, wished: impl Fn(Option<&kernel::Socket>) -> bool) -> Result<()> {
        let remote = self.truth.client.clone().context("no client connection yet")?;
        self.wait_socket(what, wait::SOON, (&self.listener().to_string(), &remote), wished)
    }

    /// Another process of the Nginx host destroys Nginx's connections to this scenario's upstream.
    pub fn destroy_upstream_connections(&self) -> Result<()> {
        self.destroy(&self.upstream().to_string())
    }

    /// Destroys the connections of the Nginx host to this address and port.
    fn destroy(&self, remote: &str) -> Result<()> {
        let mut command = self.bench.network.inside(Node::Web, shell::need("ss")?);
        shell::read(command.args(["-K", "dst", remote])).map(drop)
    }

    /// Waits as long as this for Nginx's end of the client connection.
    pub fn wait_client_for(
        &self,
        limit: Duration,
        wished: impl Fn(Option<&kernel::Socket>) -> bool,
    ) -> Result<()> {
        let remote = self.truth.client.clone().context("no client connection yet")?;
        let ends = (self.listener().to_string(), remote);
        self.wait_socket("Nginx's end of the client connection", limit, (&ends.0, &ends.1), wished)
    }

    /// The client goes, and Nginx's end with it.
    pub fn leave(&mut self, id: u32) -> Result<()> {
        self.client.tell(&format!("close {id}"))?;
        self.wait_client("Nginx closes, too", |socket| {
            socket.is_none_or(|socket| socket.state != kernel::ESTABLISHED)
        })
    }

    /// Waits until Nginx tries to connect to the upstream.
    pub fn wait_connecting(&self) -> Result<()> {
        let (master, upstream) = (self.bench.nginx.master(), self.upstream());
        wait::until("Nginx connects", wait::SOON, || {
            let sockets = kernel::sockets(master);
            let ours =
                |socket: &kernel::Socket| socket.remote == upstream && socket.state == kernel::SYN_SENT;
            sockets.iter().any(ours).then_some(())
        })
    }

    /// Waits until Nginx has taken every connection of this scenario's listener.
    pub fn wait_accepted(&self) -> Result<()> {
        wait::until("Nginx accepts", wait::SOON, || (self.waiting() == 0).then_some(()))
    }

    /// Somebody else on the Nginx host.
    pub fn beside(&self) -> Result<Puppet> {
        Puppet::start(&self.bench.network, Node::Web)
    }

    /// Remembers this process as the one who acts.
    pub fn acts(&mut self, pid: u32) {
        self.truth.sender = Some((pid, kernel::comm(pid)));
    }

    /// Nginx's ends of open connections to this scenario's upstream.
    fn to_upstream(&self) -> impl Iterator<Item = kernel::Socket> + use<> {
        let upstream = self.upstream();
        let sockets = kernel::sockets(self.bench.nginx.master()).into_iter();
        sockets.filter(move |socket| socket.remote == upstream && socket.state == kernel::ESTABLISHED)
    }

    /// Remembers Nginx's end of its only connection to a real server.
    pub fn find_upstream_local(&mut self) -> Result<()> {
        let local = wait::until("the upstream connection", wait::SOON, || self.to_upstream().next())?.local;
        self.truth.upstream_local = Some(local.to_string());
        Ok(())
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.clear_filters();
        if self.segmenting {
            drop(self.bench.network.segments_at_once(Node::Web, SEGMENTS));
        }
        if self.ports_changed {
            let (first, last) = EPHEMERAL;
            drop(self.bench.network.local_ports(Node::Web, first, last));
        }
    }
}
