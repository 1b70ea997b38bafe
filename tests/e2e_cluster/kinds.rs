//! The kinds, as the API server keeps and kubectl prints them.

use serde_json::{Value as Json, json};

use crate::stage::{Cluster, repository};

/// Manifests as they are found at users of Knative, with fields in all places.
const EVERYTHING: &str = r#"
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: everything
  labels: {team: blue}
  annotations: {serving.knative.dev/rollout-duration: 60s}
spec:
  template:
    metadata:
      name: everything-one
      labels: {tier: web}
      annotations: {autoscaling.knative.dev/max-scale: "5"}
    spec:
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}]
      automountServiceAccountToken: false
      containerConcurrency: 10
      containers:
        - name: user
          image: ghcr.io/example/everything
          command: [/program]
          args: [serve]
          workingDir: /data
          ports: [{name: h2c, containerPort: 9000, protocol: TCP}]
          env:
            - {name: ONE, value: "1"}
            - {name: TWO, valueFrom: {secretKeyRef: {name: a, key: b, optional: true}}}
            - {name: THREE, valueFrom: {configMapKeyRef: {name: a, key: b}}}
            - {name: FOUR, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}
          envFrom:
            - {prefix: P_, configMapRef: {name: a, optional: true}}
            - {secretRef: {name: a}}
          imagePullPolicy: IfNotPresent
          livenessProbe:
            httpGet: {path: /live, port: 9000, httpHeaders: [{name: a, value: b}]}
            failureThreshold: 4
          readinessProbe:
            grpc: {port: 9000, service: s}
            periodSeconds: 3
          startupProbe:
            exec: {command: [/program, check]}
          resources:
            limits: {cpu: 1500m, memory: 1Gi}
            requests: {cpu: 1}
          securityContext:
            allowPrivilegeEscalation: false
            capabilities: {add: [NET_BIND_SERVICE], drop: [ALL]}
            privileged: false
            readOnlyRootFilesystem: true
            runAsGroup: 1
            runAsNonRoot: true
            runAsUser: 1
            seccompProfile: {type: RuntimeDefault}
          terminationMessagePath: /log
          terminationMessagePolicy: File
          volumeMounts:
            - {name: config, mountPath: /config, readOnly: true, subPath: a}
            - {name: tmp, mountPath: /tmp}
        - name: side
          image: ghcr.io/example/side
          readinessProbe: {tcpSocket: {port: 1234, host: a}}
      dnsConfig: {nameservers: [10.0.0.1]}
      dnsPolicy: None
      enableServiceLinks: false
      hostAliases: [{ip: 10.0.0.2, hostnames: [a]}]
      idleTimeoutSeconds: 20
      imagePullSecrets: [{name: registry}]
      initContainers: [{name: first, image: ghcr.io/example/first, lifecycle: {stopSignal: SIGTERM}}]
      nodeSelector: {disk: ssd}
      priorityClassName: high
      responseStartTimeoutSeconds: 30
      runtimeClassName: gvisor
      schedulerName: other
      securityContext: {fsGroup: 5, sysctls: [{name: a, value: b}]}
      serviceAccountName: everything
      shareProcessNamespace: true
      timeoutSeconds: 60
      tolerations: [{key: a, operator: Exists}]
      topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
      volumes:
        - {name: config, configMap: {name: a, defaultMode: 420, items: [{key: a, path: b, mode: 256}]}}
        - {name: secret, secret: {secretName: a, optional: true}}
        - {name: tmp, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
        - {name: claim, persistentVolumeClaim: {claimName: a, readOnly: true}}
        - name: all
          projected:
            defaultMode: 256
            sources:
              - {secret: {name: a, items: [{key: a, path: b}]}}
              - {configMap: {name: a, optional: true}}
              - {serviceAccountToken: {path: token, audience: a, expirationSeconds: 600}}
              - {downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.labels}}]}}
  traffic:
    - {revisionName: everything-one, percent: 90, tag: current}
    - {latestRevision: true, percent: 10}
---
apiVersion: serving.knative.dev/v1beta1
kind: DomainMapping
metadata:
  name: everything.example.com
spec:
  ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: everything, namespace: kinds}
  tls: {secretName: everything}
---
apiVersion: autoscaling.knative.dev/v1alpha1
kind: PodAutoscaler
metadata:
  name: everything
spec:
  scaleTargetRef: {apiVersion: serving.knative.dev/v1, kind: Service, name: everything}
  minScale: 0
  maxScale: 1000
  target: 10.5
  metric: rps
  window: 60s
---
apiVersion: logging.knative.dev/v1alpha1
kind: LoggingConfig
metadata:
  name: everything
spec:
  level: info
  loggers: {tidegate::proxy: {level: DEBUG}}
  forwarders: [{type: fluentd, config: {host: logs, port: 24224}}]
---
apiVersion: autoscaling.internal.knative.dev/v1alpha1
kind: PodAutoscaler
metadata:
  name: everything
spec:
  containerConcurrency: 5
  protocolType: http1
  reachability: Reachable
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: everything}
"#;

/// What kubectl reads from a text, without asking the server.
fn read(cluster: &Cluster, text: &str) -> Vec<Json> {
    let arguments = ["create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-"];
    let printed = cluster.kubectl_with(&arguments, text).unwrap();
    let documents = serde_json::Deserializer::from_str(&printed).into_iter::<Json>();
    documents.map(Result::unwrap).collect()
}

#[test]
fn nothing_that_a_manifest_may_have_is_pruned() {
    let Some(cluster) = Cluster::get() else { return };
    cluster.bare_namespace("kinds");
    for mut object in read(cluster, EVERYTHING) {
        object["metadata"]["namespace"] = json!("kinds");
        let made = cluster.kubectl_with(
            &["create", "--validate=strict", "-o", "json", "-f", "-"],
            &object.to_string(),
        );
        let made: Json = serde_json::from_str(&made.unwrap()).unwrap();
        assert_eq!(made["spec"], object["spec"]);
    }
}

