//! The amaps that share anons, and everything about them that one lock guards.

use alloc::sync::Arc;
use core::num::NonZeroU32;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use super::coverage::Coverage;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::object::{Object, ObjectRef};
use crate::radix::Radix;
use crate::slab::Slab;
use crate::swap::Contents;
use crate::sync::{AmapLock, AmapReadGuard, AmapWriteGuard};
use crate::types::{MAX_OBJECT_SIZE, PageIndex};

/// An amap: its number in its family. Dropping it gives up what is left in it; no lock may be held then.
#[derive(Debug)]
pub(crate) struct Amap {
    family: Arc<Family>,
    number: NonZeroU32,
}

/// Amaps under one lock. See [the module](super).
#[derive(Debug)]
pub(super) struct Family {
    engine: Arc<Engine>,
    state: AmapLock<State>,
    /// The next place of the attic.
    attic_next: AtomicU64,
}

/// What the lock guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) amaps: Slab<Data>,
    pub(super) anons: Slab<Held>,
    pub(super) stores: Slab<Store>,
    attic: Option<NonZeroU32>,
}

/// What there is of one amap.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) store: NonZeroU32,
    pub(super) slots: Radix<NonZeroU32>,
    pub(super) coverage: Coverage,
    /// Slots whose anon is at home.
    pub(super) at_home: u64,
    /// Somebody is about to give up slots that nobody shows.
    pub(super) releasing: u32,
    /// What one entry writes another one sees, on purpose.
    pub(super) is_shared: bool,
}

/// An anon. So many slots refer to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) place: PageIndex,
    pub(super) store: NonZeroU32,
    pub(super) refs: NonZeroU32,
}

/// An object with pages of anons. It is used by each of them, until its page has been given up, and by the amap whose home it is.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) object: ObjectRef,
    pub(super) uses: u64,
}

/// An anon as it was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anon<'a> {
    /// Where its page is, if it is in memory.
    pub(crate) store: &'a Arc<Object>,
    pub(crate) place: PageIndex,
    /// Other slots refer to it as well.
    pub(crate) is_shared: bool,
    /// It is where a layout of the amap's store shows it.
    pub(crate) at_home: bool,
}

impl Anon<'_> {
    /// Whether nothing refers to it any more when its slot gets an anon at home.
    pub(crate) fn goes_when_replaced(&self) -> bool {
        !self.at_home && !self.is_shared
    }

    /// Whether it has contents: without any, what lies below shows.
    pub(crate) fn was_written(&self) -> bool {
        self.store.lookup(self.place).is_some() || self.store.has_slot(self.place)
    }
}

/// An amap that stays as it is.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    state: AmapReadGuard<'a, State>,
    number: NonZeroU32,
}

impl State {
    pub(super) fn data(&mut self, amap: NonZeroU32) -> &mut Data {
        self.amaps.get_mut(amap)
    }

    #[inline]
    pub(super) fn anon_at(&self, amap: NonZeroU32, slot: PageIndex) -> Option<Anon<'_>> {
        let data = self.amaps.get(amap);
        let held = self.anons.get(data.slots.get(slot.0)?);
        Some(Anon {
            store: self.stores.get(held.store).object.object(),
            place: held.place,
            is_shared: held.refs.get() > 1,
            at_home: held.store == data.store,
        })
    }

    /// A new anon with one slot to refer to it.
    pub(super) fn new_anon(&mut self, store: NonZeroU32, place: PageIndex) -> Result<NonZeroU32> {
        let refs = NonZeroU32::MIN;
        let anon = self.anons.insert(Held { place, store, refs })?;
        self.stores.get_mut(store).uses += 1;
        Ok(anon)
    }

    /// Some of a store's uses have ended. Its last one hands out the store, for the caller to let go of when no lock is held.
    pub(super) fn uses_end(&mut self, store: NonZeroU32, uses: u64) -> Option<ObjectRef> {
        let held = self.stores.get_mut(store);
        held.uses -= uses;
        (held.uses == 0).then(|| self.stores.remove(store).object)
    }

    pub(super) fn attic(&self) -> Option<NonZeroU32> {
        self.attic
    }
}

impl Family {
    pub(super) fn read(&self) -> AmapReadGuard<'_, State> {
        self.state.read()
    }

    pub(super) fn write(&self) -> AmapWriteGuard<'_, State> {
        self.state.write()
    }

    fn new_store(&self) -> Result<ObjectRef> {
        self.engine.new_anonymous(MAX_OBJECT_SIZE, Contents::Nothing)
    }
}

