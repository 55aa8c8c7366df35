//! A recording without an end, as the daemon keeps it: files of a bounded sum in one folder, the oldest deleted first.
//! Each begins with what the engine was told last of the host, so that it is a recording of its own. Where writing
//! fails it goes on in a new file a little later, and that file says how much is missing.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::runs::{self, name};
use super::write::Refusal;
use super::{Call, Header, Recorded, Step, Writer};
use crate::bounded;
use crate::model::{Clock, HostFacts, Input, LossReport, Losses, Mono, ProcessFacts};

/// The sum is divided into so many files.
const FILES: u64 = 8;
/// Processes that a new file begins with.
const PROCESSES: usize = 1_024;
/// How soon a file is tried again after one could not be written.
const RETRY: Duration = Duration::from_secs(10);
/// The time of day is recorded as often as this. It comes every second, and hardly changes.
const CLOCK: Duration = Duration::from_secs(10);
/// Bytes kept back before a file is written to; at most a second's worth stays there.
const BUFFER: usize = 16 << 10;
/// What is missing is counted under this name.
const HANDOVER: &str = "recording";

/// Writes the files of one run.
pub struct Segments {
    folder: PathBuf,
    /// Bytes of all files of the folder.
    limit: u64,
    run: String,
    number: u32,
    header: Header,
    latest: Latest,
    clock_recorded: Option<Mono>,
    open: Option<Writer>,
    /// Where that one is.
    path: PathBuf,
    /// Steps since the last that is known to have reached the file.
    unflushed: u64,
    retry: Mono,
    done: Recorded,
}

/// What the engine was told last.
#[derive(Default)]
struct Latest {
    host: Option<Box<HostFacts>>,
    clock: Clock,
    losses: Losses,
    processes: BTreeMap<u32, ProcessFacts>,
}

impl Segments {
    /// Makes the folder and begins the first file; where that fails it is tried again. `limit` is that of all files of
    /// the folder, bytes.
    pub fn begin(folder: &Path, limit: u64, header: &Header) -> Box<Self> {
        let mut segments = Box::new(Self {
            folder: folder.to_owned(),
            limit,
            run: runs::run_of(&header.began),
            number: 0,
            header: header.clone(),
            latest: Latest::default(),
            clock_recorded: None,
            open: None,
            path: PathBuf::new(),
            unflushed: 0,
            retry: Mono(0),
            done: Recorded::default(),
        });
        segments.go_on(Mono(0));
        segments
    }

    /// What became of it so far; `stopped` while nothing can be written.
    pub fn recorded(&self) -> Recorded {
        let Some(open) = &self.open else { return self.done.clone() };
        let now = open.recorded();
        Recorded {
            steps: self.done.steps + now.steps,
            bytes: self.done.bytes + now.bytes,
            ..self.done.clone()
        }
    }

    pub(super) fn step(&mut self, now: Mono, call: &Call<&Input>) {
        if let Call::Handle(input) = call {
            self.latest.note(input);
        }
        if self.is_to_be_skipped(now, call) {
            return;
        }
        if self.open.as_ref().is_none_or(|open| open.recorded().bytes >= self.limit / FILES) {
            self.go_on(now);
        }
        let with_ours = match call {
            Call::Handle(Input::Losses(report)) => {
                Some(Input::Losses(LossReport { losses: self.losses(), ..report.clone() }))
            }
            _ => None,
        };
        let call = with_ours.as_ref().map_or_else(|| call.clone(), Call::Handle);
        self.unflushed += 1;
        let Some(open) = &mut self.open else {
            self.done.left_out += std::mem::take(&mut self.unflushed);
            return;
        };
        if let Err(refusal) = open.try_step(&Step { now, call }) {
            self.give_up(now, &refusal.to_string());
        }
    }

    pub(super) fn flush_sometimes(&mut self, now: Mono) {
        if self.open.as_ref().is_some_and(|open| open.is_flush_due(now)) {
            self.flush(now);
            self.leave_removed(now);
        }
    }

