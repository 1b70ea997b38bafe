//! What the whole tree keeps to: who may import whom, no file that nothing compiles, no file that
//! grew out of its room, no unfinished work, no path of somebody's machine, and a README whose
//! commands are the ones that are run for every change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms, and what each may import besides itself and `model`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("config", &[]),
    ("platform", &[]),
    ("stats", &[]),
    ("upstream", &[]),
    ("tls", &[]),
    ("traces", &[]),
    ("server", &[]),
    ("revision", &["stats"]),
    ("snapshot", &["revision", "platform"]),
    ("proxy", &["snapshot", "revision", "upstream", "tls", "traces", "stats"]),
    ("autoscaler", &["stats", "platform"]),
    ("local", &["config", "platform", "stats"]),
    ("kubernetes", &["config", "platform", "server", "stats"]),
    // Counters are read where they are shown; everything else is a view that `app` hands over.
    ("admin", &["server", "stats", "tls"]),
    ("cli", &["config"]),
    (
        "app",
        &[
            "config",
            "platform",
            "stats",
            "upstream",
            "tls",
            "traces",
            "server",
            "revision",
            "snapshot",
            "proxy",
            "autoscaler",
            "local",
            "kubernetes",
            "admin",
            "cli",
        ],
    ),
];

/// Lines that a source file may have. About 400 are meant; past this there is a second room in it.
const LINES_MAX: usize = 500;

/// Files that were longer when the bound was set, with the length that they must not exceed.
const LONGER: &[(&str, usize)] = &[];

/// Unfinished work. Put together here, so that this file does not have them.
const MARKERS: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[", "ignore"),
];

/// First folders of absolute paths that exist only on somebody's machine.
const MACHINE_FOLDERS: &[&str] = &["work", "farm", "root", "home", "Users"];

#[test]
fn rooms_import_only_what_they_may() {
    let mut problems = Vec::new();
    let mut imports = 0;
    for file in rust_files("src") {
        let Some(room) = room_of(&file) else { continue };
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else {
            problems.push(format!("{file}: there is no room {room:?} in MAY_IMPORT"));
            continue;
        };
        for (line, name) in imported_rooms(&read(&file), depth_of(&file)) {
            imports += 1;
            let fine = name == room || name == "model" || allowed.contains(&name.as_str());
            if !fine {
                problems.push(format!("{file}:{line}: {room} must not import {name}"));
            }
        }
    }
    assert!(imports > 100, "only {imports} imports found: the search is broken");
    report(&problems);
}

#[test]
fn imports_are_found_in_every_form() {
    let found = |text: &str| -> Vec<(usize, String)> { imported_rooms(text, 2) };
    let rooms = |text: &str| -> Vec<String> { found(text).into_iter().map(|f| f.1).collect() };
    assert_eq!(found("use std::fmt;\nuse crate::stats::Clock;"), [(2, "stats".to_owned())]);
    assert_eq!(
        rooms("use crate::{model, proxy::Worker, stats::{Clock, Nanos}};"),
        ["model", "proxy", "stats"]
    );
    assert_eq!(rooms("use crate::{\n    admin::{self, view},\n    cli,\n};"), ["admin", "cli"]);
    assert_eq!(rooms("pub(crate) fn f(x: &crate::proxy::Worker) {}"), ["proxy"]);
    assert_eq!(rooms("use super::super::proxy::Worker;"), ["proxy"], "the root by another way");
    assert_eq!(rooms("use super::proxy::Worker;"), [""; 0], "the room's own `proxy`");
    assert_eq!(rooms("//! [`crate::proxy`] is another room.\n/// crate::admin"), [""; 0]);
    assert_eq!(rooms("x(); // as in crate::admin"), [""; 0]);
    assert_eq!(rooms("macro_rules! m { () => { $crate::stats::Clock } }"), ["stats"]);
}

#[test]
fn the_import_rules_have_no_circle() {
    let rules: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut done = BTreeSet::from(["model"]);
    while done.len() < rules.len() {
        let ready: Vec<_> = rules
            .iter()
            .filter(|(room, may)| !done.contains(*room) && may.iter().all(|m| done.contains(m)))
            .map(|(room, _)| *room)
            .collect();
        let left: Vec<_> = rules.keys().filter(|room| !done.contains(*room)).collect();
        assert!(!ready.is_empty(), "these rooms import each other in a circle: {left:?}");
        done.extend(ready);
    }
}

