/* Frames and thread states under rollback.
 *
 * The evaluation loop stores into frames all the time. It does so without barriers
 * (cpython-ame-eval.toml); what a rollback needs is saved here instead:
 *
 * - At begin: the thread state, the topmost frame on the frame stack and what lies just below it,
 *   and every running frame that is part of a generator. Copied back after a rollback.
 * - Frames above the top at begin are new: nothing to save.
 * - When a frame is popped and the one below was not saved, that one is logged before it goes on.
 * - When a generator is resumed, its frame is logged before.
 *
 * So the frame that the loop executes is always one that has been saved in this transaction, or a
 * new one. All other code keeps barriers for frames (kind private), the log is undone before the
 * copies are put back, and the earliest copy wins. Plain code.
 */
#include "shim.h"
#include <ame_rt.h>
#include "pycore_frame.h"
#include "pycore_code.h"
#include "pycore_function.h"
#include <string.h>

/* The request bits of the main thread's state, and the exception sent to it, share no granule with what is undone:
 * _PyRuntime begins at one (recipe/edits.py). */
_Static_assert((offsetof(_PyRuntimeState, _main_interpreter) + offsetof(PyInterpreterState, _initial_thread)) % 16 == 0,
               "the main thread's state begins inside of a granule");

/* Bytes of the frame stack that are saved at begin, if there are so many. */
#define SAVED_BELOW 1024

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

/* --- begin and rollback ------------------------------------------------------------------------ */

static void
save(struct ame_py_thread *self, void *memory, size_t bytes)
{
    size_t need = sizeof(struct ame_py_saved) + ((bytes + 15) & ~(size_t)15);
    self->saved = ame_py_with_room(self->saved, self->n_saved + need, &self->room_for_saved, 1);
    struct ame_py_saved *entry = (struct ame_py_saved *)(self->saved + self->n_saved);
    entry->memory = memory;
    entry->bytes = bytes;
    memcpy(entry->copy, memory, bytes);
    self->n_saved += need;
}

static size_t
frame_bytes(_PyInterpreterFrame *frame)
{
    return (size_t)((PyCodeObject *)frame->f_executable)->co_framesize * sizeof(PyObject *);
}

static int
on_frame_stack(_PyInterpreterFrame *frame)
{
    return frame->owner == FRAME_OWNED_BY_THREAD;
}

static int
is_in_chunk(_PyStackChunk *chunk, void *place)
{
    return (char *)place >= (char *)chunk && (char *)place < (char *)chunk + chunk->size;
}

static struct ame_py_covered *
covered_slot(struct ame_py_thread *self, void *frame)
{
    return &self->covered[((uintptr_t)frame >> 4) % COVERED];
}

void
ame_py_begins(void)
{
    struct ame_py_thread *self = ame_py_self;
    if (self == NULL) {
        return;
    }
    self->n_saved = 0;
    self->serial++;
    /* Nobody else touches them, except alone; so they have no barriers (cpython-ame.toml). */
    save(self, &self->freelists, sizeof self->freelists);
    self->saved_from = self->saved_at_begin = self->saved_top = NULL;
    self->saved_chunk = NULL;
    PyThreadState *tstate = self->tstate;
    if (tstate == NULL) {
        ame_own_region(0, NULL, 0, NULL);
        ame_own_region(1, NULL, 0, NULL);
        ame_own_region(2, NULL, 0, NULL);
        return;
    }
    /* Not the links, the evaluation loop's request bits, nor the exception that others send. */
    char *start = (char *)tstate;
    size_t first = (offsetof(PyThreadState, eval_breaker) + 8 + 15) & ~(size_t)15;
    size_t second = offsetof(PyThreadState, async_exc) & ~(size_t)15;
    size_t end = sizeof(_PyThreadStateImpl) & ~(size_t)15;
    ame_own_region(1, start + first, second - first, NULL);
    ame_own_region(2, start + second + 16, end - second - 16, NULL);
    save(self, start + first, second - first);
    save(self, start + second + 16, end - second - 16);

    _PyStackChunk *chunk = tstate->datastack_chunk;
    if (chunk == NULL) {
        ame_own_region(0, NULL, 0, NULL);
        return;
    }
    char *top = (char *)tstate->datastack_top, *low = (char *)&chunk->data[0];
    if (top - low > SAVED_BELOW) {
        low = top - SAVED_BELOW;
    }
    _PyInterpreterFrame *topmost = NULL;
    for (_PyInterpreterFrame *f = tstate->current_frame; f != NULL; f = f->previous) {
        if (f->owner == FRAME_OWNED_BY_GENERATOR) {
            save(self, f, frame_bytes(f));
        }
        else if (topmost == NULL && on_frame_stack(f)) {
            topmost = f;
        }
    }
    if (topmost == NULL || !is_in_chunk(chunk, topmost)) {
        /* What is there is not in the chain of frames: one that is being made, say. */
        low = (char *)&chunk->data[0];
    }
    else if ((char *)topmost < low) {
        low = (char *)topmost;
    }
    low = (char *)((uintptr_t)low & ~(uintptr_t)15);
    if (low < top) {
        save(self, low, top - low);
    }
    self->saved_from = self->saved_at_begin = low;
    self->saved_chunk = chunk;
    self->saved_top = top;
    ame_own_region(0, chunk, chunk->size, low);
}

