//! The Dockerfile: nothing here can run it, so what it says is held against what is there.

use std::collections::BTreeSet;

use super::options::assert_known;
use super::{path, read};

const FILE: &str = "deploy/docker/Dockerfile";

/// Its instructions: word and rest, lines that go on joined, comments left out.
fn instructions() -> Vec<(String, String)> {
    let text = read(FILE);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (word, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{FILE}: {line}"));
            (word.to_owned(), rest.trim().to_owned())
        })
        .collect()
}

/// The instructions of each stage, `FROM` first.
fn stages() -> Vec<Vec<(String, String)>> {
    let mut stages: Vec<Vec<(String, String)>> = Vec::new();
    for instruction in instructions() {
        if instruction.0 == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().expect("FROM comes first").push(instruction);
    }
    stages
}

/// What the instructions of a word say.
fn said<'a>(stage: &'a [(String, String)], word: &str) -> Vec<&'a str> {
    stage.iter().filter(|one| one.0 == word).map(|one| one.1.as_str()).collect()
}

fn list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}: a list, so without a shell"))
}

#[test]
fn it_builds_with_the_pinned_toolchain() {
    let channel = read("rust-toolchain.toml");
    let channel = channel.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap();
    let channel = channel.trim_matches('"');
    let stages = stages();
    let [build, _] = &stages[..] else { panic!("two stages: {stages:?}") };
    let image = format!("rust:{channel}-slim-bookworm AS build");
    assert_eq!(said(build, "FROM"), [image]);
    assert!(said(build, "ENV").contains(&format!("RUSTUP_TOOLCHAIN={channel}").as_str()));
    // As static as what the tests of a cluster run in an image of their own.
    let flags = read("tests/cluster/static.sh");
    let flags = flags.lines().find_map(|line| line.strip_prefix("export RUSTFLAGS=")).unwrap();
    assert!(said(build, "ENV").contains(&format!("RUSTFLAGS={flags}").as_str()), "{flags}");
    let [run] = said(build, "RUN")[..] else { panic!("one RUN") };
    assert!(run.starts_with("set -eu;"), "a failure ends it: {run}");
    for word in ["cargo build --release --locked --bin tidegate --target", "/image/tidegate"] {
        assert!(run.contains(word), "{run}");
    }
}

#[test]
fn the_image_has_the_program_and_nothing_else() {
    let stages = stages();
    let image = stages.last().unwrap();
    assert_eq!(said(image, "FROM"), ["scratch"]);
    // Nothing in it could run that.
    assert!(said(image, "RUN").is_empty());
    assert_eq!(said(image, "COPY"), ["--from=build /image/tidegate /tidegate"]);
    let [entry] = said(image, "ENTRYPOINT")[..] else { panic!("one ENTRYPOINT") };
    assert_eq!(list(entry), ["/tidegate"]);
    let [command] = said(image, "CMD")[..] else { panic!("one CMD") };
    let command = list(command);
    assert_known(&command.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(said(image, "STOPSIGNAL"), ["SIGTERM"]);
    let version = format!("org.opencontainers.image.version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(said(image, "LABEL").contains(&version.as_str()), "{image:?}");
    assert!(read(FILE).contains(&format!("-t tidegate:{} .\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn it_fits_the_deployment() {
    let deployment = read("deploy/kubernetes/deployment.yaml");
    let stages = stages();
    let image = stages.last().unwrap();
    let [user] = said(image, "USER")[..] else { panic!("one USER") };
    let (uid, gid) = user.split_once(':').unwrap();
    assert_ne!(uid, "0");
    assert!(deployment.contains(&format!("runAsUser: {uid}\n")), "{user}");
    assert!(deployment.contains(&format!("runAsGroup: {gid}\n")), "{user}");
    let ports = deployment.lines().filter_map(|line| line.split_once("containerPort: "));
    let ports: BTreeSet<&str> = ports.map(|(_, port)| port).collect();
    let exposed: BTreeSet<&str> = said(image, "EXPOSE")[0].split(' ').collect();
    assert_eq!(exposed, ports);
    let arguments: Vec<&str> = deployment
        .lines()
        .skip_while(|line| line.trim() != "args:")
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .map_while(|line| line.strip_prefix("- "))
        .collect();
    assert_known(&arguments);
}

/// Cargo reads all of its targets' files, also of those that it does not build.
#[test]
fn what_the_build_reads_is_not_left_out() {
    let ignored = read("deploy/docker/Dockerfile.dockerignore");
    let ignored: Vec<&str> =
        ignored.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    for needed in
        ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "src", "tests", "benches", "loadtest"]
    {
        assert!(path(needed).exists(), "{needed}");
        assert!(!ignored.contains(&needed), "{needed} is not sent to the build");
    }
    assert!(ignored.contains(&"target") && ignored.contains(&".git"), "{ignored:?}");
}
