//! Threads that resolve faults for signal handlers, which wait for them.
//!
//! A handler may have interrupted the program while it held anything, so that it calls nobody who could want that. It
//! posts a [`Job`] that lies on its own stack, and sleeps until it is answered. As with the readers of a userfaultfd, the
//! last idle worker starts another before it takes a job: a slow pager keeps one thread.

use core::cell::Cell;
use core::ptr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quire_core::error::{Error, Result};
use quire_core::sync::Event;
use quire_core::types::{Access, VirtAddr};

use super::Shared;
use super::in_thread::Answer;
use crate::lock::lock;
use crate::thread;

/// Workers of one map, at most.
const MOST_WORKERS: usize = 64;

/// The workers of one service.
#[derive(Debug)]
pub(crate) struct Workers {
    state: Mutex<State>,
    posted: Condvar,
    gone: Condvar,
}

/// Its lock is held for some instructions, which touch no served memory: a handler may take it.
#[derive(Debug)]
struct State {
    /// The jobs that nobody has taken, oldest first.
    first: *const Job,
    last: *const Job,
    workers: usize,
    idle: usize,
    ending: bool,
}

// SAFETY: the jobs of the list stay where they are until they are answered.
unsafe impl Send for State {}

/// A fault for a worker, on the stack of the handler that waits for it.
#[derive(Debug)]
struct Job {
    va: VirtAddr,
    access: Access,
    /// Under the lock.
    next: Cell<*const Job>,
    /// Before it is done.
    answer: Cell<Answer>,
    done: Event,
}

impl Workers {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                first: ptr::null(),
                last: ptr::null(),
                workers: 0,
                idle: 0,
                ending: false,
            }),
            posted: Condvar::new(),
            gone: Condvar::new(),
        }
    }

    /// Has a worker resolve a fault, and waits for it. Async-signal-safe.
    pub(super) fn resolve(&self, va: VirtAddr, access: Access) -> Answer {
        let job = Job {
            va,
            access,
            next: Cell::new(ptr::null()),
            answer: Cell::new(Answer::Failed),
            done: Event::new(),
        };
        {
            let mut state = lock(&self.state);
            if state.workers == 0 {
                return Answer::Failed;
            }
            state.post(&job);
        }
        self.posted.notify_one();
        job.done.wait();
        job.answer.get()
    }

    /// Ends all workers, and waits for them at most for `patience`. Answers whether they ended.
    pub(super) fn stop(&self, patience: Duration) -> bool {
        let until = Instant::now().checked_add(patience);
        let mut state = lock(&self.state);
        state.ending = true;
        self.posted.notify_all();
        while state.workers > 0 {
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            let waited = self.gone.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl State {
    fn post(&mut self, job: &Job) {
        // SAFETY: the last job of the list is not answered yet.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(job),
            None => self.first = job,
        }
        self.last = job;
    }

    fn take(&mut self) -> Option<*const Job> {
        // SAFETY: the first job of the list is not answered yet.
        let first = unsafe { self.first.as_ref() }?;
        self.first = first.next.get();
        if self.first.is_null() {
            self.last = ptr::null();
        }
        Some(first)
    }
}

/// Sees that there is a worker.
///
/// # Errors
/// [`Error::NoMemory`] when no thread can be had.
pub(super) fn start_first(shared: &Arc<Shared>) -> Result<()> {
    if lock(&shared.workers.state).workers > 0 || start_one(shared) {
        Ok(())
    } else {
        Err(Error::NoMemory)
    }
}

fn start_one(shared: &Arc<Shared>) -> bool {
    {
        let mut state = lock(&shared.workers.state);
        if state.ending || state.workers >= MOST_WORKERS {
            return false;
        }
        state.workers += 1;
        state.idle += 1;
    }
    let its = shared.clone();
    let started = thread::start(c"quire-worker", move || work(&its));
    if !started {
        let mut state = lock(&shared.workers.state);
        state.workers -= 1;
        state.idle -= 1;
        shared.workers.gone.notify_all();
    }
    started
}

/// What a worker does. It was counted as idle by whoever started it.
fn work(shared: &Arc<Shared>) {
    let workers = &shared.workers;
    let mut state = lock(&workers.state);
    loop {
        if let Some(job) = state.take() {
            state.idle -= 1;
            let last = state.idle == 0;
            drop(state);
            if last {
                start_one(shared);
            }
            // SAFETY: it is answered below, and stays until then.
            let job = unsafe { &*job };
            // A pager in this program that panics fails the fault, and no more.
            let outcome = catch_unwind(AssertUnwindSafe(|| shared.map.fault(job.va, job.access)));
            job.answer
                .set(outcome.map_or(Answer::Failed, |outcome| Answer::of(&outcome)));
            job.done.set();
            state = lock(&workers.state);
            state.idle += 1;
        } else if state.ending {
            state.idle -= 1;
            state.workers -= 1;
            workers.gone.notify_all();
            return;
        } else {
            state = workers.posted.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
