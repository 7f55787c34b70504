/* The test frame: a suite is a function that RUNs named tests; a test fails when a CHECK in it
 * does.  The program prints failures, skips and one closing line. */
#ifndef TEST_H
#define TEST_H
#include "../quant.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void test_run(const char *name, void (*fn)(void));
int  test_check(int ok, const char *file, int line, const char *what);
void test_note(const char *format, ...);    /* printed once with the next failure                */
void test_skip(const char *why);            /* the running test counts as skipped                */

#define RUN(fn) test_run(#fn, fn)
#define CHECK(c) test_check(!!(c), __FILE__, __LINE__, #c)
/* Ends the test when it fails: for what later lines need. */
#define REQUIRE(c) do { if (!CHECK(c)) return; } while (0)

/* Files of the repository, read whole; NULL and a failed check if it is not there.  free() it. */
uint8_t *test_file(const char *path, size_t *size);

/* splitmix64, and a standard normal by Box-Muller */
uint64_t test_random(uint64_t *state);
double   test_uniform(uint64_t *state);     /* (0, 1)                                            */
double   test_normal(uint64_t *state);

/* An allocator that counts, fails at the n-th allocation (0: never) and checks sizes at free. */
typedef struct test_heap { size_t calls, fail_at, live_bytes, live, peak_bytes; } test_heap;
quant_alloc test_heap_alloc(test_heap *h);
#endif
