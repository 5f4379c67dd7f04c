//! From init to fini, and who may be inside at the same time.

mod support;

use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;

use quire_abi::*;
use quire_bridge::{Open, PluginObject, StillInUse};
use quire_core::error::Cause;
use quire_core::io::Direction;
use quire_core::pager::{Answer, Pager, PagerOps};
use quire_core::types::PageIndex;
use support::{Script, fill_all, open_one, request, request_over, start, try_start};

#[test]
fn a_plugin_whose_init_fails_is_refused_with_its_own_words_and_what_it_started_may_live_on() {
    let refuses = |script: &Script| {
        script.set_error(0, c"no licence");
        -13
    };
    let (script, answer) = try_start(Script {
        init: Box::new(refuses),
        ..Script::default()
    });
    let error = answer.unwrap_err();
    assert_eq!((error.cause, error.text.as_str()), (Cause::Errno(13), "no licence"));
    assert_eq!(script.finis.load(Ordering::Relaxed), 0);
    assert!(
        !script.keeper_dropped.load(Ordering::SeqCst),
        "a thread may still run its code"
    );
    // And that thread may speak to the host it was told.
    script.log(QUIRE_LOG_INFO, c"still here");
    assert_eq!(script.logged(), ["still here"]);
}

#[test]
fn s33_a_size_above_the_largest_is_logged_and_clamped() {
    let (script, module) = start(Script {
        open: Box::new(|_, out| {
            out.size = u64::MAX;
            QUIRE_PAGER_OK
        }),
        ..Script::default()
    });
    assert_eq!(open_one(&module).size, u64::MAX - 4095);
    assert_eq!(
        script.logged(),
        [
            "scripted thing: open answered a size of 18446744073709551615 bytes; 18446744073709547520 is the most there \
             can be, and is used"
        ]
    );
}

#[test]
fn an_object_with_a_flag_that_must_be_understood_is_refused_and_closed() {
    let (script, module) = start(Script {
        open: Box::new(|_, out| {
            out.flags = 1 << 20;
            QUIRE_PAGER_OK
        }),
        ..Script::default()
    });
    let error = module.open(&Open::default()).unwrap_err();
    assert_eq!(error.cause, Cause::Unsupported);
    assert!(error.text.contains("open answered the flags 0x100000"), "{error}");
    assert_eq!(script.closes.load(Ordering::Relaxed), 1);
    assert_eq!(module.open_objects(), 0);
    let (_, module) = start(Script {
        open: Box::new(|_, out| {
            out.flags = 1 << 15;
            QUIRE_PAGER_OK
        }),
        ..Script::default()
    });
    open_one(&module);
}

#[test]
fn an_object_tells_what_open_told() {
    let (_, module) = start(Script {
        open: Box::new(|_, out| {
            out.identity = [3, 4];
            out.granule = 65536;
            out.max_run = 8;
            out.flags = QUIRE_OBJECT_READ_ONLY;
            QUIRE_PAGER_OK
        }),
        path: Some(c"/the/real/name"),
        ..Script::default()
    });
    let opened = open_one(&module);
    assert_eq!(
        (opened.identity, opened.size, opened.granule),
        (Some([3, 4]), 1 << 20, 65536)
    );
    assert_eq!(opened.pager.max_run(), 8);
    assert_eq!(opened.pager.describe(), "scripted /the/real/name");
    assert!(!opened.pager.ops().contains(PagerOps::PUT), "read-only");
    assert!(opened.pager.ops().contains(PagerOps::SYNC));
}

#[test]
fn what_is_opened_for_reading_cannot_be_written() {
    let (_, module) = start(Script::default());
    let opened = module.open(&Open::default()).unwrap();
    assert!(!opened.pager.ops().contains(PagerOps::PUT));
    assert_eq!(opened.pager.describe(), "scripted");
    assert_eq!(opened.pager.max_run(), u32::MAX);
    assert_eq!(opened.identity, None);
}

