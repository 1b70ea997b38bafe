//! `config-network`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Data;
use super::reader::Reader;
use crate::config::problem::ConfigProblem;
use crate::config::text::{Template, quote};

/// What plain HTTP requests get where TLS is in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpProtocol {
    /// They are served.
    Enabled,
    /// As `Enabled`: Knative accepts it still, and no longer closes the port.
    Disabled,
    /// They are redirected to https.
    Redirected,
}

/// The cluster's network settings.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConfig {
    /// `domain-template`: a service's host.
    pub domain_template: Template,
    /// `tag-template`: the name that stands for a service's in a tag's host.
    pub tag_template: Template,
    /// `rollout-duration`: how long traffic moves to a new revision; zero = at once.
    pub rollout_duration: Duration,
    /// `default-external-scheme`: the scheme of shown URLs.
    pub default_external_scheme: String,
    /// `http-protocol`.
    pub http_protocol: HttpProtocol,
    /// `external-domain-tls`, formerly `auto-tls`.
    pub external_domain_tls: bool,
    /// `cluster-local-domain-tls`.
    pub cluster_local_domain_tls: bool,
    /// `system-internal-tls`, formerly `internal-encryption`.
    pub system_internal_tls: bool,
    /// `ingress-class`.
    pub ingress_class: String,
    /// `certificate-class`.
    pub certificate_class: String,
    /// `autocreate-cluster-domain-claims`.
    pub autocreate_cluster_domain_claims: bool,
    /// Whether that was said to be false: then a host needs a claim that somebody else made.
    pub requires_domain_claims: bool,
}

/// What a host is made of.
const DOMAIN_FIELDS: [&str; 3] = ["Name", "Namespace", "Domain"];

impl Default for NetworkConfig {
    /// Knative's defaults.
    fn default() -> Self {
        let template = |text, fields: &[&str]| {
            Template::parse(text, fields, &[]).unwrap_or_else(|_| Template::text(text))
        };
        Self {
            domain_template: template("{{.Name}}.{{.Namespace}}.{{.Domain}}", &DOMAIN_FIELDS),
            tag_template: template("{{.Tag}}-{{.Name}}", &["Name", "Tag"]),
            rollout_duration: Duration::ZERO,
            default_external_scheme: "http".to_owned(),
            http_protocol: HttpProtocol::Enabled,
            external_domain_tls: false,
            cluster_local_domain_tls: false,
            system_internal_tls: false,
            ingress_class: "istio.ingress.networking.knative.dev".to_owned(),
            certificate_class: "cert-manager.certificate.networking.knative.dev".to_owned(),
            autocreate_cluster_domain_claims: false,
            requires_domain_claims: false,
        }
    }
}

impl NetworkConfig {
    /// The host of a service, or of a tag (whose `name` the tag template has made).
    pub fn host(
        &self,
        name: &str,
        namespace: &str,
        domain: &str,
        annotations: &BTreeMap<String, String>,
        labels: &BTreeMap<String, String>,
    ) -> String {
        let fields = BTreeMap::from([("Name", name), ("Namespace", namespace), ("Domain", domain)]);
        let maps = BTreeMap::from([("Annotations", annotations), ("Labels", labels)]);
        self.domain_template.render(&fields, &maps)
    }

    /// The name that stands for a service's in the host of one of its tags.
    pub fn tag_name(&self, name: &str, tag: &str) -> String {
        let fields = BTreeMap::from([("Name", name), ("Tag", tag)]);
        self.tag_template.render(&fields, &BTreeMap::new())
    }
}

