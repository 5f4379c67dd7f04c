/* Memory behind a pointer: files of the vnode pager that are larger than what the engine may hold of them. */
#include "real.h"

static void the_checksum_of_a_whole_file_is_that_of_a_plain_read(void)
{
    const uint64_t size = 24 * MIB + 1234;
    static unsigned char plain[65536];
    uint64_t through = 1, plainly = 1, at, i;
    const unsigned char *bytes;
    begin(4 * MIB);
    make_file("file", size);
    open_file(QUIRE_OPEN_READ);
    bytes = mapped(size, READ);
    for (i = 0; i < size; i++)
        through = through * 31 + bytes[i];
    for (at = 0; at < size; at += sizeof plain) {
        uint64_t now = size - at < sizeof plain ? size - at : sizeof plain;
        read_file(plain, now, at);
        for (i = 0; i < now; i++)
            plainly = plainly * 31 + plain[i];
    }
    CHECK(through == plainly);
    /* Behind the last byte its page holds zeros. */
    for (i = size; i % PAGE != 0; i++)
        CHECK(bytes[i] == 0);
    CHECK(stats_of(engine).pages_reclaimed > 0);
    end();
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void a_file_larger_than_memory_is_sorted_in_place(void)
{
    const uint64_t size = 16 * MIB, count = size / 8;
    static uint64_t words[32768];
    uint64_t *numbers, at, i, before = 0, sum = 0, wanted = 0;
    begin(4 * MIB);
    make_file("file", size);
    open_file(WRITABLE);
    numbers = (uint64_t *)(void *)mapped(size, RW);
    /* A qsort of everything may sort in a copy. So quick sort, in place, down to pieces that are left to it. */
    {
        uint64_t stack[128], top = 0;
        stack[top++] = 0, stack[top++] = count;
        while (top > 0) {
            uint64_t to = stack[--top], from = stack[--top], left = from, right = to - 1, pivot;
            if (to - from <= 4096) {
                qsort(numbers + from, (size_t)(to - from), 8, by_value);
                continue;
            }
            pivot = numbers[from + (to - from) / 2];
            while (left <= right) {
                while (numbers[left] < pivot)
                    left++;
                while (numbers[right] > pivot)
                    right--;
                if (left <= right) {
                    uint64_t swapped = numbers[left];
                    numbers[left++] = numbers[right];
                    numbers[right--] = swapped;
                }
            }
            stack[top++] = from, stack[top++] = right + 1;
            stack[top++] = left, stack[top++] = to;
            CHECK(top <= 126);
        }
    }
    OK(quire_object_flush(object, 0, 0, QUIRE_DURABLE));
    for (at = 0; at < size; at += sizeof words) {
        read_file(words, sizeof words, at);
        for (i = 0; i < sizeof words / 8; i++) {
            CHECK(before <= words[i]);
            before = words[i];
            sum += words[i];
            wanted += mixed(at / 8 + i);
        }
    }
    CHECK(sum == wanted);
    CHECK(stats_of(engine).pages_reclaimed > 0);
    end();
}

#define THREADS 8
#define STEPS 8000

struct worker {
    pthread_t thread;
    unsigned char *bytes, *model;
    uint64_t size, seed;
};

/* Every eighth line of 64 bytes is this thread's to write, so that all threads use all pages. */
static void *read_and_write(void *argument)
{
    struct worker *worker = (struct worker *)argument;
    uint64_t step, lines = worker->size / 64 / THREADS, me = worker->seed;
    for (step = 0; step < STEPS; step++) {
        uint64_t dice = mixed(me << 32 | step), at = ((dice >> 8) % lines * THREADS + me) * 64 + (dice & 63);
        if (dice >> 63)
            worker->bytes[at] = worker->model[at] = (unsigned char)(dice >> 40);
        else if (worker->bytes[at] != worker->model[at])
            return worker;
    }
    return NULL;
}

static void eight_threads_read_and_write_what_a_model_says(void)
{
    const uint64_t size = 12 * MIB;
    struct worker workers[THREADS];
    unsigned char *model = (unsigned char *)malloc((size_t)size), *after = (unsigned char *)malloc((size_t)size), *bytes;
    uint64_t i;
    CHECK(model != NULL && after != NULL);
    begin(3 * MIB);
    make_file("file", size);
    read_file(model, size, 0);
    open_file(WRITABLE);
    bytes = mapped(size, RW);
    for (i = 0; i < THREADS; i++) {
        workers[i].bytes = bytes, workers[i].model = model;
        workers[i].size = size, workers[i].seed = i;
        CHECK(pthread_create(&workers[i].thread, NULL, read_and_write, &workers[i]) == 0);
    }
    for (i = 0; i < THREADS; i++) {
        void *wrong = NULL;
        CHECK(pthread_join(workers[i].thread, &wrong) == 0);
        CHECK(wrong == NULL);
    }
    CHECK(memcmp(bytes, model, (size_t)size) == 0);
    OK(quire_sync(map, address_of(bytes), size, QUIRE_SYNC_DURABLE));
    read_file(after, size, 0);
    CHECK(memcmp(after, model, (size_t)size) == 0);
    CHECK(stats_of(engine).pages_reclaimed > 0 && stats_of(engine).pages_out > 0);
    free(model);
    free(after);
    end();
}

static int other_file(uint64_t size)
{
    char other[4200];
    int fd;
    snprintf(other, sizeof other, "%s.other", path);
    fd = open(other, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    return fd;
}

static void system_calls_read_from_and_write_into_served_memory(void)
{
    const uint64_t size = 2 * MIB;
    unsigned char *bytes, *plain = (unsigned char *)malloc((size_t)size);
    uint64_t i, half = size / 2;
    int fd;
    CHECK(plain != NULL);
    if (!serves_the_kernel()) {
        printf("NOT TESTED: userfaultfd is for user mode only here\n");
        return;
    }
    begin(64 * MIB);
    make_file("file", size);
    read_file(plain, size, 0);
    open_file(WRITABLE);
    bytes = mapped(size, RW);
    fd = other_file(size);
    if (in_thread) {
        errno = 0;
        CHECK(pwrite(fd, bytes, (size_t)size, 0) == -1 && errno == EFAULT);
        OK(quire_populate(map, address_of(bytes), size, QUIRE_ACCESS_READ));
    }
    CHECK(pwrite(fd, bytes, (size_t)size, 0) == (ssize_t)size);
    /* And back: the first half of the other file into the second half of this one. */
    OK(quire_sync(map, address_of(bytes), size, QUIRE_SYNC_INVALIDATE));
    if (in_thread) {
        errno = 0;
        CHECK(pread(fd, bytes + half, (size_t)half, 0) == -1 && errno == EFAULT);
        OK(quire_populate(map, address_of(bytes + half), half, QUIRE_ACCESS_WRITE));
    }
    CHECK(pread(fd, bytes + half, (size_t)half, 0) == (ssize_t)half);
    OK(quire_sync(map, address_of(bytes), size, 0));
    for (i = 0; i < half; i++)
        CHECK(bytes[i] == plain[i] && bytes[half + i] == plain[i]);
    memcpy(plain + half, plain, (size_t)half);
    {
        unsigned char *after = (unsigned char *)malloc((size_t)size);
        CHECK(after != NULL);
        read_file(after, size, 0);
        CHECK(memcmp(after, plain, (size_t)size) == 0);
        free(after);
    }
    free(plain);
    close(fd);
    end();
}

static void two_mappings_of_one_file_see_each_others_writes_at_once(void)
{
    const uint64_t size = 64 * PAGE;
    unsigned char *first, *second, *reader;
    unsigned char after[64];
    uint64_t i;
    begin(MIB);
    make_file("file", size);
    open_file(WRITABLE);
    first = mapped(size, RW);
    second = mapped(size, RW);
    reader = mapped(size, READ);
    CHECK(first != second && second != reader);
    for (i = 0; i < 64; i++) {
        unsigned char *one = i % 2 == 0 ? first : second, *other = i % 2 == 0 ? second : first;
        CHECK(one[i * PAGE + i] == reader[i * PAGE + i]);
        one[i * PAGE + i] = (unsigned char)i;
        CHECK(other[i * PAGE + i] == i && reader[i * PAGE + i] == i);
        other[i * PAGE + i] = (unsigned char)(i + 1);
        CHECK(one[i * PAGE + i] == i + 1 && reader[i * PAGE + i] == i + 1);
    }
    MEETS(SIGSEGV, reader + 5, writing(reader + 5, 1));
    /* Written through either, a sync of either writes it. */
    OK(quire_sync(map, address_of(first), size, QUIRE_SYNC_DURABLE));
    for (i = 0; i < 64; i++) {
        read_file(after, 1, i * PAGE + i);
        CHECK(after[0] == i + 1);
    }
    second[7] = 77;
    OK(quire_sync(map, address_of(first), size, 0));
    read_file(after, 8, 0);
    CHECK(after[7] == 77);
    /* One goes; the other stays. */
    OK(quire_unmap(map, address_of(first), size));
    MEETS(SIGSEGV, first, reading(first));
    CHECK(second[7] == 77 && reader[7] == 77);
    end();
}

/* A line of /proc/self/status, in bytes. */
static uint64_t status_line(const char *name)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *in = fopen("/proc/self/status", "r");
    CHECK(in != NULL);
    while (fgets(line, sizeof line, in) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            CHECK(sscanf(line + strlen(name), "%llu", &kib) == 1);
    fclose(in);
    return kib * 1024;
}

static uint64_t resident_bytes(void)
{
    return status_line("RssAnon:") + status_line("RssShmem:");
}

/* What the file in memory that holds the pages has, mapped or not. */
static uint64_t bytes_of_pages(void)
{
    char name[64], link[64];
    uint64_t bytes = 0;
    int fd;
    for (fd = 3; fd < 64; fd++) {
        ssize_t length;
        struct stat st;
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        length = readlink(name, link, sizeof link - 1);
        link[length < 0 ? 0 : length] = 0;
        if (strncmp(link, "/memfd:quire", 12) == 0 && stat(name, &st) == 0)
            bytes += (uint64_t)st.st_blocks * 512;
    }
    return bytes;
}

/* What the header promises beside the budget: 8 MiB, and 8 bytes for each page that was ever mapped. */
static void memory_stays_within_the_budget_and_what_is_stated_beside_it(void)
{
    const uint64_t size = 256 * MIB, budget = 16 * MIB, beside = 8 * MIB + size / PAGE * 8;
    uint64_t before, at, most = 0, sum = 0;
    unsigned char *bytes;
    make_file("file", size);
    before = resident_bytes();
    begin(budget);
    open_file(WRITABLE);
    bytes = mapped(size, RW);
    for (at = 0; at < size; at += PAGE) {
        uint64_t now;
        if (at / PAGE % 3 == 0)
            bytes[at] = 1;
        else
            sum += bytes[at];
        if (at % (4 * MIB) != 0)
            continue;
        CHECK(at == 0 || bytes_of_pages() > 0);
        CHECK(bytes_of_pages() <= budget);
        if ((now = resident_bytes()) > most)
            most = now;
    }
    for (at = 0; at < 20000; at++)
        sum += bytes[mixed(at) % size];
    if (resident_bytes() > most)
        most = resident_bytes();
    printf("budget %llu KiB, resident beside what was before %llu KiB, sum %llu\n", (unsigned long long)(budget >> 10),
           (unsigned long long)((most - before) >> 10), (unsigned long long)sum);
    CHECK(most - before <= budget + beside);
    end();
}

/* What a device writes to wired pages is there while others come and go, and reaches the file. */
static void a_device_reads_into_wired_memory(void)
{
    const uint64_t wired = 32 * PAGE, size = 8 * MIB;
    unsigned char *bytes, *plain = (unsigned char *)malloc((size_t)wired);
    uint64_t at, sum = 0;
    int fd;
    CHECK(plain != NULL);
    begin(2 * MIB);
    make_file("source", wired);
    read_file(plain, wired, 0);
    fd = open(path, O_RDONLY | O_DIRECT);
    make_file("file", size);
    open_file(WRITABLE);
    bytes = mapped(size, RW);
    if (fd < 0) {
        printf("NOT TESTED: O_DIRECT is not to be had in the tests' folder\n");
    } else {
        OK(quire_wire(map, address_of(bytes), wired));
        for (at = 0; at < wired; at += 8 * PAGE) {
            uint64_t other;
            CHECK(pread(fd, bytes + at, (size_t)(8 * PAGE), (off_t)at) == (ssize_t)(8 * PAGE));
            /* Everything else is taken away meanwhile, twice over. */
            for (other = wired; other < size; other += PAGE)
                sum += bytes[other];
        }
        CHECK(sum != 0 && memcmp(bytes, plain, (size_t)wired) == 0);
        OK(quire_unwire(map, address_of(bytes), wired));
        for (at = wired; at < size; at += PAGE)
            sum += bytes[at];
        CHECK(memcmp(bytes, plain, (size_t)wired) == 0);
        OK(quire_sync(map, address_of(bytes), size, 0));
        memset(plain, 0, (size_t)wired);
        read_file(plain, wired, 0);
        CHECK(memcmp(bytes, plain, (size_t)wired) == 0);
        close(fd);
    }
    free(plain);
    end();
}

static const struct test_case cases[] = {
    CASE(the_checksum_of_a_whole_file_is_that_of_a_plain_read),
    CASE(a_file_larger_than_memory_is_sorted_in_place),
    CASE(eight_threads_read_and_write_what_a_model_says),
    CASE(system_calls_read_from_and_write_into_served_memory),
    CASE(two_mappings_of_one_file_see_each_others_writes_at_once),
    CASE(memory_stays_within_the_budget_and_what_is_stated_beside_it),
    CASE(a_device_reads_into_wired_memory),
};

int main(int argc, char **argv)
{
    return real_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
