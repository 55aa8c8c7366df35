//! Facts about the terminal that text is laid out for.

use std::os::fd::AsFd;

/// Columns of the terminal behind `stream`; `None` when it is a pipe or a file, or does not tell.
pub fn width(stream: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_file_has_no_width() {
        assert_eq!(super::width(tempfile::tempfile().unwrap()), None);
    }
}
