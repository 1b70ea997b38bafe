//! The direct path beside hyper: what it takes must be what hyper and the edge read, and what it
//! writes must be read as it was meant.

use std::mem::MaybeUninit;
use std::net::IpAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use crate::proxy::edge::check;
use crate::proxy::forwarded::Client;
use crate::proxy::scan::scan;
use crate::proxy::shared::Position;

use super::request::{self, HEADERS_MAX};
use super::response::{self, Asked, Parsed};
use crate::proxy::framing::{Chunks, Framing};

/// What was read of a request, whoever read it.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    method: String,
    target: String,
    host: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// By name; of several with one name the order says something and stays.
fn sorted(mut headers: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    headers
}

/// What a replica behind hyper reads; none if the request is refused or not whole.
fn hyper_reads(bytes: &[u8]) -> Option<Read> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let read = Mutex::new(None);
    runtime.block_on(async {
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        ours.write_all(bytes).await.unwrap();
        ours.shutdown().await.unwrap();
        let service = hyper::service::service_fn(async |request: Request<Incoming>| {
            let checked = check(&request, &scan(request.headers())).ok();
            let host = checked.and_then(|c| c.host).map(|(host, _)| host.into_owned());
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes().to_vec());
            if let (Some(host), Ok(body)) = (host, body) {
                let mut read = read.lock();
                read.get_or_insert(Read {
                    method: parts.method.to_string(),
                    target: parts.uri.to_string(),
                    host,
                    headers: sorted(
                        parts
                            .headers
                            .iter()
                            .map(|(n, v)| (n.to_string(), v.as_bytes().to_vec()))
                            .collect(),
                    ),
                    body,
                });
            }
            Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        // The client's end is not its leaving here.
        builder.half_close(true);
        drop(builder.serve_connection(TokioIo::new(theirs), service).await);
    });
    read.into_inner()
}

/// What the direct path takes, as its own words to the replica say it: read by hyper.
fn direct_sends(bytes: &[u8], trusted: bool) -> Option<(String, Read)> {
    let mut room = [MaybeUninit::uninit(); HEADERS_MAX];
    let request::Parsed::Plain(head) = request::parse(bytes, &mut room) else { return None };
    let body = bytes.get(head.bytes..head.bytes + head.length)?;
    let nets: Vec<ipnet::IpNet> = if trusted { vec!["::/0".parse().unwrap()] } else { vec![] };
    let localhost = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]);
    let client = Client::new(localhost, false, &nets, Position::Edge);
    let mut out = Vec::new();
    let id = head.write(&mut out, &client, &mut fastrand::Rng::with_seed(1), None);
    let id = String::from_utf8(out[id].to_vec()).unwrap();
    out.extend_from_slice(body);
    Some((id, hyper_reads(&out).expect("what goes to a replica is well-formed")))
}

const LINES: &[&str] = &[
    "GET / HTTP/1.1",
    "POST /a?b=c%20d HTTP/1.1",
    "HEAD /x HTTP/1.1",
    "PUT /x;y HTTP/1.1",
    "DELETE /~a/b HTTP/1.1",
    "GET / HTTP/1.0",
    "GET * HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "GET http://a.b/ HTTP/1.1",
    "CONNECT a.b:80 HTTP/1.1",
    "BREW / HTTP/1.1",
    "GET /\"x\" HTTP/1.1",
    "GET /a#b HTTP/1.1",
    "get / HTTP/1.1",
    "GET  / HTTP/1.1",
];

const HEADERS: &[&str] = &[
    "Host: a.b",
    "Host: a.b",
    "Host: A.b:80",
    "host: [::1]",
    "Host: a b",
    "Host:",
    "Content-Length: 0",
    "Content-Length: 3",
    "content-length: 3",
    "Content-Length: 03",
    "Content-Length: +3",
    "Content-Length: 3, 3",
    "Content-Length: 99999999999999999999",
    "Content-Length: 18446744073709551615",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding : chunked",
    "Connection: keep-alive",
    "Connection: close",
    "Connection: x-kept",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "TE: trailers",
    "Expect: 100-continue",
    "Content-Type: application/grpc",
    "grpc-timeout: 1S",
    "K-Proxy-Request: activator",
    "Knative-Serving-Revision: x",
    "Knative-Serving-Tag: blue",
    "X-Forwarded-For: 1.1.1.1",
    "X-Forwarded-For: 2.2.2.2",
    "X-Forwarded-Proto: https",
    "x-forwarded-host: evil",
    "Forwarded: for=1.1.1.1",
    "X-Request-Id: abc",
    "X-Request-Id: a b",
    "X-Kept:  two  words\t",
    "X-Kept: \u{fc}",
    "X-Empty:",
    "x-kept: again",
    "X-Bad\u{0}: 1",
    "X-Cr: a\rb",
    " folded",
    "Accept: */*",
];

