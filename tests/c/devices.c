/*
 * Devices and their drivers, good and bad, driven through libquire.so. Usage: devices CASE FOLDER
 * FOLDER holds the example drivers, compiled: framebuffer.so, villain.so. Compiles as C and as C++.
 */
#define _XOPEN_SOURCE 700
#include "devices.h"

#include <pthread.h>

static void begin(void)
{
    begin_on(QUIRE_MACHINE_SOFT);
}

static struct quire_pager *take(const struct quire_pager_module *module)
{
    struct quire_pager *pager;
    OK(quire_pager_register(engine, module, NULL, &pager));
    return pager;
}

static struct quire_object *open_device(struct quire_pager *of, const char *name)
{
    struct quire_object *opened;
    OK(quire_object_open_device(devices, of, name, -1, WRITABLE, &opened));
    return opened;
}

static uint64_t map_device(struct quire_object *what, uint32_t prot)
{
    struct quire_map_request request;
    uint64_t size = 0, at = 0;
    OK(quire_object_size(what, &size));
    request = request_of(size, prot);
    OK(quire_map(map, what, &request, &at));
    return at;
}

static int32_t touch_at(uint64_t at)
{
    unsigned char byte = 0x5a;
    int32_t status = quire_load(map, at, &byte, 1, NULL);
    CHECK(status == QUIRE_OK || byte == 0x5a);
    return status;
}

static int32_t touch(uint64_t page)
{
    return touch_at(base + page * PAGE);
}

static unsigned char byte_at(uint64_t at)
{
    unsigned char byte = 0;
    OK(quire_load(map, at, &byte, 1, NULL));
    return byte;
}

/* Drivers of this program's own. A device has four pages, filled with the driver's letter. */
static int ctors, dtors, faults, puts_done, syncs, inits, finis;
static void *own_state; /* what init stores, for ctor and dtor */
static uint32_t told_access;
static struct quire_map *nested_map;
static uint64_t nested_at;
static int32_t nested_status;
static char nested_text[512];

static int32_t own_ctor(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    CHECK(ctx == own_state && args->driver != NULL && args->host != NULL && args->host->page_size == args->page_size);
    if (args->name != NULL && strcmp(args->name, "fails") == 0) {
        args->host->set_error(args->host->host, args->token, "own: ctor: it fails, as it was told");
        return -EACCES;
    }
    ctors++;
    out->object = &ctors;
    out->size = args->name != NULL && strcmp(args->name, "nothing") == 0 ? 0 : 4 * PAGE;
    if (args->name != NULL && strncmp(args->name, "thing ", 6) == 0)
        out->identity[0] = (uint64_t)atoi(args->name + 6);
    if (args->name != NULL && strcmp(args->name, "flag") == 0)
        out->flags = 0x40000000;
    return QUIRE_PAGER_OK;
}

static void own_dtor(void *ctx, void *opened)
{
    CHECK(ctx == own_state && opened == &ctors);
    dtors++;
}

static int32_t own_init(const struct quire_pager_host_api *host, const char *config, void **ctx)
{
    CHECK(host->page_size == PAGE && config == NULL);
    inits++;
    *ctx = own_state;
    return QUIRE_PAGER_OK;
}

static void own_fini(void *ctx)
{
    CHECK(ctx == own_state);
    finis++;
}

static int32_t filled(struct quire_driver_fault *req, int letter)
{
    faults++;
    told_access = req->access;
    memset(req->bytes, letter, req->page_size);
    return QUIRE_PAGER_OK;
}

/* Page 3 is computed from another device's first page: the driver comes back to itself. */
static int32_t own_fault(void *opened, struct quire_driver_fault *req)
{
    unsigned char byte = 0;
    CHECK(opened == &ctors && req->host != NULL && req->page_size == PAGE);
    if (req->index == 3 && nested_map != NULL) {
        nested_status = quire_load(nested_map, nested_at, &byte, 1, NULL);
        snprintf(nested_text, sizeof nested_text, "%s", quire_last_error());
    }
    return filled(req, 'o');
}

static int32_t other_fault(void *opened, struct quire_driver_fault *req)
{
    (void)opened;
    return filled(req, 'x');
}

static int32_t own_put(void *opened, struct quire_pager_io *io)
{
    uint32_t i;
    CHECK(opened == &ctors && io->count == 1);
    for (i = 0; i < io->count; i++)
        QUIRE_IO_PAGE(io, i)->status = QUIRE_PAGER_OK;
    puts_done++;
    return QUIRE_PAGER_OK;
}

