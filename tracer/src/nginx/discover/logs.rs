//! The log files of a running Nginx: what its master holds open for appending, and what its configuration names.
//! The open descriptors count more, since they are what is written to.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::container;
use crate::model::Level;
use crate::nginx::config::Configuration;
use crate::nginx::line::Line;
use crate::nginx::proc::Proc;
use crate::nginx::tail::{self, Target};

/// `O_WRONLY` and `O_APPEND` (asm-generic), as Nginx opens its logs.
const WRITE_ONLY: u32 = 0o1;
const ACCESS_MODE: u32 = 0o3;
const APPEND: u32 = 0o2000;

/// The standard error of a process, which Nginx points at its first error log.
const STANDARD_ERROR: u32 = 2;

/// Bytes looked at to tell an error log from an access log.
const SAMPLE: u64 = 8 * 1024;

/// What is written to a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// error.log.
    Error,
    /// access.log.
    Access,
}

/// A log file of an Nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// Where it is.
    pub target: Target,
    /// The level of its `error_log` directive, when one names this file.
    pub level: Option<Level>,
    /// A process of Nginx holds it open now.
    pub is_open: bool,
}

#[derive(Default)]
pub(super) struct Logs {
    pub error: Vec<LogFile>,
    pub access: Vec<LogFile>,
    pub problems: Vec<String>,
    standard_error: Option<PathBuf>,
}

/// Finds the log files of a master.
pub(super) fn find(proc: &Proc, master: u32, root: &Path, configuration: &Configuration) -> Logs {
    let mut logs = Logs::default();
    for (descriptor, target) in proc.descriptors(master) {
        if descriptor == STANDARD_ERROR {
            logs.standard_error = Some(target.clone());
        }
        if is_log(proc, master, descriptor) {
            logs.add_open(descriptor, &target, root, configuration);
        }
    }
    for log in &configuration.error_logs {
        logs.add(LogKind::Error, &log.path, root, Some(log.level), false);
    }
    for log in &configuration.access_logs {
        logs.add(LogKind::Access, &log.path, root, None, false);
    }
    let kept_by_runtime = logs.follow_container(root, configuration, || container::log_of(proc, master));
    if !kept_by_runtime {
        logs.note_standard_error(master);
    }
    // Syslog may be received: the session says how.
    let unreadable = configuration.other_error_logs.iter().filter(|other| !other.starts_with("syslog:"));
    for other in unreadable.filter(|other| !(kept_by_runtime && *other == "stderr")) {
        logs.problems.push(format!("error_log {other}: cannot be followed, it is not a file"));
    }
    logs
}

fn is_log(proc: &Proc, pid: u32, descriptor: u32) -> bool {
    let flags = proc.descriptor_flags(pid, descriptor).unwrap_or(0);
    flags & ACCESS_MODE == WRITE_ONLY && flags & APPEND != 0
}

impl Logs {
    /// An error log that is the pipe of a container is followed where the runtime keeps it. True if it does.
    fn follow_container(
        &mut self,
        root: &Path,
        configuration: &Configuration,
        kept: impl FnOnce() -> Option<Target>,
    ) -> bool {
        let is_pipe =
            self.standard_error.as_ref().is_some_and(|target| target.to_string_lossy().starts_with("pipe:"));
        let leads_nowhere =
            |path: &Path| matches!(tail::identify(root, path), Err(tail::OpenError::NotAFile(_)));
        let piped = || configuration.error_logs.iter().filter(|log| leads_nowhere(&log.path));
        let is_wanted =
            piped().next().is_some() || configuration.other_error_logs.iter().any(|log| log == "stderr");
        if !(is_pipe && is_wanted) {
            return false;
        }
        let Some(target) = kept() else { return false };
        let level = piped().map(|log| log.level).max();
        self.error.retain(|log| !leads_nowhere(&log.target.path));
        self.error.push(LogFile { target, level, is_open: true });
        true
    }

    fn note_standard_error(&mut self, master: u32) {
        let Some(target) = &self.standard_error else { return };
        let text = target.to_string_lossy();
        if text.starts_with("pipe:") || text.starts_with("socket:") || text.starts_with("/dev/pts/") {
            self.problems.push(format!(
                "process {master}: its standard error is {text}; what it logs there cannot be followed"
            ));
        }
    }

    fn add_open(&mut self, descriptor: u32, target: &Path, root: &Path, configuration: &Configuration) {
        let text = target.to_string_lossy();
        if !text.starts_with('/') || text.starts_with("/dev/") {
            return;
        }
        if let Some(path) = text.strip_suffix(" (deleted)") {
            self.problems.push(format!(
                "{path}: Nginx writes to a deleted file; let it reopen its logs (kill -USR1 of the master)"
            ));
            return;
        }
        let path = path_in_root(target, root);
        let kind = kind_of(descriptor, &path, root, configuration);
        let level = configuration.error_logs.iter().find(|log| log.path == path).map(|log| log.level);
        self.add(kind, &path, root, level, true);
    }

    fn add(&mut self, kind: LogKind, path: &Path, root: &Path, level: Option<Level>, is_open: bool) {
        let target = Target { root: root.to_owned(), path: path.to_owned() };
        let list = match kind {
            LogKind::Error => &mut self.error,
            LogKind::Access => &mut self.access,
        };
        let identity = tail::identify(root, path).ok();
        let is_same = |file: &LogFile| {
            file.target == target
                || (identity.is_some() && tail::identify(root, &file.target.path).ok() == identity)
        };
        match list.iter_mut().find(|file| is_same(file)) {
            // The most talkative of several directives for one file decides what is in it.
            Some(known) => known.level = known.level.max(level),
            None => list.push(LogFile { target, level, is_open }),
        }
    }
}

