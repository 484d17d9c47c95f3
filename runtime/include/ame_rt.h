/* ame_rt.h: every symbol that the pass may emit, and when it is called.
 *
 * This is the ABI between instrumented code (pass/) and the runtime (runtime/). Programs use ame.h.
 * Rust side: runtime/abi/src/lib.rs (a test compares the two).
 *
 * Geometry: a granule is 16 bytes, g = (address >> 4) & 0xffffffff. mark[g] is a uint16_t of the
 * calling thread's mark table, at %gs:4096(,g,2). "Stub" below means: called from inline assembly with the address in
 * %rdi; preserves every general-purpose register; clobbers vector registers and flags; needs no
 * stack alignment, but uses the stack below %rsp (so callers have no red zone). A stub may not
 * return: an abort restores registers and stack and returns from ame_begin() again.
 */
#ifndef AME_RT_H
#define AME_RT_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define AME_ABI_VERSION 3

/* Control words of the thread, at %gs:0. In a transaction with version v (even):
 * rver == v and wver == v + 1. Outside, both are 0, so that no check fails. Either may be poked to
 * 0xffff by another thread: then every barrier and poll takes its slow path once.
 *
 * A thread that the runtime does not know has %gs from the thread that made it: its checks may fail
 * where they need not, and the stubs then point %gs to words of zeroes.
 *
 * Inline read barrier:   if (marks[g] < rver) ame_read_slow(addr);
 * Inline write barrier:  if (marks[g] < wver) ame_write_slow(addr);
 * Inline poll:           if (rver == 0xffff)  ame_poll_slow();
 * "In a transaction":    wver != 0
 *
 * Optional inline first read, instead of calling ame_read_slow() at once when the check failed. It
 * acquires the granule and its neighbour g ^ 1, since most objects are larger than one:
 *     if (unfenced != 0 && marks[g] < ver && marks[g ^ 1] < ver) {
 *         both marks = ver, in one 4-byte store;
 *         if (both words of AME_LOCK_TABLE, in one 4-byte load, are not 0)
 *             ame_read_pair_contended(addr);
 *     } else ame_read_slow(addr);
 * The store and the load need no fence: a writer that finds this thread unfenced makes it run one
 * (runtime/src/protocol.rs, "handshake").
 */
struct ame_control {
    uint16_t rver;
    uint16_t wver;
    uint16_t ver;           /* version of the current transaction, 0 outside; also where it is exclusive */
};
#define AME_SEGMENT_MARKS 4096
struct ame_tls {
    uint16_t *marks;        /* never NULL: a read-only table of zeroes until the thread registers */
    uint16_t unfenced;      /* nonzero: reads may be marked inline */
    uint16_t inside;        /* nonzero: in a transaction that is not exclusive */
    void *thread;           /* private to the runtime */
};
extern __thread struct ame_tls ame_tls __attribute__((tls_model("initial-exec")));
/* The control words, whatever %gs is. */
#define AME_CONTROL ((volatile struct ame_control *)((char *)ame_tls.marks - AME_SEGMENT_MARKS))
#define AME_LOCK_TABLE ((const uint16_t *)0x120000000000)

/* --- stubs (address in %rdi) ------------------------------------------------------------------ */
void ame_read_slow(const void *addr);      /* before a read whose mark check failed */
void ame_read_contended(const void *addr); /* after marking one granule, when its lock is taken */
void ame_read_pair_contended(const void *addr); /* after marking two, when a lock is taken */
void ame_write_slow(void *addr);           /* before a write whose mark check failed: lock + undo */
void ame_immutable_slow(void *addr);       /* before a write to an immutable field that is not
                                              fresh: exclusive, then in place */
void ame_poll_slow(void);                  /* poll: leave if doomed */
void ame_call_slow(const void *target);    /* in a transaction, before a call to a target without
                                              the prefix magic: look up, else become exclusive */

/* --- ordinary C calls (standard calling convention) ------------------------------------------- */
void ame_read_range(const void *addr, size_t len);   /* before reading len bytes; len may be 0 */
void ame_write_range(void *addr, size_t len);        /* before writing len bytes */
/* before writing size bytes at addr, addr + step and so on, below addr + len */
void ame_write_steps(void *addr, size_t len, size_t step, size_t size);
void ame_private_range(void *addr, size_t len);      /* log len bytes for undo, exactly, no lock */
void ame_make_inevitable(void);            /* before a call of kind `inevitable`; no-op outside */
void ame_unbalanced(const char *function); /* stops the program: a call left the plain clone of this
                                              hot function in a transaction */
