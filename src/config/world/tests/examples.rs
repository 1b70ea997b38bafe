//! Manifests as users bring them load as they are.

use expect_test::expect;

use super::*;
use crate::config::settings::LogLevel;
use crate::model::{ProbeAction, Reason};

const SERVICE: &str = "\
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: greeter
spec:
  template:
    spec:
      containers:
        - image: registry.example/greeter
          ports:
            - containerPort: 8080
          env:
            - name: WHO
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

const CANARY: &str = "\
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: greeter
spec:
  template:
    spec:
      containers:
        - image: registry.example/greeter:canary
          env:
            - name: WHO
              value: \"Canary\"
  traffic:
    - revisionName: greeter-00001
      percent: 90
    - revisionName: greeter-00002
      percent: 10
";

const SCALER: &str = "\
apiVersion: autoscaling.knative.dev/v1alpha1
kind: PodAutoscaler
metadata:
  name: greeter-autoscaler
spec:
  scaleTargetRef:
    apiVersion: serving.knative.dev/v1
    kind: Service
    name: greeter
  minScale: 0
  maxScale: 1000
  target: 10.0
";

const LOGGING: &str = "\
apiVersion: logging.knative.dev/v1alpha1
kind: LoggingConfig
metadata:
  name: knative-logging
spec:
  loggers:
    serving.knative.dev:
      level: INFO
  forwarders:
    type: fluentd
    config:
      host: logs.default.svc.cluster.local
      port: 24224
";

const JOB: &str = "\
apiVersion: batch/v1
kind: Job
metadata:
  name: greeter-blue-green
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: deployment
          image: registry.example/helper
";

const WORKFLOW: &str = "\
name: Deploy
on:
  push:
    branches: [main]
jobs:
  build:
    runs-on: ubuntu-latest
";

#[test]
fn a_service_with_only_an_image_loads_and_says_what_to_add() {
    let mut bench = Bench::new();
    let loaded = bench.write("service.yaml", SERVICE);
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/greeter: greeter-00001 100%");
    let Workload::Unavailable(problem) = &loaded.world.revisions[0].workload else {
        panic!("it has no command");
    };
    assert_eq!(problem.reason, Reason::NoLocalCommand);
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].starts_with("service default/greeter: NoLocalCommand: "));

    let run = vec![("greeter".to_owned(), "node 'my server.js'".to_owned())];
    let mut bench = Bench::with(LoaderOptions { run, ..LoaderOptions::default() });
    let loaded = bench.write("service.yaml", SERVICE);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let Workload::Process(process) = &loaded.world.revisions[0].workload else {
        panic!("it has a command");
    };
    assert_eq!(
        process.command.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
        ["node", "my server.js"]
    );
    assert_eq!((&*process.env[0].name, &*process.env[0].value), ("WHO", "World"));
    let health = ProbeAction::Http { path: "/health".into(), port: None, headers: vec![] };
    assert_eq!(process.probes.readiness.action, health);
    assert_eq!(process.probes.liveness.as_ref().map(|probe| &probe.action), Some(&health));
}

#[test]
fn a_canary_by_itself_and_after_the_first_version() {
    let mut alone = Bench::new();
    let loaded = alone.write("app.yaml", CANARY);
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/greeter: revision_missing");

    let mut bench = Bench::new();
    bench.write("app.yaml", SERVICE);
    let loaded = bench.write("app.yaml", CANARY);
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/greeter: greeter-00001 90% greeter-00002 10%");
}

#[test]
fn all_of_them_in_one_folder() {
    let mut bench = Bench::new();
    for (path, text) in [
        ("service.yaml", SERVICE),
        ("podautoscaler.yaml", SCALER),
        ("logging.yaml", LOGGING),
        ("job.yaml", JOB),
    ] {
        bench.files.insert(path.to_owned(), text.to_owned());
    }
    let loaded = bench.write("workflow.yaml", WORKFLOW);
    assert_good(&loaded);
    let scaling = &loaded.world.revisions[0].scaling;
    assert_eq!((scaling.max_scale, scaling.total_value), (Some(1000), 10.0));
    let logging = loaded.logging.as_ref().unwrap();
    assert_eq!(logging.loggers["serving.knative.dev"], LogLevel::Info);
    let forwarders: Vec<String> = logging.forwarders.iter().map(ToString::to_string).collect();
    assert_eq!(forwarders, ["fluentd logs.default.svc.cluster.local:24224"]);
    let skipped: Vec<&str> =
        loaded.warnings.iter().map(String::as_str).filter(|w| w.contains("skipped")).collect();
    expect![[r#"
        Job (batch/v1) at job.yaml:1 skipped: tidegate does not read this kind
        a document without apiVersion and kind at workflow.yaml:1 skipped: tidegate does not read this kind"#]].assert_eq(&skipped.join("\n"));

    let mut strict = Bench::with(LoaderOptions { strict: true, ..LoaderOptions::default() });
    let loaded = strict.write("job.yaml", JOB);
    expect!["job.yaml:1: document 1: Job (batch/v1): tidegate does not read this kind; move it to another file, or leave out --strict"].assert_eq(&problems(&loaded));
}

#[test]
fn what_a_pipeline_deploys() {
    let deployed = "\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: greeter}
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/metric: rps
        autoscaling.knative.dev/target: \"10\"
        autoscaling.knative.dev/min-scale: \"0\"
        autoscaling.knative.dev/max-scale: \"100\"
    spec:
      containerConcurrency: 100
      containers: [{image: registry.example/greeter:abc, env: [{name: WHO, value: World}]}]
";
    let loaded = Bench::new().write("app.yaml", deployed);
    assert_good(&loaded);
    let revision = &loaded.world.revisions[0];
    assert_eq!(revision.slots_per_replica(), 100);
    assert_eq!((revision.scaling.total_value, revision.scaling.max_scale), (10.0, Some(100)));
    assert_eq!(revision.scaling.metric, crate::model::Metric::Rps);
}
