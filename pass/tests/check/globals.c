#include "./include/python3/python.h"

static int counter;                 // written at run time
static PyObject *decimal;           // filled when first needed
static PyObject *error;             // written when the module is imported
static __thread int depth;          // each thread's own
static const int limit = 5;         // constant
static int never = 7;               // never written
int shared;                         // other files may write it, too
static struct { int used; char text[80]; } buffer;
static PyMemberDef members[] = {
    {"open", 6, 16, 0, 0}, {"closed", 6, 24, 1, 0}, {"number", 1, 32, 0, 0}, {0},
};
extern void *memset(void *, int, unsigned long);
extern void fill(char *);

static PyObject *count(PyObject *self) {
    static int calls;               // a static local
    calls++;
    depth++;
    counter += limit + never;
    fill(buffer.text);
    memset(&buffer, 0, sizeof buffer);
    return PyLong_FromLong(counter + members[0].type);
}
static PyObject *lazily(PyObject *self) {
    if (!decimal)
        decimal = PyImport_ImportModule("decimal");
    return decimal;
}
static void make_error(void) { error = PyDict_New(); }
static int execute(PyObject *module) { make_error(); shared = 1; return error != 0; }
static PyModuleDef_Slot slots[] = {{2, execute}, {0, 0}};
static PyObject *(*methods[])(PyObject *) = {count, lazily};
PyObject *PyInit_example(void) { return PyModuleDef_Init(slots + (methods[0] == 0)); }
