use std::collections::BTreeMap;

use expect_test::expect;
use k8s_openapi::jiff::Timestamp;

use super::*;
use crate::config::settings::{DomainConfig, DomainRule, NetworkConfig};

#[derive(Default)]
struct Stage {
    services: Vec<&'static str>,
    routes: Vec<&'static str>,
    placeholders: BTreeMap<&'static str, &'static str>,
}

impl Known for Stage {
    fn service(&self, name: &ObjectName) -> Option<Value> {
        self.services.contains(&&*name.name).then(|| json!({}))
    }

    fn route(&self, name: &ObjectName) -> Option<Value> {
        let address = if &*name.name == "young" { json!({}) } else { json!({"url": "http://x"}) };
        self.routes.contains(&&*name.name).then(|| json!({"status": {"address": address}}))
    }

    fn placeholder(&self, name: &ObjectName) -> Option<Value> {
        let route = self.placeholders.get(&*name.name)?;
        Some(json!({"metadata": {"labels": {ROUTE: route}}}))
    }
}

fn mapping(host: &str, namespace: &str, created: &str) -> Value {
    json!({
        "metadata": {
            "namespace": namespace, "name": host, "generation": 1, "creationTimestamp": created,
        },
        "spec": {"ref": {
            "apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "hello",
        }},
    })
}

fn stage() -> Stage {
    Stage {
        services: vec!["hello", "young", "new"],
        routes: vec!["hello", "young", "alone"],
        placeholders: BTreeMap::from([("hello", "hello"), ("blue-hello", "hello")]),
    }
}

fn pass(mapping: &mut Value, others: &[Value]) {
    pass_with(mapping, others, None, &NetworkConfig::default(), None);
}

fn pass_with(
    mapping: &mut Value,
    others: &[Value],
    claimed_by: Option<&str>,
    network: &NetworkConfig,
    certificate: Option<&str>,
) {
    let mut others = others.to_vec();
    others.push(mapping.clone());
    let rule = DomainRule { domain: "example.com".to_owned(), selector: BTreeMap::new() };
    let domain = DomainConfig { rules: vec![rule] };
    let settings = Settings { domain, network: network.clone(), ..Settings::default() };
    let stage = stage();
    let now = Timestamp::UNIX_EPOCH;
    let certificate = certificate.map(str::to_owned);
    let around = Around {
        others: &others,
        claimed_by,
        certificate,
        is_served: true,
        known: &stage,
        settings: &settings,
        now,
    };
    mapping["status"] = status(mapping, &around);
}

