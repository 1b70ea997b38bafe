//! `PodAutoscaler`s, annotations and the defaults of one machine.

use expect_test::expect;

use super::*;
use crate::model::ScalingSpec;

/// A `PodAutoscaler` of `hello`.
fn scaler(name: &str, kind: &str, target: &str, settings: &str) -> String {
    format!(
        "apiVersion: autoscaling.knative.dev/v1alpha1\nkind: PodAutoscaler\n\
         metadata: {{name: {name}}}\nspec:\n  scaleTargetRef: {{apiVersion: serving.knative.dev/v1, \
         kind: {kind}, name: {target}}}\n{settings}---\n"
    )
}

const FULL: &str = "  minScale: 2\n  maxScale: 9\n  target: 10.0\n";

fn shown(loaded: &Loaded) -> String {
    let line = |revision: &Arc<RevisionSpec>| {
        let ScalingSpec { min_scale, max_scale, target_value, total_value, .. } = revision.scaling;
        let max = max_scale.map_or("none".to_owned(), |max| max.to_string());
        let name = &revision.id.name;
        format!("{name}: {min_scale}..{max} target {target_value} of {total_value}")
    };
    loaded.world.revisions.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A service with `minScale` 1 and `target` 5 as annotations.
fn annotated(command: &str) -> String {
    service("hello", command, "").replace(
        "  template:\n",
        "  template:\n    metadata:\n      annotations: {autoscaling.knative.dev/min-scale: \"1\", \
         autoscaling.knative.dev/target: \"5\"}\n",
    )
}

#[test]
fn it_wins_over_annotations_for_revisions_present_and_future() {
    let mut bench = Bench::new();
    let loaded = bench.write("app.yaml", &annotated("a"));
    assert_eq!(shown(&loaded), "hello-00001: 1..none target 3.5 of 5");
    let loaded = bench.write("scaler.yaml", &scaler("s", "Service", "hello", FULL));
    assert_good(&loaded);
    assert_eq!(shown(&loaded), "hello-00001: 2..9 target 7 of 10");
    let loaded = bench.write("app.yaml", &annotated("b"));
    assert_eq!(
        shown(&loaded),
        "hello-00001: 0..9 target 7 of 10\nhello-00002: 2..9 target 7 of 10",
        "nothing keeps an unreachable revision up"
    );
    // One that names a revision wins over one that names its service.
    let own =
        scaler("own", "Revision", "hello-00002", "  minScale: 3\n  maxScale: 4\n  target: 1\n");
    let loaded = bench.write("own.yaml", &own);
    assert!(shown(&loaded).ends_with("hello-00002: 3..4 target 0.7 of 1"), "{}", shown(&loaded));
    bench.remove("own.yaml");
    let loaded = bench.remove("scaler.yaml");
    assert!(shown(&loaded).ends_with("hello-00002: 1..none target 3.5 of 5"));
}

#[test]
fn a_missing_target_is_waited_for() {
    let mut bench = Bench::new();
    let loaded = bench.write("scaler.yaml", &scaler("s", "Service", "hello", FULL));
    assert_good(&loaded);
    expect!["PodAutoscaler default/s: its target default/hello is not there yet; it takes effect when it appears"].assert_eq(&loaded.warnings.join("\n"));
    let loaded = bench.write("app.yaml", &service("hello", "a", ""));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(shown(&loaded), "hello-00001: 2..9 target 7 of 10");
}

#[test]
fn what_is_not_set_is_said() {
    let partial = scaler("s", "Service", "hello", "  minScale: 1\n");
    let mut bench = Bench::new();
    bench.write("app.yaml", &service("hello", "a", ""));
    let loaded = bench.write("scaler.yaml", &partial);
    assert_good(&loaded);
    let said = "scaler.yaml:4: document 1: warning: spec.maxScale, spec.target: not given";
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].starts_with(said), "{:?}", loaded.warnings);
    assert_eq!(shown(&loaded), "hello-00001: 1..none target 70 of 100");

    let mut strict = Bench::with(LoaderOptions { strict: true, ..LoaderOptions::default() });
    strict.write("app.yaml", &service("hello", "a", ""));
    let loaded = strict.write("scaler.yaml", &partial);
    let said = "scaler.yaml:4: document 1: spec.maxScale, spec.target: not given";
    assert!(problems(&loaded).starts_with(said), "{}", problems(&loaded));
    assert_eq!(shown(&loaded), "hello-00001: 0..none target 70 of 100");
}

#[test]
fn two_for_one_target() {
    let mut bench = Bench::new();
    bench.write("app.yaml", &service("hello", "a", ""));
    let two = scaler("s", "Service", "hello", FULL)
        + &scaler("t", "Service", "hello", "  minScale: 1\n  maxScale: 2\n  target: 1\n");
    let loaded = bench.write("scaler.yaml", &two);
    expect!["scaler.yaml:10: document 2: spec.scaleTargetRef: the PodAutoscaler at scaler.yaml:1 scales the same target; remove one of the two"].assert_eq(&problems(&loaded));
    assert_eq!(shown(&loaded), "hello-00001: 2..9 target 7 of 10");
}

#[test]
fn knatives_own_form_names_a_deployment() {
    let mut bench = Bench::new();
    bench.write("app.yaml", &service("hello", "a", ""));
    let text = "apiVersion: autoscaling.internal.knative.dev/v1alpha1\nkind: PodAutoscaler\n\
                metadata:\n  name: hello-00001\n  annotations: {autoscaling.knative.dev/minScale: \
                \"4\"}\nspec:\n  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: \
                hello-00001-deployment}\n  protocolType: http1\n";
    let loaded = bench.write("scaler.yaml", text);
    assert_good(&loaded);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(shown(&loaded), "hello-00001: 4..none target 70 of 100");
}

#[test]
fn the_defaults_of_the_two_homes() {
    let text = service("hello", "a", "");
    let scaling = |one_machine: bool| {
        let mut bench = Bench::with(LoaderOptions { one_machine, ..LoaderOptions::default() });
        bench.write("app.yaml", &text).world.revisions[0].scaling.clone()
    };
    assert_eq!(scaling(true), ScalingSpec::default());
    let knative = scaling(false);
    assert_eq!((knative.initial_scale, knative.progress_deadline.as_secs()), (1, 600));
}
