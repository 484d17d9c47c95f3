/* An extension whose entries do each kind of thing that a rollback has to undo, with barriers in between where
 * AME_CHAOS rolls back. What must hold afterwards cases.py says. */
#define PY_SSIZE_T_CLEAN
#include "../box.h"
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* Equal whenever no transaction runs, and to every transaction. */
static long left, right;
static long steps[64];
static PyObject *held[16];

/* Barriers: places to be rolled back at. */
static void
touch(void)
{
    for (int i = 0; i < 64; i += 8) {
        steps[i]++;
    }
}

static PyObject *
counts(PyObject *self, PyObject *object)
{
    left++;
    for (int i = 0; i < 16; i++) {
        held[i] = Py_NewRef(object);
        touch();
    }
    for (int i = 0; i < 16; i++) {
        Py_CLEAR(held[i]);
        touch();
    }
    right++;
    Py_RETURN_NONE;
}

/* Keeps one for good, and lets another one go. */
static PyObject *
swap(PyObject *self, PyObject *object)
{
    static PyObject *kept;
    PyObject *old = kept;
    kept = Py_NewRef(object);
    touch();
    Py_XDECREF(old);
    touch();
    Py_RETURN_NONE;
}

static PyObject *
makes(PyObject *self, PyObject *number)
{
    long n = PyLong_AsLong(number);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *list = PyList_New(0);
    for (long i = 0; i < n; i++) {
        PyObject *item = Py_BuildValue("(ls)", 1000 + i, "text");
        touch();
        if (PyList_Append(list, item) < 0) {
            return NULL;
        }
        Py_DECREF(item);
    }
    PyObject *tuple = PyTuple_New(2);
    PyTuple_SET_ITEM(tuple, 0, list);
    touch();
    PyTuple_SetItem(tuple, 1, PyFloat_FromDouble((double)n));
    touch();
    return tuple;
}

static PyObject *
fails(PyObject *self, PyObject *number)
{
    long n = PyLong_AsLong(number);
    left++;
    touch();
    right++;
    if (n % 2 != 0) {
        PyErr_SetString(PyExc_ValueError, "odd");
        touch();
        return NULL;
    }
    touch();
    Py_RETURN_NONE;
}

/* An error of an attempt that is rolled back must not be seen in the next one, which may have none. */
static long flag;

static PyObject *
flips(PyObject *self, PyObject *ignored)
{
    flag = !flag;
    touch();
    Py_RETURN_NONE;
}

static PyObject *
fails_by_flag(PyObject *self, PyObject *ignored)
{
    long now = flag;
    if (now) {
        PyErr_SetString(PyExc_ValueError, "set");
    }
    touch();
    touch();
    if (now) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The same with one thread: attempts fail by chance. */
static PyObject *
fails_at_times(PyObject *self, PyObject *ignored)
{
    if (__builtin_ia32_rdtsc() >> 6 & 1) {
        PyErr_SetString(PyExc_ValueError, "bad luck");
        touch();
        return NULL;
    }
    touch();
    Py_RETURN_NONE;
}

/* A while, in memory of its own. */
static PyObject *
works(PyObject *self, PyObject *rounds)
{
    long n = PyLong_AsLong(rounds);
    long *own = malloc(8 * sizeof *own);
    for (int i = 0; i < 8; i++) {
        own[i] = i;
    }
    for (long i = 0; i < n; i++) {
        own[i & 7] += own[(i + 1) & 7];
    }
    long sum = own[0];
    free(own);
    return PyLong_FromLong(sum);
}

static PyObject *
memory(PyObject *self, PyObject *number)
{
    long n = PyLong_AsLong(number), sum = 0;
    char *text = malloc(1), *other = PyMem_Malloc(24);
    text[0] = 0;
    for (long i = 1; i <= n; i++) {
        text = realloc(text, i + 1);
        memset(text, 'a', i);
        text[i] = 0;
        touch();
    }
    for (int i = 0; i < 24; i++) {
        other[i] = (char)i;
    }
    touch();
    char *copy = strdup(text);
    sum = (long)strlen(copy) + other[23];
    free(copy);
    free(text);
    touch();
    PyMem_Free(other);
    touch();
    return PyLong_FromLong(sum);
}

/* Blocks that live on, each with neighbours of the C library. */
static char *block;

static PyObject *
keeps(PyObject *self, PyObject *ignored)
{
    char *old = block;
    block = malloc(24);
    memset(block, 7, 24);
    touch();
    free(old);
    touch();
    return PyLong_FromLong(block[23]);
}

static PyObject *
in_use(PyObject *self, PyObject *ignored)
{
    return PyLong_FromSize_t(mallinfo2().uordblks);
}

static PyObject *
arguments(PyObject *self, PyObject *args)
{
    int number = 0;
    PyObject *object = NULL;
    const char *text = "none";
    touch();
    if (!PyArg_ParseTuple(args, "Oi|s", &object, &number, &text)) {
        return NULL;
    }
    touch();
    return Py_BuildValue("(Ois)", object, number, text);
}

/* Results that go where others can see them, and a buffer of what is taken apart. */
static struct {
    int before, number;
    Py_ssize_t length;
    const char *text;
} parsed;

static PyObject *
results(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"data", "number", "text", NULL};
    Py_buffer data;
    parsed.before = parsed.number;
    steps[0]++;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "y*i|s#", names, &data, &parsed.number, &parsed.text,
                                     &parsed.length)) {
        return NULL;
    }
    steps[0]++;
    Py_ssize_t sum = 0;
    for (Py_ssize_t i = 0; i < data.len; i++) {
        sum += ((const unsigned char *)data.buf)[i];
    }
    steps[0]++;
    if (sum % 2 != 0) {
        PyErr_SetString(PyExc_ValueError, "odd");
        steps[0]++;
        PyErr_Clear();
    }
    steps[0]++;
    PyBuffer_Release(&data);
    steps[0]++;
