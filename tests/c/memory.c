/*
 * Memory, by the C API: what is kept, freed, wired and written, and the threads that see to it. Compiles as C and as C++.
 * Usage: memory CASE FOLDER
 */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE ((uint64_t)QUIRE_PAGE_SIZE)
#define RW (QUIRE_PROT_READ | QUIRE_PROT_WRITE)
#define WRITABLE (QUIRE_OPEN_READ | QUIRE_OPEN_WRITE)
#define PAGES 16
#define DISK 256
#include "gated_disk.h"
#define UNTOUCHED ((uint64_t)0x5a5a5a5a5a5a5a5a)
#define NO_THREADS (QUIRE_NO_DAEMON_THREAD | QUIRE_NO_READ_AHEAD_THREAD | QUIRE_NO_WATCHDOG_THREAD)

static const char *folder;
static char path[4096];
static struct quire_engine *engine;
static struct quire_pager *vnode;
static struct quire_object *file;
static struct quire_map *map;

static struct quire_engine_options options_of(uint32_t flags)
{
    struct quire_engine_options options = on_the_soft_machine();
    options.flags = flags;
    return options;
}

static struct quire_put put_of(void)
{
    struct quire_put put;
    memset(&put, 0, sizeof put);
    put.struct_size = sizeof put;
    return put;
}

static struct quire_step step_of(void)
{
    struct quire_step step;
    memset(&step, 0, sizeof step);
    step.struct_size = sizeof step;
    return step;
}

/* A file of so many bytes, each with the number of its page. */
static void make_file(const char *name, uint64_t size)
{
    uint64_t i;
    FILE *out;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    out = fopen(path, "wb");
    CHECK(out != NULL);
    for (i = 0; i < size; i++)
        CHECK(fputc((int)(i / PAGE & 0xff), out) != EOF);
    CHECK(fclose(out) == 0);
}

static off_t file_size(void)
{
    struct stat st;
    CHECK(stat(path, &st) == 0);
    return st.st_size;
}

static unsigned char file_byte(uint64_t at)
{
    unsigned char byte = 0;
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
    close(fd);
    return byte;
}

static void set_up_with(const struct quire_engine_options *options, uint32_t flags, uint64_t pages)
{
    make_file("file", pages * PAGE);
    OK(quire_engine_create(options, &engine));
    OK(quire_pager_load(engine, "vnode", NULL, &vnode));
    OK(quire_object_open(vnode, path, -1, flags, &file));
    OK(quire_map_create(engine, 0, 0, &map));
}

/* Sixteen pages, and no thread but this one. */
static void set_up(void)
{
    struct quire_engine_options options = options_of(NO_THREADS);
    set_up_with(&options, WRITABLE, PAGES);
}

static void tear_down(void)
{
    OK(quire_map_destroy(map));
    OK(quire_object_release(file));
    OK(quire_engine_destroy(engine, 0));
}

static uint64_t mapped(uint64_t pages, uint32_t prot)
{
    struct quire_map_request request = request_of(pages * PAGE, prot);
    uint64_t addr = 0;
    request.advice = QUIRE_ADVICE_RANDOM;
    OK(quire_map(map, file, &request, &addr));
    return addr;
}

static void store_byte(uint64_t addr, unsigned char byte)
{
    OK(quire_store(map, addr, &byte, 1, NULL));
}

static unsigned char load_byte(uint64_t addr)
{
    unsigned char byte = 0;
    OK(quire_load(map, addr, &byte, 1, NULL));
    return byte;
}

static uint64_t resident(void)
{
    uint64_t pages = 0;
    OK(quire_object_resident(file, &pages));
    return pages;
}

static int threads_here(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    CHECK(tasks != NULL);
    while ((task = readdir(tasks)) != NULL)
        count += task->d_name[0] != '.';
    closedir(tasks);
    return count;
}

/* The system may list a thread for a moment after it was joined. */
static void wait_for_threads(int count)
{
    while (threads_here() != count)
        sched_yield();
}

static void resize_shrinks_and_grows_the_file(void)
{
    uint64_t addr, size = 0;
    unsigned char byte = 0;
    set_up();
    addr = mapped(PAGES, RW);
    store_byte(addr + 3 * PAGE + 20, 0xee);
    store_byte(addr + 9 * PAGE, 0xee);
    OK(quire_object_resize(file, 3 * PAGE + 10));
    OK(quire_object_size(file, &size));
    CHECK(size == 3 * PAGE + 10 && file_size() == (off_t)size && resident() == 1);
    EXPECT(QUIRE_FAULT_BUS_OBJERR, "ends before", quire_load(map, addr + 9 * PAGE, &byte, 1, NULL));
    OK(quire_object_resize(file, 10 * PAGE));
    CHECK(file_size() == (off_t)(10 * PAGE));
    CHECK(load_byte(addr + 3 * PAGE + 9) == 3 && load_byte(addr + 3 * PAGE + 20) == 0 && load_byte(addr + 9 * PAGE) == 0);
    tear_down();
    CHECK(file_byte(3 * PAGE + 9) == 3 && file_byte(3 * PAGE + 20) == 0 && file_byte(9 * PAGE) == 0);
}

