//! What Knative's controllers leave undone when they are gone, and what of tidegate's is in their
//! way when they are back.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Cluster;
use super::meta::SERVICE_TYPE;
use super::object::{Object, Parts as _};
use super::work::Failure;
use crate::kubernetes::kinds::Kind;

/// By these Knative's controllers keep a deleted object until they have cleaned up after it.
const FINALIZERS: [&str; 2] = ["routes.serving.knative.dev", "domainmappings.serving.knative.dev"];

/// What is in the way is looked for so often. A write that was on its way may make one yet.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many looks that find nothing are enough.
const LOOKS: u32 = 5;
/// Deletions at once.
const AT_ONCE: usize = 16;

/// Lets a deleted object go that waits for Knative's controllers: what they would have done is done.
///
/// # Errors
/// The API server refuses it, or cannot be reached.
pub(super) async fn let_go(
    cluster: &Cluster,
    kind: Kind,
    object: Option<&Object>,
) -> Result<(), Failure> {
    let Some(value) = object.filter(|object| object.is_leaving).map(Object::value) else {
        return Ok(());
    };
    let Some(others) = other_finalizers(&value) else { return Ok(()) };
    match cluster.writer.merge(kind, &value, json!({ "finalizers": others })).await {
        Err(failure) if failure.code() == Some(404) => Ok(()),
        done => done.map(drop),
    }
}

/// The finalizers that are not Knative's; none if none of them is.
fn other_finalizers(object: &Value) -> Option<Vec<&Value>> {
    let all = object.list("/metadata/finalizers");
    let is_others = |name: &&Value| !name.as_str().is_some_and(|name| FINALIZERS.contains(&name));
    let others: Vec<&Value> = all.iter().filter(is_others).collect();
    (others.len() < all.len()).then_some(others)
}

/// Takes away the Services (core) by which tidegate finds pods: Knative makes its own of the same
/// names, and a revision is not reached by it before.
pub(super) async fn give_way(cluster: &Cluster) {
    let mut looks = 0;
    while looks < LOOKS {
        let services = cluster.revision_services.names();
        let services = services.iter().filter_map(|name| cluster.revision_services.get(name));
        let in_the_way: Vec<_> =
            services.filter(|one| !one.is_leaving && is_in_the_way(&one.value())).collect();
        looks = if in_the_way.is_empty() { looks + 1 } else { 0 };
        let deleting = stream::iter(&in_the_way).for_each_concurrent(AT_ONCE, async |service| {
            cluster.writer.forget(Kind::CoreService, &service.name);
            if let Err(reason) = cluster.writer.delete(Kind::CoreService, service).await {
                let name = &service.name;
                tracing::warn!(%name, %reason, "a Service cannot be taken out of Knative's way");
            }
        });
        deleting.await;
        sleep(LOOK_EVERY).await;
    }
    // Until Knative is gone and back again.
    std::future::pending().await
}

/// Whether a Service was made here for a revision's endpoints: Knative's own is controlled by a
/// ServerlessService.
fn is_in_the_way(service: &Value) -> bool {
    service.label(SERVICE_TYPE) == "Private"
        && service.controller().is_some_and(|owner| owner.text("/kind") == "Revision")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::jiff::Timestamp;
    use kube::runtime::watcher::Event;

    use super::super::objects::Taking;
    use super::super::testing::Server;
    use super::*;

    fn kept(value: Value) -> Object {
        let object: kube::api::DynamicObject = serde_json::from_value(value).unwrap();
        Object::keep(&object, |_| ()).unwrap()
    }

    fn route(finalizers: &Value, deleted: Option<&str>) -> Object {
        kept(json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Route",
            "metadata": {
                "namespace": "ns", "name": "hello", "uid": "u", "resourceVersion": "7",
                "finalizers": finalizers, "deletionTimestamp": deleted,
            },
        }))
    }

    #[tokio::test]
    async fn what_is_deleted_does_not_wait_for_a_knative_that_is_gone() {
        let (client, server) = Server::start(|call| (200, call.body.clone()));
        let (cluster, _events) = Cluster::new(client, Timestamp::now, Arc::default());
        let deleted = Some("2026-01-01T00:00:00Z");
        let knatives = json!(["a", "routes.serving.knative.dev"]);
        for (finalizers, deleted, expected) in [
            (&knatives, deleted, Some(json!(["a"]))),
            (&json!(["domainmappings.serving.knative.dev"]), deleted, Some(json!([]))),
            (&knatives, None, None),
            (&json!(["a"]), deleted, None),
            (&Value::Null, deleted, None),
        ] {
            let object = route(finalizers, deleted);
            let_go(&cluster, Kind::Route, Some(&object)).await.unwrap();
            let written: Vec<Value> = server.bodies();
            let written = written.into_iter().next().map(|body| {
                assert_eq!(body["metadata"]["resourceVersion"], "7", "only as it is known");
                body["metadata"]["finalizers"].clone()
            });
            assert_eq!(written, expected, "{finalizers} {deleted:?}");
        }
        let_go(&cluster, Kind::Route, None).await.unwrap();
    }

    fn private(name: &str, owner: &str) -> kube::api::DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "namespace": "ns", "name": name, "uid": name,
                "labels": {"networking.internal.knative.dev/serviceType": "Private"},
                "ownerReferences": [{"kind": owner, "uid": "o", "controller": true}],
            },
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn only_tidegates_own_is_taken_out_of_the_way() {
        let (client, server) = Server::start(|_| (200, json!({"kind": "Status"})));
        let (cluster, _events) = Cluster::new(client, Timestamp::now, Arc::default());
        let events = [
            Event::Init,
            Event::InitApply(Arc::new(private("a-private", "ServerlessService"))),
            Event::InitApply(Arc::new(private("b-private", "Revision"))),
            Event::InitDone,
        ];
        let taking = Taking { part: |_| (), owner: |_| None, mentions: |_| [].into() };
        let services = &cluster.revision_services;
        services.take_all(stream::iter(events), taking, |_, _| ()).await;
        let _ = tokio::time::timeout(LOOK_EVERY / 2, give_way(&cluster)).await;
        assert_eq!(server.calls(), ["DELETE /api/v1/namespaces/ns/services/b-private?"]);
    }
}
