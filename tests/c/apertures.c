/*
 * Device frames, by the C API and through a pager of the program's own, on the soft machine: apertures, what they refuse, and pages whose
 * memory is the device's. Compiles as C and as C++. Usage: apertures CASE FOLDER
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include "aperture_pager.h"

#include <errno.h>
#include <fcntl.h>

#define PAGE ((uint64_t)QUIRE_PAGE_SIZE)
#define RW (QUIRE_PROT_READ | QUIRE_PROT_WRITE)
#define WRITABLE (QUIRE_OPEN_READ | QUIRE_OPEN_WRITE)

static struct quire_engine *engine;
static struct quire_pager *pager;
static struct quire_object *object;
static struct quire_map *map;

static uint64_t begin_with(const struct quire_aperture *what, uint64_t window, uint32_t flags)
{
    struct quire_engine_options options = on_the_soft_machine();
    struct quire_map_request request;
    uint64_t addr = 0;
    options.flags = flags;
    show(what, window);
    OK(quire_engine_create(&options, &engine));
    pager = frames_register(engine);
    OK(quire_object_open(pager, "device", -1, WRITABLE, &object));
    OK(quire_map_create(engine, 0, 0, &map));
    request = request_of(frames_pages * PAGE, RW);
    OK(quire_map(map, object, &request, &addr));
    return addr;
}

static void end_with(void)
{
    EXPECT(QUIRE_ERR_IN_USE, "revoke them", quire_aperture_remove(frames_aperture));
    OK(quire_map_destroy(map));
    OK(quire_object_release(object));
    OK(quire_engine_destroy(engine, 0));
    OK(quire_aperture_remove(frames_aperture));
    EXPECT(QUIRE_ERR_INVALID, "no such aperture", quire_aperture_remove(frames_aperture));
}

static unsigned char load_byte(uint64_t addr)
{
    unsigned char byte = 0;
    OK(quire_load(map, addr, &byte, 1, NULL));
    return byte;
}

static void store_byte(uint64_t addr, unsigned char byte)
{
    OK(quire_store(map, addr, &byte, 1, NULL));
}

/* What goes through the map is in the device at once, and the other way. */
static void use(uint64_t addr, volatile unsigned char *device)
{
    unsigned char bytes[6] = {1, 2, 3, 4, 5, 6};
    uint64_t resident = 0, i;
    for (i = 0; i < frames_pages; i++) {
        CHECK(load_byte(addr + i * PAGE) == (unsigned char)(i + 1));
        store_byte(addr + i * PAGE + 7, (unsigned char)(100 + i));
        CHECK(device[i * PAGE + 7] == (unsigned char)(100 + i));
        device[i * PAGE + 8] = (unsigned char)(50 + i);
        CHECK(load_byte(addr + i * PAGE + 8) == (unsigned char)(50 + i));
    }
    OK(quire_write(map, addr + PAGE - 3, bytes, 6, NULL));
    CHECK(device[PAGE - 1] == 3 && device[PAGE + 2] == 6);
    memset(bytes, 0, sizeof bytes);
    OK(quire_read(map, addr + PAGE - 3, bytes, 6, NULL));
    CHECK(bytes[0] == 1 && bytes[5] == 6);
    OK(quire_object_resident(object, &resident));
    CHECK(resident == frames_pages && got == 0 && populates == (frames_pages + frames_window - 1) / frames_window);
    OK(quire_sync(map, addr, frames_pages * PAGE, 0));
    OK(quire_object_flush(object, 0, 0, 0));
}

static void a_descriptor_is_mapped_and_accessed_in_place(void)
{
    uint32_t flags;
    for (flags = 0; flags < 8; flags++) {
        int fd = memory_file(8);
        struct quire_aperture what = aperture_of(NULL, fd, 8);
        volatile unsigned char *device = seen_by_the_device(fd, 8, MAP_SHARED);
        uint64_t addr = begin_with(&what, 4, flags);
        /* The engine has its own. */
        CHECK(close(fd) == 0);
        use(addr, device);
        end_with();
        CHECK(munmap((void *)device, (size_t)(8 * PAGE)) == 0);
    }
}

