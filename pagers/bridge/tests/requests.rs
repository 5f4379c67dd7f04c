//! What becomes of a request: answers, completions, promises, tokens.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use quire_abi::*;
use quire_core::error::{Cause, PagerError};
use quire_core::io::{Direction, PageOutcome};
use quire_core::pager::{Answer, Pager, PagerOps};
use support::{Script, fill_all, open_one, pages, request, start, touch_all};

/// How a get of three pages from page 10, the second required, is answered at once.
fn answer_of(script: Script) -> Result<(), PagerError> {
    let (script, module) = start(script);
    let opened = open_one(&module);
    let io = request(Direction::Get, 10, 3, 1);
    match opened.pager.get(&io) {
        Answer::Done(answer) => {
            let broken = matches!(&answer, Err(e) if e.cause == Cause::BrokenPromise);
            assert_eq!(
                broken,
                script.logged().iter().any(|line| line.starts_with("broken promise: "))
            );
            answer
        }
        Answer::Stray(error) => {
            assert!(script.logged().iter().any(|line| line.starts_with("broken promise: ")));
            Err(error)
        }
        Answer::Pending => panic!("pends"),
    }
}

fn get(with: impl Fn(&Script, &mut Io) -> i32 + Send + Sync + 'static) -> Script {
    Script {
        get: Box::new(with),
        ..Script::default()
    }
}

fn broken(script: Script) -> String {
    let error = answer_of(script).expect_err("a broken promise");
    assert_eq!(error.cause, Cause::BrokenPromise, "{error}");
    error.text
}

#[test]
fn a_get_fills_the_pages_and_tells_which() {
    let (_, module) = start(get(|_, io| {
        assert_eq!(
            (io.first, io.count, io.required, io.page_size, io.object_size),
            (10, 3, 1, 4096, 1 << 20)
        );
        assert_eq!(io.flags, QUIRE_IO_MAY_PEND);
        assert!(pages(io).iter().all(|page| page.status == QUIRE_PAGER_UNTOUCHED));
        let answer = fill_all(io);
        pages(io)[0].status = QUIRE_PAGER_UNTOUCHED;
        pages(io)[2].status = -5;
        answer
    }));
    let opened = open_one(&module);
    let io = request(Direction::Get, 10, 3, 1);
    assert!(matches!(opened.pager.get(&io), Answer::Done(Ok(()))));
    let outcomes: Vec<_> = (0..3).map(|i| io.outcome(i)).collect();
    assert_eq!(
        outcomes,
        [PageOutcome::Untouched, PageOutcome::Done, PageOutcome::Failed]
    );
    // SAFETY: the request's memory, which nobody writes any more.
    assert_eq!(unsafe { *io.bytes(1).as_ptr() }, 7);
}

#[test]
fn each_status_has_its_meaning_and_the_pagers_own_words_come_along() {
    for (status, cause) in [
        (QUIRE_PAGER_BAD, Cause::OutOfRange),
        (QUIRE_PAGER_FAIL, Cause::Absent),
        (QUIRE_PAGER_ERROR, Cause::Io),
        (QUIRE_PAGER_AGAIN, Cause::Again),
        (QUIRE_PAGER_UNSUPPORTED, Cause::Unsupported),
        (QUIRE_PAGER_INVALID, Cause::Invalid),
        (QUIRE_PAGER_NOMEM, Cause::NoMemory),
        (-28, Cause::Errno(28)),
        (QUIRE_PAGER_ERRNO_MIN, Cause::Errno(4095)),
    ] {
        let answer = answer_of(get(move |script, io| {
            script.set_error(io.token, c"thing: it hurts");
            status
        }));
        assert_eq!(
            answer,
            Err(PagerError {
                cause,
                text: "thing: it hurts".into()
            }),
            "{status}"
        );
        // A pager without words of its own is named all the same.
        let text = format!("scripted thing: get: {}", PagerError::bare(cause));
        let wordless = answer_of(get(move |_, _| status));
        assert_eq!(wordless, Err(PagerError { cause, text }), "{status}");
    }
}

#[test]
fn token_0_means_the_operation_that_runs_on_this_thread() {
    let answer = answer_of(get(|script, _| {
        script.set_error(0, c"first words");
        script.set_error(0, c"last w\xf6rds");
        -5
    }));
    assert_eq!(answer.unwrap_err().text, "last w\u{fffd}rds");
}

