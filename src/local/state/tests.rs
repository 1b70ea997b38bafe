//! The state ended at every moment of its writing, on full disks, damaged, and by later versions.

mod journal;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use expect_test::expect;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::file::{Step, decode, encode, former, read, replace};
use super::*;
use crate::config::world::{Loader, LoaderOptions, SourceFile};

fn open(folder: &Path) -> Result<StateFolder, StateError> {
    let place = Place::Folder(folder.to_owned());
    StateFolder::open(&place, &[PathBuf::from("app.yaml")]).map(Option::unwrap)
}

/// A service whose program is this command.
fn manifest(command: &str) -> Vec<SourceFile> {
    let text = format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: hello}}\nspec:\n  \
         template: {{spec: {{containers: [{{image: example/x, command: [{command}]}}]}}}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{a: hidden}}\n"
    );
    vec![SourceFile::new("app.yaml", text)]
}

/// A life: loads what is remembered, then these templates one after another.
struct Life {
    loader: Loader,
}

impl Life {
    fn begin(stamps: Stamps) -> Self {
        Self { loader: Loader::new(LoaderOptions::default()).with_stamps(stamps) }
    }

    /// Revisions with their commands, and where traffic goes.
    fn load(&mut self, command: &str) -> String {
        let loaded = self.loader.load(&manifest(command));
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        let revisions = loaded.world.revisions.iter().map(|revision| {
            let crate::model::Workload::Process(process) = &revision.workload else {
                panic!("{revision:?}");
            };
            format!("{}={} ", revision.id.name, process.command.join(" "))
        });
        let traffic = &loaded.world.services[0].traffic[0].revision.name;
        revisions.chain([format!("→ {traffic}")]).collect()
    }

    fn stamps(&self) -> &Stamps {
        self.loader.stamps()
    }
}

/// The disk as it is when the process is killed before the step of this number: from then on
/// nothing happens any more. Counts the steps.
fn killed_before(step: usize) -> impl FnMut(Step) -> io::Result<()> {
    let mut done = 0;
    move |_| {
        done += 1;
        if done > step { Err(io::Error::other("killed")) } else { Ok(()) }
    }
}

/// However far the writing of a new revision came: afterwards the state is the old one or the new
/// one, and the files make the same of either.
#[test]
fn an_end_at_every_step_loses_nothing_and_renames_nothing() {
    let mut old = Life::begin(Stamps::default());
    old.load("a");
    let mut new = Life::begin(old.stamps().clone());
    let expected = new.load("b");
    assert_eq!(expected, "hello-00001=a hello-00002=b → hello-00002");
    let mut after_old = 0;
    let mut finished = 0;
    for step in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(REVISIONS);
        let state = open(folder.path()).unwrap();
        replace(&path, &state.encode_revisions(old.stamps()).unwrap(), &mut |_| Ok(())).unwrap();
        let bytes = state.encode_revisions(new.stamps()).unwrap();
        let ended = replace(&path, &bytes, &mut killed_before(step));
        drop(state);
        let remembered = open(folder.path()).unwrap().read().unwrap();
        let working_directory = std::env::current_dir().unwrap();
        if remembered.stamps == old.stamps().clone().seen_from(&working_directory) {
            after_old += 1;
        } else {
            assert_eq!(remembered.stamps, new.stamps().clone().seen_from(&working_directory));
        }
        let mut again = Life::begin(remembered.stamps);
        assert_eq!(again.load("b"), expected, "killed before step {step}");
        // What was left lying about is no hindrance.
        replace(&path, &bytes, &mut |_| Ok(())).unwrap();
        if ended.is_ok() {
            finished = step;
            break;
        }
    }
    // Create, one write, sync, remove, link, rename, sync.
    assert_eq!((after_old, finished), (6, 7));
}

#[test]
fn a_failure_at_every_step_leaves_the_old_or_the_new() {
    for failing in [
        Step::Create,
        Step::Write,
        Step::SyncFile,
        Step::RemoveFormer,
        Step::KeepFormer,
        Step::Rename,
        Step::SyncFolder,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        for text in ["one", "two"] {
            replace(&path, &encode(&text).unwrap(), &mut |_| Ok(())).unwrap();
        }
        let full = io::ErrorKind::StorageFull;
        let mut ask = |step| if step == failing { Err(full.into()) } else { Ok(()) };
        let three = encode(&"three").unwrap();
        assert_eq!(replace(&path, &three, &mut ask).unwrap_err().kind(), full, "{failing:?}");
        let (content, _): (String, _) = read(&path).unwrap().unwrap();
        let is_new = failing == Step::SyncFolder;
        assert_eq!(content, if is_new { "three" } else { "two" }, "{failing:?}");
        assert!(!path.with_extension("new").exists(), "{failing:?}");
        replace(&path, &three, &mut |_| Ok(())).unwrap();
        assert_eq!(read::<String>(&path).unwrap().unwrap().0, "three");
    }
}

