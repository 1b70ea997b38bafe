//! Help, exit codes, complaints.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Output;

use crate::serving::{Service, file, tidegate};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = tidegate().args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn manifest(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("manifest.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn help_teaches() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for word in ["Examples:", "tidegate -f hello.yaml", "validate", "status", "echo", "Exit codes"]
    {
        assert!(help.contains(word), "{word} is missing:\n{help}");
    }
    assert!(!help.contains("__guard"), "{help}");
    let (code, help, _) = run(&["serve", "--help"]);
    assert_eq!(code, Some(0));
    for option in [
        "--filename",
        "--http",
        "--admin",
        "--domain",
        "--default-service",
        "--run",
        "--state-dir",
        "--workers",
        "--max-replicas",
        "--drain-timeout",
        "--health-path",
        "--trusted-proxies",
        "--strict",
        "--log-format",
        "--access-log",
        "TIDEGATE_HTTP",
        "Examples:",
    ] {
        assert!(help.contains(option), "{option} is missing:\n{help}");
    }
    let (code, version, _) = run(&["--version"]);
    assert_eq!(code, Some(0));
    assert_eq!(version, format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_64() {
    for arguments in [
        &[][..],
        &["serve"],
        &["nonsense"],
        &["serve", "-f", "x", "--no-such-option"],
        &["serve", "-f", "x", "--http", "nowhere"],
        &["serve", "-f", "x", "--drain-timeout", "soon"],
        &["serve", "-f", "x", "--run", "hello"],
    ] {
        let (code, out, error) = run(arguments);
        assert_eq!(code, Some(64), "{arguments:?}\n{error}");
        assert!(out.is_empty() && !error.is_empty(), "{arguments:?}");
    }
}

#[test]
fn configuration_with_errors_is_78() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.yaml");
    let (code, _, error) = run(&["serve", "-f", missing.to_str().unwrap()]);
    assert_eq!(code, Some(78), "{error}");
    assert!(error.contains("missing.yaml"), "{error}");
    let bad = Service::new("a").spec("timeoutSeconds: -1").spec("containerConcurrency: -2");
    let path = manifest(&folder, &file(&[bad]));
    let served = run(&["serve", "-f", path.to_str().unwrap(), "--state-dir", "none"]);
    assert_eq!(served.0, Some(78), "{}", served.2);
    // Nobody listens: the line is not there.
    assert_eq!(served.1, "");
    let validated = run(&["validate", "-f", path.to_str().unwrap()]);
    assert_eq!(validated.0, Some(1));
    for text in [&served.2, &validated.1] {
        for part in [
            "manifest.yaml:",
            "spec.template.spec.timeoutSeconds",
            "spec.template.spec.containerConcurrency",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
    }
}

#[test]
fn validate_says_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = manifest(&folder, &file(&[Service::new("a"), Service::new("b")]));
    let (code, out, error) = run(&["validate", "-f", path.to_str().unwrap()]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.contains("2 services"), "{out}");
}

#[test]
fn a_taken_port_names_its_holder() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = manifest(&folder, &file(&[Service::new("a")]));
    let path = path.to_str().unwrap();
    for (flag, other) in [("--http", "--admin"), ("--admin", "--http")] {
        let arguments =
            ["serve", "-f", path, flag, &address, other, "127.0.0.1:0", "--state-dir", "none"];
        let (code, out, error) = run(&arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{error}");
        let pid = std::process::id().to_string();
        for part in [&address, &pid, "e2e_serve", flag] {
            assert!(error.contains(part), "{part} is missing: {error}");
        }
    }
}
