/*
 * Anonymous memory, private mappings, copies and forks on the soft machine, by the C API. Compiles as C and as C++.
 * Usage: anonymous CASE FOLDER
 */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "swapping.h"

#define PAGE ((uint64_t)QUIRE_PAGE_SIZE)
#define MIB ((uint64_t)1 << 20)
#define RW (QUIRE_PROT_READ | QUIRE_PROT_WRITE)

static const char *folder;
static char path[4096];
static struct quire_engine *engine;
static struct quire_pager *anon;
static struct quire_map *map;

static void begin(uint64_t memory)
{
    struct quire_engine_options options = on_the_soft_machine();
    options.memory = memory;
    OK(quire_engine_create(&options, &engine));
    OK(quire_map_create(engine, 0, 0, &map));
}

static void begin_with_swap(uint64_t memory, uint64_t swap)
{
    begin(memory);
    anon = load_anon(engine);
    add_file(anon, folder, "swap", swap, 0);
}

static void end(void)
{
    OK(quire_map_destroy(map));
    CHECK(swap_of(engine).used == 0 && stats_of(engine).objects == 0);
    OK(quire_engine_destroy(engine, 0));
}

static uint64_t anonymous(uint64_t length)
{
    struct quire_map_request request = request_of(length, RW);
    uint64_t addr = 0;
    OK(quire_map_anonymous(map, &request, &addr));
    CHECK(addr != 0 && addr % PAGE == 0);
    return addr;
}

static void put_word(struct quire_map *to, uint64_t addr, uint64_t word)
{
    OK(quire_store(to, addr, &word, sizeof word, NULL));
}

static uint64_t word_at(struct quire_map *from, uint64_t addr)
{
    uint64_t word = 77;
    OK(quire_load(from, addr, &word, sizeof word, NULL));
    return word;
}

static uint32_t case_of(struct quire_map *of, uint64_t addr, uint32_t access)
{
    struct quire_fault_info info;
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    OK(quire_fault(of, addr, access, &info));
    return info.fault_case;
}

/* A file of so many pages, whose words are their places. */
static struct quire_object *open_file(uint64_t pages, uint32_t flags)
{
    struct quire_pager *vnode;
    struct quire_object *file;
    uint64_t at;
    FILE *out;
    snprintf(path, sizeof path, "%s/file", folder);
    out = fopen(path, "wb");
    CHECK(out != NULL);
    for (at = 0; at < pages * PAGE; at += sizeof at)
        CHECK(fwrite(&at, sizeof at, 1, out) == 1);
    CHECK(fclose(out) == 0);
    OK(quire_pager_load(engine, "vnode", NULL, &vnode));
    OK(quire_object_open(vnode, path, -1, flags, &file));
    return file;
}

static uint64_t word_of_file(uint64_t at)
{
    uint64_t word = 77;
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && pread(fd, &word, sizeof word, (off_t)at) == (ssize_t)sizeof word);
    close(fd);
    return word;
}

static void anonymous_memory_may_be_larger_than_the_memory_there_is(void)
{
    const uint64_t pages = 2048;
    uint64_t addr, page, turn;
    begin_with_swap(MIB, 16 * MIB);
    addr = anonymous(pages * PAGE);
    CHECK(stats_of(engine).frames_free == stats_of(engine).frames_total);
    for (page = 0; page < pages; page++) {
        CHECK(word_at(map, addr + page * PAGE + 8) == 0);
        put_word(map, addr + page * PAGE + page, page + 1);
    }
    for (turn = 1; turn < 3; turn++)
        for (page = 0; page < pages; page++) {
            uint64_t at = addr + page * PAGE + page;
            CHECK(word_at(map, at) == page + turn);
            put_word(map, at, page + turn + 1);
        }
    CHECK(swap_of(engine).pages_out > pages && swap_of(engine).pages_in > pages && swap_of(engine).used >= pages / 2);
    CHECK(swap_of(engine).gets > 0 && swap_of(engine).puts > 0 && swap_of(engine).pages == 16 * MIB / PAGE);
    CHECK(stats_of(engine).zero_fills >= pages && stats_of(engine).faults_1a > 0);
    end();
}