#[test]
fn files_are_private_and_so_is_the_folder() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("deep/er");
    let state = open(&path).unwrap();
    let mut life = Life::begin(Stamps::default());
    life.load("a");
    let bytes = state.encode_revisions(life.stamps()).unwrap();
    replace(&path.join(REVISIONS), &bytes, &mut |_| Ok(())).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&home.path().join("deep"))), (0o700, 0o700));
    for file in [REVISIONS, "lock"] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
    let text = fs::read_to_string(path.join(REVISIONS)).unwrap();
    assert!(text.contains("hello-00001") && !text.contains("hidden"), "{text}");
}

/// A folder with two versions of the revisions, the newer one then changed by `damage`.
fn damaged(damage: impl Fn(&mut Vec<u8>)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    let path = folder.path().join(REVISIONS);
    let mut life = Life::begin(Stamps::default());
    for command in ["a", "b"] {
        life.load(command);
        let bytes = state.encode_revisions(life.stamps()).unwrap();
        replace(&path, &bytes, &mut |_| Ok(())).unwrap();
    }
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes);
    fs::write(&path, bytes).unwrap();
    folder
}

/// Files of a folder, numbers of seconds left out.
fn listed(folder: &Path) -> String {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names.join(" ").replace(|c: char| c.is_ascii_digit(), "")
}

#[test]
fn a_damaged_file_is_kept_and_the_version_before_it_taken() {
    let half = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let empty = |bytes: &mut Vec<u8>| bytes.clear();
    let flipped = |bytes: &mut Vec<u8>| {
        let at = bytes.len() - 20;
        bytes[at] ^= 1;
    };
    let damages: [fn(&mut Vec<u8>); 3] = [half, empty, flipped];
    for damage in damages {
        let folder = damaged(damage);
        let read = || open(folder.path()).unwrap().read().unwrap();
        let mut life = Life::begin(read().stamps);
        assert_eq!(life.load("b"), "hello-00001=a hello-00002=b → hello-00002");
        assert_eq!(
            listed(folder.path()),
            "lock revisions.damaged- revisions.former revisions.json"
        );
        // It is not taken for a beginning the next time either.
        assert!(!read().stamps.revisions(&hello()).is_empty());

        // Without a version before nothing is touched.
        let folder = damaged(damage);
        fs::remove_file(former(&folder.path().join(REVISIONS))).unwrap();
        for _ in 0..2 {
            let error = open(folder.path()).unwrap().read().unwrap_err();
            assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        }
        assert_eq!(listed(folder.path()), "lock revisions.json");
    }
    let folder = damaged(half);
    fs::write(folder.path().join(REPLICAS), "{").unwrap();
    let remembered = open(folder.path()).unwrap().read().unwrap();
    assert_eq!(remembered.replicas, Replicas::default());
    assert!(listed(folder.path()).contains("replicas.damaged-"));
}

fn hello() -> crate::model::ObjectName {
    crate::model::ObjectName::new("default", "hello")
}

#[test]
fn what_has_to_be_done_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let shown =
        |error: StateError| error.to_string().replace(&*folder.path().to_string_lossy(), "/state");
    let path = folder.path().join(REVISIONS);
    let state = open(folder.path()).unwrap();
    let own = std::process::id().to_string();
    expect!["/state: the tidegate with process id PID keeps the state of these manifests; stop that one, or give this one a folder of its own with --state-dir DIR, or --state-dir none"]
        .assert_eq(&shown(open(folder.path()).unwrap_err()).replace(&own, "PID"));
    let head = |format: u32| {
        format!("{{\"tidegate\":\"9.1.0\",\"format\":{format},\"digest\":\"\",\"more\":1}}\n?")
    };
    fs::write(&path, head(3)).unwrap();
    expect!["/state/revisions.json: format 3 of tidegate 9.1.0, while this version reads format 2 at most; start that version again, or begin anew in another folder with --state-dir DIR: then the templates in the manifests become first revisions"]
        .assert_eq(&shown(state.read().unwrap_err()));
    fs::write(&path, head(2)).unwrap();
    expect!["/state/revisions.json: damaged, and there is no version before it: line 2: it is not what was written there. It is left as it is. Put a copy in its place, or move it away to begin anew: then the templates in the manifests become first revisions"]
        .assert_eq(&shown(state.read().unwrap_err()));
    fs::write(folder.path().join("file"), "").unwrap();
    expect!["/state/file/x: the state cannot be kept there: Not a directory (os error 20); name a folder that this user may write to with --state-dir DIR, or keep nothing with --state-dir none"]
        .assert_eq(&shown(open(&folder.path().join("file/x")).unwrap_err()));
}

