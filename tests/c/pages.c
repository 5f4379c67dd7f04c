/*
 * Pages by hand through libquire.so: every function, every flag, every wrong mode. Usage: pages CASE FOLDER
 * FOLDER holds warm_pager.so.
 */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((uint64_t)QUIRE_PAGE_SIZE)
#define RW (QUIRE_PROT_READ | QUIRE_PROT_WRITE)

/* A question is answered with 1 or 0. */
#define YES(call) CHECK((call) == 1)
#define NO(call) CHECK((call) == 0)
/* Wrong use: a status, and a sentence. */
#define WRONG(words, call) EXPECT(QUIRE_ERR_MISUSE, words, call)
#define GONE(call) EXPECT(QUIRE_ERR_STALE, "look it up again", call)

static const char *folder;
static struct quire_engine *engine;
static struct quire_object *object;
static struct quire_map *map;
static uint64_t base;

/* An anonymous object of eight pages, mapped. Wrong use is a status. */
static void begin(void)
{
    struct quire_engine_options options = on_the_soft_machine();
    struct quire_map_request request = request_of(8 * PAGE, RW);
    OK(quire_set_checking(0));
    OK(quire_engine_create(&options, &engine));
    OK(quire_object_create_anonymous(engine, 8 * PAGE, &object));
    OK(quire_map_create(engine, 0, 0, &map));
    OK(quire_map(map, object, &request, &base));
}

static void end(void)
{
    OK(quire_map_destroy(map));
    OK(quire_object_release(object));
    OK(quire_engine_destroy(engine, 0));
}

static struct quire_page *grab(uint64_t index, uint32_t flags)
{
    struct quire_page *page = NULL;
    OK(quire_page_grab(object, index, 1, flags, &page, NULL));
    CHECK(page != NULL);
    return page;
}

/* A filled page, unbusied. */
static struct quire_page *resident(uint64_t index)
{
    struct quire_page *page = grab(index, QUIRE_GRAB_CONTENTS);
    OK(quire_page_xunbusy(page));
    return page;
}

static size_t listed(const char *message)
{
    struct quire_page_sleeper sleepers[16];
    size_t found = 0, there = 0, i;
    OK(quire_page_sleepers(sleepers, sizeof sleepers[0], 16, &found));
    for (i = 0; i < found && i < 16; i++)
        there += strcmp(sleepers[i].message, message) == 0;
    return there;
}

static void until_listed(const char *message, size_t count)
{
    while (listed(message) != count)
        sched_yield();
}

static void s239_to_s245_the_modes_as_the_manual_has_them(void)
{
    struct quire_page *page;
    begin();
    page = resident(0);
    NO(quire_page_busied(page));
    YES(quire_page_tryxbusy(page));
    NO(quire_page_tryxbusy(page));
    NO(quire_page_trysbusy(page));
    YES(quire_page_busied(page));
    YES(quire_page_xbusied(page));
    NO(quire_page_sbusied(page));
    OK(quire_page_busy_downgrade(page));
    NO(quire_page_xbusied(page));
    YES(quire_page_sbusied(page));
    YES(quire_page_trysbusy(page));
    NO(quire_page_busy_tryupgrade(page));
    OK(quire_page_sunbusy(page));
    YES(quire_page_busy_tryupgrade(page));
    OK(quire_page_xunbusy(page));
    OK(quire_page_xbusy(page));
    OK(quire_page_xunbusy(page));
    OK(quire_page_sbusy(page));
    OK(quire_page_sunbusy(page));
    NO(quire_page_busied(page));
    end();
}

static void s242_the_wrong_mode_is_answered_with_a_status_and_a_sentence(void)
{
    struct quire_page *page;
    char byte = 0;
    begin();
    page = resident(0);
    WRONG("not exclusively busied", quire_page_xunbusy(page));
    WRONG("not shared busied", quire_page_sunbusy(page));
    WRONG("not exclusively busied", quire_page_busy_downgrade(page));
    WRONG("not shared busied", quire_page_busy_tryupgrade(page));
    WRONG("not exclusively busied", quire_page_set_valid(page));
    WRONG("busy it in either mode", quire_page_set_dirty(page));
    WRONG("not exclusively busied", quire_page_set_clean(page));
    WRONG("busy it in either mode", quire_page_wire(page));
    WRONG("busy it in either mode", quire_page_hold(page));
    WRONG("wired or held before", quire_page_unwire(page));
    WRONG("wired or held before", quire_page_unhold(page));
    WRONG("busy it in either mode", quire_page_read(page, 0, &byte, 1));
    WRONG("busy it in either mode", quire_page_write(page, 0, &byte, 1));
    WRONG("not exclusively busied", quire_page_remove(page));
    WRONG("not exclusively busied", quire_page_insert(page, object, 1));
    WRONG("not exclusively busied", quire_page_rename(page, object, 1));
    WRONG("not exclusively busied", quire_page_free(page));
    WRONG("not held by this thread", quire_object_unlock(object));
    YES(quire_page_trysbusy(page));
    WRONG("not exclusively busied", quire_page_xunbusy(page));
    WRONG("not exclusively busied", quire_page_free(page));
    OK(quire_page_sunbusy(page));
    NO(quire_page_busied(page));
    end();
}

