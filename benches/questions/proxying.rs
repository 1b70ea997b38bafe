//! A whole request over connections in memory: a worker of the proxy between a client and a
//! replica that only move bytes, all on one thread, on a clock that stands still.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tidegate::proxy::{Position, Settings, Shared, Worker};
use tidegate::snapshot::Snapshot;
use tidegate::stats::Clock;
use tidegate::traces::{Endpoint, Protocol, Settings as Traces, Target};
use tidegate::upstream::{Connector, Socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::{Builder, LocalOptions};

use crate::live::{revision, route};
use crate::{Named, Step};

pub(crate) const QUESTIONS: &[Named] = &[
    ("what does a proxied request cost, without a limit", || {
        request(GET, None, Settings::default())
    }),
    ("what does a proxied request cost, with a limit", || {
        request(GET, Some(10), Settings::default())
    }),
    ("what does a proxied request cost, in a sidecar", || {
        request(GET, Some(10), Settings { position: Position::Sidecar, ..Settings::default() })
    }),
    ("what does a proxied request cost, read by hyper", || request(TE, None, Settings::default())),
    ("what does a proxied request cost, traced and not recorded", || {
        request(GET, None, traced(0.0))
    }),
    ("what does a proxied request cost, traced and recorded", || request(GET, None, traced(1.0))),
];

const GET: &str = "GET /hello?x=1 HTTP/1.1\r\nHost: hello.default.localhost\r\n\
                   User-Agent: bench/1.0\r\nAccept: */*\r\n\r\n";
/// One header more, which the direct path leaves to hyper.
const TE: &str = "GET /hello?x=1 HTTP/1.1\r\nHost: hello.default.localhost\r\n\
                  User-Agent: bench/1.0\r\nAccept: */*\r\nTE: trailers\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: text/plain\r\n\
                        Date: Sun, 29 Nov 2026 00:00:00 GMT\r\n\r\nhello\n";
const BODY: &[u8] = b"hello\n";
const BUFFER: usize = 64 * 1024;

/// Settings with which this share of requests is recorded, for a collector that is away.
fn traced(rate: f64) -> Settings {
    let settings = Settings::default();
    let endpoint = Endpoint::parse("http://127.0.0.1:9", Protocol::Http).expect("a URL");
    let target = Target::Collector(endpoint);
    let traces = Traces { target, rate, instance: "bench".to_owned() };
    settings.tracer.set(Some(&traces)).expect("a thread");
    settings
}

fn request(text: &'static str, limit: Option<u32>, settings: Settings) -> Step {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .expect("an event loop");
    let mut client = runtime.block_on(async { connect(&worker(limit, settings)) });
    let mut read = vec![0; BUFFER];
    Box::new(move || {
        runtime.block_on(async {
            client.write_all(text.as_bytes()).await.expect("taken");
            let mut length = 0;
            while !read[..length].ends_with(BODY) {
                let more = client.read(&mut read[length..]).await.expect("an answer");
                assert!(more > 0, "{}", String::from_utf8_lossy(&read[..length]));
                length += more;
            }
            assert!(
                read.starts_with(b"HTTP/1.1 200 "),
                "{}",
                String::from_utf8_lossy(&read[..length])
            );
        });
    })
}

/// A worker with one service and one replica.
fn worker(limit: Option<u32>, settings: Settings) -> Rc<Worker> {
    let clock = Clock::start();
    let settings = Settings {
        connector: Connector::Memory(Arc::new(|_| {
            let (ours, theirs) = tokio::io::duplex(BUFFER);
            tokio::task::spawn_local(replica(theirs));
            Ok(ours)
        })),
        ..settings
    };
    let shared = Shared::new(settings, clock);
    let live = revision("hello-00001", limit, 1, clock);
    let services = vec![route("hello", "hello.default.localhost", &live)];
    shared.snapshot.store(Arc::new(Snapshot::new(services, None)));
    Worker::new(0, shared, Arc::new(AtomicU32::new(0)), 1)
}

fn connect(worker: &Rc<Worker>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    worker.accept(Socket::Memory(theirs), std::net::Ipv4Addr::LOCALHOST.into());
    ours
}

/// Gives each request the same bytes.
async fn replica(mut stream: DuplexStream) {
    let mut read = vec![0; BUFFER];
    let mut length = 0;
    loop {
        match stream.read(&mut read[length..]).await {
            Ok(0) | Err(_) => return,
            Ok(more) => length += more,
        }
        if read[..length].ends_with(b"\r\n\r\n") {
            length = 0;
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}