static void a_part_of_a_file_is_shown_by_its_offset(void)
{
    int fd = memory_file(16);
    struct quire_aperture what = aperture_of(NULL, fd, 4);
    volatile unsigned char *device = seen_by_the_device(fd, 16, MAP_SHARED);
    uint64_t addr;
    what.offset = 8 * PAGE;
    addr = begin_with(&what, 4, 0);
    CHECK(load_byte(addr + PAGE) == 10);
    store_byte(addr + 3 * PAGE + 1, 77);
    CHECK(device[11 * PAGE + 1] == 77);
    end_with();
    close(fd);
}

static void an_address_is_enough_shared_or_not(void)
{
    static const int ways[] = {MAP_SHARED, MAP_PRIVATE};
    size_t i;
    for (i = 0; i < 2; i++) {
        volatile unsigned char *device = seen_by_the_device(-1, 8, ways[i]);
        struct quire_aperture what = aperture_of((void *)device, -1, 8);
        use(begin_with(&what, 8, 0), device);
        end_with();
        CHECK(device[7] == 100);
    }
}

static void pages_go_when_the_object_shrinks_ends_or_is_revoked_and_the_memory_stays(void)
{
    int fd = memory_file(8);
    struct quire_aperture what = aperture_of(NULL, fd, 8);
    volatile unsigned char *device = seen_by_the_device(fd, 8, MAP_SHARED);
    uint64_t addr = begin_with(&what, 8, 0), resident = 0;
    unsigned char byte = 0;
    store_byte(addr + 5 * PAGE, 42);
    OK(quire_object_revoke(object, PAGE, 2 * PAGE, 0, NULL));
    OK(quire_object_resident(object, &resident));
    CHECK(resident == 6 && populates == 1);
    CHECK(load_byte(addr + PAGE) == 2 && populates == 2);
    OK(quire_object_resize(object, 4 * PAGE + 10));
    EXPECT(QUIRE_FAULT_BUS_OBJERR, "ends before", quire_load(map, addr + 5 * PAGE, &byte, 1, NULL));
    OK(quire_object_resize(object, 8 * PAGE));
    CHECK(load_byte(addr + 5 * PAGE) == 42 && device[4 * PAGE] == 5 && device[4 * PAGE + 11] == 0);
    OK(quire_object_terminate(object, QUIRE_DISCARD));
    EXPECT(QUIRE_FAULT_TERMINATED, "terminated", quire_load(map, addr, &byte, 1, NULL));
    CHECK(device[5 * PAGE] == 42);
    OK(quire_aperture_remove(frames_aperture));
    OK(quire_map_destroy(map));
    OK(quire_object_release(object));
    OK(quire_engine_destroy(engine, 0));
    close(fd);
}

static void a_private_mapping_is_a_copy_and_asks_by_get(void)
{
    int fd = memory_file(8);
    struct quire_aperture what = aperture_of(NULL, fd, 8);
    volatile unsigned char *device = seen_by_the_device(fd, 8, MAP_SHARED);
    uint64_t addr = begin_with(&what, 4, 0), own = 0;
    struct quire_map_request request = request_of(8 * PAGE, RW);
    unsigned char byte = 0;
    CHECK(load_byte(addr) == 1);
    request.flags = QUIRE_MAP_PRIVATE;
    OK(quire_map(map, object, &request, &own));
    CHECK(load_byte(own + PAGE) == 2);
    store_byte(own + PAGE, 99);
    CHECK(device[PAGE] == 2 && load_byte(own + PAGE) == 99 && load_byte(addr + PAGE) == 2);
    /* What is not in memory is for get, which this pager does not have. */
    EXPECT(QUIRE_FAULT_PAGER, "", quire_load(map, own + 6 * PAGE, &byte, 1, NULL));
    CHECK(got == 1 && populates == 1);
    end_with();
    close(fd);
}

