//! What is refused, and with which words.

mod support;

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use quire_pager::abi::*;
use quire_pager::testing::{Failure, PAGE_SIZE, TestHost};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use support::{Kind, anon, page};

/// The status and the words with which a name is refused, without what the SDK says in front.
fn refused(host: &TestHost, name: &str) -> Failure {
    let failure = host.open(name).expect_err(name);
    assert!(failure.text.starts_with("anon: open"), "{failure}");
    failure
}

#[track_caller]
fn is_refused(host: &TestHost, name: &str, status: i32, part: &str) {
    let failure = refused(host, name);
    assert_eq!(failure.status, status, "{name}: {failure}");
    assert!(failure.text.contains(part), "{name}: {failure}");
}

fn name(path: &Path, options: &str) -> String {
    format!("{}{options}", path.display())
}

#[test]
fn a_configuration_is_refused() {
    let failure = TestHost::load(quire_pager_anon::module(), Some("compress=lz4")).expect_err("has none");
    assert_eq!(failure.status, QUIRE_PAGER_INVALID);
    assert!(
        failure.text.contains("takes its options with each area's name"),
        "{failure}"
    );
    drop(TestHost::load(quire_pager_anon::module(), Some(" ")).expect("says nothing"));
}

#[test]
fn a_wrong_name_is_refused_with_what_would_do() {
    let host = anon();
    is_refused(&host, "", QUIRE_PAGER_INVALID, "begin it with a path");
    is_refused(&host, "memory", QUIRE_PAGER_INVALID, "needs a size");
    is_refused(&host, "memory,size=1Q", QUIRE_PAGER_INVALID, "is a number of bytes");
    is_refused(
        &host,
        "memory,size=1M,colour=red",
        QUIRE_PAGER_INVALID,
        "it has size, compress and pool",
    );
}

#[test]
fn an_area_that_is_only_read_or_comes_as_a_descriptor_is_refused() {
    let host = anon();
    let failure = host
        .open_with(Some("memory,size=1M"), -1, QUIRE_OPEN_READ)
        .expect_err("is of no use");
    assert_eq!(failure.status, QUIRE_PAGER_INVALID);
    assert!(failure.text.contains("open it with QUIRE_OPEN_WRITE"), "{failure}");
    let file = tempfile::tempfile().expect("a file");
    let failure = host
        .open_with(Some("size=1M"), file.as_raw_fd(), QUIRE_OPEN_READ | QUIRE_OPEN_WRITE)
        .expect_err("not by descriptor");
    assert!(
        failure.text.contains("pass a path, and no file descriptor"),
        "{failure}"
    );
}

#[test]
fn an_area_has_at_least_a_page_and_at_most_as_many_as_a_slot_has_numbers() {
    let (host, folder) = (anon(), tempfile::tempdir().expect("a folder"));
    is_refused(
        &host,
        "memory,size=4095",
        QUIRE_PAGER_INVALID,
        "at least one page of 4096",
    );
    is_refused(&host, "memory,size=0", QUIRE_PAGER_INVALID, "at least one page of 4096");
    is_refused(
        &host,
        "memory,size=16T",
        QUIRE_PAGER_INVALID,
        "at most 4294967295 pages of 4096",
    );
    let file = folder.path().join("small");
    fs::write(&file, vec![1; PAGE_SIZE - 1]).expect("writes");
    is_refused(&host, &name(&file, ""), QUIRE_PAGER_INVALID, "4095 bytes are too small");
    // And not made longer by a whole page: only a size that is said does that.
    assert_eq!(fs::metadata(&file).expect("is there").len(), 4095);
    let area = host.open(&name(&file, ",size=10000")).expect("opens");
    assert_eq!(area.opened.size, 8192, "whole pages");
}

