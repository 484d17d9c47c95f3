/* Instrumented: a collection of the calling thread's young objects, as part of its transaction.
 *
 * This is CPython's own collector, with a main function of ours: the file is compiled from its source as
 * it is, and of the symbols in it only this one is seen elsewhere (recipe/shim.py).
 */
#define Py_BUILD_CORE 1
#include "Python/gc.c"
#include "shim.h"

/* No count of an object in the list changes from here on: others may have added to it, and will when they
 * commit, which their references then tell by conflicts. */
static void
hold_counts(PyGC_Head *list)
{
    for (PyGC_Head *gc = GC_NEXT(list); gc != list; gc = GC_NEXT(gc)) {
        PyObject *op = FROM_GC(gc);
        ame_write_range(&op->ob_refcnt, sizeof op->ob_refcnt);
    }
}

/* The steps of gc_collect_main for a generation that is not the oldest. What survives goes to `old`. */
void
pyame_collect_young(PyThreadState *tstate, PyGC_Head *young, PyGC_Head *old,
                    struct gc_generation_stats *stats)
{
    GCState *state = &tstate->interp->gc;
    PyGC_Head unreachable, finalizers, final_unreachable;
    hold_counts(young);
    deduce_unreachable(young, &unreachable);
    untrack_tuples(young);
    gc_list_merge(young, old);

    gc_list_init(&finalizers);
    move_legacy_finalizers(&unreachable, &finalizers);
    move_legacy_finalizer_reachable(&finalizers);
    Py_ssize_t collected = handle_weakrefs(&unreachable, old);
    finalize_garbage(tstate, &unreachable);
    handle_resurrected_objects(&unreachable, &final_unreachable, old);
    collected += gc_list_size(&final_unreachable);
    delete_garbage(tstate, state, &final_unreachable, old);
    Py_ssize_t uncollectable = gc_list_size(&finalizers);
    handle_legacy_finalizers(tstate, state, &finalizers, old);
    if (_PyErr_Occurred(tstate)) {
        PyErr_FormatUnraisable("Exception ignored in garbage collection");
    }
    stats->collections++;
    stats->collected += collected;
    stats->uncollectable += uncollectable;
}
