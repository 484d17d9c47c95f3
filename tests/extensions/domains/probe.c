/* An extension that relies on the GIL for everything: each entry adds to a counter in steps that another thread
 * must not see. NAME names the module; with SINGLE its initialisation is single-phase. */
#define PY_SSIZE_T_CLEAN
#include "../box.h"
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define JOIN_OF(one, other) one##other
#define JOIN(one, other) JOIN_OF(one, other)

static volatile long counter, alive, exports;
/* Equal whenever a GIL could be given to another thread. */
static volatile long left, right;

static void
add(volatile long *to, long n)
{
    long old = *to;
    for (volatile int i = 0; i < 5; i++) {
    }
    *to = old + n;
}

/* --- a heap type: collected, with a finalizer in Python, a dictionary of nothing, and a buffer ------------ */

typedef struct {
    PyObject_HEAD
    PyObject *content;
    char bytes[16];
} Box;

static PyObject *
box_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *content;
    Box *self = (Box *)allocate_with_content(type, args, &content);
    if (self == NULL) {
        return NULL;
    }
    add(&alive, 1);
    self->content = Py_NewRef(content);
    return (PyObject *)self;
}

static int
box_traverse(Box *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->content);
    return 0;
}

static int
box_clear(Box *self)
{
    add(&counter, 1);
    add(&counter, -1);
    Py_CLEAR(self->content);
    return 0;
}

static void
box_dealloc(Box *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    add(&alive, -1);
    /* May run Python code, and come back here. */
    box_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
box_get(Box *self, void *closure)
{
    add(&counter, 1);
    return Py_NewRef(self->content);
}

static int
box_set(Box *self, PyObject *value, void *closure)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "content cannot be deleted");
        return -1;
    }
    add(&counter, 1);
    PyObject *old = self->content;
    self->content = Py_NewRef(value);
    Py_DECREF(old);
    return 0;
}

static int
box_getbuffer(Box *self, Py_buffer *view, int flags)
{
    add(&exports, 1);
    add(&counter, 1);
    return PyBuffer_FillInfo(view, (PyObject *)self, self->bytes, sizeof self->bytes, 0, flags);
}

static void
box_releasebuffer(Box *self, Py_buffer *view)
{
    add(&exports, -1);
}

static PyGetSetDef box_getset[] = {
    {"content", (getter)box_get, (setter)box_set, NULL, NULL},
    {NULL},
};

static PyType_Slot box_slots[] = {
    {Py_tp_new, (void *)box_new},
    {Py_tp_traverse, (void *)box_traverse},
    {Py_tp_clear, (void *)box_clear},
    {Py_tp_dealloc, (void *)box_dealloc},
    {Py_tp_getset, box_getset},
    {Py_bf_getbuffer, (void *)box_getbuffer},
    {Py_bf_releasebuffer, (void *)box_releasebuffer},
    {0, NULL},
};

static PyType_Spec box_spec = {
    TEXT(NAME) ".Box", sizeof(Box), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, box_slots,
};

/* --- a static type with slots of all kinds ------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    long value, steps;
} Item;

static PyTypeObject Item_Type;

static PyObject *
item_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    long value = 0;
    if (!PyArg_ParseTuple(args, "|l", &value)) {
        return NULL;
    }
    Item *self = (Item *)type->tp_alloc(type, 0);
    if (self != NULL) {
        add(&alive, 1);
        self->value = value;
    }
    return (PyObject *)self;
}

static void
item_dealloc(Item *self)
{
    add(&alive, -1);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static Py_hash_t
item_hash(Item *self)
{
    add(&counter, 1);
    return self->value;
}

static PyObject *
item_compare(PyObject *one, PyObject *other, int operation)
{
    add(&counter, 1);
    if (!PyObject_TypeCheck(one, &Item_Type) || !PyObject_TypeCheck(other, &Item_Type)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    Py_RETURN_RICHCOMPARE(((Item *)one)->value, ((Item *)other)->value, operation);
}

static PyObject *
item_add(PyObject *one, PyObject *other)
{
    add(&counter, 1);
    return PyLong_FromLong(((Item *)one)->value + ((Item *)other)->value);
}

static Py_ssize_t
item_length(Item *self)
{
    add(&counter, 1);
    return 3;
}

static PyObject *
item_subscript(Item *self, PyObject *key)
{
    add(&counter, 1);
    return Py_NewRef(key);
}

static PyObject *
item_next(Item *self)
{
    add(&counter, 1);
    return self->steps++ % 4 == 3 ? NULL : PyLong_FromLong(self->steps);
}

static PyObject *
item_call(Item *self, PyObject *args, PyObject *keywords)
{
    add(&counter, 1);
    Py_RETURN_NONE;
}

static PyNumberMethods item_number = {.nb_add = item_add};
static PyMappingMethods item_mapping = {.mp_length = (lenfunc)item_length, .mp_subscript = (binaryfunc)item_subscript};

static PyTypeObject Item_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = TEXT(NAME) ".Item",
    .tp_basicsize = sizeof(Item),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = item_new,
    .tp_dealloc = (destructor)item_dealloc,
    .tp_hash = (hashfunc)item_hash,
    .tp_richcompare = item_compare,
    .tp_as_number = &item_number,
    .tp_as_mapping = &item_mapping,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)item_next,
    .tp_call = (ternaryfunc)item_call,
};

/* --- functions ------------------------------------------------------------------------------------------ */

