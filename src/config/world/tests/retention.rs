//! Old revisions: served again, kept over restarts, collected in the end.

use super::*;
use crate::model::RevisionId;

const HOUR: u64 = 3600;
/// Some moment.
const START: u64 = 1_800_000_000;

/// Keeps at most one revision that no traffic names, and none for more than an hour.
const FEW: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-gc}\ndata:\n  \
                   retain-since-create-time: disabled\n  retain-since-last-active-time: 1h\n  \
                   min-non-active-revisions: \"1\"\n";

fn only(revision: &str) -> String {
    format!("  traffic: [{{revisionName: {revision}, percent: 100}}]\n")
}

fn names(loaded: &Loaded) -> String {
    loaded.world.revisions.iter().map(|r| &*r.id.name).collect::<Vec<_>>().join(" ")
}

fn may_collect(bench: &Bench) -> bool {
    bench.loader.may_collect(bench.moment())
}

/// A bench whose loader goes on from what another one would have stored.
fn restarted(bench: &Bench) -> Bench {
    let stored = serde_json::to_string(bench.loader.stamps()).unwrap();
    let loader =
        Loader::new(LoaderOptions::default()).with_stamps(serde_json::from_str(&stored).unwrap());
    Bench { loader, files: bench.files.clone(), now: 0 }
}

#[test]
fn an_old_revision_is_gone_back_to_also_after_a_restart() {
    let mut bench = Bench::new();
    bench.write("app.yaml", &service("hello", "a", ""));
    bench.write("app.yaml", &service("hello", "b", ""));
    let mut bench = restarted(&bench);
    let loaded = bench.load();
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/hello: hello-00002 100%", "nothing is stamped");
    let loaded = bench.write("app.yaml", &service("hello", "b", &only("hello-00001")));
    assert_eq!(traffic(&loaded), "default/hello: hello-00001 100%");
    assert_eq!(revisions(&loaded), "default/hello-00001: a\ndefault/hello-00002: b (unreachable)");
    let mut bench = restarted(&bench);
    assert_eq!(traffic(&bench.load()), "default/hello: hello-00001 100%");
    let half = "  traffic: [{revisionName: hello-00001, percent: 50}, {percent: 50}]\n";
    let loaded = bench.write("app.yaml", &service("hello", "c", half));
    assert_eq!(traffic(&loaded), "default/hello: hello-00001 50% hello-00003 50%");
}

#[test]
fn a_restart_makes_of_the_same_files_the_same() {
    let mut bench = Bench::new();
    bench.now = START;
    for command in ["a", "b", "c"] {
        bench.write("app.yaml", &service("hello", command, ""));
    }
    let before = bench.load();
    let stored = serde_json::to_string(bench.loader.stamps()).unwrap();
    let mut again = restarted(&bench);
    again.now = START + HOUR;
    let after = again.load();
    assert_eq!(before.world.services, after.world.services);
    assert_eq!(before.world.revisions, after.world.revisions);
    assert_eq!(serde_json::to_string(again.loader.stamps()).unwrap(), stored);
}

#[test]
fn what_no_traffic_names_is_collected_past_the_limits() {
    let mut bench = Bench::new();
    bench.write("config.yaml", FEW);
    for (third, command) in (0..).zip(["a", "b", "c", "d"]) {
        bench.now = START + third * HOUR / 3;
        let loaded = bench.write("app.yaml", &service("hello", command, ""));
        assert!(loaded.collected.is_empty(), "{:?}", loaded.collected);
    }
    // The first one is out of use for forty minutes now, the second for twenty.
    assert_eq!(names(&bench.load()), "hello-00001 hello-00002 hello-00003 hello-00004");
    let mut bench = restarted(&bench);
    bench.now = START + 4 * HOUR / 3 - 1;
    assert!(bench.load().collected.is_empty());
    assert!(!may_collect(&bench));
    bench.now = START + 4 * HOUR / 3;
    assert!(may_collect(&bench));
    let loaded = bench.load();
    assert_eq!(loaded.collected, [RevisionId::new("default", "hello-00001")]);
    assert_eq!(names(&loaded), "hello-00002 hello-00003 hello-00004");
    // One is kept however old, and the latest.
    bench.now = START + 1000 * HOUR;
    assert_eq!(names(&bench.load()), "hello-00003 hello-00004");
    assert!(!may_collect(&bench));
    // Numbers are not given twice.
    let loaded = bench.write("app.yaml", &service("hello", "e", ""));
    assert_eq!(traffic(&loaded), "default/hello: hello-00005 100%");
}

