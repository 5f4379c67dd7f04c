/*
 * Pagers in C and C++, good and bad, driven through libquire.so. Usage: pagers CASE FOLDER
 * FOLDER holds the example pagers, compiled: villain.so, file_pager.so, cpp_pager.so.
 */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE ((uint64_t)QUIRE_PAGE_SIZE)
#define RW (QUIRE_PROT_READ | QUIRE_PROT_WRITE)

static const char *folder;
static struct quire_engine *engine;
static struct quire_pager *pager;
static struct quire_object *object;
static struct quire_map *map;
static uint64_t base;

static void begin(void)
{
    struct quire_engine_options options = on_the_soft_machine();
    OK(quire_engine_create(&options, &engine));
}

/* One engine with the example pager `file`, and nothing open. */
static void load(const char *file)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.so", folder, file);
    begin();
    OK(quire_pager_load(engine, path, NULL, &pager));
    OK(quire_map_create(engine, 0, 0, &map));
}

static void open_and_map(const char *name, uint32_t flags, uint32_t prot)
{
    struct quire_map_request request;
    uint64_t size = 0;
    OK(quire_object_open(pager, name, -1, flags, &object));
    OK(quire_object_size(object, &size));
    request = request_of(size, prot);
    OK(quire_map(map, object, &request, &base));
}

static void unload(void)
{
    OK(quire_map_destroy(map));
    OK(quire_object_release(object));
    OK(quire_engine_destroy(engine, 0));
}

static unsigned char byte_at(uint64_t page)
{
    unsigned char byte = 0;
    OK(quire_load(map, base + page * PAGE, &byte, 1, NULL));
    return byte;
}

/* What a load of a page answers. */
static int32_t touch(uint64_t page)
{
    unsigned char byte = 0x5a;
    int32_t status = quire_load(map, base + page * PAGE, &byte, 1, NULL);
    CHECK(status == QUIRE_OK || byte == 0x5a);
    return status;
}

/* The villain, told what to do wrong. */
static void villain(const char *name)
{
    load("villain");
    open_and_map(name, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, RW);
}

/* The process and the engine live, and an honest object of the same pager works: the engine ends without what is broken. */
static void the_rest_works(void)
{
    OK(quire_unmap(map, base, 16 * PAGE));
    quire_object_release(object);
    open_and_map("good", QUIRE_OPEN_READ, QUIRE_PROT_READ);
    CHECK(byte_at(7) == 8);
    OK(quire_map_destroy(map));
    OK(quire_object_release(object));
    OK(quire_engine_destroy(engine, QUIRE_DISCARD));
}

/* The object is quarantined with a sentence that names the pager, the thing and what it did, and stays so. */
static void quarantined(const char *name, const char *did)
{
    villain(name);
    EXPECT(QUIRE_FAULT_QUARANTINED, did, touch(3));
    CHECK(strstr(quire_last_error(), "villain") != NULL && strstr(quire_last_error(), name) != NULL);
    EXPECT(QUIRE_FAULT_QUARANTINED, did, touch(4));
    EXPECT(QUIRE_FAULT_QUARANTINED, did, touch(3));
    CHECK(stats_of(engine).broken_promises == 1);
    the_rest_works();
}

static void a_good_villain_is_a_pager_like_others(void)
{
    villain("good");
    CHECK(byte_at(0) == 1 && byte_at(15) == 16);
    unload();
}

static void an_unknown_status_quarantines(void)
{
    quarantined("unknown-status", "unknown status 4242");
}

static void an_unknown_page_status_quarantines(void)
{
    quarantined("unknown-page-status", "unknown status 4242");
}

static void claiming_what_was_not_filled_quarantines(void)
{
    quarantined("claims-unfilled", "did not fill page");
}

static void answering_after_completing_quarantines(void)
{
    quarantined("completes-and-answers", "had completed");
}

static void a_caught_panic_quarantines(void)
{
    quarantined("status:65", "failed inside");
}

static void populate_without_the_page_quarantines(void)
{
    quarantined("populate-nothing", "populate");
}

static void populate_that_leaves_the_page_unready_quarantines(void)
{
    quarantined("populate-unready", "populate");
}

static void populate_elsewhere_quarantines(void)
{
    quarantined("populate-elsewhere", "populate");
}

static void populate_backwards_quarantines(void)
{
    quarantined("populate-backwards", "populate");
}

static void populate_outside_quarantines(void)
{
    quarantined("populate-outside", "populate");
}

