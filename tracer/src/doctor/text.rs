//! The report for people: what was looked at, what was found with the worst first, and what could not be seen.

use anstyle::{AnsiColor, Style};

use super::report::{Finding, Outcome, Report, Severity};
use crate::output::layout::{count, hang};
use crate::output::sanitize;
use crate::output::text::TextOptions;

/// Columns of the labels.
const LABEL_WIDTH: usize = 11;
/// Characters shown of one text.
const MAX_TEXT: usize = 600;

/// The report as text.
pub fn report(report: &Report, options: &TextOptions) -> String {
    let mut page = Page { out: String::new(), options };
    page.line("rstscope", &format!("doctor {} on {}", clean(&report.version), clean(&report.host)));
    page.line("kernel", &clean(&report.kernel));
    for nginx in &report.nginx {
        page.line("nginx", &clean(nginx));
    }
    if report.nginx.is_empty() {
        page.line("nginx", "none runs; the host alone was looked at");
    }
    for finding in &report.findings {
        page.finding(finding);
    }
    if !report.unseen.is_empty() {
        page.out.push('\n');
    }
    for unseen in &report.unseen {
        page.line("not seen", &clean(&format!("{}: {}", unseen.what, unseen.why)));
    }
    page.out.push('\n');
    page.out.push_str(&summary(report));
    page.out.push('\n');
    page.out
}

/// One line that adds up.
fn summary(report: &Report) -> String {
    let of = |severity| report.count(severity) as u64;
    let blind = report.checks.iter().filter(|check| check.outcome == Outcome::Unseen).count() as u64;
    let blind = if blind > 0 { format!("; {} could not look", count(blind, "check")) } else { String::new() };
    format!(
        "{}: {} critical, {}, {}{blind}",
        count(report.checks.len() as u64, "check"),
        of(Severity::Critical),
        count(of(Severity::Warning), "warning"),
        count(of(Severity::Notice), "notice"),
    )
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Critical => AnsiColor::Red.on_default().bold(),
        Severity::Warning => AnsiColor::Yellow.on_default().bold(),
        Severity::Notice => Style::new().bold(),
    }
}

struct Page<'a> {
    out: String,
    options: &'a TextOptions,
}

impl Page<'_> {
    /// `text` must be safe to show.
    fn line(&mut self, label: &str, text: &str) {
        let padding = " ".repeat(LABEL_WIDTH.saturating_sub(label.len()));
        let first = format!("{}{padding}", self.options.palette.bold(label));
        hang(&mut self.out, &first, LABEL_WIDTH, text, self.options.width);
    }

    fn finding(&mut self, finding: &Finding) {
        let word = finding.severity.word();
        let painted = self.options.palette.paint(style(finding.severity), word);
        let padding = " ".repeat(LABEL_WIDTH.saturating_sub(word.len()));
        let head = format!("{}  {}", finding.check, clean(&finding.subject));
        self.out.push('\n');
        hang(&mut self.out, &format!("{painted}{padding}"), LABEL_WIDTH, &head, self.options.width);
        for (label, text) in [("seen", &finding.seen), ("why", &finding.why), ("change", &finding.change)] {
            let label = format!("{label:<LABEL_WIDTH$}", label = format!("  {label}"));
            hang(
                &mut self.out,
                &self.options.palette.dim(&label),
                LABEL_WIDTH,
                &clean(text),
                self.options.width,
            );
        }
    }
}

fn clean(text: &str) -> String {
    sanitize::line(text, MAX_TEXT).into_owned()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::doctor::Facts;
    use crate::doctor::facts::{NginxFacts, UnixState, Unseen};
    use crate::output::Palette;

    fn facts() -> Facts {
        let mut facts = Facts::default();
        facts.host.name = "edge1".to_owned();
        facts.kernel.release = "6.18.0".to_owned();
        facts.kernel.btf = true;
        facts.kernel.cgroup = Some("/sys/fs/cgroup".to_owned());
        facts.nginx.push(NginxFacts {
            master: 7,
            version: Some((1, 22, 1)),
            file: Some("/etc/nginx/nginx.conf".to_owned()),
            unix_sockets: vec![("/run/\u{1b}[2Ja.sock".to_owned(), UnixState::Missing)],
            error_logs: vec![crate::doctor::facts::LogFacts {
                target: "/e.log".to_owned(),
                level: Some(crate::model::Level::Error),
                problem: None,
            }],
            ..NginxFacts::default()
        });
        facts.unseen.push(Unseen {
            what: "hooks".to_owned(),
            why: "not root".to_owned(),
            checks: vec!["kernel_hooks"],
        });
        facts
    }

    #[test]
    fn the_worst_comes_first_and_nothing_dangerous_is_shown() {
        let options =
            TextOptions { palette: Palette { colour: false }, width: Some(100), zone: TimeZone::UTC };
        let text = report(&Report::new(&facts()), &options).replace(env!("CARGO_PKG_VERSION"), "VERSION");
        insta::assert_snapshot!(text, @r"
        rstscope   doctor VERSION on edge1
        kernel     6.18.0, hooks not tried, BTF, cgroup v2 at /sys/fs/cgroup, lockdown unknown
        nginx      /etc/nginx/nginx.conf, master 7, 0 workers, version 1.22.1

        CRITICAL   unix_sockets unix:/run/\x1b[2Ja.sock
          seen     does not exist
          why      connect() fails with (2: No such file or directory): every request is a 502
          change   Start the upstream, or correct the path on one side

        NOTICE     error_log_level /e.log
          seen     level error
          why      resets, timeouts and closes by clients are never logged at this level (they are at info)
          change   error_log … info; at least while a problem is looked for

        not seen   hooks: not root

        30 checks: 1 critical, 0 warnings, 1 notice; 1 check could not look
        ");
    }

    #[test]
    fn the_json_names_every_check_and_how_it_ended() {
        let report = Report::new(&facts());
        let json = serde_json::to_value(&report).unwrap();
        let schema = serde_json::to_value(schemars::schema_for!(Report)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(validator.is_valid(&json));
        assert_eq!(json["exit_code"], 2);
        assert_eq!(json["checks"].as_array().unwrap().len(), crate::doctor::checks::CHECKS.len());
        let of = |slug: &str| {
            json["checks"].as_array().unwrap().iter().find(|check| check["check"] == slug).unwrap()["outcome"]
                .clone()
        };
        assert_eq!(
            (of("kernel_hooks"), of("unix_sockets"), of("clock")),
            ("unseen".into(), "found".into(), "good".into())
        );
        assert_eq!(json["findings"][0]["subject"], "unix:/run/\u{1b}[2Ja.sock");
    }
}
