//! The command line and the environment.

use crate::client::get;
use crate::serving::{Tidegate, tidegate};
use crate::{Echo, until_load, until_status};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = tidegate().arg("sidecar").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn every_option_can_come_from_the_environment() {
    let echo = Echo::start();
    let mut command = tidegate();
    command.arg("sidecar");
    for (name, value) in [
        ("UPSTREAM", echo.address.to_string().as_str()),
        ("CONTAINER_CONCURRENCY", "1"),
        ("QUEUE_DEPTH", "1"),
        ("HTTP", "127.0.0.1:0"),
        ("ADMIN", "127.0.0.1:0"),
        ("NAME", "shop/cart"),
        ("DRAIN_TIMEOUT", "1s"),
    ] {
        command.env(format!("TIDEGATE_{name}"), value);
    }
    let sidecar = Tidegate::spawned(command);
    let at = sidecar.address();
    until_status(at, "/.tidegate/ready", 200).await;
    let mut held = tokio::task::JoinSet::new();
    for _ in 0..2 {
        held.spawn(async move { get(at, "a", "/delay?ms=60000").await.status });
    }
    until_load(&sidecar, 2, 1).await;
    assert_eq!(get(at, "a", "/").await.reason(), Some("queue_full"));
    let all = get(sidecar.admin, "localhost", "/api/v1/revisions").await.json();
    let one = &all["revisions"][0];
    assert_eq!((&one["namespace"], &one["name"]), (&"shop".into(), &"cart-00001".into()), "{one}");
    assert_eq!((&one["desired"], &one["ready"]), (&1.into(), &1.into()), "{one}");
    assert_eq!(one["container_concurrency"], 1);
    let status = tidegate().args(["status", "--admin", &sidecar.admin.to_string()]).output();
    let table = String::from_utf8(status.unwrap().stdout).unwrap();
    for word in ["shop/cart", "cart-00001", "http://localhost:"] {
        assert!(table.contains(word), "{word} is missing:\n{table}");
    }
}

#[test]
fn wrong_arguments_say_what_to_write() {
    for (arguments, advice) in [
        (&[][..], "--upstream <ADDR>"),
        (&["--upstream", "app"], "app:9000"),
        (&["--upstream", "http://127.0.0.1:9000"], "127.0.0.1:9000"),
        (&["--upstream", "9000", "--container-concurrency=-1"], "--container-concurrency <N>"),
        (&["--upstream", "9000", "--timeout", "soon"], "30s"),
        (&["--upstream", "9000", "--timeout", "0"], "300s"),
        (&["--upstream", "9000", "--timeout", "1s", "--idle-timeout", "2s"], "longer --timeout"),
        (&["--upstream", "9000", "--queue-timeout", "1h"], "longer --timeout"),
        (&["--upstream", "9000", "--readiness-path", "healthz"], "/healthz"),
        (&["--upstream", "9000", "-f", "a.yaml"], "-f"),
    ] {
        let (code, out, error) = run(arguments);
        assert_eq!((code, out.as_str()), (Some(64), ""), "{arguments:?}\n{error}");
        assert!(error.contains(advice), "{arguments:?} says\n{error}");
    }
}

#[test]
fn help_teaches() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for word in [
        "--upstream",
        "--container-concurrency",
        "--queue-depth",
        "--queue-timeout",
        "--timeout",
        "--response-start-timeout",
        "--idle-timeout",
        "--h2c",
        "--readiness-path",
        "--http",
        "--admin",
        "--drain-timeout",
        "TIDEGATE_UPSTREAM",
        "Examples:",
    ] {
        assert!(help.contains(word), "{word} is missing:\n{help}");
    }
}

#[test]
fn a_taken_port_names_its_holder() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let (code, _, error) =
        run(&["--upstream", "9000", "--http", &address, "--admin", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{error}");
    let pid = std::process::id().to_string();
    assert!(error.contains(&address) && error.contains(&pid), "{error}");
}
