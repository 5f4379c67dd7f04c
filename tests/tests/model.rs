//! Random programs of maps, accesses, flushes and failures, against a naive model: an array of bytes for each object, and
//! for each page of address space what is mapped there. On every machine, with so few frames that pages come
//! and go all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use quire_core::error::{Cause, Error, FaultError};
use quire_core::flush::FlushFlags;
use quire_core::map::MapRequest;
use quire_core::map_ops::Place;
use quire_core::object::ObjectRef;
use quire_core::types::{Advice, ByteOff, PAGE_BYTES, PAGE_SIZE, Prot, VirtAddr};
use quire_tests::{Mode, Rig, Script, ServedMap, Twist, page_at, pattern};

/// Pages of address space of each map: few, so that ranges meet.
const SPACE: u64 = 24;
const OBJECTS: usize = 2;
/// Pages of an object. Its last page is cut in the middle.
const PAGES: u64 = 12;
const SIZE: u64 = PAGES * PAGE_SIZE - 1000;
/// Frames: fewer than the pages of both objects.
const FRAMES: u64 = 14;

#[derive(Clone, Debug)]
enum Step {
    Map {
        map: usize,
        object: usize,
        offset: u64,
        len: u64,
        place: Option<u64>,
        replace: bool,
        writable: bool,
    },
    Unmap {
        map: usize,
        at: u64,
        len: u64,
    },
    Protect {
        map: usize,
        at: u64,
        len: u64,
        prot: u8,
    },
    Advise {
        map: usize,
        at: u64,
        len: u64,
        advice: u8,
    },
    Store {
        map: usize,
        at: u64,
        bytes: Vec<u8>,
    },
    Load {
        map: usize,
        at: u64,
        len: usize,
    },
    CopyIn {
        map: usize,
        at: u64,
        bytes: Vec<u8>,
    },
    CopyOut {
        map: usize,
        at: u64,
        len: usize,
    },
    Flush {
        object: usize,
    },
    FailGet {
        object: usize,
    },
    FailPuts {
        object: usize,
        failing: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let map = 0..2_usize;
    let page = 0..SPACE;
    let len = 1..9_u64;
    let byte_at = 0..SPACE * PAGE_SIZE;
    let bytes = prop::collection::vec(any::<u8>(), 1..6000);
    let step = prop_oneof![
        4 => (map.clone(), 0..OBJECTS, 0..PAGES, len.clone(), prop::option::of(page.clone()), any::<bool>(), any::<bool>())
            .prop_map(|(map, object, offset, len, place, replace, writable)| Step::Map { map, object, offset, len, place, replace, writable }),
        2 => (map.clone(), page.clone(), len.clone()).prop_map(|(map, at, len)| Step::Unmap { map, at, len }),
        2 => (map.clone(), page.clone(), len.clone(), 0..8_u8).prop_map(|(map, at, len, prot)| Step::Protect { map, at, len, prot }),
        1 => (map.clone(), page, len, 0..3_u8).prop_map(|(map, at, len, advice)| Step::Advise { map, at, len, advice }),
        6 => (map.clone(), byte_at.clone(), bytes.clone()).prop_map(|(map, at, bytes)| Step::Store { map, at, bytes }),
        4 => (map.clone(), byte_at.clone(), 1..6000_usize).prop_map(|(map, at, len)| Step::Load { map, at, len }),
        3 => (map.clone(), byte_at.clone(), bytes).prop_map(|(map, at, bytes)| Step::CopyIn { map, at, bytes }),
        3 => (map, byte_at, 1..6000_usize).prop_map(|(map, at, len)| Step::CopyOut { map, at, len }),
        2 => (0..OBJECTS).prop_map(|object| Step::Flush { object }),
        1 => (0..OBJECTS).prop_map(|object| Step::FailGet { object }),
        1 => (0..OBJECTS, any::<bool>()).prop_map(|(object, failing)| Step::FailPuts { object, failing }),
    ];
    prop::collection::vec(step, 1..60)
}

/// What the model knows of one page of address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mapped {
    object: usize,
    index: u64,
    prot: Prot,
    max: Prot,
}

#[derive(Default)]
struct Model {
    maps: [BTreeMap<u64, Mapped>; 2],
    bytes: Vec<Vec<u8>>,
    failing_puts: [bool; OBJECTS],
}

struct Run {
    rig: Rig,
    maps: [ServedMap; 2],
    objects: Vec<(Script, ObjectRef)>,
    model: Model,
}

