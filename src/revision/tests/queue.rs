use super::*;
use crate::model::Reason;

#[test]
fn who_came_first_is_served_first() {
    let room = Room::new(1);
    room.report(&[1]);
    let mut held = room.granted();
    let mut line: Vec<Ticket> = (0..4).map(|_| room.waiting()).collect();
    for next in 0..line.len() {
        drop(held);
        held = served(&mut line[next]);
        line[next + 1..].iter_mut().for_each(waits);
        room.holds();
    }
    drop(held);
    assert_eq!(room.shown(), ["r1 0 ready"]);
}

#[test]
fn a_freed_slot_goes_to_the_waiter_and_no_newcomer_overtakes() {
    let room = Room::new(1);
    room.report(&[1]);
    let held = room.granted();
    let mut first = room.waiting();
    drop(held);
    // The waiter has not looked yet, and has the slot all the same.
    assert_eq!(room.revision.stats().waiting(), 0);
    let mut newcomer = room.waiting();
    waits(&mut newcomer);
    let held = served(&mut first);
    drop(held);
    drop(served(&mut newcomer));
}

#[test]
fn slots_that_come_are_given_in_order_and_not_more_than_there_are() {
    let room = Room::new(2);
    let mut line: Vec<Ticket> = (0..5).map(|_| room.waiting()).collect();
    room.report(&[1, 2]);
    let held: Vec<Permit> = line[..4].iter_mut().map(served).collect();
    waits(&mut line[4]);
    let at = |replica: &str| held.iter().filter(|permit| replica_of(permit) == replica).count();
    assert_eq!((at("r1"), at("r2")), (2, 2));
}

#[test]
fn who_leaves_gives_the_place_back_at_once() {
    let room = Room::new(1);
    room.report(&[1]);
    let held = room.granted();
    let (first, mut second) = (room.waiting(), room.waiting());
    assert_eq!(room.process.waiting(), 2);
    drop(first);
    assert_eq!(room.process.waiting(), 1);
    room.holds();
    drop(held);
    drop(served(&mut second));
    assert_eq!(room.process.waiting(), 0);
}

#[test]
fn who_leaves_after_having_been_served_passes_the_slot_on() {
    let room = Room::new(1);
    room.report(&[1]);
    let held = room.granted();
    let (first, mut second) = (room.waiting(), room.waiting());
    drop(held);
    waits(&mut second);
    drop(first);
    drop(served(&mut second));
    drop(room.granted());
}

#[test]
fn a_waiting_request_pokes_the_autoscaler() {
    let room = Room::new(1);
    room.report(&[1]);
    let held = room.granted();
    assert_eq!(room.pokes.take(), [], "a free slot is no reason to look");
    let ticket = room.waiting();
    assert_eq!(room.pokes.take(), [room.revision.id().clone()]);
    drop((ticket, held));
}

#[test]
fn bounds_of_the_revision_and_of_the_process_have_errors_of_their_own() {
    let process = bounds(2, 3);
    let one = Room::with(spec("one-00001", 1), Arc::clone(&process));
    let other = Room::with(spec("other-00001", 1), Arc::clone(&process));
    let ask = |room: &Room| room.revision.admit(room.now(), None);
    let mut line = vec![ask(&one), ask(&one)];
    let Admission::Refused(problem) = ask(&one) else { panic!("two wait already") };
    assert_eq!(problem.reason, Reason::QueueFull);
    assert_eq!(&*problem.message, "2 requests wait for this revision already; try again later");
    line.push(ask(&other));
    let Admission::Refused(problem) = ask(&other) else { panic!("three wait already") };
    assert_eq!(&*problem.message, "3 requests wait for this process already; try again later");
    line.clear();
    assert_eq!(process.waiting(), 0);
    assert!(matches!(ask(&other), Admission::Waiting(_)), "there is room again");
}

#[test]
fn retry_after_is_the_last_cold_start_within_bounds() {
    let room = Room::new(1);
    assert_eq!(room.revision.retry_after_seconds(), 1, "none was measured");
    for (spawn_ms, ready_ms, seconds) in [(200, 3_000, 4), (1, 1, 1), (10_000, 90_000, 30)] {
        let ms = Duration::from_millis;
        room.revision.cold_started(ms(spawn_ms), ms(ready_ms));
        assert_eq!(room.revision.retry_after_seconds(), seconds);
    }
}

#[test]
fn who_comes_again_soon_has_waited_since_the_first_time() {
    let room = Room::new(1);
    let shown = |arrived_s: u64, now_s: u64| {
        let at = |seconds: u64| Nanos(0).plus(Duration::from_secs(seconds));
        room.revision.shown_waiting_for(at(arrived_s), at(now_s)).as_secs()
    };
    let waits = [(5, 6), (7, 8), (17, 18), (29, 30), (31, 32)];
    assert_eq!(waits.map(|(arrived, now)| shown(arrived, now)), [1, 3, 13, 1, 3]);
    assert_eq!(room.revision.last_cold_start(), None);
    room.revision.cold_started(Duration::from_millis(20), Duration::from_millis(500));
    assert_eq!(room.revision.last_cold_start(), Some(Duration::from_millis(520)));
    assert_eq!(shown(33, 34), 1, "for another start");
}

#[test]
fn when_starting_cannot_succeed_all_that_wait_are_told() {
    let room = Room::new(1);
    let mut line = [room.waiting(), room.waiting()];
    let problem = Problem::new(Reason::StartFailed, "it ended at once");
    assert_eq!(room.revision.fail_waiters(&problem), 2);
    room.holds();
    for ticket in &mut line {
        let Poll::Ready(Err(told)) = poll(ticket) else { panic!("nothing was told") };
        assert_eq!(told, problem);
    }
    let mut later = room.waiting();
    waits(&mut later);
}

#[test]
fn a_removed_revision_answers_404_and_lets_what_runs_end() {
    let room = Room::new(1);
    room.report(&[1]);
    let held = room.granted();
    let mut waiter = room.waiting();
    room.revision.remove();
    let Poll::Ready(Err(problem)) = poll(&mut waiter) else { panic!("it still waits") };
    assert_eq!(problem.reason, Reason::ServiceRemoved);
    assert_eq!(problem.reason.status(), 404);
    assert_eq!(room.refused().reason, Reason::ServiceRemoved);
    assert_eq!(room.shown(), ["r1 1 victim"]);
    let plan = room.revision.plan(0, 0, room.now());
    assert!(plan.waits && plan.replicas == 1, "{plan:?}");
    drop(held);
    assert_eq!(room.refused().reason, Reason::ServiceRemoved);
    assert!(room.revision.is_removed());
}

#[test]
fn what_cannot_be_started_here_is_refused_with_the_reason() {
    let problem = Problem::new(Reason::NoLocalCommand, "add a command");
    let room = Room::with(
        RevisionSpec { workload: Workload::Unavailable(problem.clone()), ..spec("x-00001", 1) },
        Arc::default(),
    );
    assert_eq!(room.refused(), problem);
    assert_eq!(room.process.waiting(), 0);
}
