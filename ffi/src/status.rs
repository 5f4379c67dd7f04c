//! Status numbers. 0 is success and every error is negative. A number, once given, keeps its meaning.

use std::ffi::c_char;

use quire_abi::status as pager;

macro_rules! names {
    ($($name:ident),* $(,)?) => {
        &[$(($name, concat!(stringify!($name), "\0"))),*]
    };
}

/// Done.
pub const QUIRE_OK: i32 = 0;
/// An argument makes no sense; nothing was changed.
pub const QUIRE_ERR_INVALID: i32 = -1;
/// A handle is NULL, closed, of another kind, or no handle at all; nothing was changed.
pub const QUIRE_ERR_HANDLE: i32 = -2;
/// Memory could not be had.
pub const QUIRE_ERR_NOMEM: i32 = -3;
/// The range, or a part of it, is not mapped; nothing was changed.
pub const QUIRE_ERR_NOT_MAPPED: i32 = -4;
/// The protection asked for is above the mapping's maximum; nothing was changed.
pub const QUIRE_ERR_ABOVE_MAXIMUM: i32 = -5;
/// Something is mapped in the range already, and it was asked not to replace it; or there is a page in memory at that index already.
pub const QUIRE_ERR_OCCUPIED: i32 = -6;
/// No free range of that length is left in the map.
pub const QUIRE_ERR_NO_SPACE: i32 = -7;
/// The pager answered an error; `quire_last_errno` has its number, if it gave one.
pub const QUIRE_ERR_PAGER: i32 = -8;
/// Dirty pages could not be written. They are kept, dirty.
pub const QUIRE_ERR_WRITE_BACK: i32 = -9;
/// The object takes no more requests, because its pager broke its contract.
pub const QUIRE_ERR_QUARANTINED: i32 = -10;
/// What was asked to end, or to change, is still in use; nothing was changed.
pub const QUIRE_ERR_IN_USE: i32 = -11;
/// This machine, pager or object cannot do that.
pub const QUIRE_ERR_UNSUPPORTED: i32 = -12;
/// There is no such thing: no pager plugin of that name, no page in memory at that index.
pub const QUIRE_ERR_NOT_FOUND: i32 = -13;
/// A bug in Quire: a panic was caught. What the call worked on should not be used further.
pub const QUIRE_ERR_PANIC: i32 = -14;
/// The page was freed since its handle was given; look it up again.
pub const QUIRE_ERR_STALE: i32 = -15;
/// The rules for pages were broken: one is not busied in the mode that the call needs, say. Nothing was changed.
pub const QUIRE_ERR_MISUSE: i32 = -16;
/// The page is busied by others, or would have to be waited for, and the caller asked not to wait.
pub const QUIRE_ERR_BUSY: i32 = -17;

/// A plugin is refused: the name can be neither a plugin's nor a path.
pub const QUIRE_ERR_LOAD_NAME: i32 = -32;
/// A plugin is refused: the file cannot be read.
pub const QUIRE_ERR_LOAD_UNREADABLE: i32 = -33;
/// A plugin is refused: a directory, a pipe, a device.
pub const QUIRE_ERR_LOAD_NOT_REGULAR: i32 = -34;
/// A plugin is refused: not an ELF file.
pub const QUIRE_ERR_LOAD_NOT_ELF: i32 = -35;
/// A plugin is refused: an ELF file, but not a shared library.
pub const QUIRE_ERR_LOAD_NOT_LIBRARY: i32 = -36;
/// A plugin is refused: built for another machine.
pub const QUIRE_ERR_LOAD_MACHINE: i32 = -37;
/// A plugin is refused: the file is shorter than its own headers say.
pub const QUIRE_ERR_LOAD_TRUNCATED: i32 = -38;
/// A plugin is refused: its ELF headers contradict themselves.
pub const QUIRE_ERR_LOAD_DAMAGED: i32 = -39;
/// A plugin is refused: a shared library without `quire_pager_entry`.
pub const QUIRE_ERR_LOAD_NO_ENTRY: i32 = -40;
/// A plugin is refused: by the dynamic linker.
pub const QUIRE_ERR_LOAD_LINKER: i32 = -41;
/// A plugin is refused: it refuses this host itself.
pub const QUIRE_ERR_LOAD_REFUSES_HOST: i32 = -42;
/// A plugin is refused: its table does not begin as one.
pub const QUIRE_ERR_LOAD_MAGIC: i32 = -43;
/// A plugin is refused: built for another version of the plugin ABI.
pub const QUIRE_ERR_LOAD_VERSION: i32 = -44;
/// A plugin is refused: its table is too small.
pub const QUIRE_ERR_LOAD_SIZE: i32 = -45;
/// A plugin is refused: something in its table is not as the header demands.
pub const QUIRE_ERR_LOAD_MODULE: i32 = -46;
/// A plugin is refused: a Rust plugin whose types are laid out differently.
pub const QUIRE_ERR_LOAD_LAYOUT: i32 = -47;
/// A plugin is refused: a mandatory operation is missing.
pub const QUIRE_ERR_LOAD_OPERATION: i32 = -48;
/// A plugin is refused: its `init` answered an error.
pub const QUIRE_ERR_LOAD_INIT: i32 = -49;

