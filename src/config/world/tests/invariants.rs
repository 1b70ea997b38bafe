//! What holds of every world, whatever the files say and however often they change.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// Documents that fit each other, clash, or are wrong.
fn document() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("hello"), Just("blue-hello"), Just("other")];
    let command = prop_oneof![Just("a"), Just("b"), Just("c")];
    let traffic = prop_oneof![
        Just(""),
        Just("  traffic: [{latestRevision: true, percent: 100, tag: blue}]\n"),
        Just(
            "  traffic: [{revisionName: hello-00001, percent: 90}, {revisionName: hello-00002, percent: 10}]\n"
        ),
        Just(
            "  traffic: [{revisionName: hello-00002, percent: 100}, {revisionName: hello-00001, tag: old}]\n"
        ),
        Just("  traffic: [{revisionName: hello-own, percent: 100}]\n"),
        Just("  traffic: [{percent: 70}]\n"),
    ];
    let service = (name, command, traffic, 0_u8..6).prop_map(|(name, command, traffic, twist)| {
        let text = super::service(name, command, traffic);
        match twist {
            0 => text.replace("    spec:", "    metadata: {name: hello-own}\n    spec:"),
            1 => text.replace("kind: Service", "kind: Configuration"),
            2 => text.replace("kind: Service", "kind: Revision"),
            _ => text,
        }
    });
    let fixed = prop_oneof![
        Just(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler}\ndata: {min-scale: \"1\"}\n"
        ),
        Just(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-network}\ndata: {tag-template: \"{{.Name}}-{{.Tag}}\"}\n"
        ),
        Just("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n"),
        Just(
            "apiVersion: serving.knative.dev/v1\nkind: Route\nmetadata: {name: front}\nspec: {traffic: [{configurationName: hello, percent: 100}]}\n"
        ),
        Just(
            "apiVersion: serving.knative.dev/v1\nkind: Revision\nmetadata: {name: hello-00001, labels: {serving.knative.dev/service: hello}}\nspec: {containers: [{image: x, command: [a]}]}\n"
        ),
        Just(
            "apiVersion: serving.knative.dev/v1beta1\nkind: DomainMapping\nmetadata: {name: hello.default}\nspec: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: other}}\n"
        ),
        Just(
            "apiVersion: autoscaling.knative.dev/v1alpha1\nkind: PodAutoscaler\nmetadata: {name: p}\nspec: {scaleTargetRef: {kind: Service, name: hello}, minScale: 2, maxScale: 1}\n"
        ),
        Just("apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\n"),
        Just("metadata:\nspec: {}\n"),
        Just("a: [\n"),
    ];
    prop_oneof![4 => service, 3 => fixed.prop_map(str::to_owned)]
}

/// A file of some documents, now and then cut off in the middle.
fn text() -> impl Strategy<Value = String> {
    (proptest::collection::vec(document(), 0..4), proptest::option::weighted(0.2, 0_usize..400))
        .prop_map(|(documents, cut)| {
            let mut text = documents.join("---\n");
            text.truncate(cut.unwrap_or(usize::MAX).min(text.len()));
            text
        })
}

fn check(loaded: &Loaded) -> Result<(), TestCaseError> {
    let world = &loaded.world;
    let revisions: HashSet<_> = world.revisions.iter().map(|revision| &revision.id).collect();
    prop_assert_eq!(revisions.len(), world.revisions.len(), "revisions are distinct");
    prop_assert!(world.services.is_sorted_by(|a, b| a.id < b.id), "services are in order");
    let mut hosts = HashSet::new();
    for service in &world.services {
        let percent: u32 = service.traffic.iter().map(|target| u32::from(target.percent)).sum();
        let is_stopped = service.problem.is_some() && service.traffic.is_empty();
        prop_assert!(percent == 100 || is_stopped, "{:?}", service);
        let named = service.traffic.iter().map(|target| &target.revision);
        for revision in named.chain(service.tags.iter().map(|tag| &tag.revision)) {
            prop_assert!(revisions.contains(revision), "{} of {}", revision, service.id);
        }
        for host in service.hosts.iter().chain(service.tags.iter().flat_map(|tag| &tag.hosts)) {
            prop_assert!(hosts.insert(host), "{} is given twice", host);
            prop_assert_eq!(&host.to_lowercase(), &**host);
        }
    }
    prop_assert!(world.rejected.len() <= loaded.problems.len());
    Ok(())
}

/// What a restart makes of the same files. Objects that are not admitted have no former self then.
fn check_restart(bench: &Bench, loaded: &Loaded) -> Result<(), TestCaseError> {
    if !loaded.problems.is_empty() {
        return Ok(());
    }
    let stored = serde_json::to_string(bench.loader.stamps()).unwrap();
    let stamps = serde_json::from_str(&stored).unwrap();
    let loader = Loader::new(LoaderOptions::default()).with_stamps(stamps);
    let mut restarted = Bench { loader, files: bench.files.clone(), now: bench.now };
    let again = restarted.load();
    prop_assert_eq!(problems(&again), "");
    prop_assert_eq!(&again.world.services, &loaded.world.services);
    prop_assert_eq!(&again.world.revisions, &loaded.world.revisions);
    prop_assert_eq!(serde_json::to_string(restarted.loader.stamps()).unwrap(), stored);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_world_holds_together(
        steps in proptest::collection::vec((0_usize..3, text()), 1..8),
    ) {
        let mut bench = Bench::new();
        for (file, text) in steps {
            let loaded = bench.write(["a.yaml", "b.yaml", "c.yaml"][file], &text);
            check(&loaded)?;
            check_restart(&bench, &loaded)?;
            // The same files again change nothing.
            let again = bench.load();
            prop_assert_eq!(problems(&loaded), problems(&again));
            let same = |a: &World, b: &World| {
                let mut services = a.services.iter().zip(&b.services);
                let mut revisions = a.revisions.iter().zip(&b.revisions);
                a.services.len() == b.services.len()
                    && a.revisions.len() == b.revisions.len()
                    && services.all(|(a, b)| Arc::ptr_eq(a, b))
                    && revisions.all(|(a, b)| Arc::ptr_eq(a, b))
            };
            prop_assert!(same(&loaded.world, &again.world), "{:?}\n{:?}", loaded.world, again.world);
        }
    }
}
