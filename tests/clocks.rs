//! The clocks of client connections, on paused time: a real worker between connections in memory.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tidegate::model::{
    ContainerConcurrency, EndpointId, ObjectName, Protocol, QueueSettings, RevisionSpec,
    ScalingSpec, ServiceSpec, Timeouts, Workload,
};
use tidegate::proxy::{Settings, Shared, Worker};
use tidegate::revision::{ProcessQueue, QueueLimits, Revision, Setting};
use tidegate::snapshot::{ServiceRoute, Snapshot, Split};
use tidegate::stats::{Clock, Nanos, Pokes, RevisionStats};
use tidegate::upstream::{Connector, Socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::LocalSet;
use tokio::time::Instant;

/// Deadlines are looked at ten times a second.
const SWEEP: Duration = Duration::from_millis(200);

/// A worker with one service `a` whose only replica answers at once, and `settings`.
struct Stage {
    worker: std::rc::Rc<Worker>,
    revision: Arc<Revision>,
    clock: Clock,
    _messages: tokio::sync::mpsc::Sender<tidegate::proxy::Message>,
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

impl Stage {
    fn set(queue: QueueSettings, settings: impl FnOnce(&mut Settings)) -> Self {
        let clock = Clock::start();
        let mut all = Settings {
            connector: Connector::Memory(Arc::new(|_| {
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                tokio::task::spawn_local(replica(theirs));
                Ok(ours)
            })),
            ..Settings::default()
        };
        settings(&mut all);
        let shared = Shared::new(all, clock);
        let spec = Arc::new(RevisionSpec {
            id: name("a"),
            service: None,
            configuration: "a".into(),
            container_concurrency: ContainerConcurrency::Unlimited,
            protocol: Protocol::Http1,
            timeouts: Timeouts {
                request: Duration::from_secs(300),
                response_start: None,
                idle: None,
            },
            scaling: ScalingSpec::default(),
            queue,
            depends_on: Vec::new(),
            workload: Workload::Static(Vec::new()),
        });
        let setting = Setting {
            workers: 1,
            process: Arc::new(ProcessQueue::new(QueueLimits::default())),
            replans: Arc::default(),
            shares: None,
        };
        let pokes: Arc<Pokes> = Arc::default();
        let stats = RevisionStats::new(name("a"), clock, 1, pokes);
        let revision = Revision::new(spec, stats, &setting, 7);
        revision.set_endpoints(&[(EndpointId::new("0"), ([127, 0, 0, 1], 1).into())], Nanos(1));
        let service = ServiceSpec {
            id: name("a"),
            hosts: vec!["a".into()],
            traffic: Vec::new(),
            tags: Vec::new(),
            tag_header_routing: false,
            https_hosts: Vec::new(),
            canaries: Vec::new(),
            problem: None,
            warnings: Vec::new(),
        };
        let split = Split::new(vec![(100, Arc::clone(&revision))], 1);
        let route = ServiceRoute {
            spec: Arc::new(service),
            split,
            tags: Vec::new(),
            moving_tags: Vec::new(),
        };
        shared.snapshot.store(Arc::new(Snapshot::new(vec![Arc::new(route)], None)));
        let worker = Worker::new(0, Arc::clone(&shared), Arc::new(AtomicU32::new(0)), 1);
        let (sender, messages) = tokio::sync::mpsc::channel(8);
        tokio::task::spawn_local(std::rc::Rc::clone(&worker).run(messages));
        Self { worker, revision, clock, _messages: sender }
    }

    fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.worker.accept(Socket::Memory(theirs), std::net::Ipv4Addr::LOCALHOST.into());
        ours
    }
}

/// Answers every request; switches protocols where that is asked for, and sends all back then.
async fn replica(mut stream: DuplexStream) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        if String::from_utf8(head).unwrap().contains("upgrade: echo") {
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                           Upgrade: echo\r\n\r\n";
            stream.write_all(switch).await.unwrap();
            let (mut read, mut write) = tokio::io::split(stream);
            drop(tokio::io::copy(&mut read, &mut write).await);
            return;
        }
        // The time is virtual; where a date would be is not looked at.
        let answer = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1000\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
    }
}

