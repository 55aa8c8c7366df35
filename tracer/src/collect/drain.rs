//! A thread of its own empties the ring buffer in bounded batches and hands events over a bounded channel.
//! What does not fit is counted, never waited for: the kernel's ring must not fill because a reader is slow.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use aya::maps::{MapData, RingBuf};
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::Decoder;
use crate::model::{Event, Losses};
use crate::wake;

/// Records taken before the stop flag is looked at again.
const BATCH: usize = 1024;

/// Shortest time from one look into the ring to the next. A record that finds its reader waiting has it woken by an
/// interrupt, which takes several times as long as the record; while the reader rests, records cost nothing but
/// themselves. The first one after a calm is taken at once.
const REST: Duration = Duration::from_millis(2);

/// Counters of the hand-over; they only grow.
#[derive(Debug, Default)]
struct DrainCounters {
    /// Events that found the channel full.
    channel_full: AtomicU64,
    /// Records that could not be decoded.
    undecodable: AtomicU64,
}

/// The running thread.
#[derive(Debug)]
pub struct Drain {
    counters: Arc<DrainCounters>,
    stop: Arc<AtomicBool>,
    /// Wakes the thread when it is to end.
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Drain {
    /// Starts the thread.
    pub fn start(ring: RingBuf<MapData>, decoder: Decoder, to: Sender<Event>) -> io::Result<Self> {
        let counters = Arc::new(DrainCounters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let wake = Arc::new(wake::descriptor()?);
        let (counters_too, stop_too, wake_too) =
            (Arc::clone(&counters), Arc::clone(&stop), Arc::clone(&wake));
        let mut work = Work { ring, decoder, to, counters: counters_too, stop: stop_too, wake: wake_too };
        let thread = thread::Builder::new().name("rstscope-drain".to_owned()).spawn(move || work.run())?;
        Ok(Self { counters, stop, wake, thread: Some(thread) })
    }

    /// What was lost so far.
    pub fn losses(&self) -> Losses {
        let parts =
            [("channel", &self.counters.channel_full), ("undecodable records", &self.counters.undecodable)];
        let lost =
            parts.into_iter().map(|(name, counter)| (name.to_owned(), counter.load(Ordering::Relaxed)));
        Losses { by_handover: lost.filter(|(_, lost)| *lost > 0).collect() }
    }

    /// Takes what is left in the ring and ends the thread.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        wake::wake(&self.wake);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Work {
    ring: RingBuf<MapData>,
    decoder: Decoder,
    to: Sender<Event>,
    counters: Arc<DrainCounters>,
    stop: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
}

impl Work {
    fn run(&mut self) {
        loop {
            let looked = Instant::now();
            let stopping = self.stop.load(Ordering::Acquire);
            let taken = self.batch();
            if taken == BATCH {
                continue;
            }
            if stopping || self.to.is_closed() {
                return;
            }
            self.wait();
            thread::sleep(REST.saturating_sub(looked.elapsed()));
        }
    }

    fn wait(&self) {
        let ring = PollFd::from_borrowed_fd(self.ring.as_fd(), PollFlags::IN);
        let mut fds = [ring, PollFd::new(&self.wake, PollFlags::IN)];
        // An interrupted or failing poll only means looking sooner.
        let _woken = poll(&mut fds, None);
    }

    fn batch(&mut self) -> usize {
        for taken in 0..BATCH {
            let Some(record) = self.ring.next() else { return taken };
            match self.decoder.decode(&record) {
                Some(event) => send(&self.to, event, &self.counters),
                None => count(&self.counters.undecodable),
            }
        }
        BATCH
    }
}

fn send(to: &Sender<Event>, event: Event, counters: &DrainCounters) {
    if let Err(TrySendError::Full(_) | TrySendError::Closed(_)) = to.try_send(event) {
        count(&counters.channel_full);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
