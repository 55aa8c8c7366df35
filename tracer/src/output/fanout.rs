//! Several outputs as one: text on the terminal and a file next to it, for example.
//!
//! An output whose reader went away is left out from then on; the end comes when none is left.

use std::io;
use std::sync::Arc;

use super::{Closing, Output};
use crate::engine::Dossier;
use crate::model::{Losses, Verdict};

/// Outputs that all get every verdict.
#[derive(Default)]
pub struct Fanout {
    outputs: Vec<Box<dyn Output + Send>>,
}

impl Fanout {
    /// Adds an output.
    pub fn push(&mut self, output: impl Output + Send + 'static) {
        self.outputs.push(Box::new(output));
    }

    /// Shows one verdict everywhere. [`io::ErrorKind::BrokenPipe`] means that nobody reads any more.
    pub fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        self.each(|output| output.verdict(verdict))
    }

    /// As [`Fanout::verdict`], with what stands behind it.
    pub fn witnessed(&mut self, verdict: &Verdict, dossier: &Arc<Dossier>) -> io::Result<()> {
        self.each(|output| output.witnessed(verdict, dossier))
    }

    /// Says everywhere what is to be said at the end. Errors as in [`Fanout::verdict`].
    pub fn finish(&mut self, closing: &Closing) -> io::Result<()> {
        self.each(|output| output.finish(closing))
    }

    /// Verdicts that were lost, by hand-over.
    pub fn losses(&self) -> Losses {
        let mut losses = Losses::default();
        let fates = self.outputs.iter().map(|output| output.fate());
        for fate in fates.filter(|fate| fate.lost() > 0) {
            *losses.by_handover.entry(fate.handover().to_owned()).or_default() += fate.lost();
        }
        losses
    }

    /// The first failure of each output, naming the place.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().filter_map(|output| output.fate().first_problem())
    }

    fn each(&mut self, mut show: impl FnMut(&mut dyn Output) -> io::Result<()>) -> io::Result<()> {
        for output in self.outputs.iter_mut().filter(|output| !output.fate().is_closed()) {
            match show(output.as_mut()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => (),
            }
        }
        if self.outputs.iter().all(|output| output.fate().is_closed()) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::{Ndjson, Sink, samples};
    use super::*;

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_file_goes_on_when_the_reader_of_the_pipe_is_gone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut outputs = Fanout::default();
        outputs.push(Ndjson::new(Sink::new("standard output", Box::new(Gone))));
        outputs.push(Ndjson::new(Sink::create(file.path()).unwrap()));
        for _ in 0..3 {
            outputs.verdict(&samples::refused()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(file.path()).unwrap().lines().count(), 3);
        assert_eq!(outputs.losses().total(), 0);
    }

    #[test]
    fn the_end_comes_when_nobody_reads() {
        let mut outputs = Fanout::default();
        outputs.push(Ndjson::new(Sink::new("standard output", Box::new(Gone))));
        assert_eq!(outputs.verdict(&samples::refused()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_full_disk_is_counted_and_named() {
        let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
            return;
        };
        let mut outputs = Fanout::default();
        outputs.push(Ndjson::new(Sink::new("/var/verdicts", Box::new(full))));
        outputs.verdict(&samples::refused()).unwrap();
        outputs.verdict(&samples::refused()).unwrap();
        assert_eq!(outputs.losses().by_handover, [("output".to_owned(), 2)].into());
        let problems: Vec<&str> = outputs.problems().collect();
        assert_eq!(problems, ["cannot write to /var/verdicts: No space left on device (os error 28)"]);
    }
}
