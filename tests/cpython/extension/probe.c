/* An extension module with state in C, which its functions change without a lock: calls must be single steps.
 * Compiled twice, with and without the plugin; NAME is the module's name. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <unistd.h>

#define JOIN(a, b) a##b
#define INIT(name) JOIN(PyInit_, name)
#define TEXT(name) #name
#define NAMED(name) TEXT(name)

static long counter;
static volatile long steps;

/* Takes long enough to meet another thread's. CPython has a function of this name, of which the annotation
 * sets say that it handles transactions itself. */
static __attribute__((noinline)) void
enqueue(long n)
{
    for (long i = 0; i < n; i++) {
        long now = counter;
        for (int spin = 0; spin < 50; spin++) {
            steps++;
        }
        counter = now + 1;
    }
}

static PyObject *
add(PyObject *module, PyObject *number)
{
    long n = PyLong_AsLong(number);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    enqueue(n);
    return PyLong_FromLong(counter);
}

/* Calls back n times; and between two calls, during which others may run, its steps are single ones again. */
static PyObject *
add_and_call(PyObject *module, PyObject *args)
{
    PyObject *function;
    long n;
    if (!PyArg_ParseTuple(args, "Ol", &function, &n)) {
        return NULL;
    }
    long *mine = malloc(n * sizeof *mine);
    for (long i = 0; i < n; i++) {
        PyObject *result = PyObject_CallFunction(function, "l", i);
        if (result == NULL) {
            free(mine);
            return NULL;
        }
        Py_DECREF(result);
        enqueue(1);
        mine[i] = i;
    }
    long sum = 0;
    for (long i = 0; i < n; i++) {
        sum += mine[i];
    }
    free(mine);
    return PyLong_FromLong(sum);
}

/* The same with the GIL given up in between. */
static PyObject *
add_and_wait(PyObject *module, PyObject *number)
{
    long n = PyLong_AsLong(number);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *list = PyList_New(0);
    for (long i = 0; list != NULL && i < n; i++) {
        Py_BEGIN_ALLOW_THREADS
        usleep(10);
        Py_END_ALLOW_THREADS
        enqueue(1);
        PyObject *item = PyLong_FromLong(i * 1000);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *
count(PyObject *module, PyObject *none)
{
    return PyLong_FromLong(counter);
}

static PyMethodDef methods[] = {
    {"add", add, METH_O, NULL},
    {"add_and_call", add_and_call, METH_VARARGS, NULL},
    {"add_and_wait", add_and_wait, METH_O, NULL},
    {"count", count, METH_NOARGS, NULL},
    {NULL},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, NAMED(NAME), NULL, -1, methods};

PyMODINIT_FUNC
INIT(NAME)(void)
{
    return PyModule_Create(&definition);
}
