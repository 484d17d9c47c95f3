/* An extension whose functions run without the GIL, on a Python that has one: what domain.h needs there.
 *
 * Functions that are marked parallel run as transactions of the domain, or hold it; both give the GIL up for
 * stretches of code that need nothing of Python (ame_extension_spare_gil), and take it before they do
 * (ame_extension_need_gil). All other code of the extension has the GIL and holds the domain. Who has the GIL never
 * waits for a domain: it gives it up first.
 *
 * Part of domain.h. */
#ifndef AME_EXTENSION_GIL_H
#define AME_EXTENSION_GIL_H
#include <pthread.h>
#include <unistd.h>

/* --- what newer Pythons have ----------------------------------------------------------------------- */

#if PY_VERSION_HEX < 0x030c0000
#define AME_EXTENSION_RAISED(thread) ((thread)->curexc_type)
#define AME_EXTENSION_DEPTH(thread) ((thread)->recursion_remaining)
#define AME_EXTENSION_IS_IMMORTAL(object) 0

AME_EXTENSION_SLOW PyObject *
ame_extension_get_raised(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
        Py_DECREF(traceback);
    }
    Py_DECREF(type);
    return value;
}

AME_EXTENSION_SLOW void
ame_extension_set_raised(PyObject *value)
{
    PyObject *type = value != NULL ? Py_NewRef(Py_TYPE(value)) : NULL;
    PyErr_Restore(type, value, value != NULL ? PyException_GetTraceback(value) : NULL);
}

/* Of this thread, if it has the GIL: the interpreter knows only who has it. */
AME_EXTENSION_SLOW PyThreadState *
ame_extension_attached_state(void)
{
    return PyGILState_Check() ? _PyThreadState_UncheckedGet() : NULL;
}

/* Whether the thread has the GIL. */
AME_EXTENSION_FAST int
ame_extension_has_gil(PyThreadState *thread)
{
    return _PyThreadState_UncheckedGet() == thread;
}
#define PyErr_GetRaisedException ame_extension_get_raised
#define PyErr_SetRaisedException ame_extension_set_raised
#else
#define AME_EXTENSION_RAISED(thread) ((thread)->current_exception)
#define AME_EXTENSION_DEPTH(thread) ((thread)->c_recursion_remaining)
#define AME_EXTENSION_IS_IMMORTAL(object) _Py_IsImmortal(object)

AME_EXTENSION_FAST PyThreadState *
ame_extension_attached_state(void)
{
#if PY_VERSION_HEX < 0x030d0000
    return _PyThreadState_UncheckedGet();
#else
    return PyThreadState_GetUnchecked();
#endif
}

AME_EXTENSION_FAST int
ame_extension_has_gil(PyThreadState *thread)
{
    return thread->_status.active;
}
#endif

#if PY_VERSION_HEX < 0x030d0000
AME_EXTENSION_SLOW PyObject *
ame_extension_get_list_ref(PyObject *list, Py_ssize_t index)
{
    return Py_XNewRef(PyList_GetItem(list, index));
}

AME_EXTENSION_SLOW int
ame_extension_get_dict_ref(PyObject *dict, PyObject *key, PyObject **value)
{
    *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *value != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
}

AME_EXTENSION_SLOW int
ame_extension_get_dict_string_ref(PyObject *dict, const char *key, PyObject **value)
{
    PyObject *text = PyUnicode_FromString(key);
    *value = NULL;
    int found = text == NULL ? -1 : ame_extension_get_dict_ref(dict, text, value);
    Py_XDECREF(text);
    return found;
}

AME_EXTENSION_SLOW int
ame_extension_set_default_ref(PyObject *dict, PyObject *key, PyObject *value, PyObject **result)
{
    *result = Py_XNewRef(PyDict_SetDefault(dict, key, value));
    return *result != NULL ? 0 : -1;
}

AME_EXTENSION_SLOW int
ame_extension_get_weak_ref(PyObject *reference, PyObject **object)
{
    PyObject *found = PyWeakref_GetObject(reference);
    *object = found == NULL || found == Py_None ? NULL : Py_NewRef(found);
    return found == NULL ? -1 : *object != NULL;
}