static int32_t own_path(void *opened, char *text, size_t len)
{
    CHECK(opened == &ctors && len > 32);
    strcpy(text, "the device by its own name");
    return QUIRE_PAGER_OK;
}

static int32_t own_sync(void *opened)
{
    CHECK(opened == &ctors);
    syncs++;
    return QUIRE_PAGER_OK;
}

static int32_t frame_fault(void *opened, struct quire_driver_fault *req)
{
    (void)opened;
    CHECK(req->bytes == NULL);
    told_access = req->access;
    req->aperture = 7;
    return QUIRE_PAGER_OK;
}

static int32_t own_populate(void *opened, struct quire_pager_populate *req)
{
    (void)opened;
    (void)req;
    return QUIRE_PAGER_BAD;
}

#define SIZE sizeof(struct quire_driver)

static const struct quire_driver own = {SIZE, QUIRE_DRIVER_MANAGED, own_ctor, own_dtor, own_fault, NULL, own_put, own_path, own_sync};
QUIRE_DRIVER_MODULE(own_module, "own", QUIRE_THREADS_SERIALIZE_ALL, own);

static const struct quire_driver other = {SIZE, QUIRE_DRIVER_MANAGED, own_ctor, own_dtor, other_fault, NULL, NULL, NULL, NULL};
QUIRE_DRIVER_MODULE(other_module, "other", QUIRE_THREADS_PARALLEL, other);

static const struct quire_driver mute = {SIZE, QUIRE_DRIVER_MANAGED, own_ctor, own_dtor, NULL, NULL, NULL, NULL, NULL};
QUIRE_DRIVER_MODULE(mute_module, "mute", QUIRE_THREADS_PARALLEL, mute);

static const struct quire_driver frames = {SIZE, QUIRE_DRIVER_UNMANAGED, own_ctor, own_dtor, frame_fault, NULL, NULL, NULL, own_sync};
QUIRE_DRIVER_MODULE(frames_module, "frames", QUIRE_THREADS_PARALLEL, frames);

static void a_driver_of_the_programs_own_makes_devices(void)
{
    char name[256];
    const unsigned char byte = '!';
    begin();
    driver = take(&own_module);
    device = open_device(driver, "thing 1");
    OK(quire_object_describe(device, name, sizeof name));
    CHECK(strcmp(name, "device:own the device by its own name") == 0);
    base = map_device(device, RW);
    CHECK(byte_at(base) == 'o' && byte_at(base + PAGE) == 'o' && faults == 2 && stats_of(engine).gets == 2);
    OK(quire_store(map, base + PAGE, &byte, 1, NULL));
    OK(quire_object_flush(device, 0, 0, QUIRE_DURABLE));
    CHECK(puts_done == 1 && syncs == 1 && byte_at(base + PAGE) == '!');
    CHECK(ctors == 1 && dtors == 0 && info_of(driver).open_objects == 1 && info_of(devices).open_objects == 1);
    end();
    CHECK(ctors == 1 && dtors == 1);
}

static void a_driver_with_init_is_given_what_it_stored(void)
{
    struct quire_pager_module module = own_module;
    module.init = own_init;
    module.fini = own_fini;
    own_state = &inits;
    begin();
    device = open_device(take(&module), NULL);
    CHECK(inits == 1 && ctors == 1 && finis == 0);
    end();
    CHECK(inits == 1 && dtors == 1 && finis == 1);
}

static void ctor_and_dtor_balance(void)
{
    struct quire_object *again;
    begin();
    driver = take(&own_module);
    EXPECT(QUIRE_ERR_PAGER, "own: ctor: it fails, as it was told",
           quire_object_open_device(devices, driver, "fails", -1, QUIRE_OPEN_READ, &device));
    CHECK(quire_last_errno() == EACCES && ctors == 0 && dtors == 0);
    EXPECT(QUIRE_ERR_PAGER, "the driver own made a device of 0 bytes",
           quire_object_open_device(devices, driver, "nothing", -1, QUIRE_OPEN_READ, &device));
    CHECK(ctors == 1 && dtors == 1);
    EXPECT(QUIRE_ERR_PAGER, "flags 0x40000000", quire_object_open_device(devices, driver, "flag", -1, QUIRE_OPEN_READ, &device));
    CHECK(ctors == 2 && dtors == 2);
    /* The second opening finds the first, and its device is not needed. */
    device = open_device(driver, "thing 1");
    CHECK(ctors == 3 && dtors == 2);
    again = open_device(driver, "thing 1");
    CHECK(ctors == 4 && dtors == 3 && stats_of(engine).objects == 1);
    OK(quire_object_release(again));
    OK(quire_object_release(device));
    /* It is kept, and ends with the engine. */
    CHECK(stats_of(engine).objects_kept == 1 && dtors == 3);
    OK(quire_map_destroy(map));
    OK(quire_engine_destroy(engine, 0));
    CHECK(ctors == 4 && dtors == 4);
}

