use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::config::settings::Forwarder;
use crate::config::yaml::parse_file;

fn node(text: &str) -> Node {
    let mut parsed = parse_file(text);
    assert_eq!(parsed.error, None, "{text}");
    parsed.documents.remove(0).node
}

fn local(text: &str) -> Admission {
    admit(&node(text), &AdmissionContext::one_machine(), None)
}

/// Everything that admission says about a file, one line each.
fn said(text: &str) -> String {
    let mut lines = Vec::new();
    for document in parse_file(text).documents {
        let admission = admit(&document.node, &AdmissionContext::one_machine(), None);
        for problem in admission.problems.into_iter().chain(admission.warnings) {
            lines.push(problem.in_file("hello.yaml", document.index).to_string());
        }
    }
    lines.join("\n") + "\n"
}

fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&said(text));
}

#[test]
fn a_badly_broken_manifest_is_explained_at_once() {
    check(
        r#"apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: Hello_World
  labels: {tier: 1}
  annotations:
    autoscaling.knative.dev/min-scale: "1"
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/window: "60"
        autoscaling.knative.dev/max-scale: "2"
        autoscaling.knative.dev/minScale: "5"
    spec:
      containerconcurrency: 5
      timeoutSeconds: "300"
      nodeSelector: {disk: ssd}
      containers:
        - imagee: docker.io/example/hello
          ports:
            - containerPort: 8012
              name: grpc
          env:
            - name: PORT
              value: 8080
            - name: DEBUG
              value: on
          readinessProbe:
            httpGet: {path: /health}
            tcpSocket: {port: 80}
          volumeMounts:
            - name: dta
              mountPath: data
      volumes:
        - name: data
          configMap: {name: c}
  traffic:
    - latestRevision: true
      percent: 50
      tag: Blue!
"#,
        &expect![[r#"
            hello.yaml:4: document 1: metadata.name: not a DNS 1035 label: [a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')]; write hello-world
            hello.yaml:5: document 1: metadata.labels.tier: cannot read 1 as text; write tier in quotes: "1"
            hello.yaml:7: document 1: metadata.annotations: invalid key name "autoscaling.knative.dev/min-scale" (autoscaling annotations must be put under "spec.template.metadata.annotations" to work); write autoscaling.knative.dev/min-scale below spec.template.metadata.annotations
            hello.yaml:12: document 1: spec.template.metadata.annotations.autoscaling.knative.dev/window: invalid value: 60; write 60s
            hello.yaml:13: document 1: spec.template.metadata.annotations.autoscaling.knative.dev/max-scale, spec.template.metadata.annotations.autoscaling.knative.dev/min-scale: max-scale=2 is less than min-scale=5; write max-scale: "5" or more
            hello.yaml:16: document 1: spec.template.spec.containerconcurrency: unknown field "containerconcurrency"; write containerConcurrency
            hello.yaml:17: document 1: spec.template.spec.timeoutSeconds: cannot read "300" as a whole number (64 bits); write 300 without quotes
            hello.yaml:18: document 1: spec.template.spec.nodeSelector: must not set the field(s); remove nodeSelector, or set kubernetes.podspec-nodeselector: "enabled" in the ConfigMap config-features
            hello.yaml:20: document 1: spec.template.spec.containers[0].imagee: unknown field "imagee"; write image
            hello.yaml:21: document 1: spec.template.spec.containers[0].ports: Port name grpc is not allowed (Name must be empty, or one of: 'h2c', 'http1'); write h2c if it speaks HTTP/2 or gRPC, else http1
            hello.yaml:22: document 1: spec.template.spec.containers[0].ports.containerPort: invalid value: 8012 is a reserved port (8012 is a reserved port, please use a different value); write another port, such as 8080
            hello.yaml:25: document 1: spec.template.spec.containers[0].env[0].name: "PORT" is a reserved environment variable; remove it: it is set for each replica
            hello.yaml:26: document 1: spec.template.spec.containers[0].env[0].value: cannot read 8080 as text; write value in quotes: "8080"
            hello.yaml:28: document 1: spec.template.spec.containers[0].env[1].value: cannot read true as text; put value in quotes: without them yes, no, on, off, true and false are booleans
            hello.yaml:30: document 1: spec.template.spec.containers[0].readinessProbe.httpGet, spec.template.spec.containers[0].readinessProbe.tcpSocket: expected exactly one, got both; keep one of httpGet, tcpSocket and remove the others
            hello.yaml:33: document 1: spec.template.spec.containers[0].volumeMounts[0].name: volumeMount has no matching volume; write data
            hello.yaml:34: document 1: spec.template.spec.containers[0].volumeMounts[0].mountPath: invalid value: data; write /data
            hello.yaml:36: document 1: spec.template.spec.volumes[0].name: volume with name "data" not mounted; write a volumeMount with name: data, or remove the volume
            hello.yaml:38: document 1: spec.traffic: Traffic targets sum to 50, want 100; write percents that add up to 100
            hello.yaml:41: document 1: spec.traffic.tag[0]: invalid value: not a DNS 1035 label: [a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')]; write blue
        "#]],
    );
}

#[test]
fn a_document_that_lost_its_indentation_says_so() {
    check(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\nname: hello\nspec:\ntemplate: {}\n",
        &expect![[r#"
            hello.yaml:3: document 1: metadata: it is empty: the indentation of what belongs below it was lost; write the lines that belong to metadata two spaces further to the right
            hello.yaml:4: document 1: name: unknown field "name"; write it below metadata, two spaces further to the right
            hello.yaml:5: document 1: spec: it is empty: the indentation of what belongs below it was lost; write the lines that belong to spec two spaces further to the right
            hello.yaml:6: document 1: template: unknown field "template"; write it below spec, two spaces further to the right
        "#]],
    );
}

#[test]
fn what_is_no_known_object_says_so() {
    check(
        "just text\n---\n- a\n---\nkind: Service\n---\napiVersion: serving.knative.dev/v1\nkind: Servce\n---\napiVersion: apps/v1\nkind: Deployment\n---\napiVersion: v1\n",
        &expect![[r#"
            hello.yaml:1: document 1: this is a single value, not an object; write apiVersion, kind, metadata and spec
            hello.yaml:3: document 2: this is a list, not an object; write apiVersion, kind, metadata and spec
            hello.yaml:5: document 3: apiVersion: missing field(s); write apiVersion: serving.knative.dev/v1
            hello.yaml:8: document 4: kind: no matches for kind "Servce" in version "serving.knative.dev/v1"; write Service
            hello.yaml:11: document 5: kind: no matches for kind "Deployment" in version "apps/v1"; remove it
            hello.yaml:13: document 6: kind: missing field(s); write kind: Service
        "#]],
    );
    let list = node("apiVersion: v1\nkind: List\nitems: [{kind: A}, {kind: B}]\n");
    assert_eq!(list_items(&list).map(<[Node]>::len), Some(2));
    assert_eq!(list_items(&node("apiVersion: v1\nkind: Secret\n")), None);
}

#[test]
fn a_service_is_filled_in() {
    let admission = local(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: hello}\nspec:\n  template:\n    spec:\n      containers:\n        - image: docker.io/example/hello\n          resources: {limits: {memory: 1.5Gi}}\n",
    );
    assert_eq!((admission.problems, admission.warnings), (vec![], vec![]));
    assert_eq!(
        admission.object["spec"],
        json!({
            "template": {
                "metadata": {},
                "spec": {
                    "containers": [{
                        "name": "user-container",
                        "image": "docker.io/example/hello",
                        "readinessProbe": {"successThreshold": 1, "tcpSocket": {"port": 0}},
                        "resources": {"limits": {"memory": "1536Mi"}},
                    }],
                    "containerConcurrency": 0,
                    "timeoutSeconds": 300,
                    "enableServiceLinks": false,
                },
            },
            "traffic": [{"latestRevision": true, "percent": 100}],
        })
    );
}

#[test]
fn settings_decide_what_is_allowed() {
    use crate::config::settings::{Data, parse_config_defaults, parse_config_features};
    let data = |pairs: &[(&str, &str)]| -> Data {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let ctx = AdmissionContext {
        defaults: parse_config_defaults(&data(&[
            ("container-concurrency", "7"),
            ("container-concurrency-max-limit", "10"),
            ("allow-container-concurrency-zero", "false"),
            ("container-name-template", "{{.Name}}-main"),
            ("revision-memory-limit", "1Gi"),
            ("revision-idle-timeout-seconds", "20"),
        ]))
        .expect("valid"),
        features: parse_config_features(&data(&[
            ("kubernetes.podspec-nodeselector", "enabled"),
            ("secure-pod-defaults", "enabled"),
        ]))
        .expect("valid"),
        ..AdmissionContext::default()
    };
    let service = |spec: &str| {
        let text = format!(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: hello}}\nspec:\n  template:\n    spec: {spec}\n"
        );
        admit(&node(&text), &ctx, None)
    };
    let admission = service(
        "{nodeSelector: {a: b}, containers: [{image: example.com/img, ports: [{containerPort: 80}]}]}",
    );
    assert_eq!(admission.problems, vec![]);
    let spec = &admission.object["spec"]["template"]["spec"];
    assert_eq!(
        (&spec["containerConcurrency"], &spec["idleTimeoutSeconds"]),
        (&json!(7), &json!(20))
    );
    let container = &spec["containers"][0];
    assert_eq!(container["name"], "hello-main");
    assert_eq!(container["resources"], json!({"limits": {"memory": "1Gi"}}));
    assert_eq!(
        container["securityContext"],
        json!({
            "allowPrivilegeEscalation": false,
            "seccompProfile": {"type": "RuntimeDefault"},
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            "runAsNonRoot": true,
        })
    );
    let refused = service("{containerConcurrency: 0, containers: [{image: example.com/img}]}");
    assert_eq!(refused.problems[0].message, "expected 1 <= 0 <= 10");
}

#[test]
fn a_pod_autoscaler_is_checked_like_annotations() {
    check(
        "apiVersion: autoscaling.knative.dev/v1alpha1
kind: PodAutoscaler
metadata: {name: hello-world-autoscaler}
spec:
  scaleTargetRef: {kind: DaemonSet, apiVersion: apps/v1}
  minScale: 5
  maxScale: 2
  target: 0
  initialScale: -1
  scaleDownDelay: 1.5s
  window: 10
  metrics: rps
---
apiVersion: autoscaling.knative.dev/v1alpha1
kind: PodAutoscaler
metadata: {name: a}
spec:
  scaleTargetRef: {kind: Service, name: hello}
  minScale: 0
",
        &expect![[r#"
            hello.yaml:5: document 1: spec.scaleTargetRef.name: missing field(s); write name: and the service's name
            hello.yaml:5: document 1: spec.scaleTargetRef.kind: invalid value: DaemonSet; write Service, Configuration or Revision
            hello.yaml:5: document 1: spec.scaleTargetRef.apiVersion: invalid value: apps/v1; write serving.knative.dev/v1
            hello.yaml:7: document 1: spec.maxScale, spec.minScale: max-scale=2 is less than min-scale=5; write max-scale: "5" or more
            hello.yaml:8: document 1: spec.target: target 0 should be at least 0.01; write 0.01 or more
            hello.yaml:9: document 1: spec.initialScale: invalid value: -1; write a whole number of 0 or more
            hello.yaml:10: document 1: spec.scaleDownDelay: must be specified with at most second precision; write 1s
            hello.yaml:11: document 1: spec.window: cannot read 10 as text; write window in quotes: "10"
            hello.yaml:12: document 1: spec.metrics: unknown field "metrics"; write metric
            hello.yaml:17: document 2: warning: spec.maxScale, spec.target: not given, so these defaults apply: maxScale unlimited, target 100; write maxScale: 0, target: 100
        "#]],
    );
    let admission = local(
        "apiVersion: autoscaling.knative.dev/v1alpha1\nkind: PodAutoscaler\nmetadata: {name: a, annotations: {autoscaling.knative.dev/window: 10s, autoscaling.knative.dev/min-scale: '7', other: x}}\nspec:\n  scaleTargetRef: {kind: Service, name: hello}\n  minScale: 0\n  maxScale: 1000\n  target: 10.0\n",
    );
    assert_eq!((admission.problems, admission.warnings), (vec![], vec![]));
    let expected = [("max-scale", "1000"), ("min-scale", "0"), ("target", "10"), ("window", "10s")];
    let annotations = pod_autoscaler_annotations(&admission.object);
    let found: Vec<(&str, &str)> = annotations
        .iter()
        .map(|(k, v)| (k.strip_prefix("autoscaling.knative.dev/").unwrap_or(k), v.as_str()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn secrets_keep_their_values_to_themselves() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {password: hunter2-plain, 'bad key': aGk=}\nstringData: {pin: 4711, ok: hello}\n";
    check(
        text,
        &expect![[r#"
        hello.yaml:4: document 1: data.password: cannot read this value as base64; write base64, or put the text under stringData
        hello.yaml:4: document 1: data.bad key: invalid value: bad key; write a key of letters, digits, '-', '_' or '.'
        hello.yaml:5: document 1: stringData.pin: cannot read this value as text; write the value of pin in quotes
    "#]],
    );
    assert!(!said(text).contains("hunter2") && !said(text).contains("4711"));
    let good = local(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: aGVsbG8=, b: eA==}\nstringData: {b: text}\n",
    );
    assert_eq!(good.problems, vec![]);
    assert_eq!(value_bytes(&good.object, "a"), Some(b"hello".to_vec()));
    assert_eq!(value_bytes(&good.object, "b"), Some(b"text".to_vec()));
    assert_eq!(value_bytes(&good.object, "c"), None);
}

#[test]
fn config_maps_and_logging() {
    check(
        "apiVersion: v1
kind: ConfigMap
metadata: {name: config-autoscaler}
data:
  stable-window: '60'
  initial-scale: '0'
  stable-windo: 60s
---
apiVersion: v1
kind: ConfigMap
metadata: {name: My_Map}
data: {a: x, count: 5}
binaryData: {a: aGk=}
---
apiVersion: logging.knative.dev/v1alpha1
kind: LoggingConfig
metadata: {name: l}
spec:
  loggers: {serving.knative.dev: {level: LOUD}}
  forwarders: [{config: {host: h}}, {typ: fluentd}, {type: fluentd, config: {port: 0}},
    {type: fluentd, config: {host: h, path: /logs}}, {type: loki, config: {url: 'http://h'}}]
",
        &expect![[r#"
            hello.yaml:5: document 1: data.stable-window: failed to parse data: failed to parse "stable-window": time: missing unit in duration "60"; write 60s
            hello.yaml:7: document 1: warning: data.stable-windo: unknown key "stable-windo", which is ignored; write stable-window
            hello.yaml:11: document 2: metadata.name: invalid value: My_Map: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'); write my-map
            hello.yaml:12: document 2: data.count: cannot read 5 as text; write count in quotes: "5"
            hello.yaml:13: document 2: binaryData.a: duplicate of key present in data; keep it in data or in binaryData
            hello.yaml:19: document 3: spec.loggers.serving.knative.dev.level: invalid value: LOUD; write DEBUG, INFO, WARN, ERROR or FATAL
            hello.yaml:20: document 3: spec.forwarders[0].type: missing field(s); write type: and the forwarder's kind, such as fluentd
            hello.yaml:20: document 3: spec.forwarders[1].typ: unknown field "typ"; write type
            hello.yaml:20: document 3: spec.forwarders[2].config.host: missing field(s); write host: and the collector's name or address
            hello.yaml:20: document 3: spec.forwarders[2].config.port: expected 1 <= 0 <= 65535; write a value from 1 to 65535
            hello.yaml:20: document 3: warning: spec.forwarders: accepted but without effect here: spec.forwarders[3].config.path, spec.forwarders[4] (type loki); write type: fluentd with config.host, port, tag and requireAckResponse; nothing else is served
        "#]],
    );
    let good = local(
        "apiVersion: logging.knative.dev/v1alpha1\nkind: LoggingConfig\nmetadata: {name: l}\nspec:\n  level: warn\n  loggers: {a.b: {level: DEBUG}}\n  forwarders: {type: fluentd, config: {host: h, port: 24224}}\n",
    );
    assert_eq!(good.problems, vec![]);
    let settings = logging_settings(&good.object);
    assert_eq!(settings.level, Some(crate::config::settings::LogLevel::Warn));
    assert_eq!(settings.loggers.len(), 1);
    let fluentd = |host: &str, port, tag: &str, confirmed| Forwarder {
        host: host.to_owned(),
        port,
        tag: tag.to_owned(),
        confirmed,
    };
    assert_eq!(settings.forwarders, [fluentd("h", 24224, "tidegate", false)]);
    let several = local(
        "apiVersion: logging.knative.dev/v1alpha1\nkind: LoggingConfig\nmetadata: {name: l}\nspec:\n  forwarders:\n  - {type: loki}\n  - {type: Fluentd, config: {host: '[::1]', port: 9, tag: a.b, requireAckResponse: true}}\n",
    );
    assert_eq!(several.problems, vec![]);
    let settings = logging_settings(&several.object);
    assert_eq!(settings.forwarders, [fluentd("::1", 9, "a.b", true)]);
    assert_eq!(settings.forwarders[0].to_string(), "fluentd [::1]:9");
}

#[test]
fn domain_mappings_are_checked() {
    check(
        "apiVersion: serving.knative.dev/v1beta1
kind: DomainMapping
metadata: {name: localhost, namespace: default}
spec:
  ref: {name: hello, namespace: other}
",
        &expect![[r#"
            hello.yaml:3: document 1: metadata.name: invalid name "localhost": name: Invalid value: "localhost": should be a domain with at least two segments separated by dots; write a domain such as app.example.com
            hello.yaml:5: document 1: spec.ref.apiVersion: missing field(s); write apiVersion: serving.knative.dev/v1
            hello.yaml:5: document 1: spec.ref.kind: missing field(s); write kind: Service
            hello.yaml:5: document 1: spec.ref.namespace: mismatched namespaces (parent namespace: "default" does not match ref: "other"); write default
        "#]],
    );
}

#[test]
fn a_named_template_changes_with_its_name_only() {
    let text = |image: &str| {
        format!(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: hello}}\nspec:\n  template:\n    metadata: {{name: hello-v1}}\n    spec: {{containers: [{{image: {image}}}]}}\n"
        )
    };
    let ctx = AdmissionContext::one_machine();
    let stored = Node::from_json(&admit(&node(&text("example.com/one")), &ctx, None).object);
    let update = admit(&node(&text("example.com/two")), &ctx, Some(&stored));
    assert_eq!(update.problems.len(), 1);
    let problem = &update.problems[0];
    assert_eq!((problem.line, problem.path.as_str()), (6, "spec.template.metadata.name"));
    assert!(problem.details.as_deref().is_some_and(|d| d.contains("containers[0].image")));
}

#[test]
fn files_own_their_revisions() {
    let text = "apiVersion: serving.knative.dev/v1\nkind: Revision\nmetadata:\n  name: hello-00001\n  labels: {serving.knative.dev/configuration: hello}\nspec: {containers: [{image: example.com/img}]}\n";
    assert_eq!(local(text).problems, vec![]);
    let cluster = admit(&node(text), &AdmissionContext::default(), None);
    assert_eq!(cluster.problems[0].path, "metadata.labels.serving.knative.dev/configuration");
}
