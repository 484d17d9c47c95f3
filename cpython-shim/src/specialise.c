/* Specialisation of instructions while other threads run the same code.
 *
 * CPython's functions write the inline cache and the opcode in place, which another thread may be
 * reading. Beside other transactions they work on a copy here, and the result is published so that
 * no thread ever combines an opcode with the cache of another one:
 *
 * - An instruction that is not specialised has no cache but its counter. Its new cache is stored
 *   first, then the opcode.
 * - One that is specialised is first made general again (one store of a byte). It may be specialised
 *   anew when each thread that runs has begun a transaction since: then nobody still executes the
 *   old opcode. `epoch` counts such steps; each thread notes it when it begins.
 *
 * Many instructions have no cache but their counter, specialised or not: each opcode of such a family is right at any
 * time, only slower where it does not fit, so these are specialised as CPython does it.
 *
 * A transaction publishes what it has specialised otherwise when it commits: a cache is guarded by version
 * numbers, but not all that it says was true before the transaction. (The offset of an attribute
 * holds as long as the type's version, because keys that objects share only grow. After a rollback
 * they have shrunk, and the next name may get the same offset.)
 */
#include "shim.h"
#include "pycore_code.h"
#include "pycore_frame.h"
#include "pycore_opcode_metadata.h"
#include "opcode_ids.h"
#include <stdatomic.h>
#include <string.h>

#define SITES 4096

atomic_ulong ame_py_epoch = 1;
/* The epoch in which an instruction of this bucket was last made general. */
static atomic_ulong generalised[SITES];
static atomic_flag publishing = ATOMIC_FLAG_INIT;

static atomic_ulong *
site(const _Py_CODEUNIT *instr)
{
    return &generalised[((uintptr_t)instr >> 1) * 0x9e3779b97f4a7c15u >> 52];
}

static void
set_counter(_Py_CODEUNIT *instr, unsigned value, unsigned backoff)
{
    instr[1].counter = adaptive_counter_bits(value, backoff);
}

/* Whether a thread may still execute what this instruction was before. */
static int
in_use(const _Py_CODEUNIT *instr)
{
    unsigned long epoch = atomic_load(site(instr));
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        if (__atomic_load_n(&t->tstate, __ATOMIC_ACQUIRE) != NULL && t != ame_py_self &&
            __atomic_load_n(&t->epoch, __ATOMIC_ACQUIRE) < epoch) {
            return 1;
        }
    }
    return 0;
}

/* Whether an instruction has no cache but its counter. */
static int
has_no_cache(int opcode)
{
    switch (_PyOpcode_Deopt[opcode]) {
    case BINARY_OP:
    case COMPARE_OP:
    case CONTAINS_OP:
    case FOR_ITER:
    case LOAD_SUPER_ATTR:
    case SEND:
    case STORE_SUBSCR:
    case UNPACK_SEQUENCE:
        return 1;
    case BINARY_SUBSCR:
        return opcode != BINARY_SUBSCR_GETITEM;
    case TO_BOOL:
        return opcode != TO_BOOL_ALWAYS_TRUE;
    default:
        return 0;
    }
}

/* Cycles of the time stamp counter, 2 to 4 in a nanosecond; and for each time that memory was acquired. */
#define LONG 2000000
#define CHEAP 2000

/* What the transaction has specialised is of use from its end on: a long one ends, unless it has touched so much that
 * to touch that again costs more. */
static void
publish_soon(struct ame_py_thread *self)
{
    if (self->n_sites != 0) {
        uint64_t cycles = ame_at_stake();
        if (cycles > LONG && cycles > CHEAP * ame_written()) {
            ame_py_request_drop(self);
        }
    }
}

/* What to do with an instruction whose counter has run out. Returns a copy to work on, or NULL. */
static _Py_CODEUNIT *
prepare(_Py_CODEUNIT *instr, _Py_CODEUNIT *copy)
{
    int opcode = instr->op.code, general = _PyOpcode_Deopt[opcode];
    publish_soon(ame_py_self);
    if (opcode >= MIN_INSTRUMENTED_OPCODE) {
        set_counter(instr, 1023, 10);
        return NULL;
    }
    int has_cache = !has_no_cache(opcode);
    if (has_cache && opcode != general && instr[1].counter.backoff != 12) {
        /* It does not always fit. Where several types take turns, something that fits sometimes is
         * better than nothing, and CPython's way, to follow the types, is not for many threads. */
        set_counter(instr, 4095, 12);
        return NULL;
    }
    if (has_cache && opcode != general) {
        instr->op.code = (uint8_t)general;
        atomic_store(site(instr), atomic_fetch_add(&ame_py_epoch, 1) + 1);
        set_counter(instr, 255, 8);
        return NULL;
    }
    if (has_cache && in_use(instr)) {
        ame_py_request_begin_since(atomic_load(site(instr)));
        set_counter(instr, 63, 6);
        return NULL;
    }
    memcpy(copy, instr, (2 + _PyOpcode_Caches[general]) * sizeof *copy);
    return copy;
}