#[test]
fn an_error_text_of_one_request_does_not_stick_to_the_next() {
    let (_, module) = start(get(|script, io| {
        if io.first == 0 {
            script.set_error(io.token, c"bad block");
            return -5;
        }
        -6
    }));
    let opened = open_one(&module);
    let text = |first| match opened.pager.get(&request(Direction::Get, first, 1, 0)) {
        Answer::Done(Err(error)) => error.text,
        other => panic!("{other:?}"),
    };
    assert_eq!(text(0), "bad block");
    assert_eq!(text(1), "scripted thing: get: the pager reported system error 6");
}

#[test]
fn an_unknown_status_is_a_broken_promise() {
    for status in [
        6,
        8,
        63,
        71,
        QUIRE_PAGER_UNTOUCHED,
        QUIRE_PAGER_STALE,
        QUIRE_PAGER_REFAULT,
        i32::MIN,
        i32::MAX,
        -4096,
    ] {
        let text = broken(get(move |_, io| {
            fill_all(io);
            status
        }));
        assert_eq!(
            text,
            format!("scripted thing: get answered the unknown status {status}")
        );
    }
    let text = broken(get(|_, io| {
        fill_all(io);
        pages(io)[2].status = 99;
        QUIRE_PAGER_OK
    }));
    assert_eq!(text, "scripted thing: get gave page 12 the unknown status 99");
}

#[test]
fn what_a_pager_says_of_its_broken_promise_is_passed_on() {
    let text = broken(get(|script, _| {
        script.set_error(0, c"disk on fire");
        4242
    }));
    assert_eq!(
        text,
        "scripted thing: get answered the unknown status 4242; it said: disk on fire"
    );
    let text = broken(Script {
        caps: 0,
        ..get(|script, _| {
            script.set_error(0, c"a moment");
            QUIRE_PAGER_PEND
        })
    });
    assert!(text.ends_with(" may; it said: a moment"), "{text}");
}

#[test]
fn to_pend_without_leave_is_a_broken_promise_even_if_it_completed_before() {
    let text = broken(Script {
        caps: 0,
        ..get(|script, io| {
            fill_all(io);
            script.complete(io.token, QUIRE_PAGER_OK);
            QUIRE_PAGER_PEND
        })
    });
    assert!(
        text.starts_with("scripted thing: get answered PEND without leave"),
        "{text}"
    );
}

#[test]
fn to_fill_less_than_it_says_is_a_broken_promise() {
    assert_eq!(
        broken(get(|_, _| QUIRE_PAGER_OK)),
        "scripted thing: get answered OK, but did not fill page 11, which was required"
    );
    let (_, module) = start(Script {
        put: Box::new(|_, io| {
            pages(io)[0].status = 0;
            0
        }),
        ..Script::default()
    });
    let opened = open_one(&module);
    let Answer::Done(Err(error)) = opened.pager.put(&request(Direction::Put, 4, 2, 0)) else {
        panic!("must fail")
    };
    assert_eq!(error.cause, Cause::BrokenPromise);
    assert_eq!(
        error.text,
        "scripted thing: put answered OK, but did not say that page 5 is written"
    );
}

#[test]
fn a_put_that_failed_tells_which_pages_were_written() {
    let (_, module) = start(Script {
        put: Box::new(|_, io| {
            pages(io)[0].status = 0;
            -28
        }),
        ..Script::default()
    });
    let opened = open_one(&module);
    let io = request(Direction::Put, 4, 2, 0);
    let Answer::Done(Err(error)) = opened.pager.put(&io) else {
        panic!("must fail")
    };
    assert_eq!(error.cause, Cause::Errno(28));
    assert_eq!(
        (io.outcome(0), io.outcome(1)),
        (PageOutcome::Done, PageOutcome::Untouched)
    );
}

#[test]
fn a_caught_panic_is_a_broken_promise_and_its_words_are_kept() {
    let text = broken(get(|script, io| {
        script.set_error(io.token, c"index out of bounds");
        QUIRE_PAGER_FAULTED
    }));
    assert_eq!(
        text,
        "scripted thing: get failed inside: a panic or an exception was caught at its border; it said: index out of bounds"
    );
    let text = broken(get(|_, _| QUIRE_PAGER_FAULTED));
    assert_eq!(
        text,
        "scripted thing: get failed inside: a panic or an exception was caught at its border"
    );
}

