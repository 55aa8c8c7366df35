//! Notices as HTTP POSTs of JSON. Any 2xx is success; what another status means is decided here, how often it is
//! tried again by the outlet.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;

use super::http::{self, Endpoint};
use super::outlet::{Deliver, Failure};

const JSON: &str = "application/json";

/// What delivers to `endpoint`. Made in the thread that uses it.
pub fn deliver(endpoint: Endpoint, limit: Duration) -> Deliver {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Box::new(move |line| {
        let runtime =
            runtime.as_ref().map_err(|error| Failure { why: error.to_string(), is_temporary: false })?;
        let answer = runtime.block_on(http::post(&endpoint, JSON, Bytes::copy_from_slice(line), limit));
        let answer = answer.map_err(|error| Failure { why: error.to_string(), is_temporary: true })?;
        judge(answer.status)
    })
}

fn judge(status: StatusCode) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let is_temporary = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    Err(Failure { why: format!("the receiver answered {status}"), is_temporary })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::outbound::notice::About;
    use crate::outbound::{Account, Notice, Outlet, Plan};
    use crate::output::samples;

    #[test]
    fn only_what_may_go_better_is_temporary() {
        assert_eq!(judge(StatusCode::NO_CONTENT), Ok(()));
        for (status, is_temporary) in [(503, true), (429, true), (400, false), (404, false), (302, false)] {
            let failure = judge(StatusCode::from_u16(status).unwrap()).unwrap_err();
            assert_eq!(failure.is_temporary, is_temporary, "{status}");
        }
    }

    /// Answers one connection after the other, and gives the bodies.
    fn receiver(answers: &'static [&'static str]) -> (Endpoint, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::parse(&format!("http://{}/x", listener.local_addr().unwrap())).unwrap();
        let thread = std::thread::spawn(move || {
            let answered = answers.iter().map(|answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length) = (String::new(), 0);
                while line != "\r\n" {
                    line.clear();
                    reader.read_line(&mut line).unwrap();
                    let named = line.to_lowercase();
                    length = named
                        .strip_prefix("content-length: ")
                        .map_or(length, |it| it.trim().parse().unwrap());
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").unwrap();
                String::from_utf8(body).unwrap()
            });
            answered.collect()
        });
        (endpoint, thread)
    }

    #[test]
    fn a_notice_is_sent_again_until_it_arrives_and_a_refused_one_is_given_up() {
        let (endpoint, receiver) = receiver(&["503 Busy", "429 Later", "200 OK", "400 No"]);
        let plan = Plan {
            name: "webhook",
            about: vec![About::Incidents],
            per_minute: 100,
            again: &[Duration::ZERO; 3],
            say: Box::new(|_| {}),
        };
        let account = Arc::new(Account::default());
        let outlet = Outlet::start(plan, Arc::clone(&account), || deliver(endpoint, Duration::from_secs(10)));
        let (arrives, refused) = (samples::keepalive_race(), samples::upstream_abort());
        let outlet = outlet.unwrap();
        for verdict in [&arrives, &refused] {
            outlet.tell(&Notice::of_verdict(verdict).unwrap());
        }
        let bodies = receiver.join().unwrap();
        assert!(bodies[..3].iter().all(|body| body.contains(&arrives.id)), "{bodies:?}");
        assert!(bodies[3].contains(&refused.id));
        while account.failed.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        assert_eq!((account.sent.load(Ordering::Relaxed), account.lost()), (1, 1));
    }
}
