//! Copying from and to frames while simulated processors are at work.
//!
//! A store of a processor and a copy of the engine may meet in one frame, so neither may be a plain copy: that would be
//! a data race. Both go by whole, aligned 64-bit words, relaxed, because atomic accesses of different sizes must not
//! overlap either. What is read while others write is a mixture; no byte is ever made up, and no neighbour is written.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::types::PAGE_BYTES;

const WORD: usize = size_of::<u64>();

/// The bytes of a frame.
pub(super) type Words = [AtomicU64; PAGE_BYTES / WORD];

/// Reads bytes from `offset` on. Does not cross the frame.
pub(super) fn read(words: &Words, offset: usize, to: &mut [u8]) {
    assert!(offset + to.len() <= PAGE_BYTES, "a copy crosses the page");
    let (head, rest) = to.split_at_mut(to_boundary(offset, to.len()));
    if !head.is_empty() {
        let word = words[offset / WORD].load(Ordering::Relaxed).to_ne_bytes();
        head.copy_from_slice(&word[offset % WORD..][..head.len()]);
    }
    let first = (offset + head.len()) / WORD;
    let mut chunks = rest.chunks_exact_mut(WORD);
    let mut next = first;
    for (chunk, word) in chunks.by_ref().zip(&words[first..]) {
        chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        next += 1;
    }
    let tail = chunks.into_remainder();
    if !tail.is_empty() {
        let word = words[next].load(Ordering::Relaxed).to_ne_bytes();
        tail.copy_from_slice(&word[..tail.len()]);
    }
}

/// Writes bytes from `offset` on. Does not cross the frame.
pub(super) fn write(words: &Words, offset: usize, from: &[u8]) {
    assert!(offset + from.len() <= PAGE_BYTES, "a copy crosses the page");
    let (head, rest) = from.split_at(to_boundary(offset, from.len()));
    if !head.is_empty() {
        merge(&words[offset / WORD], offset % WORD, head);
    }
    let first = (offset + head.len()) / WORD;
    let (chunks, tail) = rest.as_chunks::<WORD>();
    for (chunk, word) in chunks.iter().zip(&words[first..]) {
        word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
    }
    if !tail.is_empty() {
        merge(&words[first + chunks.len()], 0, tail);
    }
}

/// Copies a whole frame.
pub(super) fn copy(from: &Words, to: &Words) {
    for (from, to) in from.iter().zip(to) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// How many of `len` bytes come before the first word that starts at or behind `offset`.
fn to_boundary(offset: usize, len: usize) -> usize {
    (offset.wrapping_neg() % WORD).min(len)
}

/// Changes some bytes of a word and leaves the others as whoever writes them wants them.
fn merge(word: &AtomicU64, at: usize, bytes: &[u8]) {
    let mut now = word.load(Ordering::Relaxed);
    loop {
        let mut merged = now.to_ne_bytes();
        merged[at..at + bytes.len()].copy_from_slice(bytes);
        match word.compare_exchange_weak(now, u64::from_ne_bytes(merged), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(other) => now = other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_range_is_written_and_read_back_and_its_neighbours_stay(offset in 0..64_usize, len in 0..64_usize) {
            let words: Words = [const { AtomicU64::new(u64::MAX) }; PAGE_BYTES / WORD];
            let bytes: vec::Vec<u8> = (1..=u8::try_from(len).unwrap()).collect();
            write(&words, offset, &bytes);
            let mut back = vec![0; len];
            read(&words, offset, &mut back);
            prop_assert_eq!(&back, &bytes);
            let mut all = [0; 160];
            read(&words, 0, &mut all);
            for (at, byte) in all.iter().enumerate() {
                if !(offset..offset + len).contains(&at) {
                    prop_assert_eq!(*byte, 0xff);
                }
            }
        }
    }
}
