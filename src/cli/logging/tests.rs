use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// Keeps what is written. With a gate each write says that it began and waits for permission.
struct Sink {
    kept: Arc<Mutex<Vec<u8>>>,
    gate: Option<(Sender<()>, Receiver<()>)>,
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some((began, permission)) = &self.gate {
            // Once the other ends are gone everything passes.
            let _ = began.send(());
            let _ = permission.recv();
        }
        self.kept.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sink(format: LogFormat) -> (Lines, Arc<Mutex<Vec<u8>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let sink = Sink { kept: Arc::clone(&kept), gate: None };
    (Lines::start(sink, 64, format).unwrap(), kept)
}

fn text(kept: &Mutex<Vec<u8>>) -> String {
    String::from_utf8(kept.lock().clone()).unwrap()
}

#[test]
fn a_slow_reader_costs_lines_but_no_time() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let (began, has_begun) = channel();
    let (open, permission) = channel();
    let sink = Sink { kept: Arc::clone(&kept), gate: Some((began, permission)) };
    let lines = Lines::start(sink, 8, LogFormat::Text).unwrap();
    lines.write_line(b"line 0\n".to_vec());
    has_begun.recv().unwrap();
    // The thread is held up in its first write: the queue takes 8, the rest is dropped.
    for number in 1..=20 {
        lines.write_line(format!("line {number}\n").into_bytes());
    }
    assert_eq!(lines.dropped(), 12);
    lines.flush(Instant::now() + Duration::from_millis(1));
    assert_eq!(text(&kept), "", "a flush does not wait for ever");
    drop(open);
    lines.flush(Instant::now() + Duration::from_secs(10));
    let text = text(&kept);
    assert!(text.starts_with("line 0\nline 1\n") && text.contains("line 8\n"), "{text}");
    assert_eq!(text.matches("\nline ").count(), 8, "{text}");
    assert!(text.contains("WARN tidegate: 12 log lines dropped"), "{text}");
}

fn log_lines() {
    tracing::info!(target: "tidegate::proxy", service = "hello", "first");
    tracing::debug!(target: "tidegate::proxy", "second");
    tracing::debug!(target: "other", "third");
}

#[test]
fn levels_change_at_run_time() {
    let (lines, kept) = sink(LogFormat::Text);
    let (subscriber, handle) = subscriber(LogFormat::Text, "info", lines, false).unwrap();
    let logged = |handle: &LogHandle| {
        kept.lock().clear();
        log_lines();
        handle.flush();
        text(&kept)
            .lines()
            .map(|line| line.split(": ").nth(1).unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    tracing::subscriber::with_default(subscriber, || {
        assert_eq!(logged(&handle), ["first service=\"hello\""]);
        handle.set_level("tidegate", LevelFilter::DEBUG);
        assert_eq!(logged(&handle), ["first service=\"hello\"", "second"]);
        handle.set_level("", LevelFilter::DEBUG);
        assert_eq!(logged(&handle), ["first service=\"hello\"", "second", "third"]);
        handle.set_levels(BTreeMap::from([("tidegate".to_owned(), LevelFilter::ERROR)]));
        assert!(logged(&handle).is_empty());
        handle.set_levels(BTreeMap::new());
        assert_eq!(logged(&handle), ["first service=\"hello\""]);
    });
}

#[test]
fn json_has_one_object_a_line() {
    let (lines, kept) = sink(LogFormat::Json);
    let (subscriber, _handle) =
        subscriber(LogFormat::Json, "info,tidegate=debug", lines.clone(), false).unwrap();
    tracing::subscriber::with_default(subscriber, log_lines);
    lines.flush(Instant::now() + Duration::from_secs(10));
    let text = text(&kept);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["message"], "first");
    assert_eq!(lines[0]["service"], "hello");
    assert_eq!(lines[1]["level"], "DEBUG");
}

#[test]
fn levels_have_knative_names_too() {
    for (name, expected) in [
        ("info", Some(LevelFilter::INFO)),
        ("WARN", Some(LevelFilter::WARN)),
        ("warning", Some(LevelFilter::WARN)),
        ("fatal", Some(LevelFilter::ERROR)),
        ("off", Some(LevelFilter::OFF)),
        ("loud", None),
    ] {
        assert_eq!(level(name), expected, "{name}");
    }
    let (lines, _) = sink(LogFormat::Text);
    let error = subscriber(LogFormat::Text, "a=loud", lines, false).err().unwrap().to_string();
    assert!(error.contains("tidegate::proxy=debug"), "{error}");
}
