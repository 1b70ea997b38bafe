//! gRPC's interoperability cases between the Go reference implementation's own client and server,
//! with tidegate between them: <https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md>.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "support/serving.rs"]
mod serving;
#[path = "support/tools.rs"]
mod tools;

use std::process::Stdio;

use serving::{SOON, Service, Tidegate, file};
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

/// Runs a case; the client ends with 0 only if it saw all that it wanted to see.
async fn run(tidegate: &Tidegate, case: &str) {
    let at = tidegate.address();
    let mut client = tokio::process::Command::new(tool("grpc-interop-client"));
    client
        .args([format!("--test_case={case}"), format!("--server_port={}", at.port())])
        // An address: the only service is meant. The limits are for one machine that does all.
        .args(["--server_host=127.0.0.1", "--soak_overall_timeout_seconds=60"])
        .arg("--soak_per_iteration_max_acceptable_latency_ms=20000")
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

#[tokio::test]
async fn warm() {
    let warm = service().annotation("autoscaling.knative.dev/min-scale", "1");
    let tidegate = Tidegate::serve(&file(&[warm]));
    tidegate.logged("replica is ready").await;
    let mut passed = 0;
    for case in CASES {
        run(&tidegate, case).await;
        passed += 1;
    }
    assert_eq!((passed, starts(&tidegate)), (CASES.len(), 1));
    println!("gRPC interoperability, h2c, warm: {passed} of {} cases passed", CASES.len());
}

#[tokio::test]
async fn from_zero() {
    let mut passed = 0;
    for case in CASES {
        let tidegate = Tidegate::serve(&file(&[service()]));
        assert_eq!(starts(&tidegate), 0, "it is at zero when the call arrives");
        run(&tidegate, case).await;
        assert!(LEAVING.contains(&case) || starts(&tidegate) == 1, "{case}");
        passed += 1;
    }
    assert_eq!(passed, CASES.len());
    println!("gRPC interoperability, h2c, from zero: {passed} of {} cases passed", CASES.len());
}
