//! A DomainMapping: whether the host is its own, and where it leads
//! (`pkg/reconciler/domainmapping`, `domainmapping_lifecycle.go`).
//!
//! The proxies serve a host once `DomainClaimed` says that it is a mapping's (`config::world`).

mod certificate;
mod claims;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Cluster;
use super::cluster::host_of;
use super::knative::let_go;
use super::meta::ROUTE;
use super::object::Parts as _;
use super::settings::Settings;
use super::work::{Failure, Next};
use super::write::Pace;
use crate::kubernetes::conditions::{ConditionSet, Conditions};
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::spread;
use crate::model::{CLUSTER_DOMAIN, ObjectName};
use claims::Refused;

const CLAIMED: &str = "DomainClaimed";
const RESOLVED: &str = "ReferenceResolved";
const INGRESS: &str = "IngressReady";
const CERTIFICATE: &str = "CertificateProvisioned";
const SET: ConditionSet = ConditionSet::living(&[CLAIMED, RESOLVED, INGRESS, CERTIFICATE]);

/// Secrets are not watched: they are read again after that, if nothing is wrong with them.
const SECRET_AGAIN: Duration = Duration::from_secs(60);
/// The same, where something is.
const BAD_SECRET_AGAIN: Duration = Duration::from_secs(5);

const INSTEAD: &str = "refer to a Service or Route of serving.knative.dev/v1";

/// Brings a DomainMapping in order.
///
/// # Errors
/// Its status could not be written.
pub(super) async fn reconcile(cluster: &Cluster, name: ObjectName) -> Result<Next, Failure> {
    let known = cluster.domain_mappings.get(&name);
    let Some(object) = known.as_ref().filter(|object| !object.is_leaving) else {
        cluster.writer.forget(Kind::DomainMapping, &name);
        claims::release(cluster, &name).await?;
        let_go(cluster, Kind::DomainMapping, known.as_deref()).await?;
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
    let claim = claims::on(cluster, &name.name).map(|claim| claim.value());
    let claimed_by = claim.as_ref().map(|claim| claim.text("/spec/namespace"));
    let secret = certificate::secret_of(&mapping);
    let certificate = match &secret {
        Some(secret) => {
            let found = cluster.writer.read(Kind::Secret, secret).await?;
            certificate::check(secret, found.as_ref())
        }
        None => Ok(()),
    };
    let is_bad = certificate.is_err();
    let mut around = Around {
        others: &others,
        claimed_by,
        certificate: certificate.err(),
        is_served: true,
        known: cluster,
        settings: &settings,
        now: (cluster.now)(),
    };
    let is_its_own = claims::claim(&mapping, &around).is_ok();
    let is_asked_for = settings.network.autocreate_cluster_domain_claims;
    let is_to_be_claimed = is_its_own && is_asked_for && claimed_by.is_none();
    let mut status = status(&mapping, &around);
    if becomes_ready(&mapping, &status) {
        let target = ObjectName::new(&*name.namespace, mapping.text("/spec/ref/name"));
        let leads = spread::Leads::of_host(&name.name, &target);
        around.is_served = cluster.spread.is_everywhere(&leads).await;
        if !around.is_served {
            status = self::status(&mapping, &around);
        }
    }
    let is_late = !around.is_served;
    if is_to_be_claimed {
        claims::make(cluster, &name).await?;
    }
    // Whether the host is its own is what the proxies go by.
    let pace = Pace::AtOnce;
    cluster.writer.status(Kind::DomainMapping, &mapping, &status, pace).await?;
    Ok(match secret {
        _ if is_late => Next::After(spread::AGAIN),
        Some(_) => Next::After(if is_bad { BAD_SECRET_AGAIN } else { SECRET_AGAIN }),
        None => Next::WhenTold,
    })
}

/// Whether requests are to be said to reach the host, and were not before.
fn becomes_ready(mapping: &Value, status: &Value) -> bool {
    let is_served = |conditions: &[Value]| {
        let is_true = |one: &Value| one.text("/type") == INGRESS && one.text("/status") == "True";
        conditions.iter().any(is_true)
    };
    is_served(status.list("/conditions")) && !is_served(mapping.list("/status/conditions"))
}

/// What a mapping may lead to.
trait Known: Sync {
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
    /// The namespace that a ClusterDomainClaim gives the host.
    claimed_by: Option<&'a str>,
    /// What is wrong with the certificate that it names.
    certificate: Option<String>,
    /// Whether every proxy leads its host there, as far as is known.
    is_served: bool,
    known: &'a dyn Known,
    settings: &'a Settings,
    now: Timestamp,
}

/// The status of a mapping.
fn status(mapping: &Value, around: &Around<'_>) -> Value {
    let former = mapping.get("status").cloned().unwrap_or_default();
    let mut conditions = SET.read(&former, around.now);
    let has_certificate = mapping.pointer("/spec/tls").is_some_and(|tls| !tls.is_null());
    // Ready means that it works: the proxies get to know it first.
    let is_settled = mapping.is_observed() && around.is_served;
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
    if let Err(refused) = claims::claim(mapping, around) {
        let reason = match refused {
            Refused::Taken(_) => "DomainAlreadyClaimed",
            Refused::Reserved(_) => "DomainClaimFailed",
        };
        let (Refused::Taken(message) | Refused::Reserved(message)) = &refused;
        conditions.mark_false(CLAIMED, reason, message);
        return None;
    }
    conditions.mark_true(CLAIMED);
    mark_certificate(around, has_certificate, conditions);
    if let Err(why) = resolve(mapping, around.known) {
        conditions.mark_false(RESOLVED, "ResolveFailed", &why);
        return None;
    }
    conditions.mark_true(RESOLVED);
    Some(())
}

/// Certificates are what mappings name; none is made.
fn mark_certificate(around: &Around<'_>, has_certificate: bool, conditions: &mut Conditions) {
    if let Some(why) = &around.certificate {
        return conditions.mark_false(CERTIFICATE, "CertificateProvisionFailed", why);
    }
    let (reason, message) = if has_certificate {
        ("CertificateExternallyProvided", "TLS certificate was provided externally")
    } else if around.settings.network.external_domain_tls {
        ("HTTPDowngrade", "tidegate makes no certificates: name one in spec.tls.secretName")
    } else {
        ("TLSNotEnabled", "external-domain-tls is not enabled")
    };
    conditions.mark_true_with_reason(CERTIFICATE, reason, message);
}

fn mark_told(conditions: &mut Conditions) {
    let message = "Ingress has not yet been reconciled.";
    conditions.mark_unknown(INGRESS, "IngressNotConfigured", message);
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
