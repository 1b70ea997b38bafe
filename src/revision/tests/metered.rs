use super::*;

/// Serves what is served of a line, in order.
fn take(line: &mut Vec<Ticket>) -> Vec<Permit> {
    let mut permits = Vec::new();
    while let Some(first) = line.first_mut() {
        match poll(first) {
            Poll::Ready(Ok(permit)) => permits.push(permit),
            Poll::Ready(Err(problem)) => panic!("{problem:?}"),
            Poll::Pending => break,
        }
        line.remove(0);
    }
    line.iter_mut().for_each(waits);
    permits
}

fn answer(permits: Vec<Permit>) {
    for mut permit in permits {
        permit.answered();
    }
}

#[tokio::test(start_paused = true)]
async fn a_cold_endpoint_gets_target_first_then_twice_as_many_each_second() {
    let room = Room::new(0);
    let mut line: Vec<Ticket> = (0..60).map(|_| room.waiting()).collect();
    room.report(&[1]);
    assert!(room.revision.open().open.is_empty(), "nobody goes round the queue");
    let first = take(&mut line);
    assert_eq!(first.len(), 3, "target is 2.1 a replica");
    tokio::time::advance(Duration::from_secs(5)).await;
    room.revision.tick(room.now());
    assert_eq!(take(&mut line).len(), 0, "no time makes it grow before it answered");
    answer(first);
    let mut held = take(&mut line);
    assert_eq!(held.len(), 6);
    tokio::time::advance(Duration::from_millis(999)).await;
    room.revision.tick(room.now());
    assert_eq!(take(&mut line).len(), 0);
    tokio::time::advance(Duration::from_millis(1)).await;
    room.revision.tick(room.now());
    held.extend(take(&mut line));
    assert_eq!(held.len(), 12);
    tokio::time::advance(Duration::from_secs(2)).await;
    room.revision.tick(room.now());
    held.extend(take(&mut line));
    assert_eq!(held.len(), 48);
}

#[tokio::test(start_paused = true)]
async fn proven_and_with_nobody_waiting_it_is_open() {
    let room = Room::new(0);
    let mut line: Vec<Ticket> = (0..3).map(|_| room.waiting()).collect();
    room.report(&[1]);
    let mut held = take(&mut line);
    let last = held.pop().into_iter().collect();
    answer(held);
    assert!(room.revision.open().open.is_empty(), "two of three are answered");
    answer(last);
    assert_eq!(room.revision.open().open.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_that_failed_prove_nothing() {
    let room = Room::new(0);
    let mut line: Vec<Ticket> = (0..9).map(|_| room.waiting()).collect();
    room.report(&[1]);
    for _ in 0..3 {
        drop(take(&mut line));
    }
    assert!(line.is_empty(), "slots of failed ones are free again");
    assert!(room.revision.open().open.is_empty());
    answer((0..3).map(|_| room.granted()).collect());
    assert_eq!(room.revision.open().open.len(), 1);
}

#[test]
fn with_nobody_waiting_it_is_warm_from_the_start() {
    let room = Room::new(0);
    room.report(&[1]);
    assert_eq!(room.revision.open().open.len(), 1);
    drop(room.granted());
}
