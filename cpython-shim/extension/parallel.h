/* Entries of functions that are parallel on a Python with a GIL; see gil.h.
 *
 * Part of domain.h. */
#ifndef AME_EXTENSION_PARALLEL_H
#define AME_EXTENSION_PARALLEL_H

/* After a few entries in a row for which it was not worth it to give the GIL up they keep it, for twice as long each
 * time. */
#define AME_EXTENSION_MOST_RESTS 255

/* With the GIL. */
AME_EXTENSION_SLOW void
ame_extension_weigh(struct ame_extension_frame *frame)
{
    struct ame_elided_entry *entry = frame->entry;
    uint64_t cycles = ame_extension_spared.cycles;
    /* The mean of the latest ones. */
    uint32_t *mean = frame->holds ? &entry->held : &entry->elided;
    uint64_t now = cycles >> 8 < UINT32_MAX ? cycles >> 8 : UINT32_MAX;
    *mean = (uint32_t)(*mean == 0 ? now : (7 * (uint64_t)*mean + now) / 8);
    uint64_t stretches = ame_extension_spared.stretches;
    if (stretches != 0 && cycles / stretches >= AME_EXTENSION_WORTH) {
        entry->rests /= 2;
        return;
    }
    entry->rests = entry->rests < AME_EXTENSION_MOST_RESTS ? 2 * entry->rests + 1 : entry->rests;
    entry->rest = entry->rests >> 2;
}

/* Whether an entry better is a transaction: others want to come in, and all processors together then do more. Looked
 * at again from time to time. */
AME_EXTENSION_SLOW int
ame_extension_better_elided(struct ame_elided_entry *entry)
{
    static long processors;
    if (ame_extension_crowd == 0) {
        return 0;
    }
    if (processors == 0) {
        processors = sysconf(_SC_NPROCESSORS_ONLN);
    }
    return ame_extension_crowd-- == AME_EXTENSION_CROWD / 2 || entry->held == 0 ||
           entry->elided / processors < entry->held;
}

AME_EXTENSION_SLOW int
ame_extension_choose(struct ame_extension_frame *frame, struct ame_elided_entry *entry, void *end_of_frames)
{
    struct ame_domain_thread *thread = &ame_domain_thread;
    PyThreadState *state = frame->outer == NULL ? ame_extension_attached_state() : NULL;
    if (state == NULL && ame_extension_elided()) {
        ame_elision_irrevocable("a call of another extension");
    }
#ifdef AME_EXTENSION_ALWAYS
    int rests = 0, elides = 1;
#else
    int rests = entry->rest != 0, elides = ame_extension_better_elided(entry);
#endif
    if (state == NULL || rests) {
        entry->rest -= rests;
        ame_extension_come_in(frame);
        return AME_EXTENSION_HOLDS;
    }
    if (elides && thread->entries == 0 && ame_domain_is_held(ame_extension_domain)) {
        /* Who holds it will be a transaction the next time as well. */
        ame_extension_crowd = AME_EXTENSION_CROWD;
        PyThreadState *saved = PyEval_SaveThread();
        ame_domain_await_free(ame_extension_domain);
        PyEval_RestoreThread(saved);
    }
    /* An exception that is set would have to be set again after a rollback. */
    frame->holds = !elides || AME_EXTENSION_RAISED(state) != NULL ||
                   !ame_elision_join(ame_extension_domain, entry, end_of_frames);
    if (frame->holds) {
        ame_extension_come_in(frame);
        thread->spares = AME_EXTENSION_SPARES;
        frame->entry = entry;
        return AME_EXTENSION_HOLDS;
    }
    ame_extension_begin_sparing(frame, AME_EXTENSION_SPARES);
    frame->entry = entry;
    return ame_extension_begins(frame, state);
}

/* For the others: 1 in a transaction, whose bodies call them by their address. */
AME_EXTENSION_FAST int
ame_extension_is_nested(void)
{
    return ame_extension_elided() && ame_domain_thread.inside == ame_extension_domain;
}

/* --- containers that the transaction has made ------------------------------------------------------- */

/* PyList_SET_ITEM, PyTuple_SET_ITEM. */
AME_EXTENSION_SLOW void
ame_extension_put_in_list(PyObject *list, Py_ssize_t index, PyObject *item)
{
    ame_extension_put(&((PyListObject *)list)->ob_item[index], item);
}

AME_EXTENSION_SLOW void
ame_extension_put_in_tuple(PyObject *tuple, Py_ssize_t index, PyObject *item)
{
    ame_extension_put(&((PyTupleObject *)tuple)->ob_item[index], item);
}

#endif
