/* Bytes that grow: a sink for the writer that can be told to fail, and a hand to build files with
 * that the writer would not write (old versions, big-endian, broken ones). */
#ifndef TEST_BYTES_H
#define TEST_BYTES_H
#include "test.h"

typedef struct bytes {
    uint8_t *p;
    size_t   n, cap;
    size_t   calls, fail_at;        /* the sink takes `most` bytes less than all at call fail_at */
    int      big;                   /* numbers are big-endian                                   */
    int      v1;                    /* lengths have 4 bytes                                     */
} bytes;

static inline void bytes_add(bytes *b, const void *p, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = 2 * (b->n + n);
        b->p = (uint8_t *)realloc(b->p, b->cap);
        if (!b->p) abort();
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}

static inline size_t bytes_sink(void *user, const void *p, size_t n)
{
    bytes *b = (bytes *)user;
    if (++b->calls == b->fail_at) n /= 2;
    bytes_add(b, p, n);
    return n;
}

static inline quant_sink bytes_to(bytes *b)
{
    quant_sink s;
    s.write = bytes_sink;
    s.user = b;
    return s;
}

static inline void bytes_free(bytes *b)
{
    free(b->p);
    memset(b, 0, sizeof *b);
}

/* The low `size` bytes of v, in the order of the file. */
static inline void bytes_int(bytes *b, uint64_t v, int size)
{
    uint8_t t[8];
    int i;
    for (i = 0; i < size; i++) t[b->big ? size - 1 - i : i] = (uint8_t)(v >> (8 * i));
    bytes_add(b, t, (size_t)size);
}

static inline void bytes_float(bytes *b, float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    bytes_int(b, u, 4);
}

/* A count or length: 4 bytes in version 1, else 8. */
static inline void bytes_len(bytes *b, uint64_t n)
{
    bytes_int(b, n, b->v1 ? 4 : 8);
}

static inline void bytes_str(bytes *b, const char *s)
{
    bytes_len(b, strlen(s));
    bytes_add(b, s, strlen(s));
}

static inline void bytes_gguf(bytes *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    b->v1 = version == 1;
    bytes_add(b, "GGUF", 4);
    bytes_int(b, version, 4);
    bytes_len(b, n_tensors);
    bytes_len(b, n_kv);
}

/* A copy of exactly n bytes, so that a sanitizer sees a read past the end.  free() it. */
static inline uint8_t *bytes_exact(const uint8_t *p, size_t n)
{
    uint8_t *q = (uint8_t *)malloc(n ? n : 1);
    if (!q) abort();
    if (n) memcpy(q, p, n);
    return q;
}
#endif
