//! What holds for every form: the same content in the same order, and hostile text that stays text.

use std::collections::BTreeSet;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::name_resolution::Record;
use pcap_file::pcapng::blocks::section_header::SectionHeaderOption;
use pcap_file::pcapng::{Block, PcapNgReader};

use crate::engine::testing::{stateless_reset, upstream};
use crate::engine::{Captured, Dossier};
use crate::judge::Role;
use crate::model::{HostFacts, Interface, Packet, SystemFacts, Utc, Verdict};
use crate::output::hostile::{corpus, verdict};
use crate::output::samples;
use crate::output::sanitize;
use crate::report::source::{Behind, Entry, Origin};
use crate::report::{Capture, Document, Material, Selection, Window, document, shown};

use super::{html, json, markdown, text};

fn made(verdicts: impl IntoIterator<Item = Verdict>) -> Material {
    let mut window = Window::default();
    for verdict in verdicts {
        window.add(Entry::bare(verdict));
    }
    Material {
        selection: Selection::default(),
        origin: Origin::default(),
        window,
        made: "2026-03-01T10:00:00Z".to_owned(),
        redaction: Vec::new(),
        top: 3,
    }
}

/// One incident with the attack in every field, and a window in which it is one of several.
fn attacked(attack: &str) -> Vec<Document> {
    let one = made([verdict(attack)]);
    let many = made([verdict(attack), samples::forged_reset(), samples::client_abort(), verdict(attack)]);
    vec![document(&one), document(&many)]
}

/// Every `<` that begins something in the page, as far as the first character that is no letter.
fn elements(page: &str) -> Vec<&str> {
    page.split('<')
        .skip(1)
        .map(|rest| {
            rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '/' && c != '!').next().unwrap_or("")
        })
        .collect()
}

#[test]
fn html_has_no_element_and_no_attribute_that_the_text_brought() {
    let known = html::html(&attacked("harmless").remove(1));
    let known: BTreeSet<&str> = elements(&known).into_iter().collect();
    for attack in &corpus() {
        for (page, document) in attacked(attack).iter().map(|document| (html::html(document), document)) {
            assert!(!page.chars().any(|c| c != '\n' && sanitize::is_dangerous(c)), "{attack}");
            let foreign: Vec<&str> =
                elements(&page).into_iter().filter(|name| !known.contains(name)).collect();
            assert_eq!(foreign, Vec::<&str>::new(), "{attack} in {}", document.title);
            assert_eq!(page.matches("<script>").count(), 1, "{attack}");
            let style = page.find("</style>").unwrap();
            assert!(page[style..].find("<style").is_none(), "{attack}");
        }
    }
}

#[test]
fn html_shows_every_attack_as_text() {
    for attack in &corpus() {
        let page = html::html(&attacked(attack).remove(0));
        let shown = sanitize::line(attack, 4000);
        let escaped =
            shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        assert!(page.contains(&escaped), "{attack}");
    }
}

#[test]
fn text_and_markdown_have_no_character_that_acts() {
    for attack in &corpus() {
        for document in attacked(attack) {
            for page in [text::text(&document), markdown::markdown(&document)] {
                assert!(!page.chars().any(|c| c != '\n' && sanitize::is_dangerous(c)), "{attack}");
            }
        }
    }
}

#[test]
fn markdown_has_no_markup_that_the_text_brought() {
    for attack in &corpus() {
        let page = markdown::markdown(&attacked(attack).remove(0));
        let outside: Vec<&str> = outside_fences(&page);
        for line in outside {
            let plain = line.replace("\\\\", "");
            for mark in ["<script", "<img", "<svg", "<meta", "](", "![", "http://", "www.", "`"] {
                let at = plain.find(mark);
                let escaped = at.is_none_or(|at| at > 0 && plain.as_bytes()[at - 1] == b'\\');
                assert!(escaped, "{attack}: {mark} in {line}");
            }
        }
        let headings = page.lines().filter(|line| line.starts_with('#')).count();
        let plain = markdown::markdown(&attacked("harmless").remove(0));
        assert_eq!(headings, plain.lines().filter(|line| line.starts_with('#')).count(), "{attack}");
        let columns = |page: &str| {
            page.lines()
                .filter(|line| line.starts_with("| "))
                .map(|line| line.replace("\\|", "").matches('|').count())
                .collect::<Vec<_>>()
        };
        assert_eq!(columns(&page), columns(&plain), "{attack}");
    }
}

fn outside_fences(page: &str) -> Vec<&str> {
    let mut fence: Option<&str> = None;
    let mut lines = Vec::new();
    for line in page.lines() {
        match fence {
            Some(open) if line == open => fence = None,
            Some(_) => {}
            None if line.starts_with("```") => fence = Some(line.trim_end_matches("text")),
            None => lines.push(line),
        }
    }
    lines
}

#[test]
fn json_reads_back_to_what_was_given() {
    for attack in &corpus() {
        let material = made([verdict(attack)]);
        let entries = shown(&material);
        let verdicts: Vec<&Verdict> = entries.iter().map(|entry| &entry.verdict).collect();
        let bytes = json::json(&document(&material), &verdicts).unwrap();
        let page = String::from_utf8(bytes).unwrap();
        assert!(!page.trim_end().chars().any(sanitize::is_dangerous), "{attack}");
        let value: serde_json::Value = serde_json::from_str(&page).unwrap();
        assert_eq!(value["schema"], json::SCHEMA);
        let read: Verdict = serde_json::from_value(value["verdicts"][0].clone()).unwrap();
        assert_eq!(read, verdict(attack));
    }
}

