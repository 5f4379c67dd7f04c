//! Which engine a module has, its threads, and what configuration it takes.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use quire_pager::abi::QUIRE_PAGER_INVALID;
use quire_pager::testing::TestHost;

/// The threads of this process that the pager started.
fn pager_threads() -> BTreeSet<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("has tasks");
    let ids = tasks.map(|task| task.expect("a task").path());
    // A thread may end while we look.
    let named =
        ids.filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("quire-vnode")));
    named.map(|path| path.display().to_string()).collect()
}

/// Waits until there are so many: a new thread names itself, and the system forgets one just after its end is known.
fn pager_threads_become(count: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while pager_threads().len() != count {
        assert!(Instant::now() < deadline, "not {count}: {:?}", pager_threads());
        std::thread::yield_now();
    }
}

/// Whether a thread, given by its folder in /proc, has a signal blocked.
fn blocks(thread: &str, signal: i32) -> bool {
    let status = fs::read_to_string(format!("{thread}/status")).expect("the thread is there");
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigBlk:"))
        .expect("a mask");
    u64::from_str_radix(mask.trim(), 16).expect("a number") & (1 << (signal - 1)) != 0
}

/// Makes the system refuse `call`, with `errno`, to this thread and those it starts.
fn refuse(call: libc::c_long, errno: i32) {
    let statement = |code: u16, k: u32| libc::sock_filter { code, jt: 0, jf: 0, k };
    let number = u32::try_from(call).expect("a system call's number");
    let errno = u32::try_from(errno).expect("an error's number");
    let mut program = [
        // Load the number of the system call, and skip one statement unless it is this one.
        statement(0x20, 0),
        libc::sock_filter {
            code: 0x15,
            jt: 0,
            jf: 1,
            k: number,
        },
        statement(0x06, libc::SECCOMP_RET_ERRNO | errno),
        statement(0x06, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: 4,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the filter is valid and copied; it concerns this thread, which refuses itself one system call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter),
            0
        );
    }
}

/// In a thread that has no io_uring, the module has threads, says why, and moves bytes; told to use a ring, it refuses.
fn a_kernel_that_refuses_the_ring_gets_threads(call: libc::c_long, errno: i32) {
    let body = move || {
        refuse(call, errno);
        let why = std::io::Error::from_raw_os_error(errno);
        let host = load(Some("threads=2,later=1"));
        let expected = [
            format!("vnode: no io_uring, so threads: io_uring: {why}"),
            "vnode: I/O is 2 threads, up to 128 requests in flight".to_owned(),
        ];
        assert_eq!(host.log_lines(), expected);
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.as_file().set_len(10).expect("grows");
        let object = host.open(file.path().to_str().expect("UTF-8")).expect("opens");
        let answer = object.put(0, &[7; 10]);
        assert!(answer.status == 0 && answer.pended);
        assert_eq!(fs::read(file.path()).expect("reads"), [7; 10]);
        let failure = TestHost::load(quire_pager_vnode::module(), Some("io=uring")).expect_err("refused");
        let expected =
            format!("vnode: init: io=uring cannot be had; use io=auto, io=threads or io=sync: io_uring: {why}");
        assert_eq!((failure.status, failure.text), (-errno, expected));
    };
    std::thread::spawn(body).join().expect("no assertion failed");
    pager_threads_become(0);
}

fn load(config: Option<&str>) -> TestHost {
    TestHost::load(quire_pager_vnode::module(), config).expect("loads")
}

/// One test, because it counts the threads of the process.
#[test]
fn threads_live_from_init_to_fini_and_the_log_says_which_engine_the_kernel_allowed() {
    assert_eq!(pager_threads().len(), 0);
    for (config, count, line) in [
        (Some("io=sync"), 0, "vnode: I/O is synchronous"),
        (
            Some("io=threads,threads=3,depth=5"),
            3,
            "vnode: I/O is 3 threads, up to 5 requests in flight",
        ),
    ] {
        let host = load(config);
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        drop(host.open(file.path().to_str().expect("UTF-8")).expect("opens"));
        pager_threads_become(count);
        assert_eq!(host.log_lines(), [line]);
        drop(host);
        pager_threads_become(0);
    }
    let host = load(None);
    let lines = host.log_lines();
    let ring = lines == ["vnode: I/O is io_uring, up to 128 requests in flight"];
    if !ring {
        println!("the kernel refuses io_uring: {lines:?}");
        assert!(lines[0].starts_with("vnode: no io_uring, so threads: "));
        assert_eq!(lines[1], "vnode: I/O is 16 threads, up to 128 requests in flight");
    }
    pager_threads_become(if ring { 1 } else { 16 });
    for thread in pager_threads() {
        assert!(blocks(&thread, libc::SIGUSR1) && blocks(&thread, libc::SIGALRM));
        assert!(!blocks(&thread, libc::SIGBUS));
    }
    drop(host);
    pager_threads_become(0);

    a_kernel_that_refuses_the_ring_gets_threads(libc::SYS_io_uring_setup, libc::EPERM);
    a_kernel_that_refuses_the_ring_gets_threads(libc::SYS_io_uring_setup, libc::ENOSYS);
    a_kernel_that_refuses_the_ring_gets_threads(libc::SYS_io_uring_enter, libc::EPERM);

    let failure = TestHost::load(quire_pager_vnode::module(), Some("io=quick")).expect_err("refused");
    assert_eq!(failure.status, QUIRE_PAGER_INVALID);
    assert_eq!(
        failure.text,
        "vnode: init: `io=quick` in the configuration; io is auto, uring, threads or sync"
    );
    assert_eq!(pager_threads().len(), 0);
}
