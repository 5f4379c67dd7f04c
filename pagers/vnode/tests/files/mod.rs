//! The vnode pager through its exported table, on real files. Every test program has these tests, with its own
//! configuration.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use quire_pager::abi::*;
use quire_pager::testing::{Answer, Failure, PAGE_SIZE, TestHost, TestObject};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use tempfile::{NamedTempFile, TempDir};

const PAGE: u64 = PAGE_SIZE as u64;

fn host() -> TestHost {
    TestHost::load(quire_pager_vnode::module(), Some(crate::CONFIG)).expect("the vnode pager loads")
}

/// A file of `len` bytes, none of them zero, that differ from page to page.
fn file(len: usize) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(&bytes(len)).expect("is written");
    file
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| u8::try_from((i / 7 + i / PAGE_SIZE) % 255).expect("below 255") + 1)
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

fn negated(errno: Errno) -> i32 {
    -errno.raw_os_error()
}

fn statuses(answer: &Answer) -> Vec<i32> {
    answer.pages.iter().map(|page| page.status).collect()
}

fn contents(answer: &Answer) -> Vec<u8> {
    answer.pages.iter().flat_map(|page| page.bytes.clone()).collect()
}

fn read_only<'a>(host: &'a TestHost, path: &Path) -> Result<TestObject<'a>, Failure> {
    host.open_with(Some(text(path)), -1, QUIRE_OPEN_READ)
}

#[test]
fn the_plugin_says_what_it_is() {
    let module = quire_pager_vnode::module();
    // SAFETY: a zero-terminated constant.
    assert_eq!(unsafe { std::ffi::CStr::from_ptr(module.name) }, c"vnode");
    assert_eq!(module.thread_model, QUIRE_THREADS_PARALLEL);
    assert!(module.put.is_some() && module.has_page.is_some() && module.get_size.is_some());
    assert!(module.resize.is_some() && module.sync.is_some() && module.path.is_some());
    assert!(module.populate.is_none() && module.cancel.is_none());
    // SAFETY: the entry's table is constant.
    let entry = unsafe { *quire_pager_vnode::quire_pager_entry(QUIRE_PAGER_ABI_VERSION) };
    assert_eq!(entry.name, module.name);
}

#[test]
fn a_long_run_is_read_as_the_file_has_it() {
    let (host, file) = (host(), file(200 * PAGE_SIZE));
    let object = host.open(text(file.path())).expect("opens");
    let mut transfer = object.transfer(3, vec![vec![0xAA; PAGE_SIZE]; 150]);
    transfer.required = 149;
    let answer = object.get_with(transfer);
    assert_eq!(answer.status, QUIRE_PAGER_OK);
    assert!(contents(&answer) == bytes(200 * PAGE_SIZE)[3 * PAGE_SIZE..153 * PAGE_SIZE]);
}

#[test]
fn s121_the_tail_of_the_last_page_is_zeros() {
    let (host, file) = (host(), file(2 * PAGE_SIZE + 100));
    let object = read_only(&host, file.path()).expect("opens");
    assert_eq!(object.opened.size, 2 * PAGE + 100);
    let answer = object.get(0, 3);
    assert_eq!(statuses(&answer), [0, 0, 0]);
    let got = contents(&answer);
    assert!(got[..2 * PAGE_SIZE + 100] == bytes(2 * PAGE_SIZE + 100));
    assert!(got[2 * PAGE_SIZE + 100..].iter().all(|&byte| byte == 0));
}

#[test]
fn s117_the_objects_size_clips_what_is_read() {
    let (host, file) = (host(), file(3 * PAGE_SIZE));
    let object = read_only(&host, file.path()).expect("opens");
    let mut transfer = object.transfer(0, vec![vec![0xAA; PAGE_SIZE]; 2]);
    transfer.object_size = PAGE + 10;
    let got = contents(&object.get_with(transfer));
    assert!(got[..PAGE_SIZE + 10] == bytes(3 * PAGE_SIZE)[..PAGE_SIZE + 10]);
    assert!(got[PAGE_SIZE + 10..].iter().all(|&byte| byte == 0));
}

#[test]
fn s115_a_page_beyond_the_object_is_bad() {
    let (host, file) = (host(), file(PAGE_SIZE));
    let object = read_only(&host, file.path()).expect("opens");
    assert_eq!(object.get(1, 1).status, QUIRE_PAGER_BAD);
    let empty = self::file(0);
    assert_eq!(
        read_only(&host, empty.path()).expect("opens").get(0, 1).status,
        QUIRE_PAGER_BAD
    );
}

