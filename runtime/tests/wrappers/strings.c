/* strings.c: every string function gives what the C library gives, in every mode; reads nothing
 * behind the granule of the terminator; and what it writes is undone by a rollback. */
#include "check.h"
#include <sys/mman.h>

/* Two pages, the second unreadable: a string at the end of the first. */
static char *edge;

static char *at_edge(const char *text)
{
    size_t n = strlen(text) + 1;
    return memcpy(edge - n, text, n);
}

static int sign(int x) { return (x > 0) - (x < 0); }

static const char *const TEXTS[] = {
    "", "a", "abc", "fifteen letters", "sixteen letters!", "seventeen letters",
    "a text of more than two granules, so that the scan goes on for a while",
    "Fifteen Letters", "\xff\x01\x80", "abd",
};
enum { N = sizeof TEXTS / sizeof *TEXTS };

static void lengths(void)
{
    for (int i = 0; i < N; i++) {
        char *s = at_edge(TEXTS[i]);
        CHECK(ame_strlen(s) == strlen(s));
        for (size_t limit = 0; limit < 40; limit += 3)
            CHECK(ame_strnlen(s, limit) == strnlen(s, limit));
    }
}

static void comparisons(void)
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            const char *a = TEXTS[i];
            char *b = at_edge(TEXTS[j]);
            CHECK(sign(ame_strcmp(a, b)) == sign(strcmp(a, b)));
            CHECK(sign(ame_strcasecmp(a, b)) == sign(strcasecmp(a, b)));
            for (size_t n = 0; n < 20; n += 3) {
                CHECK(sign(ame_strncmp(a, b, n)) == sign(strncmp(a, b, n)));
                CHECK(sign(ame_strncasecmp(a, b, n)) == sign(strncasecmp(a, b, n)));
            }
        }
}

static void searches(void)
{
    for (int i = 0; i < N; i++) {
        char *s = at_edge(TEXTS[i]);
        for (int c = 0; c < 256; c += c < 'z' ? 1 : 31) {
            CHECK(ame_strchr(s, c) == strchr(s, c));
            CHECK(ame_strchrnul(s, c) == strchrnul(s, c));
            CHECK(ame_strrchr(s, c) == strrchr(s, c));
        }
        CHECK(ame_rawmemchr(s, 0) == s + strlen(s));
        for (int j = 0; j < N; j++) {
            CHECK(ame_strstr(s, TEXTS[j]) == strstr(s, TEXTS[j]));
            CHECK(ame_strcasestr(s, TEXTS[j]) == strcasestr(s, TEXTS[j]));
            CHECK(ame_strspn(s, TEXTS[j]) == strspn(s, TEXTS[j]));
            CHECK(ame_strcspn(s, TEXTS[j]) == strcspn(s, TEXTS[j]));
            CHECK(ame_strpbrk(s, TEXTS[j]) == strpbrk(s, TEXTS[j]));
        }
    }
}

static char target[256], twin[256];

static void reset(void)
{
    for (int i = 0; i < 256; i++)
        WRITE(target[i], (char)(i < 7 ? 'x' : i == 7 ? 0 : '?'));
    memcpy(twin, target, sizeof twin); /* only looked at here */
}

#define SAME(ours, theirs)                                                   \
    do {                                                                     \
        reset();                                                             \
        char *got = (ours), *wanted = (theirs);                              \
        CHECK(got - target == wanted - twin);                                \
        CHECK(memcmp(target, twin, sizeof twin) == 0);                       \
    } while (0)

static void copies(void)
{
    for (int i = 0; i < N; i++) {
        char *s = at_edge(TEXTS[i]);
        SAME(ame_strcpy(target, s), strcpy(twin, s));
        SAME(ame_stpcpy(target, s), stpcpy(twin, s));
        SAME(ame_strcat(target, s), strcat(twin, s));
        for (size_t n = 0; n < 40; n += 5) {
            SAME(ame_strncpy(target, s, n), strncpy(twin, s, n));
            SAME(ame_stpncpy(target, s, n), stpncpy(twin, s, n));
            SAME(ame_strncat(target, s, n), strncat(twin, s, n));
        }
        char *copy = ame_strdup(s);
        CHECK(copy != s && strcmp(copy, s) == 0);
        ame_free(copy);
        copy = ame_strndup(s, 5);
        CHECK(strlen(copy) == strnlen(s, 5) && strncmp(copy, s, 5) == 0);
        ame_free(copy);
    }
}

static char *rest;

static void pieces(void)
{
    reset();
    ame_strcpy(target, ",a,,b c");
    CHECK(strcmp(ame_strtok_r(target, ", ", &rest), "a") == 0);
    CHECK(strcmp(ame_strtok_r(NULL, ", ", &rest), "b") == 0);
    CHECK(strcmp(ame_strtok_r(NULL, ", ", &rest), "c") == 0);
    CHECK(ame_strtok_r(NULL, ", ", &rest) == NULL);
    ame_strcpy(target, ",a");
    WRITE(rest, target);
    CHECK(strcmp(ame_strsep(&rest, ", "), "") == 0);
    CHECK(strcmp(ame_strsep(&rest, ", "), "a") == 0);
    CHECK(ame_strsep(&rest, ", ") == NULL);
}

static char *stop;

static void numbers(void)
{
    static const char *const NUMBERS[] = {
        "0", "42", "  -17x", "0x1fg", "077", "+9223372036854775808", "1e3", " -1.5e-3,7", "nan(12)z",
        "inf", "-infinity!", "0x1.8p3 ", "", "x", "-", "12345678901234567890123456789012345678901",
    };
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        char *s = at_edge(NUMBERS[i]), *end;
        for (int base = 0; base <= 16; base += 8) {
            CHECK(ame_strtol(s, &stop, base) == strtol(s, &end, base) && stop == end);
            CHECK(ame_strtoul(s, &stop, base) == strtoul(s, &end, base) && stop == end);
            CHECK(ame_strtoll(s, &stop, base) == strtoll(s, &end, base) && stop == end);
            CHECK(ame_strtoull(s, &stop, base) == strtoull(s, &end, base) && stop == end);
        }
        double a = ame_strtod(s, &stop), b = strtod(s, &end);
        CHECK(memcmp(&a, &b, sizeof a) == 0 && stop == end);
        float c = ame_strtof(s, &stop), d = strtof(s, &end);
        CHECK(memcmp(&c, &d, sizeof c) == 0 && stop == end);
        CHECK(ame_strtol(s, NULL, 10) == strtol(s, NULL, 10));
        CHECK(ame_atoi(s) == atoi(s) && ame_atol(s) == atol(s) && ame_atoll(s) == atoll(s));
        a = ame_atof(s), b = atof(s);
        CHECK(memcmp(&a, &b, sizeof a) == 0);
    }
}

static void undone(void)
{
    strcpy(target, "before");
    char *volatile leaked = NULL;
    unsigned rollbacks = ame_begin();
    if (rollbacks == 0) {
        ame_strcpy(target, "a text longer than one granule is");
        ame_strcat(target, "!");
        leaked = ame_strdup(target);
        roll_back();
    }
    CHECK(strcmp(target, "before") == 0 && leaked == NULL);
    ame_commit();
}

int main(void)
{
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED && mprotect(pages + 4096, 4096, PROT_NONE) == 0);
    edge = pages + 4096;
    each_mode(lengths);
    each_mode(comparisons);
    each_mode(searches);
    each_mode(copies);
    each_mode(pieces);
    each_mode(numbers);
    if (chaos())
        undone();
    puts("ok");
}
