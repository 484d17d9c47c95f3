/* Comparing strings. Plain code. */
#include "shim.h"
#include <string.h>

/* In place of stringlib/eq.h's unicode_eq, whose memcmp has barriers: the compiler forgets that it reads characters, which
 * need none. */
int
ame_py_unicode_eq(PyObject *a, PyObject *b)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(a);
    int kind = PyUnicode_KIND(a);
    return length == PyUnicode_GET_LENGTH(b) && kind == PyUnicode_KIND(b) &&
           memcmp(PyUnicode_DATA(a), PyUnicode_DATA(b), length * kind) == 0;
}
