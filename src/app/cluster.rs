//! Client commands that act on the objects of a cluster, by `KUBECONFIG` and with its rights: nobody
//! gets more by asking tidegate than by asking the API server.

mod export;
mod restart;
mod traffic;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use kube::Client;
use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cli::args::{ExportArgs, RestartArgs, TrafficArgs};
use crate::cli::asking;
use crate::kubernetes::client::connect;
use crate::kubernetes::kinds::Kind;

/// A call takes no longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Field manager of what these commands write.
const CLIENT_MANAGER: &str = "tidegate-client";
/// Which service's a revision is.
const SERVICE: &str = "serving.knative.dev/service";
/// The how manieth of its configuration a revision is.
const GENERATION: &str = "serving.knative.dev/configurationGeneration";

/// Changes the traffic of a Service.
pub fn traffic(args: &TrafficArgs) -> ExitCode {
    asking(async { traffic::order(args).await.map_err(|problem| format!("traffic: {problem}")) })
}

/// Replaces the pods of a Service's revisions.
pub fn restart(args: &RestartArgs) -> ExitCode {
    asking(async { restart::restart(args).await.map_err(|problem| format!("restart: {problem}")) })
}

/// Prints Services, revisions, mappings, settings and what they need.
pub fn export(args: &ExportArgs) -> ExitCode {
    asking(async { export::export(args).await.map_err(|problem| format!("export: {problem}")) })
}

/// What somebody calls a Service: `NAME`, in the kubeconfig's namespace, or `NAMESPACE/NAME`.
fn name_of(text: &str, client: &Client) -> (String, String) {
    match text.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (client.default_namespace().to_owned(), text.to_owned()),
    }
}

async fn client() -> Result<Client, String> {
    connect().await.map_err(|error| error.to_string())
}

/// A call with an end, and its error in words.
async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| match error {
            kube::Error::Api(status) => status.message,
            other => other.to_string(),
        }),
        Err(_elapsed) => Err(format!("the API server did not answer within {CALL_TIMEOUT:?}")),
    }
}

/// The revisions of a Service, oldest first.
async fn revisions(client: &Client, namespace: &str, service: &str) -> Result<Vec<Value>, String> {
    let params = ListParams::default().labels(&format!("{SERVICE}={service}"));
    let list = call(Kind::Revision.in_namespace(client, namespace).list(&params)).await?;
    let named = list.items.into_iter().map(|object| named(Kind::Revision, object));
    let mut revisions: Vec<Value> = named.collect();
    revisions.sort_by_key(generation);
    Ok(revisions)
}

/// The place of a revision among those of its configuration.
fn generation(revision: &Value) -> u64 {
    let label = &revision["metadata"]["labels"][GENERATION];
    label.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// An object that says of which kind it is: items of a list do not.
fn named(kind: Kind, object: DynamicObject) -> Value {
    let mut object = value(object);
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind());
    object
}

fn value(object: DynamicObject) -> Value {
    // What came as JSON can be written as JSON.
    serde_json::to_value(object).unwrap_or_default()
}
