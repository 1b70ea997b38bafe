use super::*;

#[test]
fn a_flap_forgets_no_request() {
    let room = Room::new(2);
    room.report(&[1]);
    let held = [room.granted(), room.granted()];
    room.report(&[]);
    assert_eq!(room.shown(), ["r1 2 draining"]);
    let mut waiter = room.waiting();
    room.report(&[1]);
    assert_eq!(room.shown(), ["r1 2 ready"], "both slots are still taken");
    waits(&mut waiter);
    drop(held);
    drop(served(&mut waiter));
    assert_eq!(room.shown(), ["r1 0 ready"]);
}

#[test]
fn a_slot_freed_while_it_is_gone_is_free_when_it_is_back() {
    let room = Room::new(2);
    room.report(&[1]);
    let (first, second) = (room.granted(), room.granted());
    room.report(&[]);
    let (mut waiter, mut other) = (room.waiting(), room.waiting());
    drop(first);
    waits(&mut waiter);
    room.report(&[1]);
    let third = served(&mut waiter);
    waits(&mut other);
    drop((second, third));
    drop(served(&mut other));
}

#[test]
fn what_drains_goes_with_its_last_request() {
    let room = Room::new(2);
    room.report(&[1, 2]);
    let held = [room.granted(), room.granted()];
    room.report(&[]);
    assert_eq!(room.shown(), ["r1 1 draining", "r2 1 draining"]);
    let [one, other] = held;
    let left = replica_of(&other);
    drop(one);
    assert_eq!(room.shown(), [format!("{left} 1 draining")]);
    drop(other);
    assert_eq!(room.shown(), [""; 0]);
}

#[test]
fn another_replica_at_the_same_address_is_another_endpoint() {
    let room = Room::new(1);
    room.revision.set_endpoints(&[(id(1), address(1))], room.now());
    let held = room.granted();
    room.revision.set_endpoints(&[(id(2), address(1))], room.now());
    let other = room.granted();
    assert_eq!((replica_of(&held), replica_of(&other)), ("r1".into(), "r2".into()));
    assert_ne!(held.endpoint().key(), other.endpoint().key());
    assert_eq!(room.shown(), ["r1 1 draining", "r2 1 ready"]);
    drop(held);
    assert_eq!(room.shown(), ["r2 1 ready"]);
}

#[test]
fn requests_without_a_slot_keep_an_endpoint_too() {
    let room = Room::new(0);
    room.report(&[1]);
    let open = room.revision.open();
    let endpoint = &open.open[0];
    endpoint.enter(0);
    endpoint.enter(1);
    assert!(!endpoint.leave(1), "nobody waits for it to become empty");
    room.report(&[]);
    assert_eq!(room.shown(), ["r1 1 draining"]);
    assert!(room.revision.open().open.is_empty());
    assert!(endpoint.leave(0), "it is to go");
    room.revision.free_left(endpoint);
    assert_eq!(room.shown(), [""; 0]);
}

#[test]
fn what_workers_see_changes_its_version() {
    let room = Room::new(0);
    let mut version = room.revision.version();
    let mut changed = |room: &Room| {
        let before = std::mem::replace(&mut version, room.revision.version());
        before != version
    };
    assert!(!changed(&room));
    room.report(&[1]);
    assert!(changed(&room));
    assert_eq!(room.revision.open().open.len(), 1);
    room.revision.set_spec(Arc::new(spec("hello-00001", 0)));
    assert!(changed(&room), "settings are part of it");
    room.report(&[]);
    assert!(changed(&room));
}

#[test]
fn a_retry_avoids_the_endpoint_that_failed_unless_it_is_the_only_one() {
    let room = Room::new(5);
    room.report(&[1, 2]);
    let failed = room.granted();
    for _ in 0..4 {
        let admission = room.revision.admit(room.now(), Some(failed.endpoint().key()));
        let Admission::Granted(permit) = admission else { panic!("{admission:?}") };
        assert_ne!(replica_of(&permit), replica_of(&failed));
    }
    room.report(&[if replica_of(&failed) == "r1" { 1 } else { 2 }]);
    let admission = room.revision.admit(room.now(), Some(failed.endpoint().key()));
    assert!(matches!(admission, Admission::Granted(_)), "{admission:?}");
}
