//! Which pods go: Kubernetes takes those with the lower `pod-deletion-cost` first, among ready
//! ones. Pods that are not ready go before all of them anyway (`controller_utils.go`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::timeout;

use crate::kubernetes::SCALER_MANAGER;
use crate::kubernetes::kinds::Kind;
use crate::model::EndpointId;

const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Cost of those that go first; all others have 0.
const VICTIM: &str = "-1000";
/// Pods marked at once: with a larger step down who goes matters less than that it happens.
const MOST: usize = 64;
/// All of it takes no longer.
const BOUND: Duration = Duration::from_secs(2);

/// Pods whose mark changes when so many stay: those to go, the last to be spared among them, and
/// those that were to go and now stay.
pub(super) fn costs(
    spare: &[EndpointId],
    to: u32,
    marked: &BTreeSet<EndpointId>,
) -> Vec<(EndpointId, bool)> {
    let (stay, go) = spare.split_at(spare.len().min(to as usize));
    let back = stay.iter().filter(|id| marked.contains(*id)).map(|id| (id.clone(), false));
    let away = go.iter().filter(|id| !marked.contains(*id)).map(|id| (id.clone(), true));
    back.chain(away.rev().take(MOST)).collect()
}

/// Marks pods, and waits for the answers; which were written. One that fails is not marked: it may
/// be gone already.
pub(super) async fn write(
    client: &Client,
    namespace: &str,
    costs: &[(EndpointId, bool)],
    names: &[(EndpointId, Arc<str>)],
) -> Vec<(EndpointId, bool)> {
    let names: HashMap<&EndpointId, &Arc<str>> =
        names.iter().map(|(id, name)| (id, name)).collect();
    let pods = Kind::Pod.in_namespace(client, namespace);
    let params = PatchParams { field_manager: Some(SCALER_MANAGER.into()), ..Default::default() };
    let writes = costs.iter().filter_map(|(id, is_victim)| {
        let name = Arc::clone(names.get(id)?);
        let cost = if *is_victim { Some(VICTIM) } else { None };
        let patch = Patch::Merge(json!({"metadata": {
            // Another pod may have the name by now.
            "uid": *id.0,
            "annotations": {COST: cost},
        }}));
        let (pods, params) = (&pods, &params);
        Some(async move {
            match pods.patch_metadata(&name, params, &patch).await {
                Ok(_) => Some((id.clone(), *is_victim)),
                Err(error) => {
                    tracing::debug!(pod = %name, %error, "not marked");
                    None
                }
            }
        })
    });
    match timeout(BOUND, join_all(writes)).await {
        Ok(written) => written.into_iter().flatten().collect(),
        Err(_elapsed) => {
            tracing::warn!("pods could not be marked in time: others may go first");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &str) -> Vec<EndpointId> {
        names.split_whitespace().map(EndpointId::new).collect()
    }

    fn shown(spare: &str, to: u32, marked: &str) -> String {
        let costs = costs(&ids(spare), to, &ids(marked).into_iter().collect());
        let sign = |is_victim: bool| if is_victim { '-' } else { '+' };
        costs.iter().map(|(id, is_victim)| format!("{}{id}", sign(*is_victim))).collect()
    }

    #[test]
    fn the_last_to_be_spared_go() {
        assert_eq!(shown("a b c d", 2, ""), "-d-c");
        assert_eq!(shown("a b c d", 3, "d"), "", "marked already");
        assert_eq!(shown("a b c d", 3, "c d"), "+c", "taken back");
        assert_eq!(shown("a b", 5, ""), "", "what is not ready goes first");
    }
}