void ame_make_exclusive(void);             /* before a call of kind `exclusive`; no-op outside */
void ame_boundary_enter(void);             /* before a call of kind `boundary`: commits */
void ame_boundary_leave(void);             /* after it: begins again, if enter committed */

/* Fields of kind refcount and counter. add returns the value that the calling thread sees after
 * the addition (memory + own delta); read the one it sees now. Outside transactions plain. A
 * refcount_add that returns 0 holds the header granule for writing. */
int32_t ame_refcount_add32(int32_t *field, int32_t delta);
int64_t ame_refcount_add64(int64_t *field, int64_t delta);
int32_t ame_refcount_read32(const int32_t *field);
int64_t ame_refcount_read64(const int64_t *field);
int32_t ame_counter_add32(int32_t *field, int32_t delta);
int64_t ame_counter_add64(int64_t *field, int64_t delta);
int32_t ame_counter_read32(const int32_t *field);
int64_t ame_counter_read64(const int64_t *field);

/* For most of the functions above there is a stub of the same name plus _stub, for cold blocks:
 * arguments in %rdi and %rsi, result in %rax, and every other general-purpose register is kept. */
void ame_read_range_stub(void);
void ame_write_range_stub(void);
void ame_write_steps_stub(void);
void ame_private_range_stub(void);
void ame_make_inevitable_stub(void);
void ame_make_exclusive_stub(void);
void ame_refcount_add32_stub(void);
void ame_refcount_add64_stub(void);
void ame_refcount_read32_stub(void);
void ame_refcount_read64_stub(void);
void ame_counter_add32_stub(void);
void ame_counter_add64_stub(void);
void ame_counter_read32_stub(void);
void ame_counter_read64_stub(void);

/* Address of the calling thread's copy of a per_thread object of len bytes; the copy starts as the
 * bytes at addr. Outside and inside transactions. */
void *ame_per_thread(void *addr, size_t len);

/* For an interpreter's glue. Heirs: counts that a merge brings to zero are left at one, and
 * receive() gets their fields right after the commit, outside of transactions, to give the last
 * references up itself. Wait hook: called by a thread that has to wait for another transaction
 * (inside one of its own), to ask others to commit soon. Both replace what there was. */
void ame_set_heirs(void (*receive)(void **fields, size_t n));
void ame_set_wait_hook(void (*hook)(void));

/* Called when the calling thread's transaction had better end soon: the program's handler of a signal waits for that
 * (and the hook interrupts any code, as a handler does), the counts that the transaction changes have become many, or it
 * has become exclusive. */
void ame_set_end_hook(void (*hook)(void));

/* Called in a transaction, which is exclusive, before code that nothing is known of: the transactions that
 * begin inside of such code have to be exclusive as well, which only the glue can know. */
void ame_set_plain_hook(void (*hook)(void));
/* Whether the program or shared library that holds the address was compiled with the plugin. */
int ame_is_instrumented(const void *addr);

/* fn(arg) is called when the transaction will certainly commit, before it gives anything up: nobody
 * else has seen its effects, and what it has read is still as it was. Forgotten when it is rolled back.
 * For memory without barriers that must not tell of a transaction that never happened; fn is plain
 * code and begins no transaction. Outside a transaction it runs at once. */
void ame_before_release(void (*fn)(void *), void *arg);

/* Whether the calling thread's transaction has allocated the memory: nobody else can know of it. */
int ame_is_fresh(const void *addr);
/* Whether it has written there, or allocated it. */
int ame_is_written(const void *addr);

/* Right after an outermost ame_begin(): makes the transaction inevitable without ever restoring the
 * stack, parts of which plain code of other threads may write to (the entry of a waiter in a list). */
void ame_inevitable_from_begin(void);

/* For locks that are words of plain code. The token: nobody else becomes inevitable while this transaction
 * holds it, to its end, and nobody wounds it; but it can still be rolled back, by itself. */
void ame_hold_token(void);
/* The block of memory that such a lock lies in is not given back before the end of the transaction, when the lock is,
 * though the transaction be exclusive where it is freed. No-op outside of transactions and in exclusive ones. */
