/* What the conversion of doubles to text and back shares or sets. Plain code. */
#include "shim.h"
#include "pycore_dtoa.h"

/* Big integers that conversions compute with. CPython keeps free ones in lists that all threads share. */
struct Bigint *
ame_py_bigint_new(int k)
{
    int words = 1 << k;
    /* As Balloc: with the padding of the struct, which rv_alloc counts on. */
    struct Bigint *b = ame_malloc(sizeof *b + (words - 1) * sizeof b->x[0]);
    if (b != NULL) {
        b->k = k;
        b->maxwds = words;
        b->sign = b->wds = 0;
    }
    return b;
}

void
ame_py_bigint_free(struct Bigint *b)
{
    ame_free(b);
}

/* The precision of the x87, in which CPython wants doubles to be rounded: it asks for it before it converts
 * one to text or back. x86-64 computes doubles with SSE, so nothing has to be changed; and what assembly
 * changes could not be rolled back. */
unsigned short
ame_py_x87_control_word(void)
{
    /* 53 bits, as wanted. */
    return 0x027f;
}
