//! Requests to install pages around a faulting index.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::{ptr, slice};

use quire_abi::{
    Populate, QUIRE_ACCESS_EXEC, QUIRE_ACCESS_READ, QUIRE_ACCESS_WRITE, QUIRE_PAGER_AGAIN, QUIRE_PAGER_BAD,
    QUIRE_PAGER_OK, QUIRE_PAGER_UNSUPPORTED,
};

use crate::border;
use crate::error::{Error, Result};
use crate::run::Origin;

/// A set of kinds of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(u32);

impl Access {
    pub(crate) fn of(bits: u32) -> Self {
        Self(bits)
    }

    /// The set as the ABI has it: `QUIRE_ACCESS_…`.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether reading is in the set.
    pub fn read(self) -> bool {
        self.0 & QUIRE_ACCESS_READ != 0
    }

    /// Whether writing is in the set.
    pub fn write(self) -> bool {
        self.0 & QUIRE_ACCESS_WRITE != 0
    }

    /// Whether instruction fetches are in the set.
    pub fn exec(self) -> bool {
        self.0 & QUIRE_ACCESS_EXEC != 0
    }
}

/// What a populate did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Populated {
    /// Every page of this range was installed and made ready; it contains the faulting index.
    Pages(RangeInclusive<u64>),
    /// Nothing was installed: the host is to use `get`.
    UseGet,
    /// The fault is to start over, for instance because somebody else has the faulting page.
    Refault,
    /// What other code that speaks the ABI answered, to whom the request was handed on ([`PopulateRun::hand_on`]).
    Answered(i32),
}

/// A request to install pages around [`PopulateRun::index`], inside [`PopulateRun::window`].
pub struct PopulateRun<'a> {
    request: Populate,
    // The host's own struct, lent for `'a`.
    place: *mut Populate,
    origin: &'a Arc<Origin>,
}

impl fmt::Debug for PopulateRun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PopulateRun").field("request", &self.request).finish()
    }
}

impl<'a> PopulateRun<'a> {
    /// Copies the host's request, after checking it.
    ///
    /// # Safety
    /// `request` is NULL, or a request as the ABI describes it, under way for `'a`.
    pub(crate) unsafe fn adopt(place: *mut Populate, origin: &'a Arc<Origin>) -> Result<Self> {
        // SAFETY: the caller's promise.
        let request = unsafe { border::read(place) }?;
        border::check_flags("populate", request.flags, 0)?;
        let inside = request.first <= request.index && request.index <= request.last;
        if !inside || !request.page_size.is_power_of_two() {
            return Err(Error::invalid("the request's index, window and page size do not fit"));
        }
        Ok(Self { request, place, origin })
    }

    /// The faulting page index.
    pub fn index(&self) -> u64 {
        self.request.index
    }

    /// The indices that the faulting entry maps; there is no use in going beyond them.
    pub fn window(&self) -> RangeInclusive<u64> {
        self.request.first..=self.request.last
    }

    /// The access that faulted.
    pub fn access(&self) -> Access {
        Access(self.request.access)
    }

    /// The most that the mapping may ever be allowed. There may be no second call when a write follows a read: prepare
    /// pages for all of it.
    pub fn max_protection(&self) -> Access {
        Access(self.request.max_prot)
    }

    /// Bytes in a page; a power of two.
    pub fn page_size(&self) -> usize {
        self.request.page_size as usize
    }

    /// Takes a new page of the object at `index` and lends its bytes, to be filled whole before [`PopulateRun::ready`].
    /// `None`: the object has that page, or somebody is at it: [`PopulateRun::take`] it, or leave it out. A page that is not made ready is
    /// freed when populate ends.
    pub fn insert(&mut self, index: u64) -> Result<Option<&mut [u8]>> {
        let mut pages = self.insert_run(index, 1)?;
        Ok(pages.pop())
    }

    /// Takes new pages, up to `count` from `first` on, as [`PopulateRun::insert`] does; fewer when one in between cannot be
    /// had, and none when that is the first.
    pub fn insert_run(&mut self, first: u64, count: usize) -> Result<Vec<&mut [u8]>> {
        let mut bytes = vec![ptr::null_mut(); count];
        let (status, inserted) = self.origin.host.page_insert(self.request.token, first, &mut bytes);
        bytes.truncate(inserted);
        match status {
            QUIRE_PAGER_OK if bytes.is_empty() || bytes.contains(&ptr::null_mut()) => {
                Err(Error::new(format!("the host lent no bytes for page {first}")))
            }
            // SAFETY: the host lends `page_size` bytes of each of these pages, which nobody else can reach until `page_ready` or the
            // end of populate; the slices borrow `self`, which both of these need.
            QUIRE_PAGER_OK => Ok(bytes
                .into_iter()
                .map(|bytes| unsafe { slice::from_raw_parts_mut(bytes.cast(), self.request.page_size as usize) })
                .collect()),
            QUIRE_PAGER_AGAIN => Ok(Vec::new()),
            status => Err(Error::with_status(
                status,
                format!("the host did not insert page {first}"),
            )),
        }
    }

