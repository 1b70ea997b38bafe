//! Each case in both directions: what arrives behind tidegate must be what was sent.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::cases::{Case, Seen, all};
use crate::client::soon;
use crate::https::Authority;
use crate::serving::{Service, Tidegate, file, host};

/// How many cases there are; each runs towards the replica and towards the client.
const CASES: usize = 101;

/// Sends a case's frames and reads on, so that what the other end answers finds room.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, case: &Case) {
    for frame in &case.frames {
        // The other end may have refused the one before.
        if socket.send(Message::Frame(frame.clone())).await.is_err() {
            break;
        }
    }
    if !matches!(case.seen.last(), Some(Seen::Close(_) | Seen::Refused)) {
        let _ = socket.close(None).await;
    }
    while let Some(Ok(_)) = socket.next().await {}
}

/// What an end sees until nothing more comes.
async fn see<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(message) = socket.next().await {
        let closed = matches!(message, Ok(Message::Close(_)));
        let ended = closed || message.is_err();
        seen.push(match message {
            Ok(Message::Text(text)) => Seen::Text(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
            Ok(Message::Close(close)) => {
                Seen::Close(close.map(|c| (c.code.into(), c.reason.as_str().to_owned())))
            }
            Ok(Message::Frame(_)) => unreachable!("reading gives whole messages"),
            Err(_) => Seen::Refused,
        });
        if closed {
            // The answer goes out; what comes behind a close is of no interest.
            while let Some(Ok(_)) = socket.next().await {}
        }
        if ended {
            break;
        }
    }
    seen
}

/// A replica whose accepted sockets the test plays itself.
async fn replica() -> (SocketAddr, mpsc::Receiver<WebSocketStream<TcpStream>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, accepted) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                // A probe says nothing.
                if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
                    let _ = sender.send(socket).await;
                }
            });
        }
    });
    (address, accepted)
}

/// What the receiving end should have seen, the close that ends a case without one included.
fn expected(case: &Case) -> Vec<Seen> {
    let mut expected = case.seen.clone();
    if !matches!(expected.last(), Some(Seen::Close(_) | Seen::Refused)) {
        expected.push(Seen::Close(None));
    }
    expected
}

fn check(case: &Case, way: &str, seen: &[Seen]) {
    let expected = expected(case);
    // Not printed whole: some have 16 MiB.
    let count = (seen.len(), expected.len());
    assert!(seen == expected, "{}, {way}: {count:?} {:?}", case.name, seen.last());
}

/// Runs all cases both ways over connections that `connect` makes.
async fn run<S, F>(
    way: &str,
    mut accepted: mpsc::Receiver<WebSocketStream<TcpStream>>,
    connect: impl Fn() -> F,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = S>,
{
    let mut passed = 0;
    let cases = all();
    for case in &cases {
        for to_replica in [true, false] {
            let url = format!("ws://{}/", host("a"));
            let (client, _) =
                soon(tokio_tungstenite::client_async(url, connect().await)).await.unwrap();
            let server = soon(accepted.recv()).await.unwrap();
            let seen = if to_replica {
                soon(async { tokio::join!(send(client, case), see(server)) }).await.1
            } else {
                soon(async { tokio::join!(send(server, case), see(client)) }).await.1
            };
            let towards = if to_replica { "to the replica" } else { "to the client" };
            check(case, towards, &seen);
        }
        passed += 1;
    }
    assert_eq!((passed, cases.len()), (CASES, CASES));
    println!("WebSocket, {way}: {passed} of {CASES} cases passed, both ways");
}

#[tokio::test]
async fn http() {
    let (address, accepted) = replica().await;
    let tidegate = Tidegate::serve(&file(&[Service::new("a").at(address)]));
    let at = tidegate.address();
    Box::pin(run("HTTP", accepted, || async move { TcpStream::connect(at).await.unwrap() })).await;
}

#[tokio::test]
async fn https() {
    let (address, accepted) = replica().await;
    let authority = Authority::new();
    let pair = authority.issue("a", &[&host("a")]);
    let mut arguments = vec!["--https", "127.0.0.1:0"];
    arguments.extend(pair.arguments());
    let tidegate = Tidegate::with(&file(&[Service::new("a").at(address)]), &arguments);
    let at = tidegate.https[0];
    let client = authority.client(&["http/1.1"]);
    Box::pin(run("HTTPS", accepted, || client.connect(at, "a.default.localhost"))).await;
}
