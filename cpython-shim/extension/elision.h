/* Entries of an extension as transactions: what pass/src/extension/bodies.rs puts into their code.
 *
 * "In a transaction" is one of this domain, which the thread shares with others. Functions of CPython run as they
 * are, beside the transaction: what they have done is noted with what undoes it (ame_elision_on_abort), and
 * what cannot be undone waits (ame_elision_on_commit) or ends the transaction first (ame_elision_irrevocable).
 * A count that goes up does so at once, one that goes down when the transaction is over; so counts are
 * never lower than what they would be.
 *
 * Part of domain.h. */
#ifndef AME_EXTENSION_ELISION_H
#define AME_EXTENSION_ELISION_H

AME_EXTENSION_FAST int
ame_extension_elided(void)
{
    return __builtin_expect(ame_tls.inside != 0, 0);
}

/* --- entries ------------------------------------------------------------------------------------- */

enum ame_extension_way {
    AME_EXTENSION_HOLDS,    /* the domain is held, or the thread is let through */
    AME_EXTENSION_BEGINS,   /* ame_begin() comes next */
    AME_EXTENSION_NESTED,   /* in a transaction that entered further out */
};

/* From outside of the domain: the way of an entry. With a GIL it is that of parallel.h. */
AME_EXTENSION_SLOW int
ame_extension_choose(struct ame_extension_frame *frame, struct ame_elided_entry *entry, void *end_of_frames);

/* The entry will be a transaction, which the thread has joined the domain for. */
AME_EXTENSION_FAST int
ame_extension_begins(struct ame_extension_frame *frame, PyThreadState *state)
{
    struct ame_domain_thread *thread = &ame_domain_thread;
    frame->kept = thread->n_kept;
    frame->taken = AME_DOMAIN_FREE;
    frame->place = (void *)(intptr_t)AME_EXTENSION_DEPTH(state);
    thread->entries++;
    thread->inside = ame_extension_domain;
    return AME_EXTENSION_BEGINS;
}

#ifdef Py_GIL_DISABLED
AME_EXTENSION_SLOW int
ame_extension_choose(struct ame_extension_frame *frame, struct ame_elided_entry *entry, void *end_of_frames)
{
    if (frame->outer == NULL) {
        PyThreadState *state = PyThreadState_GetUnchecked();
        /* An exception that is set would have to be set again after a rollback. */
        if (state != NULL && AME_EXTENSION_RAISED(state) == NULL &&
            ame_elision_join(ame_extension_domain, entry, end_of_frames)) {
            return ame_extension_begins(frame, state);
        }
    }
    else if (ame_extension_elided()) {
        ame_elision_irrevocable("a call of another extension");
    }
    ame_extension_come_in(frame);
    return AME_EXTENSION_HOLDS;
}
#endif

AME_EXTENSION_FAST int
ame_extension_way(struct ame_extension_frame *frame, struct ame_elided_entry *entry, void *end_of_frames)
{
    frame->outer = ame_domain_thread.inside;
    if (frame->outer == ame_extension_domain) {
        return ame_extension_elided() ? AME_EXTENSION_NESTED : AME_EXTENSION_HOLDS;
    }
    if (frame->outer == NULL && ame_extension_enter_biased(frame, 0)) {
        return AME_EXTENSION_HOLDS;
    }
    return ame_extension_choose(frame, entry, end_of_frames);
}

AME_EXTENSION_SLOW void ame_extension_unmake(void *what);
AME_EXTENSION_SLOW void ame_extension_forget(void *what);

/* ame_begin() has come back from a rollback. */
AME_EXTENSION_SLOW void
ame_extension_rolled_back(struct ame_extension_frame *frame)
{
    struct ame_domain_thread *thread = &ame_domain_thread;
    ame_extension_end_sparing(frame);
    PyThreadState *state = ame_extension_attached_state();
    thread->entries--;
    thread->inside = NULL;
    AME_EXTENSION_DEPTH(state) = (int)(intptr_t)frame->place;
    ame_elision_visit(ame_extension_unmake, ame_extension_forget);
    ame_elision_run(0);
    PyErr_Clear();
    ame_extension_let_go(frame->kept);
}

