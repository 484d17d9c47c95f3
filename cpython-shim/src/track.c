/* Instrumented: the collector's lists and reference counts as transactions see them. */
#include "shim.h"

/* The young object joins the list of the thread that tracks it: its neighbours were most likely
 * tracked by the same thread. */
void
pyame_gc_track(PyObject *op)
{
    PyGC_Head *gc = _Py_AS_GC(op), *young = &ame_py_get_self()->objects[0];
    PyGC_Head *last = (PyGC_Head *)young->_gc_prev;
    last->_gc_next = (uintptr_t)gc;
    gc->_gc_prev = (gc->_gc_prev & ~_PyGC_PREV_MASK) | (uintptr_t)last;
    gc->_gc_next = (uintptr_t)young;
    young->_gc_prev = (uintptr_t)gc;
}

void
pyame_gc_del(void *pointer)
{
    PyObject *op = pointer;
    size_t before = _PyType_PreHeaderSize(Py_TYPE(op));
    if (_PyObject_GC_IS_TRACKED(op)) {
        PyGC_Head *gc = _Py_AS_GC(op);
        PyGC_Head *prev = (PyGC_Head *)(gc->_gc_prev & _PyGC_PREV_MASK);
        PyGC_Head *next = (PyGC_Head *)gc->_gc_next;
        prev->_gc_next = (uintptr_t)next;
        next->_gc_prev = (next->_gc_prev & ~_PyGC_PREV_MASK) | (uintptr_t)prev;
        gc->_gc_next = 0;
        gc->_gc_prev &= _PyGC_PREV_MASK_FINALIZED;
    }
    struct ame_py_thread *self = ame_py_get_self();
    if (self->allocated > 0) {
        self->allocated--;
    }
    PyObject_Free((char *)op - before);
}

/* Other threads look at a count without a lock to see whether it is that of an immortal object, and do
 * not count references to one. So an object that others know cannot become immortal for a while only. */
void
pyame_immortalize_interned(PyObject *string)
{
    if (!ame_is_fresh(string)) {
        ame_py_irrevocable();
    }
    _PyASCIIObject_CAST(string)->state.interned = SSTATE_INTERNED_IMMORTAL;
    _Py_SetImmortal(string);
}

void
pyame_hold(PyObject *op)
{
    Py_INCREF(op);
}

void
pyame_bury(PyObject **dead, size_t n, size_t *done)
{
    /* `done` lies in a frame that a rollback restores, so nothing is given up twice. */
    while (*done < n) {
        PyObject *op = dead[(*done)++];
        Py_DECREF(op);
    }
}

/* Without the table from versions to functions, which all threads would write to: the second tier reads it,
 * which is not built. */
void
pyame_function_set_version(PyFunctionObject *func, uint32_t version)
{
    func->func_version = version;
}

/* Whoever has no barriers finds these by name: extensions of another compiler, ctypes. CPython's own are renamed
 * (recipe/shim.py). */
Py_ssize_t
PyGC_Collect(void)
{
    return ame_py_gc_collect_all();
}

void
PyUnstable_GC_VisitObjects(gcvisitobjects_t callback, void *argument)
{
    ame_py_gc_visit_objects(callback, argument);
}
