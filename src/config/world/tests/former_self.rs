//! What is bad keeps its former self, what is good takes effect.

use expect_test::expect;

use super::*;

const BAD: &str = "      timeoutSeconds: nine\n";

#[test]
fn each_object_by_itself() {
    let mut bench = Bench::new();
    let both = |a: &str, b: &str| service("a", a, "") + "---\n" + &service("b", b, "");
    assert_good(&bench.write("app.yaml", &both("one", "one")));
    let loaded = bench.write("app.yaml", &(both("two", "two") + BAD));
    assert_eq!(loaded.problems.len(), 1, "{}", problems(&loaded));
    assert_eq!(loaded.world.rejected.len(), 1);
    assert_eq!(traffic(&loaded), "default/a: a-00002 100%\ndefault/b: b-00001 100%");
    // It is said again as long as it is so, and nothing else changes.
    let again = bench.load();
    assert_eq!(problems(&again), problems(&loaded));
    assert!(Arc::ptr_eq(&again.world.services[0], &loaded.world.services[0]));
    let loaded = bench.write("app.yaml", &both("two", "two"));
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/a: a-00002 100%\ndefault/b: b-00002 100%");
}

#[test]
fn after_a_syntax_error_the_rest_of_the_file() {
    let mut bench = Bench::new();
    let text = ["a", "b", "c"].map(|name| service(name, "one", "")).join("---\n");
    assert_good(&bench.write("app.yaml", &text));
    bench.write("other.yaml", &service("d", "one", ""));
    let broken = service("a", "two", "") + "---\nkind: [\n---\n" + &service("c", "two", "");
    let loaded = bench.write("app.yaml", &broken);
    assert_eq!(loaded.problems.len(), 1, "{}", problems(&loaded));
    let expected = "default/a: a-00002 100%\ndefault/b: b-00001 100%\ndefault/c: c-00001 100%\n\
                    default/d: d-00001 100%";
    assert_eq!(traffic(&loaded), expected);
    // Other files may still lose theirs.
    let loaded = bench.remove("other.yaml");
    assert_eq!(traffic(&loaded).lines().count(), 3);
    let loaded = bench.write("app.yaml", &service("a", "two", ""));
    assert_eq!(traffic(&loaded), "default/a: a-00002 100%");
}

