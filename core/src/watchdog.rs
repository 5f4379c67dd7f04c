//! Watching for requests whose completion does not come (S147).
//!
//! A request that its pager has had for longer than the engine's threshold is *overdue*: it is reported once, in the
//! engine's log and by a counter, and goes on. What to do about it is for whoever reads that:
//! [`Engine::cancel_overdue`] asks the pager to end it.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::engine::Engine;
use crate::requests::{Bell, Operation, Request};
use crate::stats::Counter;
use crate::sync::Deadline;

impl Engine {
    /// Reports each request that is overdue at `now` and was not reported before; how many. Calls `describe` of pagers, and
    /// the log; no lock may be held.
    pub fn watchdog_step(&self, now: Instant) -> usize {
        let mut reported = 0;
        while let Some(request) = self.requests().next_to_report(now) {
            self.stats().count(Counter::RequestsOverdue);
            self.requests().log(format_args!("{}", Overdue(&request)));
            reported += 1;
        }
        reported
    }
}

/// What the log says of a request.
struct Overdue<'a>(&'a Request);

impl core::fmt::Display for Overdue<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let request = self.0;
        let operation = match request.operation {
            Operation::Get => "get",
            Operation::Put => "put",
            Operation::Populate => {
                return write!(
                    f,
                    "{}: the populate for page {} has been under way for {:.1} s and has not returned; it cannot be \
                     cancelled: mend what the pager waits for",
                    request.name,
                    request.first,
                    request.age.as_secs_f64()
                );
            }
        };
        write!(
            f,
            "{}: the {operation} of {} page(s) from page {} has been under way for {:.1} s and its pager has not completed \
             it; cancel it, or mend what the pager waits for",
            request.name,
            request.pages,
            request.first,
            request.age.as_secs_f64()
        )
    }
}

/// A thread that does the engine's [steps](Engine::watchdog_step) when one may have something to report. Dropping it ends the
/// thread and waits for it: at most as long as a pager's `describe` and the log take.
#[derive(Debug)]
pub struct Watchdog {
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watchdog {
    /// Starts the thread. It does not keep the engine.
    ///
    /// # Errors
    /// The host's, when it gives no thread.
    pub fn spawn(engine: &Arc<Engine>) -> std::io::Result<Self> {
        let bell = Arc::new(Bell::default());
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (bell, stop, engine) = (bell.clone(), stop.clone(), Arc::downgrade(engine));
            thread::Builder::new().name("quire-watch".into()).spawn(move || {
                loop {
                    let rung = bell.rung();
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    let Some(engine) = engine.upgrade() else { return };
                    let now = Instant::now();
                    engine.watchdog_step(now);
                    // What begins meanwhile is not overdue before that.
                    let next = engine.requests().next_look(now);
                    drop(engine);
                    bell.wait_until(rung, &next.map_or(Deadline::NEVER, Deadline::at));
                }
            })?
        };
        Ok(Self {
            bell,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
        // The thread itself may be the last to let go of whatever owns this; it does not wait for itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // A panic of the thread was reported by the thread.
            let _ = thread.join();
        }
    }
}
