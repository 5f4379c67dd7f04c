//! A pool of threads, each with one request at a time.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use quire_pager::Result;

use super::job::{Job, Spares};
use super::spawn;

/// The pool. [`Pool::stop`] ends its threads.
pub(super) struct Pool {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Queue {
    state: Mutex<State>,
    /// There is a job, or the end.
    more: Condvar,
    spares: Arc<Spares>,
}

struct State {
    jobs: VecDeque<Box<Job>>,
    stopping: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; `None` when the pool ends, after the last one.
    fn next(&self) -> Option<Box<Job>> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.stopping {
                return None;
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        while let Some(mut job) = self.next() {
            let moved = catch_unwind(AssertUnwindSafe(move || {
                while job.step().is_some() {
                    job.call();
                }
                job
            }));
            match moved {
                Ok(job) => self.spares.give(job),
                // The request went with it, and was completed as failed.
                Err(_) => self.spares.replace(),
            }
        }
    }
}

impl Pool {
    pub(super) fn start(threads: usize, depth: usize, spares: &Arc<Spares>) -> Result<Self> {
        let pool = Self {
            queue: Arc::new(Queue {
                state: Mutex::new(State {
                    jobs: VecDeque::with_capacity(depth),
                    stopping: false,
                }),
                more: Condvar::new(),
                spares: spares.clone(),
            }),
            threads: Mutex::new(Vec::with_capacity(threads)),
        };
        for _ in 0..threads {
            let queue = pool.queue.clone();
            match spawn("quire-vnode-io", move || queue.work()) {
                Ok(thread) => pool.threads().push(thread),
                Err(error) => {
                    pool.stop();
                    return Err(error);
                }
            }
        }
        Ok(pool)
    }

    pub(super) fn submit(&self, job: Box<Job>) {
        self.queue.state().jobs.push_back(job);
        self.queue.more.notify_one();
    }

    /// Ends the threads and waits for them. May be called again.
    pub(super) fn stop(&self) {
        self.queue.state().stopping = true;
        self.queue.more.notify_all();
        for thread in std::mem::take(&mut *self.threads()) {
            // A worker catches what panics.
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
