//! A bounded run of the fuzz targets in tracer/fuzz: their corpus, changed at random, against the same checks.
//! `RSTSCOPE_FUZZ_SEED` repeats a run, `RSTSCOPE_FUZZ_CASES` makes it longer. A failure prints both seed and input.

#![expect(clippy::expect_used, reason = "helpers of tests may fail loudly")]

#[path = "../tracer/fuzz/checks.rs"]
mod checks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest input; Nginx cuts lines at 2047 bytes.
const LONGEST: usize = 4096;

/// A bare generator, so that a seed means the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % limit.max(1)
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("the corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("an input")).collect()
}

/// One change: a byte, a range, a word that means something, or the end of another input.
fn change(input: &mut Vec<u8>, words: &[&[u8]], corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + random.below(40)).min(input.len());
    match random.below(7) {
        0 => input.insert(at, random.next().to_le_bytes()[5]),
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => drop(input.drain(at..end)),
        3 => {
            let copy = input[at..end].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, copy);
        }
        4 => input.truncate(at),
        5 => {
            let other = &corpus[random.below(corpus.len())];
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
        _ => {
            let word = words[random.below(words.len())];
            input.splice(at..at, word.iter().copied());
        }
    }
    input.truncate(LONGEST);
}

fn run(target: &str, cases: u64, words: &[&[u8]], check: fn(&[u8])) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let seed =
        variable("RSTSCOPE_FUZZ_SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()) + now.as_secs());
    let corpus = corpus(target);
    assert!(!corpus.is_empty());
    let mut random = Random(seed | 1);
    for case in 0..variable("RSTSCOPE_FUZZ_CASES").unwrap_or(cases) {
        let mut input = corpus[random.below(corpus.len())].clone();
        // The first round is the corpus as it is.
        if case >= corpus.len() as u64 {
            (0..=random.below(6)).for_each(|_| change(&mut input, words, &corpus, &mut random));
        }
        let held = catch_unwind(AssertUnwindSafe(|| check(&input)));
        let shown = String::from_utf8_lossy(&input);
        assert!(held.is_ok(), "{target}: RSTSCOPE_FUZZ_SEED={seed}, case {case}: {shown:?}");
    }
}

#[test]
fn lines_of_any_kind_are_read() {
    let words: [&[u8]; 16] = [
        b", client: ",
        b", server: ",
        b", request: \"",
        b", upstream: \"",
        b", host: \"",
        b", referrer: \"",
        b"\"",
        b" while ",
        b" failed",
        b" (104: ",
        b")",
        b"[error] ",
        b"2026/11/20 06:43:33",
        b"unix:",
        b"\xff",
        b"\\",
    ];
    run("line", 20_000, &words, checks::line);
}

#[test]
fn configurations_of_any_kind_are_read() {
    let words: [&[u8]; 12] = [
        b"{",
        b"}",
        b";",
        b"\"",
        b"'",
        b"\\",
        b"$",
        b"#",
        b"include x;",
        b"map $a $b {",
        b"server {",
        b"_by_lua_block {",
    ];
    run("config", 10_000, &words, checks::config);
}
