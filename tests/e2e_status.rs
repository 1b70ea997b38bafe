//! `tidegate status` against an admin listener.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};

use tidegate::admin::server::{AdminServer, Config};
use tidegate::admin::view::{
    RevisionView, RevisionsView, ServiceView, ServicesView, TrafficView, Views,
};

fn server() -> AdminServer {
    let views = Views {
        services: Box::new(|| ServicesView {
            services: vec![ServiceView {
                namespace: "default".into(),
                name: "hello".into(),
                url: "http://hello.default.localhost:8080".into(),
                traffic: vec![TrafficView { revision: "hello-00001".into(), percent: 100 }],
                ..ServiceView::default()
            }],
            ..ServicesView::default()
        }),
        revisions: Box::new(|| RevisionsView {
            revisions: vec![RevisionView {
                namespace: "default".into(),
                name: "hello-00001".into(),
                service: Some("hello".into()),
                desired: 3,
                ready: 2,
                in_flight: 11,
                waiting: 1,
                ..RevisionView::default()
            }],
        }),
        ..Views::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    AdminServer::start(Config::new(listener), views).unwrap()
}

fn command(address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["status", "--admin", &address.to_string()]).args(arguments);
    command
}

fn status(address: SocketAddr, arguments: &[&str]) -> Output {
    command(address, arguments).output().unwrap()
}

#[test]
fn a_table_and_json() {
    let server = server();
    let output = status(server.address(), &[]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\x1b'), "plain when piped: {text}");
    let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
    let url = "http://hello.default.localhost:8080";
    assert_eq!(row, ["default/hello", url, "hello-00001", "100%", "3", "2", "11", "1"]);

    // The address may come from the environment as well.
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["status", "-o", "json"])
        .env("TIDEGATE_ADMIN", server.address().to_string())
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["services"][0]["name"], "hello");
    assert_eq!(json["revisions"][0]["ready"], 2);
}

#[test]
fn watching_shows_again_and_survives_an_absent_server() {
    let server = server();
    let mut child = command(server.address(), &["--watch", "--interval", "10ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    for _ in 0..2 {
        lines.find(|line| line.starts_with("default/hello")).expect("shows again");
    }
    drop(server);
    lines.find(|line| line.starts_with("no tidegate answers")).expect("goes on");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_absent_server_is_explained() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = status(free, &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("start one with `tidegate -f PATH`"), "{text}");
}
