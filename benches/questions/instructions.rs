//! Instructions of each step, counted by valgrind's callgrind, and compared with what is committed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use crate::Named;

/// The argument by which this program runs one question for valgrind.
pub(crate) const ONE: &str = "--one";
/// Times that a step is done before it is counted, and while it is.
const WARM_UP: u32 = 100;
const TIMES: u32 = 1_000;
/// What may differ from the committed number where it was counted on the same kind of machine, and
/// on another one: there the C library takes other versions of its `memcpy`.
const TOLERANCE: f64 = 0.03;
const TOLERANCE_ELSEWHERE: f64 = 0.10;
/// Begins the line that says where the committed numbers were counted.
const PLACE: &str = "# on ";
/// What may differ of the smallest steps.
const TOLERANCE_LEAST: f64 = 3.0;
/// The architecture that the committed numbers are of.
const ARCHITECTURE: &str = "x86_64";
const INSTALL: &str = "install it (Debian: apt-get install valgrind)";

/// What valgrind counts: everything from its beginning to its end.
#[inline(never)]
fn counted_from_here(step: &mut dyn FnMut(), times: u32) {
    for _ in 0..times {
        step();
    }
}

/// Runs one question, as the program that valgrind looks at.
pub(crate) fn run_one(questions: &[Named], name: Option<&String>) -> ExitCode {
    let found = questions.iter().find(|(known, _)| Some(*known) == name.map(String::as_str));
    let Some((_, prepare)) = found else {
        eprintln!("{ONE} needs the name of a question");
        return ExitCode::FAILURE;
    };
    let mut step = prepare();
    for _ in 0..WARM_UP {
        step();
    }
    counted_from_here(&mut *step, TIMES);
    ExitCode::SUCCESS
}

/// Prints every number.
pub(crate) fn show(questions: &[Named]) -> ExitCode {
    report(count_all(questions).map(|counts| {
        for (name, count) in counts {
            println!("{count:>12.1}  {name}");
        }
    }))
}

/// Writes the committed file anew.
pub(crate) fn renew(questions: &[Named]) -> ExitCode {
    report(count_all(questions).and_then(|counts| {
        let mut text = format!(
            "# Instructions of one step, {ARCHITECTURE}. Written by\n\
             # cargo bench --bench questions -- --renew\n{PLACE}{}\n",
            place()
        );
        for (name, count) in &counts {
            let _ = writeln!(text, "{count:.1} {name}");
        }
        std::fs::write(file(), text).map_err(|error| format!("{}: {error}", file().display()))?;
        println!("{} questions in {}", counts.len(), file().display());
        Ok(())
    }))
}

/// Compares with the committed file; what moved is an error.
pub(crate) fn check(questions: &[Named]) -> ExitCode {
    if std::env::consts::ARCH != ARCHITECTURE {
        println!("not compared: benches/instructions.txt has numbers of {ARCHITECTURE} only");
        return ExitCode::SUCCESS;
    }
    report(committed().and_then(|committed| {
        let counts = count_all(questions)?;
        let tolerance = if is_same_place()? { TOLERANCE } else { TOLERANCE_ELSEWHERE };
        let moved = moved(&committed, &counts, tolerance);
        if moved.is_empty() {
            println!("{} questions are within {:.0} %", counts.len(), tolerance * 100.0);
            return Ok(());
        }
        Err(format!(
            "{}\nif that is meant: cargo bench --bench questions -- --renew, and commit \
             benches/instructions.txt",
            moved.join("\n")
        ))
    }))
}

/// What is no longer as it was, one line each.
fn moved(
    committed: &BTreeMap<String, f64>,
    counts: &[(&'static str, f64)],
    tolerance: f64,
) -> Vec<String> {
    let mut moved = Vec::new();
    for (name, count) in counts {
        let Some(before) = committed.get(*name) else {
            moved.push(format!("  new      {name}: {count:.1} instructions"));
            continue;
        };
        let by = count - before;
        if by.abs() > TOLERANCE_LEAST && by.abs() > before * tolerance {
            let percent = by / before * 100.0;
            moved.push(format!("{percent:>+8.1} %  {name}: {before:.1} before, {count:.1} now"));
        }
    }
    let gone = committed.keys().filter(|name| counts.iter().all(|(known, _)| known != name));
    moved.extend(gone.map(|name| format!("  gone     {name}")));
    moved
}

fn committed() -> Result<BTreeMap<String, f64>, String> {
    let problem = |what: &dyn std::fmt::Display| format!("{}: {what}", file().display());
    let text = text()?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let read = line
                .split_once(' ')
                .and_then(|(count, name)| Some((name.to_owned(), count.parse::<f64>().ok()?)));
            read.ok_or_else(|| problem(&format_args!("{line:?} is not a number and a name")))
        })
        .collect()
}

fn text() -> Result<String, String> {
    std::fs::read_to_string(file()).map_err(|error| format!("{}: {error}", file().display()))
}

/// Whether the committed numbers were counted on this kind of machine; says so if not.
fn is_same_place() -> Result<bool, String> {
    let (text, here) = (text()?, place());
    let there = text.lines().find_map(|line| line.strip_prefix(PLACE)).unwrap_or("an unknown one");
    if there != here {
        println!("the committed numbers are of another machine: {there}; this one: {here}");
    }
    Ok(there == here)
}

/// What instructions depend on beside the program: C library, valgrind, processor.
fn place() -> String {
    let first_line = |program: &str| {
        let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
        let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        said.ok().and_then(|said| Some(said.lines().next()?.trim().to_owned()))
    };
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name"));
    let processor = processor.map(|name| name.trim_start_matches([' ', '\t', ':']).to_owned());
    let parts = [first_line("ldd"), first_line("valgrind"), processor];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt"))
}

fn count_all(questions: &[Named]) -> Result<Vec<(&'static str, f64)>, String> {
    questions.iter().map(|(name, _)| Ok((*name, count(name)?))).collect()
}

/// Instructions of one step of a question.
fn count(name: &str) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*counted_from_here*")
        .arg(program)
        .args([ONE, name])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}; {INSTALL}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let total: Option<u64> =
        said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match total {
        Some(total) if output.status.success() && total > 0 => Ok(total as f64 / f64::from(TIMES)),
        _ => Err(format!("valgrind could not count {name:?}:\n{said}")),
    }
}

fn report(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}