static void resize_refuses_readers_and_sizes_that_cannot_be(void)
{
    struct quire_object *reader;
    uint64_t size = 0;
    set_up();
    EXPECT(QUIRE_ERR_INVALID, "2^64", quire_object_resize(file, UINT64_MAX));
    OK(quire_object_open(vnode, path, -1, QUIRE_OPEN_READ, &reader));
    EXPECT(QUIRE_ERR_INVALID, "for reading only", quire_object_resize(reader, 0));
    OK(quire_object_release(reader));
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_object_resize(reader, 0));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_object_resize(NULL, 0));
    OK(quire_object_size(file, &size));
    CHECK(size == PAGES * PAGE && file_size() == (off_t)size);
    tear_down();
}

static void refresh_follows_a_file_that_others_changed(void)
{
    uint64_t addr, size = 0;
    unsigned char byte = 0;
    set_up();
    addr = mapped(2 * PAGES, RW);
    CHECK(load_byte(addr + 9 * PAGE) == 9);
    CHECK(truncate(path, (off_t)(2 * PAGE)) == 0);
    OK(quire_object_refresh(file, &size));
    CHECK(size == 2 * PAGE && resident() == 0);
    EXPECT(QUIRE_FAULT_BUS_OBJERR, "ends before", quire_load(map, addr + 9 * PAGE, &byte, 1, NULL));
    CHECK(truncate(path, (off_t)(20 * PAGE)) == 0);
    OK(quire_object_refresh(file, NULL));
    CHECK(load_byte(addr + 19 * PAGE) == 0 && load_byte(addr + PAGE) == 1);
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_object_refresh(NULL, &size));
    tear_down();
}

static void uncache_closes_the_object_with_its_last_use(void)
{
    set_up();
    OK(quire_map_destroy(map));
    /* Kept, as files are; opened again it is the same. */
    OK(quire_object_release(file));
    CHECK(stats_of(engine).objects_kept == 1 && info_of(vnode).open_objects == 1);
    OK(quire_object_open(vnode, path, -1, WRITABLE, &file));
    CHECK(stats_of(engine).objects_kept == 0 && stats_of(engine).objects == 1);
    OK(quire_object_uncache(file));
    CHECK(stats_of(engine).objects == 1);
    OK(quire_object_release(file));
    CHECK(stats_of(engine).objects == 0 && stats_of(engine).objects_kept == 0 && info_of(vnode).open_objects == 0);
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_object_uncache(file));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_object_uncache(NULL));
    OK(quire_engine_destroy(engine, 0));
}

static void terminate_takes_the_object_from_its_users(void)
{
    unsigned char byte = 0;
    uint64_t addr, other;
    struct quire_object *fresh;
    struct quire_map_request request = request_of(PAGE, QUIRE_PROT_READ);
    set_up();
    addr = mapped(PAGES, RW);
    store_byte(addr + 5 * PAGE, 0xee);
    EXPECT(QUIRE_ERR_INVALID, "0x8", quire_object_terminate(file, 8));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_object_terminate(NULL, 0));
    OK(quire_object_terminate(file, 0));
    CHECK(file_byte(5 * PAGE) == 0xee);
    EXPECT(QUIRE_FAULT_TERMINATED, "terminated", quire_load(map, addr + 5 * PAGE, &byte, 1, NULL));
    /* What has ended can end no further. */
    OK(quire_object_terminate(file, QUIRE_DISCARD));
    OK(quire_object_open(vnode, path, -1, WRITABLE, &fresh));
    OK(quire_map(map, fresh, &request, &other));
    CHECK(load_byte(other) == 0);
    OK(quire_object_release(fresh));
    OK(quire_map_destroy(map));
    OK(quire_object_release(file));
    OK(quire_engine_destroy(engine, 0));
}

static void terminate_can_give_up_what_is_dirty(void)
{
    uint64_t addr;
    set_up();
    addr = mapped(PAGES, RW);
    store_byte(addr + 5 * PAGE, 0xee);
    OK(quire_object_terminate(file, QUIRE_DISCARD));
    tear_down();
    CHECK(file_byte(5 * PAGE) == 5);
}

/* So many files are opened and closed; tells how many are kept. */
static uint64_t kept_of(uint32_t kept_objects, int files)
{
    struct quire_engine_options options = options_of(NO_THREADS);
    struct quire_object *object;
    uint64_t kept;
    int i;
    options.kept_objects = kept_objects;
    OK(quire_engine_create(&options, &engine));
    OK(quire_pager_load(engine, "vnode", NULL, &vnode));
    for (i = 0; i < files; i++) {
        char name[32];
        snprintf(name, sizeof name, "file%d", i);
        make_file(name, 10);
        OK(quire_object_open(vnode, path, -1, QUIRE_OPEN_READ, &object));
        OK(quire_object_release(object));
    }
    kept = stats_of(engine).objects_kept;
    CHECK(kept == stats_of(engine).objects && kept == info_of(vnode).open_objects);
    OK(quire_engine_destroy(engine, 0));
    return kept;
}

