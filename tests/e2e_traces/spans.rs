//! The trees of spans, whatever carries the request and whatever becomes of it.

use std::time::{SystemTime, UNIX_EPOCH};

use expect_test::{Expect, expect};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use crate::backend::{Backend, head};
use crate::client::{
    H2, call, empty, full, get, h1, h2, message, request, request2, send1, send2, soon,
};
use crate::collector::{Collector, Protocol, Trace, text};
use crate::serving::{Service, Tidegate, file, host};

async fn get2(connection: &mut H2, name: &str, path: &str) -> u16 {
    send2(connection, request2("GET", &host(name), path).body(empty()).unwrap()).await.status
}

/// A cold start's phases are one after the other, and the request got its place after them.
fn assert_cold_start(trace: &Trace) {
    let [cold, spawn, ready, queue] =
        ["cold start", "spawn", "ready", "queue"].map(|name| trace.span(name));
    assert_eq!(spawn.start_time_unix_nano, cold.start_time_unix_nano);
    assert_eq!(spawn.end_time_unix_nano, ready.start_time_unix_nano);
    assert_eq!(ready.end_time_unix_nano, cold.end_time_unix_nano);
    assert!(cold.end_time_unix_nano <= queue.end_time_unix_nano, "{trace:?}");
    assert!(queue.start_time_unix_nano <= cold.end_time_unix_nano, "{trace:?}");
}

async fn check(collector: &Collector, path: &str, expected: &Expect) -> Trace {
    let trace = collector.trace(path).await;
    expected.assert_eq(&trace.shown());
    trace
}