static void anonymous_mappings_refuse_what_makes_no_sense(void)
{
    struct quire_map_request request = request_of(PAGE, RW);
    uint64_t addr = 5;
    begin(MIB);
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_map_anonymous(map, &request, NULL));
    EXPECT(QUIRE_ERR_INVALID, "quire_map_request", quire_map_anonymous(map, NULL, &addr));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_map_anonymous(NULL, &request, &addr));
    EXPECT(QUIRE_ERR_HANDLE, "kind engine", quire_map_anonymous((struct quire_map *)engine, &request, &addr));
    request.offset = PAGE;
    EXPECT(QUIRE_ERR_INVALID, "no offset", quire_map_anonymous(map, &request, &addr));
    request.offset = 0;
    request.flags = 64;
    EXPECT(QUIRE_ERR_INVALID, "0x40", quire_map_anonymous(map, &request, &addr));
    request.flags = QUIRE_MAP_FIXED | QUIRE_MAP_FIXED_NOREPLACE;
    EXPECT(QUIRE_ERR_INVALID, "contradict", quire_map_anonymous(map, &request, &addr));
    request.flags = QUIRE_MAP_FIXED;
    request.addr = 0x20001;
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_map_anonymous(map, &request, &addr));
    request.flags = 0;
    request.addr = 0;
    request.length = 0;
    EXPECT(QUIRE_ERR_INVALID, "zero", quire_map_anonymous(map, &request, &addr));
    request.length = UINT64_MAX;
    EXPECT(QUIRE_ERR_INVALID, "", quire_map_anonymous(map, &request, &addr));
    request.length = QUIRE_MAP_END;
    EXPECT(QUIRE_ERR_NO_SPACE, "no free range", quire_map_anonymous(map, &request, &addr));
    request.length = PAGE;
    request.inherit = 5;
    EXPECT(QUIRE_ERR_INVALID, "inheritance 5", quire_map_anonymous(map, &request, &addr));
    request.inherit = 0;
    request.struct_size = 3;
    EXPECT(QUIRE_ERR_INVALID, "struct_size", quire_map_anonymous(map, &request, &addr));
    CHECK(addr == 5);
    /* That it is private needs not be said, and may be. */
    request.struct_size = sizeof request;
    request.flags = QUIRE_MAP_PRIVATE;
    OK(quire_map_anonymous(map, &request, &addr));
    CHECK(word_at(map, addr) == 0);
    end();
}

static void a_private_mapping_keeps_its_writes_to_itself(void)
{
    struct quire_map_request request = request_of(8 * PAGE, RW);
    struct quire_object *file, *reader;
    uint64_t shared, own, addr = 0;
    begin(MIB);
    file = open_file(8, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE);
    OK(quire_map(map, file, &request, &shared));
    request.flags = QUIRE_MAP_PRIVATE;
    OK(quire_map(map, file, &request, &own));
    CHECK(case_of(map, own + PAGE, QUIRE_ACCESS_READ) == QUIRE_CASE_2A);
    CHECK(case_of(map, own + 2 * PAGE, QUIRE_ACCESS_WRITE) == QUIRE_CASE_2B);
    CHECK(case_of(map, own + 2 * PAGE, QUIRE_ACCESS_READ) == QUIRE_CASE_1A);
    put_word(map, own + 2 * PAGE, 5);
    put_word(map, shared + 3 * PAGE, 6);
    CHECK(word_at(map, shared + 2 * PAGE) == 2 * PAGE && word_at(map, own + 2 * PAGE + 8) == 2 * PAGE + 8);
    CHECK(word_at(map, own + 3 * PAGE) == 6);
    OK(quire_sync(map, own, 8 * PAGE, QUIRE_SYNC_DURABLE | QUIRE_SYNC_INVALIDATE));
    CHECK(word_at(map, own + 2 * PAGE) == 5 && word_of_file(2 * PAGE) == 2 * PAGE && word_of_file(3 * PAGE) == 3 * PAGE);
    /* To give up what is its own shows the file again. */
    OK(quire_advise(map, own + 2 * PAGE, PAGE, QUIRE_ADVICE_FREE));
    CHECK(word_at(map, own + 2 * PAGE) == 2 * PAGE);
    /* A reader may have it; a shared one may not, and is told of both ways out. */
    OK(quire_object_release(file));
    OK(quire_map_destroy(map));
    OK(quire_engine_destroy(engine, 0));
    begin(MIB);
    reader = open_file(8, QUIRE_OPEN_READ);
    request.flags = 0;
    EXPECT(QUIRE_ERR_UNSUPPORTED, "QUIRE_MAP_PRIVATE", quire_map(map, reader, &request, &addr));
    request.flags = QUIRE_MAP_PRIVATE;
    OK(quire_map(map, reader, &request, &addr));
    put_word(map, addr, 9);
    CHECK(word_at(map, addr) == 9 && word_of_file(0) == 0);
    OK(quire_object_release(reader));
    OK(quire_map_destroy(map));
    OK(quire_engine_destroy(engine, 0));
}

