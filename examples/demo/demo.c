/*
 * The main job on real input: every page of a file comes in through a page fault, is compared with what a plain read
 * gives, and then is found again, resident, by a second address space. `make demo` runs it.
 *
 * Where the Linux machine can be had, the program follows plain pointers; the faults of the first pass are served by threads,
 * and those of the second by the thread that takes them. Elsewhere the soft machine's processor loads.
 *
 *     demo LIBQUIRE FILE
 */
#define _XOPEN_SOURCE 700
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK ((size_t)256 * QUIRE_PAGE_SIZE) /* compared at a time */
#define BAR 40                                /* characters */

static const struct quire_api_table *quire;
static int pointers; /* mapped addresses are real */

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "demo: %s: %s\n", what, why);
    exit(1);
}

static void check(int32_t status, const char *what)
{
    if (status != QUIRE_OK)
        fail(what, quire->last_error());
}

static const struct quire_api_table *find_quire(const char *library)
{
    const struct quire_api_table *(*api)(uint32_t);
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    void *symbol = handle == NULL ? NULL : dlsym(handle, "quire_api");
    if (symbol == NULL)
        fail("dlopen", dlerror());
    memcpy(&api, &symbol, sizeof api);
    const struct quire_api_table *table = api(QUIRE_API_VERSION);
    if (table == NULL)
        fail(library, "it has another version of the API");
    return table;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* On a terminal a bar that grows in place, otherwise a line for every quarter. */
static void progress(const char *what, uint64_t done, uint64_t total)
{
    static int quarter;
    if (isatty(STDOUT_FILENO)) {
        int filled = (int)(done * BAR / total);
        printf("\r%-12s[%.*s%.*s] %3d%%%s", what, filled, "########################################", BAR - filled,
               "........................................", (int)(done * 100 / total), done == total ? "\n" : "");
    } else if (done == 0 || done == total || (int)(done * 4 / total) != quarter) {
        quarter = (int)(done * 4 / total);
        printf("%-12s%3d%%\n", what, (int)(done * 100 / total));
    }
    fflush(stdout);
}

static void read_plainly(int fd, char *bytes, size_t length, uint64_t at)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = pread(fd, bytes + done, length - done, (off_t)(at + done));
        if (n == 0)
            fail("pread", "the file has become shorter");
        if (n < 0 && errno != EINTR)
            fail("pread", strerror(errno));
        done += n > 0 ? (size_t)n : 0;
    }
}

/* Copies mapped bytes, as a program does on real memory, or as the simulated processor does. */
static void load(struct quire_map *map, uint64_t addr, char *to, size_t length)
{
    if (pointers)
        memcpy(to, (const char *)(uintptr_t)addr, length);
    else
        check(quire->load(map, addr, to, length, NULL), "load");
}

/* Loads the whole file through a map of its own, and compares it. Answers the seconds that the loads took. */
static double pass(const char *what, uint32_t flags, struct quire_engine *engine, struct quire_object *file, uint64_t size,
                   int fd)
{
    static char loaded[BLOCK], plain[BLOCK];
    struct quire_map_request request = {.struct_size = sizeof request, .length = size, .prot = QUIRE_PROT_READ};
    struct quire_map *map;
    uint64_t addr;
    double seconds = 0;

    request.flags = flags;
    check(quire->map_create(engine, 0, 0, &map), "map");
    check(quire->map(map, file, &request, &addr), "mapping");
    progress(what, 0, size);
    for (uint64_t at = 0; at < size; at += BLOCK) {
        size_t length = size - at < BLOCK ? (size_t)(size - at) : BLOCK;
        double start = now();
        load(map, addr + at, loaded, length);
        seconds += now() - start;
        read_plainly(fd, plain, length, at);
        if (memcmp(loaded, plain, length) != 0)
            fail(what, "a page differs from what a plain read gives");
        progress(what, at + length, size);
    }
    check(quire->map_destroy(map), "unmap");
    return seconds;
}

static struct quire_stats stats_of(struct quire_engine *engine)
{
    struct quire_stats stats = {.struct_size = sizeof stats};
    check(quire->engine_stats(engine, &stats), "stats");
    return stats;
}

static void report(const char *what, struct quire_stats before, struct quire_stats after, double seconds, uint64_t size)
{
    uint64_t faults = after.faults - before.faults;
    printf("%-12s%8llu faults, all of case 2A: %llu of them resident; %llu neighbours mapped along\n", what,
           (unsigned long long)faults, (unsigned long long)(after.faults_resident - before.faults_resident),
           (unsigned long long)(after.neighbours_mapped - before.neighbours_mapped));
    printf("%-12s%8llu pages in, %llu reclaimed; %.0f ns a fault, %.0f MiB/s\n", "",
           (unsigned long long)(after.pages_in - before.pages_in),
           (unsigned long long)(after.pages_reclaimed - before.pages_reclaimed),
           faults == 0 ? 0 : seconds * 1e9 / (double)faults, (double)size / seconds / (1 << 20));
    if (after.faults_2a_read - before.faults_2a_read != faults || after.faults_failed != 0)
        fail(what, "a fault was of another case, or failed");
}

int main(int argc, char **argv)
{
    struct quire_pager_info info = {.struct_size = sizeof info};
    struct quire_stats start, between, end;
    struct quire_engine *engine;
    struct quire_pager *vnode;
    struct quire_object *file;
    uint64_t size;
    double cold, warm;
    int fd;

    if (argc != 3) {
        fprintf(stderr, "usage: %s LIBQUIRE FILE\n", argv[0]);
        return 2;
    }
    quire = find_quire(argv[1]);
    if ((fd = open(argv[2], O_RDONLY)) < 0)
        fail(argv[2], strerror(errno));

    check(quire->engine_create(NULL, &engine), "engine");
    check(quire->pager_load(engine, "vnode", NULL, &vnode), "load");
    check(quire->pager_info(vnode, &info), "info");
    check(quire->object_open(vnode, argv[2], -1, QUIRE_OPEN_READ, &file), "open");
    check(quire->object_size(file, &size), "size");
    if (size == 0)
        fail(argv[2], "it is empty; give a file with something in it");
    start = stats_of(engine);
    pointers = strcmp(start.machine, "linux") == 0;
    if (quire->linux_supported() != QUIRE_OK)
        printf("no real memory here, so on the soft machine: %s\n", quire->last_error());
    printf("quire %s, machine %s, pager %s %s: %s\n", quire->version(), start.machine, info.name, info.version, info.path);
    printf("%s: %.1f MiB in %llu pages\n", argv[2], (double)size / (1 << 20),
           (unsigned long long)((size + QUIRE_PAGE_SIZE - 1) / QUIRE_PAGE_SIZE));

    cold = pass("first touch", 0, engine, file, size, fd);
    between = stats_of(engine);
    warm = pass("second map", QUIRE_MAP_IN_THREAD, engine, file, size, fd);
    end = stats_of(engine);
    report("first touch", start, between, cold, size);
    report("second map", between, end, warm, size);
    printf("compared %llu bytes twice with plain reads: all equal\n", (unsigned long long)size);

    check(quire->object_release(file), "release");
    check(quire->engine_destroy(engine, 0), "end");
    close(fd);
    return 0;
}
