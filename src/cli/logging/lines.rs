//! A bounded queue of lines and the thread that writes them.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use super::LogFormat;

/// Lines that may wait to be written.
pub(super) const CAPACITY: usize = 4096;

/// Takes lines without ever waiting. Clones write to the same place.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    sender: SyncSender<Vec<u8>>,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    sent: AtomicU64,
    dropped: AtomicU64,
    written: Mutex<u64>,
    moved: Condvar,
}

impl Lines {
    /// Starts the thread that writes to `out`. It ends with the last clone.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        capacity: usize,
        format: LogFormat,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(capacity);
        let progress = Arc::new(Progress::default());
        let writer = Writer { receiver, progress: Arc::clone(&progress), told: 0, format };
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(BufWriter::new(out)))?;
        Ok(Self { sender, progress })
    }

    /// Queues bytes that end with a line feed; drops them when the queue is full.
    pub(super) fn write_line(&self, line: Vec<u8>) {
        match self.sender.try_send(line) {
            Ok(()) => self.progress.sent.fetch_add(1, Ordering::Release),
            Err(_) => self.progress.dropped.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// How many lines were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.progress.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was queued before this call is written, at most until `deadline`.
    pub(super) fn flush(&self, deadline: Instant) {
        let sent = self.progress.sent.load(Ordering::Acquire);
        let mut written = self.progress.written.lock();
        while *written < sent {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.progress.moved.wait_for(&mut written, left).timed_out() {
                return;
            }
        }
    }
}

struct Writer {
    receiver: Receiver<Vec<u8>>,
    progress: Arc<Progress>,
    /// Dropped lines that the log itself has told of.
    told: u64,
    format: LogFormat,
}

impl Writer {
    fn run(mut self, mut out: BufWriter<impl Write>) {
        while let Ok(line) = self.receiver.recv() {
            let mut count = 1;
            // Nobody is left to be told of an error: the log is where errors are told.
            let _ = out.write_all(&line);
            // Bounded, so that someone who waits for a flush is not starved by busy writers.
            while count < CAPACITY as u64
                && let Ok(line) = self.receiver.try_recv()
            {
                count += 1;
                let _ = out.write_all(&line);
            }
            self.tell_dropped(&mut out);
            let _ = out.flush();
            *self.progress.written.lock() += count;
            self.progress.moved.notify_all();
        }
    }

    fn tell_dropped(&mut self, out: &mut impl Write) {
        let dropped = self.progress.dropped.load(Ordering::Relaxed);
        let new = dropped - self.told;
        if new == 0 {
            return;
        }
        self.told = dropped;
        let message = format!("{new} log lines dropped: whoever reads the log is too slow");
        let _ = match self.format {
            LogFormat::Text => writeln!(out, "WARN tidegate: {message}"),
            LogFormat::Json => {
                writeln!(out, r#"{{"level":"WARN","message":"{message}","target":"tidegate"}}"#)
            }
        };
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(self)
    }
}

/// Queues what is written in one call as one line, which is how `tracing-subscriber` writes.
#[derive(Debug)]
pub(super) struct LineWriter<'a>(&'a Lines);

impl Write for LineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_line(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
