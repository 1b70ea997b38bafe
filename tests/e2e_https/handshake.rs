//! Versions, names, sessions, and what is not a handshake.

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{empty, get, raw, request, rest, send1, soon};
use crate::https::{Authority, der, serial};
use crate::serving::{Service, Tidegate, file, host};

/// One service `a` over TLS with a certificate for it.
fn serving(authority: &Authority, arguments: &[&str]) -> Tidegate {
    let pair = authority.issue("a", &[&host("a")]);
    let arguments = [&["--https", "127.0.0.1:0"][..], &pair.arguments(), arguments].concat();
    Tidegate::with(&file(&[Service::new("a")]), &arguments)
}

/// Handshakes that ended so.
async fn handshakes(tidegate: &Tidegate, result: &str) -> u64 {
    let metrics = get(tidegate.admin, "localhost", "/metrics").await;
    let name = format!("tidegate_tls_handshakes_total{{listener=\"https\",result=\"{result}\"}} ");
    let line = metrics.text().lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {}", metrics.text())).parse().unwrap()
}

#[tokio::test]
async fn versions_1_2_and_1_3_and_none_before() {
    let authority = Authority::new();
    let tidegate = serving(&authority, &[]);
    let at = tidegate.https[0];
    let name = host("a");
    for (version, said) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let verify = ["-servername", &name, "-verify_hostname", &name, "-alpn", "h2,http/1.1"];
        let text = authority.openssl(at, &[&[version][..], &verify].concat());
        assert!(text.contains(&format!("New, {said}")), "{text}");
        assert!(text.contains("Verification: OK") && text.contains("ALPN protocol: h2"), "{text}");
    }
    let text = authority.openssl(at, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(text.contains("New, (NONE)"), "{text}");
    assert_eq!(handshakes(&tidegate, "full").await, 2);
    assert_eq!(handshakes(&tidegate, "failed").await, 1);
}

#[tokio::test]
async fn sessions_are_resumed_by_whichever_worker_comes_next() {
    let authority = Authority::new();
    let tidegate = serving(&authority, &["--workers", "4"]);
    let at = tidegate.https[0];
    for version in [&TLS12, &TLS13] {
        let client = authority.client_of(&["http/1.1"], &[version]);
        let mut kept = Vec::new();
        let mut kinds = Vec::new();
        for _ in 0..12 {
            let mut stream = client.connect(at, &host("a")).await;
            // TLS 1.3's tickets come behind the handshake: with the answer at the latest.
            let head = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host("a"));
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut byte = [0; 512];
            assert!(soon(stream.read(&mut byte)).await.unwrap() > 0);
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
            // Kept open, the next connection goes to another worker.
            kept.push(stream);
        }
        assert_eq!(kinds[0], HandshakeKind::Full);
        assert_eq!(kinds[1..], [HandshakeKind::Resumed; 11], "{version:?}");
    }
    assert_eq!(handshakes(&tidegate, "full").await, 2);
    assert_eq!(handshakes(&tidegate, "resumed").await, 22);
}

#[tokio::test]
async fn openssl_resumes_too() {
    let authority = Authority::new();
    let tidegate = serving(&authority, &["--workers", "3"]);
    let text = authority.openssl(tidegate.https[0], &["-tls1_2", "-reconnect"]);
    assert_eq!(text.matches("Reused, TLSv1.2").count(), 5, "{text}");
    // Clients that take no tickets are remembered by their session's id.
    let text = authority.openssl(tidegate.https[0], &["-tls1_2", "-reconnect", "-no_ticket"]);
    assert_eq!(text.matches("Reused, TLSv1.2").count(), 5, "{text}");
}