static void as_many_objects_are_kept_as_was_asked_for(void)
{
    CHECK(kept_of(3, 10) == 3);
    CHECK(kept_of(QUIRE_KEEP_NONE, 10) == 0);
    CHECK(kept_of(0, 140) == 128);
}

static void put_writes_deactivates_and_frees(void)
{
    struct quire_put put = put_of();
    uint64_t addr, i, puts;
    set_up();
    addr = mapped(PAGES, RW);
    for (i = 0; i < PAGES; i++)
        store_byte(addr + i * PAGE, 0xee);
    /* Nothing asked for, nothing done. */
    OK(quire_object_put(file, 0, 0, 0, &put));
    CHECK(put.written == 0 && put.deactivated == 0 && put.freed == 0 && put.kept == 0);
    puts = stats_of(engine).puts;
    OK(quire_object_put(file, 2 * PAGE, 4 * PAGE, QUIRE_PGO_CLEANIT, &put));
    CHECK(put.written == 4 && put.freed == 0 && stats_of(engine).puts == puts + 1);
    OK(quire_object_put(file, 2 * PAGE, 4 * PAGE, QUIRE_PGO_CLEANIT | QUIRE_PGO_FREE, &put));
    CHECK(put.written == 0 && put.freed == 4 && resident() == PAGES - 4);
    /* To deactivate is looked at before to free; and bytes behind the end are no error. */
    OK(quire_object_put(file, 8 * PAGE, UINT64_MAX / 2, QUIRE_PGO_DEACTIVATE | QUIRE_PGO_FREE, &put));
    CHECK(put.deactivated == 8 && put.freed == 0 && resident() == PAGES - 4);
    CHECK(stats_of(engine).pages_inactive >= 8);
    OK(quire_object_put(file, PAGE, 1, QUIRE_PGO_CLEANIT | QUIRE_PGO_SYNCIO | QUIRE_PGO_FREE | QUIRE_PGO_ALLPAGES, NULL));
    CHECK(resident() == 0);
    for (i = 0; i < PAGES; i++)
        CHECK(file_byte(i * PAGE) == 0xee);
    tear_down();
}

static void put_without_cleaning_gives_up_what_is_dirty(void)
{
    struct quire_put put = put_of();
    struct quire_object *reader;
    uint64_t addr;
    set_up();
    addr = mapped(PAGES, RW);
    store_byte(addr, 0xee);
    OK(quire_object_open(vnode, path, -1, QUIRE_OPEN_READ, &reader));
    EXPECT(QUIRE_ERR_INVALID, "for reading only", quire_object_put(reader, 0, 0, QUIRE_PGO_FREE, NULL));
    OK(quire_object_put(reader, 4 * PAGE, 0, QUIRE_PGO_CLEANIT | QUIRE_PGO_FREE, NULL));
    OK(quire_object_release(reader));
    OK(quire_object_put(file, 0, 0, QUIRE_PGO_FREE, &put));
    CHECK(put.freed == 1 && put.written == 0 && load_byte(addr) == 0);
    tear_down();
    CHECK(file_byte(0) == 0);
}

static void put_refuses_what_makes_no_sense(void)
{
    struct quire_put put = put_of();
    set_up();
    store_byte(mapped(PAGES, RW), 0xee);
    EXPECT(QUIRE_ERR_INVALID, "0x20", quire_object_put(file, 0, 0, 0x21, NULL));
    EXPECT(QUIRE_ERR_INVALID, "overflow", quire_object_put(file, PAGE, UINT64_MAX, QUIRE_PGO_CLEANIT, NULL));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_object_put(NULL, 0, 0, QUIRE_PGO_CLEANIT, NULL));
    put.struct_size = 0;
    EXPECT(QUIRE_ERR_INVALID, "quire_put", quire_object_put(file, 0, 0, QUIRE_PGO_CLEANIT, &put));
    CHECK(stats_of(engine).puts == 0);
    tear_down();
}

static void wired_pages_stay_until_every_wiring_is_taken_back(void)
{
    struct quire_put put = put_of();
    uint64_t addr;
    set_up();
    addr = mapped(PAGES, RW);
    OK(quire_wire(map, addr + PAGE, 3 * PAGE));
    OK(quire_wire(map, addr + PAGE, PAGE));
    CHECK(resident() == 3);
    OK(quire_object_put(file, 0, 0, QUIRE_PGO_CLEANIT | QUIRE_PGO_FREE, &put));
    CHECK(put.freed == 0 && put.kept == 3 && resident() == 3);
    OK(quire_unwire(map, addr + PAGE, 3 * PAGE));
    OK(quire_object_put(file, 0, 0, QUIRE_PGO_CLEANIT | QUIRE_PGO_FREE, &put));
    CHECK(put.freed == 2 && put.kept == 1 && resident() == 1);
    OK(quire_unwire(map, addr + PAGE, PAGE));
    OK(quire_object_put(file, 0, 0, QUIRE_PGO_CLEANIT | QUIRE_PGO_FREE, &put));
    CHECK(put.freed == 1 && resident() == 0);
    tear_down();
}

