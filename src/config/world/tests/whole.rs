//! A revision with everything, what is shared between loads, secrecy, cost.

use std::time::Duration;

use expect_test::{expect, expect_file};

use super::*;
use crate::model::Reason;

const EVERYTHING: &str = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Secret
  metadata: {name: db, namespace: prod}
  stringData: {password: swordfish}
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: app, namespace: prod}
  data: {LEVEL: debug}
- apiVersion: serving.knative.dev/v1
  kind: Service
  metadata: {name: hello, namespace: prod}
  spec:
    template:
      metadata:
        labels: {tier: web}
        annotations:
          tidegate.dev/queue-timeout: 30s
          tidegate.dev/no-wake: HEAD, /healthz
          tidegate.dev/eager: \"false\"
          tidegate.dev/local-directory: ../app
      spec:
        containerConcurrency: 3
        timeoutSeconds: 20
        serviceAccountName: robot
        containers:
        - image: example/hello
          command: [serve, --verbose]
          args: [$(LEVEL)]
          ports: [{containerPort: 9000, name: h2c}]
          resources: {limits: {memory: 64Mi}}
          envFrom: [{configMapRef: {name: app}}]
          env:
          - {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
          readinessProbe: {tcpSocket: {port: 9000}, periodSeconds: 2}
          volumeMounts: [{name: secrets, mountPath: /etc/secrets, readOnly: true}]
        volumes:
        - {name: secrets, secret: {secretName: db}}
";

#[test]
fn everything_a_revision_can_have() {
    let mut bench = Bench::new();
    let loaded = bench.write("manifests/prod/app.yaml", EVERYTHING);
    assert_good(&loaded);
    expect_file!["everything.txt"].assert_eq(&format!("{:#?}\n", loaded.world.revisions[0]));
    expect!["service prod/hello: accepted but without effect here: serviceAccountName"]
        .assert_eq(&loaded.warnings.join("\n"));
}

#[test]
fn no_secret_is_ever_shown() {
    let mut bench = Bench::new();
    let loaded = bench.write("app.yaml", EVERYTHING);
    let workload = format!("{:?}", loaded.world.revisions[0].workload);
    assert!(workload.contains("PASSWORD"), "{workload}");
    let bad =
        EVERYTHING.replace("stringData: {password: swordfish}", "data: {password: swordfish!}");
    let rejected = bench.write("app.yaml", &bad);
    assert_eq!(rejected.problems.len(), 1, "{}", problems(&rejected));
    let stamps = serde_json::to_string(bench.loader.stamps()).unwrap();
    let files: Vec<SourceFile> = vec![SourceFile::new("app.yaml", EVERYTHING)];
    let loader = format!("{:?}", bench.loader);
    let shown = [problems(&rejected), format!("{:?}", rejected.world.rejected), workload];
    for text in shown.into_iter().chain([stamps, loader]) {
        assert!(!text.contains("swordfish"), "{text}");
    }
    assert!(!format!("{files:?}").contains("swordfish"));
}

#[test]
fn a_missing_config_map_stops_one_revision_until_it_is_there() {
    let mut bench = Bench::new();
    let text = service("hello", "a", "").replace(
        "        command",
        "        envFrom: [{configMapRef: {name: app}}]\n        command",
    );
    let loaded = bench.write("app.yaml", &text);
    assert_good(&loaded);
    let Workload::Unavailable(problem) = &loaded.world.revisions[0].workload else {
        panic!("a ConfigMap is missing");
    };
    assert_eq!(problem.reason, Reason::MissingConfig);
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndata: {A: b}\n";
    let loaded = bench.write("map.yaml", map);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(revisions(&loaded), "default/hello-00001: a");
}

#[test]
fn a_bad_own_annotation_says_where() {
    let mut bench = Bench::new();
    let text = service("hello", "a", "").replace(
        "  template:\n",
        "  template:\n    metadata:\n      annotations:\n        tidegate.dev/eager: \"maybe\"\n        \
         tidegate.dev/que-timeout: 1s\n",
    );
    expect![[r#"
        app.yaml:8: document 1: spec.template.metadata.annotations.tidegate.dev/eager: "maybe" is neither true nor false; write "true" or "false"
        app.yaml:9: document 1: spec.template.metadata.annotations.tidegate.dev/que-timeout: there is no such setting; write tidegate.dev/queue-timeout"#]].assert_eq(&problems(&bench.write("app.yaml", &text)));
    let text = service("hello", "a", "")
        .replace("{name: hello}", "{name: hello, annotations: {tidegate.dev/eager: \"false\"}}");
    expect!["app.yaml:3: document 1: metadata.annotations.tidegate.dev/eager: without effect here; move it to spec.template.metadata.annotations"].assert_eq(&problems(&bench.write("app.yaml", &text)));
}

#[test]
fn run_names_a_service_or_a_revision() {
    let run = [("hello", "for all"), ("hello-00002", "for one"), ("prod/x", "y"), ("bad", "a 'b")];
    let run = run.map(|(name, command)| (name.to_owned(), command.to_owned())).to_vec();
    let mut bench = Bench::with(LoaderOptions { run, ..LoaderOptions::default() });
    bench.write("app.yaml", &service("hello", "a", ""));
    let loaded = bench.write("app.yaml", &service("hello", "b", ""));
    assert_eq!(
        revisions(&loaded),
        "default/hello-00001: for all (unreachable)\ndefault/hello-00002: for one"
    );
    expect![[r#"--run bad: a ' is opened and never closed; close it, or write \' for the character itself"#]].assert_eq(&problems(&loaded));
    expect!["--run prod/x: there is no such service yet; known: default/hello"]
        .assert_eq(&loaded.warnings.join("\n"));
}

#[test]
fn a_thousand_services_are_loaded_quickly_and_shared() {
    let mut bench = Bench::new();
    for file in 0..10 {
        let services: Vec<String> =
            (0..100).map(|number| service(&format!("s{file}-{number}"), "serve", "")).collect();
        bench.files.insert(format!("{file}.yaml"), services.join("---\n"));
    }
    let (first, cold) = timed(&mut bench);
    assert_good(&first);
    assert_eq!(first.world.services.len(), 1000);
    let (again, warm) = timed(&mut bench);
    println!("1,000 services: first load {cold:?}, unchanged {warm:?}");
    for (before, after) in first.world.services.iter().zip(&again.world.services) {
        assert!(Arc::ptr_eq(before, after), "{}", before.id);
    }
    // One changed service is one changed service.
    let text = bench.files["3.yaml"].replacen("command: [serve]", "command: [other]", 1);
    let third = bench.write("3.yaml", &text);
    let changed = |before: &Loaded, after: &Loaded| {
        let pairs = before.world.services.iter().zip(&after.world.services);
        pairs.filter(|(before, after)| !Arc::ptr_eq(before, after)).count()
    };
    assert_eq!(changed(&again, &third), 1);
    assert_eq!(third.world.revisions.len(), 1001);
    let kept = again
        .world
        .revisions
        .iter()
        .filter(|before| third.world.revisions.iter().any(|after| Arc::ptr_eq(before, after)));
    assert_eq!(kept.count(), 999, "the former latest one is no longer reachable");
    // Generous: this runs beside other tests on a small machine.
    assert!(cold < Duration::from_secs(5), "{cold:?}");
    assert!(warm < Duration::from_secs(2), "{warm:?}");
}

fn timed(bench: &mut Bench) -> (Loaded, Duration) {
    let start = tokio::time::Instant::now();
    let loaded = bench.load();
    (loaded, start.elapsed())
}

#[test]
fn an_object_that_moves_within_its_file_is_known_by_its_new_line() {
    let mut bench = Bench::new();
    let b = service("b", "serve", "");
    assert_good(&bench.write("app.yaml", &(service("a", "serve", "") + "---\n" + &b)));
    let more = service("a", "serve", "").replace("name: a}", "name: a, labels: {tier: web}}");
    let text = more.replace("spec:\n  template", "# one\n# two\nspec:\n  template") + "---\n" + &b;
    let loaded = bench.write("app.yaml", &text);
    assert_good(&loaded);
    assert_eq!(loaded.world.revisions.len(), 2, "no template changed");
    let line = 1 + text.lines().position(|line| line == "---").unwrap() + 1;
    let configuration = b.replace("kind: Service", "kind: Configuration");
    let loaded = bench.write("z.yaml", &configuration);
    let expected = format!("the Service default/b at app.yaml:{line} brings");
    assert!(problems(&loaded).contains(&expected), "{}", problems(&loaded));
}

#[test]
fn what_all_revisions_depend_on_reaches_those_that_did_not_change() {
    let mut bench = Bench::new();
    assert_good(&bench.write("a.yaml", &service("a", "serve", "")));
    let target = |loaded: &Loaded| loaded.world.revisions[0].scaling.target_value;
    let config = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-autoscaler}}\n\
             data: {{container-concurrency-target-default: '{value}'}}\n"
        )
    };
    let before = target(&bench.load());
    let halved = bench.write("config.yaml", &config("50"));
    assert!(target(&halved) < before, "{} and {before}", target(&halved));
    let scaler = "apiVersion: autoscaling.knative.dev/v1alpha1\nkind: PodAutoscaler\n\
                  metadata: {name: a}\nspec:\n  minScale: 0\n  maxScale: 5\n  target: 7\n  \
                  scaleTargetRef: {apiVersion: serving.knative.dev/v1, kind: Service, name: a}\n";
    let set = bench.write("scaler.yaml", scaler);
    assert_eq!(set.world.revisions[0].scaling.max_scale, Some(5));
    let unset = bench.remove("scaler.yaml");
    assert_eq!(*unset.world.revisions[0], *halved.world.revisions[0]);
    let again = bench.load();
    assert!(Arc::ptr_eq(&again.world.revisions[0], &unset.world.revisions[0]));
}