static void an_anonymous_object_is_memory_that_mappings_share(void)
{
    struct quire_map_request request = request_of(600 * PAGE, RW);
    struct quire_object *object = NULL, *other = NULL;
    uint64_t first, second, size = 0, page, resident = 0;
    char name[64];
    begin_with_swap(MIB, 8 * MIB);
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_object_create_anonymous(engine, PAGE, NULL));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_object_create_anonymous(NULL, PAGE, &object));
    EXPECT(QUIRE_ERR_HANDLE, "kind map", quire_object_create_anonymous((struct quire_engine *)map, PAGE, &object));
    EXPECT(QUIRE_ERR_INVALID, "2^64", quire_object_create_anonymous(engine, UINT64_MAX, &object));
    CHECK(object == NULL);
    OK(quire_object_create_anonymous(engine, 600 * PAGE, &object));
    OK(quire_object_size(object, &size));
    OK(quire_object_describe(object, name, sizeof name));
    CHECK(size == 600 * PAGE && strcmp(name, "anonymous memory") == 0);
    OK(quire_map(map, object, &request, &first));
    OK(quire_map(map, object, &request, &second));
    for (page = 0; page < 600; page++)
        put_word(map, (page % 2 == 0 ? first : second) + page * PAGE, page + 1);
    for (page = 0; page < 600; page++)
        CHECK(word_at(map, first + page * PAGE) == page + 1 && word_at(map, second + page * PAGE) == page + 1);
    CHECK(swap_of(engine).used > 300);
    OK(quire_object_flush(object, 0, 0, QUIRE_DURABLE));
    OK(quire_engine_sync(engine, QUIRE_DURABLE));
    /* Cut off and grown again it has zeros there. */
    OK(quire_object_resize(object, 10 * PAGE));
    CHECK(swap_of(engine).used <= 10);
    OK(quire_object_resize(object, 20 * PAGE));
    CHECK(word_at(map, first + 9 * PAGE) == 10 && word_at(map, second + 15 * PAGE) == 0);
    EXPECT(QUIRE_FAULT_BUS_OBJERR, "ends before", quire_load(map, first + 20 * PAGE, &page, 8, NULL));
    /* Two objects are two memories, also of no bytes. */
    OK(quire_object_create_anonymous(engine, 0, &other));
    OK(quire_object_resident(other, &resident));
    CHECK(resident == 0);
    OK(quire_object_release(other));
    OK(quire_object_release(object));
    CHECK(word_at(map, second + 9 * PAGE) == 10);
    end();
}

