use std::cell::RefCell;
use std::rc::Rc;

use super::super::context::{SpanId, TraceId};
use super::super::span::{Kind, Span};
use super::*;

const BATCH: usize = 4;

fn recorded(spans: usize) -> Recorded {
    let mut rng = fastrand::Rng::with_seed(1);
    let span = Span {
        id: SpanId::draw(&mut rng),
        parent: None,
        is_parent_remote: false,
        name: "GET".into(),
        kind: Kind::Server,
        start: 1,
        end: 2,
        attributes: Vec::new(),
        events: Vec::new(),
        error: None,
    };
    let (trace, state) = (TraceId::draw(&mut rng), String::new());
    Recorded { trace, flags: 1, state, spans: vec![span; spans] }
}

/// An exporter whose attempts end as the test says; what was attempted, and when.
struct Stage {
    queue: Rc<Queue>,
    counters: Rc<Counters>,
    parting: watch::Sender<Option<Instant>>,
    attempts: Rc<RefCell<Vec<(Duration, usize)>>>,
    running: tokio::task::JoinHandle<()>,
}

impl Stage {
    /// Outcomes are taken from the end; when there are none left, everything is taken.
    fn set(outcomes: Vec<Outcome>) -> Self {
        let queue = Rc::new(Queue::new(3 * BATCH, BATCH));
        let counters = Rc::new(Counters::default());
        let (parting, parted) = watch::channel(None);
        let attempts: Rc<RefCell<Vec<(Duration, usize)>>> = Rc::default();
        let (began, noted) = (Instant::now(), Rc::clone(&attempts));
        let outcomes = RefCell::new(outcomes);
        let (queued, counted) = (Rc::clone(&queue), Rc::clone(&counters));
        let running = tokio::task::spawn_local(async move {
            let attempt = async |batch: &[Recorded]| {
                let spans = batch.iter().map(|recorded| recorded.spans.len()).sum();
                noted.borrow_mut().push((began.elapsed(), spans));
                outcomes.borrow_mut().pop().unwrap_or(Outcome::Taken(None))
            };
            run(&queued, &counted, Parting::new(parted), attempt).await;
        });
        Self { queue, counters, parting, attempts, running }
    }

    fn part(&self, within: Duration) {
        self.parting.send_replace(Some(Instant::now() + within));
    }

    /// Exported and dropped spans.
    fn counts(&self) -> (u64, u64) {
        let counts = self.counters.counts();
        (counts.exported, counts.dropped)
    }
}

fn again() -> Outcome {
    Outcome::Again(None, "away".to_owned())
}

async fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_waits_for_others_and_a_full_batch_does_not_wait() {
    local(async {
        let stage = Stage::set(Vec::new());
        stage.queue.push(recorded(1)).unwrap();
        sleep(DELAY / 2).await;
        stage.queue.push(recorded(2)).unwrap();
        sleep(DELAY).await;
        assert_eq!(*stage.attempts.borrow(), [(DELAY, 3)]);
        for _ in 0..3 {
            stage.queue.push(recorded(3)).unwrap();
        }
        sleep(Duration::from_millis(1)).await;
        let at = DELAY * 3 / 2;
        // Requests are not torn apart: a batch may be a little more.
        assert_eq!(stage.attempts.borrow()[1..], [(at, 6)]);
        sleep(DELAY).await;
        assert_eq!(stage.attempts.borrow().last().map(|(_, spans)| *spans), Some(3));
        assert_eq!(stage.counts(), (12, 0));
        stage.part(DELAY);
        stage.running.await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_given_back() {
    local(async {
        let queue = Queue::new(3 * BATCH, BATCH);
        for _ in 0..3 {
            queue.push(recorded(BATCH)).unwrap();
        }
        assert_eq!(queue.push(recorded(1)), Err(recorded(1)));
        assert_eq!(queue.take(), [recorded(BATCH)]);
        queue.push(recorded(BATCH)).unwrap();
        assert!(queue.push(recorded(1)).is_err());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_and_the_batch_is_given_up() {
    local(async {
        let stage = Stage::set((0..100).map(|_| again()).collect());
        stage.queue.push(recorded(1)).unwrap();
        sleep(DELAY + TRIED).await;
        let attempts = stage.attempts.borrow().clone();
        let pauses: Vec<_> = attempts.windows(2).map(|two| two[1].0 - two[0].0).collect();
        for (pause, doubled) in pauses.iter().zip([1, 2, 4, 8, 16, 30]) {
            let (least, most) = (PAUSE * doubled / 2, PAUSE * doubled);
            assert!((least..=most + Duration::from_millis(1)).contains(pause), "{pauses:?}");
        }
        assert!(pauses.len() >= 4, "{pauses:?}");
        assert_eq!(stage.counts(), (0, 1), "given up for good");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_collector_says_when_to_come_back() {
    local(async {
        let after = Duration::from_secs(17);
        let stage = Stage::set(vec![Outcome::Again(Some(after), "busy".to_owned())]);
        stage.queue.push(recorded(1)).unwrap();
        sleep(DELAY + after * 2).await;
        assert_eq!(*stage.attempts.borrow(), [(DELAY, 1), (DELAY + after, 1)]);
        assert_eq!(stage.counts(), (1, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_sent_again() {
    local(async {
        let partly = Outcome::Taken(Some((1, "too long".to_owned())));
        let stage = Stage::set(vec![partly, Outcome::Refused("401".to_owned())]);
        stage.queue.push(recorded(2)).unwrap();
        sleep(TRIED).await;
        assert_eq!(stage.counts(), (0, 2));
        stage.queue.push(recorded(3)).unwrap();
        sleep(TRIED).await;
        assert_eq!(stage.counts(), (2, 3));
        assert_eq!(stage.attempts.borrow().len(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn at_the_end_all_is_sent_at_once() {
    local(async {
        let stage = Stage::set(Vec::new());
        let began = Instant::now();
        for _ in 0..3 {
            stage.queue.push(recorded(3)).unwrap();
        }
        stage.part(DELAY);
        stage.running.await.unwrap();
        assert_eq!(stage.counters.counts().exported, 9);
        assert_eq!(began.elapsed(), Duration::ZERO);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn at_the_end_nobody_waits_for_a_collector_that_is_away() {
    local(async {
        let stage = Stage::set((0..100).map(|_| again()).collect());
        for _ in 0..3 {
            stage.queue.push(recorded(3)).unwrap();
        }
        stage.part(Duration::from_secs(5));
        let began = Instant::now();
        stage.running.await.unwrap();
        assert_eq!(stage.counters.counts().dropped, 9);
        assert_eq!(began.elapsed(), Duration::ZERO, "one attempt, no pause");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_end_ends_a_pause_and_its_time_an_attempt() {
    local(async {
        let stage = Stage::set(vec![Outcome::Again(Some(TRIED / 2), "busy".to_owned())]);
        stage.queue.push(recorded(1)).unwrap();
        sleep(DELAY * 2).await;
        stage.part(DELAY);
        stage.running.await.unwrap();
        assert_eq!(stage.attempts.borrow().last(), Some(&(DELAY * 2, 1)));
        assert_eq!(stage.counters.counts().exported, 1);
    })
    .await;
    local(async {
        let (queue, counters) = (Queue::new(BATCH, BATCH), Counters::default());
        queue.push(recorded(1)).unwrap();
        let (_parting, parted) = watch::channel(Some(Instant::now() + DELAY));
        let began = Instant::now();
        let never = async |_: &[Recorded]| std::future::pending().await;
        run(&queue, &counters, Parting::new(parted), never).await;
        assert_eq!(began.elapsed(), DELAY);
        assert_eq!(counters.counts().dropped, 1);
    })
    .await;
}
