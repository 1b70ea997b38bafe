use expect_test::{Expect, expect};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::*;

mod conditions;
mod pods;
mod writing;

/// A revision as the API server sends it, defaults filled in.
fn revision() -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": {
            "namespace": "ns", "name": "hello-00001", "uid": "r-uid", "generation": 1,
            "labels": {
                "team": "x",
                "serving.knative.dev/configuration": "hello",
                "serving.knative.dev/service": "hello",
                "serving.knative.dev/routingState": "active",
                "serving.knative.dev/route": "hello",
            },
            "annotations": {
                "autoscaling.knative.dev/min-scale": "2",
                "serving.knative.dev/creator": "me",
                "serving.knative.dev/routes": "hello",
                "serving.knative.dev/routingStateModified": "2026-01-02T03:04:05Z",
            },
        },
        "spec": {
            "containerConcurrency": 7, "timeoutSeconds": 5, "responseStartTimeoutSeconds": 5,
            "enableServiceLinks": false,
            "containers": [{
                "name": "user-container", "image": "app:1",
                "readinessProbe": {"tcpSocket": {"port": 0}, "successThreshold": 1},
                "resources": {},
            }],
        },
    })
}

fn check(value: &Value, expected: &Expect) {
    expected.assert_eq(&serde_json::to_string_pretty(value).unwrap());
}

#[test]
fn the_deployment_has_the_revisions_labels() {
    let made = made::deployment(&revision(), &Settings::default(), Some(3));
    check(
        &made["metadata"],
        &expect![[r#"
        {
          "namespace": "ns",
          "name": "hello-00001-deployment",
          "labels": {
            "team": "x",
            "serving.knative.dev/configuration": "hello",
            "serving.knative.dev/service": "hello",
            "serving.knative.dev/revision": "hello-00001",
            "serving.knative.dev/revisionUID": "r-uid",
            "app": "hello-00001"
          },
          "annotations": {
            "serving.knative.dev/creator": "me"
          },
          "ownerReferences": [
            {
              "apiVersion": "serving.knative.dev/v1",
              "kind": "Revision",
              "name": "hello-00001",
              "uid": "r-uid",
              "controller": true,
              "blockOwnerDeletion": true
            }
          ]
        }"#]],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one object, whole")]
fn the_pods_are_the_manifests() {
    let made = made::deployment(&revision(), &Settings::default(), Some(3));
    check(
        &made["spec"],
        &expect![[r#"
        {
          "selector": {
            "matchLabels": {
              "serving.knative.dev/revisionUID": "r-uid"
            }
          },
          "progressDeadlineSeconds": 600,
          "revisionHistoryLimit": 0,
          "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {
              "maxUnavailable": 0
            }
          },
          "template": {
            "metadata": {
              "labels": {
                "team": "x",
                "serving.knative.dev/configuration": "hello",
                "serving.knative.dev/service": "hello",
                "serving.knative.dev/revision": "hello-00001",
                "serving.knative.dev/revisionUID": "r-uid",
                "app": "hello-00001"
              },
              "annotations": {
                "serving.knative.dev/creator": "me",
                "kubectl.kubernetes.io/default-container": "user-container"
              }
            },
            "spec": {
              "containers": [
                {
                  "name": "user-container",
                  "image": "app:1",
                  "terminationMessagePolicy": "FallbackToLogsOnError",
                  "resources": {},
                  "ports": [
                    {
                      "name": "user-port",
                      "containerPort": 8080,
                      "protocol": "TCP"
                    }
                  ],
                  "env": [
                    {
                      "name": "PORT",
                      "value": "8080"
                    },
                    {
                      "name": "K_REVISION",
                      "value": "hello-00001"
                    },
                    {
                      "name": "K_CONFIGURATION",
                      "value": "hello"
                    },
                    {
                      "name": "K_SERVICE",
                      "value": "hello"
                    }
                  ],
                  "lifecycle": {
                    "preStop": {
                      "sleep": {
                        "seconds": 5
                      }
                    }
                  },
                  "readinessProbe": {
                    "tcpSocket": {
                      "port": 8080
                    },
                    "successThreshold": 1,
                    "periodSeconds": 1
                  }
                }
              ],
              "enableServiceLinks": false,
              "terminationGracePeriodSeconds": 35,
              "affinity": {
                "podAntiAffinity": {
                  "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                      "weight": 100,
                      "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {
                          "matchLabels": {
                            "serving.knative.dev/revision": "hello-00001"
                          }
                        }
                      }
                    }
                  ]
                }
              }
            }
          },
          "replicas": 3
        }"#]],
    );
    let later = made::deployment(&revision(), &Settings::default(), None);
    assert_eq!(later.pointer("/spec/replicas"), None, "from then on the count is the scaler's");
}

