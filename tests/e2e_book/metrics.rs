//! `docs/reference-metrics.md`, made from what `/metrics` gives of a tidegate that has everything a
//! machine can have, of a sidecar, and of what is only in a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};

use expect_test::expect_file;
use tidegate::admin::metrics::Format;
use tidegate::app::peer_families;
use tokio::time::Instant;

use crate::client::{empty, get, h1, request, send1};
use crate::https::Authority;
use crate::serving::{SOON, Service, Tidegate, host, repository};

const BEGIN: &str = "# Reference: metrics

Made from what `/metrics` gives; `UPDATE_EXPECT=1 cargo test --test e2e_book` writes it anew. Scraping,
dashboard and alerts: [monitoring](monitoring.md).

Series of a revision begin with its first request and go with it. Values of `reason` are the tokens in
[errors](errors.md). A histogram has `_bucket`, `_sum` and `_count`.

## /metrics

";

const CLUSTER: &str = "
With `--kubernetes` and other proxies:

";

const CLASSIC: &str = "
## /metrics/knative

The names of Knative's activator and autoscaler up to 1.18, for dashboards that have them.

";

const SIDECAR: &str = "
Of `tidegate sidecar`, those of queue-proxy:

";

/// A family as a page in the text format has it.
#[derive(Default)]
struct Described {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

fn described(text: &str) -> BTreeMap<String, Described> {
    let mut all: BTreeMap<String, Described> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            help.clone_into(&mut all.entry(name.to_owned()).or_default().help);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            kind.clone_into(&mut all.entry(name.to_owned()).or_default().kind);
        } else if let Some((name, rest)) = line.split_once('{') {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|name| all.contains_key(*name)));
            let family = all.get_mut(family.unwrap_or(name)).unwrap();
            // No value here has a comma or an equals sign between quotes but file names, which have
            // neither.
            let labels = rest.rsplit_once('}').unwrap().0.split(',');
            let names = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            family.labels.extend(names.filter(|name| name != "le"));
        }
    }
    all
}

fn table(page: &mut String, text: &str) {
    page.push_str("| name | type | labels | |\n|---|---|---|---|\n");
    for (name, Described { kind, help, labels }) in described(text) {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
}

/// A page once it has all of these: what a request was is counted a moment after its answer.
async fn complete(admin: SocketAddr, path: &str, parts: &[&str]) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = get(admin, &admin.to_string(), path).await;
        assert_eq!(answer.status, 200);
        let page = answer.text();
        if parts.iter().all(|part| page.contains(part)) {
            return page.to_owned();
        }
        assert!(Instant::now() < deadline, "{page}");
        tokio::task::yield_now().await;
    }
}

/// A log that goes to a collector.
fn collector(port: u16) -> String {
    format!(
        "---\napiVersion: logging.knative.dev/v1alpha1\nkind: LoggingConfig\nmetadata: {{name: all}}\n\
         spec: {{forwarders: [{{type: fluentd, config: {{host: 127.0.0.1, port: {port}}}}}]}}\n"
    )
}

/// Traces that go to a collector.
fn traces(port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-observability}}\n\
         data: {{tracing-protocol: grpc, tracing-endpoint: 'http://127.0.0.1:{port}'}}\n"
    )
}

/// A service whose new revisions are tried.
fn careful(fails: &str) -> String {
    let text = Service::new("careful").env("FAIL_PERCENT", fails).yaml();
    let tried = "  name: careful\n  annotations: {tidegate.dev/rollout: canary}\n";
    text.replacen("  name: careful\n", tried, 1)
}

async fn of_serve() -> [String; 2] {
    let authority = Authority::new();
    let pair = authority.issue("all", &["localhost"]);
    let to = TcpListener::bind("127.0.0.1:0").unwrap();
    let manifests = Service::new("hello").annotation("tidegate.dev/no-wake", "HEAD").yaml()
        + &Service::new("counted").annotation("autoscaling.knative.dev/metric", "rps").yaml()
        + &collector(to.local_addr().unwrap().port())
        + &traces(to.local_addr().unwrap().port());
    let state = tempfile::tempdir().unwrap();
    let arguments = ["--https", "127.0.0.1:0", "--state-dir", state.path().to_str().unwrap()];
    let arguments = [&arguments[..], &pair.arguments()].concat();
    let served = Tidegate::with(&(manifests.clone() + &careful("0")), &arguments);
    assert_eq!(get(served.address(), &host("careful"), "/").await.status, 200);
    served.write(&(manifests + &careful("100")));
    while !served.log().contains("is taken back") {
        get(served.address(), &host("careful"), "/").await;
    }
    let asleep = request("HEAD", &host("hello"), "/").body(empty()).unwrap();
    assert_eq!(send1(&mut h1(served.address()).await, asleep).await.status, 503);
    for name in ["hello", "counted"] {
        assert_eq!(get(served.address(), &host(name), "/").await.status, 200);
    }
    assert_eq!(get(served.address(), "nobody.example.com", "/").await.status, 404);
    let own = [
        "phase=",
        "tidegate_autoscaler_stable{",
        "tidegate_endpoint_in_flight{",
        "tidegate_queue_wait_seconds_count{",
        "tidegate_refused_total{namespace=",
        "tidegate_requests_total{",
        "tidegate_rollout_taken_back_total{",
    ];
    let classic = [
        "activator_request_count{",
        "autoscaler_stable_request_concurrency{",
        "autoscaler_stable_requests_per_second{",
    ];
    [
        complete(served.admin, "/metrics", &own).await,
        complete(served.admin, "/metrics/knative", &classic).await,
    ]
}

async fn of_sidecar() -> String {
    let backend = Tidegate::serve(&Service::new("hello").yaml());
    let upstream = backend.address().to_string();
    let mut command = crate::serving::tidegate();
    command.args(["sidecar", "--upstream", &upstream, "--container-concurrency", "1"]);
    command.args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let sidecar = Tidegate::spawned(command);
    assert_eq!(get(sidecar.address(), &host("hello"), "/").await.status, 200);
    let parts = ["revision_request_count{", "revision_app_request_count{"];
    complete(sidecar.admin, "/metrics/knative", &parts).await
}

#[tokio::test]
async fn the_reference_is_what_is_measured() {
    let [own, classic] = of_serve().await;
    let mut page = BEGIN.to_owned();
    table(&mut page, &own);
    page.push_str(CLUSTER);
    table(&mut page, &Format::Text.write(peer_families(1, 1, 1)).unwrap());
    page.push_str(CLASSIC);
    table(&mut page, &classic);
    page.push_str(SIDECAR);
    table(&mut page, &of_sidecar().await);
    expect_file![repository("docs/reference-metrics.md")].assert_eq(&page);
}