static void wire_refuses_bad_ranges_and_leaves_nothing_wired(void)
{
    struct quire_put put = put_of();
    uint64_t addr;
    set_up();
    addr = mapped(PAGES + 1, RW);
    EXPECT(QUIRE_ERR_INVALID, "zero", quire_wire(map, addr, 0));
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_wire(map, addr + 1, PAGE));
    EXPECT(QUIRE_ERR_INVALID, "overflow", quire_wire(map, addr, UINT64_MAX));
    EXPECT(QUIRE_ERR_NOT_MAPPED, "nothing", quire_wire(map, addr, (PAGES + 2) * PAGE));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_wire(NULL, addr, PAGE));
    /* The last page is behind the end of the file. */
    EXPECT(QUIRE_FAULT_BUS_OBJERR, "ends before", quire_wire(map, addr, (PAGES + 1) * PAGE));
    OK(quire_object_put(file, 0, 0, QUIRE_PGO_CLEANIT | QUIRE_PGO_FREE, &put));
    CHECK(put.kept == 0 && resident() == 0);
    EXPECT(QUIRE_ERR_INVALID, "wired", quire_unwire(map, addr, PAGE));
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_unwire(map, addr + 1, PAGE));
    EXPECT(QUIRE_ERR_NOT_MAPPED, "nothing", quire_unwire(map, addr + (PAGES + 1) * PAGE, PAGE));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_unwire(NULL, addr, PAGE));
    tear_down();
}

static void a_step_of_the_daemon_frees_as_much_as_was_asked_for(void)
{
    struct quire_engine_options options = options_of(NO_THREADS);
    struct quire_step step = step_of();
    struct quire_stats stats;
    uint64_t addr, i;
    options.memory = 64 * PAGE;
    options.reserve = 6 * PAGE;
    options.free_min = 2 * PAGE;
    options.free_target = 4 * PAGE;
    options.free_enough = 8 * PAGE;
    set_up_with(&options, WRITABLE, 58);
    stats = stats_of(engine);
    CHECK(stats.free_min == 2 && stats.free_target == 4 && stats.free_enough == 8);
    OK(quire_engine_daemon_step(engine, &step));
    CHECK(step.freed == 0 && step.written == 0 && stats_of(engine).daemon_steps == 0);
    addr = mapped(58, RW);
    for (i = 0; i < 58; i++)
        store_byte(addr + i * PAGE, 0xee);
    OK(quire_engine_daemon_step(engine, &step));
    stats = stats_of(engine);
    CHECK(step.freed >= 8 && step.written >= 8 && step.failed == 0 && stats.daemon_steps == 1);
    CHECK(stats.frames_free >= 6 + 8 && stats.daemon_washed == step.written);
    CHECK(stats.pages_active + stats.pages_inactive + stats.pages_laundry == resident());
    OK(quire_engine_set_targets(engine, 0, 30 * PAGE, 40 * PAGE + 5));
    stats = stats_of(engine);
    CHECK(stats.free_min == 2 && stats.free_target == 30 && stats.free_enough == 40);
    OK(quire_engine_daemon_step(engine, NULL));
    CHECK(stats_of(engine).frames_free >= 6 + 40);
    for (i = 0; i < 58; i++)
        CHECK(load_byte(addr + i * PAGE) == 0xee);
    tear_down();
}

static void bad_thresholds_and_steps_are_refused(void)
{
    struct quire_step step = step_of();
    struct quire_stats before, after;
    uint32_t more = 77;
    set_up();
    before = stats_of(engine);
    EXPECT(QUIRE_ERR_INVALID, "disorder", quire_engine_set_targets(engine, 3 * PAGE, 2 * PAGE, 5 * PAGE));
    EXPECT(QUIRE_ERR_INVALID, "disorder", quire_engine_set_targets(engine, PAGE, 6 * PAGE, 5 * PAGE));
    EXPECT(QUIRE_ERR_INVALID, "never be free", quire_engine_set_targets(engine, 0, 0, UINT64_MAX));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_engine_set_targets(NULL, 0, 0, 0));
    OK(quire_engine_set_targets(engine, 0, 0, 0));
    after = stats_of(engine);
    CHECK(memcmp(&before, &after, sizeof before) == 0);
    step.struct_size = 4;
    EXPECT(QUIRE_ERR_INVALID, "quire_step", quire_engine_daemon_step(engine, &step));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_engine_daemon_step(NULL, NULL));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_engine_read_ahead_step(NULL, &more));
    CHECK(more == 77);
    OK(quire_engine_read_ahead_step(engine, &more));
    CHECK(more == 0);
    OK(quire_engine_read_ahead_step(engine, NULL));
    tear_down();
}