#[test]
fn a_file_cut_short_while_open_has_bad_pages_beyond_its_end() {
    let (host, file) = (host(), file(4 * PAGE_SIZE));
    let object = host.open(text(file.path())).expect("opens");
    file.as_file().set_len(PAGE + 50).expect("is cut");
    let answer = object.get(0, 4);
    assert_eq!(
        statuses(&answer),
        [QUIRE_PAGER_OK, QUIRE_PAGER_OK, QUIRE_PAGER_BAD, QUIRE_PAGER_BAD]
    );
    let got = contents(&answer);
    assert!(got[..PAGE_SIZE + 50] == bytes(4 * PAGE_SIZE)[..PAGE_SIZE + 50]);
    assert!(got[PAGE_SIZE + 50..2 * PAGE_SIZE].iter().all(|&byte| byte == 0));
    let answer = object.get(2, 1);
    assert_eq!(answer.status, QUIRE_PAGER_BAD);
    let name = text(file.path());
    assert_eq!(
        answer.text,
        format!("vnode: get of {name} at byte 8192: the file ends at byte 8192; it was cut short while it was in use")
    );
    assert_eq!(object.size(), Ok(PAGE + 50));
    file.as_file().set_len(0).expect("is cut");
    assert_eq!(object.get(0, 1).status, QUIRE_PAGER_BAD);
}

#[test]
fn a_put_does_not_bring_back_the_end_of_a_file_that_was_cut_short() {
    let (host, file) = (host(), file(4 * PAGE_SIZE));
    let object = host.open(text(file.path())).expect("opens");
    file.as_file().set_len(PAGE + 50).expect("is cut");
    let answer = object.put(0, &[9; 4 * PAGE_SIZE]);
    assert_eq!(
        statuses(&answer),
        [QUIRE_PAGER_OK, QUIRE_PAGER_OK, QUIRE_PAGER_BAD, QUIRE_PAGER_BAD]
    );
    assert_eq!(answer.status, QUIRE_PAGER_BAD);
    assert!(
        answer.text.contains("the file ends at byte 4146") && answer.text.contains("discard the page"),
        "{}",
        answer.text
    );
    assert!(fs::read(file.path()).expect("reads") == [9; PAGE_SIZE + 50]);
    file.as_file().set_len(0).expect("is cut");
    assert_eq!(object.put(3, &[9; PAGE_SIZE]).status, QUIRE_PAGER_BAD);
    assert_eq!(fs::read(file.path()).expect("reads"), b"");
    // A caller that wants it back says so.
    let mut object = object;
    object.resize(4 * PAGE).expect("grows");
    assert_eq!(object.put(3, &[9; PAGE_SIZE]).status, QUIRE_PAGER_OK);
    assert_eq!(file.as_file().metadata().expect("is there").len(), 4 * PAGE);
}

#[test]
fn a_descriptor_with_o_direct_is_refused_with_a_sentence() {
    use rustix::fs::{Mode, OFlags};
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().join("direct");
    fs::write(&path, bytes(PAGE_SIZE)).expect("is written");
    let direct =
        rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECT, Mode::empty()).expect("the file system has O_DIRECT");
    let failure = host()
        .open_with(None, direct.as_raw_fd(), QUIRE_OPEN_READ)
        .expect_err("refused");
    assert_eq!(failure.status, negated(Errno::INVAL));
    assert!(failure.text.contains("O_DIRECT"), "{failure}");
}

#[test]
fn s117_a_put_writes_nothing_at_or_beyond_the_size() {
    let (host, file) = (host(), file(PAGE_SIZE + 100));
    let object = host.open(text(file.path())).expect("opens");
    let answer = object.put(0, &[9; 2 * PAGE_SIZE]);
    assert_eq!((answer.status, statuses(&answer)), (QUIRE_PAGER_OK, vec![0, 0]));
    assert!(fs::read(file.path()).expect("reads") == vec![9; PAGE_SIZE + 100]);
    assert_eq!(object.put(2, &[9; 1]).status, QUIRE_PAGER_BAD);
    assert_eq!(fs::metadata(file.path()).expect("stat").len(), PAGE + 100);
    assert_eq!(object.sync(), Ok(()));
}

