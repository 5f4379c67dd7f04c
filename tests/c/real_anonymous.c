/*
 * Anonymous memory, private mappings, copies of ranges and swap on the Linux machine, through plain pointers. Compiles as C and as C++.
 * Usage: real_anonymous CASE FOLDER threads|in-thread
 */
#include "real.h"
#include "swapping.h"

static struct quire_pager *anon;

static unsigned char *pointer(uint64_t addr)
{
    return (unsigned char *)(uintptr_t)addr;
}

static struct quire_map_request wanted(uint64_t length, uint32_t prot)
{
    struct quire_map_request request = request_of(length, prot);
    request.flags = in_thread ? QUIRE_MAP_IN_THREAD : 0;
    return request;
}

static unsigned char *anonymous(uint64_t length)
{
    struct quire_map_request request = wanted(length, RW);
    uint64_t addr = 0;
    OK(quire_map_anonymous(map, &request, &addr));
    return pointer(addr);
}

static unsigned char *privately(uint64_t length, uint32_t prot)
{
    struct quire_map_request request = wanted(length, prot);
    uint64_t addr = 0;
    request.flags |= QUIRE_MAP_PRIVATE;
    OK(quire_map(map, object, &request, &addr));
    return pointer(addr);
}

/* A copy of a range, elsewhere in the map. */
static unsigned char *copied(const unsigned char *from, uint64_t length)
{
    struct quire_copy_request request = copy_to(in_thread ? QUIRE_MAP_IN_THREAD : 0, 0);
    uint64_t addr = 0;
    OK(quire_map_copy(map, address_of(from), length, map, &request, &addr));
    return pointer(addr);
}

static void begin_with_swap(uint64_t memory, uint64_t swap)
{
    begin(memory);
    anon = load_anon(engine);
    add_file(anon, folder, "swap", swap, 0);
}

static void end_without_object(void)
{
    OK(quire_map_destroy(map));
    CHECK(swap_of(engine).used == 0);
    OK(quire_engine_destroy(engine, 0));
}

static uint64_t *word_of(unsigned char *bytes, uint64_t page)
{
    return (uint64_t *)(void *)(bytes + page * PAGE + page % 500 * 8);
}

static void anonymous_memory_may_be_larger_than_the_memory_there_is(void)
{
    const uint64_t size = 24 * MIB, pages = size / PAGE;
    uint64_t *model = (uint64_t *)calloc(pages, sizeof *model);
    unsigned char *bytes;
    uint64_t page, i;
    CHECK(model != NULL);
    begin_with_swap(3 * MIB, 64 * MIB);
    bytes = anonymous(size);
    for (page = 0; page < pages; page++) {
        CHECK(*word_of(bytes, page) == 0);
        *word_of(bytes, page) = model[page] = mixed(page + 1);
    }
    for (page = 0; page < pages; page++)
        CHECK(*word_of(bytes, page) == model[page] && bytes[page * PAGE + 4095] == 0);
    for (i = 0; i < 4000; i++) {
        page = mixed(i) % pages;
        CHECK(*word_of(bytes, page) == model[page]);
        *word_of(bytes, page) = model[page] = mixed(model[page]);
    }
    for (page = pages; page-- > 0;)
        CHECK(*word_of(bytes, page) == model[page]);
    CHECK(swap_of(engine).pages_out >= pages / 2 && swap_of(engine).pages_in >= pages / 2 && swap_of(engine).used > 0);
    CHECK(swap_of(engine).refusal == QUIRE_SWAP_NOT_REFUSED && stats_of(engine).frames_total == 3 * MIB / PAGE);
    free(model);
    end_without_object();
}