/// Reads one response whose body is `ok`.
async fn answered(stream: &mut DuplexStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\nok") {
        read.push(stream.read_u8().await.unwrap());
    }
}

/// How long until the connection is closed.
async fn closed(mut stream: DuplexStream) -> Duration {
    let began = Instant::now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    began.elapsed()
}

fn about(took: Duration, expected: Duration, what: &str) {
    assert!((expected..=expected + SWEEP).contains(&took), "{what}: {took:?}, not {expected:?}");
}

/// A request that is carried directly, and one that is hyper's.
static REQUESTS: LazyLock<[(&str, String); 2]> = LazyLock::new(|| {
    let request = |extra: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{extra}\r\n");
    [("direct", request("")), ("hyper", request("TE: trailers\r\n"))]
});

async fn run(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_kept_75_s_and_620_s_behind_trusted_proxies() {
    run(async {
        for (trusted, kept) in [(false, 75), (true, 620)] {
            let stage = Stage::set(QueueSettings::default(), |settings| {
                if trusted {
                    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
                }
            });
            for (path, request) in REQUESTS.iter() {
                let mut stream = stage.connect();
                for _ in 0..2 {
                    stream.write_all(request.as_bytes()).await.unwrap();
                    answered(&mut stream).await;
                    // Used again before its time is over.
                    tokio::time::sleep(Duration::from_secs(kept - 5)).await;
                }
                let left = closed(stream).await;
                about(left, Duration::from_secs(5), &format!("{path}, trusted: {trusted}"));
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_has_ten_seconds() {
    run(async {
        let stage = Stage::set(QueueSettings::default(), |_| {});
        let ten = Duration::from_secs(10);
        about(closed(stage.connect()).await, ten, "silent");
        for first in ["G", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nX"] {
            let mut stream = stage.connect();
            stream.write_all(first.as_bytes()).await.unwrap();
            about(closed(stream).await, ten, first);
        }
        for (path, request) in REQUESTS.iter() {
            let mut stream = stage.connect();
            stream.write_all(request.as_bytes()).await.unwrap();
            answered(&mut stream).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
            stream.write_all(b"GET /half").await.unwrap();
            about(closed(stream).await, ten, path);
        }
    })
    .await;
}

/// Its beginning was read while the request before it was on its way: no clock of a head runs.
#[tokio::test(start_paused = true)]
async fn half_a_head_behind_a_request_does_not_keep_a_connection_for_ever() {
    run(async {
        let stage = Stage::set(QueueSettings::default(), |_| {});
        for (path, request) in REQUESTS.iter() {
            let mut stream = stage.connect();
            stream.write_all(format!("{request}GET /half").as_bytes()).await.unwrap();
            answered(&mut stream).await;
            let took = closed(stream).await;
            assert!(took <= Duration::from_secs(86), "{path}: {took:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_upgraded_connection_stops_counting_and_is_not_cut() {
    run(async {
        let queue = QueueSettings {
            idle_connection: Some(Duration::from_secs(300)),
            ..QueueSettings::default()
        };
        let stage = Stage::set(queue, |_| {});
        let in_flight = || stage.revision.stats().read(stage.clock.now()).in_flight;
        let mut stream = stage.connect();
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        for round in 0..3 {
            assert_eq!(in_flight(), 1, "round {round}");
            tokio::time::sleep(Duration::from_secs(299)).await;
            assert_eq!(in_flight(), 1, "round {round}: not silent for long enough");
            tokio::time::sleep(Duration::from_secs(3_000)).await;
            assert_eq!(in_flight(), 0, "round {round}: silent");
            stream.write_all(b"x").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'x', "it was not cut");
            tokio::time::sleep(SWEEP).await;
        }
        drop(stream);
        tokio::time::sleep(SWEEP).await;
        assert_eq!(in_flight(), 0);
    })
    .await;
}
