//! The dashboard's files: who gets them, and what they may do.

use crate::client::{Answer, empty, get, h1, request, send1};
use crate::serving::{Service, Tidegate};

const FILES: [(&str, &str); 3] = [
    ("/dashboard", "text/html; charset=utf-8"),
    ("/dashboard/style.css", "text/css; charset=utf-8"),
    ("/dashboard/script.js", "text/javascript; charset=utf-8"),
];

async fn asked(tidegate: &Tidegate, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = request("GET", "localhost", path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send1(&mut h1(tidegate.admin).await, request.body(empty()).unwrap()).await
}

#[tokio::test]
async fn its_files_need_nothing_from_elsewhere() {
    let tidegate = Tidegate::serve(&Service::new("hello").yaml());
    for (path, kind) in FILES {
        let answer = get(tidegate.admin, "localhost", path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let policy = answer.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let text = answer.text().replace("http://www.w3.org/2000/svg", "");
        for word in ["http://", "https://", "//cdn", "innerHTML", "eval(", " style=", "onclick"] {
            assert!(!text.contains(word), "{path} has {word}");
        }
    }
    for path in ["/dashboard/", "/dashboard/index.html", "/dashboard/../livez"] {
        assert_eq!(get(tidegate.admin, "localhost", path).await.status, 404, "{path}");
    }
    assert_eq!(get(tidegate.admin, "evil.example", "/dashboard").await.status, 403);
}

#[tokio::test]
async fn a_browser_is_led_to_it_and_others_are_not() {
    let tidegate = Tidegate::serve(&Service::new("hello").yaml());
    let answer = asked(&tidegate, "/", &[("accept", "text/html,*/*;q=0.8")]).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/dashboard")));
    let answer = asked(&tidegate, "/", &[("accept", "*/*")]).await;
    assert!(answer.status == 200 && answer.text().starts_with("tidegate\n"), "{answer:?}");
}

#[tokio::test]
async fn with_a_token_only_its_empty_shell_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
    let arguments = ["--admin-token-file", file.to_str().unwrap()];
    let tidegate = Tidegate::with(&Service::new("hello").yaml(), &arguments);
    for (path, _) in FILES {
        let answer = asked(&tidegate, path, &[]).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text().contains("hello"), "{path}");
    }
    assert_eq!(asked(&tidegate, "/", &[("accept", "text/html")]).await.status, 303);
    for path in ["/", "/metrics", "/api/v1/services", "/dashboard/x", "/dashboard/script.js/"] {
        assert_eq!(asked(&tidegate, path, &[]).await.status, 401, "{path}");
    }
    let shown = [("authorization", "Bearer 0123456789abcdef0123456789abcdef")];
    assert_eq!(asked(&tidegate, "/api/v1/services", &shown).await.status, 200);
}

#[tokio::test]
async fn cold_starts_are_told_by_phase() {
    let tidegate = Tidegate::serve(&Service::new("hello").yaml());
    let path = "/api/v1/revisions/default/hello-00001";
    let before = get(tidegate.admin, "localhost", path).await.json();
    assert_eq!(before["cold_starts"]["count"], 0, "{before}");
    assert_eq!(get(tidegate.address(), "hello.default.localhost", "/").await.status, 200);
    let mut told = before;
    crate::client::soon(async {
        while told["cold_starts"]["count"] != 1 {
            told = get(tidegate.admin, "localhost", path).await.json();
        }
    })
    .await;
    let phases = told["cold_starts"]["phases"].as_array().unwrap();
    let names: Vec<_> = phases.iter().map(|phase| phase["phase"].as_str().unwrap()).collect();
    assert_eq!(names, ["spawn", "ready"]);
    let sum: f64 = phases.iter().map(|phase| phase["total_s"].as_f64().unwrap()).sum();
    let last = told["cold_starts"]["last_s"].as_f64().unwrap();
    assert!(sum > 0.0 && (sum - last).abs() < 0.002, "{told}");
}
