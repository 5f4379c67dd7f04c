//! A watchdog: a test that hangs ends the process with what is known of its engine, and not the patience of whoever runs it.

use std::process;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use quire_core::engine::Engine;

const PATIENCE: Duration = Duration::from_secs(60);

/// While this lives, its test is watched.
#[derive(Debug)]
pub struct Watch {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Ends the process if the answer is not dropped within a minute.
#[must_use]
pub fn watch(engine: &Arc<Engine>) -> Watch {
    let (done, waiting) = channel();
    let engine = engine.clone();
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let thread = thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{test} hangs");
            eprintln!("under way: {:#?}", engine.requests_under_way());
            eprintln!(
                "objects: {:?}, queues: {:?}",
                engine.object_counts(),
                engine.queue_lengths()
            );
            eprintln!("frames: {:?}", engine.machine().frame_counts());
            eprintln!("{:?}\n{:?}", engine.stats().counts(), engine.daemon_counts());
            process::abort();
        }
    });
    Watch {
        done: Some(done),
        thread: Some(thread),
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
