//! Traffic that names what is not there.

use super::*;

#[test]
fn traffic_that_moves_and_traffic_that_names_what_is_not_there() {
    let mut object = route("1", &all_to("a-2"));
    object["metadata"]["annotations"] = json!({"rollout": json!({"configurations": [{
        "configurationName": "a", "percent": 100, "stepParams": {},
        "revisions": [
            {"revisionName": "a-1", "percent": 75}, {"revisionName": "a-2", "percent": 25},
        ],
    }]}).to_string()});
    let mut world = ClusterWorld::default();
    for change in [
        Change::Revision("n/a-1", Some(revision("a", "active"))),
        Change::Revision("n/a-2", Some(revision("a", "active"))),
        Change::Route("n/a", Some(object)),
    ] {
        apply(&mut world, &change);
    }
    let shares = |world: &World| -> String {
        let targets = &world.services[0].traffic;
        targets.iter().map(|t| format!("{} {} ", t.revision.name, t.percent)).collect()
    };
    assert_eq!(shares(&world.take().unwrap()), "a-1 75 a-2 25 ");
    // The new traffic comes before its revision.
    apply(&mut world, &Change::Route("n/a", Some(route("1", &all_to("a-3")))));
    let between = world.take().unwrap();
    assert_eq!(shares(&between), "a-1 75 a-2 25 ");
    assert_eq!(between.services[0].warnings.len(), 1);
    apply(&mut world, &Change::Revision("n/a-3", Some(revision("a", "active"))));
    let after = world.take().unwrap();
    assert_eq!(shares(&after), "a-3 100 ");
    assert!(after.services[0].warnings.is_empty());
}

#[test]
fn a_deleted_revision_takes_only_its_own_part_along() {
    for (percents, deleted, expected) in [
        ([90, 10, 0], &["n/a-2"][..], "a-1 100 "),
        ([50, 30, 20], &["n/a-1"], "a-2 60 a-3 40 "),
        ([34, 33, 33], &["n/a-1"], "a-2 50 a-3 50 "),
        ([40, 59, 1], &["n/a-1"], "a-2 98 a-3 2 "),
        ([50, 30, 20], &["n/a-1", "n/a-3"], "a-2 100 "),
        ([90, 10, 0], &["n/a-1", "n/a-2"], ""),
    ] {
        let mut world = ClusterWorld::default();
        let names = ["n/a-1", "n/a-2", "n/a-3"];
        for name in names {
            let revision = Some(revision("a", "active"));
            apply(&mut world, &Change::Revision(name, revision));
        }
        let shares = names.iter().zip(percents);
        let shares =
            shares.map(|(name, percent)| json!({"revisionName": &name[2..], "percent": percent}));
        apply(&mut world, &Change::Route("n/a", Some(route("1", &shares.collect()))));
        world.take();
        for name in deleted {
            apply(&mut world, &Change::Revision(name, None));
        }
        let after = world.take().unwrap();
        let service = &after.services[0];
        let shown = service.traffic.iter().map(|t| format!("{} {} ", t.revision.name, t.percent));
        assert_eq!(shown.collect::<String>(), expected, "{percents:?} without {deleted:?}");
        assert_eq!(service.problem.is_some(), expected.is_empty());
        assert_eq!(service.warnings.is_empty(), expected.is_empty());
    }
}