static void a_fork_leaves_to_a_child_what_was_said(void)
{
    static const uint32_t inherits[] = {QUIRE_INHERIT_SHARE, QUIRE_INHERIT_COPY, QUIRE_INHERIT_NONE, QUIRE_INHERIT_ZERO};
    struct quire_map *child = NULL;
    uint64_t addr, i, word = 0;
    begin_with_swap(MIB, 8 * MIB);
    addr = anonymous(5 * PAGE);
    for (i = 0; i < 5; i++)
        put_word(map, addr + i * PAGE, 1);
    for (i = 0; i < 4; i++)
        OK(quire_inherit(map, addr + i * PAGE, PAGE, inherits[i]));
    EXPECT(QUIRE_ERR_INVALID, "say which", quire_inherit(map, addr, PAGE, QUIRE_INHERIT_DEFAULT));
    OK(quire_map_fork(map, 0, &child));
    EXPECT(QUIRE_FAULT_SEGV_MAPERR, "nothing is mapped", quire_load(child, addr + 2 * PAGE, &word, 8, NULL));
    CHECK(word_at(child, addr) == 1 && word_at(child, addr + PAGE) == 1 && word_at(child, addr + 3 * PAGE) == 0);
    put_word(child, addr, 2);
    put_word(map, addr + PAGE, 3);
    put_word(child, addr + 3 * PAGE, 4);
    put_word(map, addr + 4 * PAGE, 5);
    CHECK(word_at(map, addr) == 2 && word_at(child, addr + PAGE) == 1 && word_at(map, addr + 3 * PAGE) == 1);
    /* What nothing was said about is copied, as after mmap and fork. */
    CHECK(word_at(child, addr + 4 * PAGE) == 1);
    CHECK(case_of(child, addr + 4 * PAGE, QUIRE_ACCESS_WRITE) == QUIRE_CASE_1A);
    OK(quire_map_destroy(map));
    CHECK(word_at(child, addr) == 2 && word_at(child, addr + PAGE) == 1 && word_at(child, addr + 3 * PAGE) == 4);
    map = child;
    end();
}

static void a_fork_shares_files_and_copies_private_mappings_unless_told_otherwise(void)
{
    struct quire_map_request request = request_of(4 * PAGE, RW);
    struct quire_object *file;
    struct quire_map *child = NULL;
    uint64_t shared, own;
    begin(MIB);
    file = open_file(4, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE);
    OK(quire_map(map, file, &request, &shared));
    request.flags = QUIRE_MAP_PRIVATE;
    OK(quire_map(map, file, &request, &own));
    OK(quire_object_release(file));
    put_word(map, own, 5);
    OK(quire_map_fork(map, 0, &child));
    put_word(child, shared, 6);
    put_word(child, own, 7);
    put_word(map, own + PAGE, 8);
    CHECK(word_at(map, shared) == 6 && word_at(map, own) == 5 && word_at(child, own + PAGE) == PAGE);
    OK(quire_map_destroy(child));
    OK(quire_map_destroy(map));
    OK(quire_engine_destroy(engine, 0));
    CHECK(word_of_file(0) == 6 && word_of_file(PAGE) == PAGE);
}

static void a_child_is_a_map_like_others(void)
{
    struct quire_map *child = (struct quire_map *)engine, *grandchild = NULL;
    uint64_t addr, version = 0;
    uint8_t page = 0;
    begin(MIB);
    addr = anonymous(4 * PAGE);
    OK(quire_wire_all(map, QUIRE_WIRE_CURRENT | QUIRE_WIRE_FUTURE));
    put_word(map, addr, 1);
    EXPECT(QUIRE_ERR_INVALID, "0x1", quire_map_fork(map, 1, &child));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_map_fork(map, 0, NULL));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_map_fork(NULL, 0, &child));
    EXPECT(QUIRE_ERR_HANDLE, "kind engine", quire_map_fork((struct quire_map *)engine, 0, &child));
    OK(quire_map_fork(map, 0, &child));
    OK(quire_residency(child, addr, PAGE, &page, 1));
    CHECK(!(page & QUIRE_PAGE_WIRED));
    OK(quire_map_version(child, &version));
    OK(quire_map_fork(child, 0, &grandchild));
    CHECK(word_at(grandchild, addr) == 1);
    OK(quire_map_destroy(child));
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_map_fork(child, 0, &child));
    OK(quire_map_destroy(map));
    EXPECT(QUIRE_ERR_IN_USE, "1 map", quire_engine_destroy(engine, 0));
    CHECK(word_at(grandchild, addr) == 1);
    map = grandchild;
    end();
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_map_fork(grandchild, 0, &child));
}

