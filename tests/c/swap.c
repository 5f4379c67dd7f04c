/*
 * Swap areas by the C API, on the soft machine: files through the anon pager, and a pager of this program that fails on request.
 * Compiles as C and as C++. Usage: swap CASE FOLDER
 */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "swapping.h"

#define PAGE ((uint64_t)QUIRE_PAGE_SIZE)
#define MIB ((uint64_t)1 << 20)
#define RW (QUIRE_PROT_READ | QUIRE_PROT_WRITE)
#define DISK 512
#include "gated_disk.h"

static const char *folder;
static struct quire_engine *engine;
static struct quire_pager *anon;
static struct quire_map *map;

static void begin(void)
{
    struct quire_engine_options options = on_the_soft_machine();
    options.memory = MIB;
    OK(quire_engine_create(&options, &engine));
    OK(quire_map_create(engine, 0, 0, &map));
    anon = load_anon(engine);
}

static void end(void)
{
    OK(quire_map_destroy(map));
    CHECK(swap_of(engine).used == 0);
    OK(quire_engine_destroy(engine, 0));
}

static uint64_t anonymous(uint64_t pages)
{
    struct quire_map_request request = request_of(pages * PAGE, RW);
    uint64_t addr = 0;
    OK(quire_map_anonymous(map, &request, &addr));
    return addr;
}

/* Stores in each page its number, and answers how many pages that went well for. */
static uint64_t fill(uint64_t addr, uint64_t pages)
{
    uint64_t page;
    for (page = 0; page < pages; page++) {
        uint64_t word = page + 1;
        if (quire_store(map, addr + page * PAGE, &word, sizeof word, NULL) != QUIRE_OK)
            return page;
    }
    return pages;
}

static int is_filled(uint64_t addr, uint64_t pages)
{
    uint64_t page, word = 0;
    for (page = 0; page < pages; page++) {
        OK(quire_load(map, addr + page * PAGE, &word, sizeof word, NULL));
        if (word != page + 1)
            return 0;
    }
    return 1;
}

static void name_of(char *text, size_t room, const char *name, const char *options)
{
    snprintf(text, room, "%s/%s%s", folder, name, options);
}

/* The pager of this program: a gated disk, whose every call may fail. */
static volatile int32_t disk_fails;
static volatile int disk_lies;

static int32_t disk_open(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    (void)ctx;
    (void)args;
    out->size = sizeof disk;
    out->object = disk;
    return QUIRE_PAGER_OK;
}

static int32_t disk_move(struct quire_pager_io *io, int put)
{
    pass_the_gate();
    if (disk_lies)
        return 17;
    if (disk_fails != 0)
        return disk_fails;
    return move_on_disk(io, put);
}

static int32_t disk_get(void *handle, struct quire_pager_io *io)
{
    (void)handle;
    return disk_move(io, 0);
}

static int32_t disk_put(void *handle, struct quire_pager_io *io)
{
    (void)handle;
    return disk_move(io, 1);
}

static struct quire_pager *register_disk(int writes)
{
    static struct quire_pager_module tables[2];
    struct quire_pager_module *table = &tables[writes];
    struct quire_pager *pager = NULL;
    table->magic = QUIRE_PAGER_MAGIC;
    table->abi_version = QUIRE_PAGER_ABI_VERSION;
    table->struct_size = sizeof *table;
    table->thread_model = QUIRE_THREADS_PARALLEL;
    table->name = writes ? "disk" : "rom";
    table->open = disk_open;
    table->close = close_disk;
    table->get = disk_get;
    table->put = writes ? disk_put : NULL;
    OK(quire_pager_register(engine, table, NULL, &pager));
    return pager;
}

static uint64_t add_disk(struct quire_pager *pager, int32_t priority)
{
    uint64_t id = 0;
    OK(quire_swap_add(pager, "disk", -1, 0, priority, &id));
    return id;
}

static struct quire_swap_area only_area(void)
{
    struct quire_swap_area area;
    size_t found = 0;
    OK(quire_swap_areas(engine, &area, sizeof area, 1, &found));
    CHECK(found == 1);
    return area;
}

