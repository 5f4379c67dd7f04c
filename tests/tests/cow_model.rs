//! Random programs of forks, copies, writes, unmaps, wirings and swap against a naive model: for each page of address space the bytes it
//! shows, which several pages may share. On every machine, with so few frames that pages go to swap and come back all the
//! time, and with failures of swap and of the machine.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Deref;
use std::rc::Rc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use quire_core::error::{Cause, Error, FaultError};
use quire_core::fork::CopyRequest;
use quire_core::machine::NotEntered;
use quire_core::map::{Map, MapRequest, Sharing};
use quire_core::map_ops::Place;
use quire_core::object::ObjectRef;
use quire_core::pager::PagerOps;
use quire_core::soft::{Failure, Injection};
use quire_core::types::{ByteOff, Inherit, PAGE_BYTES, PAGE_SIZE, Prot, VirtAddr};
use quire_tests::{Mode, Rig, Script, ServedMap, Twist, page_at, pattern};

/// Pages of address space of each map.
const SPACE: u64 = 20;
/// The most maps at a time.
const MAPS: usize = 4;
/// Pages of the file, which nobody writes, and of the shared memory.
const PAGES: u64 = 8;
/// Frames: fewer than the pages that one map can have.
const FRAMES: u64 = 16;
/// The most pages that are wired at a time, all maps together.
const WIRED: u32 = 5;

#[derive(Clone, Debug)]
enum Step {
    Anonymous {
        map: usize,
        at: u64,
        len: u64,
    },
    Private {
        map: usize,
        at: u64,
        len: u64,
        offset: u64,
    },
    Shared {
        map: usize,
        at: u64,
        len: u64,
        offset: u64,
    },
    Unmap {
        map: usize,
        at: u64,
        len: u64,
    },
    Write {
        map: usize,
        at: u64,
        bytes: Vec<u8>,
        as_cpu: bool,
    },
    Read {
        map: usize,
        at: u64,
        as_cpu: bool,
    },
    Fork {
        map: usize,
    },
    Copy {
        from: usize,
        at: u64,
        len: u64,
        to: usize,
        to_at: u64,
    },
    Drop {
        map: usize,
    },
    Inherit {
        map: usize,
        at: u64,
        len: u64,
        inherit: Inherit,
    },
    Wire {
        map: usize,
        at: u64,
        len: u64,
    },
    Unwire {
        map: usize,
        at: u64,
        len: u64,
    },
    ReadOnly {
        map: usize,
        at: u64,
        len: u64,
        on: bool,
    },
    DontNeed {
        map: usize,
        at: u64,
        len: u64,
    },
    Free {
        map: usize,
        at: u64,
        len: u64,
    },
    Squeeze,
    SwapFails {
        on: bool,
    },
    MachineFails {
        kind: u8,
        after: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..MAPS, 0..SPACE - 1, 1..7_u64).prop_map(|(map, at, len)| (map, at, len.min(SPACE - at)));
    let inherit = prop::sample::select(vec![Inherit::Share, Inherit::Copy, Inherit::None, Inherit::Zero]);
    let bytes = prop::collection::vec(any::<u8>(), 1..5000);
    let step = prop_oneof![
        4 => place().prop_map(|(map, at, len)| Step::Anonymous { map, at, len }),
        2 => (place(), 0..PAGES).prop_map(|((map, at, len), offset)| Step::Private { map, at, len: len.min(PAGES - offset), offset }),
        1 => (place(), 0..PAGES).prop_map(|((map, at, len), offset)| Step::Shared { map, at, len: len.min(PAGES - offset), offset }),
        2 => place().prop_map(|(map, at, len)| Step::Unmap { map, at, len }),
        12 => (0..MAPS, 0..SPACE * PAGE_SIZE, bytes, any::<bool>())
            .prop_map(|(map, at, bytes, as_cpu)| Step::Write { map, at, bytes, as_cpu }),
        8 => (0..MAPS, 0..SPACE, any::<bool>()).prop_map(|(map, at, as_cpu)| Step::Read { map, at, as_cpu }),
        4 => (0..MAPS).prop_map(|map| Step::Fork { map }),
        3 => (place(), 0..MAPS, 0..SPACE).prop_map(|((from, at, len), to, to_at)| {
            Step::Copy { from, at, len: len.min(SPACE - to_at), to, to_at }
        }),
        2 => (0..MAPS).prop_map(|map| Step::Drop { map }),
        2 => (place(), inherit).prop_map(|((map, at, len), inherit)| Step::Inherit { map, at, len, inherit }),
        2 => place().prop_map(|(map, at, len)| Step::Wire { map, at, len: len.min(3) }),
        2 => place().prop_map(|(map, at, len)| Step::Unwire { map, at, len }),
        1 => (place(), any::<bool>()).prop_map(|((map, at, len), on)| Step::ReadOnly { map, at, len, on }),
        1 => place().prop_map(|(map, at, len)| Step::DontNeed { map, at, len }),
        1 => place().prop_map(|(map, at, len)| Step::Free { map, at, len }),
        1 => Just(Step::Squeeze),
        1 => any::<bool>().prop_map(|on| Step::SwapFails { on }),
        1 => (0..4_u8, 0..6_u64).prop_map(|(kind, after)| Step::MachineFails { kind, after }),
    ];
    prop::collection::vec(step, 1..70)
}