#[tokio::test]
async fn the_name_asked_for_chooses_the_certificate() {
    let authority = Authority::new();
    let first = authority.issue("first", &["first.test", &host("a")]);
    let wild = authority.issue("wild", &["*.shop.test"]);
    let cart = authority.issue("cart", &["cart.shop.test"]);
    let arguments =
        [&["--https", "127.0.0.1:0"][..], &first.arguments(), &wild.arguments(), &cart.arguments()]
            .concat();
    let tidegate = Tidegate::with(&file(&[Service::new("a")]), &arguments);
    let client = authority.client(&[]);
    for (name, pair) in [("first.test", &first), ("x.shop.test", &wild), ("cart.shop.test", &cart)]
    {
        let stream = client.connect(tidegate.https[0], name).await;
        assert!(serial(&stream) == der(&pair.cert), "{name}");
    }
    for arguments in [&["-noservername"][..], &["-servername", "unknown.test"]] {
        let text = authority.openssl(tidegate.https[0], &[arguments, &["-showcerts"]].concat());
        let pem = std::fs::read_to_string(&first.cert).unwrap().replace("\r\n", "\n");
        assert!(text.contains(pem.trim()), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn plain_http_is_told_so() {
    let authority = Authority::new();
    let tidegate = serving(&authority, &[]);
    let at = tidegate.https[0];
    let answer = get(at, &host("a"), "/").await;
    assert_eq!((answer.status, answer.reason()), (400, Some("plain_http")));
    assert_eq!(
        answer.text(),
        "plain_http: this port speaks TLS: write https:// in place of http://\n"
    );
    let upload = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n{}",
        " ".repeat(3_000_000)
    );
    let answer = raw(at, upload).await.expect("no reset before the answer was read");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let neither = raw(at, [0x80, 0x2e, 1, 0]).await;
    assert_eq!(neither.unwrap_or_else(|before_the_reset| before_the_reset), "");
    assert_eq!(handshakes(&tidegate, "plain_http").await, 2);
    assert_eq!(handshakes(&tidegate, "failed").await, 1);
}

#[tokio::test]
async fn tls_on_the_http_port_is_said_once() {
    let authority = Authority::new();
    let tidegate = serving(&authority, &[]);
    for _ in 0..3 {
        // A record of 512 bytes that begins a handshake.
        let answer = raw(tidegate.address(), [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]).await.unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    }
    tidegate.logged("a client speaks TLS to a listener without it").await;
    assert_eq!(tidegate.log().matches("a client speaks TLS").count(), 1);
}

#[tokio::test]
async fn a_silent_client_is_not_waited_for_and_a_refusing_one_is_counted() {
    let authority = Authority::new();
    let tidegate = serving(&authority, &[]);
    let at = tidegate.https[0];
    let mut silent = TcpStream::connect(at).await.unwrap();
    let mut halfway = TcpStream::connect(at).await.unwrap();
    halfway.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    // One that does not trust the authority says so.
    let stranger = Authority::new().client(&[]);
    let refused =
        tokio::spawn(
            async move { stranger.connect(at, &host("a")).await.get_ref().1.is_handshaking() },
        );
    assert!(refused.await.is_err());
    drop(TcpStream::connect(at).await.unwrap());
    assert_eq!(rest(&mut silent).await, Ok(String::new()));
    assert_eq!(rest(&mut halfway).await, Ok(String::new()));
    assert_eq!(handshakes(&tidegate, "timeout").await, 2);
    assert_eq!(handshakes(&tidegate, "refused").await, 1);
    assert_eq!(handshakes(&tidegate, "left").await, 1);
}

#[tokio::test]
async fn going_down_waits_for_no_client_that_has_not_begun() {
    let authority = Authority::new();
    // Shorter than the time that a handshake has.
    let mut tidegate = serving(&authority, &["--drain-timeout", "5s"]);
    let at = tidegate.https[0];
    let _silent = TcpStream::connect(at).await.unwrap();
    let mut idle = authority.client(&["http/1.1"]).h1(at, &host("a")).await;
    let answer = send1(&mut idle, request("GET", &host("a"), "/").body(empty()).unwrap()).await;
    assert_eq!(answer.status, 200);
    tidegate.terminate();
    assert!(tidegate.ended().await.success());
    assert!(!tidegate.log().contains("cut off"), "{}", tidegate.log());
}
