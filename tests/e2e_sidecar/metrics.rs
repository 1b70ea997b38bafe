//! Metrics: tidegate's own names, and queue-proxy's.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::client::get;
use crate::serving::needs;
use crate::{Echo, ready};

/// What `promtool check metrics` says.
fn promtool(page: &str) -> String {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// The value of the only series of this name with all these labels.
fn value(page: &str, name: &str, labels: &[&str]) -> f64 {
    let mut found = page.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && labels.iter().all(|label| line.contains(label))
    });
    let line = found.next().unwrap_or_else(|| panic!("no {name} with {labels:?}:\n{page}"));
    assert!(found.next().is_none(), "several {name} with {labels:?}:\n{page}");
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn both_pages_count_the_same_requests() {
    needs("promtool", "prometheus");
    let echo = Echo::start();
    let sidecar = ready(echo.address, &["--name", "shop/cart", "--timeout", "2s"]).await;
    let at = sidecar.address();
    for _ in 0..3 {
        assert_eq!(get(at, "a", "/").await.status, 200);
    }
    assert_eq!(get(at, "a", "/status?code=404").await.status, 404);
    assert_eq!(get(at, "a", "/delay?ms=60000").await.status, 504);
    let own = get(sidecar.admin, "localhost", "/metrics").await;
    let own = own.text();
    assert_eq!(promtool(own), "");
    let labels = [r#"namespace="shop""#, r#"service="cart""#, r#"revision="cart-00001""#];
    let with = |code: &'static str| [&labels[..], &[code]].concat();
    assert_eq!(value(own, "tidegate_requests_total", &with(r#"code="200""#)), 3.0);
    assert_eq!(value(own, "tidegate_requests_total", &with(r#"code="504""#)), 1.0);
    assert!(!own.contains("tidegate_autoscaler_"), "nothing is scaled here:\n{own}");
    let classic = get(sidecar.admin, "localhost", "/metrics/knative").await;
    let classic = classic.text();
    let said = promtool(classic);
    assert!(!said.contains("error while linting") && !said.contains("no help text"), "{said}");
    let labels = [
        r#"namespace_name="shop""#,
        r#"service_name="cart""#,
        r#"configuration_name="cart""#,
        r#"revision_name="cart-00001""#,
        r#"container_name="queue-proxy""#,
    ];
    let count =
        |name: &str, code: &'static str| value(classic, name, &[&labels[..], &[code]].concat());
    assert_eq!(count("revision_request_count", r#"response_code="200""#), 3.0);
    assert_eq!(count("revision_request_count", r#"response_code_class="5xx""#), 1.0);
    assert_eq!(count("revision_app_request_count", r#"response_code="200""#), 3.0);
    assert_eq!(count("revision_app_request_count", r#"response_code="404""#), 1.0);
    assert_eq!(value(classic, "revision_request_latencies_count", &labels), 5.0);
    assert_eq!(value(classic, "revision_app_request_latencies_count", &labels), 4.0);
    assert_eq!(value(classic, "revision_queue_depth", &labels), 0.0);
    assert!(!classic.contains("activator_") && !classic.contains("autoscaler_"), "{classic}");
}
