//! The copies' thread: checkpoints and sled, written behind the log.
//!
//! Inputs are the committed states and the keys that changed; outputs are files. Invariants: the
//! committer never waits for this thread, only for a lock that is held for moments; what waits to
//! be written is a set of keys and one state, however fast writers are; a failure here loses
//! nothing and stops nobody. The thread sleeps while nothing is due, and gathers changes before it
//! writes them to sled, so that a busy object costs one write.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::backing::{Sled, SledError};
use crate::checkpoint;
use crate::error_chain;
use crate::log;
use crate::memory::State;
use crate::report::{Notes, SledState};
use crate::retention;

/// The committer's end.
pub(crate) struct Copies {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    inbox: Mutex<Inbox>,
    bell: Condvar,
    /// Size of the newest checkpoint: the log may grow that large before the next.
    checkpoint_len: AtomicU64,
}

#[derive(Debug)]
struct Inbox {
    /// The newest state.
    state: Arc<State>,
    /// Keys that changed since sled was last written; gathered only while sled is open.
    dirty: HashSet<Arc<str>>,
    /// When the first of them changed.
    dirty_since: Option<Instant>,
    gather: bool,
    /// The state to make a checkpoint of.
    checkpoint: Option<Arc<State>>,
    stopping: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When sled is opened and written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// After the store was opened: opening sled syncs the whole machine's disks twice, which
    /// nobody should wait for while a cluster starts.
    pub(crate) open_after: Duration,
    /// After the first change.
    pub(crate) write_after: Duration,
}

impl Copies {
    /// Starts the thread for a store that was opened at `state`.
    pub(crate) fn start(
        dir: &Path,
        state: Arc<State>,
        pace: Pace,
        notes: Notes,
    ) -> io::Result<Copies> {
        let inbox = Inbox {
            state,
            dirty: HashSet::new(),
            dirty_since: None,
            gather: false,
            checkpoint: None,
            stopping: false,
        };
        let shared = Arc::new(Shared {
            inbox: Mutex::new(inbox),
            bell: Condvar::new(),
            checkpoint_len: AtomicU64::new(0),
        });
        let sled = SledCopy::Unopened { due: Instant::now() + pace.open_after };
        let writer = Writer { shared: shared.clone(), dir: dir.to_owned(), pace, notes, sled };
        let thread = thread::Builder::new().name("store-copies".into()).spawn(|| writer.run())?;
        Ok(Copies { shared, thread: Some(thread) })
    }

    /// Tells of a committed state and what changed in it.
    pub(crate) fn note(
        &self,
        state: &Arc<State>,
        keys: impl Iterator<Item = Arc<str>>,
        checkpoint_due: bool,
    ) {
        let mut inbox = self.shared.lock();
        inbox.state = state.clone();
        let mut ring = checkpoint_due;
        if checkpoint_due {
            inbox.checkpoint = Some(state.clone());
        }
        if inbox.gather {
            inbox.dirty.extend(keys);
            if inbox.dirty_since.is_none() {
                inbox.dirty_since = Some(Instant::now());
                ring = true;
            }
        }
        drop(inbox);
        if ring {
            self.shared.bell.notify_one();
        }
    }

    /// The size of the newest checkpoint written since opening, in bytes.
    pub(crate) fn checkpoint_len(&self) -> u64 {
        self.shared.checkpoint_len.load(Ordering::Relaxed)
    }

    /// Lets the thread finish what it has and waits for it.
    pub(crate) fn stop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.bell.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of checkpoints and sled panicked");
        }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The copy in sled, as the thread sees it.
enum SledCopy {
    Unopened { due: Instant },
    Open(Sled),
    Stopped,
}

/// What the thread does next.
enum Job {
    Checkpoint(Arc<State>),
    OpenSled(Arc<State>),
    WriteSled(Arc<State>, HashSet<Arc<str>>),
    Stop(Arc<State>, HashSet<Arc<str>>),
}

/// The thread's end.
struct Writer {
    shared: Arc<Shared>,
    dir: PathBuf,
    pace: Pace,
    notes: Notes,
    sled: SledCopy,
}