static void areas_are_listed_and_filled_by_priority(void)
{
    struct {
        struct quire_swap_area area;
        uint64_t later;
    } newer[3];
    struct quire_swap_area areas[3];
    uint64_t ids[2], addr;
    size_t found = 77;
    begin();
    OK(quire_swap_areas(engine, NULL, 0, 0, &found));
    CHECK(found == 0 && swap_of(engine).areas == 0);
    ids[0] = add_file(anon, folder, "last", 2 * MIB, -3);
    ids[1] = add_file(anon, folder, "first", MIB + 100, 5);
    CHECK(ids[0] != ids[1]);
    addr = anonymous(448);
    CHECK(fill(addr, 448) == 448);
    OK(quire_swap_areas(engine, areas, sizeof *areas, 3, &found));
    CHECK(found == 2);
    {
        const struct quire_swap_area *first = areas[0].id == ids[1] ? &areas[0] : &areas[1];
        const struct quire_swap_area *last = areas[0].id == ids[1] ? &areas[1] : &areas[0];
        CHECK(first->id == ids[1] && last->id == ids[0] && first->priority == 5 && last->priority == -3);
        CHECK(strstr(first->name, "/first") != NULL && strstr(last->name, "/last") != NULL);
        CHECK(first->pages == 256 && last->pages == 512 && first->used > 0);
        CHECK(last->used == 0 || first->used == 256);
        CHECK(first->flags == 0 && first->broken[0] == 0 && first->bad == 0);
        CHECK(swap_of(engine).used == first->used + last->used && swap_of(engine).pages == 768 && swap_of(engine).areas == 2);
    }
    /* As many as there is room for, also for programs that know more members. */
    memset(newer, 0xee, sizeof newer);
    OK(quire_swap_areas(engine, &newer[0].area, sizeof newer[0], 1, &found));
    CHECK(found == 2 && newer[0].area.id != 0 && newer[0].later == 0 && newer[1].later == UINT64_C(0xeeeeeeeeeeeeeeee));
    CHECK(is_filled(addr, 448));
    end();
}

static void what_makes_no_sense_is_refused(void)
{
    struct quire_swap_stats stats;
    struct quire_swap_area area;
    char name[4200];
    uint64_t id = 5;
    size_t found = 5;
    begin();
    name_of(name, sizeof name, "swap", ",size=1M");
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_swap_add(NULL, name, -1, 0, 0, &id));
    EXPECT(QUIRE_ERR_HANDLE, "kind engine", quire_swap_add((struct quire_pager *)engine, name, -1, 0, 0, &id));
    EXPECT(QUIRE_ERR_INVALID, "nothing to open", quire_swap_add(anon, NULL, -1, 0, 0, &id));
    EXPECT(QUIRE_ERR_INVALID, "nothing to open", quire_swap_add(anon, name, -2, 0, 0, &id));
    EXPECT(QUIRE_ERR_INVALID, "more than the 1048576", quire_swap_add(anon, name, -1, MIB + 1, 0, &id));
    EXPECT(QUIRE_ERR_INVALID, "more than the 1048576", quire_swap_add(anon, name, -1, UINT64_MAX, 0, &id));
    EXPECT(QUIRE_ERR_INVALID, "one whole page", quire_swap_add(anon, name, -1, PAGE - 1, 0, &id));
    EXPECT(QUIRE_ERR_INVALID, "no such swap area", quire_swap_remove(engine, 0));
    EXPECT(QUIRE_ERR_INVALID, "no such swap area", quire_swap_remove(engine, UINT64_MAX));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_swap_remove(NULL, 1));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_swap_areas(engine, &area, sizeof area, 1, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_swap_areas(engine, NULL, sizeof area, 1, &found));
    EXPECT(QUIRE_ERR_INVALID, "quire_swap_area", quire_swap_areas(engine, &area, sizeof area - 1, 1, &found));
    EXPECT(QUIRE_ERR_INVALID, "longer", quire_swap_areas(engine, &area, sizeof area, SIZE_MAX, &found));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_swap_areas(NULL, &area, sizeof area, 1, &found));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_swap_stats(engine, NULL));
    memset(&stats, 0, sizeof stats);
    EXPECT(QUIRE_ERR_INVALID, "struct_size", quire_swap_stats(engine, &stats));
    stats.struct_size = sizeof stats;
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_swap_stats(NULL, &stats));
    CHECK(id == 5 && found == 5 && swap_of(engine).areas == 0);
    /* Nothing stayed open: the file can be used, and its number needs not be stored. */
    OK(quire_swap_add(anon, name, -1, 3 * PAGE, 0, NULL));
    CHECK(swap_of(engine).areas == 1 && swap_of(engine).pages == 3);
    /* Of an answer only what an older program knows is written. */
    memset(&stats, 0xee, sizeof stats);
    stats.struct_size = (uint32_t)offsetof(struct quire_swap_stats, used);
    OK(quire_swap_stats(engine, &stats));
    CHECK(stats.pages == 3 && stats.used == UINT64_C(0xeeeeeeeeeeeeeeee));
    end();
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_swap_add(anon, name, -1, 0, 0, &id));
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_swap_remove(engine, 1));
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_swap_areas(engine, &area, sizeof area, 1, &found));
    stats.struct_size = sizeof stats;
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_swap_stats(engine, &stats));
}

