/* llama.h - runs GGUF models of the llama family on top of quant.h.  An example, not a product:
 * it shows how far a reader, a decoder and a matrix product carry.
 *
 * Architectures: llama (SmolLM2, Llama 2 and 3, Mistral), qwen2, qwen3, gemma3.
 * Tokenizers: `llama` (SentencePiece BPE by scores, also Gemma's) and `gpt2` (byte-level BPE by
 * merges) with the pre-tokenizers default, gpt-2, llama-bpe, qwen2 and smollm.
 *
 *     llama_model m;
 *     llama_context c;
 *     llama_tokens t = { 0 };
 *     if (llama_model_open(&m, "model.gguf")) { puts(m.err); ... }
 *     if (llama_context_init(&c, &m, 2048, 128, 2)) { puts(c.err); ... }
 *     llama_tokenize(&m.vocab, &t, "Hello", 5, 1, 0);
 *     llama_eval(&c, t.id, t.n, logits, 0);          logits [n_vocab] of the last token
 *     llama_context_free(&c);
 *     llama_model_close(&m);
 *
 * The file is untrusted: what its metadata says is checked against limits and against the shapes
 * of the tensors, and every failure is one line in `err`.  Functions that can fail return 0 or -1.
 * quant.h starts no threads; here a pool splits the rows of a matrix, the heads and the tokens.
 * Results do not depend on the number of threads nor on how tokens are cut into batches.
 *
 * Sections: >>threads >>unicode >>vocab >>tokenize >>model >>context >>attention >>eval >>text */
#ifndef LLAMA_H
#define LLAMA_H
#include "../quant.h"
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LLAMA_ERR = 400 };           /* bytes of an error line                                    */

/* Writes the error line and returns -1. */
#ifdef __GNUC__
__attribute__((format(printf, 2, 3)))
#endif
static inline int llama_fail(char *err, const char *format, ...)
{
    va_list a;
    va_start(a, format);
    vsnprintf(err, LLAMA_ERR, format, a);
    va_end(a);
    return -1;
}

/* A string of the file for messages: cut, and without bytes that could steer a terminal. */
static inline const char *llama_printable(char *buf, size_t size, quant_str s)
{
    size_t i;
    for (i = 0; i + 1 < size && i < s.n; i++)
        buf[i] = s.p[i] < 32 || s.p[i] > 126 ? '?' : s.p[i];
    buf[i] = 0;
    return buf;
}

static inline int llama_is(quant_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

static inline double llama_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Memory that is freed all at once.  Blocks are aligned to 64 bytes and chained by their heads. */
typedef struct llama_arena { void *last; size_t bytes; } llama_arena;

/* n objects of `size` bytes, zeroed; NULL when there is no memory or the product overflows. */
static inline void *llama_alloc(llama_arena *a, size_t n, size_t size)
{
    void *p;
    if (size && n > ((size_t)-1 - 64) / size) return NULL;
    if (posix_memalign(&p, 64, n * size + 64)) return NULL;
    memset(p, 0, n * size + 64);
    memcpy(p, &a->last, sizeof a->last);
    a->last = p;
    a->bytes += n * size;
    return (char *)p + 64;
}

static inline void llama_arena_free(llama_arena *a)
{
    while (a->last) {
        void *p = a->last;
        memcpy(&a->last, p, sizeof a->last);
        free(p);
    }
    a->bytes = 0;
}

/* >>threads -------------------------------------------------------------------------------------
 * A pool: llama_pool_run calls the job once per thread, with the thread's number, and returns when
 * all are done.  Jobs split their work by that number alone, so that no result depends on who is
 * faster. */
typedef void (*llama_job)(void *arg, size_t thread, size_t n_threads);

typedef struct llama_pool {
    size_t          n;              /* threads, with the caller's                                */
    pthread_t      *threads;        /* [n - 1]                                                   */
    struct llama_worker { struct llama_pool *pool; size_t index; } *workers;    /* [n - 1]       */
    pthread_mutex_t lock;
    pthread_cond_t  go, done;
    llama_job       job;
    void           *arg;
    uint64_t        round;          /* counts the calls of run                                   */
    size_t          busy;           /* workers that have not finished this round                 */
    int             stop, open;
} llama_pool;

static inline void *llama__work(void *arg)
{
    struct llama_worker *w = (struct llama_worker *)arg;
    llama_pool *p = w->pool;
    uint64_t seen = 0;
    for (;;) {
        pthread_mutex_lock(&p->lock);
        while (p->round == seen && !p->stop) pthread_cond_wait(&p->go, &p->lock);
        if (p->stop) { pthread_mutex_unlock(&p->lock); return NULL; }
        seen = p->round;
        pthread_mutex_unlock(&p->lock);
        p->job(p->arg, w->index, p->n);
        pthread_mutex_lock(&p->lock);
        if (--p->busy == 0) pthread_cond_signal(&p->done);
        pthread_mutex_unlock(&p->lock);
    }
}

static inline void llama_pool_stop(llama_pool *p)
{
    size_t i;
    if (!p->open) return;
    pthread_mutex_lock(&p->lock);
    p->stop = 1;
    pthread_cond_broadcast(&p->go);
    pthread_mutex_unlock(&p->lock);
    for (i = 0; i + 1 < p->n; i++) pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->go);
    pthread_cond_destroy(&p->done);
    pthread_mutex_destroy(&p->lock);
    free(p->threads);
    free(p->workers);
    memset(p, 0, sizeof *p);
}

/* Starts n - 1 threads.  -1: no memory, or the system gives no thread. */
static inline int llama_pool_start(llama_pool *p, size_t n)
{
    size_t i;
    memset(p, 0, sizeof *p);
    if (n < 1 || n > 1024) return -1;
    p->threads = (pthread_t *)calloc(n, sizeof *p->threads);
    p->workers = (struct llama_worker *)calloc(n, sizeof *p->workers);
    if (!p->threads || !p->workers) {
        free(p->threads);
        free(p->workers);
        return -1;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->go, NULL);
    pthread_cond_init(&p->done, NULL);
    p->open = 1;
    p->n = 1;
    for (i = 0; i + 1 < n; i++) {
        p->workers[i].pool = p;
        p->workers[i].index = i + 1;
        if (pthread_create(&p->threads[i], NULL, llama__work, &p->workers[i])) {
            llama_pool_stop(p);
            return -1;
        }
        p->n++;
    }
    return 0;
}

static inline void llama_pool_run(llama_pool *p, llama_job job, void *arg)
{
    if (p->n > 1) {
        pthread_mutex_lock(&p->lock);
        p->job = job;
        p->arg = arg;
        p->busy = p->n - 1;
        p->round++;
        pthread_cond_broadcast(&p->go);
        pthread_mutex_unlock(&p->lock);
    }
    job(arg, 0, p->n);
    if (p->n > 1) {
        pthread_mutex_lock(&p->lock);
        while (p->busy) pthread_cond_wait(&p->done, &p->lock);
        pthread_mutex_unlock(&p->lock);
    }
}

/* The share of `thread` in n items: [*i0, *i1). */
static inline void llama_share(size_t n, size_t thread, size_t n_threads, size_t *i0, size_t *i1)
{
    size_t each = n / n_threads, more = n % n_threads;
    *i0 = thread * each + (thread < more ? thread : more);
    *i1 = *i0 + each + (thread < more);
}

/* >>unicode -------------------------------------------------------------------------------------
 * General categories L, N and P of Unicode 15.1 as runs: how many code points to skip, how many
 * belong to the category, and so on. */
