/*
 * What the tests of real memory share: an engine on the Linux machine, files, and accesses that may meet a signal.
 * Usage of each program: PROGRAM CASE FOLDER MODE, where MODE is how faults are served: threads or in-thread.
 */
#ifndef REAL_H
#define REAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((uint64_t)QUIRE_PAGE_SIZE)
#define MIB ((uint64_t)1 << 20)
#define READ QUIRE_PROT_READ
#define RW (QUIRE_PROT_READ | QUIRE_PROT_WRITE)
#define WRITABLE (QUIRE_OPEN_READ | QUIRE_OPEN_WRITE)

static const char *folder;
static int in_thread;
static struct quire_engine *engine;
static struct quire_pager *pager;
static struct quire_object *object;
static struct quire_map *map;
static char path[4096];

/* What an access met: no signal, or which one, its code and its address. */
struct met {
    int signal, code;
    void *address;
};

static __thread sigjmp_buf back;
static __thread volatile int trying;
static __thread volatile struct met last;

static inline void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (!trying) {
        static const char text[] = "a signal that nobody expected\n";
        ssize_t written = write(2, text, sizeof text - 1);
        _exit(written < 0 ? 4 : 3);
    }
    last.signal = signal;
    last.code = info->si_code;
    last.address = info->si_addr;
    siglongjmp(back, 1);
}

/* The program's own handlers, which are called for accesses that fail. */
static inline void handle_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(SIGBUS, &action, NULL) == 0);
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
}

static inline struct met reading(const volatile unsigned char *at)
{
    struct met met;
    last.signal = 0;
    if (sigsetjmp(back, 1) == 0) {
        trying = 1;
        (void)*at;
    }
    trying = 0;
    met.signal = last.signal, met.code = last.code, met.address = last.address;
    return met;
}

static inline struct met writing(volatile unsigned char *at, unsigned char byte)
{
    struct met met;
    last.signal = 0;
    if (sigsetjmp(back, 1) == 0) {
        trying = 1;
        *at = byte;
    }
    trying = 0;
    met.signal = last.signal, met.code = last.code, met.address = last.address;
    return met;
}

/* The access meets this signal, at its own address. */
#define MEETS(which, at, access)                                                                                  \
    do {                                                                                                          \
        struct met met_ = access;                                                                                 \
        if (met_.signal != (which) || met_.address != (const void *)(at)) {                                       \
            fprintf(stderr, "%s:%d: %s: signal %d at %p instead of %d at %p\n", __FILE__, __LINE__, #access,      \
                    met_.signal, met_.address, which, (const void *)(at));                                        \
            exit(1);                                                                                              \
        }                                                                                                         \
    } while (0)

/* The access is made. */
#define MAKES(access)                                                                                              \
    do {                                                                                                           \
        struct met met_ = access;                                                                                  \
        if (met_.signal != 0) {                                                                                    \
            fprintf(stderr, "%s:%d: %s: signal %d at %p\n", __FILE__, __LINE__, #access, met_.signal, met_.address); \
            exit(1);                                                                                               \
        }                                                                                                          \
    } while (0)

/* The access is made, after a moment: so long a failure stays at its address. */
#define SOON_MAKES(access)             \
    do {                               \
        int tries_ = 0;                \
        while ((access).signal != 0)   \
            CHECK(++tries_ < 1000000); \
    } while (0)

/* An engine on real memory with so many bytes for pages, and a map. */
static inline void begin(uint64_t memory)
{
    struct quire_engine_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.machine = QUIRE_MACHINE_LINUX;
    options.memory = memory;
    handle_signals();
    OK(quire_engine_create(&options, &engine));
    OK(quire_map_create(engine, 0, 0, &map));
    CHECK(strcmp(stats_of(engine).machine, "linux") == 0);
}

/* Whether faults inside system calls can be served by threads, or userfaultfd is for user mode only. */
static inline int serves_the_kernel(void)
{
    FILE *setting = fopen("/proc/sys/vm/unprivileged_userfaultfd", "r");
    int allowed = setting != NULL && fgetc(setting) == '1';
    if (setting != NULL)
        fclose(setting);
    return allowed || geteuid() == 0 || access("/dev/userfaultfd", R_OK | W_OK) == 0;
}

/* A number that follows from its place alone. */
static inline uint64_t mixed(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* A file in the test's folder, each of whose words is mixed from its place. */
static inline void make_file(const char *name, uint64_t size)
{
    static uint64_t words[32768];
    uint64_t at, i;
    FILE *out;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    out = fopen(path, "wb");
    CHECK(out != NULL);
    for (at = 0; at < size; at += sizeof words) {
        uint64_t now = size - at < sizeof words ? size - at : sizeof words;
        for (i = 0; i < sizeof words / 8; i++)
            words[i] = mixed(at / 8 + i);
        CHECK(fwrite(words, 1, (size_t)now, out) == now);
    }
    CHECK(fclose(out) == 0);
}

/* The file that was made last, through the vnode pager. */
static inline void open_file(uint32_t flags)
{
    OK(quire_pager_load(engine, "vnode", NULL, &pager));
    OK(quire_object_open(pager, path, -1, flags, &object));
}

/* A pointer to the object's first `length` bytes, served as the mode says. */
static inline unsigned char *mapped(uint64_t length, uint32_t prot)
{
    struct quire_map_request request = request_of(length, prot);
    uint64_t addr = 0;
    request.flags = in_thread ? QUIRE_MAP_IN_THREAD : 0;
    OK(quire_map(map, object, &request, &addr));
    return (unsigned char *)(uintptr_t)addr;
}

static inline uint64_t address_of(const volatile void *at)
{
    return (uint64_t)(uintptr_t)at;
}

static inline void end(void)
{
    OK(quire_map_destroy(map));
    OK(quire_object_release(object));
    OK(quire_engine_destroy(engine, 0));
}

/* Reads the file plainly. */
static inline void read_file(void *bytes, uint64_t length, uint64_t offset)
{
    int fd = open(path, O_RDONLY);
    uint64_t done = 0;
    CHECK(fd >= 0);
    while (done < length) {
        ssize_t n = pread(fd, (char *)bytes + done, (size_t)(length - done), (off_t)(offset + done));
        CHECK(n > 0);
        done += (uint64_t)n;
    }
    close(fd);
}

/* Takes what a program of these tests was called with; 0: go on. Otherwise the machine cannot be had here. */
static inline int real_main(int argc, char **argv, const struct test_case *cases, size_t count)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s CASE FOLDER threads|in-thread\n", argv[0]);
        return 2;
    }
    folder = argv[2];
    in_thread = strcmp(argv[3], "in-thread") == 0;
    if (quire_linux_supported() != QUIRE_OK) {
        printf("NOT TESTED: %s\n", quire_last_error());
        return 0;
    }
    return run_case(cases, count, argv[1]);
}

#endif