#if PY_VERSION_HEX >= 0x030d0000 /* Before, nothing says that there is none. */
    if (PyErr_CheckSignals() < 0) {
        return NULL;
    }
#endif
    return Py_BuildValue("(niin)", sum, parsed.before, parsed.number, parsed.length);
}

/* The sum of a dictionary's numbers. */
static PyObject *
sums(PyObject *self, PyObject *numbers)
{
    PyObject *key, *value;
    Py_ssize_t place = 0;
    long sum = 0;
    while (PyDict_Next(numbers, &place, &key, &value)) {
        sum += PyLong_AsLong(value);
        touch();
    }
    return PyLong_FromLong(sum);
}

static PyObject *
attribute(PyObject *self, PyObject *object)
{
    left++;
    touch();
    PyObject *value = PyObject_GetAttrString(object, "value");
    touch();
    right++;
    return value;
}

static PyObject *
calls(PyObject *self, PyObject *callable)
{
    left++;
    touch();
    right++;
    PyObject *value = PyObject_CallNoArgs(callable);
    left++;
    touch();
    right++;
    return value;
}

static PyObject *
compare(PyObject *self, PyObject *ignored)
{
    long a = left;
    touch();
    return PyBool_FromLong(a == right && left == a);
}

/* --- objects ------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *content;
    long *number;
} Box;

static long boxes;

static PyObject *
box_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *content;
    Box *self = (Box *)allocate_with_content(type, args, &content);
    if (self == NULL) {
        return NULL;
    }
    touch();
    self->content = Py_NewRef(content);
    touch();
    self->number = malloc(sizeof *self->number);
    *self->number = 42;
    boxes++;
    touch();
    return (PyObject *)self;
}

static void
box_dealloc(Box *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    boxes--;
    touch();
    Py_XDECREF(self->content);
    free(self->number);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static int
box_traverse(Box *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->content);
    return 0;
}

static PyObject *
box_get(Box *self, void *closure)
{
    touch();
    return Py_BuildValue("(Ol)", self->content, *self->number);
}

static PyGetSetDef box_getset[] = {{"content", (getter)box_get, NULL, NULL, NULL}, {NULL}};

static PyType_Slot box_slots[] = {
    {Py_tp_new, box_new}, {Py_tp_dealloc, box_dealloc}, {Py_tp_traverse, box_traverse},
    {Py_tp_getset, box_getset}, {0, NULL},
};
static PyType_Spec box_spec = {"undo.Box", sizeof(Box), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, box_slots};

static PyObject *
alive(PyObject *self, PyObject *ignored)
{
    return PyLong_FromLong(boxes);
}

static PyMethodDef functions[] = {
    {"counts", counts, METH_O, NULL}, {"swap", swap, METH_O, NULL}, {"makes", makes, METH_O, NULL},
    {"fails", fails, METH_O, NULL}, {"flips", flips, METH_NOARGS, NULL},
    {"fails_by_flag", fails_by_flag, METH_NOARGS, NULL}, {"fails_at_times", fails_at_times, METH_NOARGS, NULL},
    {"works", works, METH_O, NULL}, {"memory", memory, METH_O, NULL}, {"keeps", keeps, METH_NOARGS, NULL},
    {"in_use", in_use, METH_NOARGS, NULL}, {"arguments", arguments, METH_VARARGS, NULL},
    {"results", (PyCFunction)(void (*)(void))results, METH_VARARGS | METH_KEYWORDS, NULL},
    {"sums", sums, METH_O, NULL}, {"attribute", attribute, METH_O, NULL}, {"calls", calls, METH_O, NULL},
    {"compare", compare, METH_NOARGS, NULL}, {"alive", alive, METH_NOARGS, NULL}, {NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "undo", NULL, -1, functions};

PyMODINIT_FUNC
PyInit_undo(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyObject *box = PyType_FromSpec(&box_spec);
    if (module == NULL || box == NULL || PyModule_AddObject(module, "Box", box) < 0) {
        return NULL;
    }
    return module;
}