static const uint16_t llama__letters[] = {
    65, 26, 6, 26, 47, 1, 10, 1, 4, 1, 5, 23, 1, 31, 1, 458, 4, 12, 14, 5, 7, 1, 1, 1, 129, 5, 1,
    2, 2, 4, 1, 1, 6, 1, 1, 3, 1, 1, 1, 20, 1, 83, 1, 139, 8, 166, 1, 38, 2, 1, 6, 41, 71, 27, 4,
    4, 45, 43, 35, 2, 1, 99, 1, 1, 15, 2, 7, 2, 10, 3, 2, 1, 16, 1, 1, 30, 29, 89, 11, 1, 24, 33,
    9, 2, 4, 1, 5, 22, 4, 1, 9, 1, 3, 1, 23, 25, 7, 11, 5, 24, 1, 6, 17, 42, 58, 54, 3, 1, 18, 1,
    7, 10, 15, 16, 4, 8, 2, 2, 2, 22, 1, 7, 1, 1, 3, 4, 3, 1, 16, 1, 13, 2, 1, 3, 14, 2, 10, 1, 8,
    6, 4, 2, 2, 22, 1, 7, 1, 2, 1, 2, 1, 2, 31, 4, 1, 1, 19, 3, 16, 9, 1, 3, 1, 22, 1, 7, 1, 2, 1,
    5, 3, 1, 18, 1, 15, 2, 23, 1, 11, 8, 2, 2, 2, 22, 1, 7, 1, 2, 1, 5, 3, 1, 30, 2, 1, 3, 15, 1,
    17, 1, 1, 6, 3, 3, 1, 4, 3, 2, 1, 1, 1, 2, 3, 2, 3, 3, 3, 12, 22, 1, 52, 8, 1, 3, 1, 23, 1,
    16, 3, 1, 26, 3, 2, 1, 2, 2, 30, 1, 4, 8, 1, 3, 1, 23, 1, 10, 1, 5, 3, 1, 31, 2, 1, 2, 15, 2,
    17, 9, 1, 3, 1, 41, 2, 1, 16, 1, 5, 3, 8, 3, 24, 6, 5, 18, 3, 24, 1, 9, 1, 1, 2, 7, 58, 48, 1,
    2, 12, 7, 58, 2, 1, 1, 1, 5, 1, 24, 1, 1, 1, 10, 1, 2, 9, 1, 2, 5, 1, 1, 21, 4, 32, 1, 63, 8,
    1, 36, 27, 5, 115, 43, 20, 1, 16, 6, 4, 4, 3, 1, 3, 2, 7, 3, 4, 13, 12, 1, 17, 38, 1, 1, 5, 1,
    2, 43, 1, 333, 1, 4, 2, 7, 1, 1, 1, 4, 2, 41, 1, 4, 2, 33, 1, 4, 2, 7, 1, 1, 1, 4, 2, 15, 1,
    57, 1, 4, 2, 67, 37, 16, 16, 86, 2, 6, 3, 620, 2, 17, 1, 26, 5, 75, 6, 8, 7, 18, 13, 19, 14,
    18, 14, 13, 1, 3, 15, 52, 35, 1, 4, 1, 67, 89, 7, 5, 2, 34, 1, 1, 5, 70, 10, 31, 49, 30, 2, 5,
    11, 44, 4, 26, 54, 23, 9, 53, 82, 1, 93, 47, 17, 8, 54, 30, 13, 2, 10, 44, 26, 36, 41, 3, 10,
    36, 2, 9, 7, 43, 2, 3, 41, 4, 1, 6, 1, 2, 3, 1, 5, 192, 64, 278, 2, 6, 2, 38, 2, 6, 2, 8, 1,
    1, 1, 1, 1, 1, 1, 31, 2, 53, 1, 7, 1, 1, 3, 3, 1, 7, 3, 4, 2, 6, 4, 13, 5, 3, 1, 7, 116, 1,
    13, 1, 16, 13, 101, 1, 4, 1, 2, 10, 1, 1, 3, 5, 6, 1, 1, 1, 1, 1, 1, 4, 1, 11, 2, 4, 5, 5, 4,
    1, 52, 2, 2683, 229, 6, 4, 3, 2, 12, 38, 1, 1, 5, 1, 2, 56, 7, 1, 16, 23, 9, 7, 1, 7, 1, 7, 1,
    7, 1, 7, 1, 7, 1, 7, 1, 7, 80, 1, 469, 2, 42, 5, 5, 2, 4, 86, 6, 3, 1, 90, 1, 4, 5, 43, 1, 94,
    17, 32, 48, 16, 512, 6592, 64, 22157, 67, 46, 2, 269, 3, 16, 10, 2, 20, 47, 16, 31, 2, 70, 49,
    9, 2, 103, 2, 64, 5, 2, 1, 1, 1, 5, 24, 16, 1, 3, 1, 4, 1, 23, 29, 52, 14, 50, 62, 6, 3, 1, 1,
    2, 11, 28, 10, 23, 25, 29, 7, 47, 28, 1, 16, 5, 1, 10, 10, 5, 1, 41, 23, 3, 1, 8, 20, 23, 3,
    1, 3, 50, 1, 1, 3, 2, 2, 5, 2, 1, 1, 1, 24, 3, 2, 11, 7, 3, 12, 6, 2, 6, 2, 6, 9, 7, 1, 7, 1,
    43, 1, 14, 6, 115, 29, 11172, 12, 23, 4, 49, 8452, 366, 2, 106, 38, 7, 12, 5, 5, 1, 1, 10, 1,
    13, 1, 5, 1, 1, 1, 2, 1, 2, 1, 108, 33, 363, 18, 64, 2, 54, 40, 12, 116, 5, 1, 135, 36, 26, 6,
    26, 11, 89, 3, 6, 2, 6, 2, 6, 2, 3, 35, 12, 1, 26, 1, 19, 1, 2, 1, 15, 2, 14, 34, 123, 389,
    29, 3, 49, 47, 32, 13, 20, 1, 8, 6, 38, 10, 30, 2, 36, 4, 8, 48, 158, 18, 36, 4, 36, 4, 40, 8,
    52, 12, 11, 1, 15, 1, 7, 1, 2, 1, 11, 1, 15, 1, 7, 1, 2, 67, 311, 9, 22, 10, 8, 24, 6, 1, 42,
    1, 9, 69, 6, 2, 1, 1, 44, 1, 2, 3, 1, 2, 23, 10, 23, 9, 31, 65, 19, 1, 2, 10, 22, 10, 26, 70,
    56, 6, 2, 64, 1, 15, 4, 1, 3, 1, 29, 42, 29, 3, 29, 35, 8, 1, 28, 27, 54, 10, 22, 10, 19, 13,
    18, 110, 73, 55, 51, 13, 51, 13, 36, 348, 42, 6, 2, 78, 29, 10, 1, 8, 22, 42, 18, 46, 21, 27,
    23, 12, 53, 57, 2, 2, 1, 13, 45, 32, 25, 26, 36, 29, 1, 2, 1, 8, 35, 3, 1, 12, 48, 14, 4, 21,
    1, 1, 1, 35, 18, 1, 25, 19, 2, 63, 7, 1, 1, 1, 4, 1, 15, 1, 10, 7, 47, 38, 8, 2, 2, 2, 22, 1,
    7, 1, 2, 1, 5, 3, 1, 18, 1, 12, 5, 158, 53, 18, 4, 20, 3, 30, 48, 20, 2, 1, 1, 184, 47, 41, 4,
    36, 48, 20, 1, 59, 43, 13, 1, 71, 27, 37, 7, 185, 44, 116, 64, 31, 8, 2, 1, 2, 8, 1, 2, 1, 24,
    15, 1, 1, 1, 94, 8, 2, 39, 16, 1, 1, 1, 28, 1, 10, 40, 7, 1, 21, 1, 11, 46, 19, 1, 18, 73,
    263, 9, 1, 37, 17, 1, 49, 30, 112, 7, 1, 2, 1, 38, 21, 1, 25, 6, 1, 2, 1, 32, 14, 1, 327, 19,
    15, 1, 1, 13, 1, 34, 124, 1, 79, 922, 230, 196, 2636, 97, 15, 1072, 17, 6, 4025, 583, 8633,
    569, 7, 31, 17, 79, 17, 30, 18, 48, 16, 4, 31, 21, 5, 19, 688, 64, 128, 75, 5, 1, 66, 13, 64,
    2, 1, 1, 28, 6136, 8, 1238, 42, 9, 8935, 4, 1, 7, 1, 2, 1, 291, 15, 1, 29, 3, 2, 1, 14, 4, 8,
    396, 2308, 107, 5, 13, 3, 9, 7, 10, 5990, 85, 1, 71, 1, 2, 2, 1, 2, 2, 2, 4, 1, 12, 1, 1, 1,
    7, 1, 65, 1, 4, 2, 8, 1, 7, 1, 28, 1, 4, 1, 5, 1, 1, 3, 7, 1, 340, 2, 25, 1, 25, 1, 31, 1, 25,
    1, 31, 1, 25, 1, 31, 1, 25, 1, 31, 1, 25, 1, 8, 1844, 31, 6, 6, 261, 62, 146, 45, 10, 7, 16,
    1, 321, 30, 18, 44, 484, 28, 756, 7, 1, 4, 1, 2, 1, 15, 1, 197, 59, 68, 7, 1, 1204, 4, 1, 27,
    1, 2, 1, 1, 2, 1, 1, 10, 1, 4, 1, 1, 1, 1, 6, 1, 4, 1, 1, 1, 1, 1, 1, 3, 1, 2, 1, 1, 2, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 2, 4, 1, 7, 1, 4, 1, 4, 1, 1, 1, 10, 1, 17, 5, 3, 1, 5, 1,
    17, 4420, 42720, 32, 4154, 6, 222, 2, 5762, 14, 7473, 15, 622, 2466, 542, 1506, 4939, 5, 4192
};
static const uint16_t llama__numbers[] = {
    48, 10, 120, 2, 5, 1, 2, 3, 1441, 10, 134, 10, 198, 10, 412, 10, 118, 10, 4, 6, 108, 10, 118,
    10, 118, 10, 2, 6, 110, 13, 115, 10, 8, 7, 103, 10, 104, 7, 7, 19, 109, 10, 96, 10, 118, 10,
    70, 20, 268, 10, 70, 10, 719, 20, 881, 3, 239, 10, 6, 10, 22, 10, 300, 10, 128, 11, 165, 10,
    6, 10, 182, 10, 86, 10, 134, 10, 6, 10, 1046, 1, 3, 6, 6, 10, 198, 51, 2, 5, 726, 60, 78, 22,
    630, 30, 1385, 1, 777, 1, 25, 9, 14, 3, 343, 4, 138, 10, 30, 8, 1, 15, 32, 10, 39, 15, 29536,
    10, 188, 10, 320, 6, 154, 10, 38, 10, 198, 10, 22, 10, 86, 10, 406, 10, 21270, 10, 493, 45,
    12, 57, 17, 2, 341, 27, 36, 4, 29, 1, 8, 1, 134, 5, 202, 10, 942, 8, 25, 7, 39, 9, 75, 5, 22,
    6, 160, 2, 2, 16, 2, 46, 64, 9, 52, 2, 30, 3, 75, 5, 104, 8, 24, 8, 41, 7, 330, 6, 48, 10,
    294, 31, 158, 10, 42, 4, 112, 7, 134, 30, 128, 10, 60, 10, 144, 10, 7, 20, 251, 10, 342, 10,
    118, 10, 374, 10, 102, 10, 102, 12, 420, 19, 93, 10, 758, 29, 227, 10, 70, 10, 422, 10, 102,
    21, 1067, 111, 17905, 10, 86, 10, 134, 10, 1, 7, 798, 23, 25641, 20, 12, 20, 108, 25, 1109,
    50, 2368, 10, 422, 10, 502, 10, 973, 9, 128, 10, 791, 59, 1, 3, 1, 4, 76, 45, 1, 15, 962, 13,
    2787, 10
};
static const uint16_t llama__puncts[] = {
    33, 3, 1, 6, 1, 4, 10, 2, 3, 2, 26, 3, 1, 1, 27, 1, 1, 1, 35, 1, 5, 1, 3, 1, 10, 2, 3, 1, 3,
    1, 702, 1, 8, 1, 466, 6, 41, 2, 51, 1, 1, 1, 2, 1, 2, 1, 44, 2, 20, 2, 1, 2, 13, 1, 1, 3, 74,
    4, 102, 1, 43, 14, 233, 3, 54, 15, 31, 1, 261, 2, 10, 1, 140, 1, 120, 1, 121, 1, 390, 1, 12,
    1, 367, 1, 90, 1, 10, 2, 168, 15, 1, 1, 37, 4, 71, 1, 74, 5, 4, 2, 111, 6, 171, 1, 612, 9,
    151, 1, 621, 1, 44, 2, 78, 3, 71, 2, 157, 3, 1, 3, 37, 11, 313, 2, 216, 2, 128, 7, 1, 6, 172,
    7, 28, 2, 125, 4, 59, 5, 62, 2, 64, 8, 11, 1, 828, 24, 8, 20, 1, 13, 1, 12, 30, 2, 14, 2, 633,
    4, 29, 2, 1085, 14, 79, 2, 31, 10, 403, 22, 63, 4, 32, 2, 763, 4, 1, 2, 112, 1, 143, 47, 1,
    32, 2, 12, 419, 3, 4, 10, 2, 12, 16, 1, 12, 1, 98, 1, 90, 1, 29698, 2, 269, 3, 99, 1, 10, 1,
    115, 6, 380, 4, 86, 2, 40, 3, 1, 1, 49, 2, 47, 1, 97, 13, 16, 2, 124, 4, 126, 2, 16, 2, 249,
    1, 20818, 2, 208, 10, 22, 35, 1, 14, 1, 1, 4, 1, 1, 2, 149, 3, 1, 6, 1, 4, 10, 2, 3, 2, 26, 3,
    1, 1, 27, 1, 1, 1, 1, 7, 410, 3, 668, 1, 48, 1, 414, 1, 743, 1, 199, 1, 31, 1, 272, 9, 38, 1,
    112, 7, 66, 7, 89, 4, 784, 1, 167, 5, 44, 4, 189, 7, 109, 2, 1, 4, 126, 4, 48, 2, 79, 4, 4, 1,
    13, 1, 1, 3, 88, 6, 107, 1, 417, 5, 10, 2, 1, 1, 104, 1, 250, 23, 105, 3, 28, 13, 76, 1, 130,
    3, 252, 1, 264, 3, 155, 1, 92, 8, 83, 3, 1, 5, 93, 10, 311, 5, 42, 2, 645, 2, 74, 13, 175, 1,
    1136, 5, 2940, 2, 14971, 2, 133, 1, 65, 5, 8, 1, 850, 4, 327, 1, 19644, 1, 7655, 5, 3794, 2
};

enum { LLAMA_OTHER, LLAMA_LETTER, LLAMA_NUMBER, LLAMA_PUNCT, LLAMA_SPACE };
enum { LLAMA_CLASSES = 0x323b0 };   /* code points with a category in the tables                 */

static inline void llama__fill(uint8_t *classes, const uint16_t *runs, size_t n, uint8_t class_)
{
    size_t i, at = 0;
    for (i = 0; i + 1 < n; i += 2) {
        at += runs[i];
        memset(classes + at, class_, runs[i + 1]);
        at += runs[i + 1];
    }
}

/* classes [LLAMA_CLASSES] */
static inline void llama__classes(uint8_t *classes)
{
    static const uint16_t spaces[] = {
        9, 10, 11, 12, 13, 32, 0x85, 0xa0, 0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005,
        0x2006, 0x2007, 0x2008, 0x2009, 0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000
    };
    size_t i;
    memset(classes, LLAMA_OTHER, LLAMA_CLASSES);
    llama__fill(classes, llama__letters, sizeof llama__letters / 2, LLAMA_LETTER);
    llama__fill(classes, llama__numbers, sizeof llama__numbers / 2, LLAMA_NUMBER);
    llama__fill(classes, llama__puncts, sizeof llama__puncts / 2, LLAMA_PUNCT);
    for (i = 0; i < sizeof spaces / 2; i++) classes[spaces[i]] = LLAMA_SPACE;
}

/* Reads one code point of p [n > 0] and returns its bytes; a byte that is not UTF-8 counts as one
 * code point, U+FFFD. */
static inline size_t llama_utf8(const char *p, size_t n, uint32_t *cp)
{
    uint32_t c = (uint8_t)p[0], v;
    size_t len = c < 0x80 ? 1 : c < 0xc0 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf8 ? 4 : 0, i;
    *cp = 0xfffd;
    if (len == 0 || len > n) return 1;
    v = len == 1 ? c : c & (0xffu >> (len + 1));
    for (i = 1; i < len; i++) {
        if (((uint8_t)p[i] & 0xc0) != 0x80) return 1;
        v = v << 6 | ((uint8_t)p[i] & 0x3f);
    }
    *cp = v;
    return len;
}

/* >>vocab ---------------------------------------------------------------------------------------
 * The tokens as they stand in the file, and hash indices over their texts and over the merges. */
enum { LLAMA_SPM, LLAMA_BPE };
enum { LLAMA_PRE_GPT2, LLAMA_PRE_DEFAULT, LLAMA_PRE_LLAMA3, LLAMA_PRE_QWEN2, LLAMA_PRE_SMOLLM };
enum {                              /* tokenizer.ggml.token_type                                 */
    LLAMA_TOK_NORMAL = 1, LLAMA_TOK_UNKNOWN = 2, LLAMA_TOK_CONTROL = 3, LLAMA_TOK_USER = 4,
    LLAMA_TOK_UNUSED = 5, LLAMA_TOK_BYTE = 6
};

typedef struct llama_vocab {
    int        model, pre;          /* LLAMA_SPM or LLAMA_BPE; LLAMA_PRE_*                       */
    size_t     n;                   /* tokens                                                    */
    quant_str *text;                /* [n] as in the file                                        */
    float     *score;               /* [n] SPM: the higher, the sooner merged                    */
    uint8_t   *kind;                /* [n] LLAMA_TOK_*                                           */
    uint8_t   *stop;                /* [n] 1: generation ends here                               */
    uint32_t  *slots;               /* [n_slots] index over text: token + 1, 0 = empty           */
    size_t     n_slots;             /* a power of two                                            */
    quant_str *merges;              /* [n_merges] BPE: "left right", the earlier the sooner      */
    uint32_t  *merge_slots;         /* [n_merge_slots]                                           */
    size_t     n_merges, n_merge_slots;
    int32_t   *special;             /* [n_special] tokens that are cut out of text first, longest
                                       first                                                     */
    size_t     n_special;
    int32_t    byte_id[256];        /* SPM: token of a byte, -1 if there is none                 */
    int32_t    bos, eos;            /* -1: the model has none                                    */
    int        add_bos, add_eos, add_space, ignore_merges;
    uint8_t   *classes;             /* [LLAMA_CLASSES] BPE                                       */
} llama_vocab;

static inline uint32_t llama__hash(uint32_t h, const char *p, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) h = (h ^ (uint8_t)p[i]) * 16777619u;
    return h;
}

static inline size_t llama__slot(uint32_t h, size_t n_slots)
{
    h ^= h >> 15;
    h *= 0x2c1b3c6du;
    h ^= h >> 12;
    return h & (n_slots - 1);
}

