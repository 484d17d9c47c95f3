/* What the files of the shim share. The shim is linked into the interpreter; instrumented code of
 * CPython calls it in place of its own functions (cpython-ame.toml). Functions called ame_py_* are
 * plain code: they run as they are, in a transaction or not. Those called pyame_* are instrumented.
 */
#ifndef AME_CPYTHON_SHIM_H
#define AME_CPYTHON_SHIM_H

#ifndef Py_BUILD_CORE
#define Py_BUILD_CORE 1
#endif
#include "Python.h"
#include "pycore_ceval.h"
#include "pycore_freelist.h"
#include "pycore_gc.h"
#include "pycore_interp.h"
#include "pycore_lock.h"
#include "pycore_object.h"
#include "pycore_parking_lot.h"
#include "pycore_pystate.h"
#include "pycore_runtime.h"
#include <ame.h>
#include <stdatomic.h>
#include <stdint.h>

/* How the calling thread runs while its thread state is attached. */
enum ame_py_mode {
    AME_PY_OUTSIDE, /* detached */
    AME_PY_SOLO,    /* no other thread state is attached: no transaction */
    AME_PY_PARALLEL /* in a transaction */
};

/* Memory as it was when the transaction began (frames.c). */
struct ame_py_saved {
    void *memory;
    size_t bytes;
    char copy[];
};

/* A frame that has been logged in the transaction with this number. */
struct ame_py_covered {
    void *frame;
    unsigned long serial;
};
#define COVERED 64

/* A specialised instruction that becomes visible when the transaction commits (specialise.c). */
#define MOST_UNITS 16
struct ame_py_site {
    _Py_CODEUNIT *instr;
    PyObject *code; /* a reference: the instruction is part of it */
    _Py_CODEUNIT units[MOST_UNITS];
};

/* A lock that an atomic block has acquired or released (blocks.c). */
struct ame_py_lock_kind;
struct ame_py_held {
    void *lock;
    const struct ame_py_lock_kind *kind;
    int taken;  /* by the block: a rollback gives it back */
    int locked; /* for the program: else it is released at the block's end */
};
#define MOST_HELD 32

/* What a thread has of its own. Made when it first attaches a thread state, given to a later thread
 * when it has ended, never freed: objects in the lists may outlive the thread that made them. */
struct ame_py_thread {
    /* Its objects, by the collector's generations (list heads like those of the interpreter). The first are young; those in
     * the second have survived a collection of this thread's young objects; to the others they come in collections of all
     * threads (lists.c). Other threads write to a head when they take out the first or last object: ordinary transactional
     * memory. */
    _Alignas(16) PyGC_Head objects[NUM_GENERATIONS];
    /* What it is freeing in a collection of its young objects. */
    PyGC_Head garbage;
    /* The runtime's number for the thread; 0: it has ended. */
    uint32_t number;
    /* The interpreter whose objects these are; none, when it has ended. */
    PyInterpreterState *collected_by;
    /* Such collections since the last one of all threads. Undone by a rollback. */
    _Alignas(16) struct gc_generation_stats collections;
    /* These have left garbage to a collection of all threads. */
    int left;
    int collects; /* in one */
    /* Somebody wanted the end of a transaction that was in an atomic block. */
    int unheard;
    /* Allocations of container objects since the last collection. Not undone. */
    _Alignas(16) int allocated;
    enum ame_py_mode mode;
    /* The mode when the GIL was taken last. */
    enum ame_py_mode last;
    PyThreadState *tstate;
    /* Depth of `with ame.atomic`; what it takes to leave the GIL out while it is not 0. */
    int atomic;
    int kept;
    /* How often enter() has asked for a transaction in which the block can be rolled back. */
    int asked;
    /* The block that has begun last, until `with` goes on; and that it has to begin again (copies.c). */
    PyObject *block;
    int block_moves;
    /* Locks of the block; the one that it waits for after a rollback, how often in vain because all wait;
     * a wait was refused; how often it has given way for the interpreter's own locks. */
    int n_held, stuck, refused, gave_way;
    struct ame_py_held held[MOST_HELD];
    void *awaited;
    const struct ame_py_lock_kind *awaited_kind;
    /* Depth of waits that only another thread can end. */
    int waits_for_ever;
    /* Depth of waits for the interpreter's own locks, which are never refused. */
    int internal;
    /* Bare: the thread has run solo, and plain functions may be waiting below for what runs now. In
     * transactions it then runs exclusively (gil.c, copies.c). */
    int bare AME_RACY;
    /* How many transactions, with this one, end as soon as they can: two when it becomes irrevocable. The second leaves
     * what the first was in the middle of, the end of a `with lock:` say, where it changes counts that all threads
     * change. A long one that began there would be rolled back for them, or roll back others when it merges them. */
    int short_ones;
    /* Depth of waits in the parking lot. There, transactions are inevitable from their begin on: other
     * threads write to the entry of a waiter, which lies on its stack. */
    int parks;
    /* One reference each, left over by merged counts. */
    PyObject **dead;
    size_t n_dead, room_for_dead;
    /* Saved at begin; lowest saved address of the frame stack, and its chunk. */
    char *saved;
    size_t n_saved, room_for_saved;
    /* Of the frame stack, all from here on is saved: now, and when the transaction began. */
    char *saved_from AME_RACY, *saved_at_begin;
    /* The frame below any that begins here or above is saved or new. */
    char *saved_top AME_RACY;
    void *saved_chunk AME_RACY;
    unsigned long serial;
    struct ame_py_covered covered[COVERED];
    /* ame_py_epoch when the thread last began (specialise.c). */
    unsigned long epoch;
    struct ame_py_site *sites;
    size_t n_sites, room_for_sites;
    struct ame_py_types *types;
    /* The last version given to a dictionary, and the end of the thread's share (types.c). */
    uint64_t dict_version, dict_versions_end;
    /* Who makes the transaction irrevocable, for reports (host.c). */
    const char *reason;
    struct ame_py_thread *next, *next_free;
    /* Saved at begin (frames.c). */
    struct _Py_object_freelists freelists;
};

