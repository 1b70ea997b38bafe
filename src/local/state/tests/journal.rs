//! Revisions in a whole file and a log: ended at every step, torn, damaged, and grown.

use std::fs::OpenOptions;
use std::io::Write as _;

use proptest::prelude::*;

use super::super::journal::{Journal, former_log, log};
use super::*;

/// A folder and who writes into it, one life after another.
struct Disk {
    folder: TempDir,
    state: Option<StateFolder>,
    journal: Journal,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = Some(open(folder.path()).unwrap());
        let journal = Journal::always_logging(folder.path().join(REVISIONS));
        Self { folder, state, journal }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(REVISIONS)
    }

    fn save(&mut self, stamps: &Stamps, ask: file::Ask<'_>) -> io::Result<bool> {
        let state = self.state.as_ref().unwrap();
        let encode = |stamps: &Stamps| Ok(state.encode_revisions(stamps)?);
        self.journal.save(stamps, encode, ask)
    }

    /// Ends this life; what the next one reads.
    fn restart(&mut self) -> Stamps {
        self.state = None;
        let state = open(self.folder.path()).unwrap();
        let remembered = state.read().unwrap();
        self.state = Some(state);
        self.journal = Journal::always_logging(self.path());
        remembered.stamps
    }

    fn len(&self, path: &Path) -> u64 {
        fs::metadata(path).map_or(0, |known| known.len())
    }
}

/// Stamps after these commands of services.
fn loaded(loader: &mut Loader, commands: &[(u8, u8)]) {
    let service = |(name, command): &(u8, u8)| {
        format!(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: s{name}}}\n\
             spec:\n  template: {{spec: {{containers: [{{image: example/x, command: \
             [c{command}]}}]}}}}\n"
        )
    };
    let unique: BTreeMap<u8, u8> = commands.iter().copied().collect();
    let unique: Vec<(u8, u8)> = unique.into_iter().collect();
    let text = unique.iter().map(service).collect::<Vec<_>>().join("---\n");
    loader.load(&[SourceFile::new("app.yaml", text)]);
}

/// As they are read back: folders of manifests are whole paths then.
fn seen(stamps: &Stamps) -> Stamps {
    stamps.clone().seen_from(&std::env::current_dir().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever ends the writing: what is read is what was said to be written, or what was about
    /// to be.
    #[test]
    fn an_end_at_any_step_leaves_the_last_or_the_next(
        lives in proptest::collection::vec(
            (proptest::collection::vec(proptest::collection::vec((0_u8..4, any::<u8>()), 1..4), 1..9), 0_usize..40, any::<bool>()),
            1..4,
        ),
    ) {
        let mut disk = Disk::new();
        let mut loader = Loader::new(LoaderOptions::default());
        let mut written = Stamps::default();
        for (saves, end, is_torn) in lives {
            let mut ask = killed_before(end);
            let mut about_to_be = written.clone();
            for commands in saves {
                loaded(&mut loader, &commands);
                about_to_be = loader.stamps().clone();
                if disk.save(loader.stamps(), &mut ask).is_err() {
                    break;
                }
                written = about_to_be.clone();
            }
            if is_torn && let Ok(mut log) = OpenOptions::new().append(true).open(log(&disk.path())) {
                log.write_all(b"0123456789abcdef 0123").unwrap();
            }
            let read = disk.restart();
            prop_assert!(read == seen(&written) || read == seen(&about_to_be), "{read:?}");
            written = read;
            loader = Loader::new(LoaderOptions::default()).with_stamps(written.clone());
        }
    }
}

/// After a failure the same process goes on writing: what had got half way is no hindrance.
#[test]
fn a_failure_at_every_step_is_made_good_by_the_next_save() {
    for failing in 0..60 {
        let mut disk = Disk::new();
        let mut loader = Loader::new(LoaderOptions::default());
        let mut steps = 0;
        let mut ask = |_| {
            steps += 1;
            if steps == failing + 1 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        };
        let mut failures = 0;
        for command in 0..12 {
            loaded(&mut loader, &[(0, command), (1, 0)]);
            if disk.save(loader.stamps(), &mut ask).is_err() {
                failures += 1;
                // What a full disk leaves of a line.
                if let Ok(mut log) = OpenOptions::new().append(true).open(log(&disk.path())) {
                    log.write_all(b"half a li").unwrap();
                }
                disk.save(loader.stamps(), &mut ask).unwrap();
            }
        }
        assert_eq!(failures, usize::from(failing < steps), "step {failing}");
        let expected = seen(loader.stamps());
        assert_eq!(disk.restart(), expected, "step {failing}");
    }
}

#[test]
fn an_edit_writes_what_it_changed_until_the_log_is_long() {
    let mut disk = Disk::new();
    let mut loader = Loader::new(LoaderOptions::default());
    let many: Vec<(u8, u8)> = (0..60).map(|name| (name, 0)).collect();
    loaded(&mut loader, &many);
    let mut quiet = |_| Ok(());
    assert!(disk.save(loader.stamps(), &mut quiet).unwrap());
    assert!(!disk.save(loader.stamps(), &mut quiet).unwrap(), "nothing is new");
    let whole = disk.len(&disk.path());
    let mut edited = many;
    let mut compactions = 0;
    let mut was_appended = false;
    for command in 1..=60 {
        if command > 40 && was_appended {
            break;
        }
        edited[7] = (7, command);
        loaded(&mut loader, &edited);
        let before = disk.len(&log(&disk.path()));
        assert!(disk.save(loader.stamps(), &mut quiet).unwrap());
        let after = disk.len(&log(&disk.path()));
        was_appended = after > before;
        if was_appended {
            let one = whole / 60 * (u64::from(command) + 2);
            assert!(after - before < one, "{} bytes for {command} revisions", after - before);
        } else {
            compactions += 1;
        }
    }
    assert!((1..20).contains(&compactions), "{compactions} whole writes");

    // With the whole file damaged, the version before it and both logs lead to the same.
    assert!(disk.len(&former_log(&disk.path())) > 0);
    let mut bytes = fs::read(disk.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(disk.path(), bytes).unwrap();
    let expected = seen(loader.stamps());
    for time in ["first", "second"] {
        assert!(disk.restart() == expected, "the {time} time");
    }
    assert!(listed(disk.folder.path()).contains("revisions.damaged-"));
}

#[test]
fn a_damaged_line_costs_what_it_said() {
    let mut disk = Disk::new();
    let mut loader = Loader::new(LoaderOptions::default());
    for command in 0..3 {
        loaded(&mut loader, &[(0, 0), (1, command), (2, 0)]);
        disk.save(loader.stamps(), &mut |_| Ok(())).unwrap();
    }
    let after_two = seen(loader.stamps());
    loaded(&mut loader, &[(0, 9), (1, 2), (2, 0)]);
    disk.save(loader.stamps(), &mut |_| Ok(())).unwrap();
    loaded(&mut loader, &[(0, 9), (1, 2), (2, 5)]);
    disk.save(loader.stamps(), &mut |_| Ok(())).unwrap();
    let path = log(&disk.path());
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let damaged = lines[lines.len() - 2].replace("c9", "c8");
    let changed = text.replace(lines[lines.len() - 2], &damaged);
    assert_ne!(changed, text);
    fs::write(&path, changed).unwrap();
    let read = disk.restart();
    let of = |stamps: &Stamps, name: &str| {
        stamps.revisions(&crate::model::ObjectName::new("default", name)).to_vec()
    };
    assert_eq!(of(&read, "s0"), of(&after_two, "s0"));
    assert_eq!(of(&read, "s2"), of(&seen(loader.stamps()), "s2"));
}