#[test]
fn every_form_has_the_same_titles_in_the_same_order() {
    for document in attacked("plain") {
        let mut titles = Vec::new();
        for section in &document.sections {
            titles.push(section.title.clone());
            titles.extend(section.sections.iter().map(|inner| inner.title.clone()));
        }
        let page = html::html(&document);
        let body = &page[page.find("<main>").unwrap()..];
        let marked = markdown::markdown(&document);
        for form in [text::text(&document), marked.replace('\\', ""), body.to_owned()] {
            let mut from = 0;
            for title in &titles {
                let at = form[from..].find(title.as_str());
                assert!(at.is_some(), "{title} after {from}");
                from += at.unwrap() + title.len();
            }
        }
    }
}

#[test]
fn the_policy_allows_exactly_what_the_page_has() {
    let page = html::html(&attacked("plain").remove(0));
    assert!(page.contains("default-src 'none'"));
    assert!(!page.contains("unsafe-inline") && !page.contains(" style=\"") && !page.contains("onclick"));
    for request in ["src=", "url(", "@import", "<link", "<iframe", "fetch("] {
        assert!(!page.contains(request), "{request}");
    }
}

#[test]
fn the_first_screen_of_an_incident() {
    let page = text::text(&document(&made([samples::forged_reset()])));
    insta::assert_snapshot!(page.split("\nEvidence, for and against").next().unwrap());
}

#[test]
fn the_first_screen_of_a_window() {
    let page = text::text(&document(&made([
        samples::forged_reset(),
        samples::upstream_abort(),
        samples::client_abort(),
        samples::consequence(),
        samples::no_live_upstreams(),
        samples::undecided(),
    ])));
    insta::assert_snapshot!(page.split("\nTop incidents").next().unwrap());
}

/// Everything that the reader of a packet file is shown as text.
fn texts(bytes: &[u8]) -> (Vec<String>, usize) {
    let mut reader = PcapNgReader::new(bytes).unwrap();
    let (mut texts, mut packets) = (Vec::new(), 0);
    for option in &reader.section().options {
        match option {
            SectionHeaderOption::Comment(text)
            | SectionHeaderOption::OS(text)
            | SectionHeaderOption::UserApplication(text) => texts.push(text.to_string()),
            other => panic!("{other:?}"),
        }
    }
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => {
                texts.extend(interface.options.iter().filter_map(|option| match option {
                    InterfaceDescriptionOption::IfName(text)
                    | InterfaceDescriptionOption::IfDescription(text) => Some(text.to_string()),
                    _ => None,
                }));
            }
            Block::NameResolution(names) => {
                texts.extend(names.records.iter().flat_map(|record| match record {
                    Record::Ipv4(one) => one.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    Record::Ipv6(one) => one.names.iter().map(ToString::to_string).collect(),
                    Record::End | Record::Unknown(_) => Vec::new(),
                }));
            }
            Block::EnhancedPacket(packet) => {
                packets += 1;
                texts.extend(packet.options.iter().map(|option| match option {
                    EnhancedPacketOption::Comment(text) => text.to_string(),
                    EnhancedPacketOption::CustomUtf8(custom) => {
                        serde_json::from_str::<serde_json::Value>(&custom.value).unwrap();
                        custom.value.to_string()
                    }
                    other => panic!("{other:?}"),
                }));
            }
            other => panic!("{other:?}"),
        }
    }
    (texts, packets)
}

#[test]
fn packets_have_no_text_that_acts_and_lose_none() {
    for attack in &corpus() {
        let packet = stateless_reset(&upstream());
        let captured = Captured {
            index: 0,
            time: Utc(1),
            exact: true,
            role: Role::ResetReceived,
            netns: 5,
            packet: Packet { ifindex: 2, raw: vec![0x45; 40], ..packet },
        };
        let verdict = verdict(attack);
        let dossier =
            Dossier { id: verdict.id.clone(), steps: Vec::new(), packets: vec![captured], beyond: 0 };
        let interface = Interface { netns: 5, index: 2, name: attack.clone() };
        let host = HostFacts {
            host: attack.clone(),
            kernel: attack.clone(),
            local_addresses: vec![upstream().local.ip()],
            system: SystemFacts { interfaces: vec![interface], ..SystemFacts::default() },
            ..HostFacts::default()
        };
        let origin = Origin { last_host: Some(Box::new(host)), ..Origin::default() };
        let mut capture = Capture::default();
        capture.add(&Entry { verdict: verdict.clone(), behind: Behind::Open(Box::new(dossier)) });
        let (texts, packets) = texts(&capture.file(&origin, "now").unwrap());
        assert_eq!(packets, 1, "{attack}");
        assert!(!texts.iter().any(|text| text.chars().any(sanitize::is_dangerous)), "{attack}: {texts:?}");
        let told = texts.iter().filter_map(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let details: Vec<String> =
            told.filter_map(|json| json["detail"].as_str().map(str::to_owned)).collect();
        assert_eq!(details.len(), verdict.evidence.len());
        assert!(details.iter().all(|detail| *detail == format!("detail {attack}")), "{details:?}");
        for name in texts.iter().filter(|text| text.starts_with("nginx-")) {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name}");
        }
    }
}
