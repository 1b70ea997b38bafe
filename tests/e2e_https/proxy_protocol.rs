//! Connections that begin with what a load balancer says of the client.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{raw, rest, soon};
use crate::https::Authority;
use crate::serving::{Service, Tidegate, file, host};

const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const TCP4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x13, 0x88, 1, 0xbb];

fn v2(command: u8, family: u8, tail: &[u8]) -> Vec<u8> {
    let length = u16::try_from(tail.len()).unwrap().to_be_bytes();
    [&V2[..], &[command, family], &length, tail].concat()
}

fn asked() -> String {
    format!("GET /headers HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host("a"))
}

/// What the replica saw of the client: `X-Forwarded-For` and `X-Forwarded-Proto`.
fn seen(answer: &str) -> (String, String) {
    let body = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}")).1;
    let json: serde_json::Value =
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"));
    let value = |name: &str| {
        let headers = json["headers"].as_array().unwrap();
        headers.iter().find(|h| h[0] == name).unwrap()[1].as_str().unwrap().to_owned()
    };
    (value("x-forwarded-for"), value("x-forwarded-proto"))
}

fn serving(arguments: &[&str]) -> Tidegate {
    let given = [&["--proxy-protocol", "--access-log"][..], arguments].concat();
    Tidegate::with(&file(&[Service::new("a")]), &given)
}

async fn with(at: SocketAddr, header: &[u8]) -> (String, String) {
    seen(&raw(at, [header, asked().as_bytes()].concat()).await.unwrap())
}

#[tokio::test]
async fn the_client_is_whom_the_header_names() {
    let tidegate = serving(&[]);
    let at = tidegate.address();
    let is = |ip: &str, proto: &str| (ip.to_owned(), proto.to_owned());
    let line = b"PROXY TCP4 192.0.2.1 10.0.0.1 5000 80\r\n";
    assert_eq!(with(at, line).await, is("192.0.2.1", "http"));
    let line = b"PROXY TCP6 2001:db8::5 ::1 5000 80\r\n";
    assert_eq!(with(at, line).await, is("2001:db8::5", "http"));
    assert_eq!(with(at, b"PROXY UNKNOWN\r\n").await, is("127.0.0.1", "http"));
    assert_eq!(with(at, &v2(0x21, 0x11, &TCP4)).await, is("192.0.2.7", "http"));
    // TLVs: an authority, then that the client came by TLS.
    let tlvs = [&TCP4[..], &[2, 0, 1, b'a'], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
    assert_eq!(with(at, &v2(0x21, 0x11, &tlvs)).await, is("192.0.2.7", "https"));
    assert_eq!(with(at, &v2(0x20, 0, &[])).await, is("127.0.0.1", "http"), "LOCAL");
    tidegate.logged(r#""remoteIp":"192.0.2.1""#).await;
    tidegate.logged(r#""remoteIp":"2001:db8::5""#).await;
}

#[tokio::test]
async fn a_header_that_comes_in_pieces_is_read_to_its_end_and_no_further() {
    let tidegate = serving(&[]);
    let long = [&TCP4[..], &[4, 0x0f, 0x00], &[0; 0x0f00]].concat();
    for header in [b"PROXY TCP4 192.0.2.1 10.0.0.1 5000 80\r\n".to_vec(), v2(0x21, 0x11, &long)] {
        let whole = [&header[..], asked().as_bytes()].concat();
        let mut stream = TcpStream::connect(tidegate.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in [&whole[..1], &whole[1..13], &whole[13..20], &whole[20..]] {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(seen(&rest(&mut stream).await.unwrap()).0.starts_with("192.0.2."));
    }
}

#[tokio::test]
async fn what_is_no_header_is_refused_and_said() {
    let tidegate = serving(&[]);
    let at = tidegate.address();
    let endless = format!("PROXY TCP4 {}", "1".repeat(200));
    for wrong in [
        asked().into_bytes(),
        b"PROXY TCP4 192.0.2.1\r\n".to_vec(),
        endless.into_bytes(),
        v2(0x21, 0x11, &TCP4[..8]),
        v2(0x31, 0x11, &TCP4),
        [&V2[..], &[0x21, 0x11, 0xff, 0xff]].concat(),
    ] {
        let answer = raw(at, &wrong).await.unwrap_or_else(|before_the_reset| before_the_reset);
        assert_eq!(answer, "", "{wrong:?}");
    }
    tidegate.logged("the connection does not begin with a PROXY header").await;
    assert_eq!(tidegate.log().matches("without a usable PROXY header").count(), 1, "said once");
    let metrics = crate::client::get(tidegate.admin, "localhost", "/metrics").await;
    assert!(metrics.text().contains("tidegate_refused_total{reason=\"bad_request\"} 6"));
    // A probe that only connects is nothing to speak of.
    drop(TcpStream::connect(at).await.unwrap());
    assert_eq!(with(at, b"PROXY UNKNOWN\r\n").await.0, "127.0.0.1");
}

#[tokio::test]
async fn only_trusted_peers_are_asked_where_there_is_a_list() {
    let tidegate = serving(&["--trusted-proxies", "10.0.0.0/8"]);
    let at = tidegate.address();
    assert_eq!(with(at, b"").await.0, "127.0.0.1", "a stranger has no header");
    let answer = raw(at, format!("PROXY TCP4 192.0.2.1 10.0.0.1 5 80\r\n{}", asked())).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 400 "), "nor may it send one");
    let tidegate = serving(&["--trusted-proxies", "127.0.0.1"]);
    let at = tidegate.address();
    let line = "PROXY TCP4 192.0.2.1 10.0.0.1 5 80\r\n";
    let forged = asked().replace("\r\nConnection", "\r\nX-Forwarded-For: 9.9.9.9\r\nConnection");
    let answer = raw(at, format!("{line}{forged}")).await.unwrap();
    assert_eq!(seen(&answer).0, "192.0.2.1", "its client is not trusted for that");
}

#[tokio::test]
async fn tls_comes_after_the_header() {
    let authority = Authority::new();
    let pair = authority.issue("a", &[&host("a")]);
    let tidegate = serving(&[&["--https", "127.0.0.1:0"][..], &pair.arguments()].concat());
    let mut stream = TcpStream::connect(tidegate.https[0]).await.unwrap();
    stream.write_all(&v2(0x21, 0x11, &TCP4)).await.unwrap();
    let client = authority.client(&["http/1.1"]);
    let mut stream = client.over(stream, &host("a")).await;
    stream.write_all(asked().as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(seen(&answer), ("192.0.2.7".to_owned(), "https".to_owned()));
}
