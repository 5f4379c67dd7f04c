/*
 * A disk in memory, of DISK pages, whose calls wait until a gate is open: what pagers of the tests' own move bytes with. Included after
 * check.h, with DISK defined. Compiles as C and as C++.
 */
#ifndef GATED_DISK_H
#define GATED_DISK_H

#include <pthread.h>

static unsigned char disk[DISK * QUIRE_PAGE_SIZE];
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static int gate_is_shut, at_the_gate;

static void pass_the_gate(void)
{
    pthread_mutex_lock(&gate);
    at_the_gate++;
    while (gate_is_shut)
        pthread_cond_wait(&opened, &gate);
    at_the_gate--;
    pthread_mutex_unlock(&gate);
}

static void set_gate(int shut)
{
    pthread_mutex_lock(&gate);
    gate_is_shut = shut;
    pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&gate);
}

static int a_call_waits_at_the_gate(void)
{
    int waits;
    pthread_mutex_lock(&gate);
    waits = at_the_gate != 0;
    pthread_mutex_unlock(&gate);
    return waits;
}

static int32_t close_disk(void *ctx, void *handle)
{
    (void)ctx;
    (void)handle;
    return QUIRE_PAGER_OK;
}

/* Carries a request out. */
static int32_t move_on_disk(struct quire_pager_io *io, int put)
{
    uint32_t i;
    for (i = 0; i < io->count; i++) {
        unsigned char *at = disk + (io->first + i) * QUIRE_PAGE_SIZE;
        void *bytes = QUIRE_IO_PAGE(io, i)->bytes;
        if (put)
            memcpy(at, bytes, QUIRE_PAGE_SIZE);
        else
            memcpy(bytes, at, QUIRE_PAGE_SIZE);
        QUIRE_IO_PAGE(io, i)->status = QUIRE_PAGER_OK;
    }
    return QUIRE_PAGER_OK;
}

#endif
