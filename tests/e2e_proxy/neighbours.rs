//! A held request takes nothing from its neighbours on the same connection.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::client::{call, channel, full, get, h2, message, request2, send2, soon};
use crate::serving::{Service, Tidegate, file, host, until};

const HELD: usize = 100;

/// One service that never becomes ready, one whose only slot is taken, and a warm one.
fn manifests() -> String {
    file(&[
        Service::new("cold").h2c().command(r#"["sleep", "60"]"#),
        Service::new("full")
            .h2c()
            .spec("containerConcurrency: 1")
            .annotation("autoscaling.knative.dev/max-scale", "1"),
        Service::new("warm"),
    ])
}

#[tokio::test]
async fn held_uploads() {
    let tidegate = Tidegate::serve(&manifests());
    let at = tidegate.address();
    get(at, &host("warm"), "/").await;
    let taken = tokio::spawn(async move { get(at, &host("full"), "/delay?ms=8000").await });
    until("two replicas", || tidegate.descendants().len() >= 3).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for held in ["cold", "full"] {
        let mut connection = h2(at).await;
        let upload = Bytes::from(vec![b'x'; 10 << 20]);
        let mut waiting = Vec::new();
        for _ in 0..HELD {
            let request = request2("POST", &host(held), "/headers").body(full(upload.clone()));
            waiting.push(tokio::spawn(connection.send_request(request.unwrap())));
        }
        // Until the windows of all of them are full.
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(waiting.iter().all(|w| !w.is_finished()), "they wait");
        for bytes in [1_000, 1_000_000] {
            let began = Instant::now();
            let body = full(vec![0; bytes]);
            let request = request2("POST", &host("warm"), "/headers").body(body).unwrap();
            let answer = send2(&mut connection, request).await;
            assert_eq!(answer.json()["body_bytes"], bytes);
            assert!(began.elapsed() < Duration::from_secs(1), "{held}: {:?}", began.elapsed());
        }
        for one in waiting {
            one.abort();
        }
    }
    taken.abort();
}

#[tokio::test]
async fn held_streams_of_small_messages() {
    let tidegate = Tidegate::serve(&manifests());
    let at = tidegate.address();
    get(at, &host("warm"), "/").await;
    let mut connection = h2(at).await;
    let mut waiting = Vec::new();
    for _ in 0..HELD {
        let (mut sender, body) = channel();
        let call = call(&host("cold"), "/tidegate.Echo/Bidi").body(body).unwrap();
        waiting.push(tokio::spawn(connection.send_request(call)));
        tokio::spawn(async move {
            for _ in 0..200 {
                if sender.send_data(message(b"")).await.is_err() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        });
    }
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert!(waiting.iter().all(|w| !w.is_finished()), "they wait");
    let began = Instant::now();
    let request = request2("POST", &host("warm"), "/headers").body(full(vec![0; 100_000]));
    let answer = send2(&mut connection, request.unwrap()).await;
    assert_eq!(answer.json()["body_bytes"], 100_000);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// The same towards a replica: streams whose client does not read do not stop the others on the
/// connection that they share.
#[tokio::test]
async fn unread_responses_on_a_shared_upstream_connection() {
    let tidegate = Tidegate::with(&file(&[Service::new("a").h2c()]), &["--workers", "1"]);
    let at = tidegate.address();
    let mut connection = h2(at).await;
    let mut unread = Vec::new();
    for _ in 0..50 {
        let request =
            request2("GET", &host("a"), "/size?bytes=1000000").body(crate::client::empty());
        unread.push(soon(connection.send_request(request.unwrap())).await.unwrap());
    }
    let began = Instant::now();
    let small = get(at, &host("a"), "/size?bytes=200000").await;
    assert_eq!(small.body.len(), 200_000);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    drop(unread);
    // Tiny frames that nobody reads: none of the connections is given up for them.
    let mut tiny = Vec::new();
    for _ in 0..50 {
        let call = call(&host("a"), "/tidegate.Echo/ServerStream").header("x-repeat", "2000");
        tiny.push(
            soon(connection.send_request(call.body(full(message(b""))).unwrap())).await.unwrap(),
        );
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(get(at, &host("a"), "/").await.status, 200);
    for response in tiny {
        let answer = crate::client::whole(response).await;
        assert_eq!((answer.body.len(), answer.grpc_status()), (2_000 * 5, Some("0")));
    }
}
