/* An extension as people write them, for the GIL. Which of its functions run without that, ame.toml says, or the source
 * itself (-DBY_ATTRIBUTE). What must hold cases.py says. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#ifdef BY_ATTRIBUTE
#include <ame.h>
#else
#define AME_PARALLEL
#endif

/* Equal whenever nobody is in the extension. */
static long left, right;
static volatile int go;

/* Work that the compiler cannot do at once. */
static long
spin(long n)
{
    volatile long x = 1;
    for (long i = 0; i < n; i++) {
        x = x * 31 + i;
    }
    return x;
}

/* Until somebody writes to go, past the extension. */
AME_PARALLEL static PyObject *
wait_for_go(PyObject *self, PyObject *args)
{
    long number;
    if (!PyArg_ParseTuple(args, "l", &number)) {
        return NULL;
    }
    while (!go) {
    }
    return PyLong_FromLong(number);
}

static PyObject *
address(PyObject *self, PyObject *ignored)
{
    return PyLong_FromVoidPtr((void *)&go);
}

/* Steps that others must see whole. */
static void
step(long n)
{
    for (long i = 0; i < n; i++) {
        left++;
        spin(10);
        right++;
    }
}

AME_PARALLEL static PyObject *
add(PyObject *self, PyObject *number)
{
    long n = PyLong_AsLong(number);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    long before = left;
    step(n);
    if (left != before + n || right != left) {
        PyErr_SetString(PyExc_SystemError, "somebody came between");
        return NULL;
    }
    return PyLong_FromLong(left);
}

/* Not parallel. */
static PyObject *
look(PyObject *self, PyObject *ignored)
{
    return PyBool_FromLong(left == right);
}

static PyObject *
add_plain(PyObject *self, PyObject *number)
{
    step(PyLong_AsLong(number));
    return PyLong_FromLong(left);
}

AME_PARALLEL static PyObject *
fails(PyObject *self, PyObject *number)
{
    long n = PyLong_AsLong(number);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    left++;
    spin(1000);
    right++;
    if (n % 2) {
        PyErr_SetString(PyExc_ValueError, "odd");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* A call out in the middle, before and after which the numbers are equal. */
AME_PARALLEL static PyObject *
calls(PyObject *self, PyObject *callable)
{
    step(50);
    PyObject *result = PyObject_CallNoArgs(callable);
    if (result != NULL) {
        step(50);
    }
    return result;
}

/* Looks at the items of a list, which Python code may change whenever it has the GIL. */
AME_PARALLEL static PyObject *
items(PyObject *self, PyObject *list)
{
    PyObject *fast = PySequence_Fast(list, "a sequence");
    if (fast == NULL) {
        return NULL;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(fast);
    PyObject **all = PySequence_Fast_ITEMS(fast);
    long sum = 0;
    spin(200000);
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(fast); i++) {
        sum += Py_SIZE(all[i]) != 0;
    }
    Py_DECREF(fast);
    if (sum != n) {
        PyErr_SetString(PyExc_SystemError, "somebody has changed the list");
        return NULL;
    }
    return PyLong_FromLong(sum);
}

/* The same item after item, each of which it may use while it is in here. */
AME_PARALLEL static PyObject *
borrow(PyObject *self, PyObject *list)
{
    PyObject *item = PyList_GetItem(list, 0);
    if (item == NULL) {
        return NULL;
    }
    spin(20000);
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item));
}


/* Makes a list of references. */
AME_PARALLEL static PyObject *
repeats(PyObject *self, PyObject *object)
{
    PyObject *list = PyList_New(8);
    if (list == NULL) {
        return NULL;
    }
    for (int i = 0; i < 8; i++) {
        PyList_SET_ITEM(list, i, Py_NewRef(object));
        step(10);
    }
    return list;
}

/* --- objects with C data of their own, that the collector knows ------------------------------------- */

typedef struct {
    PyObject_HEAD
    Py_ssize_t n;
    PyObject **all;
} Bag;

static PyTypeObject *bag_type;
static long bags;

static PyObject *
bag_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    Bag *self = (Bag *)type->tp_alloc(type, 0);
    if (self != NULL) {
        bags++;
    }
    return (PyObject *)self;
}

/* Makes it longer, many times: what is seen in the middle is no list. */
AME_PARALLEL static PyObject *
bag_fill(Bag *self, PyObject *object)
{
    for (int i = 0; i < 8; i++) {
        Py_ssize_t n = self->n;
        self->n = n + 1;
        spin(2000);
        self->all = realloc(self->all, (n + 1) * sizeof *self->all);
        spin(2000);
        self->all[n] = Py_NewRef(object);
    }
    return PyLong_FromSsize_t(self->n);
}

AME_PARALLEL static PyObject *
bag_wait(Bag *self, PyObject *ignored)
{
    self->n += 1000000;
    while (!go) {
    }
    self->n -= 1000000;
    Py_RETURN_NONE;
}

static int
bag_traverse(Bag *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (Py_ssize_t i = 0; i < self->n; i++) {
        Py_VISIT(self->all[i]);
    }
    return 0;
}

static int
bag_clear(Bag *self)
{
    Py_ssize_t n = self->n;
    self->n = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_CLEAR(self->all[i]);
    }
    return 0;
}

static void
bag_dealloc(Bag *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    bag_clear(self);
    free(self->all);
    bags--;
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *
alive(PyObject *self, PyObject *ignored)
{
    return PyLong_FromLong(bags);
}

static PyMethodDef bag_methods[] = {
    {"fill", (PyCFunction)bag_fill, METH_O, NULL}, {"wait", (PyCFunction)bag_wait, METH_NOARGS, NULL}, {NULL},
};
static PyType_Slot bag_slots[] = {
    {Py_tp_new, bag_new}, {Py_tp_dealloc, bag_dealloc}, {Py_tp_traverse, bag_traverse},
    {Py_tp_clear, bag_clear}, {Py_tp_methods, bag_methods}, {0, NULL},
};
static PyType_Spec bag_spec = {"probe.Bag", sizeof(Bag), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, bag_slots};

static PyMethodDef functions[] = {
    {"wait_for_go", wait_for_go, METH_VARARGS, NULL}, {"address", address, METH_NOARGS, NULL},
    {"add", add, METH_O, NULL}, {"look", look, METH_NOARGS, NULL}, {"add_plain", add_plain, METH_O, NULL},
    {"fails", fails, METH_O, NULL}, {"calls", calls, METH_O, NULL}, {"items", items, METH_O, NULL},
    {"borrow", borrow, METH_O, NULL},
    {"repeats", repeats, METH_O, NULL}, {"alive", alive, METH_NOARGS, NULL}, {NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "probe", NULL, -1, functions};

PyMODINIT_FUNC
PyInit_probe(void)
{
    PyObject *module = PyModule_Create(&definition);
    bag_type = (PyTypeObject *)PyType_FromSpec(&bag_spec);
    if (module == NULL || bag_type == NULL || PyModule_AddObject(module, "Bag", (PyObject *)bag_type) < 0) {
        return NULL;
    }
    return module;
}
