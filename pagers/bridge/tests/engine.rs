//! Faults that go through a plugin's table, in every mode of the soft machine.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use quire_abi::*;
use quire_bridge::PluginModule;
use quire_core::engine::Engine;
use quire_core::error::{Error, FaultError};
use quire_core::flush::FlushFlags;
use quire_core::map::{Map, MapRequest};
use quire_core::object::ObjectRef;
use quire_core::soft::{SoftConfig, SoftMachine};
use quire_core::types::{AddrRange, PAGE_SIZE, VirtAddr};
use support::{Script, fill_all, open_one, pages, start};

/// A map of the whole object of a scripted plugin.
struct World {
    script: &'static Script,
    module: Arc<PluginModule>,
    engine: Arc<Engine>,
    object: ObjectRef,
    map: Map,
    base: VirtAddr,
}

impl World {
    fn new(config: SoftConfig, script: Script) -> Self {
        let (script, module) = start(script);
        let engine = Engine::new(SoftMachine::new(config).unwrap());
        let opened = open_one(&module);
        let size = opened.size;
        let object = engine.create_object(opened.pager, size).unwrap();
        let space = AddrRange::sized(VirtAddr(0x10_0000), 1 << 30).unwrap();
        let map = Map::new(engine.clone(), space).unwrap();
        let base = map.map(&object, &MapRequest::read_write(size)).unwrap().start;
        Self {
            script,
            module,
            engine,
            object,
            map,
            base,
        }
    }

    fn at(&self, page: u64) -> VirtAddr {
        VirtAddr(self.base.0 + page * PAGE_SIZE)
    }

    /// The first byte of a page, loaded as a processor does.
    fn load(&self, page: u64) -> Result<u8, FaultError> {
        let mut byte = [0];
        self.map
            .load(self.at(page), &mut byte)
            .map_err(|stopped| stopped.error)?;
        Ok(byte[0])
    }
}

fn in_every_mode(script: impl Fn() -> Script, test: impl Fn(World)) {
    for config in SoftConfig::awkward_modes() {
        test(World::new(config, script()));
    }
}

fn get(with: impl Fn(&Script, &mut Io) -> i32 + Send + Sync + 'static) -> Script {
    Script {
        get: Box::new(with),
        ..Script::default()
    }
}

