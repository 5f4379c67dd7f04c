//! What an answer is worth: every one is held against what the table promises.

use quire_abi as abi;
use quire_core::error::{Cause, PagerError, Result};
use quire_core::io::{Direction, Io};

use crate::host::{HostState, Level};
use crate::name::Subject;
use crate::requests::{Ended, Work};
use crate::status::{Meaning, meaning};

/// A request completed after its operation had returned: records what became of it and wakes whoever waits.
pub(crate) fn complete(host: &HostState, mut ended: Ended<'_>) {
    let outcome = judge(host, &mut ended);
    let work = core::mem::replace(&mut ended.work, Work::Call);
    drop(ended);
    if let Work::Run(io) = work {
        io.complete(outcome);
    }
}

/// What the end of an operation means. For a run, each page is told what became of it.
///
/// # Errors
/// The pager's, with its own words where it gave any; a broken promise is logged as well.
pub(crate) fn judge(host: &HostState, ended: &mut Ended<'_>) -> Result<(), PagerError> {
    let subject = ended
        .subject
        .take()
        .unwrap_or_else(|| Subject::new("operation", &host.name));
    let outcome = match (&ended.work, ended.answered_too) {
        (_, Some(second)) => Err(subject.broke(format_args!(
            "answered {second} for a request that it had completed with {}",
            ended.status
        ))),
        (Work::Run(io), None) => judge_run(io, ended, &subject),
        (Work::Call | Work::Populate(_), None) => judge_status(ended, &subject),
    };
    let in_signal = matches!(&ended.work, Work::Run(io) if io.is_in_signal());
    outcome.map_err(|mut error| {
        if error.cause == Cause::BrokenPromise {
            error = with_its_words(error, &ended.text);
            log(host, &error, in_signal);
        } else if ended.text.is_empty() {
            // The pager has no words of its own; say at least whose error it is.
            error = PagerError::new(error.cause, format_args!("{subject}: {error}"));
        } else {
            error.text = core::mem::take(&mut ended.text);
        }
        error
    })
}

/// A run was left pending by a pager that may not, and said `words`; said in the log as well.
pub(crate) fn broke_by_pending(host: &HostState, subject: &Subject, words: &str, in_signal: bool) -> PagerError {
    let error = with_its_words(pended_without_leave(subject), words);
    log(host, &error, in_signal);
    error
}

/// Says that a promise was broken, but not in a signal handler: whoever writes the log may not be called there. The error says it as well.
fn log(host: &HostState, error: &PagerError, in_signal: bool) {
    if !in_signal {
        host.log(Level::Error, format_args!("broken promise: {error}"));
    }
}

/// What the pager broke, and what it had to say.
fn with_its_words(error: PagerError, words: &str) -> PagerError {
    if words.is_empty() {
        return error;
    }
    PagerError::new(error.cause, format_args!("{error}; it said: {words}"))
}

fn pended_without_leave(subject: &Subject) -> PagerError {
    subject.broke(format_args!(
        "answered PEND without leave: only get and put of a module with QUIRE_CAP_ASYNC may"
    ))
}

fn judge_status(ended: &Ended<'_>, subject: &Subject) -> Result<(), PagerError> {
    match meaning(ended.status) {
        Meaning::Ok => Ok(()),
        Meaning::Failed(cause) => Err(PagerError::bare(cause)),
        Meaning::Faulted => Err(subject.broke(format_args!(
            "failed inside: a panic or an exception was caught at its border"
        ))),
        Meaning::Unknown if ended.status == abi::QUIRE_PAGER_PEND && !ended.completed => {
            Err(pended_without_leave(subject))
        }
        Meaning::Unknown => Err(subject.broke(format_args!("answered the unknown status {}", ended.status))),
    }
}

fn judge_run(io: &Io, ended: &Ended<'_>, subject: &Subject) -> Result<(), PagerError> {
    let (mut unknown, mut left_out) = (None, None);
    for i in 0..io.len() {
        let status = ended.page_status(i);
        let moved = meaning(status);
        match moved {
            Meaning::Ok => io.page_done(i),
            Meaning::Unknown if status == abi::QUIRE_PAGER_UNTOUCHED => {}
            Meaning::Failed(_) | Meaning::Faulted => io.page_failed(i),
            Meaning::Unknown => {
                io.page_failed(i);
                unknown = Some((i, status));
            }
        }
        let needed = io.direction() == Direction::Put || i == io.required();
        if needed && moved != Meaning::Ok {
            left_out = left_out.or(Some(i));
        }
    }
    judge_status(ended, subject)?;
    let index = |i: usize| io.first().0 + i as u64;
    if let Some((i, status)) = unknown {
        return Err(subject.broke(format_args!("gave page {} the unknown status {status}", index(i))));
    }
    match (left_out, io.direction()) {
        (None, _) => Ok(()),
        (Some(i), Direction::Get) => Err(subject.broke(format_args!(
            "answered OK, but did not fill page {}, which was required",
            index(i)
        ))),
        (Some(i), Direction::Put) => Err(subject.broke(format_args!(
            "answered OK, but did not say that page {} is written",
            index(i)
        ))),
    }
}
