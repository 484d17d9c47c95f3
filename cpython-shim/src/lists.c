/* Free lists and the collector's lists: one of each per thread. Plain code; see track.c for the rest. */
#include "shim.h"
#include "pycore_pylifecycle.h" // _PyGC_Fini()

struct _Py_object_freelists *
ame_py_freelists(void)
{
    return &ame_py_get_self()->freelists;
}

/* A new container object is counted where it is made. */
void
ame_py_gc_link(PyObject *op)
{
    struct ame_py_thread *self = ame_py_get_self();
    PyGC_Head *gc = _Py_AS_GC(op);
    /* The object is new: its memory belongs to the transaction. */
    gc->_gc_next = 0;
    gc->_gc_prev = 0;
    PyThreadState *tstate = _PyThreadState_GET();
    struct _gc_runtime_state *state = &tstate->interp->gc;
    if (++self->allocated > state->generations[0].threshold && state->enabled &&
        state->generations[0].threshold != 0 &&
        !_Py_atomic_load_int_relaxed(&state->collecting) && tstate->current_exception == NULL &&
        !_Py_eval_breaker_bit_is_set(tstate, _PY_GC_SCHEDULED_BIT)) {
        _Py_set_eval_breaker_bit(tstate, _PY_GC_SCHEDULED_BIT);
    }
}

/* Appends a list to another one, and empties it. */
static void
move_all(PyGC_Head *from, PyGC_Head *to)
{
    PyGC_Head *first = (PyGC_Head *)from->_gc_next;
    if (first == from) {
        return;
    }
    PyGC_Head *last = (PyGC_Head *)from->_gc_prev, *end = (PyGC_Head *)to->_gc_prev;
    end->_gc_next = (uintptr_t)first;
    first->_gc_prev = (first->_gc_prev & ~_PyGC_PREV_MASK) | (uintptr_t)end;
    last->_gc_next = (uintptr_t)to;
    to->_gc_prev = (uintptr_t)last;
    from->_gc_next = from->_gc_prev = (uintptr_t)from;
}

static void
add_stats(struct gc_generation_stats *to, const struct gc_generation_stats *from)
{
    to->collections += from->collections;
    to->collected += from->collected;
    to->uncollectable += from->uncollectable;
}

/* Nobody else runs: a thread's objects become those of the first two generations. */
static void
gather_from(struct ame_py_thread *t, struct _gc_runtime_state *state)
{
    move_all(&t->young, &state->generations[0].head);
    move_all(&t->survivors, &state->generations[1].head);
    state->generations[0].count += t->allocated;
    t->allocated = 0;
    state->generations[1].count += t->collections.collections;
    add_stats(&state->generation_stats[0], &t->collections);
    t->collections = (struct gc_generation_stats){0, 0, 0};
}

static void
gather(PyInterpreterState *interp)
{
    ame_py_alone();
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        if (t->collected_by == interp) {
            gather_from(t, &interp->gc);
        }
    }
}

/* After a look at the objects, which is no collection: what was young is so again. Whose it was is not known any more, so
 * all of it, and its count, becomes this thread's. */
static void
give_back(PyInterpreterState *interp)
{
    struct ame_py_thread *self = ame_py_get_self();
    struct gc_generation *young = &interp->gc.generations[0];
    if (self->collected_by == interp) {
        move_all(&young->head, &self->young);
        self->allocated += young->count;
        young->count = 0;
    }
}

void
ame_py_change_interpreter(struct ame_py_thread *self, PyInterpreterState *interp)
{
    if (interp->finalizing && interp->gc.garbage == NULL) {
        /* Its collector has ended before; what there is then is for the next interpreter of the thread. */
        return;
    }
    if (self->collected_by != NULL) {
        ame_py_alone();
        gather_from(self, &self->collected_by->gc);
    }
    self->collected_by = interp;
}

static void
forget_interpreter(PyInterpreterState *interp)
{
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        if (t->collected_by == interp) {
            t->collected_by = NULL;
        }
    }
}

/* What threads still have of an interpreter that ends is its last, and it is told to objects that outlive it. */
void
ame_py_gc_fini(PyInterpreterState *interp)
{
    gather(interp);
    forget_interpreter(interp);
    _PyGC_Fini(interp);
}

/* Also of one that could not be made. */
void
ame_py_delete_interpreter(PyInterpreterState *interp)
{
    forget_interpreter(interp);
    PyInterpreterState_Delete(interp);
}

/* A block that can be rolled back still can be so after a collection of its young objects, but not after one of all. */
static int
in_revocable_block(struct ame_py_thread *self)
{
    return self->mode == AME_PY_PARALLEL && self->atomic != 0 && ame_revocable();
}

/* For a collection of the older generations all threads stop: beside others it comes so much later than the program's
 * threshold says. */
#define PATIENCE 10

