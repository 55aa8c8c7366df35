//! What the logs hide, and whether they can be read.

use super::seen;
use crate::doctor::Facts;
use crate::doctor::facts::{LogFacts, NginxFacts};
use crate::doctor::report::{Seen, Severity};
use crate::model::Level;
use crate::output::header::hidden_by;

/// Variables without which a failed request cannot be traced to its upstream and connection, and what each tells.
const FIELDS: [(&str, &str); 7] = [
    ("request_time", "how long the client waited"),
    ("upstream_addr", "which upstream"),
    ("upstream_status", "what each upstream answered"),
    ("upstream_response_time", "how long each upstream took"),
    ("connection", "the *number of error.log"),
    ("msec", "the moment to the millisecond"),
    ("pid", "the worker"),
];

/// A format with all of them, for the advice.
const FORMAT: &str = "log_format rst '$remote_addr $msec $pid *$connection \"$request\" $status $bytes_sent $request_time \
                      $upstream_addr $upstream_status $upstream_response_time';";

/// The format of an `access_log` that names none (`ngx_http_log_module`).
const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \
                        \"$http_user_agent\"";

pub(super) fn level(facts: &Facts) -> Vec<Seen> {
    let logs = facts.nginx.iter().flat_map(|nginx| &nginx.error_logs);
    logs.filter_map(|log| hiding(log, log.level?)).collect()
}

fn hiding(log: &LogFacts, level: Level) -> Option<Seen> {
    let name = format!("{level:?}").to_lowercase();
    let (severity, why, change) = match level {
        Level::Info => return None,
        Level::Debug => (
            Severity::Warning,
            "debug writes many lines per request: slower workers, a full disk",
            "error_log … info; keeps every socket failure",
        ),
        Level::Error | Level::Warn | Level::Notice => {
            (Severity::Notice, hidden_by(level)?, "error_log … info; at least while a problem is looked for")
        }
        Level::Emerg | Level::Alert | Level::Crit => {
            (Severity::Warning, hidden_by(level)?, "error_log … error; or info")
        }
    };
    Some(seen(severity, &log.target, format!("level {name}"), why, change))
}

pub(super) fn target(facts: &Facts) -> Vec<Seen> {
    facts.nginx.iter().flat_map(unreadable).collect()
}

fn unreadable(nginx: &NginxFacts) -> Vec<Seen> {
    let why =
        "Verdicts then rest on the kernel alone: no request, no server name, nothing about unix sockets";
    let change = "error_log /var/log/nginx/error.log info; beside it (several are allowed)";
    if nginx.error_logs.is_empty() {
        return vec![seen(
            Severity::Warning,
            format!("Nginx {}", nginx.master),
            "no error_log found",
            why,
            change,
        )];
    }
    let broken = nginx.error_logs.iter().filter_map(|log| Some((log, log.problem.as_ref()?)));
    broken.map(|(log, problem)| seen(Severity::Warning, &log.target, problem, why, change)).collect()
}

pub(super) fn fields(facts: &Facts) -> Vec<Seen> {
    facts.nginx.iter().flat_map(poor_formats).collect()
}

/// One finding per format in use that says too little.
fn poor_formats(nginx: &NginxFacts) -> Vec<Seen> {
    let tree = &nginx.tree;
    let in_http = tree.named("access_log").filter(|(block, _)| tree.is_inside(*block, "http"));
    let used = in_http.filter_map(|(_, one)| format_of(&one.arguments));
    let mut names: Vec<&str> = used.collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter_map(|name| poor(name, &text_of(nginx, name)?)).collect()
}

fn format_of(arguments: &[String]) -> Option<&str> {
    let target = arguments.first().filter(|target| *target != "off")?;
    let format = arguments.get(1).filter(|format| !format.contains('=')).map_or("combined", String::as_str);
    (!target.is_empty()).then_some(format)
}

fn text_of(nginx: &NginxFacts, name: &str) -> Option<String> {
    let told = nginx
        .tree
        .named("log_format")
        .find(|(_, one)| one.arguments.first().is_some_and(|first| first == name));
    let told = told.map(|(_, one)| one.arguments[1..].concat());
    told.or_else(|| (name == "combined").then(|| COMBINED.to_owned()))
}

fn poor(name: &str, text: &str) -> Option<Seen> {
    let missing: Vec<String> = FIELDS
        .iter()
        .filter(|(field, _)| !has(text, field))
        .map(|(field, tells)| format!("${field} ({tells})"))
        .collect();
    (!missing.is_empty()).then(|| {
        seen(
            Severity::Notice,
            format!("log_format {name}"),
            format!("without {}", missing.join(", ")),
            "With them a line of access.log, a line of error.log and a connection can be joined without guessing",
            FORMAT,
        )
    })
}

/// Whether a format uses a variable, and not only one whose name begins alike.
fn has(text: &str, field: &str) -> bool {
    let text = text.replace(['{', '}'], "");
    text.split('$').skip(1).any(|rest| {
        rest.strip_prefix(field)
            .is_some_and(|after| !after.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_'))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{only, with};
    use super::*;

    fn log(level: Option<Level>, problem: Option<&str>) -> Facts {
        let log = LogFacts { target: "/e.log".to_owned(), level, problem: problem.map(str::to_owned) };
        with("", |nginx| nginx.error_logs.push(log))
    }

    #[test]
    fn levels_hide_more_or_less() {
        assert_eq!((level(&log(Some(Level::Info), None)), level(&log(None, None))), (vec![], vec![]));
        only(&level(&log(Some(Level::Error), None)), Severity::Notice);
        only(&level(&log(Some(Level::Crit), None)), Severity::Warning);
        only(&level(&log(Some(Level::Debug), None)), Severity::Warning);
    }

    #[test]
    fn logs_that_cannot_be_read() {
        assert_eq!(target(&log(None, None)), []);
        assert_eq!(only(&target(&log(None, Some("is a pipe"))), Severity::Warning).seen, "is a pipe");
        only(&target(&with("", |_| {})), Severity::Warning);
    }

    #[test]
    fn formats_without_the_fields() {
        let facts = |text: &str| with(&format!("http {{ {text} }}"), |_| {});
        let found = fields(&facts("access_log /a.log;"));
        let one = only(&found, Severity::Notice);
        assert!(one.subject == "log_format combined" && one.seen.contains("$upstream_addr"), "{one:?}");
        assert_eq!(fields(&facts(&format!("{FORMAT} access_log /a.log rst;"))), []);
        assert_eq!(fields(&facts("access_log off;")), []);
        assert_eq!(
            only(
                &fields(&facts("log_format j escape=json '$connection'; access_log /a j; access_log /b j;")),
                Severity::Notice
            )
            .subject,
            "log_format j"
        );
    }

    #[test]
    fn a_longer_name_is_another_variable() {
        assert!(has("x $connection y", "connection") && has("\"${connection}\"", "connection"));
        assert!(!has("$connection_requests", "connection") && !has("connection", "connection"));
    }
}
