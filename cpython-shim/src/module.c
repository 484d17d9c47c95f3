/* The built-in module _ame, on which the module ame (python/ame.py) stands. Plain code, but compiled with
 * the plugin, so that calls in a transaction know it to be harmless. */
#include "shim.h"

/* The depth of atomic blocks belongs to the transaction: a rollback takes it back. */
static void
set_depth(struct ame_py_thread *self, int depth)
{
    ame_private_range(&self->atomic, sizeof self->atomic);
    self->atomic = depth;
}

/* Whether a block that begins now can be rolled back, if it meets a lock (blocks.c). When there is no
 * other thread, nobody could release it meanwhile. */
static int
can_roll_back(struct ame_py_thread *self)
{
    PyThreadState *first = __atomic_load_n(&self->tstate->interp->threads.head, __ATOMIC_ACQUIRE);
    return self->mode == AME_PY_PARALLEL ? ame_revocable() : first->next == NULL;
}

/* False: call it again. The thread has to change its transaction first, between two instructions. */
AME_SAFE static PyObject *
enter(PyObject *module, PyObject *block)
{
    struct ame_py_thread *self = ame_py_get_self();
    if (self->atomic == 0 && self->asked < 3 && !can_roll_back(self)) {
        self->asked++;
        ame_py_request_drop(self);
        Py_RETURN_FALSE;
    }
    self->asked = 0;
    self->block = self->atomic == 0 ? block : NULL;
    set_depth(self, self->atomic + 1);
    /* A request from before would end the block's transaction. */
    _Py_unset_eval_breaker_bit(self->tstate, _PY_GIL_DROP_REQUEST_BIT);
    Py_RETURN_TRUE;
}

AME_SAFE static PyObject *
leave(PyObject *module, PyObject *none)
{
    struct ame_py_thread *self = ame_py_get_self();
    if (self->atomic == 0) {
        PyErr_SetString(PyExc_RuntimeError, "leave() outside an atomic block");
        return NULL;
    }
    set_depth(self, self->atomic - 1);
    if (self->atomic == 0) {
        ame_py_block_ends(self);
    }
    Py_RETURN_NONE;
}

AME_SAFE static PyObject *
is_atomic(PyObject *module, PyObject *none)
{
    return PyBool_FromLong(ame_py_get_self()->atomic != 0);
}

AME_SAFE static PyObject *
inevitable(PyObject *module, PyObject *none)
{
    if (ame_in_transaction()) {
        ame_inevitable();
    }
    Py_RETURN_NONE;
}

AME_SAFE static PyObject *
commit_soon(PyObject *module, PyObject *none)
{
    struct ame_py_thread *self = ame_py_get_self();
    if (self->atomic == 0) {
        _Py_set_eval_breaker_bit(self->tstate, _PY_GIL_DROP_REQUEST_BIT);
    }
    Py_RETURN_NONE;
}

AME_SAFE static PyObject *
stats(PyObject *module, PyObject *whose)
{
    struct ame_stats s;
    if (PyObject_IsTrue(whose)) {
        ame_total_stats(&s);
    }
    else {
        ame_thread_stats(&s);
    }
    return Py_BuildValue(
        "{sKsKsKsKsKsKsKsKsKsKsKsKsK}", "begins", s.begins, "commits", s.commits,
        "aborts_conflict", s.aborts_conflict, "aborts_chaos", s.aborts_chaos, "retries", s.retries,
        "inevitable", s.inevitable, "exclusive", s.exclusive, "waits", s.waits, "reads_first",
        s.reads_first, "writes_first", s.writes_first, "ns_aborted", s.ns_aborted, "ns_waiting",
        s.ns_waiting, "log_bytes_max", s.log_bytes_max);
}

static PyMethodDef methods[] = {
    {"enter", enter, METH_O, "Begin this atomic block; call it again until it is true."},
    {"leave", leave, METH_NOARGS, "End the innermost atomic block."},
    {"is_atomic", is_atomic, METH_NOARGS, "Whether the caller is in an atomic block."},
    {"inevitable", inevitable, METH_NOARGS, "From here to its end the transaction stays."},
    {"commit_soon", commit_soon, METH_NOARGS, "End the transaction at the next opportunity."},
    {"stats", stats, METH_O, "Counters of this thread (false) or of all (true)."},
    {NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_ame", "Transactions of AME CPython.", 0, methods, slots,
};

static PyObject *
PyInit__ame(void)
{
    return PyModuleDef_Init(&definition);
}

__attribute__((constructor)) static void
add_module(void)
{
    PyImport_AppendInittab("_ame", PyInit__ame);
}
