//! Pages kept in memory, packed or as they are, oldest first, up to a limit.
//!
//! # Who may do what to an entry
//!
//! One lock guards the pool. Together with it the words of the slots that are in the pool change: a slot whose word says
//! `Pool` has an entry, and an entry's slot says `Pool` with its number.
//!
//! An entry is *busy* while its slot's place in the file is written: because the entry moves there ([`Leaving`]), or because
//! a newer page of the slot goes there while the entry, the older copy, is kept in case that fails ([`Kept`]). A busy entry
//! can be read; who wants to replace or remove it waits until it is not busy.
//!
//! A thread that has an entry busy with [`Leaving`] waits for nobody, and takes only what is not busy. One that has entries
//! busy with [`Kept`] waits at most for such a thread, since no two operations of a host have a slot in common. So no
//! circle of waiting comes about.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::slots::{EntryId, Held, Slot, Slots};

/// What an entry takes beside its bytes: itself, and what the allocator adds to them.
pub(crate) const ENTRY_COST: usize = size_of::<Entry>() + 16;

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Entry {
    /// A page, or what it was packed to. Empty if the entry is free.
    bytes: Box<[u8]>,
    slot: Slot,
    busy: bool,
    // Neighbours by age; of a free entry, `newer` is the next free one.
    older: u32,
    newer: u32,
}

/// The kept pages of an area.
#[derive(Debug)]
pub(crate) struct Pool {
    /// The most memory they may take, in bytes, with what each entry costs.
    limit: usize,
    state: Mutex<State>,
    /// An entry is no longer busy.
    settled: Condvar,
}

#[derive(Debug)]
struct State {
    entries: Vec<Entry>,
    first_free: u32,
    oldest: u32,
    newest: u32,
    /// Bytes in use.
    used: usize,
    /// Threads that wait for an entry to be no longer busy.
    waiting: u32,
}

