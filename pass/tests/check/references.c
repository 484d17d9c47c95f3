#include "./include/python3/python.h"

PyObject *borrowed(PyObject *dict, PyObject *list) {
    Py_ssize_t at = 0;
    PyObject *key, *value;
    while (PyDict_Next(dict, &at, &key, &value))
        if (PyDict_GetItem(dict, key) == PyList_GET_ITEM(list, 0))
            return PyList_GET_ITEM(list, 1);
    PyList_SET_ITEM(list, 0, value);
    return 0;
}
// Nobody else knows them yet.
PyObject *fresh(PyObject *key) {
    PyObject *list = PyList_New(1), *dict = PyDict_New();
    PyList_SET_ITEM(list, 0, PyDict_GetItem(dict, key));
    return list;
}
// A pointer into the list, which another thread may move.
PyObject *pointer(PyListObject *list, PyObject *f) {
    PyObject **items = list->ob_item;
    PyObject_CallNoArgs(f);
    return items[list->allocated - 1];
}
