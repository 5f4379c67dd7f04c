/* The first bytes of a file, read through page faults. */
#include <quire.h>
#include <stdio.h>
#define TRY(call) if ((call) != QUIRE_OK) return fprintf(stderr, "%s\n", quire_last_error()), 1

int main(int argc, char **argv)
{
    struct quire_engine *engine;
    struct quire_pager *vnode;
    struct quire_object *file;
    struct quire_map *map;
    struct quire_map_request request = {.struct_size = sizeof request, .length = 4096, .prot = QUIRE_PROT_READ};
    uint64_t addr;
    char text[65] = "";

    TRY(quire_engine_create(NULL, &engine));
    TRY(quire_pager_load(engine, "vnode", NULL, &vnode));
    TRY(quire_object_open(vnode, argc > 1 ? argv[1] : argv[0], -1, QUIRE_OPEN_READ, &file));
    TRY(quire_map_create(engine, 0, 0, &map));
    TRY(quire_map(map, file, &request, &addr));
    TRY(quire_load(map, addr, text, sizeof text - 1, NULL));
    printf("%s\n", text);
    TRY(quire_map_destroy(map));
    TRY(quire_object_release(file));
    TRY(quire_engine_destroy(engine, 0));
    return 0;
}
