/* output.c: what transactions write appears once, in program order, and says what printf says. It
 * prints to the file that the first argument names; wrappers.rs compares that with what the same
 * calls print outside transactions.
 *
 * Usage: output FILE plain|transaction|mixed
 */
#include "check.h"
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <wchar.h>

enum mode { PLAIN, TRANSACTION, MIXED };
static enum mode mode;
static int fd;

/* A string whose second page is unreadable: precision must bound what is read. */
static char *unterminated;

static int forward(FILE *stream, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = stream == stdout ? ame_vprintf(format, args) : ame_vfprintf(stream, format, args);
    va_end(args);
    return n;
}

static int forward_fd(int to, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = ame_vdprintf(to, format, args);
    va_end(args);
    return n;
}

static int n_int;
static long n_long;
static signed char n_char;
static short n_short;

static void formats(void)
{
    CHECK(ame_printf("plain\n") == 6);
    CHECK(ame_printf("%d %i %o %u %x %X %c|%%\n", -1, 2, 8, 3u, 255, 255, 'c') == 20);
    ame_printf("%hhd %hd %ld %lld %jd %zd %td %qd\n", (signed char)-1, (short)-2, -3L, -4LL,
               (intmax_t)-5, (ssize_t)-6, (ptrdiff_t)-7, -8LL);
    ame_printf("%f %e %g %a %Lf %.2Lg %5.1f\n", 1.5, 2.5, 3.5, 1.0, 4.5L, 5.25L, 6.0);
    ame_printf("%s|%10s|%-10s|%.3s|%.*s|%*s|%-*.*s|\n", "s", "right", "left", "cut off", 2, "abc", 5, "x",
               4, 1, "yz");
    ame_printf("%.5s|%.*s\n", unterminated, 5, unterminated);
    ame_printf("%ls|%S|%lc|%C|%.3ls\n", L"wide", L"string", (wint_t)L'w', (wint_t)L'W', L"cut off");
    ame_printf("%p %s\n", (void *)16, (char *)NULL);
    errno = ENOENT;
    ame_printf("%m %s\n", "after m");
    ame_printf("%'d %+d % d %05d %#x\n", 1234567, 1, 2, 3, 255);
    ame_printf("%s%n%s%hn%s%hhn%s%ln\n", "1", &n_int, "22", &n_short, "333", &n_char, "4444", &n_long);
    CHECK(n_int == 1 && n_short == 3 && n_char == 6 && n_long == 10);
    ame_fprintf(stdout, "%s %s\n", "fprintf", "works");
    forward(stdout, "%s %d\n", "vprintf", 1);
    forward(stderr, "%s %d\n", "vfprintf", 2);
    static char many[3000];
    memset(many, 'm', sizeof many - 1);
    CHECK(ame_printf("%s\n", many) == 3000);
}

/* Only the C library understands it: the transaction becomes exclusive, and is never rolled back. */
static void numbered(void)
{
    ame_printf("before\n");
    ame_printf("%2$s %1$s\n", "second", "first");
    ame_printf("after\n");
}

static char buffer[600], *text;

static int into(char *to, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = size ? ame_vsnprintf(to, size, format, args) : ame_vsprintf(to, format, args);
    va_end(args);
    return n;
}

static int allocated(char **to, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = ame_vasprintf(to, format, args);
    va_end(args);
    return n;
}

int ame_snprintf_chk(char *, size_t, int, size_t, const char *, ...);
int ame_sprintf_chk(char *, int, size_t, const char *, ...);
int ame_printf_chk(int, const char *, ...);
int ame_fprintf_chk(FILE *, int, const char *, ...);

static void memory(void)
{
    CHECK(ame_snprintf(buffer, 4, "%s", "cut off") == 7 && strcmp(buffer, "cut") == 0);
    CHECK(ame_snprintf(NULL, 0, "%d", 12345) == 5);
    CHECK(ame_sprintf(buffer, "%0500d", 7) == 500 && buffer[499] == '7' && buffer[500] == 0);
    CHECK(ame_snprintf(buffer, 400, "%0500d", 7) == 500 && buffer[398] == '0' && buffer[399] == 0);
    CHECK(into(buffer, 10, "%s", "v") == 1 && strcmp(buffer, "v") == 0);
    CHECK(into(buffer, 0, "%s", "w") == 1 && strcmp(buffer, "w") == 0);
    CHECK(ame_snprintf_chk(buffer, 10, 1, 600, "%s", "x") == 1 && strcmp(buffer, "x") == 0);
    CHECK(ame_sprintf_chk(buffer, 1, 600, "%s", "y") == 1 && strcmp(buffer, "y") == 0);
    CHECK(ame_asprintf(&text, "%s %d", "as", 1) == 4 && strcmp(text, "as 1") == 0);
    ame_free(text);
    CHECK(allocated(&text, "%0500d", 1) == 500 && strlen(text) == 500);
    ame_free(text);
}

