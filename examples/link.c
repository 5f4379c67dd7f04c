/*
 * A program that links libquire: changes a file through a mapping, on the soft machine. That one runs everywhere; its addresses are no
 * pointers, so quire_load and quire_store access them as a processor would. For pointers see pointer.c.
 *
 *     cc link.c $(pkg-config --cflags --libs quire) -o link && ./link FILE
 *
 * Turns the letters of the file's first page to upper case, and has that written back durably. Compiles as C and as C++.
 */
#include <ctype.h>
#include <quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int32_t status, const char *what)
{
    if (status == QUIRE_OK)
        return;
    fprintf(stderr, "%s: %s: %s\n", what, quire_status_name(status), quire_last_error());
    exit(1);
}

int main(int argc, char **argv)
{
    struct quire_engine_options options;
    struct quire_map_request request;
    struct quire_stats stats;
    struct quire_engine *engine;
    struct quire_pager *vnode;
    struct quire_object *file;
    struct quire_map *map;
    char page[QUIRE_PAGE_SIZE], name[256];
    uint64_t addr, size;
    size_t length, i;

    if (argc != 2) {
        fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return 2;
    }

    /* One mebibyte is plenty. Members that are 0 have their defaults. */
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.memory = 1 << 20;
    options.machine = QUIRE_MACHINE_SOFT;
    check(quire_engine_create(&options, &engine), "engine");
    check(quire_pager_load(engine, "vnode", NULL, &vnode), "load");
    check(quire_object_open(vnode, argv[1], -1, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, &file), "open");
    check(quire_object_size(file, &size), "size");
    if (size == 0) {
        printf("%s is empty\n", argv[1]);
        return 0;
    }

    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.length = size;
    request.prot = QUIRE_PROT_READ | QUIRE_PROT_WRITE;
    check(quire_map_create(engine, 0, 0, &map), "map");
    check(quire_map(map, file, &request, &addr), "mapping");

    length = size < sizeof page ? (size_t)size : sizeof page;
    check(quire_load(map, addr, page, length, NULL), "load");
    for (i = 0; i < length; i++)
        page[i] = (char)toupper((unsigned char)page[i]);
    check(quire_store(map, addr, page, length, NULL), "store");
    check(quire_object_flush(file, 0, 0, QUIRE_DURABLE), "flush");

    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    check(quire_engine_stats(engine, &stats), "stats");
    check(quire_object_describe(file, name, sizeof name), "describe");
    printf("%s: %llu faults, %llu pages in, %llu pages out\n", name, (unsigned long long)stats.faults,
           (unsigned long long)stats.pages_in, (unsigned long long)stats.pages_out);

    check(quire_map_destroy(map), "unmap");
    check(quire_object_release(file), "release");
    check(quire_engine_destroy(engine, 0), "end");
    return 0;
}
