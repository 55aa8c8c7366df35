//! What is measured on: the lab's namespaces, one Nginx with one worker, a healthy upstream next to it.
//!
//! Clients live in the namespace beside Nginx's, the upstream in that on its other side, each one link away.

use crate::lab::net::{Network, Node};
use crate::lab::nginx::{Instance, Level, Nginx, Servers};
use crate::lab::puppet::Puppet;
use crate::shell;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Number of the bench among those of one process.
const NUMBER: usize = 90;
/// That of the upstream's Nginx: one process for all connections, so that the machine is busy with what is measured.
const UPSTREAM_NUMBER: usize = 91;
/// Where Nginx listens.
pub const PLAIN: &str = "10.77.2.2:8000";
/// Where it listens with TLS.
pub const TLS: &str = "10.77.2.2:8443";
/// A server on Nginx's host that is not Nginx.
pub const OTHER: &str = "10.77.2.2:7777";
const UPSTREAM: &str = "10.77.3.2:9000";

/// Everything that runs during a measurement, but the watcher.
pub struct Scene {
    // Fields are dropped in this order: Nginx and peers end before their namespaces go.
    /// Nginx.
    pub nginx: Nginx,
    /// Clients that break off.
    pub client: Puppet,
    _upstream: Nginx,
    _other: Puppet,
    /// The namespaces.
    pub network: Network,
}

impl Scene {
    /// Lays it.
    pub fn lay() -> Result<Self> {
        let network = Network::lay(NUMBER, None)?;
        let upstream = Nginx::start(
            &network,
            Instance { node: Node::Near, ..Instance::web(UPSTREAM_NUMBER, Level::Error) },
            |_| {
                Servers::http(format!(
                    "server {{ access_log off; listen {UPSTREAM}; return 200 \"hello\\n\"; }}\n"
                ))
            },
            &[UPSTREAM.parse()?],
            &[],
        )?;
        let listeners = [PLAIN.parse()?, TLS.parse()?];
        let keys = Keys::make()?;
        let nginx = Nginx::start(
            &network,
            Instance::web(NUMBER, Level::Error),
            |root| Servers::http(servers(root, &keys)),
            &listeners,
            &[],
        )?;
        let client = Puppet::start(&network, Node::Inner)?;
        let mut other = Puppet::start(&network, Node::Web)?;
        other.tell(&format!("serve-short {OTHER}"))?;
        Ok(Self { nginx, client, _upstream: upstream, _other: other, network })
    }

    /// Arguments of a tracer that sees the Nginx host alone.
    pub fn view(&self) -> Vec<String> {
        vec!["--netns".to_owned(), format!("/run/netns/{}", self.network.name(Node::Web))]
    }
}

/// A key and a certificate of nobody, in a folder that goes with them.
struct Keys {
    folder: PathBuf,
}

impl Keys {
    fn make() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("rsl-{}-keys", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let keys = Self { folder };
        let mut command = Command::new(shell::need("openssl")?);
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        command.args(["-subj", "/CN=bench", "-days", "2", "-keyout"]);
        shell::read(command.arg(keys.file("key")).arg("-out").arg(keys.file("certificate")))?;
        Ok(keys)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn servers(root: &str, keys: &Keys) -> String {
    let shown = |path: &Path| path.display().to_string();
    format!(
        "  upstream kept {{ server {UPSTREAM}; keepalive 64; }}\n\
         server {{\n  access_log off;\n  listen {PLAIN};\n  listen {TLS} ssl;\n\
         ssl_certificate {};\n  ssl_certificate_key {};\n  root {root};\n\
         location /new {{ proxy_pass http://{UPSTREAM}; }}\n\
         location /kept {{ proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}\n }}\n",
        shown(&keys.file("certificate")),
        shown(&keys.file("key"))
    )
}