    /// A file that somebody removed is written for nobody: what it had is missing, and the next one begins.
    fn leave_removed(&mut self, now: Mono) {
        let gone =
            matches!(fs::symlink_metadata(&self.path), Err(error) if error.kind() == io::ErrorKind::NotFound);
        let Some(open) = self.open.as_ref().filter(|_| gone) else { return };
        self.done.left_out += open.recorded().steps;
        self.go_on(now);
    }

    pub(super) fn flush(&mut self, now: Mono) {
        let Some(open) = &mut self.open else { return };
        open.flush(now);
        match open.recorded().stopped {
            Some(why) => self.give_up(now, &why),
            None => self.unflushed = 0,
        }
    }

    fn is_to_be_skipped(&mut self, now: Mono, call: &Call<&Input>) -> bool {
        if !matches!(call, Call::Handle(Input::Clock(_))) {
            return false;
        }
        let is_early = self.clock_recorded.is_some_and(|last| now.since(last) < CLOCK);
        if !is_early {
            self.clock_recorded = Some(now);
        }
        is_early
    }

    /// Ends a file that takes nothing any more. What had not reached it counts as missing.
    fn give_up(&mut self, now: Mono, why: &str) {
        self.close();
        self.done.left_out += std::mem::take(&mut self.unflushed);
        self.refused(now, why);
    }

    fn refused(&mut self, now: Mono, why: &str) {
        self.done.stopped = Some(format!("{}: {why}", self.folder.display()));
        self.retry = now.after(RETRY);
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let recorded = open.recorded();
        self.done.steps += recorded.steps;
        self.done.bytes += recorded.bytes;
    }

    /// Begins the next file, unless that failed a moment ago.
    fn go_on(&mut self, now: Mono) {
        self.flush(now);
        self.close();
        if now < self.retry {
            return;
        }
        match self.next(now) {
            Ok(writer) => (self.open, self.done.stopped) = (Some(writer), None),
            Err(error) => self.refused(now, &error.to_string()),
        }
    }

    /// The next file, with its begin. One that cannot be begun is not left behind.
    fn next(&mut self, now: Mono) -> io::Result<Writer> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        make_room(&self.folder, self.limit - self.limit / FILES)?;
        self.number += 1;
        let path = self.folder.join(name(&self.run, self.number));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let begun = self.begun(file, now);
        if begun.is_err() {
            fs::remove_file(&path)?;
        }
        self.path = path;
        begun
    }

    fn begun(&mut self, file: File, now: Mono) -> io::Result<Writer> {
        if self.latest.host.is_some() {
            self.header.began = self.latest.clock.utc(now).rfc3339();
        }
        let mut writer =
            Writer::new(Box::new(BufWriter::with_capacity(BUFFER, file)), u64::MAX, &self.header)?;
        self.latest.tell(now, self.losses(), &mut writer).map_err(io::Error::other)?;
        writer.flush(now);
        writer.recorded().stopped.map_or(Ok(writer), |why| Err(io::Error::other(why)))
    }

    /// What was lost, with what is missing here.
    fn losses(&self) -> Losses {
        let mut losses = self.latest.losses.clone();
        if self.done.left_out > 0 {
            losses.by_handover.insert(HANDOVER.to_owned(), self.done.left_out);
        }
        losses
    }
}

impl Latest {
    fn note(&mut self, input: &Input) {
        match input {
            Input::Host(host) => self.host = Some(host.clone()),
            Input::Clock(clock) => self.clock = *clock,
            Input::Losses(report) => self.losses.clone_from(&report.losses),
            Input::Process(facts) => {
                bounded::insert(&mut self.processes, facts.pid, facts.clone(), PROCESSES);
            }
            Input::Event(_) | Input::Log(_) | Input::Access(_) => {}
        }
    }

    /// Writes it at the begin of a file; nothing if the engine has not been told of the host yet.
    fn tell(&self, now: Mono, losses: Losses, writer: &mut Writer) -> Result<(), Refusal> {
        let Some(host) = &self.host else { return Ok(()) };
        let facts = [Input::Clock(self.clock), Input::Host(host.clone()), Input::Losses(losses.into())];
        let processes = self.processes.values().cloned().map(Input::Process);
        facts
            .into_iter()
            .chain(processes)
            .try_for_each(|input| writer.try_step(&Step { now, call: Call::Handle(&input) }))
    }
}

