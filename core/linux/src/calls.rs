//! How often a machine called the kernel, for tests and benches: a fault is to cost no call but the necessary ones.

use core::sync::atomic::{AtomicU64, Ordering};

use quire_core::sync::current_thread;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident => $field:ident,)+) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Kind { $($kind),+ }

        const KINDS: usize = [$(Kind::$kind),+].len();

        /// How often a machine called the kernel, and for how many pages. Exact while no operation is under way.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Calls { $($(#[doc = $doc])+ pub $field: u64),+ }

        impl Counters {
            pub(crate) fn read(&self) -> Calls {
                Calls { $($field: self.sum(Kind::$kind)),+ }
            }
        }
    };
}

kinds! {
    /// Calls that mapped pages (`UFFDIO_CONTINUE`).
    Enter => enters,
    /// Pages that they mapped.
    PageEntered => pages_entered,
    /// Calls that only woke who waited (`UFFDIO_WAKE`).
    Wake => wakes,
    /// Calls that set or lifted protection (`UFFDIO_WRITEPROTECT`).
    WriteProtect => write_protects,
    /// Calls that asked what was written (`PAGEMAP_SCAN`).
    Scan => scans,
    /// Calls that took mappings away (`MADV_DONTNEED`).
    Unmap => unmaps,
    /// Entered pages that they took away.
    PageUnmapped => pages_unmapped,
    /// Calls that freed pages of the file (`FALLOC_FL_PUNCH_HOLE`).
    Punch => punches,
    /// Frames that they freed.
    FrameFreed => frames_freed,
    /// Calls that wrote pages to the file (`pwrite`).
    FileWrite => file_writes,
    /// Calls that read pages from the file (`pread`).
    FileRead => file_reads,
}

const SHARDS: usize = 16;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([AtomicU64; KINDS]);

/// The counters of one machine.
#[derive(Debug, Default)]
pub(crate) struct Counters([Shard; SHARDS]);

impl Counters {
    #[inline]
    pub(crate) fn add(&self, kind: Kind, n: u64) {
        #[allow(clippy::cast_possible_truncation, reason = "only the low bits choose the shard")]
        let shard = current_thread() as usize % SHARDS;
        self.0[shard].0[kind as usize].fetch_add(n, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn count(&self, kind: Kind) {
        self.add(kind, 1);
    }

    fn sum(&self, kind: Kind) -> u64 {
        let of = |shard: &Shard| shard.0[kind as usize].load(Ordering::Relaxed);
        self.0.iter().map(of).sum()
    }
}
