mod canary;
mod depending;
mod writing;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use expect_test::{Expect, expect};
use k8s_openapi::jiff::SignedDuration;

use super::super::settings::Settings;
use super::plan::Plan;
use super::*;
use crate::config::settings::{DomainConfig, DomainRule};
use crate::kubernetes::trials::Trials;

/// What a namespace has.
#[derive(Clone, Debug, Default)]
struct Stage {
    configurations: BTreeMap<String, Value>,
    revisions: BTreeMap<String, Value>,
    routes: BTreeMap<String, Value>,
    services: Vec<Value>,
    settings: Settings,
    trials: Arc<Trials>,
    seconds: i64,
}

impl Known for Stage {
    fn configuration(&self, name: &str) -> Option<Value> {
        self.configurations.get(name).cloned()
    }

    fn revision(&self, name: &str) -> Option<Value> {
        self.revisions.get(name).cloned()
    }

    fn configuration_of(&self, name: &ObjectName) -> Option<Value> {
        self.configuration(&name.name)
    }

    fn revision_of(&self, name: &ObjectName) -> Option<Value> {
        self.revision(&name.name)
    }

    fn route(&self, name: &ObjectName) -> Option<Value> {
        self.routes.get(&*name.name).cloned()
    }

    fn is_adopted(&self, name: &ObjectName) -> bool {
        &*name.name == "adopted"
    }
}

fn status(ready: &str) -> Value {
    if ready.is_empty() {
        return json!({});
    }
    json!({"observedGeneration": 1, "conditions": [{"type": "Ready", "status": ready}]})
}

impl Stage {
    /// A domain that is seen from outside.
    fn new() -> Self {
        let rule = DomainRule { domain: "example.com".to_owned(), selector: BTreeMap::new() };
        let domain = DomainConfig { rules: vec![rule] };
        Self { settings: Settings { domain, ..Settings::default() }, ..Self::default() }
    }

    /// A revision of a Configuration, both of a Service of that name.
    fn revision_of(mut self, configuration: &str, name: &str, ready: &str) -> Self {
        let labels = json!({
            "serving.knative.dev/configuration": configuration,
            "serving.knative.dev/service": configuration,
        });
        let owner = json!({"kind": "Configuration", "name": configuration, "controller": true});
        let metadata = json!({
            "namespace": "ns", "name": name, "generation": 1, "labels": labels,
            "ownerReferences": [owner],
        });
        let revision = json!({"metadata": metadata, "status": status(ready)});
        self.revisions.insert(name.to_owned(), revision);
        self
    }

    /// A Configuration with its newest revisions; empty = none.
    fn configured(mut self, name: &str, created: &str, latest: &str, ready: &str) -> Self {
        let mut status = status(ready);
        status["latestCreatedRevisionName"] = json!(created);
        status["latestReadyRevisionName"] = json!(latest);
        let metadata = json!({"namespace": "ns", "name": name, "generation": 1});
        self.configurations
            .insert(name.to_owned(), json!({"metadata": metadata, "status": status}));
        self
    }

    fn plan(&self, route: &Value) -> Plan {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000 + self.seconds);
        let (services, settings) = (&self.services, &self.settings);
        let (internal, trials) = ("tidegate.inside", &self.trials);
        plan(route, &Around { known: self, services, settings, internal, trials, now })
    }

    /// What becomes of a Route: it takes what is planned, as the API server would.
    fn pass(&self, route: &mut Value) -> Option<Leads> {
        let mut plan = self.plan(route);
        let leads = plan.leads.take();
        route["status"] = plan.status(None);
        if let Some(leads) = &leads {
            let rollout = leads.rollout.as_ref();
            let rollout = rollout.map(|rollout| serde_json::to_string(rollout).unwrap());
            let annotations = route["metadata"]["annotations"].as_object_mut().unwrap();
            annotations.remove(ROLLOUT_ANNOTATION);
            annotations.extend(rollout.map(|text| (ROLLOUT_ANNOTATION.to_owned(), json!(text))));
        }
        leads
    }
}

fn route(traffic: &Value) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Route",
        "metadata": {
            "namespace": "ns", "name": "hello", "uid": "r-uid", "generation": 1,
            "labels": {"serving.knative.dev/service": "hello"}, "annotations": {},
        },
        "spec": {"traffic": traffic},
    })
}