/* One of the collector's. */
static inline void
ame_py_empty_list(PyGC_Head *list)
{
    list->_gc_next = list->_gc_prev = (uintptr_t)list;
}

/* A list, as long as it was or moved, with room for `need` entries. Its memory is the C library's: no
 * rollback undoes it. */
void *ame_py_with_room(void *list, size_t need, size_t *room, size_t bytes);

/* The shim is part of the executable: one instruction finds it. */
extern _Thread_local struct ame_py_thread *ame_py_self __attribute__((tls_model("local-exec")));
extern atomic_ulong ame_py_epoch;
struct ame_py_thread *ame_py_new_self(void);

static inline struct ame_py_thread *
ame_py_get_self(void)
{
    struct ame_py_thread *self = ame_py_self;
    return self != NULL ? self : ame_py_new_self();
}

/* All of them, newest first. Grows at the front only. */
struct ame_py_thread *ame_py_all_threads(void);

/* Before an effect that cannot be undone. The transaction ends at the next opportunity. */
#define ame_py_irrevocable() ame_py_irrevocable_for(__func__)
void ame_py_irrevocable_for(const char *reason);
/* The same, and nobody else runs until then. */
#define ame_py_alone() ame_py_alone_for(__func__)
void ame_py_alone_for(const char *reason);
/* The object is given up by the next burial: for plain code that has a reference left over. */
void ame_py_leave_to_burial(PyObject *op);
void pyame_hold(PyObject *op);
/* Gives up one reference to each object that `self->dead` has. Instrumented. */
void pyame_bury(PyObject **dead, size_t n, size_t *done);

/* The calling thread goes on in another interpreter, which has other objects to collect. */
void ame_py_change_interpreter(struct ame_py_thread *self, PyInterpreterState *interp);
/* Without a barrier. */
void ame_py_set_keys_version(PyDictKeysObject *keys, uint32_t version);
/* A collection of the objects in `young`. Instrumented; the end of a transaction must not interrupt the first part. */
int pyame_find_garbage(PyGC_Head *young, PyGC_Head *old, PyGC_Head *garbage, struct gc_generation_stats *stats);
void pyame_free_garbage(PyThreadState *tstate, PyGC_Head *garbage, PyGC_Head *old);

