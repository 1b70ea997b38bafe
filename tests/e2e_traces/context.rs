//! The trace context of a request: followed, passed on, begun.

use http::Request;

use crate::client::{Answer, Body, empty, h1, h2, request, request2, send1, send2};
use crate::collector::{Collector, Protocol, hex};
use crate::serving::{Service, Tidegate, file, host};

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// What carries a request.
#[derive(Clone, Copy, Debug)]
enum Way {
    Direct,
    /// HTTP/1.1 read by hyper.
    Carried,
    Http2,
}

const WAYS: [Way; 3] = [Way::Direct, Way::Carried, Way::Http2];

impl Way {
    /// Asks a service for the headers that its replica sees.
    async fn ask(self, tidegate: &Tidegate, path: &str, headers: &[(&str, &str)]) -> Answer {
        let path = format!("/headers?of={path}");
        let build = |mut asked: http::request::Builder| -> Request<Body> {
            for (name, value) in headers {
                asked = asked.header(*name, *value);
            }
            asked.body(empty()).unwrap()
        };
        let answer = match self {
            Self::Http2 => {
                let asked = build(request2("GET", &host("a"), &path));
                send2(&mut h2(tidegate.address()).await, asked).await
            }
            Self::Direct => {
                let asked = build(request("GET", &host("a"), &path));
                send1(&mut h1(tidegate.address()).await, asked).await
            }
            Self::Carried => {
                let asked = build(request("GET", &host("a"), &path).header("te", "trailers"));
                send1(&mut h1(tidegate.address()).await, asked).await
            }
        };
        assert_eq!(answer.status, 200, "{self:?}");
        answer
    }
}

/// The values of a header as the replica saw it.
fn seen(answer: &Answer, name: &str) -> Vec<String> {
    let json = answer.json();
    let headers = json["headers"].as_array().unwrap();
    let values = headers.iter().filter(|h| h[0] == name).map(|h| h[1].as_str().unwrap().to_owned());
    values.collect()
}

#[tokio::test]
async fn a_sampled_caller_is_followed_at_any_rate() {
    let collector = Collector::start(Protocol::Grpc).await;
    let manifests = file(&[Service::new("a")]) + &collector.config("0");
    let tidegate = Tidegate::with(&manifests, &["--workers", "1"]);
    for (number, way) in WAYS.into_iter().enumerate() {
        let before = collector.exports().len();
        let given =
            [("traceparent", SAMPLED), ("tracestate", "vendor=1"), ("baggage", "user=alice")];
        let answer = way.ask(&tidegate, "x", &given).await;
        // All three ask for the same path: each is waited for before the next.
        crate::serving::until("its spans", || collector.exports().len() > before).await;
        let export = collector.exports().pop().unwrap();
        let find = |name: &str| export.spans().find(|span| span.name == name).unwrap().clone();
        let (own, upstream) = (find("GET"), find("upstream"));
        assert_eq!(hex(&own.trace_id), "0af7651916cd43dd8448eb211c80319c", "{way:?}");
        assert_eq!(hex(&own.parent_span_id), "b7ad6b7169203331");
        assert_eq!(own.trace_state, "vendor=1");
        // Sampled, and its parent is known to be elsewhere.
        assert_eq!(own.flags, 0x301);
        assert_eq!(upstream.flags, 0x101);
        assert_eq!(upstream.parent_span_id, own.span_id);
        let told = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", hex(&upstream.span_id));
        assert_eq!(seen(&answer, "traceparent"), [told], "{way:?}");
        assert_eq!(seen(&answer, "tracestate"), ["vendor=1"]);
        assert_eq!(seen(&answer, "baggage"), ["user=alice"]);
        assert_eq!(collector.exports().len(), number + 1);
    }
}

#[tokio::test]
async fn what_is_not_recorded_says_so_to_the_replica() {
    let collector = Collector::start(Protocol::Grpc).await;
    let manifests = file(&[Service::new("a")]) + &collector.config("0");
    let mut tidegate = Tidegate::serve(&manifests);
    for way in WAYS {
        let given = [("traceparent", UNSAMPLED), ("tracestate", "vendor=1")];
        let answer = way.ask(&tidegate, "unsampled", &given).await;
        assert_eq!(seen(&answer, "traceparent"), [UNSAMPLED], "{way:?}: as it came");
        assert_eq!(seen(&answer, "tracestate"), ["vendor=1"]);

        let answer = way.ask(&tidegate, "begun", &[]).await;
        let [begun] = &seen(&answer, "traceparent")[..] else { panic!("{way:?}: {answer:?}") };
        assert!(begun.starts_with("00-") && begun.ends_with("-00") && begun.len() == 55, "{begun}");

        // One that cannot be read counts as none, and what was said of its trace goes with it.
        let twice = [("traceparent", SAMPLED), ("traceparent", UNSAMPLED), ("tracestate", "v=1")];
        for given in [&twice[..], &[("traceparent", "00-zz"), ("tracestate", "v=1")]] {
            let answer = way.ask(&tidegate, "malformed", given).await;
            let [begun] = &seen(&answer, "traceparent")[..] else { panic!("{way:?}: {answer:?}") };
            assert!(begun.ends_with("-00") && !begun.contains("0af7"), "{begun}");
            assert_eq!(seen(&answer, "tracestate"), [""; 0]);
        }
    }
    // What was recorded would have been sent by then.
    tidegate.terminate();
    assert!(tidegate.ended().await.success());
    assert!(collector.exports().is_empty());
}

#[tokio::test]
async fn off_nothing_is_touched() {
    let tidegate = Tidegate::serve(&file(&[Service::new("a")]));
    for way in WAYS {
        assert_eq!(seen(&way.ask(&tidegate, "x", &[]).await, "traceparent"), [""; 0], "{way:?}");
        for given in [SAMPLED, "garbage"] {
            let headers = [("traceparent", given), ("tracestate", "v=1")];
            let answer = way.ask(&tidegate, "x", &headers).await;
            assert_eq!(seen(&answer, "traceparent"), [given], "{way:?}");
            assert_eq!(seen(&answer, "tracestate"), ["v=1"]);
        }
    }
}