/// Why a page was not kept. It comes back.
#[derive(Debug)]
pub(crate) enum NotKept {
    /// The pool is full.
    Full(Box<[u8]>),
    /// There is no memory for the list of entries.
    NoMemory,
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Self {
        let state = State {
            entries: Vec::new(),
            first_free: NONE,
            oldest: NONE,
            newest: NONE,
            used: 0,
            waiting: 0,
        };
        Self {
            limit,
            state: Mutex::new(state),
            settled: Condvar::new(),
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Copies the slot's entry to the front of `into`, which is a page long, and answers its length; `None` if the slot has none.
    pub(crate) fn read(&self, slots: &Slots, slot: Slot, into: &mut [u8]) -> Option<usize> {
        let state = self.state();
        let entry = state.of(slots, slot)?;
        let bytes = &state.entries[entry as usize].bytes;
        into[..bytes.len()].copy_from_slice(bytes);
        Some(bytes.len())
    }

    /// Keeps `bytes` for the slot, in place of what it held. Waits while the slot's entry is busy.
    pub(crate) fn keep(&self, slots: &Slots, slot: Slot, bytes: Box<[u8]>) -> Result<(), NotKept> {
        let mut state = self.unless_busy(slots, slot);
        let old = state.of(slots, slot);
        let freed = old.map_or(0, |old| state.cost(old));
        if state.used - freed + bytes.len() + ENTRY_COST > self.limit {
            return Err(NotKept::Full(bytes));
        }
        if let Some(old) = old {
            state.remove(old);
        }
        // An entry that was just freed is there to be taken, so that the older copy is not lost for want of memory.
        let entry = state.add(slot, bytes).ok_or(NotKept::NoMemory)?;
        slots.set(slot, Held::Pool(EntryId(entry)));
        Ok(())
    }

    /// The slot holds `held` from now on, which is not in the pool. Waits while its entry is busy.
    pub(crate) fn replace(&self, slots: &Slots, slot: Slot, held: Held) {
        let mut state = self.unless_busy(slots, slot);
        if let Some(entry) = state.of(slots, slot) {
            state.remove(entry);
        }
        slots.set(slot, held);
    }

    /// The oldest entry that is not busy, to be moved to the file.
    pub(crate) fn leaving<'a>(&'a self, slots: &'a Slots) -> Option<Leaving<'a>> {
        let mut state = self.state();
        let mut at = state.oldest;
        while at != NONE {
            let entry = &mut state.entries[at as usize];
            if !entry.busy {
                entry.busy = true;
                let slot = entry.slot;
                return Some(Leaving {
                    pool: self,
                    slots,
                    slot,
                });
            }
            at = entry.newer;
        }
        None
    }

    /// Makes the entries of `count` slots from `first` on busy: their places in the file are about to be written. Waits for
    /// those that are busy.
    pub(crate) fn kept<'a>(&'a self, slots: &'a Slots, first: Slot, count: u32) -> Kept<'a> {
        let kept = Kept {
            pool: self,
            slots,
            first,
            count,
        };
        for slot in kept.range() {
            let mut state = self.unless_busy(slots, slot);
            if let Some(entry) = state.of(slots, slot) {
                state.entries[entry as usize].busy = true;
            }
        }
        kept
    }

    /// The pool, locked at a moment when the slot's entry, if it has one, is not busy.
    fn unless_busy(&self, slots: &Slots, slot: Slot) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state
            .of(slots, slot)
            .is_some_and(|entry| state.entries[entry as usize].busy)
        {
            state.waiting += 1;
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state
    }

    /// Wakes whoever waits: something is no longer busy.
    fn wake(&self, state: MutexGuard<'_, State>) {
        if state.waiting > 0 {
            drop(state);
            self.settled.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.state().used
    }

    /// Overwrites what the slot's entry holds.
    #[cfg(test)]
    pub(crate) fn damage(&self, slots: &Slots, slot: Slot, bytes: &[u8]) {
        let mut state = self.state();
        let entry = state.of(slots, slot).expect("in the pool");
        state.used = state.used + bytes.len() - state.entries[entry as usize].bytes.len();
        state.entries[entry as usize].bytes = bytes.into();
    }
}

impl State {
    /// The slot's entry.
    fn of(&self, slots: &Slots, slot: Slot) -> Option<u32> {
        match slots.get(slot) {
            Held::Pool(EntryId(entry)) => Some(entry),
            _ => None,
        }
    }

    fn cost(&self, entry: u32) -> usize {
        self.entries[entry as usize].bytes.len() + ENTRY_COST
    }

    /// A new entry, the newest. `None` when there is no memory for the list.
    fn add(&mut self, slot: Slot, bytes: Box<[u8]>) -> Option<u32> {
        let entry = Entry {
            bytes,
            slot,
            busy: false,
            older: NONE,
            newer: NONE,
        };
        let at = match self.first_free {
            NONE => {
                self.entries.try_reserve(1).ok()?;
                self.entries.push(entry);
                // One a slot at most, and slots have numbers of 32 bits.
                u32::try_from(self.entries.len() - 1).ok()?
            }
            free => {
                self.first_free = self.entries[free as usize].newer;
                self.entries[free as usize] = entry;
                free
            }
        };
        self.used += self.cost(at);
        self.link(at);
        Some(at)
    }

    fn remove(&mut self, at: u32) {
        self.used -= self.cost(at);
        self.unlink(at);
        let entry = &mut self.entries[at as usize];
        entry.bytes = Box::default();
        entry.newer = self.first_free;
        self.first_free = at;
    }

    /// Makes the entry the newest.
    fn link(&mut self, at: u32) {
        let newest = std::mem::replace(&mut self.newest, at);
        let entry = &mut self.entries[at as usize];
        (entry.older, entry.newer) = (newest, NONE);
        match newest {
            NONE => self.oldest = at,
            newest => self.entries[newest as usize].newer = at,
        }
    }

    fn unlink(&mut self, at: u32) {
        let (older, newer) = {
            let entry = &self.entries[at as usize];
            (entry.older, entry.newer)
        };
        match older {
            NONE => self.oldest = newer,
            older => self.entries[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.entries[newer as usize].older = older,
        }
    }
}

/// An entry on its way to the file. Dropped, it stays, as the newest, so that the next one is tried before it.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    pool: &'a Pool,
    slots: &'a Slots,
    slot: Slot,
}

impl Leaving<'_> {
    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    /// The page is in the file.
    pub(crate) fn moved(self) {
        let mut state = self.pool.state();
        if let Some(entry) = state.of(self.slots, self.slot) {
            state.remove(entry);
            self.slots.set(self.slot, Held::File);
        }
        // What is dropped now finds no entry, and wakes whoever waits.
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        if let Some(entry) = state.of(self.slots, self.slot) {
            state.entries[entry as usize].busy = false;
            state.unlink(entry);
            state.link(entry);
        }
        self.pool.wake(state);
    }
}

/// Older copies, kept until the newer ones are in the file. Dropped, those that were not replaced stay.
#[derive(Debug)]
pub(crate) struct Kept<'a> {
    pool: &'a Pool,
    slots: &'a Slots,
    first: Slot,
    count: u32,
}

impl Kept<'_> {
    fn range(&self) -> impl Iterator<Item = Slot> + use<> {
        (self.first.0..self.first.0 + self.count).map(Slot)
    }

