//! Unix sockets that upstreams name: whether they are there, whether the workers may connect, whether somebody listens.

use std::collections::BTreeSet;
use std::path::Path;

use super::config::tree::Tree;
use super::discover::Instance;
use super::proc::Proc;
use super::tail::{OpenError, PathStatus, path_status};
use crate::model::UnixState;

/// Bytes of `/proc/PID/net/unix` that are read.
const TABLE_LIMIT: u64 = 64 << 20;
/// `__SO_ACCEPTCON` in the flags of a row (`net/unix/af_unix.c`).
const LISTENS: u32 = 1 << 16;
/// File type bits of a mode, and those of a socket.
const TYPE: u32 = 0o170_000;
const SOCKET: u32 = 0o140_000;

/// The user that workers run as.
#[derive(Debug, Clone, Default)]
pub struct User {
    /// Effective user id.
    pub uid: u32,
    /// Groups, the effective one included.
    pub groups: Vec<u32>,
}

impl User {
    /// The user of a process.
    pub fn of(proc: &Proc, pid: u32) -> Option<Self> {
        let text = String::from_utf8_lossy(&proc.read(pid, "status")?).into_owned();
        let numbers = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u32>>())
        };
        // Real, effective, saved, file system: the second one counts.
        let uid = *numbers("Uid:")?.get(1)?;
        let mut groups = numbers("Groups:").unwrap_or_default();
        groups.extend(numbers("Gid:").and_then(|gids| gids.get(1).copied()));
        Some(Self { uid, groups })
    }

    /// Whether permission bits (`r` 4, `w` 2, `x` 1) allow this user what `wanted` names.
    fn may(&self, status: &PathStatus, wanted: u32) -> bool {
        if self.uid == 0 {
            return true;
        }
        let shift = match status {
            status if status.uid == self.uid => 6,
            status if self.groups.contains(&status.gid) => 3,
            _ => 0,
        };
        status.mode >> shift & wanted == wanted
    }
}

/// Paths of unix sockets in `server` of upstream groups and in `*_pass`.
pub fn named(tree: &Tree) -> BTreeSet<String> {
    let servers = tree.named("server").filter(|(block, _)| tree.is_inside(*block, "upstream"));
    let servers = servers.filter_map(|(_, one)| one.arguments.first()?.strip_prefix("unix:"));
    let modules = ["proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass"];
    let passes = modules.iter().flat_map(|name| tree.named(name));
    let passes = passes.filter_map(|(_, one)| {
        let target = one.arguments.first()?;
        target.split_once("://").map_or(target.as_str(), |(_, rest)| rest).strip_prefix("unix:")
    });
    // A URI follows after a colon.
    let paths = servers.chain(passes).map(|path| path.split(':').next().unwrap_or(path));
    paths.filter(|path| path.starts_with('/') && !path.contains('$')).map(str::to_owned).collect()
}

/// Looks at one socket as the workers of an instance see it now.
pub fn now(instance: &Instance, path: &str) -> UnixState {
    let proc = Proc::default();
    let user = instance.workers.first().and_then(|pid| User::of(&proc, *pid));
    state(&instance.root, path, user.as_ref(), table(&proc, instance.master).as_deref())
}

/// Looks at one socket as the workers see it.
pub fn state(root: &Path, path: &str, user: Option<&User>, table: Option<&str>) -> UnixState {
    let status = match path_status(root, Path::new(path)) {
        Ok(status) => status,
        Err(OpenError::Missing) => return UnixState::Missing,
        Err(error) => return UnixState::Unknown(error.to_string()),
    };
    if status.mode & TYPE != SOCKET {
        return UnixState::NotASocket;
    }
    if let Some(what) = user.and_then(|user| refusal(root, path, &status, user)) {
        return UnixState::NotPermitted(what);
    }
    match table {
        Some(table) if !somebody_listens(table, path) => UnixState::NobodyListens,
        _ => UnixState::Good,
    }
}

fn refusal(root: &Path, path: &str, status: &PathStatus, user: &User) -> Option<String> {
    let describe = |what: &Path, status: &PathStatus| {
        let mode = status.mode & 0o7777;
        let (uid, owner, group) = (user.uid, status.uid, status.gid);
        format!(
            "{} has mode {mode:04o}, owner {owner}, group {group}; workers run as user {uid}",
            what.display()
        )
    };
    for directory in Path::new(path).ancestors().skip(1) {
        let status = path_status(root, directory).ok()?;
        if !user.may(&status, 1) {
            return Some(describe(directory, &status));
        }
    }
    (!user.may(status, 2)).then(|| describe(Path::new(path), status))
}

/// The unix sockets of the network namespace of a process.
pub fn table(proc: &Proc, pid: u32) -> Option<String> {
    let bytes = crate::nginx::proc::read_bounded(&proc.path(pid, "net/unix"), TABLE_LIMIT).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Columns: number, reference count, protocol, flags, type, state, inode, path.
fn somebody_listens(table: &str, path: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let mut words = line.split_ascii_whitespace();
        let flags = words.nth(3).and_then(|word| u32::from_str_radix(word, 16).ok()).unwrap_or(0);
        flags & LISTENS != 0 && words.nth(3) == Some(path)
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn sockets_are_named_in_groups_and_passes() {
        let tree = Tree::of_text(
            "http { upstream a { server unix:/run/a.sock weight=2; } server { listen unix:/run/own.sock;
             location /b { proxy_pass http://unix:/run/b.sock:/uri; } location /c { fastcgi_pass unix:/run/c.sock; }
             location /d { proxy_pass http://unix:$sock; } location /e { proxy_pass http://a; } } }",
        );
        assert_eq!(
            named(&tree).into_iter().collect::<Vec<_>>(),
            ["/run/a.sock", "/run/b.sock", "/run/c.sock"]
        );
    }

    #[test]
    fn each_state_of_a_socket() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| root.path().join(name);
        let listener = UnixListener::bind(at("a.sock")).unwrap();
        fs::set_permissions(at("a.sock"), Permissions::from_mode(0o600)).unwrap();
        fs::write(at("file"), "").unwrap();
        let look =
            |path: &str, user: Option<&User>, table: Option<&str>| state(root.path(), path, user, table);
        let other = User { uid: 4_000_000, groups: vec![4_000_000] };
        assert_eq!(look("/none", None, None), UnixState::Missing);
        assert_eq!(look("/file", None, None), UnixState::NotASocket);
        let UnixState::NotPermitted(what) = look("/a.sock", Some(&other), None) else { panic!("permitted") };
        assert!(what.contains("/a.sock has mode 0600") && what.contains("user 4000000"), "{what}");
        fs::set_permissions(at("a.sock"), Permissions::from_mode(0o666)).unwrap();
        let rows = "Num RefCount\nffff: 00000002 00000000 00010000 0001 01 55 /a.sock\n";
        assert_eq!(look("/a.sock", Some(&other), Some(rows)), UnixState::Good);
        assert_eq!(look("/a.sock", Some(&other), Some("Num\n")), UnixState::NobodyListens);
        let closed = rows.replace("00010000", "00000000");
        assert_eq!(look("/a.sock", Some(&other), Some(&closed)), UnixState::NobodyListens);
        fs::set_permissions(root.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(look("/a.sock", Some(&other), Some(rows)), UnixState::NotPermitted(_)));
        drop(listener);
    }
}
