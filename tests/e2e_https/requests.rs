//! Requests over TLS, on the direct path and through hyper.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{call, empty, full, message, request, request2, send1, send2, soon};
use crate::https::{Authority, printed};
use crate::serving::{Service, Tidegate, file, host, needs};

fn serving(authority: &Authority) -> Tidegate {
    let pair = authority.issue("services", &["*.default.localhost"]);
    let arguments = [&["--https", "127.0.0.1:0"][..], &pair.arguments()].concat();
    Tidegate::with(&file(&[Service::new("a"), Service::new("b").h2c()]), &arguments)
}

#[tokio::test]
async fn curl_speaks_both_protocols() {
    needs("curl", "curl");
    let authority = Authority::new();
    let tidegate = serving(&authority);
    let at = tidegate.https[0];
    let url = format!("https://{}:{}", host("a"), at.port());
    for (option, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let format = ["--write-out", "%{http_version} %{http_code} %{ssl_verify_result}"];
        let output =
            authority.curl(&host("a"), at, &[&[option, &format!("{url}/")][..], &format].concat());
        assert_eq!(printed(&output), format!("Hello World!\n{version} 200 0"));
        let output = authority.curl(&host("a"), at, &[option, &format!("{url}/headers")]);
        let seen: serde_json::Value = serde_json::from_str(&printed(&output)).unwrap();
        let value = |name: &str| -> String {
            let headers = seen["headers"].as_array().unwrap();
            let found = headers.iter().find(|h| h[0] == name).unwrap();
            found[1].as_str().unwrap().to_owned()
        };
        assert_eq!(value("x-forwarded-proto"), "https");
        let forwarded = format!("for=127.0.0.1;host=\"{}:{}\";proto=https", host("a"), at.port());
        assert_eq!(value("forwarded"), forwarded);
    }
}

#[tokio::test]
async fn bodies_arrive_whole_also_with_a_client_that_reads_late() {
    let authority = Authority::new();
    let tidegate = serving(&authority);
    let at = tidegate.https[0];
    let mut h1 = authority.client(&["http/1.1"]).h1(at, &host("a")).await;
    let mut h2 = authority.client(&["h2"]).h2(at, &host("a")).await;
    // 16,000 is direct both ways; 3,000,000 is hyper's.
    for bytes in [0_usize, 1, 4_000, 16_000, 3_000_000] {
        let body: Vec<u8> = (0..bytes).map(|i| i as u8).collect();
        let post = request("POST", &host("a"), "/echo").body(full(body.clone())).unwrap();
        assert!(send1(&mut h1, post).await.body == body, "{bytes}");
        let post = request2("POST", &host("a"), "/echo").body(full(body.clone())).unwrap();
        assert!(send2(&mut h2, post).await.body == body, "{bytes}");
    }
    // More than all buffers on the way hold: the last bytes must be sent on once there is room.
    let mut stream = authority.client(&["http/1.1"]).connect(at, &host("a")).await;
    let head = format!(
        "GET /size?bytes=12000000 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        host("a")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut read = Vec::new();
    // The end is announced, or this would be an error.
    soon(stream.read_to_end(&mut read)).await.unwrap();
    let body = read.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(read.len() - body, 12_000_000);
}

#[tokio::test]
async fn a_refused_upload_is_read_so_that_its_client_sees_why() {
    let authority = Authority::new();
    let tidegate = serving(&authority);
    let client = authority.client(&["http/1.1"]);
    for _ in 0..3 {
        let mut stream = client.connect(tidegate.https[0], "nobody.default.localhost").await;
        let head = "POST / HTTP/1.1\r\nHost: nobody.default.localhost\r\n\
                    Content-Length: 3000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        soon(stream.write_all(&vec![b'x'; 3_000_000])).await.unwrap();
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }
}

#[tokio::test]
async fn pipelined_requests_in_one_record_are_all_answered() {
    let authority = Authority::new();
    let tidegate = serving(&authority);
    let mut stream = authority.client(&["http/1.1"]).connect(tidegate.https[0], &host("a")).await;
    let one = format!("GET /size?bytes=3 HTTP/1.1\r\nHost: {}\r\n\r\n", host("a"));
    let last = one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    stream.write_all((one.repeat(20) + &last).as_bytes()).await.unwrap();
    let mut read = String::new();
    soon(stream.read_to_string(&mut read)).await.unwrap();
    assert_eq!(read.matches("HTTP/1.1 200 OK").count(), 21, "{read}");
}

#[tokio::test]
async fn grpc_and_websockets() {
    let authority = Authority::new();
    let tidegate = serving(&authority);
    let at = tidegate.https[0];
    let mut h2 = authority.client(&["h2"]).h2(at, &host("b")).await;
    let answer = send2(
        &mut h2,
        call(&host("b"), "/tidegate.Echo/Unary").body(full(message(b"hi"))).unwrap(),
    )
    .await;
    assert_eq!((answer.grpc_status(), &answer.body[5..]), (Some("0"), &b"hi"[..]));

    let stream = authority.client(&["http/1.1"]).connect(at, &host("a")).await;
    let url = format!("ws://{}/ws", host("a"));
    let (mut socket, _) =
        soon(Box::pin(tokio_tungstenite::client_async(url, stream))).await.unwrap();
    // More than one record, and control frames between.
    let long = "x".repeat(100_000);
    for text in ["one", &long] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::text(text));
    }
    socket.close(None).await.unwrap();
    while let Some(left) = soon(socket.next()).await {
        assert!(left.unwrap().is_close());
    }
}

#[tokio::test]
async fn the_end_of_a_connection_is_announced_and_a_cut_one_is_not() {
    let authority = Authority::new();
    let tidegate = serving(&authority);
    let client = authority.client(&["http/1.1"]);
    let mut read = Vec::new();
    // Refused by the parser: hyper answers and closes.
    let mut stream = client.connect(tidegate.https[0], &host("a")).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.unwrap();
    soon(stream.read_to_end(&mut read)).await.unwrap();
    assert!(read.starts_with(b"HTTP/1.1 400 "));
    // HTTP/1.0's body ends with the connection: a cut one must not look whole.
    let mut stream = client.connect(tidegate.https[0], &host("a")).await;
    let head = format!("GET /cut?bytes=1000&of=2000 HTTP/1.0\r\nHost: {}\r\n\r\n", host("a"));
    stream.write_all(head.as_bytes()).await.unwrap();
    soon(stream.read_to_end(&mut Vec::new())).await.unwrap_err();
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    let authority = Authority::new();
    let tidegate = serving(&authority);
    let at = tidegate.https[0];
    let mut stream = authority.client(&["http/1.1"]).connect(at, &host("a")).await;
    let head = format!("GET /delay?ms=15000 HTTP/1.1\r\nHost: {}\r\n\r\n", host("a"));
    stream.write_all(head.as_bytes()).await.unwrap();
    let in_flight = || async {
        let revisions = crate::client::get(tidegate.admin, "localhost", "/api/v1/revisions").await;
        let all = revisions.json();
        let mine = all["revisions"].as_array().unwrap().iter().find(|r| r["service"] == "a");
        mine.unwrap()["in_flight"].as_u64().unwrap()
    };
    soon(async { while in_flight().await != 1 {} }).await;
    drop(stream);
    tokio::time::timeout(Duration::from_secs(5), async { while in_flight().await != 0 {} })
        .await
        .expect("noticed");
    let mut again = authority.client(&["http/1.1"]).h1(at, &host("a")).await;
    let answer = send1(&mut again, request("GET", &host("a"), "/").body(empty()).unwrap()).await;
    assert_eq!(answer.status, 200);
}