static void memory_that_can_only_be_read_is_not_written(void)
{
    int fd = memory_file(2), reader;
    volatile unsigned char *device = seen_by_the_device(fd, 2, MAP_SHARED);
    char name[64];
    struct quire_aperture what;
    unsigned char byte = 1;
    uint64_t addr;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    reader = open(name, O_RDONLY);
    CHECK(reader >= 0);
    what = aperture_of(NULL, reader, 2);
    addr = begin_with(&what, 2, 0);
    CHECK(load_byte(addr + PAGE) == 2);
    EXPECT(QUIRE_FAULT_DEVICE, "can be read, and not written", quire_store(map, addr, &byte, 1, NULL));
    EXPECT(QUIRE_FAULT_DEVICE, "can be read, and not written", quire_write(map, addr, &byte, 1, NULL));
    CHECK(device[0] == 1);
    end_with();
    close(reader);
    close(fd);
}

/* What a mapping of so many bytes from `offset` gets, in this map. */
static uint64_t placed(struct quire_map *where, uint64_t length, uint64_t offset, uint64_t align)
{
    struct quire_map_request request = request_of(length, RW);
    uint64_t addr = 0;
    request.offset = offset;
    request.align = align;
    OK(quire_map(where, object, &request, &addr));
    return addr;
}

static void an_object_with_large_pages_is_placed_for_them(void)
{
    const uint64_t large = 2 << 20;
    int fd = memory_file(1536);
    struct quire_aperture what = aperture_of(NULL, fd, 1536);
    uint64_t addr = begin_with(&what, 512, 0), faults = 0, page;
    struct quire_map *narrow;
    unsigned char byte = 0;
    CHECK(addr % large == 0);
    /* One fault for each window, which is entered whole. */
    faults = stats_of(engine).faults;
    for (page = 0; page < 1536; page++)
        OK(quire_load(map, addr + page * PAGE, &byte, 1, NULL));
    CHECK(stats_of(engine).faults - faults == 3 && populates == 3);
    CHECK(placed(map, PAGE, 0, 0) % large != 0);
    CHECK(placed(map, large, large, 0) % large == 0);
    CHECK(placed(map, large, 0, 64 * PAGE) % (64 * PAGE) == 0);
    /* Where there is no such room it goes elsewhere. */
    OK(quire_map_create(engine, 16 * PAGE, 616 * PAGE, &narrow));
    CHECK(placed(narrow, large, 0, 0) == 16 * PAGE);
    OK(quire_map_destroy(narrow));
    /* Nor is there a better place for what does not begin with a large page. */
    OK(quire_map_create(engine, 16 * PAGE, 0x7f000000, &narrow));
    CHECK(placed(narrow, large, 5 * PAGE, 0) == 16 * PAGE);
    CHECK(placed(narrow, large, 512 * PAGE, 0) % large == 0);
    OK(quire_map_destroy(narrow));
    end_with();
    close(fd);
}

static int32_t adds(struct quire_aperture what)
{
    uint64_t stored = 77;
    int32_t status = quire_aperture_add(&what, &stored);
    CHECK((status == QUIRE_OK) != (stored == 77));
    return status;
}