impl Run {
    fn new(mode: Mode) -> Self {
        let rig = Rig::new(mode.with_frames(FRAMES, 0));
        let maps = [(); 2].map(|()| ServedMap::of_len(&rig.engine, mode, SPACE * PAGE_SIZE));
        let objects: Vec<_> = (0..OBJECTS)
            .map(|_| {
                let (script, pager) = Script::new();
                let object = rig.engine.create_object(pager, SIZE).unwrap();
                (script, object)
            })
            .collect();
        let mut model = Model::default();
        for _ in 0..OBJECTS {
            // Past the end the last page is zeros in memory.
            let mut bytes: Vec<u8> = (0..PAGES).flat_map(pattern).collect();
            bytes[usize::try_from(SIZE).unwrap()..].fill(0);
            model.bytes.push(bytes);
        }
        Self {
            rig,
            maps,
            objects,
            model,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Map { .. } => self.map(step),
            &Step::Unmap { map, at, len } => {
                let answer = self.maps[map].unmap(self.page_at(map, at), len * PAGE_SIZE);
                if at + len > SPACE {
                    assert!(matches!(answer, Err(Error::Invalid(_))), "{answer:?}");
                } else {
                    answer.unwrap();
                    self.model.maps[map].retain(|page, _| !(at..at + len).contains(page));
                }
            }
            &Step::Protect { map, at, len, prot } => self.protect(map, at, len, Prot::from_bits_truncate(prot)),
            &Step::Advise { map, at, len, advice } => {
                let advice = [Advice::Normal, Advice::Random, Advice::Sequential][usize::from(advice)];
                let whole = (at..at + len).all(|page| self.model.maps[map].contains_key(&page));
                assert_eq!(
                    self.maps[map]
                        .advise(self.page_at(map, at), len * PAGE_SIZE, advice)
                        .is_ok(),
                    whole
                );
            }
            Step::Store { map, at, bytes } => self.write(*map, *at, bytes, true),
            Step::CopyIn { map, at, bytes } => self.write(*map, *at, bytes, false),
            &Step::Load { map, at, len } => self.read(map, at, len, true),
            &Step::CopyOut { map, at, len } => self.read(map, at, len, false),
            &Step::Flush { object } => {
                let flushed = self.objects[object].1.object().flush_all(FlushFlags::empty());
                if !self.model.failing_puts[object] {
                    flushed.unwrap();
                    self.check_stored(object);
                }
            }
            &Step::FailGet { object } => self.objects[object].0.next_gets([Twist::Fail(Cause::Io)]),
            &Step::FailPuts { object, failing } => {
                self.model.failing_puts[object] = failing;
                self.objects[object]
                    .0
                    .all_puts(failing.then_some(Twist::Fail(Cause::Errno(28))));
            }
        }
    }

    fn page_at(&self, map: usize, page: u64) -> VirtAddr {
        page_at(self.maps[map].base(), page)
    }

    fn byte_at(&self, map: usize, at: u64) -> VirtAddr {
        VirtAddr(self.maps[map].base().0 + at)
    }

    fn map(&mut self, step: &Step) {
        let &Step::Map {
            map,
            object,
            offset,
            len,
            place,
            replace,
            writable,
        } = step
        else {
            unreachable!()
        };
        let base = self.maps[map].base();
        let va = |page| page_at(base, page);
        let place = match place {
            None => Place::Anywhere {
                hint: base,
                align: PAGE_SIZE,
            },
            Some(page) if replace => Place::Fixed(va(page)),
            Some(page) => Place::FixedNoReplace(va(page)),
        };
        let prot = if writable { Prot::READ | Prot::WRITE } else { Prot::READ };
        let request = MapRequest {
            place,
            offset: ByteOff(offset * PAGE_SIZE),
            prot,
            max_prot: prot,
            ..MapRequest::read_only(len * PAGE_SIZE)
        };
        let answer = self.maps[map].map(&self.objects[object].1, &request);
        let model = &mut self.model.maps[map];
        let start = match place {
            Place::Anywhere { .. } => {
                (0..SPACE).find(|&at| at + len <= SPACE && (at..at + len).all(|page| !model.contains_key(&page)))
            }
            Place::Fixed(at) => Some((at.0 - base.0) / PAGE_SIZE).filter(|at| at + len <= SPACE),
            Place::FixedNoReplace(at) => Some((at.0 - base.0) / PAGE_SIZE)
                .filter(|&at| at + len <= SPACE && (at..at + len).all(|page| !model.contains_key(&page))),
        };
        match start {
            None => assert!(answer.is_err(), "mapped {answer:?} where there was no room"),
            Some(start) => {
                assert_eq!(answer.unwrap().start, va(start));
                for i in 0..len {
                    model.insert(
                        start + i,
                        Mapped {
                            object,
                            index: offset + i,
                            prot,
                            max: prot,
                        },
                    );
                }
            }
        }
    }

    fn protect(&mut self, map: usize, at: u64, len: u64, prot: Prot) {
        let answer = self.maps[map].protect(self.page_at(map, at), len * PAGE_SIZE, prot);
        let model = &mut self.model.maps[map];
        let allowed = (at..at + len).all(|page| model.get(&page).is_some_and(|mapped| mapped.max.contains(prot)));
        assert_eq!(answer.is_ok(), allowed, "{answer:?}");
        if allowed {
            for page in at..at + len {
                model.entry(page).and_modify(|mapped| mapped.prot = prot);
            }
        }
    }

