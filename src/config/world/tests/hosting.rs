//! Hosts, domains, tags and domain mappings.

use expect_test::expect;

use super::*;

/// All hosts, one service or tag a line.
fn hosts(loaded: &Loaded) -> String {
    let mut lines = Vec::new();
    for service in &loaded.world.services {
        lines.push(format!("{}: {}", service.id, service.hosts.join(" ")));
        for tag in &service.tags {
            lines.push(format!("  {} → {}: {}", tag.name, tag.revision, tag.hosts.join(" ")));
        }
    }
    lines.join("\n")
}

fn mapping(host: &str, service: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1beta1\nkind: DomainMapping\nmetadata: {{name: {host}}}\n\
         spec: {{ref: {{apiVersion: serving.knative.dev/v1, kind: Service, name: {service}}}}}\n---\n"
    )
}

#[test]
fn a_service_its_tags_and_its_mappings() {
    let mut bench = Bench::new();
    let tagged = "  traffic: [{latestRevision: true, percent: 100, tag: blue}]\n";
    bench.write("app.yaml", &service("hello", "a", tagged));
    let loaded = bench.write(
        "map.yaml",
        &(mapping("Shop.example.com", "hello") + &mapping("later.example.com", "later")),
    );
    expect![[r#"
        default/hello: hello.default.localhost hello.default.svc.cluster.local hello.default.svc hello.default
          blue → default/hello-00001: blue-hello.default.localhost blue-hello.default.svc.cluster.local blue-hello.default.svc blue-hello.default"#]].assert_eq(&hosts(&loaded));
    expect!["DomainMapping later.example.com at map.yaml:6: the service it refers to is not there yet; it takes effect when it appears"].assert_eq(&loaded.warnings.join("\n"));
}

#[test]
fn a_host_belongs_to_one() {
    let mut bench = Bench::new();
    let tagged = "  traffic: [{latestRevision: true, percent: 100, tag: blue}]\n";
    let text = service("hello", "a", tagged)
        + "---\n"
        + &service("blue-hello", "b", "")
        + "---\n"
        + &mapping("hello.default.localhost", "blue-hello");
    let loaded = bench.write("app.yaml", &text);
    expect![[r#"
        default/blue-hello: blue-hello.default.localhost blue-hello.default.svc.cluster.local blue-hello.default.svc blue-hello.default
        default/hello: hello.default.localhost hello.default.svc.cluster.local hello.default.svc hello.default
          blue → default/hello-00001: "#]].assert_eq(&hosts(&loaded));
    expect![[r#"
        service default/blue-hello: service default/blue-hello does not get hello.default.localhost: service default/hello has it already
        service default/hello: tag blue of service default/hello does not get blue-hello.default.localhost, blue-hello.default.svc.cluster.local, blue-hello.default.svc, blue-hello.default: service default/blue-hello has it already"#]].assert_eq(&loaded.warnings.join("\n"));
}

#[test]
fn domains_and_templates() {
    let maps = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: config-domain}
data:
  example.com: \"\"
  red.example.com: |
    selector:
      team: red
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-network, namespace: knative-serving}
data:
  domain-template: \"{{.Name}}-{{.Namespace}}.{{.Domain}}\"
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-features, namespace: knative-serving}
data: {tag-header-based-routing: enabled}
---
";
    let labelled = |labels: &str| {
        service("hello", "a", "").replace("{name: hello}", &format!("{{name: hello, {labels}}}"))
    };
    let first = |options: LoaderOptions, labels: &str| {
        let mut bench = Bench::with(options);
        let loaded = bench.write("app.yaml", &(maps.to_owned() + &labelled(labels)));
        assert_good(&loaded);
        assert!(loaded.world.services[0].tag_header_routing);
        loaded.world.services[0].hosts[0].to_string()
    };
    let options = LoaderOptions::default;
    assert_eq!(first(options(), "namespace: prod"), "hello-prod.example.com");
    assert_eq!(first(options(), "labels: {team: red}"), "hello-default.red.example.com");
    let given = LoaderOptions { domain: Some("dev.test".to_owned()), ..options() };
    assert_eq!(first(given, "labels: {team: red}"), "hello-default.dev.test");
    let local = "labels: {networking.knative.dev/visibility: cluster-local}";
    assert_eq!(first(options(), local), "hello.default.svc.cluster.local");
}

#[test]
fn the_default_service() {
    let default_service = |options: &str, names: &[&str]| {
        let given = (!options.is_empty()).then(|| options.to_owned());
        let mut bench =
            Bench::with(LoaderOptions { default_service: given, ..LoaderOptions::default() });
        let text: Vec<String> = names.iter().map(|name| service(name, "a", "")).collect();
        let loaded = bench.write("app.yaml", &text.join("---\n"));
        (loaded.world.default_service.as_ref().map(ToString::to_string), loaded.warnings.len())
    };
    assert_eq!(default_service("", &["a"]), (Some("default/a".to_owned()), 0));
    assert_eq!(default_service("", &["a", "b"]), (None, 0));
    assert_eq!(default_service("b", &["a", "b"]), (Some("default/b".to_owned()), 0));
    assert_eq!(default_service("default/b", &["b"]), (Some("default/b".to_owned()), 0));
    assert_eq!(default_service("c", &["a", "b"]), (None, 1));
}