static void the_policy_is_chosen_and_named(void)
{
    static const struct {
        uint32_t policy;
        const char *name;
    } policies[] = {{QUIRE_POLICY_DEFAULT, "S3-FIFO"}, {QUIRE_POLICY_CLOCK, "clock"}, {QUIRE_POLICY_S3_FIFO, "S3-FIFO"}};
    struct quire_engine_options options = options_of(0);
    size_t i;
    for (i = 0; i < sizeof policies / sizeof *policies; i++) {
        options.policy = policies[i].policy;
        OK(quire_engine_create(&options, &engine));
        CHECK(strcmp(stats_of(engine).policy, policies[i].name) == 0);
        OK(quire_engine_destroy(engine, 0));
    }
}

static void new_options_are_checked_and_old_programs_need_none(void)
{
    struct quire_engine_options options = options_of(0);
    struct quire_engine *none = NULL;
    options.policy = 9;
    EXPECT(QUIRE_ERR_INVALID, "policy 9", quire_engine_create(&options, &none));
    options.policy = 0;
    options.free_min = 1 << 20;
    options.free_target = PAGE;
    EXPECT(QUIRE_ERR_INVALID, "disorder", quire_engine_create(&options, &none));
    options.free_target = 0;
    options.free_min = 0;
    options.free_enough = UINT64_MAX;
    EXPECT(QUIRE_ERR_INVALID, "never be free", quire_engine_create(&options, &none));
    options.free_enough = 0;
    options.reserved = 1;
    EXPECT(QUIRE_ERR_INVALID, "reserved", quire_engine_create(&options, &none));
    options.reserved = 0;
    options.flags = 1024;
    EXPECT(QUIRE_ERR_INVALID, "0x400", quire_engine_create(&options, &none));
    CHECK(none == NULL);
    wait_for_threads(1);
    /* The first version ended before the policy: what lies behind it is not looked at. */
    options.flags = 0;
    options.policy = 9;
    options.struct_size = offsetof(struct quire_engine_options, policy);
    OK(quire_engine_create(&options, &none));
    CHECK(strcmp(stats_of(none).policy, "S3-FIFO") == 0);
    OK(quire_engine_destroy(none, 0));
}

static void an_engines_threads_are_gone_when_it_is(void)
{
    static const uint32_t flags[] = {0, QUIRE_NO_DAEMON_THREAD, QUIRE_NO_WATCHDOG_THREAD, NO_THREADS};
    static const int threads[] = {4, 3, 3, 1};
    struct quire_engine_options options;
    int i;
    for (i = 0; i < 8; i++) {
        options = options_of(flags[i % 4]);
        OK(quire_engine_create(&options, &engine));
        CHECK(threads_here() == threads[i % 4]);
        OK(quire_engine_destroy(engine, i < 4 ? 0 : QUIRE_DISCARD));
        wait_for_threads(1);
    }
}

static void an_engine_that_cannot_end_yet_keeps_its_threads(void)
{
    unsigned char byte = 0;
    uint64_t addr;
    set_up_with(NULL, WRITABLE, PAGES);
    addr = mapped(PAGES, QUIRE_PROT_READ);
    EXPECT(QUIRE_ERR_IN_USE, "map", quire_engine_destroy(engine, 0));
    CHECK(threads_here() >= 3);
    OK(quire_load(map, addr, &byte, 1, NULL));
    OK(quire_map_destroy(map));
    EXPECT(QUIRE_ERR_IN_USE, "release", quire_engine_destroy(engine, QUIRE_DISCARD));
    CHECK(threads_here() >= 3);
    OK(quire_object_release(file));
    OK(quire_engine_destroy(engine, 0));
}

/* The thread keeps memory free: nobody waits for it here, so that the daemon has to do it on its own. */
static void the_daemons_thread_frees_memory(void)
{
    struct quire_engine_options options = options_of(0);
    uint64_t addr, i;
    options.memory = 64 * PAGE;
    options.reserve = 6 * PAGE;
    options.free_min = 10 * PAGE;
    options.free_target = 12 * PAGE;
    options.free_enough = 20 * PAGE;
    set_up_with(&options, WRITABLE, 50);
    addr = mapped(50, RW);
    for (i = 0; i < 50; i++)
        store_byte(addr + i * PAGE, 0xee);
    while (stats_of(engine).frames_free < 6 + 12)
        sched_yield();
    CHECK(stats_of(engine).daemon_steps > 0 && stats_of(engine).memory_waits == 0);
    tear_down();
    for (i = 0; i < 50; i++)
        CHECK(file_byte(i * PAGE) == 0xee);
}

/*
 * A pager of this program's own: 256 pages, whose requests wait until the gate is open, and that can say what it has. It
 * cannot leave requests pending.
 */
static int disk_is_full;

static int32_t slow_open(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    (void)ctx;
    (void)args;
    pass_the_gate();
    out->size = sizeof disk;
    out->object = disk;
    return QUIRE_PAGER_OK;
}

static int32_t slow_move(struct quire_pager_io *io, int put)
{
    pass_the_gate();
    if (put && disk_is_full)
        return -ENOSPC;
    return move_on_disk(io, put);
}

