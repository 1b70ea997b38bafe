//! Which change makes a revision, and what becomes of older ones.

use expect_test::expect;

use super::*;

/// Loads one text after another as the same file; traffic and revisions after each.
fn sequence(texts: &[&str]) -> String {
    let mut bench = Bench::new();
    let mut shown = String::new();
    for text in texts {
        let loaded = bench.write("app.yaml", text);
        assert_good(&loaded);
        shown.push_str(&format!("{}\n", traffic(&loaded)));
    }
    shown.push_str(&revisions(&bench.load()));
    shown
}

#[test]
fn only_a_changed_template_stamps() {
    let plain = service("hello", "a", "");
    let reordered = "\
# A comment.
kind: Service
apiVersion: serving.knative.dev/v1
spec:
  traffic: [{latestRevision: true, percent: 100}]
  template:
    metadata: ~
    spec:
      containers:
      - command:
          - a   # the program
        image: \"example/hello\"
        env: ~
metadata:
  name: hello
  labels: {team: red}
  annotations: {note: x}
";
    expect![[r#"
        default/hello: hello-00001 100%
        default/hello: hello-00001 100%
        default/hello: hello-00002 100%
        default/hello: hello-00003 100%
        default/hello-00001: a (unreachable)
        default/hello-00002: b (unreachable)
        default/hello-00003: a"#]]
    .assert_eq(&sequence(&[&plain, reordered, &service("hello", "b", ""), &plain]));
}

#[test]
fn an_older_revision_goes_on_working() {
    let pinned = "  traffic:\n  - {revisionName: hello-00001, percent: 90}\n  \
                  - {latestRevision: true, percent: 10, tag: next}\n";
    expect![[r#"
        default/hello: hello-00001 100%
        default/hello: hello-00001 90% hello-00002 10% next→hello-00002
        default/hello: hello-00001 90% hello-00003 10% next→hello-00003
        default/hello-00001: a
        default/hello-00002: b (unreachable)
        default/hello-00003: c"#]]
    .assert_eq(&sequence(&[
        &service("hello", "a", ""),
        &service("hello", "b", pinned),
        &service("hello", "c", pinned),
    ]));
}

#[test]
fn own_names_are_kept() {
    let named = |revision: &str, command: &str| {
        service("hello", command, "")
            .replace("  template:\n", &format!("  template:\n    metadata: {{name: {revision}}}\n"))
    };
    let mut bench = Bench::new();
    assert_good(&bench.write("app.yaml", &named("hello-red", "a")));
    assert_good(&bench.write("app.yaml", &named("hello-blue", "b")));
    // Back to an older one: the same template has the same name.
    let loaded = bench.write("app.yaml", &named("hello-red", "a"));
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/hello: hello-red 100%");
    // A revision never changes, neither the latest nor an older one.
    for revision in ["hello-red", "hello-blue"] {
        let loaded = bench.write("app.yaml", &named(revision, "c"));
        assert_eq!(loaded.problems.len(), 1, "{}", problems(&loaded));
        assert!(problems(&loaded).contains("spec.template"), "{}", problems(&loaded));
        assert_eq!(traffic(&loaded), "default/hello: hello-red 100%", "former self");
    }
    let loaded = bench.write("app.yaml", &service("hello", "c", ""));
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/hello: hello-00004 100%", "every change is counted");
}

#[test]
fn an_own_name_may_stay_while_all_but_the_template_changes() {
    let named = |metadata: &str, spec: &str| {
        service("hello", "a", spec)
            .replace("  template:\n", "  template:\n    metadata: {name: hello-red}\n")
            .replace("{name: hello}", metadata)
    };
    let tagged = "  traffic: [{revisionName: hello-red, percent: 100, tag: red}]\n";
    let mut bench = Bench::new();
    assert_good(&bench.write("app.yaml", &named("{name: hello}", "")));
    let labelled = "{name: hello, labels: {team: red}}";
    for (metadata, spec) in [(labelled, ""), (labelled, tagged), ("{name: hello}", tagged)] {
        assert_good(&bench.write("app.yaml", &named(metadata, spec)));
    }
    assert_eq!(traffic(&bench.load()), "default/hello: hello-red 100% red→hello-red");
}

#[test]
fn annotations_of_a_revision_given_apart_are_live_its_spec_is_not() {
    let text = revision("hello-00001", "a");
    let mut bench = Bench::new();
    assert_good(&bench.write("old.yaml", &text));
    let minimum = "metadata:\n  annotations: {autoscaling.knative.dev/min-scale: \"3\"}\n";
    let loaded = bench.write("old.yaml", &text.replace("metadata:\n", minimum));
    assert_good(&loaded);
    let revision = &loaded.world.revisions[0];
    assert_eq!((revision.scaling.min_scale, revision.timeouts.request.as_secs()), (3, 300));
    let loaded = bench.write("old.yaml", &text.replace("[a]", "[b]"));
    assert_eq!(loaded.problems.len(), 1, "{}", problems(&loaded));
    assert_eq!(revisions(&loaded), "default/hello-00001: a", "former self");
}

#[test]
fn a_restart_forgets_nothing_and_a_deletion_everything() {
    let mut bench = Bench::new();
    bench.write("app.yaml", &service("hello", "a", ""));
    bench.write("app.yaml", &service("hello", "b", ""));
    let stored = serde_json::to_string(bench.loader.stamps()).unwrap();
    let restarted = |text: &str| Bench {
        loader: Loader::new(LoaderOptions::default())
            .with_stamps(serde_json::from_str(text).unwrap()),
        files: BTreeMap::new(),
        now: 0,
    };
    let canary = "  traffic:\n  - {revisionName: hello-00001, percent: 100}\n";
    let mut second = restarted(&stored);
    let loaded = second.write("app.yaml", &service("hello", "b", canary));
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/hello: hello-00001 100%");
    assert_eq!(revisions(&loaded), "default/hello-00001: a\ndefault/hello-00002: b (unreachable)");
    // While a file cannot be read, nobody knows what is gone.
    let mut third = restarted(&stored);
    third.write("app.yaml", "a: [");
    assert_eq!(serde_json::to_string(third.loader.stamps()).unwrap(), stored);
    let loaded = second.remove("app.yaml");
    assert_eq!((traffic(&loaded), revisions(&loaded)), (String::new(), String::new()));
    let loaded = second.write("app.yaml", &service("hello", "c", ""));
    assert_eq!(traffic(&loaded), "default/hello: hello-00001 100%");
}

/// A revision of `hello` given apart.
fn revision(name: &str, command: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Revision\nmetadata:\n  name: {name}\n  \
         labels: {{serving.knative.dev/service: hello}}\nspec:\n  containers:\n  \
         - {{image: example/hello, command: [{command}]}}\n---\n"
    )
}

#[test]
fn revisions_given_apart_come_before() {
    let canary = "  traffic:\n  - {revisionName: hello-00001, percent: 90}\n  \
                  - {revisionName: hello-00002, percent: 10}\n";
    let mut bench = Bench::new();
    let text = revision("hello-00001", "old") + &service("hello", "new", canary);
    let loaded = bench.write("app.yaml", &text);
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/hello: hello-00001 90% hello-00002 10%");
    assert_eq!(revisions(&loaded), "default/hello-00001: old\ndefault/hello-00002: new");

    // An export names the newest one as well.
    let mut bench = Bench::new();
    let text = revision("hello-00001", "old") + &revision("hello-00002", "new");
    let loaded = bench.write("app.yaml", &(text.clone() + &service("hello", "new", canary)));
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/hello: hello-00001 90% hello-00002 10%");
    let loaded = bench.write("app.yaml", &(text + &service("hello", "newer", "")));
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/hello: hello-00003 100%");

    // A document cannot change what was stamped.
    let mut bench = Bench::new();
    bench.write("app.yaml", &service("hello", "a", ""));
    let loaded = bench.write("old.yaml", &revision("hello-00001", "other"));
    expect!["old.yaml:1: document 1: metadata.name: the revision default/hello-00001 exists and has another spec; write another name: a revision never changes"]
        .assert_eq(&problems(&loaded));
    assert_eq!(revisions(&loaded), "default/hello-00001: a");
}

#[test]
fn configuration_and_route_given_apart() {
    let configuration = |command: &str| {
        service("hello", command, "").replace("kind: Service", "kind: Configuration") + "---\n"
    };
    let route = "apiVersion: serving.knative.dev/v1\nkind: Route\nmetadata: {name: front}\nspec:\n  \
                 traffic:\n  - {configurationName: hello, percent: 100, tag: now}\n";
    let mut bench = Bench::new();
    let loaded = bench.write("app.yaml", &(configuration("a") + route));
    assert_good(&loaded);
    assert_eq!(traffic(&loaded), "default/front: hello-00001 100% now→hello-00001");
    let loaded = bench.write("app.yaml", &(configuration("b") + route));
    assert_eq!(traffic(&loaded), "default/front: hello-00002 100% now→hello-00002");
    assert!(loaded.world.revisions.iter().all(|revision| revision.service.is_none()));

    // Beside a service of its name it is one too many.
    let loaded = bench.write("service.yaml", &service("front", "c", ""));
    expect!["app.yaml:11: document 2: metadata.name: the Service default/front at service.yaml:1 brings a Route of this name already; give the Route another name, or remove one of the two"]
        .assert_eq(&problems(&loaded));
    assert_eq!(traffic(&loaded), "default/front: front-00001 100%");
}
