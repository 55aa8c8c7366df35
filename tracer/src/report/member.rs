//! The files of a bundle that are made of a report: its four forms, the packets, what is known of host and
//! configuration. Whoever has the recording can make them again, byte for byte; verdicts and recording are added by others.

use std::io;

use super::bundle::{self, Member};
use super::form::{html, json, markdown, text};
use super::page::{Material, document, shown};
use super::pcapng::Capture;
use crate::model::Verdict;

/// The files, in the order in which they stand in a bundle.
pub fn members(material: &Material, capture: Option<&Capture>) -> io::Result<Vec<Member>> {
    let document = document(material);
    let shown = shown(material);
    let verdicts: Vec<&Verdict> = shown.iter().map(|entry| &entry.verdict).collect();
    let mut members = vec![
        Member { name: "report.html", bytes: html::html(&document).into_bytes() },
        Member { name: "report.md", bytes: markdown::markdown(&document).into_bytes() },
        Member { name: "report.json", bytes: json::json(&document, &verdicts)? },
        Member { name: "report.txt", bytes: text::text(&document).into_bytes() },
    ];
    if let Some(capture) = capture.filter(|capture| !capture.is_empty()) {
        let bytes = capture.file(&material.origin, &material.made)?;
        members.push(Member { name: "packets.pcapng", bytes });
    }
    members.push(Member { name: "host.json", bytes: bundle::host(&material.origin)? });
    let configuration = bundle::configuration(&material.origin);
    members.extend(configuration.map(|bytes| Member { name: "configuration.txt", bytes }));
    Ok(members)
}