static void without_swap_an_access_fails_and_an_area_mends_it(void)
{
    const uint64_t pages = 4 * MIB / PAGE;
    struct quire_swap_stats swap;
    unsigned char *bytes;
    uint64_t page, stopped;
    begin(MIB);
    bytes = anonymous(pages * PAGE);
    for (page = 0; page < pages; page++) {
        struct met met = writing(bytes + page * PAGE, (unsigned char)(page + 1));
        if (met.signal == 0)
            continue;
        CHECK(met.signal == SIGBUS && met.address == bytes + page * PAGE);
        break;
    }
    stopped = page;
    CHECK(stopped > 0 && stopped < pages);
    swap = swap_of(engine);
    CHECK(swap.refusal == QUIRE_SWAP_NO_AREA && strstr(swap.refusal_text, "no swap area") != NULL && swap.areas == 0);
    /* What was written is there, and the rest can be had as soon as there is room. */
    for (page = 0; page < stopped; page++)
        CHECK(bytes[page * PAGE] == (unsigned char)(page + 1));
    anon = load_anon(engine);
    add_file(anon, folder, "swap", 8 * MIB, 0);
    CHECK(swap_of(engine).refusal == QUIRE_SWAP_NOT_REFUSED && swap_of(engine).refusal_text[0] == 0);
    SOON_MAKES(writing(bytes + stopped * PAGE, (unsigned char)(stopped + 1)));
    for (page = stopped; page < pages; page++)
        MAKES(writing(bytes + page * PAGE, (unsigned char)(page + 1)));
    for (page = 0; page < pages; page++)
        CHECK(bytes[page * PAGE] == (unsigned char)(page + 1));
    end_without_object();
}

static void what_is_written_to_a_private_mapping_stays_there(void)
{
    const uint64_t size = 8 * MIB, pages = size / PAGE;
    unsigned char *bytes, *other, *plain = (unsigned char *)malloc((size_t)size);
    uint64_t page;
    CHECK(plain != NULL);
    begin_with_swap(2 * MIB, 32 * MIB);
    make_file("file", size);
    read_file(plain, size, 0);
    open_file(QUIRE_OPEN_READ);
    bytes = privately(size, RW);
    other = privately(size, RW);
    for (page = 0; page < pages; page += 2)
        bytes[page * PAGE + 7] = (unsigned char)page;
    for (page = 0; page < pages; page++) {
        CHECK(bytes[page * PAGE + 7] == (page % 2 == 0 ? (unsigned char)page : plain[page * PAGE + 7]));
        CHECK(memcmp(bytes + page * PAGE + 8, plain + page * PAGE + 8, PAGE - 8) == 0);
        CHECK(memcmp(other + page * PAGE, plain + page * PAGE, PAGE) == 0);
    }
    OK(quire_sync(map, address_of(bytes), size, QUIRE_SYNC_DURABLE));
    read_file(plain, size, 0);
    for (page = 0; page < pages; page++)
        CHECK(memcmp(other + page * PAGE, plain + page * PAGE, PAGE) == 0);
    CHECK(swap_of(engine).pages_out > 0 && stats_of(engine).faults_2b > pages);
    free(plain);
    end();
}

/* One whose rights can never be raised shows the object's pages; another one copies a page when it is read. */
static void a_private_mapping_shows_an_object_until_a_page_is_copied(void)
{
    unsigned char *shared, *reader, *writer;
    begin(MIB);
    make_file("file", 4 * PAGE);
    open_file(WRITABLE);
    shared = mapped(4 * PAGE, RW);
    reader = privately(4 * PAGE, READ);
    writer = privately(4 * PAGE, RW);
    shared[0] = 1;
    CHECK(reader[0] == 1 && writer[0] == 1);
    shared[0] = 2;
    CHECK(reader[0] == 2 && writer[0] == 1);
    writer[0] = 3;
    CHECK(reader[0] == 2 && shared[0] == 2);
    MEETS(SIGSEGV, reader, writing(reader, 4));
    end();
}

/* A thread that goes over memory again and again: each page has the number of the round in its first and in its last word. */
#define LIVE 256

static unsigned char *live;
static volatile int stop;

static volatile uint64_t *edge_of(unsigned char *bytes, uint64_t page, uint64_t at)
{
    return (volatile uint64_t *)(void *)(bytes + page * PAGE + at);
}

static void *go_over_it(void *unused)
{
    uint64_t page, round;
    for (round = 1; !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); round++)
        for (page = 0; page < LIVE; page++) {
            *edge_of(live, page, 0) = round;
            *edge_of(live, page, PAGE - 8) = round;
        }
    return unused;
}

