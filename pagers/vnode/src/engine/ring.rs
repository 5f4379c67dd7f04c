//! One io_uring, and the one thread that submits to it and reaps it.
//!
//! Requests reach the thread through a queue. That is deliberate: the kernel ties what is submitted to the submitting
//! thread. It cancels some of it when that thread ends, and interrupts that thread's system calls to complete it. Both would
//! befall threads of the program if they submitted themselves.
//!
//! Life of a job: queue → thread (prepares a step) → kernel (owns the job, by its address in `user_data`) → thread (takes
//! the answer, and prepares the next step or completes) → spares.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};
use quire_pager::{Error, Result};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::job::{Job, Spares};
use super::spawn;

/// `user_data` of the poll that wakes the thread. No job lives at this address.
const WAKE: u64 = 0;

/// A ring with its thread. [`Ring::stop`] ends both.
pub(super) struct Ring {
    inbox: Arc<Inbox>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How jobs get to the thread.
struct Inbox {
    state: Mutex<State>,
    /// The thread waits in the kernel, or is about to: whoever adds to the state must wake it.
    // Set before the thread looks at the state for the last time, and read after the state was added to: one of the two
    // sees the other's.
    asleep: AtomicBool,
    /// Written to wake the thread.
    bell: OwnedFd,
    spares: Arc<Spares>,
}

struct State {
    jobs: VecDeque<Box<Job>>,
    stopping: bool,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if self.asleep.swap(false, SeqCst) {
            // It fails only when the counter is full, and then the thread is being woken.
            let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.bell, &1_u64.to_ne_bytes()));
        }
    }
}

