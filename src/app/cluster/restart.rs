//! Other pods in place of those there are: each revision's Deployment replaces them, new ones first.

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

use super::{CLIENT_MANAGER, SERVICE, call, client, name, name_of, value};
use crate::cli::args::RestartArgs;
use crate::cli::say;
use crate::kubernetes::kinds::Kind;

/// Label with a revision's name.
const REVISION: &str = "serving.knative.dev/revision";
/// What `kubectl rollout restart` writes.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// How soon it is looked again.
const AGAIN: Duration = Duration::from_millis(500);

/// Replaces the pods of a Service or revision, and returns once that is done.
pub(super) async fn restart(args: &RestartArgs) -> Result<(), String> {
    if args.watch {
        return Err("--watch is for programs on this machine: pods run images".to_owned());
    }
    let client = client().await?;
    let (namespace, what) = name_of(&args.what, &client);
    let deadline = Instant::now() + args.timeout;
    let mut found = deployments(&client, &namespace, SERVICE, &what).await?;
    if found.is_empty() {
        found = deployments(&client, &namespace, REVISION, &what).await?;
    }
    if found.is_empty() {
        return Err(format!("there is no Service or revision {namespace}/{what}"));
    }
    let running: Vec<&Value> =
        found.iter().filter(|one| one["spec"]["replicas"].as_u64().unwrap_or(0) > 0).collect();
    if running.is_empty() {
        say(format_args!("{namespace}/{what} has no pods: the next request starts a new one"));
        return Ok(());
    }
    let at = Timestamp::now().to_string();
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: at}}}}});
    let params =
        PatchParams { field_manager: Some(CLIENT_MANAGER.to_owned()), ..Default::default() };
    let api = Kind::Deployment.in_namespace(&client, &namespace);
    for deployment in &running {
        call(api.patch(name(deployment), &params, &Patch::Merge(&patch))).await?;
        say(format_args!(
            "{}: {} to be replaced",
            name(deployment),
            deployment["spec"]["replicas"]
        ));
    }
    for deployment in running {
        loop {
            let now = value(call(api.get(name(deployment))).await?);
            if is_done(&now) {
                break;
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "{} is not done within {:?}; the pods of before go on serving",
                    name(deployment),
                    args.timeout
                ));
            }
            sleep(AGAIN).await;
        }
    }
    say(format_args!("{namespace}/{what} is restarted"));
    Ok(())
}

async fn deployments(
    client: &Client,
    namespace: &str,
    label: &str,
    what: &str,
) -> Result<Vec<Value>, String> {
    let params = ListParams::default().labels(&format!("{label}={what}"));
    let list = call(Kind::Deployment.in_namespace(client, namespace).list(&params)).await?;
    Ok(list.items.into_iter().map(value).collect())
}

/// Whether all pods are of the newest template, ready, and no others are left.
fn is_done(deployment: &Value) -> bool {
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let wanted = number("/spec/replicas");
    number("/status/observedGeneration") >= number("/metadata/generation")
        && number("/status/updatedReplicas") >= wanted
        && number("/status/availableReplicas") >= wanted
        && number("/status/replicas") <= wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn done_is_when_all_are_new_and_ready() {
        let deployment = |observed: u64, updated: u64, available: u64, all: u64| {
            json!({"metadata": {"generation": 4}, "spec": {"replicas": 2}, "status": {
                "observedGeneration": observed, "updatedReplicas": updated,
                "availableReplicas": available, "replicas": all}})
        };
        assert!(is_done(&deployment(4, 2, 2, 2)));
        assert!(!is_done(&deployment(3, 2, 2, 2)), "not seen yet");
        assert!(!is_done(&deployment(4, 1, 2, 3)), "an old one is left");
        assert!(!is_done(&deployment(4, 2, 1, 2)), "one is not ready");
        // It went to zero meanwhile.
        let zero = json!({"metadata": {"generation": 5}, "spec": {"replicas": 0},
            "status": {"observedGeneration": 5}});
        assert!(is_done(&zero));
    }
}
