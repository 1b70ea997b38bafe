//! A look at what a watch tells finds what a look at everything finds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use notify::event::{CreateKind, Flag, ModifyKind, RenameMode};
use notify::{Event, EventKind};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::super::scan::{WatchedFolder, is_manifest_name};
use super::*;

const CREATED: EventKind = EventKind::Create(CreateKind::Any);
const CHANGED: EventKind = EventKind::Modify(ModifyKind::Any);
const FROM: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::From));
const TO: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
const GONE: EventKind = EventKind::Remove(notify::event::RemoveKind::Any);

/// Places below the stage's folder: given folders `m` and `n`, a folder `o` that is not given.
const PLACES: [&str; 14] = [
    "m/a.yaml",
    "m/b.yaml",
    "m/c.json",
    "m/app.conf",
    "m/..data",
    "m/.d.yaml",
    "m/notes.txt",
    "n/a.yaml",
    "n/e.yml",
    "o/a.yaml",
    "o/app.conf",
    "o/x",
    "m",
    "n",
];

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(usize, u8),
    Append(usize),
    Remove(usize),
    Rename(usize, usize),
    SymbolicLink(usize, usize),
    HardLink(usize, usize),
    MakeFolder(usize),
    SetMode(usize, bool),
    /// The queue of events is full: what it held is lost, and that is said.
    Overflow,
    /// An event of a name under which nothing happened.
    Noise(usize),
    /// A look when all events have come, or only some.
    Look,
    EarlyLook(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || 0..PLACES.len();
    // Mostly what editors do: else there is hardly ever a ground to look at a part on.
    let file = || prop_oneof![0..4_usize, 7..9_usize, place()];
    prop_oneof![
        8 => (file(), 0_u8..5).prop_map(|(at, text)| Step::Write(at, text)),
        2 => file().prop_map(Step::Append),
        4 => file().prop_map(Step::Remove),
        4 => (file(), file()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (place(), place()).prop_map(|(at, target)| Step::SymbolicLink(at, target)),
        1 => (place(), place()).prop_map(|(at, first)| Step::HardLink(at, first)),
        1 => file().prop_map(Step::MakeFolder),
        1 => (file(), any::<bool>()).prop_map(|(at, may)| Step::SetMode(at, may)),
        1 => Just(Step::Overflow),
        2 => place().prop_map(Step::Noise),
        6 => Just(Step::Look),
        2 => (0_usize..4).prop_map(Step::EarlyLook),
    ]
}

/// What was found last, each file as a look said.
#[derive(Debug, Default, PartialEq)]
struct Found {
    contents: BTreeMap<PathBuf, String>,
    unreadable: BTreeMap<PathBuf, String>,
    missing: Vec<PathBuf>,
    scope: Scope,
}

impl From<Scan> for Found {
    fn from(scan: Scan) -> Self {
        let contents = scan.contents.iter();
        Self {
            contents: contents.map(|(path, text)| (path.to_path_buf(), text.to_string())).collect(),
            unreadable: scan.unreadable,
            missing: scan.missing,
            scope: Scope { folders: scan.folders, names: scan.names },
        }
    }
}

impl Found {
    fn take(&mut self, path: &Path, seen: Seen) {
        self.contents.remove(path);
        self.unreadable.remove(path);
        match seen {
            Seen::Text(text) => {
                self.contents.insert(path.to_owned(), text.to_string());
            }
            Seen::Unreadable(why) => {
                self.unreadable.insert(path.to_owned(), why);
            }
            Seen::Gone => {}
        }
    }
}

/// Folders, and one who looks at them and is told what happens.
struct Stage {
    folder: tempfile::TempDir,
    given: Vec<PathBuf>,
    known: Known,
    found: Found,
    /// What happened and was not told yet.
    events: Vec<Event>,
    told: Told,
    parts: usize,
}

impl Stage {
    fn new(given: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["m", "n", "o"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("m/a.yaml"), "first").unwrap();
        symlink("m", folder.path().join("link")).unwrap();
        let given = given.iter().map(|name| folder.path().join(name)).collect();
        let mut stage = Self {
            folder,
            given,
            known: Known::default(),
            found: Found::default(),
            events: Vec::new(),
            told: Told::Everything,
            parts: 0,
        };
        // The second after it is watched.
        stage.look();
        stage.look();
        stage
    }

    fn path(&self, place: usize) -> PathBuf {
        self.folder.path().join(PLACES[place])
    }

    /// Something happened at a place, if its folder is still the one that is watched.
    fn happens(&mut self, kind: EventKind, path: &Path) {
        let name = path.file_name().unwrap();
        let Ok(folder) = fs::canonicalize(path.parent().unwrap()) else { return };
        let is_watched = |folder: &Path, watched: &WatchedFolder| {
            let now = fs::metadata(folder).map(|metadata| scan::FolderIdentity::of(&metadata));
            now.is_ok_and(|now| now == watched.identity)
        };
        let folders = &self.found.scope.folders;
        if folders.get(&folder).is_some_and(|watched| is_watched(&folder, watched)) {
            self.events.push(Event::new(kind).add_path(folder.join(name)));
        }
    }

    /// A watched folder is told of itself as well, under the name it had.
    fn happens_to_itself(&mut self, kind: EventKind, path: &Path) {
        if self.found.scope.folders.contains_key(path) {
            self.events.push(Event::new(kind).add_path(path.to_owned()));
        }
    }

    /// What does not work did not happen.
    fn step(&mut self, step: Step) -> TestCaseResult {
        match step {
            Step::Write(at, text) => {
                let path = self.path(at);
                // A link may lead elsewhere: the event is told where it leads.
                let kind = if path.exists() { CHANGED } else { CREATED };
                let bytes = [&b""[..], b"1", b"2", b"22", b"\xff"][usize::from(text)];
                if fs::write(&path, bytes).is_ok() {
                    self.happens(kind, &fs::canonicalize(&path).unwrap());
                }
            }
            Step::Append(at) => {
                let path = self.path(at);
                let file = File::options().append(true).open(&path);
                if file.is_ok_and(|mut file| std::io::Write::write(&mut file, b"+").is_ok()) {
                    self.happens(CHANGED, &fs::canonicalize(&path).unwrap());
                }
            }
            Step::Remove(at) => {
                let path = self.path(at);
                if fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).is_ok() {
                    self.happens_to_itself(GONE, &path);
                    self.happens(GONE, &path);
                }
            }
            Step::Rename(from, to) => {
                let (from, to) = (self.path(from), self.path(to));
                if from != to && fs::rename(&from, &to).is_ok() {
                    self.happens(FROM, &from);
                    self.happens_to_itself(FROM, &from);
                    self.happens(TO, &to);
                }
            }
            Step::SymbolicLink(at, target) => {
                let path = self.path(at);
                if symlink(self.path(target), &path).is_ok() {
                    self.happens(CREATED, &path);
                }
            }
            Step::HardLink(at, first) => {
                // What is written under a name that is not told of, or that came and went between
                // two looks, is told of no file that had that name, too: such names are not made.
                let path = self.path(at);
                let folder = path.parent().unwrap();
                let is_given = |given: &PathBuf| fs::canonicalize(given).is_ok_and(|g| g == folder);
                if is_manifest_name(path.file_name().unwrap())
                    && self.given.iter().any(is_given)
                    && fs::hard_link(self.path(first), &path).is_ok()
                {
                    self.happens(CREATED, &path);
                    return self.look_and_compare();
                }
            }
            Step::MakeFolder(at) => {
                let path = self.path(at);
                if fs::create_dir(&path).is_ok() {
                    self.happens(CREATED, &path);
                }
            }
            Step::SetMode(at, may_read) => self.set_mode(at, may_read),
            Step::Overflow => {
                self.events = vec![Event::new(EventKind::Other).set_flag(Flag::Rescan)];
            }
            Step::Noise(at) => self.happens(CHANGED, &self.path(at)),
            Step::Look => return self.look_and_compare(),
            Step::EarlyLook(events) => {
                let rest = self.events.split_off(events.min(self.events.len()));
                let soon = std::mem::replace(&mut self.events, rest);
                self.tell(soon);
                self.look();
            }
        }
        Ok(())
    }

    fn set_mode(&mut self, at: usize, may_read: bool) {
        let path = self.path(at);
        let mode = match (may_read, path.is_dir()) {
            (true, true) => 0o755,
            (true, false) => 0o644,
            (false, _) => 0,
        };
        if fs::set_permissions(&path, fs::Permissions::from_mode(mode)).is_ok()
            && let Ok(path) = fs::canonicalize(&path)
        {
            self.happens_to_itself(CHANGED, &path);
            self.happens(CHANGED, &path);
        }
    }

    fn tell(&mut self, events: Vec<Event>) {
        for event in events {
            self.told.add(self.found.scope.meaning(&Ok(event)));
        }
    }

    fn look(&mut self) {
        let told = std::mem::take(&mut self.told);
        match look(&self.given, &told, &mut self.known) {
            Look::Whole(scan) => {
                let found = Found::from(scan);
                if found.scope != self.found.scope || !found.missing.is_empty() {
                    self.told = Told::Everything;
                }
                self.found = found;
            }
            Look::Part(seen) => {
                self.parts += usize::from(!seen.is_empty());
                seen.into_iter().for_each(|(path, seen)| self.found.take(&path, seen));
            }
        }
    }

    fn look_and_compare(&mut self) -> TestCaseResult {
        let events = std::mem::take(&mut self.events);
        self.tell(events);
        if self.told.is_nothing() && self.known.ground.is_none() {
            // Nobody would look; and not all that happens is told, such as under another name.
            return Ok(());
        }
        self.look();
        let everything = Found::from(scan(&self.given, &mut Known::default()));
        prop_assert_eq!(&self.found, &everything);
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Or what is in folders that may not be entered is left behind.
        for name in ["m", "n", "o"] {
            let open = fs::Permissions::from_mode(0o755);
            let _ = fs::set_permissions(self.folder.path().join(name), open);
        }
    }
}