/// Deletes the oldest files until the others are within `limit` bytes.
fn make_room(folder: &Path, limit: u64) -> io::Result<()> {
    let sized = |path: PathBuf| Some((fs::metadata(&path).ok()?.len(), path));
    let files: Vec<_> = runs::files(folder)?.into_iter().filter_map(sized).collect();
    let mut sum: u64 = files.iter().map(|(bytes, _)| bytes).sum();
    for (bytes, path) in files {
        if sum <= limit {
            break;
        }
        fs::remove_file(path)?;
        sum -= bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{End, Reader, Recorder, Sink, play};
    use super::*;
    use crate::engine::testing::{active_reset, host, received, upstream};
    use crate::engine::{Engine, Limits};
    use crate::model::Utc;

    const SECOND: u64 = 1_000_000_000;

    fn header() -> Header {
        Header::of("edge1".to_owned(), "6.12.0", Utc(1_790_000_000_000_000_000))
    }

    fn recorder(folder: &Path, limit: u64) -> Recorder {
        let segments = Segments::begin(folder, limit, &header());
        let mut recorder = Recorder::new(Engine::new(Limits::default()), Some(Sink::Segments(segments)));
        recorder.handle(Mono(1), Input::Clock(Clock { offset_ns: 1_790_000_000_000_000_000 }));
        recorder.handle(Mono(1), Input::Host(Box::new(host())));
        recorder
    }

    /// Sends so many resets, two seconds apart; the number of verdicts.
    fn resets(recorder: &mut Recorder, from: u64, number: u64) -> usize {
        let mut verdicts = 0;
        for second in (from..from + number).map(|index| index * 2) {
            let (after, input) = received(100, upstream(), Some(active_reset(&upstream())));
            let now = Mono(second * SECOND + after * 1_000_000);
            let Input::Event(mut event) = input else { unreachable!("a reset is an event") };
            event.time = now;
            let socket = event.socket.as_mut().unwrap();
            socket.local.set_port(u16::try_from(10_000 + second).unwrap());
            socket.cookie = second;
            recorder.handle(now, Input::Event(event));
            verdicts += recorder.advance(Mono((second + 2) * SECOND)).len();
        }
        verdicts
    }

    fn bytes(folder: &Path) -> u64 {
        runs::files(folder).unwrap().iter().map(|file| fs::metadata(file).unwrap().len()).sum()
    }

    #[test]
    fn every_file_is_a_recording_of_its_own_and_all_of_them_stay_within_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = recorder(folder.path(), 1 << 20);
        let told = resets(&mut recorder, 1, 2_000);
        assert!(told > 1_000);
        drop(recorder);
        assert!(bytes(folder.path()) <= 1 << 20);
        let [run] = &runs::of(folder.path()).unwrap()[..] else { panic!("one run") };
        assert!(run.files.len() >= 6, "{}", run.files.len());
        let mut again = Engine::new(Limits::default());
        let mut verdicts = 0;
        let played = play(&mut Reader::open(run.lines()).unwrap(), &mut again, |more| {
            verdicts += more.len();
            Ok(())
        });
        assert_eq!(played.unwrap().end, End::Open);
        assert!(verdicts > told / 4 && verdicts < told, "{verdicts} of {told}: the oldest are gone");
        let alone = runs::Run { files: vec![run.files[3].clone()] };
        let mut verdicts = 0;
        let played =
            play(&mut Reader::open(alone.lines()).unwrap(), &mut Engine::new(Limits::default()), |more| {
                verdicts += more.len();
                Ok(())
            });
        assert!(verdicts > 10 && played.unwrap().last_host.is_some());
    }

    #[test]
    fn a_process_that_is_told_of_again_takes_no_room_of_another() {
        let mut latest = Latest::default();
        let told = |pid: u32, exe: &str| {
            let exe = Some(exe.to_owned());
            Input::Process(ProcessFacts { pid, exe, container: None, unit: None, cgroup: None })
        };
        (1..=1_024).for_each(|pid| latest.note(&told(pid, "/usr/bin/app")));
        latest.note(&told(700, "/usr/bin/other"));
        assert_eq!((latest.processes.len(), latest.processes.contains_key(&1)), (PROCESSES, true));
        assert_eq!(latest.processes[&700].exe.as_deref(), Some("/usr/bin/other"));
        latest.note(&told(5_000, "/usr/bin/new"));
        assert_eq!((latest.processes.len(), latest.processes.contains_key(&1)), (PROCESSES, false));
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_told_by_the_next_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("recording");
        let mut recorder = recorder(&place, 1 << 20);
        resets(&mut recorder, 1, 2);
        fs::rename(&place, folder.path().join("away")).unwrap();
        fs::write(&place, "no folder").unwrap();
        resets(&mut recorder, 3, 400);
        let stopped = recorder.recorded().unwrap();
        assert!(stopped.stopped.is_some() && stopped.left_out > 0, "{stopped:?}");
        fs::remove_file(&place).unwrap();
        fs::rename(folder.path().join("away"), &place).unwrap();
        resets(&mut recorder, 500, 20);
        let told = recorder.recorded().unwrap();
        assert_eq!(told.stopped, None);
        drop(recorder);
        let [run] = &runs::of(&place).unwrap()[..] else { panic!("one run") };
        let played =
            play(&mut Reader::open(run.lines()).unwrap(), &mut Engine::new(Limits::default()), |_| Ok(()))
                .unwrap();
        assert_eq!(played.losses.by_handover.get(HANDOVER), Some(&told.left_out));
    }

    #[test]
    fn a_file_that_was_removed_is_left_and_what_it_had_is_told_to_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("recording");
        let mut recorder = recorder(&place, 1 << 20);
        resets(&mut recorder, 1, 20);
        let before = recorder.recorded().unwrap();
        assert_eq!(before.left_out, 0);
        fs::remove_dir_all(&place).unwrap();
        resets(&mut recorder, 30, 20);
        let told = recorder.recorded().unwrap();
        assert!(told.stopped.is_none() && told.left_out >= before.steps, "{told:?}");
        drop(recorder);
        let [run] = &runs::of(&place).unwrap()[..] else { panic!("one run") };
        let mut engine = Engine::new(Limits::default());
        let played = play(&mut Reader::open(run.lines()).unwrap(), &mut engine, |_| Ok(())).unwrap();
        assert_eq!(played.losses.by_handover.get(HANDOVER), Some(&told.left_out));
    }

    #[test]
    fn what_is_too_long_ends_a_file_not_the_run_and_leaves_no_file_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = recorder(folder.path(), 1 << 20);
        let mut long = host();
        long.local_addresses = vec![std::net::Ipv4Addr::new(198, 51, 100, 100).into(); 300_000];
        recorder.handle(Mono(2), Input::Host(Box::new(long)));
        resets(&mut recorder, 1, 40);
        assert!(recorder.recorded().unwrap().stopped.is_some());
        assert_eq!(runs::files(folder.path()).unwrap().len(), 1, "none that could not be begun");
        recorder.handle(Mono(200 * SECOND), Input::Host(Box::new(host())));
        let told = resets(&mut recorder, 101, 20);
        let left_out = recorder.recorded().unwrap().left_out;
        recorder.finish(Mono(900 * SECOND));
        let [run] = &runs::of(folder.path()).unwrap()[..] else { panic!("one run") };
        let (mut engine, mut verdicts) = (Engine::new(Limits::default()), 0);
        let played = play(&mut Reader::open(run.lines()).unwrap(), &mut engine, |more| {
            verdicts += more.len();
            Ok(())
        });
        let played = played.unwrap();
        assert_eq!(played.end, End::Finished, "the first file does not end the run");
        assert!(verdicts >= told && told > 5, "{verdicts} of {told}");
        assert_eq!(played.losses.by_handover.get(HANDOVER), Some(&left_out));
    }
}
