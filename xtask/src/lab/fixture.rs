//! Recordings of benches as fixtures: without what only says on which machine they were made.
//! Verdicts do not rest on any of it; the replay test would show it if one did.

use anyhow::{Context, Result};
use std::path::Path;

/// Bytes of the checksum in front of a line of a recording, and of the space behind it.
const CHECKSUM: usize = 9;

/// Words of this machine, and what stands for them in a fixture.
#[derive(Debug)]
pub struct Neutral(Vec<(String, String)>);

impl Neutral {
    /// The words of the machine that runs this program.
    pub fn here() -> Self {
        let mut words = Vec::new();
        if let Ok(program) = std::env::current_exe() {
            words.push((program.display().to_string(), "/usr/bin/peer".to_owned()));
        }
        if let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") {
            let release = release.trim();
            words.push((release.to_owned(), release.split('-').next().unwrap_or_default().to_owned()));
        }
        Self(words)
    }

    /// Copies the recording `name.rec` and the verdicts `name.ndjson`.
    pub fn copy(&self, recording: &Path, verdicts: &Path, folder: &Path, name: &str) -> Result<()> {
        self.copy_recording(recording, &folder.join(format!("{name}.rec")))?;
        write(&folder.join(format!("{name}.ndjson")), &self.words(&read(verdicts)?))
    }

    /// Copies a recording.
    pub fn copy_recording(&self, recording: &Path, target: &Path) -> Result<()> {
        write(target, &self.recording(&read(recording)?))
    }

    fn words(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (word, neutral)| text.replace(word, neutral))
    }

    /// Each line with the checksum of what stands in it now.
    fn recording(&self, text: &str) -> String {
        let line = |line: &str| {
            let json = self.words(line.get(CHECKSUM..).unwrap_or_default());
            format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
        };
        text.lines().map(line).collect()
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(target: &Path, text: &str) -> Result<()> {
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    std::fs::write(target, text).with_context(|| format!("cannot write {}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::Neutral;

    #[test]
    fn words_of_the_machine_are_replaced_and_the_checksum_follows() {
        let neutral = Neutral(vec![("6.1.0-13-amd64".to_owned(), "6.1.0".to_owned())]);
        let text = neutral.recording("00000000 {\"kernel\":\"6.1.0-13-amd64\"}\n");
        let json = "{\"kernel\":\"6.1.0\"}";
        assert_eq!(text, format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())));
        assert_eq!(neutral.words("on 6.1.0-13-amd64, twice 6.1.0-13-amd64"), "on 6.1.0, twice 6.1.0");
    }
}