static PyObject *
bump(PyObject *module, PyObject *n)
{
    long times = PyLong_AsLong(n);
    for (long i = 0; i < times; i++) {
        add(&counter, 1);
    }
    Py_RETURN_NONE;
}

static PyObject *
counts(PyObject *module, PyObject *unused)
{
    return Py_BuildValue("lll", counter, alive, exports);
}

/* Python code runs in the middle; nothing is held in halves meanwhile. */
static PyObject *
call(PyObject *module, PyObject *function)
{
    add(&counter, 1);
    PyObject *result = PyObject_CallNoArgs(function);
    add(&counter, 1);
    return result;
}

/* A dictionary is changed in the middle of a step, as a GIL lets one do if the keys are strings. */
static PyObject *
step(PyObject *module, PyObject *args)
{
    PyObject *dict, *key;
    if (!PyArg_ParseTuple(args, "OU", &dict, &key)) {
        return NULL;
    }
    if (left != right) {
        PyErr_SetString(PyExc_AssertionError, "another thread is in the middle of a step");
        return NULL;
    }
    add(&left, 1);
    if (PyDict_SetItem(dict, key, Py_None) < 0 || PyDict_DelItem(dict, key) < 0) {
        PyErr_Clear();
    }
    PyObject *old = PyList_New(3);
    Py_XDECREF(old);
    add(&right, 1);
    Py_RETURN_NONE;
}

/* Waits for the set while another thread changes it, between two changes of what belongs to the thread with that
 * number: so it may be a transaction. */
static PyObject *
contains(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    static struct {
        long before, after, apart[14];
    } asked[8];
    long i = nargs == 3 ? PyLong_AsLong(args[2]) : -1;
    if (i < 0 || i >= 8) {
        PyErr_SetString(PyExc_TypeError, "contains(set, key, number of the thread)");
        return NULL;
    }
    if (asked[i].before != asked[i].after) {
        PyErr_SetString(PyExc_AssertionError, "an earlier call was undone in part");
        return NULL;
    }
    asked[i].before++;
    int found = PySet_Contains(args[0], args[1]);
    asked[i].after++;
    return found < 0 ? NULL : PyBool_FromLong(found);
}

/* Calls that run Python code for some arguments only. */
static PyObject *
get(PyObject *module, PyObject *args)
{
    PyObject *container, *key;
    if (!PyArg_ParseTuple(args, "OO", &container, &key)) {
        return NULL;
    }
    return PyObject_GetItem(container, key);
}

static PyObject *
get_by_slot(PyObject *module, PyObject *args)
{
    PyObject *container, *key;
    if (!PyArg_ParseTuple(args, "OO", &container, &key)) {
        return NULL;
    }
    return Py_TYPE(container)->tp_as_mapping->mp_subscript(container, key);
}

static PyObject *
number(PyObject *module, PyObject *args)
{
    long n;
    return PyArg_ParseTuple(args, "l", &n) ? PyLong_FromLong(n) : NULL;
}