static void a_device_needs_neither_name_nor_descriptor(void)
{
    begin();
    driver = take(&other_module);
    EXPECT(QUIRE_ERR_INVALID, "-1 for none", quire_object_open_device(devices, driver, NULL, -2, 0, &device));
    OK(quire_object_open_device(devices, driver, NULL, -1, 0, &device));
    base = map_device(device, READ);
    CHECK(byte_at(base) == 'x');
    end();
    CHECK(ctors == 1 && dtors == 1);
}

static void a_driver_is_no_pager_and_a_pager_is_no_driver(void)
{
    struct quire_pager *vnode;
    struct quire_engine *other_engine;
    struct quire_engine_options options = on_the_soft_machine();
    begin();
    driver = take(&own_module);
    OK(quire_pager_load(engine, "vnode", NULL, &vnode));
    EXPECT(QUIRE_ERR_INVALID, "own is a driver; open its devices through the device pager",
           quire_object_open(driver, "thing", -1, QUIRE_OPEN_READ, &device));
    EXPECT(QUIRE_ERR_INVALID, "vnode is a pager, and no driver",
           quire_object_open_device(devices, vnode, "thing", -1, QUIRE_OPEN_READ, &device));
    EXPECT(QUIRE_ERR_INVALID, "vnode is a pager that takes no driver",
           quire_object_open_device(vnode, driver, "/dev/zero", -1, QUIRE_OPEN_READ, &device));
    EXPECT(QUIRE_ERR_INVALID, "own is a driver", quire_object_open_device(driver, driver, "thing", -1, QUIRE_OPEN_READ, &device));
    EXPECT(QUIRE_ERR_INVALID, "device opens the devices of drivers",
           quire_object_open(devices, "thing", -1, QUIRE_OPEN_READ, &device));
    EXPECT(QUIRE_ERR_INVALID, "own is a driver", quire_swap_add(driver, "thing", -1, 0, 0, NULL));
    OK(quire_engine_create(&options, &other_engine));
    OK(quire_pager_load(other_engine, "vnode", NULL, &vnode));
    EXPECT(QUIRE_ERR_INVALID, "different engines",
           quire_object_open_device(vnode, driver, "thing", -1, QUIRE_OPEN_READ, &device));
    CHECK(ctors == 0);
    OK(quire_engine_destroy(other_engine, 0));
    OK(quire_map_destroy(map));
    OK(quire_engine_destroy(engine, 0));
}

static void a_driver_stays_as_long_as_a_device_of_it_is_open(void)
{
    begin();
    driver = take(&own_module);
    device = open_device(driver, "thing 1");
    EXPECT(QUIRE_ERR_IN_USE, "own still has 1 object(s) open", quire_pager_unload(driver));
    EXPECT(QUIRE_ERR_IN_USE, "device still has 1 object(s) open", quire_pager_unload(devices));
    base = map_device(device, READ);
    CHECK(byte_at(base) == 'o');
    OK(quire_unmap(map, base, 4 * PAGE));
    OK(quire_object_release(device));
    /* It is only kept, and closed with its driver. */
    CHECK(stats_of(engine).objects_kept == 1 && dtors == 0);
    OK(quire_pager_unload(driver));
    CHECK(stats_of(engine).objects == 0 && dtors == 1);
    /* The same the other way round. */
    driver = take(&own_module);
    device = open_device(driver, "thing 1");
    OK(quire_object_release(device));
    OK(quire_pager_unload(devices));
    CHECK(stats_of(engine).objects == 0 && dtors == 2);
    OK(quire_map_destroy(map));
    OK(quire_engine_destroy(engine, 0));
}