#[test]
fn pend_without_the_capability_is_a_broken_promise() {
    let script = Script {
        caps: 0,
        ..get(|_, io| {
            assert_eq!(io.flags & QUIRE_IO_MAY_PEND, 0);
            QUIRE_PAGER_PEND
        })
    };
    assert!(broken(script).starts_with("scripted thing: get answered PEND without leave"));
    let (_, module) = start(Script {
        sync: Box::new(|_| QUIRE_PAGER_PEND),
        ..Script::default()
    });
    let error = open_one(&module).pager.sync().unwrap_err();
    assert!(
        error
            .text
            .starts_with("scripted thing: sync answered PEND without leave"),
        "{error}"
    );
}

#[test]
fn a_request_completes_later_from_another_thread() {
    let (send, tokens) = mpsc::channel();
    let (script, module) = start(get(move |_, io| {
        fill_all(io);
        send.send(io.token).unwrap();
        QUIRE_PAGER_PEND
    }));
    let opened = open_one(&module);
    assert!(opened.pager.ops().contains(PagerOps::ASYNC));
    let io = request(Direction::Get, 10, 3, 1);
    assert!(matches!(opened.pager.get(&io), Answer::Pending));
    assert!(!io.is_complete());
    let token = tokens.recv().unwrap();
    thread::spawn(move || {
        script.set_error(token, c"neighbours are slow");
        assert_eq!(script.complete(token, QUIRE_PAGER_OK), QUIRE_PAGER_OK);
    });
    assert_eq!(io.wait(), Ok(()));
    assert_eq!(io.outcome(1), PageOutcome::Done);
    assert_eq!(module.stale_calls(), 0);
}

#[test]
fn a_later_error_brings_its_words_and_a_later_lie_is_a_broken_promise() {
    let (send, tokens) = mpsc::channel();
    let (script, module) = start(get(move |_, io| {
        send.send(io.token).unwrap();
        QUIRE_PAGER_PEND
    }));
    let opened = open_one(&module);
    let pending = || {
        let io = request(Direction::Get, 10, 3, 1);
        assert!(matches!(opened.pager.get(&io), Answer::Pending));
        (io, tokens.recv().unwrap())
    };
    let (io, token) = pending();
    script.set_error(token, c"the disk is gone");
    script.complete(token, -5);
    assert_eq!(
        io.wait(),
        Err(PagerError {
            cause: Cause::Errno(5),
            text: "the disk is gone".into()
        })
    );

    for (status, words) in [
        (QUIRE_PAGER_OK, "get answered OK, but did not fill page 11"),
        (QUIRE_PAGER_PEND, "get answered the unknown status 3"),
        (1234, "get answered the unknown status 1234"),
    ] {
        let (io, token) = pending();
        script.complete(token, status);
        let error = io.wait().unwrap_err();
        assert_eq!(error.cause, Cause::BrokenPromise);
        assert!(error.text.contains(words), "{error}");
    }
}

#[test]
fn a_request_may_complete_before_its_operation_returns() {
    let (_, module) = start(get(|script, io| {
        fill_all(io);
        let token = io.token;
        thread::scope(|s| {
            s.spawn(|| assert_eq!(script.complete(token, QUIRE_PAGER_OK), QUIRE_PAGER_OK))
                .join()
                .unwrap()
        });
        assert_eq!(
            script.complete(token, QUIRE_PAGER_OK),
            QUIRE_PAGER_STALE,
            "completed twice"
        );
        // The record is still this request's: it lives until the operation has returned as well.
        assert_eq!(io.token, token);
        QUIRE_PAGER_PEND
    }));
    let opened = open_one(&module);
    let io = request(Direction::Get, 10, 3, 1);
    assert!(matches!(opened.pager.get(&io), Answer::Done(Ok(()))));
    assert_eq!(io.outcome(2), PageOutcome::Done);
}

#[test]
fn to_complete_and_answer_as_well_is_a_broken_promise() {
    let text = broken(get(|script, io| {
        fill_all(io);
        script.complete(io.token, QUIRE_PAGER_OK);
        QUIRE_PAGER_OK
    }));
    assert_eq!(
        text,
        "scripted thing: get answered 0 for a request that it had completed with 0"
    );
}

