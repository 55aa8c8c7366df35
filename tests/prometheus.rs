//! The shipped alert rules and the dashboard against Prometheus itself: its own tool tests the rules, and a real
//! server scrapes two pages and answers every query of the dashboard. Needs Debian's package prometheus.

#![expect(clippy::unwrap_used, reason = "a test that cannot start its programs has failed")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rstscope::metrics::{Notices, Shared, page, plain};
use rstscope::model::{HookState, Verdict};
use rstscope::session::Pulse;
use rstscope::session::pulse::{ProgramCost, Queue};
use serde_json::Value;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

#[track_caller]
fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").current_dir(packaging()).args(arguments).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

#[test]
#[ignore = "needs promtool (Debian package prometheus); `cargo xtask test` runs it"]
fn the_alert_rules_fire_for_what_they_are_for_and_are_silent_otherwise() {
    promtool(&["check", "rules", "alerts.yml"]);
    promtool(&["test", "rules", "alerts_test.yml"]);
}

/// A daemon that has seen the verdicts of the lab, and a little of everything else.
fn seen(scrape: u64) -> Arc<Shared> {
    let shared = Arc::new(Shared::new(Arc::default(), Notices::default(), 64));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recordings/06-info.ndjson");
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let verdict: Verdict = serde_json::from_str(line).unwrap();
        (0..scrape).for_each(|_| shared.count(&verdict));
    }
    let hook = HookState {
        name: "kfree_skb".to_owned(),
        running: false,
        problem: None,
        lost_evidence: "overflows".to_owned(),
    };
    shared.beat(Pulse {
        hooks: vec![hook],
        overflows: vec![(1, 443, 7 * scrape)],
        queues: vec![Queue { listener: "0.0.0.0:443".parse().unwrap(), waiting: 3, limit: 511 }],
        programs: vec![ProgramCost {
            name: "tcp_send_reset".to_owned(),
            runs: 5 * scrape,
            time: Duration::from_micros(9 * scrape),
        }],
        ..Pulse::default()
    });
    shared
}

/// Answers every scrape with a page that has grown since the last.
fn endpoint() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (stream, scrape) in listener.incoming().zip(1..) {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            while head.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let body = plain(&page(&seen(scrape)).unwrap());
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
            write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
        }
    });
    port
}

struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    fn start(folder: &Path, scraped: u16) -> Self {
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: rstscope\n    static_configs:\n      - targets: [\"127.0.0.1:{scraped}\"]\n"
        );
        std::fs::write(&config, text).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    /// Answer of the server, `None` while it is not up.
    fn query(&self, expression: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let mut body = "query=".to_owned();
        expression.bytes().for_each(|byte| write!(body, "%{byte:02X}").unwrap());
        let head = "POST /api/v1/query HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    fn number_of_results(&self, expression: &str) -> usize {
        let answer = self.query(expression).unwrap_or_default();
        answer["data"]["result"].as_array().map_or(0, Vec::len)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn queries() -> Vec<String> {
    let dashboard = std::fs::read_to_string(packaging().join("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expression = |target: &Value| target["expr"].as_str().unwrap().to_owned();
    targets.map(expression).collect()
}

#[test]
#[ignore = "needs prometheus (Debian package prometheus); `cargo xtask test` runs it"]
fn every_query_of_the_dashboard_has_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(folder.path(), endpoint());
    let end = Instant::now() + Duration::from_mins(1);
    while prometheus.number_of_results("rate(rstscope_incidents_total[1m])") == 0 {
        assert!(Instant::now() < end, "nothing was scraped twice");
        thread::sleep(Duration::from_millis(100));
    }
    for query in queries() {
        let query = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
        let answer = prometheus.query(&query).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        assert!(prometheus.number_of_results(&query) > 0, "no answer to {query}");
    }
}