/// Descriptors show the path as this process would open it; inside a changed root it is shorter.
fn path_in_root(target: &Path, root: &Path) -> PathBuf {
    match target.strip_prefix(root) {
        Ok(inside) if root != Path::new("/") => Path::new("/").join(inside),
        _ => target.to_owned(),
    }
}

fn kind_of(descriptor: u32, path: &Path, root: &Path, configuration: &Configuration) -> LogKind {
    if descriptor == STANDARD_ERROR || configuration.error_logs.iter().any(|log| log.path == path) {
        return LogKind::Error;
    }
    if configuration.access_logs.iter().any(|log| log.path == path) {
        return LogKind::Access;
    }
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    match (name.contains("error"), name.contains("access")) {
        (true, false) => LogKind::Error,
        (false, true) => LogKind::Access,
        _ => kind_by_content(root, path),
    }
}

fn kind_by_content(root: &Path, path: &Path) -> LogKind {
    let line = last_line(root, path).unwrap_or_default();
    let line = Line::read(&line);
    if line.level.is_some() && line.pid.is_some() { LogKind::Error } else { LogKind::Access }
}

/// The last complete line of a file.
pub(super) fn last_line(root: &Path, path: &Path) -> Option<Vec<u8>> {
    let (mut file, _) = tail::open_in_root(root, path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(SAMPLE))).ok()?;
    let mut bytes = Vec::new();
    file.take(SAMPLE).read_to_end(&mut bytes).ok()?;
    let end = memchr::memrchr(b'\n', &bytes)?;
    let start = memchr::memrchr(b'\n', &bytes[..end]).map_or(0, |at| at + 1);
    Some(bytes[start..end].to_vec())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_unnamed_log_is_known_by_its_content() {
        let root = tempfile::tempdir().expect("directory");
        fs::write(root.path().join("a.log"), "x\n2026/11/20 06:43:33 [notice] 1#1: exiting\n")
            .expect("write");
        fs::write(
            root.path().join("b.log"),
            "1.2.3.4 - - [20/Nov/2026:06:43:33 +0000] \"GET / HTTP/1.1\" 200\n",
        )
        .expect("write");
        let kind = |path: &str| kind_of(9, Path::new(path), root.path(), &Configuration::default());
        assert_eq!((kind("/a.log"), kind("/b.log")), (LogKind::Error, LogKind::Access));
        assert_eq!((kind("/my_error.log"), kind("/access_log")), (LogKind::Error, LogKind::Access));
    }

    #[test]
    fn a_link_to_an_open_file_is_the_same_file() {
        let root = tempfile::tempdir().expect("directory");
        fs::write(root.path().join("real.log"), "").expect("write");
        std::os::unix::fs::symlink("real.log", root.path().join("error.log")).expect("link");
        let mut logs = Logs::default();
        logs.add(LogKind::Error, Path::new("/real.log"), root.path(), None, true);
        logs.add(LogKind::Error, Path::new("/error.log"), root.path(), Some(Level::Warn), false);
        assert_eq!(
            logs.error.iter().map(|log| (log.level, log.is_open)).collect::<Vec<_>>(),
            [(Some(Level::Warn), true)]
        );
    }

    #[test]
    fn the_pipe_of_a_container_is_followed_where_it_is_kept() {
        let root = tempfile::tempdir().expect("directory");
        std::os::unix::fs::symlink("/dev/stderr", root.path().join("error.log")).expect("link");
        fs::write(root.path().join("own.log"), "").expect("write");
        let log =
            |path: &str| crate::nginx::config::ErrorLog { path: PathBuf::from(path), level: Level::Notice };
        let kept = || Some(Target::local("/var/lib/docker/containers/x/x-json.log"));
        let follow = |path: &str, standard_error: &str, kept: &dyn Fn() -> Option<Target>| {
            let mut logs = Logs { standard_error: Some(PathBuf::from(standard_error)), ..Logs::default() };
            let configuration = Configuration { error_logs: vec![log(path)], ..Configuration::default() };
            logs.add(LogKind::Error, Path::new(path), root.path(), Some(Level::Notice), false);
            logs.follow_container(root.path(), &configuration, kept);
            let [one] = logs.error.as_slice() else { panic!("one log was expected: {:?}", logs.error) };
            (one.target.path.display().to_string(), one.level)
        };
        let found = follow("/error.log", "pipe:[1]", &kept);
        assert_eq!(found, ("/var/lib/docker/containers/x/x-json.log".to_owned(), Some(Level::Notice)));
        assert_eq!(follow("/own.log", "pipe:[1]", &kept).0, "/own.log");
        assert_eq!(follow("/error.log", "/dev/null", &kept).0, "/error.log");
        assert_eq!(follow("/error.log", "pipe:[1]", &|| None).0, "/error.log");
    }

    #[test]
    fn several_directives_for_one_file_are_one_file() {
        let mut logs = Logs::default();
        logs.add(LogKind::Error, Path::new("/e.log"), Path::new("/"), Some(Level::Error), true);
        logs.add(LogKind::Error, Path::new("/e.log"), Path::new("/"), Some(Level::Info), false);
        assert_eq!(logs.error.len(), 1);
        assert_eq!((logs.error[0].level, logs.error[0].is_open), (Some(Level::Info), true));
    }
}
