//! What differs between the processors that kernels are tested on, as data; and whose processor a program is for.

use anyhow::{Context, Result, bail};
use std::path::Path;

/// A kind of processor.
#[derive(Debug)]
pub struct Architecture {
    /// As Debian names it.
    pub debian: &'static str,
    /// As Rust and QEMU name it.
    pub rust: &'static str,
    /// `e_machine` of its programs (ELF).
    machine: u16,
    /// The emulator, and the package that has it.
    pub emulator: (&'static str, &'static str),
    /// What is emulated.
    pub emulated: &'static [&'static str],
    /// The kernel's first serial line.
    pub console: &'static str,
    /// Options that connect the character device `report`, and what it is called inside.
    pub report: (&'static [&'static str], &'static str),
    /// Modules without which there is no such device.
    pub modules: &'static [&'static str],
}

/// x86-64.
pub static AMD64: Architecture = Architecture {
    debian: "amd64",
    rust: "x86_64",
    machine: 62,
    emulator: ("qemu-system-x86_64", "qemu-system-x86"),
    // The quickest to emulate. Without `cmpxchg16b`: QEMU 7.2 leaves rubbish in the flags after it, and kernels that
    // use it for their memory management (6.12) meet debug exceptions out of nowhere.
    emulated: &["-cpu", "qemu64,-cx16"],
    console: "ttyS0",
    report: (&["-serial", "chardev:report"], "/dev/ttyS1"),
    modules: &[],
};

/// 64-bit ARM.
pub static ARM64: Architecture = Architecture {
    debian: "arm64",
    rust: "aarch64",
    machine: 183,
    emulator: ("qemu-system-aarch64", "qemu-system-arm"),
    emulated: &["-machine", "virt", "-cpu", "cortex-a72"],
    console: "ttyAMA0",
    // The emulated machine has one serial line only.
    report: (&["-device", "virtio-serial-pci", "-device", "virtconsole,chardev=report"], "/dev/hvc0"),
    modules: &["virtio_pci", "virtio_console"],
};

impl Architecture {
    /// Is it this machine's?
    pub fn is_ours(&self) -> bool {
        self.rust == std::env::consts::ARCH
    }

    /// Is this program for it?
    pub fn runs(&self, program: &Path) -> Result<bool> {
        use std::io::Read;
        let mut header = [0; 20];
        let mut file =
            std::fs::File::open(program).with_context(|| format!("cannot read {}", program.display()))?;
        let read = file.read_exact(&mut header);
        match machine(&header).filter(|_| read.is_ok()) {
            Some(machine) => Ok(machine == self.machine),
            None => bail!("{} is not a program", program.display()),
        }
    }
}

/// `e_machine` of a little-endian ELF header (`include/uapi/linux/elf.h`).
fn machine(header: &[u8; 20]) -> Option<u16> {
    header.starts_with(b"\x7fELF").then(|| u16::from_le_bytes([header[18], header[19]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_on_its_own_processor_only() {
        let ourselves = std::env::current_exe().unwrap();
        for architecture in [&AMD64, &ARM64] {
            assert_eq!(architecture.runs(&ourselves).unwrap(), architecture.is_ours());
        }
        assert!(AMD64.runs(Path::new("/etc/passwd")).is_err());
    }
}
