/* What the pass puts into every instrumented module. A program that is not registered is not started again
 * when its random addresses alias, and stops at its first transaction. */
#ifndef REGISTERED_H
#define REGISTERED_H
#include <ame_rt.h>

__attribute__((constructor)) static void register_module(void)
{
    ame_module_register(AME_ABI_VERSION, __FILE__, NULL, 0);
}
#endif
