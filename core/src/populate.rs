//! A request to install pages around a fault, at the pager's discretion (rows S212 to S223).
//!
//! While it runs, the pager takes pages of its own object, exclusively busied: new ones, whose bytes it fills
//! ([`Populate::insert`], [`Populate::ready`]), such as show a device's memory ([`Populate::insert_frames`]), and such as are in memory
//! already ([`Populate::take`]). When it has answered, the answer is judged page by page, while nobody can take one of them away: those of
//! an answer that holds are handed to the fault, still busied, to be mapped at once. All others are settled whatever the answer was: what
//! is filled is unbusied and stays as cache, what is not is freed (D2, D3).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::NonNull;

use crate::alloc_fallible::try_reserve;
use crate::aperture::{ApertureId, Taken};
use crate::error::{Cause, Error, PagerError, Result};
use crate::few::Few;
use crate::machine::{Loan, MOST_AT_ONCE, Purpose, Reserve};
use crate::object::{ExclusiveBusy, Object, Paging, Refusal};
use crate::page::PageRef;
use crate::pager::Populated;
use crate::requests::Work;
use crate::stats::Counter;
use crate::sync::{FrameLock, assert_no_locks_held};
use crate::types::{Access, PageIndex, Prot, pages_of};
use crate::unfilled::Marker;

/// What the fault asks for.
#[derive(Clone, Copy, Debug)]
pub struct PopulatePlan {
    /// The faulting index.
    pub index: PageIndex,
    /// The first index that the entry maps (S217).
    pub first: PageIndex,
    /// The last index that the entry maps, inside the object.
    pub last: PageIndex,
    /// The access.
    pub access: Access,
    /// The entry's maximum protection, not its current one (S219).
    pub max_prot: Prot,
}

/// A populate request.
#[derive(Debug)]
pub struct Populate {
    object: Arc<Object>,
    plan: PopulatePlan,
    /// The first index behind the object when the request was made.
    end: PageIndex,
    marker: Marker,
    state: FrameLock<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    parts: Vec<Part>,
    /// An insertion found no memory.
    short: bool,
}

/// Pages that came into a request together, one behind the other.
#[derive(Debug)]
struct Part {
    first: PageIndex,
    pages: Vec<Held>,
    /// They were not there before.
    is_new: bool,
    /// The bytes of new ones, but for a device's.
    loan: Option<Loan>,
    /// Which of them are filled.
    ready: Vec<bool>,
}

type Held = ExclusiveBusy<Arc<Object>>;

/// How a populate request ended, when it did not fail.
#[derive(Debug)]
pub(crate) enum Ended {
    /// These pages were installed, with the faulting one among them. Nothing, if the object is no more.
    Installed(Installed),
    /// The pager wants the ordinary path (S221).
    Declined,
    /// The pager wants the fault to start over.
    Restart,
}

/// The pages of an answer that holds, exclusively busied, in the order of their indices; where memory was short some of them are left out.
/// Dropping it unbusies them.
#[derive(Debug, Default)]
pub(crate) struct Installed(Vec<Held>);

impl Installed {
    /// Those of a range of indices.
    pub(crate) fn within(&self, range: &Range<PageIndex>) -> &[Held] {
        let at = |index: PageIndex| self.0.partition_point(|held| held.page().index() < index);
        &self.0[at(range.start)..at(range.end)]
    }
}

/// Why a page could not be inserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotInserted {
    /// The object has that page already, or somebody is at it: leave it out.
    Present,
    /// The index lies outside the object, or the object ends, and takes no more pages.
    OutOfRange,
    /// Memory could not be had.
    NoMemory,
    /// The request has ended.
    Ended,
    /// There is no such aperture, or the pages do not lie in it.
    NoFrames,
    /// The object is written in its device's own memory, and nothing would write a page of ours back.
    NoPut,
}

impl Part {
    fn end(&self) -> u64 {
        self.first.0 + self.pages.len() as u64
    }

    /// Whether page `i` was said to be filled, and is not.
    fn is_unfilled(&self, marker: &Marker, i: usize) -> bool {
        // SAFETY: every new page got the marker, and the request has ended: its bytes are ours again.
        self.loan
            .as_ref()
            .is_some_and(|loan| unsafe { marker.is_on(loan.bytes()[i]) })
    }
}

impl Populate {
    /// What is asked for.
    #[must_use]
    pub fn plan(&self) -> &PopulatePlan {
        &self.plan
    }

