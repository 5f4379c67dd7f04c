/* The C API on files: what it refuses, what it promises. Compiles as C and as C++. Usage: api CASE FOLDER */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE ((uint64_t)QUIRE_PAGE_SIZE)
#define RW (QUIRE_PROT_READ | QUIRE_PROT_WRITE)
#define PAGES 16
#define UNTOUCHED ((uint64_t)0x5a5a5a5a5a5a5a5a)

static const char *folder;
static char path[4096];
static struct quire_engine *engine;
static struct quire_pager *vnode;
static struct quire_object *file;
static struct quire_map *map;

/* A file whose byte at i is i / 4096 + i. */
static unsigned char byte_at(uint64_t i)
{
    return (unsigned char)(i / PAGE + i);
}

static void make_file(const char *name, uint64_t size)
{
    uint64_t i;
    FILE *out;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    out = fopen(path, "wb");
    CHECK(out != NULL);
    for (i = 0; i < size; i++)
        CHECK(fputc(byte_at(i), out) != EOF);
    CHECK(fclose(out) == 0);
}

static void set_up_with(uint32_t flags, uint64_t size)
{
    make_file("file", size);
    OK(quire_engine_create(NULL, &engine));
    OK(quire_pager_load(engine, "vnode", NULL, &vnode));
    OK(quire_object_open(vnode, path, -1, flags, &file));
    OK(quire_map_create(engine, 0, 0, &map));
}

static void set_up(void)
{
    set_up_with(QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, PAGES * PAGE);
}

static void tear_down(void)
{
    OK(quire_map_destroy(map));
    OK(quire_object_release(file));
    OK(quire_engine_destroy(engine, 0));
}

static uint64_t mapped(uint32_t prot)
{
    struct quire_map_request request = request_of(PAGES * PAGE, prot);
    uint64_t addr = 0;
    OK(quire_map(map, file, &request, &addr));
    CHECK(addr != 0 && addr % PAGE == 0);
    return addr;
}

/* Refused, in these words, with nothing changed. */
static void refused(int32_t status, const char *words, struct quire_map_request request)
{
    uint64_t addr = UNTOUCHED, before, after;
    OK(quire_map_version(map, &before));
    EXPECT(status, words, quire_map(map, file, &request, &addr));
    OK(quire_map_version(map, &after));
    CHECK(addr == UNTOUCHED && before == after);
}

static void map_refuses_a_length_of_zero(void)
{
    set_up();
    refused(QUIRE_ERR_INVALID, "zero", request_of(0, QUIRE_PROT_READ));
    tear_down();
}

static void map_refuses_what_is_not_page_aligned(void)
{
    struct quire_map_request request = request_of(PAGE, QUIRE_PROT_READ);
    set_up();
    request.offset = 1;
    refused(QUIRE_ERR_INVALID, "offset", request);
    request.offset = 0;
    request.addr = 0x100001;
    refused(QUIRE_ERR_INVALID, "aligned", request);
    request.flags = QUIRE_MAP_FIXED;
    refused(QUIRE_ERR_INVALID, "aligned", request);
    request.flags = QUIRE_MAP_FIXED_NOREPLACE;
    refused(QUIRE_ERR_INVALID, "aligned", request);
    request.flags = 0;
    request.addr = 0;
    request.align = 3;
    refused(QUIRE_ERR_INVALID, "alignment", request);
    tear_down();
}

static void map_refuses_overflow(void)
{
    struct quire_map_request request = request_of(UINT64_MAX, QUIRE_PROT_READ);
    set_up();
    refused(QUIRE_ERR_INVALID, "overflow", request);
    request = request_of(2 * PAGE, QUIRE_PROT_READ);
    request.flags = QUIRE_MAP_FIXED;
    request.addr = UINT64_MAX - PAGE + 1;
    refused(QUIRE_ERR_INVALID, "overflow", request);
    request = request_of(2 * PAGE, QUIRE_PROT_READ);
    request.offset = UINT64_MAX - PAGE + 1;
    refused(QUIRE_ERR_INVALID, "largest size", request);
    tear_down();
}

static void map_refuses_unknown_flags_and_numbers(void)
{
    struct quire_map_request request = request_of(PAGE, QUIRE_PROT_READ);
    set_up();
    request.flags = 0x80;
    refused(QUIRE_ERR_INVALID, "0x80", request);
    request.flags = QUIRE_MAP_FIXED | QUIRE_MAP_FIXED_NOREPLACE;
    refused(QUIRE_ERR_INVALID, "contradict", request);
    request.flags = 0;
    request.prot = 0x10;
    refused(QUIRE_ERR_INVALID, "protection", request);
    request.prot = QUIRE_PROT_READ;
    request.max_prot = 0x100;
    refused(QUIRE_ERR_INVALID, "protection", request);
    request.max_prot = 0;
    request.inherit = 99;
    refused(QUIRE_ERR_INVALID, "99", request);
    request.inherit = 0;
    request.advice = 77;
    refused(QUIRE_ERR_INVALID, "77", request);
    tear_down();
}

static void map_refuses_a_protection_above_its_maximum(void)
{
    struct quire_map_request request = request_of(PAGE, RW);
    set_up();
    request.max_prot = QUIRE_PROT_READ;
    refused(QUIRE_ERR_INVALID, "maximum", request);
    tear_down();
}

