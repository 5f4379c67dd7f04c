//! Swap: where the pages of anonymous objects go when memory is short.
//!
//! An *anonymous object* is an ordinary object whose pager is made here: it begins as zeros, belongs to no file, and ends with its last
//! user. Its pages have *places*, their indices. A place whose page was written out has a *slot*: a page's room in a *swap
//! area*, which is what some pager has opened.
//!
//! Invariant: the slot of a place changes only by whoever has its page exclusively busied, by whoever has it share-busied and
//! holds the object's lock, or by whoever holds that lock while no page is there.
//!
//! A page that becomes dirty, or is wired, loses its slot, whose contents are worthless from then on (S189, N15). So a clean
//! page is either all zeros or has a slot.
//!
//! Slots are held in runs, so that what is written together lies together. Areas with a higher priority are filled first, equal
//! ones in turns. One that fails is left out for that write, and the next one tried. When nothing is to be had, the write fails at once with a
//! sentence, the pages stay dirty, and the page daemon leaves anonymous memory alone until there is room again.
//!
//! Locks: the places of an object, and the slots of all areas, have a lock of the highest rank each; neither is held when the other is
//! taken, and no pager is called with one held.

mod anonymous;
mod area;
mod manage;
mod pager;
mod remove;
mod slots;
mod table;
#[cfg(test)]
mod tests;

use alloc::sync::{Arc, Weak};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

pub(crate) use anonymous::{Anonymous, Contents};
pub use area::SwapAreaId;
use area::{Asked, Call, Part};
pub use manage::{SwapAreaInfo, SwapCounts};
use table::{Table, Tried};

use crate::engine::Engine;
use crate::error::{Cause, PagerError};
use crate::io::{Io, PageOutcome};
use crate::stats::Counter;
use crate::sync::FrameLock;
use crate::types::PageIndex;

/// A page's room in the swap areas, counted through all of them. Never `u32::MAX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Slot(u32);

impl Slot {
    /// So many slots behind this one.
    fn plus(self, n: usize) -> Self {
        Self(self.0.saturating_add(u32::try_from(n).unwrap_or(u32::MAX)))
    }
}

/// The swap of one engine.
#[derive(Debug)]
pub(crate) struct Swap {
    engine: Weak<Engine>,
    table: FrameLock<Table>,
    tallies: [AtomicU64; 5],
}

/// What is counted here, by place in `tallies`.
#[derive(Clone, Copy)]
enum Count {
    Gets,
    PagesIn,
    Puts,
    PagesOut,
    Refused,
}

/// Why anonymous pages were not written to swap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SwapRefusal {
    /// There is no area, or none that can be used.
    NoArea,
    /// Every slot is taken.
    Full {
        /// Areas in use.
        areas: u32,
        /// The slots they have together.
        slots: u64,
    },
    /// Areas that have room answered with errors; the last one for this.
    Failed(Cause),
}

impl fmt::Display for SwapRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoArea => f.write_str("out of swap: there is no swap area that can be used; add one"),
            Self::Full { areas, slots } => write!(
                f,
                "out of swap: all {slots} pages of {areas} swap area(s) are taken; add another one, or use less memory"
            ),
            Self::Failed(cause) => write!(
                f,
                "swap cannot be written: {}; mend the area, or add another one",
                PagerError::bare(*cause)
            ),
        }
    }
}

impl SwapRefusal {
    /// As the pager's answer to a put.
    fn error(self) -> PagerError {
        const ENOSPC: i32 = 28;
        let cause = match self {
            Self::NoArea | Self::Full { .. } => Cause::Errno(ENOSPC),
            Self::Failed(cause) => cause,
        };
        PagerError::new(cause, format_args!("{self}"))
    }
}

