//! Pages of an object by hand: looked up, grabbed, busied, wired (S239 to S250), each right held by a guard that alone can give it back.

use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::ptr;

use quire_abi::{
    Page, PageApi, QUIRE_GRAB_CONTENTS, QUIRE_GRAB_NOCREAT, QUIRE_GRAB_NOWAIT, QUIRE_GRAB_SBUSY, QUIRE_GRAB_WAITFAIL,
    QUIRE_GRAB_ZERO, QUIRE_PAGE_ABSENT, QUIRE_PAGE_BEYOND, QUIRE_PAGE_BUSY, QUIRE_PAGE_INVALID, QUIRE_PAGE_MISUSE,
    QUIRE_PAGE_NOMEM, QUIRE_PAGE_STALE, QUIRE_PAGE_UNSUPPORTED, QUIRE_PAGER_OK,
};

use crate::error::{Error, NotDone, Result};
use crate::host::{Host, Level};
use crate::revoke::HostObject;

/// A function of the host's table for pages that takes a page, and nothing else.
type OfPage = unsafe extern "C" fn(*mut Page) -> i32;

/// A page, by the name that the host gave it when it was looked up or grabbed. It keeps nothing in memory; once the page was freed, every
/// call answers `STALE`.
#[derive(Clone)]
pub struct PageHandle {
    host: Host,
    // Never looked behind: a number that the host gave.
    page: *mut Page,
}

// SAFETY: the pointer is a number, and the services take it on any thread.
unsafe impl Send for PageHandle {}
// SAFETY: as for Send.
unsafe impl Sync for PageHandle {}

impl fmt::Debug for PageHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PageHandle").field(&self.page).finish()
    }
}

/// How [`Host::grab`] and [`Host::grab_shared`] get a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrabFlags(u32);

impl GrabFlags {
    /// A missing page is made, unfilled; what others have is waited for.
    pub const NONE: Self = Self(0);
    /// A page that is not in memory is not made.
    pub const NOCREAT: Self = Self(QUIRE_GRAB_NOCREAT);
    /// Nothing is waited for.
    pub const NOWAIT: Self = Self(QUIRE_GRAB_NOWAIT);
    /// What has to be waited for is waited for once, and then answered as if it had not been.
    pub const WAITFAIL: Self = Self(QUIRE_GRAB_WAITFAIL);
    /// A new page is zeros, and filled with that.
    pub const ZERO: Self = Self(QUIRE_GRAB_ZERO);
    /// A page that is not in memory is brought in by its pager. Not for pagers, which bring it.
    pub const CONTENTS: Self = Self(QUIRE_GRAB_CONTENTS);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Host {
    /// Page `index` of an object, if it is in memory. It is not busied by that, and may be gone a moment later. Waits for nobody.
    ///
    /// # Errors
    /// `QUIRE_PAGE_STALE`: no such object, or it is closed; `QUIRE_PAGE_NOMEM`; `QUIRE_PAGER_UNSUPPORTED`: the host has no such service.
    pub fn lookup(&self, object: HostObject, index: u64) -> Result<Option<PageHandle>> {
        let (call, lookup) = self.service("page_lookup", |api| api.page_lookup)?;
        let (object, mut page) = (object.known()?, ptr::null_mut());
        // SAFETY: the call's service, with its host, and a place for the answer.
        match unsafe { lookup(call.host(), object, index, &raw mut page) } {
            QUIRE_PAGER_OK => Ok(Some(PageHandle {
                host: self.clone(),
                page,
            })),
            QUIRE_PAGE_ABSENT => Ok(None),
            status => Err(error("page_lookup", status)),
        }
    }

    /// Grabs page `index` of an object: looked up, or made, and exclusively busied, as `flags` has it. A page that is not filled
    /// ([`BusyPage::set_valid`]) is freed when the guard is dropped.
    ///
    /// May block for as long as others have the page; so a pager that grabs a page which it has to bring itself waits in vain, unless it says
    /// [`GrabFlags::NOWAIT`].
    ///
    /// # Errors
    /// `QUIRE_PAGE_BUSY` (with `NOWAIT`, `WAITFAIL`), `QUIRE_PAGE_ABSENT` (with `NOCREAT`), `QUIRE_PAGE_BEYOND`, `QUIRE_PAGE_NOMEM`,
    /// `QUIRE_PAGE_STALE`: no such object, or it is closed; `QUIRE_PAGER_INVALID`: flags that exclude each other;
    /// `QUIRE_PAGER_UNSUPPORTED`: the host has no such service.
    pub fn grab(&self, object: HostObject, index: u64, flags: GrabFlags) -> Result<BusyPage<Exclusive>> {
        self.grab_as(object, index, flags.0)
    }

    /// As [`Host::grab`], but shared busied. Only a filled page is shared: a new one by [`GrabFlags::ZERO`] or [`GrabFlags::CONTENTS`], or
    /// none is made, by [`GrabFlags::NOCREAT`]; one of these must be there.
    ///
    /// # Errors
    /// As [`Host::grab`].
    pub fn grab_shared(&self, object: HostObject, index: u64, flags: GrabFlags) -> Result<BusyPage<Shared>> {
        self.grab_as(object, index, flags.0 | QUIRE_GRAB_SBUSY)
    }

    fn grab_as<M: BusyMode>(&self, object: HostObject, index: u64, flags: u32) -> Result<BusyPage<M>> {
        check(flags)?;
        // Before the page is busied: who cannot unbusy must not busy.
        self.page_service(M::UNBUSY, M::unbusy)?;
        let (call, grab) = self.service("page_grab", |api| api.page_grab)?;
        let (object, mut page, none) = (object.known()?, ptr::null_mut(), ptr::null_mut());
        // SAFETY: the call's service, with its host, and a place for the one page; `grabbed` may be NULL then.
        match unsafe { grab(call.host(), object, index, 1, flags, &raw mut page, none) } {
            QUIRE_PAGER_OK => Ok(BusyPage::of(PageHandle {
                host: self.clone(),
                page,
            })),
            status => Err(error("page_grab", status)),
        }
    }
}

impl PageHandle {
    /// Busies it exclusively. May block for as long as others have it.
    ///
    /// # Errors
    /// `QUIRE_PAGE_STALE`; `QUIRE_PAGER_UNSUPPORTED`: the host has no such service.
    pub fn xbusy(&self) -> Result<BusyPage<Exclusive>> {
        self.busy("xbusy", |pages| pages.xbusy)
    }