#[test]
fn every_source_file_is_compiled() {
    let mut reached = BTreeSet::new();
    let roots = ["src/lib.rs", "src/main.rs", "loadtest/src/lib.rs", "loadtest/src/main.rs"]
        .into_iter()
        .map(str::to_owned)
        .chain(targets("tests"))
        .chain(targets("benches"))
        .chain(targets("loadtest/tests"));
    for root in roots {
        reach(&root, &mut reached);
    }
    let problems: Vec<_> = ["src", "tests", "benches", "loadtest"]
        .into_iter()
        .flat_map(rust_files)
        .filter(|file| !reached.contains(file))
        .map(|file| format!("{file}: no `mod` leads here; declare it or delete it"))
        .collect();
    report(&problems);
}

#[test]
fn files_keep_to_their_size() {
    let problems: Vec<_> = kept_files()
        .into_iter()
        .filter(|file| has_extension(file, "rs"))
        .filter_map(|file| {
            let lines = read(&file).lines().count();
            let known = LONGER.iter().find(|(name, _)| *name == file).map(|(_, max)| *max);
            let max = known.unwrap_or(LINES_MAX);
            (lines > max).then(|| {
                format!("{file}: {lines} lines, at most {max}; is there a second room in it?")
            })
        })
        .collect();
    report(&problems);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut problems = Vec::new();
    for file in kept_files().into_iter().filter(|file| has_extension(file, "rs")) {
        for (number, line) in numbered(&read(&file)) {
            for marker in MARKERS.iter().filter(|marker| line.contains(**marker)) {
                problems.push(format!("{file}:{number}: {marker}"));
            }
        }
    }
    report(&problems);
}

#[test]
fn only_end_to_end_tests_sleep() {
    let sleeps = [concat!("thread::", "sleep("), concat!("time::", "sleep(Duration::from_")];
    let mut problems = BTreeSet::new();
    for target in targets("tests").into_iter().filter(|file| !file.starts_with("tests/e2e")) {
        let mut files = BTreeSet::new();
        reach(&target, &mut files);
        let texts: Vec<_> = files.iter().map(|file| (file, read(file))).collect();
        // Where time is the test's own a sleep takes none.
        if texts.iter().any(|(_, text)| text.contains(concat!("start_", "paused"))) {
            continue;
        }
        for (file, text) in &texts {
            for (number, line) in numbered(text) {
                if sleeps.iter().any(|sleep| line.contains(sleep)) {
                    problems.insert(format!("{file}:{number}: waits for real time; pause it"));
                }
            }
        }
    }
    let problems: Vec<_> = problems.into_iter().collect();
    report(&problems);
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    let mut problems = Vec::new();
    for file in kept_files() {
        let Ok(text) = fs::read_to_string(root().join(&file)) else { continue };
        for (number, line) in numbered(&text) {
            if let Some(folder) = machine_folder(line) {
                problems.push(format!("{file}:{number}: a path below {folder:?}"));
            }
        }
    }
    report(&problems);
}

#[test]
fn machine_paths_are_told_from_others() {
    let rooted = |folder: &str| format!("cd /{folder}/project && make");
    for folder in MACHINE_FOLDERS {
        assert_eq!(machine_folder(&rooted(folder)), Some(*folder));
        assert_eq!(machine_folder(&format!("GET /x/{folder}/y")), None, "within a path");
        assert_eq!(machine_folder(&format!("target/{folder}/y")), None, "relative");
        assert_eq!(machine_folder(&rooted(&format!("{folder}er"))), None, "another name");
    }
    assert_eq!(machine_folder("--state-dir /var/lib/tidegate"), None);
}

#[test]
fn the_two_commands_of_the_readme_are_run_for_every_change() {
    let readme = read("README.md");
    let checks = read(".ci/run");
    let commands: Vec<&str> =
        readme.lines().map(str::trim).filter(|line| line.starts_with("cargo ")).take(2).collect();
    let [start, test] = commands[..] else {
        panic!("README.md: its first two lines with cargo are to start it and to test it");
    };
    assert!(start.starts_with("cargo run "), "the first command starts it: {start:?}");
    assert!(test.starts_with("cargo test"), "the second command tests it: {test:?}");
    let problems: Vec<_> = commands
        .iter()
        .filter(|command| !checks.lines().any(|line| runs(line, command)))
        .map(|command| format!(".ci/run does not run `{command}`, which README.md says"))
        .collect();
    report(&problems);
}

/// Whether a line of a shell script runs a command; a comment does not.
fn runs(line: &str, command: &str) -> bool {
    let line = line.trim();
    !line.starts_with('#') && line.contains(command)
}

