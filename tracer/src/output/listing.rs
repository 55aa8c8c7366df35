//! One line per verdict, with its date and its id, for lists of stored verdicts.

use anstyle::Style;
use jiff::Timestamp;

use super::text::TextOptions;
use super::{parts, sanitize, style};
use crate::model::Verdict;

/// Characters of what it did to which request.
const MAX_TAIL: usize = 60;
/// Characters of an id; a ULID has 26.
const MAX_ID: usize = 32;

/// The line, with its end.
pub fn line(verdict: &Verdict, options: &TextOptions) -> String {
    let paint = |style: Style, text: &str| options.palette.paint(style, text);
    let party = verdict.party.slug().to_uppercase();
    let fields = [
        paint(Style::new().dimmed(), &sanitize::line(&verdict.id, MAX_ID)),
        date(&verdict.time, options),
        paint(style::party(verdict.party), &format!("{party:<9}")),
        paint(style::certainty(verdict.certainty), &format!("{:<6}", verdict.certainty)),
        paint(Style::new().bold(), verdict.cause.slug()),
        parts::culprit(verdict),
        sanitize::line(&parts::impact_and_request(verdict), MAX_TAIL).into_owned(),
    ];
    let shown: Vec<&str> = fields.iter().filter(|field| !field.is_empty()).map(String::as_str).collect();
    format!("{}\n", shown.join("  "))
}

fn date(time: &str, options: &TextOptions) -> String {
    match time.parse::<Timestamp>() {
        Ok(stamp) => stamp.to_zoned(options.zone.clone()).strftime("%Y-%m-%d %H:%M:%S.%3f").to_string(),
        Err(_) => sanitize::line(time, 40).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::{Palette, samples};
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_stands_in_it() {
        let options = TextOptions { palette: Palette { colour: false }, width: None, zone: TimeZone::UTC };
        for verdict in samples::all() {
            let line = line(&verdict, &options);
            assert_eq!(line.find('\n'), Some(line.len() - 1));
            assert!(!line.trim_end().chars().any(sanitize::is_dangerous), "{line}");
        }
        let line = line(&samples::upstream_abort(), &options);
        assert!(line.starts_with("01JNA8VQ3W6T4Z0E5R7Y9HKMPC  2026-03-01 14:03:22.118  UPSTREAM "), "{line}");
    }
}