void ame_keep(const void *lock);
/* Whether the calling thread is in a transaction that can be rolled back. */
int ame_revocable(void);
/* What a rollback of it would lose, in cycles of the time stamp counter; 0 where there is no such transaction, or they
 * are not timed (ame_set_host() has them timed). */
uint64_t ame_at_stake(void);
/* Number of the thread in whose part of the heap a block of ame_malloc() lies: whose transactions have allocated there
 * last. 0 when none has. With NULL the calling thread's, which a later thread has when this one has ended. */
uint32_t ame_owner_of(const void *block);
/* How often the transaction has acquired memory to write to it: what the next one will have to do anew, if it does the
 * same as this one. */
uint64_t ame_written(void);
/* Rolls it back, for the sake of such a lock, and starts it again. What it waits for meanwhile, an action of
 * ame_on_abort() does. */
void ame_roll_back(void) __attribute__((noreturn));

/* Headers: a promise that a granule with a reference count holds nothing else that transactions
 * write with locks. A thread then locks a count when it first changes it (counts that several
 * threads change at once go on as deltas; a negative count is one that nobody changes). Own region:
 * memory that only the calling thread uses, of
 * kind private as a whole; from top on it is not in use when the next transaction begins, so that
 * nothing there is logged. */
void ame_set_headers(int on);

/* With headers: hot() gets the field of a count that transactions have changed many times while others
 * changed it too, so that it went through deltas, and how often the calling transaction has. It is called in the
 * commit, with the count locked, and may make the count negative in its lower 32 bits: nobody changes it from
 * then on. Plain code. */
void ame_set_hot(void (*hot)(void *field, unsigned changes));

/* For programs whose transactions write about as much as they read: threads never mark reads
 * without a fence. Before the first transaction. */
void ame_set_fenced(int on);

/* Called by the thread before an outermost begin, outside of the transaction, and after a rollback,
 * when memory is what it was and nothing is held. For memory that is saved as a whole. */
void ame_set_begin_hooks(void (*begins)(void), void (*rolled_back)(void));
void ame_own_region(uint32_t index, void *low, size_t bytes, void *top); /* index 0 to 2 */

/* Conflict reports in terms of an interpreted program. Both functions answer with a number from below,
 * 0 for unknown. site: where the calling thread's program is. object: what lies at addr, which is in
 * the block [block, block + bytes) of the heap (block is NULL: not in the heap); of addr NULL, why the
 * calling thread's transaction becomes irrevocable. They are called in the middle of barriers, of
 * transactions that are doomed, too: they only read, have no barriers, and neither allocate nor wait. */
void ame_set_host(uint32_t (*site)(void),
                  uint32_t (*object)(const void *addr, const void *block, size_t bytes));
/* The same texts have the same number, for good. caller: the nearest place among the callers that is
 * the program's own, where the place is in a library; else 0. advice may be "". */
uint32_t ame_host_site(const char *file, const char *function, uint32_t line, uint32_t caller);
uint32_t ame_host_object(const char *type, const char *part, const char *advice);
/* Whether n bytes can be read: heap memory always, also when it has been freed. */
int ame_host_readable(const void *addr, size_t n);

/* What the numbers stand for; 0 when there is no such number. The texts stay. */
struct ame_host_place { const char *file, *function; uint32_t line, caller; };
struct ame_host_thing { const char *type, *part, *advice; };
int ame_host_get_site(uint32_t number, struct ame_host_place *out);
int ame_host_get_object(uint32_t number, struct ame_host_thing *out);

/* Conflicts so far, added up by place and object, most time lost first: up to room of them; returns
 * how many there are. Without a trace they are sampled by the time they take, and the other side is
 * only known while threads are told to note all their accesses, which makes them slower. */
struct ame_conflict {
    uint32_t site, other_site, object; /* the side that waited; the side in its way; what both wanted */
    uint32_t access;                   /* trace format, module access; 5: rolled back, no conflict known */
    uint64_t count, rolled_back;       /* waits; transactions that were rolled back for it */
    uint64_t ns_lost;                  /* waiting, and work thrown away */
};
size_t ame_host_conflicts(struct ame_conflict *out, size_t room);
void ame_set_watch(int on);
/* The calling thread, outside of transactions, has waited for others since the time stamp counter was
 * that: counted like a wait for an exclusive transaction. */