/* The token with this text, -1 if there is none. */
static inline int32_t llama_token_find(const llama_vocab *v, const char *p, size_t n)
{
    size_t i = llama__slot(llama__hash(2166136261u, p, n), v->n_slots);
    for (; v->slots[i]; i = (i + 1) & (v->n_slots - 1)) {
        quant_str t = v->text[v->slots[i] - 1];
        if (t.n == n && memcmp(t.p, p, n) == 0) return (int32_t)(v->slots[i] - 1);
    }
    return -1;
}

/* The rank of the merge of two neighbours, left [nl] and right [nr] at p; -1 if there is none. */
static inline int32_t llama__merge_rank(const llama_vocab *v, const char *p, size_t nl, size_t nr)
{
    uint32_t h = llama__hash(llama__hash(2166136261u, p, nl), " ", 1);
    size_t i = llama__slot(llama__hash(h, p + nl, nr), v->n_merge_slots);
    for (; v->merge_slots[i]; i = (i + 1) & (v->n_merge_slots - 1)) {
        quant_str t = v->merges[v->merge_slots[i] - 1];
        if (t.n == nl + nr + 1 && memcmp(t.p, p, nl) == 0 && t.p[nl] == ' ' &&
            memcmp(t.p + nl + 1, p + nl, nr) == 0) return (int32_t)(v->merge_slots[i] - 1);
    }
    return -1;
}

/* An index over s [n], of which a later equal string replaces an earlier one or not. */
static inline uint32_t *llama__index(llama_arena *a, const quant_str *s, size_t n, int replace,
                                     size_t *n_slots)
{
    uint32_t *slots;
    size_t i, k;
    for (*n_slots = 16; *n_slots < 2 * n; *n_slots *= 2) {}
    slots = (uint32_t *)llama_alloc(a, *n_slots, sizeof *slots);
    if (!slots) return NULL;
    for (i = 0; i < n; i++) {
        k = llama__slot(llama__hash(2166136261u, s[i].p, s[i].n), *n_slots);
        while (slots[k]) {
            quant_str t = s[slots[k] - 1];
            if (t.n == s[i].n && memcmp(t.p, s[i].p, t.n) == 0) break;
            k = (k + 1) & (*n_slots - 1);
        }
        if (!slots[k] || replace) slots[k] = (uint32_t)i + 1;
    }
    return slots;
}

/* All strings of an array. */
static inline quant_str *llama__strings(llama_arena *a, const quant_kv *kv, size_t *n)
{
    quant_str *s;
    quant_cursor cur = { 0, 0 };
    size_t i;
    if (!kv || kv->type != QUANT_KV_ARRAY || kv->elem_type != QUANT_KV_STR ||
        kv->count < 1 || kv->count > 1u << 24) return NULL;
    *n = (size_t)kv->count;
    s = (quant_str *)llama_alloc(a, *n, sizeof *s);
    for (i = 0; s && i < *n; i++)
        if (quant_kv_str(kv, i, &cur, &s[i]) != QUANT_OK) return NULL;
    return s;
}

/* Tokens that models use under these names whatever their type says; stop: they end a turn. */
static const struct { const char *text; int stop; } llama__known[] = {
    { "<|eot_id|>", 1 }, { "<|im_end|>", 1 }, { "<|end|>", 1 }, { "<end_of_turn>", 1 },
    { "<|endoftext|>", 1 }, { "<|end_of_text|>", 1 }, { "<|eom_id|>", 1 }, { "</s>", 1 },
    { "<eos>", 1 }, { "<|fim_pad|>", 1 }, { "<|repo_name|>", 1 }, { "<|file_sep|>", 1 },
    { "<|fim_prefix|>", 0 }, { "<|fim_suffix|>", 0 }, { "<|fim_middle|>", 0 }
};

/* A token id of the metadata: *id stays as it is when there is no such key. */
static inline int llama__special_id(const quant_gguf *g, const llama_vocab *v, const char *key,
                                    int32_t *id, char *err)
{
    uint64_t u = 0;
    quant_result r = quant_gguf_get_u64(g, key, &u);
    if (r == QUANT_E_NOT_FOUND) return 0;
    if (r != QUANT_OK) return llama_fail(err, "%s is not a token id", key);
    if (u >= v->n)
        return llama_fail(err, "%s is %llu, but there are %llu tokens", key,
                          (unsigned long long)u, (unsigned long long)v->n);
    *id = (int32_t)u;
    return 0;
}

static inline void llama__flag(const quant_gguf *g, const char *key, int *flag)
{
    uint64_t u;
    if (quant_gguf_get_u64(g, key, &u) == QUANT_OK) *flag = u != 0;
}

static inline int llama__vocab_model(llama_vocab *v, const quant_gguf *g, char *err)
{
    static const struct { const char *name; int pre; } names[] = {
        { "default", LLAMA_PRE_DEFAULT }, { "gpt-2", LLAMA_PRE_GPT2 },
        { "llama-bpe", LLAMA_PRE_LLAMA3 }, { "llama3", LLAMA_PRE_LLAMA3 },
        { "llama-v3", LLAMA_PRE_LLAMA3 }, { "qwen2", LLAMA_PRE_QWEN2 },
        { "deepseek-r1-qwen", LLAMA_PRE_QWEN2 }, { "smollm", LLAMA_PRE_SMOLLM }
    };
    quant_str s = { "", 0 };
    char name[64];
    size_t i;
    if (quant_gguf_get_str(g, "tokenizer.ggml.model", &s) != QUANT_OK)
        return llama_fail(err, "the model has no tokenizer (no tokenizer.ggml.model)");
    v->model = llama_is(s, "gpt2") ? LLAMA_BPE : LLAMA_SPM;
    if (v->model == LLAMA_SPM && !llama_is(s, "llama"))
        return llama_fail(err, "tokenizer '%s' is not supported, only llama and gpt2",
                          llama_printable(name, sizeof name, s));
    v->add_bos = v->add_space = v->model == LLAMA_SPM;
    if (v->model == LLAMA_SPM) return 0;
    if (quant_gguf_get_str(g, "tokenizer.ggml.pre", &s) != QUANT_OK) {
        v->pre = LLAMA_PRE_DEFAULT;
        return 0;
    }
    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (llama_is(s, names[i].name)) {
            v->pre = names[i].pre;
            v->add_bos = v->ignore_merges = v->pre == LLAMA_PRE_LLAMA3;
            return 0;
        }
    return llama_fail(err, "pre-tokenizer '%s' is not supported, only default, gpt-2, llama-bpe, "
                      "qwen2 and smollm", llama_printable(name, sizeof name, s));
}

/* Texts, scores and types of the tokens. */
static inline int llama__vocab_tokens(llama_vocab *v, llama_arena *a, const quant_gguf *g,
                                      char *err)
{
    const quant_kv *scores = quant_gguf_find(g, "tokenizer.ggml.scores");
    const quant_kv *types = quant_gguf_find(g, "tokenizer.ggml.token_type");
    size_t i;
    v->text = llama__strings(a, quant_gguf_find(g, "tokenizer.ggml.tokens"), &v->n);
    if (!v->text) return llama_fail(err, "tokenizer.ggml.tokens is not an array of strings");
    v->score = (float *)llama_alloc(a, v->n, sizeof *v->score);
    v->kind = (uint8_t *)llama_alloc(a, v->n, 1);
    v->stop = (uint8_t *)llama_alloc(a, v->n, 1);
    v->slots = llama__index(a, v->text, v->n, 1, &v->n_slots);
    if (!v->score || !v->kind || !v->stop || !v->slots) return llama_fail(err, "out of memory");
    if ((scores && scores->count != v->n) || (types && types->count != v->n))
        return llama_fail(err, "tokenizer.ggml.%s has another length than tokenizer.ggml.tokens",
                          scores && scores->count != v->n ? "scores" : "token_type");
    if (v->model == LLAMA_SPM && !scores)
        return llama_fail(err, "a llama tokenizer needs tokenizer.ggml.scores");
    for (i = 0; i < v->n; i++) {
        double score = 0;
        uint64_t kind = LLAMA_TOK_NORMAL;
        if (scores && quant_kv_f64(scores, i, &score) != QUANT_OK)
            return llama_fail(err, "tokenizer.ggml.scores is not an array of numbers");
        if (types && quant_kv_u64(types, i, &kind) != QUANT_OK)
            return llama_fail(err, "tokenizer.ggml.token_type is not an array of types");
        v->score[i] = score > -1e30 && score < 1e30 ? (float)score : 0;
        v->kind[i] = kind <= LLAMA_TOK_BYTE ? (uint8_t)kind : 0;
    }
    for (i = 0; i < sizeof llama__known / sizeof *llama__known; i++) {
        int32_t id = llama_token_find(v, llama__known[i].text, strlen(llama__known[i].text));
        if (id < 0) continue;
        v->kind[id] = LLAMA_TOK_CONTROL;
        v->stop[id] |= llama__known[i].stop != 0;
    }
    return 0;
}

