//! Reading and writing through a map: by copying, and as a simulated processor would.
//!
//! On a machine with real addresses the caller's buffer may itself be a served page, even the one that is copied. So nothing
//! of it is touched while a page is held: the bytes go by way of a page on the stack.

use crate::error::FaultError;
use crate::machine::{CpuAccess, CpuStop};
use crate::map::Map;
use crate::types::{Access, PAGE_BYTES, VirtAddr};

/// A copy that stopped short.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stopped {
    /// Bytes that were copied before.
    pub done: usize,
    /// Why it went no further.
    pub error: FaultError,
}

impl Map {
    /// Copies from mapped memory at `va` into `to`, faulting pages in but mapping nothing. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Stopped`] with the bytes copied so far and the fault that could not be resolved.
    pub fn copy_out(&self, va: VirtAddr, to: &mut [u8]) -> Result<(), Stopped> {
        let machine = self.engine().machine();
        let mut between = [0; PAGE_BYTES];
        for_each_page(va, to.len(), |va, piece| {
            let between = &mut between[..piece.len()];
            {
                let held = self.hold(va, Access::Read)?;
                machine.copy_out(held.page(), va.in_page(), between);
                held.page().note_referenced();
            }
            to[piece].copy_from_slice(between);
            Ok(())
        })
    }

    /// Copies `from` into mapped memory at `va`, faulting pages in but mapping nothing; the pages are dirty afterwards. May block; no lock may be held.
    ///
    /// # Errors
    /// As [`Map::copy_out`].
    pub fn copy_in(&self, va: VirtAddr, from: &[u8]) -> Result<(), Stopped> {
        let machine = self.engine().machine();
        let mut between = [0; PAGE_BYTES];
        for_each_page(va, from.len(), |va, piece| {
            let between = &mut between[..piece.len()];
            between.copy_from_slice(&from[piece]);
            loop {
                let version = self.version();
                let held = self.hold(va, Access::Write)?;
                // Whoever copies the map waits, or has done so, and then the page may not be ours alone any more.
                let _entries = self.read();
                if self.version() == version {
                    machine.copy_in(held.page(), va.in_page(), between);
                    held.page().note_referenced();
                    return Ok(());
                }
            }
        })
    }

    /// Loads bytes at `va` as a processor does: through the translations, faulting where there is none. Only on machines with a
    /// simulated processor.
    ///
    /// # Errors
    /// As [`Map::copy_out`]; [`FaultError::RealPointers`] on a machine without a simulated processor.
    pub fn load(&self, va: VirtAddr, to: &mut [u8]) -> Result<(), Stopped> {
        for_each_page(va, to.len(), |va, piece| {
            let to = &mut to[piece];
            self.cpu(va, Access::Read, |va| self.pmap().cpu(va, CpuAccess::Load(to)))
        })
    }

    /// Stores bytes at `va` as a processor does. As [`Map::load`].
    ///
    /// # Errors
    /// As [`Map::load`].
    pub fn store(&self, va: VirtAddr, from: &[u8]) -> Result<(), Stopped> {
        for_each_page(va, from.len(), |va, piece| {
            let from = &from[piece];
            self.cpu(va, Access::Write, |va| self.pmap().cpu(va, CpuAccess::Store(from)))
        })
    }

    /// Tries an access until it goes through, resolving its faults.
    fn cpu(
        &self,
        va: VirtAddr,
        access: Access,
        mut attempt: impl FnMut(VirtAddr) -> Result<(), CpuStop>,
    ) -> Result<(), FaultError> {
        loop {
            match attempt(va) {
                Ok(()) => return Ok(()),
                Err(CpuStop::Fault) => self.fault(va, access).map(|_| ())?,
                Err(CpuStop::NoCpu) => return Err(FaultError::RealPointers(self.engine().machine().name())),
            }
        }
    }
}

/// Calls `each` for every page that `len` bytes from `va` touch, with the address and the piece of the buffer.
fn for_each_page(
    va: VirtAddr,
    len: usize,
    mut each: impl FnMut(VirtAddr, core::ops::Range<usize>) -> Result<(), FaultError>,
) -> Result<(), Stopped> {
    let mut done = 0;
    while done < len {
        let Some(at) = va.checked_add(done as u64) else {
            return Err(Stopped {
                done,
                error: FaultError::NotMapped(va),
            });
        };
        let piece = (PAGE_BYTES - at.in_page()).min(len - done);
        each(at, done..done + piece).map_err(|error| Stopped { done, error })?;
        done += piece;
    }
    Ok(())
}
