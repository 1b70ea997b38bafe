//! TLS and a token on the admin listener, and `tidegate status` as its client.

use std::path::Path;
use std::process::Output;

use crate::client::{Answer, empty, get, h1, request, send1};
use crate::https::{Authority, der, serial};
use crate::serving::{Service, Tidegate, file, tidegate};

fn serve(arguments: &[&str]) -> Tidegate {
    Tidegate::with(&file(&[Service::new("a")]), arguments)
}

fn written(authority: &Authority, name: &str, text: &str) -> String {
    let path = authority.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn status(of: &Tidegate, arguments: &[&str]) -> Output {
    let mut command = tidegate();
    command.args(["status", "--admin", &of.admin.to_string()]).args(arguments);
    command.output().unwrap()
}

/// What `status` says when it fails.
fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn with_token(of: &Tidegate, path: &str, token: &str) -> Answer {
    let asked =
        request("GET", "localhost", path).header("authorization", format!("Bearer {token}"));
    send1(&mut h1(of.admin).await, asked.body(empty()).unwrap()).await
}

#[tokio::test]
async fn all_but_health_needs_the_token() {
    let authority = Authority::new();
    let token = written(&authority, "token", "s3cret\n");
    let running = serve(&["--admin-token-file", &token]);
    for (path, without) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 401),
        ("/api/v1/services", 401),
        ("/", 401),
        ("/x", 401),
    ] {
        let answer = get(running.admin, "localhost", path).await;
        assert_eq!(answer.status, without, "{path}");
        if without == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"tidegate\""));
        }
        let answer = with_token(&running, path, "s3cret").await;
        assert_eq!(answer.status, if path == "/x" { 404 } else { 200 }, "{path}");
        let answer = with_token(&running, path, "s3cre7").await;
        assert_eq!(answer.status, without, "{path}");
    }
    let output = status(&running, &["--admin-token-file", &token]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("default/a"), "{output:?}");
    let said = complaint(&status(&running, &[]));
    assert!(said.contains("needs the token") && said.contains("--admin-token-file"), "{said}");
    assert!(!running.log().contains("s3cret"));

    // Renewed in place, the new one counts.
    written(&authority, "token", "another");
    running.logged("the admin token has changed").await;
    assert_eq!(with_token(&running, "/metrics", "another").await.status, 200);
    assert_eq!(with_token(&running, "/metrics", "s3cret").await.status, 401);
}

#[tokio::test]
async fn the_token_may_come_by_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("a.yaml");
    std::fs::write(&manifest, file(&[Service::new("a")])).unwrap();
    let mut command = tidegate();
    command.arg("serve").arg("-f").arg(&manifest).args(["--state-dir", "none"]);
    command.args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.env("TIDEGATE_ADMIN_TOKEN", "fr0m-env");
    let running = Tidegate::spawned(command);
    assert_eq!(get(running.admin, "localhost", "/metrics").await.status, 401);
    assert_eq!(with_token(&running, "/metrics", "fr0m-env").await.status, 200);
}

#[tokio::test]
async fn the_admin_listener_speaks_tls() {
    let authority = Authority::new();
    let pair = authority.issue("admin", &["127.0.0.1", "localhost"]);
    let running =
        serve(&["--admin-tls-cert", text(&pair.cert), "--admin-tls-key", text(&pair.key)]);
    let client = authority.client(&["http/1.1"]);
    let mut tls = client.h1(running.admin, "localhost").await;
    let metrics =
        send1(&mut tls, request("GET", "localhost", "/metrics").body(empty()).unwrap()).await;
    assert_eq!(metrics.status, 200);
    let handshakes = "tidegate_tls_handshakes_total{listener=\"admin\",result=\"full\"} 1\n";
    assert!(metrics.text().contains(handshakes), "{}", metrics.text());
    let origin = request("GET", "localhost", "/metrics").header("origin", "https://localhost");
    assert_eq!(send1(&mut tls, origin.body(empty()).unwrap()).await.status, 200);
    let origin = request("GET", "localhost", "/metrics").header("origin", "http://localhost");
    assert_eq!(send1(&mut tls, origin.body(empty()).unwrap()).await.status, 403);
    let plain = get(running.admin, "localhost", "/livez").await;
    assert_eq!(plain.status, 400);
    assert!(plain.text().contains("this port speaks TLS"), "{plain:?}");

    // By its authority, by the certificate itself, and not by another.
    let other = Authority::new();
    let ca = |file: &Path| status(&running, &["--admin-ca", text(file)]);
    for file in [authority.ca(), pair.cert.clone()] {
        let output = ca(&file);
        assert!(String::from_utf8_lossy(&output.stdout).contains("default/a"), "{output:?}");
    }
    let said = complaint(&ca(&other.ca()));
    assert!(said.contains("invalid peer certificate"), "{said}");
    let said = complaint(&status(&running, &[]));
    assert!(said.contains("this port speaks TLS") && said.contains("--admin-ca"), "{said}");
    let said = complaint(&ca(&authority.path("gone")));
    assert!(said.contains("--admin-ca"), "{said}");

    // Renewed files are taken up here too.
    let renewed = authority.issue("admin", &["localhost"]);
    let wanted = der(&renewed.cert);
    for _ in 0..200 {
        if serial(&client.connect(running.admin, "localhost").await) == wanted {
            let ca_file = authority.ca();
            let named = ["--admin-ca", text(&ca_file), "--admin-name", "localhost"];
            assert!(status(&running, &named).status.success());
            let said = complaint(&ca(&authority.ca()));
            assert!(said.contains("--admin-name"), "{said}");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("not taken up");
}

#[tokio::test]
async fn a_silent_client_takes_no_place_for_ever_and_the_end_comes_at_once() {
    let authority = Authority::new();
    let pair = authority.issue("admin", &["127.0.0.1"]);
    let mut running =
        serve(&["--admin-tls-cert", text(&pair.cert), "--admin-tls-key", text(&pair.key)]);
    let _silent = tokio::net::TcpStream::connect(running.admin).await.unwrap();
    running.terminate();
    assert!(running.ended().await.success());
}