impl Swap {
    pub(crate) fn new(engine: Weak<Engine>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            table: FrameLock::default(),
            tallies: Default::default(),
        })
    }

    /// Nobody needs what this slot holds. Under any lock but one of the highest rank; waits for nothing.
    pub(crate) fn release(&self, slot: Slot) {
        let mut table = self.table.lock();
        match table.of(slot) {
            Some((entry, at)) => entry.slots.release(at),
            None => debug_assert!(false, "a place had a slot of no area"),
        }
    }

    /// What this slot holds cannot be read: when it is released it is not used again (N13).
    fn found_bad(&self, slot: Slot) {
        if let Some((entry, at)) = self.table.lock().of(slot) {
            entry.slots.found_bad(at);
        }
    }

    /// The area of a slot that stays held, the slot in it, and how many follow there.
    fn area_of(&self, slot: Slot) -> Option<(Call, u32, u32)> {
        let mut table = self.table.lock();
        let (entry, at) = table.of(slot)?;
        Some((entry.area.begin_call(), at, entry.slots.total() - at - 1))
    }

    /// Whether anonymous pages can be written now. If not, that is noted as the reason why they are not.
    pub(crate) fn has_room(&self) -> bool {
        let mut table = self.table.lock();
        let has_room = table.has_room();
        if !has_room {
            table.refuse();
        }
        has_room
    }

    /// Tells the pagers that want to hear it which slots were freed. Calls pagers; no lock may be held.
    pub(crate) fn tell_freed(&self) {
        loop {
            let Some((call, run)) = self.table.lock().take_freed() else {
                return;
            };
            let engine = self.engine.upgrade();
            let _at_work = engine.as_ref().map(|engine| engine.memory.making_room_in_swap());
            if call.tell_freed(&run).is_err() {
                self.note_error();
            }
            if let Some(entry) = self.table.lock().find(call.area().id) {
                entry.slots.told(run);
            }
        }
    }

    /// Holds up to `want` slots in one piece, in none of the areas that were tried.
    fn allocate(&self, want: usize, tried: &Tried) -> Option<Cluster<'_>> {
        let want = u32::try_from(want).unwrap_or(u32::MAX);
        let (call, run) = self.table.lock().allocate(want, tried)?;
        Some(Cluster { swap: self, call, run })
    }

    /// Nothing more can be written. `failure`: what the last area that was tried answered.
    fn refuse(&self, failure: Option<PagerError>) -> PagerError {
        self.count(Count::Refused, 1);
        let mut table = self.table.lock();
        let refusal = match &failure {
            Some(error) => *table.refused.insert(SwapRefusal::Failed(error.cause)),
            None if table.has_room() => {
                drop(table);
                // It has come since, or will when a pager has been told: that is not waited for with pages in hand.
                return PagerError::new(Cause::Again, format_args!("room in swap is being made; try again"));
            }
            None => table.refuse(),
        };
        drop(table);
        failure.unwrap_or_else(|| refusal.error())
    }

    /// An area answered with an error.
    fn note_error(&self) {
        if let Some(engine) = self.engine.upgrade() {
            engine.stats().count(Counter::PagerErrors);
        }
    }

    fn count(&self, what: Count, n: u64) {
        self.tallies[what as usize].fetch_add(n, Ordering::Relaxed);
    }
}

/// A run of slots that is held, and about to be written. Those that are neither given to a place nor released when this is dropped
/// are lost: who knows who still writes there.
#[derive(Debug)]
struct Cluster<'a> {
    swap: &'a Swap,
    call: Call,
    run: Range<u32>,
}

/// Why a cluster was not written, or not all of it.
enum NotWritten {
    /// The area answered so.
    Failed(PagerError),
    /// The area's pager goes on without leave.
    Stray(PagerError),
    /// There was no memory.
    NoMemory,
}

impl Cluster<'_> {
    fn len(&self) -> usize {
        (self.run.end - self.run.start) as usize
    }

    /// Releases those before `end`, unused.
    fn give_back(&mut self, end: u32) {
        for at in self.run.start..end {
            self.swap.release(Slot(self.call.area().base + at));
        }
        self.run.start = end;
    }

    /// Writes pages of a request, as many as this is long from `first` on, and gives their places the slots they went to. What was
    /// written is noted as done on the request.
    fn write(mut self, of: &Arc<Io>, first: usize, anonymous: &Anonymous) -> Result<(), NotWritten> {
        let pages = first..first + self.len();
        let part = Part {
            of,
            pages: pages.clone(),
            first: self.run.start,
        };
        self.swap.count(Count::Puts, 1);
        let (io, answer) = match self.call.ask(&part) {
            Asked::Answered(io, answer) => (io, answer),
            Asked::Stray(error) => return Err(NotWritten::Stray(error)),
            Asked::NoMemory => {
                self.give_back(self.run.end);
                return Err(NotWritten::NoMemory);
            }
        };
        let written = |i: usize| io.outcome(i) == PageOutcome::Done;
        let (alone, some) = (self.len() == 1, (0..self.len()).any(written));
        let damaged = answer.as_ref().is_err_and(|error| is_medium(error.cause));
        let mut no_memory = false;
        for (i, page) in pages.enumerate() {
            let slot = Slot(self.call.area().base + self.run.start);
            if written(i) && anonymous.set(place(of, page), slot).is_ok() {
                self.swap.count(Count::PagesOut, 1);
                of.page_done(page);
            } else {
                no_memory |= written(i);
                // If none of several was written, nobody knows which one is to blame.
                if damaged && (alone || some) {
                    self.swap.found_bad(slot);
                }
                self.swap.release(slot);
            }
            self.run.start += 1;
        }
        match answer {
            _ if no_memory => Err(NotWritten::NoMemory),
            Ok(()) => Ok(()),
            Err(error) => {
                self.swap.note_error();
                Err(NotWritten::Failed(error))
            }
        }
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for at in self.run.clone() {
            let slot = Slot(self.call.area().base + at);
            self.swap.found_bad(slot);
            self.swap.release(slot);
        }
    }
}

/// The place of a request's page.
fn place(io: &Io, page: usize) -> PageIndex {
    PageIndex(io.first().0 + page as u64)
}

/// Whether an error says that the store itself is damaged.
fn is_medium(cause: Cause) -> bool {
    const EIO: i32 = 5;
    matches!(cause, Cause::Io | Cause::Errno(EIO))
}
