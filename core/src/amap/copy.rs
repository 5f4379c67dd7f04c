//! Copying an amap: both refer to the same anons afterwards.

use core::num::NonZeroU32;

use super::family::{Amap, State};
use crate::error::{Error, Result};
use crate::types::PageIndex;
use core::ops::Range;

impl Amap {
    /// This one, which nobody shows yet, refers to everything that `other`, of the same family, has in `slots`, and one entry shows
    /// it there.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; nothing was changed.
    pub(crate) fn copy_from(&self, other: &Self, slots: &Range<PageIndex>) -> Result<()> {
        let mut state = self.family().write();
        let range = slots.start.0..slots.end.0;
        state.data(self.number()).coverage.add(range.clone())?;
        let copied = state.refer_to(self.number(), other.number(), range.clone());
        copied.inspect_err(|_| {
            // What is left behind if even this fails goes with the amap.
            let _ = state.data(self.number()).coverage.remove(range);
        })
    }
}

impl State {
    fn refer_to(&mut self, to: NonZeroU32, from: NonZeroU32, slots: Range<u64>) -> Result<()> {
        let mut at = slots.start;
        while let Some((slot, anon)) = self
            .amaps
            .get(from)
            .slots
            .next(at)
            .filter(|(slot, _)| *slot < slots.end)
        {
            let refs = self.anons.get(anon).refs.checked_add(1);
            let set = refs.ok_or(Error::NoMemory).and_then(|refs| {
                self.data(to).slots.set(slot, anon)?;
                self.anons.get_mut(anon).refs = refs;
                Ok(())
            });
            if let Err(error) = set {
                self.unrefer_to(to, slots.start..slot);
                return Err(error);
            }
            at = slot + 1;
        }
        Ok(())
    }

    fn unrefer_to(&mut self, amap: NonZeroU32, slots: Range<u64>) {
        while let Some((slot, anon)) = self.amaps.get(amap).slots.next(slots.start)
            && slot < slots.end
        {
            self.data(amap).slots.take(slot);
            let last = self.unrefer(anon);
            debug_assert!(last.is_none(), "the amap that was copied refers to it");
        }
    }
}
