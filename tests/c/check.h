/* What the C tests share: checks that say what they found, and an engine with a pager and a map. Compiles as C and as C++. */
#ifndef CHECK_H
#define CHECK_H

#include <quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The statement holds. */
#define CHECK(what)                                                                          \
    do {                                                                                     \
        if (!(what)) {                                                                       \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);               \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

/* The call succeeds. */
#define OK(call) EXPECT(QUIRE_OK, "", call)

/* The call answers `status`, and the sentence to it has `words` in it. */
#define EXPECT(status, words, call) expect(__FILE__, __LINE__, #call, status, words, call)

static inline void expect(const char *file, int line, const char *call, int32_t wanted, const char *words, int32_t status)
{
    const char *text = quire_last_error();
    if (status != wanted) {
        fprintf(stderr, "%s:%d: %s: %s instead of %s: %s\n", file, line, call, quire_status_name(status),
                quire_status_name(wanted), text);
        exit(1);
    }
    if (status == QUIRE_OK)
        return;
    if (strstr(text, words) == NULL || strlen(text) < 12) {
        fprintf(stderr, "%s:%d: %s: \"%s\" does not say \"%s\"\n", file, line, call, text, words);
        exit(1);
    }
    printf("%-28s %s\n", quire_status_name(status), text);
}

/* A request for a mapping of so many bytes. */
static inline struct quire_map_request request_of(uint64_t length, uint32_t prot)
{
    struct quire_map_request request;
    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.length = length;
    request.prot = prot;
    return request;
}

/* Options for an engine on the soft machine: a load there is one fault, whose outcome the test can foresee. */
static inline struct quire_engine_options on_the_soft_machine(void)
{
    struct quire_engine_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.machine = QUIRE_MACHINE_SOFT;
    return options;
}

static inline struct quire_stats stats_of(struct quire_engine *engine)
{
    struct quire_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    OK(quire_engine_stats(engine, &stats));
    return stats;
}

static inline struct quire_pager_info info_of(struct quire_pager *pager)
{
    struct quire_pager_info info;
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    OK(quire_pager_info(pager, &info));
    return info;
}

/* Runs the case that is named on the command line; a case that is not there is a failure. */
struct test_case {
    const char *name;
    void (*run)(void);
};

#define CASE(name) {#name, name}

static inline int run_case(const struct test_case *cases, size_t count, const char *name)
{
    size_t i;
    for (i = 0; i < count; i++) {
        if (strcmp(cases[i].name, name) == 0) {
            cases[i].run();
            return 0;
        }
    }
    fprintf(stderr, "there is no case %s\n", name);
    return 2;
}

#endif
