//! A page to copy into, kept over the restarts of a fault (N12).

use alloc::sync::Arc;

use super::{Fault, Need};
use crate::amap::Amap;
use crate::error::{Error, FaultError, Result};
use crate::machine::Reserve;
use crate::object::{ExclusiveBusy, Object, SharedBusy};
use crate::page::PageRef;
use crate::types::PageIndex;

/// A new page at the place where it is wanted. Nobody sees it before it is put to use; dropping it frees it, when no lock is held.
#[derive(Debug)]
pub(crate) struct Spare(Option<ExclusiveBusy<Arc<Object>>>);

impl Spare {
    fn new(object: &Arc<Object>, place: PageIndex) -> Result<Self> {
        let busy = ExclusiveBusy::insert_new(object.clone(), place, Reserve::Ordinary)?;
        Ok(Self(Some(busy)))
    }

    fn busy(&self) -> &ExclusiveBusy<Arc<Object>> {
        let Some(busy) = &self.0 else {
            unreachable!("only its end takes the page out of a spare")
        };
        busy
    }

    fn page(&self) -> PageRef {
        self.busy().page()
    }

    /// Moves it into the frame that the machine places for it.
    fn rehome(&self) -> Result<()> {
        self.busy().rehome()
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some(busy) = self.0.take() {
            busy.free();
        }
    }
}

impl Fault<'_> {
    /// The spare page, if it is at that place.
    pub(super) fn spare_at(&self, object: &Object, place: PageIndex) -> Option<PageRef> {
        let page = self.spare.as_ref()?.page();
        page.is(object.id(), place).then_some(page)
    }

    /// Lets the spare page go, if it is where the fault is about to wait: the contents of the place have come to swap since.
    pub(super) fn make_way_for(&mut self, need: &Need) {
        if let Need::Get(object, index, _) = need
            && self.spare_at(object, *index).is_some()
        {
            self.spare = None;
        }
    }

    /// The spare page, and the object it is in, if that is the one.
    pub(super) fn spare_in<'o>(&self, object: Option<&'o Arc<Object>>) -> Option<(&'o Arc<Object>, PageRef)> {
        let page = self.spare.as_ref()?.page();
        object
            .filter(|object| page.object() == Some(object.id()))
            .map(|object| (object, page))
    }

    /// The spare page has been filled, and is seen from now on; shared busied for whoever wants to keep it.
    pub(super) fn put_spare_to_use(&mut self) -> Option<SharedBusy<Arc<Object>>> {
        let busy = self.spare.take()?.0.take()?;
        Some(busy.downgrade())
    }

    /// Gives a page the frame that the machine places for it: the spare page, which nobody else may have, or another one.
    pub(super) fn rehome(&mut self, object: &Arc<Object>, index: PageIndex) -> Result<()> {
        match self.spare.as_ref().filter(|spare| spare.page().is(object.id(), index)) {
            Some(spare) => spare.rehome(),
            None => object.rehome(index),
        }
    }

    /// As [`Fault::get_spare`], without waiting.
    ///
    /// # Errors
    /// [`Error::InUse`] where there is a page already; [`Error::NoMemory`].
    pub(super) fn try_spare(&mut self, object: &Arc<Object>, place: PageIndex) -> Result<()> {
        self.spare = None;
        self.spare = Some(Spare::new(object, place)?);
        Ok(())
    }

    /// Gets a page at that place. Somebody who has one there is waited for.
    pub(super) fn get_spare(&mut self, object: &Arc<Object>, place: PageIndex) -> Result<(), FaultError> {
        match self.try_spare(object, place) {
            Ok(()) => Ok(()),
            Err(Error::InUse(_)) => match object.lookup(place) {
                Some(page) => self.wait_for(Need::Page(page, object.id(), place)),
                None => Ok(()),
            },
            Err(_) => self.wait_for_memory(),
        }
    }

    /// Gets a page in the attic.
    pub(super) fn get_spare_in_attic(&mut self, amap: &Amap) -> Result<(), FaultError> {
        match amap.attic_place() {
            Ok((attic, place)) => self.get_spare(&attic, place),
            Err(_) => self.wait_for_memory(),
        }
    }
}