#[test]
fn a_long_run_is_written_whole() {
    let (host, file) = (host(), file(0));
    let mut object = host.open(text(file.path())).expect("opens");
    object.resize(200 * PAGE).expect("grows");
    let data = bytes(200 * PAGE_SIZE);
    assert_eq!(object.put(0, &data).status, QUIRE_PAGER_OK);
    assert!(fs::read(file.path()).expect("reads") == data);
}

/// The process may not write at or beyond two and a half pages, so that a write across that comes back short. The limit is
/// the whole process's, and so this test runs itself again in one of its own.
#[test]
fn d10_a_short_write_is_continued_and_its_error_reported() {
    const FILE: &str = "QUIRE_TEST_LIMITED_FILE";
    let Some(path) = std::env::var_os(FILE) else {
        let file = file(4 * PAGE_SIZE);
        // In units of 512 bytes, as POSIX has it. The signal that comes with the error is ignored.
        let script = "trap '' XFSZ; ulimit -f 20 && exec \"$0\" --exact \"$1\"";
        let output = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().expect("this program"))
            .arg("files::d10_a_short_write_is_continued_and_its_error_reported")
            .env(FILE, file.path())
            .output()
            .expect("a shell");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        let mut wanted = bytes(4 * PAGE_SIZE);
        wanted[..2 * PAGE_SIZE + PAGE_SIZE / 2].fill(7);
        assert!(fs::read(file.path()).expect("reads") == wanted);
        return;
    };
    let host = host();
    let object = host.open(text(Path::new(&path))).expect("opens");
    let answer = object.put(0, &[7; 4 * PAGE_SIZE]);
    let denied = negated(Errno::FBIG);
    assert_eq!((answer.status, statuses(&answer)), (denied, vec![0, 0, denied, denied]));
    assert!(
        answer.text.contains("at byte 12288: pwritev: File too large"),
        "{}",
        answer.text
    );
}

#[test]
fn a_write_that_is_denied_is_reported_with_operation_place_and_text() {
    let host = host();
    let memory = sealed(SealFlags::WRITE);
    let object = host
        .open_with(Some("sealed"), memory.as_raw_fd(), QUIRE_OPEN_READ | QUIRE_OPEN_WRITE)
        .expect("opens");
    let answer = object.put(1, &[1; PAGE_SIZE]);
    assert_eq!(answer.status, negated(Errno::PERM));
    assert_eq!(
        answer.text,
        "vnode: put of sealed at byte 4096: pwritev: Operation not permitted (os error 1)"
    );
}

/// A file in memory of two and a half pages that refuses something.
fn sealed(seals: SealFlags) -> File {
    let fd = memfd_create("sealed", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).expect("a memory file");
    let file = File::from(fd);
    file.set_len(2 * PAGE + PAGE / 2).expect("grows");
    fcntl_add_seals(&file, seals).expect("is sealed");
    file
}

/// `/proc/self/mem` is a file whose bytes are ours to arrange: an address that is not mapped cannot be read.
#[test]
fn a_page_that_cannot_be_read_fails_alone() {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: new memory at a place of the kernel's choice; the hole is part of it, and nobody uses its address.
    let start = unsafe {
        let start = mmap_anonymous(std::ptr::null_mut(), 3 * PAGE_SIZE, protection, flags).expect("maps");
        munmap(start.byte_add(PAGE_SIZE), PAGE_SIZE).expect("unmaps");
        start
    };
    let host = host();
    let object = read_only(&host, Path::new("/proc/self/mem")).expect("opens");
    let transfer = |required| {
        let mut transfer = object.transfer(start.addr() as u64 / PAGE, vec![vec![0xAA; PAGE_SIZE]; 3]);
        transfer.object_size = 1 << 48;
        transfer.required = required;
        transfer
    };
    let failed = negated(Errno::IO);
    let answer = object.get_with(transfer(2));
    assert_eq!(
        (answer.status, statuses(&answer)),
        (QUIRE_PAGER_OK, vec![QUIRE_PAGER_OK, failed, QUIRE_PAGER_OK])
    );
    let answer = object.get_with(transfer(1));
    assert_eq!(answer.status, failed);
    assert!(answer.text.contains("preadv: Input/output error"), "{}", answer.text);
    // SAFETY: what was mapped above and is still there.
    unsafe {
        munmap(start, PAGE_SIZE).expect("unmaps");
        munmap(start.byte_add(2 * PAGE_SIZE), PAGE_SIZE).expect("unmaps");
    }
}