static int32_t slow_get(void *handle, struct quire_pager_io *io)
{
    (void)handle;
    return slow_move(io, 0);
}

static int32_t slow_put(void *handle, struct quire_pager_io *io)
{
    (void)handle;
    return slow_move(io, 1);
}

static int32_t slow_has_page(void *handle, uint64_t page, struct quire_pager_extent *out)
{
    (void)handle;
    out->after = (uint32_t)(DISK - 1 - page);
    return QUIRE_PAGER_OK;
}

/* The slow disk, mapped whole. */
static uint64_t set_up_disk(const struct quire_engine_options *options, uint32_t advice)
{
    static struct quire_pager_module table;
    struct quire_map_request request = request_of(sizeof disk, RW);
    uint64_t addr = 0;
    table.magic = QUIRE_PAGER_MAGIC;
    table.abi_version = QUIRE_PAGER_ABI_VERSION;
    table.struct_size = sizeof table;
    table.thread_model = QUIRE_THREADS_PARALLEL;
    table.name = "slow";
    table.open = slow_open;
    table.close = close_disk;
    table.get = slow_get;
    table.put = slow_put;
    table.has_page = slow_has_page;
    OK(quire_engine_create(options, &engine));
    OK(quire_pager_register(engine, &table, NULL, &vnode));
    OK(quire_object_open(vnode, "disk", -1, WRITABLE, &file));
    OK(quire_map_create(engine, 0, 0, &map));
    request.advice = advice;
    OK(quire_map(map, file, &request, &addr));
    return addr;
}

static void *load_in_a_thread(void *addr)
{
    load_byte(*(uint64_t *)addr);
    return NULL;
}

static size_t overdue(uint64_t milliseconds)
{
    size_t found = 77;
    OK(quire_engine_overdue(engine, milliseconds, NULL, 0, 0, &found));
    return found;
}

static void a_request_that_takes_long_is_listed(void)
{
    struct {
        struct quire_request request;
        uint64_t later;
    } newer[2];
    struct quire_request requests[2];
    struct quire_engine_options options = options_of(NO_THREADS);
    pthread_t thread;
    uint64_t addr = set_up_disk(&options, QUIRE_ADVICE_RANDOM), at = addr + 7 * PAGE;
    size_t found = 77;
    CHECK(overdue(0) == 0);
    set_gate(1);
    CHECK(pthread_create(&thread, NULL, load_in_a_thread, &at) == 0);
    while (overdue(3) == 0)
        sched_yield();
    CHECK(overdue(3600 * 1000) == 0 && overdue(UINT64_MAX) == 0);
    memset(requests, 0x5a, sizeof requests);
    OK(quire_engine_overdue(engine, 3, requests, sizeof *requests, 2, &found));
    CHECK(found == 1 && requests[0].offset == 7 * PAGE && requests[0].pages == 1 && requests[0].operation == QUIRE_REQUEST_GET);
    CHECK(requests[0].age >= 3 && strstr(requests[0].name, "slow") != NULL);
    CHECK(requests[1].pages == UNTOUCHED);
    /* What a program knows beyond us is 0. */
    memset(newer, 0x5a, sizeof newer);
    OK(quire_engine_overdue(engine, 0, &newer[0].request, sizeof *newer, 2, &found));
    CHECK(newer[0].request.offset == 7 * PAGE && newer[0].later == 0 && newer[1].later == UNTOUCHED);
    EXPECT(QUIRE_ERR_INVALID, "request_size", quire_engine_overdue(engine, 0, requests, 8, 2, &found));
    EXPECT(QUIRE_ERR_INVALID, "address space", quire_engine_overdue(engine, 0, requests, sizeof *requests, SIZE_MAX, &found));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_engine_overdue(engine, 0, NULL, sizeof *requests, 2, &found));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_engine_overdue(engine, 0, requests, sizeof *requests, 2, NULL));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_engine_overdue(NULL, 0, NULL, 0, 0, &found));
    set_gate(0);
    CHECK(pthread_join(thread, NULL) == 0 && overdue(0) == 0);
    tear_down();
}

/* A pager that leaves every get pending, and completes it only when it is asked to cancel it and may. */
static const struct quire_pager_host_api *stuck_host;
static uint64_t stuck_token;
static int stuck_may_end;

static int32_t stuck_init(const struct quire_pager_host_api *host, const char *config, void **ctx)
{
    (void)config;
    (void)ctx;
    stuck_host = host;
    return QUIRE_PAGER_OK;
}

static int32_t stuck_get(void *handle, struct quire_pager_io *io)
{
    (void)handle;
    stuck_token = io->token;
    return QUIRE_PAGER_PEND;
}

static int32_t stuck_cancel(void *handle, uint64_t token)
{
    (void)handle;
    if (!stuck_may_end || token != stuck_token)
        return QUIRE_PAGER_UNSUPPORTED;
    stuck_host->complete(stuck_host->host, token, QUIRE_PAGER_CANCELLED);
    return QUIRE_PAGER_OK;
}

