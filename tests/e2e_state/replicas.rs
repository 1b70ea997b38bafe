//! Replicas: started again as many as there were.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::client::{empty, get, request, soon};
use crate::serving::{SOON, Service, Tidegate, host, until};
use crate::stage::{Disk, saying, traffic};

/// Replicas of `a-00001` by state.
async fn replicas(tidegate: &Tidegate) -> (u64, u64) {
    let revisions = get(tidegate.admin, "localhost", "/api/v1/revisions").await.json();
    let of = |field: &str| revisions["revisions"][0][field].as_u64().unwrap();
    (of("desired"), of("ready"))
}

/// Clients that ask on and on, at an address that may have nobody listening for a while.
struct Clients {
    stop: Arc<AtomicBool>,
    tasks: tokio::task::JoinSet<BTreeMap<String, u32>>,
}

impl Clients {
    fn start(count: usize, at: SocketAddr, path: &'static str) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..count {
            let stop = Arc::clone(&stop);
            tasks.spawn(async move {
                let mut seen = BTreeMap::new();
                while !stop.load(Ordering::Relaxed) {
                    *seen.entry(ask(at, path).await).or_default() += 1;
                }
                seen
            });
        }
        Self { stop, tasks }
    }

    /// Stops without waiting for answers.
    async fn abandon(mut self) {
        self.tasks.shutdown().await;
    }

    async fn stop(self) -> BTreeMap<String, u32> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for seen in soon(self.tasks.join_all()).await {
            for (outcome, number) in seen {
                *all.entry(outcome).or_default() += number;
            }
        }
        all
    }
}

/// One request on a connection of its own: the body of a 200, else what went wrong. Only while
/// nobody listens it is tried again.
async fn ask(at: SocketAddr, path: &str) -> String {
    use http_body_util::BodyExt as _;
    let stream = loop {
        match tokio::net::TcpStream::connect(at).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let io = hyper_util::rt::TokioIo::new(stream);
    let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(io).await else {
        return "broken".to_owned();
    };
    tokio::spawn(connection);
    let request = request("GET", &host("a"), path).body(empty()).unwrap();
    match sender.send_request(request).await {
        Ok(response) => {
            let status = response.status();
            let body = response.into_body().collect().await;
            match body {
                Ok(body) if status == 200 => {
                    String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()
                }
                Ok(body) => format!("{status} {}", String::from_utf8_lossy(&body.to_bytes())),
                Err(_) => "broken".to_owned(),
            }
        }
        Err(_) => "broken".to_owned(),
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_restart_under_load_starts_what_there_was_and_answers_right() {
    let one_at_a_time = || saying("one").spec("containerConcurrency: 1");
    let disk = Disk::new(&[one_at_a_time()]);
    let listen = format!("127.0.0.1:{}", free_port());
    let at: SocketAddr = listen.parse().unwrap();
    let arguments = ["--http", listen.as_str()];
    let mut first = disk.start_with(&arguments);
    let clients = Clients::start(4, at, "/?ms=50");
    let deadline = Instant::now() + SOON;
    while replicas(&first).await.1 < 4 {
        assert!(Instant::now() < deadline, "{:?}", replicas(&first).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Long enough for the counts to be written, and for what is written to be at rest.
    let wanted = replicas(&first).await.0;
    until("the counts in the state", || {
        let state = disk.state("replicas.json");
        state.is_some_and(|state| state["counts"]["default/a-00001"].as_u64() >= Some(wanted))
    })
    .await;

    first.terminate();
    assert!(first.ended().await.success());
    let kept = disk.state("replicas.json").unwrap()["counts"]["default/a-00001"].as_u64().unwrap();
    assert!(kept >= wanted, "{kept} of {wanted}: counted while it drained");
    let begun = Instant::now();
    let second = disk.start_with(&arguments);
    while replicas(&second).await.0 < kept {
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", replicas(&second).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let outcomes = clients.stop().await;
    let words: Vec<_> = outcomes.keys().map(String::as_str).collect();
    assert_eq!(words, ["Hello one!"], "{outcomes:?}");
    assert_eq!(traffic(&second).await, BTreeMap::from([("a-00001".to_owned(), 100)]));
    assert!(disk.state("revisions.json").unwrap().to_string().contains("a-00001"));
    assert!(!disk.state("revisions.json").unwrap().to_string().contains("a-00002"));
}

#[tokio::test]
async fn replicas_come_back_after_a_kill_without_any_request() {
    let disk = Disk::new(&[saying("one").spec("containerConcurrency: 1"), Service::new("idle")]);
    let mut first = disk.start();
    let clients = Clients::start(3, first.address(), "/delay?ms=200");
    until("the counts in the state", || {
        let state = disk.state("replicas.json");
        state.is_some_and(|state| state["counts"]["default/a-00001"].as_u64() >= Some(3))
    })
    .await;
    let kept = disk.state("replicas.json").unwrap()["counts"]["default/a-00001"].as_u64().unwrap();
    first.signal(Signal::KILL);
    first.ended().await;
    clients.abandon().await;

    let second = disk.start();
    until("the replicas", || {
        // The guard, and the replicas of `a`.
        second.descendants().len() as u64 > kept
    })
    .await;
    let (desired, _) = replicas(&second).await;
    assert!(desired >= kept, "{desired} of {kept}");
    assert!(!second.log().contains("idle-00001 replica"), "nothing else is started");
}
