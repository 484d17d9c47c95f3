/* stdio.c: printf and its relatives, because stable Rust cannot define variadic functions.
 *
 * The Rust side (format.rs) exports each ame_NAME as a jump to ame_c_NAME, and decides what happens
 * to the bytes. Here a format is walked to acquire what its arguments point to: strings are read
 * (up to their precision), %n is written. Everything is acquired before anything is formatted: an
 * acquisition may roll back, and then nothing here runs again.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "../../include/ame_rt.h"

/* format.rs */
int ame_stdio_in_transaction(void);           /* memory needs barriers */
int ame_stdio_defers(FILE *stream);           /* in a transaction: the bytes wait for commit */
void ame_stdio_defer(FILE *stream, const char *bytes, size_t n);
long ame_stdio_write(int fd, const char *bytes, size_t n);
size_t ame_stdio_read_string(const char *s, size_t limit);

#define HIDDEN __attribute__((visibility("hidden")))

enum length { NONE, CHAR, SHORT, LONG, LLONG, LDOUBLE };

/* A wide string, zero included, at most limit characters. */
static void read_wide(const wchar_t *s, size_t limit)
{
    for (size_t i = 0; i < limit; i++) {
        ame_read_range(&s[i], sizeof *s);
        if (s[i] == 0)
            break;
    }
}

static size_t size_of_count(enum length length)
{
    switch (length) {
    case CHAR: return sizeof(char);
    case SHORT: return sizeof(short);
    case LONG:
    case LLONG: return sizeof(long);
    default: return sizeof(int);
    }
}

static const char *skip_digits(const char *p)
{
    while (*p >= '0' && *p <= '9')
        p++;
    return p;
}

/* A number in the format; INT_MAX when it is larger than any string. */
static int number(const char *p)
{
    long n = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        if ((n = n * 10 + (*p - '0')) > INT_MAX)
            return INT_MAX;
    return (int)n;
}

/* Acquires what the arguments of one conversion point to; returns where the format goes on, or NULL
 * for a conversion that only the C library understands. */
static const char *acquire_conversion(const char *p, va_list *args)
{
    p += strspn(p, "-+ #0'I");
    if (*p == '*') {
        (void)va_arg(*args, int);
        p++;
    } else {
        p = skip_digits(p);
        if (*p == '$')
            return NULL;
    }
    int precision = -1;
    if (*p == '.') {
        p++;
        if (*p == '*') {
            precision = va_arg(*args, int);
            p++;
        } else {
            precision = number(p);
            p = skip_digits(p);
        }
        if (*p == '$')
            return NULL;
    }
    enum length length = NONE;
    for (;; p++) {
        if (*p == 'h')
            length = length == SHORT ? CHAR : SHORT;
        else if (*p == 'l')
            length = length == LONG ? LLONG : LONG;
        else if (*p == 'j' || *p == 'z' || *p == 't' || *p == 'Z')
            length = LONG;
        else if (*p == 'q')
            length = LLONG;
        else if (*p == 'L')
            length = LDOUBLE;
        else
            break;
    }
    switch (*p) {
    case '%':
    case 'm':
        break;
    case 'd': case 'i': case 'o': case 'u': case 'x': case 'X':
        if (length == LONG)
            (void)va_arg(*args, long);
        else if (length == LLONG || length == LDOUBLE)
            (void)va_arg(*args, long long);
        else
            (void)va_arg(*args, int);
        break;
    case 'c':
        if (length == LONG)
            (void)va_arg(*args, wint_t);
        else
            (void)va_arg(*args, int);
        break;
    case 'C':
        (void)va_arg(*args, wint_t);
        break;
    case 'a': case 'A': case 'e': case 'E': case 'f': case 'F': case 'g': case 'G':
        if (length == LDOUBLE)
            (void)va_arg(*args, long double);
        else
            (void)va_arg(*args, double);
        break;
    case 'p':
        (void)va_arg(*args, void *);
        break;
    case 's':
    case 'S': {
        const void *s = va_arg(*args, const void *);
        size_t limit = precision < 0 ? SIZE_MAX : (size_t)precision;
        if (s == NULL)
            break;
        /* A wide character becomes at least one byte. */
        if (*p == 'S' || length == LONG)
            read_wide(s, limit);
        else
            ame_stdio_read_string(s, limit);
        break;
    }
    case 'n':
        ame_write_range(va_arg(*args, void *), size_of_count(length));
        break;
    default:
        return NULL;
    }
    return p + 1;
}

