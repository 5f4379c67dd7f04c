/* What the tests of anonymous memory share: the anon pager, and areas on it. Included after check.h. Compiles as C and as C++. */
#ifndef SWAPPING_H
#define SWAPPING_H

static inline struct quire_swap_stats swap_of(struct quire_engine *engine)
{
    struct quire_swap_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    OK(quire_swap_stats(engine, &stats));
    return stats;
}

static inline struct quire_copy_request copy_to(uint32_t flags, uint64_t addr)
{
    struct quire_copy_request request;
    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.flags = flags;
    request.addr = addr;
    return request;
}

static inline struct quire_pager *load_anon(struct quire_engine *engine)
{
    struct quire_pager *anon = NULL;
    OK(quire_pager_load(engine, "anon", NULL, &anon));
    return anon;
}

/* A swap area in a file of this name in the folder, of so many bytes; the file is made. */
static inline uint64_t add_file(struct quire_pager *anon, const char *folder, const char *name, uint64_t bytes, int32_t priority)
{
    char text[4200];
    uint64_t id = 0;
    snprintf(text, sizeof text, "%s/%s,size=%llu", folder, name, (unsigned long long)bytes);
    OK(quire_swap_add(anon, text, -1, 0, priority, &id));
    CHECK(id != 0);
    return id;
}

#endif
