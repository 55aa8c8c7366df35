//! Discovery against a directory that looks like `/proc`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

pub(super) fn process(root: &Path, pid: u32, parent: u32, cmdline: &str, own_pid: u32) {
    let directory = root.join(pid.to_string());
    fs::create_dir_all(directory.join("ns")).expect("directory");
    fs::create_dir_all(directory.join("fd")).expect("directory");
    fs::create_dir_all(directory.join("fdinfo")).expect("directory");
    fs::write(directory.join("cmdline"), cmdline).expect("cmdline");
    fs::write(directory.join("status"), format!("PPid:\t{parent}\nNSpid:\t{pid}\t{own_pid}\n"))
        .expect("status");
    symlink("net:[4026531840]", directory.join("ns/net")).expect("link");
}

/// A master with two workers in a container whose root is a directory of the test.
pub(super) fn container() -> tempfile::TempDir {
    let base = tempfile::tempdir().expect("directory");
    let proc = base.path();
    process(proc, 100, 1, "nginx: master process nginx -c /etc/nginx/nginx.conf\0", 1);
    process(proc, 101, 100, "nginx: worker process\0", 7);
    process(proc, 102, 100, "nginx: worker process\0", 8);
    let root = proc.join("100/root");
    for directory in ["etc/nginx", "var/log/nginx"] {
        fs::create_dir_all(root.join(directory)).expect("directory");
    }
    let configuration = "error_log /var/log/nginx/error.log info; http { server { listen 8080; access_log /var/log/nginx/requests; } }";
    fs::write(root.join("etc/nginx/nginx.conf"), configuration).expect("configuration");
    fs::write(root.join("var/log/nginx/error.log"), "").expect("log");
    for (descriptor, target, flags) in [
        (2, "/var/log/nginx/error.log", "0102001"),
        (5, "/var/log/nginx/requests", "02102001"),
        (6, "socket:[7]", "02"),
    ] {
        symlink(target, proc.join(format!("100/fd/{descriptor}"))).expect("link");
        fs::write(proc.join(format!("100/fdinfo/{descriptor}")), format!("pos:\t0\nflags:\t{flags}\n"))
            .expect("flags");
    }
    base
}

#[test]
fn a_container_is_read_through_its_root() {
    let base = container();
    let found = discover_in(&Proc::at(base.path()), None, None);
    assert_eq!(found.len(), 1);
    let instance = &found[0];
    assert_eq!((instance.master, instance.netns), (100, 4_026_531_840));
    assert_eq!(instance.workers, [101, 102]);
    assert_eq!(
        (instance.host_pid(7), instance.host_pid(1), instance.host_pid(101)),
        (Some(101), Some(100), None)
    );
    let paths = |logs: &[LogFile]| logs.iter().map(|log| log.target.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&instance.error_logs), [Path::new("/var/log/nginx/error.log")]);
    assert_eq!(paths(&instance.access_logs), [Path::new("/var/log/nginx/requests")]);
    assert_eq!(instance.config.listeners.len(), 1);
    assert_eq!(instance.problems, Vec::<String>::new());
}

#[test]
fn filters_take_workers_and_namespaces() {
    let base = container();
    let proc = Proc::at(base.path());
    assert_eq!(discover_in(&proc, Some(102), Some(4_026_531_840)).len(), 1);
    assert_eq!(discover_in(&proc, Some(999), None).len(), 0);
    assert_eq!(discover_in(&proc, None, Some(1)).len(), 0);
}

#[test]
fn a_worker_without_its_title_is_no_master_and_the_next_master_of_an_upgrade_is_one() {
    let base = container();
    let proc = Proc::at(base.path());
    let masters = |title: &str, flags: u32| {
        process(base.path(), 110, 100, title, 11);
        let stat = format!("110 (ng) inx) S 100 110 110 0 -1 {flags} 0 0\n");
        fs::write(base.path().join("110/stat"), stat).expect("stat");
        let masters = discover_in(&proc, None, None).iter().map(|found| found.master).collect::<Vec<_>>();
        fs::remove_dir_all(base.path().join("110")).expect("remove");
        masters
    };
    let title = "nginx: master process nginx -c /etc/nginx/nginx.conf\0";
    assert_eq!(masters(title, 0x40_0040), [100], "forked, and nothing executed since");
    assert_eq!(masters(title, 0x40_0000), [100, 110]);
}

#[test]
fn a_reload_is_followed_and_old_pids_are_remembered() {
    let base = container();
    let proc = Proc::at(base.path());
    let mut instance = discover_in(&proc, None, None).remove(0);
    assert_eq!(instance.refresh_workers_in(&proc), Some(false));
    fs::remove_dir_all(base.path().join("101")).expect("remove");
    process(base.path(), 103, 100, "nginx: worker process\0", 9);
    assert_eq!(instance.refresh_workers_in(&proc), Some(true));
    assert_eq!(instance.workers, [102, 103]);
    assert_eq!((instance.host_pid(7), instance.host_pid(9)), (Some(101), Some(103)));
    fs::remove_dir_all(base.path().join("100")).expect("remove");
    assert_eq!(instance.refresh_workers_in(&proc), None);
}

#[test]
fn after_any_number_of_reloads_the_workers_of_now_are_known() {
    let base = container();
    let proc = Proc::at(base.path());
    let mut instance = discover_in(&proc, None, None).remove(0);
    // Numbers have begun anew: those of now are the lowest.
    instance.pids = (10_000..).map(|pid| (pid, pid)).take(PIDS_LIMIT).collect();
    assert_eq!(instance.refresh_workers_in(&proc), Some(false));
    assert_eq!((instance.host_pid(7), instance.pids.len()), (Some(101), PIDS_LIMIT));
}