/// Files of sysfs state a size of one page and hold a few bytes.
#[test]
fn s120_nothing_read_where_the_file_has_bytes_is_an_error() {
    let path = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
    match fs::metadata(path) {
        Ok(stat) if stat.len() == PAGE => {}
        other => {
            return println!(
                "could not run, because {} is not there as expected: {other:?}",
                path.display()
            );
        }
    }
    let host = host();
    let answer = read_only(&host, path).expect("opens").get(0, 1);
    assert_eq!(answer.status, negated(Errno::IO));
    assert!(answer.text.contains("read nothing"), "{}", answer.text);
}

#[test]
fn opening_the_same_file_twice_gives_one_identity() {
    let (host, file, other) = (host(), file(10), self::file(10));
    let folder = TempDir::new().expect("a folder");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(file.path(), &link).expect("a link");
    let stat = file.as_file().metadata().expect("stat");
    let first = host.open(text(file.path())).expect("opens");
    assert_eq!(first.opened.identity, [stat.dev(), stat.ino()]);
    assert_eq!(u64::from(first.opened.granule), stat.blksize());
    assert_eq!(
        host.open(text(&link)).expect("opens").opened.identity,
        first.opened.identity
    );
    let by_fd = host.open_with(None, file.as_raw_fd(), QUIRE_OPEN_READ).expect("opens");
    assert_eq!(by_fd.opened.identity, first.opened.identity);
    assert_ne!(
        host.open(text(other.path())).expect("opens").opened.identity,
        first.opened.identity
    );
}

#[test]
fn a_descriptor_is_duplicated_and_stays_the_callers() {
    let (host, file) = (host(), file(PAGE_SIZE));
    let own = File::open(file.path()).expect("opens");
    let object = host.open_with(None, own.as_raw_fd(), QUIRE_OPEN_READ).expect("opens");
    drop(own);
    assert_eq!(object.get(0, 1).status, QUIRE_PAGER_OK);
    assert_eq!(object.path(4096).as_deref(), Ok(text(file.path())));
    assert_eq!(object.opened.flags, QUIRE_OBJECT_READ_ONLY);
}

#[test]
fn a_descriptor_that_cannot_do_what_is_asked_is_refused() {
    let (host, file) = (host(), file(PAGE_SIZE));
    let both = QUIRE_OPEN_READ | QUIRE_OPEN_WRITE;
    let refused = |fd: &OwnedFd, flags, errno, part: &str| {
        let failure = host.open_with(None, fd.as_raw_fd(), flags).expect_err(part);
        assert_eq!(failure.status, negated(errno));
        assert!(failure.text.contains(part), "{}", failure.text);
    };
    let open = |options: &mut OpenOptions| OwnedFd::from(options.open(file.path()).expect("opens"));
    refused(
        &open(OpenOptions::new().read(true)),
        both,
        Errno::ACCESS,
        "not opened for writing",
    );
    refused(
        &open(OpenOptions::new().write(true)),
        both,
        Errno::ACCESS,
        "not opened for reading",
    );
    refused(
        &open(OpenOptions::new().read(true).append(true)),
        both,
        Errno::INVAL,
        "O_APPEND",
    );
    let (end, _other) = std::io::pipe().expect("a pipe");
    refused(&end.into(), QUIRE_OPEN_READ, Errno::OPNOTSUPP, "a fifo");
}

#[test]
fn a_read_only_object_cannot_be_written_or_resized() {
    let (host, file) = (host(), file(PAGE_SIZE));
    let mut object = read_only(&host, file.path()).expect("opens");
    assert_eq!(object.opened.flags, QUIRE_OBJECT_READ_ONLY);
    let answer = object.put(0, &[1; 10]);
    assert_eq!(
        (answer.status, answer.pages[0].status),
        (negated(Errno::BADF), negated(Errno::BADF))
    );
    assert!(answer.text.contains("opened for reading only"), "{}", answer.text);
    assert_eq!(object.resize(1).expect_err("refused").status, negated(Errno::BADF));
    assert_eq!(object.sync(), Ok(()));
    assert!(fs::read(file.path()).expect("reads") == bytes(PAGE_SIZE));
}