static void half_filled_pages_cannot_be_told_from_whole_ones(void)
{
    unsigned char bytes[QUIRE_PAGE_SIZE];
    villain("half-filled");
    OK(quire_read(map, base, bytes, sizeof bytes, NULL));
    CHECK(bytes[0] == 1 && bytes[PAGE - 1] == 0xee);
    unload();
}

static int lines;

static void count_line(void *ctx, uint32_t level, const char *who, const char *text)
{
    (void)ctx;
    CHECK(level == QUIRE_LOG_ERROR || level == QUIRE_LOG_WARN);
    CHECK(strcmp(who, "villain") == 0 && strlen(text) > 12);
    printf("log: %s: %s\n", who, text);
    lines++;
}

static void completing_twice_is_logged_and_ignored(void)
{
    OK(quire_set_log(count_line, NULL));
    villain("completes-twice");
    CHECK(byte_at(3) == 4 && lines == 1 && info_of(pager).stale_calls == 1);
    CHECK(byte_at(4) == 5 && lines == 2 && info_of(pager).stale_calls == 2);
    unload();
    OK(quire_set_log(NULL, NULL));
}

static void a_strangers_token_is_logged_and_ignored(void)
{
    OK(quire_set_log(count_line, NULL));
    villain("strangers-token");
    CHECK(byte_at(3) == 4 && lines == 1 && info_of(pager).stale_calls == 1);
    unload();
}

static void a_broken_promise_is_logged(void)
{
    OK(quire_set_log(count_line, NULL));
    villain("unknown-status");
    EXPECT(QUIRE_FAULT_QUARANTINED, "4242", touch(0));
    CHECK(lines == 1);
    the_rest_works();
}

static void errors_with_a_cause_carry_it(void)
{
    villain("status:-28");
    EXPECT(QUIRE_FAULT_PAGER, "villain: get: the status that was asked for", touch(2));
    CHECK(quire_last_errno() == ENOSPC);
    the_rest_works();
}

static void every_status_of_the_list_has_its_fault(void)
{
    static const struct {
        const char *name;
        int32_t fault;
        int number;
    } answers[] = {
        {"status:1", QUIRE_FAULT_BUS_OBJERR, 0},     {"status:2", QUIRE_FAULT_PAGER, 0},
        {"status:4", QUIRE_FAULT_PAGER, EIO},        {"status:5", QUIRE_FAULT_PAGER, EAGAIN},
        {"status:6", QUIRE_FAULT_QUARANTINED, 0},    {"status:7", QUIRE_FAULT_QUARANTINED, 0},
        {"status:64", QUIRE_FAULT_PAGER, EOPNOTSUPP}, {"status:66", QUIRE_FAULT_QUARANTINED, 0},
        {"status:67", QUIRE_FAULT_QUARANTINED, 0},   {"status:68", QUIRE_FAULT_PAGER, EINVAL},
        {"status:69", QUIRE_FAULT_PAGER, ENOMEM},    {"status:-5", QUIRE_FAULT_PAGER, EIO},
        {"status:-4095", QUIRE_FAULT_PAGER, 4095},   {"status:-4096", QUIRE_FAULT_QUARANTINED, 0},
        {"status:2147483647", QUIRE_FAULT_QUARANTINED, 0},
    };
    size_t i;
    for (i = 0; i < sizeof answers / sizeof *answers; i++) {
        villain(answers[i].name);
        EXPECT(answers[i].fault, "", touch(1));
        CHECK(quire_last_errno() == answers[i].number);
        the_rest_works();
    }
}

static void a_failure_passes_and_the_next_try_works(void)
{
    villain("fails:2");
    EXPECT(QUIRE_FAULT_PAGER, "fails as it was told", touch(2));
    CHECK(quire_last_errno() == EIO);
    EXPECT(QUIRE_FAULT_PAGER, "fails as it was told", touch(2));
    CHECK(byte_at(2) == 3 && stats_of(engine).pager_errors == 2);
    unload();
}

static void *load_page_3(void *status)
{
    unsigned char byte = 0;
    *(int32_t *)status = quire_load(map, base + 3 * PAGE, &byte, 1, NULL);
    CHECK(*(int32_t *)status != QUIRE_OK || byte == 4);
    CHECK(*(int32_t *)status == QUIRE_OK || quire_last_errno() == EIO);
    return NULL;
}

/* A request that is never completed keeps who asked for it, and nobody else: it is listed with its object, and what needs the
 * pager to be done says so. The thread that waits ends with the process. */