static void devices_of_different_drivers_are_different_things(void)
{
    struct quire_object *second, *third;
    begin();
    driver = take(&own_module);
    device = open_device(driver, "thing 1");
    second = open_device(take(&other_module), "thing 1");
    third = open_device(driver, "thing 2");
    CHECK(stats_of(engine).objects == 3);
    CHECK(byte_at(map_device(device, READ)) == 'o' && byte_at(map_device(second, READ)) == 'x');
    OK(quire_object_release(second));
    OK(quire_object_release(third));
    end();
    CHECK(ctors == 3 && dtors == 3);
}

/* The device pager allows any calls at the same time: here the driver's module is what counts. */
static void the_thread_model_is_the_drivers(void)
{
    struct quire_object *second;
    begin();
    driver = take(&own_module);
    device = open_device(driver, "thing 1");
    second = open_device(driver, "thing 2");
    base = map_device(device, READ);
    nested_map = map;
    nested_at = map_device(second, READ);
    CHECK(byte_at(base + 3 * PAGE) == 'o');
    CHECK(nested_status == QUIRE_FAULT_PAGER && strstr(nested_text, "device:own") != NULL);
    CHECK(strstr(nested_text, "from inside another operation of the same pager") != NULL);
    CHECK(byte_at(nested_at) == 'o');
    nested_map = NULL;
    OK(quire_object_release(second));
    end();
}

/* A table that is no good, with what is wrong. */
static const void *answer;

static const void *answers(void *ctx, const char *id)
{
    (void)ctx;
    return strcmp(id, QUIRE_DRIVER_EXTENSION) == 0 ? answer : NULL;
}

static void refused(const struct quire_driver *table, const char *words)
{
    struct quire_pager_module module = own_module;
    struct quire_pager *pager;
    module.name = "flawed";
    module.init = own_init;
    module.fini = own_fini;
    module.get_extension = answers;
    answer = table;
    EXPECT(QUIRE_ERR_LOAD_MODULE, words, quire_pager_register(engine, &module, NULL, &pager));
    CHECK(strstr(quire_last_error(), "the table of its driver flawed is not valid") != NULL);
    /* Its init has run, and so has its fini. */
    CHECK(inits > 0 && inits == finis);
}

static void driver_tables_that_are_no_good_are_refused(void)
{
    struct quire_driver table = own;
    struct quire_pager_module module = own_module;
    struct quire_pager *pager;
    begin();
    refused(NULL, "answers no table to \"quire.driver.1\"");
    table.struct_size = 23;
    refused(&table, "it has 23 bytes, and every one has at least 24");
    table.struct_size = 28;
    refused(&table, "ends inside a member, fault");
    table = own;
    table.kind = 4;
    refused(&table, "kind 4 is unknown");
    table = own;
    table.ctor = NULL;
    refused(&table, "the mandatory ctor is missing");
    table = own;
    table.dtor = NULL;
    refused(&table, "the mandatory dtor is missing");
    table = frames;
    table.put = own_put;
    refused(&table, "only a managed driver can have put");
    table.kind = QUIRE_DRIVER_PHYS;
    refused(&table, "only a managed driver can have put");
    module.get_extension = NULL;
    EXPECT(QUIRE_ERR_LOAD_OPERATION, "get_extension is missing", quire_pager_register(engine, &module, NULL, &pager));
    module = own_module;
    module.caps |= QUIRE_CAP_DEVICES;
    EXPECT(QUIRE_ERR_LOAD_MODULE, "cannot be a driver and open the devices", quire_pager_register(engine, &module, NULL, &pager));
    OK(quire_map_destroy(map));
    OK(quire_engine_destroy(engine, 0));
}

static void s213_an_unmanaged_driver_with_populate_is_refused(void)
{
    struct quire_driver table = frames;
    begin();
    table.populate = own_populate;
    refused(&table, "an unmanaged driver cannot have populate");
    OK(quire_map_destroy(map));
    OK(quire_engine_destroy(engine, 0));
}

/* What lies behind the size that a driver tells is absent: here, everything after dtor. */
static void s235_a_driver_without_fault_fails_the_page(void)
{
    struct quire_driver table = own;
    struct quire_pager_module module = own_module;
    struct quire_object *second;
    begin();
    device = open_device(take(&mute_module), NULL);
    base = map_device(device, READ);
    EXPECT(QUIRE_FAULT_PAGER, "the driver has no fault", touch(0));
    CHECK(strstr(quire_last_error(), "device") != NULL && stats_of(engine).broken_promises == 0);
    table.struct_size = QUIRE_DRIVER_MIN_SIZE;
    module.name = "short";
    module.get_extension = answers;
    answer = &table;
    second = open_device(take(&module), NULL);
    EXPECT(QUIRE_FAULT_PAGER, "the driver has no fault", touch_at(map_device(second, READ)));
    CHECK(faults == 0);
    OK(quire_object_release(second));
    end();
}

