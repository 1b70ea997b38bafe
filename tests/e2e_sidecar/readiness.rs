//! Whether the backend is ready, who is told, and what becomes of requests meanwhile.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::backend::{Backend, head};
use crate::client::{get, soon};
use crate::{Echo, ready, sidecar, until_load, until_status};

const SOON_LOST: [&str; 2] = ["--readiness-period", "20ms"];

#[tokio::test]
async fn requests_wait_for_a_backend_that_is_not_there_yet() {
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let sidecar = sidecar(address, &[]);
    let at = sidecar.address();
    for (listener, path) in [(at, "/.tidegate/ready"), (sidecar.admin, "/readyz")] {
        let answer = get(listener, "localhost", path).await;
        assert_eq!((answer.status, answer.text()), (503, "the backend is not ready\n"), "{path}");
    }
    assert_eq!(get(sidecar.admin, "localhost", "/livez").await.status, 200);
    let mut held = JoinSet::new();
    held.spawn(async move { get(at, "a", "/").await });
    until_load(&sidecar, 1, 1).await;
    let _echo = Echo::at(address);
    let answer = soon(held.join_next()).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.text()), (200, "Hello World!\n"));
    until_status(at, "/.tidegate/ready", 200).await;
    assert_eq!(get(sidecar.admin, "localhost", "/readyz").await.status, 200);
}

#[tokio::test]
async fn a_backend_goes_and_comes_back() {
    let echo = Echo::start();
    let address = echo.address;
    let sidecar = ready(address, &SOON_LOST).await;
    let at = sidecar.address();
    assert_eq!(get(at, "a", "/").await.status, 200);
    drop(echo);
    until_status(at, "/.tidegate/ready", 503).await;
    sidecar.logged("the backend is not ready; requests wait").await;
    let mut held = JoinSet::new();
    held.spawn(async move { get(at, "a", "/").await });
    until_load(&sidecar, 1, 1).await;
    let _echo = Echo::at(address);
    assert_eq!(soon(held.join_next()).await.unwrap().unwrap().status, 200);
    until_status(at, "/.tidegate/ready", 200).await;
}

/// A backend that takes connections but says that it is not ready.
#[tokio::test]
async fn a_path_says_whether_it_is_ready() {
    let (tell, told) = tokio::sync::watch::channel("503 Not Yet");
    let backend = Backend::start(move |_, mut stream| {
        let told = told.clone();
        async move {
            while let Some(head) = head(&mut stream).await {
                let probe = head.starts_with("GET /healthz HTTP/1.1\r\n");
                if probe {
                    assert!(head.contains("user-agent: kube-probe/"), "{head}");
                }
                let status = if probe { *told.borrow() } else { "200 OK" };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let arguments = ["--readiness-path", "/healthz", SOON_LOST[0], SOON_LOST[1]];
    let sidecar = sidecar(backend.address, &arguments);
    let at = sidecar.address();
    let mut held = JoinSet::new();
    held.spawn(async move { get(at, "a", "/").await.status });
    until_load(&sidecar, 1, 1).await;
    tell.send_replace("204 Now");
    assert_eq!(soon(held.join_next()).await.unwrap().unwrap(), 200);
    until_status(at, "/.tidegate/ready", 200).await;
    tell.send_replace("500 Not Any More");
    until_status(at, "/.tidegate/ready", 503).await;
    tell.send_replace("302 Again");
    until_status(at, "/.tidegate/ready", 200).await;
}

/// The rows of queue-proxy's health handler and of the ingress' probe.
#[tokio::test]
async fn knatives_probes_are_answered() {
    let echo = Echo::start();
    let address = echo.address;
    let sidecar = ready(address, &SOON_LOST).await;
    let at = sidecar.address();
    let probe = async |headers: &str| {
        let request = format!("GET /any HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
        let answer = crate::client::raw(at, request).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse::<u16>().unwrap();
        (status, body.to_owned(), head.to_lowercase())
    };
    let queue = "K-Network-Probe: queue\r\nUser-Agent: Knative-Activator-Probe\r\n";
    let (status, body, _) = probe(queue).await;
    assert_eq!((status, body.as_str()), (200, "queue"));
    let (status, _, head) = probe("K-Network-Probe: probe\r\nK-Network-Hash: abc\r\n").await;
    assert_eq!(status, 200);
    assert!(head.contains("k-network-hash: abc"), "{head}");
    assert_eq!(probe("K-Network-Probe: probe\r\n").await.0, 400);
    let (status, body, _) = probe("K-Network-Probe: activator\r\n").await;
    assert_eq!((status, body.as_str()), (400, "unexpected probe header value: \"activator\""));
    // Neither load nor a request of the backend.
    let before = echo.whoami().await["requests"].as_u64();
    probe(queue).await;
    assert_eq!(echo.whoami().await["requests"].as_u64(), before.map(|n| n + 1));
    drop(echo);
    until_status(at, "/.tidegate/ready", 503).await;
    let (status, body, _) = probe(queue).await;
    assert_eq!((status, body.as_str()), (503, ""));
}
