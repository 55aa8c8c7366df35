//! What the project needs on a machine, as data, and whether it is there.
//!
//! Nothing is installed here. A need is probed by what it provides (a program, a header), never by asking the
//! package manager, so tools that came another way count too.

use super::rust;
use crate::project::{BPF_LINKER_VERSION, EBPF_TOOLCHAIN};
use std::fmt;

/// Something that has to be there.
#[derive(Debug)]
pub struct Need {
    /// Short name.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Where it was found, if it was.
    pub found: Option<String>,
    /// How to get it.
    pub cure: Cure,
}

/// How a missing thing is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// Debian packages.
    Packages(&'static [&'static str]),
    /// The pinned Rust toolchain with its sources.
    Toolchain,
    /// bpf-linker, built against Debian's LLVM.
    Linker,
}

impl fmt::Display for Cure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packages(names) => write!(f, "apt-get install {}", names.join(" ")),
            Self::Toolchain => write!(f, "Rust {EBPF_TOOLCHAIN} with rust-src, or Debian's rustc-web"),
            Self::Linker => write!(f, "cargo install bpf-linker --version {BPF_LINKER_VERSION}"),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.found.as_deref().unwrap_or("MISSING");
        write!(f, "{:<14} {:<44} {place}", self.name, self.purpose)
    }
}

/// How a package's presence shows.
enum Probe {
    Program(&'static str),
    File(&'static str),
}

/// `(name, purpose, probe, packages)`; only what is really used.
const PACKAGED: &[(&str, &str, Probe, &[&str])] = &[
    ("cc", "links Rust programs", Probe::Program("cc"), &["gcc"]),
    ("libc headers", "links Rust programs", Probe::File("/usr/include/stdlib.h"), &["libc6-dev"]),
    ("nginx", "the server under observation in the lab", Probe::Program("nginx"), &["nginx"]),
    ("nft", "routers of the lab reject and drop with it", Probe::Program("nft"), &["nftables"]),
    ("ip", "network namespaces of the lab", Probe::Program("ip"), &["iproute2"]),
    (
        "promtool",
        "checks the names of metrics, alert rules and the dashboard",
        Probe::Program("promtool"),
        &["prometheus"],
    ),
    ("tcpdump", "captures benches of the lab", Probe::Program("tcpdump"), &["tcpdump"]),
    ("python3", "an upstream of the lab", Probe::Program("python3"), &["python3"]),
];

/// Only the build of bpf-linker needs these.
const LINKER_LLVM: (&str, &str, Probe, &[&str]) = (
    "LLVM 22",
    "bpf-linker is built against it",
    Probe::File("/usr/lib/llvm-22/bin/llvm-config"),
    &["llvm-22-dev"],
);

/// Only some tests of reports, some scenarios of the lab and the virtual machines need these; without them those are skipped and counted.
const TOOLS: &[(&str, &str, Probe, &[&str])] = &[
    ("tshark", "reads the packets of reports in tests", Probe::Program("tshark"), &["tshark"]),
    ("chromium", "opens the pages of reports in tests", Probe::Program("chromium"), &["chromium"]),
    (
        "qemu-system-x86_64",
        "boots other kernels in tests",
        Probe::Program("qemu-system-x86_64"),
        &["qemu-system-x86"],
    ),
    ("node", "an upstream of the lab", Probe::Program("node"), &["nodejs"]),
    ("java", "an upstream of the lab", Probe::Program("javac"), &["default-jdk-headless"]),
    ("gunicorn", "an upstream of the lab", Probe::Program("gunicorn"), &["gunicorn"]),
    (
        "uvicorn",
        "an upstream of the lab",
        Probe::File("/usr/share/doc/python3-uvicorn"),
        &["python3-uvicorn"],
    ),
    ("php-fpm", "an upstream of the lab", Probe::Program("php-fpm8.2"), &["php8.2-fpm"]),
    (
        "nginx stream",
        "a proxy of streams in the lab",
        Probe::File(crate::lab::nginx::STREAM_MODULE),
        &["libnginx-mod-stream"],
    ),
    ("haproxy", "a load balancer of the lab", Probe::Program("haproxy"), &["haproxy"]),
    ("chromedriver", "drives chromium in tests", Probe::Program("chromedriver"), &["chromium-driver"]),
];

/// Looks at what some tests need.
pub fn tools() -> Vec<Need> {
    TOOLS.iter().map(packaged).collect()
}

/// Looks at everything the project needs.
pub fn survey() -> Vec<Need> {
    let linker = rust::find_linker();
    let mut needs: Vec<Need> = PACKAGED.iter().map(packaged).collect();
    if linker.is_none() {
        needs.push(packaged(&LINKER_LLVM));
    }
    needs.push(Need {
        name: "rust-src",
        purpose: "core is compiled for the BPF target",
        found: rust::find_sources(),
        cure: Cure::Toolchain,
    });
    needs.push(Need {
        name: "bpf-linker",
        purpose: "links the kernel programs",
        found: linker,
        cure: Cure::Linker,
    });
    needs
}

fn packaged(
    (name, purpose, probe, packages): &(&'static str, &'static str, Probe, &'static [&'static str]),
) -> Need {
    let found = match probe {
        Probe::Program(program) => crate::shell::find(program).map(|path| path.display().to_string()),
        Probe::File(path) => std::path::Path::new(path).exists().then(|| (*path).to_owned()),
    };
    Need { name, purpose, found, cure: Cure::Packages(packages) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_reported_with_its_package() {
        let need = packaged(&("x", "tests", Probe::Program("no-such-program-anywhere"), &["some-package"]));
        assert_eq!(need.found, None);
        assert_eq!(need.cure.to_string(), "apt-get install some-package");
        assert!(need.to_string().ends_with("MISSING"));
    }

    #[test]
    fn a_present_file_is_found() {
        let need = packaged(&("x", "tests", Probe::File("/proc/self/status"), &["some-package"]));
        assert_eq!(need.found.as_deref(), Some("/proc/self/status"));
    }
}
