//! The direct path and hyper behind one door: a connection changes hands, whatever the cut.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::backend::{Backend, head};
use crate::client::{get, h2, raw, read_until, request2, send2, soon, whole};
use crate::serving::{Service, Tidegate, file, host};

/// Requests of every kind in one go: the first are plain, then one is not, and what follows is
/// hyper's.
const MIXED: &str = "GET /status?code=201 HTTP/1.1\r\nHost: a.default\r\n\r\n\
    POST /status?code=202 HTTP/1.1\r\nHost: a.default\r\nContent-Length: 2\r\n\r\nhi\
    HEAD /size?bytes=9 HTTP/1.1\r\nHost: a.default\r\n\r\n\
    POST /status?code=203 HTTP/1.1\r\nHost: a.default\r\nTransfer-Encoding: chunked\r\n\r\n\
    2\r\nhi\r\n0\r\n\r\n\
    GET /status?code=206 HTTP/1.1\r\nHost: a.default\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_connection_changes_hands_wherever_its_bytes_are_cut() {
    let tidegate = Tidegate::serve(&file(&[Service::new("a")]));
    let at = tidegate.address();
    get(at, &host("a"), "/").await;
    let answers = |read: &str| -> Vec<String> {
        let lines = read.lines().filter(|line| line.starts_with("HTTP/1.1 "));
        lines.map(|line| line[9..12].to_owned()).collect()
    };
    let expected = ["201", "202", "200", "203", "206"];
    assert_eq!(answers(&raw(at, MIXED).await.unwrap()), expected);
    // In two pieces, with a pause that makes them two reads.
    let cuts = async |from: usize| {
        for cut in (from..MIXED.len()).step_by(24) {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(&MIXED.as_bytes()[..cut]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            stream.write_all(&MIXED.as_bytes()[cut..]).await.unwrap();
            let read = soon(crate::client::rest(&mut stream)).await.unwrap();
            assert_eq!(answers(&read), expected, "cut at {cut}: {read}");
        }
    };
    tokio::join!(cuts(1), cuts(7), cuts(13), cuts(19));
}

#[tokio::test]
async fn a_preface_in_pieces_is_http2() {
    let tidegate = Tidegate::serve(&file(&[Service::new("a")]));
    let at = tidegate.address();
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in [&b"PRI * HT"[..], b"TP/2.0\r\n\r\nSM", b"\r\n\r\n", &[0, 0, 0, 4, 0, 0, 0, 0, 0]]
    {
        stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The server's SETTINGS: a frame of type 4 on stream 0.
    let mut frame = [0; 9];
    soon(tokio::io::AsyncReadExt::read_exact(&mut stream, &mut frame)).await.unwrap();
    assert_eq!((frame[3], &frame[5..]), (4, &[0, 0, 0, 0][..]), "{frame:?}");
    let mut connection = h2(at).await;
    let request = request2("GET", &host("a"), "/").body(crate::client::empty()).unwrap();
    assert_eq!(send2(&mut connection, request).await.status, 200);
}

/// Answers each request with the next of these, and closes if the last says so.
async fn replica(answers: &'static [&'static str], close: bool) -> Backend {
    Backend::start(move |_, mut stream| async move {
        for answer in answers {
            if head(&mut stream).await.is_none() {
                return;
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        if !close {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    })
    .await
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
    3;q=1\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n";

#[tokio::test]
async fn responses_end_where_they_say() {
    let cases: [(&'static [&'static str], bool, &str); 8] = [
        (&["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"], false, "200 abc"),
        (&[CHUNKED], false, "200 abc"),
        (&["HTTP/1.1 200 OK\r\n\r\nabc"], true, "200 abc"),
        (&["HTTP/1.0 200 OK\r\n\r\nabc"], true, "200 abc"),
        (&["HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"], false, "204 "),
        (&["HTTP/1.1 101 Switching Protocols\r\n\r\n"], true, "502 upstream_broke"),
        (&["HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"], true, "502 upstream_broke"),
        (&["nonsense\r\n\r\n"], true, "502 upstream_broke"),
    ];
    for (answers, close, expected) in cases {
        let backend = replica(answers, close).await;
        let tidegate = Tidegate::serve(&file(&[Service::new("a").at(backend.address)]));
        let answer = get(tidegate.address(), &host("a"), "/").await;
        let reason = answer.reason().map(str::to_owned);
        let text = reason.unwrap_or_else(|| answer.text().to_owned());
        assert_eq!(format!("{} {text}", answer.status), expected, "{answers:?}");
    }
}

/// A response that breaks off must not look whole, and its connection is not used again.
#[tokio::test]
async fn responses_that_break_off_do_not_look_whole() {
    let cases: [&'static [&'static str]; 4] = [
        &["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"],
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"],
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"],
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n"],
    ];
    for answers in cases {
        let backend = replica(answers, true).await;
        let tidegate = Tidegate::serve(&file(&[Service::new("a").at(backend.address)]));
        let mut stream = TcpStream::connect(tidegate.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.default\r\n\r\n").await.unwrap();
        read_until(&mut stream, "abc").await;
        let rest = crate::client::rest(&mut stream).await.unwrap_or_default();
        assert!(!rest.contains("0\r\n\r\n"), "{answers:?}: {rest:?}");
    }
}

#[tokio::test]
async fn bytes_behind_a_response_are_nobodys_answer() {
    let backend = replica(
        &[
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ],
        false,
    )
    .await;
    let tidegate = Tidegate::serve(&file(&[Service::new("a").at(backend.address)]));
    let mut connection = crate::client::h1(tidegate.address()).await;
    for _ in 0..3 {
        let request =
            crate::client::request("GET", &host("a"), "/").body(crate::client::empty()).unwrap();
        let answer = whole(soon(connection.send_request(request)).await.unwrap()).await;
        assert_eq!((answer.status, answer.text()), (200, "ok"));
    }
    assert_eq!(backend.connections(), 3, "each had left something behind");
}
