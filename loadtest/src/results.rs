//! What a scenario found: tables for the terminal, everything as JSON for later.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::chart::Figure;

/// Why results cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// A file cannot be written or read.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// A file is not of this program.
    #[error("{0}: not a result of this program: {1}")]
    Form(PathBuf, serde_json::Error),
    /// There is nothing to report.
    #[error("{0} has no results; run a scenario first, for example `loadtest burst`")]
    Empty(PathBuf),
}

/// The outcome of one scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name, as on the command line.
    pub scenario: String,
    /// The question it answers.
    pub question: String,
    /// When it began, in seconds since the Unix epoch.
    pub begun: u64,
    /// How long it took, in seconds.
    pub took: f64,
    /// Where it ran.
    pub machine: Machine,
    /// Settings by name.
    pub settings: Vec<(String, String)>,
    /// What must hold, and whether it did.
    pub checks: Vec<Check>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Plots.
    pub figures: Vec<Figure>,
    /// Remarks on how to read it.
    pub notes: Vec<String>,
}

/// Where something was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// How many this process may use.
    pub processors: usize,
    /// Memory in MiB.
    pub memory: u64,
    /// Operating system.
    pub system: String,
    /// What `tidegate --version` says.
    pub tidegate: String,
    /// Whether this program is an optimised build, as tidegate then is as well.
    pub optimised: bool,
}

impl Machine {
    /// This one.
    pub fn this(tidegate: String) -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name"));
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Self {
            processor: model.map_or_else(
                || text(uname.machine()),
                |model| model.trim_start_matches([' ', '\t', ':']).to_owned(),
            ),
            processors: std::thread::available_parallelism().map_or(1, Into::into),
            memory: memory_mib(),
            system: format!("{} {}", text(uname.sysname()), text(uname.release())),
            tidegate,
            optimised: !cfg!(debug_assertions),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let Self { processor, processors, memory, system, tidegate, .. } = self;
        let build = if self.optimised { "" } else { ", not optimised: figures are not comparable" };
        format!("{tidegate}{build} · {processors} × {processor} · {memory} MiB · {system}")
    }
}

fn memory_mib() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kibibytes.unwrap_or(0_u64) / 1024
}

/// What must hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// In words.
    pub what: String,
    /// Whether it did.
    pub holds: bool,
}

/// Rows below a head.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Names of the columns; the first column has names, the others numbers.
    pub columns: Vec<String>,
    /// Rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row<I>(&mut self, cells: I)
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = |text: &String| text.chars().count();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.chain(self.columns.get(column)).map(length).max().unwrap_or(0)
        };
        if !self.title.is_empty() {
            writeln!(f, "{}", self.title)?;
        }
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let pad = " ".repeat(width(column).saturating_sub(length(cell)));
                let gap = if column == 0 { "" } else { "  " };
                // Names to the left, numbers to the right.
                let (before, after) = if column == 0 { ("", &*pad) } else { (&*pad, "") };
                write!(line, "{gap}{before}{cell}{after}")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Outcome {
    /// One that begins now.
    pub fn begin(scenario: &str, question: &str, machine: Machine) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            scenario: scenario.to_owned(),
            question: question.to_owned(),
            begun: now.as_secs(),
            machine,
            ..Self::default()
        }
    }

    /// Notes a setting.
    pub fn setting(&mut self, name: &str, value: impl std::fmt::Display) {
        self.settings.push((name.to_owned(), value.to_string()));
    }

    /// Notes what must hold.
    pub fn check(&mut self, what: impl Into<String>, holds: bool) {
        self.checks.push(Check { what: what.into(), holds });
    }

    /// Whether all that must hold did.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    /// For the terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            let _ = writeln!(text, "{table}");
        }
        for check in &self.checks {
            let verdict = if check.holds { "ok    " } else { "FAILED" };
            let _ = writeln!(text, "{verdict}  {}", check.what);
        }
        for note in &self.notes {
            let _ = writeln!(text, "note    {note}");
        }
        text
    }

    /// Writes `SCENARIO.json` and a `.svg` for each plot to a folder; returns what was written.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, ResultsError> {
        std::fs::create_dir_all(folder)
            .map_err(|error| ResultsError::File(folder.to_owned(), error))?;
        let path = folder.join(format!("{}.json", self.scenario));
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| ResultsError::Form(path.clone(), error))?;
        std::fs::write(&path, json + "\n")
            .map_err(|error| ResultsError::File(path.clone(), error))?;
        let mut written = vec![path];
        for figure in &self.figures {
            let dash = if figure.name.is_empty() { "" } else { "-" };
            let path = folder.join(format!("{}{dash}{}.svg", self.scenario, figure.name));
            std::fs::write(&path, figure.svg())
                .map_err(|error| ResultsError::File(path.clone(), error))?;
            written.push(path);
        }
        Ok(written)
    }

    /// Reads what [`Outcome::write`] wrote.
    ///
    /// # Errors
    /// When there is no such file or it is another program's.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ResultsError::File(path.to_owned(), error))?;
        serde_json::from_str(&text).map_err(|error| ResultsError::Form(path.to_owned(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let mut outcome = Outcome::begin("burst", "How long?", Machine::this("tidegate 1".into()));
        let mut table = Table::new("Latency", &["what", "p50", "p99"]);
        table.row(["with", "1.2 ms", "10 ms"]);
        table.row(["without extra", "900 ms", "1,200 ms"]);
        outcome.tables.push(table);
        outcome.check("nothing is lost", true);
        outcome
    }

    #[test]
    fn columns_stand_below_each_other() {
        let text = outcome().text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "Latency");
        assert_eq!(lines[1], "what              p50       p99");
        assert_eq!(lines[2], "with           1.2 ms     10 ms");
        assert_eq!(lines[3], "without extra  900 ms  1,200 ms");
        assert!(text.contains("ok      nothing is lost"));
    }

    #[test]
    fn a_failed_check_shows() {
        let mut outcome = outcome();
        assert!(outcome.holds());
        outcome.check("all is well", false);
        assert!(!outcome.holds());
        assert!(outcome.text().contains("FAILED  all is well"));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let scratch = crate::process::Scratch::new().unwrap();
        let folder = scratch.path().join("new");
        let written = outcome().write(&folder).unwrap();
        let read = Outcome::read(&written[0]).unwrap();
        assert_eq!(read.text(), outcome().text());
        std::fs::write(folder.join("other.json"), "{}").unwrap();
        let error = Outcome::read(&folder.join("other.json")).unwrap_err().to_string();
        assert!(error.contains("not a result"), "{error}");
    }
}
