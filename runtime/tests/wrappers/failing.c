/* failing.c: a stream that cannot be written to. Deferred output has reported success; the error
 * comes at commit, on stderr, once; ferror() shows it afterwards. In an inevitable transaction the
 * call itself fails. */
#include "check.h"

int main(void)
{
    FILE *full = fopen("/dev/full", "w");
    CHECK(full != NULL);
    setvbuf(full, NULL, _IONBF, 0);
    for (int i = 0; i < 3; i++) {
        ame_begin();
        CHECK(ame_fprintf(full, "%s\n", "text") == 5);
        CHECK(ame_fflush(full) == 0);
        ame_commit();
        CHECK(ferror(full));
        clearerr(full);
    }
    ame_begin();
    ame_inevitable();
    CHECK(ame_fprintf(full, "%s\n", "text") < 0);
    ame_commit();
}
