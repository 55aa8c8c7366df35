//! Finds the files: crontabs, and timers that are switched on. What cannot be read is left out; every file and every
//! number of files has a bound.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Schedule, cron, timer};
use crate::nginx::proc::read_bounded;

/// Largest file, bytes.
const MAX_FILE: u64 = 256 << 10;
/// Most files of one folder.
const MAX_FILES: usize = 500;

/// Where to look.
#[derive(Debug, Clone)]
pub struct Places {
    /// The root of the file system.
    pub root: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { root: PathBuf::from("/") }
    }
}

/// Crontabs of the system: entries with a user.
const SYSTEM_CRONTABS: [&str; 1] = ["etc/crontab"];
/// Folders of such.
const CRON_FOLDERS: [&str; 1] = ["etc/cron.d"];
/// Folders of crontabs of users; only root may read them on most systems.
const USER_FOLDERS: [&str; 2] = ["var/spool/cron/crontabs", "var/spool/cron"];
/// Folders of units, the first has precedence.
const UNIT_FOLDERS: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];
/// Where a timer that is switched on has a link.
const WANTS: [&str; 4] =
    ["timers.target.wants", "multi-user.target.wants", "basic.target.wants", "default.target.wants"];

/// Everything that this host does at regular times.
pub fn all(places: &Places) -> Vec<Schedule> {
    let crontabs = |folders: &[&str], has_user: bool| {
        let files = folders.iter().flat_map(|folder| files(&places.root.join(folder)));
        files.flat_map(|file| crontab(&file, has_user)).collect::<Vec<_>>()
    };
    let system = SYSTEM_CRONTABS.iter().flat_map(|file| crontab(&places.root.join(file), true));
    let mut all: Vec<Schedule> = system.collect();
    all.extend(crontabs(&CRON_FOLDERS, true));
    all.extend(crontabs(&USER_FOLDERS, false));
    all.extend(enabled(&places.root).iter().flat_map(|name| timers(&places.root, name)));
    all
}

fn crontab(path: &Path, has_user: bool) -> Vec<Schedule> {
    let text = read(path).unwrap_or_default();
    let file = path.display().to_string();
    let lines = text.lines().enumerate();
    lines.filter_map(|(at, line)| cron::entry(line, &file, at + 1, has_user)).collect()
}

/// Names of the timers that are switched on.
fn enabled(root: &Path) -> Vec<String> {
    let folders =
        UNIT_FOLDERS.iter().flat_map(|folder| WANTS.iter().map(move |wants| root.join(folder).join(wants)));
    let names = folders.flat_map(|folder| entries(&folder)).filter_map(|path| name(&path));
    let is_timer = |name: &String| Path::new(name).extension().is_some_and(|kind| kind == "timer");
    let mut names: Vec<String> = names.filter(is_timer).collect();
    names.sort();
    names.dedup();
    names
}

fn timers(root: &Path, name: &str) -> Vec<Schedule> {
    let unit = UNIT_FOLDERS.iter().find_map(|folder| read(&root.join(folder).join(name)).ok());
    let drop_ins = UNIT_FOLDERS.iter().flat_map(|folder| files(&root.join(folder).join(format!("{name}.d"))));
    let text = drop_ins
        .filter_map(|file| read(&file).ok())
        .fold(unit.unwrap_or_default(), |all, more| all + "\n" + &more);
    let shown = crate::output::sanitize::line(name, 100);
    let name = format!("systemd timer {shown}");
    timer::times(&text).into_iter().map(|when| Schedule { name: name.clone(), when }).collect()
}

fn read(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&read_bounded(path, MAX_FILE)?).into_owned())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| path.is_file()).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.take(MAX_FILES).filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::When;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn crontabs_and_timers_that_are_switched_on_are_found() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "etc/crontab", "SHELL=/bin/sh\n17 * * * * root run-parts\n");
        write(root, "etc/cron.d/backup", "0 3 * * * backup /usr/bin/backup --all\n");
        write(root, "var/spool/cron/crontabs/anna", "*/5 * * * * sync\n");
        write(root, "usr/lib/systemd/system/rotate.timer", "[Timer]\nOnCalendar=daily\n");
        write(root, "usr/lib/systemd/system/off.timer", "[Timer]\nOnCalendar=daily\n");
        write(
            root,
            "etc/systemd/system/rotate.timer.d/x.conf",
            "[Timer]\nOnCalendar=\nOnUnitActiveSec=10min\n",
        );
        write(root, "etc/systemd/system/timers.target.wants/rotate.timer", "");
        let all = all(&Places { root: root.to_owned() });
        let names: Vec<&str> = all.iter().map(|one| one.name.rsplit('/').next().unwrap()).collect();
        let expected =
            ["crontab:2 (run-parts)", "backup --all)", "anna:1 (sync)", "systemd timer rotate.timer"];
        assert_eq!(names, expected);
        assert_eq!(all[3].when, When::Every(600));
    }

    #[test]
    fn this_host_can_be_read() {
        let _whatever_it_has = all(&Places::default());
    }
}
