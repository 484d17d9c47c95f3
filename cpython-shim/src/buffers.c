/* Instrumented: buffers that objects own, and write to where they are. */
#include "shim.h"

/* A BytesIO looks whether it has the only reference to its bytes before it writes to them, and after it has asked for their
 * size it may hand them out. The new reference may be one that the other thread does not see before the end of the
 * transaction: so who asks has the count for itself. (All empty ones share one object, which is immortal.) */
Py_ssize_t
pyame_owned_PyBytes_GET_SIZE(PyObject *bytes)
{
    if (!_Py_IsImmortal(bytes)) {
        ame_write_range(&bytes->ob_refcnt, sizeof bytes->ob_refcnt);
    }
    return Py_SIZE(bytes);
}

/* A StringIO owns a writer of strings. Elsewhere writers are of one call, and neither they nor what they write to need
 * locks: here two threads may come to one of them. Whoever has the writer has its string. */
static void
acquire(_PyUnicodeWriter *writer)
{
    ame_write_range(writer, sizeof *writer);
}

void
pyame_owned_PyUnicodeWriter_Init(_PyUnicodeWriter *writer)
{
    acquire(writer);
    _PyUnicodeWriter_Init(writer);
}

int
pyame_owned_PyUnicodeWriter_WriteStr(_PyUnicodeWriter *writer, PyObject *str)
{
    acquire(writer);
    return _PyUnicodeWriter_WriteStr(writer, str);
}

PyObject *
pyame_owned_PyUnicodeWriter_Finish(_PyUnicodeWriter *writer)
{
    acquire(writer);
    return _PyUnicodeWriter_Finish(writer);
}

void
pyame_owned_PyUnicodeWriter_Dealloc(_PyUnicodeWriter *writer)
{
    acquire(writer);
    _PyUnicodeWriter_Dealloc(writer);
}
