// A runtime for tests of the pass alone: it locks nothing, counts what is called, and is as hostile
// as the ABI allows: stubs overwrite all vector registers and the flags.
//
// STUB_MODE=outside (default): no transaction. inside: every check fails, every guard is taken.
// poked: as after being poked by another thread. STUB_PRINT=1 prints the counts at exit.
#include "ame_rt.h"
#include <asm/prctl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

__thread struct ame_tls ame_tls __attribute__((tls_model("initial-exec")));

#define COUNTERS(X) X(read) X(write) X(private) X(immutable) X(poll) X(call) X(read_range) \
    X(write_range) X(private_range) X(inevitable) X(exclusive) X(enter) X(leave) X(refcount) \
    X(counter) X(per_thread)
#define DEFINE(name) unsigned long stub_##name;
COUNTERS(DEFINE)

#define STUB(symbol, counter) __asm__( \
    ".text\n.globl " #symbol "\n.type " #symbol ",@function\n" #symbol ":\n" \
    "pushq %rax\nmovq stub_" #counter "@GOTPCREL(%rip), %rax\nincq (%rax)\n" \
    "movabsq $0xdeadbeefdeadbeef, %rax\n" \
    "movq %rax, %xmm0\npunpcklqdq %xmm0, %xmm0\n" \
    "movaps %xmm0,%xmm1\nmovaps %xmm0,%xmm2\nmovaps %xmm0,%xmm3\nmovaps %xmm0,%xmm4\n" \
    "movaps %xmm0,%xmm5\nmovaps %xmm0,%xmm6\nmovaps %xmm0,%xmm7\nmovaps %xmm0,%xmm8\n" \
    "movaps %xmm0,%xmm9\nmovaps %xmm0,%xmm10\nmovaps %xmm0,%xmm11\nmovaps %xmm0,%xmm12\n" \
    "movaps %xmm0,%xmm13\nmovaps %xmm0,%xmm14\nmovaps %xmm0,%xmm15\n" \
    "popq %rax\ncmpq %rsp, %rsp\nret\n.size " #symbol ", .-" #symbol "\n")
STUB(ame_read_slow, read);
STUB(ame_read_contended, read);
STUB(ame_read_pair_contended, read);
STUB(ame_write_slow, write);
STUB(ame_private_slow, private);
STUB(ame_immutable_slow, immutable);
STUB(ame_poll_slow, poll);
STUB(ame_call_slow, call);

// Reading the last byte finds ranges that are too long.
static void touch(const void *p, size_t n) {
    if (n) (void)*((volatile const char *)p + n - 1), (void)*(volatile const char *)p;
}
void ame_read_range(const void *p, size_t n) { stub_read_range++; touch(p, n); }
void ame_write_range(void *p, size_t n) { stub_write_range++; touch(p, n); }
void ame_private_range(void *p, size_t n) { stub_private_range++; touch(p, n); }
void ame_make_inevitable(void) { stub_inevitable++; }
void ame_make_exclusive(void) { stub_exclusive++; }
void ame_boundary_enter(void) { stub_enter++; }
void ame_boundary_leave(void) { stub_leave++; }

// The stubs of ordinary functions: keep all registers but the result's, overwrite all others.
#define FUNCTION_STUB(name) __asm__( \
    ".text\n.globl " #name "_stub\n" #name "_stub:\n" \
    "push %rcx\npush %rdx\npush %rsi\npush %rdi\npush %r8\npush %r9\npush %r10\npush %r11\n" \
    "push %rbp\nmov %rsp, %rbp\nand $-16, %rsp\ncall " #name "\nmov %rbp, %rsp\npop %rbp\n" \
    "pcmpeqd %xmm0, %xmm0\nmovaps %xmm0, %xmm7\nmovaps %xmm0, %xmm15\n" \
    "pop %r11\npop %r10\npop %r9\npop %r8\npop %rdi\npop %rsi\npop %rdx\npop %rcx\nret\n")
FUNCTION_STUB(ame_read_range);
FUNCTION_STUB(ame_write_range);
FUNCTION_STUB(ame_private_range);
FUNCTION_STUB(ame_make_inevitable);
FUNCTION_STUB(ame_make_exclusive);

#define COUNT(name, bits) \
    int##bits##_t ame_##name##_add##bits(int##bits##_t *f, int##bits##_t d) { stub_##name++; return *f += d; } \
    int##bits##_t ame_##name##_read##bits(const int##bits##_t *f) { stub_##name++; return *f; }
