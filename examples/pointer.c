/*
 * A file as memory: its bytes are turned round in place, the last one first, through a pointer.
 *
 *     cc pointer.c $(pkg-config --cflags --libs quire) -o pointer && ./pointer FILE
 *
 * Pages come in when they are touched, and never more of them are in memory than the engine was given. Compiles as C and as C++.
 */
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

static void turn_round(char *bytes, uint64_t size)
{
    uint64_t i;
    for (i = 0; i < size / 2; i++) {
        char first = bytes[i];
        bytes[i] = bytes[size - 1 - i];
        bytes[size - 1 - i] = first;
    }
}

int main(int argc, char **argv)
{
    struct quire_engine_options options;
    struct quire_map_request request;
    struct quire_engine *engine;
    struct quire_pager *vnode;
    struct quire_object *file;
    struct quire_map *map;
    uint64_t addr, size;

    if (argc != 2) {
        fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return 2;
    }

    /* Real memory or none: the default would take the soft machine where there are no real pointers. */
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.machine = QUIRE_MACHINE_LINUX;
    options.memory = 1 << 20;
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

    turn_round((char *)(uintptr_t)addr, size);
    check(quire_sync(map, addr, size, QUIRE_SYNC_DURABLE), "sync");

    check(quire_map_destroy(map), "unmap");
    check(quire_object_release(file), "release");
    check(quire_engine_destroy(engine, 0), "end");
    return 0;
}