static void a_copy_shows_the_range_as_it_was(void)
{
    struct quire_copy_request request = copy_to(0, 0);
    struct quire_map *other;
    uint64_t addr, copy = 0, again = 0, page;
    begin_with_swap(MIB, 16 * MIB);
    addr = anonymous(500 * PAGE);
    for (page = 0; page < 500; page++)
        put_word(map, addr + page * PAGE, page + 1);
    OK(quire_map_copy(map, addr, 500 * PAGE, map, NULL, &copy));
    for (page = 0; page < 500; page++)
        put_word(map, addr + page * PAGE, 0);
    /* A part of the copy, to another map, to the address that the first one had. */
    OK(quire_map_create(engine, 0, 0, &other));
    request = copy_to(QUIRE_MAP_FIXED_NOREPLACE, addr);
    OK(quire_map_copy(map, copy + 100 * PAGE, 10 * PAGE - 1, other, &request, &again));
    CHECK(again == addr);
    EXPECT(QUIRE_ERR_OCCUPIED, "already", quire_map_copy(map, copy, PAGE, other, &request, &again));
    for (page = 0; page < 500; page++)
        CHECK(word_at(map, copy + page * PAGE) == page + 1 && word_at(map, addr + page * PAGE) == 0);
    put_word(map, copy + 105 * PAGE, 9);
    for (page = 0; page < 10; page++)
        CHECK(word_at(other, addr + page * PAGE) == page + 101);
    put_word(other, addr, 7);
    CHECK(word_at(map, copy + 100 * PAGE) == 101 && stats_of(engine).faults_1b > 0 && swap_of(engine).pages_out > 0);
    OK(quire_map_destroy(other));
    end();
}

static void a_copy_of_an_objects_pages_is_a_private_mapping_of_it(void)
{
    struct quire_map_request request = request_of(4 * PAGE, RW);
    struct quire_object *file;
    uint64_t shared, copy;
    begin(MIB);
    file = open_file(4, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE);
    OK(quire_map(map, file, &request, &shared));
    OK(quire_object_release(file));
    OK(quire_map_copy(map, shared, 4 * PAGE, map, NULL, &copy));
    put_word(map, copy, 5);
    put_word(map, shared, 6);
    put_word(map, shared + PAGE, 7);
    CHECK(word_at(map, copy) == 5 && word_at(map, copy + PAGE) == 7);
    put_word(map, copy + PAGE + 8, 8);
    put_word(map, shared + PAGE, 9);
    CHECK(word_at(map, copy + PAGE) == 7 && word_at(map, shared + PAGE + 8) == PAGE + 8);
    OK(quire_map_destroy(map));
    OK(quire_engine_destroy(engine, 0));
    CHECK(word_of_file(0) == 6 && word_of_file(PAGE) == 9 && word_of_file(PAGE + 8) == PAGE + 8);
}

/* Memory that is wired stays where it is, and is written without a fault; its copy is made at once, and not wired. */
static void what_is_wired_is_copied_at_once(void)
{
    uint64_t addr, copy = 0, faults, i;
    begin(MIB);
    addr = anonymous(4 * PAGE);
    OK(quire_wire(map, addr, 3 * PAGE));
    for (i = 0; i < 4; i++)
        put_word(map, addr + i * PAGE, i + 1);
    OK(quire_map_copy(map, addr, 4 * PAGE, map, NULL, &copy));
    faults = stats_of(engine).faults;
    for (i = 0; i < 3; i++)
        put_word(map, addr + i * PAGE, 9);
    CHECK(stats_of(engine).faults == faults);
    put_word(map, addr + 3 * PAGE, 9);
    for (i = 0; i < 4; i++) {
        uint8_t of_copy = 0, of_range = 0;
        CHECK(word_at(map, copy + i * PAGE) == i + 1 && word_at(map, addr + i * PAGE) == 9);
        OK(quire_residency(map, copy + i * PAGE, PAGE, &of_copy, 1));
        OK(quire_residency(map, addr + i * PAGE, PAGE, &of_range, 1));
        CHECK(!(of_copy & QUIRE_PAGE_WIRED) && !!(of_range & QUIRE_PAGE_WIRED) == (i < 3));
    }
    end();
}

