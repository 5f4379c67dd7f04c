/* Sizes and offsets of the plugin ABI on a 64-bit machine. Generated from pagers/abi/src/golden.rs; do not edit. */
#include "quire_pager.h"

#define SIZE(type, size) _Static_assert(sizeof(struct type) == (size), "size of " #type)
#define OFFSET(type, member, at) \
    _Static_assert(offsetof(struct type, member) == (at), "offset of " #type "." #member)

SIZE(quire_pager_module, 208);
OFFSET(quire_pager_module, magic, 0);
OFFSET(quire_pager_module, abi_version, 4);
OFFSET(quire_pager_module, struct_size, 8);
OFFSET(quire_pager_module, thread_model, 12);
OFFSET(quire_pager_module, caps, 16);
OFFSET(quire_pager_module, name, 24);
OFFSET(quire_pager_module, version, 32);
OFFSET(quire_pager_module, description, 40);
OFFSET(quire_pager_module, init, 48);
OFFSET(quire_pager_module, fini, 56);
OFFSET(quire_pager_module, open, 64);
OFFSET(quire_pager_module, close, 72);
OFFSET(quire_pager_module, get, 80);
OFFSET(quire_pager_module, put, 88);
OFFSET(quire_pager_module, has_page, 96);
OFFSET(quire_pager_module, populate, 104);
OFFSET(quire_pager_module, get_size, 112);
OFFSET(quire_pager_module, resize, 120);
OFFSET(quire_pager_module, sync, 128);
OFFSET(quire_pager_module, prepare_write, 136);
OFFSET(quire_pager_module, cancel, 144);
OFFSET(quire_pager_module, reserve, 152);
OFFSET(quire_pager_module, free_space, 160);
OFFSET(quire_pager_module, page_inserted, 168);
OFFSET(quire_pager_module, page_removed, 176);
OFFSET(quire_pager_module, path, 184);
OFFSET(quire_pager_module, get_extension, 192);
OFFSET(quire_pager_module, get_change, 200);

SIZE(quire_pager_host_api, 160);
OFFSET(quire_pager_host_api, abi_version, 0);
OFFSET(quire_pager_host_api, struct_size, 4);
OFFSET(quire_pager_host_api, host, 8);
OFFSET(quire_pager_host_api, page_size, 16);
OFFSET(quire_pager_host_api, reserved, 20);
OFFSET(quire_pager_host_api, log, 24);
OFFSET(quire_pager_host_api, set_error, 32);
OFFSET(quire_pager_host_api, complete, 40);
OFFSET(quire_pager_host_api, get_extension, 48);
OFFSET(quire_pager_host_api, page_insert, 56);
OFFSET(quire_pager_host_api, page_ready, 64);
OFFSET(quire_pager_host_api, page_take, 72);
OFFSET(quire_pager_host_api, frame_insert, 80);
OFFSET(quire_pager_host_api, aperture_add, 88);
OFFSET(quire_pager_host_api, aperture_remove, 96);
OFFSET(quire_pager_host_api, revoke, 104);
OFFSET(quire_pager_host_api, pages, 112);
OFFSET(quire_pager_host_api, page_lookup, 120);
OFFSET(quire_pager_host_api, page_grab, 128);
OFFSET(quire_pager_host_api, page_move, 136);
OFFSET(quire_pager_host_api, object_lock, 144);
OFFSET(quire_pager_host_api, object_unlock, 152);

SIZE(quire_page_api, 256);
OFFSET(quire_page_api, struct_size, 0);
OFFSET(quire_page_api, reserved, 4);
OFFSET(quire_page_api, busied, 8);
OFFSET(quire_page_api, xbusied, 16);
OFFSET(quire_page_api, sbusied, 24);
OFFSET(quire_page_api, tryxbusy, 32);
OFFSET(quire_page_api, trysbusy, 40);
OFFSET(quire_page_api, xbusy, 48);
OFFSET(quire_page_api, sbusy, 56);
OFFSET(quire_page_api, xunbusy, 64);
OFFSET(quire_page_api, sunbusy, 72);
OFFSET(quire_page_api, busy_downgrade, 80);
OFFSET(quire_page_api, busy_tryupgrade, 88);
OFFSET(quire_page_api, busy_sleep, 96);
OFFSET(quire_page_api, sleep_if_busy, 104);
OFFSET(quire_page_api, assert_sbusied, 112);
OFFSET(quire_page_api, assert_unbusied, 120);
OFFSET(quire_page_api, assert_xbusied, 128);
OFFSET(quire_page_api, is_valid, 136);
OFFSET(quire_page_api, set_valid, 144);
OFFSET(quire_page_api, is_dirty, 152);
OFFSET(quire_page_api, set_dirty, 160);
OFFSET(quire_page_api, set_clean, 168);
OFFSET(quire_page_api, wire, 176);
OFFSET(quire_page_api, unwire, 184);
OFFSET(quire_page_api, wire_count, 192);
OFFSET(quire_page_api, hold, 200);
OFFSET(quire_page_api, unhold, 208);
OFFSET(quire_page_api, read, 216);
OFFSET(quire_page_api, write, 224);
OFFSET(quire_page_api, place, 232);
OFFSET(quire_page_api, remove, 240);
OFFSET(quire_page_api, free, 248);

SIZE(quire_aperture, 40);
OFFSET(quire_aperture, struct_size, 0);
OFFSET(quire_aperture, cache, 4);
OFFSET(quire_aperture, memory, 8);
OFFSET(quire_aperture, length, 16);
OFFSET(quire_aperture, fd, 24);
OFFSET(quire_aperture, reserved, 28);
OFFSET(quire_aperture, offset, 32);

SIZE(quire_pager_open_args, 56);
OFFSET(quire_pager_open_args, struct_size, 0);
OFFSET(quire_pager_open_args, flags, 4);
OFFSET(quire_pager_open_args, token, 8);
OFFSET(quire_pager_open_args, name, 16);
OFFSET(quire_pager_open_args, fd, 24);
OFFSET(quire_pager_open_args, page_size, 28);
OFFSET(quire_pager_open_args, driver, 32);
OFFSET(quire_pager_open_args, host_object, 40);
OFFSET(quire_pager_open_args, host, 48);

SIZE(quire_pager_open_result, 64);
OFFSET(quire_pager_open_result, struct_size, 0);
OFFSET(quire_pager_open_result, flags, 4);
OFFSET(quire_pager_open_result, object, 8);
OFFSET(quire_pager_open_result, identity, 16);
OFFSET(quire_pager_open_result, size, 32);
OFFSET(quire_pager_open_result, granule, 40);
OFFSET(quire_pager_open_result, max_run, 44);
OFFSET(quire_pager_open_result, change, 48);

SIZE(quire_pager_io_page, 16);
OFFSET(quire_pager_io_page, bytes, 0);
OFFSET(quire_pager_io_page, status, 8);
OFFSET(quire_pager_io_page, reserved, 12);

SIZE(quire_pager_io, 56);
OFFSET(quire_pager_io, struct_size, 0);
OFFSET(quire_pager_io, flags, 4);
OFFSET(quire_pager_io, token, 8);
OFFSET(quire_pager_io, first, 16);
OFFSET(quire_pager_io, count, 24);
OFFSET(quire_pager_io, required, 28);
OFFSET(quire_pager_io, page_size, 32);
OFFSET(quire_pager_io, page_stride, 36);
OFFSET(quire_pager_io, object_size, 40);
OFFSET(quire_pager_io, pages, 48);

SIZE(quire_pager_extent, 12);
OFFSET(quire_pager_extent, struct_size, 0);
OFFSET(quire_pager_extent, before, 4);
OFFSET(quire_pager_extent, after, 8);

SIZE(quire_pager_populate, 64);
OFFSET(quire_pager_populate, struct_size, 0);
OFFSET(quire_pager_populate, flags, 4);
OFFSET(quire_pager_populate, token, 8);
OFFSET(quire_pager_populate, index, 16);
OFFSET(quire_pager_populate, first, 24);
OFFSET(quire_pager_populate, last, 32);
OFFSET(quire_pager_populate, access, 40);
OFFSET(quire_pager_populate, max_prot, 44);
OFFSET(quire_pager_populate, page_size, 48);
OFFSET(quire_pager_populate, reserved, 52);
OFFSET(quire_pager_populate, host, 56);

SIZE(quire_driver, 64);
OFFSET(quire_driver, struct_size, 0);
OFFSET(quire_driver, kind, 4);
OFFSET(quire_driver, ctor, 8);
OFFSET(quire_driver, dtor, 16);
OFFSET(quire_driver, fault, 24);
OFFSET(quire_driver, populate, 32);
OFFSET(quire_driver, put, 40);
OFFSET(quire_driver, path, 48);
OFFSET(quire_driver, sync, 56);

SIZE(quire_driver_handle, 32);
OFFSET(quire_driver_handle, struct_size, 0);
OFFSET(quire_driver_handle, reserved, 4);
OFFSET(quire_driver_handle, table, 8);
OFFSET(quire_driver_handle, ctx, 16);
OFFSET(quire_driver_handle, name, 24);

SIZE(quire_driver_fault, 64);
OFFSET(quire_driver_fault, struct_size, 0);
OFFSET(quire_driver_fault, flags, 4);
OFFSET(quire_driver_fault, token, 8);
OFFSET(quire_driver_fault, index, 16);
OFFSET(quire_driver_fault, bytes, 24);
OFFSET(quire_driver_fault, aperture, 32);
OFFSET(quire_driver_fault, offset, 40);
OFFSET(quire_driver_fault, page_size, 48);
OFFSET(quire_driver_fault, access, 52);
OFFSET(quire_driver_fault, host, 56);
