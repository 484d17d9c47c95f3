/* Functions with their code, classes and modules are used by all threads, which would count
 * references to them in every call. Those whose counts several threads change a lot become immortal, as all do
 * in free-threaded CPython 3.13 when its first thread starts (Python/gc_free_threading.c). Instances keep
 * their counts.
 */
#include "shim.h"
#include "pycore_descrobject.h"

/* One transaction after the other may have changed the counts of many objects at one address. */
#define OFTEN 32

/* Whether the code is that of a function in a module or class, or of these, and not made anew in each call of another. */
static int
is_of_module(PyObject *code)
{
    return PyCode_Check(code) && !(((PyCodeObject *)code)->co_flags & CO_NESTED);
}

/* Whether what the object keeps alive for ever is little, and has no finalizer that a program waits for. Values,
 * closures and classes may come and go by the million: only one that a single transaction has met often is taken for
 * one that stays. */
static int
is_lasting(PyObject *op, int often)
{
    PyTypeObject *type = Py_TYPE(op);
    if (type == &PyModule_Type || type == &PyMethodDescr_Type || type == &PyWrapperDescr_Type ||
        type == &PyMemberDescr_Type || type == &PyGetSetDescr_Type || type == &PyClassMethodDescr_Type) {
        return 1;
    }
    if (type == &PyCode_Type) {
        return often || is_of_module(op);
    }
    if (type == &PyFunction_Type) {
        return often || is_of_module(((PyFunctionObject *)op)->func_code);
    }
    if (type == &PyCFunction_Type) {
        PyObject *self = ((PyCFunctionObject *)op)->m_self;
        return often || (self != NULL && PyModule_CheckExact(self));
    }
    if (type == &PyDict_Type) {
        /* All functions refer to it. (The thread may have no state here.) */
        return op == _PyInterpreterState_Main()->builtins;
    }
    return often && (type == &PyProperty_Type || type == &PyClassMethod_Type || type == &PyStaticMethod_Type ||
                     type == &PyLong_Type || type == &PyFloat_Type || type == &PyBytes_Type ||
                     type == &PyComplex_Type || type == &PyUnicode_Type || PyType_Check(op));
}

/* Called by the runtime in the commit of a transaction that has changed the count, as others have, with the count
 * locked. The collector moves what is immortal into its permanent generation. */
void
ame_py_make_immortal(void *count, unsigned changes)
{
    PyObject *op = count;
    if (is_lasting(op, changes >= OFTEN)) {
        op->ob_refcnt = _Py_IMMORTAL_REFCNT;
    }
}
