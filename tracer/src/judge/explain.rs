//! Why a verdict is what it is, step by step: what belonged to the incident, what each detector said, which rule
//! decided, and what the certainty lost on the way. Decides nothing: it asks the same questions as `judge` again.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::model::verdict::{Certainty, Missing, Verdict, Weight};
use crate::model::{Event, LogRecord, Mono, Overflow, Side, Utc};
use crate::timeline::Subject;

use super::case::Case;
use super::finding::Finding;
use super::rules::{self, Look};
use super::{certainty, detect, leans_on_log, missing, phase, weigh};

/// Why a verdict is what it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// What belonged to the incident, in the order of time.
    pub steps: Vec<Step>,
    /// Events that were more than the incident keeps.
    pub beyond: u32,
    /// When it was judged.
    pub judged: Utc,
    /// The client incident that stands behind it, by id.
    pub caused_by: Option<String>,
    /// What the detectors said.
    pub said: Vec<Said>,
    /// The rule that held, if one did.
    pub rule: Option<&'static str>,
    /// Something was found that speaks for that rule's explanation; without it nobody is named.
    pub supported: bool,
    /// Rules that were read before and did not hold.
    pub passed: Vec<&'static str>,
    /// What the evidence allows.
    pub earned: Certainty,
    /// What lowered that, each by one step.
    pub lowered_by: Vec<Missing>,
    /// The verdict, with what is missing and the alternatives.
    pub verdict: Verdict,
}

/// One thing that belonged to the incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub time: Utc,
    /// Whose doing or saying it was.
    pub witness: Cow<'static, str>,
    /// What it was.
    pub what: What,
}

/// What reached the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// An event of the kernel.
    Event(Box<Event>),
    /// The overflows of a listener, added up.
    Overflow(Overflow),
    /// A line of error.log.
    Line(Box<LogRecord>),
}

/// One finding of a detector, and what it weighs for what was decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Said {
    /// Name of the detector.
    pub detector: &'static str,
    /// Slug of the finding.
    pub code: &'static str,
    /// What it weighs; `None` where it speaks neither for nor against what was decided.
    pub weight: Option<Weight>,
    /// A sentence with its numbers.
    pub detail: String,
}

/// Explains the verdict on a case judged at `at`. `None` where there is no verdict.
pub fn explain(case: &Case, at: Mono) -> Option<Explanation> {
    let verdict = super::judge(case)?;
    let told = detect::told(case);
    let findings: Vec<Finding> = told.iter().map(|(_, finding)| finding.clone()).collect();
    let look = Look { case, findings: &findings };
    let decision = rules::decide(&look);
    let evidence = weigh(&findings, decision.ruling);
    let leans = leans_on_log(&evidence, decision.ruling);
    let gaps = missing::gaps(case, decision.ruling, phase::kind(case), leans);
    let weighed = |(detector, finding): &(&'static str, Finding)| Said {
        detector,
        code: finding.code,
        weight: finding.weigh(decision.ruling.origins).map(|evidence| evidence.weight),
        detail: finding.detail.clone(),
    };
    Some(Explanation {
        steps: steps(case),
        beyond: case.incident.beyond,
        judged: case.clock.utc(at),
        caused_by: case.caused_by.as_ref().map(|by| by.id.clone()),
        said: told.iter().map(weighed).collect(),
        rule: decision.rule.map(|rule| rule.name),
        supported: decision.supported,
        passed: passed(case, decision.rule.map(|rule| rule.name)),
        earned: certainty::earned(&evidence, decision.ruling.party),
        lowered_by: gaps.into_iter().filter(|gap| gap.lowers).map(|gap| gap.missing).collect(),
        verdict,
    })
}

fn passed(case: &Case, held: Option<&'static str>) -> Vec<&'static str> {
    rules::read(case).map(|rule| rule.name).take_while(|name| Some(*name) != held).collect()
}

/// What belonged to the incident, in the order of time.
pub fn steps(case: &Case) -> Vec<Step> {
    let incident = case.incident;
    let own: &'static str = match case.side() {
        Some(Side::Client | Side::ClientPeer) => "nginx, to the client",
        _ => "nginx, to the upstream",
    };
    let event = |witness: &'static str| {
        move |event: &Event| Step {
            time: case.clock.utc(event.time),
            witness: witness.into(),
            what: What::Event(Box::new(event.clone())),
        }
    };
    let mut steps: Vec<Step> = incident.own.iter().map(event(own)).collect();
    steps.extend(case.peer.iter().copied().map(event("the other end")));
    steps.extend(incident.aftermath.iter().map(event("this host, afterwards")));
    steps.extend(incident.asides.iter().map(event("this host, aside")));
    steps.extend(incident.other_half.iter().map(|half| event("nginx, the other half")(half)));
    steps.extend(case.effects.iter().copied().map(event("nginx, the other half")));
    steps.extend(incident.overflow.as_ref().map(|sum| Step {
        time: case.clock.utc(incident.last),
        witness: "the listener".into(),
        what: What::Overflow(Overflow {
            dropped: u32::try_from(sum.dropped).unwrap_or(u32::MAX),
            ..sum.latest.clone()
        }),
    }));
    steps.extend(line(case));
    steps.sort_by_key(|step| step.time);
    steps
}

fn line(case: &Case) -> Option<Step> {
    let record = match &case.incident.subject {
        Subject::Line(record) => record.as_ref(),
        _ => case.line?.record,
    };
    let arrival = record.arrival.map(|arrival| case.clock.utc(arrival));
    let time = arrival.or(record.time).unwrap_or_else(|| case.clock.utc(case.incident.last));
    Some(Step { time, witness: "error.log".into(), what: What::Line(Box::new(record.clone())) })
}
