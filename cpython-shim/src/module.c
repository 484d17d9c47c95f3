/* The built-in module _ame, on which the module ame (python/ame.py) stands. Plain code, but compiled with
 * the plugin, so that calls in a transaction know it to be harmless. */
#include "shim.h"

/* From the runtime (runtime/include/ame_rt.h). */
struct ame_host_place {
    const char *file, *function;
    uint32_t line, caller;
};
struct ame_host_thing {
    const char *type, *part, *advice;
};
struct ame_conflict {
    uint32_t site, other_site, object, access;
    uint64_t count, rolled_back, ns_lost;
};
int ame_host_get_site(uint32_t number, struct ame_host_place *out);
int ame_host_get_object(uint32_t number, struct ame_host_thing *out);
size_t ame_host_conflicts(struct ame_conflict *out, size_t room);
void ame_set_watch(int on);
struct ame_host_thread {
    uint64_t os_id;
    struct ame_stats stats;
};
size_t ame_host_threads(struct ame_host_thread *out, size_t room);

/* The depth of atomic blocks belongs to the transaction: a rollback takes it back. */
AME_SAFE static void
set_depth(struct ame_py_thread *self, int depth)
{
    ame_private_range(&self->atomic, sizeof self->atomic);
    self->atomic = depth;
}

/* Whether a block that begins now can be rolled back, if it meets a lock (blocks.c). When there is no
 * other thread, nobody could release it meanwhile. */
AME_SAFE static int
can_roll_back(struct ame_py_thread *self)
{
    PyThreadState *first = __atomic_load_n(&self->tstate->interp->threads.head, __ATOMIC_ACQUIRE);
    return self->mode == AME_PY_PARALLEL ? ame_revocable() : first->next == NULL;
}

/* False: call it again. The thread has to change its transaction first, between two instructions. */
AME_SAFE static int
try_to_enter(PyObject *block)
{
    struct ame_py_thread *self = ame_py_get_self();
    if (self->atomic == 0 && self->asked < 3 && !can_roll_back(self)) {
        self->asked++;
        ame_py_request_drop(self);
        return 0;
    }
    self->asked = 0;
    self->block = self->atomic == 0 ? block : NULL;
    set_depth(self, self->atomic + 1);
    if (_Py_eval_breaker_bit_is_set(self->tstate, _PY_GIL_DROP_REQUEST_BIT)) {
        /* It would end the block's transaction. */
        _Py_unset_eval_breaker_bit(self->tstate, _PY_GIL_DROP_REQUEST_BIT);
        __atomic_store_n(&self->unheard, 1, __ATOMIC_RELAXED);
    }
    return 1;
}

/* The base of ame.atomic's class: __enter__ and __exit__ cost no frames of Python. */
AME_SAFE static PyObject *
block_enter(PyObject *block, PyObject *none)
{
    if (!try_to_enter(block)) {
        return PyObject_CallMethod(block, "_enter_again", NULL);
    }
    /* Not the macro: counts belong to instrumented code. */
    Py_IncRef(block);
    return block;
}

AME_SAFE static PyObject *
block_try(PyObject *block, PyObject *none)
{
    return PyBool_FromLong(try_to_enter(block));
}

