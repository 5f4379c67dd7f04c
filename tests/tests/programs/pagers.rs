//! The pagers of the random programs: how they fail and defer, and who completes what they deferred.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use quire_core::error::Cause;
use quire_core::io::{Direction, Io};
use quire_core::pager::PagerOps;
use quire_tests::{Dice, Script, Twist};

pub(crate) type Deferred = (Script, Arc<Io>);

/// How often, in 16 times, the pagers do what.
#[derive(Default)]
pub(crate) struct Moods {
    pub(crate) failing_gets: AtomicU32,
    pub(crate) failing_puts: AtomicU32,
    pub(crate) deferring: AtomicU32,
}

/// Completes what is deferred, in any order. One for each thread of programs.
pub(crate) struct Completer {
    pub(crate) to: Sender<Deferred>,
    pub(crate) open: Arc<AtomicUsize>,
}

/// Completes all that has come so far, shuffled, again and again.
pub(crate) fn complete(from: &Receiver<Deferred>, open: &AtomicUsize) {
    let mut dice = Dice(1);
    while let Ok(first) = from.recv() {
        let mut waiting = vec![first];
        while !waiting.is_empty() {
            waiting.extend(from.try_iter());
            let (script, io) = waiting.swap_remove(dice.below(waiting.len()));
            if dice.one_in(16) {
                script.fail(&io, Cause::Io);
            } else {
                script.settle(&io);
            }
            open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

const OPS: [PagerOps; 6] = [
    PagerOps::PUT,
    PagerOps::SYNC,
    PagerOps::SIZE,
    PagerOps::RESIZE,
    PagerOps::HAS_PAGE,
    PagerOps::ASYNC,
];

pub(crate) fn all_ops() -> PagerOps {
    OPS.into_iter().fold(PagerOps::empty(), |all, one| all | one)
}

/// What a pager in these moods does with a request.
pub(crate) fn twist(moods: &Moods, dice: &mut Dice, open: &AtomicUsize, direction: Direction) -> Twist {
    let failing = match direction {
        Direction::Get => &moods.failing_gets,
        Direction::Put => &moods.failing_puts,
    };
    if dice.roll(16) < u64::from(failing.load(Ordering::Relaxed)) {
        Twist::Fail(if dice.one_in(2) { Cause::Io } else { Cause::Errno(28) })
    } else if dice.roll(16) < u64::from(moods.deferring.load(Ordering::Relaxed)) {
        open.fetch_add(1, Ordering::AcqRel);
        Twist::Defer
    } else {
        Twist::Obey
    }
}