/* One page a request, and always a read: a page is prepared for whatever its mapping may ever do (S237). */
static void s236_each_get_of_a_device_has_one_page(void)
{
    uint64_t page;
    const unsigned char byte = 1;
    begin();
    device = open_device(take(&own_module), NULL);
    base = map_device(device, RW);
    OK(quire_advise(map, base, 4 * PAGE, QUIRE_ADVICE_SEQUENTIAL));
    for (page = 0; page < 4; page++) {
        OK(quire_store(map, base + page * PAGE, &byte, 1, NULL));
        CHECK(faults == (int)page + 1 && told_access == QUIRE_ACCESS_READ);
        CHECK(stats_of(engine).gets == page + 1 && stats_of(engine).pages_in == page + 1);
    }
    end();
}

static void a_managed_device_without_put_is_read_only(void)
{
    struct quire_map_request request = request_of(4 * PAGE, RW);
    const unsigned char byte = 'p';
    begin();
    device = open_device(take(&other_module), NULL);
    EXPECT(QUIRE_ERR_UNSUPPORTED, "read-only", quire_map(map, device, &request, &base));
    request.flags = QUIRE_MAP_PRIVATE;
    OK(quire_map(map, device, &request, &base));
    OK(quire_store(map, base, &byte, 1, NULL));
    CHECK(byte_at(base) == 'p' && byte_at(base + 1) == 'x');
    end();
}

/* Writes to a device's own frames need no put. This one answers with a frame of an aperture that nobody has registered. */
static void an_unmanaged_device_can_be_mapped_for_writing(void)
{
    const unsigned char byte = 1;
    begin();
    device = open_device(take(&frames_module), NULL);
    base = map_device(device, RW);
    EXPECT(QUIRE_FAULT_PAGER, "device: populate", quire_store(map, base, &byte, 1, NULL));
    CHECK(told_access == QUIRE_ACCESS_WRITE && stats_of(engine).gets == 0 && stats_of(engine).broken_promises == 0);
    EXPECT(QUIRE_FAULT_PAGER, "device: populate", touch(0));
    CHECK(told_access == QUIRE_ACCESS_READ);
    /* What was written in place has to become durable as well. */
    OK(quire_engine_sync(engine, QUIRE_DURABLE));
    CHECK(syncs == 1);
    OK(quire_object_flush(device, 0, 0, QUIRE_DURABLE));
    CHECK(syncs == 2);
    end();
}

/* The frame buffer: what each policy brings in, and that all of it is right. */
static uint32_t pixel(uint64_t at)
{
    return ((at % 640 ^ at / 640) & 32) != 0 ? 0x202830 : 0x182028;
}

static void a_device_in_c_populates(void)
{
    static const struct {
        const char *name;
        uint64_t populated;
    } policies[] = {{"one", 1}, {"window", 8}, {"all", 300}, {"get", 0}};
    size_t i;
    for (i = 0; i < sizeof policies / sizeof *policies; i++) {
        uint32_t seen = 0;
        uint64_t page;
        struct quire_stats stats;
        begin();
        device = open_device(load("framebuffer"), policies[i].name);
        base = map_device(device, READ);
        OK(quire_load(map, base + 20 * PAGE + 8, &seen, sizeof seen, NULL));
        CHECK(seen == pixel(20 * PAGE / 4 + 2));
        stats = stats_of(engine);
        CHECK(stats.populates == 1 && stats.pages_populated == policies[i].populated);
        CHECK(stats.gets == (policies[i].populated == 0));
        for (page = 0; page < 300; page++) {
            OK(quire_load(map, base + page * PAGE, &seen, sizeof seen, NULL));
            CHECK(seen == pixel(page * PAGE / 4));
        }
        CHECK(stats_of(engine).pages_populated == (policies[i].populated == 0 ? 0 : 300));
        end();
    }
    begin();
    driver = load("framebuffer");
    EXPECT(QUIRE_ERR_PAGER, "none of one, window, all, get",
           quire_object_open_device(devices, driver, "some", -1, QUIRE_OPEN_READ, &device));
    OK(quire_map_destroy(map));
    OK(quire_engine_destroy(engine, 0));
}

