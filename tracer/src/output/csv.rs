//! Verdicts as CSV (RFC 4180), for spreadsheets. A spreadsheet runs a cell that begins like a formula, so such a
//! cell gets an apostrophe in front; characters that a terminal would act on are escaped as in the text output.

use super::{parts, sanitize};
use crate::model::Verdict;

/// The columns.
pub const HEAD: &str =
    "id,time,host,party,cause,certainty,impact,kind,place,culprit,client,upstream,request,summary\r\n";
/// Characters of one cell.
const MAX_CELL: usize = 2000;
/// First characters that make a spreadsheet calculate, their full-width forms included.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// One verdict as one line.
pub fn line(verdict: &Verdict) -> String {
    let log = |of: fn(&crate::model::verdict::LogLine) -> Option<&String>| {
        verdict.log.as_ref().and_then(of).cloned().unwrap_or_default()
    };
    let ends = [&verdict.connection, &verdict.peer_connection];
    let end = |side: &str| {
        let end = ends.iter().copied().flatten().find(|end| end.side.slug() == side);
        end.map(|end| end.remote.clone())
    };
    let cells = [
        verdict.id.clone(),
        verdict.time.clone(),
        verdict.host.clone(),
        verdict.party.to_string(),
        verdict.cause.to_string(),
        verdict.certainty.to_string(),
        verdict.impact.to_string(),
        verdict.kind.to_string(),
        parts::place(verdict),
        parts::culprit(verdict),
        end("client").unwrap_or_else(|| log(|log| log.client.as_ref())),
        end("upstream").unwrap_or_else(|| log(|log| log.upstream.as_ref())),
        log(|log| log.request.as_ref()),
        verdict.summary.clone(),
    ];
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    format!("{}\r\n", cells.join(","))
}

fn cell(text: &str) -> String {
    let safe = sanitize::line(text, MAX_CELL);
    let guard = if safe.trim_start().starts_with(FORMULA) { "'" } else { "" };
    format!("\"{guard}{}\"", safe.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_cell_is_never_a_formula_nor_more_than_a_cell() {
        assert_eq!(cell("=HYPERLINK(\"http://x\")"), "\"'=HYPERLINK(\"\"http://x\"\")\"");
        for start in ["+1", "-1", "@x", " =1", "＝1"] {
            assert!(cell(start).starts_with("\"'"), "{start}");
        }
        assert_eq!(cell("\t=1\r\n2"), "\"\\t=1\\r\\n2\"");
        assert_eq!(cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(cell("\x1b[31m"), "\"\\x1b[31m\"");
    }

    #[test]
    fn every_line_has_the_cells_of_the_head() {
        for verdict in samples::all() {
            let line = line(&verdict);
            let cells = line.trim_end().strip_prefix('"').unwrap().strip_suffix('"').unwrap().split("\",\"");
            assert_eq!(cells.count(), HEAD.split(',').count(), "{line}");
            assert_eq!(line.matches('\n').count(), 1);
        }
    }
}