static void map_refuses_places_that_are_taken_or_not_there(void)
{
    struct quire_map_request request = request_of(PAGE, QUIRE_PROT_READ);
    uint64_t addr;
    set_up();
    addr = mapped(QUIRE_PROT_READ);
    request.flags = QUIRE_MAP_FIXED_NOREPLACE;
    request.addr = addr + PAGE;
    refused(QUIRE_ERR_OCCUPIED, "already mapped", request);
    request.addr = QUIRE_MAP_END;
    refused(QUIRE_ERR_INVALID, "bounds", request);
    request.flags = 0;
    request.addr = 0;
    request.length = QUIRE_MAP_END;
    refused(QUIRE_ERR_NO_SPACE, "no free range", request);
    tear_down();
}

static void map_refuses_objects_of_another_engine(void)
{
    struct quire_engine *other;
    struct quire_map *others;
    struct quire_map_request request = request_of(PAGE, QUIRE_PROT_READ);
    uint64_t addr = UNTOUCHED;
    set_up();
    OK(quire_engine_create(NULL, &other));
    OK(quire_map_create(other, 0, 0, &others));
    EXPECT(QUIRE_ERR_INVALID, "different engines", quire_map(others, file, &request, &addr));
    CHECK(addr == UNTOUCHED);
    OK(quire_map_destroy(others));
    OK(quire_engine_destroy(other, 0));
    tear_down();
}

static void an_object_opened_for_reading_is_not_mapped_for_writing(void)
{
    struct quire_object *reader;
    struct quire_map_request request = request_of(PAGE, RW);
    uint64_t addr = UNTOUCHED;
    set_up_with(QUIRE_OPEN_READ, PAGES * PAGE);
    refused(QUIRE_ERR_UNSUPPORTED, "for reading only", request);
    /* Opened for writing as well, it is writable through that handle. */
    OK(quire_object_open(vnode, path, -1, QUIRE_OPEN_WRITE, &reader));
    OK(quire_map(map, reader, &request, &addr));
    OK(quire_unmap(map, addr, PAGE));
    OK(quire_object_release(reader));
    addr = UNTOUCHED;
    tear_down();

    /* The object is writable, and this handle of it is not. */
    set_up();
    OK(quire_object_open(vnode, path, -1, QUIRE_OPEN_READ, &reader));
    EXPECT(QUIRE_ERR_UNSUPPORTED, "for reading only", quire_map(map, reader, &request, &addr));
    CHECK(addr == UNTOUCHED);
    OK(quire_object_release(reader));
    tear_down();
}

static void protect_refuses_bad_ranges_and_rights(void)
{
    struct quire_map_request request = request_of(PAGES * PAGE, QUIRE_PROT_READ);
    uint64_t addr = 0;
    set_up();
    OK(quire_map(map, file, &request, &addr));
    EXPECT(QUIRE_ERR_INVALID, "zero", quire_protect(map, addr, 0, QUIRE_PROT_READ));
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_protect(map, addr + 1, PAGE, QUIRE_PROT_READ));
    EXPECT(QUIRE_ERR_INVALID, "overflow", quire_protect(map, UINT64_MAX - PAGE + 1, 2 * PAGE, QUIRE_PROT_READ));
    EXPECT(QUIRE_ERR_INVALID, "overflow", quire_protect(map, addr, UINT64_MAX, QUIRE_PROT_READ));
    EXPECT(QUIRE_ERR_INVALID, "unknown", quire_protect(map, addr, PAGE, 0x20));
    EXPECT(QUIRE_ERR_NOT_MAPPED, "nothing is mapped", quire_protect(map, addr, (PAGES + 1) * PAGE, QUIRE_PROT_READ));
    EXPECT(QUIRE_ERR_ABOVE_MAXIMUM, "maximum", quire_protect(map, addr, PAGE, RW));
    OK(quire_protect(map, addr, PAGE, QUIRE_PROT_NONE));
    tear_down();
}

static void what_is_mapped_can_be_synced_brought_in_and_let_go(void)
{
    uint64_t addr, i;
    uint8_t bits[PAGES], byte = 0x77;
    size_t done;
    set_up();
    addr = mapped(RW);
    OK(quire_prefetch(map, addr, PAGES * PAGE));
    OK(quire_residency(map, addr, PAGES * PAGE, bits, PAGES));
    for (i = 0; i < PAGES; i++)
        CHECK(bits[i] == QUIRE_PAGE_RESIDENT);
    OK(quire_populate(map, addr, PAGE, QUIRE_ACCESS_WRITE));
    OK(quire_store(map, addr, &byte, 1, &done));
    OK(quire_residency(map, addr, PAGE, bits, PAGES));
    CHECK(bits[0] == (QUIRE_PAGE_RESIDENT | QUIRE_PAGE_DIRTY | QUIRE_PAGE_MAPPED));
    OK(quire_advise(map, addr, PAGES * PAGE, QUIRE_ADVICE_COLD));
    OK(quire_advise(map, addr, PAGES * PAGE, QUIRE_ADVICE_DONTNEED));
    OK(quire_residency(map, addr, PAGE, bits, PAGES));
    CHECK(bits[0] == (QUIRE_PAGE_RESIDENT | QUIRE_PAGE_DIRTY));
    OK(quire_sync(map, addr, PAGES * PAGE, QUIRE_SYNC_DURABLE | QUIRE_SYNC_INVALIDATE));
    OK(quire_residency(map, addr, PAGE, bits, PAGES));
    CHECK(bits[0] == 0);
    OK(quire_advise(map, addr, PAGES * PAGE, QUIRE_ADVICE_WILLNEED));
    byte = 0;
    OK(quire_load(map, addr, &byte, 1, &done));
    CHECK(byte == 0x77);
    tear_down();
}