static void a_fault_gives_up_and_what_is_overdue_is_reported_and_cancelled(void)
{
    static struct quire_pager_module table;
    struct quire_engine_options options = options_of(QUIRE_NO_DAEMON_THREAD | QUIRE_NO_READ_AHEAD_THREAD);
    struct quire_map_request request = request_of(sizeof disk, RW);
    unsigned char byte = 0;
    uint64_t addr = 0;
    size_t asked = 77;
    table.magic = QUIRE_PAGER_MAGIC;
    table.abi_version = QUIRE_PAGER_ABI_VERSION;
    table.struct_size = sizeof table;
    table.thread_model = QUIRE_THREADS_PARALLEL;
    table.caps = QUIRE_CAP_ASYNC;
    table.name = "stuck";
    table.init = stuck_init;
    table.open = slow_open;
    table.close = close_disk;
    table.get = stuck_get;
    table.cancel = stuck_cancel;
    options.fault_timeout = options.overdue_after = 1;
    stuck_may_end = 0;
    OK(quire_engine_create(&options, &engine));
    OK(quire_pager_register(engine, &table, NULL, &vnode));
    OK(quire_object_open(vnode, "disk", -1, 0, &file));
    OK(quire_map_create(engine, 0, 0, &map));
    request.prot = QUIRE_PROT_READ;
    OK(quire_map(map, file, &request, &addr));
    EXPECT(QUIRE_FAULT_TIMEDOUT, "in time", quire_load(map, addr, &byte, 1, NULL));
    CHECK(stats_of(engine).faults_timed_out == 1 && stats_of(engine).requests_cancelled == 0);
    while (stats_of(engine).requests_overdue == 0)
        sched_yield();
    OK(quire_engine_cancel_overdue(engine, 3600 * 1000, &asked));
    CHECK(asked == 0 && overdue(0) == 1);
    stuck_may_end = 1;
    OK(quire_engine_cancel_overdue(engine, 0, &asked));
    CHECK(asked == 1 && overdue(0) == 0);
    CHECK(stats_of(engine).requests_cancelled == 1 && stats_of(engine).requests_overdue == 1);
    OK(quire_engine_cancel_overdue(engine, 0, NULL));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_engine_cancel_overdue(NULL, 0, &asked));
    OK(quire_object_terminate(file, 0));
    EXPECT(QUIRE_FAULT_TERMINATED, "terminated", quire_load(map, addr, &byte, 1, NULL));
    tear_down();
}

static void without_a_thread_windows_are_read_ahead_by_steps(void)
{
    struct quire_engine_options options = options_of(NO_THREADS);
    uint64_t addr = set_up_disk(&options, QUIRE_ADVICE_SEQUENTIAL), i, before;
    uint32_t more = 0;
    for (i = 0; i < 8; i++)
        load_byte(addr + i * PAGE);
    before = resident();
    OK(quire_engine_read_ahead_step(engine, &more));
    CHECK(more == 1 && resident() > before);
    while (more != 0)
        OK(quire_engine_read_ahead_step(engine, &more));
    tear_down();
}

static void the_read_ahead_thread_reads_ahead(void)
{
    struct quire_engine_options options = options_of(QUIRE_NO_DAEMON_THREAD);
    uint64_t addr = set_up_disk(&options, QUIRE_ADVICE_SEQUENTIAL), i;
    for (i = 0; i < 8; i++)
        load_byte(addr + i * PAGE);
    i = resident();
    while (resident() == i && stats_of(engine).pages_read_ahead == 0)
        sched_yield();
    tear_down();
    wait_for_threads(1);
}

static void put_keeps_what_cannot_be_written(void)
{
    struct quire_engine_options options = options_of(NO_THREADS);
    struct quire_put put = put_of();
    uint64_t addr = set_up_disk(&options, QUIRE_ADVICE_RANDOM);
    store_byte(addr + PAGE, 0xee);
    load_byte(addr + 9 * PAGE);
    disk_is_full = 1;
    put.written = UNTOUCHED;
    EXPECT(QUIRE_ERR_WRITE_BACK, "slow", quire_object_put(file, 0, 0, QUIRE_PGO_CLEANIT | QUIRE_PGO_FREE, &put));
    CHECK(quire_last_errno() == ENOSPC && put.written == UNTOUCHED && resident() == 1);
    EXPECT(QUIRE_ERR_WRITE_BACK, "slow", quire_object_terminate(file, 0));
    CHECK(load_byte(addr + PAGE) == 0xee);
    disk_is_full = 0;
    OK(quire_object_put(file, 0, 0, QUIRE_PGO_CLEANIT | QUIRE_PGO_FREE, &put));
    CHECK(put.written == 1 && resident() == 0 && disk[PAGE] == 0xee);
    tear_down();
}

