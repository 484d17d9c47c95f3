/* Free lists and the collector's lists: one of each per thread. Plain code; see track.c for the rest. */
#include "shim.h"
#include "pycore_pylifecycle.h" // _PyGC_Fini()

struct _Py_object_freelists *
ame_py_freelists(void)
{
    return &ame_py_get_self()->freelists;
}

/* A new container object is counted where it is made. */
void
ame_py_gc_link(PyObject *op)
{
    struct ame_py_thread *self = ame_py_get_self();
    PyGC_Head *gc = _Py_AS_GC(op);
    /* The object is new: its memory belongs to the transaction. */
    gc->_gc_next = 0;
    gc->_gc_prev = 0;
    PyThreadState *tstate = _PyThreadState_GET();
    struct _gc_runtime_state *state = &tstate->interp->gc;
    if (++self->allocated > state->generations[0].threshold && state->enabled &&
        state->generations[0].threshold != 0 &&
        !_Py_atomic_load_int_relaxed(&state->collecting) && tstate->current_exception == NULL &&
        !_Py_eval_breaker_bit_is_set(tstate, _PY_GC_SCHEDULED_BIT)) {
        _Py_set_eval_breaker_bit(tstate, _PY_GC_SCHEDULED_BIT);
    }
}

/* Appends a piece of a list to another list. */
static void
append(PyGC_Head *first, PyGC_Head *last, PyGC_Head *to)
{
    PyGC_Head *end = (PyGC_Head *)to->_gc_prev;
    end->_gc_next = (uintptr_t)first;
    first->_gc_prev = (first->_gc_prev & ~_PyGC_PREV_MASK) | (uintptr_t)end;
    last->_gc_next = (uintptr_t)to;
    to->_gc_prev = (uintptr_t)last;
}

/* Appends a list to another one, and empties it. */
static void
move_all(PyGC_Head *from, PyGC_Head *to)
{
    if (from->_gc_next != (uintptr_t)from) {
        append((PyGC_Head *)from->_gc_next, (PyGC_Head *)from->_gc_prev, to);
        ame_py_empty_list(from);
    }
}

static void
add_stats(struct gc_generation_stats *to, const struct gc_generation_stats *from)
{
    to->collections += from->collections;
    to->collected += from->collected;
    to->uncollectable += from->uncollectable;
}

#define OLDEST (NUM_GENERATIONS - 1)
#define FOR_THREADS_OF(INTERP, T) \
    for (struct ame_py_thread *T = ame_py_all_threads(); T != NULL; T = T->next) \
        if (T->collected_by == (INTERP))

/* Nobody else runs: a thread's objects become those of the interpreter's generations, up to this one. */
static void
gather_objects_of(struct ame_py_thread *t, struct _gc_runtime_state *state, int oldest)
{
    for (int i = 0; i <= oldest; i++) {
        move_all(&t->objects[i], &state->generations[i].head);
    }
}

static void
gather_objects(PyInterpreterState *interp, int oldest)
{
    ame_py_alone();
    FOR_THREADS_OF(interp, t) {
        gather_objects_of(t, &interp->gc, oldest);
    }
}

static void
gather_counts_of(struct ame_py_thread *t, struct _gc_runtime_state *state)
{
    state->generations[0].count += t->allocated;
    t->allocated = 0;
    state->generations[1].count += t->collections.collections;
    add_stats(&state->generation_stats[0], &t->collections);
    t->collections = (struct gc_generation_stats){0, 0, 0};
}

static void
gather_counts(PyInterpreterState *interp)
{
    ame_py_alone();
    FOR_THREADS_OF(interp, t) {
        gather_counts_of(t, &interp->gc);
    }
}

/* For a collection of all. */
static void
gather(PyInterpreterState *interp)
{
    gather_counts(interp);
    gather_objects(interp, OLDEST);
}

/* The heap is given to threads in slices of 64 KiB (ame_owner_of()). */
#define SLICE(P) ((uintptr_t)(P) >> 16)

struct owner {
    uintptr_t slice;
    struct ame_py_thread *thread;
};

/* `other`: for memory of nobody, such as from before there were transactions, or of a thread that has ended. */
static struct ame_py_thread *
owner_of(const void *memory, PyInterpreterState *interp, struct ame_py_thread *other)
{
    uint32_t number = ame_owner_of(memory);
    if (number != 0) {
        FOR_THREADS_OF(interp, t) {
            if (t->number == number) {
                return t;
            }
        }
    }
    return other;
}