// Reading the tree.

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

fn has_extension(file: &str, extension: &str) -> bool {
    Path::new(file).extension().is_some_and(|found| found == extension)
}

/// All files below a folder, as paths from the root with `/`, in order; build output left out.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.map(|entry| entry.expect("folder is readable")) {
            let (path, kind) = (entry.path(), entry.file_type().expect("file has a type"));
            if kind.is_dir() {
                if !["target", ".git", "loadtest-results"].iter().any(|name| path.ends_with(name)) {
                    folders.push(path);
                }
            } else {
                found.push(relative(&path));
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(root()).expect("path is below the root");
    path.to_str().expect("path is UTF-8").to_owned()
}

fn rust_files(folder: &str) -> Vec<String> {
    files(folder).into_iter().filter(|file| has_extension(file, "rs")).collect()
}

/// Files that cargo takes for targets of their own: those that lie in the folder itself, and a
/// `main.rs` one folder deeper.
fn targets(folder: &str) -> Vec<String> {
    let is_target = |file: &String| match file[folder.len() + 1..].split('/').collect::<Vec<_>>()[..]
    {
        [_] => true,
        [_, name] => name == "main.rs",
        _ => false,
    };
    rust_files(folder).into_iter().filter(is_target).collect()
}

/// What is kept under version control: everything but what `.gitignore` names, which is folders
/// called `target` or `loadtest-results`, and `.git`, which is a file in a second work tree.
fn kept_files() -> Vec<String> {
    files("").into_iter().filter(|file| file != ".git").collect()
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

// Imports.

/// The room of a source file; none for the two roots.
fn room_of(file: &str) -> Option<&str> {
    let path = file.strip_prefix("src/")?;
    let first = path.split('/').next()?;
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(room, "lib" | "main")).then_some(room)
}

/// How many modules a file's own module is below the root.
fn depth_of(file: &str) -> usize {
    file.matches('/').count()
}

/// Rooms that a file at this depth names, with the line. A path may be a list, over several lines.
fn imported_rooms(text: &str, depth: usize) -> Vec<(usize, String)> {
    let code: Vec<&str> = text.lines().map(without_comment).collect();
    let code = code.join("\n");
    let to_root = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", &to_root] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let names = first_names(&code[at + prefix.len()..]);
            let rooms = names.into_iter().filter(|n| MAY_IMPORT.iter().any(|(room, _)| n == room));
            found.extend(rooms.map(|name| (line, name)));
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// `a` of `a::b`, and the like of each entry of `{a::b, c::{d, e}}`.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(list) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&list[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

// Modules.

/// Adds a target's root and all files that its `mod` lines lead to.
fn reach(root: &str, reached: &mut BTreeSet<String>) {
    reach_from(root, true, reached);
}

fn reach_from(file: &str, is_root: bool, reached: &mut BTreeSet<String>) {
    if !root().join(file).is_file() || !reached.insert(file.to_owned()) {
        return;
    }
    let path = PathBuf::from(file);
    let folder = path.parent().expect("file is in a folder").to_owned();
    let below = if is_root { folder.clone() } else { path.with_extension("") };
    let text = read(file);
    let mut given = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            given = rest.split('"').next().map(str::to_owned);
        } else if let Some(name) = declared_module(line) {
            let next = match given.take() {
                Some(given) => folder.join(given),
                None => below.join(format!("{name}.rs")),
            };
            reach_from(&clean(&next), false, reached);
        }
    }
}

/// `x` of `mod x;`, `pub mod x;`, `pub(crate) mod x;`.
fn declared_module(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("mod ")?;
    let before = before.trim();
    let declares = before.is_empty() || (before.starts_with("pub") && !before.contains("//"));
    rest.strip_suffix(';').filter(|_| declares)
}

/// The path without `..`.
fn clean(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.to_str().expect("path is UTF-8").split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

// Paths of machines.

/// The folder of an absolute path in a line that is one of [`MACHINE_FOLDERS`].
fn machine_folder(line: &str) -> Option<&'static str> {
    let is_inside = |c: char| c.is_alphanumeric() || "_./-".contains(c);
    MACHINE_FOLDERS.iter().copied().find(|folder| {
        line.match_indices(&format!("/{folder}")).any(|(at, matched)| {
            let starts = !line[..at].chars().next_back().is_some_and(is_inside);
            let rest = &line[at + matched.len()..];
            starts && (rest.is_empty() || rest.starts_with('/'))
        })
    })
}
