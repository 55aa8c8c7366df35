//! What holds for every form: the same content in the same order, and hostile text that stays text.

use std::collections::BTreeSet;

use crate::model::Verdict;
use crate::output::samples;
use crate::output::sanitize;
use crate::report::source::{Entry, Origin};
use crate::report::{Document, Material, Selection, Window, document, shown};

use super::{html, json, markdown, text};

/// Strings that attack one of the places a report goes to.
const CORPUS: &[&str] = &[
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</style><script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<svg/onload=alert(1)>",
    "</title></head><body onload=alert(1)>",
    "<!-- --><meta http-equiv=refresh content='0;url=http://203.0.113.1/'>",
    "javascript:alert(1)",
    "[click](javascript:alert(1))",
    "![x](http://203.0.113.1/x.png)",
    "http://203.0.113.1/ www.example.com a@example.com",
    "| cell | cell |\n| --- | --- |",
    "```\n# heading",
    "> quote\n- item\n1. item",
    "$(rm -rf /) `id` ${x}",
    "=HYPERLINK(\"http://203.0.113.1\",\"x\")",
    "+cmd|' /C calc'!A0",
    "@SUM(1)",
    "\x1b[2J\x1b]0;owned\x07\x1b[31m",
    "\u{9b}31m",
    "\u{202e}txt.exe\u{2066}",
    "a\0b\rc\nd\te",
    "../../etc/passwd",
    "&lt;already&gt; &amp; &#x41;",
    "{{7*7}} <%= 7*7 %>",
];

fn hostile(attack: &str) -> Verdict {
    let mut verdict = samples::upstream_abort();
    verdict.host = attack.to_owned();
    verdict.summary = format!("sum {attack}");
    for piece in &mut verdict.evidence {
        piece.detail = format!("detail {attack}");
        piece.value = Some(attack.to_owned());
        piece.baseline = Some(attack.to_owned());
    }
    verdict.missing.push(crate::model::verdict::Missing { code: "x".into(), why: format!("why {attack}") });
    for other in &mut verdict.alternatives {
        other.why_not = format!("not {attack}");
    }
    if let Some(connection) = &mut verdict.connection {
        connection.owner = Some(crate::model::verdict::ProcessRef { pid: 1, comm: format!("comm {attack}") });
    }
    if let Some(log) = &mut verdict.log {
        log.file = format!("/var/log/{attack}");
        log.message = format!("message {attack}");
        log.request = Some(format!("GET /{attack} HTTP/1.1"));
        log.host = Some(attack.to_owned());
        log.upstream = Some(attack.to_owned());
    }
    for advice in &mut verdict.advice {
        advice.text = format!("advice {attack}");
    }
    verdict
}

fn made(verdicts: impl IntoIterator<Item = Verdict>) -> Material {
    let mut window = Window::default();
    for verdict in verdicts {
        window.add(Entry { verdict, dossier: None });
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
    let one = made([hostile(attack)]);
    let many = made([hostile(attack), samples::forged_reset(), samples::client_abort(), hostile(attack)]);
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
    for attack in CORPUS {
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
    for attack in CORPUS {
        let page = html::html(&attacked(attack).remove(0));
        let shown = sanitize::line(attack, 4000);
        let escaped =
            shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        assert!(page.contains(&escaped), "{attack}");
    }
}

#[test]
fn text_and_markdown_have_no_character_that_acts() {
    for attack in CORPUS {
        for document in attacked(attack) {
            for page in [text::text(&document), markdown::markdown(&document)] {
                assert!(!page.chars().any(|c| c != '\n' && sanitize::is_dangerous(c)), "{attack}");
            }
        }
    }
}

#[test]
fn markdown_has_no_markup_that_the_text_brought() {
    for attack in CORPUS {
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
    for attack in CORPUS {
        let material = made([hostile(attack)]);
        let entries = shown(&material);
        let verdicts: Vec<&Verdict> = entries.iter().map(|entry| &entry.verdict).collect();
        let bytes = json::json(&document(&material), &verdicts).unwrap();
        let page = String::from_utf8(bytes).unwrap();
        assert!(!page.trim_end().chars().any(sanitize::is_dangerous), "{attack}");
        let value: serde_json::Value = serde_json::from_str(&page).unwrap();
        assert_eq!(value["schema"], json::SCHEMA);
        let verdict: Verdict = serde_json::from_value(value["verdicts"][0].clone()).unwrap();
        assert_eq!(verdict, hostile(attack));
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