static void the_other_calls_on_ranges_refuse_the_same(void)
{
    uint64_t addr;
    uint8_t bits[PAGES];
    set_up();
    addr = mapped(QUIRE_PROT_READ);
    EXPECT(QUIRE_ERR_INVALID, "zero", quire_unmap(map, addr, 0));
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_unmap(map, addr + 7, PAGE));
    EXPECT(QUIRE_ERR_INVALID, "overflow", quire_unmap(map, addr, UINT64_MAX));
    EXPECT(QUIRE_ERR_INVALID, "bounds", quire_unmap(map, 0, PAGE));
    EXPECT(QUIRE_ERR_INVALID, "zero", quire_inherit(map, addr, 0, QUIRE_INHERIT_COPY));
    EXPECT(QUIRE_ERR_INVALID, "44", quire_inherit(map, addr, PAGE, 44));
    EXPECT(QUIRE_ERR_NOT_MAPPED, "nothing", quire_inherit(map, addr + PAGES * PAGE, PAGE, QUIRE_INHERIT_COPY));
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_advise(map, addr + 1, PAGE, QUIRE_ADVICE_RANDOM));
    EXPECT(QUIRE_ERR_INVALID, "44", quire_advise(map, addr, PAGE, 44));
    OK(quire_inherit(map, addr, PAGE, QUIRE_INHERIT_ZERO));
    OK(quire_advise(map, addr, PAGE, QUIRE_ADVICE_SEQUENTIAL));
    EXPECT(QUIRE_ERR_NOT_MAPPED, "nothing", quire_advise(map, addr, (PAGES + 1) * PAGE, QUIRE_ADVICE_DONTNEED));
    EXPECT(QUIRE_ERR_NOT_MAPPED, "nothing", quire_sync(map, addr, (PAGES + 1) * PAGE, QUIRE_SYNC_DURABLE));
    EXPECT(QUIRE_ERR_INVALID, "0x40", quire_sync(map, addr, PAGE, 0x40));
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_prefetch(map, addr + 1, PAGE));
    EXPECT(QUIRE_ERR_INVALID, "not one of", quire_populate(map, addr, PAGE, 0));
    EXPECT(QUIRE_FAULT_SEGV_ACCERR, "allow", quire_populate(map, addr, PAGE, QUIRE_ACCESS_WRITE));
    EXPECT(QUIRE_ERR_INVALID, "zero", quire_residency(map, addr, 0, bits, PAGES));
    EXPECT(QUIRE_ERR_INVALID, "room", quire_residency(map, addr, PAGES * PAGE, bits, PAGES - 1));
    EXPECT(QUIRE_ERR_INVALID, "not one of", quire_fault(map, addr, QUIRE_ACCESS_READ | QUIRE_ACCESS_WRITE, NULL));
    EXPECT(QUIRE_ERR_INVALID, "overflow", quire_object_flush(file, PAGE, UINT64_MAX, 0));
    EXPECT(QUIRE_ERR_INVALID, "0xf0", quire_object_flush(file, 0, 0, 0xf0));
    EXPECT(QUIRE_ERR_INVALID, "0x2", quire_engine_sync(engine, 2));
    EXPECT(QUIRE_ERR_INVALID, "0x4", quire_engine_destroy(engine, 4));
    /* Nothing is mapped any more, and that is no error. */
    OK(quire_unmap(map, addr, PAGES * PAGE));
    OK(quire_unmap(map, addr, PAGES * PAGE));
    tear_down();
}

static void a_range_for_a_map_makes_sense(void)
{
    struct quire_map *other = NULL;
    set_up();
    EXPECT(QUIRE_ERR_INVALID, "empty", quire_map_create(engine, PAGE, PAGE, &other));
    EXPECT(QUIRE_ERR_INVALID, "empty", quire_map_create(engine, 2 * PAGE, PAGE, &other));
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_map_create(engine, 1, PAGE, &other));
    EXPECT(QUIRE_ERR_INVALID, "", quire_map_create(engine, 0, UINT64_MAX - PAGE + 1, &other));
    CHECK(other == NULL);
    OK(quire_map_create(engine, PAGE, 2 * PAGE, &other));
    OK(quire_map_destroy(other));
    tear_down();
}