/* What a generation has goes to the lists of the threads in whose memory it is. */
static void
divide(PyInterpreterState *interp, int generation, struct ame_py_thread *other)
{
    struct owner known[64] = {{0, NULL}};
    PyGC_Head *list = &interp->gc.generations[generation].head, *gc = (PyGC_Head *)list->_gc_next;
    PyGC_Head *first = gc, *last = NULL, *to = NULL;
    while (gc != list) {
        struct owner *owner = &known[SLICE(gc) % Py_ARRAY_LENGTH(known)];
        if (owner->slice != SLICE(gc)) {
            *owner = (struct owner){SLICE(gc), owner_of(gc, interp, other)};
        }
        PyGC_Head *next_to = &owner->thread->objects[generation];
        /* Most neighbours have one owner. */
        if (next_to != to && to != NULL) {
            append(first, last, to);
            first = gc;
        }
        to = next_to;
        last = gc;
        gc = (PyGC_Head *)gc->_gc_next;
    }
    if (to != NULL) {
        append(first, last, to);
    }
    ame_py_empty_list(list);
}

/* Walks through the lists that call back for each object. */
static int visits;

/* After a collection, or a look at the objects: to each thread the objects that it has made. It is most likely the one
 * that frees them, and neighbours in a list are written to then: in a list of all threads they roll each other back, and
 * wait for each other's cache lines. */
static void
give_back(PyInterpreterState *interp)
{
    if (visits != 0 || _Py_atomic_load_int_relaxed(&interp->gc.collecting)) {
        /* A look from inside of another one, or of a collection, by a callback or a finalizer: what has been gathered for
         * that stays. */
        return;
    }
    ame_py_alone();
    struct ame_py_thread *oldest = NULL;
    int n = 0;
    FOR_THREADS_OF(interp, t) {
        oldest = t;
        n++;
    }
    for (int i = 0; i < NUM_GENERATIONS && n != 0; i++) {
        if (n == 1) {
            move_all(&interp->gc.generations[i].head, &oldest->objects[i]);
        }
        else {
            divide(interp, i, oldest);
        }
    }
}

void
ame_py_change_interpreter(struct ame_py_thread *self, PyInterpreterState *interp)
{
    if (interp->finalizing && interp->gc.garbage == NULL) {
        /* Its collector has ended before; what there is then is for the next interpreter of the thread. */
        return;
    }
    if (self->collected_by != NULL) {
        ame_py_alone();
        gather_counts_of(self, &self->collected_by->gc);
        gather_objects_of(self, &self->collected_by->gc, OLDEST);
    }
    self->collected_by = interp;
}

static void
forget_interpreter(PyInterpreterState *interp)
{
    FOR_THREADS_OF(interp, t) {
        t->collected_by = NULL;
    }
}

/* What threads still have of an interpreter that ends is its last, and it is told to objects that outlive it. */
void
ame_py_gc_fini(PyInterpreterState *interp)
{
    gather(interp);
    forget_interpreter(interp);
    _PyGC_Fini(interp);
}

/* Also of one that could not be made. */
void
ame_py_delete_interpreter(PyInterpreterState *interp)
{
    forget_interpreter(interp);
    PyInterpreterState_Delete(interp);
}

/* A block that can be rolled back still can be so after a collection of its young objects, but not after one of all. */
static int
in_revocable_block(struct ame_py_thread *self)
{
    return self->mode == AME_PY_PARALLEL && self->atomic != 0 && ame_revocable();
}

/* For a collection of the older generations all threads stop: beside others it comes so much later than the program's
 * threshold says. */
#define PATIENCE 10

/* Whether it is enough to look at the thread's own young objects, which needs no company to stop. */
static int
can_collect_young(struct ame_py_thread *self, struct _gc_runtime_state *state)
{
    return self->mode == AME_PY_PARALLEL && !self->bare && state->debug == 0 &&
           state->generations[0].threshold != 0 &&
           (in_revocable_block(self) ||
            self->collections.collections + state->generations[1].count <= (Py_ssize_t)PATIENCE * state->generations[1].threshold) &&
           (state->callbacks == NULL || PyList_GET_SIZE(state->callbacks) == 0);
}

static void
collect_young(struct ame_py_thread *self, PyThreadState *tstate)
{
    ame_private_range(&self->collects, sizeof self->collects);
    ame_private_range(&self->left, sizeof self->left);
    self->allocated = 0;
    self->collects = 1;
    self->left |= pyame_find_garbage(&self->objects[0], &self->objects[1], &self->garbage, &self->collections);
    pyame_free_garbage(tstate, &self->garbage, &self->objects[1]);
    /* Perhaps in another transaction by now. */
    ame_private_range(&self->collects, sizeof self->collects);
    self->collects = 0;
}

/* The oldest generation that is due, as gc_select_generation() says, or -1: full collections come when there are so many
 * more old objects that they take linear time on average. */
static int
due(const struct _gc_runtime_state *state)
{
    int i = OLDEST;
    while (i >= 0 && (state->generations[i].count <= state->generations[i].threshold ||
                      (i == OLDEST && state->long_lived_pending < state->long_lived_total / 4))) {
        i--;
    }
    return i;
}