    /// The slot's newer page is in the file.
    pub(crate) fn replaced(&self, slot: Slot) {
        let mut state = self.pool.state();
        if let Some(entry) = state.of(self.slots, slot) {
            state.remove(entry);
        }
        self.slots.set(slot, Held::File);
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        for slot in self.range() {
            if let Some(entry) = state.of(self.slots, slot) {
                state.entries[entry as usize].busy = false;
            }
        }
        self.pool.wake(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rig(limit: usize) -> (Pool, Slots) {
        let slots = Slots::new(64).expect("memory");
        slots.reserve(Slot(0)).expect("memory");
        (Pool::new(limit), slots)
    }

    fn keep(pool: &Pool, slots: &Slots, slot: u32, len: usize) -> bool {
        let byte = u8::try_from(slot).expect("small");
        pool.keep(slots, Slot(slot), vec![byte; len].into()).is_ok()
    }

    /// The slots in the pool, oldest first.
    fn order(pool: &Pool) -> Vec<u32> {
        let state = pool.state();
        let (mut order, mut at, mut older) = (Vec::new(), state.oldest, NONE);
        while at != NONE {
            let entry = &state.entries[at as usize];
            assert_eq!(entry.older, older);
            order.push(entry.slot.0);
            (older, at) = (at, entry.newer);
        }
        assert_eq!(state.newest, older);
        order
    }

    #[test]
    fn the_oldest_leaves_first_and_stays_as_the_newest_if_it_cannot() {
        let (pool, slots) = rig(usize::MAX);
        assert!((0..4).all(|slot| keep(&pool, &slots, slot, 10)));
        pool.replace(&slots, Slot(1), Held::Nothing);
        assert!(keep(&pool, &slots, 0, 5), "a newer page is the newest");
        assert_eq!(order(&pool), [2, 3, 0]);
        drop(pool.leaving(&slots));
        assert_eq!(order(&pool), [3, 0, 2]);
        let first = pool.leaving(&slots).expect("another");
        assert_eq!(first.slot(), Slot(3));
        let second = pool.leaving(&slots).expect("another");
        assert_eq!(second.slot(), Slot(0), "the first is busy");
        second.moved();
        assert_eq!(slots.get(Slot(0)), Held::File);
        drop(first);
        assert_eq!(order(&pool), [2, 3]);
        assert_eq!(pool.used(), 2 * (10 + ENTRY_COST));
    }

    #[test]
    fn what_exceeds_the_limit_is_given_back_and_the_older_copy_stays() {
        let (pool, slots) = rig(2 * (100 + ENTRY_COST));
        assert!(keep(&pool, &slots, 1, 100) && keep(&pool, &slots, 2, 100));
        assert!(!keep(&pool, &slots, 3, 1));
        assert!(!keep(&pool, &slots, 2, 101));
        let mut page = [0; 200];
        assert_eq!(pool.read(&slots, Slot(2), &mut page), Some(100));
        assert!(page[..100].iter().all(|&byte| byte == 2));
        assert!(keep(&pool, &slots, 2, 100), "its own room counts");
        assert_eq!(pool.read(&slots, Slot(3), &mut page), None);
    }

    #[test]
    fn an_older_copy_is_there_until_it_is_replaced() {
        let (pool, slots) = rig(usize::MAX);
        assert!((0..3).all(|slot| keep(&pool, &slots, slot, 10)));
        let kept = pool.kept(&slots, Slot(0), 2);
        assert_eq!(
            pool.leaving(&slots).expect("another").slot(),
            Slot(2),
            "the others are busy"
        );
        kept.replaced(Slot(1));
        drop(kept);
        assert_eq!((slots.get(Slot(1)), order(&pool)), (Held::File, vec![0, 2]));
        assert!(pool.leaving(&slots).is_some_and(|leaving| leaving.slot() == Slot(0)));
    }

    /// Runs `change` while the entry of slot 1 is busy with `holder`, and answers what the slot says before and after that
    /// ends. The change waits in between, seen to do so.
    fn while_busy<H>(holder: impl FnOnce(&Pool, &Slots) -> H, change: impl FnOnce(&Pool, &Slots) + Send) -> (Held, Held)
    where
        H: FnOnce(&Pool, &Slots),
    {
        let (pool, slots) = rig(usize::MAX);
        assert!(keep(&pool, &slots, 1, 10));
        let end = holder(&pool, &slots);
        let before = std::thread::scope(|scope| {
            let changing = scope.spawn(|| change(&pool, &slots));
            while pool.state().waiting == 0 {
                assert!(!changing.is_finished(), "it did not wait");
                std::thread::yield_now();
            }
            let before = slots.get(Slot(1));
            end(&pool, &slots);
            before
        });
        assert!(
            order(&pool)
                .iter()
                .all(|slot| matches!(slots.get(Slot(*slot)), Held::Pool(_)))
        );
        (before, slots.get(Slot(1)))
    }

    #[test]
    fn who_changes_a_slot_that_is_written_to_the_file_waits() {
        let entry = Held::Pool(EntryId(0));
        // Guards borrow the pool, so each is made again from its parts when its time has come.
        let moves = |pool: &Pool, slots: &Slots| {
            std::mem::forget(pool.leaving(slots).expect("an entry"));
            |pool: &Pool, slots: &Slots| {
                Leaving {
                    pool,
                    slots,
                    slot: Slot(1),
                }
                .moved()
            }
        };
        let gives_up = |pool: &Pool, slots: &Slots| {
            std::mem::forget(pool.leaving(slots).expect("an entry"));
            |pool: &Pool, slots: &Slots| {
                drop(Leaving {
                    pool,
                    slots,
                    slot: Slot(1),
                })
            }
        };
        let replaces = |pool: &Pool, slots: &Slots| {
            std::mem::forget(pool.kept(slots, Slot(0), 3));
            |pool: &Pool, slots: &Slots| {
                let kept = Kept {
                    pool,
                    slots,
                    first: Slot(0),
                    count: 3,
                };
                kept.replaced(Slot(1));
            }
        };
        let free = |pool: &Pool, slots: &Slots| pool.replace(slots, Slot(1), Held::Nothing);
        assert_eq!(while_busy(moves, free), (entry, Held::Nothing));
        assert_eq!(while_busy(gives_up, free), (entry, Held::Nothing));
        assert_eq!(while_busy(replaces, free), (entry, Held::Nothing));
        let put = |pool: &Pool, slots: &Slots| assert!(keep(pool, slots, 1, 20));
        assert_eq!(
            while_busy(moves, put),
            (entry, entry),
            "the entry's number is used again"
        );
        let put_to_file = |pool: &Pool, slots: &Slots| pool.kept(slots, Slot(0), 2).replaced(Slot(1));
        assert_eq!(while_busy(gives_up, put_to_file), (entry, Held::File));
    }
}
