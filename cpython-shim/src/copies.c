/* The two copies of the evaluation loop, and of other hot functions: with barriers and without.
 *
 * A thread that runs solo executes the plain copies. When a second thread comes, the first goes on in
 * transactions, but there are plain functions on its stack, whose frames wait for what runs now: the
 * thread is *bare*. What a plain function does in a transaction is neither locked nor undone, so the
 * transactions of a bare thread are exclusive. That ends
 *
 * - where its evaluation loop looks at requests: the loop with barriers goes on with the frames of the
 *   plain one, and the thread is bare again when it returns;
 * - where a plain function calls the evaluation loop.
 *
 * Nothing ends it but these two, which both know when control comes back to the plain functions.
 */
#include "shim.h"
#include "eval.h"
#include "pycore_frame.h"

PyObject ame_py_go_on;

/* From here on transactions need not be exclusive. */
static void
dress(struct ame_py_thread *self, _PyInterpreterFrame *frame)
{
    self->bare = 0;
    if (self->atomic == 0 || self->block_moves) {
        self->block_moves = 0;
        ame_py_renew(self);
        ame_py_cover_frame(self, frame);
    }
}

int
ame_py_block_is_bare(PyObject *entered)
{
    struct ame_py_thread *self = ame_py_self;
    /* Nothing of the block has been done: it can begin in the next transaction as well. */
    self->block_moves = self->block == entered && self->bare && self->mode == AME_PY_PARALLEL;
    self->block = NULL;
    return self->block_moves;
}

/* Plain functions go on. */
static void
undress(struct ame_py_thread *self)
{
    if (self->mode == AME_PY_PARALLEL) {
        self->reason = __func__;
        ame_make_exclusive();
        self->reason = NULL;
        ame_py_request_drop(self);
    }
    self->bare = 1;
}

PyObject *
ame_py_cover(PyThreadState *tstate, _PyInterpreterFrame *frame, int throwflag)
{
    struct ame_py_thread *self = ame_py_self;
    dress(self, frame);
    PyObject *result = _PyEval_EvalFrameDefault(tstate, frame, throwflag);
    undress(self);
    return result;
}

int
ame_py_wrong_copy(int barriers)
{
    struct ame_py_thread *self = ame_py_self;
    if (self->atomic != 0) {
        return 0;
    }
    int inside = ame_in_transaction();
    return inside != barriers || (inside && self->bare);
}

PyObject *
ame_py_other_copy(PyThreadState *tstate, _PyInterpreterFrame *frame, int barriers)
{
    struct ame_py_thread *self = ame_py_self;
    if (barriers) {
        /* Solo, or bare: functions that this loop called have ended. */
        if (!ame_in_transaction()) {
            PyObject *result = _PyEval_EvalFrameDefault(tstate, frame, AME_PY_NESTED);
            if (result != &ame_py_go_on) {
                return result;
            }
            frame = tstate->current_frame;
        }
        dress(self, frame);
        return &ame_py_go_on;
    }
    dress(self, frame);
    PyObject *result = _PyEval_EvalFrameDefault(tstate, frame, AME_PY_NESTED);
    if (result != &ame_py_go_on) {
        undress(self);
    }
    return result;
}
