//! Work that the kernel is not to hear of: it is done in a child process that the kernel kills at its first system call.

#![allow(unreachable_pub, reason = "a module of a test")]

/// What became of the child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sealed {
    /// It did its work without a system call; what the work answered.
    Done(bool),
    /// It made one, and was killed.
    Killed,
}

/// Does `work` in a child that may call nothing but read, write and exit. The child is a copy of the calling thread alone: what other threads hold it waits for
/// in vain. So the work may use what the test made, and must not allocate.
pub fn sealed(work: impl FnOnce() -> bool) -> Sealed {
    // SAFETY: the child runs `work`, which by contract needs nothing of other threads, and ends without unwinding into the harness.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child: {}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: constants only; it changes what this process may do, and nothing in memory.
        let is_sealed = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) } == 0;
        let code = if !is_sealed { 2 } else { i32::from(!work()) };
        // SAFETY: ends the child, whose only thread this is. `_exit` would end it by another call, which is not allowed.
        unsafe { libc::syscall(libc::SYS_exit, code) };
        unreachable!("the child has ended");
    }
    let mut status = 0;
    // SAFETY: `status` is ours for the call, and the child is, too.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    if libc::WIFSIGNALED(status) {
        assert_eq!(libc::WTERMSIG(status), libc::SIGKILL, "what the kernel kills with");
        return Sealed::Killed;
    }
    let code = libc::WEXITSTATUS(status);
    assert_ne!(code, 2, "this kernel has no seccomp: prctl failed");
    Sealed::Done(code == 0)
}