#[tokio::test]
async fn cold_and_warm_requests_on_both_paths() {
    for protocol in Protocol::ALL {
        let collector = Collector::start(protocol).await;
        let services = [Service::new("a"), Service::new("b")];
        let manifests = file(&services) + &collector.config("1");
        let tidegate = Tidegate::with(&manifests, &["--workers", "1"]);
        let (at, mut shared) = (tidegate.address(), h2(tidegate.address()).await);
        // Plain HTTP/1.1 takes the direct path.
        assert_eq!(get(at, &host("a"), "/whoami").await.status, 200);
        assert_eq!(get(at, &host("a"), "/headers").await.status, 200);
        // HTTP/2 is carried by hyper.
        assert_eq!(get2(&mut shared, "b", "/size").await, 200);
        assert_eq!(get2(&mut shared, "b", "/delay?ms=0").await, 200);
        let cold = check(&collector, "/whoami", &expect![[r#"
            GET (server) http.request.method=GET url.path=/whoami url.scheme=http server.address=a.default.localhost network.protocol.version=1.1 http.response.status_code=200 k8s.namespace.name=default kn.revision.name=a-00001 kn.configuration.name=a kn.service.name=a
              route tidegate.route.by=share tidegate.route.percent=100
              queue tidegate.queue.waiting=0 tidegate.replicas.ready=0 tidegate.replicas.starting=0
              cold start
                spawn
                ready
              upstream (client) http.request.method=GET server.address=127.0.0.1 http.response.status_code=200 [response.head]
                connect
        "#]]).await;
        assert_cold_start(&cold);
        check(&collector, "/headers", &expect![[r#"
            GET (server) http.request.method=GET url.path=/headers url.scheme=http server.address=a.default.localhost network.protocol.version=1.1 http.response.status_code=200 k8s.namespace.name=default kn.revision.name=a-00001 kn.configuration.name=a kn.service.name=a
              route tidegate.route.by=share tidegate.route.percent=100
              upstream (client) http.request.method=GET server.address=127.0.0.1 http.response.status_code=200 [response.head]
        "#]]).await;
        let cold = check(&collector, "/size", &expect![[r#"
            GET (server) http.request.method=GET url.path=/size url.scheme=http server.address=b.default.localhost network.protocol.version=2 http.response.status_code=200 k8s.namespace.name=default kn.revision.name=b-00001 kn.configuration.name=b kn.service.name=b
              route tidegate.route.by=share tidegate.route.percent=100
              queue tidegate.queue.waiting=0 tidegate.replicas.ready=0 tidegate.replicas.starting=0
              cold start
                spawn
                ready
              upstream (client) http.request.method=GET server.address=127.0.0.1 http.response.status_code=200 [response.head]
                connect
        "#]]).await;
        assert_cold_start(&cold);
        check(&collector, "/delay", &expect![[r#"
            GET (server) http.request.method=GET url.path=/delay url.scheme=http server.address=b.default.localhost network.protocol.version=2 http.response.status_code=200 k8s.namespace.name=default kn.revision.name=b-00001 kn.configuration.name=b kn.service.name=b
              route tidegate.route.by=share tidegate.route.percent=100
              upstream (client) http.request.method=GET server.address=127.0.0.1 http.response.status_code=200 [response.head]
        "#]]).await;
    }
}

#[tokio::test]
async fn calls_end_with_a_status() {
    let collector = Collector::start(Protocol::Grpc).await;
    let tidegate = Tidegate::with(
        &(file(&[Service::new("a").h2c()]) + &collector.config("1")),
        &["--workers", "1"],
    );
    let mut connection = h2(tidegate.address()).await;
    assert_eq!(get2(&mut connection, "a", "/size").await, 200);
    let mut ask = async |path: &str, status: &str| {
        let call = call(&host("a"), path).header("x-grpc-status", status);
        let answer = send2(&mut connection, call.body(full(message(b"hi"))).unwrap()).await;
        answer.grpc_status().map(str::to_owned)
    };
    // Not there: the replica's fault; of no such caller: the caller's. The first without a body.
    assert_eq!(ask("/none", "0").await.as_deref(), Some("12"));
    assert_eq!(ask("/tidegate.Echo/Unary", "16").await.as_deref(), Some("16"));
    assert_eq!(ask("/tidegate.Echo/ClientStream", "14").await.as_deref(), Some("14"));
    check(&collector, "/none", &expect![[r#"
        POST (server) http.request.method=POST url.path=/none url.scheme=http server.address=a.default.localhost network.protocol.version=2 http.response.status_code=200 rpc.grpc.status_code=12 k8s.namespace.name=default kn.revision.name=a-00001 kn.configuration.name=a kn.service.name=a error.type=UNIMPLEMENTED Error
          route tidegate.route.by=share tidegate.route.percent=100
          upstream (client) http.request.method=POST server.address=127.0.0.1 http.response.status_code=200 rpc.grpc.status_code=12 error.type=UNIMPLEMENTED [response.head] Error
    "#]]).await;
    check(&collector, "/tidegate.Echo/Unary", &expect![[r#"
        POST (server) http.request.method=POST url.path=/tidegate.Echo/Unary url.scheme=http server.address=a.default.localhost network.protocol.version=2 http.response.status_code=200 rpc.grpc.status_code=16 k8s.namespace.name=default kn.revision.name=a-00001 kn.configuration.name=a kn.service.name=a
          route tidegate.route.by=share tidegate.route.percent=100
          upstream (client) http.request.method=POST server.address=127.0.0.1 http.response.status_code=200 rpc.grpc.status_code=16 [response.head]
    "#]]).await;
    check(&collector, "/tidegate.Echo/ClientStream", &expect![[r#"
        POST (server) http.request.method=POST url.path=/tidegate.Echo/ClientStream url.scheme=http server.address=a.default.localhost network.protocol.version=2 http.response.status_code=200 rpc.grpc.status_code=14 k8s.namespace.name=default kn.revision.name=a-00001 kn.configuration.name=a kn.service.name=a error.type=UNAVAILABLE Error
          route tidegate.route.by=share tidegate.route.percent=100
          upstream (client) http.request.method=POST server.address=127.0.0.1 http.response.status_code=200 rpc.grpc.status_code=14 error.type=UNAVAILABLE [response.head] Error
    "#]]).await;
}

#[tokio::test]
async fn who_was_refused_and_why() {
    let collector = Collector::start(Protocol::Grpc).await;
    let services = [
        Service::new("none").command(""),
        Service::new("fails").command(r#"["false"]"#),
        Service::new("asleep").annotation("tidegate.dev/no-wake", "GET"),
    ];
    let tidegate = Tidegate::serve(&(file(&services) + &collector.config("1")));
    let at = tidegate.address();
    for (name, status) in [("none", 503), ("fails", 503), ("asleep", 503), ("nobody", 404)] {
        assert_eq!(get(at, &host(name), &format!("/{name}")).await.status, status, "{name}");
    }
    check(&collector, "/none", &expect![[r#"
        GET (server) http.request.method=GET url.path=/none url.scheme=http server.address=none.default.localhost network.protocol.version=1.1 http.response.status_code=503 tidegate.reason=no_local_command k8s.namespace.name=default kn.revision.name=none-00001 kn.configuration.name=none kn.service.name=none error.type=no_local_command Error
          route tidegate.route.by=share tidegate.route.percent=100
    "#]]).await;
    check(&collector, "/fails", &expect![[r#"
        GET (server) http.request.method=GET url.path=/fails url.scheme=http server.address=fails.default.localhost network.protocol.version=1.1 http.response.status_code=503 tidegate.reason=start_failed k8s.namespace.name=default kn.revision.name=fails-00001 kn.configuration.name=fails kn.service.name=fails error.type=start_failed Error
          route tidegate.route.by=share tidegate.route.percent=100
          queue tidegate.queue.waiting=0 tidegate.replicas.ready=0 tidegate.replicas.starting=0
    "#]]).await;
    check(&collector, "/asleep", &expect![[r#"
        GET (server) http.request.method=GET url.path=/asleep url.scheme=http server.address=asleep.default.localhost network.protocol.version=1.1 http.response.status_code=503 tidegate.reason=asleep k8s.namespace.name=default kn.revision.name=asleep-00001 kn.configuration.name=asleep kn.service.name=asleep error.type=asleep Error
          route tidegate.route.by=share tidegate.route.percent=100
    "#]]).await;
    check(&collector, "/nobody", &expect![[r#"
        GET (server) http.request.method=GET url.path=/nobody url.scheme=http server.address=nobody.default.localhost network.protocol.version=1.1 http.response.status_code=404 tidegate.reason=no_route
    "#]]).await;
}

/// Closes without a word on its first connection, answers on the next ones with what it was asked.
async fn shy() -> Backend {
    Backend::start(|number, mut stream| async move {
        while let Some(head) = head(&mut stream).await {
            if number == 0 {
                return;
            }
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn each_attempt_is_a_span_and_the_replica_knows_which() {
    let collector = Collector::start(Protocol::Http).await;
    let (direct, carried) = (shy().await, shy().await);
    let services =
        [Service::new("direct").at(direct.address), Service::new("carried").at(carried.address)];
    let tidegate = Tidegate::serve(&(file(&services) + &collector.config("1")));
    let at = tidegate.address();
    for (name, te) in [("direct", None), ("carried", Some("trailers"))] {
        let mut asked = request("GET", &host(name), &format!("/{name}"));
        // hyper carries what has more to say.
        asked = if let Some(te) = te { asked.header("te", te) } else { asked };
        let answer = send1(&mut h1(at).await, asked.body(empty()).unwrap()).await;
        assert_eq!(answer.status, 200);
        let trace = collector.trace(&format!("/{name}")).await;
        let attempts: Vec<_> = trace.spans.iter().filter(|s| s.name == "upstream").collect();
        let [first, second] = attempts[..] else { panic!("{}", trace.shown()) };
        assert_eq!(text(&first.attributes, "error.type").as_deref(), Some("upstream_broke"));
        assert_eq!(text(&second.attributes, "http.request.resend_count").as_deref(), Some("1"));
        let told = format!(
            "traceparent: 00-{}-{}-01\r\n",
            crate::collector::hex(&second.trace_id),
            crate::collector::hex(&second.span_id)
        );
        assert!(answer.text().contains(&told), "{told} in {}", answer.text());
        assert_eq!(answer.text().matches("traceparent").count(), 1);
    }
}

#[tokio::test]
async fn nobody_there_and_broken_off() {
    let collector = Collector::start(Protocol::Grpc).await;
    let (_kept, nobody) = crate::collector::nobody();
    let cut = Backend::start(|_, mut stream| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
    })
    .await;
    let services = [Service::new("nobody").at(nobody), Service::new("cut").at(cut.address)];
    let tidegate = Tidegate::serve(&(file(&services) + &collector.config("1")));
    assert_eq!(get(tidegate.address(), &host("nobody"), "/nobody").await.status, 502);
    let mut client = h1(tidegate.address()).await;
    let cut = request("GET", &host("cut"), "/cut").body(empty()).unwrap();
    let answer = soon(client.send_request(cut)).await.unwrap();
    assert_eq!(answer.status(), 200);
    http_body_util::BodyExt::collect(answer.into_body()).await.unwrap_err();
    let trace = collector.trace("/nobody").await;
    assert!(trace.spans.iter().filter(|span| span.name == "upstream").all(|span| {
        text(&span.attributes, "error.type").as_deref() == Some("upstream_connect")
    }));
    check(&collector, "/cut", &expect![[r#"
        GET (server) http.request.method=GET url.path=/cut url.scheme=http server.address=cut.default.localhost network.protocol.version=1.1 http.response.status_code=200 tidegate.reason=upstream_broke k8s.namespace.name=default kn.revision.name=cut-00001 kn.configuration.name=cut kn.service.name=cut error.type=upstream_broke Error
          route tidegate.route.by=share tidegate.route.percent=100
          upstream (client) http.request.method=GET server.address=127.0.0.1 http.response.status_code=200 error.type=upstream_broke [response.head] Error
            connect
    "#]]).await;
}

#[tokio::test]
async fn a_span_ends_with_the_response() {
    let collector = Collector::start(Protocol::Grpc).await;
    let (go_on, told) = watch::channel(false);
    let slow = Backend::start(move |_, mut stream| {
        let mut told = told.clone();
        async move {
            while head(&mut stream).await.is_some() {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                told.wait_for(|told| *told).await.unwrap();
                stream.write_all(b"done").await.unwrap();
            }
        }
    })
    .await;
    let service = Service::new("slow").at(slow.address);
    let tidegate = Tidegate::serve(&(service.yaml() + &collector.config("1")));
    let (at, mut shared) = (tidegate.address(), h2(tidegate.address()).await);
    let mut direct = h1(at).await;
    let plain = request("GET", &host("slow"), "/direct").body(empty()).unwrap();
    let plain = soon(direct.send_request(plain)).await.unwrap();
    let carried = request2("GET", &host("slow"), "/carried").body(empty()).unwrap();
    let carried = soon(shared.send_request(carried)).await.unwrap();
    let headed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    go_on.send_replace(true);
    for response in [plain, carried] {
        let body = soon(http_body_util::BodyExt::collect(response.into_body())).await.unwrap();
        assert_eq!(body.to_bytes(), "done");
    }
    for path in ["/direct", "/carried"] {
        let trace = collector.trace(path).await;
        for span in [trace.own(), trace.span("upstream")] {
            assert!(u128::from(span.end_time_unix_nano) >= headed, "{path}: {span:?}");
        }
        let event = &trace.span("upstream").events[0];
        assert!(u128::from(event.time_unix_nano) <= headed, "{path}: {event:?}");
    }
}

#[tokio::test]
async fn an_upgraded_connection_is_one_request() {
    let collector = Collector::start(Protocol::Grpc).await;
    let tidegate = Tidegate::serve(&(Service::new("a").yaml() + &collector.config("1")));
    let mut stream = tokio::net::TcpStream::connect(tidegate.address()).await.unwrap();
    let asked = "GET /ws HTTP/1.1\r\nHost: a.default.localhost\r\nConnection: upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.unwrap();
    let answer = crate::client::read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let switched = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    drop(stream);
    let trace = collector.trace("/ws").await;
    assert_eq!(text(&trace.own().attributes, "http.response.status_code").as_deref(), Some("101"));
    assert!(u128::from(trace.own().end_time_unix_nano) >= switched);
}

#[tokio::test]
async fn why_a_request_went_where_it_went() {
    let collector = Collector::start(Protocol::Http).await;
    let service = |release: &str, traffic: &str| {
        Service::new("a").env("RELEASE", release).traffic(traffic).yaml() + &features()
    };
    let first = service("one", "[{latestRevision: true, percent: 100}]");
    let tidegate = Tidegate::serve(&(first + &collector.config("1")));
    assert_eq!(get(tidegate.address(), &host("a"), "/whoami").await.status, 200);
    let second = service(
        "two",
        "[{revisionName: a-00001, percent: 100}, {latestRevision: true, percent: 0, tag: new}]",
    );
    tidegate.write(&(second + &collector.config("1")));
    let tagged = host("new-a");
    let deadline = tokio::time::Instant::now() + crate::serving::SOON;
    while get(tidegate.address(), &tagged, "/help").await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "{tagged} is not served");
    }
    let by_header = request("GET", &host("a"), "/headers").header("knative-serving-tag", "new");
    let by_header = by_header.body(empty()).unwrap();
    assert_eq!(send1(&mut h1(tidegate.address()).await, by_header).await.status, 200);
    let routed = async |path: &str| {
        let trace = collector.trace(path).await;
        let revision = text(&trace.own().attributes, "kn.revision.name").unwrap();
        let shown = trace.shown();
        let line = shown.lines().find(|line| line.trim().starts_with("route")).unwrap();
        format!("{} -> {revision}", line.trim())
    };
    for (path, expected) in [
        ("/whoami", "route tidegate.route.by=share tidegate.route.percent=100 -> a-00001"),
        ("/headers", "route tidegate.route.by=tag_header tidegate.route.tag=new -> a-00002"),
    ] {
        assert_eq!(routed(path).await, expected, "{path}");
    }
    until_tagged(&collector).await;
}

/// Refused ones were before: the one that was served.
async fn until_tagged(collector: &Collector) {
    let tagged = || {
        collector.exports().iter().flat_map(|e| e.spans().cloned().collect::<Vec<_>>()).any(|s| {
            text(&s.attributes, "tidegate.route.by").as_deref() == Some("tag_host")
                && text(&s.attributes, "tidegate.route.tag").as_deref() == Some("new")
        })
    };
    crate::serving::until("the trace of /help", tagged).await;
}

/// Has tags in a header be looked at.
fn features() -> String {
    "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-features}\n\
     data: {tag-header-based-routing: Enabled}\n"
        .to_owned()
}
