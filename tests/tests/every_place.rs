//! Every operation of a pager, with every answer that it may give, while another thread does something with the same object.
//! Whatever meets whatever: nobody hangs, every page that was written is at the pager or still dirty, and everything is given back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use quire_core::error::{Cause, PagerError};
use quire_core::flush::{FlushFlags, PutFlags};
use quire_core::io::Io;
use quire_core::map::MapRequest;
use quire_core::object::{Dirty, ObjectRef, Opening};
use quire_core::pager::{Answer, Change, Extent, Pager, PagerOps, Populated};
use quire_core::populate::Populate;
use quire_core::types::{PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr};
use quire_tests::script::ScriptedPager;
use quire_tests::{Call, Mode, Rig, Script, ServedMap, Twist, page_at, watch};

const PAGES: u64 = 6;
/// Pages that are dirty when it begins.
const DIRTY: u64 = 4;
/// Pages that are left when another thread truncates the object.
const CUT: u64 = 3;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Op {
    Get,
    Put,
    HasPage,
    Populate,
    Sync,
    Size,
    Resize,
    Close,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Wrong {
    /// An error, twice.
    Error,
    /// That the place does not exist.
    OutOfRange,
    /// An answer that cannot be, as the bridge tells it.
    Nonsense,
    /// Of several pages, one fails.
    Partial,
    /// Done, but only when others had their turn.
    Late,
    /// An error, late.
    LateError,
    /// Several at a time, and the last is done first.
    OutOfOrder,
    /// Pending, until it is cancelled.
    Never,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Other {
    Faults,
    Flushes,
    Truncates,
    Detaches,
    Terminates,
    Squeezes,
}

const OPS: [Op; 8] = [
    Op::Get,
    Op::Put,
    Op::HasPage,
    Op::Populate,
    Op::Sync,
    Op::Size,
    Op::Resize,
    Op::Close,
];
const WRONGS: [Wrong; 8] = [
    Wrong::Error,
    Wrong::OutOfRange,
    Wrong::Nonsense,
    Wrong::Partial,
    Wrong::Late,
    Wrong::LateError,
    Wrong::OutOfOrder,
    Wrong::Never,
];
const OTHERS: [Other; 6] = [
    Other::Faults,
    Other::Flushes,
    Other::Truncates,
    Other::Detaches,
    Other::Terminates,
    Other::Squeezes,
];

/// Where it goes wrong.
struct Place {
    op: Op,
    wrong: Wrong,
    left: AtomicU32,
    reached: AtomicU32,
    gate: Mutex<bool>,
    opened: Condvar,
}

impl Place {
    fn is_request(&self) -> bool {
        matches!(self.op, Op::Get | Op::Put)
    }

    /// An operation comes; the error is its answer.
    fn meet(&self, op: Op) -> Result<(), PagerError> {
        let mine = op == self.op
            && self
                .left
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1))
                .is_ok();
        if !mine {
            return Ok(());
        }
        self.reached.fetch_add(1, Ordering::AcqRel);
        let fail = |cause| Err(PagerError::new(cause, format_args!("{op:?} goes wrong as it was told")));
        match self.wrong {
            Wrong::Error => fail(Cause::Errno(5)),
            Wrong::OutOfRange => fail(Cause::OutOfRange),
            Wrong::Nonsense => fail(Cause::BrokenPromise),
            // The script does it.
            _ if self.is_request() => Ok(()),
            Wrong::Late | Wrong::LateError | Wrong::Never => {
                let mut open = self.gate.lock().unwrap();
                while !*open {
                    open = self.opened.wait(open).unwrap();
                }
                drop(open);
                if self.wrong == Wrong::LateError {
                    fail(Cause::Io)
                } else {
                    Ok(())
                }
            }
            Wrong::Partial | Wrong::OutOfOrder => Ok(()),
        }
    }

    fn open_gate(&self) {
        *self.gate.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.op, self.wrong)
    }
}

#[derive(Debug)]
struct Placed {
    script: Box<ScriptedPager>,
    place: Arc<Place>,
}

