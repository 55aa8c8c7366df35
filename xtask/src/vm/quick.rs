//! The quick part of the matrix, for `cargo xtask test`: two kernels, one for each way of reading memory, and the
//! events that matter most. Where QEMU or a kernel cannot be had it is skipped, and counted as that.

use super::kernels::{KERNELS, Kernel};
use super::{Options, one};
use crate::{lab, shell, suite::Count};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// One machine.
struct Machine {
    kernel: &'static str,
    lockdown: bool,
    /// Hooks that this kernel has no place for.
    off: usize,
}

/// The oldest kernel of a supported Debian, whose programs read memory, and one where they may not.
const MACHINES: [Machine; 2] =
    [Machine { kernel: "6.1", lockdown: false, off: 0 }, Machine { kernel: "6.12", lockdown: true, off: 2 }];

/// A RST that arrives, one that Nginx's host sends, a client's, and silence: what both machines must tell alike.
const SCENARIOS: &str = "upstream-close-unread,nginx-closed-unread,client-abort-static,drop-data";

/// Boots them one after the other.
pub fn test() -> Count {
    match shell::need("qemu-system-x86_64").and_then(|_| lab::build()) {
        Ok(binary) => MACHINES.iter().map(|machine| play(machine, &binary)).fold(Count::default(), sum),
        Err(error) => {
            crate::say!("the kernels in virtual machines are skipped: {error:#}");
            Count { skipped: MACHINES.len(), ..Count::default() }
        }
    }
}

fn sum(mut all: Count, one: Count) -> Count {
    all.add(one);
    all
}

fn play(machine: &Machine, binary: &Path) -> Count {
    let mut count = Count::default();
    match fetched(machine.kernel) {
        Ok(kernel) => {
            count.add_one(
                &format!("kernel {} in a virtual machine", machine.kernel),
                check(machine, kernel, binary),
            );
        }
        Err(error) => {
            crate::say!("kernel {} is skipped, it cannot be fetched: {error:#}", machine.kernel);
            count.skipped += 1;
        }
    }
    count
}

fn fetched(name: &str) -> Result<&'static Kernel> {
    let kernel = KERNELS.iter().find(|kernel| kernel.name == name).context("not in the matrix")?;
    kernel.fetch().map(|_unpacked| kernel)
}

fn check(machine: &Machine, kernel: &Kernel, binary: &Path) -> Result<()> {
    let test = vec![SCENARIOS.to_owned()];
    let options = Options { lockdown: machine.lockdown, test, ..Options::default() };
    let cell = one(kernel, &options, binary)?;
    let mut wrong = cell.wrong();
    if cell.played() == 0 {
        wrong.push("nothing was played".to_owned());
    }
    if cell.hooks_off() > machine.off {
        wrong.push(format!("{} hooks do not run", cell.hooks_off()));
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}