static void null_is_refused_wherever_a_pointer_must_be(void)
{
    struct quire_map_request request = request_of(PAGE, QUIRE_PROT_READ);
    struct quire_pager *pager;
    struct quire_object *object;
    uint64_t number = UNTOUCHED, addr;
    size_t done;
    char text[8];
    set_up();
    addr = mapped(RW);
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_engine_create(NULL, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_engine_stats(engine, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_pager_load(engine, NULL, NULL, &pager));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_pager_load(engine, "vnode", NULL, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_pager_register(engine, NULL, NULL, &pager));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_pager_info(vnode, NULL));
    EXPECT(QUIRE_ERR_INVALID, "nothing to open", quire_object_open(vnode, NULL, -1, QUIRE_OPEN_READ, &object));
    EXPECT(QUIRE_ERR_INVALID, "nothing to open", quire_object_open(vnode, path, -7, QUIRE_OPEN_READ, &object));
    EXPECT(QUIRE_ERR_INVALID, "unknown bits", quire_object_open(vnode, path, -1, 0x40, &object));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_object_open(vnode, path, -1, QUIRE_OPEN_READ, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_object_reference(file, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_object_size(file, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_object_resident(file, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_object_describe(file, NULL, 10));
    EXPECT(QUIRE_ERR_INVALID, "no room", quire_object_describe(file, text, 0));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_map_create(engine, 0, 0, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_map_version(map, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_map(map, file, NULL, &number));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_map(map, file, &request, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_read(map, addr, NULL, 1, &done));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_write(map, addr, NULL, 1, &done));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_load(map, addr, NULL, 1, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_store(map, addr, NULL, 1, NULL));
    EXPECT(QUIRE_ERR_INVALID, "address space", quire_read(map, addr, text, SIZE_MAX, &done));
    CHECK(number == UNTOUCHED);
    /* Where nothing is asked for, NULL is fine. */
    OK(quire_read(map, addr, NULL, 0, NULL));
    OK(quire_fault(map, addr, QUIRE_ACCESS_READ, NULL));
    tear_down();
}

static void a_handle_that_is_null_is_caught(void)
{
    struct quire_map_request request = request_of(PAGE, QUIRE_PROT_READ);
    struct quire_stats stats;
    uint64_t addr;
    set_up();
    EXPECT(QUIRE_ERR_HANDLE, "engine is NULL", quire_engine_stats(NULL, &stats));
    EXPECT(QUIRE_ERR_HANDLE, "engine is NULL", quire_engine_destroy(NULL, 0));
    EXPECT(QUIRE_ERR_HANDLE, "pager is NULL", quire_pager_unload(NULL));
    EXPECT(QUIRE_ERR_HANDLE, "object is NULL", quire_object_release(NULL));
    EXPECT(QUIRE_ERR_HANDLE, "object is NULL", quire_map(map, NULL, &request, &addr));
    EXPECT(QUIRE_ERR_HANDLE, "map is NULL", quire_map(NULL, file, &request, &addr));
    EXPECT(QUIRE_ERR_HANDLE, "map is NULL", quire_map_destroy(NULL));
    tear_down();
}

static void a_handle_of_another_kind_is_caught(void)
{
    uint64_t number;
    set_up();
    EXPECT(QUIRE_ERR_HANDLE, "kind map", quire_object_size((struct quire_object *)(void *)map, &number));
    EXPECT(QUIRE_ERR_HANDLE, "kind object", quire_map_version((struct quire_map *)(void *)file, &number));
    EXPECT(QUIRE_ERR_HANDLE, "kind pager", quire_engine_destroy((struct quire_engine *)(void *)vnode, 0));
    EXPECT(QUIRE_ERR_HANDLE, "kind engine", quire_pager_unload((struct quire_pager *)(void *)engine));
    EXPECT(QUIRE_ERR_HANDLE, "no handle", quire_object_size((struct quire_object *)(void *)&number, &number));
    EXPECT(QUIRE_ERR_HANDLE, "no handle", quire_object_size((struct quire_object *)(uintptr_t)1, &number));
    EXPECT(QUIRE_ERR_HANDLE, "", quire_object_size((struct quire_object *)UINTPTR_MAX, &number));
    tear_down();
}

static void a_closed_handle_is_caught_also_after_others_were_opened(void)
{
    struct quire_object *closed, *others[64];
    uint64_t number;
    int i;
    set_up();
    OK(quire_object_reference(file, &closed));
    OK(quire_object_release(closed));
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_object_size(closed, &number));
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_object_release(closed));
    for (i = 0; i < 64; i++) {
        OK(quire_object_reference(file, &others[i]));
        CHECK(others[i] != closed);
    }
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_object_size(closed, &number));
    for (i = 0; i < 64; i++)
        OK(quire_object_release(others[i]));
    tear_down();
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_engine_destroy(engine, 0));
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_pager_unload(vnode));
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_map_destroy(map));
}

static void files_that_cannot_be_paged_are_refused_with_the_systems_words(void)
{
    struct quire_object *object;
    char name[5000];
    int fd;
    set_up();
    object = file;
    snprintf(name, sizeof name, "%s/missing", folder);
    EXPECT(QUIRE_ERR_PAGER, "missing", quire_object_open(vnode, name, -1, QUIRE_OPEN_READ, &object));
    CHECK(quire_last_errno() == ENOENT);
    EXPECT(QUIRE_ERR_PAGER, folder, quire_object_open(vnode, folder, -1, QUIRE_OPEN_READ, &object));
    EXPECT(QUIRE_ERR_PAGER, "vnode", quire_object_open(vnode, "", -1, QUIRE_OPEN_READ, &object));
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    EXPECT(QUIRE_ERR_PAGER, "vnode", quire_object_open(vnode, name, -1, QUIRE_OPEN_READ, &object));
    EXPECT(QUIRE_ERR_PAGER, "vnode", quire_object_open(vnode, NULL, 12345, QUIRE_OPEN_READ, &object));
    CHECK(quire_last_errno() == EBADF);
    /* Unreadable for everyone, root included: a descriptor that may only write. */
    fd = open(path, O_WRONLY);
    CHECK(fd >= 0);
    EXPECT(QUIRE_ERR_PAGER, "vnode", quire_object_open(vnode, NULL, fd, QUIRE_OPEN_READ, &object));
    close(fd);
    if (geteuid() != 0) {
        CHECK(chmod(path, 0) == 0);
        EXPECT(QUIRE_ERR_PAGER, path, quire_object_open(vnode, path, -1, QUIRE_OPEN_READ, &object));
        CHECK(quire_last_errno() == EACCES);
    }
    CHECK(object == file);
    tear_down();
}