impl Pager for Placed {
    fn describe(&self) -> String {
        self.script.describe()
    }
    fn ops(&self) -> PagerOps {
        self.script.ops()
    }
    fn max_run(&self) -> u32 {
        2
    }
    fn get(&self, io: &Arc<Io>) -> Answer {
        match self.place.meet(Op::Get) {
            Ok(()) => self.script.get(io),
            Err(error) => Answer::Done(Err(error)),
        }
    }
    fn put(&self, io: &Arc<Io>) -> Answer {
        match self.place.meet(Op::Put) {
            Ok(()) => self.script.put(io),
            Err(error) => Answer::Done(Err(error)),
        }
    }
    fn has_page(&self, index: PageIndex) -> Result<Option<Extent>, PagerError> {
        self.place.meet(Op::HasPage)?;
        self.script.has_page(index)
    }
    fn populate(&self, request: &Arc<Populate>) -> Populated {
        match self.place.meet(Op::Populate) {
            Ok(()) => self.script.populate(request),
            Err(error) => Populated::Failed(error),
        }
    }
    fn cancel(&self, io: &Arc<Io>) -> Result<bool, PagerError> {
        self.script.cancel(io)
    }
    fn size(&self) -> Result<u64, PagerError> {
        self.place.meet(Op::Size)?;
        self.script.size()
    }
    fn change(&self) -> Result<Option<Change>, PagerError> {
        self.script.change()
    }
    fn resize(&self, size: u64) -> Result<(), PagerError> {
        self.place.meet(Op::Resize)?;
        self.script.resize(size)
    }
    fn sync(&self) -> Result<(), PagerError> {
        self.place.meet(Op::Sync)?;
        self.script.sync()
    }
    fn close(&self) -> Result<(), PagerError> {
        // What cannot be closed is gone all the same.
        self.script.close().and(self.place.meet(Op::Close))
    }
}

fn written(page: u64) -> u8 {
    0xd0 + page.to_le_bytes()[0]
}

/// One case: an object with dirty pages, mapped twice, with a handle for each of two threads.
struct Case {
    rig: Rig,
    script: Script,
    place: Arc<Place>,
    maps: [ServedMap; 2],
    vas: [VirtAddr; 2],
}

impl Case {
    fn new(mode: Mode, op: Op, wrong: Wrong) -> (Self, ObjectRef) {
        let rig = Rig::new(mode);
        let mut ops = PagerOps::PUT | PagerOps::SYNC | PagerOps::SIZE | PagerOps::RESIZE | PagerOps::ASYNC;
        if wrong == Wrong::Never {
            ops |= PagerOps::CANCEL;
        }
        ops |= match op {
            Op::HasPage => PagerOps::HAS_PAGE,
            Op::Populate => PagerOps::POPULATE,
            _ => PagerOps::empty(),
        };
        let script = Script::default();
        script.truncate(PAGES * PAGE_SIZE);
        script.offers(1, 1);
        let place = Arc::new(Place {
            op,
            wrong,
            left: AtomicU32::new(0),
            reached: AtomicU32::new(0),
            gate: Mutex::new(false),
            opened: Condvar::new(),
        });
        let pager = Placed {
            script: script.again(ops),
            place: place.clone(),
        };
        let opening = Opening {
            pager: Box::new(pager),
            source: 1,
            identity: None,
            size: PAGES * PAGE_SIZE,
            change: None,
        };
        let object = rig.engine.attach(opening).unwrap();
        let maps = [(); 2].map(|()| rig.another_map());
        let request = MapRequest::read_write(PAGES * PAGE_SIZE);
        let vas = [0, 1].map(|i: usize| maps[i].map(&object, &request).unwrap().start);
        for i in 0..DIRTY {
            maps[0].store(page_at(vas[0], i), &[written(i)]).unwrap();
        }
        let case = Self {
            rig,
            script,
            place,
            maps,
            vas,
        };
        (case, object)
    }

    /// From here on it goes wrong.
    fn arm(&self) {
        self.place.left.store(2, Ordering::Release);
        let twist = || match self.place.wrong {
            Wrong::Late | Wrong::LateError | Wrong::OutOfOrder | Wrong::Never => [Twist::Defer, Twist::Defer],
            _ => [Twist::Obey, Twist::Obey],
        };
        match self.place.op {
            Op::Get => self.script.next_gets(twist()),
            Op::Put => self.script.next_puts(twist()),
            _ => {}
        }
        if self.place.wrong == Wrong::Partial && self.place.is_request() {
            self.script.bad_pages([1, 5]);
        }
    }

    fn load(&self, map: usize, page: u64) -> bool {
        self.maps[map].load(page_at(self.vas[map], page), &mut [0]).is_ok()
    }

    /// What leads to the operation.
    fn trigger(&self, object: &ObjectRef) {
        let object = object.object();
        let _answer = match self.place.op {
            Op::Get | Op::HasPage | Op::Populate => {
                let _answers = [4, 5].map(|page| self.load(0, page));
                Ok(())
            }
            Op::Put => object.flush_all(FlushFlags::empty()),
            Op::Sync => object.flush_all(FlushFlags::DURABLE),
            Op::Size => object.refresh_size().map(drop),
            Op::Resize => object.resize((PAGES - 1) * PAGE_SIZE),
            Op::Close => object.terminate(Dirty::Write),
        };
    }

