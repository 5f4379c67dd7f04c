//! Sizes and offsets of every struct that crosses the border, as they are on a 64-bit machine.
//!
//! One table, used three times: the compiler checks it here, `quire-headers` writes it into `tests/c/golden.c` as
//! `_Static_assert`s on the C names, and a C compiler checks it there. A change that moves a member fails both builds.

/// A struct of the ABI.
pub trait Described {
    /// What is known of it.
    const GOLDEN: Golden;
}

/// What is known of one struct.
#[derive(Debug, Clone, Copy)]
pub struct Golden {
    /// Its name in C, after `struct`.
    pub c_name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Its members and their offsets in bytes, in order.
    pub members: &'static [(&'static str, usize)],
}

impl Golden {
    /// The member that a struct of `size` bytes has a part of; nothing when it ends between members, or beyond the last.
    #[must_use]
    pub fn cut_member(&self, size: usize) -> Option<&'static str> {
        let at = self.members.iter().rposition(|(_, offset)| *offset < size)?;
        let end = self.members.get(at + 1).map_or(self.size, |(_, offset)| *offset);
        (size < end).then(|| self.members[at].0)
    }
}

macro_rules! golden {
    ($($name:ident = $c_name:literal, $size:literal { $($member:ident: $offset:literal),* $(,)? })*) => {
        $(
            #[cfg(target_pointer_width = "64")]
            const _: () = {
                use core::mem::{offset_of, size_of};
                assert!(size_of::<crate::$name>() == $size);
                $(assert!(offset_of!(crate::$name, $member) == $offset);)*
                // No member is missing from the table: a struct pattern without `..` names them all.
                #[allow(dead_code, reason = "only its pattern matters")]
                fn complete(value: crate::$name) {
                    let crate::$name { $($member: _),* } = value;
                }
            };
        )*
        $(
            impl Described for crate::$name {
                const GOLDEN: Golden = Golden {
                    c_name: $c_name, size: $size, members: &[$((stringify!($member), $offset)),*]
                };
            }
        )*
        /// Every struct of the ABI.
        pub const STRUCTS: &[Golden] = &[
            $(<crate::$name as Described>::GOLDEN),*
        ];
    };
}

golden! {
    Module = "quire_pager_module", 208 {
        magic: 0, abi_version: 4, struct_size: 8, thread_model: 12, caps: 16, name: 24, version: 32, description: 40,
        init: 48, fini: 56, open: 64, close: 72, get: 80, put: 88, has_page: 96, populate: 104, get_size: 112,
        resize: 120, sync: 128, prepare_write: 136, cancel: 144, reserve: 152, free_space: 160, page_inserted: 168,
        page_removed: 176, path: 184, get_extension: 192, get_change: 200,
    }
    HostApi = "quire_pager_host_api", 160 {
        abi_version: 0, struct_size: 4, host: 8, page_size: 16, reserved: 20, log: 24, set_error: 32, complete: 40,
        get_extension: 48, page_insert: 56, page_ready: 64, page_take: 72, frame_insert: 80, aperture_add: 88,
        aperture_remove: 96, revoke: 104, pages: 112, page_lookup: 120, page_grab: 128, page_move: 136, object_lock: 144,
        object_unlock: 152,
    }
    PageApi = "quire_page_api", 256 {
        struct_size: 0, reserved: 4, busied: 8, xbusied: 16, sbusied: 24, tryxbusy: 32, trysbusy: 40, xbusy: 48, sbusy: 56, xunbusy: 64, sunbusy: 72, busy_downgrade: 80, busy_tryupgrade: 88, busy_sleep: 96, sleep_if_busy: 104, assert_sbusied: 112, assert_unbusied: 120, assert_xbusied: 128, is_valid: 136, set_valid: 144, is_dirty: 152, set_dirty: 160, set_clean: 168, wire: 176, unwire: 184, wire_count: 192, hold: 200, unhold: 208, read: 216, write: 224, place: 232, remove: 240, free: 248,
    }
    Aperture = "quire_aperture", 40 {
        struct_size: 0, cache: 4, memory: 8, length: 16, fd: 24, reserved: 28, offset: 32,
    }
    OpenArgs = "quire_pager_open_args", 56 {
        struct_size: 0, flags: 4, token: 8, name: 16, fd: 24, page_size: 28, driver: 32, host_object: 40, host: 48,
    }
    OpenResult = "quire_pager_open_result", 64 {
        struct_size: 0, flags: 4, object: 8, identity: 16, size: 32, granule: 40, max_run: 44, change: 48,
    }
    IoPage = "quire_pager_io_page", 16 { bytes: 0, status: 8, reserved: 12 }
    Io = "quire_pager_io", 56 {
        struct_size: 0, flags: 4, token: 8, first: 16, count: 24, required: 28, page_size: 32, page_stride: 36,
        object_size: 40, pages: 48,
    }
    Extent = "quire_pager_extent", 12 { struct_size: 0, before: 4, after: 8 }
    Populate = "quire_pager_populate", 64 {
        struct_size: 0, flags: 4, token: 8, index: 16, first: 24, last: 32, access: 40, max_prot: 44, page_size: 48,
        reserved: 52, host: 56,
    }
    Driver = "quire_driver", 64 {
        struct_size: 0, kind: 4, ctor: 8, dtor: 16, fault: 24, populate: 32, put: 40, path: 48, sync: 56,
    }
    DriverHandle = "quire_driver_handle", 32 { struct_size: 0, reserved: 4, table: 8, ctx: 16, name: 24 }
    DriverFault = "quire_driver_fault", 64 {
        struct_size: 0, flags: 4, token: 8, index: 16, bytes: 24, aperture: 32, offset: 40, page_size: 48, access: 52,
        host: 56,
    }
}
