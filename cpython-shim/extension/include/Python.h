/* Stands before CPython's header of this name. What includes it for free-threaded CPython gets a domain:
 * ../domain.h. For all others nothing changes. */
#pragma GCC system_header
#include_next <Python.h>
#if defined(Py_GIL_DISABLED) && !defined(Py_LIMITED_API)
#include "../domain.h"
#endif
