//! Numbers that must not be mixed up, each a type of its own, and the small sets and choices that go with them.
//!
//! | type | counts | lives in |
//! |---|---|---|
//! | [`VirtAddr`] | bytes | the address space of one map |
//! | [`ByteOff`] | bytes | an object |
//! | [`PageIndex`] | pages | an object |
//! | [`Frame`] | opaque | a machine |
//!
//! Arithmetic that can overflow returns an `Option`; there is no other way from one space into another than the functions here.

use core::fmt;

/// Log2 of the page size.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// [`PAGE_SIZE`] for lengths of byte slices.
pub const PAGE_BYTES: usize = 1 << PAGE_SHIFT;
const PAGE_MASK: u64 = PAGE_SIZE - 1;

/// An object has at most this many pages: 2^52 less one, so that its size in bytes fits 64 bits (S33, S132).
pub const MAX_PAGES: u64 = (1 << 52) - 1;
/// The largest size of an object in bytes; larger ones are clamped to it.
pub const MAX_OBJECT_SIZE: u64 = MAX_PAGES << PAGE_SHIFT;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number plus `n`, or nothing if it does not fit.
            #[must_use]
            pub fn checked_add(self, n: u64) -> Option<Self> {
                self.0.checked_add(n).map(Self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

number! {
    /// An address in the address space of a map, in bytes.
    VirtAddr
}
number! {
    /// A byte offset in an object.
    ByteOff
}
number! {
    /// The index of a page in an object, less than [`MAX_PAGES`].
    PageIndex
}
number! {
    /// A frame of memory, as the machine calls it. Opaque to the engine: a number to hand back, below 2^63. Those from there on are frames of
    /// devices ([`Frame::device`]), which belong to no machine.
    Frame
}
number! {
    /// Names an object for as long as the process lives: never used twice, never 0.
    ObjectId
}

impl VirtAddr {
    /// The address of the page that this address lies in.
    #[must_use]
    pub fn page_floor(self) -> Self {
        Self(self.0 & !PAGE_MASK)
    }

    /// Bytes from the start of the page.
    #[must_use]
    pub fn in_page(self) -> usize {
        low_bits(self.0)
    }

    /// Whether this is the address of a page's first byte.
    #[must_use]
    pub fn is_aligned(self) -> bool {
        self.0 & PAGE_MASK == 0
    }
}

impl ByteOff {
    /// The page that this byte lies in.
    #[must_use]
    pub fn page(self) -> PageIndex {
        PageIndex(self.0 >> PAGE_SHIFT)
    }

    /// Bytes from the start of the page.
    #[must_use]
    pub fn in_page(self) -> usize {
        low_bits(self.0)
    }

    /// Whether this is the offset of a page's first byte.
    #[must_use]
    pub fn is_aligned(self) -> bool {
        self.0 & PAGE_MASK == 0
    }
}

impl Frame {
    /// Bits of the number of a page in an aperture.
    pub const DEVICE_PAGE_BITS: u32 = 40;
    const DEVICE: u64 = 1 << 63;

    /// Page `page` of the aperture in place `aperture` of the table ([`aperture`](crate::aperture)).
    #[must_use]
    pub fn device(aperture: usize, page: u64) -> Self {
        debug_assert!(page >> Self::DEVICE_PAGE_BITS == 0);
        Self(Self::DEVICE | (aperture as u64) << Self::DEVICE_PAGE_BITS | page)
    }

    /// Whether it is a frame of a device.
    #[inline]
    #[must_use]
    pub fn is_device(self) -> bool {
        self.0 & Self::DEVICE != 0
    }

    /// The place of its aperture in the table. Of a frame of a device.
    #[allow(clippy::cast_possible_truncation, reason = "a place in a table in memory")]
    pub(crate) fn aperture(self) -> usize {
        ((self.0 & !Self::DEVICE) >> Self::DEVICE_PAGE_BITS) as usize
    }

    /// Its page in the aperture. Of a frame of a device.
    #[must_use]
    pub fn page_in_aperture(self) -> u64 {
        self.0 & ((1 << Self::DEVICE_PAGE_BITS) - 1)
    }
}

impl PageIndex {
    /// The offset of the page's first byte.
    #[must_use]
    pub fn offset(self) -> ByteOff {
        debug_assert!(self.0 <= MAX_PAGES);
        ByteOff(self.0 << PAGE_SHIFT)
    }
}

#[allow(clippy::cast_possible_truncation, reason = "twelve bits fit every usize")]
fn low_bits(n: u64) -> usize {
    (n & PAGE_MASK) as usize
}

/// How many pages `bytes` bytes touch when they start at a page: rounded up.
#[must_use]
pub fn pages_of(bytes: u64) -> u64 {
    (bytes >> PAGE_SHIFT) + u64::from(bytes & PAGE_MASK != 0)
}

/// `bytes` rounded up to whole pages, or nothing if that does not fit.
#[must_use]
pub fn round_page(bytes: u64) -> Option<u64> {
    bytes.checked_add(PAGE_MASK).map(|b| b & !PAGE_MASK)
}

/// A range of addresses: `start` is in it, `end` is not. Never reversed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddrRange {
    /// The first address.
    pub start: VirtAddr,
    /// The first address behind the range.
    pub end: VirtAddr,
}

impl AddrRange {
    /// The range of `len` bytes from `start`; nothing when the end does not fit 64 bits.
    #[must_use]
    pub fn sized(start: VirtAddr, len: u64) -> Option<Self> {
        Some(Self {
            start,
            end: start.checked_add(len)?,
        })
    }

    /// Bytes in the range.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether there is no byte in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// Whether `va` lies in it.
    #[must_use]
    pub fn contains(&self, va: VirtAddr) -> bool {
        self.start <= va && va < self.end
    }
}

impl fmt::Debug for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}, {:#x})", self.start.0, self.end.0)
    }
}

bitflags::bitflags! {
    /// What may be done with memory, or is being done.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Prot: u8 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXEC = 4;
    }
}

/// What a thread was doing when it faulted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Exec,
}

impl Access {
    /// The right that this access needs.
    #[must_use]
    pub fn needs(self) -> Prot {
        match self {
            Self::Read => Prot::READ,
            Self::Write => Prot::WRITE,
            Self::Exec => Prot::EXEC,
        }
    }
}

/// How memory wants to be accessed. A machine with page tables of its own obeys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CacheMode {
    /// As ordinary memory.
    #[default]
    WriteBack,
    /// Stores may be gathered and reordered, loads are not cached: frame buffers.
    WriteCombining,
    /// Every access reaches the device, in order: registers.
    Uncached,
}

/// What a fork of the map does with an entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Inherit {
    /// Both maps share the memory.
    Share,
    /// The child gets a copy, made when written.
    #[default]
    Copy,
    /// The child gets nothing there.
    None,
    /// The child gets zeros.
    Zero,
}

/// What a program told of its future accesses; decides how many resident neighbours a fault maps along (N12).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Advice {
    /// Nothing is known: 3 pages before, 4 behind.
    #[default]
    Normal,
    /// No pattern: the faulting page alone.
    Random,
    /// Ascending: 8 pages before, 7 behind.
    Sequential,
}

impl Advice {
    /// Pages before and behind the faulting one that are mapped along when they are resident.
    #[must_use]
    pub fn window(self) -> (u64, u64) {
        match self {
            Self::Normal => (3, 4),
            Self::Random => (0, 0),
            Self::Sequential => (8, 7),
        }
    }
}

/// The most pages that one fault maps: the faulting one and its window (N12, UVM_MAXRANGE).
pub const MAX_WINDOW: usize = 16;
