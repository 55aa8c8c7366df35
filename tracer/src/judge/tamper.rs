//! A judge with one part taken out or weakened, for the test that every part is needed: whatever is taken out, some
//! recording of the lab must be judged differently. Not in the program itself.

use std::cell::{Cell, RefCell};

use super::case::Case;
use super::explain::Explanation;
use super::finding::{CODES, Finding, Origins};
use super::missing::Gap;
use super::rules;
use crate::model::Verdict;
use crate::model::verdict::{Cause, Certainty, Party, Weight};

/// What is wrong with the judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A detector finds nothing.
    Blind(&'static str),
    /// Findings of this code are not made.
    Unfound(&'static str),
    /// Decisive findings of this code only support.
    Undecided(&'static str),
    /// Findings of this code speak against nothing.
    Unopposed(&'static str),
    /// The rule is not in its table.
    Unruled(&'static str),
    /// This is not missed.
    Unmissed(&'static str),
}

/// What a fault changed so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// The fault.
    pub fault: Fault,
    /// A verdict had another party, cause, certainty or evidence by it, or was not given.
    pub shows: bool,
    /// There was something to leave out.
    pub met: bool,
}

thread_local! {
    static FAULT: RefCell<Option<Fault>> = const { RefCell::new(None) };
    static MET: Cell<bool> = const { Cell::new(false) };
    static TRIALS: RefCell<Vec<Effect>> = const { RefCell::new(Vec::new()) };
}

/// Every fault that is tried.
pub fn faults() -> Vec<Fault> {
    let codes = || CODES.iter().map(|(code, _)| *code);
    let detectors = super::detect::DETECTORS.iter().map(|(name, _)| Fault::Blind(name));
    let rules = rules::TABLES.iter().flat_map(|table| table.iter()).map(|rule| Fault::Unruled(rule.name));
    let all = detectors.chain(codes().map(Fault::Unfound)).chain(codes().map(Fault::Undecided));
    let gaps = super::missing::LOWERING.iter().map(|code| Fault::Unmissed(code));
    all.chain(codes().map(Fault::Unopposed)).chain(rules).chain(gaps).collect()
}

/// Tries these faults on every case that this thread judges while `run` runs.
pub fn tried(faults: Vec<Fault>, run: impl FnOnce()) -> Vec<Effect> {
    let unknown = |fault| Effect { fault, shows: false, met: false };
    TRIALS.replace(faults.into_iter().map(unknown).collect());
    run();
    TRIALS.take()
}

/// Judges the case with each of the faults that have had no effect yet.
pub fn observe(case: &Case) {
    let mut trials = TRIALS.take();
    if trials.is_empty() {
        return;
    }
    let whole = super::judge(case);
    let said = super::explain(case, case.time());
    let concerned = |trial: &&mut Effect| !trial.shows && concerns(trial.fault, said.as_ref());
    for trial in trials.iter_mut().filter(concerned) {
        FAULT.set(Some(trial.fault));
        MET.set(false);
        let faulty = super::judge(case);
        FAULT.set(None);
        trial.met |= MET.get();
        trial.shows = shown(whole.as_ref()) != shown(faulty.as_ref());
    }
    TRIALS.set(trials);
}

/// The fault takes something away that was found, decided or missed in the case.
fn concerns(fault: Fault, whole: Option<&Explanation>) -> bool {
    let Some(whole) = whole else { return false };
    let found = |code: &str| whole.said.iter().any(|said| said.code == code);
    match fault {
        Fault::Blind(name) => whole.said.iter().any(|said| said.detector == name),
        Fault::Unfound(code) | Fault::Undecided(code) | Fault::Unopposed(code) => found(code),
        Fault::Unruled(name) => whole.rule == Some(name),
        Fault::Unmissed(code) => whole.lowered_by.iter().any(|missing| missing.code == code),
    }
}

/// Party, cause and certainty, and the codes of the evidence with their weights.
type Shown = (Party, Cause, Certainty, Vec<(String, Weight)>, Vec<String>);

fn shown(verdict: Option<&Verdict>) -> Option<Shown> {
    let verdict = verdict?;
    let evidence = verdict.evidence.iter().map(|it| (it.code.to_string(), it.weight)).collect();
    let missing = verdict.missing.iter().map(|it| it.code.to_string()).collect();
    Some((verdict.party, verdict.cause, verdict.certainty, evidence, missing))
}

/// The findings of a detector as the faulty judge has them; `fresh` is where they begin.
pub fn findings(detector: &str, findings: &mut Vec<Finding>, fresh: usize) {
    let Some(fault) = FAULT.with_borrow(|fault| *fault) else { return };
    match fault {
        Fault::Blind(name) if name == detector => findings.truncate(fresh),
        Fault::Unfound(code) => findings.retain(|finding| finding.code != code),
        Fault::Undecided(code) => {
            let weakened = findings.iter_mut().filter(|it| it.code == code && it.decisive);
            weakened.for_each(|it| {
                it.decisive = false;
                MET.set(true);
            });
        }
        Fault::Unopposed(code) => {
            let weakened = findings.iter_mut().filter(|it| it.code == code && it.against != Origins::NONE);
            weakened.for_each(|it| {
                it.against = Origins::NONE;
                MET.set(true);
            });
        }
        _ => {}
    }
}

/// The faulty judge does not have the rule.
pub fn lacks_rule(name: &str) -> bool {
    FAULT.with_borrow(|fault| *fault == Some(Fault::Unruled(name_of(name))))
}

fn name_of(name: &str) -> &'static str {
    let mut rules = rules::TABLES.iter().flat_map(|table| table.iter());
    rules.find(|rule| rule.name == name).map_or("", |rule| rule.name)
}

/// What the faulty judge misses.
pub fn gaps(gaps: &mut [Gap]) {
    if let Some(Fault::Unmissed(code)) = FAULT.with_borrow(|fault| *fault) {
        gaps.iter_mut().filter(|gap| gap.missing.code == code).for_each(|gap| gap.lowers = false);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::BufReader;
    use std::path::Path;

    use super::{Effect, Fault, faults, tried};
    use jiff::tz::TimeZone;

    use crate::capture::Named;
    use crate::capture::session::{Lines, Packets, Session, Settings};
    use crate::engine::{Engine, Limits};
    use crate::recording::{Reader, play};

    /// Parts that no recording needs, each with the reason. Tests beside the code look at some of them.
    const UNPLAYED: &[&str] = &[
        // Speaks against a RST with the peer's own running clock, on a way that became shorter within one connection.
        "Unopposed(\"answered_too_soon\")",
        // The limits (tcp_mem, tcp_max_orphans) are those of the whole machine, not of a namespace.
        "Unfound(\"memory_pressure\")",
        // The close_notify of a server that waits for the client's, met by a client that is gone: Nginx closes at once.
        "Unruled(\"client/farewell_lost\")",
        // For captures of a client's TLS that last until its late answer to Nginx's close.
        "Unruled(\"captured/alert_after_close\")",
        // For captures of clients that close, and whose Nginx answers with a RST alone.
        "Unruled(\"captured/client_left_its_request\")",
        "Unruled(\"captured/client_had_closed\")",
        // A silence of a minute, and then a RST in Nginx's name, in a capture at the client's end.
        "Unruled(\"captured/device_after_silence\")",
        // Losses between two captures that are not repeated in vain at either end: towards a client that goes on reading.
        "Unruled(\"closed/lost_between_captures_after_silence\")",
        "Unruled(\"closed/lost_between_captures\")",
        // More incidents at once than the engine keeps; a recording of that would be larger than all others.
        "Unmissed(\"table_full\")",
        // A device that resets a client's connection while its upstream still works.
        "Unmissed(\"client_reset\")",
        // Two equal lines within the same millisecond whose incidents rest on nothing else.
        "Unmissed(\"one_line\")",
    ];

    fn name(fault: Fault) -> String {
        format!("{fault:?}")
    }

    /// Plays every recording of the lab.
    fn lab() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recordings");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut played = 0;
        for file in files.filter(|path| path.extension().is_some_and(|extension| extension == "rec")) {
            let mut reader = Reader::open(BufReader::new(File::open(file).unwrap())).unwrap();
            play(&mut reader, &mut Engine::new(Limits::default()), |_| Ok(())).unwrap();
            played += 1;
        }
        assert!(played > 0);
        for name in ["lab-0", "lab-1", "lab-2"] {
            captured(name, false);
            captured(name, true);
        }
    }

    /// Judges the captures of a bench of the lab: that of the Nginx host, or both.
    fn captured(name: &str, both: bool) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/captures");
        let file = |end: &str| folder.join(format!("{name}.{end}"));
        let mut packets = Packets::open(&[file("pcap.gz")], 10_000).unwrap();
        if both {
            packets = packets.beside(&file("upstream.pcap.gz")).unwrap();
        }
        let lines = Some(Lines::read(&[file("log")], &TimeZone::UTC).unwrap());
        let mut session = Session::new(packets, Settings { named: Named::default(), lines });
        while session.step(&mut |_, _| {}, &mut |_| true) {}
    }

    #[test]
    fn whatever_is_taken_from_the_judge_some_recording_of_the_lab_shows_it() {
        let effects = tried(faults(), lab);
        // Many codes never decide and never speak against anything.
        let optional = |effect: &Effect| matches!(effect.fault, Fault::Undecided(_) | Fault::Unopposed(_));
        let survives = |effect: &&Effect| !effect.shows && (effect.met || !optional(effect));
        let survivors: Vec<Fault> = effects.iter().filter(survives).map(|effect| effect.fault).collect();
        let unplayed = |fault: &Fault| UNPLAYED.contains(&name(*fault).as_str());
        let unplayed_no_more: Vec<&&str> =
            UNPLAYED.iter().filter(|known| !survivors.iter().any(|fault| name(*fault) == **known)).collect();
        let unknown: Vec<Fault> = survivors.iter().copied().filter(|fault| !unplayed(fault)).collect();
        assert!(
            unknown.is_empty() && unplayed_no_more.is_empty(),
            "nothing in the lab needs these: {unknown:?}; the lab plays these now: {unplayed_no_more:?}"
        );
    }
}