#[test]
fn an_object_that_nobody_can_tell_is_not_gone() {
    let mut bench = Bench::new();
    assert_good(&bench.write("app.yaml", &service("hello", "a", "")));
    let table = [
        ("kind: Service", "kind: Servce"),
        ("serving.knative.dev", "srving.knative.dev"),
        ("metadata: {name: hello}", "metadata:\nname: hello"),
        ("metadata: {name: hello}", "metadata: {nam: hello}"),
        ("kind: Service\n", ""),
        ("spec:\n", "spec:\n---\n"),
    ];
    let mut shown = String::new();
    for (right, wrong) in table {
        let loaded = bench.write("app.yaml", &service("hello", "a", "").replace(right, wrong));
        assert_eq!(traffic(&loaded), "default/hello: hello-00001 100%", "{wrong}");
        shown.push_str(&format!("{}\n", problems(&loaded).lines().next().unwrap_or_default()));
    }
    expect![[r#"
        app.yaml:2: document 1: kind: serving.knative.dev has no kind Servce; write Service
        app.yaml:1: document 1: apiVersion: there is no API group srving.knative.dev; write serving.knative.dev
        app.yaml:3: document 1: metadata: metadata is empty: the indentation of what belongs to it is lost; write the lines that belong to metadata two spaces further in
        app.yaml:3: document 1: metadata.name: missing field(s); write metadata.name: the name of the Service
        app.yaml:1: document 1: kind: missing field(s); write apiVersion: serving.knative.dev/v1 and kind: Service for a service
        app.yaml:4: document 1: spec: spec is empty: the indentation of what belongs to it is lost; write the lines that belong to spec two spaces further in
    "#]].assert_eq(&shown);
}

#[test]
fn twice_is_once_too_often() {
    let mut bench = Bench::new();
    assert_good(&bench.write("a.yaml", &service("hello", "a", "")));
    let loaded = bench.write("b.yaml", &service("hello", "b", ""));
    expect!["b.yaml:1: document 1: metadata.name: Service default/hello stands twice: here and at a.yaml:1; remove one of the two; until then what was in effect before stays in effect"]
        .assert_eq(&problems(&loaded));
    assert_eq!(revisions(&loaded), "default/hello-00001: a");
    let loaded = bench.remove("a.yaml");
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/hello: hello-00002 100%");
    // At first start there is no former self: neither counts.
    let mut bench = Bench::new();
    bench.files.insert("a.yaml".to_owned(), service("hello", "a", ""));
    let loaded = bench.write("b.yaml", &service("hello", "b", ""));
    assert_eq!((loaded.problems.len(), traffic(&loaded).as_str()), (1, ""));
}

#[test]
fn settings_keep_theirs() {
    let config = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-autoscaler, namespace: \
             knative-serving}}\ndata: {{stable-window: \"{value}\"}}\n"
        )
    };
    let window = |loaded: &Loaded| loaded.world.revisions[0].scaling.stable_window.as_secs();
    let mut bench = Bench::new();
    let loaded = bench.write("app.yaml", &service("hello", "a", ""));
    assert_eq!(window(&loaded), 60);
    let loaded = bench.write("config.yaml", &config("90s"));
    assert_good(&loaded);
    assert_eq!(window(&loaded), 90);
    let loaded = bench.write("config.yaml", &config("1s"));
    assert_eq!((loaded.problems.len(), window(&loaded)), (1, 90));
    let loaded = bench.write("config.yaml", "a: [");
    assert_eq!((loaded.problems.len(), window(&loaded)), (1, 90));
    let loaded = bench.remove("config.yaml");
    assert_eq!(window(&loaded), 60);
    assert_eq!(traffic(&loaded), "default/hello: hello-00001 100%", "nothing is stamped");
}

#[test]
fn traffic_that_names_what_is_missing_keeps_the_last_good() {
    let to = |revision: &str| {
        format!("  traffic:\n  - {{revisionName: {revision}, percent: 100, tag: t}}\n")
    };
    let mut bench = Bench::new();
    let loaded = bench.write("app.yaml", &service("hello", "a", &to("hello-00007")));
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/hello: revision_missing");
    let message = &loaded.world.services[0].problem.as_ref().unwrap().message;
    expect![[r#"
        traffic of default/hello names hello-00007, not there; so far there is hello-00001.
        Each change of spec.template makes the next revision: change it once more, or add the missing one as a document
        apiVersion: serving.knative.dev/v1
        kind: Revision
        metadata:
          name: hello-00007
          namespace: default
          labels:
            serving.knative.dev/service: hello
        spec: what spec.template.spec of that version was
        or let traffic name a revision that is there"#]].assert_eq(message);

    let loaded = bench.write("app.yaml", &service("hello", "a", &to("hello-00001")));
    assert_eq!(traffic(&loaded), "default/hello: hello-00001 100% t→hello-00001");
    let loaded = bench.write("app.yaml", &service("hello", "b", &to("hello-00007")));
    assert_eq!(traffic(&loaded), "default/hello: hello-00001 100% t→hello-00001");
    expect!["RevisionMissing: traffic of default/hello names hello-00007, not there; the traffic before stays in effect"].assert_eq(&loaded.world.services[0].warnings.join("\n"));
    // One more revision, and the next, and what was missing is there.
    let loaded = bench.write("app.yaml", &service("hello", "c", &to("hello-00003")));
    assert_eq!(traffic(&loaded), "default/hello: hello-00003 100% t→hello-00003");
    assert!(loaded.world.services[0].warnings.is_empty());
}

#[test]
fn a_service_leads_only_to_its_own_revisions() {
    let mut bench = Bench::new();
    bench.write("other.yaml", &service("other", "a", ""));
    let foreign = "  traffic:\n  - {revisionName: other-00001, percent: 100}\n";
    let loaded = bench.write("app.yaml", &service("hello", "a", foreign));
    assert!(traffic(&loaded).starts_with("default/hello: revision_missing"), "{loaded:?}");
}
