//! Names that have to be looked at: each once, however often it was told, and by one at a time.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Waiting time after the first failure; doubled with each further one.
const BACKOFF: Duration = Duration::from_millis(50);
/// Longest waiting time.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A queue of names, for any number of workers.
#[derive(Debug)]
pub struct Work<K> {
    state: Mutex<State<K>>,
    told: Notify,
}

#[derive(Debug)]
struct State<K> {
    /// When each is due.
    due: BTreeSet<(Instant, u64, K)>,
    /// The entry of each in `due`.
    at: HashMap<K, (Instant, u64)>,
    /// Those in somebody's hands, and when to look again after that, if at all.
    busy: HashMap<K, Option<Instant>>,
    failures: HashMap<K, u32>,
    count: u64,
}

impl<K> Default for Work<K> {
    fn default() -> Self {
        let state = State {
            due: BTreeSet::new(),
            at: HashMap::new(),
            busy: HashMap::new(),
            failures: HashMap::new(),
            count: 0,
        };
        Self { state: Mutex::new(state), told: Notify::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Work<K> {
    /// Has a name looked at as soon as possible.
    pub fn add(&self, name: K) {
        self.add_at(name, Instant::now());
    }

    /// Has a name looked at after a while, or sooner if it is due sooner.
    pub fn add_after(&self, name: K, after: Duration) {
        self.add_at(name, Instant::now() + after);
    }

    fn add_at(&self, name: K, due: Instant) {
        self.state.lock().add(name, due);
        self.told.notify_one();
    }

    /// The next name. Cancel safe. [`Self::done`] has to be called for it.
    pub async fn next(&self) -> K {
        loop {
            let taken = self.state.lock().take(Instant::now());
            let due = match taken {
                Ok(name) => {
                    // There may be more for others.
                    self.told.notify_one();
                    return name;
                }
                Err(due) => due,
            };
            tokio::select! {
                biased;
                () = self.told.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// A name was looked at. After a failure it comes again, each time later.
    pub fn done(&self, name: &K, succeeded: bool) {
        self.state.lock().done(name, succeeded, Instant::now());
        self.told.notify_one();
    }

    /// Names that are due or waiting for their time.
    pub fn len(&self) -> usize {
        self.state.lock().at.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names in somebody's hands.
    pub fn busy(&self) -> HashSet<K> {
        self.state.lock().busy.keys().cloned().collect()
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn add(&mut self, name: K, due: Instant) {
        if let Some(again) = self.busy.get_mut(&name) {
            *again = Some(again.map_or(due, |former| former.min(due)));
            return;
        }
        if let Some(&(former, count)) = self.at.get(&name) {
            if former <= due {
                return;
            }
            self.due.remove(&(former, count, name.clone()));
        }
        self.count += 1;
        self.at.insert(name.clone(), (due, self.count));
        self.due.insert((due, self.count, name));
    }

    /// A name that is due, or when the next one is.
    fn take(&mut self, now: Instant) -> Result<K, Option<Instant>> {
        match self.due.first() {
            Some((due, _, _)) if *due <= now => {}
            next => return Err(next.map(|(due, _, _)| *due)),
        }
        let Some((_, _, name)) = self.due.pop_first() else { return Err(None) };
        self.at.remove(&name);
        self.busy.insert(name.clone(), None);
        Ok(name)
    }

    fn done(&mut self, name: &K, succeeded: bool, now: Instant) {
        let again = self.busy.remove(name).flatten();
        if succeeded {
            self.failures.remove(name);
        } else {
            let failures = self.failures.entry(name.clone()).or_default();
            let after = BACKOFF.saturating_mul(1 << (*failures).min(20)).min(BACKOFF_MAX);
            *failures += 1;
            self.add(name.clone(), now + after);
        }
        if let Some(again) = again {
            self.add(name.clone(), again);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_name_once_and_by_one_at_a_time() {
        let work = Work::default();
        work.add("a");
        work.add("a");
        work.add("b");
        assert_eq!(work.next().await, "a");
        work.add("a");
        assert_eq!(work.next().await, "b");
        assert!(work.next().now_or_never().is_none(), "a is in somebody's hands");
        work.done(&"a", true);
        assert_eq!(work.next().await, "a");
        work.done(&"a", true);
        work.done(&"b", true);
        assert!(work.is_empty() && work.busy().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_sooner_time_counts() {
        let work = Work::default();
        let start = Instant::now();
        work.add_after("a", Duration::from_secs(9));
        work.add_after("a", Duration::from_secs(3));
        work.add_after("a", Duration::from_secs(5));
        assert_eq!((work.next().await, start.elapsed()), ("a", Duration::from_secs(3)));
        work.done(&"a", true);
        assert!(work.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_again_later_each_time() {
        let work = Work::default();
        work.add("a");
        let mut waited = Vec::new();
        for _ in 0..13 {
            let start = Instant::now();
            work.next().await;
            waited.push(start.elapsed().as_millis());
            work.done(&"a", false);
        }
        let expected = [0, 50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000];
        assert_eq!(waited, expected);
        // What is told meanwhile does not wait for it.
        let start = Instant::now();
        work.add("a");
        work.next().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        work.done(&"a", true);
        work.add("a");
        work.next().await;
        work.done(&"a", false);
        let start = Instant::now();
        work.next().await;
        assert_eq!(start.elapsed(), BACKOFF, "a success forgets the failures");
    }
}