/// A status in a few lines.
fn shown(route: &Value) -> String {
    let status = &route["status"];
    let mut text = String::new();
    for condition in status.list("/conditions") {
        let [kind, holds, reason, message] =
            ["/type", "/status", "/reason", "/message"].map(|at| condition.text(at));
        let _ = writeln!(text, "{kind}={holds} {reason}: {message}");
    }
    let _ = writeln!(text, "{} {}", status.text("/url"), status.text("/address/url"));
    for target in status.list("/traffic") {
        let latest = if target["latestRevision"] == true { "latest " } else { "" };
        let _ = write!(text, "{} % {latest}{}", target["percent"], target.text("/revisionName"));
        let tag = [" ", target.text("/tag"), " ", target.text("/url")].concat();
        let _ = writeln!(text, "{}", tag.trim_end());
    }
    text.replace(" : \n", "\n")
}

#[expect(clippy::needless_pass_by_value, reason = "reads better in a table")]
fn check(stage: &Stage, traffic: Value, expected: Expect) {
    let mut route = route(&traffic);
    stage.pass(&mut route);
    expected.assert_eq(&shown(&route));
}

fn latest() -> Value {
    json!([{"configurationName": "hello", "latestRevision": true, "percent": 100}])
}

fn two() -> Stage {
    Stage::new()
        .revision_of("hello", "hello-1", "True")
        .revision_of("hello", "hello-2", "True")
        .configured("hello", "hello-2", "hello-2", "True")
}

