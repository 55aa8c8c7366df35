//! The exporter against a small collector that is away, busy, and there.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver as Bodies};
use std::time::Instant as Moment;

use super::*;
use crate::metrics::Notices;
use crate::output::samples;

/// Answers with these, then with 200 for ever; gives path and body of each request.
fn collector(listener: TcpListener, answers: &'static [&'static str]) -> Bodies<(String, serde_json::Value)> {
    let (sender, bodies) = mpsc::channel();
    thread::spawn(move || {
        let answers = answers.iter().chain(std::iter::repeat(&"200 OK"));
        for (stream, answer) in listener.incoming().zip(answers) {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length, mut path) = (String::new(), 0, None);
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).unwrap();
                path = path.or_else(|| line.split(' ').nth(1).map(str::to_owned));
                let named = line.to_lowercase();
                length =
                    named.strip_prefix("content-length: ").map_or(length, |it| it.trim().parse().unwrap());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            if sender.send((path.unwrap(), serde_json::from_slice(&body).unwrap())).is_err() {
                return;
            }
            write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 2\r\n\r\n{{}}").unwrap();
        }
    });
    bodies
}

struct Bench {
    verdicts: Verdicts,
    thread: JoinHandle<()>,
    account: Arc<Account>,
    said: Arc<Mutex<Vec<bool>>>,
}

fn exporter(address: &str, folder: &Path, metrics: Option<Duration>) -> Bench {
    let mut shared = Shared::new(Arc::default(), Notices::default(), 8);
    let account = Arc::new(Account::default());
    shared.otlp = Arc::clone(&account);
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let plan = Plan {
        endpoint: Endpoint::parse(&format!("http://{address}")).unwrap(),
        metrics,
        folder: folder.to_owned(),
        most: 1 << 20,
        limit: Duration::from_secs(10),
        pauses: (Duration::from_millis(1), Duration::from_millis(4)),
        say: Box::new(move |result| heard.lock().unwrap().push(result.is_ok())),
    };
    let (verdicts, receiver) = Verdicts::channel(&account);
    let thread = start(plan, receiver, Arc::new(shared), || {}).unwrap();
    Bench { verdicts, thread, account, said }
}

fn until(mut condition: impl FnMut() -> bool) {
    let end = Moment::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Moment::now() < end, "never came about");
        thread::sleep(Duration::from_millis(1));
    }
}

fn count(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

fn records(request: &serde_json::Value) -> usize {
    request["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().len()
}

#[test]
fn a_busy_collector_gets_everything_once_it_has_time() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let bodies = collector(listener, &["503 Busy", "429 Later"]);
    let bench = exporter(&address, folder.path(), None);
    let all: Vec<_> = samples::all().into_iter().map(Arc::new).collect();
    for verdict in &all {
        bench.verdicts.hand_over(verdict);
    }
    until(|| count(&bench.account.sent) == all.len() as u64);
    let sent: Vec<_> = bodies.try_iter().collect();
    assert!(sent.len() >= 3 && sent.iter().all(|(path, _)| path == "/v1/logs"));
    assert_eq!(sent[0].1, sent[1].1, "the same is sent again");
    assert_eq!(sent[2..].iter().map(|(_, body)| records(body)).sum::<usize>(), all.len());
    assert_eq!((count(&bench.account.retries), bench.account.lost(), count(&bench.account.bytes)), (2, 0, 0));
    assert_eq!(*bench.said.lock().unwrap(), [false, true], "said once each");
}

#[test]
fn what_nobody_took_is_sent_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let Bench { verdicts, thread, account, .. } = exporter(&address, folder.path(), None);
    verdicts.hand_over(&Arc::new(samples::keepalive_race()));
    until(|| count(&account.retries) > 2);
    verdicts.hand_over(&Arc::new(samples::hostile()));
    drop(verdicts);
    thread.join().unwrap();
    assert_eq!(count(&account.sent), 0);
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let waits = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let raw = |c: char| c != '\n' && crate::output::sanitize::is_dangerous(c);
        assert!(!waits.contains(raw), "what is sent is as safe to look at as every other record: {waits}");
    }
    let bodies = collector(TcpListener::bind(&address).unwrap(), &[]);
    let again = exporter(&address, folder.path(), None);
    until(|| count(&again.account.sent) == 2);
    assert_eq!(bodies.try_iter().map(|(_, body)| records(&body)).sum::<usize>(), 2);
}

#[test]
fn metrics_are_sent_and_what_is_refused_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let bodies = collector(listener, &["400 No"]);
    let bench = exporter(&address, folder.path(), Some(Duration::from_millis(5)));
    until(|| count(&bench.account.sent) > 0);
    assert!(count(&bench.account.rejected) > 0);
    let (path, body) = bodies.recv().unwrap();
    assert_eq!(path, "/v1/metrics");
    assert!(!body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap().is_empty());
}
