//! The buffers that bytes pass through on their way between a pager and the file of frames.
//!
//! Small ones are used again at once, last given first taken, so that they stay in the processor's cache: filling a page is
//! then hardly dearer than moving it once.

use core::ptr::NonNull;
use std::sync::Mutex;

use quire_core::types::PAGE_BYTES;
use rustix::io::Errno;

use crate::arena;
use crate::lock::lock;

/// Pages of the buffers, by class.
const CLASSES: [usize; 5] = [1, 4, 16, 64, 256];
/// Bytes of each class that keep their memory while nobody uses them.
const KEPT: usize = 2 << 20;
/// Bytes of addresses that a class grows by.
const GROWTH: usize = 4 << 20;

/// Buffers of machines that are gone, by class, without memory. Addresses of the engine's are never given back.
static SPARE: [Mutex<Vec<Buffer>>; CLASSES.len()] = [const { Mutex::new(Vec::new()) }; CLASSES.len()];

/// All buffers of a machine.
#[derive(Debug)]
pub(crate) struct Bounce {
    classes: [Mutex<Class>; CLASSES.len()],
}

/// The buffers of one length that nobody uses. Both lists have room for all buffers there are.
#[derive(Debug)]
struct Class {
    /// With memory, the last given at the end.
    warm: Vec<Buffer>,
    /// Addresses only.
    cold: Vec<Buffer>,
    total: usize,
}

/// A buffer; its class tells its length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) start: NonNull<u8>,
    pub(crate) class: usize,
}

// SAFETY: a buffer is an address; its bytes belong to whoever has taken it, on whichever thread that is.
unsafe impl Send for Buffer {}

impl Bounce {
    pub(crate) fn new() -> Self {
        let empty = || {
            Mutex::new(Class {
                warm: Vec::new(),
                cold: Vec::new(),
                total: 0,
            })
        };
        Self {
            classes: core::array::from_fn(|_| empty()),
        }
    }

    /// A buffer for `pages` pages, one after the other; what it holds is not defined. Nothing for more pages than any
    /// buffer has, or without memory.
    pub(crate) fn take(&self, pages: usize) -> Option<Buffer> {
        let number = CLASSES.iter().position(|most| pages <= *most)?;
        let mut class = lock(&self.classes[number]);
        if class.warm.is_empty() && class.cold.is_empty() {
            class.grow(number).ok()?;
        }
        let warm = class.warm.pop();
        warm.or_else(|| class.cold.pop())
    }

    /// Gives a buffer back.
    pub(crate) fn give(&self, buffer: Buffer) {
        let bytes = CLASSES[buffer.class] * PAGE_BYTES;
        let mut class = lock(&self.classes[buffer.class]);
        if class.warm.len() * bytes < KEPT {
            class.warm.push(buffer);
            return;
        }
        buffer.give_up_memory();
        class.cold.push(buffer);
    }
}

impl Drop for Bounce {
    fn drop(&mut self) {
        for (class, spare) in self.classes.iter().zip(&SPARE) {
            let mut class = lock(class);
            for buffer in &class.warm {
                buffer.give_up_memory();
            }
            let mut spare = lock(spare);
            spare.append(&mut class.warm);
            spare.append(&mut class.cold);
        }
    }
}

impl Buffer {
    /// For a buffer that nobody has: what it holds is lost.
    fn give_up_memory(&self) {
        let bytes = CLASSES[self.class] * PAGE_BYTES;
        // SAFETY: the buffer is private memory that nobody uses.
        unsafe { libc::madvise(self.start.as_ptr().cast(), bytes, libc::MADV_DONTNEED) };
    }
}

impl Class {
    fn grow(&mut self, number: usize) -> Result<(), Errno> {
        let bytes = CLASSES[number] * PAGE_BYTES;
        let count = GROWTH / bytes;
        let total = self.total + count;
        for list in [&mut self.warm, &mut self.cold] {
            list.try_reserve(total).map_err(|_| Errno::NOMEM)?;
        }
        self.total = total;
        {
            let mut spare = lock(&SPARE[number]);
            if !spare.is_empty() {
                let rest = spare.len().saturating_sub(count);
                self.cold.extend(spare.drain(rest..));
                return Ok(());
            }
        }
        let span = arena::reserve(GROWTH).inspect_err(|_| self.total -= count)?;
        self.cold.extend((0..count).rev().map(|i| Buffer {
            // SAFETY: inside the span that was reserved.
            start: unsafe { span.add(i * bytes) },
            class: number,
        }));
        Ok(())
    }
}