#[test]
fn a_second_completion_and_a_strangers_token_are_ignored_and_told() {
    let (send, tokens) = mpsc::channel();
    let (script, module) = start(get(move |_, io| {
        fill_all(io);
        send.send(io.token).unwrap();
        QUIRE_PAGER_PEND
    }));
    let (other, other_module) = start(Script::default());
    let opened = open_one(&module);
    let io = request(Direction::Get, 10, 3, 1);
    assert!(matches!(opened.pager.get(&io), Answer::Pending));
    let token = tokens.recv().unwrap();

    for stranger in [0, 1, 0xffff, token ^ 0x1_0000, token ^ 1, u64::MAX] {
        assert_eq!(script.complete(stranger, QUIRE_PAGER_OK), QUIRE_PAGER_STALE);
    }
    assert_eq!(
        other.complete(token, QUIRE_PAGER_OK),
        QUIRE_PAGER_STALE,
        "a token of another pager"
    );
    assert_eq!(other_module.stale_calls(), 1);
    assert!(!io.is_complete(), "none of them completed it");

    assert_eq!(script.complete(token, QUIRE_PAGER_OK), QUIRE_PAGER_OK);
    assert_eq!(script.complete(token, -5), QUIRE_PAGER_STALE);
    assert_eq!(script.page_insert(token, 0), QUIRE_PAGER_STALE);
    script.set_error(token, c"too late");
    assert_eq!(io.wait(), Ok(()));
    assert_eq!(module.stale_calls(), 9);
    let line = format!("complete was called for token {token:#x}, which names no request under way: ignored");
    assert!(script.logged().contains(&line), "{:?}", script.logged());
    assert!(script.logged().contains(&"the ignored text was: too late".to_owned()));
}

#[test]
fn a_completion_after_an_answer_is_stale_even_when_the_record_is_in_use_again() {
    static FIRST: AtomicU64 = AtomicU64::new(0);
    let (_, module) = start(get(|script, io| {
        let first = FIRST.swap(io.token, Ordering::SeqCst);
        if first != 0 {
            assert_eq!(first & 0xffff, io.token & 0xffff, "the same record");
            assert_eq!(script.complete(first, -5), QUIRE_PAGER_STALE);
        }
        fill_all(io)
    }));
    let opened = open_one(&module);
    for _ in 0..3 {
        assert!(matches!(
            opened.pager.get(&request(Direction::Get, 0, 1, 0)),
            Answer::Done(Ok(()))
        ));
    }
    assert_eq!(module.stale_calls(), 2);
}

#[test]
fn what_a_plugin_logs_arrives_with_its_level_and_bad_pointers_are_ignored() {
    let (script, _module) = start(Script::default());
    script.log(QUIRE_LOG_INFO, c"hello");
    script.log(77, c"odd level");
    // SAFETY: NULL is allowed for both.
    unsafe {
        let api = &*script.host_api();
        api.log.unwrap()(api.host, QUIRE_LOG_ERROR, std::ptr::null());
        api.log.unwrap()(std::ptr::null_mut(), QUIRE_LOG_ERROR, c"lost".as_ptr());
        assert_eq!(api.complete.unwrap()(std::ptr::null_mut(), 1, 0), QUIRE_PAGER_INVALID);
        assert_eq!(
            api.page_insert.unwrap()(api.host, 1, 0, 1, std::ptr::null_mut(), std::ptr::null_mut()),
            QUIRE_PAGER_INVALID
        );
        assert!(api.get_extension.unwrap()(api.host, c"x".as_ptr()).is_null());
    }
    let log = script.log.lock().unwrap();
    use quire_bridge::Level;
    assert_eq!(
        *log,
        [
            (Level::Info, "hello".into()),
            (Level::Warn, "odd level".into()),
            (Level::Error, String::new())
        ]
    );
}

#[test]
fn a_put_of_pages_that_are_all_written_is_done() {
    let (_, module) = start(Script {
        put: Box::new(|_, io| touch_all(io)),
        ..Script::default()
    });
    let opened = open_one(&module);
    let io = request(Direction::Put, 0, 300, 0);
    assert!(matches!(opened.pager.put(&io), Answer::Done(Ok(()))));
    assert_eq!(io.outcome(299), PageOutcome::Done);
}
