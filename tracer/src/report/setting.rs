//! What surrounds an incident: what is known of the session, in the words that are said with every incident. Says nothing
//! of the incident itself.

use crate::model::{ClockState, HostFacts, Packet};
use crate::output::sanitize;

use super::selection::Selection;
use super::source::Origin;

/// `NTP_PHASE_LIMIT` (include/linux/timex.h), microseconds: what the kernel says of an error that it does not know.
const UNKNOWN_ERROR_US: i64 = 16_000_000;
/// Longest path of an input in a command, characters.
const MOST_PATH: usize = 4000;

/// The session around an incident.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// What is known of the session.
    pub origin: &'a Origin,
    /// What the report is about.
    pub selection: &'a Selection,
}

impl Setting<'_> {
    fn host(&self) -> Option<&HostFacts> {
        self.origin.last_host.as_deref()
    }

    /// Whether the times can be trusted, in a few words.
    pub fn clock(&self) -> String {
        if self.host().is_some_and(|host| host.capture.is_some()) {
            return "time of the capture: whether its clock was right is not known".to_owned();
        }
        match self.host().and_then(|host| host.system.clock) {
            None => "whether the clock was synchronised is not known".to_owned(),
            Some(clock) if !clock.synchronised => "clock not synchronised: error unknown".to_owned(),
            Some(clock) => format!("clock synchronised, error at most {}", error(clock.maximum_error_us)),
        }
    }

    /// The input as an argument of a shell; `None` where it was no file that can be read again.
    fn input(&self) -> Option<(String, &str)> {
        let [(name, kind)] = self.origin.inputs.as_slice() else { return None };
        let is_file = ["recording", "store", "capture"].contains(&&**kind) && name != "-";
        // A name that cannot be shown as it is cannot be pasted either.
        let plain = sanitize::line(name, MOST_PATH) == name.as_str();
        (is_file && plain).then(|| (quoted(name), &**kind))
    }

    /// The commands that write the packets of an incident, and everything of it, to files.
    pub fn commands(&self, id: &str) -> Vec<String> {
        let Some((input, kind)) = self.input() else { return Vec::new() };
        let hidden: Vec<String> = self.selection.redacted.iter().map(ToString::to_string).collect();
        let redact =
            if hidden.is_empty() { String::new() } else { format!(" --redact {}", hidden.join(",")) };
        // Options of a capture name files that are not known here.
        let more = if kind == "capture" { " [the options of this report]" } else { "" };
        let command = |rest: &str| format!("rstscope report {input} --id {id}{redact}{more} {rest}");
        vec![command("-o packets.pcapng"), command("--bundle incident.tar.zst")]
    }

    /// Where a packet came in: the interface, and who put it on the link.
    pub fn arrival(&self, netns: u32, packet: &Packet) -> Option<String> {
        let name = self.host().and_then(|host| interface_name(host, netns, packet.ifindex));
        let interface = match (packet.ifindex, name) {
            (0, _) => None,
            (index, Some(name)) => Some(format!("interface {} (index {index})", sanitize::line(name, 64))),
            (index, None) if packet.on_loopback => Some(format!("interface lo (index {index})")),
            (index, None) => Some(format!("interface index {index}")),
        };
        let mac = packet.source_mac.filter(|mac| mac.is_unicast()).map(|mac| format!("from MAC {mac}"));
        let parts: Vec<String> = [interface, mac].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }
}

/// Name of an interface of a watched namespace.
pub fn interface_name(host: &HostFacts, netns: u32, index: u32) -> Option<&str> {
    let known = host.system.interfaces.iter();
    let mut known = known.filter(|one| one.index == index && (one.netns == netns || netns == 0));
    known.next().map(|one| one.name.as_str())
}

/// The state of the clock, as fields of a report say it.
pub fn clock_fields(state: ClockState) -> [(&'static str, Option<String>); 3] {
    let synchronised = if state.synchronised { "yes" } else { "no: times may be off by an unknown amount" };
    [
        ("Synchronised (adjtimex)", Some(synchronised.to_owned())),
        ("Estimated error", Some(error(state.estimated_error_us))),
        ("Largest possible error", Some(error(state.maximum_error_us))),
    ]
}

/// An error of the clock in the unit that its size deserves.
fn error(microseconds: i64) -> String {
    match microseconds {
        ..1000 => format!("{microseconds} µs"),
        1000..1_000_000 => format!("{}.{} ms", microseconds / 1000, microseconds % 1000 / 100),
        1_000_000..UNKNOWN_ERROR_US => {
            format!("{}.{} s", microseconds / 1_000_000, microseconds % 1_000_000 / 100_000)
        }
        _ => format!("not known (the kernel says {} s, its word for that)", microseconds / 1_000_000),
    }
}

/// An argument of a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    let is_plain = !text.is_empty() && !text.starts_with('-') && text.chars().all(plain);
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SystemFacts;
    use crate::report::redact::What;

    fn of(name: &str, selection: &Selection) -> Vec<String> {
        let origin = Origin { inputs: vec![(name.to_owned(), "recording".into())], ..Origin::default() };
        Setting { origin: &origin, selection }.commands("01X")
    }

    #[test]
    fn a_command_is_quoted_for_a_shell_and_left_out_where_it_cannot_be() {
        let selection = Selection { redacted: vec![What::Client, What::Uri], ..Selection::default() };
        let found = of("a b'$(id).rec", &selection);
        let wanted = "rstscope report 'a b'\\''$(id).rec' --id 01X --redact client,uri -o packets.pcapng";
        assert_eq!(found[0], wanted);
        assert_eq!(
            of("plain/a-1.rec", &Selection::default())[1],
            "rstscope report plain/a-1.rec --id 01X --bundle incident.tar.zst"
        );
        for name in ["-", "a\u{1b}[2J.rec", "a\nb"] {
            assert_eq!(of(name, &selection), Vec::<String>::new(), "{name:?}");
        }
    }

    #[test]
    fn a_clock_that_is_not_synchronised_has_an_unknown_error() {
        let clock = |synchronised, maximum_error_us| {
            let state = ClockState { synchronised, estimated_error_us: 7, maximum_error_us };
            let system = SystemFacts { clock: Some(state), ..SystemFacts::default() };
            let host = HostFacts { system, ..HostFacts::default() };
            let origin = Origin { last_host: Some(Box::new(host)), ..Origin::default() };
            Setting { origin: &origin, selection: &Selection::default() }.clock()
        };
        assert_eq!(clock(false, 16_000_000), "clock not synchronised: error unknown");
        assert_eq!(clock(true, 2_500), "clock synchronised, error at most 2.5 ms");
        assert!(error(UNKNOWN_ERROR_US).starts_with("not known (the kernel says 16 s"));
    }
}