impl Ring {
    /// Makes a ring for `depth` requests at once, and starts its thread. An error when the kernel refuses.
    pub(super) fn start(depth: usize, spares: &Arc<Spares>) -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let inbox = Arc::new(Inbox {
            state: Mutex::new(State {
                jobs: VecDeque::with_capacity(depth),
                stopping: false,
            }),
            asleep: AtomicBool::new(false),
            bell: eventfd(0, flags).map_err(crate::system("eventfd"))?,
            spares: spares.clone(),
        });
        let (tell, told) = mpsc::channel();
        let own = inbox.clone();
        let thread = spawn("quire-vnode-ring", move || {
            // Made here, because the kernel then knows that no other thread submits.
            match Reaper::new(own, depth) {
                Ok(mut reaper) => {
                    let _ = tell.send(Ok(()));
                    reaper.run();
                }
                Err(error) => {
                    let _ = tell.send(Err(Error::from(error).context("io_uring")));
                }
            }
        })?;
        let made = told
            .recv()
            .unwrap_or_else(|_| Err(Error::new("the thread of the ring ended early")));
        if let Err(error) = made {
            let _ = thread.join();
            return Err(error);
        }
        Ok(Self {
            inbox,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) fn submit(&self, job: Box<Job>) {
        self.inbox.state().jobs.push_back(job);
        self.inbox.wake();
    }

    /// Ends the thread, after the last request, and waits for it. May be called again.
    pub(super) fn stop(&self) {
        self.inbox.state().stopping = true;
        self.inbox.wake();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // What it runs catches what panics.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Reaper {
    ring: IoUring,
    inbox: Arc<Inbox>,
    /// Jobs that the kernel owns.
    // Invariant: at most the number of jobs there are, for which both queues have room.
    in_flight: usize,
    /// The kernel watches the bell.
    watching: bool,
}

impl Reaper {
    fn new(inbox: Arc<Inbox>, depth: usize) -> io::Result<Self> {
        // Each job has one entry at most, and the bell one.
        let entries = u32::try_from(depth + 1).map_err(|_| io::ErrorKind::InvalidInput)?;
        let ring = match IoUring::builder()
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
        {
            // A kernel before 6.1.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::builder().dontfork().build(entries)?,
            made => made?,
        };
        let mut reaper = Self {
            ring,
            inbox,
            in_flight: 0,
            watching: false,
        };
        reaper.try_out()?;
        Ok(reaper)
    }

    /// A ring that was made may still be refused its use, by a filter for one.
    fn try_out(&mut self) -> io::Result<()> {
        self.push(&opcode::Nop::new().build().user_data(WAKE));
        while self.ring.completion().next().is_none() {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn run(&mut self) {
        while self.take_in() {
            self.watch();
            self.submit_and_wait();
            self.inbox.asleep.store(false, SeqCst);
            while let Some((user_data, result)) = self.next_completion() {
                self.reap(user_data, result);
            }
        }
    }

    /// Starts the jobs that have come, until there is none and `asleep` says that the next one must ring. False at the end.
    fn take_in(&mut self) -> bool {
        loop {
            let mut state = self.inbox.state();
            let Some(job) = state.jobs.pop_front() else {
                if state.stopping && self.in_flight == 0 {
                    return false;
                }
                // Under the lock: nothing was added since the look above.
                self.inbox.asleep.store(true, SeqCst);
                return true;
            };
            drop(state);
            self.go_on(job, |_| ());
        }
    }

    /// Has the kernel watch the bell.
    fn watch(&mut self) {
        if !self.watching {
            let bell = types::Fd(self.inbox.bell.as_raw_fd());
            // POLLIN is a small positive number.
            let poll = opcode::PollAdd::new(bell, libc::POLLIN.unsigned_abs().into());
            self.push(&poll.build().user_data(WAKE));
            self.watching = true;
        }
    }

    fn submit_and_wait(&mut self) {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The kernel is short of memory, or has more completions than room: what is complete is reaped, and then it
            // is asked again. Nothing is lost: entries that it did not take are still in the queue.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }

    fn next_completion(&mut self) -> Option<(u64, i32)> {
        let entry = self.ring.completion().next()?;
        Some((entry.user_data(), entry.result()))
    }

    fn reap(&mut self, user_data: u64, result: i32) {
        if user_data == WAKE {
            self.watching = false;
            let mut count = [0; 8];
            // Nothing to read is as good.
            let _ = rustix::io::read(self.inbox.bell.as_fd(), &mut count);
            return;
        }
        let address = usize::try_from(user_data).unwrap_or_default();
        // SAFETY: `give_to_kernel` made the number from a box that it gave up, and the kernel, which completes every entry
        // once, gives it back with this.
        let job = unsafe { Box::from_raw(std::ptr::with_exposed_provenance_mut::<Job>(address)) };
        self.in_flight -= 1;
        let answer = usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result));
        self.go_on(job, |job| match answer {
            // The file was opened by somebody who does not want to wait, or the kernel gave up. A plain call waits. Rare,
            // so it may hold the others up.
            Err(Errno::AGAIN | Errno::CANCELED) => job.call(),
            answer => job.advance(answer),
        });
    }

    /// After `first`, the job's next step goes to the kernel, or the job to the spares.
    fn go_on(&mut self, mut job: Box<Job>, first: impl FnOnce(&mut Job)) {
        let next = catch_unwind(AssertUnwindSafe(move || {
            first(&mut job);
            let step = job.step();
            (job, step)
        }));
        match next {
            Ok((job, Some((step, reads)))) => {
                let pieces = job.pieces().list();
                // At most 256 pieces.
                let count = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
                let fd = types::Fd(step.fd);
                let entry = if reads {
                    opcode::Readv::new(fd, pieces.as_ptr(), count)
                        .offset(step.offset)
                        .build()
                } else {
                    opcode::Writev::new(fd, pieces.as_ptr(), count)
                        .offset(step.offset)
                        .build()
                };
                self.give_to_kernel(job, entry);
            }
            Ok((job, None)) => self.inbox.spares.give(job),
            // The request went with the job, and was completed as failed.
            Err(_) => self.inbox.spares.replace(),
        }
    }

    fn give_to_kernel(&mut self, job: Box<Job>, entry: Entry) {
        let address = Box::into_raw(job).expose_provenance();
        self.in_flight += 1;
        self.push(&entry.user_data(address as u64));
    }

    /// Adds an entry.
    fn push(&mut self, entry: &Entry) {
        // SAFETY: what the entry names (pieces, pages, descriptor) belongs to the job, which the kernel owns until it
        // completes the entry; a no-op and a poll of the bell name nothing that ends before the ring.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            // By the invariant of `in_flight` there is room, once the kernel has taken what is there.
            if self.ring.submit().is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