#[test]
fn an_edit_that_goes_back_to_an_old_revision_is_in_time() {
    let mut bench = Bench::new();
    let none = FEW.replace("\"1\"", "\"0\"");
    bench.write("config.yaml", &none);
    bench.now = START;
    for command in ["a", "b"] {
        bench.write("app.yaml", &service("hello", command, ""));
    }
    bench.now = START + 10 * HOUR;
    assert!(may_collect(&bench));
    let loaded = bench.write("app.yaml", &service("hello", "b", &only("hello-00001")));
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/hello: hello-00001 100%");
    // In use all the time, it is as if used last when that ends.
    bench.now = START + 20 * HOUR;
    assert_eq!(
        names(&bench.write("app.yaml", &service("hello", "b", ""))),
        "hello-00001 hello-00002"
    );
    bench.now = START + 21 * HOUR;
    assert_eq!(names(&bench.load()), "hello-00002");
    let loaded = bench.write("app.yaml", &service("hello", "b", &only("hello-00001")));
    assert_eq!(traffic(&loaded), "default/hello: hello-00002 100%", "the traffic before stays");
}

#[test]
fn tags_documents_and_traffic_that_cannot_be_read_keep_revisions() {
    let mut bench = Bench::new();
    bench.write("config.yaml", &FEW.replace("\"1\"", "\"0\""));
    bench.now = START;
    let tagged = "  traffic: [{percent: 100}, {revisionName: hello-00001, tag: old}]\n";
    bench.write("app.yaml", &service("hello", "a", ""));
    bench.write("app.yaml", &service("hello", "b", tagged));
    bench.write("app.yaml", &service("hello", "c", tagged));
    let missing = "  traffic: [{revisionName: hello-00009, percent: 100}]\n";
    bench.write("app.yaml", &service("hello", "c", missing));
    bench.now = START + 10 * HOUR;
    // What it is to name, nobody knows.
    assert_eq!(names(&bench.load()), "hello-00001 hello-00002 hello-00003");
    let loaded = bench.write("app.yaml", &service("hello", "c", tagged));
    assert_eq!(names(&loaded), "hello-00001 hello-00003");
    let document = "apiVersion: serving.knative.dev/v1\nkind: Revision\nmetadata:\n  \
                    name: hello-00001\n  labels: {serving.knative.dev/service: hello}\nspec:\n  \
                    containers:\n  - {image: example/hello, command: [a]}\n";
    bench.write("app.yaml", &service("hello", "c", ""));
    assert_good(&bench.write("old.yaml", document));
    bench.now = START + 20 * HOUR;
    assert_eq!(names(&bench.load()), "hello-00001 hello-00003");
    assert_eq!(names(&bench.remove("old.yaml")), "hello-00003");
}

#[test]
fn at_a_start_nothing_is_forgotten_at_once() {
    let mut bench = Bench::new();
    bench.write("app.yaml", &service("hello", "a", ""));
    bench.write("app.yaml", &service("hello", "b", ""));
    let mut empty = restarted(&bench);
    empty.files.clear();
    assert_eq!(names(&empty.load()), "");
    let mut mounted = restarted(&empty);
    let loaded = mounted.write("app.yaml", &service("hello", "b", &only("hello-00001")));
    assert_eq!(traffic(&loaded), "default/hello: hello-00001 100%");
    // Another one is there, and a moment later this one too: its file was being replaced.
    let mut other = restarted(&bench);
    other.files = BTreeMap::from([("other.yaml".to_owned(), service("other", "a", ""))]);
    other.load();
    assert!(may_collect(&other));
    let loaded = other.write("app.yaml", &service("hello", "b", &only("hello-00001")));
    assert_eq!(traffic(&loaded).lines().next(), Some("default/hello: hello-00001 100%"));
    assert!(!may_collect(&other));
    // It is not there a moment later either: it was deleted meanwhile.
    let mut other = restarted(&bench);
    other.files.clear();
    other.write("app.yaml", &service("other", "a", ""));
    other.load();
    assert!(!may_collect(&other));
    let loaded = other.write("app.yaml", &service("hello", "c", ""));
    assert_eq!(traffic(&loaded), "default/hello: hello-00001 100%", "made anew, from the start");
}

#[test]
fn folders_are_found_from_another_working_directory() {
    let mut bench = Bench::new();
    let text = service("hello", "a", "").replace(
        "    spec:\n",
        "    metadata: {annotations: {tidegate.dev/local-directory: bin}}\n    spec:\n",
    );
    bench.write("app.yaml", &text);
    bench.write("app.yaml", &text.replace("[a]", "[b]"));
    let stamps = bench.loader.stamps().clone().seen_from(std::path::Path::new("/srv/shop"));
    let loader = Loader::new(LoaderOptions::default()).with_stamps(stamps);
    let mut moved = Bench { loader, files: BTreeMap::new(), now: 0 };
    let loaded = moved.write("/srv/shop/app.yaml", &text.replace("[a]", "[b]"));
    let directory = |revision: &Arc<RevisionSpec>| match &revision.workload {
        Workload::Process(process) => process.directory.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    let directories: Vec<_> = loaded.world.revisions.iter().map(directory).collect();
    assert_eq!(directories, ["/srv/shop/bin", "/srv/shop/bin"].map(std::path::PathBuf::from));
}