type Bytes = Rc<RefCell<Vec<u8>>>;

fn bytes_of(bytes: Vec<u8>) -> Bytes {
    Rc::new(RefCell::new(bytes))
}

/// What the model knows of one page of address space.
#[derive(Clone, Debug)]
struct Page {
    bytes: Bytes,
    /// What it shows when nothing is its own; none for what is not.
    below: Option<Vec<u8>>,
    inherit: Inherit,
    wired: u32,
    writable: bool,
}

impl Page {
    fn for_child(&self) -> Option<Self> {
        let copy = |page: &Self| Self {
            bytes: bytes_of(page.bytes.borrow().clone()),
            wired: 0,
            ..page.clone()
        };
        match self.inherit {
            Inherit::Share => Some(Self {
                wired: 0,
                ..self.clone()
            }),
            Inherit::Copy => Some(copy(self)),
            Inherit::None => None,
            Inherit::Zero => Some(Self {
                bytes: bytes_of(vec![0; PAGE_BYTES]),
                below: Some(vec![0; PAGE_BYTES]),
                wired: 0,
                ..self.clone()
            }),
        }
    }
}

type Pages = BTreeMap<u64, Page>;

enum OneMap {
    Served(ServedMap),
    Child(Map),
}

impl Deref for OneMap {
    type Target = Map;

    fn deref(&self) -> &Map {
        match self {
            Self::Served(map) => map,
            Self::Child(map) => map,
        }
    }
}

struct Space {
    map: OneMap,
    base: VirtAddr,
    pages: Pages,
}

struct Run {
    rig: Rig,
    spaces: Vec<Space>,
    file: ObjectRef,
    memory: ObjectRef,
    memory_pages: Vec<Bytes>,
    swap: Script,
    /// Something was told to fail, so that memory may be short.
    failing: bool,
}

impl Run {
    fn new(mode: Mode) -> Self {
        let rig = Rig::new(mode.with_frames(FRAMES, 0));
        let swap = rig.swap(PagerOps::PUT, 64, 1024);
        let (_script, file) = rig.object(PAGES);
        let memory = rig.engine.create_anonymous(PAGES * PAGE_SIZE).unwrap();
        let spaces = (0..if mode.is_linux() { MAPS } else { 1 })
            .map(|_| {
                let map = ServedMap::of_len(&rig.engine, mode, SPACE * PAGE_SIZE);
                Space {
                    base: map.base(),
                    map: OneMap::Served(map),
                    pages: Pages::new(),
                }
            })
            .collect();
        Self {
            rig,
            spaces,
            file,
            memory,
            memory_pages: (0..PAGES).map(|_| bytes_of(vec![0; PAGE_BYTES])).collect(),
            swap,
            failing: false,
        }
    }

    fn place(&self, map: usize, at: u64, len: u64) -> (usize, VirtAddr, u64) {
        let map = map % self.spaces.len();
        (map, page_at(self.spaces[map].base, at), len * PAGE_SIZE)
    }

    /// Whether an error is one that a shortage explains.
    fn is_short(&self, error: &Error) -> bool {
        matches!(error, Error::NoMemory | Error::Fault(FaultError::NoMemory))
    }

    fn request(&self, va: VirtAddr, len: u64) -> MapRequest {
        MapRequest {
            place: Place::Fixed(va),
            serve: self.rig.mode.serve(),
            ..MapRequest::read_write(len)
        }
    }

