//! One entry of a leaf table.

use crate::machine::{Harvest, Translation};
use crate::types::{Access, CacheMode, Frame, PAGE_SHIFT, Prot};

const PRESENT: u64 = 1;
/// The rights take three bits from here on.
const RIGHTS_SHIFT: u32 = 1;
const REFERENCED: u64 = 1 << 4;
const MODIFIED: u64 = 1 << 5;
const WIRED: u64 = 1 << 6;
/// The frame is a device's.
const DEVICE: u64 = 1 << 7;
/// How it is accessed takes two bits from here on.
const CACHE_SHIFT: u32 = 8;
const USE: u64 = REFERENCED | MODIFIED;

/// A translation with its rights and what is known of its use; all zeros is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pte(u64);

impl Pte {
    pub(super) const NONE: Self = Self(0);

    /// A frame of the machine has less than 52 bits, and so has one of a device without the bit that says so.
    pub(super) fn new(frame: Frame, prot: Prot, cache: CacheMode, wired: bool) -> Self {
        let rights = u64::from(prot.bits()) << RIGHTS_SHIFT;
        let cache = match cache {
            CacheMode::WriteBack => 0,
            CacheMode::WriteCombining => 1,
            CacheMode::Uncached => 2,
        } << CACHE_SHIFT;
        let flag = |is: bool, bit| if is { bit } else { 0 };
        let flags = PRESENT | flag(wired, WIRED) | flag(frame.is_device(), DEVICE);
        Self(frame.0 << PAGE_SHIFT | rights | cache | flags)
    }

    pub(super) fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Whether this is a translation to `frame`.
    pub(super) fn shows(self, frame: Frame) -> bool {
        self.is_present() && self.frame() == frame
    }

    pub(super) fn frame(self) -> Frame {
        let number = self.0 >> PAGE_SHIFT;
        if self.0 & DEVICE == 0 {
            Frame(number)
        } else {
            Frame(Frame::device(0, 0).0 | number)
        }
    }

    fn cache(self) -> CacheMode {
        match self.0 >> CACHE_SHIFT & 3 {
            0 => CacheMode::WriteBack,
            1 => CacheMode::WriteCombining,
            _ => CacheMode::Uncached,
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "three bits are taken")]
    pub(super) fn prot(self) -> Prot {
        Prot::from_bits_truncate((self.0 >> RIGHTS_SHIFT) as u8)
    }

    pub(super) fn is_wired(self) -> bool {
        self.0 & WIRED != 0
    }

    pub(super) fn harvest(self) -> Harvest {
        Harvest {
            modified: self.0 & MODIFIED != 0,
            referenced: self.0 & REFERENCED != 0,
        }
    }

    pub(super) fn translation(self) -> Option<Translation> {
        self.is_present().then(|| Translation {
            frame: self.frame(),
            prot: self.prot(),
            wired: self.is_wired(),
            cache: self.cache(),
        })
    }

    /// Used in this way.
    pub(super) fn used_for(self, access: Access) -> Self {
        Self(self.0 | if access == Access::Write { USE } else { REFERENCED })
    }

    /// With the use and the wiring that `old` has.
    pub(super) fn carrying_on(self, old: Self) -> Self {
        Self(self.0 | old.0 & (USE | WIRED))
    }

    /// With no more rights than `prot`.
    pub(super) fn lowered_to(self, prot: Prot) -> Self {
        let above = u64::from((!prot).bits()) << RIGHTS_SHIFT;
        Self(self.0 & !above)
    }

    pub(super) fn unused(self) -> Self {
        Self(self.0 & !USE)
    }

    pub(super) fn unreferenced(self) -> Self {
        Self(self.0 & !REFERENCED)
    }

    pub(super) fn unwired(self) -> Self {
        Self(self.0 & !WIRED)
    }
}
