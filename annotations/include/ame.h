/* ame.h: transactions for C programs.
 *
 *     ame cc -O2 bank.c -o bank            (or clang-19 -fpass-plugin=libame_pass.so ... -lame_rt)
 *
 * Between ame_begin() and ame_commit() everything that instrumented code does is one indivisible
 * step: other transactions see all of it or nothing, and run in parallel where they touch other
 * data. Conflicting transactions are rolled back and run again by the runtime.
 */
#ifndef AME_H
#define AME_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* --- annotations: what the pass may assume (docs/annotations.md) ------------------------------- */
#if defined(__clang__)
#define AME_ANNOTATE(text) __attribute__((annotate("ame:" text)))
#else
#define AME_ANNOTATE(text)
#endif
/* fields and variables */
#define AME_IMMUTABLE  AME_ANNOTATE("immutable")  /* not written after publication: reads are free */
#define AME_PRIVATE    AME_ANNOTATE("private")    /* only its own thread touches it: undo, no lock */
#define AME_RECYCLED   AME_ANNOTATE("recycled")   /* written while one thread knows of it: reads are free */
#define AME_REFCOUNT   AME_ANNOTATE("refcount")   /* increments never conflict, merged at commit */
#define AME_COUNTER    AME_ANNOTATE("counter")    /* as refcount, for statistics */
#define AME_UNIQUE     AME_ANNOTATE("unique")     /* id allocator: atomic, never undone */
#define AME_RACY       AME_ANNOTATE("racy")       /* a hint: plain access, never undone */
#define AME_PER_THREAD AME_ANNOTATE("per_thread") /* every thread has its own copy */
/* functions */
#define AME_PURE       AME_ANNOTATE("pure")       /* touches no memory that transactions share */
#define AME_SAFE       AME_ANNOTATE("safe")       /* handles transactions itself: not instrumented */
#define AME_INEVITABLE AME_ANNOTATE("inevitable") /* cannot be undone: the caller becomes inevitable */
#define AME_EXCLUSIVE  AME_ANNOTATE("exclusive")  /* must run alone */
#define AME_BOUNDARY   AME_ANNOTATE("boundary")   /* the transaction is committed around the call */
#define AME_PARALLEL   AME_ANNOTATE("parallel")   /* of a C extension, known to Python: runs without the GIL */
#define AME_HOT        AME_ANNOTATE("hot")        /* outside transactions a copy without barriers runs */
#define AME_QUIET      AME_ANNOTATE("quiet")      /* no transaction ends or begins in it */
#define AME_ALLOCATES  AME_ANNOTATE("allocates")  /* returns new memory of malloc's, aligned to 16 bytes */
#define AME_REPLACE(symbol) AME_ANNOTATE("replace=" symbol) /* in transactions call symbol instead */
#define AME_READS(arg, len)  AME_ANNOTATE("reads=" #arg "," #len)
#define AME_WRITES(arg, len) AME_ANNOTATE("writes=" #arg "," #len)

/* In a file of a C extension, once: all its functions that Python knows are AME_PARALLEL. */
#define AME_PARALLEL_MODULE \
    __attribute__((weak, visibility("hidden"), used)) const char ame_parallel_module = 1;

/* --- transactions ------------------------------------------------------------------------------ */
/* Starts a transaction and returns how often it was rolled back so far: 0, and after each rollback
 * it returns again. Nested calls count; only the outermost commit publishes. */
unsigned ame_begin(void);
/* Ends it. Must be called as often as ame_begin; may be called from another function. */
void ame_commit(void);
/* Runs fn(arg) as one transaction. */
void ame_atomic(void (*fn)(void *), void *arg);
/* 1 in a transaction, else 0. */
int ame_in_transaction(void);
/* 1 in the plain clone of a hot function, a constant that the compiler puts in; else 0. */
int ame_is_clone(void);
/* From here on the transaction cannot be rolled back (for effects that cannot be undone). One
 * transaction at a time can be inevitable; others go on in parallel until they conflict. */
void ame_inevitable(void);
/* From here on until commit no other transaction runs. */
void ame_exclusive(void);
/* Rolls back, waits until something that the transaction has read is changed by another
 * transaction, and starts again. Fatal in an inevitable transaction. */
void ame_retry(void) __attribute__((noreturn));
/* Runs fn(arg) after the outermost commit (in order) or during rollback (in reverse order).
 * Outside a transaction on_commit runs fn at once and on_abort does nothing. */
void ame_on_commit(void (*fn)(void *), void *arg);
void ame_on_abort(void (*fn)(void *), void *arg);
/* Nonzero when others wait for this transaction: a long loop may want to commit and begin anew. */
int ame_should_commit(void);

/* Deallocator for objects whose refcount field reaches zero when deltas are merged at commit:
 * called in a transaction of its own right after, with the address of the refcount field. */
void ame_set_dealloc(void (*dealloc)(void *field));

/* --- domains ----------------------------------------------------------------------------------- */
/* A domain is what one big lock protects. Transactions of a program belong to the domain "main". */
typedef struct ame_domain ame_domain;
ame_domain *ame_domain_open(const char *name);  /* creates or finds; NULL when there are too many */
const char *ame_domain_name(const ame_domain *domain);
ame_domain *ame_domain_next(const ame_domain *domain);  /* the first after NULL; NULL after the last */
/* Entries into a domain that is held, as those of extension modules are. All since the start. */
struct ame_domain_counts {
    uint64_t entries;                     /* times that it was taken */
    uint64_t contended, ns_waiting;       /* of these, after waiting; time of all waits */
    uint64_t given_up;                    /* times that its holder gave it up in the middle: for a call
                                             that leaves the extension, or to wait for another domain */
};
void ame_domain_counts(const ame_domain *domain, struct ame_domain_counts *out);
/* Entries that did not hold it, because they were transactions (AME_ELIDE): to their end; until they came to what
 * cannot be undone, and held it from there on; how often they were rolled back. Whether transactions are faster is
 * tried where threads want the domain at the same time: how often that was, and how often they were. */
struct ame_elision_counts {
    uint64_t elided, serialised, rolled_back;
    uint64_t trials, won;
};
void ame_elision_counts(const ame_domain *domain, struct ame_elision_counts *out);
/* What serialised them, most frequent first: up to room of them; returns how many there are. The texts stay. */
struct ame_elision_reason {
    const char *entry, *why;
    uint64_t count;
};
size_t ame_elision_reasons(const ame_domain *domain, struct ame_elision_reason *out, size_t room);

/* --- statistics -------------------------------------------------------------------------------- */
struct ame_stats {
    uint64_t begins, commits;
    uint64_t aborts_conflict, aborts_chaos, retries;
    uint64_t inevitable, exclusive;
    uint64_t waits;
    uint64_t reads_first, writes_first;   /* first touches of a granule */
    uint64_t ns_aborted, ns_waiting;      /* time lost; first attempts are only timed when
                                             AME_STATS or AME_LOG is set */
    uint64_t log_bytes_max;               /* largest undo log */
};
void ame_thread_stats(struct ame_stats *out);                              /* calling thread */
void ame_total_stats(struct ame_stats *out);                               /* all, ended ones too */
void ame_domain_stats(const ame_domain *domain, struct ame_stats *out);

#ifdef __cplusplus
}
#endif
#endif