void ame_host_waited(uint32_t object, uint64_t since);

/* Statistics (struct ame_stats of ame.h) of threads that have not ended, by the kernel's number: up to
 * room of them; returns how many there are. */
struct ame_host_thread { uint64_t os_id; uint64_t stats[13]; };
size_t ame_host_threads(struct ame_host_thread *out, size_t room);

/* Called from a constructor of every instrumented module. Stops with a message when the versions
 * differ or an address range of the module aliases another within the window. entries: addresses
 * of external functions that annotation sets declare harmless, for indirect calls
 * (kind: 0 pure or safe, 1 inevitable, 2 exclusive). */
struct ame_known_function { const void *address; uint64_t kind; };
void ame_module_register(uint32_t abi_version, const char *module,
                         const struct ame_known_function *known, size_t n_known);

/* Prefix data: 16 bytes before the entry of every instrumented or `safe` function; the first eight
 * are AME_PREFIX_MAGIC. Indirect and unknown external calls in a transaction compare it inline. */
#define AME_PREFIX_MAGIC UINT64_C(0x01f4c36e66454d41)

/* --- domains that are held (cpython-shim/extension) -------------------------------------------------- */
/* Of the calling thread; initial-exec TLS. The glue's, more of it is the runtime's. */
struct ame_domain {
    uint32_t word;
    uint32_t others[3];         /* the runtime's, as what comes after this struct */
    uint32_t inside[64];        /* see bias, below */
    uint64_t entries;           /* of who holds it */
    uint64_t counts[3];         /* the runtime's */
    void *lender, *place;       /* what may() is asked about, and how often the domain has been lent: written by who lends it */
    uint64_t loans;
};
struct ame_domain_thread {
    struct ame_domain *inside;  /* whose code runs; NULL: nobody's */
    void *kept;                 /* from malloc; freed when the thread ends */
    uint64_t n_kept;
    void *place;                /* after AME_DOMAIN_LENT: the place that was given then */
    void *dying;                /* list of objects that it is freeing */
    uint32_t entries;
    uint32_t spares;            /* whether it gives the GIL up where it can */
    void *detached;             /* with what to take the GIL again, given up for a while; or NULL */
    uint32_t number;            /* the runtime's */
    struct ame_domain **held;   /* the domains that it holds, or has lent */
    size_t n_held;
    uint32_t biased, slot;      /* the word of a domain with a bias to it, and its place in `inside` */
};
extern __thread struct ame_domain_thread ame_domain_thread __attribute__((tls_model("initial-exec")));

/* try_acquire makes the thread hold a domain, if that needs no waiting, and says how it came to. acquire gives
 * up all that the thread holds, and waits, so that domains cannot lock up. release: what it holds. A thread
 * that ends gives up what it has; the child of a fork has what the forking thread had.
 *
 * lend: what it holds, others may take over, until the thread calls try_acquire again. Who waits asks may() of
 * each lender, the two pointers that it gave; waited: for how many nanoseconds it has; lent: for how many it has
 * seen this loan. The lender waits while it is looked at. */
enum ame_domain_taken { AME_DOMAIN_NO, AME_DOMAIN_FREE, AME_DOMAIN_HELD, AME_DOMAIN_LENT };
enum ame_domain_taken ame_domain_try_acquire(struct ame_domain *domain);
void ame_domain_acquire(struct ame_domain *domain, int (*may)(void *lender, void *place, uint64_t waited,
                                                               uint64_t lent));
void ame_domain_release(struct ame_domain *domain);
/* Whether a domain is held; waits until it is not, for some 20 ms, and takes nothing. */
int ame_domain_is_held(const struct ame_domain *domain);
void ame_domain_await_free(const struct ame_domain *domain);
/* Of an interpreter with a GIL: how to give it up, if that is possible, and how to take it (nothing if it has it).
 * detached adds to the number of threads in the process that run code of a domain without it, and returns it; with the
 * GIL. */