    /// Where the byte at `at` of a map is: which object, which byte of it. Nothing if an access must fail there.
    fn place(&self, map: usize, at: u64, needs: Prot) -> Option<(usize, usize)> {
        let mapped = self.model.maps[map].get(&(at / PAGE_SIZE))?;
        let offset = mapped.index * PAGE_SIZE + at % PAGE_SIZE;
        (mapped.prot.contains(needs) && mapped.index < PAGES).then(|| (mapped.object, usize::try_from(offset).unwrap()))
    }

    fn write(&mut self, map: usize, at: u64, bytes: &[u8], as_cpu: bool) {
        let va = self.byte_at(map, at);
        let answer = if as_cpu {
            self.maps[map].store(va, bytes)
        } else {
            self.maps[map].copy_in(va, bytes)
        };
        let done = answer.as_ref().map_or_else(|stopped| stopped.done, |()| bytes.len());
        for (i, byte) in bytes[..done].iter().enumerate() {
            let (object, offset) = self
                .place(map, at + i as u64, Prot::WRITE)
                .expect("an access that had to fail went through");
            self.model.bytes[object][offset] = *byte;
        }
        if let Err(stopped) = answer {
            self.check_stop(map, at + done as u64, Prot::WRITE, &stopped.error);
        }
    }

    fn read(&mut self, map: usize, at: u64, len: usize, as_cpu: bool) {
        let va = self.byte_at(map, at);
        let mut bytes = vec![0xcc; len];
        let answer = if as_cpu {
            self.maps[map].load(va, &mut bytes)
        } else {
            self.maps[map].copy_out(va, &mut bytes)
        };
        let done = answer.as_ref().map_or_else(|stopped| stopped.done, |()| len);
        for (i, byte) in bytes[..done].iter().enumerate() {
            let (object, offset) = self
                .place(map, at + i as u64, Prot::READ)
                .expect("an access that had to fail went through");
            assert_eq!(
                *byte, self.model.bytes[object][offset],
                "byte {offset} of object {object}"
            );
        }
        if let Err(stopped) = answer {
            self.check_stop(map, at + done as u64, Prot::READ, &stopped.error);
        }
    }

    /// An access stopped: rightly so, and for the right reason?
    fn check_stop(&self, map: usize, at: u64, needs: Prot, error: &FaultError) {
        let expected = match self.model.maps[map].get(&(at / PAGE_SIZE)) {
            None => matches!(error, FaultError::NotMapped(_)),
            Some(mapped) if !mapped.prot.contains(needs) => matches!(error, FaultError::Denied(_)),
            Some(mapped) if mapped.index >= PAGES => matches!(error, FaultError::BeyondObject(_)),
            // Failures that the program ordered: a get, or puts that keep memory from being freed.
            Some(_) => match error {
                FaultError::Pager { error, .. } => error.cause == Cause::Io,
                FaultError::NoMemory => self.model.failing_puts.contains(&true),
                _ => false,
            },
        };
        assert!(expected, "stopped at page {} with: {error}", at / PAGE_SIZE);
    }

    fn check_stored(&self, object: usize) {
        for index in 0..PAGES {
            let start = usize::try_from(index).unwrap() * PAGE_BYTES;
            let live = (usize::try_from(SIZE).unwrap() - start).min(PAGE_BYTES);
            let written = self.objects[object].0.stored(index)[..live] == self.model.bytes[object][start..start + live];
            assert!(written, "page {index} of object {object} is not what was stored there");
        }
    }

    fn end(mut self) {
        for object in 0..OBJECTS {
            self.step(&Step::FailPuts { object, failing: false });
            self.step(&Step::Flush { object });
        }
        let [first, second] = self.maps;
        first.clear().unwrap();
        second.clear().unwrap();
        drop((first, second));
        for (_, object) in self.objects {
            object.release().unwrap();
        }
        self.rig.assert_nothing_left();
    }
}

/// So many random programs, each on one of the machines.
fn run_programs(cases: u32, modes: &[Mode]) {
    let config = ProptestConfig {
        cases,
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(&(prop::sample::select(modes.to_vec()), steps()), |(mode, steps)| {
        let mut run = Run::new(mode);
        for step in &steps {
            run.step(step);
        }
        run.end();
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    // Past the harness, which keeps what passing tests print.
    let kinds: BTreeSet<_> = modes
        .iter()
        .map(|mode| if mode.is_linux() { "linux" } else { "soft" })
        .collect();
    let _ = writeln!(std::io::stderr(), "{cases} random programs on {kinds:?}");
}

#[test]
fn random_programs_do_what_plain_bytes_do() {
    run_programs(600, &Mode::soft().collect::<Vec<_>>());
}

#[test]
fn random_programs_do_what_plain_bytes_do_in_real_memory() {
    let modes: Vec<_> = Mode::all().into_iter().filter(Mode::is_linux).collect();
    if !modes.is_empty() {
        run_programs(300, &modes);
    }
}