    /// Shares it. May block for as long as somebody has it exclusively busied.
    ///
    /// # Errors
    /// As [`PageHandle::xbusy`].
    pub fn sbusy(&self) -> Result<BusyPage<Shared>> {
        self.busy("sbusy", |pages| pages.sbusy)
    }

    /// Busies it exclusively if it is unbusied; nothing otherwise, at once.
    ///
    /// # Errors
    /// As [`PageHandle::xbusy`].
    pub fn try_xbusy(&self) -> Result<Option<BusyPage<Exclusive>>> {
        self.try_busy("tryxbusy", |pages| pages.tryxbusy)
    }

    /// Shares it unless it is exclusively busied; nothing otherwise, at once.
    ///
    /// # Errors
    /// As [`PageHandle::xbusy`].
    pub fn try_sbusy(&self) -> Result<Option<BusyPage<Shared>>> {
        self.try_busy("trysbusy", |pages| pages.trysbusy)
    }

    /// Whether it is busied in either mode, by anyone.
    ///
    /// # Errors
    /// As [`PageHandle::xbusy`].
    pub fn busied(&self) -> Result<bool> {
        self.ask("busied", |pages| pages.busied).map(|answer| answer != 0)
    }

    /// Whether it is filled.
    ///
    /// # Errors
    /// As [`PageHandle::xbusy`].
    pub fn is_valid(&self) -> Result<bool> {
        self.ask("is_valid", |pages| pages.is_valid).map(|answer| answer != 0)
    }

    /// Whether it is dirty, or may be: mapped for writing, and not looked at since.
    ///
    /// # Errors
    /// As [`PageHandle::xbusy`].
    pub fn is_dirty(&self) -> Result<bool> {
        self.ask("is_dirty", |pages| pages.is_dirty).map(|answer| answer != 0)
    }

