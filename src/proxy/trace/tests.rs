use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use expect_test::{Expect, expect};
use http::Version;

use super::*;
use crate::model::Reason;
use crate::proxy::{Settings, Shared};
use crate::stats::Clock;
use crate::traces::{Recorded, Value};
use crate::upstream::Sent;

const SAMPLED: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

const ASKED: Asked<'static> = Asked {
    method: "GET",
    target: "/a/b?token=secret",
    authority: "hello.example:8080",
    version: Version::HTTP_11,
    secure: false,
    client: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    user_agent: Some(b"curl/8"),
    state: Some(b"vendor=1"),
};

fn worker() -> std::rc::Rc<Worker> {
    let shared = Shared::new(Settings::default(), Clock::start());
    Worker::new(0, shared, Arc::new(AtomicU32::new(1)), 1)
}

fn ms(ms: u64) -> Nanos {
    Nanos(ms * 1_000_000)
}

/// A trace whose clocks are known, of a request that arrived 1000 ms after the start.
fn trace(worker: &Worker, asked: &Asked<'_>) -> Trace {
    let decision = worker.decide(Some(SAMPLED)).unwrap();
    let mut trace = *Trace::begin(worker, decision, asked, ms(1_000));
    trace.wall = Wall { at: ms(1_001), since_epoch: Duration::from_millis(10_001) };
    trace
}

/// The spans below one, each with its times in milliseconds since 1970.
fn show(recorded: &Recorded, below: Option<SpanId>, indent: usize, text: &mut String) {
    for span in recorded.spans.iter().filter(|span| span.parent == below) {
        let ms = |at: u64| at as f64 / 1e6;
        let (name, kind) = (&span.name, span.kind);
        let _ = write!(text, "{:indent$}{name} {kind:?} {}-{}", "", ms(span.start), ms(span.end));
        for (name, value) in &span.attributes {
            let _ = match value {
                Value::Text(value) => write!(text, " {name}={value}"),
                Value::Number(value) => write!(text, " {name}={value}"),
            };
        }
        for event in &span.events {
            let _ = write!(text, " [{} {}]", event.name, ms(event.at));
        }
        if let Some(error) = &span.error {
            let _ = write!(text, " ERROR {error:?}");
        }
        text.push('\n');
        show(recorded, Some(span.id), indent + 2, text);
    }
}

fn check(trace: Trace, ending: Ending, expected: &Expect) {
    let parent = trace.decision.parent.map(|parent| parent.span);
    let recorded = trace.recorded(ms(1_500), ending, None);
    let mut text = String::new();
    show(&recorded, parent, 0, &mut text);
    expected.assert_eq(&text);
}

#[test]
fn the_caller_decides_and_else_the_share() {
    let worker = worker();
    let decide = |given: Option<&[u8]>| {
        let decision = worker.decide(given)?;
        let Told { context, begins } = decision.told();
        assert_eq!(context.is_sampled(), decision.is_recorded());
        Some((context.trace.to_string(), begins, decision.is_recorded()))
    };
    assert_eq!(decide(Some(UNSAMPLED)), None, "it goes on as it came");
    let followed = ("0af7651916cd43dd8448eb211c80319c".to_owned(), false, true);
    assert_eq!(decide(Some(SAMPLED)), Some(followed));
    for given in [None, Some(&b""[..]), Some(b"00-0af7"), Some(&SAMPLED[1..])] {
        let (trace, begins, recorded) = decide(given).unwrap();
        assert!(begins && !recorded && !trace.starts_with("0af7"), "{given:?}");
    }
}

#[test]
fn times_are_those_of_the_wall_before_and_after() {
    let wall = Wall { at: ms(10), since_epoch: Duration::from_millis(100) };
    for (at, expected) in [(10, 100), (0, 90), (30, 120)] {
        assert_eq!(wall.of(ms(at)), expected * 1_000_000);
    }
    let wall = Wall { at: ms(10), since_epoch: Duration::ZERO };
    assert_eq!(wall.of(ms(0)), 0, "a clock that was never set");
}