static void a_request_that_is_never_completed_is_listed_and_keeps_nobody_else(void)
{
    struct quire_request request;
    struct quire_object *broken;
    pthread_t thread;
    size_t found = 0;
    static int32_t status = 1;
    const unsigned char byte = 0x55;
    villain("never");
    broken = object;
    CHECK(pthread_create(&thread, NULL, load_page_3, &status) == 0);
    while (found == 0) {
        OK(quire_engine_overdue(engine, 1, &request, sizeof request, 1, &found));
        sched_yield();
    }
    CHECK(found == 1 && strstr(request.name, "villain never") != NULL);
    CHECK(request.offset == 3 * PAGE && request.operation == QUIRE_REQUEST_GET);
    /* Another thing of the same pager, in the same map, and its write-back. */
    open_and_map("good", QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, RW);
    CHECK(byte_at(7) == 8);
    OK(quire_store(map, base + 2 * PAGE, &byte, 1, NULL));
    OK(quire_object_flush(object, 0, 0, QUIRE_DURABLE));
    OK(quire_unmap(map, base, 16 * PAGE));
    OK(quire_object_release(object));
    OK(quire_engine_sync(engine, 0));
    EXPECT(QUIRE_ERR_IN_USE, "villain", quire_pager_unload(pager));
    CHECK(quire_engine_destroy(engine, 0) != QUIRE_OK && strlen(quire_last_error()) > 12);
    CHECK(quire_object_size(broken, &request.offset) == QUIRE_OK && status == 1);
}

/* A put that completes its request and then answers as well: the host does not know which of the two holds, keeps the page, and asks no more. */
static void a_put_that_answers_after_completing_quarantines(void)
{
    const unsigned char byte = 0x55;
    unsigned char back = 0;
    villain("put-completes");
    OK(quire_store(map, base + 2 * PAGE, &byte, 1, NULL));
    CHECK(quire_object_flush(object, 0, 0, 0) != QUIRE_OK);
    CHECK(strstr(quire_last_error(), "put-completes") != NULL && strstr(quire_last_error(), "had completed") != NULL);
    CHECK(stats_of(engine).broken_promises == 1);
    EXPECT(QUIRE_FAULT_QUARANTINED, "had completed", quire_load(map, base + 5 * PAGE, &back, 1, NULL));
    the_rest_works();
}

static void completing_a_populate_is_logged_and_ignored(void)
{
    OK(quire_set_log(count_line, NULL));
    villain("populate-completes");
    CHECK(byte_at(3) == 4 && lines == 1 && info_of(pager).stale_calls == 1);
    CHECK(byte_at(9) == 10 && stats_of(engine).broken_promises == 0 && stats_of(engine).gets == 0);
    unload();
    OK(quire_set_log(NULL, NULL));
}

/* A fault waits for a request that completes later, from a thread of the pager; sync is what sets that off. */
static void late(const char *name, int32_t wanted)
{
    pthread_t thread;
    int32_t status = 1;
    villain(name);
    CHECK(pthread_create(&thread, NULL, load_page_3, &status) == 0);
    while (info_of(pager).stale_calls == 0 && stats_of(engine).gets == 0)
        sched_yield();
    while (stats_of(engine).pages_in == 0 && stats_of(engine).pager_errors == 0) {
        OK(quire_object_flush(object, 0, 0, QUIRE_DURABLE));
        sched_yield();
    }
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(status == wanted);
    unload();
}

static void a_fault_waits_for_a_late_completion(void)
{
    late("late", QUIRE_OK);
}

static void a_late_failure_fails_the_fault(void)
{
    late("late-failure", QUIRE_FAULT_PAGER);
}

/* A pager of this program's own: one thing of 16 zeroed pages, whose writes fail as long as the disk is full. */
static int disk_is_full;
static unsigned char disk[16 * QUIRE_PAGE_SIZE];

static int32_t disk_open(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    (void)ctx;
    (void)args;
    out->size = sizeof disk;
    out->object = disk;
    out->identity[0] = 1;
    return QUIRE_PAGER_OK;
}

static int32_t disk_close(void *ctx, void *handle)
{
    (void)ctx;
    (void)handle;
    return QUIRE_PAGER_OK;
}

static int32_t disk_get(void *handle, struct quire_pager_io *io)
{
    uint32_t i;
    (void)handle;
    for (i = 0; i < io->count; i++) {
        memcpy(io->pages[i].bytes, disk + (io->first + i) * PAGE, io->page_size);
        io->pages[i].status = QUIRE_PAGER_OK;
    }
    return QUIRE_PAGER_OK;
}