static void what_is_drawn_is_in_the_device(void)
{
    const uint32_t white = 0xffffff;
    uint32_t seen = 0;
    begin();
    device = open_device(load("framebuffer"), "window");
    base = map_device(device, RW);
    OK(quire_store(map, base + 100 * PAGE, &white, sizeof white, NULL));
    OK(quire_object_put(device, 0, 0, QUIRE_PGO_CLEANIT | QUIRE_PGO_FREE, NULL));
    /* A write makes all pages of its window dirty (S228). */
    CHECK(stats_of(engine).pages_out == 8);
    OK(quire_load(map, base + 100 * PAGE, &seen, sizeof seen, NULL));
    CHECK(seen == white && stats_of(engine).pages_populated == 16);
    OK(quire_load(map, base + 100 * PAGE + 4, &seen, sizeof seen, NULL));
    CHECK(seen == pixel(100 * PAGE / 4 + 1));
    end();
}

/* The villain, told what to do wrong. */
static void villain(const char *name)
{
    begin();
    driver = load("villain");
    device = open_device(driver, name);
    base = map_device(device, RW);
}

/* The process and the engine live, and an honest device of the same driver works: the engine ends without what is broken. */
static void the_rest_works(void)
{
    OK(quire_unmap(map, base, 16 * PAGE));
    quire_object_release(device);
    device = open_device(driver, "good");
    base = map_device(device, READ);
    CHECK(byte_at(base + 7 * PAGE) == 8);
    OK(quire_map_destroy(map));
    OK(quire_object_release(device));
    CHECK(info_of(driver).open_objects <= 1);
    OK(quire_engine_destroy(engine, QUIRE_DISCARD));
}

/* The sentence names the pager, the driver, the device and what it did. */
static void says_who(const char *name)
{
    CHECK(strstr(quire_last_error(), "device:villain-driver") != NULL && strstr(quire_last_error(), name) != NULL);
}

static void is_quarantined(const char *name, const char *did)
{
    EXPECT(QUIRE_FAULT_QUARANTINED, did, touch(3));
    says_who(name);
    EXPECT(QUIRE_FAULT_QUARANTINED, did, touch(5));
    EXPECT(QUIRE_FAULT_QUARANTINED, did, touch(3));
    CHECK(stats_of(engine).broken_promises == 1);
}

static void quarantined(const char *name, const char *did)
{
    villain(name);
    is_quarantined(name, did);
    the_rest_works();
}

static void a_good_villain_is_a_driver_like_others(void)
{
    villain("good");
    CHECK(byte_at(base) == 1 && byte_at(base + 15 * PAGE) == 16);
    end();
}

static void a_ctor_that_fails_leaves_nothing(void)
{
    static const struct {
        const char *name;
        int32_t status;
        const char *words;
    } ctors_of[] = {
        {"ctor-fails", QUIRE_ERR_PAGER, "villain: ctor: fails half-way"},
        {"ctor-unknown-status", QUIRE_ERR_QUARANTINED, "device:villain-driver: open answered the unknown status 4242"},
        {"ctor-unknown-flag", QUIRE_ERR_PAGER, "flags 0x40000000"},
        {"ctor-without-size", QUIRE_ERR_PAGER, "made a device of 0 bytes"},
    };
    size_t i;
    begin();
    driver = load("villain");
    for (i = 0; i < sizeof ctors_of / sizeof *ctors_of; i++) {
        EXPECT(ctors_of[i].status, ctors_of[i].words,
               quire_object_open_device(devices, driver, ctors_of[i].name, -1, QUIRE_OPEN_READ, &device));
        CHECK(info_of(driver).open_objects == 0 && info_of(devices).open_objects == 0);
    }
    device = open_device(driver, "good");
    base = map_device(device, READ);
    CHECK(byte_at(base) == 1);
    end();
}

static void an_empty_range_quarantines(void)
{
    quarantined("populate-empty", "answered the range 0x4 to 0x3");
}

static void a_reversed_range_quarantines(void)
{
    quarantined("populate-reversed", "answered the range 0x5 to 0x2");
}

static void a_range_without_the_index_quarantines(void)
{
    quarantined("populate-elsewhere", "answered the range 0x4 to 0x4, which does not hold the fault at 0x3");
}

