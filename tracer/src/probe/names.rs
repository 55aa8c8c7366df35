//! Names of the kernel's enum values on this kernel: drop reasons, reset reasons. Numbers move between versions.

use std::collections::HashMap;

use rstscope_ebpf::abi::{DropReasons, MISSING};

use super::btf::KernelTypes;

/// Enum names by number, prefixes removed.
#[derive(Debug, Clone, Default)]
pub struct Names {
    resets: HashMap<u32, String>,
    drops: HashMap<u32, String>,
}

impl Names {
    /// Reads the names of the running kernel.
    pub fn read(types: &KernelTypes) -> Self {
        Self {
            resets: strip(types.enum_names("sk_rst_reason"), "SK_RST_REASON_"),
            drops: strip(types.enum_names("skb_drop_reason"), "SKB_DROP_REASON_"),
        }
    }

    /// `enum sk_rst_reason`. Drop reasons are used as reset reasons too on newer kernels.
    pub fn reset(&self, value: u32) -> Option<String> {
        self.resets.get(&value).cloned()
    }

    /// `enum skb_drop_reason`.
    pub fn drop(&self, value: u32) -> Option<String> {
        self.drops.get(&value).cloned()
    }

    /// Number of a reset reason that `tcp_send_reset` passes for RSTs of our own accord, too; that began with
    /// `TCP_STATE` (6.12), before which it told of all of them the same.
    pub fn reset_number(&self, name: &str) -> u32 {
        if self.resets.values().any(|other| other == "TCP_STATE") {
            number(&self.resets, name)
        } else {
            MISSING
        }
    }

    /// Numbers of the drop reasons that the kernel programs compare with.
    pub fn drop_reasons(&self) -> DropReasons {
        let number = |name: &str| number(&self.drops, name);
        DropReasons {
            no_socket: number("NO_SOCKET"),
            netfilter_drop: number("NETFILTER_DROP"),
            tcp_listen_overflow: number("TCP_LISTEN_OVERFLOW"),
            tcp_reset: number("TCP_RESET"),
            tcp_old_sequence: number("TCP_OLD_SEQUENCE"),
            tcp_invalid_sequence: number("TCP_INVALID_SEQUENCE"),
            tcp_invalid_end_sequence: number("TCP_INVALID_END_SEQUENCE"),
        }
    }
}

fn number(names: &HashMap<u32, String>, name: &str) -> u32 {
    names.iter().find(|(_, other)| *other == name).map_or(MISSING, |(number, _)| *number)
}

fn strip(names: HashMap<u32, String>, prefix: &str) -> HashMap<u32, String> {
    let short = |name: String| name.strip_prefix(prefix).map(str::to_owned).unwrap_or(name);
    names.into_iter().map(|(number, name)| (number, short(name))).collect()
}