static void bad_apertures_are_refused_and_nothing_is_stored(void)
{
    volatile unsigned char *device = seen_by_the_device(-1, 4, MAP_SHARED);
    struct quire_aperture good = aperture_of((void *)device, -1, 4), bad;
    int fd = memory_file(2), ends[2];
    uint64_t id = 0;
    EXPECT(QUIRE_ERR_INVALID, "out", quire_aperture_add(&good, NULL));
    EXPECT(QUIRE_ERR_INVALID, "the aperture is NULL", quire_aperture_add(NULL, &id));
    bad = good, bad.struct_size = 8;
    EXPECT(QUIRE_ERR_INVALID, "struct_size", adds(bad));
    bad = good, bad.length = 0;
    EXPECT(QUIRE_ERR_INVALID, "no bytes", adds(bad));
    bad = good, bad.length = PAGE + 1;
    EXPECT(QUIRE_ERR_INVALID, "multiples of the page size", adds(bad));
    bad = good, bad.memory = (void *)(device + 8);
    EXPECT(QUIRE_ERR_INVALID, "multiples of the page size", adds(bad));
    bad = good, bad.offset = 12;
    EXPECT(QUIRE_ERR_INVALID, "multiples of the page size", adds(bad));
    bad = good, bad.length = UINT64_MAX - PAGE + 1;
    EXPECT(QUIRE_ERR_INVALID, "64 bits", adds(bad));
    bad = good, bad.cache = 9;
    EXPECT(QUIRE_ERR_INVALID, "QUIRE_CACHE_", adds(bad));
    bad = good, bad.reserved = 1;
    EXPECT(QUIRE_ERR_INVALID, "reserved", adds(bad));
    bad = good, bad.memory = NULL;
    EXPECT(QUIRE_ERR_INVALID, "neither memory nor a file", adds(bad));
    bad = good, bad.memory = (void *)(uintptr_t)PAGE;
    EXPECT(QUIRE_ERR_INVALID, "nothing that can be read is mapped", adds(bad));
    CHECK(mprotect((void *)(device + 2 * PAGE), (size_t)PAGE, PROT_NONE) == 0);
    EXPECT(QUIRE_ERR_INVALID, "nothing that can be read is mapped", adds(good));
    CHECK(mprotect((void *)(device + 2 * PAGE), (size_t)PAGE, PROT_READ | PROT_WRITE) == 0);
    EXPECT(QUIRE_ERR_INVALID, "make the file longer", adds(aperture_of(NULL, fd, 3)));
    EXPECT(QUIRE_ERR_UNSUPPORTED, "cannot be used", adds(aperture_of(NULL, 9999, 1)));
    CHECK(quire_last_errno() == EBADF);
    CHECK(pipe(ends) == 0);
    EXPECT(QUIRE_ERR_UNSUPPORTED, "cannot be mapped", adds(aperture_of(NULL, ends[0], 1)));
    CHECK(quire_last_errno() == ENODEV);
    EXPECT(QUIRE_ERR_INVALID, "no such aperture", quire_aperture_remove(0));
    EXPECT(QUIRE_ERR_INVALID, "no such aperture", quire_aperture_remove(12345));
    OK(quire_aperture_add(&good, &id));
    OK(quire_aperture_remove(id));
    close(fd);
}

static void a_process_has_so_many_apertures_and_no_more(void)
{
    static uint64_t ids[1024];
    volatile unsigned char *device = seen_by_the_device(-1, 1, MAP_SHARED);
    struct quire_aperture what = aperture_of((void *)device, -1, 1);
    uint64_t id = 0;
    size_t i;
    for (i = 0; i < 1024; i++)
        OK(quire_aperture_add(&what, &ids[i]));
    EXPECT(QUIRE_ERR_NOMEM, "remove one first", quire_aperture_add(&what, &id));
    OK(quire_aperture_remove(ids[500]));
    OK(quire_aperture_add(&what, &id));
    CHECK(id != ids[500]);
    EXPECT(QUIRE_ERR_INVALID, "no such aperture", quire_aperture_remove(ids[500]));
    ids[500] = id;
    for (i = 0; i < 1024; i++)
        OK(quire_aperture_remove(ids[i]));
}

static uint64_t insert_badly(const struct quire_pager_host_api *host, struct quire_pager_populate *request)
{
    uint32_t had = 77;
    uint64_t token = request->token;
    CHECK(host->frame_insert(host->host, token, 0, 0, frames_aperture, 0, &had) == QUIRE_PAGER_INVALID);
    CHECK(host->frame_insert(host->host, token, 0, 2, frames_aperture, 0, NULL) == QUIRE_PAGER_INVALID);
    CHECK(host->frame_insert(host->host, token, 0, 1, frames_aperture, 100, &had) == QUIRE_PAGER_INVALID);
    CHECK(host->frame_insert(host->host, token, 0, 5, frames_aperture, 0, &had) == QUIRE_PAGER_INVALID);
    CHECK(host->frame_insert(host->host, token, 0, 1, frames_aperture, 4 * PAGE, &had) == QUIRE_PAGER_INVALID);
    CHECK(host->frame_insert(host->host, token, 0, 1, frames_aperture + 1, 0, &had) == QUIRE_PAGER_INVALID);
    CHECK(host->frame_insert(host->host, token, 0, 1, 0, 0, &had) == QUIRE_PAGER_INVALID);
    CHECK(host->frame_insert(host->host, token, 4, 1, frames_aperture, 0, &had) == QUIRE_PAGER_BAD);
    CHECK(host->frame_insert(host->host, token + 99, 0, 1, frames_aperture, 0, &had) == QUIRE_PAGER_STALE);
    CHECK(host->frame_insert(NULL, token, 0, 1, frames_aperture, 0, &had) == QUIRE_PAGER_INVALID);
    CHECK(had == 77);
    CHECK(host->frame_insert(host->host, token, 0, 1, frames_aperture, 0, NULL) == QUIRE_PAGER_OK);
    CHECK(host->frame_insert(host->host, token, 0, 1, frames_aperture, 0, &had) == QUIRE_PAGER_AGAIN);
    return 1;
}