static void
publish(_Py_CODEUNIT *instr, const _Py_CODEUNIT *copy)
{
    if (atomic_flag_test_and_set_explicit(&publishing, memory_order_acquire)) {
        return;
    }
    int general = _PyOpcode_Deopt[copy->op.code];
    if (instr->op.code == general && !in_use(instr)) {
        for (int i = 1; i <= _PyOpcode_Caches[general]; i++) {
            instr[i] = copy[i];
        }
        atomic_thread_fence(memory_order_release);
        *(volatile uint8_t *)&instr->op.code = copy->op.code;
    }
    atomic_flag_clear_explicit(&publishing, memory_order_release);
}

/* The transaction commits. */
static void
publish_all(void *pointer)
{
    struct ame_py_thread *self = pointer;
    for (size_t i = 0; i < self->n_sites; i++) {
        publish(self->sites[i].instr, self->sites[i].units);
        ame_py_leave_to_burial(self->sites[i].code);
    }
    self->n_sites = 0;
}

/* Nothing has come of it: the instructions are tried again when they are executed next. */
void
ame_py_sites_rolled_back(struct ame_py_thread *self)
{
    for (size_t i = 0; i < self->n_sites; i++) {
        set_counter(self->sites[i].instr, 0, 1);
    }
    self->n_sites = 0;
}

static getter code_adaptive;

/* code._co_code_adaptive, which dis shows: with what this transaction has specialised. */
static PyObject *
adaptive_with_ours(PyObject *code, void *closure)
{
    struct ame_py_thread *self = ame_py_get_self();
    if (self->n_sites != 0) {
        ame_py_irrevocable();
        publish_all(self);
    }
    return code_adaptive(code, closure);
}

void
ame_py_init_specialise(void)
{
    for (PyGetSetDef *def = PyCode_Type.tp_getset; def->name != NULL; def++) {
        if (strcmp(def->name, "_co_code_adaptive") == 0) {
            code_adaptive = def->get;
            def->get = adaptive_with_ours;
        }
    }
}

/* CPython has worked on the copy. */
static void
keep(_Py_CODEUNIT *instr, const _Py_CODEUNIT *copy)
{
    struct ame_py_thread *self = ame_py_self;
    if (has_no_cache(instr->op.code) && has_no_cache(copy->op.code)) {
        instr[1] = copy[1];
        *(volatile uint8_t *)&instr->op.code = copy->op.code;
        return;
    }
    if (copy->op.code == _PyOpcode_Deopt[copy->op.code]) {
        /* It could not: the counter says when to try again. */
        instr[1] = copy[1];
        return;
    }
    set_counter(instr, 255, 8);
    /* Kept alive, because code that is made and thrown away in one transaction is freed at once. */
    PyObject *code = _PyThreadState_GET()->current_frame->f_executable;
    pyame_hold(code);
    if (self->n_sites == 0) {
        ame_before_release(publish_all, self);
    }
    self->sites = ame_py_with_room(self->sites, self->n_sites + 1, &self->room_for_sites, sizeof *self->sites);
    struct ame_py_site *site = &self->sites[self->n_sites++];
    site->instr = instr;
    site->code = code;
    memcpy(site->units, copy, sizeof site->units);
}

/* Alone: as CPython does it. */
static int
alone(void)
{
    struct ame_py_thread *self = ame_py_self;
    return self == NULL || self->mode != AME_PY_PARALLEL;
}

#define SPECIALISE(instr, call)                                                                      \
    if (alone()) {                                                                                   \
        _Py_CODEUNIT *at = instr;                                                                    \
        call;                                                                                        \
        return;                                                                                      \
    }                                                                                                \
    _Py_CODEUNIT units[MOST_UNITS], *at = prepare(instr, units);                                     \
    if (at != NULL) {                                                                                \
        call;                                                                                        \
        keep(instr, at);                                                                             \
    }