COUNT(refcount, 32) COUNT(refcount, 64) COUNT(counter, 32) COUNT(counter, 64)
FUNCTION_STUB(ame_refcount_add32); FUNCTION_STUB(ame_refcount_read32);
FUNCTION_STUB(ame_refcount_add64); FUNCTION_STUB(ame_refcount_read64);
FUNCTION_STUB(ame_counter_add32); FUNCTION_STUB(ame_counter_read32);
FUNCTION_STUB(ame_counter_add64); FUNCTION_STUB(ame_counter_read64);

void *ame_per_thread(void *p, size_t n) {
    static __thread struct { void *key; char bytes[256]; } copies[16];
    stub_per_thread++;
    for (int i = 0; i < 16; i++) {
        if (copies[i].key == p) return copies[i].bytes;
        if (!copies[i].key) { copies[i].key = p; return memcpy(copies[i].bytes, p, n); }
    }
    abort();
}

static unsigned short inside;
static void set(uint16_t rver, uint16_t wver) {
    AME_CONTROL->rver = rver;
    AME_CONTROL->wver = wver;
}
unsigned ame_begin(void) { set(inside = 2, 3); return 0; }
void ame_commit(void) { set(inside = 0, 0); }
int ame_in_transaction(void) { return inside != 0; }

static void print(void) {
#define PRINT(name) if (stub_##name) fprintf(stderr, #name " %lu\n", stub_##name);
    COUNTERS(PRINT)
}

__attribute__((constructor(101))) static void start(void) {
    if (ame_tls.marks) return;
    // Zeroes for all granules; only the control words are ever written.
    char *segment = mmap(0, AME_SEGMENT_MARKS + ((size_t)2 << 32), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (segment == MAP_FAILED || syscall(SYS_arch_prctl, ARCH_SET_GS, segment)) { perror("stub"); exit(1); }
    ame_tls.marks = (uint16_t *)(segment + AME_SEGMENT_MARKS);
    const char *mode = getenv("STUB_MODE");
    if (mode && !strcmp(mode, "inside")) set(2, 3);
    if (mode && !strcmp(mode, "poked")) set(0xffff, 0xffff);
    if (getenv("STUB_PRINT")) atexit(print);
}
void ame_module_register(uint32_t version, const char *module, const struct ame_known_function *k, size_t n) {
    (void)k, (void)n;
    if (version != AME_ABI_VERSION) { fprintf(stderr, "stub: %s has ABI %u\n", module, version); exit(1); }
    start();
}

// What the set for the C library replaces, as far as the tests use it.
void *ame_malloc(size_t n) { return malloc(n); }
void *ame_calloc(size_t n, size_t m) { return calloc(n, m); }
void *ame_realloc(void *p, size_t n) { return realloc(p, n); }
void ame_free(void *p) { free(p); }
char *ame_strdup(const char *s) { return strdup(s); }
int ame_puts(const char *s) { return puts(s); }
int ame_putchar(int c) { return putchar(c); }
int ame_fputs(const char *s, FILE *f) { return fputs(s, f); }
int ame_fputc(int c, FILE *f) { return fputc(c, f); }
size_t ame_fwrite(const void *p, size_t n, size_t m, FILE *f) { return fwrite(p, n, m, f); }
int ame_fflush(FILE *f) { return fflush(f); }
int ame_close(int fd) { extern int close(int); return close(fd); }
long ame_write(int fd, const void *p, size_t n) { extern long write(int, const void *, size_t); return write(fd, p, n); }
#define FORMAT(name, plain, parameters, arguments) \
    int name parameters { va_list l; va_start(l, format); int n = plain arguments; va_end(l); return n; }
FORMAT(ame_printf, vprintf, (const char *format, ...), (format, l))
FORMAT(ame_fprintf, vfprintf, (FILE *f, const char *format, ...), (f, format, l))
FORMAT(ame_snprintf, vsnprintf, (char *s, size_t z, const char *format, ...), (s, z, format, l))
FORMAT(ame_sprintf, vsprintf, (char *s, const char *format, ...), (s, format, l))
size_t ame_strlen(const char *s) { return strlen(s); }
char *ame_strchr(const char *s, int c) { return strchr(s, c); }
int ame_strcmp(const char *s, const char *t) { return strcmp(s, t); }
int ame_strncmp(const char *s, const char *t, size_t n) { return strncmp(s, t, n); }
char *ame_strcpy(char *s, const char *t) { return strcpy(s, t); }
char *ame_strstr(const char *s, const char *t) { return strstr(s, t); }
char *ame_strpbrk(const char *s, const char *t) { return strpbrk(s, t); }
size_t ame_strspn(const char *s, const char *t) { return strspn(s, t); }
double ame_strtod(const char *s, char **e) { return strtod(s, e); }
int ame_vsnprintf(char *s, size_t z, const char *f, va_list l) { return vsnprintf(s, z, f, l); }
int ame_vfprintf(FILE *o, const char *f, va_list l) { return vfprintf(o, f, l); }