    /// How often it is wired, by hand and by maps.
    ///
    /// # Errors
    /// As [`PageHandle::xbusy`].
    pub fn wire_count(&self) -> Result<u32> {
        let count = self.ask("wire_count", |pages| pages.wire_count)?;
        Ok(u32::try_from(count).unwrap_or_default())
    }

    fn busy<M: BusyMode>(&self, name: &str, of: fn(&PageApi) -> Option<OfPage>) -> Result<BusyPage<M>> {
        self.host.page_service(M::UNBUSY, M::unbusy)?;
        self.ask(name, of)?;
        Ok(BusyPage::of(self.clone()))
    }

    fn try_busy<M: BusyMode>(&self, name: &str, of: fn(&PageApi) -> Option<OfPage>) -> Result<Option<BusyPage<M>>> {
        self.host.page_service(M::UNBUSY, M::unbusy)?;
        let had = self.ask(name, of)? != 0;
        Ok(had.then(|| BusyPage::of(self.clone())))
    }

    /// Calls a service with nothing but the page. What it answers, unless that is an error.
    fn ask(&self, name: &str, of: fn(&PageApi) -> Option<OfPage>) -> Result<i32> {
        let (_call, service) = self.host.page_service(name, of)?;
        // SAFETY: the call's service, and a handle that the host gave.
        match unsafe { service(self.page) } {
            answer if answer >= 0 => Ok(answer),
            status => Err(error(name, status)),
        }
    }

    /// For guards that are dropped. A stale page, or a host that is gone, has nothing left to give back.
    fn give_back(&self, name: &str, of: fn(&PageApi) -> Option<OfPage>) {
        if let Err(error) = self.ask(name, of)
            && error.status() != QUIRE_PAGE_STALE
        {
            self.host.log(Level::Error, error);
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Exclusive {}
    impl Sealed for super::Shared {}
}

/// How a page is busied: [`Exclusive`] or [`Shared`].
pub trait BusyMode: sealed::Sealed + fmt::Debug {
    /// The service that ends it.
    #[doc(hidden)]
    const UNBUSY: &'static str;
    /// The same, in the host's table.
    #[doc(hidden)]
    fn unbusy(pages: &PageApi) -> Option<unsafe extern "C" fn(*mut Page) -> i32>;
}

/// By one alone.
#[derive(Debug)]
pub enum Exclusive {}

/// Together with others who share it.
#[derive(Debug)]
pub enum Shared {}

impl BusyMode for Exclusive {
    const UNBUSY: &'static str = "xunbusy";
    fn unbusy(pages: &PageApi) -> Option<OfPage> {
        pages.xunbusy
    }
}

impl BusyMode for Shared {
    const UNBUSY: &'static str = "sunbusy";
    fn unbusy(pages: &PageApi) -> Option<OfPage> {
        pages.sunbusy
    }
}

/// A page that is busied through this guard, and unbusied when it is dropped, on any thread. One that is not filled is freed by that.
///
/// As long as it is busied, faults on it, its write-back and the end of its object wait: hold it briefly.
#[derive(Debug)]
#[must_use = "dropping it unbusies the page"]
pub struct BusyPage<M: BusyMode> {
    page: PageHandle,
    /// Not once it was given back otherwise.
    busied: bool,
    mode: PhantomData<fn() -> M>,
}

impl<M: BusyMode> BusyPage<M> {
    fn of(page: PageHandle) -> Self {
        Self {
            page,
            busied: true,
            mode: PhantomData,
        }
    }

    /// The page, for questions, and to be kept for later.
    pub fn handle(&self) -> &PageHandle {
        &self.page
    }

    /// Copies its bytes from `offset` on into `bytes`.
    ///
    /// # Errors
    /// `INVALID` if they are not all inside the page; `QUIRE_PAGER_UNSUPPORTED`: the host has no such service.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        let (_call, read) = self.page.host.page_service("read", |pages| pages.read)?;
        // SAFETY: the call's service, a handle that the host gave, and a place of that length.
        let status = unsafe { read(self.page.page, offset, bytes.as_mut_ptr().cast::<c_void>(), bytes.len()) };
        done("read", status)
    }

    /// It has to be written before it goes.
    ///
    /// # Errors
    /// `QUIRE_PAGE_UNSUPPORTED`: the object cannot be written; `QUIRE_PAGER_INVALID`: it is not filled; `QUIRE_PAGER_UNSUPPORTED`: the host has
    /// no such service.
    pub fn set_dirty(&self) -> Result<()> {
        self.filled()?;
        self.page.ask("set_dirty", |pages| pages.set_dirty).map(drop)
    }

    /// Wires it: it stays in memory until the wiring is dropped, or its object loses it: by shrinking, by its end.
    ///
    /// # Errors
    /// `QUIRE_PAGE_NOMEM`; `QUIRE_PAGER_UNSUPPORTED`: the host has no such service.
    pub fn wire(&self) -> Result<Wiring> {
        self.page.host.page_service("unwire", |pages| pages.unwire)?;
        self.page.ask("wire", |pages| pages.wire)?;
        let page = self.page.clone();
        Ok(Wiring { page })
    }

    /// An unfilled page is the caller's mistake, which must not end a checking build's process. Whoever has it busied sees that it stays so.
    fn filled(&self) -> Result<()> {
        if self.page.is_valid()? {
            return Ok(());
        }
        Err(Error::invalid(
            "the page is not filled; fill it, and say so with set_valid",
        ))
    }

    /// What is outside the page likewise.
    fn check(&self, offset: usize, length: usize) -> Result<()> {
        let page_size = self.page.host.page_size();
        match offset.checked_add(length) {
            Some(end) if end <= page_size => Ok(()),
            _ => Err(Error::invalid(format!(
                "{length} bytes from byte {offset} on do not lie inside a page of {page_size} bytes"
            ))),
        }
    }

    /// The page, no longer this guard's to unbusy.
    fn taken(mut self) -> PageHandle {
        self.busied = false;
        self.page.clone()
    }
}

impl BusyPage<Exclusive> {
    /// Copies `bytes` into it from `offset` on. A filled page is dirty then; one that is not is filled by [`BusyPage::set_valid`] only.
    ///
    /// # Errors
    /// `INVALID` if they are not all inside the page; `QUIRE_PAGE_UNSUPPORTED`: it is filled, and the object cannot be written;
    /// `QUIRE_PAGER_UNSUPPORTED`: the host has no such service.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        let (_call, write) = self.page.host.page_service("write", |pages| pages.write)?;
        // SAFETY: the call's service, a handle that the host gave, and that many bytes.
        let status = unsafe { write(self.page.page, offset, bytes.as_ptr().cast::<c_void>(), bytes.len()) };
        done("write", status)
    }

