//! Slots that are leased: what is its own, for how long, and who hears of what.

use super::super::LeasedEndpoint;
use super::*;

/// A revision that has only what it is given.
fn leased(limit: u32) -> (Room, Arc<SlotLeases>) {
    let leases = Arc::new(SlotLeases::default());
    leases.set(Some(Nanos(u64::MAX - 1)));
    let room = Room::leased(spec("hello-00001", limit), Arc::default(), Some(Arc::clone(&leases)));
    (room, leases)
}

impl Room {
    fn own(&self, slots: &[(u16, u32)]) {
        let ids: Vec<_> = slots.iter().map(|(replica, own)| (id(*replica), *own)).collect();
        self.revision.set_slots(ids.iter().map(|(id, own)| (id, *own, false)), self.now());
        self.holds();
    }

    /// Used, peak and takes of each endpoint, after how many wait.
    fn view(&self) -> (u32, Vec<(u32, u32, bool)>) {
        let view = self.revision.leased_view().expect("a limit");
        let of = |e: &LeasedEndpoint| (e.used, e.peak, e.takes);
        (view.waiting, view.endpoints.iter().map(of).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_has_no_slot_until_one_is_given_and_waiters_get_it() {
    let (room, leases) = leased(2);
    room.report(&[1]);
    let (mut first, mut second) = (room.waiting(), room.waiting());
    assert_eq!(leases.pokes().take(), [room.revision.id().clone()], "told once");
    assert_eq!(room.view(), (2, vec![(0, 0, true)]));
    room.own(&[(1, 1)]);
    let permit = served(&mut first);
    waits(&mut second);
    assert_eq!(room.view(), (1, vec![(1, 1, true)]));
    drop(permit);
    drop(served(&mut second));
    assert_eq!(room.view(), (0, vec![(0, 1, true)]), "the peak is told once");
    assert_eq!(room.view(), (0, vec![(0, 0, true)]));
}

#[tokio::test(start_paused = true)]
async fn fewer_slots_cut_nothing_and_each_that_is_left_over_is_told() {
    let (room, leases) = leased(3);
    room.report(&[1]);
    room.own(&[(1, 3)]);
    let (first, second) = (room.granted(), room.granted());
    room.own(&[(1, 1)]);
    assert_eq!(room.view(), (0, vec![(2, 2, true)]));
    let mut third = room.waiting();
    room.view();
    leases.pokes().take();
    drop(first);
    waits(&mut third);
    assert_eq!(leases.pokes().take(), [room.revision.id().clone()], "one goes back");
    room.view();
    drop(second);
    let third = served(&mut third);
    assert_eq!(leases.pokes().take(), [], "its own slot goes round here");
    drop(third);
    let never_more_than_the_limit = [(1, 9)];
    room.own(&never_more_than_the_limit);
    let permits = [room.granted(), room.granted(), room.granted()];
    drop(room.waiting());
    drop(permits);
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_after_the_lease_and_all_that_runs_goes_on() {
    let (room, leases) = leased(2);
    room.report(&[1]);
    room.own(&[(1, 2)]);
    let permit = room.granted();
    leases.set(Some(room.now().plus(Duration::from_secs(1))));
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut waiting = room.waiting();
    drop(permit);
    waits(&mut waiting);
    leases.set(Some(room.now().plus(Duration::from_secs(1))));
    room.revision.tick(room.now());
    drop(served(&mut waiting));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_alone_again_has_everything_and_keeps_it_until_it_is_shared() {
    let (room, leases) = leased(2);
    room.report(&[1]);
    let mut waiting = room.waiting();
    leases.set(None);
    room.revision.share_slots(false, room.now());
    let first = served(&mut waiting);
    room.report(&[1, 2]);
    leases.pokes().take();
    let more = [room.granted(), room.granted(), room.granted()];
    drop(room.waiting());
    assert_eq!(leases.pokes().take(), [], "nobody is to be asked");
    leases.set(Some(Nanos(u64::MAX - 1)));
    room.revision.share_slots(true, room.now());
    drop((first, more));
    let again = [room.granted(), room.granted(), room.granted(), room.granted()];
    room.report(&[1, 2, 3]);
    drop(room.waiting());
    drop(again);
}
