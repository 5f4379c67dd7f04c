//! The operations of one plugin that are under way, each under a token that is never used twice.
//!
//! # The life of a record
//!
//! | from | to | when |
//! |---|---|---|
//! | free | running | [`Requests::begin`]: an operation is about to be called; the last free ones are kept for close and fini |
//! | running | free | [`Requests::returned`] with any answer but `PEND` |
//! | running | answered | [`Requests::complete`]: the completion came before the operation returned |
//! | answered | free | `returned` |
//! | running | pending | `returned` with `PEND` |
//! | pending | free | `complete` |
//!
//! So a record is in use until the operation has returned *and* the request has completed. What a plugin may point at (the
//! request struct, its pages) is allocated once, used again and again, and freed with the table: a late or foreign token
//! finds another token in the record or none, and reads no freed memory.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use quire_abi as abi;
use quire_core::alloc_fallible::{try_box, try_reserve};
use quire_core::error::{Cause, PagerError, Result};
use quire_core::io::Io;
use quire_core::populate::Populate;
use quire_core::sync::{FrameLock, Gauge, current_thread};

use crate::name::Subject;
use crate::named::ObjectName;

/// The low bits of a token say which record; the others are a number that no other token of the process has. So many
/// operations may be under way and objects open at the same time, together.
const SLOT_BITS: u32 = 18;
const MAX_SLOTS: usize = 1 << SLOT_BITS;

/// Names an operation under way. 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token(pub(crate) u64);

impl Token {
    fn next(slot: usize) -> Self {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        // 2^46 of them: two years at a million a second.
        Self(GENERATION.fetch_add(1, Ordering::Relaxed) << SLOT_BITS | slot as u64)
    }

    #[allow(clippy::cast_possible_truncation, reason = "these bits fit every usize")]
    fn slot(self) -> usize {
        (self.0 & (MAX_SLOTS as u64 - 1)) as usize
    }
}

/// What a plugin is given to work on, at an address that stays.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) io: abi::Io,
    pub(crate) pages: Vec<abi::IoPage>,
}

/// What the operation is about.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Nothing that could complete later.
    Call,
    /// A run of pages.
    Run(Arc<Io>),
    /// The host's page services may be used.
    Populate(Arc<Populate>),
}

#[derive(Debug)]
struct Slot {
    /// The token of the operation that this record is for; nothing when there is none, or when it is just being settled.
    token: Option<Token>,
    /// The thread that runs the operation; 0 once it has returned.
    thread: u64,
    /// The status that the request completed with before the operation returned.
    completed: Option<i32>,
    /// What `set_error` said.
    text: String,
    subject: Option<Subject>,
    work: Work,
    /// Owned by the table, lent to the plugin while the record is in use.
    run: NonNull<Run>,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    /// Records not in use. Has room for all of them, so that giving one back needs no memory.
    free: Vec<usize>,
    /// So many of the free ones are kept for operations that must not fail. Never more than are free.
    set_aside: usize,
}

// SAFETY: `run` is owned by the table, and touched only by whoever the record belongs to, one party at a time.
unsafe impl Send for Table {}

impl Drop for Table {
    fn drop(&mut self) {
        for slot in &self.slots {
            // SAFETY: made from a box in `Table::take`, and given back here only.
            drop(unsafe { Box::from_raw(slot.run.as_ptr()) });
        }
    }
}

/// The operations under way.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    table: FrameLock<Table>,
    under_way: Gauge,
    /// Completions and other uses of tokens that named nothing.
    stale: AtomicU64,
}

/// A promise that one record will be there, for an operation that must be called whatever else happens: close, fini.
#[derive(Debug)]
pub(crate) struct SetAside(());

/// An operation that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) token: Token,
    /// The record's run; it belongs to the caller until the operation is called, and to the plugin from then on.
    pub(crate) run: NonNull<Run>,
}

/// How an operation that returned went on.
#[derive(Debug)]
pub(crate) enum Returned<'a> {
    /// It is over.
    Ended(Ended<'a>),
    /// It pends.
    Pending,
}

/// An operation that is over: returned and completed. The record is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    requests: &'a Requests,
    slot: usize,
    pub(crate) status: i32,
    /// The request completed by `complete`, not by the operation's answer.
    pub(crate) completed: bool,
    /// It completed, and then the operation answered something else than `PEND`: this.
    pub(crate) answered_too: Option<i32>,
    pub(crate) text: String,
    pub(crate) subject: Option<Subject>,
    pub(crate) work: Work,
    run: NonNull<Run>,
}

