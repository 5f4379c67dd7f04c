//! The bare mechanism: a minimal loop with the machine's ioctls, to measure an engine against, and plain `mmap` beside it.
//!
//! [`bare`] and [`mapped`] each run one [`Workload`] on a file and answer what they [`Measured`], so that a bench can take
//! turns between them and others. [`workload::drive`] is the loop that touches the memory; an engine's bench uses it too.

pub(crate) mod mechanism;
pub(crate) mod workload;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use mechanism::Mechanism;
use workload::{Driven, Extent, Memory, Workload, drive};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// Who resolves a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The faulting thread, in a handler of SIGBUS.
    InThread,
    /// A thread that waits in a read of the userfaultfd.
    HandlerThread,
}

/// What one run of a workload came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Touches of a page.
    pub accesses: u64,
    /// Faults that brought pages in (of `mmap`: as the kernel counts them).
    pub faults: u64,
    /// Pages taken out.
    pub evictions: u64,
    /// From the first touch to the last.
    pub elapsed: Duration,
    /// Processor time of the whole process meanwhile: what is left to compare by on a machine that others use too.
    pub processor: Duration,
    /// Threads that touched.
    pub threads: usize,
}

impl Measured {
    /// Of all threads together.
    pub(crate) fn accesses_per_second(&self) -> f64 {
        self.accesses as f64 / self.elapsed.as_secs_f64()
    }

    /// A thread's time between two of its faults, in nanoseconds: what a fault costs, with its share of eviction, and of
    /// touches that do not fault.
    pub(crate) fn ns_per_fault(&self) -> f64 {
        self.elapsed.as_nanos() as f64 * self.threads as f64 / self.faults.max(1) as f64
    }

    /// Processor time for each fault, with its share of the rest, in nanoseconds.
    #[allow(dead_code, reason = "one of the two benches prints it")]
    pub(crate) fn processor_ns_per_fault(&self) -> f64 {
        self.processor.as_nanos() as f64 / self.faults.max(1) as f64
    }

    /// `driven`, with what the counters went up by meanwhile.
    pub(crate) fn between(driven: Driven, before: Counters, after: Counters) -> Measured {
        Measured {
            accesses: driven.accesses,
            faults: after.faults - before.faults,
            evictions: after.evictions - before.evictions,
            elapsed: driven.elapsed,
            processor: after.processor - before.processor,
            threads: driven.threads,
        }
    }
}

/// Counters as they stand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Faults that brought pages in.
    pub faults: u64,
    /// Pages taken out.
    pub evictions: u64,
    /// Processor time of this process.
    pub processor: Duration,
}

/// Runs `workload` on `file` through userfaultfd with at most `budget` bytes in memory. A timed workload is warmed up first,
/// until the budget is full and evicted some times over. Panics when a write is lost.
pub(crate) fn bare(mode: Mode, workload: &Workload, file: &File, budget: usize) -> Measured {
    let sum = sum_of_writes(file);
    let mechanism = Mechanism::new(mode, file, budget, workload.run);
    let memory = mechanism.memory();
    let mut written = 0;
    if let Extent::For(_) = workload.extent {
        written += drive(&warm_up(workload, budget), memory).accesses;
    }
    let before = mechanism.counters();
    let driven = drive(workload, memory);
    let measured = Measured::between(driven, before, mechanism.counters());
    mechanism.finish();
    written += driven.accesses;
    assert_eq!(
        sum_of_writes(file) - sum,
        if workload.write { written } else { 0 },
        "writes that reached the file"
    );
    measured
}

/// The workload, long enough to fill and evict the budget.
pub(crate) fn warm_up(workload: &Workload, budget: usize) -> Workload {
    let accesses = 3 * (budget / PAGE / workload.threads) as u64;
    Workload {
        extent: Extent::Accesses(accesses),
        ..*workload
    }
}

/// Runs `workload` on a shared mapping of `file`, under this advice. There is no budget: all of the file may stay.
pub(crate) fn mapped(advice: Advice, workload: &Workload, file: &File) -> Measured {
    let len = usize::try_from(file.metadata().expect("the file is there").len()).expect("it fits the address space");
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping; its bytes are touched through atomics, and it is unmapped below.
    let at = unsafe {
        let at = rustix::mm::mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file, 0);
        let at = at.expect("the file is mapped");
        rustix::mm::madvise(at, len, advice).expect("the advice is taken");
        at
    };
    let memory = Memory::new(at.cast(), len / PAGE);
    if let Extent::For(_) = workload.extent {
        drive(&warm_up(workload, len / 4), memory);
    }
    let before = of_the_kernel();
    let driven = drive(workload, memory);
    let measured = Measured::between(driven, before, of_the_kernel());
    // SAFETY: mapped above, and the threads that touched it have ended.
    unsafe { rustix::mm::munmap(at, len) }.expect("it is unmapped");
    measured
}

/// What the kernel counts of this process: minor faults and processor time.
pub(crate) fn of_the_kernel() -> Counters {
    // SAFETY: a zeroed `rusage` is a valid one, and ours.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let time = |of: libc::timeval| {
        let (seconds, micros) = (u64::try_from(of.tv_sec), u64::try_from(of.tv_usec));
        Duration::from_secs(seconds.expect("not negative")) + Duration::from_micros(micros.expect("not negative"))
    };
    Counters {
        faults: u64::try_from(usage.ru_minflt).expect("a count"),
        evictions: 0,
        processor: time(usage.ru_utime) + time(usage.ru_stime),
    }
}

/// A file of `pages` pages that lies in the page cache; each page starts with its own number, the rest is zeros.
pub(crate) fn cached_file(pages: usize) -> File {
    let file = tempfile::tempfile().expect("a temporary file is made");
    let mut page = [0; PAGE];
    for index in 0..pages as u64 {
        page[..8].copy_from_slice(&index.to_ne_bytes());
        file.write_all_at(&page, index * PAGE as u64)
            .expect("the file is written");
    }
    file.sync_all().expect("the file is written back");
    file
}

/// The sum of the words that writers count up in: how many writes the file has seen.
fn sum_of_writes(file: &File) -> u64 {
    let pages = file.metadata().expect("the file is there").len() / PAGE as u64;
    let mut words = [0; 8 * workload::WRITERS];
    let mut sum = 0_u64;
    for page in 0..pages {
        file.read_exact_at(&mut words, page * PAGE as u64 + 8)
            .expect("the file is read");
        let words = words.as_chunks::<8>().0.iter();
        sum = words.fold(sum, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)));
    }
    sum
}