AME_EXTENSION_SLOW void
ame_extension_run_committed(void)
{
    PyObject *raised = PyErr_GetRaisedException();
    ame_elision_run(1);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

AME_EXTENSION_SLOW void
ame_extension_end(struct ame_extension_frame *frame)
{
    struct ame_domain_thread *thread = &ame_domain_thread;
#ifndef Py_GIL_DISABLED
    ame_extension_need_gil();
#endif
    if (ame_elision_end()) {
        ame_extension_end_sparing(frame);
        thread->entries--;
        thread->inside = NULL;
        if (thread->n_kept > frame->kept) {
            ame_extension_let_go(frame->kept);
        }
    }
    else {
        ame_extension_go_out(frame);
    }
    if (ame_elision_waits()) {
        ame_extension_run_committed();
    }
}

/* --- counts -------------------------------------------------------------------------------------- */

AME_EXTENSION_SLOW void
ame_extension_give_back(void *object)
{
    Py_DECREF((PyObject *)object);
}

AME_EXTENSION_SLOW void
ame_extension_incref(PyObject *object)
{
    if (AME_EXTENSION_IS_IMMORTAL(object)) {
        return;
    }
    Py_INCREF(object);
    if (ame_extension_elided()) {
        ame_elision_on_abort(ame_extension_give_back, object);
    }
}

AME_EXTENSION_SLOW void
ame_extension_decref(PyObject *object)
{
    if (AME_EXTENSION_IS_IMMORTAL(object)) {
        return;
    }
#ifndef Py_GIL_DISABLED
    if (ame_extension_is_detached()) {
        if (ame_extension_elided()) {
            ame_elision_on_commit(ame_extension_give_back, object);
            return;
        }
        ame_extension_take_gil();
    }
#endif
    if (!ame_extension_elided()) {
        ame_extension_decref_held(object);
    }
    else {
        int noted = Py_REFCNT(object) > 1 && ame_elision_forget(ame_extension_give_back, object);
        if (noted && ame_extension_decref_not_last(object)) {
            return;
        }
        if (noted) {
            ame_elision_on_abort(ame_extension_give_back, object);
        }
        ame_elision_on_commit(ame_extension_give_back, object);
    }
}

AME_EXTENSION_SLOW void
ame_extension_xincref(PyObject *object)
{
    if (object != NULL) {
        ame_extension_incref(object);
    }
}

AME_EXTENSION_SLOW void
ame_extension_xdecref(PyObject *object)
{
    if (object != NULL) {
        ame_extension_decref(object);
    }
}

/* A new reference that a function of CPython has returned, or NULL. */
AME_EXTENSION_SLOW PyObject *
ame_extension_made(PyObject *object)
{
    if (object != NULL && !AME_EXTENSION_IS_IMMORTAL(object) && ame_extension_elided()) {
        ame_elision_on_abort(ame_extension_give_back, object);
    }
    return object;
}

/* --- objects of the extension's types -------------------------------------------------------------- */

/* Nobody knows of it, and its fields are what they were when it was allocated: its deallocator would be misled. */
AME_EXTENSION_SLOW void
ame_extension_unmake(void *what)
{
    PyObject *object = (PyObject *)what;
    PyTypeObject *type = Py_TYPE(object);
    if (PyType_IS_GC(type)) {
        PyObject_GC_Del(object);
    }
    else {
        PyObject_Free(object);
    }
    if (PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)) {
        Py_DECREF(type);
    }
}

/* Not seen by the collector any more, for which its fields may be out of date. */
AME_EXTENSION_SLOW void
ame_extension_forget(void *what)
{
    if (PyType_IS_GC(Py_TYPE((PyObject *)what))) {
        PyObject_GC_UnTrack(what);
    }
}

AME_EXTENSION_FAST PyObject *
ame_extension_allocated(PyObject *object, Py_ssize_t items)
{
    if (object != NULL && ame_extension_elided()) {
        ame_elision_fresh(object, _PyObject_VAR_SIZE(Py_TYPE(object), items));
        ame_elision_on_abort(ame_extension_unmake, object);
    }
    return object;
}

AME_EXTENSION_SLOW PyObject *
ame_extension_generic_alloc(PyTypeObject *type, Py_ssize_t items)
{
    return ame_extension_allocated(PyType_GenericAlloc(type, items), items);
}

