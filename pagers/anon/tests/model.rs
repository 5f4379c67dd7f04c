//! Random puts, gets and frees, against a map from slots to bytes.

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use quire_pager::abi::QUIRE_PAGER_OK;
use quire_pager::testing::{PAGE_SIZE, TestObject};
use support::{Kind, anon, page};

const SLOTS: u64 = 48;

#[derive(Debug, Clone)]
enum Step {
    Put(u64, Vec<(Kind, u64)>),
    Get(u64, u64),
    Free(u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        1 => Just(Kind::Zeros),
        1 => Just(Kind::Word),
        4 => Just(Kind::Text),
        2 => Just(Kind::Noise),
    ];
    let run = || (0..SLOTS).prop_flat_map(|first| (Just(first), 1..=(SLOTS - first).min(12)));
    let step = prop_oneof![
        4 => (0..SLOTS, proptest::collection::vec((kind, any::<u64>()), 1..12)).prop_map(|(first, mut pages)| {
            pages.truncate(usize::try_from(SLOTS - first).expect("small"));
            Step::Put(first, pages)
        }),
        3 => run().prop_map(|(first, count)| Step::Get(first, count)),
        1 => run().prop_map(|(first, count)| Step::Free(first, count)),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What a slot should hold.
fn expected(model: &BTreeMap<u64, Vec<u8>>, slot: u64) -> Vec<u8> {
    model.get(&slot).cloned().unwrap_or_else(|| vec![0; PAGE_SIZE])
}

/// Does a step to the area and to the model. Only a full pool may fail a put, of single pages, and only if `may_fill`.
fn take(step: &Step, area: &TestObject<'_>, model: &mut BTreeMap<u64, Vec<u8>>, may_fill: bool) {
    match step {
        Step::Put(first, pages) => {
            let pages: Vec<_> = pages.iter().map(|&(kind, seed)| page(kind, seed)).collect();
            let answer = area.put(*first, &pages.concat());
            for ((slot, bytes), answer) in (*first..).zip(pages).zip(&answer.pages) {
                match answer.status {
                    QUIRE_PAGER_OK => drop(model.insert(slot, bytes)),
                    status => assert!(may_fill && status == -libc::ENOSPC, "slot {slot}: {status}"),
                }
            }
            let all = answer.pages.iter().all(|page| page.status == QUIRE_PAGER_OK);
            assert_eq!(answer.status == QUIRE_PAGER_OK, all, "{}", answer.text);
        }
        Step::Get(first, count) => {
            let answer = area.get(*first, usize::try_from(*count).expect("small"));
            assert_eq!(answer.status, QUIRE_PAGER_OK, "{}", answer.text);
            for (slot, answer) in (*first..).zip(&answer.pages) {
                assert_eq!(answer.status, QUIRE_PAGER_OK);
                assert!(answer.bytes == expected(model, slot), "slot {slot} has other bytes");
            }
        }
        Step::Free(first, count) => {
            assert_eq!(area.free_space(*first, *count), Ok(()));
            (*first..first + count).for_each(|slot| drop(model.remove(&slot)));
        }
    }
}

fn run(steps: &[Step], place: &str, options: &str, may_fill: bool) {
    let host = anon();
    let size = SLOTS * PAGE_SIZE as u64;
    let area = host.open(&format!("{place},size={size}{options}")).expect("opens");
    let mut model = BTreeMap::new();
    steps.iter().for_each(|step| take(step, &area, &mut model, may_fill));
    take(&Step::Get(0, SLOTS), &area, &mut model, may_fill);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_slot_holds_what_was_put_last_wherever_it_is_kept(steps in steps()) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("swap").display().to_string();
        // Pools that hold nothing, a few pages, and all of them.
        for options in [
            "",
            ",compress=lz4,pool=0",
            ",compress=lz4,pool=3K",
            ",compress=lz4",
            ",compress=zstd,pool=3K",
            ",compress=zstd",
        ] {
            run(&steps, &file, options, false);
        }
        for options in ["", ",compress=lz4", ",compress=zstd"] {
            run(&steps, "memory", options, false);
        }
        for options in [",pool=20K", ",compress=lz4,pool=9K", ",compress=zstd,pool=9K"] {
            run(&steps, "memory", options, true);
        }
    }
}