static void a_file_that_is_truncated_while_mapped_gives_bus_errors_and_the_rest_works(void)
{
    unsigned char byte = 0;
    uint64_t addr;
    set_up();
    addr = mapped(QUIRE_PROT_READ);
    CHECK(truncate(path, (off_t)(2 * PAGE + 10)) == 0);
    EXPECT(QUIRE_FAULT_BUS_OBJERR, "ends before", quire_load(map, addr + 3 * PAGE, &byte, 1, NULL));
    EXPECT(QUIRE_FAULT_BUS_OBJERR, "ends before", quire_read(map, addr + 5 * PAGE, &byte, 1, NULL));
    OK(quire_load(map, addr + PAGE, &byte, 1, NULL));
    CHECK(byte == byte_at(PAGE));
    OK(quire_load(map, addr + 2 * PAGE + 10, &byte, 1, NULL));
    CHECK(byte == 0);
    tear_down();
}

static void an_open_descriptor_is_enough(void)
{
    struct quire_object *object;
    uint64_t size = 0;
    char name[512];
    int fd;
    set_up();
    fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    OK(quire_object_open(vnode, NULL, fd, QUIRE_OPEN_READ, &object));
    close(fd);
    OK(quire_object_size(object, &size));
    CHECK(size == PAGES * PAGE);
    OK(quire_object_describe(object, name, sizeof name));
    CHECK(strncmp(name, "vnode", 5) == 0);
    OK(quire_object_describe(object, name, 4));
    CHECK(strcmp(name, "vno") == 0);
    OK(quire_object_release(object));
    tear_down();
}

static void faults_tell_their_reasons_apart(void)
{
    struct quire_map_request request = request_of(PAGES * PAGE, QUIRE_PROT_READ);
    struct quire_fault_info info;
    unsigned char bytes[2];
    uint64_t addr = 0;
    size_t done = 0;
    set_up_with(QUIRE_OPEN_READ, 3 * PAGE - 5);
    OK(quire_map(map, file, &request, &addr));
    EXPECT(QUIRE_FAULT_SEGV_MAPERR, "nothing is mapped", quire_fault(map, addr + PAGES * PAGE, QUIRE_ACCESS_READ, NULL));
    EXPECT(QUIRE_FAULT_SEGV_MAPERR, "nothing is mapped", quire_load(map, 0, bytes, 1, NULL));
    EXPECT(QUIRE_FAULT_SEGV_ACCERR, "does not allow", quire_fault(map, addr, QUIRE_ACCESS_WRITE, NULL));
    EXPECT(QUIRE_FAULT_SEGV_ACCERR, "does not allow", quire_fault(map, addr, QUIRE_ACCESS_EXEC, NULL));
    EXPECT(QUIRE_FAULT_SEGV_ACCERR, "does not allow", quire_store(map, addr, bytes, 1, NULL));
    EXPECT(QUIRE_FAULT_BUS_OBJERR, "ends before", quire_fault(map, addr + 3 * PAGE, QUIRE_ACCESS_READ, NULL));
    /* How far it came is told also when it failed. */
    EXPECT(QUIRE_FAULT_BUS_OBJERR, "ends before", quire_read(map, addr + 3 * PAGE - 1, bytes, 2, &done));
    CHECK(done == 1 && bytes[0] == 0);
    EXPECT(QUIRE_FAULT_SEGV_MAPERR, "nothing is mapped", quire_read(map, UINT64_MAX, bytes, 2, &done));
    CHECK(done == 0);

    memset(&info, 0x5a, sizeof info);
    info.struct_size = sizeof info;
    OK(quire_fault(map, addr + PAGE, QUIRE_ACCESS_READ, &info));
    CHECK(info.fault_case == QUIRE_CASE_2A && info.resident == 0 && info.struct_size == sizeof info);
    OK(quire_fault(map, addr + PAGE, QUIRE_ACCESS_READ, &info));
    CHECK(info.resident == 1);
    tear_down();
}

static void what_is_stored_reaches_the_file_and_nothing_beyond_its_end(void)
{
    const char *words = "written through a mapping";
    char back[64];
    struct quire_stats stats;
    struct stat st;
    uint64_t addr;
    size_t done = 0;
    int fd;
    set_up_with(QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, 5 * PAGE + 100);
    addr = mapped(RW);
    OK(quire_store(map, addr + 7, words, strlen(words), &done));
    CHECK(done == strlen(words));
    OK(quire_write(map, addr + 3 * PAGE - 4, words, strlen(words), &done));
    /* Beyond the end, in the last page: that is memory, and no part of the file. */
    OK(quire_store(map, addr + 5 * PAGE + 90, words, strlen(words), NULL));
    OK(quire_object_flush(file, 0, 0, QUIRE_DURABLE));
    stats = stats_of(engine);
    CHECK(stats.pages_out == 4 && stats.faults_2a_write >= 2);
    fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    CHECK(st.st_size == (off_t)(5 * PAGE + 100));
    CHECK(pread(fd, back, strlen(words), 7) == (ssize_t)strlen(words) && memcmp(back, words, strlen(words)) == 0);
    CHECK(pread(fd, back, 64, (off_t)(3 * PAGE - 4)) == 64 && memcmp(back, words, strlen(words)) == 0);
    CHECK(pread(fd, back, 64, (off_t)(5 * PAGE + 90)) == 10 && memcmp(back, words, 10) == 0);
    close(fd);
    tear_down();
}