#[test]
fn a_file_is_made_for_its_owner_if_a_size_is_said_and_goes_again_if_that_is_refused() {
    let (host, folder) = (anon(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("swap");
    is_refused(&host, &name(&file, ""), -libc::ENOENT, "say size= and it is made");
    is_refused(&host, &name(&file, ",size=17T"), QUIRE_PAGER_INVALID, "too large");
    is_refused(&host, &name(&file, ",size=100"), QUIRE_PAGER_INVALID, "too small");
    assert!(!file.exists());
    let area = host.open(&name(&file, ",size=1M")).expect("opens");
    let made = fs::metadata(&file).expect("is there");
    assert_eq!(
        (area.opened.size, made.len(), made.permissions().mode() & 0o777),
        (1 << 20, 1 << 20, 0o600)
    );
    assert_eq!(area.opened.identity, [0, 0], "nobody can open it a second time");
    assert_eq!(area.path(100).expect("has one"), file.display().to_string());
    drop(area);
    let area = host.open(&name(&file, ",size=64K")).expect("opens");
    assert_eq!(
        (area.opened.size, fs::metadata(&file).expect("is there").len()),
        (64 << 10, 1 << 20)
    );
    drop(area);
    assert_eq!(host.open(&name(&file, "")).expect("opens").opened.size, 1 << 20);
}

#[test]
fn what_is_no_file_and_no_device_is_refused() {
    let (host, folder) = (anon(), tempfile::tempdir().expect("a folder"));
    is_refused(&host, &name(folder.path(), ""), -libc::EISDIR, "it is a directory");
    is_refused(
        &host,
        "/dev/null",
        -libc::EOPNOTSUPP,
        "neither a regular file nor a block device",
    );
    let fifo = folder.path().join("fifo");
    let path = CString::new(fifo.as_os_str().as_bytes()).expect("no zero");
    // SAFETY: the path ends in a zero.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    is_refused(
        &host,
        &name(&fifo, ""),
        -libc::EOPNOTSUPP,
        "neither a regular file nor a block device",
    );
    let under = folder.path().join("swap");
    fs::write(&under, [0; PAGE_SIZE]).expect("writes");
    is_refused(&host, &name(&under.join("x"), ",size=1M"), -libc::ENOTDIR, "stat");
}

/// Runs `check` without the rights of root to read and write every file. Only this thread loses them.
fn without_rights_of_root(check: impl FnOnce()) {
    let before = capabilities(None).expect("are told");
    let mut fewer = before;
    fewer.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(None, fewer).expect("can be given up");
    check();
    set_capabilities(None, before).expect("can be had again");
}

#[test]
fn a_file_that_cannot_be_read_and_written_is_refused() {
    let (host, folder) = (anon(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("swap");
    fs::write(&file, [0; PAGE_SIZE]).expect("writes");
    without_rights_of_root(|| {
        for mode in [0o200, 0o400, 0] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("is ours");
            is_refused(&host, &name(&file, ""), -libc::EACCES, "may not do both");
        }
    });
    let program = std::env::current_exe().expect("we are one");
    is_refused(&host, &name(&program, ""), -libc::ETXTBSY, "it is a program that runs");
}

#[test]
fn a_file_in_use_is_refused_by_any_of_its_names_until_it_is_closed() {
    let (host, other, folder) = (anon(), anon(), tempfile::tempdir().expect("a folder"));
    let (file, link) = (folder.path().join("swap"), folder.path().join("link"));
    let area = host.open(&name(&file, ",size=64K")).expect("opens");
    fs::hard_link(&file, &link).expect("links");
    let words = "it is in use as swap already";
    is_refused(&host, &name(&file, ""), -libc::EBUSY, words);
    is_refused(&other, &name(&link, ",size=1M"), -libc::EBUSY, words);
    assert_eq!(
        fs::metadata(&file).expect("is there").len(),
        64 << 10,
        "and not made longer"
    );
    assert_eq!(area.put(0, &page(Kind::Noise, 1)).status, QUIRE_PAGER_OK);
    drop(area);
    drop(other.open(&name(&link, "")).expect("is free"));
    // Somebody else who takes locks.
    let held = File::open(&file).expect("opens");
    held.lock().expect("locks");
    is_refused(&host, &name(&file, ""), -libc::EBUSY, words);
}

#[test]
fn pages_that_the_area_does_not_have_are_refused() {
    let host = anon();
    let area = host.open("memory,size=64K").expect("opens");
    let mut transfer = area.transfer(16, vec![page(Kind::Noise, 1)]);
    transfer.object_size = 1 << 20;
    for answer in [area.put_with(transfer.clone()), area.get_with(transfer)] {
        assert_eq!(answer.status, QUIRE_PAGER_BAD);
        assert!(answer.text.contains("is no slot of the swap area"), "{}", answer.text);
    }
    for (first, count) in [(16, 1), (0, 17), (1 << 40, 1), (1, u64::MAX), (u64::MAX, 1)] {
        let failure = area.free_space(first, count).expect_err("beyond");
        assert_eq!(failure.status, QUIRE_PAGER_BAD, "{first}+{count}: {failure}");
    }
    assert_eq!(area.free_space(0, 16), Ok(()));
    assert_eq!(area.free_space(99, 0), Ok(()), "nothing is asked");
}