/* Whether it is enough to look at the thread's own young objects, which needs no company to stop. */
static int
can_collect_young(struct ame_py_thread *self, struct _gc_runtime_state *state)
{
    return self->mode == AME_PY_PARALLEL && !self->bare && state->debug == 0 &&
           state->generations[0].threshold != 0 &&
           (in_revocable_block(self) ||
            self->collections.collections + state->generations[1].count <= (Py_ssize_t)PATIENCE * state->generations[1].threshold) &&
           (state->callbacks == NULL || PyList_GET_SIZE(state->callbacks) == 0);
}

static void
collect_young(struct ame_py_thread *self, PyThreadState *tstate)
{
    ame_private_range(&self->collects, sizeof self->collects);
    ame_private_range(&self->atomic, sizeof self->atomic);
    self->allocated = 0;
    self->collects = 1;
    /* An atomic block: finalizers may want to drop the GIL, and what others see of the lists must be in
     * order. */
    self->atomic++;
    pyame_collect_young(tstate, &self->young, &self->survivors, &self->collections);
    self->collects = 0;
    if (--self->atomic == 0) {
        ame_py_block_ends(self);
    }
}

#define GENERATION_AUTO (-1)

void
ame_py_run_gc(PyThreadState *tstate)
{
    struct ame_py_thread *self = ame_py_get_self();
    struct _gc_runtime_state *state = &tstate->interp->gc;
    /* Many of those it was scheduled for may be gone again. */
    if (!state->enabled || self->collects || _Py_atomic_load_int_relaxed(&state->collecting) ||
        self->allocated <= state->generations[0].threshold) {
        return;
    }
    if (can_collect_young(self, state)) {
        collect_young(self, tstate);
        return;
    }
    if (in_revocable_block(self)) {
        return;
    }
    if (self->mode == AME_PY_PARALLEL && self->atomic == 0 && !self->bare) {
        /* The evaluation loop may drop the GIL here as well. Threads come to their collections at about the same
         * time, and the second would lose all that its transaction has done. */
        _PyThreadState_Detach(tstate);
        _PyThreadState_Attach(tstate);
        if (self->allocated <= state->generations[0].threshold) {
            return;
        }
    }
    gather(tstate->interp);
    _PyGC_Collect(tstate, GENERATION_AUTO, _Py_GC_REASON_HEAP);
}

Py_ssize_t
ame_py_gc_collect(PyThreadState *tstate, int generation, _PyGC_Reason reason)
{
    if (ame_py_get_self()->collects) {
        return 0;
    }
    gather(tstate->interp);
    return _PyGC_Collect(tstate, generation, reason);
}

Py_ssize_t
ame_py_gc_collect_all(void)
{
    if (ame_py_get_self()->collects) {
        return 0;
    }
    gather(_PyInterpreterState_GET());
    return PyGC_Collect();
}

void
ame_py_gc_collect_no_fail(PyThreadState *tstate)
{
    gather(tstate->interp);
    _PyGC_CollectNoFail(tstate);
}

PyObject *
ame_py_gc_get_objects(PyInterpreterState *interp, int generation)
{
    gather(interp);
    PyObject *result = _PyGC_GetObjects(interp, generation);
    give_back(interp);
    return result;
}

PyObject *
ame_py_gc_get_referrers(PyInterpreterState *interp, PyObject *objects)
{
    gather(interp);
    PyObject *result = _PyGC_GetReferrers(interp, objects);
    give_back(interp);
    return result;
}

void
ame_py_gc_freeze(PyInterpreterState *interp)
{
    gather(interp);
    _PyGC_Freeze(interp);
}

void
ame_py_gc_visit_objects(gcvisitobjects_t callback, void *argument)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    gather(interp);
    PyUnstable_GC_VisitObjects(callback, argument);
    give_back(interp);
}

/* gc.get_stats() */
PyObject *
ame_py_gc_get_stats(PyObject *module)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    ame_py_alone();
    struct gc_generation_stats s[NUM_GENERATIONS];
    memcpy(s, interp->gc.generation_stats, sizeof s);
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        if (t->collected_by == interp) {
            add_stats(&s[0], &t->collections);
        }
    }
#define STATS(S) \
    "collections", (S).collections, "collected", (S).collected, "uncollectable", (S).uncollectable
    return Py_BuildValue("[{snsnsn}{snsnsn}{snsnsn}]", STATS(s[0]), STATS(s[1]), STATS(s[2]));
}

/* gc.get_count() */
PyObject *
ame_py_gc_get_count(PyObject *module)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    struct gc_generation *generations = interp->gc.generations;
    int young = generations[0].count, collections = generations[1].count;
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        if (t->collected_by == interp) {
            young += t->allocated;
            collections += t->collections.collections;
        }
    }
    return Py_BuildValue("(iii)", young, collections, generations[2].count);
}

void
ame_py_clear_free_lists(PyInterpreterState *interp)
{
    ame_py_alone();
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        _PyObject_ClearFreeLists(&t->freelists, 0);
    }
    _PyObject_ClearFreeLists(&interp->object_state.freelists, 0);
}
