//! Many requests at once, with every test program's configuration.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use quire_pager::abi::*;
use quire_pager::testing::{PAGE_SIZE, Started, TestHost, TestObject};
use quire_pager_vnode::{ENGINE_SYNC, STATS_ID, StatsCounters, StatsTable};
use tempfile::NamedTempFile;

const PAGE: u64 = PAGE_SIZE as u64;

fn host() -> TestHost {
    TestHost::load(quire_pager_vnode::module(), Some(crate::CONFIG)).expect("the vnode pager loads")
}

fn counters(host: &TestHost) -> StatsCounters {
    let get_extension = host.module().get_extension.expect("the pager has extensions");
    // SAFETY: `init` gave the context, and the name ends in a zero.
    let table = unsafe { get_extension(host.ctx(), STATS_ID.as_ptr()) }.cast::<StatsTable>();
    let mut counters = StatsCounters {
        struct_size: u32::try_from(size_of::<StatsCounters>()).expect("is small"),
        ..StatsCounters::default()
    };
    // SAFETY: the extension of this name is such a table, and `counters` says its size.
    assert_eq!(unsafe { ((*table).read)(table, &mut counters) }, QUIRE_PAGER_OK);
    counters
}

fn empty(pages: u64) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a temporary file");
    file.as_file().set_len(pages * PAGE).expect("grows");
    file
}

fn open<'a>(host: &'a TestHost, file: &NamedTempFile) -> TestObject<'a> {
    host.open(file.path().to_str().expect("UTF-8")).expect("opens")
}

/// Marsaglia's xorshift: numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn many_puts_and_gets_in_flight_all_complete_with_their_own_bytes() {
    const RUNS: u64 = 200;
    const LEN: u64 = 3;
    let (host, file) = (host(), empty(RUNS * LEN));
    let object = open(&host, &file);
    let page = |index: u64| vec![u8::try_from(index % 251).expect("below 251") + 1; PAGE_SIZE];
    let pages = |run: u64| (run * LEN..(run + 1) * LEN).map(page).collect::<Vec<_>>();
    let puts: Vec<Started<'_>> = (0..RUNS)
        .map(|run| object.start_put(object.transfer(run * LEN, pages(run))))
        .collect();
    let pended = puts.iter().filter(|put| put.pended()).count();
    for put in puts {
        let answer = put.wait();
        assert_eq!((answer.status, answer.text.as_str()), (QUIRE_PAGER_OK, ""));
    }
    let gets: Vec<Started<'_>> = (0..RUNS)
        .map(|run| object.start_get(object.transfer(run * LEN, vec![vec![0xAA; PAGE_SIZE]; 3])))
        .collect();
    for (run, get) in (0..).zip(gets) {
        let answer = get.wait();
        assert_eq!(answer.status, QUIRE_PAGER_OK, "{}", answer.text);
        assert!(answer.pages.iter().map(|page| &page.bytes).eq(&pages(run)));
    }
    let counters = counters(&host);
    assert_eq!(counters.requests, 2 * RUNS);
    assert_eq!(counters.in_flight, 0);
    assert_eq!(counters.bytes_written, RUNS * LEN * PAGE);
    assert_eq!(counters.bytes_read, RUNS * LEN * PAGE);
    assert_eq!(pended > 0, counters.engine != ENGINE_SYNC);
    let all = counters.bytes_direct == counters.bytes_read + counters.bytes_written;
    assert_eq!(all, crate::CONFIG.contains("direct=1"), "{counters:?}");
}

/// The page cache has one page of the run, the device the rest.
#[test]
fn a_run_that_is_cached_in_part_is_whole() {
    use rustix::fs::{Advice, fadvise};
    const PAGES: u64 = 64;
    let (host, file) = (host(), empty(PAGES));
    let bytes: Vec<u8> = (0..PAGES * PAGE)
        .map(|i| u8::try_from(i / 9 % 251).expect("a byte"))
        .collect();
    file.as_file().write_all_at(&bytes, 0).expect("is written");
    file.as_file().sync_all().expect("is written");
    let object = open(&host, &file);
    for cached in [0, 1, 20, PAGES - 1] {
        fadvise(file.as_file(), 0, None, Advice::DontNeed).expect("is advised");
        fadvise(file.as_file(), 0, None, Advice::Random).expect("is advised");
        let mut page = vec![0; PAGE_SIZE];
        file.as_file().read_exact_at(&mut page, cached * PAGE).expect("reads");
        let answer = object.get(0, 64);
        assert_eq!(answer.status, QUIRE_PAGER_OK, "{}", answer.text);
        assert!(answer.pages.iter().flat_map(|page| &page.bytes).eq(&bytes));
    }
    let counters = counters(&host);
    // A file system in memory keeps its pages whatever it is advised, and then nothing need pend.
    println!("{} of 4 gets pended", counters.pended);
    assert_eq!(counters.bytes_read, 4 * PAGES * PAGE);
}

