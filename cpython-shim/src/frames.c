/* The stack of frames of a thread state: memory of the transactional heap, in pieces large enough
 * that most programs need one. Plain code. */
#include "shim.h"

_PyStackChunk *
ame_py_allocate_chunk(int size, _PyStackChunk *previous)
{
    _PyStackChunk *chunk = ame_malloc(size);
    if (chunk != NULL) {
        /* New memory: nobody else knows it. */
        chunk->previous = previous;
        chunk->size = size;
        chunk->top = 0;
    }
    return chunk;
}

/* Only chunks are freed this way in the interpreter itself. */
void
ame_py_virtual_free(void *memory, size_t size)
{
    ame_free(memory);
}