impl Writer {
    fn run(mut self) {
        loop {
            match self.next_job() {
                Job::Checkpoint(state) => self.checkpoint(&state),
                Job::OpenSled(state) => self.open_sled(&state),
                Job::WriteSled(state, dirty) => self.write_sled(&state, &dirty),
                Job::Stop(state, dirty) => {
                    if !dirty.is_empty() {
                        self.write_sled(&state, &dirty);
                    }
                    if let SledCopy::Open(sled) = self.sled {
                        sled.close();
                    }
                    return;
                }
            }
        }
    }

    /// Sleeps until something is due.
    fn next_job(&self) -> Job {
        let mut inbox = self.shared.lock();
        loop {
            if let Some(state) = inbox.checkpoint.take() {
                return Job::Checkpoint(state);
            }
            if inbox.stopping {
                return Job::Stop(inbox.state.clone(), inbox.take_dirty());
            }
            let due = match &self.sled {
                SledCopy::Unopened { due } => Some(*due),
                SledCopy::Open(_) => inbox.dirty_since.map(|since| since + self.pace.write_after),
                SledCopy::Stopped => None,
            };
            let Some(due) = due else {
                inbox = self.shared.bell.wait(inbox).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                let waited = self.shared.bell.wait_timeout(inbox, left);
                inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
            } else if let SledCopy::Unopened { .. } = self.sled {
                // From here on changes are gathered: none falls between this state and them.
                inbox.gather = true;
                return Job::OpenSled(inbox.state.clone());
            } else {
                return Job::WriteSled(inbox.state.clone(), inbox.take_dirty());
            }
        }
    }

    fn checkpoint(&self, state: &State) {
        match checkpoint::write(&self.dir, state) {
            Ok(len) => {
                self.shared.checkpoint_len.store(len, Ordering::Relaxed);
                let mut facts = self.notes.lock();
                facts.checkpoint = Some(state.revision);
                facts.checkpoint_failed = None;
            }
            Err(error) => {
                let why = error_chain(&error);
                tracing::error!(revision = state.revision.0, why, "cannot write a checkpoint");
                self.notes.lock().checkpoint_failed = Some(why);
                return;
            }
        }
        if let Err(error) = self.remove_obsolete() {
            tracing::warn!(%error, "cannot remove files that a checkpoint made obsolete");
        }
    }

    fn remove_obsolete(&self) -> io::Result<()> {
        let checkpoints = checkpoint::checkpoints(&self.dir)?;
        let segments = log::segments(&self.dir)?;
        let obsolete = retention::obsolete(&checkpoints, &segments);
        // Oldest first: a crash in between must not leave a gap within what stays.
        for revision in obsolete.segments {
            fs::remove_file(log::segment_path(&self.dir, revision))?;
        }
        for revision in obsolete.checkpoints {
            fs::remove_file(checkpoint::path(&self.dir, revision))?;
        }
        Ok(())
    }

    fn open_sled(&mut self, state: &State) {
        match Sled::open(&self.dir, state) {
            Ok((sled, rebuilt)) => {
                self.sled = SledCopy::Open(sled);
                let mut facts = self.notes.lock();
                facts.sled = SledState::Flushed(state.revision);
                if let Some(rebuilt) = &rebuilt {
                    tracing::warn!(why = rebuilt.why, "sled was damaged and is rebuilt");
                }
                facts.sled_rebuilt = rebuilt;
            }
            Err(error) => self.give_up_sled(&error),
        }
    }

    fn write_sled(&mut self, state: &State, dirty: &HashSet<Arc<str>>) {
        let SledCopy::Open(sled) = std::mem::replace(&mut self.sled, SledCopy::Stopped) else {
            return;
        };
        match sled.write(state, dirty) {
            Ok(sled) => {
                self.sled = SledCopy::Open(sled);
                self.notes.lock().sled = SledState::Flushed(state.revision);
            }
            Err(error) => self.give_up_sled(&error),
        }
    }

    fn give_up_sled(&mut self, error: &SledError) {
        let why = error_chain(error);
        tracing::warn!(why, "sled is given up until the next start; the log carries on alone");
        self.sled = SledCopy::Stopped;
        let mut inbox = self.shared.lock();
        inbox.gather = false;
        inbox.take_dirty();
        drop(inbox);
        self.notes.lock().sled = SledState::Stopped { why };
    }
}

impl Inbox {
    fn take_dirty(&mut self) -> HashSet<Arc<str>> {
        self.dirty_since = None;
        std::mem::take(&mut self.dirty)
    }
}