#[test]
fn the_unaligned_tail_goes_through_the_page_cache_and_nothing_else_does() {
    let host = host();
    let file = empty(2);
    file.as_file().set_len(2 * PAGE + 101).expect("grows");
    let object = open(&host, &file);
    assert_eq!(object.put(0, &[3; 3 * PAGE_SIZE]).status, QUIRE_PAGER_OK);
    assert_eq!(object.get(0, 3).status, QUIRE_PAGER_OK);
    let counters = counters(&host);
    let direct = if crate::CONFIG.contains("direct=1") {
        4 * PAGE
    } else {
        0
    };
    assert_eq!(counters.bytes_direct, direct);
    assert_eq!(counters.bytes_read, 2 * PAGE + 101);
    assert_eq!(counters.bytes_written, 2 * PAGE + 101);
}

/// Of `/proc/self/mem`, pages that cannot be read cost a system call each: such a run is overtaken by a short one.
#[test]
fn a_short_request_overtakes_a_long_one() {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    const PAGES: usize = 1024;
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: new memory at a place of the kernel's choice; the holes are part of it, and nobody uses their addresses.
    let start = unsafe {
        let start = mmap_anonymous(std::ptr::null_mut(), PAGES * PAGE_SIZE, protection, flags).expect("maps");
        for hole in (1..PAGES).step_by(2) {
            munmap(start.byte_add(hole * PAGE_SIZE), PAGE_SIZE).expect("unmaps");
        }
        start
    };
    let host = host();
    let object = host
        .open_with(Some("/proc/self/mem"), -1, QUIRE_OPEN_READ)
        .expect("opens");
    let get = |count| {
        let mut transfer = object.transfer(start.addr() as u64 / PAGE, vec![vec![0xAA; PAGE_SIZE]; count]);
        transfer.object_size = 1 << 48;
        object.start_get(transfer)
    };
    let overtakes = |_| {
        let (long, short) = (get(PAGES), get(1));
        let pended = long.pended();
        let ((long, second), (short, first)) = (long.wait_in_order(), short.wait_in_order());
        assert_eq!((long.status, short.status), (QUIRE_PAGER_OK, QUIRE_PAGER_OK));
        assert!(long.pages.iter().skip(1).step_by(2).all(|page| page.status < 0));
        assert!(long.pages.iter().step_by(2).all(|page| page.status == QUIRE_PAGER_OK));
        pended && first < second
    };
    if counters(&host).engine == ENGINE_SYNC {
        assert!(!overtakes(0));
    } else {
        // The system decides; it does not decide a thousand times for the long one.
        assert!((0..1000).any(overtakes));
    }
    for kept in (0..PAGES).step_by(2) {
        // SAFETY: what was mapped above and is still there.
        unsafe { munmap(start.byte_add(kept * PAGE_SIZE), PAGE_SIZE).expect("unmaps") };
    }
}

#[test]
fn a_request_that_may_not_pend_is_done_at_once() {
    let (host, file) = (host(), empty(4));
    let object = open(&host, &file);
    let mut transfer = object.transfer(0, vec![vec![5; PAGE_SIZE]; 4]);
    transfer.flags = 0;
    let answer = object.put_with(transfer.clone());
    assert_eq!((answer.status, answer.pended), (QUIRE_PAGER_OK, false));
    let answer = object.get_with(transfer);
    assert_eq!((answer.status, answer.pended), (QUIRE_PAGER_OK, false));
    assert_eq!(counters(&host).pended, 0);
}

#[test]
fn more_requests_than_the_depth_are_done_where_they_are_asked_for() {
    let config = format!("{},depth=1", crate::CONFIG);
    let host = TestHost::load(quire_pager_vnode::module(), Some(&config)).expect("loads");
    let file = empty(64 * 16);
    let object = open(&host, &file);
    let puts: Vec<Started<'_>> = (0..64)
        .map(|i| object.start_put(object.transfer(i * 16, vec![vec![7; PAGE_SIZE]; 16])))
        .collect();
    for put in puts {
        assert_eq!(put.wait().status, QUIRE_PAGER_OK);
    }
    let counters = counters(&host);
    assert!(counters.most_in_flight <= 1);
    if counters.engine != ENGINE_SYNC {
        assert_eq!(counters.pended + counters.crowded_out, 64);
    }
    assert!(fs::read(file.path()).expect("reads").iter().all(|&byte| byte == 7));
}

