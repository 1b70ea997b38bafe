//! Slots that are shared with other proxies: what is its own, and who hears of what.

use super::super::SlotsOfEndpoint;
use super::*;

/// A revision that has only what it is given, and who hears of its needs.
fn sharing(limit: u32) -> (Room, Arc<Pokes>) {
    let pokes = Arc::new(Pokes::default());
    let spec = spec("hello-00001", limit);
    (Room::sharing(spec, Arc::default(), Some(Arc::clone(&pokes))), pokes)
}

impl Room {
    fn own(&self, slots: &[(u16, u32)]) {
        let own: Vec<_> = slots.iter().map(|(replica, own)| (id(*replica), *own)).collect();
        self.revision.set_own_slots(&own, self.now());
        self.holds();
    }

    /// How many wait, and each endpoint's own, used, takes.
    fn slots(&self) -> (u32, Vec<(u32, u32, bool)>) {
        let view = self.revision.slots_view().expect("a limit");
        let of = |e: &SlotsOfEndpoint| (e.own, e.used, e.takes);
        (view.waiting, view.endpoints.iter().map(of).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_has_no_slot_until_one_is_given_and_waiters_get_it() {
    let (room, pokes) = sharing(2);
    room.report(&[1]);
    let (mut first, mut second) = (room.waiting(), room.waiting());
    assert_eq!(pokes.take(), [room.revision.id().clone()], "told once");
    assert_eq!(room.slots(), (2, vec![(0, 0, true)]));
    room.own(&[(1, 1), (2, 9)]);
    let permit = served(&mut first);
    waits(&mut second);
    assert_eq!(room.slots(), (1, vec![(1, 1, true)]));
    drop(permit);
    drop(served(&mut second));
    assert_eq!(room.slots(), (0, vec![(1, 0, true)]));
}

#[tokio::test(start_paused = true)]
async fn fewer_slots_cut_nothing_and_each_that_is_left_over_is_told() {
    let (room, pokes) = sharing(3);
    room.report(&[1]);
    room.own(&[(1, 3)]);
    let (first, second) = (room.granted(), room.granted());
    room.own(&[(1, 1)]);
    assert_eq!(room.slots(), (0, vec![(1, 2, true)]));
    let mut third = room.waiting();
    room.slots();
    pokes.take();
    drop(first);
    waits(&mut third);
    assert_eq!(pokes.take(), [room.revision.id().clone()], "one is not its own any more");
    room.slots();
    drop(second);
    let third = served(&mut third);
    assert_eq!(pokes.take(), [], "its own slot goes round here");
    drop(third);
    // Never more than the limit.
    room.own(&[(1, 9)]);
    let permits = [room.granted(), room.granted(), room.granted()];
    drop(room.waiting());
    drop(permits);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_goes_takes_nothing_and_its_last_requests_are_told() {
    let (room, pokes) = sharing(1);
    room.report(&[1]);
    room.own(&[(1, 1)]);
    let permit = room.granted();
    room.report(&[]);
    assert_eq!(room.slots(), (0, vec![(1, 1, false)]));
    pokes.take();
    drop(permit);
    assert_eq!(pokes.take(), [room.revision.id().clone()]);
    assert_eq!(room.slots(), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn without_others_or_without_a_limit_nothing_is_shared() {
    let alone = Room::new(1);
    alone.report(&[1]);
    alone.own(&[(1, 0)]);
    drop(alone.granted());
    assert_eq!(alone.revision.slots_view(), None);
    let (unlimited, pokes) = sharing(0);
    unlimited.report(&[1]);
    drop(unlimited.granted());
    assert_eq!((unlimited.revision.slots_view(), pokes.take()), (None, Vec::new()));
}