fn shown(mapping: &Value) -> String {
    let conditions = mapping["status"].list("/conditions").iter();
    let lines = conditions.map(|condition| {
        let [kind, holds, reason, message] =
            ["/type", "/status", "/reason", "/message"].map(|at| condition.text(at));
        format!("{kind}={holds} {reason}: {message}").trim_end_matches(" : ").to_owned()
    });
    let (url, address) = (mapping.text("/status/url"), mapping.text("/status/address/url"));
    lines.chain([format!("{url} {address}")]).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_mapping_is_ready_once_the_proxies_could_know() {
    let mut mapping = mapping("shop.org", "ns", "1");
    pass(&mut mapping, &[]);
    expect![[r#"
        CertificateProvisioned=True TLSNotEnabled: external-domain-tls is not enabled
        DomainClaimed=True
        IngressReady=Unknown IngressNotConfigured: Ingress has not yet been reconciled.
        Ready=Unknown IngressNotConfigured: Ingress has not yet been reconciled.
        ReferenceResolved=True
        http://shop.org http://shop.org"#]]
    .assert_eq(&shown(&mapping));
    pass(&mut mapping, &[]);
    expect![[r#"
        CertificateProvisioned=True TLSNotEnabled: external-domain-tls is not enabled
        DomainClaimed=True
        IngressReady=True
        Ready=True
        ReferenceResolved=True
        http://shop.org http://shop.org"#]]
    .assert_eq(&shown(&mapping));
    mapping["spec"]["tls"] = json!({"secretName": "cert"});
    mapping["metadata"]["generation"] = json!(2);
    pass(&mut mapping, &[]);
    pass(&mut mapping, &[]);
    expect![[r#"
        CertificateProvisioned=True CertificateExternallyProvided: TLS certificate was provided externally
        DomainClaimed=True
        IngressReady=True
        Ready=True
        ReferenceResolved=True
        https://shop.org https://shop.org"#]].assert_eq(&shown(&mapping));
}

fn condition(mapping: &Value, kind: &str) -> String {
    let conditions = mapping["status"].list("/conditions").iter();
    let found = conditions.filter(|condition| condition.text("/type") == kind);
    let texts = found.map(|condition| {
        let [holds, reason, message] =
            ["/status", "/reason", "/message"].map(|at| condition.text(at));
        format!("{holds} {reason}: {message}")
    });
    texts.collect()
}

#[test]
fn a_host_belongs_to_the_oldest() {
    let at = |namespace: &str, created: &str| mapping("shop.org", namespace, created);
    let claimed = |mut own: Value, others: &[Value]| {
        pass(&mut own, others);
        pass(&mut own, others);
        assert_eq!(
            condition(&own, "Ready").starts_with("True"),
            condition(&own, "DomainClaimed").starts_with("True")
        );
        condition(&own, "DomainClaimed")
    };
    let taken =
        "False DomainAlreadyClaimed: The domain name is already in use by another DomainMapping";
    assert_eq!(claimed(at("b", "2"), &[at("a", "3")]), "True : ");
    assert_eq!(claimed(at("b", "2"), &[at("a", "3"), at("c", "1")]), taken);
    assert_eq!(claimed(at("b", "2"), &[at("a", "2")]), taken, "by name among the same age");
    let of = |host: &str| claimed(mapping(host, "ns", "1"), &[]);
    expect![[r#"
        False DomainClaimFailed: Hosts below "example.com" are those of services: choose a name outside of it
        False DomainClaimFailed: Hosts below "example.com" are those of services: choose a name outside of it
        False DomainClaimFailed: Hosts below "cluster.local" are those of services: choose a name outside of it
        False DomainClaimFailed: Hosts below "cluster.local" are those of services: choose a name outside of it"#]].assert_eq(
        &["x.example.com", "example.com", "a.b.svc.cluster.local", "hello.ns"].map(of).join("\n"),
    );
    assert_eq!(of("myexample.com"), "True : ");
}

#[test]
fn a_claim_gives_a_host_to_a_namespace() {
    let older = [mapping("shop.org", "a", "1")];
    let on = NetworkConfig::default();
    let off = NetworkConfig { requires_domain_claims: true, ..NetworkConfig::default() };
    let claimed = |others: &[Value], by: Option<&str>, network: &NetworkConfig| {
        let mut own = mapping("shop.org", "b", "2");
        pass_with(&mut own, others, by, network, None);
        condition(&own, "DomainClaimed").split_once(':').unwrap().0.to_owned()
    };
    assert_eq!(claimed(&older, Some("b"), &on), "True ", "whoever is older");
    assert_eq!(claimed(&[], Some("a"), &on), "False DomainAlreadyClaimed");
    assert_eq!(claimed(&[], None, &off), "False DomainAlreadyClaimed");
    assert_eq!(claimed(&older, Some("b"), &off), "True ");
}

#[test]
fn a_certificate_that_cannot_be_served_is_said() {
    let mut own = mapping("shop.org", "ns", "1");
    own["spec"]["tls"] = json!({"secretName": "cert"});
    let network = NetworkConfig::default();
    for (wrong, expected) in [
        (
            Some("Secret ns/cert not found"),
            "False CertificateProvisionFailed: Secret ns/cert not found",
        ),
        (None, "True CertificateExternallyProvided: TLS certificate was provided externally"),
    ] {
        pass_with(&mut own, &[], None, &network, wrong);
        assert_eq!(condition(&own, "CertificateProvisioned"), expected);
        assert_eq!(condition(&own, "ReferenceResolved"), "True : ");
    }
    own["spec"]["tls"] = Value::Null;
    let network = NetworkConfig { external_domain_tls: true, ..network };
    pass_with(&mut own, &[], None, &network, None);
    assert!(condition(&own, "CertificateProvisioned").starts_with("True HTTPDowngrade"));
}

/// A host that another one has is refused first, and is one's own when that goes.
#[test]
fn a_claim_is_looked_at_again() {
    let older = [mapping("shop.org", "a", "1")];
    let mut own = mapping("shop.org", "b", "2");
    pass(&mut own, &older);
    pass(&mut own, &older);
    assert!(condition(&own, "Ready").starts_with("False DomainAlreadyClaimed"));
    pass(&mut own, &[]);
    assert!(condition(&own, "Ready").starts_with("True"));
    pass(&mut own, &older);
    assert!(condition(&own, "Ready").starts_with("False"));
}

#[test]
fn what_is_referred_to_has_to_be_a_route() {
    let mut table = String::new();
    for (version, kind, name, namespace) in [
        ("serving.knative.dev/v1", "Service", "hello", ""),
        ("serving.knative.dev/v1", "Route", "alone", "ns"),
        ("v1", "Service", "hello", ""),
        ("serving.knative.dev/v1", "Service", "hello", "other"),
        ("serving.knative.dev/v1", "Service", "gone", ""),
        ("serving.knative.dev/v1", "Service", "new", ""),
        ("serving.knative.dev/v1", "Service", "young", ""),
        ("serving.knative.dev/v1", "Route", "gone", ""),
        ("v1", "Service", "database", ""),
        ("v1", "Service", "blue-hello", ""),
        ("serving.knative.dev/v1", "Revision", "hello-1", ""),
    ] {
        let mut mapping = mapping("shop.org", "ns", "1");
        mapping["spec"]["ref"] =
            json!({"apiVersion": version, "kind": kind, "name": name, "namespace": namespace});
        pass(&mut mapping, &[]);
        table.push_str(condition(&mapping, "ReferenceResolved").trim_end_matches(" : "));
        table.push('\n');
    }
    expect![[r#"
        True
        True
        True
        False ResolveFailed: resolved URI "http://hello.other.svc.cluster.local" must be in same namespace as DomainMapping
        False ResolveFailed: failed to get object ns/gone: services.serving.knative.dev "gone" not found
        False ResolveFailed: failed to get object ns/new: routes.serving.knative.dev "new" not found
        False ResolveFailed: address not set for Service ns/young
        False ResolveFailed: failed to get object ns/gone: routes.serving.knative.dev "gone" not found
        False ResolveFailed: Service ns/database is no Route's, so nothing leads to it: refer to a Service or Route of serving.knative.dev/v1
        False ResolveFailed: Service ns/blue-hello is a tag's of Route "hello": refer to a Service or Route of serving.knative.dev/v1
        False ResolveFailed: Revision of "serving.knative.dev/v1" cannot be mapped: refer to a Service or Route of serving.knative.dev/v1
    "#]].assert_eq(&table);
}
