/* The precision of the x87, in which CPython wants doubles to be rounded: it asks for it before it converts
 * one to text or back. x86-64 computes doubles with SSE, so nothing has to be changed; and what assembly
 * changes could not be rolled back. Plain code. */
#include "shim.h"

unsigned short
ame_py_x87_control_word(void)
{
    /* 53 bits, as wanted. */
    return 0x027f;
}