static void destroying_everything_writes_what_is_dirty(void)
{
    unsigned char byte = 0xee, back = 0;
    uint64_t addr;
    int fd;
    set_up();
    addr = mapped(RW);
    OK(quire_store(map, addr + 9 * PAGE, &byte, 1, NULL));
    tear_down();
    fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && pread(fd, &back, 1, (off_t)(9 * PAGE)) == 1 && back == 0xee);
    close(fd);
}

static void opening_a_file_twice_gives_one_object(void)
{
    struct quire_object *again;
    struct quire_map_request request = request_of(PAGE, QUIRE_PROT_READ);
    unsigned char byte = 0x77, back = 0;
    uint64_t addr, other = 0;
    set_up();
    addr = mapped(RW);
    OK(quire_store(map, addr, &byte, 1, NULL));
    OK(quire_object_open(vnode, path, -1, QUIRE_OPEN_READ, &again));
    OK(quire_map(map, again, &request, &other));
    OK(quire_load(map, other, &back, 1, NULL));
    CHECK(back == 0x77 && stats_of(engine).objects == 1);
    OK(quire_object_release(again));
    tear_down();
}

static void ends_are_refused_while_something_is_in_use_and_everything_works_on(void)
{
    unsigned char byte;
    uint64_t addr;
    set_up();
    addr = mapped(RW);
    EXPECT(QUIRE_ERR_IN_USE, "map", quire_engine_destroy(engine, 0));
    EXPECT(QUIRE_ERR_IN_USE, "map", quire_engine_destroy(engine, QUIRE_DISCARD));
    EXPECT(QUIRE_ERR_IN_USE, "1 object", quire_pager_unload(vnode));
    EXPECT(QUIRE_ERR_IN_USE, "referenced", quire_object_discard(file));
    OK(quire_load(map, addr, &byte, 1, NULL));
    OK(quire_map_destroy(map));
    EXPECT(QUIRE_ERR_IN_USE, "release", quire_engine_destroy(engine, 0));
    OK(quire_object_release(file));
    OK(quire_pager_unload(vnode));
    OK(quire_engine_destroy(engine, 0));
}

static void discard_gives_up_what_is_dirty(void)
{
    unsigned char byte = 0xee, back = 0;
    uint64_t addr;
    int fd;
    set_up();
    addr = mapped(RW);
    OK(quire_store(map, addr, &byte, 1, NULL));
    OK(quire_map_destroy(map));
    OK(quire_object_discard(file));
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_object_release(file));
    OK(quire_engine_destroy(engine, 0));
    fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && pread(fd, &back, 1, 0) == 1 && back == byte_at(0));
    close(fd);
}

static void two_engines_share_a_plugin_and_nothing_else(void)
{
    struct quire_engine *other;
    struct quire_pager *others, *configured = NULL;
    set_up();
    OK(quire_engine_create(NULL, &other));
    OK(quire_pager_load(other, "vnode", NULL, &others));
    CHECK(others != vnode && info_of(vnode).open_objects == 1);
    EXPECT(QUIRE_ERR_IN_USE, "configuration", quire_pager_load(other, "vnode", "other=1", &configured));
    OK(quire_pager_unload(others));
    OK(quire_engine_destroy(other, 0));
    CHECK(strcmp(info_of(vnode).name, "vnode") == 0);
    tear_down();
}

static void a_file_larger_than_memory_is_read_whole(void)
{
    struct quire_engine_options options;
    struct quire_map_request request = request_of(256 * PAGE, RW);
    uint64_t addr = 0, i;
    make_file("large", 256 * PAGE);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.memory = 48 * PAGE;
    options.reserve = 6 * PAGE;
    OK(quire_engine_create(&options, &engine));
    OK(quire_pager_load(engine, "vnode", NULL, &vnode));
    OK(quire_object_open(vnode, path, -1, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, &file));
    OK(quire_map_create(engine, 0, 0, &map));
    OK(quire_map(map, file, &request, &addr));
    for (i = 0; i < 256; i++) {
        unsigned char byte = 0;
        OK(quire_load(map, addr + i * PAGE + i, &byte, 1, NULL));
        CHECK(byte == byte_at(i * PAGE + i));
        byte = (unsigned char)~byte;
        OK(quire_store(map, addr + i * PAGE + i, &byte, 1, NULL));
    }
    CHECK(stats_of(engine).frames_total == 48 && stats_of(engine).pages_reclaimed >= 200);
    for (i = 0; i < 256; i++) {
        unsigned char byte = 0;
        OK(quire_load(map, addr + i * PAGE + i, &byte, 1, NULL));
        CHECK(byte == (unsigned char)~byte_at(i * PAGE + i));
    }
    tear_down();
}