    /// It is filled, whole, with what its pager has.
    ///
    /// # Errors
    /// `QUIRE_PAGER_UNSUPPORTED`: the host has no such service.
    pub fn set_valid(&mut self) -> Result<()> {
        self.page.ask("set_valid", |pages| pages.set_valid).map(drop)
    }

    /// Its pager has these very bytes: what was dirty is given up. Its mappings go.
    ///
    /// # Errors
    /// `QUIRE_PAGER_UNSUPPORTED`: the host has no such service.
    pub fn set_clean(&mut self) -> Result<()> {
        self.page.ask("set_clean", |pages| pages.set_clean).map(drop)
    }

    /// To shared by this guard alone, with no moment in between.
    ///
    /// # Errors
    /// `QUIRE_PAGER_INVALID`: it is not filled; `QUIRE_PAGER_UNSUPPORTED`: the host has no such service.
    pub fn downgrade(self) -> Result<BusyPage<Shared>, NotDone<Self>> {
        let sunbusy = self.page.host.page_service(Shared::UNBUSY, Shared::unbusy).map(drop);
        match sunbusy
            .and_then(|()| self.filled())
            .and_then(|()| self.page.ask("busy_downgrade", |pages| pages.busy_downgrade))
        {
            Ok(_) => Ok(BusyPage::of(self.taken())),
            Err(error) => Err(NotDone { guard: self, error }),
        }
    }