/// Threads, each with a part of the file to itself, in which it reads and writes runs, several at a time, and knows what
/// every page must hold.
#[test]
fn random_reads_and_writes_from_several_threads_agree_with_a_model() {
    const THREADS: u64 = 4;
    const PART: u64 = 97;
    const ROUNDS: u64 = 150;
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("later").as_nanos();
    let seed = u64::try_from(seed & u128::from(u64::MAX)).expect("masked") | 1;
    println!("seed {seed}");
    // The last part has an unaligned tail.
    let size = THREADS * PART * PAGE - 1234;
    let file = NamedTempFile::new().expect("a temporary file");
    file.as_file().set_len(size).expect("grows");
    let host = host();
    let object = open(&host, &file);
    let done = AtomicU64::new(0);
    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (object, done, start) = (&object, &done, &start);
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_mul(2 * thread + 1));
                start.wait();
                let model = exercise(object, thread * PART, PART, ROUNDS, &mut random, done);
                check(object, thread * PART, &model, size);
            });
        }
    });
    drop(object);
    assert_eq!(fs::metadata(file.path()).expect("stat").len(), size);
    assert_eq!(counters(&host).in_flight, 0);
    assert!(done.into_inner() >= THREADS * ROUNDS);
}

/// Runs the rounds; what every page of the part holds at the end.
fn exercise(
    object: &TestObject<'_>,
    base: u64,
    part: u64,
    rounds: u64,
    random: &mut Random,
    done: &AtomicU64,
) -> Vec<u8> {
    let mut model = vec![0_u8; usize::try_from(part).expect("small")];
    for _ in 0..rounds {
        // Runs that do not overlap, one behind the other.
        let mut at = random.below(part / 2);
        let mut started = Vec::new();
        while at < part && started.len() < 6 {
            let count = (random.below(20) + 1).min(part - at);
            let range = usize::try_from(at).expect("small")..usize::try_from(at + count).expect("small");
            let write = random.below(2) == 0;
            if write {
                let byte = u8::try_from(random.below(255) + 1).expect("a byte");
                model[range.clone()].fill(byte);
            }
            let pages = model[range.clone()].iter();
            let pages = pages.map(|&byte| vec![if write { byte } else { 0xAA }; PAGE_SIZE]);
            let transfer = object.transfer(base + at, pages.collect());
            started.push((
                range,
                if write {
                    object.start_put(transfer)
                } else {
                    object.start_get(transfer)
                },
            ));
            at += count + random.below(3);
        }
        for (range, request) in started {
            let answer = request.wait();
            assert_eq!(answer.status, QUIRE_PAGER_OK, "{}", answer.text);
            for (page, &byte) in answer.pages.iter().zip(&model[range]) {
                assert_eq!(page.status, QUIRE_PAGER_OK);
                assert_eq!(page.bytes[0], byte);
                // Whole, but for the tail of the file, which a get leaves zero.
                assert!(page.bytes[..100].iter().all(|&b| b == byte));
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    model
}

/// Through the pager and beside it, the file holds what the model says.
fn check(object: &TestObject<'_>, base: u64, model: &[u8], size: u64) {
    let answer = object.get(base, model.len());
    let file = fs::File::open(Path::new(&object.path(4096).expect("a path"))).expect("opens");
    for ((index, &byte), page) in (base..).zip(model).zip(&answer.pages) {
        let len = usize::try_from((size - index * PAGE).min(PAGE)).expect("a page");
        let mut expected = vec![byte; len];
        let mut direct = vec![0; len];
        file.read_exact_at(&mut direct, index * PAGE).expect("reads");
        assert!(direct == expected, "page {index}");
        expected.resize(PAGE_SIZE, 0);
        assert!(page.bytes == expected, "page {index}");
    }
}

#[test]
fn closing_with_requests_in_flight_waits_for_them() {
    let (host, file) = (host(), empty(64));
    for _ in 0..50 {
        let object = open(&host, &file);
        let mut puts = Vec::new();
        for i in 0..16 {
            puts.push(object.start_put(object.transfer(i * 4, vec![vec![9; PAGE_SIZE]; 4])));
        }
        let close = host.module().close.expect("close is mandatory");
        // The host promises to wait; this one does not, and closes the handle itself, once.
        // SAFETY: the handle is open, and its object is forgotten below.
        assert_eq!(unsafe { close(host.ctx(), object.opened.object) }, QUIRE_PAGER_OK);
        assert_eq!(counters(&host).in_flight, 0);
        for put in puts {
            assert_eq!(put.wait().status, QUIRE_PAGER_OK);
        }
        std::mem::forget(object);
    }
}