static void quiet(void *ctx, uint32_t level, const char *from, const char *text)
{
    (void)ctx;
    printf("log %u: %s: %s\n", (unsigned)level, from, text);
}

static void a_plugin_has_the_same_services(void)
{
    volatile unsigned char *device = seen_by_the_device(-1, 4, MAP_SHARED);
    struct quire_aperture what = aperture_of((void *)device, -1, 4), bad = what;
    uint64_t addr, id = 77;
    uint32_t had;
    OK(quire_set_log(quiet, NULL));
    addr = begin_with(&what, 4, 0);
    CHECK(frames_host->aperture_add(frames_host->host, NULL, &id) == QUIRE_PAGER_INVALID);
    CHECK(frames_host->aperture_add(frames_host->host, &what, NULL) == QUIRE_PAGER_INVALID);
    CHECK(frames_host->aperture_add(NULL, &what, &id) == QUIRE_PAGER_INVALID);
    bad.length = 1;
    CHECK(frames_host->aperture_add(frames_host->host, &bad, &id) == QUIRE_PAGER_INVALID);
    bad = aperture_of(NULL, 9999, 1);
    CHECK(frames_host->aperture_add(frames_host->host, &bad, &id) == -EBADF && id == 77);
    CHECK(frames_host->aperture_remove(frames_host->host, 5) == QUIRE_PAGER_INVALID);
    CHECK(frames_host->frame_insert(frames_host->host, 3, 0, 1, frames_aperture, 0, &had) == QUIRE_PAGER_STALE);
    OK(quire_aperture_remove(frames_aperture));
    CHECK(frames_host->aperture_add(frames_host->host, &what, &frames_aperture) == QUIRE_PAGER_OK);
    in_populate = insert_badly;
    CHECK(load_byte(addr + 2 * PAGE) == 3);
    in_populate = NULL;
    CHECK(frames_host->aperture_remove(frames_host->host, frames_aperture) == QUIRE_PAGER_AGAIN);
    OK(quire_object_revoke(object, 0, 0, 0, NULL));
    CHECK(frames_host->aperture_remove(frames_host->host, frames_aperture) == QUIRE_PAGER_OK);
    OK(quire_map_destroy(map));
    OK(quire_object_release(object));
    OK(quire_engine_destroy(engine, 0));
    OK(quire_set_log(NULL, NULL));
}

static const struct test_case cases[] = {
    CASE(a_descriptor_is_mapped_and_accessed_in_place),
    CASE(a_part_of_a_file_is_shown_by_its_offset),
    CASE(an_address_is_enough_shared_or_not),
    CASE(pages_go_when_the_object_shrinks_ends_or_is_revoked_and_the_memory_stays),
    CASE(a_private_mapping_is_a_copy_and_asks_by_get),
    CASE(memory_that_can_only_be_read_is_not_written),
    CASE(an_object_with_large_pages_is_placed_for_them),
    CASE(bad_apertures_are_refused_and_nothing_is_stored),
    CASE(a_process_has_so_many_apertures_and_no_more),
    CASE(a_plugin_has_the_same_services),
};

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    return run_case(cases, sizeof cases / sizeof cases[0], argv[1]);
}
