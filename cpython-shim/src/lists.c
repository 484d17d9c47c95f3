/* Free lists and the collector's lists: one of each per thread. Plain code; see track.c for the rest. */
#include "shim.h"

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

/* Nobody else runs: all young objects become those of the first generation. */
static void
gather(PyInterpreterState *interp)
{
    ame_py_alone();
    PyGC_Head *to = &interp->gc.generations[0].head;
    int count = 0;
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        count += t->allocated;
        t->allocated = 0;
        PyGC_Head *from = &t->young, *first = (PyGC_Head *)from->_gc_next;
        if (first == from) {
            continue;
        }
        PyGC_Head *last = (PyGC_Head *)from->_gc_prev, *end = (PyGC_Head *)to->_gc_prev;
        end->_gc_next = (uintptr_t)first;
        first->_gc_prev = (first->_gc_prev & ~_PyGC_PREV_MASK) | (uintptr_t)end;
        last->_gc_next = (uintptr_t)to;
        to->_gc_prev = (uintptr_t)last;
        from->_gc_next = from->_gc_prev = (uintptr_t)from;
    }
    interp->gc.generations[0].count += count;
}

#define GENERATION_AUTO (-1)

void
ame_py_run_gc(PyThreadState *tstate)
{
    if (tstate->interp->gc.enabled && !_Py_atomic_load_int_relaxed(&tstate->interp->gc.collecting)) {
        gather(tstate->interp);
        _PyGC_Collect(tstate, GENERATION_AUTO, _Py_GC_REASON_HEAP);
    }
}

Py_ssize_t
ame_py_gc_collect(PyThreadState *tstate, int generation, _PyGC_Reason reason)
{
    gather(tstate->interp);
    return _PyGC_Collect(tstate, generation, reason);
}

Py_ssize_t
ame_py_gc_collect_all(void)
{
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
    return _PyGC_GetObjects(interp, generation);
}

PyObject *
ame_py_gc_get_referrers(PyInterpreterState *interp, PyObject *objects)
{
    gather(interp);
    return _PyGC_GetReferrers(interp, objects);
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
    gather(_PyInterpreterState_GET());
    PyUnstable_GC_VisitObjects(callback, argument);
}

/* gc.get_count() */
PyObject *
ame_py_gc_get_count(PyObject *module)
{
    struct gc_generation *generations = _PyInterpreterState_GET()->gc.generations;
    int young = generations[0].count;
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        young += t->allocated;
    }
    return Py_BuildValue("(iii)", young, generations[1].count, generations[2].count);
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
