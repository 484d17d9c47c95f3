/* Instrumented: comparisons of a dictionary's keys. */
#include "shim.h"
#include "pycore_dict.h"
#include "pycore_long.h"

/* In place of dictobject.c's compare_generic. CPython takes a reference to the key in the table while it compares, for
 * comparing may run any code. Between integers it runs none; and in transactions a reference to a key that other
 * threads look up as well costs a lock, or a delta. */
int
pyame_compare_generic(PyDictObject *mp, PyDictKeysObject *keys, void *entries, Py_ssize_t index,
                      PyObject *key, Py_hash_t hash)
{
    PyDictKeyEntry *entry = &((PyDictKeyEntry *)entries)[index];
    PyObject *known = entry->me_key;
    if (known == key) {
        return 1;
    }
    if (entry->me_hash != hash) {
        return 0;
    }
    if (PyLong_CheckExact(known) && PyLong_CheckExact(key) &&
        _PyLong_IsCompact((PyLongObject *)known) && _PyLong_IsCompact((PyLongObject *)key)) {
        return _PyLong_CompactValue((PyLongObject *)known) == _PyLong_CompactValue((PyLongObject *)key);
    }
    Py_INCREF(known);
    int same = PyObject_RichCompareBool(known, key, Py_EQ);
    Py_DECREF(known);
    if (same < 0) {
        return DKIX_ERROR;
    }
    return keys == mp->ma_keys && entry->me_key == known ? same : DKIX_KEY_CHANGED;
}