static void copies_refuse_what_makes_no_sense(void)
{
    struct quire_copy_request request = copy_to(0, 0);
    struct quire_engine *second;
    struct quire_map *foreign;
    uint64_t addr, copy = 5;
    begin(MIB);
    addr = anonymous(4 * PAGE);
    put_word(map, addr, 1);
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_map_copy(map, addr, PAGE, map, NULL, NULL));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_map_copy(NULL, addr, PAGE, map, NULL, &copy));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_map_copy(map, addr, PAGE, NULL, NULL, &copy));
    EXPECT(QUIRE_ERR_INVALID, "zero", quire_map_copy(map, addr, 0, map, NULL, &copy));
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_map_copy(map, addr + 1, PAGE, map, NULL, &copy));
    EXPECT(QUIRE_ERR_INVALID, "overflow", quire_map_copy(map, addr, UINT64_MAX, map, NULL, &copy));
    EXPECT(QUIRE_ERR_NOT_MAPPED, "nothing", quire_map_copy(map, addr, 5 * PAGE, map, NULL, &copy));
    request.flags = 16;
    EXPECT(QUIRE_ERR_INVALID, "0x10", quire_map_copy(map, addr, PAGE, map, &request, &copy));
    request.flags = QUIRE_MAP_FIXED | QUIRE_MAP_FIXED_NOREPLACE;
    EXPECT(QUIRE_ERR_INVALID, "contradict", quire_map_copy(map, addr, PAGE, map, &request, &copy));
    request = copy_to(QUIRE_MAP_FIXED, addr + 7);
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_map_copy(map, addr, PAGE, map, &request, &copy));
    request = copy_to(0, 0);
    request.align = 100;
    EXPECT(QUIRE_ERR_INVALID, "multiple", quire_map_copy(map, addr, PAGE, map, &request, &copy));
    request.align = 0;
    request.struct_size = 0;
    EXPECT(QUIRE_ERR_INVALID, "quire_copy_request", quire_map_copy(map, addr, PAGE, map, &request, &copy));
    {
        struct quire_engine_options options = on_the_soft_machine();
        OK(quire_engine_create(&options, &second));
        OK(quire_map_create(second, 0, 0, &foreign));
        EXPECT(QUIRE_ERR_INVALID, "different engines", quire_map_copy(map, addr, PAGE, foreign, NULL, &copy));
        OK(quire_map_destroy(foreign));
        OK(quire_engine_destroy(second, 0));
    }
    CHECK(copy == 5 && word_at(map, addr) == 1);
    end();
}

#define LIVE 64

static uint64_t live;
static int stop;

static void *go_over_it(void *unused)
{
    uint64_t page, round;
    for (round = 1; !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); round++)
        for (page = 0; page < LIVE; page++) {
            put_word(map, live + page * PAGE, round);
            put_word(map, live + page * PAGE + PAGE - 8, round);
        }
    return unused;
}

