//! gRPC's interoperability cases between the Go reference implementation's own client and server,
//! with tidegate between them: <https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md>.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]
#![expect(clippy::print_stdout, reason = "how many cases passed is part of the result")]

#[path = "support/client.rs"]
mod client;
#[path = "support/https.rs"]
mod https;
#[path = "support/serving.rs"]
mod serving;
#[path = "support/tools.rs"]
mod tools;

use std::process::Stdio;

use https::Authority;
use serving::{SOON, Service, Tidegate, file, host};
use tools::tool;

/// All cases of the client but the seven that need an account in Google's cloud, and
/// `pick_first_unary`, for which this server does not say who it is.
const CASES: [&str; 18] = [
    "cancel_after_begin",
    "cancel_after_first_response",
    "channel_soak",
    "client_streaming",
    "custom_metadata",
    "empty_stream",
    "empty_unary",
    "large_unary",
    "orca_oob",
    "orca_per_rpc",
    "ping_pong",
    "rpc_soak",
    "server_streaming",
    "special_status_message",
    "status_code_and_message",
    "timeout_on_sleeping_server",
    "unimplemented_method",
    "unimplemented_service",
];

/// Cases whose client may have left before its call has begun to wait: nothing need start.
const LEAVING: [&str; 2] = ["cancel_after_begin", "timeout_on_sleeping_server"];

/// With it the client listens to load reports (gRFC A51).
const REPORTS: &str = r#"{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}"#;

/// The reference server as a service at zero.
fn service() -> Service {
    let server = tool("grpc-interop-server");
    let command = serde_json::json!([server.to_str().unwrap(), "--port=$(PORT)"]);
    Service::new("interop").h2c().command(&command.to_string())
}

/// How the client comes in.
enum Way {
    H2c,
    Tls(Box<Authority>),
}

impl Way {
    fn name(&self) -> &'static str {
        match self {
            Self::H2c => "h2c",
            Self::Tls(_) => "TLS",
        }
    }

    fn serve(&self, service: Service) -> Tidegate {
        let services = file(&[service]);
        match self {
            Self::H2c => Tidegate::serve(&services),
            Self::Tls(authority) => {
                let pair = authority.issue("interop", &[&host("interop")]);
                let mut arguments = vec!["--https", "127.0.0.1:0"];
                arguments.extend(pair.arguments());
                Tidegate::with(&services, &arguments)
            }
        }
    }

    /// The client's arguments. An address as host means the only service.
    fn arguments(&self, tidegate: &Tidegate) -> Vec<String> {
        let port = |at: std::net::SocketAddr| format!("--server_port={}", at.port());
        match self {
            Self::H2c => vec![port(tidegate.address())],
            Self::Tls(authority) => vec![
                port(tidegate.https[0]),
                "--use_tls".into(),
                "--use_test_ca".into(),
                format!("--ca_file={}", authority.ca().display()),
                format!("--server_host_override={}", host("interop")),
            ],
        }
    }
}

/// Runs a case; the client ends with 0 only if it saw all that it wanted to see.
async fn run(way: &Way, tidegate: &Tidegate, case: &str) {
    let mut client = tokio::process::Command::new(tool("grpc-interop-client"));
    client
        .arg(format!("--test_case={case}"))
        .args(["--server_host=127.0.0.1", "--soak_overall_timeout_seconds=60"])
        // For one machine that does all, and more beside it.
        .arg("--soak_per_iteration_max_acceptable_latency_ms=20000")
        .args(way.arguments(tidegate))
        .args(case.starts_with("orca_").then(|| format!("--service_config_json={REPORTS}")))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(SOON * 3, client.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{case} does not end")).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {}: {said}", output.status);
}

/// How many replicas were started so far.
fn starts(tidegate: &Tidegate) -> usize {
    tidegate.log().matches("replica starts").count()
}

/// All cases one after the other, the replica being ready before.
async fn warm(way: Way) {
    let tidegate = way.serve(service().annotation("autoscaling.knative.dev/min-scale", "1"));
    tidegate.logged("replica is ready").await;
    let mut passed = 0;
    for case in CASES {
        run(&way, &tidegate, case).await;
        passed += 1;
    }
    assert_eq!((passed, starts(&tidegate)), (CASES.len(), 1));
    println!("gRPC, {}, warm: {passed} of {} cases passed", way.name(), CASES.len());
}

/// All cases, each with the revision at zero when its first call arrives.
async fn from_zero(way: Way) {
    let mut passed = 0;
    for case in CASES {
        let tidegate = way.serve(service());
        assert_eq!(starts(&tidegate), 0, "it is at zero when the call arrives");
        run(&way, &tidegate, case).await;
        assert!(LEAVING.contains(&case) || starts(&tidegate) == 1, "{case}");
        passed += 1;
    }
    assert_eq!(passed, CASES.len());
    println!("gRPC, {}, from zero: {passed} of {} cases passed", way.name(), CASES.len());
}

#[tokio::test]
async fn h2c_warm() {
    warm(Way::H2c).await;
}

#[tokio::test]
async fn h2c_from_zero() {
    from_zero(Way::H2c).await;
}

#[tokio::test]
async fn tls_warm() {
    warm(Way::Tls(Box::new(Authority::new()))).await;
}

#[tokio::test]
async fn tls_from_zero() {
    from_zero(Way::Tls(Box::new(Authority::new()))).await;
}
