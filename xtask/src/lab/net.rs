//! The network of a bench: client, two routers, Nginx host, two routers, upstream host, in namespaces.
//!
//! ```text
//! client ─ outer ─ inner ─ web ─ near ─ far ─ upstream
//! ```
//!
//! Link `n` between neighbours carries `10.77.n.0/24` and `fd00:77:n::/64`. The hosts at both ends have one
//! address per scenario, so that an incident names its scenario by address. Nothing is connected to the
//! machine's own network.

use super::cleanup::{self, Action, Guard, PREFIX};
use super::wire::Wire;
use crate::shell;
use anyhow::{Context, Result};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Hosts of a bench, in the order of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// Where clients live.
    Client,
    /// Router beside the client.
    Outer,
    /// Router beside Nginx, on the client's side.
    Inner,
    /// The Nginx host.
    Web,
    /// Router beside Nginx, on the upstream's side.
    Near,
    /// Router beside the upstream.
    Far,
    /// Where remote upstreams live.
    Upstream,
}

const PATH: [(Node, &str); 7] = [
    (Node::Client, "client"),
    (Node::Outer, "outer"),
    (Node::Inner, "inner"),
    (Node::Web, "web"),
    (Node::Near, "near"),
    (Node::Far, "far"),
    (Node::Upstream, "upstream"),
];

/// Addresses per end host and family; also the limit of scenarios on one bench.
pub const SEATS: u8 = 120;

/// Seat numbers start here; lower host numbers belong to the links.
const FIRST_SEAT: u8 = 10;
/// The routing table of those who acknowledge at once.
const AT_ONCE: u32 = 77;
/// A number that no host of a link has.
const NOBODY: u8 = 250;

/// Address family of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Short name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }

    /// The name nftables gives the family.
    pub fn nft(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    fn address(self, link: u8, host: u8) -> IpAddr {
        match self {
            Self::V4 => IpAddr::from([10, 77, link, host]),
            Self::V6 => IpAddr::from([0xfd00, 0x77, u16::from(link), 0, 0, 0, 0, u16::from(host)]),
        }
    }

    /// The loopback address.
    pub fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::from([127, 0, 0, 1]),
            Self::V6 => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        }
    }

    /// Where clients reach Nginx.
    pub fn web(self) -> IpAddr {
        self.address(2, 2)
    }

    /// The client of a seat.
    pub fn client(self, seat: u8) -> IpAddr {
        self.address(0, FIRST_SEAT + seat)
    }

    /// The remote upstream of a seat.
    pub fn upstream(self, seat: u8) -> IpAddr {
        self.address(5, FIRST_SEAT + seat)
    }
}

/// The namespaces of one bench; they go when it is dropped.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    // Before their namespaces: a device that is gone cannot be waited for.
    wires: Vec<Wire>,
    guards: Vec<Guard>,
}

impl Network {
    /// Lays the network of bench number `bench`; with a delay, each packet takes this long over the first link and over
    /// the last one.
    pub fn lay(bench: usize, delay: Option<Duration>) -> Result<Self> {
        let prefix = format!("{PREFIX}{}-{bench}", std::process::id());
        let mut network = Self { prefix, wires: Vec::new(), guards: Vec::new() };
        for (node, _) in PATH {
            network.guards.push(cleanup::later(Action::Namespace(network.name(node))));
        }
        let links = network.links(delay)?;
        batch(&["-batch", "-"], &links)?;
        for (place, (node, _)) in (0_u8..).zip(PATH) {
            let forward = !matches!(node, Node::Client | Node::Web | Node::Upstream);
            network.sysctl(node, forward)?;
            batch(&["-n", &network.name(node), "-batch", "-"], &addresses(place))?;
        }
        Ok(network)
    }

    /// Name of a node's namespace.
    pub fn name(&self, node: Node) -> String {
        let role = PATH.iter().find(|(other, _)| *other == node).map_or("", |(_, name)| *name);
        format!("{}-{role}", self.prefix)
    }

