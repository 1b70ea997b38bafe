//! Replicas that come, die and go.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{get, soon};
use crate::load::Load;
use crate::serving::{Service, Tidegate, file, host};

/// Pids of the replicas of the only revision.
async fn replicas(tidegate: &Tidegate) -> Vec<u32> {
    // The guard's children.
    let mut pids = Vec::new();
    for pid in tidegate.descendants() {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains("tidegate echo") {
            pids.push(pid);
        }
    }
    pids
}

#[tokio::test]
async fn killed_replicas_cost_no_get() {
    for limit in [0, 4] {
        let service = Service::new("a")
            .spec(&format!("containerConcurrency: {limit}"))
            .annotation("autoscaling.knative.dev/min-scale", "3");
        let tidegate = Tidegate::serve(&file(&[service]));
        let at = tidegate.address();
        let deadline = Instant::now() + Duration::from_secs(10);
        while replicas(&tidegate).await.len() < 3 {
            assert!(Instant::now() < deadline, "min-scale is not reached");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(get(at, &host("a"), "/").await.status, 200);
        let load = Load::start(at, 8, &host("a"), "/?ms=5");
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let pid = replicas(&tidegate).await[0];
            let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        let outcomes = load.stop().await;
        let total: u32 = outcomes.values().sum();
        assert_eq!(
            outcomes.keys().collect::<Vec<_>>(),
            ["Hello World!"],
            "limit {limit}: {outcomes:?}"
        );
        assert!(total > 1_000, "{total} requests");
    }
}

/// Without another one to ask, those that were in the killed replica fail; nobody else does: the
/// rest waits for the next replica.
#[tokio::test]
async fn a_killed_lone_replica_costs_what_was_in_it() {
    let service = Service::new("a")
        .annotation("autoscaling.knative.dev/min-scale", "1")
        .annotation("autoscaling.knative.dev/max-scale", "1");
    let tidegate = Tidegate::serve(&file(&[service]));
    let at = tidegate.address();
    assert_eq!(get(at, &host("a"), "/").await.status, 200);
    let load = Load::start(at, 8, &host("a"), "/?ms=5");
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let pid = replicas(&tidegate).await[0];
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    let outcomes = load.stop().await;
    let failed: u32 = outcomes.iter().filter(|(o, _)| *o != "Hello World!").map(|(_, n)| n).sum();
    assert!(failed <= 3 * 8, "{outcomes:?}");
    let known = |o: &String| o == "Hello World!" || o.starts_with("502 upstream_broke");
    assert!(outcomes.keys().all(known), "{outcomes:?}");
    assert!(outcomes["Hello World!"] > 500, "{outcomes:?}");
}

#[tokio::test]
async fn up_under_load_and_down_to_zero() {
    let service = Service::new("a")
        .spec("containerConcurrency: 1")
        .annotation("autoscaling.knative.dev/window", "6s")
        .annotation("autoscaling.knative.dev/max-scale", "4")
        .annotation("autoscaling.knative.dev/scale-to-zero-pod-retention-period", "0s");
    let config = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler, \
                  namespace: knative-serving}\ndata: {scale-to-zero-grace-period: 1s}\n";
    let held = Service::new("held")
        .annotation("autoscaling.knative.dev/window", "6s")
        .annotation("autoscaling.knative.dev/scale-to-zero-pod-retention-period", "0s");
    let tidegate = Tidegate::serve(&(file(&[service, held]) + config));
    let at = tidegate.address();
    assert_eq!(replicas(&tidegate).await.len(), 0);
    let load = Load::start(at, 6, &host("a"), "/whoami?ms=50");
    let mut most = 0;
    let mut busiest = 0;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        most = most.max(replicas(&tidegate).await.len());
        busiest = busiest
            .max(get(at, &host("a"), "/whoami").await.json()["max_in_flight"].as_u64().unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let outcomes = load.stop().await;
    assert!(outcomes.keys().all(|o| o.starts_with('{')), "{:?}", outcomes.keys());
    assert_eq!((most, busiest), (4, 1), "replicas, most requests in one at once");
    let ports: BTreeSet<_> = outcomes
        .keys()
        .map(|o| serde_json::from_str::<serde_json::Value>(o).unwrap()["port"].as_u64().unwrap())
        .collect();
    assert_eq!(ports.len(), 4, "all of them worked");
    // An open socket of another service is a request all the while.
    let stream = TcpStream::connect(at).await.unwrap();
    let url = format!("ws://{}/ws", host("held"));
    let (mut socket, _) = soon(tokio_tungstenite::client_async(url, stream)).await.unwrap();
    let began = Instant::now();
    while replicas(&tidegate).await.len() > 1 {
        assert!(began.elapsed() < Duration::from_secs(20), "not at zero");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = began.elapsed().as_secs_f64();
    assert!((5.0..14.0).contains(&took), "zero after {took} s with a window of 6 s");
    socket.send(Message::text("still there")).await.unwrap();
    assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::text("still there"));
    // And up again.
    assert_eq!(get(at, &host("a"), "/").await.status, 200);
}