/// Reads `config-network`; Knative's defaults stand for the keys that are absent.
pub fn parse_config_network(data: &Data) -> Result<NetworkConfig, Vec<ConfigProblem>> {
    let mut c = NetworkConfig::default();
    let mut r = Reader::new(data, "");
    // The older spelling first: the newer one wins.
    for key in ["ingress.class", "ingress-class"] {
        r.text(key, &mut c.ingress_class);
    }
    for key in ["certificate.class", "certificate-class"] {
        r.text(key, &mut c.certificate_class);
    }
    for key in ["defaultExternalScheme", "default-external-scheme"] {
        r.text(key, &mut c.default_external_scheme);
    }
    for key in ["autocreateClusterDomainClaims", "autocreate-cluster-domain-claims"] {
        r.bool(key, &mut c.autocreate_cluster_domain_claims);
        c.requires_domain_claims |= r.raw(key).is_some();
    }
    c.requires_domain_claims &= !c.autocreate_cluster_domain_claims;
    let mut rollout = 0;
    for key in ["rolloutDuration", "rollout-duration"] {
        r.int(key, 64, &mut rollout);
    }
    let mut internal_encryption = false;
    r.bool("internal-encryption", &mut internal_encryption);
    let mut ignored = false;
    r.bool("enable-mesh-pod-addressability", &mut ignored);
    if rollout < 0 {
        let message = format!("rollout-duration must be a positive integer, but was {rollout}");
        r.refuse(
            "rollout-duration",
            message,
            "write a number of seconds in quotes, such as \"60\"",
        );
    }
    c.rollout_duration = Duration::from_secs(u64::try_from(rollout).unwrap_or(0));
    templates(&mut c, &mut r);
    tls(&mut c, internal_encryption, &mut r);
    r.finish(c)
}

fn templates(c: &mut NetworkConfig, r: &mut Reader<'_>) {
    for key in ["domainTemplate", "domain-template"] {
        let maps = ["Annotations", "Labels"];
        template(key, &mut c.domain_template, &DOMAIN_FIELDS, &maps, r);
    }
    for key in ["tagTemplate", "tag-template"] {
        template(key, &mut c.tag_template, &["Name", "Tag"], &[], r);
    }
    let empty = BTreeMap::new();
    let host = c.host("foo", "bar", "baz.com", &empty, &empty);
    if !is_host(&host) {
        let message = format!("domain-template gives {host}, which is no host name");
        r.refuse("domain-template", message, "write {{.Name}}.{{.Namespace}}.{{.Domain}}");
    }
    let tag = c.tag_name("foo", "v2");
    if !is_host(&tag) {
        let message = format!("tag-template gives {tag}, which is no host name");
        r.refuse("tag-template", message, "write {{.Tag}}-{{.Name}}");
    }
}

fn is_host(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    !text.is_empty() && text.bytes().all(allowed)
}

fn template(key: &str, target: &mut Template, fields: &[&str], maps: &[&str], r: &mut Reader<'_>) {
    let Some(raw) = r.raw(key) else { return };
    match Template::parse(raw.trim(), fields, maps) {
        Ok(read) => *target = read,
        Err(e) => r.refuse(key, e.to_string(), "write {{.Name}}.{{.Namespace}}.{{.Domain}}"),
    }
}

fn tls(c: &mut NetworkConfig, internal_encryption: bool, r: &mut Reader<'_>) {
    let is_on = |raw: &str| raw.eq_ignore_ascii_case("enabled");
    for key in ["autoTLS", "auto-tls", "external-domain-tls"] {
        if let Some(raw) = r.raw(key) {
            c.external_domain_tls = is_on(raw);
        }
    }
    let protocol = r.raw("http-protocol").or_else(|| r.raw("httpProtocol")).unwrap_or_default();
    c.http_protocol = match protocol.to_ascii_lowercase().as_str() {
        "" | "enabled" => HttpProtocol::Enabled,
        "disabled" => HttpProtocol::Disabled,
        "redirected" => HttpProtocol::Redirected,
        _ => {
            let message =
                format!("httpProtocol {protocol} in config-network ConfigMap is not supported");
            r.refuse("http-protocol", message, "write Enabled, Redirected or Disabled");
            HttpProtocol::Enabled
        }
    };
    c.system_internal_tls = internal_encryption;
    for (key, target) in [
        ("system-internal-tls", &mut c.system_internal_tls),
        ("cluster-local-domain-tls", &mut c.cluster_local_domain_tls),
    ] {
        let raw = r.raw(key).unwrap_or_default();
        match raw.to_ascii_lowercase().as_str() {
            "" | "disabled" => {}
            "enabled" => *target = true,
            _ => {
                let message = format!(
                    "{key} with value: {} in config-network ConfigMap is not supported",
                    quote(raw)
                );
                r.refuse(key, message, "write Enabled or Disabled");
            }
        }
    }
}
