//! From the borrowed [`Line`] to the owned [`LogRecord`]: text is decoded, the local time becomes UTC.

use jiff::tz::TimeZone;

use super::{Line, Problem, peer, time};
use crate::model::{LogRecord, Utc};

/// Builds the record. `carrier_time` counts where the line itself has no time.
pub(super) fn from_line(line: &Line<'_>, carrier_time: Option<Utc>, zone: &TimeZone) -> LogRecord {
    let mut text = Decoder { replaced: false };
    let (local, ambiguous) = line.time.map_or((None, None), |local| time::to_utc(local, zone));
    let tail = &line.tail;
    let mut record = LogRecord {
        file: String::new(),
        offset: 0,
        arrival: None,
        time: local.or(carrier_time),
        level: line.level,
        pid: line.pid,
        tid: line.tid,
        connection: line.connection,
        kind: line.kind,
        side: line.side,
        call: text.option(line.call),
        errno: line.errno,
        errno_printed: line.errno_printed,
        message: text.decode(line.message),
        action: text.option(line.action),
        client: text.option(tail.client),
        server: text.option(tail.server),
        request: text.option(tail.request),
        subrequest: text.option(tail.subrequest),
        upstream: text.option(tail.upstream.and_then(peer::of_url)),
        upstream_url: text.option(tail.upstream),
        host: text.option(tail.host),
        referrer: text.option(tail.referrer),
        problems: Vec::new(),
        line: None,
        socket: None,
    };
    let decoding = text.replaced.then_some(Problem::NotUtf8);
    let problems = line.problems.iter().copied().chain(ambiguous).chain(decoding);
    record.problems = problems.map(|problem| problem.to_string()).collect();
    record
}

/// Decodes bytes and remembers whether any had to be replaced.
struct Decoder {
    replaced: bool,
}

impl Decoder {
    fn decode(&mut self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        self.replaced |= matches!(text, std::borrow::Cow::Owned(_));
        text.into_owned()
    }

    fn option(&mut self, bytes: Option<&[u8]>) -> Option<String> {
        bytes.map(|bytes| self.decode(bytes))
    }
}
