//! Many threads, each with slots of its own, whose pages push each other out of the pool.

mod support;

use std::collections::BTreeMap;
use std::thread;

use quire_pager::abi::QUIRE_PAGER_OK;
use quire_pager::testing::{PAGE_SIZE, TestObject};
use support::{Kind, anon, page};

const THREADS: u64 = 8;
/// Slots of one thread: single ones between those of others, and a block of neighbours.
const SINGLES: u64 = 16;
const BLOCK: u64 = 24;

fn slot(thread: u64, mine: u64) -> u64 {
    if mine < SINGLES {
        mine * THREADS + thread
    } else {
        THREADS * SINGLES + thread * BLOCK + mine - SINGLES
    }
}

/// Puts, gets and frees at random, and looks at every byte that comes back.
fn work(area: &TestObject<'_>, thread: u64, rounds: u64) {
    let mut random = thread + 1;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    let mut model = BTreeMap::new();
    for round in 0..rounds {
        let mine = draw(SINGLES + BLOCK);
        let count = if mine < SINGLES {
            1
        } else {
            (SINGLES + BLOCK - mine).min(1 + draw(8))
        };
        let first = slot(thread, mine);
        match draw(8) {
            0 => {
                assert_eq!(area.free_space(first, count), Ok(()));
                (first..first + count).for_each(|slot| drop(model.remove(&slot)));
            }
            1..4 => {
                let answer = area.get(first, usize::try_from(count).expect("small"));
                for (slot, answer) in (first..).zip(&answer.pages) {
                    assert_eq!(answer.status, QUIRE_PAGER_OK);
                    let expected = model.get(&slot).cloned().unwrap_or_else(|| vec![0; PAGE_SIZE]);
                    assert!(
                        answer.bytes == expected,
                        "thread {thread}, round {round}: slot {slot} has other bytes"
                    );
                }
            }
            _ => {
                let kinds = [Kind::Text, Kind::Text, Kind::Text, Kind::Noise, Kind::Word];
                let mut kind = || kinds[usize::try_from(draw(5)).expect("small")];
                let pages: Vec<_> = (first..first + count)
                    .map(|slot| page(kind(), round << 32 | slot))
                    .collect();
                let answer = area.put(first, &pages.concat());
                assert_eq!(answer.status, QUIRE_PAGER_OK, "{}", answer.text);
                model.extend((first..).zip(pages));
            }
        }
    }
}

#[test]
fn threads_do_not_disturb_each_others_slots() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("swap").display().to_string();
    let size = THREADS * (SINGLES + BLOCK) * PAGE_SIZE as u64;
    for name in [
        format!("{file},size={size}"),
        format!("{file},size={size},compress=lz4,pool=40K"),
        format!("{file},size={size},compress=zstd,pool=20K"),
        format!("memory,size={size},compress=lz4"),
    ] {
        let host = anon();
        let area = host.open(&name).expect("opens");
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let area = &area;
                scope.spawn(move || work(area, thread, 500));
            }
        });
        assert_eq!(host.log_lines(), [""; 0]);
    }
}
