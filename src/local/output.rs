//! What replicas print, line by line to the log.
//!
//! Two threads, so that nothing here ever waits for the log: one drains the pipes, whatever
//! happens, so that a full pipe never stops a replica; one hands lines to `tracing`, which may
//! block. Between them is a bounded channel; lines that do not fit are counted and the count is
//! logged.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as LineReceiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};

use super::printed::Printed;
use crate::model::RevisionId;

/// Longest line; what is longer becomes several.
pub(super) const LINE_BYTES: usize = 16 * 1024;
/// Lines waiting for the log.
const LINES_WAITING: usize = 4096;
/// Pipes waiting to be drained.
const PIPES_WAITING: usize = 64;
/// Lines kept per replica for the text of a failure.
const TAIL_LINES: usize = 20;
/// Longest part of a line in the text of a failure.
const TAIL_LINE_BYTES: usize = 500;

/// Whose output a line is.
#[derive(Debug)]
struct Origin {
    revision: RevisionId,
    replica: u64,
    dropped: AtomicU64,
}

struct Line {
    origin: Arc<Origin>,
    stream: &'static str,
    bytes: Vec<u8>,
}

struct Pipe {
    end: OwnedFd,
    stream: &'static str,
    origin: Arc<Origin>,
    tail: Arc<Mutex<VecDeque<String>>>,
    /// Dropped when the pipe has ended.
    open: Arc<watch::Sender<()>>,
}

/// Drains the output of replicas. Its threads end when the last of these and of the pipes is gone.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pipes: mpsc::Sender<Pipe>,
    printed: Arc<Printed>,
}

/// The last lines of one replica.
#[derive(Debug)]
pub(super) struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    open: watch::Receiver<()>,
}

impl Default for Tail {
    /// Of nothing, already ended.
    fn default() -> Self {
        let (_, open) = watch::channel(());
        Self { lines: Arc::default(), open }
    }
}

impl Output {
    /// Starts the two threads.
    pub(super) fn start() -> io::Result<Self> {
        let (lines, received) = sync_channel(LINES_WAITING);
        let (pipes, drained) = mpsc::channel(PIPES_WAITING);
        let printed = Arc::<Printed>::default();
        let kept = Arc::clone(&printed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        std::thread::Builder::new()
            .name("replica-output".into())
            .spawn(move || runtime.block_on(drain(drained, lines, kept)))?;
        std::thread::Builder::new()
            .name("replica-log".into())
            .spawn(move || write_log(&received))?;
        Ok(Self { pipes, printed })
    }

    /// What was printed lately.
    pub(super) fn printed(&self) -> Arc<Printed> {
        Arc::clone(&self.printed)
    }

    /// Drains a replica's standard output and standard error.
    pub(super) async fn attach(
        &self,
        revision: &RevisionId,
        replica: u64,
        out: OwnedFd,
        err: OwnedFd,
    ) -> Tail {
        let origin =
            Arc::new(Origin { revision: revision.clone(), replica, dropped: AtomicU64::new(0) });
        let lines = Arc::default();
        let (open, receiver) = watch::channel(());
        let open = Arc::new(open);
        for (end, stream) in [(out, "stdout"), (err, "stderr")] {
            let pipe = Pipe {
                end,
                stream,
                origin: Arc::clone(&origin),
                tail: Arc::clone(&lines),
                open: Arc::clone(&open),
            };
            // Fails only when the thread is gone; the program then gets a broken pipe.
            let _ = self.pipes.send(pipe).await;
        }
        Tail { lines, open: receiver }
    }
}

impl Tail {
    /// Waits until both pipes have ended, at most for `bound`.
    pub(super) async fn ended(&mut self, bound: Duration) {
        let _ =
            tokio::time::timeout(bound, async { while self.open.changed().await.is_ok() {} }).await;
    }

    /// The last lines, oldest first, both streams mixed as they came.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().iter().cloned().collect()
    }
}

