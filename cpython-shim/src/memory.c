/* Memory of objects, straight from the runtime where nobody has put hooks in between. Plain code, but compiled
 * with the plugin, which marks what may be called by address. */
#include "shim.h"
#include "pycore_pymem_init.h" // _PyMem_RawMalloc()

#define ALLOCATORS (_PyRuntime.allocators.standard)

static inline void *
new_memory(size_t size)
{
    /* As _PyMem_RawMalloc() says: bytes for everybody. */
    return size > PY_SSIZE_T_MAX ? NULL : ame_malloc(size + (size == 0));
}

void *
ame_py_PyObject_Malloc(size_t size)
{
    return ALLOCATORS.obj.malloc == _PyMem_RawMalloc ? new_memory(size) : PyObject_Malloc(size);
}

void
ame_py_PyObject_Free(void *p)
{
    if (ALLOCATORS.obj.free == _PyMem_RawFree) {
        ame_free(p);
    }
    else {
        PyObject_Free(p);
    }
}

void *
ame_py_PyMem_Malloc(size_t size)
{
    return ALLOCATORS.mem.malloc == _PyMem_RawMalloc ? new_memory(size) : PyMem_Malloc(size);
}

void
ame_py_PyMem_Free(void *p)
{
    if (ALLOCATORS.mem.free == _PyMem_RawFree) {
        ame_free(p);
    }
    else {
        PyMem_Free(p);
    }
}