static void what_is_no_page_is_answered(void)
{
    struct quire_page *page;
    uint64_t index = 77;
    char byte = 0;
    begin();
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_page_busied(NULL));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_page_tryxbusy(NULL));
    EXPECT(QUIRE_ERR_HANDLE, "no handle", quire_page_xunbusy((struct quire_page *)(void *)(uintptr_t)0x1003));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_page_busy_sleep(NULL, "x"));
    EXPECT(QUIRE_ERR_HANDLE, "NULL", quire_page_place(NULL, NULL, &index));
    EXPECT(QUIRE_ERR_HANDLE, "", quire_page_lookup(NULL, 0, &page));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_page_lookup(object, 0, NULL));
    EXPECT(QUIRE_ERR_NOT_FOUND, "not in memory", quire_page_lookup(object, 0, &page));
    EXPECT(QUIRE_ERR_HANDLE, "", quire_page_grab(NULL, 0, 1, 0, &page, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_page_grab(object, 0, 1, 0, NULL, NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_page_grab(object, 0, 2, 0, &page, NULL));
    EXPECT(QUIRE_ERR_INVALID, "nothing to grab", quire_page_grab(object, 0, 0, 0, &page, NULL));
    EXPECT(QUIRE_ERR_INVALID, "unknown bits", quire_page_grab(object, 0, 1, 1u << 31, &page, NULL));
    EXPECT(QUIRE_ERR_INVALID, "unknown bits", quire_set_checking(4));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_page_sleepers(NULL, 0, 0, NULL));
    EXPECT(QUIRE_ERR_HANDLE, "", quire_object_lock(NULL));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_object_id(object, NULL));
    page = grab(0, QUIRE_GRAB_ZERO);
    EXPECT(QUIRE_ERR_HANDLE, "", quire_page_rename(page, NULL, 1));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_page_read(page, 0, NULL, 1));
    EXPECT(QUIRE_ERR_INVALID, "NULL", quire_page_write(page, 0, NULL, 1));
    OK(quire_page_read(page, 4096, NULL, 0));
    WRONG("4096", quire_page_read(page, 4096, &byte, 1));
    WRONG("4096", quire_page_write(page, SIZE_MAX, &byte, 1));
    OK(quire_page_free(page));
    GONE(quire_page_busied(page));
    GONE(quire_page_xunbusy(page));
    GONE(quire_page_free(page));
    GONE(quire_page_unwire(page));
    GONE(quire_page_xbusy(page));
    GONE(quire_page_place(page, NULL, &index));
    GONE(quire_page_assert_unbusied(page));
    CHECK(index == 77);
    end();
}

static void *sleep_once(void *page)
{
    OK(quire_page_busy_sleep((struct quire_page *)page, "a message for tools"));
    return NULL;
}

static void *sleep_if_busy(void *page)
{
    YES(quire_page_sleep_if_busy((struct quire_page *)page, "if busy"));
    return NULL;
}

static void *take_and_give(void *page)
{
    OK(quire_page_xbusy((struct quire_page *)page));
    OK(quire_page_xunbusy((struct quire_page *)page));
    return NULL;
}

