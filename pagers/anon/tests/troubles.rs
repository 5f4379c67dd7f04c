//! Files that shrink, file systems that fill up, pools that do, and what free_space gives back.

mod support;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use quire_pager::abi::*;
use quire_pager::testing::{PAGE_SIZE, TestObject};
use support::{Kind, anon, page};

fn statuses(answer: &quire_pager::testing::Answer) -> Vec<i32> {
    answer.pages.iter().map(|page| page.status).collect()
}

fn noise(slots: std::ops::Range<u64>) -> Vec<u8> {
    slots.flat_map(|slot| page(Kind::Noise, slot)).collect()
}

#[track_caller]
fn holds(area: &TestObject<'_>, slot: u64, bytes: &[u8]) {
    let answer = area.get(slot, 1);
    assert_eq!(answer.status, QUIRE_PAGER_OK, "slot {slot}: {}", answer.text);
    assert!(answer.pages[0].bytes == bytes, "slot {slot} has other bytes");
}

#[test]
fn pages_of_a_file_that_was_cut_short_are_errors_that_name_the_slot() {
    let (host, folder) = (anon(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("swap");
    let area = host.open(&format!("{},size=64K", path.display())).expect("opens");
    assert_eq!(area.put(0, &noise(0..16)).status, QUIRE_PAGER_OK);
    assert_eq!(area.put(12, &page(Kind::Word, 7)).status, QUIRE_PAGER_OK);
    let file = OpenOptions::new().write(true).open(&path).expect("opens");
    file.set_len(10 * PAGE_SIZE as u64 + 100).expect("shrinks");

    let answer = area.get(8, 8);
    assert_eq!(
        answer.status, QUIRE_PAGER_OK,
        "the required page is there: {}",
        answer.text
    );
    let eio = -libc::EIO;
    assert_eq!(statuses(&answer), [0, 0, eio, eio, 0, eio, eio, eio]);
    assert_eq!(answer.pages[1].bytes, page(Kind::Noise, 9));
    let answer = area.get(13, 1);
    assert_eq!(answer.status, eio);
    assert!(
        answer
            .text
            .contains("slot 13: the swap file ends at byte 53248; it was made shorter"),
        "{}",
        answer.text
    );

    // What was cut off does not come back by a put.
    let answer = area.put(8, &noise(108..116));
    assert_eq!(answer.status, QUIRE_PAGER_BAD);
    let bad = QUIRE_PAGER_BAD;
    assert_eq!(statuses(&answer), [0, 0, bad, bad, bad, bad, bad, bad]);
    assert!(
        answer.text.contains("made shorter while it was in use"),
        "{}",
        answer.text
    );
    assert_eq!(
        fs::metadata(&path).expect("is there").len(),
        10 * PAGE_SIZE as u64 + 100
    );
    holds(&area, 9, &page(Kind::Noise, 109));
}

#[test]
fn a_full_pool_without_a_file_is_no_space_for_that_page_and_the_older_copy_stays() {
    let host = anon();
    for options in ["", ",compress=lz4", ",compress=zstd"] {
        let area = host
            .open(&format!("memory,size=64K,pool=12500{options}"))
            .expect("opens");
        // Three pages of noise fit, and no fourth.
        let answer = area.put(0, &noise(0..5));
        assert_eq!(answer.status, -libc::ENOSPC);
        assert_eq!(statuses(&answer), [0, 0, 0, -libc::ENOSPC, -libc::ENOSPC]);
        assert!(
            answer.text.contains("the memory for swap is full: 12500 bytes") && answer.text.contains("a larger pool="),
            "{}",
            answer.text
        );
        assert_eq!(
            area.put(3, &page(Kind::Word, 1)).status,
            QUIRE_PAGER_OK,
            "a word takes no room"
        );
        assert_eq!(area.put(3, &page(Kind::Noise, 3)).status, -libc::ENOSPC);
        holds(&area, 3, &page(Kind::Word, 1));
        assert_eq!(
            area.put(1, &page(Kind::Noise, 101)).status,
            QUIRE_PAGER_OK,
            "in place of the older copy"
        );
        holds(&area, 1, &page(Kind::Noise, 101));
        assert_eq!(area.free_space(0, 1), Ok(()));
        assert_eq!(
            area.put(3, &page(Kind::Noise, 3)).status,
            QUIRE_PAGER_OK,
            "there is room again"
        );
    }
}

#[test]
fn memory_of_a_size_has_room_for_every_slot() {
    let host = anon();
    for options in ["", ",compress=lz4", ",compress=zstd"] {
        let area = host.open(&format!("memory,size=64K{options}")).expect("opens");
        assert_eq!(area.put(0, &noise(0..16)).status, QUIRE_PAGER_OK);
        (0..16).for_each(|slot| holds(&area, slot, &page(Kind::Noise, slot)));
    }
}

#[test]
fn free_space_gives_blocks_of_the_file_back_and_the_slots_read_as_zeros() {
    let (host, folder) = (anon(), tempfile::tempdir_in("/dev/shm").expect("a folder"));
    let path = folder.path().join("swap");
    for options in ["", ",compress=lz4,pool=0"] {
        let area = host
            .open(&format!("{},size=1M{options}", path.display()))
            .expect("opens");
        let blocks = || fs::metadata(&path).expect("is there").blocks() * 512;
        let page_bytes = PAGE_SIZE as u64;
        assert_eq!(area.put(10, &noise(10..50)).status, QUIRE_PAGER_OK);
        assert_eq!(blocks(), 40 * page_bytes);
        // A slot that holds a word by now has its blocks still.
        assert_eq!(area.put(20, &page(Kind::Zeros, 0)).status, QUIRE_PAGER_OK);
        assert_eq!(blocks(), 40 * page_bytes);
        assert_eq!(area.free_space(0, 30), Ok(()));
        assert_eq!(blocks(), 20 * page_bytes);
        holds(&area, 29, &page(Kind::Zeros, 0));
        holds(&area, 30, &page(Kind::Noise, 30));
        assert_eq!(area.free_space(0, 256), Ok(()));
        assert_eq!(blocks(), 0);
        assert_eq!(
            fs::metadata(&path).expect("is there").len(),
            1 << 20,
            "as long as before"
        );
    }
}

/// A file system of its own in a folder, as long as it lives.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// 64 KiB of tmpfs, or why not.
    fn tmpfs() -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "none"])
            .arg(folder.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Ok(Self(folder)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(format!("mount: {error}")),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_file_system_is_an_error_for_that_page_and_nothing_else_is_lost() {
    let mounted = match Mounted::tmpfs() {
        Ok(mounted) => mounted,
        Err(why) => return println!("NOT TESTED: a full file system: {why}"),
    };
    let host = anon();
    for options in ["", ",compress=lz4,pool=8K"] {
        let path = mounted.0.path().join("swap");
        let area = host
            .open(&format!("{},size=1M{options}", path.display()))
            .expect("opens");
        let texts =
            |slots: std::ops::Range<u64>| -> Vec<u8> { slots.flat_map(|slot| page(Kind::Text, slot)).collect() };
        assert_eq!(area.put(100, &texts(100..102)).status, QUIRE_PAGER_OK);
        let answer = area.put(0, &noise(0..40));
        assert_eq!(answer.status, -libc::ENOSPC, "{}", answer.text);
        assert!(
            answer
                .text
                .contains("the file system of the swap file is full; make room there"),
            "{}",
            answer.text
        );
        let there = answer.pages.iter().filter(|page| page.status == QUIRE_PAGER_OK).count() as u64;
        assert!((10..=16).contains(&there), "{there}");
        for (slot, answer) in (0..).zip(&answer.pages) {
            match answer.status {
                QUIRE_PAGER_OK => holds(&area, slot, &page(Kind::Noise, slot)),
                status => assert_eq!(status, -libc::ENOSPC),
            }
        }
        // A page whose older copy is in memory keeps it.
        assert_eq!(area.put(200, &page(Kind::Word, 5)).status, QUIRE_PAGER_OK);
        assert_eq!(area.put(200, &page(Kind::Noise, 5)).status, -libc::ENOSPC);
        holds(&area, 200, &page(Kind::Word, 5));
        (100..102).for_each(|slot| holds(&area, slot, &page(Kind::Text, slot)));
        if !options.is_empty() {
            assert_eq!(area.put(101, &page(Kind::Noise, 101)).status, -libc::ENOSPC);
            (100..102).for_each(|slot| holds(&area, slot, &page(Kind::Text, slot)));
        }
        assert_eq!(area.free_space(0, 40), Ok(()));
        assert_eq!(
            area.put(200, &page(Kind::Noise, 5)).status,
            QUIRE_PAGER_OK,
            "there is room again"
        );
        drop(area);
        fs::remove_file(path).expect("is there");
    }
}

/// A loop device on a file, as long as it lives.
struct Loop(String);

impl Loop {
    fn on(file: &Path) -> Result<Self, String> {
        match Command::new("losetup").args(["--find", "--show"]).arg(file).output() {
            Ok(output) if output.status.success() => {
                Ok(Self(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
            }
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(format!("losetup: {error}")),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn a_block_device_holds_swap_and_is_no_larger_than_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("disk");
    File::create(&file)
        .and_then(|file| file.set_len(1 << 20))
        .expect("a file");
    let device = match Loop::on(&file) {
        Ok(device) => device,
        Err(why) => return println!("NOT TESTED: block devices: {why}"),
    };
    let host = anon();
    let failure = host.open(&format!("{},size=1025K", device.0)).expect_err("too large");
    assert_eq!(failure.status, QUIRE_PAGER_INVALID);
    assert!(
        failure.text.contains("the device has 1048576; say no more"),
        "{failure}"
    );
    let area = host.open(&device.0).expect("opens");
    assert_eq!(area.opened.size, 1 << 20);
    let failure = host.open(&device.0).expect_err("in use");
    assert_eq!(failure.status, -libc::EBUSY, "{failure}");
    assert!(failure.text.contains("the device is mounted or in use"), "{failure}");
    assert_eq!(area.put(0, &noise(0..256)).status, QUIRE_PAGER_OK);
    (0..256).for_each(|slot| holds(&area, slot, &page(Kind::Noise, slot)));
    assert_eq!(area.free_space(0, 2), Ok(()));
    holds(&area, 1, &page(Kind::Zeros, 0));
    holds(&area, 2, &page(Kind::Noise, 2));
}