static void options_are_checked(void)
{
    struct {
        struct quire_engine_options known;
        uint64_t unknown;
    } newer;
    struct quire_engine *none = NULL;
    memset(&newer, 0, sizeof newer);
    EXPECT(QUIRE_ERR_INVALID, "struct_size", quire_engine_create(&newer.known, &none));
    newer.known.struct_size = sizeof newer.known - 1;
    EXPECT(QUIRE_ERR_INVALID, "struct_size", quire_engine_create(&newer.known, &none));
    newer.known.struct_size = 1 << 20;
    EXPECT(QUIRE_ERR_INVALID, "struct_size", quire_engine_create(&newer.known, &none));
    newer.known.struct_size = sizeof newer;
    newer.unknown = 1;
    EXPECT(QUIRE_ERR_INVALID, "does not know", quire_engine_create(&newer.known, &none));
    newer.unknown = 0;
    newer.known.machine = 9;
    EXPECT(QUIRE_ERR_INVALID, "machine 9", quire_engine_create(&newer.known, &none));
    newer.known.machine = QUIRE_MACHINE_SOFT;
    newer.known.flags = 0x100;
    EXPECT(QUIRE_ERR_INVALID, "0x100", quire_engine_create(&newer.known, &none));
    newer.known.flags = 0;
    newer.known.memory = PAGE;
    EXPECT(QUIRE_ERR_INVALID, "no room", quire_engine_create(&newer.known, &none));
    newer.known.memory = 1 << 20;
    newer.known.reserve = UINT64_MAX;
    EXPECT(QUIRE_ERR_INVALID, "no room", quire_engine_create(&newer.known, &none));
    CHECK(none == NULL);
    newer.known.reserve = 0;
    OK(quire_engine_create(&newer.known, &none));
    OK(quire_engine_destroy(none, 0));
}

static void answers_are_cut_to_what_the_caller_knows(void)
{
    unsigned char raw[sizeof(struct quire_stats)];
    uint32_t size = 16;
    size_t i;
    set_up();
    memset(raw, 0x5a, sizeof raw);
    memcpy(raw, &size, sizeof size);
    OK(quire_engine_stats(engine, (struct quire_stats *)(void *)raw));
    for (i = size; i < sizeof raw; i++)
        CHECK(raw[i] == 0x5a);
    tear_down();
}

static void the_table_is_the_same_api(void)
{
    const struct quire_api_table *table = quire_api(QUIRE_API_VERSION);
    CHECK(table != NULL && table->struct_size == sizeof *table && table->api_version == QUIRE_API_VERSION);
    CHECK(quire_api(QUIRE_API_VERSION + 1) == NULL && quire_api(1 << 16) == NULL);
    CHECK(strcmp(table->version(), quire_version()) == 0);
    CHECK(table->map == quire_map && table->store == quire_store && table->engine_create == quire_engine_create);
    CHECK(QUIRE_HAS(table, struct quire_api_table, store));
    CHECK(strcmp(quire_status_name(QUIRE_FAULT_BUS_OBJERR), "QUIRE_FAULT_BUS_OBJERR") == 0);
    CHECK(strcmp(quire_status_name(12345), "QUIRE_?") == 0);
    CHECK(quire_pager_errno(QUIRE_PAGER_PEND) == 0 && quire_pager_errno(QUIRE_PAGER_ERROR) == EIO);
    CHECK(quire_pager_errno(QUIRE_PAGER_AGAIN) == EAGAIN && quire_pager_errno(QUIRE_PAGER_UNLOCK) == EBUSY);
}

static void *fail_on_another_thread(void *unused)
{
    CHECK(quire_last_error()[0] == '\0');
    EXPECT(QUIRE_ERR_HANDLE, "map is NULL", quire_map_destroy(NULL));
    return unused;
}

