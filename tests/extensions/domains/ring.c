/* Three of these call each other in circles, by way of Python and by pointer. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define JOIN_OF(one, other) one##other
#define JOIN(one, other) JOIN_OF(one, other)

static volatile long counter;

static void
add(void)
{
    long old = counter;
    for (volatile int i = 0; i < 30; i++) {
    }
    counter = old + 1;
}

/* visit(functions, depth): the first function of the tuple, with the tuple turned by one. */
static PyObject *
visit(PyObject *module, PyObject *args)
{
    PyObject *functions;
    long depth;
    if (!PyArg_ParseTuple(args, "Ol", &functions, &depth)) {
        return NULL;
    }
    add();
    PyObject *result = Py_NewRef(Py_None);
    if (depth > 0) {
        Py_DECREF(result);
        Py_ssize_t n = PyTuple_Size(functions);
        PyObject *turned = PyTuple_New(n);
        if (turned == NULL) {
            return NULL;
        }
        for (Py_ssize_t i = 0; i < n; i++) {
            PyTuple_SET_ITEM(turned, i, Py_NewRef(PyTuple_GET_ITEM(functions, (i + 1) % n)));
        }
        result = PyObject_CallFunction(PyTuple_GET_ITEM(functions, 0), "Ol", turned, depth - 1);
        Py_DECREF(turned);
    }
    add();
    return result;
}

/* The same by pointer: all three are entered without Python in between; at every second step by way of the C
 * library, which no call leaves the extension for. */
struct api;

struct task {
    struct api **apis;
    int n, depth;
};

struct api {
    void (*go)(const struct task *task);
    int (*go_for_library)(const void *task, const void *unused);
};

static void
go(const struct task *task)
{
    add();
    if (task->depth > 0) {
        struct task next = {task->apis, task->n, task->depth - 1};
        struct api *api = task->apis[task->depth % task->n];
        if (task->depth % 2 == 0) {
            api->go(&next);
        }
        else {
            char array[1] = {0};
            bsearch(&next, array, 1, 1, api->go_for_library);
        }
    }
    add();
}

static int
go_for_library(const void *task, const void *unused)
{
    go(task);
    return 0;
}

static struct api api = {go, go_for_library};

static PyObject *
export(PyObject *module, PyObject *unused)
{
    return PyCapsule_New(&api, "ring.api", NULL);
}

static PyObject *
descend(PyObject *module, PyObject *args)
{
    struct api *apis[3];
    PyObject *capsules[3];
    long depth;
    if (!PyArg_ParseTuple(args, "OOOl", &capsules[0], &capsules[1], &capsules[2], &depth)) {
        return NULL;
    }
    for (int i = 0; i < 3; i++) {
        if ((apis[i] = PyCapsule_GetPointer(capsules[i], "ring.api")) == NULL) {
            return NULL;
        }
    }
    go(&(struct task){apis, 3, (int)depth});
    Py_RETURN_NONE;
}

static PyObject *
count(PyObject *module, PyObject *unused)
{
    return PyLong_FromLong(counter);
}

static PyMethodDef methods[] = {
    {"visit", visit, METH_VARARGS, NULL},
    {"export", export, METH_NOARGS, NULL},
    {"descend", descend, METH_VARARGS, NULL},
    {"count", count, METH_NOARGS, NULL},
    {NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, TEXT(NAME), NULL, -1, methods};

PyMODINIT_FUNC
JOIN(PyInit_, NAME)(void)
{
    return PyModule_Create(&definition);
}
