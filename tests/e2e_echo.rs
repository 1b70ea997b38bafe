//! `tidegate echo` as a process, by its sockets.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

struct Echo {
    child: Child,
    address: SocketAddr,
}

impl Echo {
    fn start(env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["echo", "--port", "0"])
            .env_remove("PORT")
            .env_remove("TARGET")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening http=").unwrap().parse().unwrap();
        Self { child, address }
    }

    async fn h1(&self) -> http1::SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn h2<B>(&self) -> http2::SendRequest<B>
    where
        B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync>
            + Send
            + Unpin
            + 'static,
    {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn get(&self, path: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::get(path).header("host", "a").body(Full::default()).unwrap();
        whole(self.h1().await.send_request(request).await.unwrap()).await
    }

    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn signal(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn whole(response: Response<Incoming>) -> (StatusCode, HeaderMap, String) {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

fn frame(payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), payload].concat().into()
}

#[tokio::test]
async fn greets_and_says_who_it_is() {
    let echo = Echo::start(&[("TARGET", "Ada"), ("K_REVISION", "hello-00001")]);
    let (status, _, body) = echo.get("/").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "Hello Ada!\n"));
    let (_, _, body) = echo.get("/whoami").await;
    let who: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(who["pid"], echo.child.id());
    assert_eq!(who["revision"], "hello-00001");
    assert_eq!(who["port"], echo.address.port());
    assert_eq!((&who["requests"], &who["in_flight"]), (&2.into(), &1.into()));
    let (_, _, body) = echo.get("/env?name=K_REVISION").await;
    assert_eq!(body, "hello-00001\n");
    assert_eq!(echo.get("/env?name=NO_SUCH").await.0, StatusCode::NOT_FOUND);
    let (status, _, body) = echo.get("/nothing").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body.contains("/whoami"), "{body}");
}

#[tokio::test]
async fn parameters_combine() {
    let echo = Echo::start(&[]);
    let start = Instant::now();
    let (status, headers, body) = echo.get("/size?bytes=200000&ms=60&code=404").await;
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert_eq!((status, body.len()), (StatusCode::NOT_FOUND, 200_000));
    assert_eq!(headers["content-length"], "200000");
    assert_eq!(echo.get("/status?code=503").await.0, StatusCode::SERVICE_UNAVAILABLE);
    for bad in ["/delay?ms=x", "/status?code=99", "/status?code=101", "/size?bytes=-1"] {
        let (status, _, body) = echo.get(bad).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(body.contains("write a"), "{body}");
    }
}

#[tokio::test]
async fn concurrency_is_counted() {
    let echo = Echo::start(&[]);
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let address = echo.address;
            tokio::spawn(async move {
                let stream = TcpStream::connect(address).await.unwrap();
                let (mut sender, connection) =
                    http1::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                let request = Request::get("/delay?ms=300").body(Full::<Bytes>::default()).unwrap();
                sender.send_request(request).await.unwrap().status()
            })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), StatusCode::OK);
    }
    let (_, _, body) = echo.get("/whoami").await;
    let who: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(who["max_in_flight"], 5);
    assert_eq!(who["in_flight"], 1);
}

#[tokio::test]
async fn headers_are_shown_over_both_versions() {
    let echo = Echo::start(&[]);
    let request = Request::post("/headers?a=b").header("host", "a").header("x-one", "1");
    let request = request.body(Full::from("four")).unwrap();
    let (_, _, body) = whole(echo.h1().await.send_request(request).await.unwrap()).await;
    let seen: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(seen["method"], "POST");
    assert_eq!(seen["uri"], "/headers?a=b");
    assert_eq!(seen["version"], "HTTP/1.1");
    assert_eq!(seen["body_bytes"], 4);
    let headers = seen["headers"].as_array().unwrap();
    assert!(headers.contains(&serde_json::json!(["x-one", "1"])), "{body}");

    let request = Request::get("http://name/headers").body(Full::<Bytes>::default()).unwrap();
    let response = echo.h2().await.send_request(request).await.unwrap();
    let seen: serde_json::Value = serde_json::from_str(&whole(response).await.2).unwrap();
    assert_eq!(seen["version"], "HTTP/2.0");
    assert_eq!(seen["uri"], "http://name/headers");
}

