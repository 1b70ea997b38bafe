//! Every file below `deploy/examples`, loaded and called.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{call, empty, full, get, h1, h2, message, request, send1, send2, soon};
use crate::serving::{Tidegate, host, needs, repository};

fn serve(name: &str, arguments: &[&str]) -> Tidegate {
    Tidegate::files(&[&repository("deploy/examples").join(name)], arguments)
}

/// How often each answer came in a number of requests.
async fn count(tidegate: &Tidegate, host: &str, number: u32) -> BTreeMap<String, u32> {
    let mut connection = h1(tidegate.address()).await;
    let mut seen = BTreeMap::new();
    for _ in 0..number {
        let request = request("GET", host, "/").body(empty()).unwrap();
        let answer = send1(&mut connection, request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        *seen.entry(answer.text().trim().to_owned()).or_default() += 1;
    }
    seen
}

#[test]
fn each_is_called_by_a_test() {
    let all: BTreeSet<String> = std::fs::read_dir(repository("deploy/examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".md"))
        .collect();
    let tested = [
        "blue-green.yaml",
        "canary.yaml",
        "concurrency-limit.yaml",
        "dependencies.yaml",
        "grpc-websocket.yaml",
        "hello.yaml",
        "node",
        "python",
        "safe-rollout.yaml",
        "several.yaml",
    ];
    assert_eq!(all, tested.map(str::to_owned).into());
}

#[tokio::test]
async fn hello() {
    let tidegate = serve("hello.yaml", &[]);
    assert_eq!(get(tidegate.address(), &host("hello"), "/").await.text(), "Hello World!\n");
    assert_eq!(get(tidegate.address(), "127.0.0.1", "/").await.text(), "Hello World!\n");
}

#[tokio::test]
async fn canary() {
    let tidegate = serve("canary.yaml", &[]);
    for _ in 0..3 {
        let seen = count(&tidegate, &host("canary"), 100).await;
        let exact = BTreeMap::from([("Hello stable!".into(), 90), ("Hello canary!".into(), 10)]);
        assert_eq!(seen, exact, "every block of 100 is exact");
    }
}

#[tokio::test]
async fn safe_rollout() {
    let text = std::fs::read_to_string(repository("deploy/examples/safe-rollout.yaml")).unwrap();
    let tidegate = Tidegate::with(&text, &[]);
    let hello = BTreeMap::from([("Hello careful!".to_owned(), 20)]);
    assert_eq!(count(&tidegate, &host("careful"), 20).await, hello);
    let bad = text.replace("\"0\"", "\"20\"");
    assert_ne!(bad, text);
    tidegate.write(&bad);
    tidegate.logged("canary: careful-00002 is tried with 5 of 100 %").await;
    let at = tidegate.address();
    while !tidegate.log().contains("canary: careful-00002 is taken back") {
        get(at, &host("careful"), "/").await;
    }
    assert_eq!(count(&tidegate, &host("careful"), 100).await.values().sum::<u32>(), 100);
}

#[tokio::test]
async fn blue_green() {
    let tidegate = serve("blue-green.yaml", &[]);
    let all_blue = BTreeMap::from([("Hello blue!".to_owned(), 20)]);
    assert_eq!(count(&tidegate, &host("shop"), 20).await, all_blue);
    // Green has not been asked for anything: it costs nothing yet.
    assert_eq!(tidegate.descendants().len(), 2, "the guard and blue");
    let at = tidegate.address();
    assert_eq!(get(at, &host("blue-shop"), "/").await.text(), "Hello blue!\n");
    assert_eq!(get(at, &host("green-shop"), "/").await.text(), "Hello green!\n");
}

#[tokio::test]
async fn concurrency_limit() {
    let tidegate = serve("concurrency-limit.yaml", &[]);
    let at = tidegate.address();
    let mut all = JoinSet::new();
    for _ in 0..40 {
        all.spawn(async move { get(at, &host("one-at-a-time"), "/whoami?ms=60").await.json() });
    }
    let answers = all.join_all().await;
    let replicas: BTreeSet<_> = answers.iter().map(|a| a["pid"].as_u64().unwrap()).collect();
    assert!((2..=5).contains(&replicas.len()), "{} replicas", replicas.len());
    let most = answers.iter().map(|a| a["max_in_flight"].as_u64().unwrap()).max();
    assert_eq!(most, Some(1));
}

#[tokio::test]
async fn grpc_and_websocket() {
    let tidegate = serve("grpc-websocket.yaml", &[]);
    let at = tidegate.address();
    let check = call(&host("calls"), "/grpc.health.v1.Health/Check").body(full(message(b"")));
    let answer = send2(&mut h2(at).await, check.unwrap()).await;
    assert_eq!((answer.grpc_status(), &answer.body), (Some("0"), &message(&[8, 1])));
    let stream = TcpStream::connect(at).await.unwrap();
    let url = format!("ws://{}/ws", host("sockets"));
    let (mut socket, _) = soon(tokio_tungstenite::client_async(url, stream)).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::text("hello"));
}

#[tokio::test]
async fn several() {
    let tidegate = serve("several.yaml", &["--default-service", "front"]);
    let at = tidegate.address();
    assert_eq!(get(at, &host("front"), "/env?name=GREETING").await.text(), "good day\n");
    assert_eq!(get(at, "127.0.0.1", "/env?name=GREETING").await.text(), "good day\n");
    // Visible inside the cluster only: the public host is nobody's.
    assert_eq!(get(at, "back.internal.svc.cluster.local", "/").await.status, 200);
    assert_eq!(get(at, "back.internal.localhost", "/").await.status, 404);
}

#[tokio::test]
async fn python() {
    needs("python3", "python3");
    let tidegate = serve("python/service.yaml", &[]);
    let at = tidegate.address();
    assert_eq!(get(at, &host("python"), "/").await.text(), "Hello Python!\n");
    let seen = count(&tidegate, &host("python"), 20).await;
    assert_eq!(seen, BTreeMap::from([("Hello Python!".into(), 20)]));
}

#[tokio::test]
async fn node() {
    needs("node", "nodejs");
    let run = "node=node deploy/examples/node/server.js";
    let tidegate = serve("node/service.yaml", &["--run", run]);
    let seen = count(&tidegate, &host("node"), 20).await;
    assert_eq!(seen, BTreeMap::from([("Hello Node!".into(), 20)]));
}