fn request_text() -> impl Strategy<Value = Vec<u8>> {
    let end = prop_oneof![9 => Just("\r\n"), 1 => Just("\n")];
    let header = (prop::sample::select(HEADERS), end);
    let body = prop_oneof![Just(""), Just("abc"), Just("abcGET / HTTP/1.1\r\n\r\n"), Just("ab")];
    (
        prop::sample::select(LINES),
        // Well-formed ones are to be many of them.
        prop::bool::weighted(0.8),
        prop::collection::vec(header, 0..5),
        body,
    )
        .prop_map(|(line, host, headers, body)| {
            let mut text = format!("{line}\r\n");
            if host {
                text.push_str("Host: a.b\r\n");
            }
            for (header, end) in headers {
                text.push_str(header);
                text.push_str(end);
            }
            text.push_str("\r\n");
            text.push_str(body);
            text.into_bytes()
        })
}

/// The headers that reach a replica, if hyper carried the request.
fn expected(read: &Read, trusted: bool) -> Vec<(String, Vec<u8>)> {
    let mut map = http::HeaderMap::new();
    for (name, value) in &read.headers {
        let name: http::HeaderName = name.parse().unwrap();
        map.append(name, http::HeaderValue::from_bytes(value).unwrap());
    }
    let seen = scan(&map).seen;
    crate::proxy::headers::strip_request(&mut map, seen, false, Position::Edge);
    let nets: Vec<ipnet::IpNet> = if trusted { vec!["::/0".parse().unwrap()] } else { vec![] };
    let localhost = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]);
    let client = Client::new(localhost, false, &nets, Position::Edge);
    let host = map.get("host").cloned();
    client.write(&mut map, host.as_ref());
    map.remove("x-request-id");
    sorted(map.iter().map(|(n, v)| (n.to_string(), v.as_bytes().to_vec())).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_taken_is_what_hyper_reads(bytes in request_text(), trusted: bool) {
        if let Some((id, mut sent)) = direct_sends(&bytes, trusted) {
            let read = hyper_reads(&bytes);
            prop_assert!(read.is_some(), "hyper refuses it");
            let read = read.unwrap();
            prop_assert_eq!(&sent.method, &read.method);
            prop_assert_eq!(&sent.target, &read.target);
            prop_assert_eq!(&sent.host, &read.host);
            prop_assert_eq!(&sent.body, &read.body);
            let ids: Vec<_> = sent.headers.iter().filter(|(n, _)| n == "x-request-id").collect();
            prop_assert_eq!(ids.len(), 1);
            prop_assert_eq!(&ids[0].1, id.as_bytes());
            sent.headers.retain(|(name, _)| name != "x-request-id");
            prop_assert_eq!(sent.headers, expected(&read, trusted));
        }
    }

    /// Cut anywhere, a head is not whole, and never something else than it will be.
    #[test]
    fn a_part_is_partial(bytes in request_text(), cut: prop::sample::Index) {
        let mut room = [MaybeUninit::uninit(); HEADERS_MAX];
        if let request::Parsed::Plain(head) = request::parse(&bytes, &mut room) {
            let part = &bytes[..cut.index(head.bytes)];
            let mut room = [MaybeUninit::uninit(); HEADERS_MAX];
            prop_assert!(matches!(request::parse(part, &mut room), request::Parsed::Partial));
        }
    }
}

#[test]
fn many_of_the_generated_requests_are_taken() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let taken = (0..1_000)
        .filter(|_| {
            let bytes = request_text().new_tree(&mut runner).unwrap().current();
            direct_sends(&bytes, false).is_some()
        })
        .count();
    assert!((50..700).contains(&taken), "{taken} of 1,000: the property above would say little");
}

