//! Giving a page the frame that the machine wants it to have.

use alloc::sync::Arc;
use core::borrow::Borrow;

use super::{ExclusiveBusy, Object};
use crate::error::{Error, Result};
use crate::machine::Placement;
use crate::types::{PageIndex, Prot};

impl Object {
    /// Removes every mapping of page `index` and moves its bytes into the frame that the machine places for it. A page that is
    /// gone meanwhile is no error. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; the page keeps its frame and its bytes.
    pub(crate) fn rehome(self: &Arc<Self>, index: PageIndex) -> Result<()> {
        let Some(busy) = Self::busy_resident(&&**self, index) else {
            return Ok(());
        };
        busy.rehome()
    }
}

impl<O: Borrow<Object>> ExclusiveBusy<O> {
    /// As [`Object::rehome`], for the page in hand.
    ///
    /// # Errors
    /// As [`Object::rehome`].
    pub(crate) fn rehome(&self) -> Result<()> {
        let (page, object) = (self.page(), self.object());
        let machine = object.engine.machine();
        machine.page_protect(&[page], Prot::empty());
        if page.is_device() {
            // It shows the device wherever it is.
            return Ok(());
        }
        let place = Placement {
            owner: object.id,
            index: page.index(),
        };
        let frame = machine.rehome(page, place).map_err(|_| Error::NoMemory)?;
        page.set_frame(frame);
        Ok(())
    }
}
