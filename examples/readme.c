/* The first bytes of a file, through a pointer whose pages come in when they are touched. */
#include <quire.h>
#include <stdio.h>
#define TRY(call) if ((call) != QUIRE_OK) return fprintf(stderr, "%s\n", quire_last_error()), 1

int main(int argc, char **argv)
{
    struct quire_engine_options options = {.struct_size = sizeof options, .machine = QUIRE_MACHINE_LINUX};
    struct quire_map_request request = {.struct_size = sizeof request, .length = 4096, .prot = QUIRE_PROT_READ};
    struct quire_engine *engine;
    struct quire_pager *vnode;
    struct quire_object *file;
    struct quire_map *map;
    uint64_t addr;

    TRY(quire_engine_create(&options, &engine));
    TRY(quire_pager_load(engine, "vnode", NULL, &vnode));
    TRY(quire_object_open(vnode, argc > 1 ? argv[1] : argv[0], -1, QUIRE_OPEN_READ, &file));
    TRY(quire_map_create(engine, 0, 0, &map));
    TRY(quire_map(map, file, &request, &addr));
    printf("%.64s\n", (const char *)(uintptr_t)addr);
    TRY(quire_map_destroy(map));
    TRY(quire_object_release(file));
    TRY(quire_engine_destroy(engine, 0));
    return 0;
}
