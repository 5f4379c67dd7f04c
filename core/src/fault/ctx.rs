//! One fault: what was asked, what has been decided over its attempts, and what an attempt can end in.

use alloc::sync::Arc;
use core::time::Duration;

use super::Resolved;
use super::spare::Spare;
use crate::amap::{Amap, Left};
use crate::error::FaultError;
use crate::machine::NotEntered;
use crate::map::Map;
use crate::object::{Object, SharedBusy};
use crate::page::PageRef;
use crate::populate::PopulatePlan;
use crate::read_ahead::Plan;
use crate::types::{Access, ObjectId, PageIndex, VirtAddr};

/// What the page is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Goal {
    /// To be mapped.
    Enter,
    /// To be kept, shared busied, for a copy.
    Hold,
    /// To be mapped, and to stay.
    Wire,
}

/// One fault.
#[derive(Debug)]
pub(crate) struct Fault<'m> {
    // asked
    pub(super) map: &'m Map,
    pub(super) va: VirtAddr,
    pub(super) access: Access,
    pub(super) goal: Goal,
    /// The page is to be the entry's own, whatever the access.
    pub(super) own: bool,
    /// What is to be written to the page from this byte on, before the map is let go of: whoever copies the map has it or does not have it.
    pub(super) bytes: Option<(usize, &'m [u8])>,
    /// It is resolved in a signal handler.
    pub(super) in_signal: bool,
    // decided
    /// It has waited at least once.
    pub(super) restarted: bool,
    /// The pager said that populate is not for this fault (S221).
    pub(super) populate_declined: bool,
    /// Rounds in a row in which no memory could be freed.
    pub(super) fruitless: u32,
    /// Rounds in which memory was freed for it.
    pub(super) rounds: u32,
    /// How often the machine had no memory to enter the page.
    pub(super) shortages: u32,
    /// How often populate started it over.
    pub(super) refaults: u32,
    /// For how much longer it waits for pagers; nothing is for ever.
    pub(super) patience: Option<Duration>,
    /// A page for what has to be copied, kept over restarts.
    pub(super) spare: Option<Spare>,
    /// What the fault left without anybody who refers to it; given up when no lock is held.
    pub(super) left: Option<Left>,
    /// A window to be read ahead once the fault is over.
    pub(super) ahead: Option<(Arc<Object>, Plan)>,
}

impl<'m> Fault<'m> {
    pub(super) fn new(map: &'m Map, va: VirtAddr, access: Access, goal: Goal) -> Self {
        Self {
            map,
            va,
            access,
            goal,
            own: false,
            bytes: None,
            in_signal: false,
            restarted: false,
            populate_declined: false,
            fruitless: 0,
            rounds: 0,
            shortages: 0,
            refaults: 0,
            patience: map.engine().requests().fault_timeout(),
            spare: None,
            left: None,
            ahead: None,
        }
    }
}

/// The end of a fault.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The page is mapped.
    Entered(Resolved),
    /// The page is kept.
    Held(SharedBusy<Arc<Object>>),
}

/// The end of an attempt that did not end the fault well.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The fault fails.
    Fail(FaultError),
    /// Wait for this, then start over.
    Wait(Need),
}

/// What an attempt could not go on without.
#[derive(Debug)]
pub(crate) enum Need {
    /// A page that is exclusively busied, as long as it is the one that was looked up.
    Page(PageRef, ObjectId, PageIndex),
    /// A page that is not in memory, and how many behind it are wanted along.
    Get(Arc<Object>, PageIndex, u32),
    /// The same, from a pager that installs pages itself, for the map as it was at this version.
    Populate(Arc<Object>, PopulatePlan, u64),
    /// The pager's leave to write a page that is clean.
    Leave(Arc<Object>, PageIndex),
    /// The same, with nobody else who has it busied.
    Alone(PageRef, ObjectId, PageIndex),
    /// An amap that the entry at the address may change.
    Amap(VirtAddr),
    /// A page at this place, to copy into.
    Spare(Arc<Object>, PageIndex),
    /// The same, in place of an anon that goes then, with its page and its room in swap.
    Replacement(Arc<Object>, PageIndex),
    /// A page in the attic of an amap, to copy into.
    Attic(Arc<Amap>),
    /// Memory for tables: the machine's, or the engine's own.
    Tables,
    /// Another frame: the machine cannot show this one at that address.
    Rehome(Arc<Object>, PageIndex),
}

impl Stop {
    /// The machine did not enter page `index` of `object`.
    pub(super) fn not_entered(why: NotEntered, object: &Arc<Object>, index: PageIndex) -> Self {
        match why {
            NotEntered::Shortage => Self::Wait(Need::Tables),
            NotEntered::NotHere => Self::Wait(Need::Rehome(object.clone(), index)),
            NotEntered::Refused(reason) => Self::Fail(FaultError::Device { index, reason }),
        }
    }
}

impl From<FaultError> for Stop {
    fn from(error: FaultError) -> Self {
        Self::Fail(error)
    }
}