AME_EXTENSION_SLOW PyObject *
ame_extension_add_module_ref(const char *name)
{
    return Py_XNewRef(PyImport_AddModule(name));
}
#define PyList_GetItemRef ame_extension_get_list_ref
#define PyDict_GetItemRef ame_extension_get_dict_ref
#define PyDict_GetItemStringRef ame_extension_get_dict_string_ref
#define PyDict_SetDefaultRef ame_extension_set_default_ref
#define PyWeakref_GetRef ame_extension_get_weak_ref
#define PyImport_AddModuleRef ame_extension_add_module_ref
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* --- giving the GIL up, and taking it --------------------------------------------------------------- */

/* What ame_domain_thread.spares is: the thread has the GIL, gives it up, or has come to keep it. */
enum { AME_EXTENSION_HAS, AME_EXTENSION_SPARES, AME_EXTENSION_KEEPS };

/* Of the innermost entry that is parallel: how long it has run without the GIL, and in how many stretches. */
AME_EXTENSION_ONE __thread struct { uint64_t since, cycles, stretches; } ame_extension_spared;

/* A stretch without the GIL that takes fewer cycles gains less than it costs to give that up. */
#ifdef AME_EXTENSION_ALWAYS
#define AME_EXTENSION_WORTH 0
#else
#define AME_EXTENSION_WORTH 20000
#endif

/* Entries that may be transactions after one had to wait for the domain: while nobody waits, to hold it costs less.
 * Changed with the GIL. */
#define AME_EXTENSION_CROWD 64
AME_EXTENSION_ONE uint32_t ame_extension_crowd;

AME_EXTENSION_FAST int
ame_extension_is_detached(void)
{
    return __builtin_expect(ame_domain_thread.detached != NULL, 0);
}

AME_EXTENSION_SLOW void
ame_extension_take_gil(void)
{
    struct ame_domain_thread *thread = &ame_domain_thread;
    if (thread->detached != NULL) {
        ame_extension_spared.cycles += __builtin_ia32_rdtsc() - ame_extension_spared.since;
        PyEval_RestoreThread((PyThreadState *)thread->detached);
        thread->detached = NULL;
        ame_domain_detached(-1);
    }
}

AME_EXTENSION_SLOW enum ame_gil_given
ame_extension_give_gil(void)
{
    struct ame_domain_thread *thread = &ame_domain_thread;
    if (thread->detached != NULL) {
        return AME_GIL_NOT_HELD;
    }
    if (thread->spares == AME_EXTENSION_KEEPS) {
        return AME_GIL_KEPT;
    }
    ame_domain_detached(1);
    ame_extension_spared.stretches++;
    thread->detached = PyEval_SaveThread();
    ame_extension_spared.since = __builtin_ia32_rdtsc();
    return AME_GIL_GIVEN;
}

/* Before a call of Python. */
AME_EXTENSION_FAST void
ame_extension_need_gil(void)
{
    if (ame_extension_is_detached()) {
        ame_extension_take_gil();
    }
}

/* After a few stretches that were all too short an entry gives nothing up any more. */
AME_EXTENSION_SLOW void
ame_extension_give_gil_if_worth(void)
{
    uint64_t n = ame_extension_spared.stretches;
    if (n < 16 || ame_extension_spared.cycles >= n * AME_EXTENSION_WORTH / 4) {
        ame_extension_give_gil();
    }
}

/* Before code that needs nothing of Python. */
AME_EXTENSION_FAST void
ame_extension_spare_gil(void)
{
    if (ame_domain_thread.spares == AME_EXTENSION_SPARES && !ame_extension_is_detached()) {
        ame_extension_give_gil_if_worth();
    }
}

/* Before a look into an object that other threads may change: until the entry ends, what was found there is used. */
AME_EXTENSION_SLOW void
ame_extension_keep_gil(void)
{
    ame_extension_take_gil();
    if (ame_domain_thread.spares == AME_EXTENSION_SPARES) {
        ame_domain_thread.spares = AME_EXTENSION_KEEPS;
    }
}

static const struct ame_gil ame_extension_gil = {ame_extension_give_gil, ame_extension_take_gil};

/* Whether a domain may be taken from the thread that has lent it: where it has given up the GIL. */
AME_EXTENSION_SLOW int
ame_extension_may(void *lender, void *place, uint64_t waited, uint64_t lent)
{
    (void)place, (void)waited, (void)lent;
    return !ame_extension_has_gil((PyThreadState *)lender);
}

#endif
