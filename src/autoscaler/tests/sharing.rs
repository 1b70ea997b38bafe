//! The bound of the whole process.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_process_bound_is_shared_fairly() {
    let home = Home::new(Some(4));
    let big = home.add_instant(&limited("big", 1));
    let specs = [limited("b", 2), limited("c", 2)];
    home.until(100).await;
    for _ in 0..20 {
        wait(&big, home.now());
    }
    home.until(2_100).await;
    assert_eq!(home.counts().last().expect("it was stated").1, 4);
    let recent = home.autoscaler.recent(big.revision());
    let last = recent.last().expect("there were decisions");
    assert_eq!(last.desired, 4);
    assert!(last.clamps.contains(Clamp::MaxReplicas) && last.decided > 4);

    for spec in &specs {
        let stats = home.add_instant(spec);
        wait(&stats, home.now());
        settle().await;
        assert_eq!(home.autoscaler.view(&spec.id).expect("known").desired, 1, "at once");
    }
    assert_eq!(home.autoscaler.view(big.revision()).expect("known").desired, 2);
    let mut now = std::collections::BTreeMap::new();
    home.until(30_000).await;
    for (_, statement) in home.take() {
        now.insert(statement.revision, statement.desired);
    }
    assert_eq!(now.values().sum::<u32>(), 4);
    home.autoscaler.remove(&specs[0].id);
    home.until(32_500).await;
    assert_eq!(home.autoscaler.view(big.revision()).expect("known").desired, 3);
}

/// Two revisions under load and one replica for both.
#[tokio::test(start_paused = true)]
async fn singles_take_turns_for_ever() {
    let home = Home::new(Some(1));
    let all = [home.add(&limited("a", 10)), home.add(&limited("b", 10))];
    home.until(100).await;
    for stats in &all {
        wait(stats, home.now());
    }
    home.until(100_000).await;
    let mut shares = [0, 0];
    for (_, statement) in home.take() {
        let index = usize::from(statement.revision == *all[1].revision());
        shares[index] += statement.desired;
    }
    let (least, most) = (shares.iter().min(), shares.iter().max());
    assert!(least >= Some(&20) && most <= Some(&32), "of about 50 ticks: {shares:?}");
}

/// One whose replica went to another and that has no load since: what keeps a count while replicas
/// start is not to start one.
#[tokio::test(start_paused = true)]
async fn what_was_taken_does_not_come_back_without_load() {
    let home = Home::new(Some(1));
    let (a, b) = (home.add(&limited("a", 10)), home.add_instant(&limited("b", 10)));
    home.until(100).await;
    let arrived = home.now();
    wait(&a, arrived);
    home.until(1_000).await;
    a.set_waiting(0);
    a.leave(0, arrived, home.now(), Some(200));
    let arrived = home.now();
    wait(&b, arrived);
    home.until(1_500).await;
    let counts = |id| home.autoscaler.view(id).expect("known").desired;
    assert_eq!((counts(a.revision()), counts(b.revision())), (0, 1), "it goes where load is");
    home.until(5_000).await;
    home.take();
    b.leave(0, arrived, home.now(), Some(200));
    home.until(200_000).await;
    let again: Vec<_> = home
        .take()
        .into_iter()
        .filter(|(_, statement)| statement.revision == *a.revision() && statement.desired > 0)
        .collect();
    assert_eq!(again, [], "nobody asked for it");
}
