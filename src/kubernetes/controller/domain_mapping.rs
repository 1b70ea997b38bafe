//! A DomainMapping: whether the host is its own, and where it leads
//! (`pkg/reconciler/domainmapping`, `domainmapping_lifecycle.go`).
//!
//! A host belongs to the oldest mapping of its name, whichever namespace it is in: there are no
//! ClusterDomainClaims, so `autocreate-cluster-domain-claims` changes nothing. The proxies follow
//! the same rules (`config::world`).

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Cluster;
use super::cluster::host_of;
use super::meta::ROUTE;
use super::object::Parts as _;
use super::settings::Settings;
use super::work::{Failure, Next};
use crate::kubernetes::conditions::{ConditionSet, Conditions};
use crate::kubernetes::kinds::Kind;
use crate::model::{CLUSTER_DOMAIN, ObjectName, is_cluster_local};

const CLAIMED: &str = "DomainClaimed";
const RESOLVED: &str = "ReferenceResolved";
const INGRESS: &str = "IngressReady";
const CERTIFICATE: &str = "CertificateProvisioned";
const SET: ConditionSet = ConditionSet::living(&[CLAIMED, RESOLVED, INGRESS, CERTIFICATE]);

const INSTEAD: &str = "refer to a Service or Route of serving.knative.dev/v1";

/// Brings a DomainMapping in order.
///
/// # Errors
/// Its status could not be written.
pub(super) async fn reconcile(cluster: &Cluster, name: ObjectName) -> Result<Next, Failure> {
    let Some(object) = cluster.domain_mappings.get(&name).filter(|object| !object.is_leaving)
    else {
        cluster.writer.forget(Kind::DomainMapping, &name);
        return Ok(Next::WhenTold);
    };
    let mapping = object.value();
    let others = cluster.domain_mappings.mentioning(&host_of(&name.name));
    let others: Vec<Value> = others
        .iter()
        .filter_map(|name| cluster.domain_mappings.get(name))
        .map(|object| object.value())
        .filter(|other| other.text("/metadata/name") == &*name.name)
        .collect();
    let settings = cluster.settings.get();
    let status = {
        let now = (cluster.now)();
        status(&mapping, &Around { others: &others, known: cluster, settings: &settings, now })
    };
    cluster.writer.status(Kind::DomainMapping, &mapping, &status).await?;
    Ok(Next::WhenTold)
}

/// What a mapping may lead to.
trait Known {
    fn service(&self, name: &ObjectName) -> Option<Value>;
    fn route(&self, name: &ObjectName) -> Option<Value>;
    /// A Service (core) that stands for a Route's name.
    fn placeholder(&self, name: &ObjectName) -> Option<Value>;
}

impl Known for Cluster {
    fn service(&self, name: &ObjectName) -> Option<Value> {
        self.services.get(name).map(|object| object.value())
    }

    fn route(&self, name: &ObjectName) -> Option<Value> {
        self.routes.get(name).map(|object| object.value())
    }

    fn placeholder(&self, name: &ObjectName) -> Option<Value> {
        self.route_services.get(name).map(|object| object.value())
    }
}

/// What is known around a mapping.
struct Around<'a> {
    /// All mappings of its host, itself too.
    others: &'a [Value],
    known: &'a dyn Known,
    settings: &'a Settings,
    now: Timestamp,
}

/// The status of a mapping.
fn status(mapping: &Value, around: &Around<'_>) -> Value {
    let former = mapping.get("status").cloned().unwrap_or_default();
    let mut conditions = SET.read(&former, around.now);
    let has_certificate = mapping.pointer("/spec/tls").is_some_and(|tls| !tls.is_null());
    let is_settled = mapping.is_observed();
    if !is_settled {
        mark_told(&mut conditions);
    }
    let checked = check(mapping, around, has_certificate, &mut conditions);
    if checked.is_some() && is_settled {
        conditions.mark_true(INGRESS);
    }
    let scheme = match around.settings.network.default_external_scheme.as_str() {
        _ if has_certificate => "https",
        default => default,
    };
    let url = format!("{scheme}://{}", mapping.text("/metadata/name"));
    let mut status = former.as_object().cloned().unwrap_or_else(Map::new);
    status.insert("observedGeneration".to_owned(), json!(mapping.generation()));
    status.insert("url".to_owned(), json!(url));
    status.insert("address".to_owned(), json!({ "url": url }));
    status.insert("conditions".to_owned(), conditions.to_value());
    Value::Object(status)
}