static int32_t disk_put(void *handle, struct quire_pager_io *io)
{
    uint32_t i;
    (void)handle;
    for (i = 0; i < io->count && !disk_is_full; i++) {
        memcpy(disk + (io->first + i) * PAGE, io->pages[i].bytes, io->page_size);
        io->pages[i].status = QUIRE_PAGER_OK;
    }
    return disk_is_full ? -ENOSPC : QUIRE_PAGER_OK;
}

/* A dirty page on a full disk: whoever could notice is told. The object's handle is closed afterwards, its page is kept. */
static void dirty_on_a_full_disk(void)
{
    static struct quire_pager_module table;
    const unsigned char byte = 0xee;
    table.magic = QUIRE_PAGER_MAGIC;
    table.abi_version = QUIRE_PAGER_ABI_VERSION;
    table.struct_size = sizeof table;
    table.name = "disk";
    table.open = disk_open;
    table.close = disk_close;
    table.get = disk_get;
    table.put = disk_put;
    begin();
    OK(quire_pager_register(engine, &table, NULL, &pager));
    OK(quire_map_create(engine, 0, 0, &map));
    open_and_map("the disk", QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, RW);
    OK(quire_store(map, base + 2 * PAGE, &byte, 1, NULL));
    disk_is_full = 1;
    EXPECT(QUIRE_ERR_WRITE_BACK, "1 dirty page(s) of disk the disk could not be written",
           quire_object_flush(object, 0, 0, 0));
    CHECK(quire_last_errno() == ENOSPC);
    OK(quire_map_destroy(map));
    EXPECT(QUIRE_ERR_WRITE_BACK, "disk", quire_object_release(object));
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_object_release(object));
    CHECK(stats_of(engine).objects == 1 && stats_of(engine).objects_unwritten == 1);
    EXPECT(QUIRE_ERR_WRITE_BACK, "disk", quire_engine_sync(engine, 0));
    EXPECT(QUIRE_ERR_IN_USE, "disk", quire_pager_unload(pager));
    EXPECT(QUIRE_ERR_WRITE_BACK, "disk", quire_engine_destroy(engine, 0));
}

static void pages_that_cannot_be_written_are_kept_until_they_can_be(void)
{
    dirty_on_a_full_disk();
    /* Whoever opens it again finds what was written. */
    OK(quire_map_create(engine, 0, 0, &map));
    open_and_map("the disk", QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, RW);
    CHECK(byte_at(2) == 0xee && stats_of(engine).objects == 1);
    OK(quire_map_destroy(map));
    EXPECT(QUIRE_ERR_WRITE_BACK, "disk", quire_object_release(object));
    disk_is_full = 0;
    OK(quire_engine_sync(engine, QUIRE_DURABLE));
    /* Written, it is kept as others are. */
    CHECK(disk[2 * PAGE] == 0xee && stats_of(engine).objects_unwritten == 0);
    CHECK(stats_of(engine).objects == 1 && stats_of(engine).objects_kept == 1);
    OK(quire_pager_unload(pager));
    OK(quire_engine_destroy(engine, 0));
}

static void pages_that_cannot_be_written_can_be_given_up(void)
{
    dirty_on_a_full_disk();
    OK(quire_engine_destroy(engine, QUIRE_DISCARD));
    CHECK(disk[2 * PAGE] == 0);
}

static void a_handle_that_is_null_is_the_pagers_own_affair(void)
{
    load("villain");
    OK(quire_object_open(pager, "open-null", -1, QUIRE_OPEN_READ, &object));
    unload();
}

static void a_pager_in_sixty_lines_of_c_reads_and_writes_files(void)
{
    static const char words[] = "sixty lines";
    char path[4096], back[sizeof words];
    FILE *file;
    load("file_pager");
    snprintf(path, sizeof path, "%s/sixty", folder);
    file = fopen(path, "wb");
    CHECK(file != NULL && fseek(file, 9999, SEEK_SET) == 0 && fputc('.', file) == '.' && fclose(file) == 0);
    EXPECT(QUIRE_ERR_PAGER, "file: open", quire_object_open(pager, "/no/such/file", -1, QUIRE_OPEN_READ, &object));
    CHECK(quire_last_errno() == ENOENT);
    open_and_map(path, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, RW);
    OK(quire_store(map, base + 4090, words, sizeof words, NULL));
    CHECK(byte_at(0) == 0);
    OK(quire_object_flush(object, 0, 0, QUIRE_DURABLE));
    unload();
    file = fopen(path, "rb");
    CHECK(file != NULL && fseek(file, 4090, SEEK_SET) == 0);
    CHECK(fread(back, 1, sizeof back, file) == sizeof back && memcmp(back, words, sizeof words) == 0);
    CHECK(fseek(file, 0, SEEK_END) == 0 && ftell(file) == 10000 && fclose(file) == 0);
}

