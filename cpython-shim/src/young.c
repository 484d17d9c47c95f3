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

/* Whether freeing the object may run code of the program, which may wait, or give up the GIL. */
static int
may_run_code(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (type->tp_finalize != NULL || type->tp_del != NULL) {
        return 1;
    }
    if (_PyType_SUPPORTS_WEAKREFS(type)) {
        for (PyWeakReference *wr = *_PyObject_GET_WEAKREFS_LISTPTR_FROM_OFFSET(op); wr != NULL; wr = wr->wr_next) {
            if (wr->wr_callback != NULL) {
                return 1;
            }
        }
    }
    return 0;
}

/* The first steps of gc_collect_main for a generation that is not the oldest. What survives goes to `old`, what is to be freed
 * to `garbage`. What may run code, and what that refers to, survives as well: for a collection of all threads. Returns whether
 * there is such. */
int
pyame_find_garbage(PyGC_Head *young, PyGC_Head *old, PyGC_Head *garbage, struct gc_generation_stats *stats)
{
    PyGC_Head unreachable, aside, *next;
    hold_counts(young);
    deduce_unreachable(young, &unreachable);
    untrack_tuples(young);
    gc_list_merge(young, old);

    clear_unreachable_mask(&unreachable);
    gc_list_init(&aside);
    for (PyGC_Head *gc = GC_NEXT(&unreachable); gc != &unreachable; gc = next) {
        next = GC_NEXT(gc);
        if (may_run_code(FROM_GC(gc))) {
            gc_clear_collecting(gc);
            gc_list_move(gc, &aside);
        }
    }
    move_legacy_finalizer_reachable(&aside);
    int left = !gc_list_is_empty(&aside);
    gc_list_merge(&aside, old);
    handle_weakrefs(&unreachable, old);
    stats->collections++;
    stats->collected += gc_list_size(&unreachable);
    gc_list_merge(&unreachable, garbage);
    return left;
}

/* The last. It may come to run code: of an older object to which there was no other reference. */
void
pyame_free_garbage(PyThreadState *tstate, PyGC_Head *garbage, PyGC_Head *old)
{
    delete_garbage(tstate, &tstate->interp->gc, garbage, old);
}
