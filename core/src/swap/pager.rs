//! The pager of anonymous objects.

use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::Anonymous;
use crate::error::{Cause, PagerError};
use crate::io::Io;
use crate::pager::{Answer, Extent, Pager, PagerOps};
use crate::types::PageIndex;

/// The longest run, in pages: what a put writes in one piece if swap has that.
const MAX_RUN: u32 = 64;

/// One object's.
#[derive(Debug)]
pub(super) struct SwapPager(Arc<Anonymous>);

impl SwapPager {
    pub(super) fn new(anonymous: Arc<Anonymous>) -> Self {
        Self(anonymous)
    }
}

impl Pager for SwapPager {
    fn describe(&self) -> String {
        "anonymous memory".to_string()
    }

    fn ops(&self) -> PagerOps {
        PagerOps::PUT | PagerOps::HAS_PAGE | PagerOps::TRANSIENT
    }

    fn max_run(&self) -> u32 {
        MAX_RUN
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        for i in 0..io.len() {
            io.fill(i, &[]);
        }
        Answer::Done(Ok(()))
    }

    fn put(&self, _io: &Arc<Io>) -> Answer {
        Answer::Done(Err(PagerError::new(
            Cause::Again,
            format_args!("out of swap: there is no swap area; add one"),
        )))
    }

    fn has_page(&self, index: PageIndex) -> Result<Option<Extent>, PagerError> {
        Ok(self.0.slot(index).map(|_| Extent::default()))
    }

    fn close(&self) -> Result<(), PagerError> {
        self.0.release_all();
        Ok(())
    }
}
