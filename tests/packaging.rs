//! The systemd units: verified by systemd's own tool, and held against what the documentation says of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot start its programs has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

const UNITS: [&str; 2] = ["rstscope.service", "rstscope-systemd-239.service"];
/// Directives that systemd 239 does not know yet.
const NEWER_THAN_239: [&str; 5] =
    ["ProtectClock=", "ProtectHostname=", "ProtectKernelLogs=", "ProtectProc=", "ProcSubset="];
/// Directives that would blind the daemon; the units say why.
const BLINDING: [&str; 3] = ["RestrictSUIDSGID=", "IPAddressDeny=", "PrivateNetwork="];

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

fn unit(name: &str) -> String {
    std::fs::read_to_string(packaging().join(name)).unwrap()
}

fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    unit.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default()
}

#[test]
#[ignore = "needs systemd-analyze; `cargo xtask test` runs it"]
fn systemd_takes_the_units_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    for name in UNITS {
        let path = folder.path().join(name);
        // The program is not installed here.
        std::fs::write(&path, unit(name).replace("/usr/bin/rstscope", "/bin/true")).unwrap();
        let output =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("rstscope")).collect();
        assert!(output.status.success() && ours.is_empty(), "{said}");
    }
}

#[test]
fn the_unit_asks_for_the_capabilities_that_the_documentation_argues_for() {
    let unit = unit(UNITS[0]);
    let asked = value(&unit, "AmbientCapabilities=");
    assert_eq!(asked, value(&unit, "CapabilityBoundingSet="));
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/daemon.md")).unwrap();
    let row = |capability: &str| page.lines().any(|line| line.starts_with(&format!("| `{capability}` |")));
    assert!(asked.split(' ').count() == 6 && asked.split(' ').all(row), "{asked}");
    assert!(!asked.contains("CAP_SYS_ADMIN"), "{asked}");
}

#[test]
fn the_units_take_away_nothing_that_the_daemon_sees_with() {
    for name in UNITS {
        let unit = unit(name);
        let blinding = BLINDING.iter().find(|directive| !value(&unit, directive).is_empty());
        assert_eq!(blinding, None, "{name}");
    }
}

#[test]
fn the_unit_for_systemd_239_has_nothing_newer() {
    let old = unit(UNITS[1]);
    for directive in NEWER_THAN_239 {
        assert!(!old.contains(directive), "{directive}");
    }
    for name in UNITS {
        let unit = unit(name);
        assert_eq!(value(&unit, "Type="), "notify", "{name}");
        assert_eq!(value(&unit, "ProtectSystem="), "strict", "{name}");
        assert_eq!(value(&unit, "NoNewPrivileges="), "yes", "{name}");
        assert!(!value(&unit, "WatchdogSec=").is_empty() && !value(&unit, "MemoryMax=").is_empty(), "{name}");
    }
}

#[test]
fn the_daemon_set_gives_the_capabilities_of_the_unit_and_no_other() {
    let asked = value(&unit(UNITS[0]), "AmbientCapabilities=").replace("CAP_", "");
    let quoted: Vec<String> = asked.split(' ').map(|capability| format!("\"{capability}\"")).collect();
    let manifest = std::fs::read_to_string(packaging().join("daemonset.yaml")).unwrap();
    assert!(manifest.contains(&format!("add: [{}]", quoted.join(", "))), "{asked}");
    assert!(manifest.contains("drop: [\"ALL\"]") && !manifest.contains("privileged: true"));
}
