//! What a driver does to the hosts' links and routes, beside the filters of the routers.

use super::super::cleanup::Guard;
use super::super::net::{Family, Node, table};
use super::Stage;
use anyhow::Result;

impl Stage<'_> {
    /// The gateway between the Nginx host and its upstreams gets another Ethernet address, as in a failover.
    pub fn fail_over(&self) -> Result<()> {
        self.bench.network.fail_over(Node::Near, Node::Web)
    }

    /// A host on Nginx's own link takes the upstream's address over; nothing listens there.
    pub fn take_over(&self) -> Result<()> {
        self.bench.network.take_address(Node::Near, self.upstream().ip())?;
        self.fail_over()
    }

    /// A bridge on the link between Nginx and its gateway applies this rule to what it carries.
    pub fn bridge(&self, rule: &str) -> Result<Guard> {
        self.bench.network.bridge_before(Node::Near, &table(Family::V4, "bridging", "forward", rule))
    }

    /// The Nginx host sends what is for this scenario's upstream to a neighbour that does not exist.
    pub fn lead_astray(&self) -> Result<()> {
        self.bench.network.lead_astray(Node::Web, self.upstream().ip(), self.family())
    }

    /// A rule that stays until the network goes, so that what is silent now cannot speak later.
    pub fn silence(&self, node: Node, rule: &str) -> Result<()> {
        let name = format!("silence{}", self.seat.number);
        self.bench.network.nft(node, &table(self.family(), &name, "forward", rule))
    }

    /// Nothing of this scenario's upstream comes past the router beside it any more.
    pub fn mute_upstream(&self) -> Result<()> {
        self.silence(Node::Far, &format!("{} drop", self.leaving_upstream()))
    }

    /// The upstream's host acknowledges whatever comes for this scenario at once.
    pub fn acknowledge_at_once(&self) -> Result<()> {
        self.bench.network.acknowledge_at_once(Node::Upstream, self.upstream().ip(), self.family())
    }
}