#[test]
fn what_knative_does_not_know_is_refused_by_name() {
    let Some(cluster) = Cluster::get() else { return };
    cluster.bare_namespace("odd");
    let manifest = r"
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: odd, namespace: odd}
spec: {template: {spec: {containers: [{image: a, lifecycle: {}}], restartPolicy: Never}}}
";
    let error = cluster.kubectl_with(&["create", "-f", "-"], manifest).unwrap_err();
    for field in ["spec.template.spec.containers[0].lifecycle", "spec.template.spec.restartPolicy"]
    {
        assert!(error.contains(&format!("unknown field \"{field}\"")), "{error}");
    }
    let manifest = "
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: odd, namespace: odd}
spec: {template: {spec: {containerConcurrency: ten}}}
";
    let error = cluster.kubectl_with(&["create", "-f", "-"], manifest).unwrap_err();
    assert!(error.contains("spec.template.spec.containers: Required value"), "{error}");
    assert!(error.contains("spec.template.spec.containerConcurrency: Invalid value"), "{error}");
}

#[test]
fn the_examples_apply_unchanged() {
    let Some(cluster) = Cluster::get() else { return };
    let mut applied = 0;
    for file in walk(&repository("deploy/examples")) {
        for mut object in read(cluster, &std::fs::read_to_string(file).unwrap()) {
            let metadata = object["metadata"].as_object_mut().unwrap();
            let namespace = metadata.entry("namespace").or_insert(json!("examples")).clone();
            cluster.bare_namespace(namespace.as_str().unwrap());
            cluster
                .kubectl_with(&["apply", "--validate=strict", "-f", "-"], &object.to_string())
                .unwrap();
            applied += 1;
        }
    }
    assert!(applied >= 8, "{applied}");
}

/// The manifests below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        } else if entry.path().extension().is_some_and(|extension| extension == "yaml") {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn kubectl_prints_the_columns_that_knative_users_know() {
    let Some(cluster) = Cluster::get() else { return };
    cluster.bare_namespace("columns");
    let objects = r#"
apiVersion: serving.knative.dev/v1
kind: Revision
metadata:
  name: a-00001
  labels: {serving.knative.dev/configuration: a, serving.knative.dev/configurationGeneration: "1"}
spec: {containers: [{image: a}]}
---
{apiVersion: serving.knative.dev/v1, kind: Route, metadata: {name: a}, spec: {traffic: []}}
---
apiVersion: serving.knative.dev/v1
kind: Configuration
metadata: {name: a}
spec: {template: {spec: {containers: [{image: a}]}}}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: a}
spec: {template: {spec: {containers: [{image: a}]}}}
---
apiVersion: serving.knative.dev/v1beta1
kind: DomainMapping
metadata: {name: a.example.com}
spec: {ref: {kind: Service, name: a}}
---
apiVersion: autoscaling.internal.knative.dev/v1alpha1
kind: PodAutoscaler
metadata: {name: a-00001}
spec: {protocolType: http1, scaleTargetRef: {kind: Deployment, name: a}}
"#;
    cluster.kubectl_with(&["create", "-n", "columns", "-f", "-"], objects).unwrap();
    for (names, columns) in [
        (&["ksvc", "kservice"][..], "NAME URL LATESTCREATED LATESTREADY READY REASON"),
        (&["config", "cfg"], "NAME LATESTCREATED LATESTREADY READY REASON"),
        (&["rev"], "NAME CONFIG NAME GENERATION READY REASON ACTUAL REPLICAS DESIRED REPLICAS"),
        (&["rt"], "NAME URL READY REASON"),
        (&["dm"], "NAME URL READY REASON"),
        (&["kpa", "pa"], "NAME DESIREDSCALE ACTUALSCALE READY REASON"),
    ] {
        for name in names {
            let printed = cluster.kubectl(&["get", name, "-n", "columns"]);
            let header = printed.lines().next().unwrap_or_default();
            let header: Vec<&str> = header.split_whitespace().collect();
            assert_eq!(header.join(" "), columns, "{name}");
        }
    }
    // Another test's tidegate may have written statuses already, and what belongs to the Service.
    let row = cluster.kubectl(&["get", "rev", "a-00001", "-n", "columns", "--no-headers"]);
    assert_eq!(row.split_whitespace().take(3).collect::<Vec<_>>(), ["a-00001", "a", "1"]);
    // All kinds have a category that lists them together.
    let all = cluster.kubectl(&["get", "serving", "-n", "columns", "-o", "name"]);
    for object in [
        "service.serving.knative.dev/a",
        "route.serving.knative.dev/a",
        "configuration.serving.knative.dev/a",
        "revision.serving.knative.dev/a-00001",
        "domainmapping.serving.knative.dev/a.example.com",
    ] {
        assert!(all.lines().any(|line| line == object), "{object} is not in {all}");
    }
}

#[test]
fn kinds_stay_when_they_are_applied_again() {
    let Some(cluster) = Cluster::get() else { return };
    let again = cluster.kubectl(&["apply", "-k", "deploy/kubernetes/crds"]);
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
    let kinds = cluster.json(&["get", "crd"]);
    for kind in kinds["items"].as_array().unwrap() {
        assert_eq!(kind["metadata"]["generation"], 1, "{}", kind["metadata"]["name"]);
        for condition in kind["status"]["conditions"].as_array().unwrap() {
            let good = if condition["type"] == "NonStructuralSchema" { "False" } else { "True" };
            assert_eq!(condition["status"], good, "{condition}");
        }
    }
}