AME_SAFE static PyObject *
block_exit(PyObject *block, PyObject *const *exception, Py_ssize_t n)
{
    struct ame_py_thread *self = ame_py_get_self();
    if (self->atomic == 0) {
        PyErr_SetString(PyExc_RuntimeError, "__exit__() outside an atomic block");
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
        struct ame_py_thread *self = ame_py_get_self();
        self->reason = __func__;
        ame_inevitable();
        self->reason = NULL;
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
as_dict(const struct ame_stats *s)
{
    return Py_BuildValue(
        "{sKsKsKsKsKsKsKsKsKsKsKsKsK}", "begins", s->begins, "commits", s->commits,
        "aborts_conflict", s->aborts_conflict, "aborts_chaos", s->aborts_chaos, "retries",
        s->retries, "inevitable", s->inevitable, "exclusive", s->exclusive, "waits", s->waits,
        "reads_first", s->reads_first, "writes_first", s->writes_first, "ns_aborted",
        s->ns_aborted, "ns_waiting", s->ns_waiting, "log_bytes_max", s->log_bytes_max);
}

AME_SAFE static PyObject *
stats(PyObject *module, PyObject *whose)
{
    struct ame_stats s;
    int all = PyObject_IsTrue(whose);
    if (all < 0) {
        return NULL;
    }
    if (all) {
        ame_total_stats(&s);
    }
    else {
        ame_thread_stats(&s);
    }
    return as_dict(&s);
}

/* Appends what may be NULL to a list that may be; returns the list, or NULL. */
AME_SAFE static PyObject *
appended(PyObject *list, PyObject *entry)
{
    int failed = entry == NULL || PyList_Append(list, entry) < 0;
    /* Not the macro: counts belong to instrumented code. */
    Py_DecRef(entry);
    if (failed) {
        Py_DecRef(list);
        return NULL;
    }
    return list;
}

#define MOST_THREADS 128

AME_SAFE static PyObject *
threads(PyObject *module, PyObject *none)
{
    struct ame_host_thread all[MOST_THREADS];
    size_t n = ame_host_threads(all, MOST_THREADS);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < n && i < MOST_THREADS; i++) {
        list = appended(list, Py_BuildValue("(KN)", all[i].os_id, as_dict(&all[i].stats)));
    }
    return list;
}

/* (file, line, function, library): the program's own place, and where in a library that is executed, or
 * None; or None. */
AME_SAFE static PyObject *
place(uint32_t number)
{
    struct ame_host_place own, inner;
    if (!ame_host_get_site(number, &own)) {
        Py_RETURN_NONE;
    }
    inner = own;
    if (inner.caller == 0 || !ame_host_get_site(inner.caller, &own)) {
        return Py_BuildValue("(sIsO)", own.file, own.line, own.function, Py_None);
    }
    PyObject *library = PyUnicode_FromFormat("%s:%d in %s", inner.file, (int)inner.line, inner.function);
    return library == NULL
               ? NULL
               : Py_BuildValue("(sIsN)", own.file, own.line, own.function, library);
}

#define MOST_CONFLICTS 256

AME_SAFE static PyObject *
conflicts(PyObject *module, PyObject *none)
{
    struct ame_conflict all[MOST_CONFLICTS];
    size_t n = ame_host_conflicts(all, MOST_CONFLICTS);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < n && i < MOST_CONFLICTS; i++) {
        struct ame_conflict *c = &all[i];
        struct ame_host_thing object = {"", "", ""};
        ame_host_get_object(c->object, &object);
        PyObject *where = place(c->site), *other = place(c->other_site);
        /* An argument that is NULL makes it fail. */
        list = appended(list, Py_BuildValue("(NN(sss)IKKK)", where, other, object.type, object.part,
                                            object.advice, c->access, c->count, c->rolled_back,
                                            c->ns_lost));
    }
    return list;
}

AME_SAFE static PyObject *
watch(PyObject *module, PyObject *on)
{
    int is_on = PyObject_IsTrue(on);
    if (is_on < 0) {
        return NULL;
    }
    ame_set_watch(is_on);
    Py_RETURN_NONE;
}

static PyMethodDef block_methods[] = {
    {"__enter__", block_enter, METH_NOARGS, "Begin an atomic block."},
    {"__exit__", _PyCFunction_CAST(block_exit), METH_FASTCALL, "End the innermost atomic block."},
    {"_try", block_try, METH_NOARGS, "Begin an atomic block; call it again until it is true."},
    {NULL},
};

static PyType_Slot block_slots[] = {
    {Py_tp_methods, block_methods},
    {0},
};

static PyType_Spec block_type = {
    .name = "_ame.Block",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = block_slots,
};

static int
add_types(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &block_type, NULL);
    int failed = type == NULL || PyModule_AddObjectRef(module, "Block", type) < 0;
    Py_DecRef(type);
    return failed ? -1 : 0;
}

static PyMethodDef methods[] = {
    {"is_atomic", is_atomic, METH_NOARGS, "Whether the caller is in an atomic block."},
    {"inevitable", inevitable, METH_NOARGS, "From here to its end the transaction stays."},
    {"commit_soon", commit_soon, METH_NOARGS, "End the transaction at the next opportunity."},
    {"stats", stats, METH_O, "Counters of this thread (false) or of all (true)."},
    {"threads", threads, METH_NOARGS, "Counters of each thread, with the kernel's number of it."},
    {"conflicts", conflicts, METH_NOARGS, "What threads have waited for, most time lost first."},
    {"watch", watch, METH_O, "Whether all accesses are noted, for the other sides of conflicts."},
    {NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, add_types},
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
