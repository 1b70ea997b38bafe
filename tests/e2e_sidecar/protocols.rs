//! HTTP/2 to the backend, and upgrades.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{call, empty, full, get, h2, message, request2, send2, soon};
use crate::{Echo, ready, until_load};

#[tokio::test]
async fn a_backend_may_speak_http2_alone() {
    let echo = Echo::start();
    let sidecar = ready(echo.address, &["--h2c", "--readiness-path", "/healthz"]).await;
    let at = sidecar.address();
    // From HTTP/1.1 and from HTTP/2.
    assert_eq!(get(at, "a.example", "/headers").await.json()["version"], "HTTP/2.0");
    let mut client = h2(at).await;
    let about = request2("GET", "a.example", "/headers").body(empty()).unwrap();
    assert_eq!(send2(&mut client, about).await.json()["version"], "HTTP/2.0");
    let check = call("a.example", "/grpc.health.v1.Health/Check");
    let answer = send2(&mut client, check.body(full(message(b""))).unwrap()).await;
    assert_eq!((answer.status, answer.grpc_status()), (200, Some("0")), "{answer:?}");
    // SERVING = 1 in field 1.
    assert_eq!(answer.body, message(&[8, 1]));
}

#[tokio::test]
async fn grpc_without_h2c_says_what_to_do() {
    let echo = Echo::start();
    let sidecar = ready(echo.address, &[]).await;
    let check = call("a", "/grpc.health.v1.Health/Check").body(empty()).unwrap();
    let answer = send2(&mut h2(sidecar.address()).await, check).await;
    assert_eq!(answer.grpc_status(), Some("13"), "{answer:?}");
    assert!(answer.header("grpc-message").unwrap().contains("--h2c"), "{answer:?}");
}

/// A WebSocket has a slot for its life, and is not cut by the request's timer.
#[tokio::test]
async fn a_websocket_holds_its_slot() {
    let echo = Echo::start();
    let arguments = ["--container-concurrency", "1", "--queue-depth", "0", "--timeout", "500ms"];
    let sidecar = ready(echo.address, &arguments).await;
    let at = sidecar.address();
    let stream = TcpStream::connect(at).await.unwrap();
    let connected = tokio_tungstenite::client_async("ws://a.example/ws", stream);
    let (mut socket, _) = soon(connected).await.unwrap();
    until_load(&sidecar, 1, 0).await;
    assert_eq!(get(at, "a", "/").await.reason(), Some("queue_full"));
    // Longer than the timeout.
    tokio::time::sleep(std::time::Duration::from_millis(900)).await;
    soon(socket.send(Message::text("still here"))).await.unwrap();
    let answer = soon(socket.next()).await.unwrap().unwrap();
    assert_eq!(answer, Message::text("still here"));
    soon(socket.close(None)).await.unwrap();
    drop(socket);
    until_load(&sidecar, 0, 0).await;
    assert_eq!(get(at, "a", "/").await.status, 200);
}