AME_EXTENSION_SLOW PyObject *
ame_extension_object_new(PyTypeObject *type)
{
    return ame_extension_allocated(_PyObject_New(type), 0);
}

AME_EXTENSION_SLOW PyVarObject *
ame_extension_object_new_var(PyTypeObject *type, Py_ssize_t items)
{
    return (PyVarObject *)ame_extension_allocated((PyObject *)_PyObject_NewVar(type, items), items);
}

AME_EXTENSION_SLOW PyObject *
ame_extension_gc_new(PyTypeObject *type)
{
    return ame_extension_allocated(_PyObject_GC_New(type), 0);
}

AME_EXTENSION_SLOW PyVarObject *
ame_extension_gc_new_var(PyTypeObject *type, Py_ssize_t items)
{
    return (PyVarObject *)ame_extension_allocated((PyObject *)_PyObject_GC_NewVar(type, items), items);
}

AME_EXTENSION_SLOW void
ame_extension_gc_track(void *object)
{
    PyObject_GC_Track(object);
    if (ame_extension_elided() && !ame_elision_is_noted(ame_extension_unmake, object)) {
        ame_elision_on_abort(PyObject_GC_UnTrack, object);
    }
}

AME_EXTENSION_SLOW void
ame_extension_gc_untrack(void *object)
{
    if (ame_extension_elided()) {
        if (!PyObject_GC_IsTracked((PyObject *)object)) {
            return;
        }
        if (!ame_elision_is_noted(ame_extension_unmake, object)) {
            ame_elision_on_abort(PyObject_GC_Track, object);
        }
    }
    PyObject_GC_UnTrack(object);
}

/* --- memory -------------------------------------------------------------------------------------- */

/* Blocks of less than a granule may lie side by side in one; and the C library, of which an interpreter with a GIL has
 * larger blocks, keeps a word of its own behind each. */
AME_EXTENSION_FAST size_t
ame_extension_whole(size_t size)
{
#ifdef Py_GIL_DISABLED
    return size < 16 ? 16 : size;
#else
    return size == 0 ? 16 : size > PY_SSIZE_T_MAX - 16 ? size : (size + 15) & ~(size_t)15;
#endif
}

/* A block of CPython's, or NULL. */
AME_EXTENSION_FAST void *
ame_extension_new_block(void *block, size_t size, void (*release)(void *))
{
    if (block != NULL && ame_extension_elided()) {
        ame_elision_fresh(block, size);
        ame_elision_on_abort(release, block);
    }
    return block;
}