/* Acquires a format and what its arguments point to. Formats that only the C library understands
 * (numbered arguments, registered conversions) make the transaction exclusive: then nothing needs
 * to be acquired. */
static void acquire(const char *format, va_list original)
{
    va_list args;
    int error = errno; /* for %m */
    ame_stdio_read_string(format, SIZE_MAX);
    va_copy(args, original);
    const char *p = format;
    while ((p = strchr(p, '%')) != NULL) {
        p = acquire_conversion(p + 1, &args);
        if (p == NULL) {
            ame_make_exclusive();
            break;
        }
    }
    va_end(args);
    errno = error;
}

/* Text of a format: in `local` if it fits, else allocated. */
struct text {
    char *start;
    int length; /* or negative: the format's error */
    char local[512];
};

static void text_of(struct text *text, const char *format, va_list original)
{
    va_list args;
    va_copy(args, original);
    int error = errno;
    text->start = text->local;
    text->length = vsnprintf(text->local, sizeof text->local, format, args);
    va_end(args);
    if (text->length < (int)sizeof text->local)
        return;
    size_t size = (size_t)text->length + 1;
    text->start = malloc(size);
    if (text->start == NULL) {
        text->length = -1;
        errno = ENOMEM;
        return;
    }
    va_copy(args, original);
    errno = error;
    text->length = vsnprintf(text->start, size, format, args);
    va_end(args);
}

static void text_free(struct text *text)
{
    if (text->start != text->local)
        free(text->start);
}

/* --- streams ----------------------------------------------------------------------------------- */

HIDDEN int ame_c_vfprintf(FILE *stream, const char *format, va_list args)
{
    if (!ame_stdio_in_transaction())
        return vfprintf(stream, format, args);
    acquire(format, args);
    if (!ame_stdio_defers(stream))
        return vfprintf(stream, format, args);
    struct text text;
    text_of(&text, format, args);
    if (text.length > 0)
        ame_stdio_defer(stream, text.start, (size_t)text.length);
    text_free(&text);
    return text.length;
}

HIDDEN int ame_c_vdprintf(int fd, const char *format, va_list args)
{
    if (!ame_stdio_in_transaction())
        return vdprintf(fd, format, args);
    acquire(format, args);
    struct text text;
    text_of(&text, format, args);
    if (text.length > 0 && ame_stdio_write(fd, text.start, (size_t)text.length) < 0)
        text.length = -1;
    text_free(&text);
    return text.length;
}

/* --- memory ------------------------------------------------------------------------------------ */

HIDDEN int ame_c_vsnprintf(char *to, size_t size, const char *format, va_list args)
{
    if (!ame_stdio_in_transaction())
        return vsnprintf(to, size, format, args);
    acquire(format, args);
    /* The length first: no more is acquired than is written. */
    va_list copy;
    va_copy(copy, args);
    char local[256];
    int error = errno;
    int length = vsnprintf(local, sizeof local, format, copy);
    va_end(copy);
    if (length < 0 || size == 0)
        return length;
    size_t n = (size_t)length < size ? (size_t)length : size - 1;
    ame_write_range(to, n + 1);
    if (length < (int)sizeof local) {
        memcpy(to, local, n);
        to[n] = 0;
        return length;
    }
    errno = error;
    return vsnprintf(to, size, format, args);
}