static void what_cannot_be_swap_is_refused_with_a_sentence(void)
{
    struct quire_pager *vnode, *rom;
    char name[4200];
    uint64_t id = 5;
    int i, fd;
    begin();
    name_of(name, sizeof name, "missing", "");
    EXPECT(QUIRE_ERR_PAGER, "no such file", quire_swap_add(anon, name, -1, 0, 0, &id));
    CHECK(quire_last_errno() == ENOENT);
    name_of(name, sizeof name, "missing", ",speed=9");
    EXPECT(QUIRE_ERR_PAGER, "no option", quire_swap_add(anon, name, -1, 0, 0, &id));
    CHECK(quire_last_errno() == EINVAL);
    name_of(name, sizeof name, "small", ",size=100");
    EXPECT(QUIRE_ERR_PAGER, "too small", quire_swap_add(anon, name, -1, 0, 0, &id));
    EXPECT(QUIRE_ERR_PAGER, "directory", quire_swap_add(anon, folder, -1, 0, 0, &id));
    CHECK(quire_last_errno() == EISDIR);
    name_of(name, sizeof name, "closed", "");
    fd = open(name, O_RDWR | O_CREAT, 0400);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)MIB) == 0 && fchmod(fd, 0400) == 0);
    if (geteuid() != 0) {
        EXPECT(QUIRE_ERR_PAGER, "may not", quire_swap_add(anon, name, -1, 0, 0, &id));
        CHECK(quire_last_errno() == EACCES);
    }
    EXPECT(QUIRE_ERR_PAGER, "by its name", quire_swap_add(anon, NULL, fd, 0, 0, &id));
    /* In use: by the anon pager itself, which knows files, and by the engine, which knows objects. */
    name_of(name, sizeof name, "swap", ",size=1M");
    OK(quire_swap_add(anon, name, -1, 0, 0, &id));
    EXPECT(QUIRE_ERR_PAGER, "in use", quire_swap_add(anon, name, -1, 0, 0, &id));
    CHECK(quire_last_errno() == EBUSY);
    OK(quire_pager_load(engine, "vnode", NULL, &vnode));
    OK(quire_swap_add(vnode, NULL, fd, 0, 0, &id));
    EXPECT(QUIRE_ERR_IN_USE, "already", quire_swap_add(vnode, NULL, fd, 0, 0, &id));
    close(fd);
    rom = register_disk(0);
    EXPECT(QUIRE_ERR_UNSUPPORTED, "open it for writing", quire_swap_add(rom, "rom", -1, 0, 0, &id));
    CHECK(info_of(rom).open_objects == 0 && swap_of(engine).areas == 2);
    for (i = 2; i < 32; i++)
        OK(quire_swap_add(anon, "memory,size=4K", -1, 0, 0, &id));
    EXPECT(QUIRE_ERR_INVALID, "32 swap areas", quire_swap_add(anon, "memory,size=4K", -1, 0, 0, &id));
    end();
}

