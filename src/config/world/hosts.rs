//! Hosts of services, routes and tags, as Knative's `config-domain` and `config-network` say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::settings::{DomainConfig, DomainRule, NetworkConfig};
use crate::model::{CLUSTER_DOMAIN, ObjectName};

/// The domain on one machine when nothing else says: resolved to the loopback by browsers and curl.
pub(super) const DEFAULT_DOMAIN: &str = "localhost";

/// Label that keeps all hosts of a service or route inside the cluster.
pub(super) const VISIBILITY: &str = "networking.knative.dev/visibility";

/// How hosts are made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HostRules {
    /// Entries of `config-domain`.
    pub(super) domains: DomainConfig,
    /// `config-network` with its templates.
    pub(super) network: NetworkConfig,
}

/// Whose hosts are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostOwner<'a> {
    pub(super) id: &'a ObjectName,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) annotations: &'a BTreeMap<String, String>,
}

impl HostRules {
    /// The rules without any ConfigMap: one domain for all.
    pub(super) fn new(domain: &str) -> Self {
        let rule = DomainRule { domain: domain.to_owned(), selector: BTreeMap::new() };
        Self { domains: DomainConfig { rules: vec![rule] }, network: NetworkConfig::default() }
    }

    /// All hosts of a service or route, the one to show first.
    pub(super) fn hosts(&self, owner: HostOwner<'_>) -> Vec<Arc<str>> {
        self.hosts_named(&owner.id.name, owner)
    }

    /// All hosts of a tag, the one to show first.
    pub(super) fn tag_hosts(&self, tag: &str, owner: HostOwner<'_>) -> Vec<Arc<str>> {
        self.hosts_named(&self.network.tag_name(&owner.id.name, tag), owner)
    }

    fn hosts_named(&self, name: &str, owner: HostOwner<'_>) -> Vec<Arc<str>> {
        let private = format!("svc.{CLUSTER_DOMAIN}");
        let label = owner.labels.get(VISIBILITY).map(String::as_str);
        let is_private = label == Some("cluster-local");
        let domain =
            self.domains.domain(owner.labels).filter(|domain| !is_private && *domain != private);
        let name = name.to_ascii_lowercase();
        let namespace = owner.id.namespace.to_ascii_lowercase();
        let local = format!("{name}.{namespace}");
        let mut hosts: Vec<Arc<str>> = Vec::with_capacity(4);
        if let Some(domain) = domain {
            let (annotations, labels) = (owner.annotations, owner.labels);
            let host = self.network.host(&name, &namespace, domain, annotations, labels);
            hosts.push(host.to_ascii_lowercase().into());
        }
        // The full name first: where there is no other, it is the one shown to people.
        for host in [format!("{local}.{private}"), format!("{local}.svc"), local] {
            let host = Arc::from(host);
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }
}

/// Who has which host. Hosts are claimed in the order of right: services and routes by name, then
/// tags, then `DomainMapping`s; a host stays with who claimed it first.
#[derive(Debug, Default)]
pub(super) struct Claims {
    owners: HashMap<Arc<str>, Arc<str>, foldhash::fast::FixedState>,
}

impl Claims {
    /// Keeps of `hosts` those that are free, and answers one text for each owner of the others.
    pub(super) fn claim(&mut self, claimant: &Arc<str>, hosts: &mut Vec<Arc<str>>) -> Vec<String> {
        let mut refused: BTreeMap<Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
        hosts.retain(|host| {
            let owner = self.owners.entry(Arc::clone(host)).or_insert_with(|| Arc::clone(claimant));
            if owner != claimant {
                refused.entry(Arc::clone(owner)).or_default().push(Arc::clone(host));
            }
            owner == claimant
        });
        refused
            .into_iter()
            .map(|(owner, hosts)| {
                let hosts = hosts.join(", ");
                format!("{claimant} does not get {hosts}: {owner} has it already")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::parse_config_network;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn hosts(rules: &HostRules, labels: &[(&str, &str)], tag: Option<&str>) -> String {
        let id = ObjectName::new("Prod", "hello");
        let (labels, annotations) = (map(labels), map(&[("sub", "eu")]));
        let owner = HostOwner { id: &id, labels: &labels, annotations: &annotations };
        let hosts = match tag {
            None => rules.hosts(owner),
            Some(tag) => rules.tag_hosts(tag, owner),
        };
        hosts.join(" ")
    }

    #[test]
    fn the_domain_and_the_cluster_local_names() {
        let rules = HostRules::new("localhost");
        assert_eq!(
            hosts(&rules, &[], None),
            "hello.prod.localhost hello.prod.svc.cluster.local hello.prod.svc hello.prod"
        );
        assert_eq!(
            hosts(&rules, &[], Some("blue")),
            "blue-hello.prod.localhost blue-hello.prod.svc.cluster.local blue-hello.prod.svc \
             blue-hello.prod"
        );
        assert_eq!(
            hosts(&rules, &[("networking.knative.dev/visibility", "cluster-local")], None),
            "hello.prod.svc.cluster.local hello.prod.svc hello.prod"
        );
    }

    #[test]
    fn the_most_specific_selector_gives_the_domain() {
        let domain = |domain: &str, selector: &[(&str, &str)]| DomainRule {
            domain: domain.to_owned(),
            selector: map(selector),
        };
        let rules = HostRules {
            domains: DomainConfig {
                rules: vec![
                    domain("z.example.com", &[("app", "a")]),
                    domain("y.example.com", &[("app", "a")]),
                    domain("any.example.com", &[]),
                    domain("both.example.com", &[("app", "a"), ("tier", "web")]),
                    domain("svc.cluster.local", &[("app", "private")]),
                ],
            },
            ..HostRules::new("localhost")
        };
        let first = |labels: &[(&str, &str)]| {
            hosts(&rules, labels, None).split(' ').next().unwrap().to_owned()
        };
        assert_eq!(first(&[]), "hello.prod.any.example.com");
        assert_eq!(first(&[("app", "b")]), "hello.prod.any.example.com");
        assert_eq!(first(&[("app", "a")]), "hello.prod.y.example.com");
        assert_eq!(first(&[("app", "a"), ("tier", "web")]), "hello.prod.both.example.com");
        assert_eq!(first(&[("app", "private")]), "hello.prod.svc.cluster.local");
    }

    #[test]
    fn templates_shape_the_public_host_only() {
        let rules = HostRules {
            network: parse_config_network(&map(&[
                (
                    "domain-template",
                    "{{.Name}}-{{.Namespace}}.{{index .Annotations \"sub\"}}.{{.Domain}}",
                ),
                ("tag-template", "{{.Name}}-{{.Tag}}"),
            ]))
            .unwrap(),
            ..HostRules::new("Example.com")
        };
        assert_eq!(
            hosts(&rules, &[], Some("v1")),
            "hello-v1-prod.eu.example.com hello-v1.prod.svc.cluster.local hello-v1.prod.svc \
             hello-v1.prod"
        );
    }

    #[test]
    fn a_host_stays_with_who_claimed_it_first() {
        let mut claims = Claims::default();
        let list = |hosts: &[&str]| hosts.iter().map(|host| Arc::from(*host)).collect::<Vec<_>>();
        let (mut own, mut tag) = (list(&["a.b", "c.b"]), list(&["a.b", "d.b"]));
        assert!(claims.claim(&"service b/a".into(), &mut own).is_empty());
        let refused = claims.claim(&"tag a of service b/x".into(), &mut tag);
        assert_eq!(refused, ["tag a of service b/x does not get a.b: service b/a has it already"]);
        assert_eq!(tag, list(&["d.b"]));
    }
}
