//! A pager for tests from inside: it keeps what it is given in memory.

extern crate std;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use crate::error::PagerError;
use crate::io::{Direction, Io};
use crate::pager::{Answer, Pager, PagerOps};
use crate::types::PAGE_BYTES;

/// What it was never given is made of one byte.
#[derive(Debug, Default)]
pub(crate) struct MemoryPager {
    pages: Mutex<BTreeMap<u64, Vec<u8>>>,
    never_given: u8,
    /// Set when it is closed.
    pub(crate) closed: Arc<AtomicBool>,
}

impl MemoryPager {
    pub(crate) fn of(never_given: u8) -> Self {
        Self {
            never_given,
            ..Self::default()
        }
    }

    fn move_all(&self, io: &Arc<Io>) -> Answer {
        let mut pages = self.pages.lock().unwrap();
        for i in 0..io.len() {
            let new = || vec![self.never_given; PAGE_BYTES];
            let page = pages.entry(io.first().0 + i as u64).or_insert_with(new);
            if io.direction() == Direction::Get {
                io.fill(i, page);
            } else {
                io.copy_to(i, page);
                io.page_done(i);
            }
        }
        Answer::Done(Ok(()))
    }
}

impl Pager for MemoryPager {
    fn describe(&self) -> String {
        "memory".into()
    }

    fn ops(&self) -> PagerOps {
        PagerOps::PUT
    }

    fn max_run(&self) -> u32 {
        256
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        self.move_all(io)
    }

    fn put(&self, io: &Arc<Io>) -> Answer {
        self.move_all(io)
    }

    fn close(&self) -> Result<(), PagerError> {
        self.closed.store(true, Ordering::Relaxed);
        Ok(())
    }
}
