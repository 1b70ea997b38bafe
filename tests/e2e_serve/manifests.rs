//! Manifests as users bring them from a cluster, with an image and nothing for this machine.

use std::collections::BTreeMap;

use crate::client::{empty, get, h1, request, send1};
use crate::serving::{Tidegate, host, tidegate};

const ECHO: &[&str] = &["--run", "hello-world=tidegate echo"];

/// Image, environment, port and two probes that name the port.
const SERVICE: &str = "\
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: hello-world
spec:
  template:
    spec:
      containers:
        - image: docker.io/example/hello-world
          ports:
            - containerPort: 8080
          env:
            - name: TARGET
              value: \"World\"
          readinessProbe:
            httpGet:
              path: /health
              port: 8080
          livenessProbe:
            httpGet:
              path: /health
              port: 8080
";

const POD_AUTOSCALER: &str = "\
apiVersion: autoscaling.knative.dev/v1alpha1
kind: PodAutoscaler
metadata:
  name: hello-world-autoscaler
spec:
  scaleTargetRef:
    apiVersion: serving.knative.dev/v1
    kind: Service
    name: hello-world
  minScale: 0
  maxScale: 1000
  target: 10.0
";

const JOB: &str = "\
apiVersion: batch/v1
kind: Job
metadata:
  name: hello-world-blue-green
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: deployment
          image: example/deployment-helper
          env:
            - name: STRATEGY
              value: \"blue-green\"
";

const LOGGING: &str = "\
apiVersion: logging.knative.dev/v1alpha1
kind: LoggingConfig
metadata:
  name: knative-logging
spec:
  loggers:
    serving.knative.dev:
      level: LEVEL
  forwarders:
    type: fluentd
    config:
      host: logging-service.default.svc.cluster.local
      port: 24224
";

/// 90 to the first revision, 10 to the second, by the names that stamping gives them.
fn canary(target: &str) -> String {
    format!(
        "\
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: hello-world
spec:
  template:
    spec:
      containers:
        - image: docker.io/example/hello-world:canary
          env:
            - name: TARGET
              value: \"{target}\"
  traffic:
    - revisionName: hello-world-00001
      percent: 90
    - revisionName: hello-world-00002
      percent: 10
"
    )
}

#[tokio::test]
async fn a_service_with_an_image_port_and_probes() {
    let tidegate = Tidegate::with(SERVICE, ECHO);
    let at = tidegate.address();
    assert_eq!(get(at, &host("hello-world"), "/").await.text(), "Hello World!\n");
    // Without --run: it loads, and its requests say what to add.
    let tidegate = Tidegate::serve(SERVICE);
    let answer = get(tidegate.address(), &host("hello-world"), "/").await;
    assert_eq!((answer.status, answer.reason()), (503, Some("no_local_command")));
    assert!(
        answer.text().contains("--run") && answer.text().contains("tidegate.dev/local-command")
    );
}

#[tokio::test]
async fn a_pod_autoscaler_sets_the_bounds() {
    let tidegate = Tidegate::with(&format!("{SERVICE}---\n{POD_AUTOSCALER}"), ECHO);
    let at = tidegate.address();
    assert_eq!(get(at, &host("hello-world"), "/").await.text(), "Hello World!\n");
    let path = "/api/v1/revisions/default/hello-world-00001/decisions";
    let decisions = get(tidegate.admin, "localhost", path).await;
    assert_eq!(decisions.status, 200, "{decisions:?}");
    let all = decisions.json().to_string();
    // 70 % of 10.
    assert!(all.contains("\"target\":7.0") || all.contains("\"target\":7,"), "{all}");
    // Alone it warns that its service is missing, and nothing else.
    let tidegate = Tidegate::serve(POD_AUTOSCALER);
    tidegate.logged("hello-world").await;
    assert!(tidegate.log().contains("WARN"), "{}", tidegate.log());
}

#[tokio::test]
async fn a_canary_before_and_after_its_second_revision() {
    let tidegate = Tidegate::with(&canary("First"), ECHO);
    let at = tidegate.address();
    let answer = get(at, &host("hello-world"), "/").await;
    assert_eq!((answer.status, answer.reason()), (503, Some("revision_missing")), "{answer:?}");
    for part in ["hello-world-00002", "template"] {
        assert!(answer.text().contains(part), "{part} is missing: {}", answer.text());
    }
    tidegate.write(&canary("Canary"));
    tidegate.logged("hello-world-00002").await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while get(at, &host("hello-world"), "/").await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "{}", tidegate.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut connection = h1(at).await;
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    // The loop above took the first draw of the first block.
    for _ in 0..299 {
        let request = request("GET", &host("hello-world"), "/").body(empty()).unwrap();
        let answer = send1(&mut connection, request).await;
        *seen.entry(answer.text().trim().to_owned()).or_default() += 1;
    }
    let canary = seen["Hello Canary!"];
    assert!((29..=30).contains(&canary), "{seen:?}");
    assert_eq!(seen["Hello First!"], 299 - canary);
}

#[tokio::test]
async fn kinds_of_others_are_skipped_with_one_warning() {
    let tidegate = Tidegate::with(&format!("{SERVICE}---\n{JOB}"), ECHO);
    assert_eq!(get(tidegate.address(), &host("hello-world"), "/").await.status, 200);
    let log = tidegate.log();
    let warnings: Vec<_> =
        log.lines().filter(|l| l.contains("WARN") && l.contains("Job")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    // An error where that was asked for.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.yaml");
    std::fs::write(&path, format!("{SERVICE}---\n{JOB}")).unwrap();
    let arguments = |command: &'static str| [command, "--strict", "-f", path.to_str().unwrap()];
    let validated = tidegate_run(&arguments("validate"));
    assert_eq!(validated.0, Some(1), "{}", validated.1);
    assert!(validated.1.contains("Job"), "{}", validated.1);
    let served = tidegate_run(&arguments("serve"));
    assert_eq!(served.0, Some(78), "{}", served.1);
}

fn tidegate_run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = tidegate().args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn a_logging_config_sets_the_level() {
    let with = |level: &str| format!("{SERVICE}---\n{}", LOGGING.replace("LEVEL", level));
    let also = |level: &str, name: &str| {
        format!("{}---\n{}", with(level), crate::serving::Service::new(name).yaml())
    };
    let tidegate = Tidegate::with(&with("ERROR"), ECHO);
    let at = tidegate.address();
    get(at, &host("hello-world"), "/").await;
    // It changes while tidegate runs: a new service is announced, or not.
    let served = async |name: &str| {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while get(at, &host(name), "/").await.status != 200 {
            assert!(tokio::time::Instant::now() < deadline, "{name} is not served");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tidegate.write(&also("ERROR", "silent"));
    served("silent").await;
    tidegate.write(&also("INFO", "loud"));
    tidegate.logged("curl http://loud.default.localhost").await;
    tidegate.write(&also("ERROR", "mute"));
    served("mute").await;
    let log = tidegate.log();
    for name in ["hello-world", "silent", "mute"] {
        assert!(!log.contains(&format!("curl http://{name}.")), "{log}");
    }
}