/* What one thread writes in order is in a copy up to one moment: some pages of a round, and then those of the round before. */
static void snapshots_of_memory_that_is_written_show_one_moment(void)
{
    pthread_t thread;
    uint64_t taken, page, newest = 0;
    begin_with_swap(4 * MIB, 64 * MIB);
    live = anonymous(LIVE * PAGE);
    CHECK(pthread_create(&thread, NULL, go_over_it, NULL) == 0);
    for (taken = 0; taken < 40; taken++) {
        unsigned char *copy = copied(live, LIVE * PAGE);
        uint64_t seen[2 * LIVE];
        uint64_t i;
        for (page = 0; page < LIVE; page++) {
            seen[2 * page] = *edge_of(copy, page, 0);
            seen[2 * page + 1] = *edge_of(copy, page, PAGE - 8);
        }
        CHECK(seen[0] >= newest);
        newest = seen[0];
        for (i = 0; i + 1 < 2 * LIVE; i++)
            CHECK(seen[i] == seen[i + 1] || seen[i] == seen[i + 1] + 1);
        CHECK(seen[0] - seen[2 * LIVE - 1] <= 1);
        /* And stays so, while the thread goes on. */
        while (*edge_of(live, LIVE - 1, 0) < newest + 2)
            sched_yield();
        for (page = 0; page < LIVE; page++)
            CHECK(*edge_of(copy, page, 0) == seen[2 * page] && *edge_of(copy, page, PAGE - 8) == seen[2 * page + 1]);
        /* A copy is written like any memory, and nobody else sees it. */
        *edge_of(copy, 3, 0) = 7;
        CHECK(*edge_of(copy, 3, 0) == 7 && *edge_of(live, 3, 0) != 7);
        OK(quire_unmap(map, address_of(copy), LIVE * PAGE));
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    CHECK(pthread_join(thread, NULL) == 0);
    end_without_object();
}

/* Copies of copies, larger together than the memory there is, some of them unmapped in between. */
static void copies_of_copies_go_to_swap_and_come_back(void)
{
    enum { COPIES = 6 };
    const uint64_t size = 2 * MIB, pages = size / PAGE;
    unsigned char *bytes[COPIES];
    uint64_t page;
    int i, k;
    begin_with_swap(2 * MIB, 64 * MIB);
    bytes[0] = anonymous(size);
    for (page = 0; page < pages; page++)
        *word_of(bytes[0], page) = mixed(page);
    for (i = 1; i < COPIES; i++) {
        bytes[i] = copied(bytes[i - 1], size);
        for (page = (uint64_t)i; page < pages; page += COPIES)
            *word_of(bytes[i], page) = mixed(page) + (uint64_t)i;
    }
    OK(quire_unmap(map, address_of(bytes[2]), size));
    for (i = 0; i < COPIES; i++)
        for (page = 0; i != 2 && page < pages; page++) {
            uint64_t value = mixed(page);
            for (k = 1; k <= i; k++)
                if (page >= (uint64_t)k && (page - (uint64_t)k) % COPIES == 0)
                    value = mixed(page) + (uint64_t)k;
            CHECK(*word_of(bytes[i], page) == value);
        }
    CHECK(swap_of(engine).pages_out > 0);
    end_without_object();
}

static void a_copy_goes_where_it_is_asked_to(void)
{
    struct quire_copy_request request;
    unsigned char *bytes, *place;
    struct quire_map *other;
    uint64_t addr = 0;
    begin(MIB);
    bytes = anonymous(8 * PAGE);
    place = anonymous(8 * PAGE);
    memset(bytes, 1, 8 * PAGE);
    memset(place, 2, 8 * PAGE);
    request = copy_to(QUIRE_MAP_FIXED_NOREPLACE, address_of(place));
    EXPECT(QUIRE_ERR_OCCUPIED, "already", quire_map_copy(map, address_of(bytes), 8 * PAGE, map, &request, &addr));
    CHECK(addr == 0 && place[0] == 2);
    request.flags = QUIRE_MAP_FIXED;
    OK(quire_map_copy(map, address_of(bytes), 8 * PAGE, map, &request, &addr));
    CHECK(pointer(addr) == place && place[0] == 1 && place[8 * PAGE - 1] == 1);
    place[0] = 3;
    CHECK(bytes[0] == 1);
    /* Also to another map, with rights and all. */
    OK(quire_protect(map, address_of(bytes), PAGE, READ));
    OK(quire_map_create(engine, 0, 0, &other));
    request = copy_to(0, 0);
    request.align = MIB;
    OK(quire_map_copy(map, address_of(bytes), 8 * PAGE, other, &request, &addr));
    CHECK(addr % MIB == 0 && *pointer(addr) == 1);
    MEETS(SIGSEGV, pointer(addr), writing(pointer(addr), 1));
    MAKES(writing(pointer(addr + PAGE), 4));
    CHECK(bytes[PAGE] == 1);
    OK(quire_map_destroy(other));
    end_without_object();
}

static void a_copy_of_a_file_keeps_its_writes_to_itself(void)
{
    unsigned char *shared, *copy, *reader, byte = 0;
    begin(MIB);
    make_file("file", 4 * PAGE);
    open_file(WRITABLE);
    shared = mapped(4 * PAGE, RW);
    reader = mapped(4 * PAGE, READ);
    shared[0] = 1;
    copy = copied(shared, 4 * PAGE);
    CHECK(copy[0] == 1);
    copy[0] = 2;
    shared[0] = 3;
    CHECK(copy[0] == 2 && reader[0] == 3);
    reader = copied(reader, 4 * PAGE);
    CHECK(reader[0] == 3);
    MEETS(SIGSEGV, reader, writing(reader, 4));
    OK(quire_sync(map, address_of(copy), 4 * PAGE, 0));
    OK(quire_sync(map, address_of(shared), 4 * PAGE, 0));
    read_file(&byte, 1, 0);
    CHECK(byte == 3 && copy[0] == 2);
    end();
}

static void what_is_wired_is_copied_at_once(void)
{
    unsigned char *bytes, *copy;
    uint64_t faults, page;
    begin(MIB);
    bytes = anonymous(4 * PAGE);
    OK(quire_wire(map, address_of(bytes), 3 * PAGE));
    memset(bytes, 1, 4 * PAGE);
    copy = copied(bytes, 4 * PAGE);
    faults = stats_of(engine).faults;
    memset(bytes, 2, 3 * PAGE);
    CHECK(stats_of(engine).faults == faults);
    memset(bytes, 2, 4 * PAGE);
    for (page = 0; page < 4; page++)
        CHECK(copy[page * PAGE] == 1 && bytes[page * PAGE] == 2 && copy[page * PAGE + PAGE - 1] == 1);
    end_without_object();
}

/* Any pager that can write will do, and a file needs no name. */
static void swap_goes_to_a_plain_file_by_its_descriptor(void)
{
    const uint64_t pages = 2048;
    struct quire_pager *vnode;
    unsigned char *bytes;
    uint64_t page, id = 0;
    FILE *file = tmpfile();
    begin(MIB);
    CHECK(file != NULL && ftruncate(fileno(file), (off_t)(16 * MIB)) == 0);
    OK(quire_pager_load(engine, "vnode", NULL, &vnode));
    OK(quire_swap_add(vnode, NULL, fileno(file), 0, 0, &id));
    fclose(file);
    bytes = anonymous(pages * PAGE);
    for (page = 0; page < pages; page++)
        *word_of(bytes, page) = mixed(page);
    for (page = 0; page < pages; page++)
        CHECK(*word_of(bytes, page) == mixed(page));
    CHECK(swap_of(engine).pages_out > pages / 2);
    OK(quire_unmap(map, address_of(bytes), pages * PAGE));
    OK(quire_swap_remove(engine, id));
    end_without_object();
}

static void a_map_of_real_addresses_is_not_forked(void)
{
    struct quire_map *child = NULL;
    begin(MIB);
    anonymous(PAGE)[0] = 1;
    EXPECT(QUIRE_ERR_UNSUPPORTED, "copy the ranges", quire_map_fork(map, 0, &child));
    CHECK(child == NULL);
    end_without_object();
}

static void memory_is_shared_by_mapping_an_anonymous_object_twice(void)
{
    const uint64_t size = 4 * MIB, pages = size / PAGE;
    unsigned char *first, *second;
    uint64_t page, length = 0;
    begin_with_swap(MIB, 16 * MIB);
    OK(quire_object_create_anonymous(engine, size, &object));
    OK(quire_object_size(object, &length));
    CHECK(length == size);
    first = mapped(size, RW);
    second = mapped(size, RW);
    OK(quire_object_release(object));
    for (page = 0; page < pages; page++)
        *word_of(page % 2 == 0 ? first : second, page) = mixed(page);
    for (page = 0; page < pages; page++)
        CHECK(*word_of(first, page) == mixed(page) && *word_of(second, page) == mixed(page));
    CHECK(swap_of(engine).used > 0);
    end_without_object();
}

static uint8_t residency_of(const void *at)
{
    uint8_t page = 0;
    OK(quire_residency(map, address_of(at), PAGE, &page, 1));
    return page;
}

static void what_is_freed_is_zeros_and_gives_its_room_in_swap_back(void)
{
    const uint64_t size = 4 * MIB, pages = size / PAGE;
    unsigned char *bytes, *copy;
    uint64_t page;
    begin_with_swap(MIB, 16 * MIB);
    bytes = anonymous(size);
    memset(bytes, 1, (size_t)size);
    CHECK(swap_of(engine).used > pages / 2);
    OK(quire_advise(map, address_of(bytes), size - PAGE, QUIRE_ADVICE_FREE));
    CHECK(swap_of(engine).used <= 1);
    for (page = 0; page < pages; page++)
        CHECK(bytes[page * PAGE] == (page == pages - 1));
    /* What a copy shows as well stays for both. */
    memset(bytes, 2, 4 * PAGE);
    copy = copied(bytes, 4 * PAGE);
    OK(quire_advise(map, address_of(bytes), 4 * PAGE, QUIRE_ADVICE_FREE));
    CHECK(copy[0] == 2 && copy[3 * PAGE] == 2);
    end_without_object();
}

static void everything_that_is_mapped_and_will_be_is_wired(void)
{
    const uint64_t size = 8 * MIB;
    unsigned char *early, *late, *others, *nothing;
    uint64_t at;
    begin_with_swap(2 * MIB, 32 * MIB);
    early = anonymous(16 * PAGE);
    {
        struct quire_map_request request = wanted(16 * PAGE, QUIRE_PROT_NONE);
        uint64_t addr = 0;
        OK(quire_map_anonymous(map, &request, &addr));
        nothing = pointer(addr);
    }
    OK(quire_wire_all(map, QUIRE_WIRE_CURRENT | QUIRE_WIRE_FUTURE));
    late = anonymous(16 * PAGE);
    CHECK(residency_of(early) & QUIRE_PAGE_WIRED && residency_of(late + 15 * PAGE) & QUIRE_PAGE_WIRED);
    CHECK(residency_of(late) & QUIRE_PAGE_MAPPED && !(residency_of(nothing) & QUIRE_PAGE_WIRED));
    memset(early, 1, 16 * PAGE);
    memset(late, 2, 16 * PAGE);
    {
        struct quire_map_request request = wanted(size, RW);
        uint64_t addr = 0;
        EXPECT(QUIRE_FAULT_NOMEM, "memory", quire_map_anonymous(map, &request, &addr));
        CHECK(addr == 0);
    }
    OK(quire_wire(map, address_of(early), PAGE));
    OK(quire_unwire_all(map));
    CHECK(residency_of(early) & QUIRE_PAGE_WIRED && !(residency_of(early + PAGE) & QUIRE_PAGE_WIRED));
    CHECK(!(residency_of(late) & QUIRE_PAGE_WIRED));
    others = anonymous(size);
    CHECK(residency_of(others) == 0);
    for (at = 0; at < size; at += PAGE)
        others[at] = 1;
    CHECK(residency_of(early) & QUIRE_PAGE_RESIDENT);
    for (at = 0; at < 16 * PAGE; at++)
        CHECK(early[at] == 1 && late[at] == 2);
    end_without_object();
}

static void in_an_interrupt_safe_map_only_what_is_wired_can_be_touched(void)
{
    struct quire_map_request request;
    struct quire_map *safe;
    unsigned char *bytes;
    uint64_t addr = 0;
    uint32_t is = 9;
    begin(MIB);
    OK(quire_map_create_interrupt_safe(engine, 0, 0, &safe));
    request = wanted(4 * PAGE, RW);
    OK(quire_map_anonymous(safe, &request, &addr));
    bytes = pointer(addr);
    MEETS(SIGBUS, bytes, reading(bytes));
    OK(quire_wire(safe, addr + PAGE, 3 * PAGE));
    MAKES(writing(bytes + PAGE, 1));
    CHECK(bytes[PAGE] == 1);
    OK(quire_engine_is_interrupt_safe(engine, addr, &is));
    CHECK(is == 1);
    OK(quire_map_destroy(safe));
    /* A thread that served it may let go of it a moment later. */
    do
        OK(quire_engine_is_interrupt_safe(engine, addr, &is));
    while (is != 0 && sched_yield() == 0);
    end_without_object();
}

static void *write_at_random(void *unused)
{
    uint64_t i;
    for (i = 0; !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); i++) {
        uint64_t page = mixed(i) % 512, *word = word_of(live, page);
        CHECK(*word == mixed(page) || *word == mixed(page) + 1);
        *word = mixed(page) + (i & 1);
    }
    return unused;
}