#[test]
fn what_cannot_be_paged_is_refused_with_a_sentence() {
    let host = host();
    let folder = TempDir::new().expect("a folder");
    let fifo = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).expect("a fifo");
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).expect("a socket");
    std::os::unix::fs::symlink("loop", folder.path().join("loop")).expect("a link");
    for (path, errno, part) in [
        (folder.path().to_owned(), Errno::ISDIR, "it is a directory"),
        (fifo, Errno::OPNOTSUPP, "it is a fifo"),
        (folder.path().join("socket"), Errno::OPNOTSUPP, "it is a socket"),
        (folder.path().join("loop"), Errno::LOOP, "stat: Too many levels"),
        (
            folder.path().join("missing"),
            Errno::NOENT,
            "stat: No such file or directory",
        ),
        ("/dev/full".into(), Errno::OPNOTSUPP, "it is a character device"),
    ] {
        let failure = host.open(text(&path)).expect_err(part);
        assert_eq!(failure.status, negated(errno), "{failure}");
        assert!(
            failure
                .text
                .starts_with(&format!("vnode: open: {}: {part}", path.display())),
            "{}",
            failure.text
        );
    }
    let failure = host.open_with(None, -1, QUIRE_OPEN_READ).expect_err("nothing named");
    assert_eq!(failure.status, QUIRE_PAGER_INVALID);
}

#[test]
fn an_unreadable_file_is_refused() {
    if rustix::process::geteuid().is_root() {
        return println!("could not run, because the superuser may read every file");
    }
    let (host, file) = (host(), file(10));
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o000)).expect("chmod");
    let failure = read_only(&host, file.path()).expect_err("unreadable");
    assert_eq!(failure.status, negated(Errno::ACCESS));
    assert!(failure.text.contains("open: Permission denied"), "{}", failure.text);
}

#[test]
fn resize_and_size_follow_the_file() {
    let (host, file) = (host(), file(100));
    let mut object = host.open(text(file.path())).expect("opens");
    object.resize(3 * PAGE + 1).expect("grows");
    assert_eq!(object.size(), Ok(3 * PAGE + 1));
    assert_eq!(statuses(&object.get(0, 4)), [0; 4]);
    object.resize(5).expect("shrinks");
    assert_eq!(fs::read(file.path()).expect("reads"), bytes(5));
    file.as_file().set_len(77).expect("grows");
    assert_eq!(object.size(), Ok(77));
    assert_eq!(
        object.resize(u64::MAX).expect_err("too large").status,
        negated(Errno::INVAL)
    );
}

#[test]
fn has_page_counts_the_pages_around() {
    let (host, file) = (host(), file(4 * PAGE_SIZE + 1));
    let object = host.open(text(file.path())).expect("opens");
    assert_eq!(
        object.has_page(1),
        Ok(Some(quire_pager::Extent { before: 1, after: 3 }))
    );
    assert_eq!(
        object.has_page(4),
        Ok(Some(quire_pager::Extent { before: 4, after: 0 }))
    );
    assert_eq!(object.has_page(5), Ok(None));
}

#[test]
fn a_block_device_is_read_and_has_the_systems_size() {
    let host = host();
    let mut reasons = Vec::new();
    for entry in fs::read_dir("/sys/class/block").into_iter().flatten().flatten() {
        let path = Path::new("/dev").join(entry.file_name());
        let sectors = fs::read_to_string(entry.path().join("size")).unwrap_or_default();
        let size = sectors.trim().parse::<u64>().unwrap_or(0) * 512;
        let object = match (size, read_only(&host, &path)) {
            (0, _) => continue,
            (_, Err(failure)) => {
                reasons.push(failure.text);
                continue;
            }
            (_, Ok(object)) => object,
        };
        assert_eq!(object.opened.size, size);
        assert_eq!(object.opened.identity, [fs::metadata(&path).expect("stat").rdev(), 0]);
        let mut expected = vec![0; PAGE_SIZE];
        File::open(&path)
            .expect("opens")
            .read_exact_at(&mut expected, 0)
            .expect("reads");
        let answer = object.get(0, 1);
        assert_eq!(answer.status, QUIRE_PAGER_OK, "{}", answer.text);
        assert!(answer.pages[0].bytes == expected);
        return;
    }
    println!("could not run, because no block device can be opened: {reasons:?}");
}