/// An access failed: nothing is mapped at the address. To a program: SIGSEGV with SEGV_MAPERR.
pub const QUIRE_FAULT_SEGV_MAPERR: i32 = -64;
/// An access failed: the mapping does not allow it. To a program: SIGSEGV with SEGV_ACCERR.
pub const QUIRE_FAULT_SEGV_ACCERR: i32 = -65;
/// An access failed: the object ends before the address. To a program: SIGBUS with BUS_OBJERR.
pub const QUIRE_FAULT_BUS_OBJERR: i32 = -66;
/// An access failed: the pager could not bring the page, or refused to have it written. To a program: SIGBUS with BUS_OBJERR.
pub const QUIRE_FAULT_PAGER: i32 = -67;
/// An access failed: the object takes no more faults. To a program: SIGBUS with BUS_OBJERR.
pub const QUIRE_FAULT_QUARANTINED: i32 = -68;
/// An access failed: no memory, and none could be freed. To a program: SIGBUS.
pub const QUIRE_FAULT_NOMEM: i32 = -69;
/// An access failed: the object was terminated. To a program: SIGBUS with BUS_OBJERR.
pub const QUIRE_FAULT_TERMINATED: i32 = -70;
/// An access failed: the engine's `fault_timeout` is over, and the pager still has the request. To a program: SIGBUS with
/// BUS_OBJERR. Try again later.
pub const QUIRE_FAULT_TIMEDOUT: i32 = -71;
/// An access failed: the map is interrupt-safe, and the page was not wired. No lock was taken. A defect of whoever made the access: a
/// kernel stops. To a program: SIGBUS.
pub const QUIRE_FAULT_INTERRUPT_SAFE: i32 = -72;
/// An access failed: the object's pager has taken it back for good; its device is gone. To a program: SIGBUS with BUS_OBJERR.
pub const QUIRE_FAULT_REVOKED: i32 = -73;

/// An access failed: the page is memory of a device, which the machine cannot show there, or which is written and can only be read. To a
/// program: SIGBUS with BUS_OBJERR; for a write to what is mapped to be read, SIGSEGV with SEGV_ACCERR.
pub const QUIRE_FAULT_DEVICE: i32 = -74;

/// Every status and its name, with a terminating zero.
const NAMES: &[(i32, &str)] = names![
    QUIRE_OK,
    QUIRE_ERR_INVALID,
    QUIRE_ERR_HANDLE,
    QUIRE_ERR_NOMEM,
    QUIRE_ERR_NOT_MAPPED,
    QUIRE_ERR_ABOVE_MAXIMUM,
    QUIRE_ERR_OCCUPIED,
    QUIRE_ERR_NO_SPACE,
    QUIRE_ERR_PAGER,
    QUIRE_ERR_WRITE_BACK,
    QUIRE_ERR_QUARANTINED,
    QUIRE_ERR_IN_USE,
    QUIRE_ERR_UNSUPPORTED,
    QUIRE_ERR_NOT_FOUND,
    QUIRE_ERR_PANIC,
    QUIRE_ERR_STALE,
    QUIRE_ERR_MISUSE,
    QUIRE_ERR_BUSY,
    QUIRE_ERR_LOAD_NAME,
    QUIRE_ERR_LOAD_UNREADABLE,
    QUIRE_ERR_LOAD_NOT_REGULAR,
    QUIRE_ERR_LOAD_NOT_ELF,
    QUIRE_ERR_LOAD_NOT_LIBRARY,
    QUIRE_ERR_LOAD_MACHINE,
    QUIRE_ERR_LOAD_TRUNCATED,
    QUIRE_ERR_LOAD_DAMAGED,
    QUIRE_ERR_LOAD_NO_ENTRY,
    QUIRE_ERR_LOAD_LINKER,
    QUIRE_ERR_LOAD_REFUSES_HOST,
    QUIRE_ERR_LOAD_MAGIC,
    QUIRE_ERR_LOAD_VERSION,
    QUIRE_ERR_LOAD_SIZE,
    QUIRE_ERR_LOAD_MODULE,
    QUIRE_ERR_LOAD_LAYOUT,
    QUIRE_ERR_LOAD_OPERATION,
    QUIRE_ERR_LOAD_INIT,
    QUIRE_FAULT_SEGV_MAPERR,
    QUIRE_FAULT_SEGV_ACCERR,
    QUIRE_FAULT_BUS_OBJERR,
    QUIRE_FAULT_PAGER,
    QUIRE_FAULT_QUARANTINED,
    QUIRE_FAULT_NOMEM,
    QUIRE_FAULT_TERMINATED,
    QUIRE_FAULT_TIMEDOUT,
    QUIRE_FAULT_INTERRUPT_SAFE,
    QUIRE_FAULT_REVOKED,
    QUIRE_FAULT_DEVICE,
];

