//! What the tests of the anon pager have in common: the loaded pager, and pages of every kind.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of each test, which uses what it needs"
)]

use quire_pager::testing::{PAGE_SIZE, TestHost};

/// The pager, loaded.
pub fn anon() -> TestHost {
    TestHost::load(quire_pager_anon::module(), None).expect("loads")
}

/// What a page is like, for a pager that packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Zeros,
    /// One word again and again.
    Word,
    /// Packs well.
    Text,
    /// Does not pack.
    Noise,
}

/// A page of a kind; other seeds give other pages, but for zeros.
pub fn page(kind: Kind, seed: u64) -> Vec<u8> {
    match kind {
        Kind::Zeros => vec![0; PAGE_SIZE],
        Kind::Word => {
            let word = u32::try_from(seed % 1_000_000).expect("small") | 0x0100_0000;
            word.to_ne_bytes().repeat(PAGE_SIZE / 4)
        }
        Kind::Text => {
            let mut text: Vec<u8> = (0..)
                .flat_map(|line: u64| format!("{seed}: line {line}\n").into_bytes())
                .take(PAGE_SIZE)
                .collect();
            text[PAGE_SIZE - 1] = b'.';
            text
        }
        Kind::Noise => {
            // Xorshift; never zero.
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_ne_bytes()
            };
            (0..PAGE_SIZE / 8).flat_map(|_| next()).collect()
        }
    }
}
