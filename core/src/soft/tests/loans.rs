//! Lent bytes, and the engine's own copies.

use core::ptr::NonNull;

use super::*;
use crate::machine::{Loan, Purpose, Shortage};
use crate::soft::{Failure, Injection};

fn write_to(loan: &Loan, page: usize, byte: u8) {
    // SAFETY: the loan's pages are ours to write until it is taken back.
    unsafe { loan.bytes()[page].write_bytes(byte, 4096) };
}

fn bytes_of(machine: &SoftMachine, page: PageRef) -> [u8; 4096] {
    let mut bytes = [0; 4096];
    machine.copy_out(page, 0, &mut bytes);
    bytes
}

#[test]
fn what_is_filled_and_kept_is_in_the_page() {
    for machine in machines() {
        let pages = [0, 1, 2].map(|index| valid_page(&machine, index));
        let loan = machine.lend(&pages, Purpose::Fill).unwrap();
        for page in 0..3 {
            write_to(&loan, page, 0x11 * u8::try_from(page + 1).unwrap());
        }
        machine.take_back(&pages, loan, &|i| i != 1).unwrap();
        assert_eq!(bytes_of(&machine, pages[0]), [0x11; 4096]);
        assert_eq!(bytes_of(&machine, pages[2]), [0x33; 4096]);
        if machine.config().lend_copies {
            assert_eq!(
                bytes_of(&machine, pages[1]),
                [0; 4096],
                "a copy that is not kept goes nowhere"
            );
        }
        finish(&machine, Vec::new(), &pages);
    }
}

#[test]
fn bytes_lent_for_reading_are_those_of_the_pages() {
    for machine in machines() {
        let pages = [0, 1].map(|index| valid_page(&machine, index));
        machine.copy_in(pages[0], 1, b"odd offset");
        machine.copy_in(pages[1], 4088, b"the end.");
        let loan = machine.lend(&pages, Purpose::Read).unwrap();
        for (page, address) in pages.iter().zip(loan.bytes()) {
            // SAFETY: lent for reading: nobody writes until it is taken back.
            let lent: &[u8] = unsafe { NonNull::slice_from_raw_parts(*address, 4096).as_ref() };
            assert_eq!(lent, bytes_of(&machine, page));
        }
        machine.take_back(&pages, loan, &|_| false).unwrap();
        finish(&machine, Vec::new(), &pages);
    }
}

#[test]
fn a_loan_of_nothing_is_taken_back() {
    for machine in machines() {
        let loan = machine.lend(&[], Purpose::Fill).unwrap();
        machine.take_back(&[], loan, &|_| true).unwrap();
    }
}

#[test]
fn a_loan_for_which_there_is_no_memory_is_a_shortage() {
    for machine in machines() {
        let page = valid_page(&machine, 0);
        machine.inject(Injection {
            failure: Failure::Lend,
            after: 0,
            times: 1,
        });
        assert_eq!(machine.lend(&[page], Purpose::Read).map(|_| ()), Err(Shortage));
        crate::alloc_fallible::failing::after(Some(0));
        assert_eq!(machine.lend(&[page], Purpose::Read).map(|_| ()), Err(Shortage));
        crate::alloc_fallible::failing::after(None);
        let loan = machine.lend(&[page], Purpose::Read).unwrap();
        machine.take_back(&[page], loan, &|_| false).unwrap();
        assert_eq!(machine.calls().lends, 3);
        finish(&machine, Vec::new(), &[page]);
    }
}

#[test]
fn a_copy_does_not_cross_its_page() {
    for machine in machines() {
        let page = valid_page(&machine, 0);
        assert!(panic_of(|| machine.copy_in(page, 4090, b"seven.."[..].as_ref())).contains("crosses the page"));
        assert!(panic_of(|| machine.copy_out(page, 4096, &mut [0])).contains("crosses the page"));
        finish(&machine, Vec::new(), &[page]);
    }
}
