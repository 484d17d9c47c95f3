/* One SQLite connection, used by several threads at once, with SQLite built for a single thread.
 *
 * SQLite is compiled unmodified with -DSQLITE_THREADSAFE=0: no mutex in it, and its documentation
 * says that such a build is only safe in one thread. All threads share one connection, its
 * parser, page cache, B-trees and statements. Each operation is a transaction of Ame around
 * a transaction of SQLite: a transfer between two rows (rolled back by SQL now and then), an audit over
 * all rows by an index, and an insertion with the removal of an old row.
 * With -DUSE_MUTEX the same program uses one mutex. Usage: sqlite_shared [threads] [seconds]
 */
#include <pthread.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef USE_MUTEX
static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;
#define BEGIN() pthread_mutex_lock(&big_lock)
#define COMMIT() pthread_mutex_unlock(&big_lock)
#else
#include <ame.h>
#define BEGIN() ame_begin()
#define COMMIT() ame_commit()
#endif
/* Stops at once, inside a transaction or not. */
#define CHECK(condition) do { if (!(condition)) __builtin_trap(); } while (0)

enum { ROWS = 200, OPENING = 1000 };
static sqlite3 *db;
static int stop;

struct statements {
    sqlite3_stmt *begin, *commit, *rollback, *take, *give, *audit, *log, *trim, *logged;
};

static sqlite3_stmt *prepare(const char *sql)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK) {
        fprintf(stderr, "sqlite_shared: %s: %s\n", sql, sqlite3_errmsg(db));
        exit(1);
    }
    return s;
}

static void prepare_all(struct statements *s)
{
    s->begin = prepare("BEGIN");
    s->commit = prepare("COMMIT");
    s->rollback = prepare("ROLLBACK");
    s->take = prepare("UPDATE account SET balance = balance - ?2 WHERE id = ?1");
    s->give = prepare("UPDATE account SET balance = balance + ?2 WHERE id = ?1");
    s->audit = prepare("SELECT count(*), sum(balance) FROM account INDEXED BY by_owner WHERE owner >= ''");
    s->log = prepare("INSERT INTO log(worker, note) VALUES (?1, 'transfer ' || ?2)");
    s->trim = prepare("DELETE FROM log WHERE id = (SELECT min(id) FROM log)");
    s->logged = prepare("SELECT count(*) FROM log");
}

static void finalize_all(struct statements *s)
{
    sqlite3_stmt *all[] = {s->begin, s->commit, s->rollback, s->take, s->give, s->audit, s->log, s->trim, s->logged};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sqlite3_finalize(all[i]);
}

/* Runs a statement that returns no rows. */
static void execute(sqlite3_stmt *s, sqlite3_int64 a, sqlite3_int64 b)
{
    int n = sqlite3_bind_parameter_count(s);
    if (n >= 1)
        sqlite3_bind_int64(s, 1, a);
    if (n >= 2)
        sqlite3_bind_int64(s, 2, b);
    CHECK(sqlite3_step(s) == SQLITE_DONE);
    CHECK(sqlite3_reset(s) == SQLITE_OK);
}

static void audit(struct statements *s)
{
    CHECK(sqlite3_step(s->audit) == SQLITE_ROW);
    CHECK(sqlite3_column_int64(s->audit, 0) == ROWS);
    CHECK(sqlite3_column_int64(s->audit, 1) == (sqlite3_int64)ROWS * OPENING);
    CHECK(sqlite3_reset(s->audit) == SQLITE_OK);
}

struct worker {
    pthread_t thread;
    uint64_t random, operations;
    int number;
} __attribute__((aligned(64)));

static unsigned below(struct worker *w, unsigned n)
{
    w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)((w->random >> 33) % n);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct statements s;
    BEGIN();
    prepare_all(&s);
    COMMIT();
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        unsigned what = below(w, 10), from = 1 + below(w, ROWS), to = 1 + below(w, ROWS), amount = below(w, 50);
        BEGIN();
        if (what == 0) {
            audit(&s);
        } else if (what == 1) {
            execute(s.begin, 0, 0);
            execute(s.log, w->number, amount);
            execute(s.trim, 0, 0);
            execute(s.commit, 0, 0);
        } else {
            execute(s.begin, 0, 0);
            execute(s.take, from, amount);
            if (what == 2) {
                execute(s.rollback, 0, 0);
            } else {
                execute(s.give, to, amount);
                execute(s.commit, 0, 0);
            }
        }
        COMMIT();
        w->operations++;
    }
    BEGIN();
    finalize_all(&s);
    COMMIT();
    return NULL;
}

static void must(const char *sql)
{
    char *message = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK) {
        fprintf(stderr, "sqlite_shared: %s: %s\n", sql, message);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    double seconds = argc > 2 ? atof(argv[2]) : 1.0;
    if (threads < 1 || threads > 64 || !(seconds > 0)) {
        fprintf(stderr, "usage: %s [threads, 1 to 64] [seconds]\n", argv[0]);
        return 2;
    }
    if (sqlite3_threadsafe() != 0) {
        fprintf(stderr, "sqlite_shared: SQLite must be built with -DSQLITE_THREADSAFE=0\n");
        return 2;
    }
    CHECK(sqlite3_open(":memory:", &db) == SQLITE_OK);
    must("CREATE TABLE account(id INTEGER PRIMARY KEY, owner TEXT NOT NULL, balance INTEGER NOT NULL);"
         "CREATE INDEX by_owner ON account(owner, balance);"
         "CREATE TABLE log(id INTEGER PRIMARY KEY AUTOINCREMENT, worker INTEGER, note TEXT);"
         "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 200) "
         "INSERT INTO account SELECT i, printf('owner %05d', i * 7919 % 1000), 1000 FROM n;"
         "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 50) "
         "INSERT INTO log(worker, note) SELECT 0, 'opening' FROM n;");
    static struct worker workers[64];
    for (int i = 0; i < threads; i++) {
        workers[i].random = (uint64_t)i + 1;
        workers[i].number = i + 1;
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    nanosleep(&(struct timespec){(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)}, NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    uint64_t operations = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        operations += workers[i].operations;
    }
    struct statements s;
    prepare_all(&s);
    audit(&s);
    CHECK(sqlite3_step(s.logged) == SQLITE_ROW);
    int ok = sqlite3_column_int(s.logged, 0) == 50;
    finalize_all(&s);
    sqlite3_stmt *integrity = prepare("PRAGMA integrity_check");
    CHECK(sqlite3_step(integrity) == SQLITE_ROW);
    ok &= strcmp((const char *)sqlite3_column_text(integrity, 0), "ok") == 0;
    sqlite3_finalize(integrity);
    ok &= sqlite3_close(db) == SQLITE_OK;
#ifdef USE_MUTEX
    const char *how = "one mutex";
#else
    const char *how = "transactions";
#endif
    printf("sqlite: %s, %d threads: %.0f operations/s, invariant %s\n", how, threads, (double)operations / seconds,
           ok ? "holds" : "BROKEN");
    return ok ? 0 : 1;
}