    fn disturb(&self, other: Other, handle: ObjectRef) {
        let object = handle.object().clone();
        let all = PageIndex(0)..PageIndex(PAGES);
        match other {
            Other::Faults => {
                let _answers = [5, 4, 0].map(|page| self.load(1, page));
            }
            Other::Flushes => drop(object.put(all, PutFlags::CLEANIT | PutFlags::FREE)),
            Other::Truncates => drop(object.resize(CUT * PAGE_SIZE)),
            Other::Detaches => drop(self.maps[1].clear()),
            Other::Terminates => drop(object.terminate(Dirty::Write)),
            Other::Squeezes => {
                self.rig.want_all_free();
                for _ in 0..3 {
                    self.rig.engine.daemon_step();
                }
            }
        }
        drop(handle.release());
    }

    /// Completes what is pending, the youngest first.
    fn complete_pending(&self) {
        for io in self.script.take_pending(0).iter().rev() {
            match self.place.wrong {
                Wrong::LateError => self.script.fail(io, Cause::Io),
                Wrong::Never => self.script.fail(io, Cause::Cancelled),
                _ => self.script.settle(io),
            }
        }
    }

    /// From here on the pager behaves, and all is as it should be: tells whether the place was reached.
    fn check(self, object: ObjectRef, other: Other) -> bool {
        self.place.left.store(0, Ordering::Release);
        self.script.bad_pages([]);
        let engine = &self.rig.engine;
        let quarantined = object.object().is_quarantined();
        let synced = engine.sync(FlushFlags::DURABLE);
        assert!(synced.is_ok() || quarantined, "{synced:?}");
        let end = if other == Other::Truncates { CUT } else { DIRTY };
        for i in 0..end {
            let stored = self.script.stored(i)[0] == written(i);
            let kept = object.object().lookup(PageIndex(i)).is_some();
            assert!(stored || quarantined && kept, "page {i} is lost");
        }
        for map in &self.maps {
            let _told = map.clear();
        }
        let _told = object.release();
        if quarantined {
            engine.discard_all().unwrap();
        }
        drop(self.maps);
        let closes = self.script.calls().iter().filter(|call| **call == Call::Close).count();
        self.rig.assert_nothing_left();
        assert_eq!(closes, 1);
        self.place.reached.load(Ordering::Acquire) > 0
    }
}

fn run(mode: Mode, op: Op, wrong: Wrong, other: Other) -> bool {
    eprintln!("{op:?} {wrong:?}, while another thread {other:?}; {mode:?}");
    let (case, object) = Case::new(mode, op, wrong);
    let _watch = watch(&case.rig.engine);
    case.script.on_populate(|request| {
        let index = request.plan().index;
        if let Ok(bytes) = request.insert_one(index) {
            // SAFETY: the request lends PAGE_BYTES bytes until it ends.
            unsafe { bytes.as_ptr().write_bytes(7, PAGE_BYTES) };
            assert!(request.ready(index, 1));
        }
        Populated::Range(index, index)
    });
    case.arm();
    let handle = object.clone();
    thread::scope(|scope| {
        let first = scope.spawn(|| case.trigger(&object));
        // The operation is under way, or over; others have their turn; then it goes on.
        while case.place.reached.load(Ordering::Acquire) == 0 && !first.is_finished() {
            thread::yield_now();
        }
        let second = scope.spawn(|| case.disturb(other, handle));
        for _ in 0..50 {
            thread::yield_now();
        }
        case.place.open_gate();
        // Whoever terminates an object has what is only read cancelled.
        let cancelled = (op, wrong, other) == (Op::Get, Wrong::Never, Other::Terminates);
        while !(first.is_finished() && second.is_finished()) {
            if !cancelled {
                case.complete_pending();
            }
            thread::yield_now();
        }
    });
    case.check(object, other)
}

#[test]
fn every_operation_may_fail_at_every_place_while_others_are_at_it() {
    let modes = Mode::all();
    let (mut reached, mut n) = (BTreeSet::new(), 0);
    for op in OPS {
        for wrong in WRONGS {
            for other in OTHERS {
                n += 1;
                for mode in [modes[n % modes.len()], modes[(n + 3) % modes.len()]] {
                    if run(mode, op, wrong, other) {
                        reached.insert((op, wrong));
                    }
                }
            }
        }
    }
    assert_eq!(
        reached.len(),
        OPS.len() * WRONGS.len(),
        "a place was not reached: {reached:?}"
    );
}