static void characters(void)
{
    CHECK(ame_fputs("fputs\n", stdout) >= 0);
    CHECK(ame_puts("puts") >= 0);
    CHECK(ame_fputc('a', stdout) == 'a');
    CHECK(ame_putc('b', stdout) == 'b');
    CHECK(ame_putchar('\xff') == 255);
    CHECK(ame_fputc('\n', stderr) == '\n');
    CHECK(ame_fwrite("1234567890", 2, 5, stdout) == 5);
    CHECK(ame_fwrite("x", 0, 5, stdout) == 0);
    CHECK(ame_putchar('\n') == '\n');
    ame_printf_chk(1, "%s\n", "checked");
    ame_fprintf_chk(stderr, 1, "%s\n", "checked");
    errno = EACCES;
    ame_perror("perror");
    ame_perror(NULL);
    ame_perror("");
}

static void descriptors(void)
{
    CHECK(ame_fflush(stdout) == 0);
    CHECK(ame_write(fd, "write\n", 6) == 6);
    CHECK(ame_write(fd, "", 0) == 0);
    CHECK(ame_dprintf(fd, "dprintf %d\n", 1) == 10);
    CHECK(forward_fd(fd, "vdprintf %s\n", "2") == 11);
    CHECK(ame_puts("after write") >= 0);
    CHECK(ame_fflush(NULL) == 0);
    CHECK(ame_write(fd, "last\n", 5) == 5);
    CHECK(ame_write(-1, "x", 1) == -1 && errno == EBADF);
    CHECK(ame_close(-1) == -1 && errno == EBADF);
}

/* Deferred until the transaction becomes inevitable, then direct: the order holds. */
static void turning(void)
{
    ame_printf("before\n");
    ame_fflush(stdout);
    ame_write(fd, "deferred\n", 9);
    if (mode == MIXED)
        ame_inevitable();
    CHECK(write(fd, "direct\n", 7) == 7 || 1);
    ame_printf("after\n");
    ame_fflush(stdout);
}

static void closing(void)
{
    int copy = dup(1);
    CHECK(copy >= 0);
    ame_begin();
    CHECK(ame_write(copy, "to a copy\n", 10) == 10);
    CHECK(ame_close(copy) == 0);
    CHECK(ame_close(copy) == -1 && errno == EBADF);
    CHECK(ame_write(copy, "x", 1) == -1 && errno == EBADF);
    CHECK(fcntl(copy, F_GETFD) >= 0);
    ame_commit();
    CHECK(fcntl(copy, F_GETFD) < 0);
}

/* A memory stream's contents are there at once. */
static void memory_stream(void)
{
    char *contents;
    size_t size;
    FILE *stream = open_memstream(&contents, &size);
    ame_begin();
    ame_fprintf(stream, "%s", "in memory");
    ame_fflush(stream);
    CHECK(size == 9 && strcmp(contents, "in memory") == 0);
    ame_commit();
    fclose(stream);
    free(contents);
}

static void run(void (*test)(void))
{
    if (mode == PLAIN) {
        test();
        return;
    }
    unsigned rollbacks = ame_begin();
    test();
    if (chaos() && rollbacks < 3 && mode == TRANSACTION && test != numbered)
        roll_back();
    ame_commit();
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    mode = strcmp(argv[2], "plain") == 0 ? PLAIN : strcmp(argv[2], "mixed") == 0 ? MIXED : TRANSACTION;
    CHECK(freopen(argv[1], "w", stdout) != NULL);
    fd = fileno(stdout);
    CHECK(dup2(fd, 2) == 2);
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED && mprotect(pages + 4096, 4096, PROT_NONE) == 0);
    unterminated = memcpy(pages + 4096 - 5, "bound", 5);
    run(formats);
    run(numbered);
    run(memory);
    run(characters);
    run(descriptors);
    if (mode != TRANSACTION)
        run(turning);
    if (mode == MIXED) {
        closing();
        memory_stream();
    }
    return 0;
}
