//! Bringing pages in ahead of time, in runs, and mapping nothing.

use alloc::sync::Arc;

use super::{Fault, Goal, Need};
use crate::error::FaultError;
use crate::map::Map;
use crate::object::Object;
use crate::pager::PagerOps;
use crate::types::{Access, PageIndex, VirtAddr};

impl Map {
    /// Brings in the page at `va`, which is `index` of `object`, and up to `along` pages behind it if the pager offers them. May
    /// block; no lock may be held.
    ///
    /// # Errors
    /// As [`Map::fault`].
    pub(crate) fn bring_in(
        &self,
        va: VirtAddr,
        object: &Arc<Object>,
        index: PageIndex,
        along: u32,
    ) -> Result<(), FaultError> {
        if !object.ops().contains(PagerOps::POPULATE) {
            Fault::new(self, va, Access::Read, Goal::Hold).wait_for(Need::Get(object.clone(), index, along))?;
            if object.lookup(index).is_some() {
                return Ok(());
            }
        }
        // There was no memory, or the pager installs pages itself, or the object is no more: as any other fault does it.
        self.hold(va).map(drop)
    }
}