impl Amap {
    /// An amap with a family of its own, of which nobody shows anything yet. No lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn alone(engine: &Arc<Engine>) -> Result<Arc<Self>> {
        let state = State {
            amaps: Slab::new(),
            anons: Slab::new(),
            stores: Slab::new(),
            attic: None,
        };
        Self::in_family(Arc::new(Family {
            engine: engine.clone(),
            state: AmapLock::new(state),
            attic_next: AtomicU64::new(0),
        }))
    }

    /// The same, in this one's family. No lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn beside(&self) -> Result<Arc<Self>> {
        Self::in_family(self.family.clone())
    }

    fn in_family(family: Arc<Family>) -> Result<Arc<Self>> {
        let object = family.new_store()?;
        let number = {
            let mut state = family.write();
            let reserved = state.amaps.reserve().and_then(|()| state.stores.reserve());
            if let Err(error) = reserved {
                drop(state);
                drop(object);
                return Err(error);
            }
            let store = state.stores.insert(Store { object, uses: 1 })?;
            state.amaps.insert(Data {
                store,
                slots: Radix::default(),
                coverage: Coverage::default(),
                at_home: 0,
                releasing: 0,
                is_shared: false,
            })?
        };
        Ok(Arc::new(Self { family, number }))
    }

    pub(super) fn family(&self) -> &Family {
        &self.family
    }

    pub(super) fn number(&self) -> NonZeroU32 {
        self.number
    }

    /// Keeps it as it is.
    #[inline]
    pub(crate) fn look(&self) -> Look<'_> {
        Look {
            state: self.family.read(),
            number: self.number,
        }
    }

    /// Its store: who shows it by a layout shows slot `n` as page `n`.
    pub(crate) fn store(&self) -> Arc<Object> {
        let state = self.family.read();
        let store = state.amaps.get(self.number).store;
        state.stores.get(store).object.object().clone()
    }

    /// A place in the attic for an anon that has to leave its home. No lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn attic_place(&self) -> Result<(Arc<Object>, PageIndex)> {
        let family = &*self.family;
        let there = |state: &State| state.attic.map(|attic| state.stores.get(attic).object.object().clone());
        let mut attic = there(&family.read());
        if attic.is_none() {
            let object = family.new_store()?;
            let mut state = family.write();
            if state.attic.is_some() || state.stores.reserve().is_err() {
                attic = there(&state);
                drop(state);
                drop(object);
            } else {
                state.attic = Some(state.stores.insert(Store { object, uses: 1 })?);
                attic = there(&state);
            }
        }
        let place = PageIndex(family.attic_next.fetch_add(1, Ordering::Relaxed));
        attic.map(|attic| (attic, place)).ok_or(Error::NoMemory)
    }

    /// Whether every slot of `slots` is shown by one entry only.
    pub(crate) fn is_sole(&self, slots: &Range<PageIndex>) -> bool {
        let state = self.family.read();
        state
            .amaps
            .get(self.number)
            .coverage
            .is_sole(slots.start.0..slots.end.0)
    }

    /// One entry more shows `slots`.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn cover(&self, slots: &Range<PageIndex>) -> Result<()> {
        let mut state = self.family.write();
        state.data(self.number).coverage.add(slots.start.0..slots.end.0)
    }

    /// As [`Amap::cover`], for slots behind or before those of an entry that writes to it: false when they are not free to have.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn extend(&self, slots: &Range<PageIndex>) -> Result<bool> {
        let mut state = self.family.write();
        let data = state.amaps.get(self.number);
        let range = slots.start.0..slots.end.0;
        let strangers = state.stores.get(data.store).uses - 1 - data.at_home;
        if data.is_shared || data.releasing > 0 || strangers > 0 || !data.coverage.is_bare(range.clone()) {
            return Ok(false);
        }
        state.data(self.number).coverage.add(range)?;
        Ok(true)
    }

    /// From here on several entries show it as one memory.
    pub(crate) fn share(&self) {
        self.family.write().data(self.number).is_shared = true;
    }

    /// Whether what one entry writes to it another one sees.
    pub(crate) fn is_shared(&self) -> bool {
        self.family.read().amaps.get(self.number).is_shared
    }
}

impl<'a> Look<'a> {
    /// The anon of a slot.
    #[inline]
    pub(crate) fn anon(&self, slot: PageIndex) -> Option<Anon<'_>> {
        self.state.anon_at(self.number, slot)
    }

    /// The first slot at or behind `slot` that has an anon.
    pub(crate) fn next(&self, slot: PageIndex) -> Option<PageIndex> {
        let next = self.state.amaps.get(self.number).slots.next(slot.0);
        next.map(|(slot, _)| PageIndex(slot))
    }

    /// Whether what one entry writes to it another one sees.
    pub(super) fn is_shared(&self) -> bool {
        self.state.amaps.get(self.number).is_shared
    }

    /// Its store.
    pub(crate) fn store(&self) -> &Arc<Object> {
        let store = self.state.amaps.get(self.number).store;
        self.state.stores.get(store).object.object()
    }
}
