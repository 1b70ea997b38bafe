//! What is exported makes the same world again.

use proptest::prelude::*;

use super::*;
use crate::config::yaml::to_text;

/// The world that an export makes by itself, and what is not as it was.
fn again(loader: &Loader, secrets: bool) -> (String, Vec<String>) {
    let text = to_text(&loader.export(secrets).items);
    match world_of(text.clone()) {
        Ok(world) => {
            let differ = differences(&loader.world, &world, "here", "there");
            (text, differ)
        }
        Err(problems) => panic!("{problems:?}\n{text}"),
    }
}

/// An edit of one of two services, or an order for its traffic.
#[derive(Clone, Debug)]
enum Edit {
    Template(bool, u8, u8),
    Traffic(bool, u8),
    Settings(u8),
    Order(bool, NewTraffic),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let order = prop_oneof![
        Just(NewTraffic::Rollback),
        Just(NewTraffic::Shares(vec![(None, 100)])),
        (1_u8..100).prop_map(|percent| NewTraffic::Shares(vec![
            (Some("hello-00001".to_owned()), percent),
            (None, 100 - percent),
        ])),
    ];
    let edit = prop_oneof![
        (any::<bool>(), 0_u8..4, 0_u8..4)
            .prop_map(|(is_hello, x, y)| Edit::Template(is_hello, x, y)),
        (any::<bool>(), 0_u8..4).prop_map(|(is_hello, x)| Edit::Traffic(is_hello, x)),
        (0_u8..3).prop_map(Edit::Settings),
        (any::<bool>(), order).prop_map(|(is_hello, new)| Edit::Order(is_hello, new)),
    ];
    proptest::collection::vec(edit, 1..12)
}

/// Texts that YAML could read as something else.
const VALUES: [&str; 4] = ["'yes'", "\"1e3\"", "'a: {b'", "\"two\\nlines\\n\""];

fn manifest(name: &str, (value, scale, traffic): (u8, u8, u8)) -> String {
    let traffic = [
        "",
        "  traffic: [{latestRevision: true, percent: 100, tag: next}]\n",
        "  traffic: [{revisionName: NAME-00001, percent: 30}, {latestRevision: true, percent: 70}]\n",
        "  traffic: [{revisionName: NAME-00001, percent: 100, tag: 'on'}, {latestRevision: true, \
         percent: 0, tag: new}]\n",
    ][usize::from(traffic)]
    .replace("NAME", name);
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
         template:\n    metadata:\n      annotations: {{autoscaling.knative.dev/max-scale: \
         \"{}\"}}\n    spec:\n      containers:\n      - image: example/a\n        command: [x]\n        env: \
         [{{name: V, value: {}}}, {{name: S, valueFrom: {{secretKeyRef: {{name: s, key: k}}}}}}]\n\
         {traffic}",
        scale + 1,
        VALUES[usize::from(value)],
    )
}

proptest! {
    /// Whatever was edited and ordered: the same revisions, traffic and settings, from the text.
    #[test]
    fn an_export_makes_the_same_again(edits in edits()) {
        let mut bench = Bench::new();
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: 'no'}\n";
        bench.write("secret.yaml", secret);
        let (mut hello, mut other) = ((0, 0, 0), (0, 0, 0));
        for edit in edits {
            match edit {
                Edit::Template(true, x, y) => (hello.0, hello.1) = (x, y),
                Edit::Template(false, x, y) => (other.0, other.1) = (x, y),
                Edit::Traffic(true, x) => hello.2 = x,
                Edit::Traffic(false, x) => other.2 = x,
                Edit::Settings(x) => {
                    let data = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: \
                        config-autoscaler}}\ndata: {{stable-window: \"{}s\"}}\n", 60 + x);
                    bench.write("settings.yaml", &data);
                }
                Edit::Order(is_hello, new) => {
                    let name = if is_hello { "hello" } else { "other" };
                    let service = ServiceId::new("default", name);
                    // What cannot be is refused.
                    drop(bench.loader.order_traffic(&service, &new, &Moment::default()));
                }
            }
            assert_good(&bench.write("hello.yaml", &manifest("hello", hello)));
            assert_good(&bench.write("other.yaml", &manifest("other", other)));
        }
        let (text, differ) = again(&bench.loader, true);
        prop_assert!(differ.is_empty(), "{differ:#?}\n{text}");
        // And what is exported there is the same text, but for what only the first one knew.
        let (text, differ) = again(&bench.loader, false);
        prop_assert!(!text.contains("kind: Secret"), "{text}");
        prop_assert!(differ.is_empty(), "{differ:#?}\n{text}");
    }
}

#[test]
fn secrets_are_named_and_differences_are_told() {
    let mut bench = Bench::new();
    bench.write(
        "s.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: ns}\nstringData: {k: v}\n",
    );
    bench.write("a.yaml", &manifest("hello", (0, 0, 0)));
    bench.write("a.yaml", &manifest("hello", (1, 0, 2)));
    assert_eq!(bench.loader.export(false).omitted, ["Secret ns/s"]);
    let (text, _) = again(&bench.loader, false);
    let changed = text.replace("percent: 30", "percent: 40").replace("percent: 70", "percent: 60");
    let changed = changed.replace("max-scale: '1'", "max-scale: '9'");
    let changed = changed.replace("max-scale: \"1\"", "max-scale: \"9\"");
    let changed = format!("{changed}---\n{}", manifest("more", (0, 0, 0)));
    let world = world_of(changed).unwrap();
    let shown = differences(&bench.loader.world, &world, "what runs", "FILE");
    assert_eq!(
        shown,
        [
            "service default/hello: traffic: \"hello-00001=30 hello-00002=70\" in what runs, \
             \"hello-00001=40 hello-00002=60\" in FILE",
            "service default/more: not in what runs, but in FILE",
            "revision default/hello-00001: max-scale: Some(1) in what runs, Some(9) in FILE",
            "revision default/hello-00002: max-scale: Some(1) in what runs, Some(9) in FILE",
            "revision default/more-00001: not in what runs, but in FILE",
        ]
    );
}
