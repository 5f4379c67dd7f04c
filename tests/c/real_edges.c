/* Requests that make no sense, and ends that come while memory is in use. */
#include "real.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static unsigned char *begin_with_a_file(uint64_t pages)
{
    begin(4 * MIB);
    make_file("file", pages * PAGE);
    open_file(WRITABLE);
    return mapped(pages * PAGE, RW);
}

/* What a request answers; nothing is stored when it is refused. */
static int32_t asks(uint32_t flags, uint64_t addr, uint64_t length, uint64_t offset, uint64_t align)
{
    struct quire_map_request request = request_of(length, RW);
    uint64_t stored = 77;
    int32_t status;
    request.flags = flags | (in_thread ? QUIRE_MAP_IN_THREAD : 0);
    request.addr = addr;
    request.offset = offset;
    request.align = align;
    status = quire_map(map, object, &request, &stored);
    CHECK(status == QUIRE_OK || stored == 77);
    return status;
}

static void requests_that_make_no_sense_change_nothing(void)
{
    unsigned char *bytes = begin_with_a_file(16);
    uint64_t at = address_of(bytes), before = 0, after = 0;
    bytes[0] = 5;
    OK(quire_map_version(map, &before));
    EXPECT(QUIRE_ERR_INVALID, "length", asks(0, 0, 0, 0, 0));
    EXPECT(QUIRE_ERR_INVALID, "aligned", asks(QUIRE_MAP_FIXED, at + 1, PAGE, 0, 0));
    EXPECT(QUIRE_ERR_INVALID, "aligned", asks(QUIRE_MAP_FIXED_NOREPLACE, at + 64 * PAGE + 8, PAGE, 0, 0));
    EXPECT(QUIRE_ERR_INVALID, "aligned", asks(0, 0, PAGE, 12, 0));
    EXPECT(QUIRE_ERR_INVALID, "contradict", asks(QUIRE_MAP_FIXED | QUIRE_MAP_FIXED_NOREPLACE, at, PAGE, 0, 0));
    EXPECT(QUIRE_ERR_INVALID, "unknown", asks(64, 0, PAGE, 0, 0));
    EXPECT(QUIRE_ERR_INVALID, "align", asks(0, 0, PAGE, 0, PAGE + 1));
    EXPECT(QUIRE_ERR_INVALID, "", asks(QUIRE_MAP_FIXED, UINT64_MAX - PAGE + 1, 4 * PAGE, 0, 0));
    EXPECT(QUIRE_ERR_INVALID, "", asks(0, 0, UINT64_MAX - 3, 0, 0));
    EXPECT(QUIRE_ERR_INVALID, "", asks(0, 0, 2 * PAGE, UINT64_MAX - PAGE + 1, 0));
    EXPECT(QUIRE_ERR_INVALID, "", asks(QUIRE_MAP_FIXED, 0, PAGE, 0, 0));
    EXPECT(QUIRE_ERR_INVALID, "", asks(QUIRE_MAP_FIXED, (uint64_t)1 << 48, PAGE, 0, 0));
    EXPECT(QUIRE_ERR_NO_SPACE, "", asks(0, 0, (uint64_t)1 << 47, 0, 0));
    EXPECT(QUIRE_ERR_OCCUPIED, "", asks(QUIRE_MAP_FIXED_NOREPLACE, at, PAGE, 0, 0));
    EXPECT(QUIRE_ERR_OCCUPIED, "", asks(QUIRE_MAP_FIXED_NOREPLACE, at + 15 * PAGE, 2 * PAGE, 0, 0));
    EXPECT(QUIRE_ERR_INVALID, "length", quire_unmap(map, at, 0));
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_unmap(map, at + 1, PAGE));
    EXPECT(QUIRE_ERR_INVALID, "", quire_unmap(map, at, UINT64_MAX - PAGE + 1));
    EXPECT(QUIRE_ERR_NOT_MAPPED, "", quire_sync(map, at + 16 * PAGE, PAGE, 0));
    OK(quire_map_version(map, &after));
    CHECK(before == after);
    EXPECT(QUIRE_ERR_INVALID, "aligned", quire_protect(map, at + 1, PAGE, READ));
    EXPECT(QUIRE_ERR_NOT_MAPPED, "", quire_protect(map, at, 4096 * PAGE, READ));
    EXPECT(QUIRE_ERR_ABOVE_MAXIMUM, "", quire_protect(map, at, PAGE, RW | QUIRE_PROT_EXEC));
    CHECK(bytes[0] == 5 && bytes[PAGE] == (unsigned char)mixed(PAGE / 8));
    MAKES(writing(bytes + 15 * PAGE, 5));
    end();
}

