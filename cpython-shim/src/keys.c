/* Instrumented: a dictionary's keys. */
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

/* In place of dictobject.c's function. Specialising gives keys their version: others who read the keys, as any look at a
 * module's names does, must not wait for the end of the block that happens to come first. The version is read with a
 * barrier, so that nobody changes the keys while this transaction runs, and says the same of them after a rollback. */
uint32_t
pyame_keys_version(PyInterpreterState *interp, PyDictKeysObject *keys)
{
    uint32_t version = keys->dk_version;
    if (version == 0 && interp->dict_state.next_keys_version != 0) {
        version = interp->dict_state.next_keys_version++;
        ame_py_set_keys_version(keys, version);
    }
    return version;
}