static void when_swap_is_full_nothing_is_lost_and_an_area_mends_it(void)
{
    struct quire_swap_stats stats;
    uint64_t addr, filled;
    begin();
    addr = anonymous(1024);
    filled = fill(addr, 1024);
    stats = swap_of(engine);
    CHECK(filled > 200 && filled < 256 && strstr(quire_last_error(), "out of memory") != NULL);
    CHECK(stats.refusal == QUIRE_SWAP_NO_AREA && stats.refusal_errno == 0 && strstr(stats.refusal_text, "add one") != NULL);
    add_file(anon, folder, "small", 64 * PAGE, 0);
    /* The page daemon may have filled it already. */
    CHECK(swap_of(engine).refusal != QUIRE_SWAP_NO_AREA);
    filled = fill(addr, 1024);
    stats = swap_of(engine);
    CHECK(filled > 256 && filled < 330 && stats.used == 64);
    CHECK(stats.refusal == QUIRE_SWAP_FULL && strstr(stats.refusal_text, "all 64 pages of 1 swap area(s)") != NULL);
    add_file(anon, folder, "large", 4 * MIB, 0);
    CHECK(is_filled(addr, filled));
    CHECK(fill(addr, 1024) == 1024 && is_filled(addr, 1024));
    CHECK(swap_of(engine).refusal == QUIRE_SWAP_NOT_REFUSED && swap_of(engine).refusal_text[0] == 0);
    end();
}

static void an_area_that_fails_is_told_and_used_again_when_it_works(void)
{
    struct quire_swap_stats stats;
    uint64_t addr, filled;
    begin();
    disk_fails = -ENOSPC;
    add_disk(register_disk(1), 0);
    addr = anonymous(600);
    filled = fill(addr, 600);
    stats = swap_of(engine);
    CHECK(filled < 256 && stats.refused > 0 && stats.refusal == QUIRE_SWAP_FAILED && stats.refusal_errno == ENOSPC);
    CHECK(strstr(stats.refusal_text, "cannot be written") != NULL && stats.used == 0);
    CHECK(is_filled(addr, filled));
    disk_fails = 0;
    CHECK(fill(addr, 600) == 600 && is_filled(addr, 600));
    CHECK(only_area().used > 300 && only_area().flags == 0);
    end();
}

static void an_area_whose_pager_lies_is_broken(void)
{
    uint64_t addr;
    begin();
    add_disk(register_disk(1), 0);
    addr = anonymous(600);
    disk_lies = 1;
    CHECK(fill(addr, 600) < 256);
    disk_lies = 0;
    CHECK(only_area().flags == QUIRE_SWAP_BROKEN && strlen(only_area().broken) > 12);
    printf("%s\n", only_area().broken);
    add_file(anon, folder, "good", 4 * MIB, -1);
    CHECK(fill(addr, 600) == 600 && is_filled(addr, 600));
    end();
}

static void a_removed_area_gives_back_what_is_in_it(void)
{
    struct quire_swap_area area;
    uint64_t addr, first, second;
    begin();
    first = add_file(anon, folder, "first", 4 * MIB, 1);
    addr = anonymous(600);
    CHECK(fill(addr, 600) == 600);
    EXPECT(QUIRE_ERR_NOMEM, "cannot be removed", quire_swap_remove(engine, first));
    area = only_area();
    CHECK(area.id == first && area.flags == 0 && area.used > 300);
    second = add_file(anon, folder, "second", 4 * MIB, 0);
    OK(quire_swap_remove(engine, first));
    EXPECT(QUIRE_ERR_INVALID, "removed", quire_swap_remove(engine, first));
    CHECK(only_area().id == second && is_filled(addr, 600));
    /* Its file is free again. */
    first = add_file(anon, folder, "first", 4 * MIB, 1);
    OK(quire_swap_remove(engine, second));
    CHECK(is_filled(addr, 600));
    OK(quire_unmap(map, addr, 600 * PAGE));
    OK(quire_swap_remove(engine, first));
    CHECK(swap_of(engine).areas == 0);
    end();
}

static uint64_t leaving;

static void *remove_it(void *unused)
{
    OK(quire_swap_remove(engine, leaving));
    return unused;
}

