//! Traffic that is ordered in place of a manifest's.

use super::*;

/// Orders traffic of the service `hello`; what all traffic is afterwards.
fn order(bench: &mut Bench, new: &NewTraffic) -> String {
    let moment = Moment { now: bench.moment(), ..Moment::default() };
    match bench.loader.order_traffic(&hello(), new, &moment) {
        Ok((change, loaded)) => {
            assert_good(&loaded);
            let shown = |shares: &[(String, u8)]| {
                let shares = shares.iter().map(|(name, percent)| format!("{name}={percent}"));
                shares.collect::<Vec<_>>().join(" ")
            };
            let (before, after) = (shown(&change.before), shown(&change.after));
            format!("{before} → {after}; {}", traffic(&loaded))
        }
        Err(error) => error.to_string(),
    }
}

fn hello() -> ServiceId {
    ServiceId::new("default", "hello")
}

fn shares(shares: &[(&str, u8)]) -> NewTraffic {
    let named = |name: &str| (name != "latest").then(|| name.to_owned());
    NewTraffic::Shares(shares.iter().map(|(name, percent)| (named(name), *percent)).collect())
}

#[test]
fn it_holds_until_the_block_itself_changes() {
    let mut bench = Bench::new();
    let tagged = "  traffic: [{latestRevision: true, percent: 100, tag: next}]\n";
    bench.write("a.yaml", &service("hello", "one", tagged));
    bench.write("a.yaml", &service("hello", "two", tagged));
    let canary = shares(&[("hello-00001", 90), ("hello-00002", 10)]);
    assert_eq!(
        order(&mut bench, &canary),
        "hello-00002=100 → hello-00001=90 hello-00002=10; \
         default/hello: hello-00001 90% hello-00002 10% next→hello-00002"
    );
    let said = |loaded: &Loaded| loaded.world.services[0].warnings.join("\n");
    // A new template, another file, a restart: nothing of them is the block.
    let loaded = bench.write("a.yaml", &service("hello", "three", tagged));
    let expected = "default/hello: hello-00001 90% hello-00002 10% next→hello-00003";
    assert_eq!(traffic(&loaded), expected);
    assert!(said(&loaded).starts_with("TrafficOrdered: "), "{}", said(&loaded));
    bench.write("b.yaml", &service("other", "x", ""));
    let stored = serde_json::to_string(bench.loader.stamps()).unwrap();
    let loader = Loader::new(LoaderOptions::default());
    bench.loader = loader.with_stamps(serde_json::from_str(&stored).unwrap());
    bench.remove("b.yaml");
    assert_eq!(traffic(&bench.load()).lines().next(), Some(expected));

    assert_eq!(
        order(&mut bench, &shares(&[("latest", 100)])),
        "hello-00001=90 hello-00002=10 → hello-00003=100; \
         default/hello: hello-00003 100% next→hello-00003"
    );
    assert_eq!(
        order(&mut bench, &NewTraffic::Rollback),
        "hello-00003=100 → hello-00002=100; \
         default/hello: hello-00002 100% next→hello-00003"
    );
    let loaded = bench.write("a.yaml", &service("hello", "three", "  traffic: []\n"));
    assert_eq!(traffic(&loaded), "default/hello: hello-00003 100%");
    assert_eq!(said(&loaded), "");
    // Once it is forgotten it does not come back with the former block.
    let loaded = bench.write("a.yaml", &service("hello", "three", tagged));
    assert_eq!(traffic(&loaded), "default/hello: hello-00003 100% next→hello-00003");
}

#[test]
fn what_cannot_be_changes_nothing() {
    let mut bench = Bench::new();
    assert_eq!(
        order(&mut bench, &NewTraffic::Rollback),
        "there is no Service default/hello in the manifests"
    );
    let missing = "  traffic: [{revisionName: hello-00007, percent: 100}]\n";
    bench.write("a.yaml", &service("hello", "one", missing));
    assert_eq!(
        order(&mut bench, &shares(&[("latest", 100)])),
        "default/hello has no traffic yet: its manifest names a revision that is not there"
    );
    bench.write("a.yaml", &service("hello", "one", ""));
    bench.write("b.yaml", &service("other", "x", ""));
    assert_eq!(
        order(&mut bench, &shares(&[("hello-00009", 50), ("other-00001", 50)])),
        "default/hello has no revision hello-00009, other-00001; there is hello-00001"
    );
    assert_eq!(
        order(&mut bench, &NewTraffic::Rollback),
        "default/hello has no revision before hello-00001"
    );
    let loaded = bench.load();
    assert_eq!(
        traffic(&loaded),
        "default/hello: hello-00001 100%\ndefault/other: other-00001 100%"
    );
    assert!(loaded.world.services[0].warnings.is_empty());
}
