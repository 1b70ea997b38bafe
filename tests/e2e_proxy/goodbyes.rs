//! HTTP/2 replicas that end their connections (GOAWAY, RFC 9113 §6.8), as gRPC servers with a
//! greatest age of connections do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::backend::Backend;
use crate::client::{call, channel, empty, h2, message, request2, send2, soon, whole};
use crate::serving::{Service, Tidegate, file, host};

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END: u8 = 4 | 1;
/// `:status: 200` in HPACK's static table.
const OK: [u8; 1] = [0x88];

/// A replica's side of an HTTP/2 connection, frame by frame.
struct Frames(TcpStream);

impl Frames {
    /// Takes the preface and sends settings.
    async fn begin(mut stream: TcpStream) -> Option<Self> {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.ok()?;
        let mut frames = Self(stream);
        frames.send(SETTINGS, 0, 0, &[]).await;
        Some(frames)
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // The other side may have gone.
        let _ = self.0.write_all(&frame).await;
    }

    /// Says goodbye; streams after `last` were not looked at.
    async fn goodbye(&mut self, last: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat()).await;
    }

    /// The stream of the next request; none at the end.
    async fn request(&mut self) -> Option<u32> {
        loop {
            let mut header = [0; 9];
            self.0.read_exact(&mut header).await.ok()?;
            let [a, b, c, kind, flags, rest @ ..] = header;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            match kind {
                SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
                PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload).await,
                HEADERS => return Some(u32::from_be_bytes(rest)),
                _ => {}
            }
        }
    }
}

fn service(replica: &Backend) -> String {
    file(&[Service::new("a").h2c().at(replica.address)])
}

/// A POST: it may only be sent again if it was not seen.
async fn post(tidegate: &Tidegate) -> u16 {
    let post = request2("POST", &host("a"), "/").body(empty()).unwrap();
    send2(&mut h2(tidegate.address()).await, post).await.status
}

#[tokio::test]
async fn requests_that_a_goodbye_leaves_out_are_sent_again() {
    for closes in [false, true] {
        let replica = Backend::start(move |connection, stream| async move {
            let Some(mut frames) = Frames::begin(stream).await else { return };
            while let Some(stream) = frames.request().await {
                if connection == 0 && stream > 1 {
                    frames.goodbye(1).await;
                    if closes {
                        return;
                    }
                } else {
                    frames.send(HEADERS, END, stream, &OK).await;
                }
            }
        })
        .await;
        let tidegate = Tidegate::serve(&service(&replica));
        for _ in 0..3 {
            assert_eq!(post(&tidegate).await, 200, "closes: {closes}");
        }
        assert!(replica.connections() >= 2, "{}", replica.connections());
    }
}

#[tokio::test]
async fn requests_that_a_goodbye_includes_are_not_sent_again() {
    let seen: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&seen);
    let replica = Backend::start(move |_, stream| {
        let seen = Arc::clone(&counted);
        async move {
            let Some(mut frames) = Frames::begin(stream).await else { return };
            if let Some(stream) = frames.request().await {
                seen.fetch_add(1, Ordering::SeqCst);
                // It may have been worked on.
                frames.goodbye(stream).await;
            }
        }
    })
    .await;
    let tidegate = Tidegate::serve(&service(&replica));
    assert_eq!((post(&tidegate).await, seen.load(Ordering::SeqCst)), (502, 1));
}

#[tokio::test]
async fn streams_live_on_while_others_go_to_a_new_connection() {
    const ROUNDS: usize = 5;
    // More than may be tried again, had they gone to the old connection first.
    const REQUESTS: usize = 100;
    // A call makes its connection say goodbye, before it is answered.
    let replica = Backend::start(|_, stream| async move {
        let Ok(mut connection) = ::h2::server::handshake(stream).await else { return };
        while let Some(Ok((mut request, mut respond))) = connection.accept().await {
            if request.method() == http::Method::POST {
                connection.graceful_shutdown();
            }
            tokio::spawn(async move {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                while let Some(Ok(data)) = request.body_mut().data().await {
                    let _ = request.body_mut().flow_control().release_capacity(data.len());
                    if body.send_data(data, false).is_err() {
                        return;
                    }
                }
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                let _ = body.send_trailers(trailers);
            });
        }
    })
    .await;
    let tidegate = Tidegate::with(&service(&replica), &["--workers", "1"]);
    let at = tidegate.address();
    let others = h2(at).await;
    let mut open = Vec::new();
    for round in 1..=ROUNDS {
        let (sender, body) = channel();
        let call = call(&host("a"), "/x.Y/Z").body(body).unwrap();
        let response = soon(h2(at).await.send_request(call)).await.unwrap();
        open.push((sender, response));
        let mut all = JoinSet::new();
        for _ in 0..REQUESTS {
            let mut others = others.clone();
            let get = request2("GET", &host("a"), "/").body(empty()).unwrap();
            all.spawn(async move { send2(&mut others, get).await.status });
        }
        let statuses = soon(all.join_all()).await;
        assert!(statuses.iter().all(|status| *status == 200), "round {round}: {statuses:?}");
        assert_eq!(replica.connections(), 1 + round);
    }
    for (mut sender, response) in open {
        let said: Bytes = message(b"still here");
        sender.send_data(said.clone()).await.unwrap();
        drop(sender);
        let answer = whole(response).await;
        assert_eq!((answer.status, answer.grpc_status()), (200, Some("0")));
        assert_eq!(answer.body, said);
    }
}
