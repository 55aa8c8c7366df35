//! Follows access.log while a session runs, for how the requests of incidents ended. Only what may explain an incident
//! reaches the engine: requests that failed, were retried or cut, and those on connections that something else spoke of.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use tokio::sync::mpsc::Receiver;

use super::watch::Watch;
use crate::join::ended_by;
use crate::model::{AccessRecord, Event, Input, LogRecord, Mono, Side};
use crate::nginx::access::Format;
use crate::nginx::discover::Instance;
use crate::nginx::tail::{Follower, Start, StartError, TailedLine};
use crate::recording::Recorder;

/// Lines that may wait between the follower and the session.
const LINES_WAITING: usize = 4096;
/// Lines taken at once.
const BATCH: usize = 256;
/// Ordinary lines kept in case a line of error.log or an event speaks of their connection a moment later.
const MOST_ORDINARY: usize = 512;
/// Connections that something spoke of lately.
const MOST_EXPECTED: usize = 512;
/// Variables of which a format needs one beside the status to be worth following: what tells whose request it was.
/// All but the last two make a join certain; an address alone is what `combined` has.
const USEFUL: [&str; 8] = [
    "connection",
    "upstream_status",
    "remote_port",
    "realip_remote_port",
    "request_completion",
    "sent_http_content_length",
    "remote_addr",
    "realip_remote_addr",
];

/// The access logs of a session.
#[derive(Debug)]
pub struct AccessLogs {
    follower: Follower,
    lines: Receiver<TailedLine>,
    batch: Vec<TailedLine>,
    formats: HashMap<String, Format>,
    selection: Selection,
}

impl AccessLogs {
    /// Follows nothing yet.
    pub fn start() -> Result<Self, StartError> {
        let (follower, lines) = Follower::start(LINES_WAITING)?;
        Ok(Self {
            follower,
            lines,
            batch: Vec::with_capacity(BATCH),
            formats: HashMap::new(),
            selection: Selection::default(),
        })
    }

    /// Follows the logs that the instances write in a format that helps.
    pub fn follow(&mut self, watch: &Watch) {
        for instance in watch.instances() {
            for log in &instance.access_logs {
                let path = log.target.path.to_string_lossy().into_owned();
                if let Some(format) = useful_format(instance, &path) {
                    self.formats.insert(path, format);
                    self.follower.add(log.target.clone(), Start::End);
                }
            }
        }
    }

    /// Files followed.
    pub fn count(&self) -> usize {
        self.formats.len()
    }

    /// Waits for lines; pends for ever when nothing is followed.
    pub async fn ready(&mut self) {
        if self.lines.recv_many(&mut self.batch, BATCH).await == 0 {
            std::future::pending::<()>().await;
        }
    }

    /// The lines that came and may explain something.
    pub fn take(&mut self) -> Vec<AccessRecord> {
        while let Ok(line) = self.lines.try_recv() {
            self.batch.push(line);
        }
        let formats = &self.formats;
        let records: Vec<AccessRecord> =
            self.batch.drain(..).filter_map(|line| read(formats, &line)).collect();
        records.into_iter().filter_map(|record| self.selection.sort(record)).collect()
    }

    /// A line of error.log names a connection and a request: what access.log has on them counts, too.
    pub fn expect_line(&mut self, record: &LogRecord) -> Vec<AccessRecord> {
        let number = record.connection.map(Expected::Number);
        let expected = number.into_iter().chain(Expected::request(record));
        expected.flat_map(|expected| self.selection.expect(expected)).collect()
    }

    /// The kernel spoke of a client's connection.
    pub fn expect_event(&mut self, event: &Event) -> Vec<AccessRecord> {
        let Some(socket) = event.socket.as_ref().filter(|socket| socket.side == Side::Client) else {
            return Vec::new();
        };
        let ended =
            ended_by(event, socket).map(|ends| Expected::Ending(socket.remote.ip().to_canonical(), ends));
        let expected = std::iter::once(Expected::Peer(socket.remote)).chain(ended);
        expected.flat_map(|expected| self.selection.expect(expected)).collect()
    }

    /// Ends the following; what is still unread can be taken.
    pub fn stop(&mut self) {
        self.follower.stop();
    }
}

fn useful_format(instance: &Instance, path: &str) -> Option<Format> {
    let logs = &instance.configuration.access_logs;
    let log = logs.iter().find(|log| log.path.to_string_lossy() == path)?;
    let format = Format::new(&instance.configuration.format_of(log)?);
    is_useful(&format).then_some(format)
}

fn is_useful(format: &Format) -> bool {
    format.has("status") && USEFUL.iter().any(|variable| format.has(variable))
}

fn read(formats: &HashMap<String, Format>, line: &TailedLine) -> Option<AccessRecord> {
    let mut record = formats.get(&*line.file)?.read(&line.bytes)?;
    record.file = String::from(&*line.file);
    record.arrival = Some(line.arrival);
    Some(record)
}

