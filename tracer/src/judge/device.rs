//! What is known of a device that answered in a peer's name: how far away it is, whose kind its RST is, and which
//! timer the silence fits. Hints for those who look for it on the network; they never decide a verdict.

use crate::model::{Packet, TcpFlags};
use crate::output::layout::count;

use super::case::Case;
use super::detect::routers;

/// Idle timers that devices are delivered with: seconds, and whose they are (the vendors' documentation).
const TIMERS: [(u64, &str); 9] = [
    (180, "Citrix ADC"),
    (240, "Azure Load Balancer"),
    (300, "F5 BIG-IP"),
    (350, "AWS Network Load Balancer, NAT gateway or Nitro connection tracking"),
    (600, "Google Cloud VPC firewall"),
    (900, "IPVS or kube-proxy"),
    (1_200, "Google Cloud NAT"),
    (1_800, "Juniper SRX"),
    (3_600, "FortiGate, Cisco ASA or Palo Alto"),
];

/// A silence may be this much longer than the timer that ran out in it.
const SLACK_MS: u64 = 5_000;

/// Everything that is known, as sentences; empty where no packet was seen.
pub fn hints(case: &Case) -> String {
    let packet = case.reset_packet();
    let own = case.socket().and_then(|socket| socket.baseline).map(|baseline| routers(baseline.ttl));
    let place = packet.map(|packet| place(packet, own));
    let kind = packet.filter(|_| !case.connecting()).and_then(kind).map(str::to_owned);
    let timer = case.idle_before_ms().and_then(timer);
    [place, kind, timer].into_iter().flatten().fold(String::new(), |text, hint| text + ". " + &hint)
}

/// Distance of the sender, which rests on where its TTL started.
fn place(packet: &Packet, own: Option<u8>) -> String {
    let (ttl, number) = (packet.ttl, routers(packet.ttl));
    let initial = ttl.saturating_add(number);
    let away = match number {
        0 => "on this network, over no router".to_owned(),
        number => format!("{} away", count(u64::from(number), "router")),
    };
    let farther = own.filter(|own| number > *own).map(|own| {
        let own = count(u64::from(own), "router");
        format!(" (farther than the end itself, {own} away: it started at another TTL, or took another way)")
    });
    format!(
        "Its RST came with TTL {ttl}: if that started at {initial}, it is {away}{}",
        farther.unwrap_or_default()
    )
}

/// Whose packets look like this one.
fn kind(packet: &Packet) -> Option<&'static str> {
    /// `RST` with this window is what a Citrix ADC sends for an idle connection in a public capture.
    const ADC: std::ops::RangeInclusive<u16> = 9_000..=9_999;
    let both = packet.flags.has(TcpFlags::RST | TcpFlags::ACK);
    match () {
        () if packet.payload_len > 0 => Some("Its RST carries text, as F5 BIG-IP writes the cause there"),
        () if both && ADC.contains(&packet.window) && packet.ttl > 128 => {
            Some("A window of nine thousand and some is how Citrix ADC tells its reason")
        }
        () if packet.is_stateless_reset() && packet.ip_id == Some(0) => {
            Some("Its RST is built as a Linux packet filter builds it (reject with tcp reset)")
        }
        () if packet.is_stateless_reset() && packet.ip_id.is_some() => {
            Some("Its RST has an identification of its own, which no Linux packet filter gives")
        }
        () if both && packet.window == 0 && packet.timestamps.is_none() => {
            Some("Its RST has ACK and no window, as intrusion prevention and proxies build it")
        }
        () => None,
    }
}

/// The longest timer of a known device that had just run out.
fn timer(idle_ms: u64) -> Option<String> {
    let fits = |seconds: u64| {
        let least = seconds * 1_000;
        (least..=least + SLACK_MS.max(least / 50)).contains(&idle_ms)
    };
    let (seconds, whose) = TIMERS.iter().rfind(|(seconds, _)| fits(*seconds))?;
    Some(format!("The silence fits an idle timer of {seconds} s, the default of {whose}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{stateless_reset, upstream};

    #[test]
    fn distance_kind_and_timer_are_told_in_words() {
        let bare = Packet { ttl: 64, ip_id: Some(0), ..stateless_reset(&upstream()) };
        assert!(place(&bare, Some(2)).contains("started at 64, it is on this network, over no router"));
        let far = Packet { ttl: 61, ..bare.clone() };
        assert!(place(&far, None).contains("3 routers away"));
        assert!(place(&far, Some(2)).contains("farther than the end itself, 2 routers away"));
        assert!(!place(&far, Some(3)).contains("farther"));
        assert!(kind(&bare).is_some_and(|hint| hint.contains("Linux packet filter")));
        let text = Packet { payload_len: 30, ..bare.clone() };
        assert!(kind(&text).is_some_and(|hint| hint.contains("F5")));
        let code = Packet { flags: TcpFlags(TcpFlags::RST | TcpFlags::ACK), window: 9_300, ttl: 251, ..bare };
        assert!(kind(&code).is_some_and(|hint| hint.contains("Citrix")));
        assert!(timer(350_400).is_some_and(|hint| hint.contains("AWS")));
        assert!(timer(3_650_000).is_some_and(|hint| hint.contains("FortiGate")));
        assert_eq!(timer(349_000), None);
        assert_eq!(timer(62_000), None);
    }
}
