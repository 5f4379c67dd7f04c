//! What runs in the handler of `SIGBUS`, and what a worker does while the handler waits.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::cast_possible_truncation, reason = "pages and addresses of this process")]

mod common;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use quire_core::error::{Cause, PagerError};
use quire_core::io::Io;
use quire_core::machine::Serve;
use quire_core::pagedaemon::EngineOptions;
use quire_core::pager::{Answer, Extent, Pager, PagerOps};
use quire_core::types::{PAGE_SIZE, PageIndex, VirtAddr};
use quire_tests::{Dice, Script, Twist, pattern};

use common::{Rig, load, page_at, store};

/// What the program's own handler was told of an access that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bus {
    at: u64,
    code: i32,
    sender: i32,
}

thread_local! {
    static TOLD: Cell<Option<Bus>> = const { Cell::new(None) };
}

/// The program's handler: notes what it is told, and has `try_load` go on behind its load.
extern "C" fn programs_handler(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel's, or those that it gave to the handler which passes them on.
    unsafe {
        let code = (*info).si_code;
        let (at, sender) = if code > 0 {
            ((*info).si_addr().expose_provenance() as u64, 0)
        } else {
            (0, (*info).si_pid())
        };
        TOLD.set(Some(Bus { at, code, sender }));
        if code > 0 {
            let place = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize];
            assert_eq!(
                (*place as *const [u8; 2]).read_unaligned(),
                [0x8a, 0x07],
                "an access of another kind"
            );
            *place += 2;
        }
    }
}

/// The handler was there before the first range was served.
fn with_a_handler() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = programs_handler;
        // SAFETY: a valid action.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(
                libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()),
                0
            );
        }
    });
}

fn rig(pages: u64, options: &EngineOptions) -> Rig {
    with_a_handler();
    Rig::with(Serve::InThread, pages, options)
}

/// Loads a byte, or answers what the handler was told.
fn try_load(va: VirtAddr) -> Result<u8, Bus> {
    TOLD.set(None);
    let mut byte = 0u8;
    // SAFETY: a load of two bytes' length, which the handler can skip.
    unsafe { std::arch::asm!("mov al, byte ptr [rdi]", in("rdi") va.0, inout("al") byte) };
    TOLD.take().map_or(Ok(byte), Err)
}

fn me() -> i32 {
    // SAFETY: a system call without arguments.
    unsafe { libc::gettid() }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Get { thread: i32, in_signal: bool },
    Put { thread: i32, in_signal: bool },
    HasPage { thread: i32 },
}

/// A scripted pager that notes who calls it, and may first do something of the test's.
#[derive(Debug)]
struct Watched {
    script: Box<dyn Pager>,
    asked: Arc<Mutex<Vec<Asked>>>,
    touches: Arc<AtomicU64>,
}

/// What was asked of a watched pager.
type Log = Arc<Mutex<Vec<Asked>>>;

impl Watched {
    fn new(ops: PagerOps, max_run: u32) -> (Script, Log, Arc<AtomicU64>, Box<Self>) {
        let (script, pager) = Script::with(ops, max_run);
        let (asked, touches) = (Arc::default(), Arc::default());
        let watched = Self {
            script: pager,
            asked: Arc::clone(&asked),
            touches: Arc::clone(&touches),
        };
        (script, asked, touches, Box::new(watched))
    }
}

impl Pager for Watched {
    fn describe(&self) -> String {
        self.script.describe()
    }

    fn ops(&self) -> PagerOps {
        self.script.ops()
    }

    fn max_run(&self) -> u32 {
        self.script.max_run()
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        self.asked.lock().unwrap().push(Asked::Get {
            thread: me(),
            in_signal: io.is_in_signal(),
        });
        let touches = self.touches.load(Ordering::Relaxed);
        if touches != 0 {
            assert_eq!(
                load(VirtAddr(touches + io.first().0 * PAGE_SIZE)),
                pattern(io.first().0)[0]
            );
        }
        self.script.get(io)
    }

    fn put(&self, io: &Arc<Io>) -> Answer {
        self.asked.lock().unwrap().push(Asked::Put {
            thread: me(),
            in_signal: io.is_in_signal(),
        });
        self.script.put(io)
    }

    fn has_page(&self, index: PageIndex) -> Result<Option<Extent>, PagerError> {
        self.asked.lock().unwrap().push(Asked::HasPage { thread: me() });
        self.script.has_page(index)
    }
}

#[test]
fn a_pager_that_is_not_fit_for_handlers_is_called_by_workers_only() {
    let rig = rig(200, &EngineOptions::default());
    let (_, asked, _, pager) = Watched::new(PagerOps::PUT | PagerOps::HAS_PAGE, 64);
    let object = rig.engine.create_object(pager, 1000 * PAGE_SIZE).unwrap();
    let at = rig.map.map(&object, &rig.read_write(1000)).unwrap().start;
    for page in 0..1000 {
        assert_eq!(try_load(page_at(at, page)), Ok(pattern(page)[0]));
        store(page_at(at, page), 1);
    }
    for asked in asked.lock().unwrap().drain(..) {
        match asked {
            Asked::Get { thread, in_signal } | Asked::Put { thread, in_signal } => {
                assert!(thread != me() && !in_signal, "{asked:?}");
            }
            Asked::HasPage { thread } => assert_ne!(thread, me()),
        }
    }
    object.release().unwrap();
    rig.end();
}

