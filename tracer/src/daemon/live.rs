//! Verdicts for local programs: whoever connects to the socket gets one verdict per line, as they come. A reader that
//! is too slow is cut and counted; nobody waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};
use tokio::time::{sleep, timeout};

use crate::metrics::Shared;
use crate::model::Verdict;
use crate::output::ndjson;

/// Where verdicts are handed in.
pub(super) type Publisher = Sender<Arc<Verdict>>;

/// Longest time a reader may take for what its socket does not hold.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause after a reader could not be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves until the program ends.
pub(super) async fn serve(
    listener: Option<UnixListener>,
    readers: usize,
    verdicts: Publisher,
    shared: Arc<Shared>,
) {
    let Some(listener) = listener else { return };
    let room = Arc::new(Semaphore::new(readers));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            shared.live.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (verdicts, shared) = (verdicts.subscribe(), Arc::clone(&shared));
        tokio::spawn(async move {
            shared.live.readers.fetch_add(1, Ordering::Relaxed);
            reader(stream, verdicts, &shared).await;
            shared.live.readers.fetch_sub(1, Ordering::Relaxed);
            drop(place);
        });
    }
}

async fn reader(mut stream: UnixStream, mut verdicts: Receiver<Arc<Verdict>>, shared: &Shared) {
    loop {
        let (mut gone, mut out) = stream.split();
        let mut nothing = [0; 64];
        let verdict = tokio::select! {
            verdict = verdicts.recv() => verdict,
            // A reader says nothing; if it does anything, it has gone.
            _ = gone.read(&mut nothing) => return,
        };
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(RecvError::Lagged(missed)) => return cut(shared, missed),
            Err(RecvError::Closed) => return,
        };
        let Ok(line) = ndjson::line(&*verdict) else { continue };
        match timeout(PATIENCE, out.write_all(&line)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => return cut(shared, 1),
        }
    }
}

fn cut(shared: &Shared, missed: u64) {
    shared.live.cut.fetch_add(1, Ordering::Relaxed);
    shared.live.missed.fetch_add(missed, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncBufReadExt as _, BufReader};
    use tokio::sync::broadcast;

    use super::*;
    use crate::output::samples;

    struct Bench {
        path: tempfile::TempDir,
        publisher: Publisher,
        shared: Arc<Shared>,
    }

    impl Bench {
        fn start(readers: usize) -> Self {
            let path = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(path.path().join("live")).unwrap();
            let (publisher, _) = broadcast::channel(16);
            let shared = Arc::new(Shared::new(Arc::default(), crate::metrics::Notices::default(), 8));
            tokio::spawn(serve(Some(listener), readers, publisher.clone(), Arc::clone(&shared)));
            Self { path, publisher, shared }
        }

        async fn connect(&self) -> UnixStream {
            UnixStream::connect(self.path.path().join("live")).await.unwrap()
        }

        async fn until(&self, mut condition: impl FnMut(&Shared) -> bool) {
            let end = Instant::now() + Duration::from_secs(10);
            while !condition(&self.shared) {
                assert!(Instant::now() < end, "never came about");
                sleep(Duration::from_millis(2)).await;
            }
        }

        fn readers(shared: &Shared) -> u64 {
            shared.live.readers.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn a_reader_gets_every_verdict_as_a_line() {
        let bench = Bench::start(2);
        let mut lines = BufReader::new(bench.connect().await).lines();
        bench.until(|shared| Bench::readers(shared) == 1).await;
        for verdict in samples::all().into_iter().take(10) {
            bench.publisher.send(Arc::new(verdict.clone())).unwrap();
            let line = lines.next_line().await.unwrap().unwrap();
            assert_eq!(serde_json::from_str::<Verdict>(&line).unwrap(), verdict);
        }
        drop(lines);
        bench.until(|shared| Bench::readers(shared) == 0).await;
    }

    #[tokio::test]
    async fn a_slow_reader_is_cut_and_the_others_get_everything() {
        let bench = Bench::start(2);
        let _frozen = bench.connect().await;
        let mut lines = BufReader::new(bench.connect().await).lines();
        bench.until(|shared| Bench::readers(shared) == 2).await;
        for _ in 0..2000 {
            bench.publisher.send(Arc::new(samples::process_exit())).unwrap();
            lines.next_line().await.unwrap().unwrap();
        }
        bench.until(|shared| shared.live.cut.load(Ordering::Relaxed) == 1).await;
        assert!(bench.shared.live.missed.load(Ordering::Relaxed) > 0);
    }

    #[tokio::test]
    async fn more_readers_than_permitted_are_turned_away() {
        let bench = Bench::start(1);
        let _first = bench.connect().await;
        bench.until(|shared| Bench::readers(shared) == 1).await;
        let mut second = BufReader::new(bench.connect().await).lines();
        assert_eq!(second.next_line().await.unwrap(), None);
        assert_eq!(bench.shared.live.refused.load(Ordering::Relaxed), 1);
    }
}
