use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
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
            hello.yaml:6: document 1: metadata.annotations: invalid key name "autoscaling.knative.dev/min-scale" (autoscaling annotations must be put under "spec.template.metadata.annotations" to work); write autoscaling.knative.dev/min-scale below spec.template.metadata.annotations
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
            hello.yaml:28: document 1: spec.template.spec.containers[0].env[1].value: cannot read true as text; write value in quotes: "true"
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
