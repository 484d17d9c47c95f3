/* on_commit runs after the outermost commit, in order; on_abort during rollback, in reverse order;
 * both once, and what they write stays. */
#include "litmus.h"

static char text[64];
static unsigned length;

static void note(void *arg) { text[length++] = *(const char *)arg; }
static void note_outside(void *arg)
{
    note(arg);
    text[length++] = ame_in_transaction() ? '+' : '-';
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    start_ticker();
    for (int i = 0; i < 20; i++) {
        length = 0;
        memset(text, 0, sizeof text);
        unsigned rollbacks = ame_begin();
        ame_on_commit(note_outside, "1");
        if (rollbacks == 0) {
            ame_on_abort(note, "a");
            ame_begin();
            ame_on_abort(note, "b");
            ame_commit();
            ame_on_abort(note, "c");
        }
        ame_on_commit(note, "2");
        roll_back_once(rollbacks);
        ame_on_abort(note, "x");
        ame_commit();
        /* Chaos may roll back the first run before all three are registered, or a later run. */
        if (getenv("AME_CHAOS") == NULL && strcmp(text, "cba1-2") != 0)
            FAIL("actions ran as %s, expected cba1-2", text);
        CHECK(length >= 3 && strcmp(text + length - 3, "1-2") == 0);
    }
    length = 0;
    ame_on_commit(note, "o");
    ame_on_abort(note, "n");
    CHECK(length == 1 && text[0] == 'o');
    stop_ticker();
    puts("ok");
}
