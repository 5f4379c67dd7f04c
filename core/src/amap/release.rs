//! Giving up what nobody shows any more.
//!
//! Slots are taken out under the lock, and what they alone referred to is forgotten when no lock is held. A place counts as used until
//! then: so its store outlives it, and nobody else comes to have it.

use alloc::sync::Arc;
use core::num::NonZeroU32;
use core::ops::Range;

use super::family::{Amap, Family, Held, Look, State};
use crate::few::Few;
use crate::object::{ExclusiveBusy, Object, ObjectRef};
use crate::types::PageIndex;

/// Anons that are taken out under one hold of the lock.
const AT_ONCE: usize = 64;

/// A page that is to be freed.
#[derive(Debug)]
pub(crate) enum ToFree {
    /// This one, of that slot.
    Page(PageIndex, ExclusiveBusy<Arc<Object>>),
    /// That slot's, at this place of its store, once whoever has it busied lets go of it.
    Busy(PageIndex, Arc<Object>, PageIndex),
}

/// An anon that nothing refers to. Dropping it forgets its page; no lock may be held then.
#[derive(Debug)]
pub(crate) struct Left {
    amap: Arc<Amap>,
    held: Option<Held>,
}

impl Left {
    pub(super) fn new(amap: &Arc<Amap>, held: Held) -> Self {
        Self {
            amap: amap.clone(),
            held: Some(held),
        }
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let held = self.held.take();
        self.amap.family().forget(held.into_iter().collect());
    }
}

impl Look<'_> {
    /// Of what the anons in `slots` hold that nothing else refers to: gives up what is in swap, up to the first page in memory, which is
    /// the answer. What lies below shows afterwards, until they are written again. Memory that several entries share is left alone.
    pub(crate) fn free_next(&self, slots: &Range<PageIndex>) -> Option<ToFree> {
        let mut from = slots.start;
        while let Some(slot) = self.next(from).filter(|slot| *slot < slots.end && !self.is_shared()) {
            from = PageIndex(slot.0 + 1);
            let Some(anon) = self.anon(slot).filter(|anon| !anon.is_shared) else {
                continue;
            };
            let state = anon.store.lock();
            match state.pages.get(anon.place) {
                None => anon.store.release_slot(anon.place),
                Some(_) => {
                    let busy = ExclusiveBusy::try_resident(anon.store.clone(), &state, anon.place);
                    return Some(match busy {
                        Some(busy) => ToFree::Page(slot, busy),
                        None => ToFree::Busy(slot, anon.store.clone(), anon.place),
                    });
                }
            }
        }
        None
    }
}

impl Amap {
    /// One entry less shows `slots`. What nobody shows any more is given up. May block for busy pages; no lock may be held.
    pub(crate) fn uncover(&self, slots: &Range<PageIndex>) {
        let range = slots.start.0..slots.end.0;
        {
            let mut state = self.family().write();
            let data = state.data(self.number());
            if data.coverage.remove(range.clone()).is_err() {
                // Without memory for that it is kept until the amap goes.
                return;
            }
            data.releasing += 1;
        }
        self.give_up(range.clone(), |state, amap, from| {
            state.amaps.get(amap).coverage.bare(from..range.end)
        });
        self.family().write().data(self.number()).releasing -= 1;
    }

    /// Gives up what is in the slots that `next` names, each time from where the last ones ended.
    fn give_up(&self, range: Range<u64>, next: impl Fn(&State, NonZeroU32, u64) -> Option<Range<u64>>) {
        let mut from = range.start;
        loop {
            let taken = {
                let mut state = self.family().write();
                let Some(slots) = next(&state, self.number(), from) else {
                    return;
                };
                let (taken, upto) = state.take_slots(self.number(), slots);
                from = upto;
                taken
            };
            self.family().forget(taken);
            if from >= range.end {
                return;
            }
        }
    }
}

impl State {
    /// Takes anons out of the first of `slots`, and tells those that nothing refers to any more, and where it stopped.
    fn take_slots(&mut self, amap: NonZeroU32, slots: Range<u64>) -> (Few<Held, AT_ONCE>, u64) {
        let mut last = Few::new();
        for _ in 0..AT_ONCE {
            let next = self.amaps.get(amap).slots.next(slots.start);
            let Some((slot, anon)) = next.filter(|(slot, _)| *slot < slots.end) else {
                return (last, slots.end);
            };
            let at_home = self.anons.get(anon).store == self.amaps.get(amap).store;
            let data = self.data(amap);
            data.slots.take(slot);
            data.at_home -= u64::from(at_home);
            if let Some(held) = self.unrefer(anon) {
                last.push(held);
            }
        }
        (last, slots.start)
    }
}

impl Family {
    /// Forgets the pages of anons that nothing refers to, in runs, and then their use of their stores. No lock may be held.
    fn forget(&self, anons: Few<Held, AT_ONCE>) {
        let mut rest = &*anons;
        while let Some(first) = rest.first() {
            let along = rest.windows(2).take_while(|pair| pair[0].goes_on_in(&pair[1])).count() + 1;
            let last = &rest[along - 1];
            let object = self.store(first.store);
            object.forget_places(first.place..PageIndex(last.place.0 + 1));
            let ended = self.write().uses_end(first.store, along as u64);
            let_go(ended);
            rest = &rest[along..];
        }
    }

    fn store(&self, store: NonZeroU32) -> Arc<Object> {
        self.read().stores.get(store).object.object().clone()
    }
}

impl Held {
    fn goes_on_in(&self, next: &Self) -> bool {
        self.store == next.store && self.place.0 + 1 == next.place.0
    }
}

impl Drop for Amap {
    fn drop(&mut self) {
        self.give_up(0..u64::MAX, |_, _, from| Some(from..u64::MAX));
        let ended = {
            let mut state = self.family().write();
            let store = state.amaps.remove(self.number()).store;
            state.uses_end(store, 1)
        };
        let_go(ended);
    }
}

/// The store was nobody's any more: what it held ends with it, and its pager has nothing to say.
fn let_go(store: Option<ObjectRef>) {
    if let Some(store) = store {
        let _ = store.release();
    }
}
