//! Which mapping has a host: what the host's ClusterDomainClaim says, or the oldest mapping of it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::Cluster;
use super::super::object::{Object, Parts as _};
use super::super::work::Failure;
use super::{Around, host_of};
use crate::kubernetes::kinds::Kind;
use crate::model::{CLUSTER_DOMAIN, ObjectName, is_cluster_local};

/// Label of claims that were made here, and go with the mapping they were made for.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const TIDEGATE: &str = "tidegate";

/// Why a mapping does not get its host.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is another one's.
    Taken(String),
    /// It is nobody's to have.
    Reserved(String),
}

/// The claim on a host, if there is one.
pub(super) fn on(cluster: &Cluster, host: &str) -> Option<Arc<Object>> {
    cluster.domain_claims.get(&host_of(host))
}

/// Whether a mapping gets its host: none that the cluster gives out itself; where there is a claim,
/// its namespace's; otherwise the oldest one, unless claims are asked for.
pub(super) fn claim(mapping: &Value, around: &Around<'_>) -> Result<(), Refused> {
    let (host, namespace) = (mapping.text("/metadata/name"), mapping.text("/metadata/namespace"));
    let below = |domain: &str| {
        host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let rules = &around.settings.domain.rules;
    let domain = rules.iter().map(|rule| rule.domain.as_str()).find(|domain| below(domain));
    let local = is_cluster_local(host, namespace);
    if let Some(domain) = domain.or(local.then_some(CLUSTER_DOMAIN)) {
        return Err(Refused::Reserved(format!(
            "Hosts below {domain:?} are those of services: choose a name outside of it"
        )));
    }
    let taken =
        || Refused::Taken("The domain name is already in use by another DomainMapping".to_owned());
    match around.claimed_by {
        Some(by) if by == namespace => return Ok(()),
        Some(_) => return Err(taken()),
        None if around.settings.network.requires_domain_claims => {
            return Err(Refused::Taken(format!(
                "There is no ClusterDomainClaim for {host:?} (and autocreate-cluster-domain-claims \
                 is \"false\"): an operator has to make one for namespace {namespace:?}"
            )));
        }
        None => {}
    }
    let rank = |mapping: &Value| {
        let created = mapping.text("/metadata/creationTimestamp").to_owned();
        (created, mapping.name())
    };
    let own = rank(mapping);
    match around.others.iter().map(rank).min().filter(|first| *first < own) {
        Some(_) => Err(taken()),
        None => Ok(()),
    }
}

/// Makes the claim of a mapping that has its host, where that is asked for.
pub(super) async fn make(cluster: &Cluster, name: &ObjectName) -> Result<(), Failure> {
    let wanted = json!({
        "apiVersion": Kind::ClusterDomainClaim.api_version(),
        "kind": Kind::ClusterDomainClaim.kind(),
        "metadata": {"name": *name.name, "labels": {MANAGED_BY: TIDEGATE}},
        "spec": {"namespace": *name.namespace},
    });
    match cluster.writer.create(Kind::ClusterDomainClaim, &wanted).await {
        // There is one by now, and it will be told of.
        Err(failure) if failure.code() == Some(409) => Ok(()),
        made => made.map(drop),
    }
}

/// Deletes the claim that was made for a mapping that is gone.
pub(super) async fn release(cluster: &Cluster, name: &ObjectName) -> Result<(), Failure> {
    let Some(claim) = on(cluster, &name.name) else { return Ok(()) };
    let value = claim.value();
    let is_its =
        value.label(MANAGED_BY) == TIDEGATE && value.text("/spec/namespace") == &*name.namespace;
    if is_its { cluster.writer.delete(Kind::ClusterDomainClaim, &claim).await } else { Ok(()) }
}
