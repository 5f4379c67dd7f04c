//! Machines of a test's own around the soft one.

/// In an `impl Machine`: what a machine around a soft machine leaves to it, which is all but its name, the allocation of frames, and its
/// pmaps. The argument is the field that has the soft machine.
#[macro_export]
macro_rules! leave_to_soft {
    ($soft:ident) => {
        fn frames_free(&self, frames: &[::quire_core::types::Frame]) {
            self.$soft.frames_free(frames);
        }
        fn frame_counts(&self) -> ::quire_core::machine::FrameCounts {
            self.$soft.frame_counts()
        }
        fn lend(
            &self,
            pages: &[::quire_core::page::PageRef],
            purpose: ::quire_core::machine::Purpose,
        ) -> ::std::result::Result<::quire_core::machine::Loan, ::quire_core::machine::Shortage> {
            self.$soft.lend(pages, purpose)
        }
        fn take_back(
            &self,
            pages: &[::quire_core::page::PageRef],
            loan: ::quire_core::machine::Loan,
            keep: &dyn Fn(usize) -> bool,
        ) -> ::std::result::Result<(), ::quire_core::machine::Shortage> {
            self.$soft.take_back(pages, loan, keep)
        }
        fn copy_out(&self, page: ::quire_core::page::PageRef, offset: usize, to: &mut [u8]) {
            self.$soft.copy_out(page, offset, to);
        }
        fn copy_in(&self, page: ::quire_core::page::PageRef, offset: usize, from: &[u8]) {
            self.$soft.copy_in(page, offset, from);
        }
        fn page_protect(&self, pages: &[::quire_core::page::PageRef], prot: ::quire_core::types::Prot) {
            self.$soft.page_protect(pages, prot);
        }
        fn page_referenced(&self, page: ::quire_core::page::PageRef) -> bool {
            self.$soft.page_referenced(page)
        }
        fn rehome(
            &self,
            page: ::quire_core::page::PageRef,
            place: ::quire_core::machine::Placement,
        ) -> ::std::result::Result<::quire_core::types::Frame, ::quire_core::machine::Shortage> {
            self.$soft.rehome(page, place)
        }
    };
}