impl Requests {
    /// A record for an operation that the calling thread is about to call.
    ///
    /// # Errors
    /// When memory is short, or too many are under way.
    pub(crate) fn begin(&self, subject: Subject, work: Work) -> Result<Begun, PagerError> {
        let mut table = self.table.lock();
        let index = table.take().ok_or_else(|| PagerError::bare(Cause::NoMemory))?;
        Ok(self.occupy(&mut table, index, subject, work))
    }

    /// Keeps a record for later.
    ///
    /// # Errors
    /// As [`Requests::begin`].
    pub(crate) fn set_aside(&self) -> Result<SetAside, PagerError> {
        let mut table = self.table.lock();
        let index = table.take().ok_or_else(|| PagerError::bare(Cause::NoMemory))?;
        table.free.push(index);
        table.set_aside += 1;
        Ok(SetAside(()))
    }

    /// Gives up a record that was kept.
    pub(crate) fn give_up(&self, _kept: SetAside) {
        self.table.lock().set_aside -= 1;
    }

    /// As [`Requests::begin`], with a record that was kept for it: this cannot fail.
    pub(crate) fn begin_kept(&self, _kept: SetAside, subject: Subject) -> Begun {
        let mut table = self.table.lock();
        table.set_aside -= 1;
        let Some(index) = table.free.pop() else {
            unreachable!("what is set aside is free")
        };
        self.occupy(&mut table, index, subject, Work::Call)
    }

    fn occupy(&self, table: &mut Table, index: usize, subject: Subject, work: Work) -> Begun {
        let token = Token::next(index);
        let slot = &mut table.slots[index];
        slot.token = Some(token);
        slot.thread = current_thread();
        slot.completed = None;
        slot.subject = Some(subject);
        slot.work = work;
        self.under_way.rise();
        Begun { token, run: slot.run }
    }

    /// The operation returned with `status`; `pends` says whether that is `PEND` and allowed.
    pub(crate) fn returned(&self, token: Token, status: i32, pends: bool) -> Returned<'_> {
        let mut table = self.table.lock();
        let Some(slot) = table.slots.get_mut(token.slot()).filter(|s| s.token == Some(token)) else {
            unreachable!("a record is in use until its operation has returned");
        };
        slot.thread = 0;
        match slot.completed.take() {
            None if pends => Returned::Pending,
            None => Returned::Ended(self.end(slot, token, status, false)),
            Some(completed) => {
                let mut ended = self.end(slot, token, completed, true);
                ended.answered_too = (!pends).then_some(status);
                Returned::Ended(ended)
            }
        }
    }

    /// The plugin completes a request. Nothing further to do if the operation has not returned yet.
    ///
    /// # Errors
    /// [`Stale`]: the token names no request under way, or one that has completed.
    pub(crate) fn complete(&self, token: Token, status: i32) -> Result<Option<Ended<'_>>, Stale> {
        let mut table = self.table.lock();
        let slot = table
            .slots
            .get_mut(token.slot())
            .filter(|s| s.token == Some(token) && s.completed.is_none() && matches!(s.work, Work::Run(_)));
        match slot {
            None => Err(self.stale()),
            Some(slot) if slot.thread != 0 => {
                slot.completed = Some(status);
                Ok(None)
            }
            Some(slot) => Ok(Some(self.end(slot, token, status, true))),
        }
    }

    /// Keeps `text` for the error that the operation will answer. Token 0: the innermost operation of the calling thread.
    ///
    /// # Errors
    /// [`Stale`].
    pub(crate) fn set_error(&self, token: Token, text: String) -> Result<(), Stale> {
        let mut table = self.table.lock();
        let slot = if token.0 == 0 {
            let me = current_thread();
            // Numbers grow, so the largest token is that of the operation called last.
            table
                .slots
                .iter_mut()
                .filter(|s| s.thread == me)
                .max_by_key(|s| s.token.map_or(0, |t| t.0))
        } else {
            table.slots.get_mut(token.slot()).filter(|s| s.token == Some(token))
        };
        match slot {
            Some(slot) => {
                let old = core::mem::replace(&mut slot.text, text);
                drop(table);
                drop(old);
                Ok(())
            }
            None => Err(self.stale()),
        }
    }

    /// Takes what `set_error` said of a request that pends.
    pub(crate) fn take_text(&self, token: Token) -> String {
        let mut table = self.table.lock();
        let slot = table.slots.get_mut(token.slot()).filter(|s| s.token == Some(token));
        slot.map(|slot| core::mem::take(&mut slot.text)).unwrap_or_default()
    }

    /// The token of a request that an operation of `of` left pending.
    pub(crate) fn pending(&self, io: &Arc<Io>, of: &Arc<str>) -> Option<Token> {
        let table = self.table.lock();
        let slot = table.slots.iter().find(|slot| {
            let its = matches!(&slot.work, Work::Run(its) if Arc::ptr_eq(its, io));
            its && slot.thread == 0
                && slot
                    .subject
                    .as_ref()
                    .is_some_and(|subject| Arc::ptr_eq(&subject.of, of))
        });
        slot.and_then(|slot| slot.token)
    }

    /// The populate request that `token` names, while its operation runs.
    ///
    /// # Errors
    /// [`Stale`].
    pub(crate) fn populate(&self, token: Token) -> Result<Arc<Populate>, Stale> {
        let table = self.table.lock();
        match table
            .slots
            .get(token.slot())
            .filter(|s| s.token == Some(token))
            .map(|s| &s.work)
        {
            Some(Work::Populate(request)) => Ok(request.clone()),
            _ => Err(self.stale()),
        }
    }

    /// Whether the calling thread is inside an operation on one of these openings.
    pub(crate) fn runs_here(&self, openings: &[ObjectName]) -> bool {
        let me = current_thread();
        let table = self.table.lock();
        let on = |slot: &Slot| slot.subject.as_ref().and_then(|subject| subject.object);
        let mut here = table.slots.iter().filter(|slot| slot.thread == me).filter_map(on);
        here.any(|object| openings.contains(&object))
    }

    /// Operations under way.
    pub(crate) fn under_way(&self) -> &Gauge {
        &self.under_way
    }

    /// How many uses of tokens were ignored.
    pub(crate) fn stale_count(&self) -> u64 {
        self.stale.load(Ordering::Relaxed)
    }

    fn stale(&self) -> Stale {
        self.stale.fetch_add(1, Ordering::Relaxed);
        Stale
    }

    /// Takes what the record holds. From here on its token names nothing; it is free once the answer is dropped.
    fn end<'a>(&'a self, slot: &mut Slot, token: Token, status: i32, completed: bool) -> Ended<'a> {
        slot.token = None;
        Ended {
            requests: self,
            slot: token.slot(),
            status,
            completed,
            answered_too: None,
            text: core::mem::take(&mut slot.text),
            subject: slot.subject.take(),
            work: core::mem::replace(&mut slot.work, Work::Call),
            run: slot.run,
        }
    }
}

