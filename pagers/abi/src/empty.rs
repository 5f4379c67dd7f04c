//! A module without anything: what the tables that Rust writes begin from.

use core::ptr;

use crate::{Module, QUIRE_PAGER_ABI_VERSION, QUIRE_PAGER_MAGIC, QUIRE_THREADS_SERIALIZE_ALL};

impl Module {
    /// A table of this version with no name and no operation, to be filled in with `..Module::EMPTY`.
    pub const EMPTY: Self = Self {
        magic: QUIRE_PAGER_MAGIC,
        abi_version: QUIRE_PAGER_ABI_VERSION,
        struct_size: SIZE,
        thread_model: QUIRE_THREADS_SERIALIZE_ALL,
        caps: 0,
        name: ptr::null(),
        version: ptr::null(),
        description: ptr::null(),
        init: None,
        fini: None,
        open: None,
        close: None,
        get: None,
        put: None,
        has_page: None,
        populate: None,
        get_size: None,
        resize: None,
        sync: None,
        prepare_write: None,
        cancel: None,
        reserve: None,
        free_space: None,
        page_inserted: None,
        page_removed: None,
        path: None,
        get_extension: None,
        get_change: None,
    };
}

#[allow(clippy::cast_possible_truncation, reason = "some hundreds of bytes")]
const SIZE: u32 = size_of::<Module>() as u32;
