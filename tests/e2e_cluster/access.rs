//! What tidegate's service account may do and what it may not, as the API server sees it.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use crate::stage::Cluster;

const SERVING: &str = "serving.knative.dev";
const OWN: &str = "tidegate-system";
const KNATIVE: &str = "knative-serving";
/// Somebody's namespace.
const OTHER: &str = "default";

/// Group, resource, namespace (empty: all of them), verbs that are allowed, verbs that are not.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str);

const TABLE: &[Row] = &[
    (SERVING, "services", "", "get list watch", "create update patch delete deletecollection"),
    (SERVING, "domainmappings", "", "get list watch patch", "create update delete"),
    (SERVING, "configurations", "", "get list watch create patch", "delete deletecollection"),
    (SERVING, "revisions", "", "get list watch create patch delete", "deletecollection"),
    (SERVING, "routes", "", "get list watch create patch", "delete deletecollection"),
    (SERVING, "services/status", "", "patch", "delete"),
    (SERVING, "revisions/status", "", "patch", "delete"),
    ("autoscaling.internal.knative.dev", "podautoscalers", "", "list create patch", "delete"),
    ("autoscaling.knative.dev", "podautoscalers", "", "get list watch", "create patch delete"),
    ("logging.knative.dev", "loggingconfigs", "", "get list watch", "create patch delete"),
    (
        "networking.internal.knative.dev",
        "clusterdomainclaims",
        "",
        "get list watch create delete",
        "update patch deletecollection",
    ),
    ("apps", "deployments", "", "get list watch create patch", "delete update deletecollection"),
    ("apps", "deployments/scale", "", "get patch", ""),
    ("apps", "statefulsets/scale", "", "get patch", ""),
    ("apps", "statefulsets", "", "get list watch", "patch delete create update"),
    ("autoscaling", "horizontalpodautoscalers", "", "get list watch", "patch delete create"),
    ("apps", "daemonsets", "", "", "get list patch delete create"),
    ("autoscaling", "horizontalpodautoscalers", "", "get list watch", "create patch delete"),
    ("", "pods", "", "get list watch patch", "create delete update deletecollection"),
    ("", "pods/exec", "", "", "create get"),
    ("", "pods/log", "", "", "get"),
    ("", "pods/eviction", "", "", "create"),
    ("", "pods/ephemeralcontainers", "", "", "patch update"),
    ("", "services", "", "get list watch create patch delete", "deletecollection"),
    ("", "services/status", "", "patch", "delete"),
    ("", "services/proxy", "", "", "get create"),
    (
        "discovery.k8s.io",
        "endpointslices",
        "",
        "get list watch create patch delete",
        "update deletecollection",
    ),
    ("", "secrets", "", "get", "list watch create update patch delete deletecollection"),
    ("", "secrets", OWN, "get create", "list watch delete"),
    ("", "configmaps", "", "", "get list watch create patch delete"),
    ("", "configmaps", OTHER, "", "get list watch create patch delete"),
    ("", "configmaps", KNATIVE, "get list watch", "create patch delete"),
    ("coordination.k8s.io", "leases", OWN, "get create update", "delete"),
    ("coordination.k8s.io", "leases", KNATIVE, "get list watch", "create update patch delete"),
    ("coordination.k8s.io", "leases", OTHER, "", "get list watch create update patch delete"),
    ("authentication.k8s.io", "tokenreviews", "", "create", "get list"),
    ("authorization.k8s.io", "subjectaccessreviews", "", "create", "get list"),
    ("", "serviceaccounts", "", "", "get list create patch impersonate"),
    ("", "serviceaccounts/token", "", "", "create"),
    ("", "namespaces", "", "", "list create patch delete"),
    ("", "nodes", "", "", "get list patch"),
    ("events.k8s.io", "events", "", "create patch", "list delete"),
    ("rbac.authorization.k8s.io", "clusterroles", "", "", "get create bind escalate patch"),
    ("rbac.authorization.k8s.io", "rolebindings", "", "", "get create patch"),
    ("apiextensions.k8s.io", "customresourcedefinitions", "", "", "create update patch delete"),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        "",
        "",
        "create list patch",
    ),
    ("*", "*", "", "", "get list create delete *"),
];

/// One question to the API server.
fn review((group, resource, namespace, ..): Row, verb: &str, name: &str) -> Json {
    let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "system:serviceaccount:tidegate-system:tidegate",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:tidegate-system", "system:authenticated"],
            "resourceAttributes": {
                "group": group, "resource": resource, "subresource": sub,
                "namespace": namespace, "verb": verb, "name": name,
            },
        },
    })
}

/// The answers to all of them, asked at once.
fn ask(cluster: &Cluster, questions: &[Json]) -> Vec<bool> {
    let text = questions.iter().fold(String::new(), |mut text, question| {
        writeln!(text, "{question}\n---").unwrap();
        text
    });
    let printed = cluster.kubectl_with(&["create", "-o", "json", "-f", "-"], &text).unwrap();
    let answers = serde_json::Deserializer::from_str(&printed).into_iter::<Json>();
    answers.map(|answer| answer.unwrap()["status"]["allowed"] == true).collect()
}

#[test]
fn the_service_account_may_do_what_it_needs_and_nothing_else() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.install();
    let (mut questions, mut expected) = (Vec::new(), Vec::new());
    for row in TABLE {
        for (verbs, allowed) in [(row.3, true), (row.4, false)] {
            for verb in verbs.split_whitespace() {
                questions.push(review(*row, verb, ""));
                expected.push((format!("{verb} {}/{} in {:?}", row.0, row.1, row.2), allowed));
            }
        }
    }
    // Of the webhooks' objects and of secrets, only its own by name.
    for (resource, name, allowed) in [
        ("validatingwebhookconfigurations", "tidegate", true),
        ("validatingwebhookconfigurations", "other", false),
        ("mutatingwebhookconfigurations", "tidegate", true),
        ("mutatingwebhookconfigurations", "other", false),
    ] {
        let row = ("admissionregistration.k8s.io", resource, "", "", "");
        questions.push(review(row, "patch", name));
        expected.push((format!("patch {resource} {name}"), allowed));
    }
    for (namespace, name, allowed) in [
        (OWN, "tidegate-webhook", true),
        (OWN, "tidegate-peers", true),
        (OWN, "other", false),
        (OTHER, "tidegate-webhook", false),
        (OTHER, "tidegate-peers", false),
    ] {
        questions.push(review(("", "secrets", namespace, "", ""), "update", name));
        expected.push((format!("update secret {name} in {namespace}"), allowed));
    }
    let answers = ask(cluster, &questions);
    let wrong: Vec<_> = expected
        .iter()
        .zip(answers)
        .filter(|((_, expected), answer)| expected != answer)
        .map(|((what, _), answer)| {
            format!("{what}: {}", if answer { "allowed" } else { "refused" })
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
