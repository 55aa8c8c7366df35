//! Measured idle times, from verdicts that `rstscope trace --output FILE` wrote.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::doctor::facts::MeasuredIdle;

/// Bytes read at most.
const FILE_LIMIT: u64 = 1 << 30;

/// The verdicts could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the verdicts in {}: {source}", path.display())]
pub struct VerdictsError {
    path: PathBuf,
    source: io::Error,
}

/// Reads a file of verdicts, one JSON object per line; lines that are something else are passed over.
pub(super) fn read(path: &Path) -> Result<Vec<MeasuredIdle>, VerdictsError> {
    let failed = |source| VerdictsError { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?.take(FILE_LIMIT);
    let mut found = BTreeMap::new();
    for line in BufReader::new(file).lines() {
        note(&line.map_err(failed)?, &mut found);
    }
    Ok(found
        .into_iter()
        .map(|(address, (idle_ms, times))| MeasuredIdle { address, idle_ms, times })
        .collect())
}

fn note(line: &str, found: &mut BTreeMap<SocketAddr, (u64, usize)>) {
    let Some((address, idle_ms)) = race(line) else { return };
    let known = found.entry(address).or_insert((idle_ms, 0));
    *known = (known.0.min(idle_ms), known.1 + 1);
}

/// Upstream and idle time of a keep-alive race.
fn race(line: &str) -> Option<(SocketAddr, u64)> {
    let verdict: Value = serde_json::from_str(line).ok()?;
    if verdict["cause"] != "upstream_keepalive_race" {
        return None;
    }
    let connection = &verdict["connection"];
    Some((connection["remote"].as_str()?.parse().ok()?, connection["idle_ms"].as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_idle_time_of_each_upstream_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("verdicts");
        let verdict = |cause: &str, idle_ms: u64| {
            format!(
                "{{\"cause\":\"{cause}\",\"connection\":{{\"remote\":\"10.0.0.1:80\",\"idle_ms\":{idle_ms}}}}}\n"
            )
        };
        let text = [
            verdict("upstream_keepalive_race", 5010),
            verdict("upstream_keepalive_race", 4990),
            verdict("upstream_abort", 10),
            "garbage\n".to_owned(),
        ];
        std::fs::write(&path, text.concat()).unwrap();
        let address = "10.0.0.1:80".parse().unwrap();
        assert_eq!(read(&path).unwrap(), [MeasuredIdle { address, idle_ms: 4990, times: 2 }]);
        assert!(read(&directory.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
