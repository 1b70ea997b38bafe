//! The commands that ask a running tidegate, as their users type them.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "support/client.rs"]
mod client;
#[path = "support/serving.rs"]
mod serving;

use std::collections::BTreeSet;
use std::process::Output;

use client::{empty, get, h1, request, send1};
use serving::{SOON, Tidegate, repository, tidegate};
use tokio::time::Instant;

/// A service whose program ends as soon as it is told to, whatever it has to do.
fn abrupt(greeting: &str, annotations: &str) -> String {
    let program = repository("tests/support/abrupt.py");
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: hello}}\nspec:\n  \
         template:\n    metadata: {{annotations: {{{annotations}}}}}\n    spec:\n      \
         containers:\n      - image: example/hello\n        command: [python3, {}]\n        \
         env: [{{name: GREETING, value: {greeting}}}]\n",
        program.display()
    )
}

/// Runs a command against a tidegate.
fn ask(served: &Tidegate, arguments: &[&str]) -> Output {
    let (first, rest) = arguments.split_first().unwrap();
    let admin = served.admin.to_string();
    tidegate().arg(first).args(["--admin", &admin]).args(rest).output().unwrap()
}

/// What a command prints, and its exit code.
fn said(served: &Tidegate, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = ask(served, arguments);
    let text = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (status.code(), text)
}

