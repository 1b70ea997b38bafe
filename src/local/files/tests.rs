//! Manifests of real folders.

mod looks;

use std::fs;

use super::*;

/// Where folders cannot be watched, everything is read every two seconds. Time is tokio's: it
/// stands still while a file is read.
#[tokio::test(start_paused = true)]
async fn without_a_watch_changes_are_found_by_reading() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, "1").unwrap();
    let mut files = ConfigFiles::open(vec![folder.path().to_owned()]).await.unwrap();
    files.watch = FolderWatch::none();
    let texts = |files: Vec<SourceFile>| -> Vec<String> {
        files.into_iter().map(|file| file.text.to_string()).collect()
    };
    assert_eq!(texts(files.files()), ["1"]);
    fs::write(&file, "2").unwrap();
    let start = Instant::now();
    files.next().await;
    assert_eq!(texts(files.files()), ["2"]);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    fs::remove_file(&file).unwrap();
    let start = Instant::now();
    files.next().await;
    assert_eq!(texts(files.files()), Vec::<String>::new());
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn reading_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("any.name");
    fs::write(&file, "1").unwrap();
    fs::write(folder.path().join("b.yaml"), "2").unwrap();
    // The file twice, and the folder it stands in.
    let paths = [file.clone(), file.clone(), folder.path().to_owned()];
    let read = read_files(&paths).unwrap();
    let texts: Vec<&str> = read.iter().map(|file| &*file.text).collect();
    assert_eq!(texts, ["1", "2"]);
    fs::write(&file, [0xff]).unwrap();
    let error = read_files(&paths).unwrap_err().to_string();
    assert!(error.ends_with("any.name: cannot be read: it is not UTF-8 text"), "{error}");
}
