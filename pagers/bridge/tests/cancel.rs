//! Cancel, as it reaches a plugin: with the token of a request that it left pending, and of no other.

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use quire_abi::*;
use quire_core::error::{Cause, PagerError};
use quire_core::io::{Direction, Io as CoreIo};
use quire_core::pager::{Answer, Pager, PagerOps};
use std::sync::Arc;
use support::{Script, open_one, request, start};

/// A plugin that leaves every get pending, and what it does when it is asked to cancel one.
fn pending(cancel: impl Fn(&Script, u64) -> i32 + Send + Sync + 'static) -> Script {
    Script {
        get: Box::new(|_, _| QUIRE_PAGER_PEND),
        cancels: true,
        cancel: Box::new(cancel),
        ..Script::default()
    }
}

fn get(pager: &dyn Pager) -> Arc<CoreIo> {
    let io = request(Direction::Get, 10, 3, 1);
    assert!(matches!(pager.get(&io), Answer::Pending));
    io
}

#[test]
fn a_plugin_that_cancels_completes_the_request_itself_and_says_so() {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let (script, module) = start(pending(|script, token| {
        ASKED.store(token, Ordering::SeqCst);
        assert_eq!(script.complete(token, QUIRE_PAGER_CANCELLED), QUIRE_PAGER_OK);
        QUIRE_PAGER_OK
    }));
    let opened = open_one(&module);
    assert!(opened.pager.ops().contains(PagerOps::CANCEL));
    let io = get(&*opened.pager);
    assert_eq!(opened.pager.cancel(&io), Ok(true));
    assert_eq!(io.wait().unwrap_err().cause, Cause::Cancelled);
    let token = ASKED.load(Ordering::SeqCst);
    assert_eq!(
        script.complete(token, QUIRE_PAGER_OK),
        QUIRE_PAGER_STALE,
        "completed once"
    );
    assert_eq!(opened.pager.cancel(&io), Ok(false), "it is over");
}

#[test]
fn cancel_names_the_request_it_is_for_and_only_asks() {
    static ASKED: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let (script, module) = start(pending(|_, token| {
        ASKED.lock().unwrap().push(token);
        QUIRE_PAGER_OK
    }));
    let opened = open_one(&module);
    let ios = [get(&*opened.pager), get(&*opened.pager)];
    for io in ios.iter().rev() {
        assert_eq!(opened.pager.cancel(io), Ok(true));
        assert!(!io.is_complete());
    }
    let asked = ASKED.lock().unwrap().clone();
    assert_ne!(asked[0], asked[1]);
    assert_eq!(script.complete(asked[0], -5), QUIRE_PAGER_OK);
    assert!(!ios[0].is_complete() && ios[1].is_complete());
    assert_eq!(script.complete(asked[1], -5), QUIRE_PAGER_OK);
    assert_eq!(ios[0].wait().unwrap_err().cause, Cause::Errno(5), "whatever it got");
}

#[test]
fn a_request_of_another_object_is_none_to_cancel() {
    static TOKEN: AtomicU64 = AtomicU64::new(0);
    let (script, module) = start(Script {
        get: Box::new(|_, io| {
            TOKEN.store(io.token, Ordering::SeqCst);
            QUIRE_PAGER_PEND
        }),
        ..pending(|_, _| panic!("asked for a request of another object"))
    });
    let (one, other) = (open_one(&module), open_one(&module));
    let io = get(&*one.pager);
    assert_eq!(other.pager.cancel(&io), Ok(false));
    assert_eq!(script.complete(TOKEN.load(Ordering::SeqCst), -5), QUIRE_PAGER_OK);
}

#[test]
fn an_answer_to_cancel_is_held_against_the_table_like_any_other() {
    for (status, cause) in [
        (QUIRE_PAGER_UNSUPPORTED, Cause::Unsupported),
        (QUIRE_PAGER_PEND, Cause::BrokenPromise),
        (4242, Cause::BrokenPromise),
    ] {
        let token = Arc::new(AtomicU64::new(0));
        let seen = token.clone();
        let (script, module) = start(pending(move |_, token| {
            seen.store(token, Ordering::SeqCst);
            status
        }));
        let opened = open_one(&module);
        let io = get(&*opened.pager);
        let answer: Result<bool, PagerError> = opened.pager.cancel(&io);
        assert_eq!(answer.unwrap_err().cause, cause);
        assert!(!io.is_complete(), "it goes on");
        assert_eq!(script.complete(token.load(Ordering::SeqCst), -5), QUIRE_PAGER_OK);
    }
}

#[test]
fn a_plugin_without_cancel_is_not_asked() {
    let (_, module) = start(Script::default());
    assert!(!open_one(&module).pager.ops().contains(PagerOps::CANCEL));
}
