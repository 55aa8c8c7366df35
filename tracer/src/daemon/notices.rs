//! Notices to the webhook and to the command: starts what the configuration asks for, and hands them over.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{DaemonError, Journal, Level};
use crate::config::{self, Config};
use crate::guard;
use crate::history::report::PatternRow;
use crate::metrics::Notices;
use crate::model::Verdict;
use crate::outbound::command::Helper;
use crate::outbound::http::Endpoint;
use crate::outbound::{Notice, Outlet, Plan, Say, webhook};

/// Pauses before a notice is sent by POST again.
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// Everything that wants notices.
#[derive(Clone, Default)]
pub(super) struct Outlets(Vec<Outlet>);

impl Outlets {
    /// Starts a thread for each that is configured.
    pub(super) fn start(
        config: &Config,
        helper: Option<Helper>,
        accounts: &Notices,
        journal: &Journal,
    ) -> io::Result<Self> {
        let mut outlets = Vec::new();
        // The configuration was checked: what cannot be understood is not there.
        let endpoint = config.webhook.url.as_deref().and_then(|url| Endpoint::parse(url).ok());
        if let Some(endpoint) = endpoint {
            outlets.push(webhook(&config.webhook, endpoint, accounts, journal)?);
        }
        if let Some(helper) = helper {
            outlets.push(command(&config.command, helper, accounts, journal)?);
        }
        Ok(Self(outlets))
    }

    /// Tells of a finding.
    pub(super) fn pattern(&self, row: &PatternRow) {
        let notice = (!self.0.is_empty()).then(|| Notice::of_pattern(row));
        self.tell(notice);
    }

    /// Tells of an incident, if it is one to tell of.
    pub(super) fn verdict(&self, verdict: &Verdict) {
        let notice = if self.0.is_empty() { None } else { Notice::of_verdict(verdict) };
        self.tell(notice);
    }

    fn tell(&self, notice: Option<Notice<'_>>) {
        if let Some(notice) = notice {
            self.0.iter().for_each(|outlet| outlet.tell(&notice));
        }
    }
}

/// Starts the helper of the command, if there is one to start: before anything is given up.
pub(super) fn helper(config: &Config) -> Result<Option<Helper>, DaemonError> {
    let run: Vec<OsString> = config.command.run.iter().map(OsString::from).collect();
    if run.is_empty() {
        return Ok(None);
    }
    let limit = Duration::from_secs(config.command.timeout_seconds.into());
    let error = |source| DaemonError::System { what: "start the helper of command.run".to_owned(), source };
    Helper::start(&run, limit).map(Some).map_err(error)
}

fn webhook(
    config: &config::Webhook,
    endpoint: Endpoint,
    accounts: &Notices,
    journal: &Journal,
) -> io::Result<Outlet> {
    let plan = Plan {
        name: "webhook",
        about: config.about.clone(),
        per_minute: config.per_minute,
        again: &AGAIN,
        say: say("webhook", journal.clone()),
    };
    let limit = Duration::from_secs(config.timeout_seconds.into());
    let journal = journal.clone();
    Outlet::start(plan, Arc::clone(&accounts.webhook), move || {
        journal.confined("webhook", guard::worker(&[], Some(endpoint.port())));
        webhook::deliver(endpoint, limit)
    })
}

fn command(
    config: &config::Command,
    helper: Helper,
    accounts: &Notices,
    journal: &Journal,
) -> io::Result<Outlet> {
    let plan = Plan {
        name: "command",
        about: config.about.clone(),
        per_minute: config.per_minute,
        again: &[],
        say: say("command", journal.clone()),
    };
    let journal = journal.clone();
    Outlet::start(plan, Arc::clone(&accounts.command), move || {
        journal.confined("command", guard::worker(&[], None));
        helper.deliver()
    })
}

fn say(name: &'static str, journal: Journal) -> Say {
    Box::new(move |result| match result {
        Ok(()) => journal.line(Level::Notice, &format!("{name}: notices arrive again")),
        Err(failure) => journal.line(Level::Warning, &format!("{name}: a notice did not arrive: {failure}")),
    })
}