    fn is_mapped(&self, map: usize, at: u64, len: u64) -> bool {
        (at..at + len).all(|page| self.spaces[map].pages.contains_key(&page))
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Anonymous { map, at, len } => {
                let (map, va, bytes) = self.place(map, at, len);
                self.spaces[map].map.map_anonymous(&self.request(va, bytes)).unwrap();
                self.mapped(map, at, len, |_| {
                    (bytes_of(vec![0; PAGE_BYTES]), Some(vec![0; PAGE_BYTES]))
                });
            }
            Step::Private { map, at, len, offset } => {
                let (map, va, bytes) = self.place(map, at, len);
                let request = MapRequest {
                    sharing: Sharing::Private,
                    offset: ByteOff(offset * PAGE_SIZE),
                    ..self.request(va, bytes)
                };
                self.spaces[map].map.map(&self.file, &request).unwrap();
                self.mapped(map, at, len, |i| {
                    (bytes_of(pattern(offset + i)), Some(pattern(offset + i)))
                });
            }
            Step::Shared { map, at, len, offset } => {
                let (map, va, bytes) = self.place(map, at, len);
                let request = MapRequest {
                    offset: ByteOff(offset * PAGE_SIZE),
                    inherit: Inherit::Share,
                    ..self.request(va, bytes)
                };
                self.spaces[map].map.map(&self.memory, &request).unwrap();
                let memory = self.memory_pages.clone();
                self.mapped(map, at, len, |i| {
                    (memory[usize::try_from(offset + i).unwrap()].clone(), None)
                });
            }
            Step::Unmap { map, at, len } => {
                let (map, va, bytes) = self.place(map, at, len);
                self.spaces[map].map.unmap(va, bytes).unwrap();
                self.spaces[map].pages.retain(|page, _| !(at..at + len).contains(page));
            }
            Step::Write {
                map,
                at,
                ref bytes,
                as_cpu,
            } => self.write(map, at, bytes, as_cpu),
            Step::Read { map, at, as_cpu } => self.read(map % self.spaces.len(), at, as_cpu),
            Step::Fork { map } => self.fork(map),
            Step::Copy {
                from,
                at,
                len,
                to,
                to_at,
            } => self.copy(from, at, len, to, to_at),
            Step::Drop { map } => {
                if !self.rig.mode.is_linux() && self.spaces.len() > 1 {
                    self.spaces.remove(map % self.spaces.len());
                }
            }
            Step::Inherit { map, at, len, inherit } => {
                let (map, va, bytes) = self.place(map, at, len);
                // Memory that all share is not private in a child, whose copy would show what others write later.
                let Space { map, pages, .. } = &mut self.spaces[map];
                if (at..at + len).all(|page| pages.get(&page).is_some_and(|page| page.below.is_some())) {
                    map.inherit(va, bytes, inherit).unwrap();
                    (at..at + len).for_each(|page| pages.get_mut(&page).unwrap().inherit = inherit);
                }
            }
            Step::Wire { map, at, len } => self.wire(map, at, len),
            Step::Unwire { map, at, len } => {
                let (map, va, bytes) = self.place(map, at, len);
                let unwired = self.spaces[map].map.unwire(va, bytes);
                let pages = &mut self.spaces[map].pages;
                let are_wired = (at..at + len).all(|page| pages.get(&page).is_some_and(|page| page.wired > 0));
                assert_eq!(unwired.is_ok(), are_wired, "{unwired:?}");
                if are_wired {
                    (at..at + len).for_each(|page| pages.get_mut(&page).unwrap().wired -= 1);
                }
            }
            Step::ReadOnly { map, at, len, on } => {
                let (map, va, bytes) = self.place(map, at, len);
                let prot = if on { Prot::READ } else { Prot::READ | Prot::WRITE };
                let done = self.spaces[map].map.protect(va, bytes, prot);
                assert_eq!(done.is_ok(), self.is_mapped(map, at, len));
                if done.is_ok() {
                    let pages = &mut self.spaces[map].pages;
                    (at..at + len).for_each(|page| pages.get_mut(&page).unwrap().writable = !on);
                }
            }
            Step::DontNeed { map, at, len } => {
                let (map, va, bytes) = self.place(map, at, len);
                assert_eq!(
                    self.spaces[map].map.dont_need(va, bytes).is_ok(),
                    self.is_mapped(map, at, len)
                );
            }
            Step::Free { map, at, len } => self.free(map, at, len),
            Step::Squeeze => {
                for _ in 0..3 {
                    self.rig.engine.daemon_step();
                }
            }
            Step::SwapFails { on } => {
                self.failing |= on;
                self.swap.all_puts(on.then_some(Twist::Fail(Cause::Errno(28))));
            }
            Step::MachineFails { kind, after } => self.machine_fails(kind, after),
        }
    }

    fn mapped(&mut self, map: usize, at: u64, len: u64, page: impl Fn(u64) -> (Bytes, Option<Vec<u8>>)) {
        for i in 0..len {
            let (bytes, below) = page(i);
            let inherit = if below.is_some() { Inherit::Copy } else { Inherit::Share };
            let page = Page {
                bytes,
                below,
                inherit,
                wired: 0,
                writable: true,
            };
            self.spaces[map].pages.insert(at + i, page);
        }
    }

    fn write(&mut self, map: usize, at: u64, bytes: &[u8], as_cpu: bool) {
        let space = &self.spaces[map % self.spaces.len()];
        let va = VirtAddr(space.base.0 + at);
        let answer = if as_cpu {
            space.map.store(va, bytes)
        } else {
            space.map.copy_in(va, bytes)
        };
        let done = answer.as_ref().map_or_else(|stopped| stopped.done, |()| bytes.len());
        for (i, byte) in bytes[..done].iter().enumerate() {
            let at = at + i as u64;
            let page = &space.pages[&(at / PAGE_SIZE)];
            assert!(page.writable, "a write that had to fail went through");
            page.bytes.borrow_mut()[usize::try_from(at % PAGE_SIZE).unwrap()] = *byte;
        }
        if let Err(stopped) = answer {
            let page = space.pages.get(&((at + done as u64) / PAGE_SIZE));
            match stopped.error {
                FaultError::NotMapped(_) => assert!(page.is_none()),
                FaultError::Denied(_) => assert!(!page.unwrap().writable),
                FaultError::NoMemory => {}
                error => panic!("stopped with: {error}"),
            }
        }
    }

    fn read(&self, map: usize, at: u64, as_cpu: bool) {
        let space = &self.spaces[map];
        let mut bytes = vec![0xcc; PAGE_BYTES];
        let va = page_at(space.base, at);
        let answer = if as_cpu {
            space.map.load(va, &mut bytes)
        } else {
            space.map.copy_out(va, &mut bytes)
        };
        match (answer, space.pages.get(&at)) {
            (Ok(()), Some(page)) => {
                let differs = page
                    .bytes
                    .borrow()
                    .iter()
                    .zip(&bytes)
                    .position(|(model, seen)| model != seen);
                assert_eq!(differs, None, "page {at} of map {map}");
            }
            (Err(stopped), page) => match stopped.error {
                FaultError::NotMapped(_) => assert!(page.is_none()),
                FaultError::NoMemory => {}
                error => panic!("stopped with: {error}"),
            },
            (Ok(()), None) => panic!("a read that had to fail went through"),
        }
    }

    fn fork(&mut self, map: usize) {
        let space = &self.spaces[map % self.spaces.len()];
        if self.rig.mode.is_linux() || self.spaces.len() == MAPS {
            return;
        }
        match space.map.fork() {
            Ok(child) => {
                let pages = space
                    .pages
                    .iter()
                    .filter_map(|(at, page)| Some((*at, page.for_child()?)))
                    .collect();
                let base = space.base;
                self.spaces.push(Space {
                    map: OneMap::Child(child),
                    base,
                    pages,
                });
            }
            Err(error) => assert!(self.is_short(&error), "{error}"),
        }
    }

    fn copy(&mut self, from: usize, at: u64, len: u64, to: usize, to_at: u64) {
        let (from, start, bytes) = self.place(from, at, len);
        let (to, place, _) = self.place(to, to_at, len);
        if !(at..at + len).all(|page| {
            self.spaces[from]
                .pages
                .get(&page)
                .is_none_or(|page| page.below.is_some())
        }) {
            return;
        }
        let request = CopyRequest {
            start,
            len: bytes,
            place: Place::Fixed(place),
            serve: self.rig.mode.serve(),
        };
        let copied = self.spaces[from].map.copy_to(&self.spaces[to].map, &request);
        if !self.is_mapped(from, at, len) {
            assert!(matches!(copied, Err(Error::NotMapped(_))), "{copied:?}");
            return;
        }
        let copies: Vec<_> = (at..at + len)
            .map(|page| {
                let page = &self.spaces[from].pages[&page];
                Page {
                    bytes: bytes_of(page.bytes.borrow().clone()),
                    wired: 0,
                    ..page.clone()
                }
            })
            .collect();
        match copied {
            Ok(_) => {
                for (i, page) in copies.into_iter().enumerate() {
                    self.spaces[to].pages.insert(to_at + i as u64, page);
                }
            }
            Err(error) => {
                assert!(self.is_short(&error), "{error}");
                // What was there has been replaced, by nothing.
                let va = page_at(self.spaces[to].base, to_at);
                self.spaces[to].map.unmap(va, bytes).unwrap();
                self.spaces[to]
                    .pages
                    .retain(|page, _| !(to_at..to_at + len).contains(page));
            }
        }
    }

    fn wire(&mut self, map: usize, at: u64, len: u64) {
        let wired = self
            .spaces
            .iter()
            .flat_map(|space| space.pages.values())
            .map(|page| page.wired.min(1));
        if wired.sum::<u32>() + u32::try_from(len).unwrap() > WIRED {
            return;
        }
        let (map, va, bytes) = self.place(map, at, len);
        match self.spaces[map].map.wire(va, bytes) {
            Ok(()) => {
                let faults = self.rig.engine.stats().counts().faults;
                for page in at..at + len {
                    self.spaces[map].pages.get_mut(&page).unwrap().wired += 1;
                    self.read(map, page, true);
                }
                assert_eq!(self.rig.engine.stats().counts().faults, faults, "wired memory faulted");
            }
            Err(Error::NotMapped(_)) => assert!(!self.is_mapped(map, at, len)),
            Err(error) => assert!(self.is_short(&error), "{error}"),
        }
    }

    /// What was freed shows what lies below, or still what it did.
    fn free(&mut self, map: usize, at: u64, len: u64) {
        let (map, va, bytes) = self.place(map, at, len);
        let freed = self.spaces[map].map.free(va, bytes);
        assert_eq!(freed.is_ok(), self.is_mapped(map, at, len));
        if freed.is_err() {
            return;
        }
        let space = &self.spaces[map];
        for page in at..at + len {
            let model = &space.pages[&page];
            let mut seen = vec![0; PAGE_BYTES];
            while let Err(stopped) = space.map.copy_out(page_at(space.base, page), &mut seen) {
                assert!(self.failing && stopped.error == FaultError::NoMemory);
                self.swap.all_puts(None);
            }
            if *model.bytes.borrow() != seen {
                assert_eq!((model.below.as_ref(), model.wired), (Some(&seen), 0));
                *model.bytes.borrow_mut() = seen;
            }
        }
    }

    fn machine_fails(&mut self, kind: u8, after: u64) {
        if self.rig.mode.is_linux() {
            return;
        }
        self.failing = true;
        let failure = match kind {
            0 => Failure::Enter(NotEntered::Shortage),
            1 => Failure::Frame,
            2 => Failure::Lend,
            _ => Failure::TakeBack,
        };
        self.rig.soft().inject(Injection {
            failure,
            after,
            times: 3,
        });
    }

    fn end(mut self) {
        self.swap.all_puts(None);
        if !self.rig.mode.is_linux() {
            for failure in [
                Failure::Enter(NotEntered::Shortage),
                Failure::Frame,
                Failure::Lend,
                Failure::TakeBack,
            ] {
                self.rig.soft().inject(Injection {
                    failure,
                    after: 0,
                    times: 0,
                });
            }
        }
        for map in 0..self.spaces.len() {
            (0..SPACE).for_each(|page| self.read(map, page, page % 2 == 0));
        }
        while let Some(space) = self.spaces.pop() {
            space.map.clear().unwrap();
        }
        self.file.release().unwrap();
        self.memory.release().unwrap();
        let counts = self.rig.engine.swap_counts();
        assert_eq!(counts.used, 0, "what nobody needs has no slot");
        self.rig.assert_nothing_left();
    }
}

/// So many random programs, each on one of the machines.
fn run_programs(cases: u32, modes: &[Mode]) {
    let config = ProptestConfig {
        cases,
        source_file: Some(file!()),
        max_shrink_iters: 4000,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(&(prop::sample::select(modes.to_vec()), steps()), |(mode, steps)| {
        let mut run = Run::new(mode);
        steps.iter().for_each(|step| run.step(step));
        run.end();
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    // Past the harness, which keeps what passing tests print.
    let kind = if modes[0].is_linux() { "linux" } else { "soft" };
    let _ = writeln!(std::io::stderr(), "{cases} random programs of copies on {kind}");
}

#[test]
fn random_forks_and_copies_do_what_plain_bytes_do() {
    run_programs(600, &Mode::soft().collect::<Vec<_>>());
}

#[test]
fn random_copies_do_what_plain_bytes_do_in_real_memory() {
    let modes: Vec<_> = Mode::all().into_iter().filter(Mode::is_linux).collect();
    if !modes.is_empty() {
        run_programs(300, &modes);
    }
}
