//! Reading configuration files and their includes inside the root of the Nginx process. Bounded in depth, number and
//! size. Executes nothing.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};

use super::token::{Step, Tokens};
use crate::nginx::tail;

/// Most bytes read of one file.
const FILE_LIMIT: u64 = 16 * 1024 * 1024;
/// Most bytes read of all files.
const TOTAL_LIMIT: u64 = 64 * 1024 * 1024;
/// Most problems kept.
const PROBLEMS_LIMIT: usize = 200;
/// Most files read.
const FILES_LIMIT: usize = 4096;
/// Deepest chain of includes.
const DEPTH_LIMIT: usize = 16;
/// Most names looked at per directory.
const NAMES_LIMIT: usize = 65_536;

/// Where a step stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its file.
    pub file: &'a Path,
    /// Number of its line, from 1.
    pub line: u32,
}

/// Walks through a configuration with all its includes.
pub struct Reader<'a> {
    root: &'a Path,
    /// Directory that relative includes start from.
    directory: PathBuf,
    files: usize,
    /// Bytes that may still be read.
    allowance: u64,
    /// Files that were looked at, in order.
    pub read: Vec<PathBuf>,
    /// What could not be read.
    pub problems: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Reads inside `root`; relative includes start from the directory of `file`.
    pub fn new(root: &'a Path, file: &Path) -> Self {
        let directory = file.parent().unwrap_or(Path::new("/")).to_owned();
        Self { root, directory, files: 0, allowance: TOTAL_LIMIT, read: Vec::new(), problems: Vec::new() }
    }

    /// Reads a file and hands every step to `visit`, includes in their place.
    pub fn walk(&mut self, file: &Path, visit: &mut dyn FnMut(Step, Place<'_>)) {
        self.walk_at(file, 0, visit);
    }

    fn walk_at(&mut self, file: &Path, depth: usize, visit: &mut dyn FnMut(Step, Place<'_>)) {
        if depth > DEPTH_LIMIT || self.files >= FILES_LIMIT {
            self.problem(file, "too many includes, not read");
            return;
        }
        self.files += 1;
        self.read.push(file.to_owned());
        let Some(bytes) = self.read(file) else { return };
        let mut tokens = Tokens::new(&bytes);
        while let Some(step) = tokens.next() {
            match step {
                Step::Directive(words) if words.len() == 2 && words[0] == "include" => {
                    self.include(&words[1], depth, visit);
                }
                Step::Problem(what) => self.problem(file, &what),
                step => visit(step, Place { file, line: tokens.began() }),
            }
        }
    }

    fn read(&mut self, file: &Path) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let problem = match tail::open_in_root(self.root, file) {
            Ok((opened, _)) => match opened.take(FILE_LIMIT.min(self.allowance)).read_to_end(&mut bytes) {
                Ok(_) => {
                    self.allowance -= bytes.len() as u64;
                    return Some(bytes);
                }
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        self.problem(file, &problem);
        None
    }

    fn problem(&mut self, file: &Path, what: &str) {
        if self.problems.len() < PROBLEMS_LIMIT {
            self.problems.push(format!("{}: {what}", file.display()));
        }
    }

    fn include(&mut self, pattern: &str, depth: usize, visit: &mut dyn FnMut(Step, Place<'_>)) {
        let pattern = self.directory.join(pattern);
        if !is_pattern(&pattern.to_string_lossy()) {
            return self.walk_at(&pattern, depth + 1, visit);
        }
        for file in self.expand(&pattern) {
            self.walk_at(&file, depth + 1, visit);
        }
    }

    /// The files a pattern matches, sorted as `glob(3)` sorts them.
    fn expand(&mut self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::from("/")];
        for component in pattern.components() {
            let Component::Normal(name) = component else { continue };
            let name = name.to_string_lossy();
            found = if is_pattern(&name) {
                found.iter().flat_map(|directory| self.names(directory, &name)).take(FILES_LIMIT).collect()
            } else {
                found.into_iter().map(|directory| directory.join(&*name)).collect()
            };
        }
        found
    }

    fn names(&self, directory: &Path, pattern: &str) -> Vec<PathBuf> {
        let Ok(descriptor) = tail::open_directory(self.root, directory) else { return Vec::new() };
        let listing = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        let Ok(entries) = std::fs::read_dir(listing) else { return Vec::new() };
        let names = entries.take(NAMES_LIMIT).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| matches(pattern, name)).collect();
        names.sort_unstable();
        names.into_iter().map(|name| directory.join(name)).collect()
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// `*`, `?` and `[…]` of `glob(3)`; a leading dot is matched only by a dot.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    matches_at(&pattern, &name)
}

/// Without recursion for `*`: remembers the last star and the place it has eaten up to.
fn matches_at(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, from));
            at += 1;
        } else if let Some(length) = one(&pattern[at..], name[from]) {
            at += length;
            from += 1;
        } else if let Some((star_at, eaten)) = star {
            star = Some((star_at, eaten + 1));
            at = star_at + 1;
            from = eaten + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

/// How much of the pattern one letter uses up, `None` if it does not match.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => {
            let end = pattern.iter().skip(2).position(|letter| *letter == ']')? + 2;
            class(&pattern[1..end], letter).then_some(end + 1)
        }
        same => (*same == letter).then_some(1),
    }
}

fn class(inside: &[char], letter: char) -> bool {
    let (negated, inside) = match inside.split_first() {
        Some(('!' | '^', rest)) => (true, rest),
        _ => (false, inside),
    };
    let mut at = 0;
    let mut found = false;
    while at < inside.len() {
        if at + 2 < inside.len() && inside[at + 1] == '-' {
            found |= (inside[at]..=inside[at + 2]).contains(&letter);
            at += 3;
        } else {
            found |= inside[at] == letter;
            at += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_shell_does() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".a.conf", false),
            ("*.conf", "a.conf.bak", false),
            ("a?c*", "abcde", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("*a*b", "xaxxb", true),
            ("*", "x", true),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