static void a_range_beyond_the_device_quarantines(void)
{
    quarantined("populate-outside", "beyond the end of the object");
}

static void a_hole_quarantines(void)
{
    quarantined("populate-hole", "but page 0x4 is not there");
}

static void a_page_that_was_resident_and_not_taken_quarantines(void)
{
    villain("populate-resident");
    CHECK(byte_at(base + 2 * PAGE) == 3);
    is_quarantined("populate-resident", "page 0x2 was in memory before");
    the_rest_works();
}

static void an_unready_page_quarantines(void)
{
    quarantined("populate-unready", "is ready");
}

static void an_unfilled_page_quarantines(void)
{
    quarantined("populate-unfilled", "page 0x3 is ready, but its last bytes were not written");
}

static void an_unknown_status_of_populate_quarantines(void)
{
    quarantined("populate-status", "populate answered the unknown status 4242");
}

static void a_populate_that_pends_quarantines(void)
{
    quarantined("populate-pends", "populate answered PEND without leave");
}

static void an_unknown_status_of_fault_quarantines(void)
{
    quarantined("fault-status", "get answered the unknown status 4242");
}

static int lines;

static void count_line(void *ctx, uint32_t level, const char *who, const char *text)
{
    (void)ctx;
    CHECK(level == QUIRE_LOG_ERROR || level == QUIRE_LOG_WARN);
    printf("log: %s: %s\n", who, text);
    lines += strstr(text, "names no request under way") != NULL;
}

static void an_older_devices_token_is_logged_and_gives_no_page(void)
{
    struct quire_object *good;
    OK(quire_set_log(count_line, NULL));
    villain("populate-stale");
    good = open_device(driver, "good");
    CHECK(byte_at(map_device(good, READ)) == 1);
    EXPECT(QUIRE_FAULT_QUARANTINED, "but page 0x3 is not there", touch(3));
    says_who("populate-stale");
    CHECK(lines == 1 && info_of(devices).stale_calls == 1 && stats_of(engine).broken_promises == 1);
    OK(quire_object_release(good));
    the_rest_works();
    OK(quire_set_log(NULL, NULL));
}

/* An access of another thread's. */
static uint64_t touched_at;

static void *touch_it(void *status)
{
    *(int32_t *)status = touch_at(touched_at);
    return NULL;
}

/* A page that a device inserts under the token of another's request is that one's: the thief has none, and the other keeps it as cache. */
static void a_page_under_another_devices_token_is_that_devices(void)
{
    struct quire_object *lender;
    pthread_t thread;
    uint64_t at, resident = 0;
    static int32_t status = 1;
    villain("populate-steals");
    lender = open_device(driver, "populate-lends");
    at = map_device(lender, READ);
    touched_at = at + 5 * PAGE;
    CHECK(pthread_create(&thread, NULL, touch_it, &status) == 0);
    EXPECT(QUIRE_FAULT_QUARANTINED, "but page 0x3 is not there", touch(3));
    says_who("populate-steals");
    CHECK(pthread_join(thread, NULL) == 0 && status == QUIRE_OK);
    CHECK(byte_at(at + 5 * PAGE) == 6 && byte_at(at + 3 * PAGE) == 4);
    OK(quire_object_resident(lender, &resident));
    CHECK(resident == 2 && stats_of(engine).broken_promises == 1);
    OK(quire_object_release(lender));
    the_rest_works();
}

static void a_page_that_somebody_else_has_busied_quarantines(void)
{
    struct quire_object *good;
    pthread_t thread;
    static int32_t status = 1;
    villain("populate-busied");
    good = open_device(driver, "good");
    touched_at = base + 4 * PAGE;
    CHECK(pthread_create(&thread, NULL, touch_it, &status) == 0);
    EXPECT(QUIRE_FAULT_QUARANTINED, "but page 0x4 is busied by somebody else", touch(3));
    says_who("populate-busied");
    CHECK(stats_of(engine).broken_promises == 1);
    OK(quire_object_flush(good, 0, 0, QUIRE_DURABLE));
    CHECK(pthread_join(thread, NULL) == 0 && status == QUIRE_FAULT_QUARANTINED);
    OK(quire_object_release(good));
    the_rest_works();
}