    /// The object.
    #[must_use]
    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// Takes new pages of the object, up to `count` from `first` on, and tells `lent` where the bytes of each are, which are lent until
    /// the page is [`Populate::ready`] or the request ends. Stops at the first page that cannot be had; answers with how many could.
    ///
    /// # Errors
    /// Why the first could not be had: see [`NotInserted`].
    pub fn insert(&self, first: PageIndex, count: u64, lent: &mut dyn FnMut(NonNull<u8>)) -> Result<u64, NotInserted> {
        if !self.object.takes_own_frames() {
            return Err(NotInserted::NoPut);
        }
        let mut done = 0;
        while done < count {
            let wanted = usize::try_from(count - done).map_or(MOST_AT_ONCE, |rest| rest.min(MOST_AT_ONCE));
            let from = PageIndex(first.0.checked_add(done).ok_or(NotInserted::OutOfRange)?);
            match self.insert_part(from, wanted, lent) {
                Ok(inserted) => {
                    done += inserted as u64;
                    if inserted < wanted {
                        break;
                    }
                }
                Err(why) if done == 0 => return Err(why),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// As [`Populate::insert`], for one page: where its bytes are.
    ///
    /// # Errors
    /// Why it could not be had: see [`NotInserted`].
    pub fn insert_one(&self, index: PageIndex) -> Result<NonNull<u8>, NotInserted> {
        let mut lent = None;
        self.insert(index, 1, &mut |bytes| lent = Some(bytes))?;
        lent.ok_or(NotInserted::NoMemory)
    }

    fn insert_part(
        &self,
        first: PageIndex,
        wanted: usize,
        lent: &mut dyn FnMut(NonNull<u8>),
    ) -> Result<usize, NotInserted> {
        let pages = self.new_pages(first, wanted as u64, |index| {
            ExclusiveBusy::insert_new(self.object.clone(), index, Reserve::Ordinary)
        })?;
        let ready = self.flags(pages.len(), false)?;
        let machine = self.object.engine().machine();
        let list = list_of(&pages);
        let Ok(loan) = machine.lend(&list, Purpose::Fill) else {
            return Err(self.note_short());
        };
        for bytes in loan.bytes() {
            // SAFETY: the pages are exclusively busied and their bytes are lent to us; the pager has not seen them yet.
            unsafe { self.marker.put_on(*bytes) };
        }
        let part = Part {
            first,
            pages,
            is_new: true,
            loan: Some(loan),
            ready,
        };
        self.keep(part, lent).map_err(|(part, why)| {
            if let Some(loan) = part.loan {
                let _nothing_to_keep = machine.take_back(&list, loan, &|_| false);
            }
            why
        })
    }

    /// Takes new pages of the object that show memory of a device: up to `count` from `first` on show the aperture's pages from number `frame`
    /// on. They are ready. Stops at the first page that cannot be had; answers with how many could.
    ///
    /// # Errors
    /// Why the first could not be had: see [`NotInserted`].
    pub fn insert_frames(
        &self,
        first: PageIndex,
        count: u64,
        aperture: ApertureId,
        frame: u64,
    ) -> Result<u64, NotInserted> {
        let mut frames = Taken::new(aperture, frame, count).map_err(|_| NotInserted::NoFrames)?;
        let pages = self.new_pages(first, count, |index| {
            ExclusiveBusy::insert_device(self.object.clone(), index, &mut frames)
        })?;
        self.keep_ready(first, pages, true)
    }

    /// Busies pages that are in memory already, up to `count` from `first` on, without waiting for anybody. Stops at the first
    /// page that is not there, or busy; answers with how many were had.
    ///
    /// # Errors
    /// Why the first was not: see [`NotInserted`].
    pub fn take(&self, first: PageIndex, count: u64) -> Result<u64, NotInserted> {
        let pages = self.new_pages(first, count, |index| {
            let state = self.object.lock();
            ExclusiveBusy::try_resident(self.object.clone(), &state, index)
                .ok_or(Error::InUse("it is not there, or busy"))
        })?;
        self.keep_ready(first, pages, false)
    }

    /// The request has these pages, which need nobody to fill them, from now on; answers with how many.
    fn keep_ready(&self, first: PageIndex, pages: Vec<Held>, is_new: bool) -> Result<u64, NotInserted> {
        let ready = self.flags(pages.len(), true)?;
        let part = Part {
            first,
            pages,
            is_new,
            loan: None,
            ready,
        };
        let kept = self.keep(part, &mut |_| {}).map_err(|(_, why)| why)?;
        Ok(kept as u64)
    }

    /// Pages one behind the other, as many as can be had.
    fn new_pages(
        &self,
        first: PageIndex,
        wanted: u64,
        mut one: impl FnMut(PageIndex) -> Result<Held>,
    ) -> Result<Vec<Held>, NotInserted> {
        let mut pages = Vec::new();
        let most = pages_of(self.object.size()).saturating_sub(first.0);
        let wanted = usize::try_from(wanted.min(most)).unwrap_or(usize::MAX);
        if wanted == 0 {
            return Err(NotInserted::OutOfRange);
        }
        while pages.len() < wanted {
            let why = match one(PageIndex(first.0 + pages.len() as u64)) {
                Ok(busy) if try_reserve(&mut pages, 1).is_ok() => {
                    pages.push(busy);
                    continue;
                }
                Err(Error::InUse(_)) if self.object_ends() => NotInserted::OutOfRange,
                Err(Error::InUse(_)) => NotInserted::Present,
                Ok(_) | Err(_) => self.note_short(),
            };
            if pages.is_empty() {
                return Err(why);
            }
            break;
        }
        Ok(pages)
    }

    /// The request has these pages from now on; gives them back if it cannot.
    fn keep(&self, part: Part, lent: &mut dyn FnMut(NonNull<u8>)) -> Result<usize, (Part, NotInserted)> {
        let mut state = self.state.lock();
        if state.ended {
            return Err((part, NotInserted::Ended));
        }
        if try_reserve(&mut state.parts, 1).is_err() {
            state.short = true;
            return Err((part, NotInserted::NoMemory));
        }
        let bytes = part.loan.iter().flat_map(|loan| loan.bytes());
        bytes.for_each(|bytes| lent(*bytes));
        let len = part.pages.len();
        state.parts.push(part);
        Ok(len)
    }

    /// The `count` pages from `first` on, which were inserted, are filled, whole. False if one of them was not inserted: those before
    /// it are ready.
    pub fn ready(&self, first: PageIndex, count: u64) -> bool {
        let mut state = self.state.lock();
        let (mut at, end) = (first.0, first.0.saturating_add(count));
        while at < end {
            let holds = |part: &&mut Part| part.first.0 <= at && at < part.end();
            let Some(part) = state.parts.iter_mut().rev().find(holds) else {
                return false;
            };
            let upto = part.end().min(end);
            let first = part.first.0;
            part.ready[place(at, first)..place(upto, first)].fill(true);
            at = upto;
        }
        true
    }

    fn flags(&self, count: usize, value: bool) -> Result<Vec<bool>, NotInserted> {
        let mut flags = Vec::new();
        try_reserve(&mut flags, count).map_err(|_| self.note_short())?;
        flags.resize(count, value);
        Ok(flags)
    }

    fn object_ends(&self) -> bool {
        !self.object.lock().takes_pages()
    }

    fn note_short(&self) -> NotInserted {
        self.state.lock().short = true;
        NotInserted::NoMemory
    }

    /// Judges the answer while the pages are still busied, and nobody can take one away, and then settles every page.
    fn end(&self, answer: Populated) -> Result<Ended> {
        // What is taken leaves an ended request behind: nothing can be inserted any more.
        let ended = State {
            ended: true,
            ..State::default()
        };
        let mut state = core::mem::replace(&mut *self.state.lock(), ended);
        let judged = self.judge(&mut state.parts, answer);
        let short = state.short;
        let (mut pages, lost) = self.settle(state.parts);
        let error = match judged {
            Ok(_) if lost => return Err(Error::NoMemory),
            Ok(Judged::Declined) => return Ok(Ended::Declined),
            Ok(Judged::Restart) => return Ok(Ended::Restart),
            Ok(Judged::Installed(range)) => {
                pages.retain(|held| range.contains(&held.page().index()));
                return Ok(Ended::Installed(Installed(pages)));
            }
            Err(error) => error,
        };
        match error.cause {
            // The pager only passed on that we had no memory for it: that is ours to wait for (rule 6 of the design).
            Cause::NoMemory | Cause::Again if short => Err(Error::NoMemory),
            // It could not do what it was asked for, and nobody asks any more: the fault finds out when it looks again.
            _ if self.object_ends() => Ok(Ended::Restart),
            _ => {
                self.object.note_pager_error(&error);
                Err(error.into())
            }
        }
    }

    fn judge(&self, parts: &mut [Part], answer: Populated) -> Result<Judged, PagerError> {
        let unfilled = self.forget_unfilled(parts);
        match answer {
            Populated::UseGet => Ok(Judged::Declined),
            Populated::Restart => Ok(Judged::Restart),
            Populated::Failed(error) => Err(error),
            Populated::Range(..) if unfilled.is_some() => Err(self.broken(format_args!(
                "populate says page {} is ready, but its last bytes were not written",
                unfilled.unwrap_or(PageIndex(0))
            ))),
            Populated::Range(first, last) => {
                parts.sort_unstable_by_key(|part| part.first);
                self.check(parts, first, last)
            }
        }
    }

    /// Pages that were said to be ready and are not filled are not ready; answers with the first of them.
    fn forget_unfilled(&self, parts: &mut [Part]) -> Option<PageIndex> {
        let mut first = None;
        for part in parts {
            for i in 0..part.pages.len() {
                if part.ready[i] && part.is_unfilled(&self.marker, i) {
                    part.ready[i] = false;
                    first.get_or_insert(PageIndex(part.first.0 + i as u64));
                }
            }
        }
        first
    }

    /// Does the answer hold? (S223, S227) The parts are sorted.
    fn check(&self, parts: &[Part], first: PageIndex, last: PageIndex) -> Result<Judged, PagerError> {
        let index = self.plan.index;
        if first > last || index < first || index > last {
            return Err(self.broken(format_args!(
                "populate answered the range {first} to {last}, which does not hold the fault at {index}"
            )));
        }
        if last >= self.end {
            return Err(self.broken(format_args!(
                "populate answered a range up to {last}, beyond the end of the object"
            )));
        }
        let mut at = first.0;
        for part in parts {
            if part.end() <= at || part.first.0 > at {
                continue;
            }
            let upto = part.end().min(last.0 + 1);
            let ready = &part.ready[place(at, part.first.0)..place(upto, part.first.0)];
            if let Some(gap) = ready.iter().position(|ready| !ready) {
                let page = PageIndex(at + gap as u64);
                return Err(self.broken(format_args!(
                    "populate answered {first} to {last}, but never said that page {page} is ready"
                )));
            }
            at = upto;
            if at > last.0 {
                return Ok(Judged::Installed(first..PageIndex(last.0 + 1)));
            }
        }
        Err(self.missing(first, last, PageIndex(at)))
    }

    /// The sentence for a page of the answer that this populate has not busied.
    fn missing(&self, first: PageIndex, last: PageIndex, page: PageIndex) -> PagerError {
        let state = match self.object.lookup(page) {
            None => "is not there",
            Some(there) if there.is_busied() => "is busied by somebody else",
            Some(_) => "was in memory before, and populate has neither taken it nor left it out",
        };
        self.broken(format_args!(
            "populate answered {first} to {last}, but page {page} {state}"
        ))
    }

    fn broken(&self, what: core::fmt::Arguments<'_>) -> PagerError {
        PagerError::new(Cause::BrokenPromise, format_args!("{}: {what}", self.object.describe()))
    }

    /// Gives the bytes back and lets go of what is not filled, which frees it. Returns the pages that are, in the order of
    /// their indices, and whether the machine could not keep some.
    fn settle(&self, mut parts: Vec<Part>) -> (Vec<Held>, bool) {
        let machine = self.object.engine().machine();
        parts.sort_unstable_by_key(|part| part.first);
        let (mut all, mut filled, mut lost) = (Vec::new(), 0, false);
        for Part {
            pages,
            is_new,
            loan,
            ready,
            ..
        } in parts
        {
            let kept = loan.is_none_or(|loan| machine.take_back(&list_of(&pages), loan, &|i| ready[i]).is_ok());
            lost |= !kept;
            // Without memory to keep them together they are unbusied here, and the fault finds them when it looks again.
            let room = try_reserve(&mut all, pages.len()).is_ok();
            for (held, ready) in pages.into_iter().zip(ready) {
                if !ready || !kept {
                    continue;
                }
                if is_new {
                    held.page().mark_valid();
                    filled += 1;
                }
                if room {
                    all.push(held);
                }
            }
        }
        self.object.engine().stats().add(Counter::PagesPopulated, filled);
        (all, lost)
    }
}

/// An answer that holds.
enum Judged {
    /// These pages are its.
    Installed(Range<PageIndex>),
    Declined,
    Restart,
}

fn list_of(pages: &[Held]) -> Few<PageRef, MOST_AT_ONCE> {
    pages.iter().map(Held::page).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "a place in a list in memory")]
fn place(index: u64, first: u64) -> usize {
    (index - first) as usize
}

impl Object {
    /// Asks the pager to install pages. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when pages could not be had; the pager's answer, or its broken promise.
    pub(crate) fn populate(self: &Arc<Self>, plan: PopulatePlan) -> Result<Ended> {
        assert_no_locks_held("calling a pager");
        let paging: Paging = match self.begin_paging() {
            Ok(paging) => paging,
            // Nothing maps it any more: the fault finds out when it looks again.
            Err(Refusal::Closed) => return Ok(Ended::Installed(Installed::default())),
            Err(Refusal::Quarantined(error)) => return Err(error.into()),
        };
        let request = Arc::new(Populate {
            object: self.clone(),
            plan,
            end: PageIndex(pages_of(self.size())),
            marker: Marker::new(),
            state: FrameLock::new(State::default()),
        });
        self.engine().stats().count(Counter::Populates);
        let work = Work::Populate(request.clone());
        self.engine().requests().begin(&paging, work.clone());
        let answer = self.pager().populate(&request);
        self.engine().requests().end(&work);
        request.end(answer)
    }
}
