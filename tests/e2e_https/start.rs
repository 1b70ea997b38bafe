//! What is said at the start, and what stops it.

use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::https::{Authority, Pair};
use crate::serving::{Service, Tidegate, file, tidegate};

/// Runs a start that fails: its exit code and what it said last.
fn fails(arguments: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("a.yaml");
    std::fs::write(&manifest, file(&[Service::new("a")])).unwrap();
    let mut command: Command = tidegate();
    command.arg("serve").arg("-f").arg(&manifest).args(["--state-dir", "none"]);
    command.args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(arguments);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), text)
}

#[test]
fn pairs_that_nobody_would_accept_are_named() {
    let authority = Authority::new();
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    let good = authority.issue("good", &["a.test"]);
    let other = authority.issue("other", &["a.test"]);
    let expired = authority.issue_valid("expired", &["a.test"], now - 2 * hour, now - hour);
    let early = authority.issue_valid("early", &["a.test"], now + hour, now + 2 * hour);
    let wrong = Pair { cert: good.cert, key: other.key };
    let gone = authority.files("gone");
    for (pair, said) in [
        (&expired, "expired.crt: expired on 20"),
        (&early, "early.crt: is not valid before 20"),
        (&wrong, "good.crt: does not match the key in "),
        (&gone, "gone.crt: cannot be read (No such file or directory (os error 2)); give the path"),
    ] {
        let arguments = [&["--https", "127.0.0.1:0"][..], &pair.arguments()].concat();
        let (code, text) = fails(&arguments);
        assert_eq!(code, 78, "{text}");
        assert!(text.contains(said), "{text}");
    }
    let both = [&["--https", "127.0.0.1:0"][..], &expired.arguments(), &gone.arguments()].concat();
    let (code, text) = fails(&both);
    assert_eq!(code, 78);
    assert!(text.contains("expired.crt") && text.contains("gone.crt"), "all at once: {text}");
}

#[test]
fn half_an_option_is_wrong_usage() {
    let (code, text) = fails(&["--https", "127.0.0.1:0"]);
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("add --tls-cert FILE --tls-key FILE"), "{text}");
}

#[tokio::test]
async fn addresses_and_urls_are_those_of_https() {
    let authority = Authority::new();
    let pair = authority.issue("a", &["a.default.localhost"]);
    let arguments = [&["--https", "127.0.0.1:0"][..], &pair.arguments()].concat();
    let tidegate = Tidegate::with(&file(&[Service::new("a")]), &arguments);
    let url = format!("https://a.default.localhost:{}", tidegate.https[0].port());
    tidegate.logged(&format!("curl {url}/")).await;
    tidegate.logged("certificate in use").await;
    let services = crate::client::get(tidegate.admin, "localhost", "/api/v1/services").await;
    assert_eq!(services.json()["services"][0]["url"], url.as_str());
}