struct llama__by_length { size_t n; int32_t id; };
static inline int llama__longer(const void *a, const void *b)
{
    const struct llama__by_length *x = (const struct llama__by_length *)a;
    const struct llama__by_length *y = (const struct llama__by_length *)b;
    return x->n != y->n ? (x->n < y->n ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

static inline int llama__vocab_special(llama_vocab *v, llama_arena *a, char *err)
{
    struct llama__by_length *s;
    size_t i, n = 0;
    for (i = 0; i < v->n; i++)
        n += v->kind[i] >= LLAMA_TOK_UNKNOWN && v->kind[i] <= LLAMA_TOK_USER && v->text[i].n;
    s = (struct llama__by_length *)malloc((n + 1) * sizeof *s);
    v->special = (int32_t *)llama_alloc(a, n + 1, sizeof *v->special);
    if (!s || !v->special) {
        free(s);
        return llama_fail(err, "out of memory");
    }
    v->n_special = n;
    for (i = n = 0; i < v->n; i++)
        if (v->kind[i] >= LLAMA_TOK_UNKNOWN && v->kind[i] <= LLAMA_TOK_USER && v->text[i].n) {
            s[n].n = v->text[i].n;
            s[n++].id = (int32_t)i;
        }
    qsort(s, n, sizeof *s, llama__longer);
    for (i = 0; i < n; i++) v->special[i] = s[i].id;
    free(s);
    return 0;
}

/* Borrows g and its strings; memory comes from a. */
static inline int llama_vocab_init(llama_vocab *v, llama_arena *a, const quant_gguf *g, char *err)
{
    static const char *stops[] = { "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                   "tokenizer.ggml.eom_token_id" };
    size_t i;
    memset(v, 0, sizeof *v);
    if (llama__vocab_model(v, g, err) || llama__vocab_tokens(v, a, g, err)) return -1;
    v->bos = v->model == LLAMA_SPM && v->n > 2 ? 1 : -1;
    v->eos = v->model == LLAMA_SPM && v->n > 2 ? 2 : -1;
    if (llama__special_id(g, v, "tokenizer.ggml.bos_token_id", &v->bos, err)) return -1;
    for (i = 0; i < 3; i++) {
        int32_t id = i ? -1 : v->eos;
        if (llama__special_id(g, v, stops[i], &id, err)) return -1;
        if (id >= 0) v->stop[id] = 1;
        if (i == 0) v->eos = id;
    }
    llama__flag(g, "tokenizer.ggml.add_bos_token", &v->add_bos);
    llama__flag(g, "tokenizer.ggml.add_eos_token", &v->add_eos);
    llama__flag(g, "tokenizer.ggml.add_space_prefix", &v->add_space);
    v->add_bos &= v->bos >= 0;
    v->add_eos &= v->eos >= 0;
    if (v->model == LLAMA_SPM) {
        for (i = 0; i < 256; i++) {
            char hex[8], raw = (char)i;
            snprintf(hex, sizeof hex, "<0x%02X>", (unsigned)i);
            v->byte_id[i] = llama_token_find(v, hex, 6);
            if (v->byte_id[i] < 0) v->byte_id[i] = llama_token_find(v, &raw, 1);
        }
    } else {
        v->merges = llama__strings(a, quant_gguf_find(g, "tokenizer.ggml.merges"), &v->n_merges);
        if (!v->merges) return llama_fail(err, "a gpt2 tokenizer needs tokenizer.ggml.merges");
        v->merge_slots = llama__index(a, v->merges, v->n_merges, 0, &v->n_merge_slots);
        v->classes = (uint8_t *)llama_alloc(a, LLAMA_CLASSES, 1);
        if (!v->merge_slots || !v->classes) return llama_fail(err, "out of memory");
        llama__classes(v->classes);
    }
    return llama__vocab_special(v, a, err);
}

/* GPT-2's printable form of bytes: those that print stand for themselves, the others for U+0100 and
 * on in their order. */
static inline uint32_t llama__byte_char(uint8_t b)
{
    if ((b >= 33 && b <= 126) || (b >= 161 && b != 173)) return b;
    return b <= 32 ? 256u + b : b <= 160 ? 256u + 33u + (b - 127u) : 256u + 67u;
}

/* The byte of a printable form, -1 if it is none. */
static inline int llama__char_byte(uint32_t c)
{
    if (c < 256) return llama__byte_char((uint8_t)c) == c ? (int)c : -1;
    if (c <= 256 + 32) return (int)(c - 256);
    if (c < 256 + 67) return (int)(c - 256 - 33 + 127);
    return c == 256 + 67 ? 173 : -1;
}

/* Writes the bytes that a token stands for, as far as buf [size] goes, and returns how many they
 * are.  special: control tokens too give their text. */
static inline size_t llama_piece(const llama_vocab *v, int32_t id, char *buf, size_t size,
                                 int special)
{
    quant_str t;
    size_t i, n = 0;
    if (id < 0 || (size_t)id >= v->n) return 0;
    t = v->text[id];
    if (v->kind[id] == LLAMA_TOK_CONTROL || v->kind[id] == LLAMA_TOK_UNKNOWN) {
        if (!special) return 0;
    } else if (v->kind[id] == LLAMA_TOK_BYTE) {
        unsigned byte = 0;
        char hex[3] = { 0, 0, 0 };
        if (t.n == 6) memcpy(hex, t.p + 3, 2);
        if (sscanf(hex, "%2x", &byte) != 1) return 0;
        if (size) buf[0] = (char)byte;
        return 1;
    } else if (v->kind[id] != LLAMA_TOK_USER) {
        for (i = 0; i < t.n; n++) {
            uint32_t cp;
            size_t len = llama_utf8(t.p + i, t.n - i, &cp);
            int byte = v->model == LLAMA_SPM ? cp == 0x2581 ? ' ' : -1 : llama__char_byte(cp);
            if (byte >= 0) {
                if (n < size) buf[n] = (char)byte;
            } else {
                size_t k;
                for (k = 0; k < len; k++) if (n + k < size) buf[n + k] = t.p[i + k];
                n += len - 1;
            }
            i += len;
        }
        return n;
    }
    if (t.n && size) memcpy(buf, t.p, t.n < size ? t.n : size);
    return t.n;
}

/* >>tokenize ------------------------------------------------------------------------------------*/
typedef struct llama_tokens { int32_t *id; size_t n, cap; } llama_tokens;   /* free(id)          */

static inline int llama_tokens_add(llama_tokens *t, int32_t id)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 256;
        int32_t *p = (int32_t *)realloc(t->id, cap * sizeof *p);
        if (!p) return -1;
        t->id = p;
        t->cap = cap;
    }
    t->id[t->n++] = id;
    return 0;
}

/* A piece of text while neighbours are merged: bytes at .. at + n; n = 0 once it is merged away. */
struct llama__symbol { size_t at, n; int32_t prev, next; };
/* A possible merge; size tells whether it is still the one that was meant. */
struct llama__pair { double key; int32_t left, right; size_t size; };

typedef struct llama__merger {
    struct llama__symbol *sym;      /* [cap_sym]                                                 */
    struct llama__pair   *heap;     /* [n_heap], smallest key first, then leftmost               */
    size_t cap_sym, n_heap, cap_heap;
    char  *text;                    /* [cap_text] the fragment in the tokenizer's spelling       */
    size_t cap_text;
    uint32_t *cp;                   /* [cap_cp] code points of the fragment                      */
    uint8_t  *cut;                  /* [cap_cp + 1] 1: a word begins here                        */
    size_t    cap_cp;
} llama__merger;

static inline void llama__merger_free(llama__merger *m)
{
    free(m->sym);
    free(m->heap);
    free(m->text);
    free(m->cp);
    free(m->cut);
}

static inline int llama__before(const struct llama__pair *a, const struct llama__pair *b)
{
    return a->key < b->key || (!(b->key < a->key) && a->left < b->left);
}

static inline int llama__push(llama__merger *m, struct llama__pair p)
{
    size_t i = m->n_heap, up;
    if (m->n_heap == m->cap_heap) {
        size_t cap = m->cap_heap ? 2 * m->cap_heap : 256;
        struct llama__pair *h = (struct llama__pair *)realloc(m->heap, cap * sizeof *h);
        if (!h) return -1;
        m->heap = h;
        m->cap_heap = cap;
    }
    for (m->n_heap++; i > 0; i = up) {
        up = (i - 1) / 2;
        if (!llama__before(&p, &m->heap[up])) break;
        m->heap[i] = m->heap[up];
    }
    m->heap[i] = p;
    return 0;
}

static inline struct llama__pair llama__pop(llama__merger *m)
{
    struct llama__pair top = m->heap[0], p = m->heap[--m->n_heap];
    size_t i = 0, k;
    for (; (k = 2 * i + 1) < m->n_heap; i = k) {
        if (k + 1 < m->n_heap && llama__before(&m->heap[k + 1], &m->heap[k])) k++;
        if (!llama__before(&m->heap[k], &p)) break;
        m->heap[i] = m->heap[k];
    }
    m->heap[i] = p;
    return top;
}

/* Queues the merge of two neighbours, if the vocabulary knows it. */
static inline int llama__try(const llama_vocab *v, llama__merger *m, const char *s, int32_t left,
                             int32_t right)
{
    struct llama__pair p;
    const struct llama__symbol *l, *r;
    int32_t found;
    if (left < 0 || right < 0) return 0;
    l = &m->sym[left];
    r = &m->sym[right];
    if (v->model == LLAMA_SPM) found = llama_token_find(v, s + l->at, l->n + r->n);
    else found = llama__merge_rank(v, s + l->at, l->n, r->n);
    if (found < 0) return 0;
    p.key = v->model == LLAMA_SPM ? -(double)v->score[found] : (double)found;
    p.left = left;
    p.right = right;
    p.size = l->n + r->n;
    return llama__push(m, p);
}

/* The tokens of one symbol: itself, or its bytes one by one. */
static inline int llama__emit(const llama_vocab *v, llama_tokens *out, const char *s, size_t n)
{
    int32_t id = llama_token_find(v, s, n);
    size_t i;
    if (id >= 0) return llama_tokens_add(out, id);
    for (i = 0; i < n; i++) {
        id = v->model == LLAMA_SPM ? v->byte_id[(uint8_t)s[i]] : llama_token_find(v, s + i, 1);
        if (id >= 0 && llama_tokens_add(out, id)) return -1;
    }
    return 0;
}

/* Cuts s [n] into characters, merges neighbours while there is a merge and adds the tokens. */
static inline int llama__merge(const llama_vocab *v, llama__merger *m, llama_tokens *out,
                               const char *s, size_t n)
{
    size_t at = 0, n_sym = 0;
    int32_t i;
    if (n >= 0x7fffffff) return -1;
    if (n > m->cap_sym) {
        free(m->sym);
        m->sym = (struct llama__symbol *)malloc(2 * n * sizeof *m->sym);
        m->cap_sym = m->sym ? 2 * n : 0;
        if (!m->sym) return -1;
    }
    while (at < n) {
        unsigned c = (uint8_t)s[at];
        size_t len = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        struct llama__symbol *y = &m->sym[n_sym];
        y->at = at;
        y->n = len < n - at ? len : n - at;
        y->prev = (int32_t)n_sym - 1;
        at += y->n;
        n_sym++;
        y->next = at < n ? (int32_t)n_sym : -1;
    }
    m->n_heap = 0;
    for (i = 1; i < (int32_t)n_sym; i++) if (llama__try(v, m, s, i - 1, i)) return -1;
    while (m->n_heap) {
        struct llama__pair p = llama__pop(m);
        struct llama__symbol *l = &m->sym[p.left], *r = &m->sym[p.right];
        if (!l->n || !r->n || l->n + r->n != p.size) continue;
        l->n += r->n;
        r->n = 0;
        l->next = r->next;
        if (r->next >= 0) m->sym[r->next].prev = p.left;
        if (llama__try(v, m, s, l->prev, p.left) || llama__try(v, m, s, p.left, l->next)) return -1;
    }
    for (i = n_sym ? 0 : -1; i >= 0; i = m->sym[i].next)
        if (llama__emit(v, out, s + m->sym[i].at, m->sym[i].n)) return -1;
    return 0;
}

static inline int llama__class(const llama_vocab *v, uint32_t cp)
{
    return cp < LLAMA_CLASSES ? v->classes[cp] : LLAMA_OTHER;
}

static inline int llama__mark(int class_)       /* [^\s\p{L}\p{N}] */
{
    return class_ == LLAMA_OTHER || class_ == LLAMA_PUNCT;
}

/* The end of an English contraction at cp[i] ('s, 't, 're, 've, 'm, 'll, 'd), or i. */
static inline size_t llama__contraction(const uint32_t *cp, size_t i, size_t end, int any_case)
{
    uint32_t a, b;
    if (cp[i] != '\'' || i + 1 >= end) return i;
    a = cp[i + 1];
    b = i + 2 < end ? cp[i + 2] : 0;
    if (any_case && a >= 'A' && a <= 'Z') a += 32;
    if (any_case && b >= 'A' && b <= 'Z') b += 32;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? i + 3 : i;
}

/* The end of the run of white space at cp[i]: a last space before a word belongs to the word. */
static inline size_t llama__spaces(const llama_vocab *v, const uint32_t *cp, size_t i, size_t end,
                                   int lines)
{
    size_t j = i, line = 0;
    for (; j < end && llama__class(v, cp[j]) == LLAMA_SPACE; j++)
        if (cp[j] == '\r' || cp[j] == '\n') line = j + 1;
    if (lines && line) return line;
    return j == i ? i + 1 : j < end && j - i > 1 ? j - 1 : j;
}

/* The end of the word at cp[i] by GPT-2's rule:
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static inline size_t llama__word_gpt2(const llama_vocab *v, const uint32_t *cp, size_t i,
                                      size_t end)
{
    size_t j = llama__contraction(cp, i, end, 0);
    int first, c;
    if (j > i) return j;
    j = i + (cp[i] == ' ');
    first = j < end ? llama__class(v, cp[j]) : LLAMA_SPACE;
    if (first == LLAMA_SPACE) return llama__spaces(v, cp, i, end, 0);
    for (; j < end; j++) {
        c = llama__class(v, cp[j]);
        if (c != first && !(llama__mark(c) && llama__mark(first))) break;
    }
    return j;
}

/* The same by the rule of Llama 3 (digits 3) and Qwen 2 (digits 1):
 * (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|
 * \s*[\r\n]+|\s+(?!\S)|\s+ */
static inline size_t llama__word_llama3(const llama_vocab *v, const uint32_t *cp, size_t i,
                                        size_t end, size_t digits)
{
    size_t j = llama__contraction(cp, i, end, 1);
    int c = llama__class(v, cp[i]);
    if (j > i) return j;
    if (c == LLAMA_LETTER || (c != LLAMA_NUMBER && cp[i] != '\r' && cp[i] != '\n' &&
                              i + 1 < end && llama__class(v, cp[i + 1]) == LLAMA_LETTER)) {
        for (j = i + 1; j < end && llama__class(v, cp[j]) == LLAMA_LETTER; j++) {}
        return j;
    }
    if (c == LLAMA_NUMBER) {
        for (j = i; j < end && j - i < digits && llama__class(v, cp[j]) == LLAMA_NUMBER; j++) {}
        return j;
    }
    j = i + (cp[i] == ' ');
    if (j < end && llama__mark(llama__class(v, cp[j]))) {
        while (j < end && llama__mark(llama__class(v, cp[j]))) j++;
        while (j < end && (cp[j] == '\r' || cp[j] == '\n')) j++;
        return j;
    }
    return llama__spaces(v, cp, i, end, 1);
}

enum { LLAMA_CUT_MARKS, LLAMA_CUT_NUMBER, LLAMA_CUT_NUMBERS, LLAMA_CUT_DIGITS, LLAMA_CUT_GPT2,
       LLAMA_CUT_LLAMA3, LLAMA_CUT_QWEN2 };

/* The end of the match of one pass at cp[i]; i where the pass does not match. */
static inline size_t llama__match(const llama_vocab *v, const uint32_t *cp, size_t i, size_t end,
                                  int pass)
{
    size_t j = i;
    switch (pass) {
    case LLAMA_CUT_MARKS:                       /* [\p{P}$+<=>^~|]+ */
        while (j < end && (llama__class(v, cp[j]) == LLAMA_PUNCT ||
                           (cp[j] < 128 && cp[j] && strchr("$+<=>^~|", (int)cp[j])))) j++;
        return j;
    case LLAMA_CUT_NUMBER: return i + (llama__class(v, cp[i]) == LLAMA_NUMBER);
    case LLAMA_CUT_NUMBERS:
        while (j < end && llama__class(v, cp[j]) == LLAMA_NUMBER) j++;
        return j;
    case LLAMA_CUT_DIGITS:                      /* [0-9][0-9][0-9] */
        while (j < end && j - i < 3 && cp[j] >= '0' && cp[j] <= '9') j++;
        return j - i == 3 ? j : i;
    case LLAMA_CUT_GPT2: return llama__word_gpt2(v, cp, i, end);
    case LLAMA_CUT_LLAMA3: return llama__word_llama3(v, cp, i, end, 3);
    default: return llama__word_llama3(v, cp, i, end, 1);
    }
}

/* Sets m->cut for n code points.  Each pass cuts the words of the passes before it further. */
static inline void llama__cut(const llama_vocab *v, llama__merger *m, size_t n)
{
    static const int passes[5][5] = {
        { LLAMA_CUT_GPT2, -1 },
        { LLAMA_CUT_MARKS, LLAMA_CUT_GPT2, LLAMA_CUT_NUMBERS, LLAMA_CUT_DIGITS, -1 },
        { LLAMA_CUT_LLAMA3, -1 }, { LLAMA_CUT_QWEN2, -1 },
        { LLAMA_CUT_NUMBER, LLAMA_CUT_GPT2, -1 }
    };
    const int *pass = passes[v->pre];
    memset(m->cut, 0, n + 1);
    m->cut[0] = m->cut[n] = 1;
    for (; *pass >= 0; pass++) {
        size_t i = 0, end, j;
        while (i < n) {
            for (end = i + 1; !m->cut[end]; end++) {}
            while (i < end) {
                j = llama__match(v, m->cp, i, end, *pass);
                if (j == i) i++;                /* no match: what lies between matches is a word */
                else { m->cut[i] = m->cut[j] = 1; i = j; }
            }
        }
    }
}

/* BPE: cuts s [n] into words, spells them in GPT-2's printable form and merges each. */
static inline int llama__tokenize_bpe(const llama_vocab *v, llama__merger *m, llama_tokens *out,
                                      const char *s, size_t n)
{
    size_t i = 0, k = 0, at = 0, len, n_cp = 0, used;
    if (n + 1 > m->cap_cp) {
        free(m->cp);
        free(m->cut);
        free(m->text);
        m->cap_cp = 2 * n + 1;
        m->cp = (uint32_t *)malloc(m->cap_cp * sizeof *m->cp);
        m->cut = (uint8_t *)malloc(m->cap_cp + 1);
        m->text = (char *)malloc(2 * m->cap_cp);
        if (!m->cp || !m->cut || !m->text) { m->cap_cp = 0; return -1; }
    }
    while (i < n) i += llama_utf8(s + i, n - i, &m->cp[n_cp++]);
    llama__cut(v, m, n_cp);
    while (k < n_cp) {
        uint32_t cp;
        used = 0;
        do {
            for (len = llama_utf8(s + at, n - at, &cp); len; len--) {
                uint32_t c = llama__byte_char((uint8_t)s[at++]);
                if (c >= 0x80) {
                    m->text[used++] = (char)(0xc0 | c >> 6);
                    m->text[used++] = (char)(0x80 | (c & 0x3f));
                } else {
                    m->text[used++] = (char)c;
                }
            }
        } while (!m->cut[++k]);
        if (v->ignore_merges && llama_token_find(v, m->text, used) >= 0) {
            if (llama__emit(v, out, m->text, used)) return -1;
        } else if (llama__merge(v, m, out, m->text, used)) {
            return -1;
        }
    }
    return 0;
}

/* SentencePiece: spaces become U+2581, one more in front if the model says so. */
static inline int llama__tokenize_spm(const llama_vocab *v, llama__merger *m, llama_tokens *out,
                                      const char *s, size_t n, int prefix)
{
    size_t i, used = 0;
    if (3 * (n + 1) > m->cap_text) {
        free(m->text);
        m->cap_text = 6 * (n + 1);
        m->text = (char *)malloc(m->cap_text);
        if (!m->text) { m->cap_text = 0; return -1; }
    }
    if (prefix) { memcpy(m->text, "\xe2\x96\x81", 3); used = 3; }
    for (i = 0; i < n; i++) {
        if (s[i] == ' ') { memcpy(m->text + used, "\xe2\x96\x81", 3); used += 3; }
        else m->text[used++] = s[i];
    }
    return llama__merge(v, m, out, m->text, used);
}

/* A stretch of the text: raw (id < 0) or a special token. */
struct llama__part { size_t at, n; int32_t id; };

static inline const char *llama__search(const char *s, size_t n, quant_str what)
{
    const char *end = s + n;
    while ((size_t)(end - s) >= what.n) {
        s = (const char *)memchr(s, what.p[0], (size_t)(end - s) - what.n + 1);
        if (!s) return NULL;
        if (memcmp(s, what.p, what.n) == 0) return s;
        s++;
    }
    return NULL;
}

/* Cuts one special token out of all raw parts; *parts grows. */
static inline int llama__cut_special(struct llama__part **parts, size_t *n_parts, const char *text,
                                     quant_str what, int32_t id)
{
    struct llama__part *out = NULL, *in = *parts;
    size_t n = 0, cap = 0, i;
    for (i = 0; i < *n_parts; i++) {
        struct llama__part p = in[i];
        for (;;) {
            const char *hit = p.id < 0 ? llama__search(text + p.at, p.n, what) : NULL;
            size_t before = hit ? (size_t)(hit - (text + p.at)) : 0;
            if (n + 2 > cap) {
                struct llama__part *q;
                cap = cap ? 2 * cap : *n_parts + 8;
                q = (struct llama__part *)realloc(out, cap * sizeof *q);
                if (!q) { free(out); return -1; }
                out = q;
            }
            if (!hit) {
                if (p.id >= 0 || p.n) out[n++] = p;
                break;
            }
            if (before) { out[n].at = p.at; out[n].n = before; out[n++].id = -1; }
            out[n].at = p.at + before;
            out[n].n = what.n;
            out[n++].id = id;
            p.at += before + what.n;
            p.n -= before + what.n;
        }
    }
    free(in);
    *parts = out;
    *n_parts = n;
    return 0;
}

/* Cuts text into raw parts and special tokens, the longest tokens first.  Control tokens count only
 * when parse_special is set: text from users must not be able to forge them. */
static inline int llama__partition(const llama_vocab *v, const char *text, size_t n,
                                   int parse_special, struct llama__part **parts, size_t *n_parts)
{
    uint8_t *pairs = (uint8_t *)calloc(65536, 1);   /* which two bytes follow each other in text */
    size_t i;
    int r = 0;
    *parts = (struct llama__part *)calloc(1, sizeof **parts);
    *n_parts = n > 0;
    if (!*parts || !pairs) { free(pairs); return -1; }
    (*parts)->n = n;
    (*parts)->id = -1;
    for (i = 0; i < n; i++)
        pairs[(uint8_t)text[i] << 8 | (i + 1 < n ? (uint8_t)text[i + 1] : 0)] = 1;
    for (i = 0; i < v->n_special && r == 0; i++) {
        int32_t id = v->special[i];
        quant_str t = v->text[id];
        if (!parse_special && v->kind[id] != LLAMA_TOK_USER) continue;
        if (t.n > 1 && !pairs[(uint8_t)t.p[0] << 8 | (uint8_t)t.p[1]]) continue;
        if (llama__search(text, n, t)) r = llama__cut_special(parts, n_parts, text, t, id);
    }
    free(pairs);
    return r;
}

/* Adds the tokens of text [n] to *out.  add_special: BOS and EOS as the model wants them.
 * -1: out of memory. */
static inline int llama_tokenize(const llama_vocab *v, llama_tokens *out, const char *text,
                                 size_t n, int add_special, int parse_special)
{
    llama__merger m;
    struct llama__part *parts = NULL;
    size_t n_parts = 0, i;
    int r = 0, after_special = 1;
    memset(&m, 0, sizeof m);
    if (add_special && v->add_bos) r = llama_tokens_add(out, v->bos);
    if (r == 0) r = llama__partition(v, text, n, parse_special, &parts, &n_parts);
    for (i = 0; i < n_parts && r == 0; i++) {
        const char *s = text + parts[i].at;
        if (parts[i].id >= 0) r = llama_tokens_add(out, parts[i].id);
        else if (v->model == LLAMA_BPE) r = llama__tokenize_bpe(v, &m, out, s, parts[i].n);
        else r = llama__tokenize_spm(v, &m, out, s, parts[i].n, v->add_space && after_special);
        after_special = parts[i].id >= 0;
    }
    if (r == 0 && add_special && v->add_eos) r = llama_tokens_add(out, v->eos);
    free(parts);
    llama__merger_free(&m);
    return r;
}

/* >>model ---------------------------------------------------------------------------------------
 * What the architectures share is a decoder of norm, attention, norm, gated feed-forward.  What
 * tells them apart is in this table and in which tensors are there. */
typedef struct llama_arch {
    const char *name;
    int neox;                       /* RoPE turns pairs (i, i + half) instead of (2i, 2i + 1)    */
    int qk_norm;                    /* every head of q and k is normed                           */
    int gemma;                      /* norms after the blocks too, GELU, scaled embeddings       */
} llama_arch;

static const llama_arch llama_archs[] = {
    { "llama", 0, 0, 0 }, { "qwen2", 1, 0, 0 }, { "qwen3", 1, 1, 0 }, { "gemma3", 1, 1, 1 }
};

typedef struct llama_hparams {
    size_t n_ctx_train, n_embd, n_layer, n_ff;
    size_t n_head, n_head_kv, head_dim;     /* n_head is a multiple of n_head_kv                 */
    size_t rope_dim;                /* the first values of a head that RoPE turns                */
    double rope_base[2];            /* [0] layers that see all, [1] layers with a window         */
    double rope_scale[2];           /* positions are multiplied by it                            */
    size_t window;                  /* positions that a layer with a window sees; 0: no such     */
    float  eps, attn_scale, embd_scale, softcap;
} llama_hparams;

/* One matrix: y [rows] = W [rows x cols] x [cols] + bias. */
typedef struct llama_linear {
    quant_matrix        m;
    const quant_tensor *tensor;     /* where it comes from, for hooks and messages               */
    const float        *bias;       /* [rows] or NULL                                            */
} llama_linear;

typedef struct llama_layer {
    const float *attn_norm;         /* [n_embd]                                                  */
    const float *q_norm, *k_norm;   /* [head_dim] or NULL                                        */
    const float *attn_post;         /* [n_embd] or NULL: norm after the attention                */
    const float *ffn_norm;          /* [n_embd]                                                  */
    const float *ffn_post;          /* [n_embd] or NULL: norm after the feed-forward             */
    llama_linear q;                 /* [n_head * head_dim x n_embd]                              */
    llama_linear k, v;              /* [n_head_kv * head_dim x n_embd]                           */
    llama_linear o;                 /* [n_embd x n_head * head_dim]                              */
    llama_linear gate, up;          /* [n_ff x n_embd]                                           */
    llama_linear down;              /* [n_embd x n_ff]                                           */
    int          windowed;          /* sees hparams.window positions only                        */
} llama_layer;

typedef struct llama_model {
    char              err[LLAMA_ERR];
    const llama_arch *arch;
    llama_hparams     hp;
    llama_vocab       vocab;
    llama_layer      *layers;       /* [n_layer]                                                 */
    llama_linear      embd;         /* [n_vocab x n_embd] as in the file                         */
    llama_linear      output;       /* [n_vocab x n_embd]; embd's tensor if there is no other    */
    const float      *output_norm;  /* [n_embd]                                                  */
    const float      *rope_factors; /* [rope_dim / 2] frequencies are divided by them, or NULL   */
    quant_gguf       *shards;       /* [n_shards]                                                */
    size_t            n_shards;
    quant_set         set;
    llama_arena       arena;
    uint64_t          tensor_bytes; /* of all weights in the file                                */
    int               as_in_file;   /* matrices are not packed                                   */
} llama_model;

static inline void llama_model_close(llama_model *m)
{
    size_t i;
    if (m->set.shards) quant_set_free(&m->set);
    for (i = 0; i < m->n_shards; i++) quant_gguf_close(&m->shards[i]);
    free(m->shards);
    llama_arena_free(&m->arena);
    m->shards = NULL;
    m->n_shards = 0;
    memset(&m->set, 0, sizeof m->set);
}

static inline int llama__open_file(llama_model *m, size_t i, const char *path)
{
    char text[240];
    if (quant_gguf_open_file(&m->shards[i], path, NULL, NULL) == QUANT_OK) {
        m->n_shards = i + 1;
        return 0;
    }
    quant_error_text(text, sizeof text, &m->shards[i].err);
    return llama_fail(m->err, "%.140s: %s", path, text);
}

/* Opens the file, or all shards when path names the first of a set. */
static inline int llama__open_files(llama_model *m, const char *path)
{
    size_t prefix_len = 0, i, size = strlen(path) + 32;
    uint32_t no = 0, count = 1;
    char text[240], *prefix, *name;
    int r = 0, split = quant_split_parse(path, &prefix_len, &no, &count);
    if (split && no != 0) return llama_fail(m->err, "%.200s: give the first shard", path);
    m->shards = (quant_gguf *)calloc(count, sizeof *m->shards);
    if (!m->shards) return llama_fail(m->err, "out of memory");
    if (!split) {
        r = llama__open_file(m, 0, path);
    } else {
        prefix = (char *)calloc(2, size);
        if (!prefix) return llama_fail(m->err, "out of memory");
        name = prefix + size;
        memcpy(prefix, path, prefix_len);
        for (i = 0; i < count && r == 0; i++) {
            if (quant_split_name(name, size, prefix, (uint32_t)i, count) == 0)
                r = llama_fail(m->err, "%.200s: bad shard name", path);
            else r = llama__open_file(m, i, name);
        }
        free(prefix);
    }
    if (r) return r;
    if (quant_set_init(&m->set, m->shards, m->n_shards, NULL) == QUANT_OK) return 0;
    quant_error_text(text, sizeof text, &m->set.err);
    return llama_fail(m->err, "%.140s: %s", path, text);
}

/* A positive number of the metadata: "<architecture>.<suffix>".  An array must have the same value
 * everywhere.  *out stays when there is no such key and it is not required. */
static inline int llama__count(llama_model *m, const char *suffix, uint64_t least, uint64_t most,
                               int required, size_t *out)
{
    char key[128];
    const quant_kv *kv;
    uint64_t u, first = 0, i;
    snprintf(key, sizeof key, "%s.%s", m->arch->name, suffix);
    kv = quant_gguf_find(&m->shards[0], key);
    if (!kv || kv->count == 0)
        return required ? llama_fail(m->err, "the model has no key %s", key) : 0;
    for (i = 0; i < kv->count; i++) {
        if (quant_kv_u64(kv, i, &u) != QUANT_OK)
            return llama_fail(m->err, "%s is not a count", key);
        if (i == 0) first = u;
        if (u != first)
            return llama_fail(m->err, "%s differs between layers, which is not supported", key);
    }
    if (first < least || first > most)
        return llama_fail(m->err, "%s is %llu, not between %llu and %llu", key,
                          (unsigned long long)first, (unsigned long long)least,
                          (unsigned long long)most);
    *out = (size_t)first;
    return 0;
}

static inline int llama__real(llama_model *m, const char *suffix, double least, double most,
                              double *out)
{
    char key[128];
    quant_result r;
    double d = *out;
    snprintf(key, sizeof key, "%s.%s", m->arch->name, suffix);
    r = quant_gguf_get_f64(&m->shards[0], key, &d);
    if (r == QUANT_E_NOT_FOUND) return 0;
    if (r != QUANT_OK || !(d >= least && d <= most))
        return llama_fail(m->err, "%s is not a number from %g to %g", key, least, most);
    *out = d;
    return 0;
}

static inline int llama__hparams_rope(llama_model *m)
{
    llama_hparams *h = &m->hp;
    double factor = 1;
    quant_str type = { "linear", 6 };
    char key[64], name[64];
    h->rope_dim = h->head_dim;
    h->rope_base[0] = 10000;
    if (llama__count(m, "rope.dimension_count", 2, h->head_dim, 0, &h->rope_dim) ||
        llama__real(m, "rope.freq_base", 1e-3, 1e12, &h->rope_base[0])) return -1;
    if (h->rope_dim % 2) return llama_fail(m->err, "rope.dimension_count is odd");
    h->rope_base[1] = m->arch->gemma ? 10000 : h->rope_base[0];
    snprintf(key, sizeof key, "%s.rope.scaling.type", m->arch->name);
    if (quant_gguf_get_str(&m->shards[0], key, &type) == QUANT_OK && !llama_is(type, "linear") &&
        !llama_is(type, "none"))
        return llama_fail(m->err, "RoPE scaling '%s' is not supported, only linear and rope_freqs",
                          llama_printable(name, sizeof name, type));
    if (llama__real(m, "rope.scale_linear", 0, 1e6, &factor) ||
        llama__real(m, "rope.scaling.factor", 0, 1e6, &factor) ||
        llama__real(m, "rope.freq_base_swa", 1e-3, 1e12, &h->rope_base[1])) return -1;
    h->rope_scale[0] = factor > 0 && !llama_is(type, "none") ? 1 / factor : 1;
    h->rope_scale[1] = m->arch->gemma ? 1 : h->rope_scale[0];
    return 0;
}

static inline int llama__hparams(llama_model *m)
{
    llama_hparams *h = &m->hp;
    size_t experts = 0, value_dim;
    double eps = 1e-5, cap = 0;
    if (llama__count(m, "block_count", 1, 4096, 1, &h->n_layer) ||
        llama__count(m, "embedding_length", 1, 1u << 20, 1, &h->n_embd) ||
        llama__count(m, "feed_forward_length", 1, 1u << 24, 1, &h->n_ff) ||
        llama__count(m, "attention.head_count", 1, 65536, 1, &h->n_head)) return -1;
    h->n_head_kv = h->n_head;
    h->head_dim = h->n_embd / h->n_head;
    h->n_ctx_train = 2048;
    if (llama__count(m, "attention.head_count_kv", 1, h->n_head, 0, &h->n_head_kv) ||
        llama__count(m, "attention.key_length", 1, 65536, 0, &h->head_dim) ||
        llama__count(m, "context_length", 1, 1u << 30, 0, &h->n_ctx_train) ||
        llama__count(m, "expert_count", 0, 1u << 16, 0, &experts) ||
        llama__count(m, "attention.sliding_window", 0, 1u << 30, 0, &h->window)) return -1;
    value_dim = h->head_dim;
    if (llama__count(m, "attention.value_length", 1, 65536, 0, &value_dim)) return -1;
    if (experts) return llama_fail(m->err, "mixtures of experts are not supported");
    if (h->head_dim == 0 || h->head_dim % 2 || h->n_head % h->n_head_kv)
        return llama_fail(m->err, "%zu heads of %zu with %zu for k and v do not fit together",
                          h->n_head, h->head_dim, h->n_head_kv);
    if (value_dim != h->head_dim)
        return llama_fail(m->err, "heads of k and v that differ in length are not supported");
    if (llama__real(m, "attention.layer_norm_rms_epsilon", 0, 1, &eps) ||
        llama__real(m, "final_logit_softcapping", 0, 1e6, &cap)) return -1;
    h->eps = (float)eps;
    h->softcap = (float)cap;
    h->embd_scale = m->arch->gemma ? sqrtf((float)h->n_embd) : 1;
    /* The 27B of Gemma 3 is the one model that scales by another length than its heads'. */
    h->attn_scale = 1 / sqrtf(m->arch->gemma && h->n_layer == 62
                              ? (float)(h->n_embd / h->n_head) : (float)h->head_dim);
    return llama__hparams_rope(m);
}

/* The bytes of a tensor, from the mapping if the file is one, else read into memory. */
static inline const void *llama__data(llama_model *m, const quant_tensor *t, size_t shard)
{
    const void *p = quant_gguf_data(&m->shards[shard], t);
    void *copy;
    if (p) return p;
    if (t->size > (size_t)-1 / 2) { llama_fail(m->err, "out of memory"); return NULL; }
    copy = llama_alloc(&m->arena, (size_t)t->size, 1);
    if (!copy) { llama_fail(m->err, "out of memory"); return NULL; }
    if (quant_gguf_read(&m->shards[shard], t, copy, 0, (size_t)t->size) == QUANT_OK) return copy;
    llama_fail(m->err, "cannot read a tensor");
    return NULL;
}

/* Finds blk.<layer>.<name> (layer < 0: <name>) and checks its shape; NULL and no message when it is
 * not there and not required. */
static inline const quant_tensor *llama__tensor(llama_model *m, int layer, const char *name,
                                                size_t rows, size_t cols, int required,
                                                size_t *shard)
{
    char full[128];
    const quant_tensor *t;
    if (layer < 0) snprintf(full, sizeof full, "%s", name);
    else snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    m->err[0] = 0;
    t = quant_set_find(&m->set, full, shard);
    if (!t) {
        if (required) llama_fail(m->err, "the model has no tensor %s", full);
        return NULL;
    }
    if (t->ne[0] == cols && t->ne[1] == rows && t->ne[2] == 1 && t->ne[3] == 1) return t;
    llama_fail(m->err, "tensor %s is %llux%llux%llux%llu, not %zux%zu", full,
               (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
               (unsigned long long)t->ne[2], (unsigned long long)t->ne[3], cols, rows);
    return NULL;
}

/* A vector [n] as floats.  *out is NULL when it is not there and not required. */
static inline int llama__vector(llama_model *m, const float **out, int layer, const char *name,
                                size_t n, int required)
{
    size_t shard = 0;
    const quant_tensor *t = llama__tensor(m, layer, name, 1, n, required, &shard);
    const void *data;
    float *f;
    *out = NULL;
    if (!t) return m->err[0] ? -1 : 0;
    data = llama__data(m, t, shard);
    if (!data) return -1;
    f = (float *)llama_alloc(&m->arena, n, sizeof *f);
    if (!f) return llama_fail(m->err, "out of memory");
    if (quant_to_f32(t->type, f, data, 1, n) != QUANT_OK)
        return llama_fail(m->err, "tensor %s has a type that cannot be read", name);
    *out = f;
    return 0;
}

/* A matrix <name>.weight [rows x cols] with its bias and, for NVFP4, its scale. */
static inline int llama__matrix(llama_model *m, llama_linear *w, int layer, const char *name,
                                size_t rows, size_t cols, int required)
{
    char full[96];
    size_t shard = 0;
    const quant_tensor *t;
    const float *scale;
    const void *data;
    snprintf(full, sizeof full, "%s.weight", name);
    memset(w, 0, sizeof *w);
    t = llama__tensor(m, layer, full, rows, cols, required, &shard);
    if (!t) return m->err[0] ? -1 : 0;
    data = llama__data(m, t, shard);
    if (!data) return -1;
    if (quant_matrix_init(&w->m, t->type, data, rows, cols, quant_cpu_detect()) != QUANT_OK)
        return llama_fail(m->err, "tensor %s: no product for type %s", full,
                          quant_type_name(t->type));
    w->tensor = t;
    snprintf(full, sizeof full, "%s.scale", name);
    if (llama__vector(m, &scale, layer, full, 1, 0)) return -1;
    if (scale) w->m.scale = *scale;
    snprintf(full, sizeof full, "%s.bias", name);
    return llama__vector(m, &w->bias, layer, full, rows, 0);
}

/* Asks for pages of 2 MiB: with pages of 4 KiB a token waits for page tables, not for memory.  The
 * declaration stands here because <sys/mman.h> hides it from strict POSIX; 14 is MADV_HUGEPAGE. */
#if defined(__linux__)
extern int madvise(void *addr, size_t length, int advice);
#endif
static inline void llama__huge_pages(void *buf, size_t size)
{
#if defined(__linux__)
    const uintptr_t huge = (uintptr_t)2 << 20, from = ((uintptr_t)buf + huge - 1) / huge * huge;
    const uintptr_t end = (uintptr_t)buf + size;
    if (end > from && end - from >= huge)
        madvise((char *)buf + (from - (uintptr_t)buf), (end - from) / huge * huge, 14);
#else
    (void)buf;
    (void)size;
#endif
}

/* Brings a matrix into the layout that is fastest here, if there is one. */
static inline int llama__pack(llama_model *m, llama_linear *w)
{
    size_t size = m->as_in_file ? 0 : quant_matrix_pack_size(&w->m);
    quant_matrix packed;
    void *buf;
    if (size == 0) return 0;
    buf = llama_alloc(&m->arena, size, 1);
    if (!buf) return llama_fail(m->err, "out of memory");
    llama__huge_pages(buf, size);
    if (quant_matrix_pack(&packed, &w->m, buf, size) != QUANT_OK)
        return llama_fail(m->err, "a matrix cannot be packed");
    packed.scale = w->m.scale;
    w->m = packed;
    return 0;
}

/* The matrices of a layer, in the order of their products; NULL past the last. */
static inline llama_linear *llama_layer_matrix(llama_layer *l, size_t i)
{
    switch (i) {
    case 0: return &l->q;
    case 1: return &l->k;
    case 2: return &l->v;
    case 3: return &l->o;
    case 4: return &l->gate;
    case 5: return &l->up;
    case 6: return &l->down;
    default: return NULL;
    }
}

static inline int llama__layer(llama_model *m, int i)
{
    const llama_hparams *h = &m->hp;
    llama_layer *l = &m->layers[i];
    size_t q = h->n_head * h->head_dim, kv = h->n_head_kv * h->head_dim, e = h->n_embd, k;
    if (llama__vector(m, &l->attn_norm, i, "attn_norm.weight", e, 1) ||
        llama__vector(m, &l->ffn_norm, i, "ffn_norm.weight", e, 1) ||
        llama__vector(m, &l->q_norm, i, "attn_q_norm.weight", h->head_dim, m->arch->qk_norm) ||
        llama__vector(m, &l->k_norm, i, "attn_k_norm.weight", h->head_dim, m->arch->qk_norm) ||
        llama__vector(m, &l->attn_post, i, "post_attention_norm.weight", e, m->arch->gemma) ||
        llama__vector(m, &l->ffn_post, i, "post_ffw_norm.weight", e, m->arch->gemma) ||
        llama__matrix(m, &l->q, i, "attn_q", q, e, 1) ||
        llama__matrix(m, &l->k, i, "attn_k", kv, e, 1) ||
        llama__matrix(m, &l->v, i, "attn_v", kv, e, 1) ||
        llama__matrix(m, &l->o, i, "attn_output", e, q, 1) ||
        llama__matrix(m, &l->gate, i, "ffn_gate", h->n_ff, e, 1) ||
        llama__matrix(m, &l->up, i, "ffn_up", h->n_ff, e, 1) ||
        llama__matrix(m, &l->down, i, "ffn_down", e, h->n_ff, 1)) return -1;
    for (k = 0; llama_layer_matrix(l, k); k++)
        if (llama__pack(m, llama_layer_matrix(l, k))) return -1;
    return 0;
}

/* Which layers have a window: an array of the metadata, else all but every pattern-th one. */
static inline void llama__windows(llama_model *m)
{
    char key[96];
    const quant_kv *kv;
    uint64_t pattern = m->arch->gemma ? 6 : 0, u;
    size_t i;
    snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", m->arch->name);
    kv = quant_gguf_find(&m->shards[0], key);
    if (kv && kv->type != QUANT_KV_ARRAY && quant_kv_u64(kv, 0, &u) == QUANT_OK) pattern = u;
    for (i = 0; i < m->hp.n_layer && m->hp.window; i++) {
        if (kv && kv->type == QUANT_KV_ARRAY && quant_kv_u64(kv, i, &u) == QUANT_OK)
            m->layers[i].windowed = u != 0;
        else m->layers[i].windowed = pattern == 0 || i % pattern < pattern - 1;
    }
}

static inline int llama__weights(llama_model *m)
{
    const llama_hparams *h = &m->hp;
    size_t i;
    if (llama__matrix(m, &m->embd, -1, "token_embd", m->vocab.n, h->n_embd, 1) ||
        llama__matrix(m, &m->output, -1, "output", m->vocab.n, h->n_embd, 0) ||
        llama__vector(m, &m->output_norm, -1, "output_norm.weight", h->n_embd, 1) ||
        llama__vector(m, &m->rope_factors, -1, "rope_freqs.weight", h->rope_dim / 2, 0)) return -1;
    if (!m->output.tensor) m->output = m->embd;
    if (llama__pack(m, &m->output)) return -1;
    m->layers = (llama_layer *)llama_alloc(&m->arena, h->n_layer, sizeof *m->layers);
    if (!m->layers) return llama_fail(m->err, "out of memory");
    for (i = 0; i < h->n_layer; i++) if (llama__layer(m, (int)i)) return -1;
    for (i = 0; i < m->set.n_tensors; i++)
        m->tensor_bytes += quant_set_tensor(&m->set, i, NULL)->size;
    llama__windows(m);
    return 0;
}

static inline int llama__open(llama_model *m, const char *path)
{
    quant_str arch = { "", 0 };
    char name[64];
    size_t i;
    if (llama__open_files(m, path)) return -1;
    if (quant_gguf_get_str(&m->shards[0], "general.architecture", &arch) != QUANT_OK)
        return llama_fail(m->err, "the file does not say which architecture it has");
    for (i = 0; i < sizeof llama_archs / sizeof *llama_archs; i++)
        if (llama_is(arch, llama_archs[i].name)) m->arch = &llama_archs[i];
    if (!m->arch)
        return llama_fail(m->err, "architecture '%s' is not supported, only llama, qwen2, qwen3 "
                          "and gemma3", llama_printable(name, sizeof name, arch));
    if (llama__hparams(m) || llama_vocab_init(&m->vocab, &m->arena, &m->shards[0], m->err) ||
        llama__weights(m)) return -1;
    m->err[0] = 0;
    return 0;
}

/* Opens a model with its matrices as they are in the file, mapped and not copied: for programs that
 * read weights and hardly multiply by them.  m->err says why it failed, and m is closed then. */
static inline int llama_model_map(llama_model *m, const char *path, int as_in_file)
{
    memset(m, 0, sizeof *m);
    m->as_in_file = as_in_file;
    if (llama__open(m, path) == 0) return 0;
    llama_model_close(m);
    return -1;
}

/* Opens a model with matrices in the layout that is fastest here: a copy of all weights. */
static inline int llama_model_open(llama_model *m, const char *path)
{
    return llama_model_map(m, path, 0);
}

/* >>context -------------------------------------------------------------------------------------
 * One conversation: the keys and values of all tokens so far, and buffers for a batch. */
typedef struct llama_context {
    char         err[LLAMA_ERR];
    llama_model *model;             /* borrowed, read only                                       */
    size_t       n_ctx;             /* tokens that fit                                           */
    size_t       n_past;            /* tokens that are there; 0 starts over                      */
    size_t       n_batch;           /* tokens at a time                                          */
    llama_pool   pool;
    llama_arena  arena;
    uint16_t *k, *v;                /* F16 [n_layer x n_head_kv x n_ctx x head_dim]              */
    float *x;                       /* [n_batch x n_embd] the residual stream                    */
    float *h;                       /* [n_batch x max(n_embd, n_head * head_dim)] into products  */
    float *q;                       /* [n_batch x n_head * head_dim]                             */
    float *kn, *vn;                 /* [n_batch x n_head_kv * head_dim] the batch's own k and v  */
    float *gate, *up;               /* [n_batch x n_ff]                                          */
    float *y;                       /* [n_batch x n_embd] out of products                        */
    void  *act;                     /* activations as quant_matmul wants them                    */
    float *freq[2];                 /* [rope_dim / 2] angle per position, without and with window*/
    float *turn[2];                 /* [n_batch x rope_dim] cos, sin of each pair                */
    float *scratch;                 /* [threads x per_thread] for attention                      */
    size_t per_thread, head_pad;    /* head_pad: head_dim rounded up to 8                        */
    quant_encoder f16;
    /* Called with the input x [tokens x w->m.cols] of every matrix before its product. */
    void (*hook)(void *user, const llama_linear *w, const float *x, size_t tokens);
    void  *user;
} llama_context;

static inline void llama_context_free(llama_context *c)
{
    llama_pool_stop(&c->pool);
    llama_arena_free(&c->arena);
}

/* The bytes of activations that any matrix needs; 0 on overflow. */
static inline size_t llama__act_size(const llama_model *m, size_t tokens)
{
    size_t most = quant_act_size(&m->output.m, tokens), i, k;
    for (i = 0; i < m->hp.n_layer; i++)
        for (k = 0; llama_layer_matrix(&m->layers[i], k); k++) {
            size_t n = quant_act_size(&llama_layer_matrix(&m->layers[i], k)->m, tokens);
            if (n == 0) return 0;
            if (n > most) most = n;
        }
    return most;
}

static inline void llama__frequencies(llama_context *c)
{
    const llama_hparams *h = &c->model->hp;
    size_t i, k;
    for (k = 0; k < 2; k++)
        for (i = 0; i < h->rope_dim / 2; i++) {
            double f = h->rope_scale[k] * pow(h->rope_base[k], -2.0 * (double)i /
                                                               (double)h->rope_dim);
            if (c->model->rope_factors) f /= (double)c->model->rope_factors[i];
            c->freq[k][i] = (float)f;
        }
}

static inline int llama__context(llama_context *c, size_t n_threads)
{
    const llama_hparams *h = &c->model->hp;
    llama_arena *a = &c->arena;
    size_t b = c->n_batch, q = h->n_head * h->head_dim, kv = h->n_head_kv * h->head_dim;
    size_t per_token = h->n_layer * kv, act = llama__act_size(c->model, b), k;
    c->head_pad = (h->head_dim + 7) / 8 * 8;
    if (h->n_layer > (size_t)-1 / 4 / kv || per_token > (size_t)-1 / 4 / c->n_ctx ||
        b > (size_t)-1 / 4 / (q + h->n_ff + h->n_embd) ||
        c->n_ctx > (size_t)-1 / 4 / n_threads / (4 * c->head_pad + 32))
        return llama_fail(c->err, "a context of %zu tokens is too large", c->n_ctx);
    c->per_thread = c->n_ctx * (2 * c->head_pad + 1) + 2 * c->head_pad + 16;
    c->k = (uint16_t *)llama_alloc(a, per_token * c->n_ctx, 2);
    c->v = (uint16_t *)llama_alloc(a, per_token * c->n_ctx, 2);
    c->x = (float *)llama_alloc(a, b * h->n_embd, 4);
    c->h = (float *)llama_alloc(a, b * (q > h->n_embd ? q : h->n_embd), 4);
    c->q = (float *)llama_alloc(a, b * q, 4);
    c->kn = (float *)llama_alloc(a, b * kv, 4);
    c->vn = (float *)llama_alloc(a, b * kv, 4);
    c->gate = (float *)llama_alloc(a, b * h->n_ff, 4);
    c->up = (float *)llama_alloc(a, b * h->n_ff, 4);
    c->y = (float *)llama_alloc(a, b * h->n_embd, 4);
    c->act = act ? llama_alloc(a, act, 1) : NULL;
    c->scratch = (float *)llama_alloc(a, n_threads * c->per_thread, 4);
    for (k = 0; k < 2; k++) {
        c->freq[k] = (float *)llama_alloc(a, h->rope_dim / 2, 4);
        c->turn[k] = (float *)llama_alloc(a, b * h->rope_dim, 4);
        if (!c->freq[k] || !c->turn[k]) return llama_fail(c->err, "out of memory");
    }
    if (!c->k || !c->v || !c->x || !c->h || !c->q || !c->kn || !c->vn || !c->gate || !c->up ||
        !c->y || !c->act || !c->scratch)
        return llama_fail(c->err, "no memory for a context of %zu tokens", c->n_ctx);
    llama__frequencies(c);
    if (quant_encoder_init(&c->f16, QUANT_F16, QUANT_EFFORT_REFERENCE, NULL, 0) != QUANT_OK)
        return llama_fail(c->err, "no encoder for F16");
    if (llama_pool_start(&c->pool, n_threads))
        return llama_fail(c->err, "cannot start %zu threads", n_threads);
    return 0;
}

/* Borrows m.  c->err says why it failed, and c is freed then. */
static inline int llama_context_init(llama_context *c, llama_model *m, size_t n_ctx, size_t n_batch,
                                     size_t n_threads)
{
    memset(c, 0, sizeof *c);
    c->model = m;
    c->n_ctx = n_ctx;
    c->n_batch = n_batch < n_ctx ? n_batch : n_ctx;
    if (!n_ctx || !n_batch || !n_threads || n_ctx > 1u << 30 || n_batch > 65536)
        return llama_fail(c->err, "bad size of context or batch");
    if (llama__context(c, n_threads) == 0) return 0;
    llama_context_free(c);
    return -1;
}

/* >>attention -----------------------------------------------------------------------------------
 * What all jobs of one batch share. */
typedef struct llama__step {
    llama_context *c;
    const llama_layer *layer;       /* NULL before the first                                     */
    const int32_t *ids;             /* [n]                                                       */
    const float   *norm;            /* [n_embd] of the next block                                */
    const float   *post;            /* [n_embd] or NULL, of the block before                     */
    const float   *bias;            /* [n_embd] or NULL, of the product before                   */
    size_t         n, layer_index;  /* tokens of the batch                                       */
    const llama_linear *mats[3];    /* products of the same activations                          */
    float         *out[3];          /* [n x ld]                                                  */
    size_t         n_mats;
} llama__step;

/* dst = x / rms(x) * w; dst may be x. */
static inline void llama__rms(float *dst, const float *x, const float *w, size_t n, float eps)
{
    double s[4] = { 0 };
    float scale;
    size_t i, l;
    for (i = 0; i + 4 <= n; i += 4)
        for (l = 0; l < 4; l++) s[l] += (double)x[i + l] * (double)x[i + l];
    for (; i < n; i++) s[0] += (double)x[i] * (double)x[i];
    scale = 1 / sqrtf((float)((s[0] + s[1] + (s[2] + s[3])) / (double)n) + eps);
    for (i = 0; i < n; i++) dst[i] = x[i] * scale * w[i];
}

/* Eight lanes, which compilers turn into vectors without -ffast-math; n is a multiple of 8. */
static inline float llama__dot(const float *a, const float *b, size_t n)
{
    float s[8] = { 0 };
    size_t i, l;
    for (i = 0; i < n; i += 8)
        for (l = 0; l < 8; l++) s[l] += a[i + l] * b[i + l];
    return (s[0] + s[4] + (s[2] + s[6])) + (s[1] + s[5] + (s[3] + s[7]));
}

/* Turns the pairs of one head [rope_dim] by cs [rope_dim] = cos, sin of each pair. */
static inline void llama__turn(float *x, const float *cs, size_t rope_dim, int neox)
{
    size_t half = rope_dim / 2, i;
    for (i = 0; i < half; i++) {
        float *a = neox ? x + i : x + 2 * i, *b = neox ? x + i + half : x + 2 * i + 1;
        float c = cs[2 * i], s = cs[2 * i + 1], a0 = *a, b0 = *b;
        *a = a0 * c - b0 * s;
        *b = a0 * s + b0 * c;
    }
}

/* Biases, norms of heads and RoPE for q and k; k and v go into the cache. */
static inline void llama__heads(void *arg, size_t thread, size_t n_threads)
{
    const llama__step *s = (const llama__step *)arg;
    llama_context *c = s->c;
    const llama_hparams *h = &c->model->hp;
    const llama_layer *l = s->layer;
    size_t d = h->head_dim, nq = h->n_head * d, nk = h->n_head_kv * d, t, t1, i;
    llama_share(s->n, thread, n_threads, &t, &t1);
    for (; t < t1; t++) {
        float *q = c->q + t * nq, *k = c->kn + t * nk, *v = c->vn + t * nk;
        const float *cs = c->turn[l->windowed] + t * h->rope_dim;
        if (l->q.bias) for (i = 0; i < nq; i++) q[i] += l->q.bias[i];
        if (l->k.bias) for (i = 0; i < nk; i++) k[i] += l->k.bias[i];
        if (l->v.bias) for (i = 0; i < nk; i++) v[i] += l->v.bias[i];
        for (i = 0; i < h->n_head; i++) {
            if (l->q_norm) llama__rms(q + i * d, q + i * d, l->q_norm, d, h->eps);
            llama__turn(q + i * d, cs, h->rope_dim, c->model->arch->neox);
        }
        for (i = 0; i < h->n_head_kv; i++) {
            size_t at = ((s->layer_index * h->n_head_kv + i) * c->n_ctx + c->n_past + t) * d;
            if (l->k_norm) llama__rms(k + i * d, k + i * d, l->k_norm, d, h->eps);
            llama__turn(k + i * d, cs, h->rope_dim, c->model->arch->neox);
            quant_from_f32(&c->f16, c->k + at, k + i * d, 1, d, NULL, NULL);
            quant_from_f32(&c->f16, c->v + at, v + i * d, 1, d, NULL, NULL);
        }
    }
}

/* F16 [n x d] to float [n x pad], the rest of each row zero. */
static inline void llama__from_cache(float *dst, const uint16_t *src, size_t n, size_t d,
                                     size_t pad)
{
    size_t i;
    if (d == pad) {
        quant_to_f32(QUANT_F16, dst, src, n, d);
        return;
    }
    memset(dst, 0, n * pad * sizeof *dst);
    for (i = 0; i < n; i++) quant_to_f32(QUANT_F16, dst + i * pad, src + i * d, 1, d);
}

/* One query q [pad] against n keys and values k, v [n x pad]; out [pad], p [n]. */
static inline void llama__attend(float *out, float *p, const float *q, const float *k,
                                 const float *v, size_t n, size_t pad, float scale)
{
    float most = -INFINITY, inv;
    double sum = 0;
    size_t i, j, l;
    for (j = 0; j < n; j++) {
        p[j] = scale * llama__dot(q, k + j * pad, pad);
        if (p[j] > most) most = p[j];
    }
    for (j = 0; j < n; j++) {
        p[j] = expf(p[j] - most);
        sum += (double)p[j];
    }
    inv = (float)(1 / sum);
    for (i = 0; i < pad; i += 8) {
        float a[8] = { 0 };
        for (j = 0; j < n; j++)
            for (l = 0; l < 8; l++) a[l] += p[j] * v[j * pad + i + l];
        for (l = 0; l < 8; l++) out[i + l] = a[l] * inv;
    }
}

/* Tasks are a head of k and v with a few tokens: the cache is decoded once for all of them and for
 * all the heads of q that share it. */
static inline void llama__attention(void *arg, size_t thread, size_t n_threads)
{
    enum { TOKENS = 32 };
    const llama__step *s = (const llama__step *)arg;
    llama_context *c = s->c;
    const llama_hparams *h = &c->model->hp;
    size_t d = h->head_dim, pad = c->head_pad, group = h->n_head / h->n_head_kv;
    size_t blocks = (s->n + TOKENS - 1) / TOKENS, task, t, i;
    float *k = c->scratch + thread * c->per_thread, *v = k + c->n_ctx * pad;
    float *p = v + c->n_ctx * pad, *q = p + (c->n_ctx + 7) / 8 * 8, *out = q + pad;
    for (task = thread; task < blocks * h->n_head_kv; task += n_threads) {
        size_t head = task % h->n_head_kv, t0 = task / h->n_head_kv * TOKENS;
        size_t t1 = t0 + TOKENS < s->n ? t0 + TOKENS : s->n, end = c->n_past + t1, lo = 0;
        size_t at = (s->layer_index * h->n_head_kv + head) * c->n_ctx;
        if (s->layer->windowed && c->n_past + t0 + 1 > h->window)
            lo = c->n_past + t0 + 1 - h->window;
        llama__from_cache(k, c->k + (at + lo) * d, end - lo, d, pad);
        llama__from_cache(v, c->v + (at + lo) * d, end - lo, d, pad);
        for (t = t0; t < t1; t++) {
            size_t n = c->n_past + t + 1, first = lo;
            if (s->layer->windowed && n > h->window) first = n - h->window;
            for (i = head * group; i < (head + 1) * group; i++) {
                memset(q, 0, pad * sizeof *q);
                memcpy(q, c->q + (t * h->n_head + i) * d, d * sizeof *q);
                llama__attend(out, p, q, k + (first - lo) * pad, v + (first - lo) * pad, n - first,
                              pad, h->attn_scale);
                memcpy(c->h + (t * h->n_head + i) * d, out, d * sizeof *out);
            }
        }
    }
}

/* >>eval ----------------------------------------------------------------------------------------*/

/* The embeddings of the tokens, normed for the first block. */
static inline void llama__embed(void *arg, size_t thread, size_t n_threads)
{
    const llama__step *s = (const llama__step *)arg;
    llama_context *c = s->c;
    const llama_hparams *h = &c->model->hp;
    const quant_matrix *w = &c->model->embd.m;
    float scale = h->embd_scale * w->scale;
    size_t t, t1, i;
    llama_share(s->n, thread, n_threads, &t, &t1);
    for (; t < t1; t++) {
        float *x = c->x + t * h->n_embd;
        quant_to_f32(w->type, x, (const uint8_t *)w->data + (size_t)s->ids[t] * w->row_size, 1,
                     w->cols);
        for (i = 0; i < h->n_embd; i++) x[i] *= scale;
        llama__rms(c->h + t * h->n_embd, x, s->norm, h->n_embd, h->eps);
    }
}

/* Adds the output y of a block to the stream x and norms x for the next block. */
static inline void llama__residual(void *arg, size_t thread, size_t n_threads)
{
    const llama__step *s = (const llama__step *)arg;
    llama_context *c = s->c;
    const llama_hparams *h = &c->model->hp;
    size_t t, t1, i, e = h->n_embd;
    llama_share(s->n, thread, n_threads, &t, &t1);
    for (; t < t1; t++) {
        float *x = c->x + t * e, *y = c->y + t * e;
        if (s->bias) for (i = 0; i < e; i++) y[i] += s->bias[i];
        if (s->post) llama__rms(y, y, s->post, e, h->eps);
        for (i = 0; i < e; i++) x[i] += y[i];
        llama__rms(c->h + t * e, x, s->norm, e, h->eps);
    }
}

/* gate = f(gate) * up with f = SiLU or (Gemma) GELU. */
static inline void llama__activate(void *arg, size_t thread, size_t n_threads)
{
    const llama__step *s = (const llama__step *)arg;
    llama_context *c = s->c;
    const llama_layer *l = s->layer;
    size_t n = c->model->hp.n_ff, t, t1, i;
    llama_share(s->n, thread, n_threads, &t, &t1);
    for (; t < t1; t++) {
        float *g = c->gate + t * n, *u = c->up + t * n;
        if (l->gate.bias) for (i = 0; i < n; i++) g[i] += l->gate.bias[i];
        if (l->up.bias) for (i = 0; i < n; i++) u[i] += l->up.bias[i];
        if (c->model->arch->gemma)
            for (i = 0; i < n; i++) {
                float x = g[i], z = 0.7978845608f * (x + 0.044715f * x * x * x);
                g[i] = 0.5f * x * (1 + tanhf(z)) * u[i];
            }
        else for (i = 0; i < n; i++) g[i] = g[i] / (1 + expf(-g[i])) * u[i];
    }
}

static inline void llama__multiply(void *arg, size_t thread, size_t n_threads)
{
    const llama__step *s = (const llama__step *)arg;
    size_t i, u0, u1;
    for (i = 0; i < s->n_mats; i++) {
        const quant_matrix *w = &s->mats[i]->m;
        size_t step = quant_matrix_row_step(w), units = (w->rows + step - 1) / step;
        llama_share(units, thread, n_threads, &u0, &u1);
        if (u0 < u1)
            quant_matmul(w, s->out[i], w->rows, s->c->act, s->n, u0 * step,
                         u1 * step < w->rows ? u1 * step : w->rows);
    }
}

/* Products of x [s->n x cols] with up to three matrices, without their biases. */
static inline void llama__products(llama__step *s, const float *x, size_t n_mats)
{
    llama_context *c = s->c;
    size_t i, done = 0, k;
    const llama_linear *mats[3];
    float *out[3];
    for (i = 0; i < n_mats; i++) {
        mats[i] = s->mats[i];
        out[i] = s->out[i];
        if (c->hook) c->hook(c->user, mats[i], x, s->n);
    }
    while (done != (1u << n_mats) - 1) {        /* those that want the same activations at once  */
        s->n_mats = 0;
        for (i = 0; i < n_mats; i++) {
            if (done & (size_t)1 << i) continue;
            if (s->n_mats && mats[i]->m.act != s->mats[0]->m.act) continue;
            k = s->n_mats++;
            s->mats[k] = mats[i];
            s->out[k] = out[i];
            done |= (size_t)1 << i;
        }
        quant_act(&s->mats[0]->m, c->act, x, s->mats[0]->m.cols, s->n);
        llama_pool_run(&c->pool, llama__multiply, s);
    }
}

/* Jobs over tokens: not worth waking threads for a single token. */
static inline void llama__tokenwise(llama__step *s, llama_job job)
{
    if (s->n == 1) job(s, 0, 1);
    else llama_pool_run(&s->c->pool, job, s);
}

static inline void llama__block(llama__step *s, const float *next_norm)
{
    llama_context *c = s->c;
    const llama_layer *l = s->layer;
    s->mats[0] = &l->q;
    s->mats[1] = &l->k;
    s->mats[2] = &l->v;
    s->out[0] = c->q;
    s->out[1] = c->kn;
    s->out[2] = c->vn;
    llama__products(s, c->h, 3);
    llama__tokenwise(s, llama__heads);
    llama_pool_run(&c->pool, llama__attention, s);
    s->mats[0] = &l->o;
    s->out[0] = c->y;
    llama__products(s, c->h, 1);
    s->bias = l->o.bias;
    s->post = l->attn_post;
    s->norm = l->ffn_norm;
    llama__tokenwise(s, llama__residual);
    s->mats[0] = &l->gate;
    s->mats[1] = &l->up;
    s->out[0] = c->gate;
    s->out[1] = c->up;
    llama__products(s, c->h, 2);
    llama__tokenwise(s, llama__activate);
    s->mats[0] = &l->down;
    s->out[0] = c->y;
    llama__products(s, c->gate, 1);
    s->bias = l->down.bias;
    s->post = l->ffn_post;
    s->norm = next_norm;
    llama__tokenwise(s, llama__residual);
}

/* One batch; logits [n_vocab] of the last token, [n x n_vocab] with all, or NULL. */
static inline void llama__batch(llama_context *c, const int32_t *ids, size_t n, float *logits,
                                int all)
{
    llama_model *m = c->model;
    const llama_hparams *h = &m->hp;
    llama__step s;
    size_t t, i, k;
    memset(&s, 0, sizeof s);
    s.c = c;
    s.ids = ids;
    s.n = n;
    for (k = 0; k < 2; k++)
        for (t = 0; t < n; t++)
            for (i = 0; i < h->rope_dim / 2; i++) {
                double angle = (double)(c->n_past + t) * (double)c->freq[k][i];
                c->turn[k][t * h->rope_dim + 2 * i] = (float)cos(angle);
                c->turn[k][t * h->rope_dim + 2 * i + 1] = (float)sin(angle);
            }
    s.norm = m->layers[0].attn_norm;
    llama__tokenwise(&s, llama__embed);
    for (i = 0; i < h->n_layer; i++) {
        s.layer = &m->layers[i];
        s.layer_index = i;
        llama__block(&s, i + 1 < h->n_layer ? m->layers[i + 1].attn_norm : m->output_norm);
    }
    c->n_past += n;
    if (!logits) return;
    if (!all) s.n = 1;
    s.mats[0] = &m->output;
    s.out[0] = logits;
    llama__products(&s, all ? c->h : c->h + (n - 1) * h->n_embd, 1);
    for (t = 0; t < s.n; t++) {
        float *y = logits + t * m->vocab.n;
        if (m->output.bias) for (i = 0; i < m->vocab.n; i++) y[i] += m->output.bias[i];
        if (h->softcap > 0)
            for (i = 0; i < m->vocab.n; i++) y[i] = h->softcap * tanhf(y[i] / h->softcap);
    }
}

/* Appends n tokens.  logits: [n_vocab] of the last one, [n x n_vocab] when all is set, or NULL.
 * -1: a token id out of range, or more tokens than the context holds; nothing is changed then. */
static inline int llama_eval(llama_context *c, const int32_t *ids, size_t n, float *logits,
                             int all)
{
    size_t i, k, n_vocab = c->model->vocab.n;
    if (n > c->n_ctx - c->n_past)
        return llama_fail(c->err, "the context of %zu tokens is full", c->n_ctx);
    for (i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= n_vocab)
            return llama_fail(c->err, "token %ld is not one of %zu", (long)ids[i], n_vocab);
    for (i = 0; i < n; i += k) {
        k = n - i < c->n_batch ? n - i : c->n_batch;
        llama__batch(c, ids + i, k, all ? logits ? logits + i * n_vocab : NULL
                                        : i + k == n ? logits : NULL, all);
    }
    return 0;
}

/* The number of the largest logit, the first of equal ones. */
static inline int32_t llama_argmax(const float *logits, size_t n)
{
    size_t i, best = 0;
    for (i = 1; i < n; i++) if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}
/* >>text ----------------------------------------------------------------------------------------
 * What the programs share: whole files, chunks of tokens, a progress bar. */

/* A file read whole; NULL when it cannot be read.  free() it. */
static inline char *llama_read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    char *p = NULL, *q;
    size_t cap = 0, n = 0, got;
    if (!f) return NULL;
    do {
        if (n == cap) {
            cap = cap ? 2 * cap : 65536;
            q = (char *)realloc(p, cap);
            if (!q) break;
            p = q;
        }
        got = fread(p + n, 1, cap - n, f);
        n += got;
    } while (got);
    if (ferror(f) || !feof(f)) { free(p); p = NULL; }
    fclose(f);
    *size = n;
    return p;
}

/* Text is run in chunks of n_ctx tokens: BOS (if the model adds one) and then the text's tokens,
 * one chunk after the other; what is left at the end is not used. */
static inline size_t llama_n_chunks(const llama_vocab *v, const llama_tokens *t, size_t n_ctx)
{
    return t->n / (n_ctx - (size_t)(v->add_bos != 0));
}

/* Writes chunk i to out [n_ctx]. */
static inline void llama_chunk(const llama_vocab *v, const llama_tokens *t, size_t n_ctx, size_t i,
                               int32_t *out)
{
    size_t bos = v->add_bos != 0;
    if (bos) out[0] = v->bos;
    memcpy(out + bos, t->id + i * (n_ctx - bos), (n_ctx - bos) * sizeof *out);
}

/* Draws a bar on stderr; what: shown behind it.  Does nothing when stderr is no terminal. */
static inline void llama_progress(size_t done, size_t total, double since, const char *what)
{
    char bar[25];
    size_t i;
    double spent = llama_seconds() - since;
    if (!isatty(2)) return;
    for (i = 0; i < 24; i++) bar[i] = i * total < done * 24 ? '#' : '.';
    bar[24] = 0;
    fprintf(stderr, "\r[%s] %zu/%zu, %.0f s left  %s  ", bar, done, total,
            done ? spent / (double)done * (double)(total - done) : 0, what);
    if (done == total) fputc('\n', stderr);
}

/* Threads to use when nobody says. */
static inline size_t llama_n_threads(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 64 ? 64 : (size_t)n;
}
#endif /* LLAMA_H */
