/* Caches and sources of versions that all threads would write to: one per thread. */
#include "shim.h"
#include "pycore_dict.h"
#include "pycore_typeobject.h"
#include <stdlib.h>

/* A cache of attribute lookups on types. An entry counts while the version of its type is current, and versions are
 * never given out twice by an interpreter. */
struct ame_py_types {
    PyInterpreterState *interp;
    struct ame_py_types *next;
    struct type_cache cache;
};

static void
clear_types(struct ame_py_types *types)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types->cache.hashtable); i++) {
        struct type_cache_entry *entry = &types->cache.hashtable[i];
        entry->version = 0;
        entry->value = NULL;
        Py_XSETREF(entry->name, Py_None);
    }
}

struct type_cache *
ame_py_type_cache(void)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    struct ame_py_thread *self = ame_py_get_self();
    struct ame_py_types **place = &self->types, *types;
    while ((types = *place) != NULL && types->interp != interp) {
        place = &types->next;
    }
    if (types == NULL) {
        types = calloc(1, sizeof *types);
        if (types == NULL) {
            Py_FatalError("ame: no memory for a cache of attributes");
        }
        types->interp = interp;
        clear_types(types);
        *place = types;
    }
    return &types->cache;
}

unsigned int
ame_py_clear_type_caches(PyInterpreterState *interp)
{
    ame_py_alone();
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        for (struct ame_py_types *types = t->types; types != NULL; types = types->next) {
            if (types->interp == interp) {
                clear_types(types);
            }
        }
    }
    return interp->types.next_version_tag - 1;
}

/* Versions begin anew when Python is initialised again, or an interpreter comes to lie where this one was. */
void
ame_py_types_fini(PyInterpreterState *interp)
{
    ame_py_clear_type_caches(interp);
    _PyTypes_Fini(interp);
}

/* Versions of dictionaries are not given out twice either, nor taken back. A thread takes many at a time. */
#define SHARE ((uint64_t)DICT_VERSION_INCREMENT << 20)

uint64_t
ame_py_dict_version(void)
{
    static atomic_uint_fast64_t shares;
    struct ame_py_thread *self = ame_py_get_self();
    if (self->dict_version == self->dict_versions_end) {
        self->dict_version = atomic_fetch_add(&shares, SHARE);
        self->dict_versions_end = self->dict_version + SHARE;
    }
    return self->dict_version += DICT_VERSION_INCREMENT;
}

void
ame_py_set_keys_version(PyDictKeysObject *keys, uint32_t version)
{
    __atomic_store_n(&keys->dk_version, version, __ATOMIC_RELAXED);
}
