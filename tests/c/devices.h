/* What tests of devices share: an engine, the device pager, a driver, a device and its map. */
#ifndef DEVICES_H
#define DEVICES_H

#include "check.h"
#include <quire_pager.h>

#include <errno.h>

#define PAGE ((uint64_t)QUIRE_PAGE_SIZE)
#define READ QUIRE_PROT_READ
#define RW (QUIRE_PROT_READ | QUIRE_PROT_WRITE)
#define WRITABLE (QUIRE_OPEN_READ | QUIRE_OPEN_WRITE)

static const char *folder;
static struct quire_engine *engine;
static struct quire_pager *devices, *driver;
static struct quire_object *device;
static struct quire_map *map;
static uint64_t base;

/* An engine, a map, and the device pager. */
static inline void begin_on(uint32_t machine)
{
    struct quire_engine_options options = on_the_soft_machine();
    options.machine = machine;
    OK(quire_engine_create(&options, &engine));
    OK(quire_map_create(engine, 0, 0, &map));
    OK(quire_pager_load(engine, "device", NULL, &devices));
}

/* The driver FOLDER/file.so. */
static inline struct quire_pager *load(const char *file)
{
    char path[4096];
    struct quire_pager *pager;
    snprintf(path, sizeof path, "%s/%s.so", folder, file);
    OK(quire_pager_load(engine, path, NULL, &pager));
    return pager;
}

static inline void end(void)
{
    OK(quire_map_destroy(map));
    OK(quire_object_release(device));
    OK(quire_engine_destroy(engine, 0));
}

#endif
