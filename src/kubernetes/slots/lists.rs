//! Lists of pods, asked of the API server.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::Value;

use super::super::controller::meta::REVISION;
use super::super::kinds::Kind;
use super::super::mirror::value;
use super::super::peers::SERVICE;
use crate::model::EndpointId;

/// Pods that one answer names at most.
const PAGE: u32 = 500;

/// Names of the pods in which a proxy runs, by the API server.
pub(super) async fn running(client: &Client, namespace: &str) -> kube::Result<BTreeSet<Arc<str>>> {
    let services: Api<DynamicObject> = Kind::CoreService.in_namespace(client, namespace);
    let service = value(&services.get(SERVICE).await?);
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    let selector = selector.into_iter().flatten().filter_map(|(key, value)| {
        let value = value.as_str()?;
        Some(format!("{key}={value}"))
    });
    let selector: Vec<_> = selector.collect();
    let pods: Api<DynamicObject> = Kind::Pod.in_namespace(client, namespace);
    let pods = pods.list(&ListParams::default().labels(&selector.join(","))).await?;
    let running = pods.items.into_iter().filter_map(|pod| {
        let name = pod.metadata.name.as_deref()?.into();
        is_running(&value(&pod)).then_some(name)
    });
    Ok(running.collect())
}

/// Whether any container of a pod runs, as far as its node has told.
fn is_running(pod: &Value) -> bool {
    let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
    let mut statuses = statuses.into_iter().flatten();
    statuses.any(|status| status.pointer("/state/running").is_some())
}

/// UIDs of the pods of all revisions, as of a moment after this is called: a list that names no
/// version is read from what was written last. Page after page is of the same moment.
pub(super) async fn revision_pods(
    client: &Client,
    namespace: Option<&str>,
) -> kube::Result<BTreeSet<EndpointId>> {
    let pods = Kind::Pod.objects(client, namespace);
    let mut params = ListParams::default().labels(REVISION).limit(PAGE);
    let mut found = BTreeSet::new();
    loop {
        let page = pods.list_metadata(&params).await?;
        found
            .extend(page.items.into_iter().filter_map(|pod| pod.metadata.uid).map(EndpointId::new));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_runs_when_a_container_does() {
        let pod = |states: &[Value]| {
            let statuses: Vec<_> = states.iter().map(|state| json!({"state": state})).collect();
            json!({"status": {"phase": "Running", "containerStatuses": statuses}})
        };
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let ended = json!({"terminated": {"exitCode": 137}});
        assert!(is_running(&pod(&[ended.clone(), running])));
        assert!(!is_running(&pod(&[ended, json!({"waiting": {"reason": "CrashLoopBackOff"}})])));
        assert!(!is_running(&json!({"status": {"phase": "Pending"}})));
    }

    #[tokio::test]
    async fn the_service_says_which_pods_are_proxies() {
        let answer = |path: String| {
            let running = json!({"containerStatuses": [{"state": {"running": {}}}]});
            let pod = |name: &str, status: &Value| {
                let metadata = json!({"name": name});
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status})
            };
            match path.as_str() {
                "/api/v1/namespaces/gate/services/tidegate-peers" => json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE},
                    "spec": {"selector": {"app": "gate", "part": "proxy"}}}),
                "/api/v1/namespaces/gate/pods?&labelSelector=app%3Dgate%2Cpart%3Dproxy" => json!({
                    "apiVersion": "v1", "kind": "PodList", "metadata": {},
                    "items": [pod("a", &running), pod("b", &json!({"phase": "Pending"}))]}),
                other => panic!("{other} was asked for"),
            }
        };
        let found = running(&answering(answer), "gate").await;
        assert_eq!(found.expect("a list"), BTreeSet::from(["a".into()]));
    }

    /// An API server that answers each path.
    fn answering(answer: fn(String) -> Value) -> Client {
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
            let body = http_body_util::Full::from(answer(path).to_string());
            async move { Ok::<_, std::convert::Infallible>(http::Response::new(body)) }
        });
        Client::new(service, "gate")
    }

    #[tokio::test]
    async fn pods_are_listed_page_by_page_as_they_are_now() {
        let answer = |path: String| {
            let page = |pods: &[&str], next: &str| {
                let pods = pods.iter().map(|uid| json!({"metadata": {"name": "p", "uid": uid}}));
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                    "metadata": {"continue": next}, "items": pods.collect::<Vec<_>>()})
            };
            // No resourceVersion: what is remembered somewhere is not enough.
            let path = path.strip_prefix("/api/v1/namespaces/shop/pods?").expect("pods");
            match path {
                "&labelSelector=serving.knative.dev%2Frevision&limit=500" => page(&["a", "b"], "n"),
                "&labelSelector=serving.knative.dev%2Frevision&limit=500&continue=n" => {
                    page(&["c"], "")
                }
                other => panic!("{other} was asked for"),
            }
        };
        let found = revision_pods(&answering(answer), Some("shop")).await.expect("a list");
        assert_eq!(found, BTreeSet::from(["a", "b", "c"].map(EndpointId::new)));
    }
}