/* An error whose value is freed here. */
static PyObject *
forget(PyObject *module, PyObject *function)
{
    PyObject *result = PyObject_CallNoArgs(function);
    if (result == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(result);
    Py_RETURN_NONE;
}

static int
compare(const void *one, const void *other)
{
    add(&counter, 1);
    long a = *(const long *)one, b = *(const long *)other;
    return (a > b) - (a < b);
}

/* A callback that the C library calls. */
static PyObject *
sorted_sum(PyObject *module, PyObject *unused)
{
    long values[] = {3, 1, 2};
    qsort(values, 3, sizeof *values, compare);
    return PyLong_FromLong(values[0] * 100 + values[1] * 10 + values[2]);
}

/* Another extension, or this one, calls it by pointer. */
struct api {
    void (*bump)(long n);
};

static void
api_bump(long n)
{
    for (long i = 0; i < n; i++) {
        add(&counter, 1);
    }
}

static struct api api = {api_bump};

static PyObject *
export(PyObject *module, PyObject *unused)
{
    return PyCapsule_New(&api, "probe.api", NULL);
}

static PyObject *
use(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    long n;
    if (!PyArg_ParseTuple(args, "Ol", &capsule, &n)) {
        return NULL;
    }
    struct api *other = PyCapsule_GetPointer(capsule, "probe.api");
    if (other == NULL) {
        return NULL;
    }
    add(&counter, 1);
    other->bump(n);
    add(&counter, 1);
    Py_RETURN_NONE;
}

/* Others get in while it sleeps, milliseconds. */
static PyObject *
doze(PyObject *module, PyObject *milliseconds)
{
    long time = PyLong_AsLong(milliseconds);
    add(&counter, 1);
    Py_BEGIN_ALLOW_THREADS
    usleep((useconds_t)time * 1000);
    Py_END_ALLOW_THREADS
    add(&counter, 1);
    Py_RETURN_NONE;
}

/* Nobody gets in while it works. */
static PyObject *
work(PyObject *module, PyObject *milliseconds)
{
    long time = PyLong_AsLong(milliseconds);
    long before = counter;
    usleep((useconds_t)time * 1000);
    if (counter != before) {
        PyErr_SetString(PyExc_AssertionError, "another thread was in the extension");
        return NULL;
    }
    Py_RETURN_NONE;
}

static void *
own_thread(void *rounds)
{
    for (long i = 0; i < (long)rounds; i++) {
        PyGILState_STATE state = PyGILState_Ensure();
        for (int j = 0; j < 39; j++) {
            add(&counter, 1);
        }
        PyGILState_STATE inner = PyGILState_Ensure();
        PyObject *list = PyList_New(10);
        Py_XDECREF(list);
        PyGILState_Release(inner);
        add(&counter, 1);
        PyGILState_Release(state);
    }
    return NULL;
}

static PyObject *
thread(PyObject *module, PyObject *n)
{
    long rounds = PyLong_AsLong(n);
    pthread_t id;
    int error;
    Py_BEGIN_ALLOW_THREADS
    error = pthread_create(&id, NULL, own_thread, (void *)rounds);
    if (error == 0) {
        pthread_join(id, NULL);
    }
    Py_END_ALLOW_THREADS
    if (error != 0) {
        PyErr_SetString(PyExc_RuntimeError, "no thread");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- references that are borrowed from what other threads change ------------------------------------------- */

/* Size of a tuple, some time after it was lent out; minus a lot if it has been freed since. */
static long
size_later(PyObject *tuple)
{
    for (volatile int i = 0; i < 200; i++) {
    }
    return Py_REFCNT(tuple) > 0 && PyTuple_CheckExact(tuple) ? PyTuple_GET_SIZE(tuple) : -1000;
}

static PyObject *
items(PyObject *module, PyObject *list)
{
    long sum = 0;
    for (Py_ssize_t i = 0; i < 8; i++) {
        PyObject *item = PyList_GET_ITEM(list, i), *same = PyList_GetItem(list, i);
        if (item == NULL || same == NULL) {
            return NULL;
        }
        sum += size_later(item) + size_later(same);
    }
    return PyLong_FromLong(sum);
}

static PyObject *
values(PyObject *module, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t place = 0;
    long sum = 0;
    while (PyDict_Next(dict, &place, &key, &value)) {
        PyObject *same = PyDict_GetItem(dict, key);
        sum += size_later(value) + (same != NULL ? size_later(same) : 1);
    }
    return PyLong_FromLong(sum);
}

static PyObject *
referent(PyObject *module, PyObject *reference)
{
    PyObject *object = PyWeakref_GetObject(reference);
    return object == NULL ? NULL : PyLong_FromLong(PyObject_TypeCheck(object, &Item_Type));
}

static PyMethodDef methods[] = {
    {"bump", bump, METH_O, NULL},
    {"counts", counts, METH_NOARGS, NULL},
    {"call", call, METH_O, NULL},
    {"step", step, METH_VARARGS, NULL},
    {"contains", _PyCFunction_CAST(contains), METH_FASTCALL, NULL},
    {"get", get, METH_VARARGS, NULL},
    {"get_by_slot", get_by_slot, METH_VARARGS, NULL},
    {"number", number, METH_VARARGS, NULL},
    {"forget", forget, METH_O, NULL},
    {"sorted_sum", sorted_sum, METH_NOARGS, NULL},
    {"export", export, METH_NOARGS, NULL},
    {"use", use, METH_VARARGS, NULL},
    {"doze", doze, METH_O, NULL},
    {"work", work, METH_O, NULL},
    {"thread", thread, METH_O, NULL},
    {"items", items, METH_O, NULL},
    {"values", values, METH_O, NULL},
    {"referent", referent, METH_O, NULL},
    {NULL},
};

static int
populate(PyObject *module)
{
    PyObject *box = PyType_FromSpec(&box_spec);
    if (box == NULL || PyModule_AddObjectRef(module, "Box", box) < 0 || PyType_Ready(&Item_Type) < 0 ||
        PyModule_AddObjectRef(module, "Item", (PyObject *)&Item_Type) < 0) {
        Py_XDECREF(box);
        return -1;
    }
    Py_DECREF(box);
    add(&counter, 1);
    add(&counter, -1);
    return 0;
}

#ifdef SINGLE
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, TEXT(NAME), NULL, -1, methods};

PyMODINIT_FUNC
JOIN(PyInit_, NAME)(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && populate(module) < 0) {
        Py_CLEAR(module);
    }
    return module;
}
#else
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)populate}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, TEXT(NAME), NULL, 0, methods, slots};

PyMODINIT_FUNC
JOIN(PyInit_, NAME)(void)
{
    return PyModuleDef_Init(&definition);
}
#endif
