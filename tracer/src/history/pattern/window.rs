//! What the patterns are computed from: events with a time and keys, counted in bounded memory.
//! The caller says what an event is; nothing here knows of log lines, so verdicts can be fed as well.

use super::series::{MAX_JUMP, Series};
use crate::history::table::Table;

/// Keys held per dimension and group.
const ROOM: usize = 1024;
/// Starts and ends of processes remembered.
const MOST_MARKS: usize = 4096;

/// What an event looks like to the client: the coarse kind that scenarios are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// The upstream was not reached, reset or closed: usually status 502.
    BadGateway,
    /// The upstream did not answer in time: usually status 504.
    GatewayTimeout,
    /// The client's connection.
    Client,
    /// Nginx or its host.
    Nginx,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 4] = [Self::BadGateway, Self::GatewayTimeout, Self::Client, Self::Nginx];

    /// Stable name.
    pub fn slug(self) -> &'static str {
        match self {
            Self::BadGateway => "bad_gateway",
            Self::GatewayTimeout => "gateway_timeout",
            Self::Client => "client",
            Self::Nginx => "nginx",
        }
    }
}

/// What events are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// Address of the upstream.
    Upstream,
    /// Method and pattern of the URI.
    Uri,
    /// Network of the client.
    Client,
    /// Name of the server block.
    Server,
    /// Process id of the worker.
    Worker,
}

impl Dimension {
    /// Every dimension.
    pub const ALL: [Self; 5] = [Self::Upstream, Self::Uri, Self::Client, Self::Server, Self::Worker];

    /// Stable name.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Uri => "uri",
            Self::Client => "client_network",
            Self::Server => "server",
            Self::Worker => "worker",
        }
    }
}

/// One event. A key that is not known is `None`.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Seconds of UTC.
    pub time: Option<i64>,
    /// Its kind.
    pub group: Group,
    /// One key per [`Dimension`].
    pub keys: [Option<&'a [u8]>; Dimension::ALL.len()],
}

/// Events of a time, counted.
#[derive(Debug, Clone)]
pub struct Window {
    series: [Series; Group::ALL.len()],
    all: Series,
    tables: Vec<Table>,
    counts: [u64; Group::ALL.len()],
    span: Option<(i64, i64)>,
    marks: Vec<i64>,
    turns: Turns,
}

/// How often refusals and timeouts took turns.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turns {
    last: Option<Group>,
    /// Runs of equal kind.
    pub runs: u64,
}

impl Default for Window {
    fn default() -> Self {
        let tables = (0..Group::ALL.len() * Dimension::ALL.len()).map(|_| Table::new(ROOM)).collect();
        Self {
            series: Default::default(),
            all: Series::default(),
            tables,
            counts: [0; Group::ALL.len()],
            span: None,
            marks: Vec::new(),
            turns: Turns::default(),
        }
    }
}

impl Window {
    /// Counts an event.
    pub fn add(&mut self, event: &Event<'_>) {
        let group = event.group as usize;
        self.counts[group] += 1;
        for (at, key) in event.keys.iter().enumerate() {
            if let Some(key) = key {
                self.tables[group * Dimension::ALL.len() + at].add(key, event.time);
            }
        }
        if matches!(event.group, Group::BadGateway | Group::GatewayTimeout) {
            self.turns.runs += u64::from(self.turns.last != Some(event.group));
            self.turns.last = Some(event.group);
        }
        let Some(time) = event.time else { return };
        self.series[group].add(time);
        self.all.add(time);
        self.cover(time);
    }

    /// The log was being written at `time`, whatever it said.
    /// A time far off everything seen so far is not believed.
    pub fn cover(&mut self, time: i64) {
        if self.span.is_some_and(|span| time < span.0 - MAX_JUMP || time > span.1 + MAX_JUMP) {
            return;
        }
        self.span = Some(self.span.map_or((time, time), |span| (span.0.min(time), span.1.max(time))));
    }

    /// A process of Nginx started, ended or was told to.
    pub fn mark(&mut self, time: i64) {
        if self.marks.len() < MOST_MARKS && self.marks.last().is_none_or(|last| *last != time) {
            self.marks.push(time);
        }
    }

    /// Events of a group over time.
    pub fn series(&self, group: Group) -> &Series {
        &self.series[group as usize]
    }

    /// Events of all groups over time.
    pub fn all(&self) -> &Series {
        &self.all
    }

    /// Puts counts in the place of those made by [`Window::add`], for a caller that counts a dimension by itself.
    pub fn set_table(&mut self, group: Group, dimension: Dimension, table: Table) {
        self.tables[group as usize * Dimension::ALL.len() + dimension as usize] = table;
    }

    /// Counts by a dimension within a group.
    pub fn table(&self, group: Group, dimension: Dimension) -> &Table {
        &self.tables[group as usize * Dimension::ALL.len() + dimension as usize]
    }

    /// Events of a group, those without a time included.
    pub fn count(&self, group: Group) -> u64 {
        self.counts[group as usize]
    }

    /// Events of all groups.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time covered, seconds of UTC.
    pub fn span(&self) -> Option<(i64, i64)> {
        self.span
    }

    /// Starts and ends of processes, seconds of UTC.
    pub fn marks(&self) -> &[i64] {
        &self.marks
    }

    /// How refusals and timeouts took turns.
    pub fn turns(&self) -> Turns {
        self.turns
    }
}