static void exceptions_of_a_pager_in_cpp_become_statuses(void)
{
    unsigned char byte = 0x77;
    load("cpp_pager");
    EXPECT(QUIRE_ERR_PAGER, "not a number of pages", quire_object_open(pager, "many", -1, QUIRE_OPEN_READ, &object));
    CHECK(quire_last_errno() == EINVAL);
    open_and_map("64 13", QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, RW);
    CHECK(byte_at(12) == 0);
    OK(quire_store(map, base + 12 * PAGE, &byte, 1, NULL));
    OK(quire_object_flush(object, 0, 0, 0));
    EXPECT(QUIRE_FAULT_QUARANTINED, "page 13 is cursed", touch(13));
    OK(quire_unmap(map, base, 64 * PAGE));
    quire_object_release(object);
    open_and_map("4", QUIRE_OPEN_READ, QUIRE_PROT_READ);
    CHECK(byte_at(3) == 0);
    OK(quire_map_destroy(map));
    OK(quire_object_release(object));
    OK(quire_engine_destroy(engine, QUIRE_DISCARD));
}

static void a_plugin_is_unloaded_and_loaded_again(void)
{
    char path[4096];
    int i;
    snprintf(path, sizeof path, "%s/file_pager.so", folder);
    begin();
    for (i = 0; i < 3; i++) {
        OK(quire_pager_load(engine, path, NULL, &pager));
        CHECK(strcmp(info_of(pager).name, "file") == 0 && strcmp(info_of(pager).path, path) == 0);
        OK(quire_object_open(pager, path, -1, QUIRE_OPEN_READ, &object));
        EXPECT(QUIRE_ERR_IN_USE, "file", quire_pager_unload(pager));
        OK(quire_object_release(object));
        OK(quire_pager_unload(pager));
        EXPECT(QUIRE_ERR_HANDLE, "closed", quire_pager_unload(pager));
    }
    OK(quire_engine_destroy(engine, 0));
}

static const struct test_case cases[] = {
    CASE(a_good_villain_is_a_pager_like_others),
    CASE(an_unknown_status_quarantines),
    CASE(an_unknown_page_status_quarantines),
    CASE(claiming_what_was_not_filled_quarantines),
    CASE(answering_after_completing_quarantines),
    CASE(a_caught_panic_quarantines),
    CASE(populate_without_the_page_quarantines),
    CASE(populate_that_leaves_the_page_unready_quarantines),
    CASE(populate_elsewhere_quarantines),
    CASE(populate_backwards_quarantines),
    CASE(populate_outside_quarantines),
    CASE(half_filled_pages_cannot_be_told_from_whole_ones),
    CASE(completing_twice_is_logged_and_ignored),
    CASE(a_strangers_token_is_logged_and_ignored),
    CASE(a_broken_promise_is_logged),
    CASE(errors_with_a_cause_carry_it),
    CASE(every_status_of_the_list_has_its_fault),
    CASE(a_failure_passes_and_the_next_try_works),
    CASE(a_request_that_is_never_completed_is_listed_and_keeps_nobody_else),
    CASE(a_put_that_answers_after_completing_quarantines),
    CASE(completing_a_populate_is_logged_and_ignored),
    CASE(a_fault_waits_for_a_late_completion),
    CASE(a_late_failure_fails_the_fault),
    CASE(pages_that_cannot_be_written_are_kept_until_they_can_be),
    CASE(pages_that_cannot_be_written_can_be_given_up),
    CASE(a_handle_that_is_null_is_the_pagers_own_affair),
    CASE(a_pager_in_sixty_lines_of_c_reads_and_writes_files),
    CASE(exceptions_of_a_pager_in_cpp_become_statuses),
    CASE(a_plugin_is_unloaded_and_loaded_again),
};

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    folder = argv[2];
    return run_case(cases, sizeof cases / sizeof *cases, argv[1]);
}
