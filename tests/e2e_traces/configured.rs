//! What the configuration says, when it says it.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::client::get;
use crate::collector::{Collector, Protocol, config};
use crate::serving::{Service, Tidegate, file, host, tidegate};

#[tokio::test]
async fn traces_follow_the_file() {
    let (first, second) =
        (Collector::start(Protocol::Grpc).await, Collector::start(Protocol::Http).await);
    let services = file(&[Service::new("a")]);
    let tidegate = Tidegate::serve(&services);
    let at = tidegate.address();
    assert_eq!(get(at, &host("a"), "/healthz").await.status, 200);

    tidegate.write(&(services.clone() + &first.config("1")));
    tidegate.logged(&format!("traces go to a collector to={}", first.address)).await;
    assert_eq!(get(at, &host("a"), "/whoami").await.status, 200);
    first.trace("/whoami").await;

    tidegate.write(&(services.clone() + &second.config("1")));
    tidegate.logged(&format!("traces go to a collector to={}", second.address)).await;
    assert_eq!(get(at, &host("a"), "/headers").await.status, 200);
    second.trace("/headers").await;

    // What is malformed is not taken, and what was before stays.
    tidegate.write(&(services.clone() + &config("smoke", None, "1")));
    tidegate.logged("unsupported protocol").await;
    assert_eq!(get(at, &host("a"), "/size").await.status, 200);
    second.trace("/size").await;

    let taken = |collector: &Collector| collector.exports().len();
    let before = (taken(&first), taken(&second));
    tidegate.write(&(services + &config("none", None, "1")));
    tidegate.logged("traces are off").await;
    assert_eq!(get(at, &host("a"), "/help").await.status, 200);
    assert_eq!((taken(&first), taken(&second)), before);
    assert!(first.find("/healthz").is_none() && second.find("/help").is_none());
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_said_and_nothing_is_traced() {
    let services = file(&[Service::new("a")]);
    let broken = config("grpc", Some("http://no such host:x"), "1");
    let tidegate = Tidegate::serve(&(services + &broken));
    tidegate.logged("tracing-endpoint").await;
    assert_eq!(get(tidegate.address(), &host("a"), "/").await.status, 200);
}

#[tokio::test]
async fn the_environment_names_the_resource_and_its_headers() {
    let collector = Collector::start(Protocol::Http).await;
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("a.yaml");
    std::fs::write(&manifest, Service::new("a").yaml() + &collector.config("1")).unwrap();
    let mut command = tidegate();
    command
        .args(["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state-dir", "none"])
        .arg("-f")
        .arg(&manifest)
        .env("OTEL_SERVICE_NAME", "edge")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret");
    let tidegate = Tidegate::spawned(command);
    assert_eq!(get(tidegate.address(), &host("a"), "/whoami").await.status, 200);
    collector.trace("/whoami").await;
    let export = collector.exports().remove(0);
    assert_eq!(export.path, "/v1/traces");
    assert_eq!(export.headers["content-type"], "application/x-protobuf");
    assert_eq!(export.headers["authorization"], "Bearer secret");
    let resource = export.decoded.resource_spans[0].resource.clone().unwrap().attributes;
    let named = |key: &str| crate::collector::text(&resource, key);
    assert_eq!(named("service.name").as_deref(), Some("edge"));
    assert_eq!(named("deployment.environment").as_deref(), Some("test"));
    assert_eq!(named("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert!(named("service.instance.id").is_some());
}

#[tokio::test]
async fn without_a_collector_spans_are_lines() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("a.yaml");
    std::fs::write(&manifest, Service::new("a").yaml() + &config("stdout", None, "0")).unwrap();
    let mut child = tidegate()
        .args(["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state-dir", "none"])
        .arg("-f")
        .arg(&manifest)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    let http = first.split(' ').find_map(|word| word.strip_prefix("http=")).unwrap();
    let at = http.parse().unwrap();
    assert_eq!(get(at, &host("a"), "/whoami").await.status, 200);
    let spans = tokio::task::spawn_blocking(move || {
        let spans = lines.map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap());
        let mut seen = Vec::new();
        for span in spans {
            let is_own = span["kind"] == "SERVER";
            seen.push(span);
            if is_own {
                break;
            }
        }
        seen
    });
    let spans = crate::client::soon(spans).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let own = spans.last().unwrap();
    assert_eq!(own["attributes"]["url.path"], "/whoami");
    assert_eq!(own["attributes"]["http.response.status_code"], 200);
    assert_eq!(own["resource"]["service.name"], "tidegate");
    let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"route") && names.contains(&"cold start"), "{names:?}");
    assert!(spans.iter().all(|span| span["traceId"] == own["traceId"]));
}
