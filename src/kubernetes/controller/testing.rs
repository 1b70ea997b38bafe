//! An API server for tests: what is asked of it is noted, and a function answers.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// One call.
#[derive(Clone, Debug)]
pub(in crate::kubernetes) struct Call {
    /// Method, path and query.
    pub(in crate::kubernetes) line: String,
    /// Its body, if it was JSON.
    pub(in crate::kubernetes) body: Value,
}

/// The calls so far.
#[derive(Clone, Debug, Default)]
pub(in crate::kubernetes) struct Server {
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Server {
    /// A client, and the server that `answer` answers for: with a status and a body.
    pub(in crate::kubernetes) fn start(
        answer: impl Fn(&Call) -> (u16, Value) + Clone + Send + 'static,
    ) -> (Client, Self) {
        let server = Self::default();
        let calls = Arc::clone(&server.calls);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (calls, answer) = (Arc::clone(&calls), answer.clone());
            async move {
                let line = format!("{} {}", request.method(), request.uri());
                let bytes = request.into_body().collect().await.map(|body| body.to_bytes());
                let body = serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default();
                let call = Call { line, body };
                let (status, body) = answer(&call);
                calls.lock().push(call);
                let response = Response::builder().status(status);
                Ok::<_, Infallible>(
                    response.body(Body::from(body.to_string().into_bytes())).unwrap(),
                )
            }
        });
        (Client::new(service, "default"), server)
    }

    /// Calls since the last time, as method, path and query.
    pub(in crate::kubernetes) fn calls(&self) -> Vec<String> {
        self.taken().into_iter().map(|call| call.line).collect()
    }

    /// Bodies of the calls since the last time.
    pub(in crate::kubernetes) fn bodies(&self) -> Vec<Value> {
        self.taken().into_iter().map(|call| call.body).collect()
    }

    /// Calls since the last time.
    pub(in crate::kubernetes) fn taken(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock())
    }
}

/// A Deployment with a label of Knative's and a container, changed as a test wants it.
pub(super) fn deployment(change: impl FnOnce(&mut Value)) -> Value {
    let mut value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "ns", "name": "d", "labels": {"serving.knative.dev/x": "1"}},
        "spec": {"template": {"spec": {"containers": [{"image": "i", "env": []}]}}},
    });
    change(&mut value);
    value
}