impl Table {
    /// A record that is not in use; a new one if there is none. Nothing when memory is short.
    fn take(&mut self) -> Option<usize> {
        if self.free.len() > self.set_aside {
            return self.free.pop();
        }
        let index = self.slots.len();
        if index == MAX_SLOTS {
            return None;
        }
        try_reserve(&mut self.slots, 1).ok()?;
        let all = self.slots.len() + 1;
        try_reserve(&mut self.free, all).ok()?;
        let run = try_box(Run {
            io: no_io(),
            pages: Vec::new(),
        })
        .ok()?;
        self.slots.push(Slot {
            token: None,
            thread: 0,
            completed: None,
            text: String::new(),
            subject: None,
            work: Work::Call,
            run: NonNull::from(Box::leak(run)),
        });
        Some(index)
    }
}

impl Ended<'_> {
    /// What the plugin stored as the status of page `i` of the run. To be read once: a plugin that breaks its promise may
    /// change it at any time.
    ///
    /// # Panics
    /// If the run has fewer pages.
    pub(crate) fn page_status(&self, i: usize) -> i32 {
        // SAFETY: the run belongs to the record, which is ours until this is dropped; its list of pages has an address that
        // no plugin knows.
        let pages = unsafe { &*ptr::addr_of!((*self.run.as_ptr()).pages) };
        assert!(i < pages.len());
        // SAFETY: inside the list, whose memory is never freed. No reference is made to what the plugin may write to: a
        // number is read atomically, as a plugin that writes after completion is to be survived.
        unsafe {
            let status = &raw mut (*pages.as_ptr().cast_mut().add(i)).status;
            AtomicI32::from_ptr(status).load(Ordering::Relaxed)
        }
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut table = self.requests.table.lock();
        table.free.push(self.slot);
        drop(table);
        self.requests.under_way.fall();
    }
}

/// A token named nothing that is under way. Counted already.
#[derive(Debug)]
pub(crate) struct Stale;

fn no_io() -> abi::Io {
    abi::Io {
        struct_size: 0,
        flags: 0,
        token: 0,
        first: 0,
        count: 0,
        required: 0,
        page_size: 0,
        page_stride: 0,
        object_size: 0,
        pages: ptr::null_mut(),
    }
}