async fn drain(mut pipes: mpsc::Receiver<Pipe>, lines: SyncSender<Line>, printed: Arc<Printed>) {
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            pipe = pipes.recv() => match pipe {
                Some(pipe) => {
                    tasks.spawn(drain_one(pipe, lines.clone(), Arc::clone(&printed)));
                }
                None => break,
            },
            Some(_) = tasks.join_next() => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn drain_one(pipe: Pipe, lines: SyncSender<Line>, printed: Arc<Printed>) {
    let Pipe { end, stream, origin, tail, open } = pipe;
    let Ok(receiver) = pipe::Receiver::from_owned_fd(end) else { return };
    let mut splitter = Splitter::default();
    let mut emit = |bytes: Vec<u8>| {
        remember(&tail, &bytes);
        printed.push(&origin.revision, origin.replica, stream, &bytes);
        let line = Line { origin: Arc::clone(&origin), stream, bytes };
        if let Err(TrySendError::Full(_)) = lines.try_send(line) {
            origin.dropped.fetch_add(1, Ordering::Relaxed);
        }
    };
    while receiver.readable().await.is_ok() {
        // Not held while waiting: a silent replica costs no buffer.
        let mut buffer = [0; LINE_BYTES];
        match receiver.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => splitter.push(&buffer[..read], &mut emit),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    splitter.finish(&mut emit);
    drop(open);
}

fn remember(tail: &Mutex<VecDeque<String>>, line: &[u8]) {
    if line.trim_ascii().is_empty() {
        return;
    }
    let cut = &line[..line.len().min(TAIL_LINE_BYTES)];
    let text = String::from_utf8_lossy(cut).into_owned();
    let mut tail = tail.lock();
    if tail.len() == TAIL_LINES {
        tail.pop_front();
    }
    tail.push_back(text);
}

/// Makes lines of bytes.
#[derive(Debug, Default)]
struct Splitter {
    line: Vec<u8>,
}

impl Splitter {
    fn push(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(Vec<u8>)) {
        while !bytes.is_empty() {
            let room = LINE_BYTES - self.line.len();
            let newline = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            match newline {
                Some(at) => {
                    self.line.extend_from_slice(&bytes[..at]);
                    bytes = &bytes[at + 1..];
                    self.emit(emit);
                }
                None if bytes.len() > room => {
                    self.line.extend_from_slice(&bytes[..room]);
                    bytes = &bytes[room..];
                    self.emit(emit);
                }
                None => {
                    self.line.extend_from_slice(bytes);
                    return;
                }
            }
        }
    }

    fn emit(&mut self, emit: &mut impl FnMut(Vec<u8>)) {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        emit(line);
    }

    fn finish(&mut self, emit: &mut impl FnMut(Vec<u8>)) {
        if !self.line.is_empty() {
            self.emit(emit);
        }
    }
}

/// Hands lines to `tracing` until no replica and no supervisor is left.
fn write_log(lines: &LineReceiver<Line>) {
    while let Ok(Line { origin, stream, bytes }) = lines.recv() {
        let Origin { revision, replica, dropped } = &*origin;
        let dropped = dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                target: "replica",
                %revision,
                replica,
                dropped,
                "the log is slower than the replica's output; lines were dropped"
            );
        }
        let text = String::from_utf8_lossy(&bytes);
        if is_json(&text) {
            tracing::info!(target: "replica", %revision, replica, stream, raw = %text);
        } else {
            tracing::info!(target: "replica", %revision, replica, stream, "{text}");
        }
    }
}

/// Whether a line is a JSON object, which is how programs log JSON.
fn is_json(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('{')
        && line.ends_with('}')
        && serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut splitter = Splitter::default();
        let mut emit = |line| lines.push(line);
        for chunk in chunks {
            splitter.push(chunk, &mut emit);
        }
        splitter.finish(&mut emit);
        lines
    }

    #[test]
    fn lines_end_as_they_should() {
        for (chunks, expected) in [
            (&[&b"a\nb\n"[..]][..], &[&b"a"[..], b"b"][..]),
            (&[b"a\r", b"\n\nb"], &[b"a", b"", b"b"]),
            (&[b"no newline"], &[b"no newline"]),
            (&[], &[]),
        ] {
            assert_eq!(split(chunks), expected);
        }
        let long = vec![b'x'; LINE_BYTES];
        assert_eq!(split(&[&long, b"\n"]), std::slice::from_ref(&long), "just as long as allowed");
        assert_eq!(split(&[&long, b"y\n"]), [long, b"y".to_vec()]);
    }

    proptest! {
        /// Where the reads cut does not matter.
        #[test]
        fn chunks_do_not_matter(
            lines in prop::collection::vec((0_usize..LINE_BYTES * 3, any::<bool>()), 0..6),
            cut in 1_usize..40_000,
        ) {
            let mut text = Vec::new();
            for (length, newline) in lines {
                text.extend(std::iter::repeat_n(b'z', length));
                if newline {
                    text.push(b'\n');
                }
            }
            let chunks: Vec<&[u8]> = text.chunks(cut).collect();
            let got = split(&chunks);
            prop_assert!(got.iter().all(|line| line.len() <= LINE_BYTES));
            prop_assert_eq!(&got, &split(&[&text]));
            let letters = text.iter().filter(|byte| **byte == b'z').count();
            prop_assert_eq!(got.iter().map(Vec::len).sum::<usize>(), letters);
        }
    }

    #[test]
    fn only_whole_objects_are_json() {
        for (line, expected) in [
            (r#"{"a":1}"#, true),
            (r#"  {"a":{"b":[1,2]}} "#, true),
            ("{not json}", false),
            (r#"{"a":1} x"#, false),
            ("[1]", false),
            ("", false),
        ] {
            assert_eq!(is_json(line), expected, "{line}");
        }
    }

    #[tokio::test]
    async fn the_last_lines_are_kept_and_the_end_is_seen() {
        let output = Output::start().unwrap();
        let (out, mut out_end) = std::io::pipe().unwrap();
        let (err, err_end) = std::io::pipe().unwrap();
        let revision = RevisionId::new("default", "r");
        let mut tail = output.attach(&revision, 1, out.into(), err.into()).await;
        // Far more than a pipe holds: returns only because somebody reads.
        let writer = std::thread::spawn(move || {
            for number in 0..20_000 {
                io::Write::write_all(&mut out_end, format!("line {number}\n").as_bytes()).unwrap();
            }
        });
        drop(err_end);
        tail.ended(Duration::from_secs(20)).await;
        writer.join().unwrap();
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("line 19999"));
    }
}