static void s246_s247_s249_sleepers_are_seen_and_woken(void)
{
    struct quire_page_sleeper sleeper;
    struct quire_page *page;
    pthread_t threads[4];
    uint64_t number = 0;
    size_t found = 0, i;
    begin();
    page = resident(3);
    NO(quire_page_sleep_if_busy(page, "not busied"));
    OK(quire_page_busy_sleep(page, NULL));
    OK(quire_page_xbusy(page));
    CHECK(pthread_create(&threads[0], NULL, sleep_once, page) == 0);
    until_listed("a message for tools", 1);
    OK(quire_object_id(object, &number));
    OK(quire_page_sleepers(&sleeper, sizeof sleeper, 1, &found));
    CHECK(found == 1 && sleeper.object == number && sleeper.index == 3 && sleeper.thread != 0);
    CHECK(pthread_create(&threads[1], NULL, sleep_if_busy, page) == 0);
    until_listed("if busy", 1);
    OK(quire_page_sleepers(NULL, 0, 0, &found));
    CHECK(found == 2);
    OK(quire_page_xunbusy(page));
    for (i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    OK(quire_page_sbusy(page));
    OK(quire_page_sbusy(page));
    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, take_and_give, page) == 0);
    until_listed("xbusy", 4);
    OK(quire_page_sunbusy(page));
    OK(quire_page_sunbusy(page));
    for (i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    NO(quire_page_busied(page));
    end();
}

static void f17_every_flag_of_grab(void)
{
    struct quire_page *page, *again, *pages[10];
    char bytes[4096];
    size_t grabbed = 0, i;
    begin();
    EXPECT(QUIRE_ERR_NOT_FOUND, "not in memory", quire_page_grab(object, 0, 1, QUIRE_GRAB_NOCREAT, &page, NULL));
    EXPECT(QUIRE_ERR_INVALID, "ends before", quire_page_grab(object, 8, 1, 0, &page, NULL));
    page = grab(0, 0);
    YES(quire_page_xbusied(page));
    NO(quire_page_is_valid(page));
    EXPECT(QUIRE_ERR_BUSY, "not to wait", quire_page_grab(object, 0, 1, QUIRE_GRAB_NOWAIT, &again, NULL));
    WRONG("not filled", quire_page_busy_downgrade(page));
    OK(quire_page_xunbusy(page));
    GONE(quire_page_busied(page));

    page = grab(0, QUIRE_GRAB_ZERO | QUIRE_GRAB_WIRED);
    YES(quire_page_is_valid(page));
    CHECK(quire_page_wire_count(page) == 1);
    OK(quire_page_unwire(page));
    OK(quire_page_read(page, 0, bytes, sizeof bytes));
    for (i = 0; i < sizeof bytes; i++)
        CHECK(bytes[i] == 0);
    OK(quire_page_xunbusy(page));
    CHECK(grab(0, QUIRE_GRAB_SBUSY | QUIRE_GRAB_NOCREAT) == page);
    YES(quire_page_sbusied(page));
    CHECK(grab(0, QUIRE_GRAB_NOBUSY | QUIRE_GRAB_IGN_SBUSY | QUIRE_GRAB_NOCREAT) == page);
    EXPECT(QUIRE_ERR_BUSY, "not to wait",
           quire_page_grab(object, 0, 1, QUIRE_GRAB_NOBUSY | QUIRE_GRAB_NOCREAT | QUIRE_GRAB_NOWAIT, &again, NULL));
    OK(quire_page_sunbusy(page));
    NO(quire_page_busied(page));
    CHECK(grab(0, QUIRE_GRAB_WAITFAIL) == page); /* nothing to wait for */
    OK(quire_page_xunbusy(page));

    WRONG("not both", quire_page_grab(object, 1, 1, QUIRE_GRAB_SBUSY | QUIRE_GRAB_NOBUSY, &page, NULL));
    WRONG("not both", quire_page_grab(object, 1, 1, QUIRE_GRAB_ZERO | QUIRE_GRAB_CONTENTS, &page, NULL));
    WRONG("its maker's alone", quire_page_grab(object, 1, 1, QUIRE_GRAB_SBUSY, &page, NULL));
    WRONG("its maker's alone", quire_page_grab(object, 1, 1, QUIRE_GRAB_NOBUSY, &page, NULL));

    OK(quire_page_grab(object, 2, 10, QUIRE_GRAB_CONTENTS | QUIRE_GRAB_SBUSY, pages, &grabbed));
    CHECK(grabbed == 6);
    for (i = 0; i < grabbed; i++) {
        uint64_t number = 0, index = 0, own = 0;
        YES(quire_page_is_valid(pages[i]));
        YES(quire_page_place(pages[i], &number, &index));
        OK(quire_object_id(object, &own));
        CHECK(number == own && index == 2 + i);
        OK(quire_page_sunbusy(pages[i]));
    }
    end();
}

