//! Processes with fewer rights than ours, and what the probe says there.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;

use super::*;

/// Runs `prepare` and then the probe in a forked child, and answers the route found or the sentence.
fn probed_after(prepare: fn()) -> String {
    let (reader, mut writer) = std::io::pipe().expect("a pipe is made");
    let _one = crate::sys::tests::FORKS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: the child allocates, which the C library permits after a fork, takes no lock of this process otherwise, and
    // ends with `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        prepare();
        let said = match Support::probe() {
            Ok(support) => {
                let limits = support.limits().unwrap_or(c"no limits").to_string_lossy();
                format!("{:?}: {limits}", support.route)
            }
            Err(error) => error.to_string(),
        };
        let written = writer.write_all(said.as_bytes());
        // SAFETY: ends the child without the parent's exit handlers.
        unsafe { libc::_exit(i32::from(written.is_err())) };
    }
    drop(writer);
    let mut said = String::new();
    (&reader).read_to_string(&mut said).expect("the child's answer is read");
    // SAFETY: our child, whose status we do not ask for.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
    said
}

/// From now on, every way to a userfaultfd is answered with this error.
fn forbid_userfaultfd(with: i32) {
    const NUMBER: u32 = 0;
    const SECOND_ARGUMENT: u32 = 24;
    const IOC_NEW: u32 = 0xAA00;
    let code = |bits: u32| u16::try_from(bits).expect("a BPF code has 16 bits");
    let number = |call: i64| u32::try_from(call).expect("a system call's number is small");
    let load = |at| libc::sock_filter {
        code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS),
        jt: 0,
        jf: 0,
        k: at,
    };
    let skip_unless = |k, jf| libc::sock_filter {
        code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
        jt: 0,
        jf,
        k,
    };
    let answer = |k| libc::sock_filter {
        code: code(libc::BPF_RET | libc::BPF_K),
        jt: 0,
        jf: 0,
        k,
    };
    let refuse = answer(libc::SECCOMP_RET_ERRNO | u32::try_from(with).expect("errors are positive"));
    let mut filter = [
        load(NUMBER),
        skip_unless(number(libc::SYS_userfaultfd), 1),
        refuse,
        skip_unless(number(libc::SYS_ioctl), 3),
        load(SECOND_ARGUMENT),
        skip_unless(IOC_NEW, 1),
        refuse,
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 8,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program is a valid one and lives through the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            0
        );
    }
}

/// Gives up every privilege; only root can.
fn become_nobody() {
    const NOBODY: u32 = 65534;
    // SAFETY: changes this process only, which is a child with one thread.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(NOBODY, NOBODY, NOBODY), 0);
        assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0);
    }
}

fn become_dumpable_nobody() {
    become_nobody();
    // SAFETY: as above.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
}

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        writeln!(std::io::stderr(), "NOT TESTED: {name}: only root can become nobody").expect("stderr is written");
    }
    root
}

#[test]
fn the_probe_answers_what_is_to_be_had_or_a_sentence() {
    match Support::probe() {
        Ok(support) => assert!(NEEDED.iter().all(|(feature, ..)| support.features.contains(*feature))),
        Err(error) if std::env::var_os("QUIRE_WITHOUT_USERFAULTFD").is_some() => {
            writeln!(std::io::stderr(), "NOT TESTED: {error}").expect("stderr is written");
        }
        Err(error) => panic!("{error}. QUIRE_WITHOUT_USERFAULTFD=1 goes on without"),
    }
}

#[test]
fn a_seccomp_filter_that_refuses_userfaultfd_is_named() {
    for forbid in [|| forbid_userfaultfd(libc::EPERM), || forbid_userfaultfd(libc::ENOSYS)] as [fn(); 2] {
        let said = probed_after(forbid);
        assert!(
            said.starts_with("userfaultfd is refused to this process by a seccomp filter"),
            "{said}"
        );
        assert!(said.contains("let the system call userfaultfd through"), "{said}");
    }
}

#[test]
fn nobody_gets_what_the_device_and_the_sysctl_allow() {
    if !root() {
        return;
    }
    let device = std::fs::metadata("/dev/userfaultfd").is_ok_and(|device| device.mode() & 0o006 == 0o006);
    let sysctl = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").unwrap_or_default();
    let expected = match (device, sysctl.trim()) {
        (true, _) => "Device: no limits",
        (false, "1") => "Syscall: no limits",
        (false, "0") => "UserModeOnly: only faults of the program itself",
        (false, _) => "this kernel",
    };
    let said = probed_after(become_dumpable_nobody);
    assert!(said.starts_with(expected), "{expected}, not {said}");
}

#[test]
fn a_process_that_may_not_see_its_own_page_tables_is_told_how() {
    if !root() {
        return;
    }
    let said = probed_after(become_nobody);
    assert!(
        said.starts_with("/proc/self/pagemap cannot be read (Permission denied"),
        "{said}"
    );
    assert!(said.contains("PR_SET_DUMPABLE"), "{said}");
}

#[test]
fn a_kernel_that_lacks_a_feature_is_told_with_the_version_to_run() {
    assert_eq!(lacking(Features::all()), None);
    assert_eq!(
        lacking(Features::all() - Features::WP_UNPOPULATED - Features::MINOR_SHMEM),
        Some(("WP_UNPOPULATED", "6.4"))
    );
    let error = Unsupported::TooOld {
        release: "6.1.0".to_owned(),
        feature: "WP_ASYNC",
        version: "6.7",
    };
    let said = error.to_string();
    assert!(
        said.starts_with("this kernel (6.1.0) lacks WP_ASYNC, which Linux has from 6.7 on"),
        "{said}"
    );
}

#[test]
fn each_way_of_being_refused_has_its_own_sentence() {
    let refused = |user_mode_only| Refused {
        device: Errno::NOENT,
        syscall: Errno::PERM,
        user_mode_only,
    };
    assert!(matches!(
        why_refused(refused(Errno::INVAL)),
        Unsupported::Privileged { .. }
    ));
    assert!(matches!(
        why_refused(refused(Errno::PERM)),
        Unsupported::Forbidden { .. }
    ));
    let full = why_refused(refused(Errno::MFILE));
    assert!(full.to_string().contains("Too many open files"), "{full}");
}