#[test]
fn a_pager_that_is_fit_is_called_in_the_handler_and_told_so() {
    let rig = rig(2000, &EngineOptions::default());
    let ops = PagerOps::PUT | PagerOps::HAS_PAGE | PagerOps::ASYNC | PagerOps::SIGNAL_SAFE;
    let (script, asked, _, pager) = Watched::new(ops, 64);
    script.offers(0, 63);
    let object = rig.engine.create_object(pager, 1000 * PAGE_SIZE).unwrap();
    let at = rig.map.map(&object, &rig.read_write(1000)).unwrap().start;
    for page in 0..1000 {
        assert_eq!(try_load(page_at(at, page)), Ok(pattern(page)[0]));
    }
    let gets = asked.lock().unwrap();
    let gets = gets.iter().filter(|asked| matches!(asked, Asked::Get { .. }));
    let here = Asked::Get {
        thread: me(),
        in_signal: true,
    };
    assert!(gets.clone().all(|asked| *asked == here));
    assert!((1..500).contains(&gets.count()), "a sequence is read in runs");
    object.release().unwrap();
    rig.end();
}

#[test]
fn room_is_made_in_the_handler_and_only_pagers_that_can_be_called_there_write_there() {
    for safe in [true, false] {
        let rig = rig(200, &EngineOptions::default());
        let ops = if safe {
            PagerOps::PUT | PagerOps::SIGNAL_SAFE
        } else {
            PagerOps::PUT
        };
        let (script, asked, _, pager) = Watched::new(ops, 16);
        let object = rig.engine.create_object(pager, 1000 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(1000)).unwrap().start;
        for page in 0..1000 {
            assert_eq!(try_load(page_at(at, page)), Ok(pattern(page)[0]));
        }
        for page in 0..1000 {
            store(page_at(at, page), 7);
        }
        let mut written = 0;
        for asked in asked.lock().unwrap().drain(..) {
            match asked {
                Asked::Get { thread, .. } => assert_eq!(thread == me(), safe),
                Asked::Put { thread, in_signal } => {
                    written += 1;
                    assert_eq!((thread == me(), in_signal), (safe, safe));
                }
                _ => {}
            }
        }
        assert!(written > 0);
        object
            .object()
            .flush_all(quire_core::flush::FlushFlags::empty())
            .unwrap();
        assert!((0..1000).all(|page| script.stored(page)[0] == 7));
        object.release().unwrap();
        rig.end();
    }
}

#[test]
fn a_fault_that_waits_too_long_is_sigbus_at_its_address_and_succeeds_later() {
    let options = EngineOptions {
        fault_timeout: Some(Duration::from_millis(30)),
        ..EngineOptions::default()
    };
    let rig = rig(64, &options);
    let (script, pager) = Script::with(PagerOps::PUT | PagerOps::ASYNC, 1);
    script.next_gets([Twist::Defer]);
    let object = rig.engine.create_object(pager, 4 * PAGE_SIZE).unwrap();
    let at = rig.map.map(&object, &rig.read_write(4)).unwrap().start;
    let byte = VirtAddr(page_at(at, 2).0 + 100);
    let bus = try_load(byte).unwrap_err();
    assert_eq!((bus.at & !(PAGE_SIZE - 1), bus.code > 0), (page_at(at, 2).0, true));
    for io in script.take_pending(1) {
        script.finish(&io);
    }
    assert_eq!(try_load(byte), Ok(pattern(2)[100]));
    object.release().unwrap();
    rig.end();
}

#[test]
fn a_failure_reaches_the_programs_handler_whoever_found_it() {
    for ops in [PagerOps::empty(), PagerOps::SIGNAL_SAFE] {
        let rig = rig(64, &EngineOptions::default());
        let (script, pager) = Script::with(PagerOps::PUT | ops, 1);
        script.next_gets([Twist::Fail(Cause::Errno(5))]);
        let object = rig.engine.create_object(pager, 4 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(4)).unwrap().start;
        let bus = try_load(page_at(at, 3)).unwrap_err();
        assert_eq!((bus.at, bus.code > 0), (page_at(at, 3).0, true), "{ops:?}");
        assert_eq!(try_load(page_at(at, 3)), Ok(pattern(3)[0]));
        object.release().unwrap();
        rig.end();
    }
}

