//! A connection's life: begun at zero, and outliving reloads, timers and drains.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::client::soon;
use crate::serving::{Service, Tidegate, file, host, until};

type Socket = WebSocketStream<TcpStream>;

/// Connects; also which process answered.
async fn connect(at: SocketAddr) -> (Socket, String) {
    let stream = TcpStream::connect(at).await.unwrap();
    let url = format!("ws://{}/ws", host("a"));
    let (socket, answer) = soon(tokio_tungstenite::client_async(url, stream)).await.unwrap();
    (socket, answer.headers()["x-echo-pid"].to_str().unwrap().to_owned())
}

/// A message goes there and back.
async fn echoes(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
    assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::text(text));
}

/// The handshake of the end, to the end of the connection.
async fn close(mut socket: Socket) {
    socket.close(None).await.unwrap();
    assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::Close(None));
    assert!(soon(socket.next()).await.is_none());
}

#[tokio::test]
async fn from_zero() {
    let tidegate = Tidegate::serve(&file(&[Service::new("a")]));
    let at = tidegate.address();
    let mut all = JoinSet::new();
    for number in 0..20 {
        all.spawn(async move {
            let (mut socket, pid) = connect(at).await;
            echoes(&mut socket, &number.to_string()).await;
            close(socket).await;
            pid
        });
    }
    let pids = soon(all.join_all()).await;
    assert_eq!(pids.len(), 20);
    assert!(pids.iter().all(|pid| *pid == pids[0]), "one replica: {pids:?}");
}

#[tokio::test]
async fn a_reload_leaves_it_with_its_revision() {
    let tidegate = Tidegate::serve(&file(&[Service::new("a"), Service::new("b")]));
    let (mut before, first) = connect(tidegate.address()).await;
    echoes(&mut before, "before").await;
    tidegate.write(&file(&[Service::new("a").env("EDITED", "yes")]));
    let mut second = first.clone();
    while second == first {
        let (after, pid) = connect(tidegate.address()).await;
        close(after).await;
        second = pid;
    }
    for text in ["after", "and again"] {
        echoes(&mut before, text).await;
    }
    close(before).await;
}

#[tokio::test]
async fn timeout_seconds_end_at_the_switch() {
    let tidegate = Tidegate::serve(&file(&[Service::new("a").spec("timeoutSeconds: 1")]));
    let (mut socket, _) = connect(tidegate.address()).await;
    for text in ["before", "after", "long after"] {
        echoes(&mut socket, text).await;
        tokio::time::sleep(Duration::from_millis(1_200)).await;
    }
    close(socket).await;
}

/// Tells it to go; returns when it takes no new connections.
async fn drained(tidegate: &Tidegate) {
    tidegate.terminate();
    let at = tidegate.address();
    until("the end of listening", || std::net::TcpStream::connect(at).is_err()).await;
}

#[tokio::test]
async fn a_drain_waits_for_it() {
    let mut tidegate = Tidegate::serve(&file(&[Service::new("a")]));
    let (mut socket, _) = connect(tidegate.address()).await;
    echoes(&mut socket, "before").await;
    drained(&tidegate).await;
    for text in ["while", "it drains"] {
        echoes(&mut socket, text).await;
    }
    close(socket).await;
    assert_eq!(tidegate.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let services = file(&[Service::new("a")]);
    let mut tidegate = Tidegate::with(&services, &["--drain-timeout", "1s"]);
    let (mut socket, _) = connect(tidegate.address()).await;
    echoes(&mut socket, "before").await;
    drained(&tidegate).await;
    // Its replica is stopped and says so, if tidegate has not ended the connection before.
    match soon(socket.next()).await {
        Some(Ok(Message::Close(Some(close)))) => assert_eq!(close.code, CloseCode::Away),
        Some(Err(_)) | None => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(tidegate.ended().await.code(), Some(0));
}
