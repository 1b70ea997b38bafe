//! From nothing to the first answer.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{get, raw};
use crate::serving::{Service, Tidegate, file, host, until};

#[tokio::test]
async fn from_zero_to_an_answer() {
    let mut tidegate = Tidegate::serve(&file(&[Service::new("hello").env("TARGET", "Ada")]));
    let at = tidegate.address();
    assert!(at.port() > 0 && tidegate.admin.port() > 0);
    tidegate.logged(&format!("curl http://hello.default.localhost:{}/", at.port())).await;
    assert_eq!(tidegate.descendants().len(), 1, "no replica yet, only the guard");
    assert_eq!(get(tidegate.admin, "localhost", "/readyz").await.status, 200);
    let began = Instant::now();
    assert_eq!(get(at, &host("hello"), "/").await.text(), "Hello Ada!\n");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let who = get(at, &host("hello"), "/whoami").await.json();
    assert_eq!(who["service"], "hello");
    assert_eq!(who["configuration"], "hello");
    assert_eq!(who["revision"], "hello-00001");
    assert_eq!(
        tidegate.descendants(),
        [tidegate.descendants()[0], who["pid"].as_u64().unwrap() as u32]
    );
    let services = get(tidegate.admin, "localhost", "/api/v1/services").await.json();
    assert_eq!(services["services"][0]["name"], "hello");
    let metrics = get(tidegate.admin, "localhost", "/metrics").await;
    let line = metrics.text().lines().find(|l| l.starts_with("tidegate_requests_total{")).unwrap();
    assert!(line.contains("hello") && line.ends_with(" 2"), "{line}");
    tidegate.terminate();
    assert_eq!(tidegate.ended().await.code(), Some(0));
}

/// What a test suite of a service asks: fifty at once, with its host and without.
#[tokio::test]
async fn fifty_at_once() {
    let service = Service::new("hello-world");
    let tidegate = Tidegate::with(&file(&[service]), &["--domain", "example.com"]);
    let at = tidegate.address();
    let mut all = JoinSet::new();
    for number in 0..50 {
        all.spawn(async move {
            let host = match number % 3 {
                0 => "hello-world.default.example.com".to_owned(),
                1 => at.to_string(),
                _ => format!("localhost:{}", at.port()),
            };
            let answer = get(at, &host, "/").await;
            (answer.status, answer.text().to_owned())
        });
    }
    for (status, text) in all.join_all().await {
        assert_eq!((status, text.as_str()), (200, "Hello World!\n"));
    }
    let without = raw(at, "GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(without.ends_with("Hello World!\n"), "{without}");
}

#[tokio::test]
async fn a_default_service_answers_addresses() {
    let manifests =
        file(&[Service::new("a").env("TARGET", "a"), Service::new("b").env("TARGET", "b")]);
    let tidegate = Tidegate::with(&manifests, &["--default-service", "b"]);
    let at = tidegate.address();
    for host in ["127.0.0.1", "localhost", "[::1]:8080", "192.0.2.7:80"] {
        assert_eq!(get(at, host, "/").await.text(), "Hello b!\n", "{host}");
    }
    assert_eq!(get(at, "unknown.example", "/").await.status, 404);
}

#[tokio::test]
async fn settings_come_from_the_environment_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    std::fs::write(&path, file(&[Service::new("a").command("")])).unwrap();
    let mut child = crate::serving::tidegate()
        .env("TIDEGATE_FILENAME", &path)
        .env("TIDEGATE_HTTP", "127.0.0.1:0,[::1]:0")
        .env("TIDEGATE_ADMIN", "127.0.0.1:0")
        .env("TIDEGATE_STATE_DIR", "none")
        .env("TIDEGATE_DOMAIN", "test")
        .env("TIDEGATE_RUN", "a=tidegate echo")
        .arg("serve")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let addresses: Vec<std::net::SocketAddr> =
        line.split_whitespace().filter_map(|a| a.strip_prefix("http=")?.parse().ok()).collect();
    let answers = [
        get(addresses[0], "a.default.test", "/").await,
        get(addresses[1], "a.default.test", "/").await,
    ];
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(answers.iter().all(|a| a.text() == "Hello World!\n"), "{answers:?}");
}

#[tokio::test]
async fn a_program_that_cannot_serve_is_explained() {
    let manifests = file(&[
        Service::new("image").command(""),
        Service::new("missing").command(r#"["/no/such/program"]"#),
        Service::new("ends").command(r#"["sh", "-c", "echo out of luck >&2; exit 3"]"#),
        Service::new("config").container("envFrom: [{configMapRef: {name: nowhere}}]"),
        Service::new("fine"),
    ]);
    let tidegate = Tidegate::serve(&manifests);
    let at = tidegate.address();
    for (name, reason, says) in [
        ("image", "no_local_command", "--run"),
        ("missing", "start_failed", "/no/such/program"),
        ("ends", "start_failed", "out of luck"),
        ("config", "missing_config", "nowhere"),
    ] {
        let began = Instant::now();
        let answer = get(at, &host(name), "/").await;
        assert_eq!((answer.status, answer.reason()), (503, Some(reason)), "{name}: {answer:?}");
        assert!(answer.text().contains(says), "{name}: {}", answer.text());
        assert!(began.elapsed() < Duration::from_secs(3), "{name}: {:?}", began.elapsed());
    }
    assert_eq!(get(at, &host("fine"), "/").await.status, 200);
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_request() {
    let manifests = file(&[Service::new("a")]);
    let tidegate = Tidegate::with(&manifests, &["--access-log", "--log-format", "json"]);
    get(tidegate.address(), &host("a"), "/size?bytes=1000").await;
    until("the line", || tidegate.log().contains("requestMethod")).await;
    let log = tidegate.log();
    let line = log.lines().find(|line| line.contains("requestMethod")).unwrap();
    let outer: serde_json::Value = serde_json::from_str(line).unwrap();
    let text = outer.to_string();
    for part in ["/size?bytes=1000", "a-00001", "1000", "127.0.0.1"] {
        assert!(text.contains(part), "{part} is missing: {line}");
    }
}
