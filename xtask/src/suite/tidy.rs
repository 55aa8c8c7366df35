//! House rules that no other tool checks: file heads, file sizes, forgotten marks, the change log.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

const SOURCES: [&str; 4] = ["tracer", "tracer-ebpf", "xtask", "tests"];

/// Longest file, lines.
const MAX_LINES: usize = 500;

/// Longest `main.rs`, lines.
const MAX_MAIN_LINES: usize = 80;

/// Marks of unfinished work; split, so that this file does not carry them.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Files that cannot open with a module comment, because others include them.
const INCLUDED: [&str; 1] = ["tracer-ebpf/toolchain.rs"];

/// Every rule with its result.
pub fn check(root: &Path) -> Vec<(&'static str, Result<()>)> {
    let files = read_sources(root);
    let rule = |broken: fn(&Path, &str) -> bool| match &files {
        Ok(files) => list(files, broken),
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    vec![
        ("every file opens with what it does", rule(lacks_head)),
        ("no file is too long", rule(is_too_long)),
        ("no mark of unfinished work", rule(has_marks)),
        ("the change log has a section for what is not released", changes(root)),
    ]
}

fn list(files: &[(PathBuf, String)], broken: fn(&Path, &str) -> bool) -> Result<()> {
    let bad: Vec<String> = files
        .iter()
        .filter(|(path, text)| broken(path, text))
        .map(|(path, _)| path.display().to_string())
        .collect();
    if bad.is_empty() { Ok(()) } else { bail!("{}", bad.join(", ")) }
}

fn lacks_head(path: &Path, text: &str) -> bool {
    !INCLUDED.iter().any(|included| path == Path::new(included)) && !text.starts_with("//!")
}

fn is_too_long(path: &Path, text: &str) -> bool {
    let limit = if path.ends_with("src/main.rs") { MAX_MAIN_LINES } else { MAX_LINES };
    text.lines().count() > limit
}

fn has_marks(_path: &Path, text: &str) -> bool {
    MARKS.iter().any(|mark| text.contains(mark))
}

fn changes(root: &Path) -> Result<()> {
    let text = std::fs::read_to_string(root.join("CHANGELOG.md")).context("CHANGELOG.md")?;
    if text.lines().any(|line| line.starts_with("## ") && line.contains("Unreleased")) {
        return Ok(());
    }
    bail!("CHANGELOG.md has no line `## [Unreleased]`")
}

/// Path relative to the root, and text, of every Rust file.
fn read_sources(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for folder in SOURCES {
        collect(root, &root.join(folder), &mut files)?;
    }
    Ok(files)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(PathBuf, String)>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            files.push((path.strip_prefix(root).unwrap_or(&path).to_owned(), text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_find_what_they_are_for() {
        let path = Path::new("tracer/src/x.rs");
        assert!(lacks_head(path, "use std::fmt;\n"));
        assert!(!lacks_head(path, "//! Does this.\n"));
        assert!(!lacks_head(Path::new("tracer-ebpf/toolchain.rs"), "// Pins.\n"));
        assert!(is_too_long(path, &"x\n".repeat(501)) && !is_too_long(path, &"x\n".repeat(500)));
        assert!(is_too_long(Path::new("tracer/src/main.rs"), &"x\n".repeat(81)));
        assert!(has_marks(path, concat!("// TO", "DO: later")));
    }

    #[test]
    fn a_missing_change_log_is_named() {
        let error = changes(Path::new("/nonexistent-folder")).unwrap_err();
        assert!(format!("{error:#}").contains("CHANGELOG.md"));
    }
}
