/* An extension's own GIL: what pass/src/extension puts calls of into its code, for free-threaded CPython, and where
 * functions run without the GIL on CPython with one (gil.h).
 *
 * A thread that comes from outside takes the domain, unless it is not attached to the interpreter (it
 * started in the extension, or is between Py_BEGIN_ALLOW_THREADS and Py_END_ALLOW_THREADS). Calls that leave
 * the extension lend all domains of the thread: others may take them over when the call runs Python code or
 * waits, which is where it would give up a GIL. Waiting for a domain gives all up, and detaches the thread.
 *
 * Functions that are not inline are weak and hidden: one of each in a shared object. */
#ifndef AME_EXTENSION_DOMAIN_H
#define AME_EXTENSION_DOMAIN_H
#pragma GCC system_header
#include "../../runtime/include/ame_rt.h"

#define AME_EXTENSION_ONE __attribute__((weak, visibility("hidden"), used))
#define AME_EXTENSION_SLOW AME_EXTENSION_ONE __attribute__((noinline))
#define AME_EXTENSION_FAST static inline __attribute__((always_inline, used))

#ifdef __cplusplus
extern "C" {
#endif

#ifdef Py_GIL_DISABLED
#define AME_EXTENSION_RAISED(thread) ((thread)->current_exception)
#define AME_EXTENSION_DEPTH(thread) ((thread)->c_recursion_remaining)
#define AME_EXTENSION_IS_IMMORTAL(object) _Py_IsImmortal(object)
#define ame_extension_attached_state PyThreadState_GetUnchecked
#define AME_EXTENSION_HAS 0
#else
#include "gil.h"
#endif

/* --- the domain ---------------------------------------------------------------------------------- */

AME_EXTENSION_ONE struct ame_domain *ame_extension_domain;

#ifndef Py_GIL_DISABLED
AME_EXTENSION_ONE void ame_extension_before_fork(void);
AME_EXTENSION_ONE void ame_extension_after_fork(void);
#endif

/* The linker's: where this shared object begins and ends. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));

/* AME_EXTENSION_DOMAIN is what -fame-domain=NAME defines. */
static __attribute__((constructor, used)) void
ame_extension_start(void)
{
    if (ame_extension_domain == NULL) {
#ifdef AME_EXTENSION_DOMAIN
        extern struct ame_domain *ame_domain_open(const char *);
        ame_extension_domain = ame_domain_open(AME_EXTENSION_DOMAIN);
#else
        ame_extension_domain = ame_domain_of_module(&ame_extension_domain);
#endif
        if (ame_extension_domain == NULL) {
            Py_FatalError("ame: too many domains: build extensions with one name, -fame-domain=NAME");
        }
        ame_domain_add_code(ame_extension_domain, __ehdr_start, _end);
#ifndef Py_GIL_DISABLED
        ame_domain_set_gil(ame_extension_domain, &ame_extension_gil);
        pthread_atfork(ame_extension_before_fork, ame_extension_after_fork, ame_extension_after_fork);
#endif
    }
}

/* Inside: the collector, while all other threads are stopped, perhaps one that has the domain. */
#define AME_EXTENSION_STOPPED ((struct ame_domain *)1)

#ifdef Py_GIL_DISABLED
/* Whether the thread waits for the lock of an object, as it is found in its list of critical sections. */
AME_EXTENSION_FAST int
ame_extension_waits_for_object(PyThreadState *thread)
{
    uintptr_t innermost = __atomic_load_n(&thread->critical_section, __ATOMIC_RELAXED) & ~(uintptr_t)3;
    PyCriticalSection *section = (PyCriticalSection *)innermost;
    /* On the thread's stack, which is there even if the section has ended since. */
    return section != NULL && __atomic_load_n(&section->_cs_mutex, __ATOMIC_RELAXED) == NULL;
}

/* Whether a domain may be taken from the thread that has lent it: if a GIL would have been. That is asked for after
 * the switch interval, and Python code gives it up: code which the thread did not run when it made the call. What
 * blocks gives it up at once, being detached, and in a system call. A thread that waits for a lock of the
 * interpreter's own is detached as well, or goes on waiting for the collector; but with a GIL there would be no such
 * lock, and others must not come between. Some waits are like these and are none (a queue's): hence the patience. */
#define AME_EXTENSION_SWITCH 5000000
#define AME_EXTENSION_BLOCKED 100000
#define AME_EXTENSION_PATIENCE 100000000

AME_EXTENSION_SLOW int
ame_extension_may(void *lender, void *place, uint64_t waited, uint64_t lent)
{
    PyThreadState *thread = (PyThreadState *)lender;
    if (Py_IsFinalizing()) {
        /* Others never run Python code again, and what is known of them may have been freed. */
        return 1;
    }
    if (waited >= AME_EXTENSION_SWITCH &&
        __atomic_load_n(&thread->current_frame, __ATOMIC_RELAXED) != place) {
        return 1;
    }
    /* 1: _Py_THREAD_ATTACHED */
    if (waited < AME_EXTENSION_BLOCKED || __atomic_load_n(&thread->state, __ATOMIC_RELAXED) == 1) {
        return 0;
    }
    return ame_domain_is_blocked(thread->native_thread_id) ||
           (lent >= AME_EXTENSION_PATIENCE && !ame_extension_waits_for_object(thread));
}
#endif

/* An object that tp_dealloc is freeing. */
struct ame_extension_dying {
    PyObject *object;
    struct ame_extension_dying *outer;
    int enters;     /* its deallocator has not begun */
};

/* The collector may run while the thread waits for the domain. It takes objects that it knows, and to which there are
 * no references, for garbage, and frees them a second time. So it must not know the one whose deallocator the thread
 * wants to enter, which is what deallocators begin with. */
AME_EXTENSION_SLOW PyObject *
ame_extension_hide_dying(void)
{
    struct ame_extension_dying *dying = (struct ame_extension_dying *)ame_domain_thread.dying;
    if (dying == NULL || !dying->enters || !PyObject_GC_IsTracked(dying->object)) {
        return NULL;
    }
    PyObject_GC_UnTrack(dying->object);
    return dying->object;
}

AME_EXTENSION_SLOW enum ame_domain_taken
ame_extension_wait(struct ame_domain *domain)
{
    /* Most are held for less than it takes to sleep. */
    for (int i = 1; i <= 100; i++) {
        __builtin_ia32_pause();
        if (i % 10 == 0 && ame_domain_try_acquire(domain) != AME_DOMAIN_NO) {
            return AME_DOMAIN_FREE;
        }
    }
#ifndef Py_GIL_DISABLED
    ame_extension_crowd = AME_EXTENSION_CROWD;
#endif
    PyObject *hidden = ame_extension_hide_dying();
    PyThreadState *thread = PyEval_SaveThread();
    ame_domain_acquire(domain, ame_extension_may);
    PyEval_RestoreThread(thread);
    if (hidden != NULL) {
        PyObject_GC_Track(hidden);
    }
    return AME_DOMAIN_FREE;
}

/* Makes the thread hold the domain. */
AME_EXTENSION_FAST enum ame_domain_taken
ame_extension_take(struct ame_domain *domain)
{
    enum ame_domain_taken taken = ame_domain_try_acquire(domain);
    return taken != AME_DOMAIN_NO ? taken : ame_extension_wait(domain);
}

/* --- references that were borrowed --------------------------------------------------------------- */

/* Objects that functions lend out could be freed by other threads. The thread has a reference to each until
 * it leaves the extension. A stack, and a table of the same objects: open addressing, of places on the stack
 * from 1. What comes last goes first, so that no search ever passes an emptied place. */
struct ame_extension_kept {
    size_t room;        /* a power of two; the table has twice as many */
    PyObject *list[];
};

AME_EXTENSION_FAST uint32_t *
ame_extension_table(struct ame_extension_kept *kept)
{
    return (uint32_t *)(kept->list + kept->room);
}

/* Where the object is in the table, or belongs. */
AME_EXTENSION_FAST uint32_t *
ame_extension_find(struct ame_extension_kept *kept, PyObject *object)
{
    uint32_t *table = ame_extension_table(kept);
    size_t mask = 2 * kept->room - 1;
    size_t at = ((uintptr_t)object >> 4) * 0x9e3779b97f4a7c15u >> 20 & mask;
    while (table[at] != 0 && kept->list[table[at] - 1] != object) {
        at = (at + 1) & mask;
    }
    return &table[at];
}

AME_EXTENSION_SLOW int
ame_extension_grow(void)
{
    struct ame_domain_thread *thread = &ame_domain_thread;
    struct ame_extension_kept *old = (struct ame_extension_kept *)thread->kept;
    size_t room = old != NULL ? 2 * old->room : 64;
    size_t size = sizeof *old + room * sizeof(PyObject *) + 2 * room * sizeof(uint32_t);
    struct ame_extension_kept *kept =
        room > UINT32_MAX / 2 ? NULL : (struct ame_extension_kept *)calloc(1, size);
    if (kept == NULL) {
        return 0;
    }
    kept->room = room;
    for (size_t i = 0; i < thread->n_kept; i++) {
        kept->list[i] = old->list[i];
        *ame_extension_find(kept, kept->list[i]) = (uint32_t)i + 1;
    }
    free(old);
    thread->kept = kept;
    return 1;
}

/* Takes a reference over (or NULL), until the thread leaves. To what is being freed, which a table of all objects may
 * still lend, none is kept. */
AME_EXTENSION_SLOW PyObject *
ame_extension_keep(PyObject *object)
{
    struct ame_domain_thread *thread = &ame_domain_thread;
    if (object == NULL || AME_EXTENSION_IS_IMMORTAL(object)) {
        return object;
    }
#ifndef Py_GIL_DISABLED
    if (thread->spares == AME_EXTENSION_HAS) {
        /* It has the GIL, as it always had. */
        Py_DECREF(object);
        return object;
    }
#endif
    struct ame_extension_dying *dying = (struct ame_extension_dying *)thread->dying;
    for (; dying != NULL; dying = dying->outer) {
        if (dying->object == object) {
            Py_DECREF(object);
            return object;
        }
    }
    struct ame_extension_kept *kept = (struct ame_extension_kept *)thread->kept;
    if (kept == NULL || thread->n_kept == kept->room) {
        if (!ame_extension_grow()) {
            /* No memory: it lives forever. */
            return object;
        }
        kept = (struct ame_extension_kept *)thread->kept;
    }
    uint32_t *place = ame_extension_find(kept, object);
    if (*place != 0) {
        Py_DECREF(object);
    }
    else {
        kept->list[thread->n_kept] = object;
        *place = (uint32_t)++thread->n_kept;
    }
    return object;
}

/* Gives references up, down to so many. The thread is outside of the extension. */
AME_EXTENSION_SLOW void
ame_extension_let_go(uint64_t down_to)
{
    struct ame_domain_thread *thread = &ame_domain_thread;
    PyObject *raised = PyErr_GetRaisedException();
    while (thread->n_kept > down_to) {
        struct ame_extension_kept *kept = (struct ame_extension_kept *)thread->kept;
        PyObject *last = kept->list[thread->n_kept - 1];
        *ame_extension_find(kept, last) = 0;
        thread->n_kept--;
        Py_DECREF(last);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

/* --- entries ------------------------------------------------------------------------------------- */

struct ame_extension_frame {
    struct ame_domain *outer;   /* what the thread was in */
    uint64_t kept;              /* how many references it had */
    uint64_t taken;             /* enum ame_domain_taken */
    void *place;                /* where it had lent the domain */
#ifndef Py_GIL_DISABLED
    struct ame_elided_entry *entry;
    uint64_t spares;            /* what the outer entry did */
    uint64_t cycles, stretches; /* that it has run without the GIL */
    uint64_t holds;             /* the domain, from its begin on */
#endif
};

#ifndef Py_GIL_DISABLED
AME_EXTENSION_SLOW void ame_extension_weigh(struct ame_extension_frame *frame);
#endif

/* What an entry does with the GIL, until it ends. */
AME_EXTENSION_FAST void
ame_extension_begin_sparing(struct ame_extension_frame *frame, uint32_t spares)
{
#ifndef Py_GIL_DISABLED
    frame->spares = ame_domain_thread.spares;
    frame->cycles = ame_extension_spared.cycles;
    frame->stretches = ame_extension_spared.stretches;
    ame_domain_thread.spares = spares;
    frame->entry = NULL;
    ame_extension_spared.cycles = ame_extension_spared.stretches = 0;
#else
    (void)frame, (void)spares;
#endif
}

AME_EXTENSION_FAST void
ame_extension_end_sparing(struct ame_extension_frame *frame)
{
#ifndef Py_GIL_DISABLED
    ame_extension_need_gil();
    if (frame->entry != NULL) {
        ame_extension_weigh(frame);
    }
    ame_domain_thread.spares = (uint32_t)frame->spares;
    ame_extension_spared.cycles = frame->cycles;
    ame_extension_spared.stretches = frame->stretches;
#else
    (void)frame;
#endif
}

AME_EXTENSION_SLOW void
ame_extension_come_in(struct ame_extension_frame *frame)
{
    struct ame_domain_thread *thread = &ame_domain_thread;
    if (frame->outer == AME_EXTENSION_STOPPED ||
        (frame->outer == NULL && ame_extension_attached_state() == NULL)) {
        frame->taken = AME_DOMAIN_NO;
        return;
    }
    ame_extension_begin_sparing(frame, AME_EXTENSION_HAS);
    frame->kept = thread->n_kept;
    frame->taken = ame_extension_take(ame_extension_domain);
    frame->place = thread->place;
    thread->entries++;
    thread->inside = ame_extension_domain;
}

AME_EXTENSION_SLOW void
ame_extension_go_out(struct ame_extension_frame *frame)
{
    struct ame_domain_thread *thread = &ame_domain_thread;
    if (frame->taken == AME_DOMAIN_NO) {
        /* It was not attached when it came in, has attached, and stays so outside. */
        ame_domain_release_all();
        thread->inside = NULL;
        return;
    }
    ame_extension_end_sparing(frame);
    thread->entries--;
    if (thread->inside == NULL) {
        /* It has detached, and stays so. */
        return;
    }
    if (frame->taken == AME_DOMAIN_FREE) {
        ame_domain_release(ame_extension_domain);
    }
    else if (frame->taken == AME_DOMAIN_LENT) {
        /* The call further out goes on. */
        ame_domain_lend(ame_extension_domain, ame_extension_attached_state(), frame->place);
    }
    thread->inside = NULL;
    if (thread->n_kept > frame->kept) {
        if (frame->outer != NULL) {
            ame_domain_release_all();
        }
        ame_extension_let_go(frame->kept);
    }
    if (frame->outer != NULL) {
        /* It goes on in a domain that it may have lent, or lost. */
        ame_extension_take(frame->outer);
        thread->inside = frame->outer;
    }
}

/* By a thread that is in no domain. Costs two loads where there is no bias, and no atomic instruction where there is. On
 * Pythons with a GIL there is none. */
AME_EXTENSION_FAST int
ame_extension_enter_biased(struct ame_extension_frame *frame, int is_attached)
{
#ifndef Py_GIL_DISABLED
    (void)is_attached;
    return 0;
#else
    struct ame_domain_thread *thread = &ame_domain_thread;
    struct ame_domain *domain = ame_extension_domain;
    uint32_t *inside = &domain->inside[thread->slot];
    if (__atomic_load_n(&domain->word, __ATOMIC_RELAXED) != thread->biased || *inside != 0 ||
        (!is_attached && PyThreadState_GetUnchecked() == NULL)) {
        return 0;
    }
    __atomic_store_n(inside, 1, __ATOMIC_RELAXED);
    /* What orders the store and the load is the other side's membarrier. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (__builtin_expect(__atomic_load_n(&domain->word, __ATOMIC_RELAXED) != thread->biased, 0) &&
        !ame_domain_enter_without_bias(domain)) {
        return 0;
    }
    __atomic_store_n(&domain->entries, domain->entries + 1, __ATOMIC_RELAXED);
    thread->held[thread->n_held++] = domain;
    frame->kept = thread->n_kept;
    frame->taken = AME_DOMAIN_FREE;
    thread->entries++;
    thread->inside = domain;
    return 1;
#endif
}

/* Back to no domain at all, if the thread has just this one by a bias, and no references to let go. */
AME_EXTENSION_FAST int
ame_extension_leave_biased(struct ame_extension_frame *frame)
{
    struct ame_domain_thread *thread = &ame_domain_thread;
    struct ame_domain *domain = ame_extension_domain;
    if (frame->outer != NULL || frame->taken != AME_DOMAIN_FREE || thread->n_kept != frame->kept ||
        thread->n_held != 1 || __atomic_load_n(&domain->word, __ATOMIC_RELAXED) != thread->biased) {
        return 0;
    }
    thread->entries--;
    thread->inside = NULL;
    thread->n_held = 0;
    __atomic_store_n(&domain->inside[thread->slot], 0, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (__builtin_expect(__atomic_load_n(&domain->word, __ATOMIC_RELAXED) != thread->biased, 0)) {
        ame_domain_leave_without_bias(domain);
    }
    return 1;
}

/* Code without barriers comes next. */
AME_EXTENSION_FAST void
ame_extension_end_transaction(void)
{
#ifndef Py_GIL_DISABLED
    ame_extension_need_gil();
#endif
    if (ame_tls.inside != 0) {
        ame_elision_irrevocable("an entry that is no transaction");
    }
}

AME_EXTENSION_FAST void
ame_extension_enter_domain(struct ame_extension_frame *frame, int is_attached)
{
    frame->outer = ame_domain_thread.inside;
    if (frame->outer != ame_extension_domain &&
        (frame->outer != NULL || !ame_extension_enter_biased(frame, is_attached))) {
        ame_extension_come_in(frame);
    }
}

AME_EXTENSION_FAST void
ame_extension_enter(struct ame_extension_frame *frame)
{
    ame_extension_end_transaction();
    ame_extension_enter_domain(frame, 0);
}

/* For what only the interpreter calls. */
AME_EXTENSION_FAST void
ame_extension_enter_attached(struct ame_extension_frame *frame)
{
    ame_extension_end_transaction();
    ame_extension_enter_domain(frame, 1);
}

AME_EXTENSION_FAST void
ame_extension_leave(struct ame_extension_frame *frame)
{
    /* Equal where the extension called itself, and where the thread was not let in. */
    if (ame_domain_thread.inside != frame->outer && !ame_extension_leave_biased(frame)) {
        ame_extension_go_out(frame);
    }
}

struct ame_extension_dealloc_frame {
    struct ame_extension_frame frame;
    struct ame_extension_dying dying;
};

AME_EXTENSION_FAST void
ame_extension_enter_dealloc(struct ame_extension_dealloc_frame *frame, PyObject *object)
{
    /* First: a rollback would leave the list behind. */
    ame_extension_end_transaction();
    frame->dying.object = object;
    frame->dying.outer = (struct ame_extension_dying *)ame_domain_thread.dying;
    frame->dying.enters = 1;
    ame_domain_thread.dying = &frame->dying;
    ame_extension_enter_domain(&frame->frame, 1);
    frame->dying.enters = 0;
}

AME_EXTENSION_FAST void
ame_extension_leave_dealloc(struct ame_extension_dealloc_frame *frame)
{
    ame_domain_thread.dying = frame->dying.outer;
    ame_extension_leave(&frame->frame);
}

AME_EXTENSION_FAST void
ame_extension_stop(struct ame_extension_frame *frame)
{
    frame->outer = ame_domain_thread.inside;
    ame_domain_thread.inside = AME_EXTENSION_STOPPED;
}

#ifndef Py_GIL_DISABLED
/* For the collector, which has the GIL, and does not stop threads that run without it: while there are some it learns
 * nothing of what the extension's objects refer to, so that all that lives on. It never sees a mixture, because
 * none of them begins or ends such a stretch without the GIL. */
AME_EXTENSION_FAST int
ame_extension_skips_traversal(void)
{
    return ame_domain_detached(0) != 0;
}
#endif

AME_EXTENSION_FAST void
ame_extension_go_on(struct ame_extension_frame *frame)
{
    ame_domain_thread.inside = frame->outer;
}

/* A child of fork has what memory holds then, so nobody else may be in the domain. os.fork asks for it while this
 * thread may still wait: free-threaded CPython stops all threads afterwards, also one that waits in a transaction
 * for an object. Until the fork the domain is lent: other things that are asked before may wait for threads that wait
 * for the domain. (One of them may then get it, as where other calls leave.) */
AME_EXTENSION_ONE __thread int ame_extension_forks;

AME_EXTENSION_FAST void
ame_extension_lend_for_fork(void *place)
{
    ame_domain_lend(ame_extension_domain, ame_extension_attached_state(), place);
}

AME_EXTENSION_SLOW PyObject *
ame_extension_before_os_fork(PyObject *self, PyObject *arguments)
{
    (void)self, (void)arguments;
    enum ame_domain_taken taken = ame_extension_take(ame_extension_domain);
    if (taken == AME_DOMAIN_FREE) {
        ame_extension_forks = 1;
#ifdef Py_GIL_DISABLED
        ame_extension_lend_for_fork(ame_extension_attached_state()->current_frame);
#else
        ame_extension_lend_for_fork(NULL);
#endif
    }
    else if (taken == AME_DOMAIN_LENT) {
        /* By a call further out. */
        ame_extension_lend_for_fork(ame_domain_thread.place);
    }
    Py_RETURN_NONE;
}

AME_EXTENSION_SLOW PyObject *
ame_extension_after_os_fork(PyObject *self, PyObject *arguments)
{
    (void)self, (void)arguments;
    if (ame_extension_forks) {
        ame_extension_forks = 0;
        ame_extension_take(ame_extension_domain);
        ame_domain_release(ame_extension_domain);
    }
    Py_RETURN_NONE;
}

static PyMethodDef ame_extension_fork_methods[] = {
    {"ame_before_fork", ame_extension_before_os_fork, METH_NOARGS, NULL},
    {"ame_after_fork", ame_extension_after_os_fork, METH_NOARGS, NULL},
};

AME_EXTENSION_SLOW int
ame_extension_register_at_fork(void)
{
    static int done;
    if (done) {
        return 1;
    }
    PyObject *before = PyCFunction_New(&ame_extension_fork_methods[0], NULL);
    PyObject *after = before != NULL ? PyCFunction_New(&ame_extension_fork_methods[1], NULL) : NULL;
    PyObject *os = after != NULL ? PyImport_ImportModule("os") : NULL;
    PyObject *registers = os != NULL ? PyObject_GetAttrString(os, "register_at_fork") : NULL;
    PyObject *none = registers != NULL ? PyTuple_New(0) : NULL;
    PyObject *keywords = none == NULL ? NULL : Py_BuildValue("{s:O,s:O,s:O}", "before", before, "after_in_parent",
                                                             after, "after_in_child", after);
    PyObject *result = keywords != NULL ? PyObject_Call(registers, none, keywords) : NULL;
    Py_XDECREF(keywords);
    Py_XDECREF(none);
    Py_XDECREF(registers);
    Py_XDECREF(os);
    Py_XDECREF(after);
    Py_XDECREF(before);
    Py_XDECREF(result);
    return done = result != NULL;
}

#ifndef Py_GIL_DISABLED

/* Around fork itself, which others call than os.fork. Held, because nothing stops threads that run without the GIL. */
AME_EXTENSION_ONE __thread enum ame_domain_taken ame_extension_fork_took = AME_DOMAIN_NO;

AME_EXTENSION_ONE void
ame_extension_before_fork(void)
{
    if (ame_domain_thread.inside != AME_EXTENSION_STOPPED && ame_extension_attached_state() != NULL) {
        ame_extension_fork_took = ame_extension_take(ame_extension_domain);
    }
}

AME_EXTENSION_ONE void
ame_extension_after_fork(void)
{
    enum ame_domain_taken taken = ame_extension_fork_took;
    ame_extension_fork_took = AME_DOMAIN_NO;
    if (taken == AME_DOMAIN_FREE) {
        ame_domain_release(ame_extension_domain);
    }
    else if (taken == AME_DOMAIN_LENT) {
        ame_extension_lend_for_fork(ame_domain_thread.place);
    }
}

/* What PyInit_NAME returns. */
AME_EXTENSION_SLOW PyObject *
ame_extension_module(PyObject *module)
{
    return module != NULL && ame_extension_register_at_fork() ? module : NULL;
}

#else

/* What PyInit_NAME returns: the module, or its definition, which gets a slot. */
AME_EXTENSION_SLOW PyObject *
ame_extension_module(PyObject *module)
{
    if (module == NULL || !ame_extension_register_at_fork()) {
        return NULL;
    }
    if (!PyObject_TypeCheck(module, &PyModuleDef_Type)) {
        return PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED) < 0 ? NULL : module;
    }
    PyModuleDef *definition = (PyModuleDef *)module;
    size_t n = 0;
    if (definition->m_slots != NULL) {
        for (; definition->m_slots[n].slot != 0; n++) {
            if (definition->m_slots[n].slot == Py_mod_gil) {
                definition->m_slots[n].value = Py_MOD_GIL_NOT_USED;
                return module;
            }
        }
    }
    PyModuleDef_Slot *slots = (PyModuleDef_Slot *)calloc(n + 2, sizeof *slots);
    if (slots == NULL) {
        return PyErr_NoMemory();
    }
    for (size_t i = 0; i < n; i++) {
        slots[i] = definition->m_slots[i];
    }
    slots[n].slot = Py_mod_gil;
    slots[n].value = Py_MOD_GIL_NOT_USED;
    /* For good: the definition is static. */
    definition->m_slots = slots;
    return module;
}

#endif

/* --- calls that leave ---------------------------------------------------------------------------- */

/* Lends the only domain that the thread holds, if it has that by a bias: without an atomic instruction. */
AME_EXTENSION_FAST int
ame_extension_lend_biased(void)
{
#ifndef Py_GIL_DISABLED
    return 0;
#else
    struct ame_domain_thread *thread = &ame_domain_thread;
    struct ame_domain *domain = thread->inside;
    uint32_t *inside = &domain->inside[thread->slot];
    if (__atomic_load_n(&domain->word, __ATOMIC_RELAXED) != thread->biased || thread->n_held != 1 || *inside != 1) {
        return 0;
    }
    PyThreadState *state = PyThreadState_GetUnchecked();
    __atomic_store_n(&domain->lender, (void *)state, __ATOMIC_RELAXED);
    __atomic_store_n(&domain->place, (void *)state->current_frame, __ATOMIC_RELAXED);
    __atomic_store_n(&domain->loans, domain->loans + 1, __ATOMIC_RELAXED);
    __atomic_store_n(inside, 2, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (__builtin_expect(__atomic_load_n(&domain->word, __ATOMIC_RELAXED) != thread->biased, 0)) {
        ame_domain_lend_without_bias(domain);
    }
    thread->inside = NULL;
    return 1;
#endif
}

/* Claims back what the thread has lent in this way, if it still has the bias. */
AME_EXTENSION_FAST int
ame_extension_claim_biased(struct ame_domain *domain)
{
#ifndef Py_GIL_DISABLED
    (void)domain;
    return 0;
#else
    struct ame_domain_thread *thread = &ame_domain_thread;
    uint32_t *inside = &domain->inside[thread->slot];
    if (__atomic_load_n(&domain->word, __ATOMIC_RELAXED) != thread->biased || *inside != 2) {
        return 0;
    }
    __atomic_store_n(inside, 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return __builtin_expect(__atomic_load_n(&domain->word, __ATOMIC_RELAXED) == thread->biased, 1) ||
           ame_domain_claim_without_bias(domain);
#endif
}

AME_EXTENSION_SLOW void
ame_extension_lend(void)
{
    if (ame_tls.inside != 0) {
        ame_elision_irrevocable("a call that may run Python code");
    }
    else if (ame_extension_lend_biased()) {
        return;
    }
    PyThreadState *thread = ame_extension_attached_state();
#ifdef Py_GIL_DISABLED
    ame_domain_lend_all(thread, thread->current_frame);
#else
    ame_domain_lend_all(thread, NULL);
#endif
    ame_domain_thread.inside = NULL;
    if (ame_elision_waits()) {
        ame_elision_run(1);
    }
}

/* What to go on in afterwards; NULL: nothing has changed. */
AME_EXTENSION_FAST struct ame_domain *
ame_extension_out(void)
{
    struct ame_domain *inside = ame_domain_thread.inside;
    if (inside == NULL || inside == AME_EXTENSION_STOPPED) {
        return NULL;
    }
    ame_extension_lend();
    return inside;
}

AME_EXTENSION_SLOW void
ame_extension_take_again(struct ame_domain *inside)
{
    if (!ame_extension_claim_biased(inside)) {
        ame_extension_take(inside);
    }
    ame_domain_thread.inside = inside;
}

AME_EXTENSION_FAST void
ame_extension_back(struct ame_domain *inside)
{
    if (inside != NULL) {
        ame_extension_take_again(inside);
    }
}

AME_EXTENSION_FAST int
ame_extension_is_own(const void *function)
{
    return (const char *)function >= __ehdr_start && (const char *)function < _end;
}

/* Functions of other objects that stay in, each at a place that its address gives. Never emptied: extensions are not
 * unloaded. */
#define AME_EXTENSION_STAYING 64
AME_EXTENSION_ONE const void *ame_extension_staying[AME_EXTENSION_STAYING];

AME_EXTENSION_FAST const void **
ame_extension_staying_place(const void *target)
{
    return &ame_extension_staying[((uintptr_t)target >> 4) % AME_EXTENSION_STAYING];
}

AME_EXTENSION_SLOW struct ame_domain *
ame_extension_out_to_foreign(const void *target)
{
    /* In type slots; they allocate and free memory, and run nothing. */
    if (target == (const void *)PyType_GenericAlloc || target == (const void *)PyObject_Free ||
        target == (const void *)PyObject_GC_Del || ame_domain_stays_in(ame_extension_domain, target)) {
        __atomic_store_n(ame_extension_staying_place(target), target, __ATOMIC_RELAXED);
        return NULL;
    }
    return ame_extension_out();
}

/* By pointer: the extension's own functions stay in. */
AME_EXTENSION_FAST struct ame_domain *
ame_extension_out_to(const void *target)
{
    if (ame_extension_is_own(target)) {
        return NULL;
    }
#ifndef Py_GIL_DISABLED
    ame_extension_need_gil();
#endif
    if (__atomic_load_n(ame_extension_staying_place(target), __ATOMIC_RELAXED) == target) {
        return NULL;
    }
    return ame_extension_out_to_foreign(target);
}

/* Whether the object is hashed, compared, converted and freed by code of CPython's alone. */
AME_EXTENSION_FAST int
ame_extension_is_simple(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    return type == &PyUnicode_Type || type == &PyLong_Type || type == &PyBytes_Type ||
           type == &PyFloat_Type || type == &PyBool_Type || object == Py_None;
}

/* For calls that run code of the objects' types. */
AME_EXTENSION_FAST struct ame_domain *
ame_extension_out_for(PyObject *one, PyObject *other)
{
    if (one == NULL || other == NULL ||
        (ame_extension_is_simple(one) && ame_extension_is_simple(other))) {
        return NULL;
    }
    return ame_extension_out();
}

/* A tuple of such objects; only short ones are looked through. */
AME_EXTENSION_SLOW int
ame_extension_is_simple_tuple(PyObject *object)
{
    if (!PyTuple_CheckExact(object) || PyTuple_GET_SIZE(object) > 8) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); i++) {
        PyObject *item = PyTuple_GET_ITEM(object, i);
        if (item != NULL && !ame_extension_is_simple(item)) {
            return 0;
        }
    }
    return 1;
}

/* For calls that convert the items of a tuple. */
AME_EXTENSION_FAST struct ame_domain *
ame_extension_out_for_items(PyObject *tuple)
{
    return tuple != NULL && ame_extension_is_simple_tuple(tuple) ? NULL : ame_extension_out();
}

/* For container[key]. */
AME_EXTENSION_FAST struct ame_domain *
ame_extension_out_for_item(PyObject *container, PyObject *key)
{
    if (container != NULL && key != NULL && ame_extension_is_simple(key) &&
        (PyDict_CheckExact(container) || PyList_CheckExact(container) || PyTuple_CheckExact(container))) {
        return NULL;
    }
    return ame_extension_out();
}

/* By pointer, with two arguments that are pointers. */
AME_EXTENSION_FAST struct ame_domain *
ame_extension_out_to_slot(const void *target, void *one, void *other)
{
    if (target == (const void *)PyDict_Type.tp_as_mapping->mp_subscript) {
        return ame_extension_out_for_item((PyObject *)one, (PyObject *)other);
    }
    return ame_extension_out_to(target);
}

/* --- reference counts: most changes free nothing ------------------------------------------------- */

#ifdef Py_GIL_DISABLED
/* Gives a shared reference up, where neither the object is freed nor the thread that owns it has to be told. */
AME_EXTENSION_FAST int
ame_extension_decref_one_of_many(PyObject *object, int *merged)
{
    Py_ssize_t shared = _Py_atomic_load_ssize_relaxed(&object->ob_ref_shared);
    const Py_ssize_t one = (Py_ssize_t)1 << _Py_REF_SHARED_SHIFT;
    *merged = (shared & _Py_REF_SHARED_FLAG_MASK) == _Py_REF_MERGED;
    while (shared >= 2 * one || (shared >= one && !*merged)) {
        if (_Py_atomic_compare_exchange_ssize(&object->ob_ref_shared, &shared, shared - one)) {
            return 1;
        }
        *merged = (shared & _Py_REF_SHARED_FLAG_MASK) == _Py_REF_MERGED;
    }
    return 0;
}

/* In a transaction: not where it is the last one. */
AME_EXTENSION_FAST int
ame_extension_decref_not_last(PyObject *object)
{
    int merged;
    if (!_Py_IsOwnedByCurrentThread(object)) {
        return ame_extension_decref_one_of_many(object, &merged);
    }
    uint32_t local = _Py_atomic_load_uint32_relaxed(&object->ob_ref_local);
    if (local < 2) {
        return 0;
    }
    _Py_atomic_store_uint32_relaxed(&object->ob_ref_local, local - 1);
    return 1;
}

AME_EXTENSION_SLOW void
ame_extension_decref_shared(PyObject *object)
{
    int merged;
    if (ame_extension_decref_one_of_many(object, &merged)) {
        return;
    }
    /* Lent only where it is freed: to tell the owner needs a lock of the interpreter, which detaches threads that
     * wait, in the middle of what is a step with a GIL. */
    struct ame_domain *inside = merged ? ame_extension_out() : NULL;
    _Py_DecRefShared(object);
    ame_extension_back(inside);
}

AME_EXTENSION_SLOW void
ame_extension_decref_last(PyObject *object)
{
    /* A deallocator of the extension lends the domain itself where it has to. */
    int stays = _Py_atomic_load_ssize_relaxed(&object->ob_ref_shared) >> _Py_REF_SHARED_SHIFT > 0 ||
                ame_extension_is_simple(object) || ame_extension_is_simple_tuple(object) ||
                ame_extension_is_own((const void *)Py_TYPE(object)->tp_dealloc);
    struct ame_domain *inside = stays ? NULL : ame_extension_out();
    _Py_MergeZeroLocalRefcount(object);
    ame_extension_back(inside);
}

/* With the domain held. */
AME_EXTENSION_FAST void
ame_extension_decref_held(PyObject *object)
{
    if (!_Py_IsOwnedByCurrentThread(object)) {
        ame_extension_decref_shared(object);
        return;
    }
    uint32_t local = _Py_atomic_load_uint32_relaxed(&object->ob_ref_local) - 1;
    _Py_atomic_store_uint32_relaxed(&object->ob_ref_local, local);
    if (local == 0) {
        ame_extension_decref_last(object);
    }
}
#else
/* In a transaction: not where it is the last one. */
AME_EXTENSION_FAST int
ame_extension_decref_not_last(PyObject *object)
{
    if (Py_REFCNT(object) < 2) {
        return 0;
    }
    Py_DECREF(object);
    return 1;
}

/* With the domain held. */
AME_EXTENSION_FAST void
ame_extension_decref_held(PyObject *object)
{
    struct ame_domain *inside = Py_REFCNT(object) == 1 ? ame_extension_out() : NULL;
    Py_DECREF(object);
    ame_extension_back(inside);
}
#endif

/* PyErr_Occurred(), in a thread that is attached. */
AME_EXTENSION_FAST int
ame_extension_has_error(void)
{
#ifdef Py_GIL_DISABLED
    return AME_EXTENSION_RAISED(PyThreadState_GetUnchecked()) != NULL;
#else
    return PyErr_Occurred() != NULL;
#endif
}

/* Often nothing is there to clear. */
AME_EXTENSION_SLOW void
ame_extension_clear_error(void)
{
    if (!ame_extension_has_error()) {
        return;
    }
    if (ame_tls.inside != 0) {
        /* An exception of CPython's own, which this transaction has raised. */
        PyErr_Clear();
        return;
    }
    struct ame_domain *inside = ame_extension_out();
    PyErr_Clear();
    ame_extension_back(inside);
}

/* --- threads ------------------------------------------------------------------------------------- */

/* Attached: in the extension, if it was a call of the extension that attached it. */
AME_EXTENSION_SLOW void
ame_extension_attached(void)
{
    ame_extension_take(ame_extension_domain);
    ame_domain_thread.inside = ame_extension_domain;
}

/* About to be detached. */
AME_EXTENSION_SLOW void
ame_extension_detach(void)
{
    if (ame_tls.inside != 0) {
        ame_elision_irrevocable("a call that detaches the thread");
    }
    ame_domain_release_all();
    ame_domain_thread.inside = NULL;
}

AME_EXTENSION_SLOW PyThreadState *
ame_extension_save_thread(void)
{
    ame_extension_detach();
    return PyEval_SaveThread();
}

AME_EXTENSION_SLOW void
ame_extension_restore_thread(PyThreadState *thread)
{
    PyEval_RestoreThread(thread);
    ame_extension_attached();
}

AME_EXTENSION_SLOW void
ame_extension_acquire_thread(PyThreadState *thread)
{
    PyEval_AcquireThread(thread);
    ame_extension_attached();
}

AME_EXTENSION_SLOW void
ame_extension_release_thread(PyThreadState *thread)
{
    ame_extension_detach();
    PyEval_ReleaseThread(thread);
}

AME_EXTENSION_SLOW PyThreadState *
ame_extension_swap_thread(PyThreadState *thread)
{
    ame_extension_detach();
    PyThreadState *old = PyThreadState_Swap(thread);
    if (thread != NULL) {
        ame_extension_attached();
    }
    return old;
}

AME_EXTENSION_SLOW void
ame_extension_delete_thread(void)
{
    ame_extension_detach();
    PyThreadState_DeleteCurrent();
}

/* Beside the two states that PyGILState_Ensure returns. */
#define AME_EXTENSION_ENTERED 2

AME_EXTENSION_SLOW PyGILState_STATE
ame_extension_ensure(void)
{
    if (ame_domain_thread.inside != NULL) {
        return PyGILState_Ensure();
    }
    int state = PyGILState_Ensure();
    ame_extension_attached();
    return (PyGILState_STATE)(state | AME_EXTENSION_ENTERED);
}

AME_EXTENSION_SLOW void
ame_extension_release(PyGILState_STATE state)
{
    if (state & AME_EXTENSION_ENTERED) {
        ame_extension_detach();
        if (ame_domain_thread.entries == 0) {
            ame_extension_let_go(0);
        }
    }
    PyGILState_Release((PyGILState_STATE)(state & ~AME_EXTENSION_ENTERED));
}

/* --- functions that lend references out ---------------------------------------------------------- */

/* Of functions that hide errors: what was raised before they are called, for afterwards. Mostly nothing is. */
static inline PyObject *
ame_extension_put_aside(void)
{
    return ame_extension_has_error() ? PyErr_GetRaisedException() : NULL;
}

static inline void
ame_extension_hide(PyObject *result, PyObject *aside)
{
    if (result == NULL && ame_extension_has_error()) {
        PyErr_Clear();
    }
    if (aside != NULL) {
        PyErr_SetRaisedException(aside);
    }
}

AME_EXTENSION_SLOW PyObject *
ame_extension_list_get_item(PyObject *list, Py_ssize_t index)
{
    return ame_extension_keep(PyList_GetItemRef(list, index));
}

#ifdef Py_GIL_DISABLED
/* With a reference, as list_get_item_ref() of CPython's Objects/listobject.c: an item that is never freed, or is counted
 * without atomic instructions; else NULL. */
AME_EXTENSION_FAST PyObject *
ame_extension_list_get_own(PyObject *list, Py_ssize_t index)
{
    /* _PyGC_BITS_SHARED of pycore_gc.h. */
    enum { SHARED = 16 };
    if (!_Py_IsOwnedByCurrentThread(list) && (_Py_atomic_load_uint8_relaxed(&list->ob_gc_bits) & SHARED) == 0) {
        return NULL;
    }
    size_t at = (size_t)index;
    if (at >= (size_t)_Py_atomic_load_ssize_relaxed(&((PyVarObject *)list)->ob_size)) {
        return NULL;
    }
    PyObject **items = (PyObject **)_Py_atomic_load_ptr(&((PyListObject *)list)->ob_item);
    /* In front of the items is how many there is room for: the size may be that of another array. */
    if (items == NULL || at >= ((const size_t *)items)[-1]) {
        return NULL;
    }
    PyObject *item = (PyObject *)_Py_atomic_load_ptr(&items[at]);
    if (item == NULL) {
        return NULL;
    }
    if (!AME_EXTENSION_IS_IMMORTAL(item)) {
        if (!_Py_IsOwnedByCurrentThread(item)) {
            return NULL;
        }
        /* Only this thread frees it, and is here. */
        Py_INCREF(item);
        return item;
    }
    /* Else it may have been another object when it was in the list. */
    return (PyObject *)_Py_atomic_load_ptr(&items[at]) == item ? item : NULL;
}
#endif

/* The macro asks for nothing. Where another thread has made the list shorter since, there is None. */
AME_EXTENSION_SLOW PyObject *
ame_extension_list_item(PyObject *list, Py_ssize_t index)
{
#ifndef Py_GIL_DISABLED
    if (ame_domain_thread.spares == AME_EXTENSION_HAS) {
        return ((PyListObject *)list)->ob_item[index];
    }
#else
    PyObject *own = ame_extension_list_get_own(list, index);
    if (own != NULL) {
        return ame_extension_keep(own);
    }
#endif
    PyObject *aside = ame_extension_put_aside();
    PyObject *item = PyList_GetItemRef(list, index);
    ame_extension_hide(item, aside);
    return item != NULL ? ame_extension_keep(item) : Py_None;
}

AME_EXTENSION_FAST PyObject *
ame_extension_dict_find(PyObject *dict, PyObject *key)
{
    PyObject *value = NULL;
    if (!PyDict_Check(dict)) {
        PyErr_BadInternalCall();
        return NULL;
    }
    struct ame_domain *inside = ame_extension_out_for(key, key);
    PyDict_GetItemRef(dict, key, &value);
    ame_extension_back(inside);
    return ame_extension_keep(value);
}

AME_EXTENSION_SLOW PyObject *
ame_extension_dict_get_item_with_error(PyObject *dict, PyObject *key)
{
    return ame_extension_dict_find(dict, key);
}

AME_EXTENSION_SLOW PyObject *
ame_extension_dict_get_item(PyObject *dict, PyObject *key)
{
    if (dict == NULL || !PyDict_Check(dict)) {
        return NULL;
    }
    PyObject *aside = ame_extension_put_aside();
    PyObject *value = ame_extension_dict_find(dict, key);
    ame_extension_hide(value, aside);
    return value;
}

AME_EXTENSION_SLOW PyObject *
ame_extension_dict_get_item_string(PyObject *dict, const char *key)
{
    PyObject *value = NULL;
    PyObject *aside = ame_extension_put_aside();
    PyDict_GetItemStringRef(dict, key, &value);
    ame_extension_hide(value, aside);
    return ame_extension_keep(value);
}

AME_EXTENSION_SLOW PyObject *
ame_extension_dict_get_item_string_with_error(PyObject *dict, const char *key)
{
    PyObject *value = NULL;
    PyDict_GetItemStringRef(dict, key, &value);
    return ame_extension_keep(value);
}

AME_EXTENSION_SLOW PyObject *
ame_extension_dict_get_item_known_hash(PyObject *dict, PyObject *key, Py_hash_t hash)
{
    (void)hash;
    return ame_extension_dict_get_item_with_error(dict, key);
}

AME_EXTENSION_SLOW PyObject *
ame_extension_dict_set_default(PyObject *dict, PyObject *key, PyObject *value)
{
    PyObject *result = NULL;
    struct ame_domain *inside = ame_extension_out_for(key, key);
    PyDict_SetDefaultRef(dict, key, value, &result);
    ame_extension_back(inside);
    return ame_extension_keep(result);
}

AME_EXTENSION_SLOW int
ame_extension_dict_next(PyObject *dict, Py_ssize_t *place, PyObject **key, PyObject **value)
{
    PyObject *k = NULL, *v = NULL;
    int more;
    Py_BEGIN_CRITICAL_SECTION(dict);
    more = PyDict_Next(dict, place, &k, &v);
    if (more) {
        Py_INCREF(k);
        Py_INCREF(v);
    }
    Py_END_CRITICAL_SECTION();
    if (more) {
        ame_extension_keep(k);
        ame_extension_keep(v);
        if (key != NULL) {
            *key = k;
        }
        if (value != NULL) {
            *value = v;
        }
    }
    return more;
}

AME_EXTENSION_SLOW PyObject *
ame_extension_weakref_get_object(PyObject *reference)
{
    PyObject *object = NULL;
    int found = PyWeakref_GetRef(reference, &object);
    return found > 0 ? ame_extension_keep(object) : found == 0 ? Py_None : NULL;
}

AME_EXTENSION_SLOW PyObject *
ame_extension_cell_item(PyObject *cell)
{
    return ame_extension_keep(PyCell_Get(cell));
}

AME_EXTENSION_SLOW PyObject *
ame_extension_add_module(const char *name)
{
    struct ame_domain *inside = ame_extension_out();
    PyObject *module = PyImport_AddModuleRef(name);
    ame_extension_back(inside);
    return ame_extension_keep(module);
}

AME_EXTENSION_SLOW PyObject *
ame_extension_sys_get_object(const char *name)
{
    return ame_extension_keep(Py_XNewRef(PySys_GetObject(name)));
}

#include "elision.h"
#ifndef Py_GIL_DISABLED
#include "parallel.h"
#endif

#ifdef __cplusplus
}
#endif

#undef PyList_GET_ITEM
#define PyList_GET_ITEM(list, index) ame_extension_list_item(_PyObject_CAST(list), (index))
#undef PyWeakref_GET_OBJECT
#define PyWeakref_GET_OBJECT(reference) ame_extension_weakref_get_object(_PyObject_CAST(reference))
#undef PyCell_GET
#define PyCell_GET(cell) ame_extension_cell_item(_PyObject_CAST(cell))
#undef PyErr_GetRaisedException
#undef PyErr_SetRaisedException
#undef PyList_GetItemRef
#undef PyDict_GetItemRef
#undef PyDict_GetItemStringRef
#undef PyDict_SetDefaultRef
#undef PyWeakref_GetRef
#undef PyImport_AddModuleRef
#if PY_VERSION_HEX < 0x030d0000
#undef Py_BEGIN_CRITICAL_SECTION
#undef Py_END_CRITICAL_SECTION
#endif
#endif
