/* Stands before CPython's header of this name. What includes it for free-threaded CPython gets a domain:
 * ../domain.h; for CPython with a GIL, where functions of the extension run without that (ame.toml). For all others
 * nothing changes. */
#pragma GCC system_header
#include_next <Python.h>
#if defined(AME_EXTENSION_PARALLEL) && defined(Py_LIMITED_API) && !defined(Py_GIL_DISABLED)
#error "functions that run without the GIL (ame.toml) need the whole API of CPython: build without Py_LIMITED_API"
#endif
#if (defined(Py_GIL_DISABLED) || defined(AME_EXTENSION_PARALLEL)) && !defined(Py_LIMITED_API)
#include "../domain.h"
#endif