/// Marks what holds, up to the first thing that does not.
fn check(
    mapping: &Value,
    around: &Around<'_>,
    has_certificate: bool,
    conditions: &mut Conditions,
) -> Option<()> {
    if let Err(refused) = claim(mapping, around) {
        let reason = match refused {
            Refused::Taken(_) => "DomainAlreadyClaimed",
            Refused::Reserved(_) => "DomainClaimFailed",
        };
        let (Refused::Taken(message) | Refused::Reserved(message)) = &refused;
        conditions.mark_false(CLAIMED, reason, message);
        return None;
    }
    conditions.mark_true(CLAIMED);
    let (reason, message) = if has_certificate {
        ("CertificateExternallyProvided", "TLS certificate was provided externally")
    } else {
        ("TLSNotEnabled", "external-domain-tls is not enabled")
    };
    conditions.mark_true_with_reason(CERTIFICATE, reason, message);
    if let Err(why) = resolve(mapping, around.known) {
        conditions.mark_false(RESOLVED, "ResolveFailed", &why);
        return None;
    }
    conditions.mark_true(RESOLVED);
    Some(())
}

fn mark_told(conditions: &mut Conditions) {
    let message = "Ingress has not yet been reconciled.";
    conditions.mark_unknown(INGRESS, "IngressNotConfigured", message);
}

/// Why a mapping does not get its host.
#[derive(Debug)]
enum Refused {
    Taken(String),
    Reserved(String),
}

/// Whether a mapping gets its host: the oldest one does, and none that the cluster gives out
/// itself.
fn claim(mapping: &Value, around: &Around<'_>) -> Result<(), Refused> {
    let host = mapping.text("/metadata/name");
    let below = |domain: &str| {
        host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let rules = &around.settings.domain.rules;
    let domain = rules.iter().map(|rule| rule.domain.as_str()).find(|domain| below(domain));
    let local = is_cluster_local(host, mapping.text("/metadata/namespace"));
    if let Some(domain) = domain.or(local.then_some(CLUSTER_DOMAIN)) {
        return Err(Refused::Reserved(format!(
            "Hosts below {domain:?} are those of services: choose a name outside of it"
        )));
    }
    let rank = |mapping: &Value| {
        let created = mapping.text("/metadata/creationTimestamp").to_owned();
        (created, mapping.name())
    };
    let own = rank(mapping);
    match around.others.iter().map(rank).min().filter(|first| *first < own) {
        Some(_) => {
            let message = "The domain name is already in use by another DomainMapping";
            Err(Refused::Taken(message.to_owned()))
        }
        None => Ok(()),
    }
}

/// Whether a mapping leads to a Route.
fn resolve(mapping: &Value, known: &dyn Known) -> Result<(), String> {
    let namespace = mapping.text("/metadata/namespace");
    let [kind, name, version, given] = ["/kind", "/name", "/apiVersion", "/namespace"].map(|at| {
        let reference = mapping.pointer("/spec/ref").unwrap_or(&Value::Null);
        reference.text(at).to_owned()
    });
    let target = if given.is_empty() { namespace } else { &given };
    let end = format!(".svc.{CLUSTER_DOMAIN}");
    if target != namespace {
        let url = format!("http://{name}.{target}{end}");
        return Err(format!("resolved URI {url:?} must be in same namespace as DomainMapping"));
    }
    let target = ObjectName::new(namespace, name.as_str());
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let missing =
        |plural: &str| format!("failed to get object {target}: {plural} {name:?} not found");
    match (group, kind.as_str()) {
        ("serving.knative.dev", "Service") => {
            known.service(&target).ok_or_else(|| missing("services.serving.knative.dev"))?;
        }
        ("serving.knative.dev", "Route") => {}
        ("", "Service") => {
            let placeholder = known.placeholder(&target).ok_or_else(|| {
                format!("Service {target} is no Route's, so nothing leads to it: {INSTEAD}")
            })?;
            let route = placeholder.label(ROUTE);
            if route != name {
                return Err(format!("Service {target} is a tag's of Route {route:?}: {INSTEAD}"));
            }
        }
        _ => {
            return Err(format!("{kind} of {version:?} cannot be mapped: {INSTEAD}"));
        }
    }
    let route = known.route(&target).ok_or_else(|| missing("routes.serving.knative.dev"))?;
    if route.text("/status/address/url").is_empty() {
        return Err(format!("address not set for {kind} {target}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
