//! The folder: whose it is, and where.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::client::get;
use crate::serving::{Tidegate, host, tidegate};
use crate::stage::{Disk, saying};

#[tokio::test]
async fn a_second_one_is_refused_and_told_of_the_first() {
    let disk = Disk::new(&[saying("one")]);
    let mut first = disk.start();
    let state = disk.path("state");
    let second = |state: &str| {
        let output = tidegate()
            .args(["serve", "-f", disk.path("app.yaml").to_str().unwrap(), "--state-dir", state])
            .args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = second(state.to_str().unwrap());
    assert_eq!(code, Some(78), "{error}");
    let pid = first.pid().to_string();
    for part in [&pid, "--state-dir", state.to_str().unwrap()] {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
    first.signal(Signal::KILL);
    first.ended().await;
    drop(disk.start());
}

#[tokio::test]
async fn the_users_state_folder_has_one_for_these_files() {
    let disk = Disk::new(&[saying("one")]);
    std::fs::write(
        disk.path("secret.yaml"),
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {word: hidden-word}\n",
    )
    .unwrap();
    let home = disk.path("home");
    let start = |files: &[&Path], home: Option<&Path>| {
        let mut command = tidegate();
        command.arg("serve").args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        for file in files {
            command.arg("-f").arg(file);
        }
        command.env_remove("XDG_STATE_HOME").env_remove("HOME");
        command.envs(home.map(|home| ("HOME", home))).current_dir(disk.folder.path());
        Tidegate::spawned(command)
    };
    let folders = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(home.join(".local/state/tidegate")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut first = start(&[Path::new("app.yaml"), Path::new("secret.yaml")], Some(&home));
    first.logged("state is kept").await;
    let [folder] = &folders()[..] else { panic!("{:?}", folders()) };
    assert!(first.log().contains(folder.to_str().unwrap()), "{}", first.log());
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("hidden-word"), "{text}");
    }
    first.terminate();
    first.ended().await;
    // The same files by other names, in another order.
    let [app, secret] = ["app.yaml", "secret.yaml"].map(|name| disk.path(name));
    let mut again = start(&[&secret, &app], Some(&home));
    assert_eq!(folders().len(), 1);
    again.terminate();
    again.ended().await;
    drop(start(&[&app], Some(&home)));
    assert_eq!(folders().len(), 2);
    let without = start(&[&app], None);
    without.logged("remembered only while tidegate runs").await;
    assert_eq!(get(without.address(), &host("a"), "/").await.text(), "Hello one!\n");
}