HIDDEN int ame_c_vsprintf(char *to, const char *format, va_list args)
{
    if (!ame_stdio_in_transaction())
        return vsprintf(to, format, args);
    return ame_c_vsnprintf(to, INT_MAX, format, args);
}

void *ame_malloc(size_t size);

HIDDEN int ame_c_vasprintf(char **to, const char *format, va_list args)
{
    if (ame_stdio_in_transaction())
        acquire(format, args);
    ame_write_range(to, sizeof *to);
    va_list copy;
    va_copy(copy, args);
    int error = errno;
    int length = vsnprintf(NULL, 0, format, copy);
    va_end(copy);
    if (length < 0)
        return length;
    /* Fresh in a transaction: no barriers. From our allocator always, for our free. */
    char *text = ame_malloc((size_t)length + 1);
    if (text == NULL)
        return -1;
    errno = error;
    vsnprintf(text, (size_t)length + 1, format, args);
    *to = text;
    return length;
}

/* --- every other form ends in one of these ------------------------------------------------------ */

#define FORWARD(name, parameters, last, ...)      \
    HIDDEN int ame_c_##name parameters            \
    {                                             \
        va_list args;                             \
        va_start(args, last);                     \
        int result = __VA_ARGS__;                 \
        va_end(args);                             \
        return result;                            \
    }

FORWARD(printf, (const char *f, ...), f, ame_c_vfprintf(stdout, f, args))
FORWARD(fprintf, (FILE * s, const char *f, ...), f, ame_c_vfprintf(s, f, args))
FORWARD(dprintf, (int fd, const char *f, ...), f, ame_c_vdprintf(fd, f, args))
FORWARD(snprintf, (char *to, size_t n, const char *f, ...), f, ame_c_vsnprintf(to, n, f, args))
FORWARD(sprintf, (char *to, const char *f, ...), f, ame_c_vsprintf(to, f, args))
FORWARD(asprintf, (char **to, const char *f, ...), f, ame_c_vasprintf(to, f, args))

HIDDEN int ame_c_vprintf(const char *f, va_list args) { return ame_c_vfprintf(stdout, f, args); }

/* The checked forms of _FORTIFY_SOURCE: flag, and the size of the destination where it is known.
 * Like the C library they end the process when the destination is smaller than the program says;
 * that %n stands in writable memory is not checked. */
void __chk_fail(void) __attribute__((noreturn));

HIDDEN int ame_c_vsnprintf_chk(char *to, size_t n, int flag, size_t room, const char *f, va_list args)
{
    (void)flag;
    if (room < n)
        __chk_fail();
    return ame_c_vsnprintf(to, n, f, args);
}

HIDDEN int ame_c_vsprintf_chk(char *to, int flag, size_t room, const char *f, va_list args)
{
    (void)flag;
    if (room == 0)
        __chk_fail();
    int n = ame_c_vsnprintf(to, room, f, args);
    if (n >= 0 && (size_t)n >= room)
        __chk_fail();
    return n;
}

HIDDEN int ame_c_vfprintf_chk(FILE *s, int flag, const char *f, va_list args)
{
    (void)flag;
    return ame_c_vfprintf(s, f, args);
}

HIDDEN int ame_c_vprintf_chk(int flag, const char *f, va_list args)
{
    (void)flag;
    return ame_c_vfprintf(stdout, f, args);
}

FORWARD(printf_chk, (int flag, const char *f, ...), f, ((void)flag, ame_c_vfprintf(stdout, f, args)))
FORWARD(fprintf_chk, (FILE * s, int flag, const char *f, ...), f,
        ((void)flag, ame_c_vfprintf(s, f, args)))
FORWARD(snprintf_chk, (char *to, size_t n, int flag, size_t room, const char *f, ...), f,
        ame_c_vsnprintf_chk(to, n, flag, room, f, args))
FORWARD(sprintf_chk, (char *to, int flag, size_t room, const char *f, ...), f,
        ame_c_vsprintf_chk(to, flag, room, f, args))