static void memory_of_the_program_is_never_taken(void)
{
    unsigned char *bytes = begin_with_a_file(16), *own;
    uint64_t i, at;
    void *reserved = mmap(NULL, (size_t)(8 * PAGE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *again;
    CHECK(reserved != MAP_FAILED);
    own = (unsigned char *)reserved;
    memset(own, 42, (size_t)(8 * PAGE));
    /* The first half is free now, the second is the program's. */
    CHECK(munmap(own, (size_t)(4 * PAGE)) == 0);
    at = address_of(own);
    EXPECT(QUIRE_ERR_OCCUPIED, "", asks(QUIRE_MAP_FIXED, at + 4 * PAGE, PAGE, 0, 0));
    EXPECT(QUIRE_ERR_OCCUPIED, "", asks(QUIRE_MAP_FIXED_NOREPLACE, at + 4 * PAGE, PAGE, 0, 0));
    EXPECT(QUIRE_ERR_OCCUPIED, "", asks(QUIRE_MAP_FIXED, at, 8 * PAGE, 0, 0));
    EXPECT(QUIRE_ERR_OCCUPIED, "", asks(QUIRE_MAP_FIXED_NOREPLACE, at + 3 * PAGE, 2 * PAGE, 0, 0));
    /* Also the stack and this program's code. */
    EXPECT(QUIRE_ERR_OCCUPIED, "", asks(QUIRE_MAP_FIXED, address_of(&i) & ~(PAGE - 1), PAGE, 0, 0));
    EXPECT(QUIRE_ERR_OCCUPIED, "", asks(QUIRE_MAP_FIXED, address_of(path) & ~(PAGE - 1), PAGE, 0, 0));
    /* Nor is it unmapped, or protected: it is not in the map. */
    OK(quire_unmap(map, at, 8 * PAGE));
    EXPECT(QUIRE_ERR_NOT_MAPPED, "", quire_protect(map, at + 4 * PAGE, PAGE, READ));
    for (i = 4 * PAGE; i < 8 * PAGE; i++)
        CHECK(own[i] == 42);
    own[5 * PAGE] = 43;
    /* What was free is free. */
    again = mmap(own, (size_t)(4 * PAGE), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(again == own && munmap(own, (size_t)(4 * PAGE)) == 0);
    OK(asks(QUIRE_MAP_FIXED_NOREPLACE, at, 4 * PAGE, 0, 0));
    CHECK(own[1] == bytes[1] && own[3 * PAGE] == bytes[3 * PAGE]);
    OK(quire_unmap(map, at, 4 * PAGE));
    MEETS(SIGSEGV, own, reading(own));
    again = mmap(own, (size_t)(4 * PAGE), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(again == own && own[0] == 0);
    end();
    CHECK(own[0] == 0 && own[6 * PAGE] == 42);
}

static void a_mapping_replaces_a_part_of_another(void)
{
    unsigned char *bytes = begin_with_a_file(64);
    uint64_t at = address_of(bytes), page;
    for (page = 0; page < 64; page++)
        bytes[page * PAGE] = (unsigned char)page;
    OK(asks(QUIRE_MAP_FIXED, at + 16 * PAGE, 8 * PAGE, 40 * PAGE, 0));
    OK(quire_unmap(map, at + 30 * PAGE, 2 * PAGE));
    for (page = 0; page < 64; page++) {
        unsigned char wanted = (unsigned char)(page >= 16 && page < 24 ? page + 24 : page);
        if (page >= 30 && page < 32)
            MEETS(SIGSEGV, bytes + page * PAGE, reading(bytes + page * PAGE));
        else
            CHECK(bytes[page * PAGE] == wanted);
    }
    bytes[16 * PAGE] = 200;
    CHECK(bytes[40 * PAGE] == 200);
    OK(quire_object_flush(object, 0, 0, 0));
    for (page = 0; page < 64; page++) {
        unsigned char written = 0;
        read_file(&written, 1, page * PAGE);
        CHECK(written == (page == 40 ? 200 : page));
    }
    end();
}

static void mappings_may_be_long_and_aligned(void)
{
    const uint64_t tib = (uint64_t)1 << 40;
    unsigned char *bytes = begin_with_a_file(16), *far_bytes;
    struct quire_map_request request = request_of(16 * PAGE, RW);
    uint64_t addr = 0;
    request.align = 2 * MIB;
    OK(quire_map(map, object, &request, &addr));
    CHECK(addr % (2 * MIB) == 0 && ((unsigned char *)(uintptr_t)addr)[PAGE] == bytes[PAGE]);
    far_bytes = mapped(tib, RW);
    CHECK(far_bytes[3 * PAGE] == bytes[3 * PAGE]);
    MEETS(SIGBUS, far_bytes + tib - 1, reading(far_bytes + tib - 1));
    OK(quire_object_resize(object, tib));
    SOON_MAKES(writing(far_bytes + tib - 1, 9));
    OK(quire_sync(map, address_of(far_bytes + tib - PAGE), PAGE, 0));
    {
        unsigned char written = 0;
        read_file(&written, 1, tib - 1);
        CHECK(written == 9);
    }
    OK(quire_object_resize(object, PAGE));
    end();
}

static void engines_that_cannot_be_are_refused(void)
{
    struct quire_engine_options options;
    struct quire_engine *none = NULL;
    struct quire_map *no_map = NULL;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.machine = QUIRE_MACHINE_LINUX;
    options.memory = PAGE;
    EXPECT(QUIRE_ERR_INVALID, "reserve", quire_engine_create(&options, &none));
    options.memory = 12 * PAGE;
    EXPECT(QUIRE_ERR_INVALID, "reserve", quire_engine_create(&options, &none));
    options.memory = 8 * PAGE, options.reserve = 8 * PAGE;
    EXPECT(QUIRE_ERR_INVALID, "reserve", quire_engine_create(&options, &none));
    options.memory = 0, options.reserve = 0, options.flags = QUIRE_SOFT_LEND_COPIES;
    EXPECT(QUIRE_ERR_INVALID, "QUIRE_MACHINE_SOFT", quire_engine_create(&options, &none));
    options.flags = 0, options.machine = 9;
    EXPECT(QUIRE_ERR_INVALID, "machine 9", quire_engine_create(&options, &none));
    CHECK(none == NULL);
    options.machine = QUIRE_MACHINE_LINUX;
    OK(quire_engine_create(&options, &engine));
    EXPECT(QUIRE_ERR_INVALID, "2^47", quire_map_create(engine, PAGE, (uint64_t)1 << 48, &no_map));
    CHECK(no_map == NULL);
    OK(quire_engine_destroy(engine, 0));
}

/* As a container's profile does: the system call and the device's ioctl are refused from now on. */
static void forbid_userfaultfd(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_userfaultfd, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_ioctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xAA00 /* USERFAULTFD_IOC_NEW */, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program;
    program.len = sizeof filter / sizeof filter[0];
    program.filter = filter;
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
}

static void where_userfaultfd_is_refused_linux_says_why_and_auto_is_soft(void)
{
    struct quire_engine_options options;
    uint64_t addr = 0;
    struct quire_map_request request = request_of(PAGE, RW);
    unsigned char byte = 0, plain = 0;
    forbid_userfaultfd();
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.machine = QUIRE_MACHINE_LINUX;
    EXPECT(QUIRE_ERR_UNSUPPORTED, "seccomp", quire_linux_supported());
    EXPECT(QUIRE_ERR_UNSUPPORTED, "seccomp", quire_engine_create(&options, &engine));
    CHECK(engine == NULL && quire_linux_limits() == NULL);
    options.machine = QUIRE_MACHINE_AUTO;
    OK(quire_engine_create(&options, &engine));
    CHECK(strcmp(stats_of(engine).machine, "soft") == 0);
    make_file("file", PAGE);
    read_file(&plain, 1, 77);
    open_file(WRITABLE);
    OK(quire_map_create(engine, 0, 0, &map));
    OK(quire_map(map, object, &request, &addr));
    OK(quire_load(map, addr + 77, &byte, 1, NULL));
    CHECK(byte == plain);
    end();
}

#define THREADS 4
/* Where nothing comes to lie by itself: threads go on to touch it when it has been unmapped. */
#define FAR_AWAY ((uint64_t)1 << 44)

struct toucher {
    pthread_t thread;
    unsigned char *bytes;
    uint64_t pages, seed, made;
};

/* Reads and writes until an access finds nothing mapped. */
static void *touch_until_it_goes(void *argument)
{
    struct toucher *toucher = (struct toucher *)argument;
    for (;;) {
        uint64_t dice = mixed(toucher->seed++);
        unsigned char *at = toucher->bytes + (dice >> 8) % toucher->pages * PAGE + (dice & 63);
        struct met met = dice >> 63 ? reading(at) : writing(at, (unsigned char)dice);
        if (met.signal != 0)
            return met.signal == SIGSEGV && met.address == at ? NULL : argument;
        __atomic_fetch_add(&toucher->made, 1, __ATOMIC_RELAXED);
    }
}

static void touch(struct toucher *touchers, unsigned char *bytes, uint64_t pages)
{
    uint64_t i;
    memset(touchers, 0, THREADS * sizeof *touchers);
    for (i = 0; i < THREADS; i++) {
        touchers[i].bytes = bytes;
        touchers[i].pages = pages;
        touchers[i].seed = i << 40 | address_of(bytes);
        CHECK(pthread_create(&touchers[i].thread, NULL, touch_until_it_goes, &touchers[i]) == 0);
    }
    for (i = 0; i < THREADS; i++)
        while (__atomic_load_n(&touchers[i].made, __ATOMIC_RELAXED) < 50)
            ;
}

static void all_have_met_sigsegv(struct toucher *touchers)
{
    int i;
    for (i = 0; i < THREADS; i++) {
        void *wrong = NULL;
        CHECK(pthread_join(touchers[i].thread, &wrong) == 0);
        CHECK(wrong == NULL);
    }
}

static unsigned char *mapped_far_away(uint64_t length)
{
    OK(asks(QUIRE_MAP_FIXED_NOREPLACE, FAR_AWAY, length, 0, 0));
    return (unsigned char *)(uintptr_t)FAR_AWAY;
}

static void unmapping_under_faults_ends_them_with_sigsegv(void)
{
    const uint64_t pages = 1024;
    struct toucher touchers[THREADS];
    unsigned char *bytes;
    int round;
    begin(4 * MIB);
    make_file("file", pages * PAGE);
    open_file(WRITABLE);
    for (round = 0; round < 10; round++) {
        bytes = mapped_far_away(pages * PAGE);
        touch(touchers, bytes, pages);
        OK(quire_unmap(map, address_of(bytes), pages * PAGE));
        all_have_met_sigsegv(touchers);
    }
    end();
}

static void a_map_is_destroyed_under_faults(void)
{
    const uint64_t pages = 2048;
    struct toucher touchers[THREADS];
    unsigned char *bytes;
    int round;
    begin(4 * MIB);
    make_file("file", pages * PAGE);
    open_file(WRITABLE);
    for (round = 0; round < 10; round++) {
        bytes = mapped_far_away(pages * PAGE);
        touch(touchers, bytes, pages);
        OK(quire_map_destroy(map));
        all_have_met_sigsegv(touchers);
        OK(quire_map_create(engine, 0, 0, &map));
    }
    end();
}

static void what_is_in_use_does_not_end(void)
{
    unsigned char *bytes = begin_with_a_file(16);
    bytes[0] = 1;
    EXPECT(QUIRE_ERR_IN_USE, "", quire_engine_destroy(engine, 0));
    EXPECT(QUIRE_ERR_IN_USE, "", quire_engine_destroy(engine, QUIRE_DISCARD));
    EXPECT(QUIRE_ERR_IN_USE, "", quire_pager_unload(pager));
    /* The mapping is a use of its own. */
    OK(quire_object_release(object));
    EXPECT(QUIRE_ERR_IN_USE, "", quire_engine_destroy(engine, 0));
    EXPECT(QUIRE_ERR_IN_USE, "", quire_pager_unload(pager));
    MAKES(writing(bytes + 9 * PAGE, 2));
    CHECK(bytes[0] == 1);
    OK(quire_map_destroy(map));
    MEETS(SIGSEGV, bytes, reading(bytes));
    OK(quire_pager_unload(pager));
    {
        unsigned char written = 0;
        read_file(&written, 1, 9 * PAGE);
        CHECK(written == 2);
    }
    OK(quire_engine_destroy(engine, 0));
}

static const struct test_case cases[] = {
    CASE(requests_that_make_no_sense_change_nothing),
    CASE(memory_of_the_program_is_never_taken),
    CASE(a_mapping_replaces_a_part_of_another),
    CASE(mappings_may_be_long_and_aligned),
    CASE(engines_that_cannot_be_are_refused),
    CASE(where_userfaultfd_is_refused_linux_says_why_and_auto_is_soft),
    CASE(unmapping_under_faults_ends_them_with_sigsegv),
    CASE(a_map_is_destroyed_under_faults),
    CASE(what_is_in_use_does_not_end),
};

int main(int argc, char **argv)
{
    return real_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
