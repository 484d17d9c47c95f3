/* memcpy, memmove, memset, memcmp, strcpy, strlen and struct assignment are atomic as a whole, for
 * all lengths and alignments. */
#include "litmus.h"

enum { SIZE = 300, BUFFERS = 3 };
static unsigned char buffer[BUFFERS][SIZE];
static char text[BUFFERS][SIZE];
struct block {
    unsigned char bytes[77];
};
static struct block block[BUFFERS];

static void body(int number)
{
    uint64_t random = (uint64_t)number + 1;
    unsigned char copy[SIZE];
    while (time_left()) {
        unsigned a = (unsigned)(litmus_random(&random) % BUFFERS), b = (a + 1) % BUFFERS;
        int what = (int)(litmus_random(&random) % 8), value = 1 + (int)(litmus_random(&random) % 100);
        size_t n = 1 + litmus_random(&random) % (SIZE - 1);
        ame_begin();
        switch (what) {
        case 0:
            memset(buffer[a], value, SIZE);
            break;
        case 1:
            memcpy(buffer[a], buffer[b], SIZE);
            break;
        case 2: /* overlapping: all bytes are equal, so it changes nothing */
            memmove(buffer[a] + 1, buffer[a], SIZE - 1);
            break;
        case 3:
            memcpy(copy, buffer[a], n);
            for (size_t i = 1; i < n; i++)
                CHECK_INSIDE(copy[i] == copy[0]);
            CHECK_INSIDE(memcmp(buffer[a], copy, n) == 0);
            break;
        case 4:
            memset(text[a], 'a' + value % 26, n);
            text[a][n] = 0;
            break;
        case 5: {
            strcpy(text[a], text[b]);
            size_t length = strlen(text[a]);
            for (size_t i = 0; i < length; i++)
                CHECK_INSIDE(text[a][i] == text[a][0]);
            break;
        }
        case 6:
            memset(block[a].bytes, value, sizeof block[a].bytes);
            break;
        default: {
            block[a] = block[b];
            struct block local = block[a];
            for (unsigned i = 1; i < sizeof local.bytes; i++)
                CHECK_INSIDE(local.bytes[i] == local.bytes[0]);
        }
        }
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    for (int b = 0; b < BUFFERS; b++)
        for (int i = 1; i < SIZE; i++)
            CHECK(buffer[b][i] == buffer[b][0]);
    puts("ok");
}
