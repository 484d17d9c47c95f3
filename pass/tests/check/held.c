#include "./include/python3/python.h"

typedef struct Node { struct Node *next; PyObject *key; int hits; } Node;
typedef struct { PyObject ob_base; Node *head; PyObject *callback; long size; } Table;

// The count that was read before the call is written after it.
void update(Table *self, PyObject *f) {
    long size = self->size;
    PyObject_CallNoArgs(f);
    self->size = size + 1;
}
// It is read again: others' changes are seen.
void update_again(Table *self, PyObject *f) {
    if (self->size < 0) return;
    PyObject_CallNoArgs(f);
    self->size = self->size + 1;
}
// Nothing runs in between.
void update_at_once(Table *self) { PyLong_FromLong(self->size); self->size++; }
// A node may be gone when the comparison returns.
int find(Table *self, PyObject *key) {
    for (Node *n = self->head; n; n = n->next)
        if (PyObject_RichCompareBool(n->key, key, 2))
            return n->hits;
    return 0;
}
// Through a function of this file.
static void notify(PyObject *f) { PyObject_CallNoArgs(f); }
void indirect(Table *self) {
    long before = self->size;
    notify(self->callback);
    self->size = before - 1;
}
// Through one of another file: the command knows whether that runs Python code.
extern void elsewhere(void);
void other_file(Table *self) {
    long before = self->size;
    elsewhere();
    self->size = before - 1;
}
// Others see the callback that was dropped.
void set_callback(Table *self, PyObject *f) {
    Py_DECREF(self->callback);
    self->callback = f;
}
// Whoever frees an object has it alone.
static void dealloc(PyObject *self) {
    Py_DECREF(((Table *)self)->callback);
    ((Table *)self)->callback = 0;
}
PyTypeObject type = {.tp_dealloc = dealloc};
// A reference keeps what was read.
PyObject *call(Table *self) {
    Table *other = (Table *)self->callback;
    Py_INCREF(&other->ob_base);
    PyObject_CallNoArgs(&other->ob_base);
    return (PyObject *)other->head;
}
// An argument for a callback, in a variable.
static Table *current;
static void visit(int i) { current->size += i; }
extern void walk(void (*)(int));
void walk_all(Table *self) {
    current = self;
    PyObject_CallNoArgs(self->callback);
    walk(visit);
}