#[test]
fn a_pager_touches_served_memory_of_another_object_in_its_get() {
    for (outer, inner) in [
        (PagerOps::SIGNAL_SAFE, PagerOps::SIGNAL_SAFE),
        (PagerOps::SIGNAL_SAFE, PagerOps::empty()),
        (PagerOps::empty(), PagerOps::SIGNAL_SAFE),
        (PagerOps::empty(), PagerOps::empty()),
    ] {
        let rig = rig(256, &EngineOptions::default());
        let (_, _, _, below) = Watched::new(PagerOps::PUT | inner, 1);
        let below = rig.engine.create_object(below, 300 * PAGE_SIZE).unwrap();
        let below_at = rig.map.map(&below, &rig.read_write(300)).unwrap().start;
        let (_, _, touches, above) = Watched::new(PagerOps::PUT | outer, 1);
        touches.store(below_at.0, Ordering::Relaxed);
        let above = rig.engine.create_object(above, 300 * PAGE_SIZE).unwrap();
        let above_at = rig.map.map(&above, &rig.read_write(300)).unwrap().start;
        for page in 0..300 {
            assert_eq!(try_load(page_at(above_at, page)), Ok(pattern(page)[0]));
        }
        above.release().unwrap();
        below.release().unwrap();
        rig.end();
    }
}

#[test]
fn many_threads_fault_at_once_through_handlers_and_workers() {
    const THREADS: u64 = 8;
    const PAGES: u64 = 64;
    let rig = rig(150, &EngineOptions::default());
    let objects = [PagerOps::empty(), PagerOps::SIGNAL_SAFE].map(|ops| {
        let (_, pager) = Script::with(PagerOps::PUT | PagerOps::HAS_PAGE | ops, 16);
        rig.engine.create_object(pager, THREADS * PAGES * PAGE_SIZE).unwrap()
    });
    let at = [0, 1].map(|i| {
        rig.map
            .map(&objects[i], &rig.read_write(THREADS * PAGES))
            .unwrap()
            .start
    });
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                // Each thread has a byte of its own in every page of its part and of its neighbour's.
                let mut dice = Dice(thread + 1);
                let mut model = [[None; 2 * PAGES as usize]; 2];
                for round in 0..2000u64 {
                    let (object, page) = (dice.below(2), dice.roll(2 * PAGES));
                    let whole = (thread * PAGES + page) % (THREADS * PAGES);
                    let va = VirtAddr(page_at(at[object], whole).0 + 8 + thread);
                    let known = &mut model[object][page as usize];
                    let want = known.unwrap_or(pattern(whole)[8 + thread as usize]);
                    assert_eq!(try_load(va), Ok(want), "page {whole}");
                    if dice.below(2) == 0 {
                        *known = Some(round as u8);
                        store(va, round as u8);
                    }
                }
            });
        }
    });
    rig.map.clear().unwrap();
    for object in objects {
        object.release().unwrap();
    }
    rig.end();
}

#[test]
fn errno_is_what_it_was_after_a_fault() {
    for ops in [PagerOps::empty(), PagerOps::SIGNAL_SAFE] {
        let rig = rig(64, &EngineOptions::default());
        let (script, pager) = Script::with(PagerOps::PUT | ops, 1);
        script.on_call(|_| {
            // SAFETY: the thread's own.
            unsafe { *libc::__errno_location() = libc::EXDEV }
        });
        let object = rig.engine.create_object(pager, 4 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(4)).unwrap().start;
        // SAFETY: the thread's own.
        let errno = unsafe {
            *libc::__errno_location() = libc::ENOTTY;
            load(page_at(at, 1));
            *libc::__errno_location()
        };
        assert_eq!(errno, libc::ENOTTY, "{ops:?}");
        object.release().unwrap();
        rig.end();
    }
}

#[test]
fn a_signal_that_somebody_sent_is_passed_on_with_its_sender() {
    let rig = rig(64, &EngineOptions::default());
    let (_, pager) = Script::new();
    let object = rig.engine.create_object(pager, PAGE_SIZE).unwrap();
    let at = rig.map.map(&object, &rig.read_write(1)).unwrap().start;
    assert_eq!(try_load(at), Ok(pattern(0)[0]));
    TOLD.set(None);
    // SAFETY: a signal to this thread, which has a handler.
    unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGBUS) };
    let sender = i32::try_from(std::process::id()).unwrap();
    let code = libc::SI_TKILL;
    assert_eq!(TOLD.take(), Some(Bus { at: 0, code, sender }));
    object.release().unwrap();
    rig.end();
}

#[test]
fn a_service_whose_handler_waits_for_a_pager_says_so_and_ends_later() {
    let rig = rig(64, &EngineOptions::default());
    let (script, pager) = Script::with(PagerOps::PUT | PagerOps::ASYNC, 1);
    script.next_gets([Twist::Defer]);
    let object = rig.engine.create_object(pager, PAGE_SIZE).unwrap();
    let at = rig.map.map(&object, &rig.read_write(1)).unwrap().start;
    std::thread::scope(|scope| {
        let waits = scope.spawn(move || load(at));
        script.wait_for_pending(1);
        assert!(rig.server.stop(Duration::from_millis(10)).is_err());
        for io in script.take_pending(1) {
            script.finish(&io);
        }
        assert_eq!(waits.join().unwrap(), pattern(0)[0]);
    });
    object.release().unwrap();
    rig.end();
}