    /// The page inserted at `index` is filled.
    pub fn ready(&mut self, index: u64) -> Result<()> {
        self.ready_run(index, 1)
    }

    /// The `count` pages inserted from `first` on are filled.
    pub fn ready_run(&mut self, first: u64, count: u32) -> Result<()> {
        match self.origin.host.page_ready(self.request.token, first, count) {
            QUIRE_PAGER_OK => Ok(()),
            status => Err(Error::with_status(
                status,
                format!("the host did not take page {first}"),
            )),
        }
    }

    /// Busies pages that the object has in memory, up to `count` from `first` on, so that they can be part of the answer. Answers how
    /// many could be had without waiting.
    pub fn take(&mut self, first: u64, count: u32) -> Result<u32> {
        match self.origin.host.page_take(self.request.token, first, count) {
            (QUIRE_PAGER_OK, taken) => Ok(taken),
            (QUIRE_PAGER_AGAIN, _) => Ok(0),
            (status, _) => Err(Error::with_status(
                status,
                format!("the host did not let page {first} be taken"),
            )),
        }
    }

    /// Installs pages whose memory is the device's own, up to `count` from `first` on: they show the bytes of `aperture` from `offset` on,
    /// and are ready at once. Answers how many were installed; 0: the first is in memory already, or somebody is at it.
    pub fn insert_frames(&mut self, first: u64, count: u32, aperture: u64, offset: u64) -> Result<u32> {
        let token = self.request.token;
        match self.origin.host.frame_insert(token, first, count, aperture, offset) {
            (QUIRE_PAGER_OK, inserted) => Ok(inserted),
            (QUIRE_PAGER_AGAIN, _) => Ok(0),
            (QUIRE_PAGER_UNSUPPORTED, _) => Err(Error::unsupported(
                "this host cannot show a device's own memory (it has no frame_insert); use a newer one, or a managed device",
            )),
            (status, _) => Err(Error::with_status(
                status,
                format!("the host did not install page {first} from offset {offset:#x} of aperture {aperture}"),
            )),
        }
    }

    /// Fills pages of `range` around the faulting one, which is in it: those that the object has not, by `fill`, which is given the index of a
    /// page and its bytes, to be filled whole. Those that are in memory are taken, if that needs no waiting; the answer reaches from the
    /// faulting page up to the first on either side that cannot be had. The range may go beyond the object, and ends with it then.
    ///
    /// # Errors
    /// Those of `fill` and of the host. Pages that were filled before are kept.
    pub fn fill(
        &mut self,
        range: RangeInclusive<u64>,
        mut fill: impl FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<Populated> {
        let (index, mut first, mut at) = (self.index(), *range.start(), *range.start());
        while at <= *range.end() {
            let rest = u32::try_from(*range.end() - at).map_or(u32::MAX, |rest| rest.saturating_add(1));
            let had = match self.fill_run(at, rest, &mut fill)? {
                None if at > index => break,
                None => return Ok(Populated::Refault),
                Some(0) => self.take(at, rest)?,
                Some(inserted) => inserted,
            };
            match had {
                0 if at > index => break,
                0 if at == index => return Ok(Populated::Refault),
                0 => (first, at) = (at + 1, at + 1),
                had => at += u64::from(had),
            }
        }
        Ok(Populated::Pages(first..=at.saturating_sub(1)))
    }

    /// Nothing: the object ends there.
    fn fill_run(
        &mut self,
        first: u64,
        count: u32,
        fill: &mut impl FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<Option<u32>> {
        // Long enough to be worth a call, and no more places for addresses than a page holds.
        let count = count.min(512);
        let lent = match self.insert_run(first, count as usize) {
            Err(error) if error.status() == QUIRE_PAGER_BAD => return Ok(None),
            lent => lent?,
        };
        let mut inserted = 0;
        for (index, bytes) in (first..).zip(lent) {
            fill(index, bytes)?;
            inserted += 1;
        }
        if inserted > 0 {
            self.ready_run(first, inserted)?;
        }
        Ok(Some(inserted))
    }

    /// Hands the request over to other code that speaks the ABI, such as a driver: `to` is called with the host's own struct, checked. What it
    /// answers, and the range that it stores there, are the operation's answer, unseen by the SDK.
    pub fn hand_on(&mut self, to: impl FnOnce(*mut Populate) -> i32) -> Populated {
        Populated::Answered(to(self.place))
    }

    /// Names the request in the host's services.
    pub fn token(&self) -> u64 {
        self.request.token
    }
}
