//! What an area takes in memory, counted by an allocator.

#[path = "../../../tests/tests/counting/mod.rs"]
mod counting;
mod support;

use counting::{Counting, counts};
use quire_pager::abi::QUIRE_PAGER_OK;
use quire_pager::testing::{PAGE_SIZE, TestObject};
use support::{Kind, page};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Puts a kind of page into `count` slots from 0 on.
fn fill(area: &TestObject<'_>, kind: Kind, count: u64) {
    let run: Vec<u8> = (0..256).flat_map(|seed| page(kind, seed)).collect();
    for first in (0..count).step_by(256) {
        assert_eq!(area.put(first, &run).status, QUIRE_PAGER_OK);
    }
}

/// The loaded pager, after the first request, for which the test's own host makes room that it keeps.
fn anon() -> quire_pager::testing::TestHost {
    let host = support::anon();
    let first = host.open("memory,size=1M").expect("opens").get(0, 1);
    assert_eq!(first.status, QUIRE_PAGER_OK);
    host
}

fn live() -> i64 {
    counts().live_bytes
}

#[test]
fn a_slot_takes_eight_bytes_and_slots_far_from_it_next_to_none() {
    const SLOTS: i64 = 32 << 10;
    let host = anon();
    let before = live();
    let area = host.open("memory,size=1T").expect("opens");
    let empty = live() - before;
    assert!(empty < (1 << 28) / 50, "{empty} bytes for 2^28 slots that nobody used");
    assert_eq!(area.put(1 << 27, &page(Kind::Word, 1)).status, QUIRE_PAGER_OK);
    assert!(live() - before - empty <= 8 << 10, "1024 slots of 8 bytes");
    drop(area);
    assert_eq!(live(), before);

    let area = host.open("memory,size=128M").expect("opens");
    fill(&area, Kind::Word, SLOTS as u64);
    let all = live() - before;
    assert!(all < SLOTS * 8 + SLOTS / 16 + 40_000, "{all} bytes for {SLOTS} slots");
}

#[test]
fn pages_in_the_pool_take_what_is_counted_and_give_it_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("swap").display().to_string();
    let host = anon();
    let before = live();
    for packing in ["lz4", "zstd"] {
        let area = host
            .open(&format!("{file},size=16M,compress={packing},pool=1M"))
            .expect("opens");
        fill(&area, Kind::Text, 4096);
        let full = live() - before;
        // Beside the pool: words, the list of entries (which doubles as it grows), and a bench.
        assert!((900_000..1_600_000).contains(&full), "{full}");
        // Newer pages that do not pack replace older ones in the pool.
        fill(&area, Kind::Noise, 4096);
        let replaced = live() - before;
        fill(&area, Kind::Text, 4096);
        assert_eq!(area.free_space(0, 4096), Ok(()));
        let freed = live() - before;
        assert_eq!(replaced, freed);
        assert!(freed < 600_000, "{freed}");
        assert!(full - freed > 500_000, "{full} and {freed}");
        drop(area);
        assert_eq!(live(), before);
    }
}

#[test]
fn gets_and_puts_allocate_what_they_keep_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("swap").display().to_string();
    let host = anon();
    let area = host
        .open(&format!("{file},size=1M,compress=zstd,pool=40K"))
        .expect("opens");
    fill(&area, Kind::Text, 256);
    let allocations = |work: &dyn Fn()| counting::allocations_of(work);
    // What the test's own host allocates for a run of one page.
    let plain = host.open("memory,size=1M").expect("opens");
    assert_eq!(plain.put(0, &page(Kind::Word, 1)).status, QUIRE_PAGER_OK);
    let of_host = allocations(&|| drop(plain.get(0, 1)));
    assert_eq!(allocations(&|| drop(area.get(0, 1))), of_host, "from the file");
    assert_eq!(allocations(&|| drop(area.get(255, 1))), of_host, "from the pool");
    let noise = page(Kind::Noise, 1);
    let of_host = allocations(&|| drop(plain.put(0, &vec![0; PAGE_SIZE])));
    assert_eq!(
        allocations(&|| drop(area.put(3, &noise.clone()))),
        of_host,
        "to the file"
    );
    let text = page(Kind::Text, 9);
    assert_eq!(
        allocations(&|| drop(area.put(3, &text.clone()))),
        of_host + 1,
        "to the pool"
    );
}