/// Something that a line of access.log can be about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Number(u64),
    Peer(SocketAddr),
    /// Client and request line, for formats without numbers.
    Request(IpAddr, String),
    /// What ends for this client in this time.
    Ending(IpAddr, RangeInclusive<Mono>),
}

impl Expected {
    fn request(line: &LogRecord) -> Option<Self> {
        Some(Self::Request(line.client.as_ref()?.parse().ok()?, line.request.clone()?))
    }

    fn is_of(&self, record: &AccessRecord) -> bool {
        match self {
            Self::Number(number) => record.connection == Some(*number),
            Self::Peer(peer) => record.peer() == Some(*peer),
            Self::Request(client, request) => {
                record.connection.is_none()
                    && [record.client, record.behind].contains(&Some(*client))
                    && record.request.as_ref() == Some(request)
            }
            Self::Ending(client, time) => {
                record.arrival.is_some_and(|arrival| time.contains(&arrival))
                    && [record.client, record.behind].contains(&Some(*client))
            }
        }
    }
}

/// Tells lines that count from the many others.
#[derive(Debug, Default)]
struct Selection {
    expected: VecDeque<Expected>,
    ordinary: VecDeque<AccessRecord>,
}

impl Selection {
    /// The record, if it counts now.
    fn sort(&mut self, record: AccessRecord) -> Option<AccessRecord> {
        if record.is_notable() || self.expected.iter().any(|expected| expected.is_of(&record)) {
            return Some(record);
        }
        push(&mut self.ordinary, record, MOST_ORDINARY);
        None
    }

    /// Records that counted for nothing until now.
    fn expect(&mut self, expected: Expected) -> Vec<AccessRecord> {
        if self.expected.contains(&expected) {
            return Vec::new();
        }
        let (found, rest) = self.ordinary.drain(..).partition(|record| expected.is_of(record));
        self.ordinary = rest;
        push(&mut self.expected, expected, MOST_EXPECTED);
        Vec::from(found)
    }
}

fn push<T>(queue: &mut VecDeque<T>, value: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(value);
}

/// Hands lines that may explain an incident to the engine.
pub fn hand_over(engine: &mut Recorder, now: Mono, records: Vec<AccessRecord>) {
    for record in records {
        engine.handle(now, Input::Access(Box::new(record)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::config::LogFormat;

    fn record(connection: u64, status: u16) -> AccessRecord {
        AccessRecord { connection: Some(connection), status: Some(status), ..AccessRecord::default() }
    }

    #[test]
    fn formats_that_name_a_status_and_a_client_are_followed() {
        let format = |text: &str| {
            let escape = "default".to_owned();
            Format::new(&LogFormat { name: "f".to_owned(), escape, format: text.to_owned() })
        };
        assert!(is_useful(&Format::new(&LogFormat::combined())));
        assert!(is_useful(&format("$remote_addr - - [$time_local] \"$request\" $status $bytes_sent")));
        assert!(is_useful(&format("$status $connection")));
        assert!(!is_useful(&format("$request $status")));
        assert!(!is_useful(&format("$remote_addr $request")));
    }

    #[test]
    fn a_healthy_request_counts_only_when_something_spoke_of_its_connection() {
        let mut selection = Selection::default();
        assert_eq!(selection.sort(record(1, 200)), None);
        assert!(selection.sort(record(2, 502)).is_some());
        // The line of error.log is read a moment after that of access.log.
        assert_eq!(selection.expect(Expected::Number(1)), [record(1, 200)]);
        assert_eq!(selection.expect(Expected::Number(1)), []);
        // And here before it.
        assert!(selection.sort(record(1, 200)).is_some());
        assert_eq!(selection.sort(record(3, 200)), None);
    }

    #[test]
    fn without_numbers_a_line_of_error_log_asks_for_client_and_request() {
        let client = "192.0.2.1".parse().expect("an address");
        let served = |request: &str| AccessRecord {
            client: Some(client),
            request: Some(request.to_owned()),
            status: Some(200),
            ..AccessRecord::default()
        };
        let mut selection = Selection::default();
        assert_eq!(selection.sort(served("GET /a HTTP/1.1")), None);
        assert_eq!(selection.sort(served("GET /b HTTP/1.1")), None);
        let asked = Expected::Request(client, "GET /a HTTP/1.1".to_owned());
        assert_eq!(selection.expect(asked), [served("GET /a HTTP/1.1")]);
        assert!(selection.sort(served("GET /a HTTP/1.1")).is_some());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut selection = Selection::default();
        (0..2000).for_each(|number| drop(selection.sort(record(number, 200))));
        assert_eq!(selection.ordinary.len(), MOST_ORDINARY);
        (0..2000).for_each(|number| drop(selection.expect(Expected::Number(number + 5000))));
        assert_eq!(selection.expected.len(), MOST_EXPECTED);
    }
}