static void what_a_page_holds_is_seen_through_a_map(void)
{
    struct quire_page *page;
    char bytes[8];
    begin();
    OK(quire_store(map, base, "mapped", 7, NULL));
    OK(quire_page_lookup(object, 0, &page));
    YES(quire_page_trysbusy(page));
    OK(quire_page_read(page, 0, bytes, 7));
    CHECK(strcmp(bytes, "mapped") == 0);
    OK(quire_page_write(page, 0, "by hand", 8));
    YES(quire_page_is_dirty(page));
    OK(quire_page_hold(page));
    OK(quire_page_wire(page));
    CHECK(quire_page_wire_count(page) == 2);
    OK(quire_page_sunbusy(page));
    OK(quire_load(map, base, bytes, 8, NULL));
    CHECK(strcmp(bytes, "by hand") == 0);
    OK(quire_page_unhold(page));
    OK(quire_page_unwire(page));
    WRONG("wired or held", quire_page_unwire(page));

    page = grab(5, 0);
    OK(quire_page_write(page, 0, "new", 4));
    NO(quire_page_is_dirty(page));
    WRONG("not filled", quire_page_set_dirty(page));
    OK(quire_page_set_valid(page));
    YES(quire_page_is_dirty(page)); /* nobody else has it */
    OK(quire_page_set_dirty(page));
    WRONG("nobody else has", quire_page_set_clean(page));
    OK(quire_page_xunbusy(page));
    OK(quire_load(map, base + 5 * PAGE, bytes, 4, NULL));
    CHECK(strcmp(bytes, "new") == 0);
    end();
}

static void pages_leave_enter_and_move(void)
{
    struct quire_object *other;
    struct quire_page *page;
    uint64_t number = 1, index = 1;
    char bytes[8];
    begin();
    OK(quire_object_create_anonymous(engine, 2 * PAGE, &other));
    OK(quire_store(map, base, "moving", 7, NULL));
    page = grab(0, QUIRE_GRAB_NOCREAT | QUIRE_GRAB_WIRED);
    WRONG("is in an object", quire_page_insert(page, other, 0));
    WRONG("stays in memory", quire_page_free(page));
    OK(quire_page_remove(page));
    NO(quire_page_place(page, &number, &index));
    CHECK(number == 1 && index == 1);
    WRONG("already", quire_page_remove(page));
    WRONG("in no object", quire_page_xunbusy(page));
    WRONG("in no object", quire_page_busy_downgrade(page));
    OK(quire_load(map, base, bytes, 7, NULL));
    CHECK(bytes[0] == 0);
    OK(quire_page_insert(page, other, 1));
    CHECK(quire_page_wire_count(page) == 1);
    OK(quire_page_read(page, 0, bytes, 7));
    CHECK(strcmp(bytes, "moving") == 0);
    EXPECT(QUIRE_ERR_OCCUPIED, "already", quire_page_rename(page, object, 0));
    EXPECT(QUIRE_ERR_INVALID, "ends before", quire_page_rename(page, object, 8));
    OK(quire_page_rename(page, object, 7));
    OK(quire_page_unwire(page));
    OK(quire_page_xunbusy(page));
    OK(quire_load(map, base + 7 * PAGE, bytes, 7, NULL));
    CHECK(strcmp(bytes, "moving") == 0);
    page = grab(7, QUIRE_GRAB_NOCREAT);
    OK(quire_page_free(page));
    GONE(quire_page_place(page, &number, &index));
    OK(quire_object_release(other));
    end();
}

static void an_engine_does_not_end_while_a_page_of_it_is_in_no_object(void)
{
    struct quire_page *page;
    begin();
    page = grab(0, QUIRE_GRAB_ZERO);
    OK(quire_page_remove(page));
    OK(quire_map_destroy(map));
    OK(quire_object_release(object));
    EXPECT(QUIRE_ERR_IN_USE, "", quire_engine_destroy(engine, 0));
    OK(quire_page_free(page));
    OK(quire_engine_destroy(engine, 0));
}