    /// A command that runs inside a node.
    pub fn inside(&self, node: Node, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(node)]).arg(program);
        command
    }

    /// Gives a node's packet filter a script.
    pub fn nft(&self, node: Node, script: &str) -> Result<()> {
        feed(self.inside(node, shell::need("nft")?).args(["-f", "-"]), script)
    }

    /// Sets the range of ports a node's own connections start from, both families.
    pub fn local_ports(&self, node: Node, first: u16, last: u16) -> Result<()> {
        self.setting(node, "ipv4/ip_local_port_range", &format!("{first} {last}"))
    }

    /// Sets a value below `/proc/sys/net` of a node.
    pub fn setting(&self, node: Node, name: &str, value: &str) -> Result<()> {
        let script = format!("echo {value} > /proc/sys/net/{name}");
        shell::read(self.inside(node, "sh").args(["-c", &script])).map(drop)
    }

    /// Sets how many segments a node hands to its devices at once.
    pub fn segments_at_once(&self, node: Node, most: u32) -> Result<()> {
        let name = self.name(node);
        let script = ["left", "right"].map(|device| format!("link set {device} gso_max_segs {most}"));
        batch(&["-n", &name, "-batch", "-"], &script)
    }

    /// Another gateway takes over towards the node on its left: same addresses, another Ethernet address.
    pub fn fail_over(&self, gateway: Node, behind: Node) -> Result<()> {
        let change = ["link set left address 02:00:00:00:77:01".to_owned()];
        batch(&["-n", &self.name(gateway), "-batch", "-"], &change)?;
        batch(&["-n", &self.name(behind), "-batch", "-"], &["neigh flush dev right".to_owned()])
    }

    /// A node has this address, too, from now on; what is for it goes no further.
    pub fn take_address(&self, node: Node, address: IpAddr) -> Result<()> {
        batch(&["-n", &self.name(node), "-batch", "-"], &[format!("address add {address} dev lo")])
    }

    /// Puts a bridge on the link at a router's left, with a filter for the IPv4 packets that it carries. Addresses and
    /// Ethernet addresses stay as they are; the bridge stays until the guard goes, the link is cut then.
    pub fn bridge_before(&self, router: Node, script: &str) -> Result<Guard> {
        let (bridge, name) = (format!("{}-bridge", self.prefix), self.name(router));
        let place = place(router);
        let show = shell::read(self.inside(router, "cat").arg("/sys/class/net/left/address"))?;
        let guard = cleanup::later(Action::Namespace(bridge.clone()));
        batch(&["-batch", "-"], &[format!("netns add {bridge}")])?;
        let mut moved = vec![
            format!("link set left netns {bridge} name outside"),
            format!("link add left address {} type veth peer name inside netns {bridge}", show.trim()),
        ];
        let mut ports = vec!["link add bridge type bridge".to_owned(), "link set bridge up".to_owned()];
        for (port, address) in [("outside", "02:00:00:00:78:01"), ("inside", "02:00:00:00:78:02")] {
            ports.push(format!("link set {port} address {address}"));
            ports.push(format!("link set {port} master bridge"));
            ports.push(format!("link set {port} up"));
        }
        for family in [Family::V4, Family::V6] {
            interface(&mut moved, family, "left", place - 1, 2, false);
            (0..place - 1).for_each(|link| route(&mut moved, family, place, link));
        }
        // Without a way to its addresses the kernel makes no RST for a packet.
        ports.push("route add default dev bridge".to_owned());
        batch(&["-n", &name, "-batch", "-"], &moved)?;
        batch(&["-n", &bridge, "-batch", "-"], &ports)?;
        let inside = |program: &str| {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &bridge, program]);
            command
        };
        shell::read(inside("sh").args(["-c", "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables"]))?;
        feed(inside("nft").args(["-f", "-"]), script)?;
        Ok(guard)
    }

    /// Gives an address beyond a node a next hop on its right that nobody has.
    pub fn lead_astray(&self, node: Node, to: IpAddr, family: Family) -> Result<()> {
        let place = place(node);
        let nobody = family.address(place, NOBODY);
        let script = [format!("route add {to} via {nobody}")];
        batch(&["-n", &self.name(node), "-batch", "-"], &script)
    }

    /// A node at the end of the path acknowledges at once what is sent to this address of its own: no delayed ACKs.
    pub fn acknowledge_at_once(&self, node: Node, own: IpAddr, family: Family) -> Result<()> {
        let place = place(node);
        let gateway = family.address(place - 1, 1);
        let script = [
            format!("rule add from {own} lookup {AT_ONCE}"),
            format!("route replace default via {gateway} quickack 1 table {AT_ONCE}"),
        ];
        let flag = if family == Family::V4 { "-4" } else { "-6" };
        batch(&[flag, "-n", &self.name(node), "-batch", "-"], &script)
    }

    fn links(&mut self, delay: Option<Duration>) -> Result<Vec<String>> {
        let mut script = Vec::new();
        for (node, _) in PATH {
            script.push(format!("netns add {}", self.name(node)));
        }
        for ((left_node, _), (right_node, _)) in PATH.iter().zip(&PATH[1..]) {
            let (left, right) = (self.name(*left_node), self.name(*right_node));
            let outermost = *left_node == Node::Client || *right_node == Node::Upstream;
            let Some(delay) = delay.filter(|_| outermost) else {
                script.push(format!("link add right netns {left} type veth peer name left netns {right}"));
                continue;
            };
            let wire = Wire::lay(delay)?;
            script.push(format!("link set {} netns {left} name right", wire.ends[0]));
            script.push(format!("link set {} netns {right} name left", wire.ends[1]));
            self.wires.push(wire);
        }
        Ok(script)
    }

    /// Routers forward. Nobody waits for duplicate address detection, that of link-local addresses included, from which
    /// neighbours are asked for: a SYN would be lost in that second, and its repetition be the round trip.
    fn sysctl(&self, node: Node, forward: bool) -> Result<()> {
        const ROUTER: &str =
            "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; ";
        const HOST: &str = "for file in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 > $file; done";
        let script = if forward { format!("{ROUTER}{HOST}") } else { HOST.to_owned() };
        shell::read(self.inside(node, "sh").args(["-c", &script])).map(drop)
    }
}

