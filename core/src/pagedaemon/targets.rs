//! When the page daemon starts, and when it has done enough (N11).

use crate::machine::FrameCounts;

/// Numbers of free frames, beyond those that the machine holds back from ordinary allocations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Targets {
    /// With fewer, the daemon's thread is woken.
    pub free_min: u64,
    /// With at least so many, a step has nothing to do.
    pub free_target: u64,
    /// A step that has something to do goes on until so many are free, or being written.
    pub free_enough: u64,
}

impl Targets {
    /// A 200th of all frames, but from 128 KiB to 1 MiB, is the least; a third more is the target, and four times that
    /// is enough. A small machine gives a sixteenth of its frames at most for the least, and half of them for enough.
    #[must_use]
    pub fn of(frames: FrameCounts) -> Self {
        let usable = frames.total - frames.reserved.min(frames.total);
        let free_min = (frames.total / 200).clamp(32, 256).min(usable / 16).max(1);
        let free_target = (free_min * 4 / 3).max(free_min + 1);
        Self {
            free_min,
            free_target,
            free_enough: (free_target * 4).min(usable / 2).max(free_target),
        }
    }
}

/// Frames that an ordinary allocation can have.
pub(super) fn usable(frames: FrameCounts) -> u64 {
    frames.free.saturating_sub(frames.reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(total: u64) -> (u64, u64, u64) {
        let Targets {
            free_min,
            free_target,
            free_enough,
        } = Targets::of(FrameCounts {
            total,
            free: 0,
            reserved: 0,
        });
        (free_min, free_target, free_enough)
    }

    #[test]
    fn n11_the_least_is_a_200th_from_128_kib_to_1_mib_then_a_third_more_and_four_times_that() {
        assert_eq!(of(1 << 13), (40, 53, 212));
        assert_eq!(of(1 << 12), (32, 42, 168));
        assert_eq!(of(1 << 20), (256, 341, 1364));
        assert_eq!(of(u64::MAX), (256, 341, 1364));
        assert_eq!(of(64), (4, 5, 20));
        assert_eq!(of(4), (1, 2, 2));
        assert_eq!(of(1), (1, 2, 2));
    }
}