/// The name of a status, such as "QUIRE_ERR_INVALID"; "QUIRE_?" for a number that is none. Static text; never fails.
#[unsafe(no_mangle)]
pub extern "C" fn quire_status_name(status: i32) -> *const c_char {
    let name = NAMES.iter().find(|(number, _)| *number == status);
    name.map_or(c"QUIRE_?".as_ptr(), |(_, name)| name.as_ptr().cast())
}

/// The `errno` value that a pager's status stands for: 0 for `QUIRE_PAGER_OK` and `QUIRE_PAGER_PEND` (started, and
/// the caller owes nothing), EIO for ERROR, EAGAIN for AGAIN, EBUSY for UNLOCK, ERESTART (85) for REFAULT; a negated
/// `errno` value is turned round. `QUIRE_PAGER_BAD` and `QUIRE_PAGER_FAIL` have none in the tables this follows and
/// give EFAULT and ENOENT, so that no error reads as success. Quire's own: EOPNOTSUPP for UNSUPPORTED, EINVAL for
/// INVALID, ENOMEM for NOMEM, ECANCELED for CANCELLED. All other numbers: EPROTO. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn quire_pager_errno(status: i32) -> i32 {
    match status {
        pager::QUIRE_PAGER_OK | pager::QUIRE_PAGER_PEND => 0,
        pager::QUIRE_PAGER_BAD => libc::EFAULT,
        pager::QUIRE_PAGER_FAIL => libc::ENOENT,
        pager::QUIRE_PAGER_ERROR => libc::EIO,
        pager::QUIRE_PAGER_AGAIN => libc::EAGAIN,
        pager::QUIRE_PAGER_UNLOCK => libc::EBUSY,
        pager::QUIRE_PAGER_REFAULT => libc::ERESTART,
        pager::QUIRE_PAGER_UNSUPPORTED => libc::EOPNOTSUPP,
        pager::QUIRE_PAGER_INVALID => libc::EINVAL,
        pager::QUIRE_PAGER_NOMEM => libc::ENOMEM,
        pager::QUIRE_PAGER_CANCELLED => libc::ECANCELED,
        pager::QUIRE_PAGER_ERRNO_MIN..=-1 => -status,
        _ => libc::EPROTO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_number_and_one_name() {
        for (i, (number, name)) in NAMES.iter().enumerate() {
            assert!(
                NAMES[..i].iter().all(|(n, other)| n != number && other != name),
                "{name}"
            );
        }
        let declared = include_str!("status.rs")
            .lines()
            .filter(|l| l.starts_with("pub const QUIRE_"))
            .count();
        assert_eq!(NAMES.len(), declared);
    }

    #[test]
    fn s171_to_s178_pager_statuses_as_errno_values() {
        assert_eq!(quire_pager_errno(pager::QUIRE_PAGER_OK), 0);
        assert_eq!(quire_pager_errno(pager::QUIRE_PAGER_PEND), 0);
        assert_eq!(quire_pager_errno(pager::QUIRE_PAGER_ERROR), libc::EIO);
        assert_eq!(quire_pager_errno(pager::QUIRE_PAGER_AGAIN), libc::EAGAIN);
        assert_eq!(quire_pager_errno(pager::QUIRE_PAGER_UNLOCK), libc::EBUSY);
        assert_eq!(quire_pager_errno(pager::QUIRE_PAGER_REFAULT), libc::ERESTART);
        assert_eq!(quire_pager_errno(-libc::ENOSPC), libc::ENOSPC);
        assert_ne!(quire_pager_errno(pager::QUIRE_PAGER_BAD), 0);
        assert_ne!(quire_pager_errno(pager::QUIRE_PAGER_FAIL), 0);
    }
}
