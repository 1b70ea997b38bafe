use super::*;

impl Room {
    /// So many connections to a replica fail.
    fn fail(&self, replica: u16, times: u32) {
        let key = self.key(replica);
        for _ in 0..times {
            self.revision.connect_failed(key, self.now());
        }
        self.holds();
    }

    fn key(&self, replica: u16) -> u64 {
        let state = self.revision.state.lock();
        let entry = state.entries.iter().find(|e| *e.endpoint.id() == id(replica));
        entry.expect("a known replica").endpoint.key()
    }

    fn due(&self) -> Vec<u64> {
        self.revision.due_probes(self.now()).iter().map(|probe| probe.key).collect()
    }

    fn probed(&self, replica: u16, ok: bool) {
        self.revision.probed(self.key(replica), ok, self.now());
        self.holds();
    }
}

#[tokio::test(start_paused = true)]
async fn three_failures_in_a_row_set_it_aside_until_a_probe_succeeds() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    room.fail(1, 2);
    assert!(!room.revision.has_ejected());
    room.fail(1, 1);
    assert!(room.revision.has_ejected());
    assert_eq!(room.shown(), ["r1 0 ejected", "r2 0 ready"]);
    let held = room.granted();
    assert_eq!(replica_of(&held), "r2");
    let mut waiter = room.waiting();
    assert!(room.due().is_empty(), "not before a second has passed");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(room.due(), [room.key(1)]);
    assert!(room.due().is_empty(), "one probe at a time");
    room.probed(1, true);
    assert!(!room.revision.has_ejected());
    assert_eq!(replica_of(&served(&mut waiter)), "r1", "the slot is used at once");
}

#[tokio::test(start_paused = true)]
async fn each_failed_probe_doubles_the_time_up_to_half_a_minute() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    room.fail(1, 3);
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        tokio::time::advance(Duration::from_millis(seconds * 1_000 - 1)).await;
        assert!(room.due().is_empty(), "{seconds} s have not passed");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(room.due(), [room.key(1)], "{seconds} s have passed");
        room.probed(1, false);
    }
}

#[test]
fn a_connection_made_in_between_forgives() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    room.fail(1, 2);
    let endpoint = std::sync::Arc::clone(&room.revision.state.lock().entries[0].endpoint);
    endpoint.connected();
    room.fail(1, 2);
    assert!(!room.revision.has_ejected());
    room.fail(1, 1);
    assert!(room.revision.has_ejected());
}

#[test]
fn the_last_one_is_never_set_aside() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    room.fail(1, 3);
    room.fail(2, 9);
    assert_eq!(room.shown(), ["r1 0 ejected", "r2 0 ready"]);
    let alone = Room::new(1);
    alone.report(&[1]);
    alone.fail(1, 9);
    assert_eq!(alone.shown(), ["r1 0 ready"]);
}

#[test]
fn one_that_becomes_the_last_takes_requests_again() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    room.fail(1, 3);
    let held = room.granted();
    let mut waiter = room.waiting();
    room.report(&[1]);
    assert_eq!(replica_of(&served(&mut waiter)), "r1");
    drop(held);
    drop(room.granted());
}

#[test]
fn set_aside_and_open_exclude_each_other() {
    let room = Room::new(0);
    room.report(&[1, 2]);
    room.fail(1, 3);
    let open: Vec<String> = room.revision.open().open.iter().map(|e| e.id().to_string()).collect();
    assert_eq!(open, ["r2"]);
    room.probed(1, true);
    assert_eq!(room.revision.open().open.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_victim_that_is_set_aside_is_not_taken_back_while_it_refuses() {
    let room = Room::new(1);
    room.report(&[1, 2, 3]);
    room.fail(1, 3);
    let held = [room.granted(), room.granted()];
    let plan = room.revision.plan(2, 0, room.now());
    assert!(plan.waits, "{plan:?}");
    assert_eq!(room.shown()[0], "r1 0 victim");
    let mut waiter = room.waiting();
    waits(&mut waiter);
    drop(held);
    assert_ne!(replica_of(&served(&mut waiter)), "r1");
}
