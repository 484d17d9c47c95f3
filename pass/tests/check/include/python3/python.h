// The little of CPython's headers that the check's inputs need; names and layouts are those of 3.13.
typedef long Py_ssize_t;
typedef struct _object { long ob_refcnt; struct _typeobject *ob_type; } PyObject;
typedef struct { PyObject ob_base; Py_ssize_t ob_size; } PyVarObject;
typedef struct _typeobject {
    PyVarObject ob_base; const char *tp_name; Py_ssize_t tp_basicsize, tp_itemsize;
    void (*tp_dealloc)(PyObject *);
} PyTypeObject;
typedef struct { PyVarObject ob_base; PyObject **ob_item; Py_ssize_t allocated; } PyListObject;
typedef struct PyMemberDef { const char *name; int type; Py_ssize_t offset; int flags; const char *doc; } PyMemberDef;
typedef struct PyModuleDef_Slot { int slot; void *value; } PyModuleDef_Slot;
#define PyList_GET_ITEM(list, i) (((PyListObject *)(list))->ob_item[i])
#define PyList_SET_ITEM(list, i, v) (((PyListObject *)(list))->ob_item[i] = (v))
PyObject *PyObject_CallNoArgs(PyObject *);
int PyObject_RichCompareBool(PyObject *, PyObject *, int);
PyObject *PyDict_GetItem(PyObject *, PyObject *);
int PyDict_Next(PyObject *, Py_ssize_t *, PyObject **, PyObject **);
PyObject *PyDict_New(void);
PyObject *PyList_New(Py_ssize_t);
PyObject *PyLong_FromLong(long);
PyObject *PyImport_ImportModule(const char *);
PyObject *PyModuleDef_Init(void *);
void *PyCapsule_Import(const char *, int);
void *PyEval_SaveThread(void);
void PyEval_RestoreThread(void *);
void Py_DECREF(PyObject *);
void Py_INCREF(PyObject *);
