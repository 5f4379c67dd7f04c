//! How many map entries show each slot of an amap (N17).
//!
//! In the common case one count says it for all of them. Only where a part of what an entry shows was given back or shown once more, the
//! counts are kept by runs of equal ones.

use alloc::vec::Vec;
use core::ops::Range;

use crate::alloc_fallible::try_reserve;
use crate::error::Result;

/// Counts of entries by slot. Nothing is shown at first.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// Each run begins at its slot and ends where the next one begins. Ascending, neighbours differ, the first and the last
    /// are not 0, and behind the last begins one of 0. Slots before the first are shown by nobody.
    runs: Vec<(u64, u32)>,
}

/// So many places in reserve let a change of one range succeed: it puts in two borders at most.
const BORDERS: usize = 2;

impl Coverage {
    /// Whether every slot of `range` is shown exactly once.
    pub(super) fn is_sole(&self, range: Range<u64>) -> bool {
        self.counts(range).all(|(_, count)| count == 1)
    }

    /// Whether no slot of `range` is shown.
    pub(super) fn is_bare(&self, range: Range<u64>) -> bool {
        self.counts(range).all(|(_, count)| count == 0)
    }

    /// The first slots of `range` in one piece that nobody shows.
    pub(super) fn bare(&self, range: Range<u64>) -> Option<Range<u64>> {
        self.counts(range).find(|(_, count)| *count == 0).map(|(bare, _)| bare)
    }

    /// One entry more shows the slots of `range`.
    ///
    /// # Errors
    /// `NoMemory`; nothing was changed.
    pub(super) fn add(&mut self, range: Range<u64>) -> Result<()> {
        self.change(range, |count| count + 1)
    }

    /// One entry less shows the slots of `range`, each of which was shown.
    ///
    /// # Errors
    /// `NoMemory`; nothing was changed.
    pub(super) fn remove(&mut self, range: Range<u64>) -> Result<()> {
        self.change(range, |count| {
            debug_assert!(count > 0, "a slot was given back that nobody shows");
            count.saturating_sub(1)
        })
    }

    /// The pieces of `range` with equal counts, ascending.
    fn counts(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, u32)> + '_ {
        let mut from = range.start;
        let mut behind = self.runs.partition_point(|(start, _)| *start <= from);
        core::iter::from_fn(move || {
            if from >= range.end {
                return None;
            }
            let count = behind.checked_sub(1).map_or(0, |at| self.runs[at].1);
            let end = self
                .runs
                .get(behind)
                .map_or(range.end, |(start, _)| range.end.min(*start));
            let piece = from..end;
            (from, behind) = (end, behind + 1);
            Some((piece, count))
        })
    }

    fn change(&mut self, range: Range<u64>, to: impl Fn(u32) -> u32) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        try_reserve(&mut self.runs, BORDERS)?;
        let first = self.border(range.start);
        let last = self.border(range.end);
        for run in &mut self.runs[first..last] {
            run.1 = to(run.1);
        }
        self.tidy();
        Ok(())
    }

    /// The run that begins at `slot`, which begins one if none does.
    fn border(&mut self, slot: u64) -> usize {
        let at = self.runs.partition_point(|(start, _)| *start < slot);
        if self.runs.get(at).is_none_or(|(start, _)| *start != slot) {
            let count = at.checked_sub(1).map_or(0, |before| self.runs[before].1);
            self.runs.insert(at, (slot, count));
        }
        at
    }

    fn tidy(&mut self) {
        let mut before = 0;
        self.runs.retain(|(_, count)| {
            let differs = *count != before;
            before = *count;
            differs
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(range: Range<u64>) -> Coverage {
        let mut coverage = Coverage::default();
        coverage.add(range).unwrap();
        coverage
    }

    fn at(coverage: &Coverage, slot: u64) -> u32 {
        coverage.counts(slot..slot + 1).map(|(_, count)| count).sum()
    }

    #[test]
    fn n17_partial_references_are_kept_as_runs_of_equal_counts() {
        // The counts 2 2 2 2 3 1 1 0 0 0 4 4 0 1 1 1.
        let mut coverage = of(0..16);
        for more in [0..5, 4..5, 10..12, 10..12, 10..12] {
            coverage.add(more).unwrap();
        }
        coverage.remove(7..10).unwrap();
        coverage.remove(12..13).unwrap();
        let counts: Vec<u32> = (0..16).map(|slot| at(&coverage, slot)).collect();
        assert_eq!(counts, [2, 2, 2, 2, 3, 1, 1, 0, 0, 0, 4, 4, 0, 1, 1, 1]);
        assert_eq!(
            coverage.runs,
            [(0, 2), (4, 3), (5, 1), (7, 0), (10, 4), (12, 0), (13, 1), (16, 0)],
            "one run for each stretch of equal counts"
        );
        assert_eq!(
            (coverage.bare(0..16), coverage.bare(11..13)),
            (Some(7..10), Some(12..13))
        );
    }

    #[test]
    fn n17_the_common_case_is_one_run_however_often_it_is_shared() {
        let mut coverage = of(0..1 << 40);
        for _ in 0..1000 {
            coverage.add(0..1 << 40).unwrap();
        }
        assert_eq!(coverage.runs, [(0, 1001), (1 << 40, 0)]);
        assert!(!coverage.is_sole(0..1));
        for _ in 0..1000 {
            coverage.remove(0..1 << 40).unwrap();
        }
        assert!(coverage.is_sole(0..1 << 40));
        coverage.remove(0..1 << 40).unwrap();
        assert!(coverage.runs.is_empty());
    }

    proptest! {
        #[test]
        fn counts_are_those_of_an_array(steps in proptest::collection::vec((any::<bool>(), 0..40_u64, 0..40_u64), 0..80)) {
            let mut coverage = of(8..24);
            let mut model = [0_u32; 40];
            model[8..24].fill(1);
            for (more, a, b) in steps {
                let (from, to) = (usize::try_from(a.min(b)).unwrap(), usize::try_from(a.max(b)).unwrap());
                let range = a.min(b)..a.max(b);
                let counts = &mut model[from..to];
                if more {
                    coverage.add(range.clone()).unwrap();
                    counts.iter_mut().for_each(|count| *count += 1);
                } else if counts.iter().all(|count| *count > 0) {
                    coverage.remove(range.clone()).unwrap();
                    counts.iter_mut().for_each(|count| *count -= 1);
                }
                let all = |wanted| model[from..to].iter().all(|count| *count == wanted);
                prop_assert_eq!((coverage.is_sole(range.clone()), coverage.is_bare(range.clone())), (all(1), all(0)));
                let bare = model[from..to].iter().position(|count| *count == 0);
                prop_assert_eq!(coverage.bare(range).map(|bare| bare.start), bare.map(|at| (from + at) as u64));
                prop_assert!((0..40).all(|slot| at(&coverage, slot as u64) == model[slot]));
                prop_assert!(coverage.runs.windows(2).all(|pair| pair[0].1 != pair[1].1));
            }
        }
    }
}
