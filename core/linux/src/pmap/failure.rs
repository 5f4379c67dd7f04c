//! Failures that are left at addresses: the next access there fails, and a later one asks again.

use quire_core::types::VirtAddr;

use super::{LinuxPmap, holding, one_page};
use crate::layout::{Channel, retry, span};
use crate::lock::{lock, read, write};
use crate::sys::{self, Install};

impl LinuxPmap {
    /// Makes the next access to a page fail, for which somebody waits at `channel`: SIGBUS at its address, or `EFAULT` from a
    /// system call. Answers whether it will fail; otherwise whoever waits there makes the access again.
    pub(crate) fn poison(&self, va: VirtAddr, channel: &Channel) -> bool {
        let page = va.page_floor();
        let failed = self.leave_failure(page, channel);
        if failed {
            lock(&self.poisons).push(page);
        } else {
            channel.wake(page);
        }
        failed
    }

    fn leave_failure(&self, page: VirtAddr, channel: &Channel) -> bool {
        let poison = || retry(|| channel.uffd.poison(span(one_page(page)), Install::empty()).all()).is_ok();
        // Locked until it is done: the addresses stay the machine's.
        let laid = read(&self.laid);
        let Some(here) = holding(&laid, page) else {
            return self.is_owed(page) && poison();
        };
        if !core::ptr::eq(&raw const *here.laid.channel, channel) {
            return false;
        }
        let slots = self.machine.slots;
        {
            // What can be read there, and only not be written, is in the way.
            let _inner = write(here.space.inner());
            here.laid.clear(slots, &self.machine.pagemap, one_page(page));
        }
        if !slots.begin_failure(page) {
            return false;
        }
        // So is the mark that a clean page leaves behind.
        let _ = retry(|| channel.uffd.write_protect(span(one_page(page)), false));
        let failed = poison();
        slots.end_failure(page);
        failed
    }

    /// Forgets the failures: the next access asks again. Answers whether there were any.
    pub(crate) fn clear_poisons(&self) -> bool {
        let poisons = core::mem::take(&mut *lock(&self.poisons));
        for va in &poisons {
            self.unpoison(*va);
        }
        !poisons.is_empty()
    }

    /// Forgets the failure at one address.
    pub(crate) fn clear_poison(&self, va: VirtAddr) {
        lock(&self.poisons).retain(|poison| *poison != va.page_floor());
        self.unpoison(va.page_floor());
    }

    fn unpoison(&self, page: VirtAddr) {
        // Locked until it is done: the addresses stay the machine's.
        let laid = read(&self.laid);
        if holding(&laid, page).is_some() {
            // SAFETY: a page of a layout. A mapping that was made meanwhile is only made again.
            let _ = unsafe { sys::dont_need(span(one_page(page))) };
        }
    }
}
