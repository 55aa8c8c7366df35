//! Where the configuration of a running Nginx is: its arguments, then the paths it was built with, then the usual
//! places. The order and the meaning of relative paths are those of `ngx_process_options`.

use std::fs;
use std::path::{Path, PathBuf};

use super::build::{self, Build};
use crate::nginx::config::Location;
use crate::nginx::proc::Proc;
use crate::nginx::process::{self, Process};
use crate::nginx::tail;

/// Prefix of an Nginx built without options (`auto/options`).
const DEFAULT_PREFIX: &str = "/usr/local/nginx";

/// Places of packages, for binaries that do not tell.
const USUAL: [(&str, &str); 5] = [
    ("/etc/nginx/nginx.conf", "/etc/nginx"),
    ("/usr/local/openresty/nginx/conf/nginx.conf", "/usr/local/openresty/nginx"),
    ("/usr/local/nginx/conf/nginx.conf", "/usr/local/nginx"),
    ("/etc/angie/angie.conf", "/etc/angie"),
    ("/opt/nginx/conf/nginx.conf", "/opt/nginx"),
];

/// Finds the configuration; `None` when none of the places has one.
pub(super) fn find(proc: &Proc, head: &Process, root: &Path) -> Option<Location> {
    let build = build::read(&proc.path(head.pid, "exe"));
    let working = fs::read_link(proc.path(head.pid, "cwd")).unwrap_or_else(|_| PathBuf::from("/"));
    let location = from_arguments(&head.arguments, &build, &working);
    let is_told = process::option(&head.arguments, "-c").is_some() || build.conf_path.is_some();
    if is_told || exists(root, &location.file) {
        return Some(location);
    }
    let usual = USUAL.iter().find(|(file, _)| exists(root, Path::new(file)))?;
    Some(Location { file: PathBuf::from(usual.0), prefix: PathBuf::from(usual.1), ..location })
}

fn exists(root: &Path, file: &Path) -> bool {
    tail::open_in_root(root, file).is_ok()
}

fn from_arguments(arguments: &[String], build: &Build, working: &Path) -> Location {
    let default = build.prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
    let prefix = working.join(process::option(arguments, "-p").unwrap_or(default));
    let file = process::option(arguments, "-c").or(build.conf_path.as_deref()).unwrap_or("conf/nginx.conf");
    let log =
        process::option(arguments, "-e").or(build.error_log_path.as_deref()).unwrap_or("logs/error.log");
    // Builds that default to stderr are meant to be given a file by the configuration.
    let log = if log == "stderr" { "/var/log/nginx/error.log" } else { log };
    Location { file: clean(&prefix.join(file)), default_error_log: prefix.join(log), prefix }
}

/// Without `.` components, which `-p ./` leaves behind.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn relative_paths_start_where_nginx_starts_them() {
        let build = Build { prefix: Some("/usr/share/nginx".to_owned()), ..Build::default() };
        let found = from_arguments(&arguments("nginx -p srv/ -c conf/a.conf"), &build, Path::new("/home"));
        assert_eq!(found.file, PathBuf::from("/home/srv/conf/a.conf"));
        assert_eq!(found.default_error_log, PathBuf::from("/home/srv/logs/error.log"));
        let found = from_arguments(&arguments("nginx -g daemon off;"), &build, Path::new("/"));
        assert_eq!(found.file, PathBuf::from("/usr/share/nginx/conf/nginx.conf"));
        let found = from_arguments(&arguments("nginx -c/etc/x.conf"), &build, Path::new("/"));
        assert_eq!(found.file, PathBuf::from("/etc/x.conf"));
    }
}
