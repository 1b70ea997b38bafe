//! What is remembered of revisions, and when it is forgotten, with real files.

use std::fs;
use std::path::Path;

use tokio::sync::mpsc;

use super::*;

fn service(command: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: hello}}\nspec:\n  \
         template: {{spec: {{containers: [{{image: example/x, command: [{command}]}}]}}}}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-gc}}\ndata:\n  \
         min-non-active-revisions: \"0\"\n"
    )
}

async fn open(file: &Path, place: Option<&Place>) -> Result<FileSource, OpenError> {
    FileSource::open(vec![file.to_owned()], LoaderOptions::default(), Takers::default(), place)
        .await
}

/// Wakes and works until something is sent; revisions of that world.
async fn next(
    source: &mut FileSource,
    updates: &Updates,
    received: &mut mpsc::Receiver<Update>,
) -> Vec<String> {
    loop {
        let wake = source.wake().await;
        assert!(source.take(wake, updates).await);
        if let Ok(update) = received.try_recv() {
            return names(&update);
        }
    }
}

fn names(update: &Update) -> Vec<String> {
    let Update::World(world) = update else { panic!("a source of files sent {update:?}") };
    world.revisions.iter().map(|revision| revision.id.name.to_string()).collect()
}

/// Nothing changes, and still the old revision goes when it is old enough: 48 hours. Time is
/// tokio's: it stands still while files are read.
#[tokio::test(start_paused = true)]
async fn old_revisions_are_collected_without_an_edit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.yaml");
    fs::write(&file, service("a")).unwrap();
    let mut source = open(&file, None).await.unwrap();
    let (updates, mut received) = mpsc::channel(1);
    fs::write(&file, service("b")).unwrap();
    let both = next(&mut source, &updates, &mut received).await;
    assert_eq!(both, ["hello-00001", "hello-00002"]);
    let start = Instant::now();
    assert_eq!(next(&mut source, &updates, &mut received).await, ["hello-00002"]);
    let hours = start.elapsed().as_secs_f64() / 3600.0;
    assert!((47.9..48.3).contains(&hours), "{hours}");
}

/// What the application is told has been written before.
#[tokio::test]
async fn a_revision_is_remembered_before_it_gets_traffic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.yaml");
    let state = folder.path().join("state");
    let place = Place::Folder(state.clone());
    fs::write(&file, service("a")).unwrap();
    let mut source = open(&file, Some(&place)).await.unwrap();
    assert!(!state.join("revisions.json").exists(), "it might yet fail to start");
    let (updates, mut received) = mpsc::channel(1);
    let first = source.first.take().unwrap();
    assert!(source.hand_on(first, &updates).await);
    assert_eq!(names(&received.recv().await.unwrap()), ["hello-00001"]);
    let written = fs::read_to_string(state.join("revisions.json")).unwrap();
    assert!(written.contains("hello-00001"), "{written}");
    let second = open(&file, Some(&place)).await;
    assert!(matches!(second, Err(OpenError::State(StateError::Held { .. }))));
}

/// What is missing at a start is deleted two seconds later, and not before.
#[tokio::test(start_paused = true)]
async fn what_is_missing_at_a_start_may_still_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let place = Place::Folder(path("state"));
    let other = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: other}\nspec:\n  \
                 template: {spec: {containers: [{image: example/x}]}}\n";
    fs::create_dir(path("manifests")).unwrap();
    fs::write(path("manifests/other.yaml"), other).unwrap();
    fs::write(path("manifests/hello.yaml"), service("a")).unwrap();
    let (updates, mut received) = mpsc::channel(1);
    let mut source = open(&path("manifests"), Some(&place)).await.unwrap();
    let first = source.first.take().unwrap();
    assert!(source.hand_on(first, &updates).await);
    assert_eq!(names(&received.recv().await.unwrap()), ["hello-00001", "other-00001"]);
    drop(source);
    for (comes_back, expected) in [(true, "hello-00002"), (false, "hello-00001")] {
        fs::remove_file(path("manifests/hello.yaml")).unwrap();
        // The thread of the one before gives its lock back when it likes.
        let mut source = loop {
            match open(&path("manifests"), Some(&place)).await {
                Ok(source) => break source,
                Err(OpenError::State(StateError::Held { .. })) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let begun = Instant::now();
        if !comes_back {
            assert_eq!(next(&mut source, &updates, &mut received).await, ["other-00001"]);
            assert!(begun.elapsed() >= MISSING_FOR, "{:?}", begun.elapsed());
        }
        fs::write(path("manifests/hello.yaml"), service("b")).unwrap();
        let now = next(&mut source, &updates, &mut received).await;
        assert!(now.iter().any(|name| name == expected), "{comes_back}: {now:?}");
    }
}