/* In a transaction: ends it and begins another one. */
void ame_py_renew(struct ame_py_thread *self);
/* Asks the thread to drop the GIL soon. With the mutex, or by the thread itself. */
void ame_py_request_drop(struct ame_py_thread *t);
/* Asks all other threads whose transactions began before this epoch (specialise.c). */
void ame_py_request_begin_since(unsigned long epoch);
/* Waits until the transaction that started the calling thread has ended (locks.c). */
void ame_py_await_starter(PyThreadState *tstate);
int ame_py_runs(const struct _PyInterpreterFrame *frame);
/* The frame goes on: what it was at begin must be known. */
void ame_py_cover_frame(struct ame_py_thread *self, struct _PyInterpreterFrame *frame);

/* CPython's own of these names (recipe/shim.py), and what takes their place (lists.c). */
Py_ssize_t pyame_original_PyGC_Collect(void);
void pyame_original_PyUnstable_GC_VisitObjects(gcvisitobjects_t callback, void *argument);
Py_ssize_t ame_py_gc_collect_all(void);
void ame_py_gc_visit_objects(gcvisitobjects_t callback, void *argument);

/* For ame_set_hot: the object whose count several threads change need not be counted. */
void ame_py_make_immortal(void *count, unsigned changes);
/* Makes conflict reports speak of Python (host.c). */
void ame_py_init_host(void);
void ame_py_init_specialise(void);
/* The thread has waited for one that ran solo, since the time stamp counter was that. */
void ame_py_waited_to_join(unsigned long long since, int in_turns);
/* Whether the thread is in an atomic block. */
static inline int
ame_py_in_block(struct ame_py_thread *self)
{
    return self != NULL && self->atomic != 0;
}

/* Locks in atomic blocks (blocks.c). PY_LOCK_INTR: an exception is set. */
extern const struct ame_py_lock_kind ame_py_mutex, ame_py_semaphore;
PyLockStatus ame_py_block_acquire(struct ame_py_thread *self, void *lock,
                                  const struct ame_py_lock_kind *kind, int may_wait);
/* The same for a lock of the interpreter's own, without an exception. */
int ame_py_block_acquire_internal(struct ame_py_thread *self, void *lock);
/* Negative when it is not locked. */
int ame_py_block_release(struct ame_py_thread *self, void *lock, const struct ame_py_lock_kind *kind);
/* Of the locks of this block, or NULL. */
struct ame_py_held *ame_py_find_held(struct ame_py_thread *self, void *lock);
void ame_py_refuse_to_wait(struct ame_py_thread *self);
/* Before a wait for one of the interpreter's own locks: rolls back if that is possible. */
void ame_py_let_others_release(struct ame_py_thread *self, PyMutex *m);
void ame_py_block_ends(struct ame_py_thread *self);
void ame_py_locks_rolled_back(struct ame_py_thread *self);
void ame_py_sites_rolled_back(struct ame_py_thread *self);

void ame_py_begins(void);
void ame_py_rolled_back(void);

/* From the runtime (runtime/include/ame_rt.h). */
void ame_make_inevitable(void);
void ame_make_exclusive(void);
void ame_inevitable_from_begin(void);
void ame_set_fenced(int on);
void ame_set_headers(int on);
void ame_set_begin_hooks(void (*begins)(void), void (*rolled_back)(void));
void ame_private_range(void *address, size_t length);
void ame_read_range(const void *address, size_t length);
void ame_write_range(void *address, size_t length);
void ame_own_region(uint32_t index, void *low, size_t bytes, void *top);
void *ame_malloc(size_t size);
void ame_free(void *p);
void ame_set_heirs(void (*receive)(void **fields, size_t n));
void ame_set_hot(void (*hot)(void *field, unsigned changes));
uint32_t ame_owner_of(const void *block);
int ame_is_fresh(const void *address);
int ame_is_written(const void *address);
void ame_before_release(void (*fn)(void *), void *arg);
void ame_set_wait_hook(void (*hook)(void));
void ame_set_end_hook(void (*hook)(void));
void ame_set_plain_hook(void (*hook)(void));
int ame_is_instrumented(const void *address);
void ame_hold_token(void);
void ame_keep(const void *lock);
int ame_revocable(void);
uint64_t ame_at_stake(void);
uint64_t ame_written(void);
_Noreturn void ame_roll_back(void);

#endif