#define AME_EXTENSION_MEMORY(prefix, name)                                                                    \
    AME_EXTENSION_SLOW void *ame_extension_##name##_malloc(size_t size)                                       \
    {                                                                                                         \
        return ame_extension_new_block(prefix##Malloc(ame_extension_whole(size)), size, prefix##Free);        \
    }                                                                                                         \
    AME_EXTENSION_SLOW void *ame_extension_##name##_calloc(size_t count, size_t size)                         \
    {                                                                                                         \
        if (size != 0 && count > (size_t)PY_SSIZE_T_MAX / size) {                                             \
            return NULL;                                                                                      \
        }                                                                                                     \
        size *= count;                                                                                        \
        return ame_extension_new_block(prefix##Calloc(1, ame_extension_whole(size)), size, prefix##Free);     \
    }                                                                                                         \
    AME_EXTENSION_SLOW void *ame_extension_##name##_realloc(void *block, size_t size)                         \
    {                                                                                                         \
        if (block == NULL) {                                                                                  \
            return ame_extension_##name##_malloc(size);                                                       \
        }                                                                                                     \
        /* How large the old block is, only the allocator knows. */                                           \
        ame_elision_irrevocable(#prefix "Realloc");                                                          \
        return prefix##Realloc(block, ame_extension_whole(size));                                            \
    }                                                                                                         \
    AME_EXTENSION_SLOW void ame_extension_##name##_free(void *block)                                          \
    {                                                                                                         \
        if (!ame_extension_elided()) {                                                                        \
            prefix##Free(block);                                                                             \
        }                                                                                                     \
        else if (block != NULL) {                                                                             \
            ame_elision_on_commit(prefix##Free, block);                                                      \
        }                                                                                                     \
    }

AME_EXTENSION_MEMORY(PyMem_, mem)
AME_EXTENSION_MEMORY(PyMem_Raw, raw)
AME_EXTENSION_MEMORY(PyObject_, object)

AME_EXTENSION_SLOW void
ame_extension_gc_del(void *object)
{
    if (ame_extension_elided()) {
        ame_elision_on_commit(PyObject_GC_Del, object);
    }
    else {
        PyObject_GC_Del(object);
    }
}

/* --- containers that the transaction has made ------------------------------------------------------- */

AME_EXTENSION_SLOW int
ame_extension_is_new(PyObject *object)
{
    return !ame_extension_elided() || ame_elision_is_noted(ame_extension_give_back, object);
}

AME_EXTENSION_SLOW int
ame_extension_list_append(PyObject *list, PyObject *item)
{
    if (!ame_extension_is_new(list)) {
        ame_elision_irrevocable("PyList_Append");
    }
    return PyList_Append(list, item);
}

AME_EXTENSION_SLOW void
ame_extension_empty(void *slot)
{
    *(PyObject **)slot = NULL;
}

/* Into an empty slot of what is new. Without a barrier: where CPython has the C library's blocks, that keeps a word of
 * its own in the same granule. */
AME_EXTENSION_FAST void
ame_extension_put(PyObject **slot, PyObject *item)
{
    if (ame_extension_elided()) {
        ame_elision_on_abort(ame_extension_empty, slot);
    }
    *slot = item;
}

/* An empty slot of what is new takes the reference over, or the transaction gets it back. False where it is another's. */
AME_EXTENSION_FAST int
ame_extension_fill(PyObject *container, PyObject **slots, Py_ssize_t index, Py_ssize_t size, PyObject *item)
{
    if (index < 0 || index >= size || slots[index] != NULL || !ame_extension_is_new(container)) {
        return 0;
    }
    ame_extension_put(&slots[index], item);
    return 1;
}

AME_EXTENSION_SLOW int
ame_extension_tuple_set_item(PyObject *tuple, Py_ssize_t index, PyObject *item)
{
    if (ame_extension_elided()) {
        if (PyTuple_Check(tuple) && ame_extension_fill(tuple, ((PyTupleObject *)tuple)->ob_item, index,
                                                       PyTuple_GET_SIZE(tuple), item)) {
            return 0;
        }
        ame_elision_irrevocable("PyTuple_SetItem");
    }
    return PyTuple_SetItem(tuple, index, item);
}

AME_EXTENSION_SLOW int
ame_extension_list_set_item(PyObject *list, Py_ssize_t index, PyObject *item)
{
    if (ame_extension_elided()) {
        if (PyList_Check(list) && ame_extension_fill(list, ((PyListObject *)list)->ob_item, index,
                                                     PyList_GET_SIZE(list), item)) {
            return 0;
        }
        ame_elision_irrevocable("PyList_SetItem");
    }
    return PyList_SetItem(list, index, item);
}

/* --- arguments ----------------------------------------------------------------------------------- */

/* For a call that takes arguments apart, and converts those in some positions: those by keyword may be in any. */
AME_EXTENSION_SLOW struct ame_domain *
ame_extension_out_for_arguments(PyObject *arguments, PyObject *keywords, uint64_t positions)
{
    if (positions == 0) {
        return NULL;
    }
    if (!PyTuple_Check(arguments)) {
        /* PyArg_Parse() has one, as it is. */
        return ame_extension_is_simple(arguments) ? NULL : ame_extension_out();
    }
    if (keywords != NULL && PyDict_Size(keywords) != 0) {
        return ame_extension_out();
    }
    Py_ssize_t n = PyTuple_GET_SIZE(arguments);
    for (Py_ssize_t i = 0; i < n && i < 64; i++) {
        if (positions >> i & 1 && !ame_extension_is_simple(PyTuple_GET_ITEM(arguments, i))) {
            return ame_extension_out();
        }
    }
    return NULL;
}

/* A buffer that such a call has filled in: of a string or bytes, or a number's error. */
AME_EXTENSION_SLOW void
ame_extension_parsed_buffer(int parsed, Py_buffer *buffer)
{
    if (parsed) {
        ame_extension_made(buffer->obj);
    }
}

AME_EXTENSION_SLOW void
ame_extension_release_buffer(Py_buffer *buffer)
{
    if (ame_extension_elided()) {
        ame_write_range(&buffer->obj, sizeof buffer->obj);
        PyObject *object = buffer->obj;
        if (object == NULL) {
            return;
        }
        if (PyBytes_CheckExact(object) || PyUnicode_CheckExact(object)) {
            buffer->obj = NULL;
            ame_extension_decref(object);
            return;
        }
        ame_elision_irrevocable("PyBuffer_Release");
    }
    struct ame_domain *inside = ame_extension_out();
    PyBuffer_Release(buffer);
    ame_extension_back(inside);
}

/* --- signals -------------------------------------------------------------------------------------- */

/* In a transaction there are none, unless somebody wants the thread's attention. */
AME_EXTENSION_SLOW int
ame_extension_check_signals(void)
{
    if (ame_extension_elided()) {
#if PY_VERSION_HEX >= 0x030d0000
        /* Events; that another thread waits for the GIL is the lowest. */
        if ((_Py_atomic_load_uintptr_relaxed(&PyThreadState_Get()->eval_breaker) & 0xfe) == 0) {
            return 0;
        }
#endif
        ame_elision_irrevocable("PyErr_CheckSignals");
    }
    struct ame_domain *inside = ame_extension_out();
    int result = PyErr_CheckSignals();
    ame_extension_back(inside);
    return result;
}

/* --- attributes ---------------------------------------------------------------------------------- */

/* Whether to look an attribute up runs no code but CPython's: it is the object's own, or of a type whose attributes
 * give themselves or a bound method. */
AME_EXTENSION_SLOW int
ame_extension_has_plain_attribute(PyObject *object, PyObject *name)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type->tp_getattro != PyObject_GenericGetAttr || !PyUnicode_CheckExact(name)) {
        return 0;
    }
    PyObject *found = _PyType_Lookup(type, name);
    if (found == NULL) {
        return 1;
    }
    PyTypeObject *descriptor = Py_TYPE(found);
    return descriptor->tp_descr_get == NULL || descriptor == &PyFunction_Type ||
           descriptor == &PyMethodDescr_Type || descriptor == &PyMemberDescr_Type ||
           descriptor == &PyClassMethodDescr_Type;
}

AME_EXTENSION_SLOW PyObject *
ame_extension_get_attribute(PyObject *object, PyObject *name)
{
    if (object != NULL && ame_extension_has_plain_attribute(object, name)) {
        return ame_extension_made(PyObject_GetAttr(object, name));
    }
    struct ame_domain *inside = ame_extension_out();
    PyObject *result = PyObject_GetAttr(object, name);
    ame_extension_back(inside);
    return result;
}

AME_EXTENSION_SLOW PyObject *
ame_extension_get_attribute_string(PyObject *object, const char *name)
{
    PyObject *text = PyUnicode_FromString(name);
    if (text == NULL) {
        return NULL;
    }
    PyObject *result = ame_extension_get_attribute(object, text);
    Py_DECREF(text);
    return result;
}

/* --- calls by pointer ---------------------------------------------------------------------------- */

/* What to call in its place; the transaction has ended where that is unknown. */
AME_EXTENSION_SLOW void *
ame_extension_target_elided(void *target)
{
    const struct { void *real, *own; } known[] = {
        {(void *)PyType_GenericAlloc, (void *)ame_extension_generic_alloc},
        {(void *)PyObject_GC_Del, (void *)ame_extension_gc_del},
        {(void *)PyObject_Free, (void *)ame_extension_object_free},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].real == target) {
#ifndef Py_GIL_DISABLED
            ame_extension_need_gil();
#endif
            return known[i].own;
        }
    }
    return (void *)ame_elision_target(target);
}

AME_EXTENSION_FAST void *
ame_extension_target(void *target)
{
    return ame_extension_elided() ? ame_extension_target_elided(target) : target;
}

/* After that. */
AME_EXTENSION_FAST struct ame_domain *
ame_extension_out_to_target(const void *target)
{
    return ame_extension_elided() ? NULL : ame_extension_out_to(target);
}

#endif