#[test]
fn fields_may_come_and_go_between_versions() {
    let text = r#"{"future": 1, "stamps": {"future": {}, "configurations": {"default/hello": {
        "latest": "hello-00001", "future": [], "revisions": [{"name": "hello-00001", "future": 1}]}},
        "traffic": {"default/hello": {"targets": [["hello-00001", 100]], "future": null}}}}"#;
    let content: serde_json::Value = serde_json::from_str(text).unwrap();
    let read: RevisionsIn = decode(&encode(&content).unwrap()).unwrap();
    assert_eq!(read.stamps.latest(&hello()), Some("hello-00001"));
    assert_eq!(read.stamps.revisions(&hello())[0].created, 0);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        failure_persistence: None, ..proptest::prelude::ProptestConfig::default()
    })]

    /// No bytes are taken for a state that was not written so, and none end the program.
    #[test]
    fn no_damage_goes_unnoticed(at in 0_usize..2000, bit in 0_u8..8, cut: bool) {
        let mut life = Life::begin(Stamps::default());
        life.load("a");
        let bytes = encode(life.stamps()).unwrap();
        let at = at % bytes.len();
        let mut changed = bytes;
        if cut {
            changed.truncate(at);
        } else {
            changed[at] ^= 1 << bit;
        }
        match decode::<Stamps>(&changed) {
            // The version that wrote it, or space.
            Ok(stamps) => proptest::prop_assert_eq!(&stamps, life.stamps()),
            Err(error) => proptest::prop_assert!(!error.to_string().is_empty()),
        }
    }
}

/// A memory whose disk does what `ask` says.
fn memory(folder: &TempDir, ask: memory::Ask) -> Memory {
    Memory::asking(open(folder.path()).unwrap(), ask).unwrap()
}

/// Writing is done by a thread, so that nothing here may wait for paused time.
#[tokio::test]
async fn revisions_are_on_the_disk_when_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let memory = memory(&folder, Box::new(|_| Ok(())));
    let mut life = Life::begin(Stamps::default());
    life.load("a");
    assert!(memory.save_revisions(life.stamps()).await);
    assert!(folder.path().join(REVISIONS).exists());
    let writes = memory.health().writes;
    assert!(memory.save_revisions(life.stamps()).await);
    assert_eq!(memory.health(), Health { writes, ..Health::default() }, "nothing is new");
    let mut replicas = Replicas::default();
    replicas.counts.insert("default/hello-00001".to_owned(), 3);
    memory.save_replicas(&replicas);
    memory.clone().close().await;
    drop(memory);
    // The thread gives the lock back just after it said that it ended.
    let again = loop {
        match open(folder.path()) {
            Ok(again) => break again,
            Err(StateError::Held { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(again.read().unwrap().replicas, replicas);
}

#[tokio::test]
async fn a_full_disk_is_said_and_written_to_later() {
    let folder = tempfile::tempdir().unwrap();
    let full = Arc::new(Mutex::new(false));
    let disk = Arc::clone(&full);
    let ask = move |step| match step {
        Step::Write if *disk.lock() => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    };
    let memory = memory(&folder, Box::new(ask));
    let mut life = Life::begin(Stamps::default());
    life.load("a");
    assert!(memory.save_revisions(life.stamps()).await);
    *full.lock() = true;
    let content = || fs::read(folder.path().join(REVISIONS)).unwrap();
    let before = content();
    life.load("b");
    assert!(!memory.save_revisions(life.stamps()).await);
    let health = memory.health();
    assert!(health.failing.as_ref().unwrap().contains("revisions.json: "), "{health:?}");
    assert_eq!((health.failures, content()), (1, before), "what was there is there");
    life.load("c");
    assert!(!memory.save_revisions(life.stamps()).await);
    *full.lock() = false;
    // The same once more is tried again.
    assert!(memory.save_revisions(life.stamps()).await);
    let health = memory.health();
    assert_eq!((health.failing, health.failures), (None, 2));
    memory.clone().close().await;
    let (content, _): (RevisionsIn, _) = read(&folder.path().join(REVISIONS)).unwrap().unwrap();
    assert_eq!(content.stamps.revisions(&hello()).len(), 3);
}
