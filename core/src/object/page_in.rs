//! Bringing a missing page in.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{ExclusiveBusy, Object, Refusal, Transfer};
use crate::alloc_fallible::try_reserve;
use crate::error::{Error, Result};
use crate::io::Direction;
use crate::machine::Reserve;
use crate::types::PageIndex;

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageIn {
    /// The pager filled it.
    Filled,
    /// Somebody else has it in hand, or had it filled meanwhile, or the object is being closed: look again.
    LookAgain,
}

impl Object {
    /// Fills page `index`, which was not in memory a moment ago. Of several callers one asks the pager, and the others are
    /// told to look again and find the page busy (S111). May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`], or the pager's answer; the page is not in memory then (S107).
    pub(crate) fn page_in(self: &Arc<Self>, index: PageIndex) -> Result<PageIn> {
        let paging = match self.begin_paging() {
            Ok(paging) => paging,
            Err(Refusal::Closed) => return Ok(PageIn::LookAgain),
            Err(Refusal::Quarantined(error)) => return Err(error.into()),
        };
        let page = match ExclusiveBusy::insert_new(self.clone(), index, Reserve::Ordinary) {
            Ok(page) => page,
            Err(Error::InUse(_)) => return Ok(PageIn::LookAgain),
            Err(error) => return Err(error),
        };
        let mut pages = Vec::new();
        try_reserve(&mut pages, 1)?;
        pages.push(page);
        Transfer::new(paging, Direction::Get, pages, 0, false)?.run()?;
        Ok(PageIn::Filled)
    }
}