static Py_ssize_t
collect(PyThreadState *tstate, int generation, _PyGC_Reason reason)
{
    /* gc.DEBUG_STATS prints how many there are in each generation. */
    int all = tstate->interp->gc.debug & _PyGC_DEBUG_STATS;
    gather_objects(tstate->interp, all ? OLDEST : generation);
    if (generation > 0) {
        FOR_THREADS_OF(tstate->interp, t) {
            t->left = 0;
        }
    }
    Py_ssize_t n = _PyGC_Collect(tstate, generation, reason);
    give_back(tstate->interp);
    return n;
}

void
ame_py_run_gc(PyThreadState *tstate)
{
    struct ame_py_thread *self = ame_py_get_self();
    struct _gc_runtime_state *state = &tstate->interp->gc;
    /* Many of those it was scheduled for may be gone again. */
    if (!state->enabled || self->collects || _Py_atomic_load_int_relaxed(&state->collecting) ||
        self->allocated <= state->generations[0].threshold) {
        return;
    }
    if (can_collect_young(self, state)) {
        collect_young(self, tstate);
        if (!self->left) {
            return;
        }
    }
    if (in_revocable_block(self)) {
        return;
    }
    if (self->mode == AME_PY_PARALLEL && self->atomic == 0 && !self->bare) {
        /* The evaluation loop may drop the GIL here as well. Threads come to their collections at about the same
         * time, and the second would lose all that its transaction has done. */
        _PyThreadState_Detach(tstate);
        _PyThreadState_Attach(tstate);
        if (self->allocated <= state->generations[0].threshold && !self->left) {
            return;
        }
    }
    gather_counts(tstate->interp);
    int generation = due(state);
    if (generation < 1 && self->left) {
        generation = 1;
    }
    if (generation >= 0) {
        collect(tstate, generation, _Py_GC_REASON_HEAP);
    }
}

Py_ssize_t
ame_py_gc_collect(PyThreadState *tstate, int generation, _PyGC_Reason reason)
{
    if (ame_py_get_self()->collects) {
        return 0;
    }
    gather_counts(tstate->interp);
    return collect(tstate, generation, reason);
}

Py_ssize_t
ame_py_gc_collect_all(void)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    if (ame_py_get_self()->collects || !interp->gc.enabled) {
        return 0;
    }
    gather(interp);
    Py_ssize_t n = pyame_original_PyGC_Collect();
    give_back(interp);
    return n;
}

void
ame_py_gc_collect_no_fail(PyThreadState *tstate)
{
    gather(tstate->interp);
    _PyGC_CollectNoFail(tstate);
}

PyObject *
ame_py_gc_get_objects(PyInterpreterState *interp, int generation)
{
    gather_objects(interp, OLDEST);
    PyObject *result = _PyGC_GetObjects(interp, generation);
    give_back(interp);
    return result;
}

PyObject *
ame_py_gc_get_referrers(PyInterpreterState *interp, PyObject *objects)
{
    gather_objects(interp, OLDEST);
    PyObject *result = _PyGC_GetReferrers(interp, objects);
    give_back(interp);
    return result;
}

void
ame_py_gc_freeze(PyInterpreterState *interp)
{
    gather(interp);
    _PyGC_Freeze(interp);
}

void
ame_py_gc_visit_objects(gcvisitobjects_t callback, void *argument)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    gather_objects(interp, OLDEST);
    visits++;
    pyame_original_PyUnstable_GC_VisitObjects(callback, argument);
    visits--;
    give_back(interp);
}

/* gc.get_stats() */
PyObject *
ame_py_gc_get_stats(PyObject *module)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    ame_py_alone();
    struct gc_generation_stats s[NUM_GENERATIONS];
    memcpy(s, interp->gc.generation_stats, sizeof s);
    FOR_THREADS_OF(interp, t) {
        add_stats(&s[0], &t->collections);
    }
#define STATS(S) \
    "collections", (S).collections, "collected", (S).collected, "uncollectable", (S).uncollectable
    return Py_BuildValue("[{snsnsn}{snsnsn}{snsnsn}]", STATS(s[0]), STATS(s[1]), STATS(s[2]));
}

/* gc.get_count() */
PyObject *
ame_py_gc_get_count(PyObject *module)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    struct gc_generation *generations = interp->gc.generations;
    int young = generations[0].count, collections = generations[1].count;
    FOR_THREADS_OF(interp, t) {
        young += t->allocated;
        collections += t->collections.collections;
    }
    return Py_BuildValue("(iii)", young, collections, generations[2].count);
}

void
ame_py_clear_free_lists(PyInterpreterState *interp)
{
    ame_py_alone();
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        _PyObject_ClearFreeLists(&t->freelists, 0);
    }
    _PyObject_ClearFreeLists(&interp->object_state.freelists, 0);
}