/// How many nodes stand to a node's left.
fn place(node: Node) -> u8 {
    (0_u8..).zip(PATH).find(|(_, (other, _))| *other == node).map_or(0, |(place, _)| place)
}

/// Interfaces, addresses and routes of the node at this place of the path.
fn addresses(place: u8) -> Vec<String> {
    let last = PATH.len() as u8 - 1;
    let mut script = vec!["link set lo up".to_owned()];
    for family in [Family::V4, Family::V6] {
        if place > 0 {
            interface(&mut script, family, "left", place - 1, 2, place == last);
        }
        if place < last {
            interface(&mut script, family, "right", place, 1, place == 0);
        }
    }
    for family in [Family::V4, Family::V6] {
        for link in 0..last {
            route(&mut script, family, place, link);
        }
    }
    script
}

fn interface(script: &mut Vec<String>, family: Family, device: &str, link: u8, host: u8, end: bool) {
    let (length, options) = if family == Family::V4 { (24, "") } else { (64, " nodad") };
    script.push(format!("link set {device} up"));
    let seats = if end { FIRST_SEAT..FIRST_SEAT + SEATS } else { 0..0 };
    for number in std::iter::once(host).chain(seats) {
        let address = family.address(link, number);
        script.push(format!("address add {address}/{length} dev {device}{options}"));
    }
}

fn route(script: &mut Vec<String>, family: Family, place: u8, link: u8) {
    let gateway = match (link + 1 < place, link > place) {
        (true, _) => family.address(place - 1, 1),
        (_, true) => family.address(place, 2),
        _ => return,
    };
    let (network, length) = (family.address(link, 0), if family == Family::V4 { 24 } else { 64 });
    script.push(format!("route add {network}/{length} via {gateway}"));
}

fn batch(arguments: &[&str], script: &[String]) -> Result<()> {
    feed(Command::new(shell::need("ip")?).args(arguments), &(script.join("\n") + "\n"))
}

/// A table with one rule in its chain at this hook.
pub fn table(family: Family, name: &str, hook: &str, rule: &str) -> String {
    format!(
        "table {} {name} {{\n chain lab {{\n  type filter hook {hook} priority 0; policy accept;\n  {rule}\n }}\n}}\n",
        family.nft()
    )
}

/// Runs a command with a text on its stdin.
fn feed(command: &mut Command, text: &str) -> Result<()> {
    use std::io::Write;
    let shown = shell::show(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).with_context(|| format!("`{shown}` does not read"))?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        anyhow::bail!("`{shown}`: {}\n{text}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_way_to_every_link() {
        for place in 0..PATH.len() as u8 {
            let script = addresses(place).concat();
            for link in 0..PATH.len() as u8 - 1 {
                assert!(script.contains(&format!("10.77.{link}.")), "node {place} misses link {link}");
            }
        }
    }

    #[test]
    fn the_end_hosts_have_a_seat_for_every_scenario() {
        let seats = |place| addresses(place).concat().matches("address add fd00:").count();
        assert_eq!(seats(0), 1 + usize::from(SEATS));
        assert_eq!(seats(6), 1 + usize::from(SEATS));
        assert_eq!(seats(3), 2);
    }
}