#[tokio::test]
async fn first_bytes_may_come_one_by_one() {
    let echo = Echo::start(&[]);
    let mut stream = TcpStream::connect(echo.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    // Starts like the preface of HTTP/2, but is not it.
    for byte in b"PROPFIND / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("Hello World!\n"), "{answer}");
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let echo = Echo::start(&[]);
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let mut client = echo.h2::<Channel<Bytes>>().await;
    let request = Request::post("http://a/echo").body(body).unwrap();
    let mut response = client.send_request(request).await.unwrap();
    for part in ["one", "two"] {
        sender.send_data(part.into()).await.unwrap();
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), part, "comes back before the request ends");
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", "yes".parse().unwrap());
    sender.send_trailers(trailers).await.unwrap();
    drop(sender);
    let frame = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap()["x-end"], "yes");
}

#[tokio::test]
async fn trailers_pass_over_http1() {
    let echo = Echo::start(&[]);
    let answer = echo
        .raw(
            "POST /echo HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-sum\r\n\
             transfer-encoding: chunked\r\nconnection: close\r\n\r\n\
             3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n",
        )
        .await;
    assert!(answer.ends_with("3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
    let answer = echo
        .raw("GET /trailers HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.ends_with("0\r\nx-echo-trailer: the end\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn events_come_one_by_one() {
    let echo = Echo::start(&[]);
    let request = Request::get("/sse?n=3&interval_ms=40").body(Full::default()).unwrap();
    let mut client = echo.h1().await;
    let start = Instant::now();
    let mut response = client.send_request(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut arrivals = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.starts_with(format!("id: {}\n", arrivals.len()).as_bytes()), "{data:?}");
        arrivals.push(start.elapsed());
    }
    assert_eq!(arrivals.len(), 3);
    assert!(arrivals[2] >= Duration::from_millis(80), "{arrivals:?}");
}

#[tokio::test]
async fn a_response_can_break_off() {
    let echo = Echo::start(&[]);
    let answer = echo.raw("GET /cut?bytes=10&of=50 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.contains("content-length: 50\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nxxxxxxxxxx"), "{answer}");
    let answer = echo.raw("GET /cut?bytes=2 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.ends_with("2\r\nxx\r\n"), "chunked, without its end: {answer}");
}

#[tokio::test]
async fn websocket_messages_come_back() {
    let mut echo = Echo::start(&[]);
    let request = Request::get("/ws")
        .header("host", "a")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Full::<Bytes>::default())
        .unwrap();
    let stream = TcpStream::connect(echo.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    // The example of RFC 6455 1.3.
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    for message in [Message::text("hello"), Message::binary(vec![7; 100_000])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    // The end of the process closes the tunnel in order.
    echo.signal();
    let message = socket.next().await.unwrap().unwrap();
    assert!(matches!(&message, Message::Close(Some(close)) if u16::from(close.code) == 1001));
    drop(socket);
    assert_eq!(echo.ended().await.code(), Some(0));
    let echo = Echo::start(&[]);
    assert_eq!(echo.get("/ws").await.0, StatusCode::UPGRADE_REQUIRED);
}

/// Calls a method with messages; returns the messages, the code and the text of the answer.
async fn call(
    echo: &Echo,
    path: &str,
    metadata: &[(&str, &str)],
    messages: &[&[u8]],
) -> (Vec<Vec<u8>>, String) {
    let mut request =
        Request::post(format!("http://a{path}")).header("content-type", "application/grpc");
    for (name, value) in metadata {
        request = request.header(*name, *value);
    }
    let body = messages.iter().map(|message| frame(message)).collect::<Vec<_>>().concat();
    let request = request.body(Full::<Bytes>::from(body)).unwrap();
    let (head, body) = echo.h2().await.send_request(request).await.unwrap().into_parts();
    assert_eq!(head.status, StatusCode::OK);
    let body = body.collect().await.unwrap();
    let code =
        body.trailers().and_then(|t| t.get("grpc-status")).or(head.headers.get("grpc-status"));
    let code = code.unwrap().to_str().unwrap().to_owned();
    let bytes = body.to_bytes();
    let mut rest = &bytes[..];
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        answers.push(rest[5..5 + length].to_vec());
        rest = &rest[5 + length..];
    }
    (answers, code)
}

#[tokio::test]
async fn grpc_calls_of_all_kinds() {
    let echo = Echo::start(&[]);
    let one = |bytes: &[u8]| vec![bytes.to_vec()];
    let ok = "0".to_owned();
    let unary = "/tidegate.Echo/Unary";
    assert_eq!(call(&echo, unary, &[], &[b"a"]).await, (one(b"a"), ok.clone()));
    let answer = call(&echo, "/tidegate.Echo/ClientStream", &[], &[b"a", b"", b"bc"]).await;
    assert_eq!(answer, (one(b"abc"), ok.clone()));
    let repeat = [("x-repeat", "2"), ("x-interval-ms", "5")];
    let answer = call(&echo, "/tidegate.Echo/ServerStream", &repeat, &[b"a"]).await;
    assert_eq!(answer, (vec![b"a".to_vec(); 2], ok.clone()));
    let answer = call(&echo, "/tidegate.Echo/Bidi", &[], &[b"a", b"b"]).await;
    assert_eq!(answer, (vec![b"a".to_vec(), b"b".to_vec()], ok.clone()));
    assert_eq!(call(&echo, unary, &[("x-grpc-status", "8")], &[b"a"]).await.1, "8");
    assert_eq!(call(&echo, unary, &[], &[]).await, (vec![], "13".to_owned()));
    assert_eq!(call(&echo, "/other.Service/Do", &[], &[b"a"]).await.1, "12");
    let check = "/grpc.health.v1.Health/Check";
    assert_eq!(call(&echo, check, &[], &[b""]).await, (one(&[8, 1]), ok));
    assert_eq!(call(&echo, check, &[], &[b"\x0a\x03odd"]).await.1, "5");
}

#[tokio::test]
async fn grpc_streams_are_full_duplex_and_watch_tells_the_end() {
    let mut echo = Echo::start(&[]);
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let mut client = echo.h2::<Channel<Bytes>>().await;
    let grpc = |path: &str, body| {
        Request::post(format!("http://a{path}"))
            .header("content-type", "application/grpc")
            .body(body)
            .unwrap()
    };
    let mut bidi = client.send_request(grpc("/tidegate.Echo/Bidi", body)).await.unwrap();
    sender.send_data(frame(b"ping")).await.unwrap();
    let data = bidi.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(data, frame(b"ping"));
    drop(sender);

    let (mut sender, body) = Channel::<Bytes>::new(1);
    sender.send_data(frame(b"")).await.unwrap();
    drop(sender);
    let mut watch = client.send_request(grpc("/grpc.health.v1.Health/Watch", body)).await.unwrap();
    let data = watch.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(data, frame(&[8, 1]), "SERVING");
    echo.signal();
    let data = watch.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(data, frame(&[8, 2]), "NOT_SERVING");
    assert!(watch.body_mut().frame().await.unwrap().unwrap().is_trailers());
    assert_eq!(echo.ended().await.code(), Some(0));
}

#[tokio::test]
async fn grpc_over_http1_is_explained() {
    let echo = Echo::start(&[]);
    let request = Request::post("/tidegate.Echo/Unary").header("content-type", "application/grpc");
    let request = request.body(Full::default()).unwrap();
    let (status, _, body) = whole(echo.h1().await.send_request(request).await.unwrap()).await;
    assert_eq!(status, StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    assert!(body.contains("h2c"), "{body}");
}

#[tokio::test]
async fn sigterm_finishes_requests_and_exits_0() {
    let mut echo = Echo::start(&[]);
    let mut busy = echo.h1().await;
    let _idle = echo.h1().await;
    let request = Request::get("/delay?ms=300").body(Full::default()).unwrap();
    let answer =
        tokio::spawn(async move { whole(busy.send_request(request).await.unwrap()).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    echo.signal();
    let (status, headers, _) = answer.await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["connection"], "close");
    assert_eq!(echo.ended().await.code(), Some(0));
    assert!(TcpStream::connect(echo.address).await.is_err());
}

#[tokio::test]
async fn exit_ends_at_once_with_its_code() {
    let mut echo = Echo::start(&[]);
    let request = Request::get("/exit?code=3").body(Full::default()).unwrap();
    assert!(echo.h1().await.send_request(request).await.is_err());
    assert_eq!(echo.ended().await.code(), Some(3));
}

#[test]
fn a_taken_port_is_explained() {
    let echo = Echo::start(&[]);
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["echo", "--port", &echo.address.port().to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("choose another port with --port"), "{text}");
}

#[test]
fn wrong_usage_exits_64_and_help_0() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate")).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    for wrong in [&["echo", "--prot", "1"][..], &["nonsense"], &[], &["--nonsense"]] {
        let (code, text) = run(wrong);
        assert_eq!(code, Some(64), "{wrong:?}: {text}");
    }
    for help in [&["--help"][..], &["echo", "--help"], &["serve", "--help"], &["status", "-h"]] {
        let (code, text) = run(help);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("Examples:"), "{text}");
    }
    assert_eq!(run(&["--version"]).1, concat!("tidegate ", env!("CARGO_PKG_VERSION"), "\n"));
}