#[test]
fn an_open_that_fails_leaves_nothing_open() {
    let (script, module) = start(Script {
        open: Box::new(|script, _| {
            script.set_error(0, c"/thing: no such thing");
            -2
        }),
        ..Script::default()
    });
    let error = module.open(&Open::default()).unwrap_err();
    assert_eq!(
        (error.cause, error.text.as_str()),
        (Cause::Errno(2), "/thing: no such thing")
    );
    assert_eq!(module.open_objects(), 0);
    assert_eq!(script.closes.load(Ordering::Relaxed), 0);
}

#[test]
fn an_object_is_closed_once_by_the_engine_or_when_dropped() {
    let (script, module) = start(Script::default());
    let first = open_one(&module);
    first.pager.close().unwrap();
    first.pager.close().unwrap();
    drop(first);
    assert_eq!(script.closes.load(Ordering::Relaxed), 1);
    drop(open_one(&module));
    assert_eq!(script.closes.load(Ordering::Relaxed), 2);
}

#[test]
fn a_plugin_is_not_shut_down_under_its_objects_and_requests() {
    let (send, tokens) = mpsc::channel();
    let pends = move |_: &Script, io: &mut Io| {
        fill_all(io);
        send.send(io.token).unwrap();
        QUIRE_PAGER_PEND
    };
    let (script, module) = start(Script {
        get: Box::new(pends),
        ..Script::default()
    });
    let opened = open_one(&module);
    let io = request(Direction::Get, 0, 1, 0);
    assert!(matches!(opened.pager.get(&io), Answer::Pending));
    assert_eq!(
        module.try_shut_down(),
        Err(StillInUse {
            objects: 1,
            requests: 1
        })
    );
    drop(module.open(&Open::default()).expect("it goes on as before"));
    module.drain();
    assert_eq!(
        module.open(&Open::default()).unwrap_err().text,
        "the plugin scripted is being unloaded"
    );

    let waiter = {
        let module = Arc::clone(&module);
        thread::spawn(move || module.shut_down())
    };
    script.complete(tokens.recv().unwrap(), QUIRE_PAGER_OK);
    io.wait().unwrap();
    assert_eq!(script.finis.load(Ordering::Relaxed), 0, "an object is still open");
    opened.pager.close().unwrap();
    drop(opened);
    waiter.join().unwrap();
    assert_eq!(script.finis.load(Ordering::Relaxed), 1);
    assert!(
        script.keeper_dropped.load(Ordering::SeqCst),
        "the library goes, after fini"
    );
    assert_eq!(module.try_shut_down(), Ok(()), "a second time changes nothing");
    assert_eq!(script.finis.load(Ordering::Relaxed), 1);
}

#[test]
fn a_plugin_that_was_not_shut_down_stays_for_ever() {
    let (script, module) = start(Script::default());
    drop(module);
    assert_eq!(script.finis.load(Ordering::Relaxed), 0);
    assert!(!script.keeper_dropped.load(Ordering::SeqCst));
    // Its threads may still speak to the host.
    script.log(QUIRE_LOG_INFO, c"still here");
    assert_eq!(script.logged(), ["still here"]);
}

/// Two threads meet inside `get`: this ends only if both are in at the same time.
fn meeting(threads: u32, objects: usize) {
    let barrier = Arc::new(Barrier::new(2));
    let meet = move |_: &Script, io: &mut Io| {
        barrier.wait();
        fill_all(io)
    };
    let (_, module) = start(Script {
        threads,
        get: Box::new(meet),
        ..Script::default()
    });
    let objects: Vec<_> = (0..objects).map(|_| open_one(&module)).collect();
    thread::scope(|s| {
        for i in 0..2 {
            let pager = &objects[i % objects.len()].pager;
            s.spawn(|| {
                assert!(matches!(
                    pager.get(&request(Direction::Get, 0, 1, 0)),
                    Answer::Done(Ok(()))
                ))
            });
        }
    });
}

