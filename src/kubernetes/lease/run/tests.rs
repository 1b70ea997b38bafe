use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request as HttpRequest, Response};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use parking_lot::Mutex;

use super::*;

/// One Lease at an API server in memory.
#[derive(Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
    /// Answers nothing any more.
    is_silent: bool,
    /// Refuses everything.
    is_forbidden: bool,
}

type Shared = Arc<Mutex<Server>>;

async fn answer(
    server: Shared,
    request: HttpRequest<Body>,
) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if server.lock().is_silent {
        std::future::pending::<()>().await;
    }
    let (code, json) = server.lock().take(&head.method, head.uri.path(), &body);
    let response = Response::builder().status(code).body(Full::from(json.to_string()));
    Ok(response.unwrap())
}

impl Server {
    fn edit(&mut self, field: &str, value: &str) {
        self.version += 1;
        let lease = self.lease.as_mut().unwrap();
        lease["spec"][field] = value.into();
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
    }

    fn take(&mut self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let status = |code: u16| {
            (code, json!({"kind": "Status", "code": code, "reason": "", "message": ""}))
        };
        let leases = "/apis/coordination.k8s.io/v1/namespaces/gate/leases";
        assert!(path == leases || path == format!("{leases}/tidegate"), "{path}");
        if self.is_forbidden {
            return status(403);
        }
        let mut object: Value = serde_json::from_slice(body).unwrap_or_default();
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        match (method, &self.lease) {
            (&Method::GET, Some(lease)) => return (200, lease.clone()),
            (&Method::GET | &Method::PUT, None) => return status(404),
            (&Method::POST, Some(_)) => return status(409),
            (&Method::PUT, Some(lease)) if version(lease) != version(&object) => {
                return status(409);
            }
            _ => {}
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.lease = Some(object.clone());
        (200, object)
    }
}

fn stage(server: &Shared) -> Client {
    let server = Arc::clone(server);
    let service = tower::service_fn(move |request| answer(Arc::clone(&server), request));
    Client::new(service, "gate")
}

fn settings(name: &str) -> LeaseSettings {
    LeaseSettings {
        namespace: "gate".to_owned(),
        identity: format!("{name}_{:08x}", fastrand::u32(..)),
        timing: Timing::default(),
        hints: Arc::default(),
    }
}

fn contender(
    server: &Shared,
    name: &'static str,
) -> (Leadership, tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (leading, leadership) = elect();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let client = stage(server);
    let task = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        leading.run(&client, &settings(name), stopped).await;
    });
    (leadership, stop, task)
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_when_it_ends_the_other_does() {
    let server = Shared::default();
    let (first, stop, task) = contender(&server, "a");
    first.watch().wait_for(|leads| *leads).await.unwrap();
    let (second, _stop, _task) = contender(&server, "b");
    let lease = || server.lock().lease.clone().unwrap();
    let holder = || lease()["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    assert!(first.is_leading() && holder().starts_with("a_"), "{}", holder());
    // What others wrote there stays.
    server.lock().edit("preferredHolder", "c");
    let acquired = lease()["spec"]["acquireTime"].clone();

    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(first.is_leading() && !second.is_leading());
    assert_eq!(
        (&lease()["spec"]["preferredHolder"], &lease()["spec"]["acquireTime"]),
        (&json!("c"), &acquired)
    );
    assert!((50..75).contains(&server.lock().version), "{} writes", server.lock().version);

    let begun = Instant::now();
    stop.send(()).unwrap();
    task.await.unwrap();
    assert!(!first.is_leading() && !*first.watch().borrow());
    second.watch().wait_for(|leads| *leads).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1300), "{:?}", begun.elapsed());
    assert!(holder().starts_with("b_"), "{}", holder());
    assert_eq!(lease()["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn who_hears_nothing_leads_no_more_also_while_it_waits_for_an_answer() {
    let server = Shared::default();
    let (leadership, _stop, _task) = contender(&server, "a");
    let mut leading = leadership.watch();
    leading.wait_for(|leads| *leads).await.unwrap();
    server.lock().is_silent = true;
    let begun = Instant::now();
    leading.wait_for(|leads| !*leads).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!leadership.is_leading());
    server.lock().is_silent = false;
    leading.wait_for(|leads| *leads).await.unwrap();
    assert!(leadership.is_leading());
}

#[tokio::test(start_paused = true)]
async fn without_the_right_nobody_leads() {
    let server = Shared::default();
    server.lock().is_forbidden = true;
    let (leadership, stop, task) = contender(&server, "a");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!leadership.is_leading());
    server.lock().is_forbidden = false;
    leadership.watch().wait_for(|leads| *leads).await.unwrap();
    stop.send(()).unwrap();
    task.await.unwrap();
    assert!(Leadership::alone().is_leading() && *Leadership::alone().watch().borrow());
}