    /// Frees it, and gives up what it holds; its mappings go.
    ///
    /// # Errors
    /// `QUIRE_PAGER_AGAIN`: it is wired; `QUIRE_PAGER_UNSUPPORTED`: the host has no such service.
    pub fn free(self) -> Result<(), NotDone<Self>> {
        // Nobody can wire it meanwhile, as that takes a page that is busied.
        let unwired = self.page.wire_count().and_then(|count| match count {
            0 => Ok(()),
            _ => Err(Error::again(format!(
                "the page is wired {count} times; free it when it is not"
            ))),
        });
        match unwired.and_then(|()| self.page.ask("free", |pages| pages.free)) {
            Ok(_) => {
                self.taken();
                Ok(())
            }
            Err(error) => Err(NotDone { guard: self, error }),
        }
    }
}

impl BusyPage<Shared> {
    /// To exclusively busied, with no moment in between, if nobody else shares it.
    ///
    /// # Errors
    /// `QUIRE_PAGE_BUSY`: others do; `QUIRE_PAGER_UNSUPPORTED`: the host has no such service.
    pub fn try_upgrade(self) -> Result<BusyPage<Exclusive>, NotDone<Self>> {
        let xunbusy = self
            .page
            .host
            .page_service(Exclusive::UNBUSY, Exclusive::unbusy)
            .map(drop);
        let upgraded = xunbusy.and_then(|()| self.page.ask("busy_tryupgrade", |pages| pages.busy_tryupgrade));
        let error = match upgraded {
            Ok(0) => error("busy_tryupgrade", QUIRE_PAGE_BUSY),
            Ok(_) => return Ok(BusyPage::of(self.taken())),
            Err(error) => error,
        };
        Err(NotDone { guard: self, error })
    }
}

impl<M: BusyMode> Drop for BusyPage<M> {
    fn drop(&mut self) {
        if self.busied {
            self.page.give_back(M::UNBUSY, M::unbusy);
        }
    }
}

/// One wiring of a page, made by [`BusyPage::wire`] and taken back when this is dropped, on any thread.
#[derive(Debug)]
#[must_use = "dropping it unwires the page"]
pub struct Wiring {
    page: PageHandle,
}

impl Wiring {
    /// The page.
    pub fn handle(&self) -> &PageHandle {
        &self.page
    }
}

impl Drop for Wiring {
    fn drop(&mut self) {
        self.page.give_back("unwire", |pages| pages.unwire);
    }
}

/// Refuses what would be a broken rule to the host, for which a checking build ends the process.
fn check(flags: u32) -> Result<()> {
    let has = |wanted: u32| flags & wanted != 0;
    if has(QUIRE_GRAB_ZERO) && has(QUIRE_GRAB_CONTENTS) {
        return Err(Error::invalid("a new page is zeros or what its pager has, not both"));
    }
    if has(QUIRE_GRAB_SBUSY) && !has(QUIRE_GRAB_ZERO | QUIRE_GRAB_CONTENTS | QUIRE_GRAB_NOCREAT) {
        return Err(Error::invalid(
            "only a filled page is shared: grab it with ZERO, CONTENTS or NOCREAT, or exclusively",
        ));
    }
    Ok(())
}

fn done(service: &str, status: i32) -> Result<()> {
    if status == QUIRE_PAGER_OK {
        Ok(())
    } else {
        Err(error(service, status))
    }
}

/// A page service's refusal, in words.
#[cold]
fn error(service: &str, status: i32) -> Error {
    let text = match status {
        QUIRE_PAGE_STALE => "the page was freed meanwhile, or its object is not open; look it up again",
        QUIRE_PAGE_BUSY => "others have the page busied; try again when they are done",
        QUIRE_PAGE_ABSENT => "the page is not in memory, and was not to be made",
        QUIRE_PAGE_BEYOND => "the object ends before that page",
        QUIRE_PAGE_NOMEM => "there is no memory for it",
        QUIRE_PAGE_UNSUPPORTED => "the object cannot do that: it cannot be written, say",
        QUIRE_PAGE_INVALID => "the host does not know these flags, or takes no such number",
        QUIRE_PAGE_MISUSE => "not with a page in this state, or with these flags; the host's log says what was wrong",
        _ => return Error::with_status(status, format!("{service}: status {status}; the host's log says why")),
    };
    Error::with_status(status, format!("{service}: {text}"))
}
