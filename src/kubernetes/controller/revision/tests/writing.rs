use super::super::super::object::Object;
use super::super::super::testing::{Call, Server};
use super::*;
use crate::kubernetes::mirror::name_of as name_of_object;

/// An API server that has nothing, and takes what it is given.
fn takes_everything(call: &Call) -> (u16, Value) {
    if call.line.starts_with("GET") {
        return (
            404,
            json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"}),
        );
    }
    (200, call.body.clone())
}

/// Method and path of each call, with the field manager.
fn shown(calls: &[String]) -> Vec<String> {
    let short = |line: &String| {
        let (path, query) = line.split_once('?').unwrap_or((line, ""));
        let manager = query.split('&').find_map(|part| part.strip_prefix("fieldManager="));
        let path = path.replace("/namespaces/ns/", " ");
        format!("{path} {}", manager.unwrap_or("-"))
    };
    calls.iter().map(short).collect()
}

#[tokio::test]
async fn a_new_revision_is_made_with_a_count_that_has_an_owner() {
    let (client, server) = Server::start(takes_everything);
    let (cluster, _events) = Cluster::new(client, Timestamp::now, Arc::default());
    let mut status = RevisionStatus::of(&revision(), Timestamp::from_second(0).unwrap());
    follow(&cluster, &revision(), &Settings::default(), &mut status).await.unwrap();
    let expected = [
        "GET /apis/apps/v1 deployments/hello-00001-deployment -",
        "PATCH /apis/apps/v1 deployments/hello-00001-deployment tidegate-controller",
        "PATCH /apis/apps/v1 deployments/hello-00001-deployment tidegate-initial-scale",
        "GET /api/v1 services/hello-00001-private -",
        "PATCH /api/v1 services/hello-00001-private tidegate-controller",
        "GET /apis/autoscaling.internal.knative.dev/v1alpha1 podautoscalers/hello-00001 -",
        "PATCH /apis/autoscaling.internal.knative.dev/v1alpha1 podautoscalers/hello-00001 tidegate-controller",
    ];
    assert_eq!(shown(&server.calls()), expected);
}

#[tokio::test]
async fn nothing_of_somebody_else_is_taken() {
    let (client, server) = Server::start(|call| {
        let owner = json!([{"uid": "other", "controller": true}]);
        let metadata = json!({"namespace": "ns", "name": "x", "ownerReferences": owner});
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata});
        assert!(call.line.starts_with("GET"), "{}", call.line);
        (200, object)
    });
    let (cluster, _events) = Cluster::new(client, Timestamp::now, Arc::default());
    let mut status = RevisionStatus::of(&revision(), Timestamp::from_second(0).unwrap());
    let done = follow(&cluster, &revision(), &Settings::default(), &mut status).await;
    let expected = "revision: \"hello-00001\" does not own Deployment: \"hello-00001-deployment\"";
    assert_eq!(done.unwrap_err().to_string(), expected);
    assert!(status.is_broken());
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn what_the_api_server_refuses_is_in_the_condition() {
    for code in [422, 500] {
        let (client, _server) = Server::start(move |call| {
            if call.line.starts_with("GET") {
                return takes_everything(call);
            }
            let message = "spec.template.spec.containers[0].env: duplicate entries";
            (code, json!({"kind": "Status", "status": "Failure", "code": code, "message": message}))
        });
        let (cluster, _events) = Cluster::new(client, Timestamp::now, Arc::default());
        let mut status = RevisionStatus::of(&revision(), Timestamp::from_second(0).unwrap());
        follow(&cluster, &revision(), &Settings::default(), &mut status).await.unwrap_err();
        let value = status.value(&revision());
        let ready = value.list("/conditions").iter().find(|one| one.text("/type") == "Ready");
        let ready = ready.unwrap();
        assert_eq!(ready.text("/reason"), "FailedCreate");
        assert!(ready.text("/message").contains("duplicate entries"), "{ready}");
    }
}

/// Between the two writes this process may end: the count must not be left out before it is held.
#[test]
fn whether_the_count_is_held_is_seen_in_who_manages_it() {
    let of = |managers: &[&str]| {
        let fields = json!({"f:spec": {"f:replicas": {}}});
        let managed: Vec<Value> = managers
            .iter()
            .map(|manager| json!({"manager": manager, "operation": "Apply", "fieldsV1": fields}))
            .collect();
        let value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": "ns", "name": "d", "managedFields": managed},
        });
        let object: kube::api::DynamicObject = serde_json::from_value(value).unwrap();
        assert_eq!(&*name_of_object(&object).name, "d");
        is_held(&Object::keep(&object, |_| ()).unwrap())
    };
    assert!(!of(&[]));
    assert!(!of(&[CONTROLLER_MANAGER]));
    assert!(of(&[CONTROLLER_MANAGER, COUNT_MANAGER]));
    assert!(of(&[crate::kubernetes::SCALER_MANAGER]));
    assert!(of(&["kubectl"]));
}

/// What Knative made of a revision: pods go on, and only the count gets an owner.
#[tokio::test]
async fn what_knative_made_is_taken_over_without_a_new_pod() {
    let (client, server) = Server::start(|call| {
        let owned = |kind: &str, uid: &str, api: &str, of: &str, name: &str, spec: Value| {
            let owner = json!([{"kind": of, "uid": uid, "controller": true}]);
            let metadata = json!({
                "namespace": "ns", "name": name, "uid": "d-uid", "ownerReferences": owner,
            });
            (200, json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}))
        };
        match call.line.split('?').next().unwrap() {
            "GET /apis/apps/v1/namespaces/ns/deployments/hello-00001-deployment" => {
                let containers = json!([{"name": "user-container"}, {"name": "queue-proxy"}]);
                let spec = json!({"replicas": 3, "template": {"spec": {"containers": containers}}});
                let name = "hello-00001-deployment";
                owned("Deployment", "r-uid", "apps/v1", "Revision", name, spec)
            }
            "GET /api/v1/namespaces/ns/services/hello-00001-private" => {
                let name = "hello-00001-private";
                owned("Service", "sks", "v1", "ServerlessService", name, json!({}))
            }
            _ => takes_everything(call),
        }
    });
    let (cluster, _events) = Cluster::new(client, Timestamp::now, Arc::default());
    let mut status = RevisionStatus::of(&revision(), Timestamp::from_second(0).unwrap());
    follow(&cluster, &revision(), &Settings::default(), &mut status).await.unwrap();
    assert!(!status.is_broken());
    let expected = [
        "GET /apis/apps/v1 deployments/hello-00001-deployment -",
        "PATCH /apis/apps/v1 deployments/hello-00001-deployment tidegate-initial-scale",
        "GET /api/v1 services/hello-00001-private -",
        "GET /apis/autoscaling.internal.knative.dev/v1alpha1 podautoscalers/hello-00001 -",
        "PATCH /apis/autoscaling.internal.knative.dev/v1alpha1 podautoscalers/hello-00001 tidegate-controller",
    ];
    let (lines, bodies): (Vec<_>, Vec<_>) =
        server.taken().into_iter().map(|call| (call.line, call.body)).unzip();
    assert_eq!(shown(&lines), expected);
    // Of that one alone: where it is gone none is made of the count.
    assert_eq!(bodies[1]["metadata"]["uid"], "d-uid");
    assert_eq!(bodies[1]["spec"], json!({"replicas": 3}));
}
