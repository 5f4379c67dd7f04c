//! A pending request on its way through an engine.
//!
//! A [`Job`] is memory that an engine keeps and uses again, so that a request that is to free memory needs none. It is
//! owned by one party at a time: the spares, a queue, a thread, or the kernel.

use std::sync::{Arc, Mutex, PoisonError};

use quire_pager::direction::{Get, Put};
use quire_pager::{PendingGet, PendingPut};
use rustix::io::Errno;

use crate::backing::{Backing, InUse};
use crate::stats::InFlight;
use crate::transfer::{Cursor, Pieces, Step, call};

/// The request itself.
pub(crate) enum Work {
    Get(PendingGet),
    Put(PendingPut),
}

/// What a job carries while a request is under way.
struct Load {
    // Dropped in this order: counted out, completed, and only then may `close` go on.
    in_flight: InFlight,
    work: Work,
    backing: InUse,
    cursor: Cursor,
    step: Option<Step>,
}

/// Room for one request.
pub(crate) struct Job {
    load: Option<Load>,
    pieces: Pieces,
}

impl Job {
    fn new() -> Box<Self> {
        Box::new(Self {
            load: None,
            pieces: Pieces::new(),
        })
    }

    /// Takes a request in, of which `cursor` may have moved a part already.
    pub(crate) fn load(&mut self, backing: &Arc<Backing>, work: Work, cursor: Cursor) {
        self.load = Some(Load {
            in_flight: InFlight::begin(&backing.stats),
            work,
            backing: InUse::begin(backing),
            cursor,
            step: None,
        });
    }

    /// The next system call, and whether it reads; its memory is in [`Job::pieces`]. `None` when the request has
    /// completed and the job is spare again.
    pub(crate) fn step(&mut self) -> Option<(Step, bool)> {
        let load = self.load.as_mut()?;
        let (step, reads) = match &mut load.work {
            Work::Get(run) => (load.cursor.step::<Get>(&load.backing, run, &mut self.pieces), true),
            Work::Put(run) => (load.cursor.step::<Put>(&load.backing, run, &mut self.pieces), false),
        };
        load.step = step;
        if step.is_none() {
            self.complete();
        }
        step.map(|step| (step, reads))
    }

    pub(crate) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// Takes the system's answer to the step.
    pub(crate) fn advance(&mut self, answer: Result<usize, Errno>) {
        let Some(load) = &mut self.load else { return };
        let Some(step) = load.step.take() else { return };
        match &mut load.work {
            Work::Get(run) => load.cursor.advance::<Get>(&load.backing, run, step, answer),
            Work::Put(run) => load.cursor.advance::<Put>(&load.backing, run, step, answer),
        }
    }

    /// Does the step on this thread.
    pub(crate) fn call(&mut self) {
        let Some(load) = &self.load else { return };
        let Some(step) = load.step else { return };
        let call = match &load.work {
            Work::Get(_) => call::<Get>,
            Work::Put(_) => call::<Put>,
        };
        // SAFETY: the pieces are pages of the pending request, which this job owns, for its direction.
        let answer = unsafe { call(step, &self.pieces, 0) };
        self.advance(answer);
    }

    fn complete(&mut self) {
        let Some(load) = self.load.take() else { return };
        let Load {
            in_flight,
            work,
            backing,
            ..
        } = load;
        drop(in_flight);
        match work {
            Work::Get(run) => run.complete(Ok(())),
            Work::Put(run) => run.complete(Ok(())),
        }
        drop(backing);
    }
}

/// Jobs that carry nothing. As many as there are, so many requests can be under way.
pub(crate) struct Spares(Mutex<Vec<Box<Job>>>);

impl Spares {
    pub(crate) fn new(count: usize) -> Self {
        Self(Mutex::new((0..count).map(|_| Job::new()).collect()))
    }

    pub(crate) fn take(&self) -> Option<Box<Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(crate) fn give(&self, job: Box<Job>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(job);
    }

    /// A panic cost a job.
    pub(crate) fn replace(&self) {
        self.give(Job::new());
    }
}
