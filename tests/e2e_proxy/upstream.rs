//! Connections to replicas: kept, stale, refused, broken.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::backend::{Backend, head};
use crate::client::{channel, empty, full, get, h1, h2, request, request2, send1, send2};
use crate::serving::{Service, Tidegate, file, host};

/// Answers requests until the connection was idle for a while.
async fn impatient(idle: Duration, says: &'static str) -> Backend {
    Backend::start(move |_, mut stream| async move {
        while let Ok(Some(head)) = tokio::time::timeout(idle, head(&mut stream)).await {
            let length = head
                .to_lowercase()
                .split("content-length: ")
                .nth(1)
                .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\n{says}Content-Length: 3\r\n\r\nok\n");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn stale_connections_cost_no_request() {
    let quick = impatient(Duration::from_millis(200), "").await;
    let told = impatient(Duration::from_millis(2_000), "Keep-Alive: timeout=2\r\n").await;
    let manifests =
        file(&[Service::new("quick").at(quick.address), Service::new("told").at(told.address)]);
    let tidegate = Tidegate::with(&manifests, &["--workers", "1"]);
    let at = tidegate.address();
    // A body makes it a request that must not be sent twice: one that goes out while the replica
    // closes cannot be saved, so those do not come near that moment.
    let run = async |name: &'static str, bodies: bool, pauses: &[u64]| {
        let mut connection = h1(at).await;
        for (number, pause) in pauses.iter().enumerate() {
            tokio::time::sleep(Duration::from_micros(*pause)).await;
            let (method, body) =
                if number % 2 == 0 || !bodies { ("GET", empty()) } else { ("POST", full("abc")) };
            let request = request(method, &host(name), "/").body(body).unwrap();
            let answer = send1(&mut connection, request).await;
            assert_eq!((answer.status, answer.text()), (200, "ok\n"), "{name} {number}");
        }
    };
    // Around the moment in which the replica closes.
    let around: Vec<u64> = (0..20).map(|n| 199_000 + n * 200).collect();
    tokio::join!(
        run("quick", true, &[0, 0, 0, 250_000, 250_000, 0, 300_000, 0]),
        run("quick", false, &around),
        run("told", true, &[0, 0, 900_000, 1_100_000, 1_990_000, 2_005_000]),
    );
    assert!(quick.connections() > 6, "it did close: {}", quick.connections());
    assert!(told.connections() < 9, "kept for as long as it said: {}", told.connections());
}

#[tokio::test]
async fn connections_are_kept_and_shared() {
    let replica = impatient(Duration::from_secs(60), "").await;
    let manifests = file(&[Service::new("a").at(replica.address)]);
    let tidegate = Tidegate::with(&manifests, &["--workers", "1"]);
    for _ in 0..50 {
        assert_eq!(get(tidegate.address(), &host("a"), "/").await.status, 200);
    }
    assert_eq!(replica.connections(), 1);
    let mut connection = h2(tidegate.address()).await;
    for _ in 0..50 {
        let request = request2("POST", &host("a"), "/").body(full("abc")).unwrap();
        assert_eq!(send2(&mut connection, request).await.status, 200);
    }
    // Plain HTTP/1.1 and what hyper carries have connections of their own.
    assert_eq!(replica.connections(), 2);
}

#[tokio::test]
async fn a_replica_that_breaks_off_is_a_502() {
    // Closes without a word on its first connection, answers on the next ones.
    let shy = async || {
        Backend::start(|number, mut stream| async move {
            head(&mut stream).await;
            if number >= 1 {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        })
        .await
    };
    let shy = [shy().await, shy().await];
    let both = format!("{},{}", shy[0].address, shy[1].address);
    let gone = Backend::start(|_, mut stream| async move { drop(head(&mut stream).await) }).await;
    let garbage = Backend::saying("what do you want?\r\n\r\n").await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let manifests = file(&[
        Service::new("shy").command("").annotation("tidegate.dev/static-endpoints", &both),
        Service::new("gone").at(gone.address),
        Service::new("garbage").at(garbage.address),
        Service::new("nobody").at(nobody),
    ]);
    let tidegate = Tidegate::serve(&manifests);
    let at = tidegate.address();
    // A GET may be sent again elsewhere; what may have had an effect may not.
    assert_eq!(get(at, &host("shy"), "/").await.status, 200);
    let post = async |name: &str| {
        let request = request("POST", &host(name), "/").body(full("x")).unwrap();
        send1(&mut h1(at).await, request).await
    };
    let before = gone.connections();
    let answer = post("gone").await;
    assert_eq!((answer.status, answer.reason()), (502, Some("upstream_broke")));
    assert_eq!(gone.connections(), before + 1, "sent once");
    assert_eq!(get(at, &host("gone"), "/").await.reason(), Some("upstream_broke"));
    assert!(gone.connections() <= before + 4, "at most three times");
    assert_eq!(get(at, &host("garbage"), "/").await.status, 502);
    let answer = get(at, &host("nobody"), "/").await;
    assert_eq!((answer.status, answer.reason()), (502, Some("upstream_connect")));
    assert!(answer.text().contains(&nobody.to_string()), "{}", answer.text());
}

#[tokio::test]
async fn an_upload_that_the_client_breaks_off_reaches_the_replica_as_broken() {
    let (told, mut telling) = tokio::sync::mpsc::channel(1);
    let replica = Backend::start(move |_, mut stream| {
        let told = told.clone();
        async move {
            head(&mut stream).await;
            let mut read = Vec::new();
            let clean = stream.read_to_end(&mut read).await.is_ok();
            told.send((clean, String::from_utf8(read).unwrap())).await.unwrap();
        }
    })
    .await;
    let tidegate = Tidegate::serve(&file(&[Service::new("a").at(replica.address)]));
    for h2in in [false, true] {
        let (mut sender, body) = channel();
        let at = tidegate.address();
        let upload = tokio::spawn(async move {
            if h2in {
                let request = request2("POST", &host("a"), "/").body(body).unwrap();
                let _ = h2(at).await.send_request(request).await;
            } else {
                let request = request("POST", &host("a"), "/").body(body).unwrap();
                let _ = h1(at).await.send_request(request).await;
            }
        });
        sender.send_data("half".into()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        upload.abort();
        let _ = upload.await;
        drop(sender);
        let (_, read) = crate::client::soon(telling.recv()).await.unwrap();
        assert!(read.contains("half") && !read.contains("\r\n0\r\n"), "h2={h2in}: {read:?}");
    }
}

#[tokio::test]
async fn one_of_two_that_refuses_connections_costs_no_request() {
    let good = impatient(Duration::from_secs(60), "").await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let both = format!("{},{nobody}", good.address);
    let service = Service::new("a").command("").annotation("tidegate.dev/static-endpoints", &both);
    let tidegate = Tidegate::serve(&file(&[service]));
    let mut connection = h1(tidegate.address()).await;
    for number in 0..60 {
        // Nothing was sent, so a POST may be tried elsewhere as well.
        let method = if number % 2 == 0 { "GET" } else { "POST" };
        let request = request(method, &host("a"), "/").body(full("abc")).unwrap();
        assert_eq!(send1(&mut connection, request).await.status, 200, "{number}");
    }
    tidegate.logged("set aside").await;
}

#[tokio::test]
async fn replicas_of_every_habit() {
    let old = Backend::start(|_, mut stream| async move {
        head(&mut stream).await;
        // The end of the connection is the end of the body.
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nX-Old: yes\r\n\r\nto the end").await;
    })
    .await;
    let hints = Backend::saying(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n",
    )
    .await;
    let closing = Backend::start(|_, mut stream| async move {
        head(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nok\n";
        let _ = stream.write_all(answer).await;
    })
    .await;
    let bare = Backend::saying("HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\nok\n").await;
    let manifests = file(&[
        Service::new("old").at(old.address),
        Service::new("hints").at(hints.address),
        Service::new("closing").at(closing.address),
        Service::new("bare").at(bare.address),
    ]);
    let tidegate = Tidegate::serve(&manifests);
    let at = tidegate.address();
    let mut http2 = h2(at).await;
    let mut http1 = h1(at).await;
    for (name, text) in
        [("old", "to the end"), ("hints", "ok\n"), ("closing", "ok\n"), ("bare", "ok\n")]
    {
        for _ in 0..3 {
            let one = request("GET", &host(name), "/").body(empty()).unwrap();
            let two = request2("GET", &host(name), "/").body(empty()).unwrap();
            for answer in [send1(&mut http1, one).await, send2(&mut http2, two).await] {
                assert_eq!((answer.status, answer.text()), (200, text), "{name}");
            }
        }
    }
}

/// Closes after each answer without having said so.
#[tokio::test]
async fn a_replica_that_closes_unannounced() {
    let abrupt = Backend::start(|_, mut stream| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n").await;
    })
    .await;
    let tidegate = Tidegate::serve(&file(&[Service::new("a").at(abrupt.address)]));
    let mut connection = h1(tidegate.address()).await;
    let mut outcomes = std::collections::BTreeMap::<u16, u32>::new();
    for _ in 0..1_000 {
        let request = request("GET", &host("a"), "/").body(empty()).unwrap();
        *outcomes.entry(send1(&mut connection, request).await.status).or_default() += 1;
    }
    assert_eq!(outcomes, [(200, 1_000)].into());
}