static void a_step_counts_what_it_could_not_write(void)
{
    struct quire_engine_options options = options_of(NO_THREADS);
    struct quire_step step = step_of();
    uint64_t addr, i;
    options.memory = 64 * PAGE;
    options.reserve = 6 * PAGE;
    addr = set_up_disk(&options, QUIRE_ADVICE_RANDOM);
    for (i = 0; i < 58; i++)
        store_byte(addr + i * PAGE, 0xee);
    disk_is_full = 1;
    OK(quire_engine_daemon_step(engine, &step));
    CHECK(step.failed > 0 && step.written == 0 && stats_of(engine).daemon_wash_failures == step.failed);
    disk_is_full = 0;
    OK(quire_engine_daemon_step(engine, &step));
    CHECK(step.failed == 0 && step.written > 0 && step.freed > 0);
    tear_down();
}

static void an_engine_whose_pages_cannot_be_written_goes_on_with_its_threads(void)
{
    uint64_t addr = set_up_disk(NULL, QUIRE_ADVICE_RANDOM);
    store_byte(addr + PAGE, 0xee);
    disk_is_full = 1;
    OK(quire_map_destroy(map));
    EXPECT(QUIRE_ERR_WRITE_BACK, "slow", quire_object_release(file));
    EXPECT(QUIRE_ERR_WRITE_BACK, "slow", quire_engine_destroy(engine, 0));
    wait_for_threads(4);
    CHECK(stats_of(engine).objects_unwritten == 1);
    disk_is_full = 0;
    OK(quire_engine_destroy(engine, 0));
    CHECK(disk[PAGE] == 0xee);
    wait_for_threads(1);
}

static struct quire_object *opened_late;

static void *open_in_a_thread(void *unused)
{
    (void)unused;
    OK(quire_object_open(vnode, "disk", -1, QUIRE_OPEN_READ, &opened_late));
    return NULL;
}

/* It has written all and ended its threads when it finds that a pager is in use: then it goes on, with threads again. */
static void an_engine_whose_pager_is_in_use_gets_its_threads_back(void)
{
    pthread_t thread;
    struct quire_map_request request = request_of(sizeof disk, QUIRE_PROT_READ);
    uint64_t addr = 0, before;
    set_up_disk(NULL, QUIRE_ADVICE_RANDOM);
    OK(quire_map_destroy(map));
    OK(quire_object_release(file));
    set_gate(1);
    CHECK(pthread_create(&thread, NULL, open_in_a_thread, NULL) == 0);
    while (!a_call_waits_at_the_gate())
        sched_yield();
    EXPECT(QUIRE_ERR_IN_USE, "pager", quire_engine_destroy(engine, 0));
    CHECK(threads_here() >= 5);
    set_gate(0);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(quire_map_create(engine, 0, 0, &map));
    request.advice = QUIRE_ADVICE_SEQUENTIAL;
    OK(quire_map(map, opened_late, &request, &addr));
    for (before = 0; before < 8; before++)
        load_byte(addr + before * PAGE);
    while (stats_of(engine).pages_read_ahead == 0)
        sched_yield();
    OK(quire_map_destroy(map));
    OK(quire_object_release(opened_late));
    OK(quire_engine_destroy(engine, 0));
    wait_for_threads(1);
}

static const struct test_case cases[] = {
    CASE(resize_shrinks_and_grows_the_file),
    CASE(resize_refuses_readers_and_sizes_that_cannot_be),
    CASE(refresh_follows_a_file_that_others_changed),
    CASE(uncache_closes_the_object_with_its_last_use),
    CASE(terminate_takes_the_object_from_its_users),
    CASE(terminate_can_give_up_what_is_dirty),
    CASE(as_many_objects_are_kept_as_was_asked_for),
    CASE(put_writes_deactivates_and_frees),
    CASE(put_without_cleaning_gives_up_what_is_dirty),
    CASE(put_refuses_what_makes_no_sense),
    CASE(wired_pages_stay_until_every_wiring_is_taken_back),
    CASE(wire_refuses_bad_ranges_and_leaves_nothing_wired),
    CASE(a_step_of_the_daemon_frees_as_much_as_was_asked_for),
    CASE(bad_thresholds_and_steps_are_refused),
    CASE(the_policy_is_chosen_and_named),
    CASE(new_options_are_checked_and_old_programs_need_none),
    CASE(an_engines_threads_are_gone_when_it_is),
    CASE(an_engine_that_cannot_end_yet_keeps_its_threads),
    CASE(the_daemons_thread_frees_memory),
    CASE(a_request_that_takes_long_is_listed),
    CASE(a_fault_gives_up_and_what_is_overdue_is_reported_and_cancelled),
    CASE(without_a_thread_windows_are_read_ahead_by_steps),
    CASE(the_read_ahead_thread_reads_ahead),
    CASE(put_keeps_what_cannot_be_written),
    CASE(a_step_counts_what_it_could_not_write),
    CASE(an_engine_whose_pages_cannot_be_written_goes_on_with_its_threads),
    CASE(an_engine_whose_pager_is_in_use_gets_its_threads_back),
};

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    folder = argv[2];
    return run_case(cases, sizeof cases / sizeof *cases, argv[1]);
}