const GIVEN: [&[&str]; 6] = [
    &["m"],
    &["m", "n"],
    &["m", "o/app.conf"],
    &["link", "n"],
    &["m", "m/../m"],
    &["m", "m/b.yaml"],
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_part_is_as_the_whole(
        given in 0..GIVEN.len(),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut stage = Stage::new(GIVEN[given]);
        for step in steps {
            stage.step(step)?;
        }
        stage.look_and_compare()?;
    }
}

/// What editors do is looked at by name; what reaches further is not.
#[test]
fn which_looks_are_of_a_part() {
    let [a, b, conf, data, m] = [0, 1, 3, 4, 12];
    let parts = |steps: &[Step]| {
        let mut stage = Stage::new(&["m", "n", "o/app.conf"]);
        stage.step(Step::Write(10, 1)).unwrap();
        stage.step(Step::Write(b, 2)).unwrap();
        stage.step(Step::Look).unwrap();
        stage.step(Step::Look).unwrap();
        stage.parts = 0;
        for step in steps {
            stage.step(*step).unwrap();
        }
        stage.look_and_compare().unwrap();
        stage.parts
    };
    for steps in [
        &[Step::Write(a, 3)][..],
        &[Step::Write(2, 3)],
        &[Step::Write(a, 4)],
        &[Step::Append(a), Step::Append(b)],
        &[Step::Remove(a)],
        &[Step::Rename(a, b)],
        &[Step::Rename(a, 7)],
        &[Step::Remove(a), Step::MakeFolder(a)],
    ] {
        assert_eq!(parts(steps), 1, "{steps:?}");
    }
    for steps in [
        &[Step::Overflow][..],
        &[Step::Write(10, 3)],
        &[Step::Write(conf, 1)],
        &[Step::Write(data, 1)],
        &[Step::SymbolicLink(2, a)],
        &[Step::HardLink(2, a)],
        &[Step::Rename(m, 9), Step::MakeFolder(m)],
        &[Step::Rename(10, b)],
    ] {
        assert_eq!(parts(steps), 0, "{steps:?}");
    }
    // As long as files do not stand each for itself, and no longer.
    let link = [Step::SymbolicLink(2, a), Step::Look, Step::Look, Step::Write(b, 3), Step::Look];
    assert_eq!(parts(&link), 0);
    let no_link =
        [&link[..], &[Step::Remove(2), Step::Look, Step::Look, Step::Write(b, 2)]].concat();
    assert_eq!(parts(&no_link), 1);
}

