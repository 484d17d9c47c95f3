/* Instrumented: reads that are free by CPython's sets, for the few places where they are not (cpython-ame-interned,
 * cpython-ame-hashes). */
#include "shim.h"
#include "pycore_pyhash.h"

/* Another transaction that is interning the string may not commit. What is immortal stays so; and a string that is not interned
 * is looked for in the dictionary, which is ordinary memory. */
unsigned int
pyame_certain_PyUnicode_CHECK_INTERNED(PyObject *op)
{
    PyASCIIObject *string = _PyASCIIObject_CAST(op);
    if (string->state.interned == SSTATE_INTERNED_MORTAL) {
        ame_read_range(&string->state, sizeof string->state);
    }
    return string->state.interned;
}

/* What is hashed is not of an object that stays as it is: a buffer. */
Py_hash_t
pyame_shared_Py_HashBytes(const void *bytes, Py_ssize_t n)
{
    ame_read_range(bytes, n);
    return _Py_HashBytes(bytes, n);
}

uint64_t
pyame_shared_Py_KeyedHash(uint64_t key, const void *bytes, Py_ssize_t n)
{
    ame_read_range(bytes, n);
    return _Py_KeyedHash(key, bytes, n);
}