fn read(text: &str, head: bool, close: bool) -> (Parsed, String) {
    let mut out = Vec::new();
    let date = |out: &mut Vec<u8>| out.extend_from_slice(b"date: now\r\n");
    let parsed = response::read(text.as_bytes(), Asked { head, close }, &mut out, date);
    (parsed, String::from_utf8(out).unwrap())
}

/// Status, framing and whether the connection lives on; or why not.
fn verdict(text: &str, head: bool) -> String {
    match read(text, head, false).0 {
        Parsed::Partial => "partial".into(),
        Parsed::Informational(n) => format!("informational {n}"),
        Parsed::Bad(why) => why.into(),
        Parsed::Final(head) => {
            let framing = match head.framing {
                Framing::Length(n) => n.to_string(),
                Framing::Chunked(_) => "chunked".into(),
                Framing::Close => "close".into(),
            };
            let keep = head.keep.map_or("ends".into(), |keep| format!("{keep:?}"));
            format!("{} {framing} {keep}", head.status)
        }
    }
}

#[test]
fn responses() {
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200 5 1.5s"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "200 5 1.5s"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "its Content-Lengths differ",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "its Content-Length is not a number"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", "200 chunked 1.5s"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            "200 chunked ends",
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 has no Transfer-Encoding",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "its Transfer-Encoding is not `chunked`",
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", "200 close ends"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "200 0 ends"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "200 0 ends"),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", "200 0 1.5s"),
        ("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n", "200 0 4s"),
        ("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0\r\nContent-Length: 0\r\n\r\n", "200 0 ends"),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "204 0 1.5s"),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "304 0 1.5s"),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "informational 28"),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "it switched protocols without having been asked to",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Le", "partial"),
        ("SSH-2.0-OpenSSH\r\n", "its response is malformed"),
        ("HTTP/1.1 099 Odd\r\n\r\n", "its response has no valid status"),
    ];
    for (text, expected) in cases {
        assert_eq!(verdict(text, false), expected, "{text:?}");
    }
    assert_eq!(verdict("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true), "200 0 1.5s");
}

#[test]
fn heads_for_clients() {
    let given = "HTTP/1.0 404 Nope\r\nServer: x\r\nConnection: close, X-Once\r\nX-Once: 1\r\n\
                 Upgrade: h2c\r\nKeep-Alive: timeout=5\r\nTrailer: X-Sum\r\n";
    let kept = "HTTP/1.1 404 Nope\r\nServer: x\r\nTrailer: X-Sum\r\ndate: now\r\n";
    let cases = [
        ("Content-Length: 5\r\n\r\n", false, false, "content-length: 5\r\n\r\n"),
        ("Content-Length: 5\r\n\r\n", true, false, "content-length: 5\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n", false, false, "transfer-encoding: chunked\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n", true, false, "\r\n"),
        ("\r\n", false, true, "transfer-encoding: chunked\r\nconnection: close\r\n\r\n"),
    ];
    for (end, head, close, expected) in cases {
        // HTTP/1.0 has no Transfer-Encoding.
        let version = if end.contains("chunked") { "HTTP/1.1" } else { "HTTP/1.0" };
        let given = given.replacen("HTTP/1.0", version, 1);
        let (_, out) = read(&format!("{given}{end}"), head, close);
        assert_eq!(out, format!("{kept}{expected}"), "{end:?}, HEAD: {head}");
    }
    let (_, out) = read("HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 0\r\n\r\n", false, false);
    assert_eq!(out, "HTTP/1.1 200 OK\r\nDate: then\r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn no_body_is_read_as_one_of_length_zero() {
    assert_eq!(Framing::NONE, Framing::Length(0));
    assert_ne!(Framing::NONE, Framing::Chunked(Chunks::default()));
}

#[test]
fn only_what_is_no_request_line_at_all_is_foreign() {
    for line in ["INVALID CONNECTION PREFACE", "\0 x y", "a  b"] {
        assert!(request::is_foreign(format!("{line}\r\n\r\n").as_bytes()), "{line:?}");
    }
    for line in
        ["", "GET", "GET /", "GET / HTTP/1.1", "GET / FTP/1.1", "GET a http/1.1", "GET a:1 b"]
            .into_iter()
            .chain(["OPTIONS * b", "a b c d"])
    {
        assert!(!request::is_foreign(format!("{line}\r\n\r\n").as_bytes()), "{line:?}");
    }
    assert!(!request::is_foreign(b"INVALID CONNECTION PREFACE"), "not a whole line");
}