static void an_area_is_removed_while_others_look(void)
{
    pthread_t thread;
    struct quire_pager *pager;
    uint64_t addr;
    begin();
    pager = register_disk(1);
    leaving = add_disk(pager, 1);
    addr = anonymous(600);
    CHECK(fill(addr, 600) == 600);
    add_file(anon, folder, "other", 4 * MIB, 0);
    set_gate(1);
    CHECK(pthread_create(&thread, NULL, remove_it, NULL) == 0);
    while (!a_call_waits_at_the_gate())
        sched_yield();
    EXPECT(QUIRE_ERR_IN_USE, "being removed already", quire_swap_remove(engine, leaving));
    {
        struct quire_swap_area areas[2];
        size_t found = 0;
        OK(quire_swap_areas(engine, areas, sizeof *areas, 2, &found));
        CHECK(found == 2);
        CHECK((areas[0].id == leaving ? areas[0] : areas[1]).flags == QUIRE_SWAP_LEAVING);
        CHECK((areas[0].id == leaving ? areas[1] : areas[0]).flags == 0);
    }
    EXPECT(QUIRE_ERR_IN_USE, "1 swap area", quire_pager_unload(pager));
    set_gate(0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(is_filled(addr, 600) && swap_of(engine).areas == 1);
    end();
}

static void what_cannot_be_read_keeps_its_area(void)
{
    uint64_t addr, id, word = 0, page, failed = 0;
    begin();
    id = add_disk(register_disk(1), 0);
    addr = anonymous(600);
    CHECK(fill(addr, 600) == 600);
    disk_fails = -EIO;
    for (page = 0; page < 600; page++)
        if (quire_load(map, addr + page * PAGE, &word, sizeof word, NULL) == QUIRE_FAULT_PAGER) {
            CHECK(quire_last_errno() == EIO && strstr(quire_last_error(), "swap area") != NULL);
            failed++;
        }
    CHECK(failed > 0);
    EXPECT(QUIRE_ERR_PAGER, "cannot be read", quire_swap_remove(engine, id));
    CHECK(quire_last_errno() == EIO);
    disk_fails = 0;
    /* What could not be read a moment ago may be readable now. */
    CHECK(is_filled(addr, 600));
    OK(quire_unmap(map, addr, 600 * PAGE));
    OK(quire_swap_remove(engine, id));
    end();
}

static void a_pager_is_kept_while_it_has_areas(void)
{
    uint64_t id;
    begin();
    id = add_file(anon, folder, "swap", MIB, 0);
    CHECK(info_of(anon).open_objects == 1);
    EXPECT(QUIRE_ERR_IN_USE, "1 swap area(s) open; remove them", quire_pager_unload(anon));
    OK(quire_swap_remove(engine, id));
    CHECK(info_of(anon).open_objects == 0);
    OK(quire_pager_unload(anon));
    EXPECT(QUIRE_ERR_HANDLE, "closed", quire_pager_info(anon, NULL));
    anon = load_anon(engine);
    /* The end of the engine closes what is left. */
    add_file(anon, folder, "swap", MIB, 0);
    end();
    begin();
    add_file(anon, folder, "swap", MIB, 0);
    CHECK(fill(anonymous(400), 400) == 400);
    OK(quire_map_destroy(map));
    OK(quire_engine_destroy(engine, QUIRE_DISCARD));
}

static void swap_may_be_packed_and_in_memory(void)
{
    char name[4200];
    uint64_t addr;
    begin();
    name_of(name, sizeof name, "packed", ",size=4M,compress=lz4,pool=256K");
    OK(quire_swap_add(anon, name, -1, 0, 0, NULL));
    OK(quire_swap_add(anon, "memory,size=1M,compress=zstd", -1, 0, 1, NULL));
    addr = anonymous(1000);
    CHECK(fill(addr, 1000) == 1000 && is_filled(addr, 1000));
    CHECK(swap_of(engine).areas == 2 && swap_of(engine).used > 500);
    end();
}

static const struct test_case cases[] = {
    CASE(areas_are_listed_and_filled_by_priority),
    CASE(what_makes_no_sense_is_refused),
    CASE(what_cannot_be_swap_is_refused_with_a_sentence),
    CASE(when_swap_is_full_nothing_is_lost_and_an_area_mends_it),
    CASE(an_area_that_fails_is_told_and_used_again_when_it_works),
    CASE(an_area_whose_pager_lies_is_broken),
    CASE(a_removed_area_gives_back_what_is_in_it),
    CASE(an_area_is_removed_while_others_look),
    CASE(what_cannot_be_read_keeps_its_area),
    CASE(a_pager_is_kept_while_it_has_areas),
    CASE(swap_may_be_packed_and_in_memory),
};

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    folder = argv[2];
    return run_case(cases, sizeof cases / sizeof *cases, argv[1]);
}
