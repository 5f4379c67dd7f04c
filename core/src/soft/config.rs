//! How large the soft machine is, and how awkward.

use crate::error::Error;

/// What a soft machine is like. See [the module](super) for the awkward modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SoftConfig {
    /// How many frames there are at most; memory for them is taken as they are used. From 1 to 2^32 less one.
    pub frames: u64,
    /// Frames that only [`Reserve::Daemon`](crate::machine::Reserve::Daemon) gets.
    pub reserve_daemon: u64,
    /// Frames on top of those that only [`Reserve::Kernel`](crate::machine::Reserve::Kernel) and the daemon get.
    pub reserve_kernel: u64,
    /// A frame belongs to the owner and index it was first allocated for.
    pub fixed_frames: bool,
    /// Lent bytes are copies.
    pub lend_copies: bool,
    /// What a mapping knows of its use is learnt by removing it, in no other way.
    pub modified_by_removal: bool,
}

impl Default for SoftConfig {
    /// 256 MiB, a reserve of 4 and 8 frames, and nothing awkward.
    fn default() -> Self {
        Self {
            frames: 1 << 16,
            reserve_daemon: 4,
            reserve_kernel: 8,
            fixed_frames: false,
            lend_copies: false,
            modified_by_removal: false,
        }
    }
}

impl SoftConfig {
    /// Every combination of the awkward modes, the default first: what a test suite loops over.
    #[must_use]
    pub fn awkward_modes() -> [Self; 8] {
        core::array::from_fn(|mode| Self {
            fixed_frames: mode & 1 != 0,
            lend_copies: mode & 2 != 0,
            modified_by_removal: mode & 4 != 0,
            ..Self::default()
        })
    }

    /// Refuses what makes no machine.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.frames == 0 {
            return Err(Error::Invalid(
                "a machine without frames cannot hold a page; give it at least one",
            ));
        }
        if self.frames > u64::from(u32::MAX) {
            return Err(Error::Invalid(
                "a soft machine has less than 2^32 frames; ask for fewer",
            ));
        }
        match self.reserve_daemon.checked_add(self.reserve_kernel) {
            Some(reserved) if reserved <= self.frames => Ok(()),
            _ => Err(Error::Invalid(
                "the reserves are larger than the machine; give it more frames or reserve fewer",
            )),
        }
    }
}