#[test]
fn a_fault_is_resolved_through_the_plugin_and_a_write_reaches_it() {
    let written = Arc::new(AtomicU32::new(0));
    let script = || {
        let written = written.clone();
        Script {
            put: Box::new(move |_, io| {
                for page in pages(io) {
                    // SAFETY: the host lends the page's bytes.
                    assert_eq!(unsafe { page.bytes.cast::<[u8; 2]>().read() }, [9, 7]);
                    page.status = QUIRE_PAGER_OK;
                    written.fetch_add(1, Ordering::Relaxed);
                }
                QUIRE_PAGER_OK
            }),
            ..Script::default()
        }
    };
    in_every_mode(script, |world| {
        assert_eq!(world.load(3), Ok(7));
        world.map.store(world.at(3), &[9]).unwrap();
        world.map.clear().unwrap();
        written.store(0, Ordering::Relaxed);
        world.object.object().flush_all(FlushFlags::DURABLE).unwrap();
        assert_eq!(written.load(Ordering::Relaxed), 1);
        let script = world.script;
        world.object.release().unwrap();
        assert_eq!(script.closes.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn s111_many_faults_on_a_page_that_pends_are_one_request() {
    let (send, tokens) = mpsc::channel();
    let script = || {
        let send = send.clone();
        get(move |_, io| {
            fill_all(io);
            send.send(io.token).unwrap();
            QUIRE_PAGER_PEND
        })
    };
    in_every_mode(script, |world| {
        thread::scope(|s| {
            let faults: Vec<_> = (0..4).map(|_| s.spawn(|| world.load(5))).collect();
            let token = tokens.recv().unwrap();
            assert_eq!(world.script.complete(token, QUIRE_PAGER_OK), QUIRE_PAGER_OK);
            for fault in faults {
                assert_eq!(fault.join().unwrap(), Ok(7));
            }
        });
        assert_eq!(world.engine.stats().counts().gets, 1);
    });
}

#[test]
fn a_pager_that_broke_its_promise_loses_the_object_and_nobody_else_does() {
    in_every_mode(
        || get(|_, io| if io.first == 1 { 1234 } else { fill_all(io) }),
        |world| {
            assert_eq!(world.load(0), Ok(7));
            for page in [1, 2] {
                let Err(FaultError::Quarantined(why)) = world.load(page) else {
                    panic!("must fail")
                };
                assert_eq!(why, "scripted thing: get answered the unknown status 1234");
                assert!(world.object.is_quarantined());
            }
            // Another object of the same plugin is as good as before.
            let opened = open_one(&world.module);
            let other = world.engine.create_object(opened.pager, 1 << 20).unwrap();
            let base = world.map.map(&other, &MapRequest::read_only(1 << 20)).unwrap().start;
            let mut byte = [0];
            world.map.load(base, &mut byte).unwrap();
            assert_eq!(byte, [7]);
        },
    );
}

#[test]
fn an_error_of_the_pager_arrives_in_its_own_words_and_may_go_away() {
    let broken = Arc::new(AtomicU32::new(0));
    let script = || {
        broken.store(1, Ordering::Relaxed);
        let broken = broken.clone();
        get(move |script, io| {
            if broken.load(Ordering::Relaxed) == 0 {
                return fill_all(io);
            }
            script.set_error(io.token, c"read at 8192 of /thing: bad sector");
            -5
        })
    };
    in_every_mode(script, |world| {
        let error = world.load(2).unwrap_err();
        assert!(
            error.to_string().contains("read at 8192 of /thing: bad sector"),
            "{error}"
        );
        broken.store(0, Ordering::Relaxed);
        assert_eq!(world.load(2), Ok(7));
    });
}

#[test]
fn a_write_that_fails_keeps_its_pages_and_a_later_one_succeeds() {
    let full = Arc::new(AtomicU32::new(1));
    let script = || {
        full.store(1, Ordering::Relaxed);
        let full = full.clone();
        let put = move |_: &Script, io: &mut Io| {
            if full.load(Ordering::Relaxed) == 1 {
                -28
            } else {
                support::touch_all(io)
            }
        };
        Script {
            put: Box::new(put),
            ..Script::default()
        }
    };
    in_every_mode(script, |world| {
        world.map.store(world.at(3), &[9]).unwrap();
        let error = world.object.object().flush_all(FlushFlags::empty()).unwrap_err();
        assert!(matches!(&error, Error::WriteBack { pages: 1, .. }), "{error}");
        full.store(0, Ordering::Relaxed);
        world.object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(world.load(3), Ok(9));
    });
}

/// A plugin whose objects come through populate.
fn device(populate: impl Fn(&Script, &mut Populate) -> i32 + Send + Sync + 'static) -> Script {
    Script {
        open: Box::new(|_, out| {
            out.flags = QUIRE_OBJECT_POPULATE;
            QUIRE_PAGER_OK
        }),
        populate: Box::new(populate),
        ..Script::default()
    }
}

#[test]
fn s212_populate_installs_pages_around_the_fault() {
    let script = || {
        device(|script, request| {
            assert_eq!((request.index, request.first, request.last), (5, 0, 255));
            assert_eq!(
                (request.access, request.max_prot),
                (QUIRE_ACCESS_READ, QUIRE_ACCESS_READ | QUIRE_ACCESS_WRITE)
            );
            for index in 4..8 {
                assert_eq!(script.page_insert_filled(request.token, index, 5), QUIRE_PAGER_OK);
                assert_eq!(
                    script.page_insert(request.token, index),
                    QUIRE_PAGER_AGAIN,
                    "it is there already"
                );
                assert_eq!(script.page_ready(request.token, index), QUIRE_PAGER_OK);
            }
            assert_eq!(
                script.page_insert(request.token, 256),
                QUIRE_PAGER_BAD,
                "outside the object"
            );
            assert_eq!(
                script.page_ready(request.token, 99),
                QUIRE_PAGER_INVALID,
                "never inserted"
            );
            assert_eq!(
                script.complete(request.token, QUIRE_PAGER_OK),
                QUIRE_PAGER_STALE,
                "not that kind of request"
            );
            (request.first, request.last) = (4, 7);
            QUIRE_PAGER_OK
        })
    };
    in_every_mode(script, |world| {
        for page in [5, 4, 7] {
            assert_eq!(world.load(page), Ok(5));
        }
        let counts = world.engine.stats().counts();
        assert_eq!((counts.populates, counts.pages_populated, counts.gets), (1, 4, 0));
    });
}

#[test]
fn s221_populate_that_answers_bad_leaves_it_to_get() {
    in_every_mode(
        || device(|_, _| QUIRE_PAGER_BAD),
        |world| {
            assert_eq!(world.load(5), Ok(7));
            let counts = world.engine.stats().counts();
            assert_eq!((counts.populates, counts.gets), (1, 1));
        },
    );
}

#[test]
fn a_page_service_outside_populate_is_refused() {
    in_every_mode(
        || {
            get(|script, io| {
                assert_eq!(script.page_insert(io.token, 0), QUIRE_PAGER_STALE);
                fill_all(io)
            })
        },
        |world| {
            assert_eq!(world.load(5), Ok(7));
            assert_eq!(world.module.stale_calls(), 1);
        },
    );
}

#[test]
fn s223_populate_that_installs_less_than_it_says_is_a_broken_promise() {
    in_every_mode(
        || {
            device(|script, request| {
                assert_eq!(script.page_insert(request.token, request.index), QUIRE_PAGER_OK);
                (request.first, request.last) = (request.index, request.index);
                QUIRE_PAGER_OK
            })
        },
        |world| {
            let error = world.load(5).unwrap_err();
            assert!(error.to_string().contains("populate answered"), "{error}");
            assert!(world.object.is_quarantined());
        },
    );
}