#[test]
fn a_warm_request() {
    let worker = worker();
    let mut trace = trace(&worker, &ASKED);
    trace.routed(&Choice::Share(Some(90)));
    trace.attempt(ms(1_002), "127.0.0.1:9000".parse().unwrap());
    trace.connected(ms(1_003));
    trace.answered(ms(1_004), 200);
    let ending = Ending { status: Some(200), bytes: 5, ..Ending::default() };
    check(
        trace,
        ending,
        &expect![[r#"
        GET Server 10000-10500 http.request.method=GET url.path=/a/b url.scheme=http server.address=hello.example server.port=8080 network.protocol.version=1.1 client.address=127.0.0.1 user_agent.original=curl/8 http.response.status_code=200 http.response.body.size=5
          route Internal 10000-10001 tidegate.route.by=share tidegate.route.percent=90
          upstream Client 10002-10500 http.request.method=GET server.address=127.0.0.1 server.port=9000 http.response.status_code=200 [response.head 10004]
            connect Internal 10002-10003
    "#]],
    );
}

#[test]
fn a_request_that_waits_for_a_start_and_is_sent_twice() {
    let worker = worker();
    let mut trace = trace(&worker, &Asked { method: "BREW", version: Version::HTTP_2, ..ASKED });
    trace.routed(&Choice::TagHost("blue".into()));
    let met = Met { ready: 0, starting: 1, waiting: 7 };
    let start = ColdStart {
        ended: ms(1_099),
        spawn: Duration::from_millis(150),
        ready: Duration::from_millis(50),
    };
    trace.waited(ms(1_001), ms(1_100), &met, Some(start));
    let first = trace.attempt(ms(1_100), "[::1]:9000".parse().unwrap());
    let error = crate::upstream::SendError {
        reason: Reason::UpstreamBroke,
        sent: Sent::Unanswered,
        message: "connection closed".to_owned(),
    };
    trace.failed(ms(1_200), &error);
    let second = trace.attempt(ms(1_300), "[::1]:9001".parse().unwrap());
    assert_ne!(first.span, second.span);
    assert_eq!(first.trace, second.trace);
    trace.answered(ms(1_400), 503);
    check(
        trace,
        Ending { status: Some(503), ..Ending::default() },
        &expect![[r#"
        HTTP Server 10000-10500 http.request.method=_OTHER http.request.method_original=BREW url.path=/a/b url.scheme=http server.address=hello.example server.port=8080 network.protocol.version=2 client.address=127.0.0.1 user_agent.original=curl/8 http.response.status_code=503 http.response.body.size=0 error.type=503 ERROR ""
          route Internal 10000-10001 tidegate.route.by=tag_host tidegate.route.tag=blue
          queue Internal 10001-10100 tidegate.queue.waiting=7 tidegate.replicas.ready=0 tidegate.replicas.starting=1
          cold start Internal 9899-10099
            spawn Internal 9899-10049
            ready Internal 10049-10099
          upstream Client 10100-10200 http.request.method=_OTHER server.address=::1 server.port=9000 error.type=upstream_broke ERROR "connection closed"
          upstream Client 10300-10500 http.request.method=_OTHER server.address=::1 server.port=9001 http.request.resend_count=1 http.response.status_code=503 error.type=503 [response.head 10400] ERROR ""
    "#]],
    );
}

#[test]
fn a_start_that_was_over_is_not_waited_for() {
    let worker = worker();
    let start = ColdStart { ended: ms(900), spawn: Duration::ZERO, ready: Duration::ZERO };
    let met = Met { ready: 0, starting: 0, waiting: 0 };
    for (met, start) in [
        (met, Some(start)),
        (met, None),
        (met, Some(ColdStart { ended: ms(1_101), ..start })),
        (Met { ready: 1, ..met }, Some(ColdStart { ended: ms(1_050), ..start })),
    ] {
        let mut trace = trace(&worker, &ASKED);
        trace.waited(ms(1_001), ms(1_100), &met, start);
        let names: Vec<_> = trace.spans.iter().map(|span| span.name.to_string()).collect();
        assert_eq!(names, ["queue"], "{met:?} {start:?}");
    }
}

#[test]
fn what_fails_and_whose_failure_it_is() {
    let worker = worker();
    let call = |code: &'static str| {
        let mut trailers = http::HeaderMap::new();
        trailers.insert(grpc::STATUS, http::HeaderValue::from_static(code));
        Some(grpc::Status::of(&trailers))
    };
    let error = |status: Option<u16>, grpc: Option<grpc::Status>, reason: Option<Reason>| {
        let mut trace = trace(&worker, &ASKED);
        trace.attempt(ms(1_002), "127.0.0.1:9000".parse().unwrap());
        let ending = Ending { status, grpc, reason, bytes: 0 };
        let recorded = trace.recorded(ms(1_500), ending, None);
        let server = recorded.spans.last().unwrap();
        let kind = server.attributes.iter().find(|(name, _)| *name == "error.type");
        assert_eq!(kind.is_some(), server.error.is_some());
        kind.map(|(_, value)| match value {
            Value::Text(text) => text.to_string(),
            Value::Number(number) => number.to_string(),
        })
    };
    for (status, grpc, reason, expected) in [
        (Some(200), None, None, None),
        (Some(404), None, None, None),
        (Some(500), None, None, Some("500")),
        (None, None, None, None),
        (Some(200), call("0"), None, None),
        (Some(200), call("5"), None, None),
        (Some(200), call("14"), None, Some("UNAVAILABLE")),
        (Some(404), None, Some(Reason::NoRoute), None),
        (Some(503), None, Some(Reason::QueueFull), Some("queue_full")),
        (Some(200), None, Some(Reason::UpstreamBroke), Some("upstream_broke")),
    ] {
        let found = error(status, grpc, reason);
        assert_eq!(found.as_deref(), expected, "{status:?} {grpc:?} {reason:?}");
    }
}
