/* Runs all suites; `build/test [WORD...]` runs the tests whose name contains a word, or, with
 * -WORD, those whose name does not.  QUANT_TEST_REQUIRE_ISA=avx2,avx512vnni in the environment
 * makes sets of kernels that did not run a failure: see test_matmul.c. */
#include "test.h"
#include <math.h>
#include <stdarg.h>

static int passed, failed, skipped, bad, skip_now;
static int n_words;
static char **words;
static char note[512];

void test_note(const char *format, ...)
{
    va_list a;
    va_start(a, format);
    vsnprintf(note, sizeof note, format, a);
    va_end(a);
}

int test_check(int ok, const char *file, int line, const char *what)
{
    if (ok) return 1;
    if (bad++ < 10) printf("    %s:%d: %s%s%s\n", file, line, what, note[0] ? "   # " : "", note);
    return 0;
}

void test_skip(const char *why)
{
    printf("    SKIPPED: %s\n", why);
    skip_now = 1;
}

void test_run(const char *name, void (*fn)(void))
{
    int i, chosen = n_words == 0 || words[0][0] == '-';
    for (i = 0; i < n_words; i++) {
        if (words[i][0] != '-') chosen |= strstr(name, words[i]) != NULL;
        else if (strstr(name, words[i] + 1)) chosen = 0;
    }
    if (!chosen) return;
    bad = skip_now = 0;
    note[0] = 0;
    fn();
    if (bad) { failed++; printf("FAILED %s (%d checks)\n", name, bad); }
    else if (skip_now) { skipped++; printf("skipped %s\n", name); }
    else { passed++; if (n_words && words[0][0] != '-') printf("ok %s\n", name); }
    fflush(stdout);
}

uint8_t *test_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *p = NULL;
    long n = -1;
    *size = 0;
    if (f && fseek(f, 0, SEEK_END) == 0 && (n = ftell(f)) >= 0) {
        rewind(f);
        p = (uint8_t *)malloc(n ? (size_t)n : 1);
        if (p && fread(p, 1, (size_t)n, f) == (size_t)n) *size = (size_t)n;
        else { free(p); p = NULL; }
    }
    if (f) fclose(f);
    test_note("%s", path);
    CHECK(p && "file is there");
    return p;
}

uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

double test_uniform(uint64_t *state)
{
    return ((double)(test_random(state) >> 11) + 0.5) / 9007199254740992.0;
}

double test_normal(uint64_t *state)
{
    double r = sqrt(-2 * log(test_uniform(state)));
    return r * cos(6.283185307179586 * test_uniform(state));
}

static void *heap_alloc(void *user, size_t size)
{
    test_heap *h = (test_heap *)user;
    size_t *p;
    if (++h->calls == h->fail_at) return NULL;
    p = (size_t *)malloc(size + 16);
    if (!p) return NULL;
    p[0] = size;
    h->live++;
    h->live_bytes += size;
    if (h->live_bytes > h->peak_bytes) h->peak_bytes = h->live_bytes;
    return p + 2;
}

static void heap_free(void *user, void *q, size_t size)
{
    test_heap *h = (test_heap *)user;
    size_t *p = (size_t *)q - 2;
    if (!q) return;
    CHECK(p[0] == size && "freed with the size that was asked for");
    h->live--;
    h->live_bytes -= p[0];
    free(p);
}

quant_alloc test_heap_alloc(test_heap *h)
{
    quant_alloc a;
    a.alloc = heap_alloc;
    a.free = heap_free;
    a.user = h;
    return a;
}

/* calibrate after cli, which looks at the largest child process so far. */
#define SUITES(X) \
    X(suite_types) X(suite_golden) X(suite_rows) X(suite_read) X(suite_write) \
    X(suite_imatrix) X(suite_split) X(suite_mix) X(suite_matmul) \
    X(suite_linalg) X(suite_awq) X(suite_llama) X(suite_cli) X(suite_fuzz) X(suite_gptq) \
    X(suite_calibrate)

#define X(s) void s(void);
SUITES(X)
#undef X

int main(int argc, char **argv)
{
    n_words = argc - 1;
    words = argv + 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
#define X(s) s();
    SUITES(X)
#undef X
    if (skipped) printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    else printf("%d passed, %d failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
