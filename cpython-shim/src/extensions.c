/* Extension modules that were not compiled with the plugin: they work, but transactions that call them run
 * alone. Says so once for each, by name. */
#include "shim.h"
#include "pycore_importdl.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* In order of imports. With the mutex. */
struct named {
    PyModInitFunction init;
    struct named *next;
};
static struct named *all_named;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int
is_new(PyModInitFunction init)
{
    pthread_mutex_lock(&mutex);
    struct named *entry = all_named;
    while (entry != NULL && entry->init != init) {
        entry = entry->next;
    }
    int found = entry != NULL;
    if (!found && (entry = malloc(sizeof *entry)) != NULL) {
        *entry = (struct named){init, all_named};
        all_named = entry;
    }
    pthread_mutex_unlock(&mutex);
    return !found;
}

static int
wanted(void)
{
    const char *text = getenv("AME_WARN");
    return text == NULL || strcmp(text, "0") != 0;
}

PyModInitFunction
ame_py_find_module_init(struct _Py_ext_module_loader_info *info, FILE *fp)
{
    PyModInitFunction init = _PyImport_GetModInitFunc(info, fp);
    if (init != NULL && !ame_is_instrumented((const void *)init) && wanted() && is_new(init)) {
        const char *name = PyUnicode_AsUTF8(info->name);
        if (name == NULL) {
            PyErr_Clear();
        }
        fprintf(stderr,
                "ame: extension module %s is not compiled with `ame cc`: transactions that call it run alone. "
                "`ame pip install` compiles packages from source; AME_WARN=0 hides this line\n",
                name != NULL ? name : "?");
    }
    return init;
}