/// Whoever is told of one file looks at all where another may have changed without being told of.
#[test]
fn what_is_not_told_is_found_where_it_can_be() {
    let mut stage = Stage::new(&["m", "n"]);
    // Another name of a file, in a folder that is not watched.
    for step in [Step::Write(11, 1), Step::HardLink(2, 11), Step::Look] {
        stage.step(step).unwrap();
    }
    for step in [Step::Write(11, 2), Step::Write(0, 2), Step::Look] {
        stage.step(step).unwrap();
    }
    let text = |stage: &Stage, place: usize| stage.found.contents[&stage.path(place)].clone();
    assert_eq!(text(&stage, 2), "2");
    // A folder in the place of another, as after a mount.
    let mut stage = Stage::new(&["m", "n"]);
    for step in [Step::Rename(12, 9), Step::MakeFolder(12), Step::Write(0, 1)] {
        stage.step(step).unwrap();
    }
    stage.events.clear();
    for step in [Step::Write(7, 1), Step::Look] {
        stage.step(step).unwrap();
    }
    assert_eq!(text(&stage, 0), "1");
}

/// A file that nobody told of is not looked at: that is what an edit does not cost any more.
#[test]
fn others_are_not_looked_at() {
    let mut stage = Stage::new(&["m"]);
    fs::write(stage.path(1), "not told").unwrap();
    stage.step(Step::Write(0, 1)).unwrap();
    let events = std::mem::take(&mut stage.events);
    stage.tell(events);
    stage.look();
    let texts: BTreeSet<&str> = stage.found.contents.values().map(String::as_str).collect();
    assert_eq!(texts, BTreeSet::from(["1"]));
}