/* What pends without leave keeps what it was lent until it completes; the device is of no use from then on. */
static void let_it_complete(void)
{
    struct quire_object *good = open_device(driver, "good");
    OK(quire_object_flush(good, 0, 0, QUIRE_DURABLE));
    OK(quire_object_release(good));
}

static void a_fault_that_pends_quarantines(void)
{
    villain("fault-pends");
    EXPECT(QUIRE_FAULT_QUARANTINED, "get answered PEND without leave", touch(3));
    says_who("fault-pends");
    CHECK(strstr(quire_last_error(), "villain: wait for it") != NULL && stats_of(engine).broken_promises == 1);
    let_it_complete();
    the_rest_works();
}

static void a_put_that_pends_quarantines(void)
{
    const unsigned char byte = 0x55;
    villain("put-pends");
    OK(quire_store(map, base + 2 * PAGE, &byte, 1, NULL));
    CHECK(quire_object_flush(device, 0, 0, 0) != QUIRE_OK);
    CHECK(strstr(quire_last_error(), "put answered PEND without leave") != NULL);
    says_who("put-pends");
    CHECK(stats_of(engine).broken_promises == 1);
    EXPECT(QUIRE_FAULT_QUARANTINED, "PEND", touch(5));
    let_it_complete();
    the_rest_works();
}

static void an_unknown_status_of_a_put_page_quarantines(void)
{
    const unsigned char byte = 0x55;
    villain("put-unknown-page-status");
    OK(quire_store(map, base + 2 * PAGE, &byte, 1, NULL));
    CHECK(quire_object_flush(device, 0, 0, 0) != QUIRE_OK);
    CHECK(strstr(quire_last_error(), "gave page 2 the unknown status 4242") != NULL);
    the_rest_works();
}

static void a_fault_that_fails_fails_the_access_and_no_more(void)
{
    villain("fault-fails");
    EXPECT(QUIRE_FAULT_PAGER, "villain: fault: fails as it was told", touch(3));
    CHECK(quire_last_errno() == EIO && stats_of(engine).broken_promises == 0);
    EXPECT(QUIRE_FAULT_PAGER, "villain: fault: fails as it was told", touch(3));
    the_rest_works();
}

static const struct test_case cases[] = {
    CASE(a_driver_of_the_programs_own_makes_devices),
    CASE(a_driver_with_init_is_given_what_it_stored),
    CASE(ctor_and_dtor_balance),
    CASE(a_device_needs_neither_name_nor_descriptor),
    CASE(a_driver_is_no_pager_and_a_pager_is_no_driver),
    CASE(a_driver_stays_as_long_as_a_device_of_it_is_open),
    CASE(devices_of_different_drivers_are_different_things),
    CASE(the_thread_model_is_the_drivers),
    CASE(driver_tables_that_are_no_good_are_refused),
    CASE(s213_an_unmanaged_driver_with_populate_is_refused),
    CASE(s235_a_driver_without_fault_fails_the_page),
    CASE(s236_each_get_of_a_device_has_one_page),
    CASE(a_managed_device_without_put_is_read_only),
    CASE(an_unmanaged_device_can_be_mapped_for_writing),
    CASE(a_device_in_c_populates),
    CASE(what_is_drawn_is_in_the_device),
    CASE(a_good_villain_is_a_driver_like_others),
    CASE(a_ctor_that_fails_leaves_nothing),
    CASE(an_empty_range_quarantines),
    CASE(a_reversed_range_quarantines),
    CASE(a_range_without_the_index_quarantines),
    CASE(a_range_beyond_the_device_quarantines),
    CASE(a_hole_quarantines),
    CASE(a_page_that_was_resident_and_not_taken_quarantines),
    CASE(an_unready_page_quarantines),
    CASE(an_unfilled_page_quarantines),
    CASE(an_unknown_status_of_populate_quarantines),
    CASE(a_populate_that_pends_quarantines),
    CASE(an_unknown_status_of_fault_quarantines),
    CASE(an_older_devices_token_is_logged_and_gives_no_page),
    CASE(a_page_under_another_devices_token_is_that_devices),
    CASE(a_page_that_somebody_else_has_busied_quarantines),
    CASE(a_fault_that_pends_quarantines),
    CASE(a_put_that_pends_quarantines),
    CASE(an_unknown_status_of_a_put_page_quarantines),
    CASE(a_fault_that_fails_fails_the_access_and_no_more),
};

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    folder = argv[2];
    return run_case(cases, sizeof cases / sizeof *cases, argv[1]);
}
