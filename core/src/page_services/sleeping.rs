//! Waiting for a page by hand, and who does: each sleeper has a message that tools can read (S246).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{Answer, PageError, PageHandle};
use crate::alloc_fallible::try_reserve;
use crate::busy::BusyMode;
use crate::error::{Error, words_or_nothing};
use crate::object::Object;
use crate::page::PageRef;
use crate::sync::{FrameLock, current_thread};
use crate::types::{ObjectId, PageIndex};

/// Bytes of a message that are kept.
const MESSAGE: usize = 31;

/// A thread that sleeps on a page.
#[derive(Clone, Copy, Debug)]
pub struct Sleeper {
    message: [u8; MESSAGE],
    len: usize,
    /// The object the page was in when it went to sleep.
    pub object: ObjectId,
    /// The page's index there.
    pub index: PageIndex,
    /// The thread, as [`current_thread`] numbers them.
    pub thread: u64,
    ticket: u64,
}

impl Sleeper {
    /// What it said it sleeps for, cut to 31 bytes.
    #[must_use]
    pub fn message(&self) -> &str {
        core::str::from_utf8(&self.message[..self.len]).unwrap_or_default()
    }
}

static SLEEPERS: FrameLock<Vec<Sleeper>> = FrameLock::new(Vec::new());

/// Who sleeps on a page by hand now, the longest first; tells how many there are, and `visit`s them. A lock is held meanwhile: it may call nothing.
pub fn sleepers(mut visit: impl FnMut(&Sleeper)) -> usize {
    let sleepers = SLEEPERS.lock();
    sleepers.iter().for_each(&mut visit);
    sleepers.len()
}

/// On the list as long as this lives. Without memory for it, sleeps unlisted.
struct Listed(u64);

impl Listed {
    fn enter(message: &str, object: ObjectId, index: PageIndex) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let ticket = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut len = message.len().min(MESSAGE);
        while !message.is_char_boundary(len) {
            len -= 1;
        }
        let mut kept = [0; MESSAGE];
        kept[..len].copy_from_slice(&message.as_bytes()[..len]);
        let mut sleepers = SLEEPERS.lock();
        if try_reserve(&mut sleepers, 1).is_ok() {
            sleepers.push(Sleeper {
                message: kept,
                len,
                object,
                index,
                thread: current_thread(),
                ticket,
            });
        }
        Self(ticket)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        SLEEPERS.lock().retain(|sleeper| sleeper.ticket != self.0);
    }
}

impl PageHandle {
    /// Busies the page exclusively, sleeping while others have it. The object's lock, if the calling thread has it, is let go of
    /// while it sleeps. After each sleep the page is looked at anew: one that was freed meanwhile is stale.
    ///
    /// # Errors
    /// Stale, no handle; misuse in strict checking, without the object's lock; what a quarantined object answers, whose pager may
    /// never let go of it.
    pub fn exclusive(self, message: &str) -> Answer {
        self.acquire(BusyMode::Exclusive, message)
    }

    /// Shares the page, sleeping while somebody has it exclusively busied. Otherwise as [`PageHandle::exclusive`].
    ///
    /// # Errors
    /// As [`PageHandle::exclusive`].
    pub fn shared(self, message: &str) -> Answer {
        self.acquire(BusyMode::Shared, message)
    }

    fn acquire(self, mode: BusyMode, message: &str) -> Answer {
        while !self.try_busy(mode)? {
            let (page, object) = self.with_object()?;
            let _without = object.hand_lock.without();
            wait_once(&object, page, mode, message)?;
        }
        Ok(())
    }

    /// Sleeps until the page, which is busied, is unbusied, or changes otherwise; once: it may be busied again, or be another one,
    /// afterwards. The object's lock, if the calling thread has it, is let go of for good, also when the page is not busied
    /// (S246).
    ///
    /// # Errors
    /// No handle, stale; misuse in strict checking, without the object's lock.
    pub fn sleep(self, message: &str) -> Answer {
        let (page, object) = self.with_object()?;
        Self::check_locked(page)?;
        object.hand_lock.without().for_good();
        if page.is_busied() {
            wait_once(&object, page, BusyMode::Exclusive, message)?;
        }
        Ok(())
    }

    /// As [`PageHandle::sleep`], but the object's lock is kept when the page is not busied, and taken again after the sleep, if it
    /// was held. Tells whether it slept (S247).
    ///
    /// # Errors
    /// As [`PageHandle::sleep`].
    pub fn sleep_if_busy(self, message: &str) -> Answer<bool> {
        let page = self.page()?;
        Self::check_locked(page)?;
        if !page.is_busied() {
            return Ok(false);
        }
        let (page, object) = self.with_object()?;
        let _without = object.hand_lock.without();
        wait_once(&object, page, BusyMode::Exclusive, message)?;
        Ok(true)
    }
}

/// Sleeps once on a page of this object that is busied against `mode`.
pub(super) fn wait_once(object: &Arc<Object>, page: PageRef, mode: BusyMode, message: &str) -> Answer {
    let index = page.index();
    if let Some(reason) = object.lock().may_never_let_go() {
        let reason = words_or_nothing(format_args!("{reason}"));
        return Err(PageError::Failed(Error::Quarantined(reason)));
    }
    if !page.is(object.id(), index) || !page.busy.is_busied_against(mode) {
        return Ok(());
    }
    let _listed = Listed::enter(message, object.id(), index);
    object.engine().wait_for_page(page, mode, object.id(), index);
    Ok(())
}
