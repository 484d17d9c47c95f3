// Runs a csmith program on the hostile runtime of pass/tests/stub.
int csmith_main(int argc, char **argv);
void fuzz_step(void) {}
int main(void) {
    char *arguments[] = {"csmith", 0};
    return csmith_main(1, arguments);
}