#[test]
fn traffic_leads_to_ready_revisions() {
    check(
        &two(),
        latest(),
        expect![[r#"
            AllTrafficAssigned=True
            CertificateProvisioned=True TLSNotEnabled: external-domain-tls is not enabled
            IngressReady=Unknown IngressNotConfigured: Ingress has not yet been reconciled.
            Ready=Unknown IngressNotConfigured: Ingress has not yet been reconciled.
            http://hello.ns.example.com http://hello.ns.svc.cluster.local
            100 % latest hello-2
        "#]],
    );
    check(
        &two(),
        json!([
            {"revisionName": "hello-1", "latestRevision": false, "percent": 90, "tag": "old"},
            {"configurationName": "hello", "percent": 5, "tag": "next"},
            {"configurationName": "hello", "latestRevision": true, "percent": 5},
            {"revisionName": "hello-2", "tag": "same"},
        ]),
        expect![[r#"
            AllTrafficAssigned=True
            CertificateProvisioned=True TLSNotEnabled: external-domain-tls is not enabled
            IngressReady=Unknown IngressNotConfigured: Ingress has not yet been reconciled.
            Ready=Unknown IngressNotConfigured: Ingress has not yet been reconciled.
            http://hello.ns.example.com http://hello.ns.svc.cluster.local
            90 % hello-1 old http://old-hello.ns.example.com
            5 % latest hello-2 next http://next-hello.ns.example.com
            5 % latest hello-2
            0 % hello-2 same http://same-hello.ns.example.com
        "#]],
    );
}

#[test]
fn traffic_that_leads_nowhere_says_why() {
    let revision = |name: &str| json!([{"revisionName": name, "percent": 100}]);
    let why = |stage: &Stage, traffic: Value| {
        let mut route = route(&traffic);
        assert!(stage.pass(&mut route).is_none());
        let conditions = route["status"].list("/conditions").iter();
        let found = conditions.filter(|c| c.text("/type") == "AllTrafficAssigned");
        let texts = found.map(|c| {
            format!("{} {}: {}", c.text("/status"), c.text("/reason"), c.text("/message"))
        });
        texts.collect::<String>()
    };
    let none = Stage::new();
    let mut table = String::new();
    for (stage, traffic) in [
        (&none, latest()),
        (&none, revision("hello-1")),
        (&none.clone().configured("hello", "", "", ""), latest()),
        (&none.clone().configured("hello", "hello-1", "", "False"), latest()),
        (&none.clone().configured("hello", "hello-1", "hello-1", "True"), latest()),
        (&two().revision_of("hello", "hello-2", "False"), latest()),
        (&two().revision_of("hello", "hello-2", "Unknown"), revision("hello-2")),
        (&two().revision_of("hello", "hello-2", ""), revision("hello-2")),
        (&two().revision_of("other", "other-1", "True"), revision("other-1")),
        (&two().revision_of("", "alone", "True"), revision("alone")),
    ] {
        table.push_str(&why(stage, traffic));
        table.push('\n');
    }
    // What waiting does not help is told rather than what it may.
    let mixed = json!([
        {"revisionName": "hello-9", "percent": 50},
        {"revisionName": "hello-1", "percent": 25},
        {"revisionName": "hello-2", "percent": 25},
    ]);
    table.push_str(&why(&two().revision_of("hello", "hello-2", "Unknown"), mixed));
    expect![[r#"
        False ConfigurationMissing: Configuration "hello" referenced in traffic not found.
        False RevisionMissing: Revision "hello-1" referenced in traffic not found.
        Unknown RevisionMissing: Configuration "hello" is waiting for a Revision to become ready.
        False RevisionMissing: Configuration "hello" does not have any ready Revision.
        False RevisionMissing: Revision "hello-1" referenced in traffic not found.
        False RevisionMissing: Revision "hello-2" failed to become ready.
        Unknown RevisionMissing: Revision "hello-2" is not yet ready.
        Unknown RevisionMissing: Revision "hello-2" is not yet ready.
        False RevisionNotOwned: Revision "other-1" belongs to Service "other", not Service "hello".
        False RevisionNotOwned: Revision "alone" does not belong to Service "hello".
        False RevisionMissing: Revision "hello-9" referenced in traffic not found."#]]
    .assert_eq(&table);
}

#[test]
fn good_traffic_stays_while_the_new_leads_nowhere() {
    let stage = two();
    let mut route = route(&latest());
    stage.pass(&mut route);
    stage.pass(&mut route);
    let good = route["status"]["traffic"].clone();
    assert_eq!(ready_of(&route), "True");
    route["spec"]["traffic"] = json!([{"revisionName": "hello-9", "percent": 100}]);
    route["metadata"]["generation"] = json!(2);
    assert!(stage.pass(&mut route).is_none(), "nor do its Services change");
    assert_eq!(route["status"]["traffic"], good);
    expect![[r#"
        AllTrafficAssigned=False RevisionMissing: Revision "hello-9" referenced in traffic not found.
        CertificateProvisioned=True TLSNotEnabled: external-domain-tls is not enabled
        IngressReady=Unknown IngressNotConfigured: Ingress has not yet been reconciled.
        Ready=False RevisionMissing: Revision "hello-9" referenced in traffic not found.
        http://hello.ns.example.com http://hello.ns.svc.cluster.local
        100 % latest hello-2
    "#]].assert_eq(&shown(&route));
}

fn ready_of(route: &Value) -> &str {
    traffic::ready(route)
}

/// A Route is ready one pass after its proxies could know.
#[test]
fn ready_follows_what_the_proxies_are_told() {
    let stage = two();
    let mut route = route(&latest());
    let mut seen = Vec::new();
    for generation in [1, 1, 1, 2, 2] {
        route["metadata"]["generation"] = json!(generation);
        stage.pass(&mut route);
        seen.push(ready_of(&route).to_owned());
    }
    assert_eq!(seen, ["Unknown", "True", "True", "Unknown", "True"]);
    let other = stage.configured("hello", "hello-1", "hello-1", "True");
    other.pass(&mut route);
    assert_eq!(ready_of(&route), "Unknown");
    other.pass(&mut route);
    assert_eq!(ready_of(&route), "True");
    let before = route.clone();
    other.pass(&mut route);
    assert_eq!(route, before, "nothing changes by itself");
}

#[test]
fn names_are_seen_from_outside_or_not_each_by_itself() {
    let mut stage = two();
    let label = |name: &str| json!({"metadata": {"name": name, "labels": {"networking.knative.dev/visibility": "x"}}});
    let tagged = json!([
        {"revisionName": "hello-1", "percent": 100, "tag": "a"},
        {"revisionName": "hello-2", "percent": 0, "tag": "b"},
    ]);
    let urls = |stage: &Stage, traffic: &Value| {
        let mut route = route(traffic);
        stage.pass(&mut route);
        let tags = route["status"].list("/traffic").iter().map(|target| target.text("/url"));
        let urls = [route["status"].text("/url")].into_iter().chain(tags);
        urls.map(|url| url.trim_start_matches("http://").to_owned()).collect::<Vec<_>>()
    };
    let (public, private) = ("hello.ns.example.com", "hello.ns.svc.cluster.local");
    let (a, b) = (format!("a-{public}"), format!("b-{public}"));
    let local = |tag: &str| format!("{tag}-{private}");
    assert_eq!(urls(&stage, &tagged), [public, &a, &b]);
    stage.services = vec![label("a-hello")];
    assert_eq!(urls(&stage, &tagged), [public, &local("a"), &b]);
    stage.services = vec![label("hello")];
    assert_eq!(urls(&stage, &tagged), [private, &a, &b]);
    stage.settings.domain = DomainConfig::default();
    assert_eq!(urls(&stage, &tagged), [private, &local("a"), &local("b")]);
    // A name that is none.
    let long = json!([{"revisionName": "hello-1", "percent": 100, "tag": "t".repeat(63)}]);
    let mut route = route(&long);
    stage.pass(&mut route);
    let shown = shown(&route);
    assert!(shown.contains("AllTrafficAssigned=False ErrorConfig: domain name error"), "{shown}");
}

#[test]
fn services_stand_for_the_names() {
    let mut route = route(&json!([
        {"revisionName": "hello-1", "percent": 100, "tag": "a"},
        {"revisionName": "hello-2", "percent": 0, "tag": "b"},
    ]));
    route["metadata"]["labels"]["networking.knative.dev/visibility"] = json!("cluster-local");
    let mine = json!({
        "mine": "1", "kubectl.kubernetes.io/last-applied-configuration": "{}",
        ROLLOUT_ANNOTATION: "{}",
    });
    route["metadata"]["annotations"] = mine;
    let leads = two().pass(&mut route).unwrap();
    let names: Vec<_> = leads.services.iter().map(|s| s.text("/metadata/name")).collect();
    assert_eq!(names, ["hello", "a-hello", "b-hello"]);
    expect![[r#"
        {
          "apiVersion": "v1",
          "kind": "Service",
          "metadata": {
            "namespace": "ns",
            "name": "a-hello",
            "labels": {
              "serving.knative.dev/service": "hello",
              "serving.knative.dev/route": "hello"
            },
            "annotations": {
              "mine": "1"
            },
            "ownerReferences": [
              {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Route",
                "name": "hello",
                "uid": "r-uid",
                "controller": true,
                "blockOwnerDeletion": true
              }
            ]
          },
          "spec": {
            "type": "ExternalName",
            "externalName": "tidegate.inside",
            "sessionAffinity": "None",
            "ports": [
              {
                "name": "http",
                "port": 80,
                "protocol": "TCP",
                "targetPort": 80
              }
            ]
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&leads.services[1]).unwrap());
}

/// Traffic moves to a new revision step by step, and stops at one that fails.
#[test]
fn traffic_moves_step_by_step() {
    let mut stage = two().configured("hello", "hello-1", "hello-1", "True");
    let mut route = route(&latest());
    route["metadata"]["annotations"] = json!({"serving.knative.dev/rollout-duration": "10s"});
    let mut log = String::new();
    let mut look = |stage: &Stage, route: &mut Value| {
        let next = stage.pass(route).and_then(|leads| leads.next);
        let traffic = route["status"].list("/traffic").iter();
        let traffic: Vec<String> =
            traffic.map(|t| format!("{}={}", t.text("/revisionName"), t["percent"])).collect();
        let (ready, next) = (ready_of(route), next.map(|next| next.as_millis()));
        let _ = writeln!(log, "{} s: {} {ready} {next:?}", stage.seconds, traffic.join(" "));
    };
    look(&stage, &mut route);
    look(&stage, &mut route);
    stage = stage.configured("hello", "hello-2", "hello-2", "True");
    stage.seconds = 100;
    look(&stage, &mut route);
    look(&stage, &mut route);
    for seconds in [101, 102, 103] {
        stage.seconds = seconds;
        look(&stage, &mut route);
    }
    let failing = stage.clone().revision_of("hello", "hello-2", "False");
    let mut failed = route.clone();
    let shares = failed["metadata"]["annotations"][ROLLOUT_ANNOTATION].clone();
    failing.pass(&mut failed);
    // A revision that is no longer ready is no target; what it has it keeps.
    assert_eq!(failed["status"]["traffic"], route["status"]["traffic"]);
    assert_eq!(shares, route["metadata"]["annotations"][ROLLOUT_ANNOTATION]);
    for seconds in [104, 105, 106, 107, 108, 109, 110, 111] {
        stage.seconds = seconds;
        look(&stage, &mut route);
    }
    expect![[r#"
        0 s: hello-1=100 Unknown None
        0 s: hello-1=100 True None
        100 s: hello-1=99 hello-2=1 Unknown None
        100 s: hello-1=99 hello-2=1 Unknown Some(1000)
        101 s: hello-1=88 hello-2=12 Unknown Some(1000)
        102 s: hello-1=77 hello-2=23 Unknown Some(1000)
        103 s: hello-1=66 hello-2=34 Unknown Some(1000)
        104 s: hello-1=55 hello-2=45 Unknown Some(1000)
        105 s: hello-1=44 hello-2=56 Unknown Some(1000)
        106 s: hello-1=33 hello-2=67 Unknown Some(1000)
        107 s: hello-1=22 hello-2=78 Unknown Some(1000)
        108 s: hello-1=11 hello-2=89 Unknown Some(1000)
        109 s: hello-2=100 Unknown None
        110 s: hello-2=100 True None
        111 s: hello-2=100 True None
    "#]]
    .assert_eq(&log);
    route["metadata"]["annotations"]
        .as_object_mut()
        .unwrap()
        .remove("serving.knative.dev/rollout-duration");
    stage.pass(&mut route);
    assert_eq!(route["metadata"]["annotations"], json!({}), "where nothing moves there is no note");
}