/* What one thread writes in order is in a copy up to one moment: some pages of a round, and then those of the round before. */
static void snapshots_of_memory_that_is_written_show_one_moment(void)
{
    pthread_t thread;
    int taken;
    begin_with_swap(MIB, 16 * MIB);
    live = anonymous(LIVE * PAGE);
    CHECK(pthread_create(&thread, NULL, go_over_it, NULL) == 0);
    for (taken = 0; taken < 50; taken++) {
        uint64_t copy = 0, seen[2 * LIVE], i;
        OK(quire_map_copy(map, live, LIVE * PAGE, map, NULL, &copy));
        for (i = 0; i < 2 * LIVE; i++)
            seen[i] = word_at(map, copy + i / 2 * PAGE + (i % 2 == 0 ? 0 : PAGE - 8));
        for (i = 0; i + 1 < 2 * LIVE; i++)
            CHECK(seen[i] == seen[i + 1] || seen[i] == seen[i + 1] + 1);
        CHECK(seen[0] - seen[2 * LIVE - 1] <= 1);
        while (word_at(map, live + LIVE * PAGE - 8) < seen[0] + 2)
            sched_yield();
        for (i = 0; i < 2 * LIVE; i++)
            CHECK(seen[i] == word_at(map, copy + i / 2 * PAGE + (i % 2 == 0 ? 0 : PAGE - 8)));
        OK(quire_unmap(map, copy, LIVE * PAGE));
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    CHECK(pthread_join(thread, NULL) == 0);
    end();
}

static uint8_t residency_of(uint64_t addr)
{
    uint8_t page = 0;
    OK(quire_residency(map, addr, PAGE, &page, 1));
    return page;
}

static void everything_is_wired_now_and_from_now_on(void)
{
    struct quire_map_request request = request_of(8 * MIB, RW);
    uint64_t early, late, more, none = 5;
    begin(MIB);
    early = anonymous(4 * PAGE);
    EXPECT(QUIRE_ERR_INVALID, "nothing to wire", quire_wire_all(map, 0));
    EXPECT(QUIRE_ERR_INVALID, "0x4", quire_wire_all(map, 4));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_wire_all(NULL, QUIRE_WIRE_CURRENT));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_unwire_all(NULL));
    OK(quire_wire_all(map, QUIRE_WIRE_CURRENT));
    request.length = PAGE;
    request.addr = early + 64 * PAGE;
    OK(quire_map_anonymous(map, &request, &late));
    CHECK(residency_of(early + 3 * PAGE) & QUIRE_PAGE_WIRED && residency_of(late) == 0);
    OK(quire_wire_all(map, QUIRE_WIRE_FUTURE));
    request.addr = early + 128 * PAGE;
    OK(quire_map_anonymous(map, &request, &more));
    CHECK(residency_of(more) & QUIRE_PAGE_WIRED && residency_of(late) == 0);
    /* What cannot be wired is not mapped. */
    request.length = 8 * MIB;
    EXPECT(QUIRE_FAULT_NOMEM, "memory", quire_map_anonymous(map, &request, &none));
    CHECK(none == 5 && stats_of(engine).frames_free > 200);
    OK(quire_wire(map, more, PAGE));
    OK(quire_unwire_all(map));
    CHECK(!(residency_of(early) & QUIRE_PAGE_WIRED) && residency_of(more) & QUIRE_PAGE_WIRED);
    request.length = PAGE;
    request.addr = early + 256 * PAGE;
    OK(quire_map_anonymous(map, &request, &late));
    CHECK(residency_of(late) == 0);
    OK(quire_unwire_all(map));
    CHECK(!(residency_of(more) & QUIRE_PAGE_WIRED));
    end();
}

static void what_is_freed_is_zeros_again(void)
{
    uint64_t addr, page;
    begin_with_swap(MIB, 8 * MIB);
    addr = anonymous(400 * PAGE);
    for (page = 0; page < 400; page++)
        put_word(map, addr + page * PAGE, page + 1);
    OK(quire_wire(map, addr, PAGE));
    CHECK(swap_of(engine).used > 100);
    EXPECT(QUIRE_ERR_NOT_MAPPED, "nothing", quire_advise(map, addr, 401 * PAGE, QUIRE_ADVICE_FREE));
    EXPECT(QUIRE_ERR_INVALID, "zero", quire_advise(map, addr, 0, QUIRE_ADVICE_FREE));
    EXPECT(QUIRE_ERR_INVALID, "advice 7", quire_advise(map, addr, PAGE, 7));
    CHECK(word_at(map, addr + 399 * PAGE) == 400);
    OK(quire_advise(map, addr, 399 * PAGE, QUIRE_ADVICE_FREE));
    CHECK(swap_of(engine).used <= 1);
    CHECK(word_at(map, addr) == 1 && word_at(map, addr + 399 * PAGE) == 400);
    for (page = 1; page < 399; page++)
        CHECK(word_at(map, addr + page * PAGE) == 0);
    /* All other advice loses nothing. */
    put_word(map, addr + PAGE, 2);
    OK(quire_advise(map, addr, 400 * PAGE, QUIRE_ADVICE_DONTNEED));
    OK(quire_advise(map, addr, 400 * PAGE, QUIRE_ADVICE_COLD));
    OK(quire_advise(map, addr, 400 * PAGE, QUIRE_ADVICE_WILLNEED));
    OK(quire_prefetch(map, addr, 400 * PAGE));
    OK(quire_sync(map, addr, 400 * PAGE, QUIRE_SYNC_DURABLE | QUIRE_SYNC_INVALIDATE));
    CHECK(word_at(map, addr + PAGE) == 2);
    end();
}

