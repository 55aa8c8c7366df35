//! The paths an Nginx binary was built with. The binary carries its `configure` arguments as text (what `nginx -V`
//! prints), so they can be read without running it.

use std::path::Path;

use memchr::memmem;

use crate::nginx::proc::read_bounded;

/// Most bytes read of a binary.
const BINARY_LIMIT: u64 = 128 * 1024 * 1024;

/// Longest list of arguments.
const ARGUMENTS_LIMIT: usize = 64 * 1024;

/// Paths a binary falls back to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Build {
    pub prefix: Option<String>,
    pub conf_path: Option<String>,
    pub error_log_path: Option<String>,
}

/// Reads them from the binary; empty when it carries none.
pub(super) fn read(binary: &Path) -> Build {
    read_bounded(binary, BINARY_LIMIT).map(|bytes| from_bytes(&bytes)).unwrap_or_default()
}

fn from_bytes(bytes: &[u8]) -> Build {
    let Some(at) = memmem::find(bytes, b" --prefix=").or_else(|| memmem::find(bytes, b" --conf-path="))
    else {
        return Build::default();
    };
    let start = bytes[..at].iter().rposition(|byte| *byte == 0).map_or(0, |zero| zero + 1);
    let rest = &bytes[start..bytes.len().min(start + ARGUMENTS_LIMIT)];
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let text = String::from_utf8_lossy(&rest[..end]);
    let value = |name: &str| {
        let at = text.rfind(name)? + name.len();
        let value = text[at..].split([' ', '\'', '"']).next()?;
        (!value.is_empty()).then(|| value.to_owned())
    };
    Build {
        prefix: value(" --prefix="),
        conf_path: value(" --conf-path="),
        error_log_path: value(" --error-log-path="),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_found_in_the_binary() {
        let bytes = b"\x7fELF\0junk --with\0configure arguments: --with-cc-opt='-g -O2' --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf --error-log-path=stderr\0more";
        let build = from_bytes(bytes);
        assert_eq!(build.prefix.as_deref(), Some("/usr/share/nginx"));
        assert_eq!(build.conf_path.as_deref(), Some("/etc/nginx/nginx.conf"));
        assert_eq!(build.error_log_path.as_deref(), Some("stderr"));
        assert_eq!(from_bytes(b"nothing here"), Build::default());
    }
}