void
ame_py_load_super_attr(PyObject *super, PyObject *cls, _Py_CODEUNIT *instr, int method)
{
    SPECIALISE(instr, _Py_Specialize_LoadSuperAttr(super, cls, at, method))
}

void
ame_py_load_attr(PyObject *owner, _Py_CODEUNIT *instr, PyObject *name)
{
    SPECIALISE(instr, _Py_Specialize_LoadAttr(owner, at, name))
}

void
ame_py_store_attr(PyObject *owner, _Py_CODEUNIT *instr, PyObject *name)
{
    SPECIALISE(instr, _Py_Specialize_StoreAttr(owner, at, name))
}

void
ame_py_load_global(PyObject *globals, PyObject *builtins, _Py_CODEUNIT *instr, PyObject *name)
{
    SPECIALISE(instr, _Py_Specialize_LoadGlobal(globals, builtins, at, name))
}

void
ame_py_binary_subscr(PyObject *sub, PyObject *container, _Py_CODEUNIT *instr)
{
    SPECIALISE(instr, _Py_Specialize_BinarySubscr(sub, container, at))
}

void
ame_py_store_subscr(PyObject *container, PyObject *sub, _Py_CODEUNIT *instr)
{
    SPECIALISE(instr, _Py_Specialize_StoreSubscr(container, sub, at))
}

void
ame_py_call(PyObject *callable, _Py_CODEUNIT *instr, int nargs)
{
    SPECIALISE(instr, _Py_Specialize_Call(callable, at, nargs))
}

void
ame_py_binary_op(PyObject *left, PyObject *right, _Py_CODEUNIT *instr, int oparg, PyObject **locals)
{
    SPECIALISE(instr, _Py_Specialize_BinaryOp(left, right, at, oparg, locals))
}

void
ame_py_compare_op(PyObject *left, PyObject *right, _Py_CODEUNIT *instr, int oparg)
{
    SPECIALISE(instr, _Py_Specialize_CompareOp(left, right, at, oparg))
}

void
ame_py_unpack_sequence(PyObject *sequence, _Py_CODEUNIT *instr, int oparg)
{
    SPECIALISE(instr, _Py_Specialize_UnpackSequence(sequence, at, oparg))
}

void
ame_py_for_iter(PyObject *iterator, _Py_CODEUNIT *instr, int oparg)
{
    SPECIALISE(instr, _Py_Specialize_ForIter(iterator, at, oparg))
}

void
ame_py_send(PyObject *receiver, _Py_CODEUNIT *instr)
{
    SPECIALISE(instr, _Py_Specialize_Send(receiver, at))
}

void
ame_py_to_bool(PyObject *value, _Py_CODEUNIT *instr)
{
    SPECIALISE(instr, _Py_Specialize_ToBool(value, at))
}

void
ame_py_contains_op(PyObject *value, _Py_CODEUNIT *instr)
{
    SPECIALISE(instr, _Py_Specialize_ContainsOp(value, at))
}

/* --- code objects, not instructions --------------------------------------------------------------- */

/* Whether nobody else knows the tuple, which this transaction has made, or there is nothing to change in it. */
static int
is_new_or_interned(PyObject *tuple)
{
    int is_new = PyTuple_GET_SIZE(tuple) == 0 || ame_is_written(&PyTuple_GET_ITEM(tuple, 0));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        if (PyTuple_CheckExact(item) ? !is_new_or_interned(item)
                                     : !is_new && !(PyUnicode_CheckExact(item) && PyUnicode_CHECK_INTERNED(item))) {
            return 0;
        }
    }
    return 1;
}

/* It puts interned strings into the tuples that it is given, where others read without a lock. */
PyCodeObject *
ame_py_code_new(struct _PyCodeConstructor *parts)
{
    if (!is_new_or_interned(parts->names) || !is_new_or_interned(parts->consts) ||
        !is_new_or_interned(parts->localsplusnames)) {
        ame_py_alone();
    }
    return _PyCode_New(parts);
}

/* generator.throw() asks each time; mostly there is nothing to do. */
int
ame_py_instrument(PyCodeObject *code, PyInterpreterState *interp)
{
    uintptr_t version = _Py_atomic_load_uintptr_relaxed(&interp->ceval.instrumentation_version);
    if ((uint32_t)version == code->_co_instrumentation_version) {
        return 0;
    }
    ame_py_alone();
    return _Py_Instrument(code, interp);
}
