//! The page of a daemon that has seen something, and what Prometheus' own tool says of it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;
use crate::model::{HookState, Losses};
use crate::output::samples;
use crate::session::pulse::{ProgramCost, Queue};

pub(crate) fn hook(name: &str, running: bool) -> HookState {
    HookState { name: name.to_owned(), running, problem: None, lost_evidence: String::new() }
}

pub(crate) fn seen() -> Arc<Shared> {
    let shared = Arc::new(Shared::new(Arc::default(), Notices::default(), 8));
    for verdict in &samples::all() {
        shared.count(verdict);
    }
    shared.beat(Pulse {
        hooks: vec![hook("tcp_send_reset", true), hook("kfree_skb", false)],
        losses: Losses { by_handover: [("channel \"a\"\n\\".to_owned(), 3)].into() },
        overflows: vec![(4_026_531_840, 443, 7)],
        queues: vec![Queue { listener: "0.0.0.0:443".parse().unwrap(), waiting: 3, limit: 511 }],
        programs: vec![ProgramCost {
            name: "tcp_send_reset".to_owned(),
            runs: 5,
            time: Duration::from_micros(9),
        }],
        masters: 1,
        workers: 4,
        ..Pulse::default()
    });
    shared
}

#[test]
fn the_page_has_every_number_and_ends_as_it_must() {
    let page = page(&seen()).unwrap();
    for line in [
        "rstscope_up 1.0",
        "rstscope_nginx_workers 4.0",
        "rstscope_hook_running{hook=\"kfree_skb\"} 0.0",
        "rstscope_listen_overflows_total{netns=\"4026531840\",port=\"443\"} 7",
        "rstscope_listen_queue_length{listener=\"0.0.0.0:443\"} 3.0",
        "rstscope_program_runs_total{program=\"tcp_send_reset\"} 5",
        "rstscope_lost_total{handover=\"channel \\\"a\\\"\\n\\\\\"} 3",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    assert!(page.contains("rstscope_incidents_total{party=\"upstream\",cause=\"upstream_abort\""));
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn hostile_names_of_upstreams_stay_labels() {
    let shared = Arc::new(Shared::new(Arc::default(), Notices::default(), 8));
    let mut verdict = samples::no_live_upstreams();
    verdict.log.as_mut().unwrap().upstream = Some("\"} 1\nrstscope_up 0 \x1b[31m\u{202e}".to_owned());
    verdict.connection = None;
    shared.count(&verdict);
    let page = page(&shared).unwrap();
    assert!(!page.lines().any(|line| line.starts_with("rstscope_up 0")), "{page}");
    assert!(!page.chars().any(|c| c != '\n' && crate::output::sanitize::is_dangerous(c)));
}

#[test]
fn lines_that_found_no_room_in_the_engine_are_told_as_lost() {
    let shared = Shared::new(Arc::default(), Notices::default(), 8);
    let engine = crate::engine::Counters { lines_dropped: 95_904, ..Default::default() };
    shared.beat(Pulse { engine, ..Pulse::default() });
    let page = page(&Arc::new(shared)).unwrap();
    assert!(page.contains("rstscope_lost_total{handover=\"log lines waiting\"} 95904\n"), "{page}");
}

#[test]
fn health_follows_the_pulse_and_the_store() {
    let shared = Shared::new(Arc::default(), Notices::default(), 8);
    assert!(!shared.is_ready() && !shared.problems().is_empty());
    let shared = seen();
    assert!(shared.is_ready());
    assert_eq!(shared.problems(), ["hook kfree_skb does not run: no reason known"]);
    shared.store.failing.store(true, Ordering::Relaxed);
    assert!(!shared.is_ready());
}

#[test]
#[ignore = "needs promtool (Debian package prometheus); `cargo xtask test` runs it"]
fn promtool_finds_nothing_wrong_with_the_names() {
    let text = plain(&page(&seen()).unwrap());
    let mut tool = Command::new("promtool");
    tool.args(["check", "metrics"]);
    let mut tool = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}