#[test]
fn a_parallel_pager_is_called_at_the_same_time() {
    meeting(QUIRE_THREADS_PARALLEL, 1);
}

#[test]
fn a_pager_serialised_by_object_is_called_at_the_same_time_for_two_objects() {
    meeting(QUIRE_THREADS_SERIALIZE_OBJECT, 2);
}

/// The most threads that were inside at the same time while several called.
fn most_inside(threads: u32, objects: usize) -> u32 {
    static INSIDE: AtomicU32 = AtomicU32::new(0);
    let most = Arc::new(AtomicU32::new(0));
    let (get_most, sync_most) = (most.clone(), most.clone());
    let visit = |most: &AtomicU32| {
        most.fetch_max(INSIDE.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::yield_now();
        INSIDE.fetch_sub(1, Ordering::SeqCst);
    };
    let (_, module) = start(Script {
        threads,
        get: Box::new(move |_, io| {
            visit(&get_most);
            fill_all(io)
        }),
        sync: Box::new(move |_| {
            visit(&sync_most);
            QUIRE_PAGER_OK
        }),
        ..Script::default()
    });
    let objects: Vec<_> = (0..objects).map(|_| open_one(&module)).collect();
    thread::scope(|s| {
        for i in 0..4 {
            let pager = &objects[i % objects.len()].pager;
            s.spawn(|| {
                for _ in 0..200 {
                    assert!(matches!(
                        pager.get(&request(Direction::Get, 0, 1, 0)),
                        Answer::Done(Ok(()))
                    ));
                    pager.sync().unwrap();
                }
            });
        }
    });
    most.load(Ordering::SeqCst)
}

#[test]
fn a_serialised_pager_is_called_by_one_thread_at_a_time() {
    assert_eq!(most_inside(QUIRE_THREADS_SERIALIZE_ALL, 2), 1);
    assert_eq!(most_inside(QUIRE_THREADS_SERIALIZE_OBJECT, 1), 1);
}

#[test]
fn a_pending_request_holds_no_lock() {
    for threads in [QUIRE_THREADS_SERIALIZE_ALL, QUIRE_THREADS_SERIALIZE_OBJECT] {
        let (send, tokens) = mpsc::channel();
        let pends = move |_: &Script, io: &mut Io| {
            fill_all(io);
            send.send(io.token).unwrap();
            QUIRE_PAGER_PEND
        };
        let (script, module) = start(Script {
            threads,
            get: Box::new(pends),
            ..Script::default()
        });
        let opened = open_one(&module);
        let ios: Vec<_> = (0..3).map(|i| request(Direction::Get, i, 1, 0)).collect();
        for io in &ios {
            assert!(matches!(opened.pager.get(io), Answer::Pending));
        }
        opened.pager.sync().unwrap();
        let tokens: Vec<_> = tokens.try_iter().collect();
        for token in tokens.into_iter().rev() {
            assert_eq!(script.complete(token, QUIRE_PAGER_OK), QUIRE_PAGER_OK);
        }
        for io in &ios {
            io.wait().unwrap();
        }
    }
}

#[test]
fn a_serialised_pager_that_comes_back_to_itself_is_told_so_and_does_not_hang() {
    let (pager_to, pager) = mpsc::channel::<Arc<quire_bridge::PluginObject>>();
    let pager = std::sync::Mutex::new(pager);
    let (texts_to, texts) = mpsc::channel();
    let (_, module) = start(Script {
        threads: QUIRE_THREADS_SERIALIZE_OBJECT,
        get: Box::new(move |_, io| {
            let myself = pager.lock().unwrap().recv().unwrap();
            texts_to.send(myself.sync().unwrap_err().text).unwrap();
            fill_all(io)
        }),
        ..Script::default()
    });
    let myself: Arc<quire_bridge::PluginObject> = Arc::from(open_one(&module).pager);
    pager_to.send(myself.clone()).unwrap();
    assert!(matches!(
        myself.get(&request(Direction::Get, 0, 1, 0)),
        Answer::Done(Ok(()))
    ));
    let text = texts.recv().unwrap();
    assert!(
        text.starts_with("scripted thing: sync was reached from inside another operation of the same pager"),
        "{text}"
    );
}

#[test]
fn a_close_from_inside_a_serialised_pager_is_put_off_and_never_lost() {
    type Inner = Mutex<Vec<Box<PluginObject>>>;
    let inner: &'static Inner = Box::leak(Box::default());
    let (script, module) = start(Script {
        threads: QUIRE_THREADS_SERIALIZE_ALL,
        get: Box::new(move |script, io| {
            for object in std::mem::take(&mut *inner.lock().unwrap()) {
                object.close().unwrap();
                drop(object);
            }
            assert_eq!(script.closes.load(Ordering::Relaxed), 0, "one call at a time");
            fill_all(io)
        }),
        ..Script::default()
    });
    let outer = open_one(&module).pager;
    inner
        .lock()
        .unwrap()
        .extend([open_one(&module).pager, open_one(&module).pager]);
    assert!(matches!(
        outer.get(&request(Direction::Get, 0, 1, 0)),
        Answer::Done(Ok(()))
    ));
    assert_eq!(script.closes.load(Ordering::Relaxed), 2);
    drop(outer);
    assert_eq!(script.closes.load(Ordering::Relaxed), 3);
    assert_eq!(module.open_objects(), 0);
    assert_eq!(module.try_shut_down(), Ok(()));
    assert_eq!(script.finis.load(Ordering::Relaxed), 1);
}

#[test]
fn a_re_entry_is_an_ordinary_error_and_not_a_broken_promise() {
    let (pager_to, pager) = mpsc::channel::<Arc<PluginObject>>();
    let pager = Mutex::new(pager);
    let (causes_to, causes) = mpsc::channel();
    let (script, module) = start(Script {
        threads: QUIRE_THREADS_SERIALIZE_ALL,
        get: Box::new(move |_, io| {
            let myself = pager.lock().unwrap().recv().unwrap();
            causes_to.send(myself.sync().unwrap_err().cause).unwrap();
            fill_all(io)
        }),
        ..Script::default()
    });
    let myself: Arc<PluginObject> = Arc::from(open_one(&module).pager);
    pager_to.send(myself.clone()).unwrap();
    assert!(matches!(
        myself.get(&request(Direction::Get, 0, 1, 0)),
        Answer::Done(Ok(()))
    ));
    assert_eq!(causes.recv().unwrap(), Cause::Errno(35));
    assert!(script.logged().is_empty());
}

#[test]
fn close_and_fini_are_called_when_no_record_is_left() {
    let tokens: &'static Mutex<Vec<u64>> = Box::leak(Box::default());
    let (script, module) = start(Script {
        get: Box::new(|_, io| {
            tokens.lock().unwrap().push(io.token);
            QUIRE_PAGER_PEND
        }),
        ..Script::default()
    });
    let (first, second) = (open_one(&module).pager, open_one(&module).pager);
    let page = request(Direction::Get, 0, 1, 0).bytes(0);
    let error = loop {
        match first.get(&request_over(Direction::Get, 0, vec![page])) {
            Answer::Pending => {}
            Answer::Done(Err(error)) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(error.cause, Cause::NoMemory);
    assert_eq!(module.open(&Open::default()).unwrap_err().cause, Cause::NoMemory);
    second.close().unwrap();
    drop(second);
    assert_eq!(script.closes.load(Ordering::Relaxed), 1);
    for token in std::mem::take(&mut *tokens.lock().unwrap()) {
        script.complete(token, QUIRE_PAGER_ERROR);
    }
    drop(first);
    assert_eq!((script.closes.load(Ordering::Relaxed), module.open_objects()), (2, 0));
    assert_eq!(module.try_shut_down(), Ok(()));
    assert_eq!(script.finis.load(Ordering::Relaxed), 1);
}

#[test]
fn a_module_with_prepare_write_is_asked_for_objects_that_can_be_written() {
    let (script, module) = start(Script {
        prepares_writes: true,
        ..Script::default()
    });
    let object = open_one(&module).pager;
    assert!(object.ops().contains(PagerOps::PREPARE_WRITE));
    let refused = object.prepare_write(PageIndex(3), 2).unwrap_err();
    assert_eq!(refused.cause, Cause::Errno(13));
    let reading = module.open(&Open::default()).unwrap().pager;
    assert!(!reading.ops().contains(PagerOps::PREPARE_WRITE));
    assert_eq!(script.logged(), [""; 0]);
}

#[test]
fn a_module_with_free_space_hears_which_pages_of_an_object_that_can_be_written_are_given_up() {
    let (script, module) = start(Script {
        frees_space: Some(Box::new(|script, first, count| {
            script.log(QUIRE_LOG_INFO, &CString::new(format!("{first}+{count}")).unwrap());
            QUIRE_PAGER_OK
        })),
        ..Script::default()
    });
    let object = open_one(&module).pager;
    assert!(object.ops().contains(PagerOps::FREE_SPACE));
    assert_eq!(object.free_space(PageIndex(3), 2), Ok(()));
    assert_eq!(script.logged(), ["3+2"]);
    let reading = module.open(&Open::default()).unwrap().pager;
    assert!(!reading.ops().contains(PagerOps::FREE_SPACE));
    let (_, without) = start(Script::default());
    assert!(!open_one(&without).pager.ops().contains(PagerOps::FREE_SPACE));
}

#[test]
fn a_free_space_that_fails_says_why_and_one_that_answers_nonsense_broke_its_promise() {
    let (script, module) = start(Script {
        frees_space: Some(Box::new(|script, first, _| {
            script.set_error(0, c"the disk is gone");
            if first == 0 { -5 } else { QUIRE_PAGER_PEND }
        })),
        ..Script::default()
    });
    let object = open_one(&module).pager;
    let error = object.free_space(PageIndex(0), 1).unwrap_err();
    assert_eq!(
        (error.cause, error.text.as_str()),
        (Cause::Errno(5), "the disk is gone")
    );
    assert_eq!(script.logged(), [""; 0]);
    assert_eq!(
        object.free_space(PageIndex(1), 1).unwrap_err().cause,
        Cause::BrokenPromise
    );
    let logged = script.logged();
    assert!(
        logged
            .iter()
            .any(|line| line.starts_with("broken promise: ") && line.contains("free_space")),
        "{logged:?}"
    );
}

/// What an object can do whose pager has put, and answers with these flags.
fn ops_with(flags: u32, write: bool) -> PagerOps {
    let (_, module) = start(Script {
        open: Box::new(move |_, out| {
            out.flags = flags;
            QUIRE_PAGER_OK
        }),
        ..Script::default()
    });
    let opened = module.open(&Open {
        write,
        ..Open::default()
    });
    opened.expect("opens").pager.ops() & (PagerOps::PUT | PagerOps::FRAMES)
}

#[test]
fn frames_of_a_device_are_written_without_put() {
    assert_eq!(ops_with(0, true), PagerOps::PUT);
    assert_eq!(ops_with(QUIRE_OBJECT_FRAMES, true), PagerOps::FRAMES);
    assert_eq!(ops_with(QUIRE_OBJECT_FRAMES, false), PagerOps::empty());
    assert_eq!(
        ops_with(QUIRE_OBJECT_FRAMES | QUIRE_OBJECT_READ_ONLY, true),
        PagerOps::empty()
    );
}
