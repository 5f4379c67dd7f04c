//! What a fault changes in an amap: it puts an anon of the amap's own into a slot.

use alloc::sync::Arc;
use core::num::NonZeroU32;

use super::family::{Amap, Anon, Held, State};
use super::release::Left;
use crate::error::Result;
use crate::object::Object;
use crate::sync::AmapWriteGuard;
use crate::types::PageIndex;

/// An amap that nobody else sees until this is dropped.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    amap: &'a Arc<Amap>,
    state: AmapWriteGuard<'a, State>,
}

/// Where the anon that was in the slot has its page from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Old {
    /// Where it had it, or there was none.
    Stays,
    /// At this place of the attic; the slot's own anon takes its page.
    Moves(PageIndex),
}

/// A slot that has got an anon of its own. To be undone or ended before the amap is let go of.
#[must_use]
#[derive(Debug)]
pub(crate) struct Replaced {
    slot: PageIndex,
    new: NonZeroU32,
    old: Option<NonZeroU32>,
    /// Where the old one was before it moved.
    moved_from: Option<PageIndex>,
}

impl Amap {
    /// Keeps everybody else out.
    pub(crate) fn change(self: &Arc<Self>) -> Change<'_> {
        Change {
            amap: self,
            state: self.family().write(),
        }
    }
}

impl Change<'_> {
    /// The anon of a slot.
    pub(crate) fn anon(&self, slot: PageIndex) -> Option<Anon<'_>> {
        self.state.anon_at(self.amap.number(), slot)
    }

    /// The amap's store.
    pub(crate) fn store(&self) -> &Arc<Object> {
        let store = self.state.amaps.get(self.amap.number()).store;
        self.state.stores.get(store).object.object()
    }

    /// The attic of the family, if it has one.
    pub(crate) fn attic(&self) -> Option<&Arc<Object>> {
        let attic = self.state.attic()?;
        Some(self.state.stores.get(attic).object.object())
    }

    /// Whether what one entry writes to it another one sees.
    pub(crate) fn is_shared(&self) -> bool {
        self.state.amaps.get(self.amap.number()).is_shared
    }

    /// Puts a new anon, at home, into a slot.
    ///
    /// # Errors
    /// `NoMemory`; nothing was changed.
    pub(crate) fn replace(&mut self, slot: PageIndex, old_one: Old) -> Result<Replaced> {
        let amap = self.amap.number();
        let state = &mut *self.state;
        let store = state.data(amap).store;
        state.anons.reserve()?;
        let new = state.new_anon(store, slot)?;
        let old = match state.data(amap).slots.set(slot.0, new) {
            Ok(old) => old,
            Err(error) => {
                state.take_new_anon(new);
                return Err(error);
            }
        };
        let mut moved_from = None;
        let was_at_home = old.is_some_and(|old| state.anons.get(old).store == store);
        if let (Some(old), Old::Moves(place), Some(attic)) = (old, old_one, state.attic()) {
            moved_from = Some(state.move_anon(old, attic, place));
        }
        state.data(amap).at_home += u64::from(!was_at_home);
        Ok(Replaced {
            slot,
            new,
            old,
            moved_from,
        })
    }

    /// Everything is as it was before the slot got the anon.
    pub(crate) fn undo(&mut self, replaced: Replaced) {
        let amap = self.amap.number();
        let state = &mut *self.state;
        let store = state.data(amap).store;
        if let (Some(old), Some(place)) = (replaced.old, replaced.moved_from) {
            state.move_anon(old, store, place);
        }
        state.take_new_anon(replaced.new);
        let was_at_home = replaced.old.is_some_and(|old| state.anons.get(old).store == store);
        let data = state.data(amap);
        data.at_home -= u64::from(!was_at_home);
        match replaced.old {
            Some(old) => {
                let set = data.slots.set(replaced.slot.0, old);
                debug_assert!(set.is_ok(), "a slot that has a number can be given another");
            }
            None => _ = data.slots.take(replaced.slot.0),
        }
    }

    /// The slot keeps it. What has nobody to refer to it any more is to be forgotten when no lock is held.
    pub(crate) fn end(&mut self, replaced: Replaced) -> Option<Left> {
        let left = self.state.unrefer(replaced.old?)?;
        Some(Left::new(self.amap, left))
    }
}

impl State {
    /// An anon that nothing refers to yet goes again.
    fn take_new_anon(&mut self, anon: NonZeroU32) {
        let held = self.anons.remove(anon);
        let last = self.uses_end(held.store, 1);
        debug_assert!(last.is_none(), "the amap uses its store");
    }

    /// Gives an anon another place. Returns the place it had.
    fn move_anon(&mut self, anon: NonZeroU32, store: NonZeroU32, place: PageIndex) -> PageIndex {
        let held = self.anons.get_mut(anon);
        let from = core::mem::replace(&mut held.store, store);
        let place = core::mem::replace(&mut held.place, place);
        self.stores.get_mut(store).uses += 1;
        let last = self.uses_end(from, 1);
        debug_assert!(last.is_none(), "an amap or the family uses the store");
        place
    }

    /// One slot less refers to an anon. The last one hands it out; its place counts as used until it has been forgotten.
    pub(super) fn unrefer(&mut self, anon: NonZeroU32) -> Option<Held> {
        let held = self.anons.get_mut(anon);
        match NonZeroU32::new(held.refs.get() - 1) {
            Some(refs) => {
                held.refs = refs;
                None
            }
            None => Some(self.anons.remove(anon)),
        }
    }
}
