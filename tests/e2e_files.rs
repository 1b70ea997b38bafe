//! Manifests on a real disk: saved, replaced, renamed, swapped and removed while they are watched.

#![expect(clippy::unwrap_used, reason = "a file that cannot be written fails the test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate::local::files::ConfigFiles;
use tokio::time::timeout;

/// The contents as `NAME=TEXT`, by path.
fn shown(files: &[tidegate::config::world::SourceFile]) -> String {
    let texts: Vec<String> = files
        .iter()
        .map(|file| format!("{}={}", file.path.file_name().unwrap().display(), file.text))
        .collect();
    texts.join(" ")
}

/// The next change, within ten seconds.
async fn next(files: &mut ConfigFiles) -> String {
    timeout(Duration::from_secs(10), files.next()).await.unwrap();
    shown(&files.files())
}

/// That nothing changes for a while.
async fn quiet(files: &mut ConfigFiles) {
    let change = timeout(Duration::from_millis(700), files.next()).await;
    assert!(change.is_err(), "nothing changed, but: {change:?}");
}

async fn open(paths: &[&Path]) -> ConfigFiles {
    ConfigFiles::open(paths.iter().map(PathBuf::from).collect()).await.unwrap()
}

#[tokio::test]
async fn a_folder_is_watched_through_everything_an_editor_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.yaml"), "1").unwrap();
    fs::write(path("notes.txt"), "x").unwrap();
    fs::create_dir(path("deeper")).unwrap();
    fs::write(path("deeper/c.yaml"), "3").unwrap();
    let mut files = open(&[folder.path()]).await;
    assert_eq!(shown(&files.files()), "a.yaml=1");
    quiet(&mut files).await;

    fs::write(path("a.yaml"), "2").unwrap();
    assert_eq!(next(&mut files).await, "a.yaml=2");
    // A new file beside it, moved over it.
    fs::write(path("a.yaml.tmp"), "3").unwrap();
    fs::rename(path("a.yaml.tmp"), path("a.yaml")).unwrap();
    assert_eq!(next(&mut files).await, "a.yaml=3");
    // Moved away, then written anew.
    fs::rename(path("a.yaml"), path("a.yaml~")).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    fs::write(path("a.yaml"), "4").unwrap();
    assert_eq!(next(&mut files).await, "a.yaml=4");
    // The same content again is no change, and what is no manifest never was.
    fs::write(path("a.yaml"), "4").unwrap();
    fs::write(path("notes.txt"), "y").unwrap();
    quiet(&mut files).await;

    fs::write(path("b.json"), "{}").unwrap();
    assert_eq!(next(&mut files).await, "a.yaml=4 b.json={}");
    fs::rename(path("b.json"), path("c.json")).unwrap();
    assert_eq!(next(&mut files).await, "a.yaml=4 c.json={}");
    let removed = std::time::SystemTime::now();
    fs::remove_file(path("c.json")).unwrap();
    assert_eq!(next(&mut files).await, "a.yaml=4");
    assert!(removed.elapsed().unwrap() >= Duration::from_secs(2), "gone for less than 2 s");
}

#[tokio::test]
async fn a_config_map_mount_is_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (version, text) in [("..v1", "1"), ("..v2", "2"), ("..v3", "3")] {
        fs::create_dir(path(version)).unwrap();
        fs::write(path(version).join("a.yaml"), text).unwrap();
    }
    symlink("..v1", path("..data")).unwrap();
    symlink("..data/a.yaml", path("a.yaml")).unwrap();
    let mut files = open(&[folder.path()]).await;
    assert_eq!(shown(&files.files()), "a.yaml=1");
    for (version, text) in [("..v2", "a.yaml=2"), ("..v3", "a.yaml=3")] {
        symlink(version, path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
        assert_eq!(next(&mut files).await, text);
    }
}

#[tokio::test]
async fn a_file_and_its_folder_may_go_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    let file = inner.join("service.conf");
    fs::create_dir(&inner).unwrap();
    fs::write(&file, "1").unwrap();
    let mut files = open(&[&file, &inner]).await;
    assert_eq!(shown(&files.files()), "service.conf=1");
    fs::remove_dir_all(&inner).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    fs::create_dir(&inner).unwrap();
    fs::write(&file, "2").unwrap();
    assert_eq!(next(&mut files).await, "service.conf=2");
    // The new folder is watched as the old one was.
    fs::write(&file, "3").unwrap();
    assert_eq!(next(&mut files).await, "service.conf=3");
}

#[tokio::test]
async fn a_change_of_the_same_size_and_time_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.yaml"), "1").unwrap();
    fs::write(path("b.yaml"), "1").unwrap();
    let modified = fs::metadata(path("a.yaml")).unwrap().modified().unwrap();
    // From then on a file that looks the same is not read again.
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    let mut files = open(&[folder.path()]).await;
    quiet(&mut files).await;
    fs::write(path("a.yaml"), "2").unwrap();
    let file = fs::File::options().write(true).open(path("a.yaml")).unwrap();
    file.set_modified(modified).unwrap();
    assert_eq!(next(&mut files).await, "a.yaml=2 b.yaml=1");
    fs::write(path("b.yaml"), "2").unwrap();
    assert_eq!(next(&mut files).await, "a.yaml=2 b.yaml=2");
}

#[tokio::test]
async fn what_is_missing_at_start_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["x.yaml", "y.yaml"].map(|name| folder.path().join(name)).to_vec();
    let error = ConfigFiles::open(paths).await.unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    let advice = "there is no such file or folder; give one with -f PATH";
    assert!(lines[0].ends_with(&format!("x.yaml: {advice}")), "{error}");
}
