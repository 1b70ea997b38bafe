//! Names of a Route: of its hosts, and of the Services (core) that stand for them
//! (`pkg/reconciler/route/domains`, `…/visibility`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::settings::{DomainConfig, NetworkConfig};
use crate::kubernetes::controller::object::Parts as _;
use crate::model::CLUSTER_DOMAIN;

/// Label that keeps something inside the cluster.
pub(super) const VISIBILITY: &str = "networking.knative.dev/visibility";

/// Longest name of a host, and of one of its labels (RFC 1123).
const HOST_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// Makes the names of one Route. A tag of none is the Route itself.
#[derive(Debug)]
pub(super) struct Names<'a> {
    route: &'a Value,
    domains: &'a DomainConfig,
    network: &'a NetworkConfig,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl<'a> Names<'a> {
    pub(super) fn new(
        route: &'a Value,
        domains: &'a DomainConfig,
        network: &'a NetworkConfig,
    ) -> Self {
        let map = |pointer: &str| {
            let map = route.pointer(pointer).and_then(Value::as_object);
            let texts = map
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
            texts.collect()
        };
        let (labels, annotations) = (map("/metadata/labels"), map("/metadata/annotations"));
        Self { route, domains, network, labels, annotations }
    }

    /// Name of the Service (core) for a tag, and what begins its hosts.
    pub(super) fn service(&self, tag: Option<&str>) -> String {
        let name = self.route.text("/metadata/name");
        tag.map_or_else(|| name.to_owned(), |tag| self.network.tag_name(name, tag))
    }

    /// Whether no host of the Route is seen from outside: by its own label or by its domain.
    pub(super) fn is_private(&self) -> bool {
        self.public_domain().is_none()
    }

    fn public_domain(&self) -> Option<&str> {
        if self.labels.get(VISIBILITY).map(String::as_str) == Some("cluster-local") {
            return None;
        }
        self.domains.domain(&self.labels).filter(|domain| *domain != private_domain())
    }

    /// The URL of a tag.
    ///
    /// # Errors
    /// What the templates make is no host, in Knative's words.
    pub(super) fn url(&self, tag: Option<&str>, is_private: bool) -> Result<String, String> {
        let name = self.service(tag);
        let namespace = self.route.text("/metadata/namespace");
        let (scheme, host) = match self.public_domain().filter(|_| !is_private) {
            Some(domain) => {
                let (annotations, labels) = (&self.annotations, &self.labels);
                let host = self.network.host(&name, namespace, domain, annotations, labels);
                (self.network.default_external_scheme.as_str(), host)
            }
            None => ("http", format!("{name}.{namespace}.{}", private_domain())),
        };
        match why_no_host(&host) {
            None => Ok(format!("{scheme}://{host}")),
            Some(why) => Err(format!(
                "domain name error: invalid domain name {host:?}: url: Invalid value: {host:?}: {why}"
            )),
        }
    }

    /// The URL by which the cluster reaches the Route.
    pub(super) fn address(&self) -> String {
        let (name, namespace) = (self.service(None), self.route.text("/metadata/namespace"));
        format!("http://{name}.{namespace}.{}", private_domain())
    }
}

/// The domain that only the cluster sees.
pub(super) fn private_domain() -> String {
    format!("svc.{CLUSTER_DOMAIN}")
}

fn why_no_host(host: &str) -> Option<String> {
    let labels: Vec<&str> = host.split('.').collect();
    let is_label = |label: &&str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > HOST_MAX {
        return Some(format!("must be no more than {HOST_MAX} characters"));
    }
    if labels.len() < 2 {
        return Some("should be a domain with at least two segments separated by dots".to_owned());
    }
    if let Some(long) = labels.iter().find(|label| label.len() > LABEL_MAX) {
        return Some(format!("{long:?} must be no more than {LABEL_MAX} characters"));
    }
    (!labels.iter().all(is_label)).then(|| {
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
         or '.', and must start and end with an alphanumeric character"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::settings::{DomainRule, parse_config_network};

    fn domains(domain: &str) -> DomainConfig {
        let selector = BTreeMap::new();
        DomainConfig { rules: vec![DomainRule { domain: domain.to_owned(), selector }] }
    }

    fn route(labels: &Value) -> Value {
        json!({"metadata": {
            "namespace": "ns", "name": "hello", "labels": labels, "annotations": {"sub": "eu"},
        }})
    }

    fn urls(labels: &Value, domains: &DomainConfig, network: &NetworkConfig) -> Vec<String> {
        let route = route(labels);
        let names = Names::new(&route, domains, network);
        let is_private = names.is_private();
        let url = |tag| names.url(tag, is_private).unwrap_or_else(|error| error);
        vec![url(None), url(Some("blue")), names.url(Some("blue"), true).unwrap()]
    }

    #[test]
    fn urls_by_domain_and_visibility() {
        let network = NetworkConfig::default();
        let local = ["http://hello.ns.svc.cluster.local", "http://blue-hello.ns.svc.cluster.local"];
        let local = [local[0], local[1], local[1]];
        let public = ["http://hello.ns.a.org", "http://blue-hello.ns.a.org", local[1]];
        let none = DomainConfig::default();
        assert_eq!(urls(&json!({}), &none, &network), local);
        assert_eq!(urls(&json!({}), &domains("svc.cluster.local"), &network), local);
        assert_eq!(urls(&json!({}), &domains("a.org"), &network), public);
        let label = json!({"networking.knative.dev/visibility": "cluster-local"});
        assert_eq!(urls(&label, &domains("a.org"), &network), local);
    }

    #[test]
    fn templates_shape_what_is_seen_from_outside() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let template = "{{.Name}}-{{.Namespace}}.{{index .Annotations \"sub\"}}.{{.Domain}}";
        let network = parse_config_network(&map(&[
            ("domain-template", template),
            ("tag-template", "{{.Name}}-{{.Tag}}"),
            ("default-external-scheme", "https"),
        ]))
        .unwrap();
        assert_eq!(
            urls(&json!({}), &domains("a.org"), &network),
            [
                "https://hello-ns.eu.a.org",
                "https://hello-blue-ns.eu.a.org",
                "http://hello-blue.ns.svc.cluster.local"
            ]
        );
    }

    #[test]
    fn what_is_no_host_is_said() {
        let route = route(&json!({}));
        let domains = domains("a.org");
        let network = NetworkConfig::default();
        let names = Names::new(&route, &domains, &network);
        let long = "x".repeat(60);
        let error = names.url(Some(&long), false).unwrap_err();
        assert!(error.contains(&format!("\"{long}-hello\" must be no more than 63")), "{error}");
        assert_eq!(
            why_no_host("hello").as_deref().map(|why| &why[..20]),
            Some("should be a domain w")
        );
        assert!(why_no_host("a_b.org").is_some() && why_no_host("-a.org").is_some());
        assert!(why_no_host("a..org").is_some() && why_no_host("a-b.org").is_none());
    }
}