void
ame_py_rolled_back(void)
{
    struct ame_py_thread *self = ame_py_self;
    if (self == NULL) {
        return;
    }
    for (size_t at = 0; at < self->n_saved;) {
        struct ame_py_saved *entry = (struct ame_py_saved *)(self->saved + at);
        memcpy(entry->memory, entry->copy, entry->bytes);
        at += sizeof *entry + ((entry->bytes + 15) & ~(size_t)15);
    }
    /* What was logged since begin has been undone with the log, which is empty now. */
    self->saved_from = self->saved_at_begin;
    self->serial++;
    ame_py_sites_rolled_back(self);
    ame_py_locks_rolled_back(self);
    /* Who raises it clears the request, which a rollback does not put back as it does the exception. */
    PyThreadState *tstate = self->tstate;
    if (tstate != NULL && _Py_atomic_load_ptr(&tstate->async_exc) != NULL) {
        _Py_set_eval_breaker_bit(tstate, _PY_ASYNC_EXCEPTION_BIT);
    }
}

/* --- while it runs ----------------------------------------------------------------------------- */

/* The frame goes on: what it was at begin must be known. */
static void
cover(struct ame_py_thread *self, void *frame, size_t bytes)
{
    struct ame_py_covered *slot = covered_slot(self, frame);
    if (slot->frame != frame || slot->serial != self->serial) {
        if (!ame_is_fresh(frame)) {
            ame_private_range(frame, bytes);
        }
        slot->frame = frame;
        slot->serial = self->serial;
    }
}

void
ame_py_cover_frame(struct ame_py_thread *self, _PyInterpreterFrame *frame)
{
    cover(self, frame, frame_bytes(frame));
}

void
ame_py_pop_frame(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    PyObject **base = (PyObject **)frame;
    _PyStackChunk *chunk = tstate->datastack_chunk;
    /* The collector of frames has cleared the frame, except for this. */
    _PyInterpreterFrame *next = tstate->current_frame;
    if (next == frame) {
        next = frame->previous;
    }
    if (base == &chunk->data[0]) {
        _PyStackChunk *previous = chunk->previous;
        tstate->datastack_top = &previous->data[previous->top];
        tstate->datastack_chunk = previous;
        tstate->datastack_limit = (PyObject **)((char *)previous + previous->size);
        ame_free(chunk);
    }
    else {
        tstate->datastack_top = base;
    }
    struct ame_py_thread *self = ame_py_self;
    if (self->mode != AME_PY_PARALLEL) {
        return;
    }
    while (next != NULL && !on_frame_stack(next)) {
        next = next->previous;
    }
    chunk = tstate->datastack_chunk;
    char *low = (char *)next, *top = (char *)tstate->datastack_top;
    if (next == NULL || !is_in_chunk(chunk, next)) {
        /* What is left in the chunk is not in the chain of frames: one that is being made, or cleared. */
        if (next != NULL) {
            cover(self, next, frame_bytes(next));
        }
        low = (char *)&chunk->data[0];
    }
    if (chunk == self->saved_chunk) {
        if (low < self->saved_from) {
            ame_private_range(low, self->saved_from - low);
            self->saved_from = (char *)((uintptr_t)low & ~(uintptr_t)15);
        }
        self->saved_top = top;
    }
    else if (low < top) {
        cover(self, low, top - low);
    }
}

/* Whether the transaction holds the granule for writing. */
static int
is_held(const void *address)
{
    return ame_tls.marks[((uintptr_t)address >> 4) & 0xffffffff] >= AME_CONTROL->wver;
}

/* Where a frame gets a value from outside: a callee's result, or what is sent to a generator. */
void
ame_py_stack_push(_PyInterpreterFrame *frame, PyObject *value)
{
    if (frame->owner == FRAME_OWNED_BY_GENERATOR && ame_py_self->mode == AME_PY_PARALLEL) {
        /* Its state, which has been read and will be written, lies before the frame. Two that resume one generator would both
         * push otherwise, and one of them take it back. */
        char *state = (char *)&_PyFrame_GetGenerator(frame)->gi_frame_state;
        if (!is_held(state) || !is_held(&frame->localsplus[0])) {
            ame_write_range(state, (char *)frame + frame_bytes(frame) - state);
        }
    }
    frame->localsplus[frame->stacktop] = value;
    frame->stacktop++;
}

/* Whether it is one of those that the calling thread runs. */
int
ame_py_runs(const _PyInterpreterFrame *frame)
{
    const _PyInterpreterFrame *each = _PyThreadState_GET()->current_frame;
    while (each != NULL && each != frame) {
        each = each->previous;
    }
    return each != NULL;
}