#[test]
fn its_endpoints_are_found_by_a_service() {
    let mut h2c = revision();
    check(
        &made::private_service(&h2c),
        &expect![[r#"
        {
          "apiVersion": "v1",
          "kind": "Service",
          "metadata": {
            "namespace": "ns",
            "name": "hello-00001-private",
            "labels": {
              "team": "x",
              "serving.knative.dev/configuration": "hello",
              "serving.knative.dev/service": "hello",
              "serving.knative.dev/revision": "hello-00001",
              "serving.knative.dev/revisionUID": "r-uid",
              "app": "hello-00001",
              "networking.internal.knative.dev/serverlessservice": "hello-00001",
              "networking.internal.knative.dev/serviceType": "Private"
            },
            "annotations": {
              "serving.knative.dev/creator": "me"
            },
            "ownerReferences": [
              {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Revision",
                "name": "hello-00001",
                "uid": "r-uid",
                "controller": true,
                "blockOwnerDeletion": true
              }
            ]
          },
          "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": {
              "serving.knative.dev/revisionUID": "r-uid"
            },
            "ports": [
              {
                "name": "http",
                "protocol": "TCP",
                "port": 80,
                "targetPort": "user-port"
              }
            ]
          }
        }"#]],
    );
    h2c["spec"]["containers"][0]["ports"] = json!([{"name": "h2c", "containerPort": 9000}]);
    check(
        &made::private_service(&h2c)["spec"]["ports"],
        &expect![[r#"
        [
          {
            "name": "http2",
            "protocol": "TCP",
            "port": 80,
            "targetPort": "user-port",
            "appProtocol": "kubernetes.io/h2c"
          }
        ]"#]],
    );
}

#[test]
fn its_scale_is_a_pod_autoscalers() {
    let config = crate::config::settings::AutoscalerConfig::default();
    let made = made::pod_autoscaler(&revision(), &config, false);
    check(
        &made,
        &expect![[r#"
        {
          "apiVersion": "autoscaling.internal.knative.dev/v1alpha1",
          "kind": "PodAutoscaler",
          "metadata": {
            "namespace": "ns",
            "name": "hello-00001",
            "labels": {
              "team": "x",
              "serving.knative.dev/configuration": "hello",
              "serving.knative.dev/service": "hello",
              "serving.knative.dev/revision": "hello-00001",
              "serving.knative.dev/revisionUID": "r-uid",
              "app": "hello-00001"
            },
            "annotations": {
              "autoscaling.knative.dev/min-scale": "2",
              "serving.knative.dev/creator": "me",
              "autoscaling.knative.dev/class": "kpa.autoscaling.knative.dev",
              "autoscaling.knative.dev/metric": "concurrency"
            },
            "ownerReferences": [
              {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Revision",
                "name": "hello-00001",
                "uid": "r-uid",
                "controller": true,
                "blockOwnerDeletion": true
              }
            ]
          },
          "spec": {
            "containerConcurrency": 7,
            "scaleTargetRef": {
              "apiVersion": "apps/v1",
              "kind": "Deployment",
              "name": "hello-00001-deployment"
            },
            "protocolType": "http1",
            "reachability": "Reachable"
          }
        }"#]],
    );
    let broken = made::pod_autoscaler(&revision(), &config, true);
    assert_eq!(broken["spec"]["reachability"], "Unreachable");
    let mut pending = revision();
    pending["metadata"]["labels"]["serving.knative.dev/routingState"] = json!("pending");
    let pending = made::pod_autoscaler(&pending, &config, false);
    assert_eq!(pending["spec"].get("reachability"), None);
}

#[test]
fn it_begins_with_the_initial_scale_within_the_bounds() {
    let config = crate::config::settings::AutoscalerConfig {
        allow_zero_initial_scale: true,
        ..crate::config::settings::AutoscalerConfig::default()
    };
    for (annotations, state, expected) in [
        (json!({}), "active", 1),
        (json!({"initial-scale": "3"}), "active", 3),
        (json!({"initial-scale": "0"}), "active", 0),
        (json!({"initial-scale": "0", "min-scale": "2"}), "active", 2),
        (json!({"initial-scale": "0", "min-scale": "2"}), "reserve", 0),
        (json!({"initial-scale": "9", "max-scale": "4"}), "active", 4),
    ] {
        let mut revision = revision();
        let named = annotations.as_object().unwrap().iter();
        let named =
            named.map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), value.clone()));
        revision["metadata"]["annotations"] = Value::Object(named.collect());
        revision["metadata"]["labels"]["serving.knative.dev/routingState"] = json!(state);
        assert_eq!(made::initial_replicas(&revision, &config), expected, "{annotations} {state}");
    }
}

#[test]
fn the_deadline_is_the_annotations_or_the_clusters() {
    let mut revision = revision();
    let mut settings = Settings::default();
    let deadline = |revision: &Value, settings: &Settings| {
        made::deployment(revision, settings, None)["spec"]["progressDeadlineSeconds"].clone()
    };
    settings.deployment.progress_deadline = std::time::Duration::from_secs(90);
    assert_eq!(deadline(&revision, &settings), 90);
    revision["metadata"]["annotations"]["serving.knative.dev/progress-deadline"] = json!("2m");
    assert_eq!(deadline(&revision, &settings), 120);
}