enum ame_gil_given { AME_GIL_NOT_HELD, AME_GIL_GIVEN, AME_GIL_KEPT };
struct ame_gil { enum ame_gil_given (*release)(void); void (*take)(void); };
void ame_domain_set_gil(struct ame_domain *domain, const struct ame_gil *gil);
uint32_t ame_domain_detached(int change);
void ame_domain_release_all(void);
void ame_domain_lend(struct ame_domain *domain, void *lender, void *place);
void ame_domain_lend_all(void *lender, void *place);
/* Bias: a domain whose word is the thread's `biased`, and that has 0 in the thread's slot of `inside`, is free for this
 * thread only. It takes it by storing 1 there, and gives it back by storing 0; then it looks at the word again, and if
 * that has changed, asks enter_without_bias, which says whether it has the domain, or calls leave_without_bias. It
 * lends what it has taken by storing 2 there, after what may() is asked about, and claims it back by storing 1; and then, if
 * the word has changed, calls lend_without_bias, or asks claim_without_bias, which says whether it has the domain. */
int ame_domain_enter_without_bias(struct ame_domain *domain);
void ame_domain_leave_without_bias(struct ame_domain *domain);
void ame_domain_lend_without_bias(struct ame_domain *domain);
int ame_domain_claim_without_bias(struct ame_domain *domain);
/* Whether a thread of this process (its number in the kernel) is in a system call, other than to wait for its turn
 * at a lock that keeps its waiters in a list; 0 also where the kernel does not tell. */
int ame_domain_is_blocked(uint64_t thread);

/* The domain of an extension module that nobody has named: that of the shared object that holds the address,
 * by its name as a module (package.module). */
struct ame_domain *ame_domain_of_module(const void *address);
/* Code from start to end (a shared object) runs in the domain, and stays at these addresses. */
void ame_domain_add_code(struct ame_domain *domain, const void *start, const void *end);
/* Whether the function belongs to the domain, as well, or to the C library, which never calls an interpreter by itself. */
int ame_domain_stays_in(const struct ame_domain *domain, const void *function);

/* --- entries as transactions (cpython-shim/extension/elision.h) --------------------------------------- */
/* A way into an extension: static, all zero but for the name. */
struct ame_elided_entry {
    const char *name;
    uint32_t skip, penalty;     /* the runtime's */
    uint32_t rest, rests, held, elided;     /* the glue's */
};

/* join: 1 if the thread is in the domain now, together with others; ame_begin() comes next. What the transaction
 * may change of the stack lies below end_of_frames. When ame_begin() returns something else than 0, the
 * transaction has been undone and the thread is not in the domain any more: it runs its log and joins again.
 * 0: it must hold the domain.
 * irrevocable: in such a transaction, before what cannot be undone. Commits; the thread holds the domain from
 * there on. why: for statistics. Does nothing outside.
 * end: 1 if the transaction was still one, and has committed; 0 if the thread holds the domain.
 *
 * The log: what is done after the commit, in order, or after a rollback, last first. Only by who is in such a
 * transaction. forget takes one of the latest notes for a rollback back, if it is there; is_noted only looks.
 * visit calls a function with the argument of each note of another for a rollback.
 * fresh: a block of whole granules that nobody else knows of, and that a rollback frees without looking at it.
 * run: outside of transactions; waits: whether there is something to run after a commit.
 *
 * choose: which of two functions to call, the second where the first is NULL or there is no such transaction.
 * target: what to call by pointer. Both end the transaction before a function that has no body. */
int ame_elision_join(struct ame_domain *domain, struct ame_elided_entry *entry, const void *end_of_frames);
void ame_elision_irrevocable(const char *why);
int ame_elision_end(void);
const void *ame_elision_choose(const void *body, const void *plain, const char *name);
const void *ame_elision_target(const void *target);
void ame_elision_on_commit(void (*fn)(void *), void *arg);
void ame_elision_on_abort(void (*fn)(void *), void *arg);
int ame_elision_forget(void (*fn)(void *), void *arg);
void ame_elision_fresh(const void *start, size_t size);
int ame_elision_is_noted(void (*fn)(void *), void *arg);
void ame_elision_visit(void (*noted)(void *), void (*visit)(void *));
void ame_elision_run(int committed);
int ame_elision_waits(void);

/* Blocks of the C library's allocator, which share no granule with anything; free takes any block of it. In
 * such a transaction they are freed when that is certain. */
void *ame_elision_malloc(size_t size);
void *ame_elision_calloc(size_t count, size_t size);
void *ame_elision_realloc(void *block, size_t size);
void ame_elision_free(void *block);
char *ame_elision_strdup(const char *text);
char *ame_elision_strndup(const char *text, size_t most);

#ifdef __cplusplus
}
#endif
#endif