/* Runs `body` in a child; answers how it ended. */
static int in_a_child(void (*body)(struct quire_page *page))
{
    int status = 0;
    pid_t child;
    fflush(NULL);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        begin();
        body(resident(0));
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static int aborts(void (*body)(struct quire_page *page))
{
    int status = in_a_child(body);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void wrong_xunbusy(struct quire_page *page)
{
    OK(quire_set_checking(QUIRE_CHECK_ABORT));
    quire_page_xunbusy(page);
}

static void wrong_sunbusy(struct quire_page *page)
{
    OK(quire_page_xbusy(page));
    OK(quire_set_checking(QUIRE_CHECK_ABORT));
    quire_page_sunbusy(page);
}

static void no_page(struct quire_page *page)
{
    (void)page;
    OK(quire_set_checking(QUIRE_CHECK_ABORT));
    quire_page_busied(NULL);
}

static void wrong_assert_sbusied(struct quire_page *page)
{
    OK(quire_set_checking(QUIRE_CHECK_ABORT));
    quire_page_assert_sbusied(page);
}

static void wrong_assert_xbusied(struct quire_page *page)
{
    OK(quire_page_sbusy(page));
    OK(quire_set_checking(QUIRE_CHECK_ABORT));
    quire_page_assert_xbusied(page);
}

static void wrong_assert_unbusied(struct quire_page *page)
{
    OK(quire_page_sbusy(page));
    OK(quire_set_checking(QUIRE_CHECK_ABORT));
    quire_page_assert_unbusied(page);
}

static void busy_without_the_lock(struct quire_page *page)
{
    OK(quire_set_checking(QUIRE_CHECK_ABORT | QUIRE_CHECK_STRICT));
    quire_page_tryxbusy(page);
}

static void right_use(struct quire_page *page)
{
    OK(quire_set_checking(QUIRE_CHECK_ABORT));
    OK(quire_page_assert_unbusied(page));
    YES(quire_page_tryxbusy(page));
    NO(quire_page_tryxbusy(page));
    OK(quire_page_assert_xbusied(page));
    OK(quire_page_busy_downgrade(page));
    OK(quire_page_assert_sbusied(page));
    OK(quire_page_sunbusy(page));
    YES(quire_page_tryxbusy(page));
    OK(quire_page_free(page));
    /* That a page is gone, or busy, is nobody's fault. */
    EXPECT(QUIRE_ERR_STALE, "", quire_page_busied(page));
    EXPECT(QUIRE_ERR_NOT_FOUND, "", quire_page_lookup(object, 0, &page));
}

static void wrong_use_with_status(struct quire_page *page)
{
    WRONG("", quire_page_xunbusy(page));
    OK(quire_page_assert_sbusied(page));
    OK(quire_page_assert_xbusied(page));
    YES(quire_page_trysbusy(page));
    OK(quire_page_assert_unbusied(page));
}

static void s242_s248_wrong_use_ends_the_process_where_that_is_asked_for_and_nowhere_else(void)
{
    CHECK(aborts(wrong_xunbusy));
    CHECK(aborts(wrong_sunbusy));
    CHECK(aborts(no_page));
    CHECK(aborts(wrong_assert_sbusied));
    CHECK(aborts(wrong_assert_xbusied));
    CHECK(aborts(wrong_assert_unbusied));
    CHECK(aborts(busy_without_the_lock));
    CHECK(in_a_child(right_use) == 0);
    CHECK(in_a_child(wrong_use_with_status) == 0);
}

static void say(void *file, uint32_t level, const char *pager, const char *text)
{
    (void)level;
    (void)pager;
    fprintf((FILE *)file, "%s\n", text);
    fflush((FILE *)file);
}

static void the_sentence_is_in_the_log_before_the_process_ends(void)
{
    char path[4096], line[256] = "";
    FILE *file;
    int status = 0;
    pid_t child;
    snprintf(path, sizeof path, "%s/log", folder);
    fflush(NULL);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        file = fopen(path, "w");
        CHECK(file != NULL);
        OK(quire_set_log(say, file));
        begin();
        wrong_xunbusy(resident(0));
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    file = fopen(path, "r");
    CHECK(file != NULL);
    CHECK(fgets(line, sizeof line, file) != NULL);
    CHECK(strstr(line, "not exclusively busied") != NULL);
    fclose(file);
}

static void *lock_and_sleep(void *page)
{
    OK(quire_object_lock(object));
    OK(quire_page_busy_sleep((struct quire_page *)page, "strict"));
    WRONG("not held", quire_object_unlock(object));
    return NULL;
}

static void *lock_and_sleep_if_busy(void *page)
{
    OK(quire_object_lock(object));
    YES(quire_page_sleep_if_busy((struct quire_page *)page, "strict if"));
    OK(quire_object_unlock(object));
    return NULL;
}

static void s241_s246_s247_the_strict_rule(void)
{
    struct quire_page *page, *other;
    pthread_t threads[2];
    begin();
    page = resident(0);
    OK(quire_set_checking(QUIRE_CHECK_STRICT));
    WRONG("lock", quire_page_tryxbusy(page));
    WRONG("lock", quire_page_trysbusy(page));
    WRONG("lock", quire_page_xbusy(page));
    WRONG("lock", quire_page_sbusy(page));
    WRONG("lock", quire_page_busy_sleep(page, "x"));
    WRONG("lock", quire_page_sleep_if_busy(page, "x"));
    WRONG("lock", quire_page_grab(object, 0, 1, 0, &other, NULL));
    OK(quire_object_lock(object));
    WRONG("already", quire_object_lock(object));
    WRONG("already", quire_object_trylock(object));
    YES(quire_page_tryxbusy(page));
    OK(quire_object_unlock(object));
    WRONG("lock", quire_page_xunbusy(page));
    YES(quire_page_xbusied(page));
    CHECK(pthread_create(&threads[0], NULL, lock_and_sleep, page) == 0);
    until_listed("strict", 1);
    CHECK(pthread_create(&threads[1], NULL, lock_and_sleep_if_busy, page) == 0);
    until_listed("strict if", 1);
    YES(quire_object_trylock(object)); /* both have let go of it */
    OK(quire_page_xunbusy(page));
    OK(quire_object_unlock(object));
    CHECK(pthread_join(threads[0], NULL) == 0);
    CHECK(pthread_join(threads[1], NULL) == 0);
    OK(quire_set_checking(0));
    end();
}

static struct quire_pager *load_warm(const char *name)
{
    char path[4096];
    struct quire_pager *pager;
    struct quire_map_request request = request_of(64 * PAGE, QUIRE_PROT_READ);
    struct quire_engine_options options = on_the_soft_machine();
    OK(quire_set_checking(0));
    OK(quire_engine_create(&options, &engine));
    snprintf(path, sizeof path, "%s/warm_pager.so", folder);
    OK(quire_pager_load(engine, path, NULL, &pager));
    OK(quire_object_open(pager, name, -1, 0, &object));
    OK(quire_map_create(engine, 0, 0, &map));
    OK(quire_map(map, object, &request, &base));
    return pager;
}

static uint64_t first_word(uint64_t page)
{
    uint64_t word = 0;
    OK(quire_load(map, base + page * PAGE, &word, sizeof word, NULL));
    return word;
}

static uint64_t in_memory(void)
{
    uint64_t pages = 0;
    OK(quire_object_resident(object, &pages));
    return pages;
}

static void a_pagers_thread_fills_the_cache_by_hand(void)
{
    uint64_t gets, i;
    load_warm("thread");
    CHECK(first_word(0) == 0);
    while (in_memory() < 64)
        sched_yield();
    gets = stats_of(engine).gets;
    for (i = 0; i < 64; i++)
        CHECK(first_word(i) == i * PAGE);
    CHECK(stats_of(engine).gets == gets && gets == 1);
    end();
}

static void a_populate_fills_its_neighbour_by_hand(void)
{
    load_warm("populate");
    CHECK(first_word(4) == 4 * PAGE);
    CHECK(in_memory() == 2);
    CHECK(stats_of(engine).gets == 1);
    CHECK(first_word(5) == 5 * PAGE);
    CHECK(stats_of(engine).gets == 1);
    end();
}

static const struct test_case cases[] = {
    CASE(s239_to_s245_the_modes_as_the_manual_has_them),
    CASE(s242_the_wrong_mode_is_answered_with_a_status_and_a_sentence),
    CASE(what_is_no_page_is_answered),
    CASE(s246_s247_s249_sleepers_are_seen_and_woken),
    CASE(f17_every_flag_of_grab),
    CASE(what_a_page_holds_is_seen_through_a_map),
    CASE(pages_leave_enter_and_move),
    CASE(an_engine_does_not_end_while_a_page_of_it_is_in_no_object),
    CASE(s242_s248_wrong_use_ends_the_process_where_that_is_asked_for_and_nowhere_else),
    CASE(the_sentence_is_in_the_log_before_the_process_ends),
    CASE(s241_s246_s247_the_strict_rule),
    CASE(a_pagers_thread_fills_the_cache_by_hand),
    CASE(a_populate_fills_its_neighbour_by_hand),
};

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    folder = argv[2];
    return run_case(cases, sizeof cases / sizeof cases[0], argv[1]);
}
