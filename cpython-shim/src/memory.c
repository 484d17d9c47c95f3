/* Memory of objects, straight from the runtime where nobody has put hooks in between. Plain code, but compiled
 * with the plugin, which marks what may be called by address. */
#include "shim.h"
#include "pycore_pymem_init.h" // _PyMem_RawMalloc()

#define ALLOCATORS (_PyRuntime.allocators.standard)

/* `hooked`: CPython's function, which calls the hooks. */
static inline __attribute__((always_inline)) void *
new_memory(const PyMemAllocatorEx *allocator, void *(*hooked)(size_t), size_t size)
{
    if (allocator->malloc != _PyMem_RawMalloc) {
        return hooked(size);
    }
    /* As _PyMem_RawMalloc() says: bytes for everybody. */
    return size > PY_SSIZE_T_MAX ? NULL : ame_malloc(size + (size == 0));
}

static inline __attribute__((always_inline)) void
give_back(const PyMemAllocatorEx *allocator, void (*hooked)(void *), void *p)
{
    if (allocator->free != _PyMem_RawFree) {
        hooked(p);
    }
    else {
        ame_free(p);
    }
}

void *
ame_py_PyObject_Malloc(size_t size)
{
    return new_memory(&ALLOCATORS.obj, PyObject_Malloc, size);
}

void
ame_py_PyObject_Free(void *p)
{
    give_back(&ALLOCATORS.obj, PyObject_Free, p);
}

void *
ame_py_PyMem_Malloc(size_t size)
{
    return new_memory(&ALLOCATORS.mem, PyMem_Malloc, size);
}

void
ame_py_PyMem_Free(void *p)
{
    give_back(&ALLOCATORS.mem, PyMem_Free, p);
}
