//! Writes the archive that a kernel unpacks as its first file system: cpio in the `newc` form
//! (`Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel).
//!
//! Only what an initial file system needs: folders, files, character devices. Everything belongs to root.

use std::collections::BTreeSet;
use std::path::Path;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;
/// What ends the archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    names: BTreeSet<String>,
}

impl Archive {
    /// A folder and those above it; what is there already is left alone.
    pub fn folder(&mut self, path: &str) {
        let mut name = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if !name.is_empty() {
                name.push('/');
            }
            name.push_str(part);
            if self.names.insert(name.clone()) {
                self.entry(&name, FOLDER, &[], (0, 0));
            }
        }
    }

    /// A file that may be run; a second one with the same name is left out.
    pub fn file(&mut self, path: &str, content: &[u8]) {
        let name = path.trim_start_matches('/').to_owned();
        if let Some(folder) = Path::new(&name).parent() {
            self.folder(&folder.to_string_lossy());
        }
        if self.names.insert(name.clone()) {
            self.entry(&name, PROGRAM, content, (0, 0));
        }
    }

    /// The device that the first program's streams are opened on.
    pub fn console(&mut self) {
        self.folder("/dev");
        self.entry("dev/console", CONSOLE, &[], (5, 1));
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[], (0, 0));
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        self.inode += 1;
        let (size, name_size) = (content.len() as u32, name.len() as u32 + 1);
        // inode, mode, user, group, links, time, size, device, device of a node, length of the name, checksum
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_folders_come_first_and_once() {
        let mut archive = Archive::default();
        archive.file("/usr/bin/one", b"abc");
        archive.file("/usr/bin/two", b"");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let place = |name: &str| text.find(name).unwrap();
        assert!(place("usr\0") < place("usr/bin\0") && place("usr/bin\0") < place("usr/bin/one\0"));
        assert_eq!(text.matches("usr/bin\0").count(), 1);
        assert_eq!(text.matches("070701").count(), 5);
    }

    #[test]
    fn sizes_are_written_in_hexadecimal() {
        let mut archive = Archive::default();
        archive.file("a", &[7; 300]);
        let bytes = archive.finish();
        // Magic, then the seventh of the fields.
        assert_eq!(&bytes[6 + 6 * 8..6 + 7 * 8], b"0000012c");
    }
}
