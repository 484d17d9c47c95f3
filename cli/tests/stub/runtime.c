/* A runtime for the tests of `ame cc`: enough to link and to run one thread. */
static unsigned depth;

unsigned ame_begin(void) {
    depth++;
    return 0;
}

void ame_commit(void) { depth--; }

int ame_in_transaction(void) { return depth != 0; }

void ame_module_register(void) {}
