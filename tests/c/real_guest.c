/* A guest of KVM whose memory is a served range: its first touch of a page is a fault that is taken inside the kernel. */
#include "real.h"

#define GUEST (1 << 20) /* what a guest in real mode reaches */
#define PAGES (GUEST / QUIRE_PAGE_SIZE)

#if defined(__x86_64__)
#include <linux/kvm.h>
#include <sys/ioctl.h>

#define CODE 0x1000
#define COUNTED 0x10 /* the byte of each page that the guest raises by one */

static const unsigned char code[] = {
    0x31, 0xc0,             /* xor ax, ax */
    0x8e, 0xd8,             /* next: mov ds, ax */
    0xfe, 0x06, COUNTED, 0, /* inc byte [COUNTED] */
    0x05, 0x00, 0x01,       /* add ax, 0x100, which is a page */
    0x75, 0xf5,             /* jnz next */
    0xf4,                   /* hlt */
};

/* Runs the code until it halts. Answers 0, or what KVM_RUN said when it did not get there; -1: nothing. */
static int run_guest(int kvm, void *memory)
{
    struct kvm_userspace_memory_region region;
    struct kvm_sregs segments;
    struct kvm_regs registers;
    struct kvm_run *run;
    int vm = ioctl(kvm, KVM_CREATE_VM, 0), cpu, size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), wrong = 0;
    CHECK(vm >= 0 && size > 0);
    memset(&region, 0, sizeof region);
    region.memory_size = GUEST;
    region.userspace_addr = address_of(memory);
    CHECK(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
    cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    CHECK(cpu >= 0);
    run = (struct kvm_run *)mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
    CHECK((void *)run != MAP_FAILED);
    CHECK(ioctl(cpu, KVM_GET_SREGS, &segments) == 0);
    segments.cs.base = 0, segments.cs.selector = 0;
    CHECK(ioctl(cpu, KVM_SET_SREGS, &segments) == 0);
    memset(&registers, 0, sizeof registers);
    registers.rip = CODE, registers.rflags = 2;
    CHECK(ioctl(cpu, KVM_SET_REGS, &registers) == 0);
    do
        wrong = ioctl(cpu, KVM_RUN, 0) == 0 ? 0 : errno;
    while (wrong == EINTR);
    if (wrong == 0 && run->exit_reason != KVM_EXIT_HLT)
        wrong = -1;
    munmap(run, (size_t)size);
    close(cpu);
    close(vm);
    return wrong;
}

/* Addresses that are free, because they were given back. */
static uint64_t free_addresses(uint64_t length)
{
    void *at = mmap(NULL, (size_t)length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED && munmap(at, (size_t)length) == 0);
    return address_of(at);
}

static void a_guest_faults_every_page_of_its_memory_once(void)
{
    static unsigned char before[GUEST], after[GUEST];
    struct quire_map_request request;
    uint64_t addr = 0, page;
    unsigned char *memory;
    FILE *out;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) {
        printf("NOT TESTED: /dev/kvm: %s\n", strerror(errno));
        return;
    }
    if (!serves_the_kernel()) {
        printf("NOT TESTED: userfaultfd is for user mode only here\n");
        return;
    }
    begin(8 * MIB);
    make_file("guest", GUEST);
    out = fopen(path, "r+b");
    CHECK(out != NULL && fseek(out, CODE, SEEK_SET) == 0);
    CHECK(fwrite(code, 1, sizeof code, out) == sizeof code && fclose(out) == 0);
    read_file(before, GUEST, 0);
    open_file(WRITABLE);

    request = request_of(GUEST, RW | QUIRE_PROT_EXEC);
    request.flags = QUIRE_MAP_FIXED_NOREPLACE | (in_thread ? QUIRE_MAP_IN_THREAD : 0);
    request.addr = free_addresses(GUEST);
    request.advice = QUIRE_ADVICE_RANDOM;
    OK(quire_map(map, object, &request, &addr));
    CHECK(addr == request.addr);
    memory = (unsigned char *)(uintptr_t)addr;
    if (in_thread) {
        /* Nobody can resolve a fault inside KVM then: the guest fails, and runs once the memory is there. */
        CHECK(run_guest(kvm, memory) != 0);
        CHECK(stats_of(engine).faults == 0);
        OK(quire_populate(map, addr, GUEST, QUIRE_ACCESS_WRITE));
    }
    CHECK(run_guest(kvm, memory) == 0);
    CHECK(stats_of(engine).faults == PAGES && stats_of(engine).faults_failed == 0);
    CHECK(stats_of(engine).pages_in == PAGES);
    for (page = 0; page < PAGES; page++)
        before[page * PAGE + COUNTED]++;
    CHECK(memcmp(memory, before, GUEST) == 0);
    /* What the guest wrote is known to be dirty. */
    OK(quire_sync(map, addr, GUEST, 0));
    read_file(after, GUEST, 0);
    CHECK(memcmp(after, before, GUEST) == 0);
    close(kvm);
    end();
}

#else
static void a_guest_faults_every_page_of_its_memory_once(void)
{
    printf("NOT TESTED: the guest is one of x86-64\n");
}
#endif

static const struct test_case cases[] = {
    CASE(a_guest_faults_every_page_of_its_memory_once),
};

int main(int argc, char **argv)
{
    return real_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
