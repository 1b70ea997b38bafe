//! The log on standard error, and to collectors if `LoggingConfig` names any. Writing it never
//! holds up a request: lines go through bounded queues to threads of their own, and what does not
//! fit is dropped and counted.

mod forward;
mod json;
mod lines;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::{Registry, fmt, reload};

pub use forward::ForwarderCounts;
use forward::{ForwardLayer, Forwarders};
use json::JsonLayer;
use lines::Lines;

use super::args::LogFormat;
use crate::config::settings::Forwarder;

/// How long the end of the program waits for slow readers of the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The levels cannot be understood.
    #[error(
        "log levels {text:?}: {problem}; write a level (error, warn, info, debug, trace) or levels \
         by part, as in info,tidegate::proxy=debug"
    )]
    Levels {
        /// As given.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// The writing thread cannot be started.
    #[error("the log's thread cannot be started: {0}")]
    Thread(#[from] io::Error),
    /// There is a log already.
    #[error("the log was set up before")]
    Twice,
}

/// Steers the log while the program runs; dropped, it writes what is still queued.
#[derive(Debug)]
pub struct LogHandle {
    lines: Lines,
    levels: Levels,
    forwarders: Forwarders,
}

impl LogHandle {
    /// Sets the level of a part and what is below it (`tidegate::proxy`), or of everything without
    /// a level of its own (empty target).
    pub fn set_level(&self, target: &str, level: LevelFilter) {
        self.levels.change(|levels| {
            levels.insert(target.to_owned(), level);
        });
    }

    /// Replaces everything that [`Self::set_level`] or this set before: parts that are not named
    /// are back at the level of the start.
    pub fn set_levels(&self, wanted: BTreeMap<String, LevelFilter>) {
        self.levels.change(|levels| *levels = wanted);
    }

    /// How many lines were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.lines.dropped()
    }

    /// Sends the log to these collectors as well, and to no others.
    pub fn set_forwarders(&self, wanted: &[Forwarder]) {
        self.forwarders.set(wanted);
    }

    /// What happened to the records for each collector.
    pub fn forwarded(&self) -> Vec<ForwarderCounts> {
        self.forwarders.counts()
    }

    /// Takes a line that is formatted already and ends with a line feed, for example an access
    /// log's. Never waits.
    pub fn write_line(&self, line: Vec<u8>) {
        self.forwarders.take_line(&line);
        self.lines.write_line(line);
    }

    /// Waits until everything logged so far is written and forwarded, at most a second.
    pub fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        self.forwarders.flush(deadline);
        self.lines.flush(deadline);
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Starts the log of this process.
///
/// # Errors
/// See [`LogError`].
pub fn init(format: LogFormat, levels: &str) -> Result<LogHandle, LogError> {
    let lines = Lines::start(io::stderr(), lines::CAPACITY, format)?;
    let colours = format == LogFormat::Text && io::stderr().is_terminal();
    let (subscriber, handle) = subscriber(format, levels, lines, colours)?;
    tracing::subscriber::set_global_default(subscriber).or(Err(LogError::Twice))?;
    Ok(handle)
}

/// A level by the names that Knative's `config-logging` uses, too.
pub fn level(name: &str) -> Option<LevelFilter> {
    match name.to_ascii_lowercase().as_str() {
        // There is nothing above an error here.
        "dpanic" | "panic" | "fatal" => Some(LevelFilter::ERROR),
        "warning" => Some(LevelFilter::WARN),
        other => other.parse().ok(),
    }
}

/// Levels of the start, and what was set since.
#[derive(Debug)]
struct Levels {
    base: Targets,
    set: Mutex<BTreeMap<String, LevelFilter>>,
    reload: reload::Handle<Targets, Registry>,
}

impl Levels {
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, LevelFilter>)) {
        let mut set = self.set.lock();
        change(&mut set);
        let mut targets = self.base.clone();
        for (target, level) in &*set {
            targets = if target.is_empty() {
                targets.with_default(*level)
            } else {
                targets.with_target(target.as_str(), *level)
            };
        }
        // Fails only when the subscriber is gone, and the log with it.
        let _ = self.reload.reload(targets);
    }
}

fn subscriber(
    format: LogFormat,
    levels: &str,
    lines: Lines,
    colours: bool,
) -> Result<(impl Subscriber + Send + Sync + use<>, LogHandle), LogError> {
    let base: Targets = levels.parse().map_err(|problem| LogError::Levels {
        text: levels.to_owned(),
        problem: format!("{problem}"),
    })?;
    let (filter, reload) = reload::Layer::new(base.clone());
    let forwarders = Forwarders::default();
    let written = lines.clone();
    let layer = match format {
        LogFormat::Text => fmt::layer().with_writer(written).with_ansi(colours).boxed(),
        LogFormat::Json => JsonLayer::new(written).boxed(),
    };
    let layer = layer.and_then(ForwardLayer(forwarders.clone()));
    let subscriber = Registry::default().with(layer.with_filter(filter));
    let levels = Levels { base, set: Mutex::default(), reload };
    Ok((subscriber, LogHandle { lines, levels, forwarders }))
}

#[cfg(test)]
mod tests;
