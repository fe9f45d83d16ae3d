//! A queue of keys to look at (upstream: `client-go/util/workqueue`).
//!
//! Inputs: keys, at once, later, or after a failure. Output: one key at a time.
//! Invariants: a key waits at most once however often it is added; a key that is being worked on
//! is not handed out again before it is done, and is handed out again when it was added meanwhile;
//! an idle queue sleeps without a timer.
//! Deliberately not here: what a key means, and how many are worked on at once (`worker`).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The first pause after a failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause. Upstream waits up to 1000 s; a person who watches should not.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

struct State<K> {
    ready: VecDeque<K>,
    /// In `ready`, or added again while active.
    dirty: HashSet<K>,
    active: HashSet<K>,
    /// When a delayed key is due; the number keeps keys of the same instant apart.
    delayed: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    counter: u64,
    failures: HashMap<K, u32>,
}

/// See the module's text.
pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: HashSet::new(),
                active: HashSet::new(),
                delayed: BTreeMap::new(),
                due: HashMap::new(),
                counter: 0,
                failures: HashMap::new(),
            }),
            changed: Notify::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Adds a key.
    pub(crate) fn add(&self, key: K) {
        let mut state = self.lock();
        state.push(key);
        drop(state);
        self.changed.notify_one();
    }

    /// Adds a key after a while; of two times for a key the earlier counts.
    pub(crate) fn add_after(&self, key: K, after: Duration) {
        let mut state = self.lock();
        state.delay(key, Instant::now() + after);
        drop(state);
        self.changed.notify_one();
    }

    /// Adds a key again after a failure, later each time.
    pub(crate) fn retry(&self, key: K) {
        let mut state = self.lock();
        let failures = state.failures.entry(key.clone()).or_insert(0);
        let pause = FIRST_PAUSE.saturating_mul(1 << (*failures).min(20)).min(LONGEST_PAUSE);
        *failures += 1;
        state.delay(key, Instant::now() + pause);
        drop(state);
        self.changed.notify_one();
    }

    /// The key succeeded: its next failure starts with the first pause again.
    pub(crate) fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// The next key; it counts as being worked on until [`Queue::done`]. Safe to cancel.
    pub(crate) async fn next(&self) -> K {
        loop {
            let wake = match self.pop() {
                Next::Key(key) => return key,
                Next::At(instant) => Some(instant),
                Next::Nothing => None,
            };
            // `notify_one` keeps a permit, so an addition between `pop` and here is not lost.
            match wake {
                Some(instant) => {
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = tokio::time::sleep_until(instant) => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// Everything that waits and is due, for a worker that decides on many keys at once.
    pub(crate) fn take_ready(&self) -> Vec<K> {
        std::iter::from_fn(|| match self.pop() {
            Next::Key(key) => Some(key),
            _ => None,
        })
        .collect()
    }

    /// The work on the key has ended.
    pub(crate) fn done(&self, key: &K) {
        let mut state = self.lock();
        state.active.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.changed.notify_one();
        }
    }

    fn pop(&self) -> Next<K> {
        let mut state = self.lock();
        state.release_due(Instant::now());
        if let Some(key) = state.ready.pop_front() {
            state.dirty.remove(&key);
            state.active.insert(key.clone());
            return Next::Key(key);
        }
        match state.delayed.keys().next() {
            Some((instant, _)) => Next::At(*instant),
            None => Next::Nothing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Next<K> {
    Key(K),
    At(Instant),
    Nothing,
}

impl<K: Clone + Eq + Hash> State<K> {
    fn push(&mut self, key: K) {
        if self.dirty.insert(key.clone()) && !self.active.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn delay(&mut self, key: K, at: Instant) {
        if let Some(due) = self.due.get(&key).copied() {
            if due.0 <= at {
                return;
            }
            self.delayed.remove(&due);
        }
        self.counter += 1;
        let due = (at, self.counter);
        self.due.insert(key.clone(), due);
        self.delayed.insert(due, key);
    }

    fn release_due(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            self.due.remove(&key);
            self.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_added_twice_is_handed_out_once() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.take_ready(), ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_while_worked_on_comes_again_only_when_done() {
        let queue = Queue::default();
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert!(queue.take_ready().is_empty(), "handed out twice at once");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert!(queue.take_ready().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_delays_counts() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(7));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        queue.done(&"a");
        assert!(matches!(queue.pop(), Next::Nothing), "a later delay of the same key is left");
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_and_start_over_after_a_success() {
        let queue = Queue::default();
        let mut pauses = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            queue.retry("a");
            queue.next().await;
            queue.done(&"a");
            pauses.push(start.elapsed().as_millis());
        }
        queue.forget(&"a");
        let start = Instant::now();
        queue.retry("a");
        queue.next().await;
        pauses.push(start.elapsed().as_millis());
        assert_eq!(pauses, [5, 10, 20, 40, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_worker_is_woken_by_an_addition() {
        let queue = std::sync::Arc::new(Queue::default());
        let waiter = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.add("a");
        assert_eq!(waiter.await.unwrap(), "a");
    }
}