static void an_area_is_removed_while_threads_use_what_is_in_it(void)
{
    const uint64_t size = 512 * PAGE;
    pthread_t thread;
    uint64_t page, first, second;
    int round;
    begin(MIB);
    anon = load_anon(engine);
    first = add_file(anon, folder, "first", 8 * MIB, 1);
    second = add_file(anon, folder, "second", 8 * MIB, 0);
    live = anonymous(size);
    for (page = 0; page < 512; page++)
        *word_of(live, page) = mixed(page);
    CHECK(pthread_create(&thread, NULL, write_at_random, NULL) == 0);
    for (round = 0; round < 5; round++) {
        while (swap_of(engine).used == 0)
            sched_yield();
        OK(quire_swap_remove(engine, first));
        first = second;
        second = add_file(anon, folder, round % 2 == 0 ? "first" : "second", 8 * MIB, 0);
        CHECK(swap_of(engine).areas == 2);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    CHECK(pthread_join(thread, NULL) == 0);
    for (page = 0; page < 512; page++)
        CHECK(*word_of(live, page) == mixed(page) || *word_of(live, page) == mixed(page) + 1);
    /* The last one has to stay: memory has no room for it. */
    OK(quire_swap_remove(engine, first));
    EXPECT(QUIRE_ERR_NOMEM, "cannot be removed", quire_swap_remove(engine, second));
    for (page = 0; page < 512; page++)
        CHECK(*word_of(live, page) == mixed(page) || *word_of(live, page) == mixed(page) + 1);
    end_without_object();
}

static const struct test_case cases[] = {
    CASE(anonymous_memory_may_be_larger_than_the_memory_there_is),
    CASE(without_swap_an_access_fails_and_an_area_mends_it),
    CASE(what_is_written_to_a_private_mapping_stays_there),
    CASE(a_private_mapping_shows_an_object_until_a_page_is_copied),
    CASE(snapshots_of_memory_that_is_written_show_one_moment),
    CASE(copies_of_copies_go_to_swap_and_come_back),
    CASE(a_copy_goes_where_it_is_asked_to),
    CASE(a_copy_of_a_file_keeps_its_writes_to_itself),
    CASE(what_is_wired_is_copied_at_once),
    CASE(swap_goes_to_a_plain_file_by_its_descriptor),
    CASE(a_map_of_real_addresses_is_not_forked),
    CASE(memory_is_shared_by_mapping_an_anonymous_object_twice),
    CASE(what_is_freed_is_zeros_and_gives_its_room_in_swap_back),
    CASE(everything_that_is_mapped_and_will_be_is_wired),
    CASE(in_an_interrupt_safe_map_only_what_is_wired_can_be_touched),
    CASE(an_area_is_removed_while_threads_use_what_is_in_it),
};

int main(int argc, char **argv)
{
    return real_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