#[track_caller]
fn good(served: &Tidegate, arguments: &[&str]) -> String {
    let (code, text) = said(served, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {text}\n{}", served.log());
    text
}

#[track_caller]
fn bad(served: &Tidegate, arguments: &[&str]) -> String {
    let (code, text) = said(served, arguments);
    assert_eq!(code, Some(1), "{arguments:?}: {text}");
    text
}

#[tokio::test]
async fn a_service_is_waited_for_explained_and_its_lines_are_shown() {
    let served = Tidegate::serve(&abrupt("One", ""));
    assert!(good(&served, &["why", "hello"]).contains("the next one starts 1 replica"));
    assert_eq!(good(&served, &["wait", "hello"]), "", "a replica is started");
    let answer = get(served.address(), "hello.default.localhost", "/").await;
    assert_eq!(answer.status, 200);
    let why = good(&served, &["why", "hello-00001"]);
    assert!(why.contains("1 replica wanted, 1 ready") && why.contains("target "), "{why}");
    let json: serde_json::Value =
        serde_json::from_str(&good(&served, &["why", "hello", "-o", "json"])).unwrap();
    assert_eq!(json["revisions"][0]["name"], "hello-00001");
    assert!(json["revisions"][0]["decisions"][0]["requested"].is_number(), "{json}");
    let yaml = good(&served, &["status", "-o", "yaml"]);
    assert!(yaml.contains("\n  name: hello\n") || yaml.contains("\n  - name: hello"), "{yaml}");
    assert!(good(&served, &["logs", "hello", "--tail", "1"]).ends_with("asked for /\n"));

    let wait = ["wait", "hello", "--for", "revision=hello-00009", "--timeout", "1ms"];
    assert!(bad(&served, &wait).contains("has no revision hello-00009"));
    assert!(bad(&served, &["wait", "nobody", "--timeout", "1ms"]).contains("no service"));
    assert!(bad(&served, &["why", "nobody"]).contains("no service or revision here"));
    assert!(bad(&served, &["logs", "nobody"]).contains("no service or revision"));
}

#[tokio::test]
async fn what_cannot_start_is_told_at_once() {
    let manifest = abrupt("One", "").replace("[python3,", "[sh, -c, exit 3,");
    let served = Tidegate::serve(&manifest);
    let begun = Instant::now();
    let text = bad(&served, &["wait", "hello", "--timeout", "10m"]);
    assert!(text.contains("hello-00001: start_failed: "), "{text}");
    assert!(begun.elapsed() < SOON, "not after the ten minutes");
    assert!(good(&served, &["why", "hello"]).contains("cannot start  start_failed: "));
}

#[tokio::test]
async fn a_request_that_waited_or_was_refused_is_explained() {
    let served = Tidegate::serve(&abrupt("One", ""));
    let mut connection = h1(served.address()).await;
    let with_id = |host: &str, id: &str| {
        request("GET", host, "/").header("x-request-id", id).body(empty()).unwrap()
    };
    let host = "hello.default.localhost";
    let answer = send1(&mut connection, with_id(host, "waits/1")).await;
    assert_eq!(answer.status, 200);
    let why = good(&served, &["why", "waits/1"]);
    assert!(why.contains("for default/hello-00001\n") && why.contains("  waited   "), "{why}");
    assert!(why.contains("there was no replica") && why.contains("it got a place"), "{why}");
    send1(&mut connection, with_id("nobody.example.com", "lost")).await;
    let why = good(&served, &["why", "lost"]);
    assert!(why.contains("  refused  no_route\n"), "{why}");
    let answer = send1(&mut connection, with_id(host, "quick")).await;
    assert_eq!(answer.status, 200);
    assert!(bad(&served, &["why", "quick"]).contains("no request of that X-Request-Id"));
}

#[tokio::test]
async fn traffic_is_shown_moved_and_taken_back() {
    let served = Tidegate::serve(&abrupt("One", ""));
    served.write(&abrupt("Two", ""));
    served.logged("configuration loaded").await;
    let both = ["traffic", "hello", "hello-00001=40", "hello-00002=60"];
    let shown = good(&served, &[&both[..], &["--dry-run"]].concat());
    let expected = "default/hello\n  hello-00002  100% →  60%\n  hello-00001    0% →  40%\n";
    assert_eq!(shown, expected);
    let status = good(&served, &["status"]);
    assert!(status.contains("hello-00002  100%"), "nothing moved yet: {status}");
    assert_eq!(good(&served, &both), expected);
    serving::until("the traffic in effect", || good(&served, &["status"]).contains("40%")).await;
    let host = "hello.default.localhost";
    let mut greetings = BTreeSet::new();
    for _ in 0..20 {
        let body = get(served.address(), host, "/").await.body;
        greetings.insert(body[..3].to_vec());
    }
    assert_eq!(greetings, [b"One".to_vec(), b"Two".to_vec()].into());
    assert!(good(&served, &["traffic", "hello", "--rollback"]).contains("40% → 100%"));
    assert!(good(&served, &["status"]).contains("TrafficOrdered: "));
    assert!(bad(&served, &["traffic", "hello", "--rollback"]).contains("no revision before"));
    let text = bad(&served, &["traffic", "hello", "hello-00007=100"]);
    assert!(text.contains("there are hello-00001, hello-00002"), "{text}");
    let Output { status, stderr, .. } = ask(&served, &["traffic", "hello", "hello-00001=90"]);
    assert_eq!(status.code(), Some(64), "{}", String::from_utf8_lossy(&stderr));
}

#[tokio::test]
async fn an_export_is_served_elsewhere_with_the_same_revisions_and_traffic() {
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {k: v}\n";
    let served = Tidegate::serve(&(abrupt("One", "") + secret));
    served.write(&(abrupt("Two", "") + secret));
    served.logged("configuration loaded").await;
    good(&served, &["traffic", "hello", "hello-00001=40", "hello-00002=60"]);
    let backup = good(&served, &["export"]);
    assert!(
        backup.ends_with("# not included: Secret default/db (--include-secrets)\n"),
        "{backup}"
    );
    let refused = bad(&served, &["export", "--include-secrets"]);
    assert!(refused.contains("--admin-token-file"), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.yaml");
    std::fs::write(&file, &backup).unwrap();
    let elsewhere = Tidegate::files(&[&file], &[]);
    let check = ["restore", file.to_str().unwrap(), "--check"];
    assert!(good(&served, &check).starts_with("what runs is what "));
    assert!(good(&elsewhere, &check).starts_with("what runs is what "));
    let status = good(&elsewhere, &["status"]);
    assert!(status.contains("hello-00001  40%") && status.contains("hello-00002  60%"), "{status}");
    good(&elsewhere, &["traffic", "hello", "--rollback"]);
    let told = bad(&elsewhere, &check);
    assert!(told.contains("service default/hello: traffic: \"hello-00001=100\""), "{told}");
    assert!(told.contains("restore: 1 differences"), "{told}");
}

#[tokio::test]
async fn a_restart_loses_no_request() {
    let annotations = "autoscaling.knative.dev/min-scale: \"3\"";
    let served = Tidegate::serve(&abrupt("One", annotations));
    let ready = || good(&served, &["status"]).contains(" 3      3 ");
    serving::until("three replicas", ready).await;
    let (address, host) = (served.address(), "hello.default.localhost");
    let load = async {
        let mut pids = Vec::new();
        for _ in 0..60 {
            let answers = (0..4).map(|_| get(address, host, "/slow"));
            for answer in futures_util::future::join_all(answers).await {
                assert_eq!(answer.status, 200, "{:?}\n{}", answer.body, served.log());
                pids.push(answer.body);
            }
        }
        pids
    };
    let admin = served.admin.to_string();
    let restart = async {
        let mut command = tidegate();
        command.args(["restart", "hello", "--admin", &admin]);
        tokio::process::Command::from(command).output().await.unwrap()
    };
    let (pids, restarted) = tokio::join!(load, restart);
    let text = String::from_utf8(restarted.stdout).unwrap();
    assert!(text.ends_with("default/hello is restarted\n"), "{text}\n{}", served.log());
    let after = get(address, host, "/").await.body;
    assert!(!pids[..4].contains(&after), "another process");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let run = |arguments: &[&str]| {
        let output = tidegate().args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    run(&["man", folder.path().to_str().unwrap()]);
    assert!(run(&["man"]).contains(".TH tidegate 1"));
    let scripts = ["bash", "zsh", "fish"].map(|shell| run(&["completions", shell]));
    for command in ["serve", "status", "why", "wait", "restart", "traffic", "logs", "sidecar"] {
        for script in &scripts {
            assert!(script.contains(command), "{command}");
        }
        let page = folder.path().join(format!("tidegate-{command}.1"));
        let page = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{page:?}: {e}"));
        assert!(page.contains("admin") || command == "validate", "{command}");
    }
    assert!(!folder.path().join("tidegate-__guard.1").exists());
}
