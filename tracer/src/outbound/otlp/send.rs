//! Sends what waits, the oldest first, one request at a time. What the collector does not take now is tried again
//! after a pause that doubles; what it refuses for good is given up and counted (OTLP/HTTP, "Failures").

use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::queue::{Item, Signal};
use super::{Exporter, logs, metrics};
use crate::outbound::http::{self, Answer};

const JSON: &str = "application/json";
/// Statuses after which the same request may be sent again.
const AGAIN: [u16; 4] = [429, 502, 503, 504];

/// What the sending half knows.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Something was put into the queue.
    pub(super) news: Notify,
}

/// What became of one request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Taken, except so many records.
    Taken { rejected: u64 },
    /// Not now.
    Later { why: String, after: Option<Duration> },
    /// Never.
    Refused { why: String },
}

impl Exporter {
    /// Never ends.
    pub(super) async fn deliver(&self) {
        let mut pause = self.plan.pauses.0;
        let mut failing = false;
        loop {
            let Some(item) = self.first() else {
                self.delivery.news.notified().await;
                continue;
            };
            let outcome = self.attempt(item).await;
            let said = match &outcome {
                Outcome::Taken { .. } => Ok(()),
                Outcome::Later { why, .. } | Outcome::Refused { why } => Err(why.as_str()),
            };
            if said.is_err() != failing {
                failing = said.is_err();
                (self.plan.say)(said);
            }
            pause = match outcome {
                Outcome::Later { after, .. } => {
                    self.account.retries.fetch_add(1, Ordering::Relaxed);
                    sleep(after.unwrap_or(pause).clamp(self.plan.pauses.0, self.plan.pauses.1)).await;
                    (pause * 2).min(self.plan.pauses.1)
                }
                Outcome::Taken { rejected } => self.done(item, rejected.min(item.records)),
                Outcome::Refused { .. } => self.done(item, item.records),
            };
        }
    }

    fn first(&self) -> Option<Item> {
        self.queue.borrow().first()
    }

    /// Counts what became of a request and forgets it; gives the pause for the next failure.
    fn done(&self, item: Item, rejected: u64) -> Duration {
        self.queue.borrow_mut().remove(item);
        self.note_size();
        self.account.sent.fetch_add(item.records - rejected, Ordering::Relaxed);
        self.account.rejected.fetch_add(rejected, Ordering::Relaxed);
        self.plan.pauses.0
    }

    async fn attempt(&self, item: Item) -> Outcome {
        let body = self.queue.borrow().read(item);
        let body = match body {
            Ok(body) => Bytes::from(body),
            Err(error) => return Outcome::Refused { why: format!("the queue cannot be read: {error}") },
        };
        let endpoint = self.plan.endpoint.join(match item.signal {
            Signal::Logs => "/v1/logs",
            Signal::Metrics => "/v1/metrics",
        });
        match http::post(&endpoint, JSON, body, self.plan.limit).await {
            Ok(answer) => judge(&answer, item.signal),
            Err(error) => Outcome::Later { why: error.to_string(), after: None },
        }
    }
}

fn judge(answer: &Answer, signal: Signal) -> Outcome {
    if answer.status.is_success() {
        let said = serde_json::from_slice(&answer.body).unwrap_or_default();
        let rejected = match signal {
            Signal::Logs => logs::rejected(&said),
            Signal::Metrics => metrics::rejected(&said),
        };
        return Outcome::Taken { rejected };
    }
    let why = format!("the collector answered {}", answer.status);
    if AGAIN.contains(&answer.status.as_u16()) {
        return Outcome::Later { why, after: answer.retry_after };
    }
    Outcome::Refused { why }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    fn judged(status: u16, body: &'static str) -> Outcome {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: Some(Duration::from_secs(9)),
            body: Bytes::from_static(body.as_bytes()),
        };
        judge(&answer, Signal::Logs)
    }

    #[test]
    fn statuses_mean_what_the_specification_says() {
        assert_eq!(judged(200, "{}"), Outcome::Taken { rejected: 0 });
        let partly = r#"{"partialSuccess":{"rejectedLogRecords":"2"}}"#;
        assert_eq!(judged(200, partly), Outcome::Taken { rejected: 2 });
        assert_eq!(judged(200, "\u{0}no json"), Outcome::Taken { rejected: 0 });
        for status in AGAIN {
            let outcome = judged(status, "");
            assert!(matches!(outcome, Outcome::Later { after: Some(_), .. }), "{outcome:?}");
        }
        for status in [400, 401, 404, 413, 500, 301] {
            assert!(matches!(judged(status, ""), Outcome::Refused { .. }), "{status}");
        }
    }
}
