/* Functions with their code, classes and modules are used by all threads, which would count
 * references to them in every call. Those whose counts several threads change a lot become immortal, as all do
 * in free-threaded CPython 3.13 when its first thread starts (Python/gc_free_threading.c). Instances keep
 * their counts.
 */
#include "shim.h"
#include "pycore_descrobject.h"

/* Whether what the object keeps alive for ever is little, and has no finalizer that a program waits for. */
static int
is_lasting(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (type == &PyUnicode_Type) {
        /* An interned string says itself that it is immortal, in memory that is not locked here. */
        return PyUnicode_CHECK_INTERNED(op) != SSTATE_INTERNED_MORTAL;
    }
    return type == &PyFunction_Type || type == &PyCode_Type || type == &PyModule_Type ||
           type == &PyCFunction_Type || type == &PyMethodDescr_Type || type == &PyWrapperDescr_Type ||
           type == &PyMemberDescr_Type || type == &PyGetSetDescr_Type || type == &PyClassMethodDescr_Type ||
           type == &PyProperty_Type || type == &PyClassMethod_Type || type == &PyStaticMethod_Type ||
           type == &PyLong_Type || type == &PyFloat_Type || type == &PyBytes_Type ||
           type == &PyComplex_Type || PyType_Check(op);
}

/* Called by the runtime in the commit of a transaction that has changed the count often, with the count
 * locked. The collector moves what is immortal into its permanent generation. */
void
ame_py_make_immortal(void *count)
{
    PyObject *op = count;
    if (is_lasting(op)) {
        op->ob_refcnt = _Py_IMMORTAL_REFCNT;
    }
}