static void in_an_interrupt_safe_map_nothing_faults(void)
{
    struct quire_map_request request = request_of(4 * PAGE, RW);
    struct quire_map *safe[64], *none = NULL;
    uint64_t addr = 0, word = 0;
    uint32_t is = 9;
    int i;
    begin(MIB);
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_map_create_interrupt_safe(engine, 0, 0, NULL));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_map_create_interrupt_safe(NULL, 0, 0, &none));
    EXPECT(QUIRE_ERR_INVALID, "empty", quire_map_create_interrupt_safe(engine, PAGE, PAGE, &none));
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_map_create_interrupt_safe(engine, 5, 10 * PAGE, &none));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_engine_is_interrupt_safe(engine, 0, NULL));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_engine_is_interrupt_safe(NULL, 0, &is));
    CHECK(is == 9 && none == NULL);
    for (i = 0; i < 64; i++) {
        uint64_t start = (uint64_t)(i + 1) << 32;
        OK(quire_map_create_interrupt_safe(engine, start, start + 16 * PAGE, &safe[i]));
    }
    EXPECT(QUIRE_ERR_NOMEM, "memory", quire_map_create_interrupt_safe(engine, 0, 0, &none));
    OK(quire_map_anonymous(safe[2], &request, &addr));
    EXPECT(QUIRE_FAULT_INTERRUPT_SAFE, "has to be wired", quire_load(safe[2], addr, &word, 8, NULL));
    EXPECT(QUIRE_FAULT_INTERRUPT_SAFE, "has to be wired", quire_fault(safe[2], addr, QUIRE_ACCESS_READ, NULL));
    OK(quire_wire_all(safe[2], QUIRE_WIRE_CURRENT));
    put_word(safe[2], addr + PAGE, 4);
    CHECK(word_at(safe[2], addr + PAGE) == 4);
    OK(quire_engine_is_interrupt_safe(engine, addr, &is));
    CHECK(is == 1);
    OK(quire_engine_is_interrupt_safe(engine, ((uint64_t)3 << 32) + 16 * PAGE, &is));
    CHECK(is == 0);
    OK(quire_engine_is_interrupt_safe(engine, UINT64_MAX, &is));
    CHECK(is == 0);
    for (i = 0; i < 64; i++)
        OK(quire_map_destroy(safe[i]));
    OK(quire_engine_is_interrupt_safe(engine, addr, &is));
    CHECK(is == 0);
    end();
}

static const struct test_case cases[] = {
    CASE(anonymous_memory_may_be_larger_than_the_memory_there_is),
    CASE(anonymous_mappings_refuse_what_makes_no_sense),
    CASE(a_private_mapping_keeps_its_writes_to_itself),
    CASE(an_anonymous_object_is_memory_that_mappings_share),
    CASE(a_fork_leaves_to_a_child_what_was_said),
    CASE(a_fork_shares_files_and_copies_private_mappings_unless_told_otherwise),
    CASE(a_child_is_a_map_like_others),
    CASE(a_copy_shows_the_range_as_it_was),
    CASE(a_copy_of_an_objects_pages_is_a_private_mapping_of_it),
    CASE(what_is_wired_is_copied_at_once),
    CASE(copies_refuse_what_makes_no_sense),
    CASE(snapshots_of_memory_that_is_written_show_one_moment),
    CASE(everything_is_wired_now_and_from_now_on),
    CASE(what_is_freed_is_zeros_again),
    CASE(in_an_interrupt_safe_map_nothing_faults),
};

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    folder = argv[2];
    return run_case(cases, sizeof cases / sizeof *cases, argv[1]);
}
