/* Where memory of other allocators lies. Plain code. */
#include "shim.h"

/* In place of mimalloc's choice of an address (PYTHONMALLOC=mimalloc): the kernel chooses. */
void *
ame_py_no_hint(size_t alignment, size_t size)
{
    return NULL;
}
