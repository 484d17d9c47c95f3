/* Caches and sources of versions that all threads would write to: one per thread. */
#include "shim.h"
#include "pycore_dict.h"
#include "pycore_typeobject.h"
#include <stdlib.h>

/* The cache of attribute lookups on types. An entry counts while the version of its type is current, and
 * versions are never given out twice. Sub-interpreters keep their own. */
struct type_cache *
ame_py_type_cache(void)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    if (interp != &_PyRuntime._main_interpreter) {
        return &interp->types.type_cache;
    }
    struct ame_py_thread *self = ame_py_get_self();
    if (self->type_cache == NULL) {
        struct type_cache *cache = calloc(1, sizeof *cache);
        if (cache == NULL) {
            return &interp->types.type_cache;
        }
        for (size_t i = 0; i < sizeof cache->hashtable / sizeof cache->hashtable[0]; i++) {
            cache->hashtable[i].name = Py_None;
        }
        self->type_cache = cache;
    }
    return self->type_cache;
}

unsigned int
ame_py_clear_type_caches(PyInterpreterState *interp)
{
    ame_py_alone();
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        if (t->type_cache == NULL) {
            continue;
        }
        for (size_t i = 0; i < sizeof t->type_cache->hashtable / sizeof(struct type_cache_entry); i++) {
            struct type_cache_entry *entry = &t->type_cache->hashtable[i];
            entry->version = 0;
            entry->value = NULL;
            Py_SETREF(entry->name, Py_None);
        }
    }
    return interp->types.next_version_tag - 1;
}

/* Versions begin anew when Python is initialised again. */
void
ame_py_types_fini(PyInterpreterState *interp)
{
    if (interp == &_PyRuntime._main_interpreter) {
        ame_py_clear_type_caches(interp);
    }
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