static void the_last_error_belongs_to_its_thread(void)
{
    pthread_t thread;
    char before[256];
    EXPECT(QUIRE_ERR_HANDLE, "engine is NULL", quire_engine_destroy(NULL, 0));
    strncpy(before, quire_last_error(), sizeof before - 1);
    before[sizeof before - 1] = '\0';
    CHECK(pthread_create(&thread, NULL, fail_on_another_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(strcmp(before, quire_last_error()) == 0);
}

static void *fault_over_and_over(void *at)
{
    uint64_t addr = *(const uint64_t *)at, i;
    unsigned char byte;
    for (i = 0; i < 200 * PAGES; i++) {
        OK(quire_load(map, addr + i % PAGES * PAGE, &byte, 1, NULL));
        CHECK(byte == byte_at(i % PAGES * PAGE));
    }
    return NULL;
}

static void threads_fault_on_one_map(void)
{
    pthread_t threads[4];
    uint64_t addr;
    int i;
    set_up();
    addr = mapped(QUIRE_PROT_READ);
    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, fault_over_and_over, &addr) == 0);
    for (i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(stats_of(engine).pages_in == PAGES);
    tear_down();
}

static void plugins_that_cannot_be_loaded_are_refused_with_a_status_of_their_own(void)
{
    struct quire_pager *none = NULL;
    char name[5000];
    FILE *out;
    set_up();
    EXPECT(QUIRE_ERR_NOT_FOUND, "looked for", quire_pager_load(engine, "no-such-pager", NULL, &none));
    EXPECT(QUIRE_ERR_LOAD_NAME, "name of a pager", quire_pager_load(engine, "", NULL, &none));
    EXPECT(QUIRE_ERR_LOAD_NAME, "name of a pager", quire_pager_load(engine, "no such", NULL, &none));
    EXPECT(QUIRE_ERR_LOAD_NOT_ELF, path, quire_pager_load(engine, path, NULL, &none));
    EXPECT(QUIRE_ERR_LOAD_NOT_REGULAR, folder, quire_pager_load(engine, folder, NULL, &none));
    snprintf(name, sizeof name, "%s/gone.so", folder);
    unlink(name);
    EXPECT(QUIRE_ERR_LOAD_UNREADABLE, "gone.so", quire_pager_load(engine, name, NULL, &none));
    CHECK(quire_last_errno() == ENOENT);
    /* The first bytes of a shared library, and no more. */
    out = fopen(name, "wb");
    CHECK(out != NULL && fwrite("\177ELF\2\1\1", 1, 7, out) == 7 && fclose(out) == 0);
    EXPECT(QUIRE_ERR_LOAD_TRUNCATED, "truncated", quire_pager_load(engine, name, NULL, &none));
    CHECK(none == NULL);
    tear_down();
}

static int32_t never(void *a, void *b)
{
    (void)a;
    (void)b;
    return QUIRE_PAGER_ERROR;
}

static int32_t never_open(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    (void)ctx;
    (void)args;
    (void)out;
    return QUIRE_PAGER_ERROR;
}

static int32_t never_get(void *object, struct quire_pager_io *io)
{
    (void)object;
    (void)io;
    return QUIRE_PAGER_ERROR;
}

static void a_table_is_checked_as_a_plugin_is(void)
{
    static struct quire_pager_module table;
    struct quire_pager *pager = NULL;
    struct quire_object *object = NULL;
    set_up();
    table.struct_size = sizeof table;
    EXPECT(QUIRE_ERR_LOAD_MAGIC, "magic", quire_pager_register(engine, &table, NULL, &pager));
    table.magic = QUIRE_PAGER_MAGIC;
    table.abi_version = 99 << 16;
    EXPECT(QUIRE_ERR_LOAD_VERSION, "99.0", quire_pager_register(engine, &table, NULL, &pager));
    table.abi_version = QUIRE_PAGER_ABI_VERSION;
    table.struct_size = 20;
    EXPECT(QUIRE_ERR_LOAD_SIZE, "20 bytes", quire_pager_register(engine, &table, NULL, &pager));
    table.struct_size = sizeof table;
    table.thread_model = 50;
    EXPECT(QUIRE_ERR_LOAD_MODULE, "thread_model", quire_pager_register(engine, &table, NULL, &pager));
    table.thread_model = QUIRE_THREADS_PARALLEL;
    EXPECT(QUIRE_ERR_LOAD_MODULE, "name", quire_pager_register(engine, &table, NULL, &pager));
    table.name = "table";
    table.open = never_open;
    table.close = never;
    EXPECT(QUIRE_ERR_LOAD_OPERATION, "get", quire_pager_register(engine, &table, NULL, &pager));
    CHECK(pager == NULL);
    table.get = never_get;
    OK(quire_pager_register(engine, &table, NULL, &pager));
    EXPECT(QUIRE_ERR_PAGER, "table", quire_object_open(pager, "x", -1, 0, &object));
    CHECK(object == NULL && strcmp(info_of(pager).name, "table") == 0);
    OK(quire_pager_unload(pager));
    tear_down();
}

static const struct test_case cases[] = {
    CASE(map_refuses_a_length_of_zero),
    CASE(map_refuses_what_is_not_page_aligned),
    CASE(map_refuses_overflow),
    CASE(map_refuses_unknown_flags_and_numbers),
    CASE(map_refuses_a_protection_above_its_maximum),
    CASE(map_refuses_places_that_are_taken_or_not_there),
    CASE(map_refuses_objects_of_another_engine),
    CASE(an_object_opened_for_reading_is_not_mapped_for_writing),
    CASE(protect_refuses_bad_ranges_and_rights),
    CASE(what_is_mapped_can_be_synced_brought_in_and_let_go),
    CASE(the_other_calls_on_ranges_refuse_the_same),
    CASE(a_range_for_a_map_makes_sense),
    CASE(null_is_refused_wherever_a_pointer_must_be),
    CASE(a_handle_that_is_null_is_caught),
    CASE(a_handle_of_another_kind_is_caught),
    CASE(a_closed_handle_is_caught_also_after_others_were_opened),
    CASE(files_that_cannot_be_paged_are_refused_with_the_systems_words),
    CASE(a_file_that_is_truncated_while_mapped_gives_bus_errors_and_the_rest_works),
    CASE(an_open_descriptor_is_enough),
    CASE(faults_tell_their_reasons_apart),
    CASE(what_is_stored_reaches_the_file_and_nothing_beyond_its_end),
    CASE(destroying_everything_writes_what_is_dirty),
    CASE(opening_a_file_twice_gives_one_object),
    CASE(ends_are_refused_while_something_is_in_use_and_everything_works_on),
    CASE(discard_gives_up_what_is_dirty),
    CASE(two_engines_share_a_plugin_and_nothing_else),
    CASE(a_file_larger_than_memory_is_read_whole),
    CASE(options_are_checked),
    CASE(answers_are_cut_to_what_the_caller_knows),
    CASE(the_table_is_the_same_api),
    CASE(the_last_error_belongs_to_its_thread),
    CASE(threads_fault_on_one_map),
    CASE(plugins_that_cannot_be_loaded_are_refused_with_a_status_of_their_own),
    CASE(a_table_is_checked_as_a_plugin_is),
};

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    folder = argv[2];
    return run_case(cases, sizeof cases / sizeof *cases, argv[1]);
}
