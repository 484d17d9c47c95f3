/* What the boxes of the tests' extensions have in common. */
#include <Python.h>

/* An object of the type, and what its constructor was given to keep: a borrowed reference. */
static PyObject *
allocate_with_content(PyTypeObject *type, PyObject *args, PyObject **content)
{
    *content = Py_None;
    if (!PyArg_ParseTuple(args, "|O", content)) {
        return NULL;
    }
    return type->tp_alloc(type, 0);
}
