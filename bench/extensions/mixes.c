/* A function of an extension as many are: takes arguments, works on memory of its own, returns a number. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>

static PyObject *
mixes(PyObject *self, PyObject *args)
{
    long n;
    if (!PyArg_ParseTuple(args, "l", &n)) {
        return NULL;
    }
    uint64_t *table = malloc(1024 * sizeof *table), sum = 0;
    if (table == NULL) {
        return PyErr_NoMemory();
    }
    for (int i = 0; i < 1024; i++) {
        table[i] = (uint64_t)i * 0x9e3779b97f4a7c15u;
    }
    for (long i = 0; i < n; i++) {
        for (int j = 0; j < 1024; j++) {
            sum ^= table[(j + sum) & 1023] * (sum | 1);
            table[j] += sum >> 7;
        }
    }
    free(table);
    return PyLong_FromUnsignedLongLong(sum);
}

static PyMethodDef functions[] = {{"mixes", mixes, METH_VARARGS, NULL}, {NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "mixes", NULL, -1, functions};

PyMODINIT_FUNC
PyInit_mixes(void)
{
    return PyModule_Create(&definition);
}
