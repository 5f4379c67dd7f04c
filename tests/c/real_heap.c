/* The library's own memory: not the program's malloc while a fault is resolved in a signal handler, and nowhere that the program maps over. */
#include "real.h"

/*
 * The program's malloc, in front of the C library's. It is never to be called in a handler of SIGBUS: there the thread may have
 * been interrupted inside it.
 */
#ifdef __cplusplus
#define NOEXCEPT noexcept
extern "C" {
#else
#define NOEXCEPT
#endif
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void __libc_free(void *old);
extern int __sigaction(int signal, const struct sigaction *action, struct sigaction *before);

static __thread volatile int in_handler;
static volatile unsigned long handled;

static void not_in_a_handler(const char *function)
{
    if (in_handler) {
        ssize_t written = write(2, function, strlen(function));
        static const char text[] = " was called in a signal handler\n";
        written += write(2, text, sizeof text - 1);
        _exit(written < 0 ? 4 : 3);
    }
}

void *malloc(size_t bytes) NOEXCEPT
{
    not_in_a_handler("malloc");
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) NOEXCEPT
{
    not_in_a_handler("calloc");
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes) NOEXCEPT
{
    not_in_a_handler("realloc");
    return __libc_realloc(old, bytes);
}

void free(void *old) NOEXCEPT
{
    not_in_a_handler("free");
    __libc_free(old);
}

/* The library's handler, which is called with a note that a handler runs. */
static void (*library_handler)(int, siginfo_t *, void *);

static void noted_handler(int signal, siginfo_t *info, void *context)
{
    in_handler = in_handler + 1;
    library_handler(signal, info, context);
    in_handler = in_handler - 1;
    __atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED);
}

int sigaction(int signal, const struct sigaction *action, struct sigaction *before) NOEXCEPT
{
    struct sigaction noted;
    if (signal != SIGBUS || action == NULL || !(action->sa_flags & SA_SIGINFO))
        return __sigaction(signal, action, before);
    noted = *action;
    library_handler = action->sa_sigaction;
    noted.sa_sigaction = noted_handler;
    return __sigaction(signal, &noted, before);
}
#ifdef __cplusplus
}
#endif

#define PAGES 4096

/* Resident faults, misses, room made of clean pages, and of dirty ones. */
static void the_programs_malloc_is_not_called_in_the_handler(void)
{
    unsigned char *bytes, *again;
    uint64_t page, sum = 0;
    int round;
    begin(4 * MIB);
    make_file("file", PAGES * PAGE);
    open_file(WRITABLE);
    bytes = mapped(PAGES * PAGE, RW);
    again = mapped(PAGES * PAGE, READ);
    for (round = 0; round < 3; round++) {
        for (page = 0; page < PAGES; page++) {
            sum += bytes[page * PAGE];
            sum += again[page * PAGE];
        }
        for (page = 0; page < PAGES; page++)
            sum += bytes[(page * 2477 % PAGES) * PAGE + 1];
        for (page = 0; page < PAGES; page += 3)
            bytes[page * PAGE + 7] = (unsigned char)round;
    }
    if (in_thread)
        CHECK(handled > PAGES);
    printf("%lu faults in the handler, sum %lu\n", handled, (unsigned long)sum);
    end();
}

static volatile int go, stop;

/* Makes a hole, waits a little, and fills it, as a loader of programs does. Nothing else of this program allocates meanwhile. */
static void *make_holes(void *nothing)
{
    unsigned round = 0;
    go = 1;
    while (!stop) {
        size_t length = (size_t)PAGE << round % 12;
        int wait;
        unsigned char *at =
            (unsigned char *)mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(at != MAP_FAILED && munmap(at, length) == 0);
        for (wait = 0; wait < 20; wait++)
            sched_yield();
        CHECK(mmap(at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
        memset(at, 0xa5, length);
        CHECK(munmap(at, length) == 0);
        round++;
    }
    return nothing;
}

struct part {
    unsigned char *bytes;
    unsigned first;
};

static void *read_and_write(void *of)
{
    struct part *part = (struct part *)of;
    uint64_t page, i;
    while (!go)
        sched_yield();
    for (i = 0; i < 6 * PAGES; i++) {
        page = (i * 2477 + part->first) % PAGES;
        if (i >= PAGES)
            CHECK(part->bytes[page * PAGE + part->first] == (unsigned char)(page + part->first));
        part->bytes[page * PAGE + part->first] = (unsigned char)(page + part->first);
    }
    return of;
}

static void holes_that_the_program_makes_and_fills_destroy_nothing_of_ours(void)
{
    static struct part parts[4];
    pthread_t holes, threads[4];
    unsigned i;
    begin(4 * MIB);
    make_file("file", PAGES * PAGE);
    open_file(WRITABLE);
    for (i = 0; i < 4; i++) {
        parts[i].bytes = mapped(PAGES * PAGE, RW);
        parts[i].first = i;
    }
    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, read_and_write, &parts[i]) == 0);
    CHECK(pthread_create(&holes, NULL, make_holes, NULL) == 0);
    for (i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    stop = 1;
    CHECK(pthread_join(holes, NULL) == 0);
    end();
}

/* A child may use the library's memory, whatever other threads of its parent were doing. */
static void a_child_of_a_fork_does_not_wait_for_the_librarys_memory(void)
{
    static struct part part;
    pthread_t thread;
    int i;
    begin(4 * MIB);
    make_file("file", PAGES * PAGE);
    open_file(WRITABLE);
    part.bytes = mapped(PAGES * PAGE, RW);
    go = 1;
    CHECK(pthread_create(&thread, NULL, read_and_write, &part) == 0);
    for (i = 0; i < 50; i++) {
        int status = -1;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(20);
            /* The error's words are allocated. */
            _exit(quire_engine_create(NULL, NULL) == QUIRE_OK);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    end();
}

static const struct test_case cases[] = {
    CASE(the_programs_malloc_is_not_called_in_the_handler),
    CASE(holes_that_the_program_makes_and_fills_destroy_nothing_of_ours),
    CASE(a_child_of_a_fork_does_not_wait_for_the_librarys_memory),
};

int main(int argc, char **argv)
{
    return real_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
