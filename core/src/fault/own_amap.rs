//! An amap that an entry may change: a new one, a copy of one that others show, or the one it has when nobody else shows it any more.

use alloc::sync::Arc;
use core::ops::Range;

use super::{Fault, Goal};
use crate::amap::Amap;
use crate::error::{FaultError, Result};
use crate::map::Map;
use crate::map_ops::Entries;
use crate::shown::{Private, Shown, Upper, is_same};
use crate::stats::Counter;
use crate::types::{Access, AddrRange, PAGE_SIZE, PageIndex, VirtAddr};

impl Fault<'_> {
    /// Gets the entry at `va` an amap that it may change.
    pub(super) fn get_amap(&mut self, va: VirtAddr) -> Result<(), FaultError> {
        match self.map.own_amap(va) {
            Ok(()) => Ok(()),
            Err(_) => self.wait_for_tables(),
        }
    }
}

impl Map {
    /// Sees to it that the entry at `va`, if it has memory of its own, has an amap that it may change. What is made for that is made before
    /// the map is locked; if the entry is another one by then, it is left to whoever asks next. May block; no lock may be held.
    ///
    /// # Errors
    /// [`NoMemory`](crate::error::Error::NoMemory); nothing was changed.
    pub(crate) fn own_amap(&self, va: VirtAddr) -> Result<()> {
        let Some(seen) = Wanting::at(&self.read(), va) else {
            return Ok(());
        };
        let fresh = match &seen.amap {
            Some(old) if old.is_sole(&seen.slots) => None,
            Some(old) => Some(old.beside()?),
            None => Some(Amap::alone(self.engine())?),
        };
        let mut entries = self.write();
        if Wanting::at(&entries, va).is_none_or(|now| !now.is(&seen)) {
            return Ok(());
        }
        let shown = seen.get(fresh.as_ref()).map(|private| {
            let entry = entries.lookup(va)?;
            let (range, below) = (entry.range, entry.backing.below.clone());
            let upper = Upper::Private(private?);
            entries.show(range, Shown { below, upper })
        });
        self.changed(entries);
        let Some(mut shown) = shown? else {
            return Ok(());
        };
        if fresh.is_none() {
            // Its amap is still what the entry shows.
            shown.upper = Upper::Shared;
        }
        if shown.amap().is_some() {
            self.engine().stats().count(Counter::AmapCopies);
        }
        // The entry goes on using the object. If somebody has unmapped it since, what could not be written stands on the engine's list.
        let _ = shown.release(&seen.slots);
        Ok(())
    }
}

impl Map {
    /// Has every anon in `range` be nobody else's, whatever the protection allows. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Fault`](crate::error::Error::Fault) for the first page that could not be copied.
    pub(crate) fn own(&self, range: AddrRange) -> Result<()> {
        let mut va = range.start;
        while va < range.end {
            if self.has_anon(va) {
                let mut fault = Fault::new(self, va, Access::Read, Goal::Hold);
                fault.own = true;
                fault.run()?;
            }
            va.0 += PAGE_SIZE;
        }
        Ok(())
    }

    fn has_anon(&self, va: VirtAddr) -> bool {
        let entries = self.read();
        let Some(entry) = entries.lookup(va) else { return false };
        let (Some(amap), Some(offset)) = (entry.backing.amap(), entry.offset_of(va)) else {
            return false;
        };
        amap.look().anon(offset.page()).is_some_and(|anon| anon.was_written())
    }
}

/// What an entry shows that has no amap which it may change.
#[derive(Debug)]
struct Wanting {
    amap: Option<Arc<Amap>>,
    slots: Range<PageIndex>,
}

impl Wanting {
    fn at(entries: &Entries<Shown>, va: VirtAddr) -> Option<Self> {
        let entry = entries.lookup(va)?;
        let private = entry.backing.as_private()?;
        (private.amap.is_none() || private.needs_copy).then(|| Self {
            amap: private.amap.clone(),
            slots: entry.places(),
        })
    }

    fn is(&self, other: &Self) -> bool {
        is_same(self.amap.as_ref(), other.amap.as_ref()) && self.slots == other.slots
    }

    /// What it shows from now on: the fresh amap, with what the old one has, or the old one. Nothing if it has to be looked again.
    fn get(&self, fresh: Option<&Arc<Amap>>) -> Result<Option<Private>> {
        let amap = match (&self.amap, fresh) {
            (Some(old), Some(fresh)) => fresh.copy_from(old, &self.slots).map(|()| fresh)?,
            (None, Some(fresh)) => fresh.cover(&self.slots).map(|()| fresh)?,
            (Some(old), None) if old.is_sole(&self.slots) => old,
            (_, None) => return Ok(None),
        };
        Ok(Some(Private {
            amap: Some(amap.clone()),
            needs_copy: false,
        }))
    }
}
