/* What the evaluation loop does where it meets transactions. Included before all else of
 * Python/ceval.c; recipe/edits.py puts the macros there.
 *
 * The loop is compiled twice (plain clones, docs/design.md): one copy without barriers, for a thread that
 * runs solo, and one with them. A thread changes between them where it looks at requests: the loop
 * that finds itself in the wrong copy lets the other run its frames.
 */
#ifndef AME_CPYTHON_EVAL_H
#define AME_CPYTHON_EVAL_H

#define _PY_INTERPRETER
#include "shim.h"
#include "pycore_frame.h"

int ame_in_transaction(void);
int ame_is_clone(void);
struct _object *ame_py_cover(struct _ts *tstate, struct _PyInterpreterFrame *frame, int throwflag);
/* Whether the loop, of the copy with or without barriers, is in the wrong one, or has to say so. */
int ame_py_wrong_copy(int barriers);
/* What `with` has entered: whether it is an atomic block that cannot be rolled back in this copy. */
int ame_py_block_is_bare(struct _object *entered);
struct _object *ame_py_other_copy(struct _ts *tstate, struct _PyInterpreterFrame *frame, int barriers);
/* Result of the other copy: its frames are not done, they go on in this one. */
extern struct _object ame_py_go_on;

void ame_py_pop_frame(PyThreadState *tstate, _PyInterpreterFrame *frame);
void ame_py_stack_push(_PyInterpreterFrame *frame, PyObject *value);

/* What the loop does with every call and return, where there is nothing to save (frames.c). */
static inline void
pyame_pop(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    struct ame_py_thread *self = ame_py_self;
    _PyStackChunk *chunk = tstate->datastack_chunk;
    if (ame_is_clone()) {
        _PyThreadState_PopFrame(tstate, frame);
    }
    else if (chunk == self->saved_chunk && (char *)frame >= self->saved_top && (PyObject **)frame != &chunk->data[0]) {
        tstate->datastack_top = (PyObject **)frame;
    }
    else {
        ame_py_pop_frame(tstate, frame);
    }
}
#define _PyThreadState_PopFrame(tstate, frame) pyame_pop(tstate, frame)

static inline void
pyame_push(_PyInterpreterFrame *frame, PyObject *value)
{
    if (ame_is_clone() || frame->owner != FRAME_OWNED_BY_GENERATOR) {
        frame->localsplus[frame->stacktop] = value;
        frame->stacktop++;
    }
    else {
        ame_py_stack_push(frame, value);
    }
}
#define _PyFrame_StackPush(frame, value) pyame_push(frame, value)

/* Beside other threads an instruction that will not be specialised soon counts only now and then: each
 * time it writes to the code, which all threads read. */
#define AME_PY_ADVANCE(COUNTER)                                                                   \
    if (!ame_barriers || (COUNTER).as_counter < 64 << 4 || ++ame_unspecialised % 16 == 0) {       \
        (COUNTER) = advance_backoff_counter((COUNTER));                                           \
    }

/* The flag that makes the loop go on with the frames of another one, which has set them up. */
#define AME_PY_NESTED (-1)

#define AME_PY_ENTERED()                                                                          \
    /* The copy with barriers may begin outside of a transaction, with plain functions below. */  \
    const int ame_barriers = !ame_is_clone() && ame_in_transaction();                             \
    unsigned ame_unspecialised = 0;                                                               \
    if (throwflag == AME_PY_NESTED) {                                                             \
        goto ame_go_on;                                                                           \
    }                                                                                             \
    /* Bare: plain functions called the loop, which no transaction may interrupt. */              \
    if (ame_barriers && ame_py_self->bare) {                                                      \
        return ame_py_cover(tstate, frame, throwflag);                                            \
    }

/* Between two instructions; a jump backward looks at requests before it jumps. Not under tracing, whose instructions hide
 * others, and look at which one has run before. */
#define AME_PY_CHECKED()                                                                          \
    if (ame_py_wrong_copy(ame_barriers)) {                                                        \
        int ame_code = frame->instr_ptr->op.code;                                                 \
        _Py_CODEUNIT *ame_next = ame_code == JUMP_BACKWARD ? next_instr - oparg : next_instr;     \
        if (ame_code < MIN_INSTRUMENTED_OPCODE && ame_next->op.code < MIN_INSTRUMENTED_OPCODE) {  \
            frame->instr_ptr = ame_next;                                                          \
            _PyFrame_SetStackPointer(frame, stack_pointer);                                       \
            goto ame_change;                                                                      \
        }                                                                                         \
    }

/* After `with` has called __enter__. */
#define AME_PY_BLOCK()                                                                            \
    if (ame_py_block_is_bare(res)) {                                                                \
        frame->instr_ptr = next_instr;                                                            \
        _PyFrame_SetStackPointer(frame, stack_pointer);                                           \
        goto ame_change;                                                                          \
    }

#define AME_PY_CHANGE()                                                                           \
    ame_change:                                                                                   \
    if (throwflag == AME_PY_NESTED && ame_in_transaction() != ame_barriers) {                     \
        return &ame_py_go_on;                                                                     \
    }                                                                                             \
    else {                                                                                        \
        PyObject *result = ame_py_other_copy(tstate, frame, ame_barriers);                        \
        if (result != &ame_py_go_on) {                                                            \
            return result;                                                                        \
        }                                                                                         \
        frame = tstate->current_frame;                                                            \
        goto ame_go_on;                                                                           \
    }

#endif
