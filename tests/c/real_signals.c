/* The program's own signals beside ours, and what a fork has of served memory. */
#include "real.h"

/* Memory of the program's own whose accesses get SIGBUS: a mapping of a file that was truncated. */
static unsigned char *own_bad_memory(void)
{
    char own[4200];
    void *at;
    int fd;
    snprintf(own, sizeof own, "%s/own", folder);
    fd = open(own, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)(2 * PAGE)) == 0);
    at = mmap(NULL, (size_t)(2 * PAGE), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED && ftruncate(fd, 0) == 0);
    close(fd);
    return (unsigned char *)at;
}

static unsigned char *begin_with_a_file(void)
{
    begin(4 * MIB);
    make_file("file", 32 * PAGE);
    open_file(WRITABLE);
    return mapped(32 * PAGE, RW);
}

static void the_programs_handlers_get_its_own_faults(void)
{
    unsigned char *bad = own_bad_memory(), *bytes;
    void *forbidden = mmap(NULL, (size_t)PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int round;
    CHECK(forbidden != MAP_FAILED);
    handle_signals();
    MEETS(SIGBUS, bad + 3, reading(bad + 3));
    MEETS(SIGSEGV, forbidden, reading((unsigned char *)forbidden));
    bytes = begin_with_a_file();
    for (round = 0; round < 4; round++) {
        MEETS(SIGBUS, bad + PAGE + 9, writing(bad + PAGE + 9, 1));
        MEETS(SIGSEGV, forbidden, writing((unsigned char *)forbidden, 1));
        MAKES(writing(bytes + (uint64_t)round * 7 * PAGE, 1));
    }
    end();
    MEETS(SIGBUS, bad, reading(bad));
    MEETS(SIGSEGV, forbidden, reading((unsigned char *)forbidden));
}

static volatile sig_atomic_t sent;

static void count_signal(int signal)
{
    (void)signal;
    sent = sent + 1;
}

/* A handler of one argument, and signals that somebody sent. */
static void a_plain_handler_gets_signals_that_were_sent(void)
{
    unsigned char *bytes;
    handle_signals();
    CHECK(signal(SIGBUS, count_signal) != SIG_ERR);
    make_file("file", 4 * PAGE);
    {
        struct quire_engine_options options;
        memset(&options, 0, sizeof options);
        options.struct_size = sizeof options;
        options.machine = QUIRE_MACHINE_LINUX;
        OK(quire_engine_create(&options, &engine));
    }
    OK(quire_map_create(engine, 0, 0, &map));
    open_file(WRITABLE);
    bytes = mapped(4 * PAGE, RW);
    CHECK(raise(SIGBUS) == 0 && sent == 1);
    bytes[0] = 1;
    CHECK(kill(getpid(), SIGBUS) == 0);
    while (sent != 2)
        ;
    CHECK(bytes[0] == 1 && bytes[PAGE] == (unsigned char)mixed(PAGE / 8));
    end();
}

static struct sigaction engines;
static volatile sig_atomic_t seen;

static void pass_on(int signal, siginfo_t *info, void *context)
{
    seen = seen + 1;
    if ((engines.sa_flags & SA_SIGINFO) != 0)
        engines.sa_sigaction(signal, info, context);
}

/* A handler that comes after the engine's passes on what is the engine's. */
static void a_later_handler_passes_on_what_is_ours(void)
{
    unsigned char *bytes = begin_with_a_file(), *bad = own_bad_memory();
    struct sigaction later;
    uint64_t page;
    memset(&later, 0, sizeof later);
    later.sa_sigaction = pass_on;
    later.sa_flags = SA_SIGINFO | SA_NODEFER;
    CHECK(sigaction(SIGBUS, &later, &engines) == 0);
    for (page = 0; page < 32; page++) {
        MAKES(writing(bytes + page * PAGE, (unsigned char)page));
        CHECK(bytes[page * PAGE + 8] == (unsigned char)mixed(page * PAGE / 8 + 1));
    }
    CHECK(in_thread ? seen > 0 : seen == 0);
    MEETS(SIGBUS, bad, reading(bad));
    end();
}

/* What becomes of a child that does this: the signal that kills it, or its exit status, negated. */
static int child_of(void (*go)(void))
{
    int status = 0;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        go();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        return WTERMSIG(status);
    CHECK(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

static volatile unsigned char *touched;

/* In a child: an engine of its own, without handlers of the program. */
static void serve_and_touch(void)
{
    struct quire_engine_options options;
    unsigned char *bytes;
    signal(SIGBUS, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.machine = QUIRE_MACHINE_LINUX;
    OK(quire_engine_create(&options, &engine));
    OK(quire_map_create(engine, 0, 0, &map));
    open_file(WRITABLE);
    bytes = mapped(64 * PAGE, RW);
    CHECK(bytes[0] == (unsigned char)mixed(0));
    if (touched == NULL)
        touched = bytes + 63 * PAGE; /* behind the end */
    (void)*touched;
}

static void touch_only(void)
{
    signal(SIGBUS, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
    (void)*touched;
}

static void without_a_handler_of_the_program_a_failed_access_kills(void)
{
    make_file("file", 32 * PAGE);
    touched = own_bad_memory();
    CHECK(child_of(touch_only) == SIGBUS);
    CHECK(child_of(serve_and_touch) == SIGBUS);
    touched = NULL;
    CHECK(child_of(serve_and_touch) == SIGBUS);
    touched = (unsigned char *)mmap(NULL, (size_t)PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(touched != MAP_FAILED);
    CHECK(child_of(serve_and_touch) == SIGSEGV);
}

/* In a child: a signal that is sent, and is about no access. */
static void (*before)(int);

static void serve_and_raise(void)
{
    unsigned char *bytes;
    begin(4 * MIB);
    signal(SIGBUS, before);
    open_file(WRITABLE);
    bytes = mapped(32 * PAGE, RW);
    CHECK(raise(SIGBUS) == 0);
    CHECK(bytes[PAGE] == (unsigned char)mixed(PAGE / 8));
    _exit(5);
}

static void a_signal_that_is_sent_does_what_it_did_before(void)
{
    make_file("file", 32 * PAGE);
    before = SIG_DFL;
    CHECK(child_of(serve_and_raise) == SIGBUS);
    before = SIG_IGN;
    CHECK(child_of(serve_and_raise) == -5);
}

static void a_fork_has_none_of_the_range_and_the_parent_goes_on(void)
{
    unsigned char *bytes = begin_with_a_file();
    uint64_t page;
    MAKES(writing(bytes, 11));
    /* Resident, and never touched. */
    touched = bytes;
    CHECK(child_of(touch_only) == SIGSEGV);
    touched = bytes + 20 * PAGE;
    CHECK(child_of(touch_only) == SIGSEGV);
    for (page = 1; page < 32; page++) {
        CHECK(bytes[page * PAGE] == (unsigned char)mixed(page * PAGE / 8));
        MAKES(writing(bytes + page * PAGE, 12));
    }
    CHECK(bytes[0] == 11);
    OK(quire_sync(map, address_of(bytes), 32 * PAGE, 0));
    {
        unsigned char written = 0;
        read_file(&written, 1, 31 * PAGE);
        CHECK(written == 12);
    }
    end();
}

static const struct test_case cases[] = {
    CASE(the_programs_handlers_get_its_own_faults),
    CASE(a_plain_handler_gets_signals_that_were_sent),
    CASE(a_later_handler_passes_on_what_is_ours),
    CASE(without_a_handler_of_the_program_a_failed_access_kills),
    CASE(a_signal_that_is_sent_does_what_it_did_before),
    CASE(a_fork_has_none_of_the_range_and_the_parent_goes_on),
};

int main(int argc, char **argv)
{
    return real_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
