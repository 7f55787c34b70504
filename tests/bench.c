/* Speed figures: `make bench`, or build/bench [open|rates|quantize|formats|pack].  Prints a table
 * of opening times, encoders, decoders and the quantize program end to end, beside what was asked
 * for.  Nothing here fails on a slow machine; build/files holds the files that it makes.
 *
 *   build/bench matmul [--type T,T|all] [--tokens M,M] [--threads N] [--rows R --cols C]
 *                      [--isa I] [--cold MB] [--seconds S]
 *
 * prints matrix products as a table of tab-separated values, after the limits of the machine;
 * its --help says what the options mean;
 * build/bench linalg [--isa I] [--cols N] [--seconds S] does so for Hessians and their factors,
 * build/bench gptq [TYPE] [COLS] takes the time of calibrated rounding. */
#define _DEFAULT_SOURCE             /* madvise                                                   */
#define QUANT_IMPLEMENTATION
#include "../quant.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, compare);
    return t[n / 2];
}

static size_t heap;

static void *count_alloc(void *user, size_t size)
{
    (void)user;
    heap += size;
    return malloc(size);
}

static void count_free(void *user, void *p, size_t size)
{
    (void)user;
    (void)size;
    free(p);
}

static size_t to_file(void *user, const void *p, size_t n)
{
    return fwrite(p, 1, n, (FILE *)user);
}

typedef struct bench_file { quant_gguf_out o; FILE *f; } bench_file;

static void file_begin(bench_file *b, const char *path)
{
    quant_sink sink;
    b->f = fopen(path, "wb");
    if (!b->f) die(path);
    sink.write = to_file;
    sink.user = b->f;
    if (quant_gguf_begin(&b->o, sink, 0, NULL)) die("begin");
}

/* Sends the header and random bytes for `size` bytes of tensors, all of them below 2^14 halves. */
static void file_end(bench_file *b, uint64_t size)
{
    static uint8_t part[1 << 20];
    uint64_t s = 1;
    size_t i;
    for (i = 0; i < sizeof part; i += 2) {              /* halves of about 0.02 and either sign  */
        s = s * 6364136223846793005u + 1442695040888963407u;
        part[i] = (uint8_t)(s >> 33);
        part[i + 1] = (uint8_t)(0x20 + (s >> 41) % 7 + ((s >> 50 & 1) << 7));
    }
    if (quant_gguf_header(&b->o)) die("header");
    for (; size; size -= i) {
        i = size < sizeof part ? (size_t)size : sizeof part;
        if (quant_gguf_write(&b->o, part, i)) die("write");
    }
    if (quant_gguf_end(&b->o) || fclose(b->f)) die("end");
}

/* 400 tensors and a vocabulary of 128,256 strings with scores and types: Llama 3's size. */
static void make_vocabulary(const char *path)
{
    enum { N = 128256 };
    static char text[N][12];
    static quant_str s[N];
    static float score[N];
    static int32_t type[N];
    uint64_t ne[1] = { 256 };
    bench_file b;
    int i;
    file_begin(&b, path);
    for (i = 0; i < N; i++) {
        s[i].p = text[i];
        s[i].n = (size_t)snprintf(text[i], sizeof text[i], "token%d", i % 99999);
        score[i] = (float)-i;
        type[i] = 1;
    }
    if (quant_gguf_put_array(&b.o, "tokenizer.ggml.tokens", QUANT_KV_STR, s, N)
        || quant_gguf_put_array(&b.o, "tokenizer.ggml.scores", QUANT_KV_F32, score, N)
        || quant_gguf_put_array(&b.o, "tokenizer.ggml.token_type", QUANT_KV_I32, type, N))
        die("vocabulary");
    for (i = 0; i < 400; i++) {
        char name[32];
        snprintf(name, sizeof name, "blk.%d.weight", i);
        if (quant_gguf_put_tensor(&b.o, name, QUANT_F32, ne, 1)) die("tensor");
    }
    file_end(&b, 400 * 1024);
}

static void make_keys(const char *path)
{
    bench_file b;
    int i;
    file_begin(&b, path);
    for (i = 0; i < 200000; i++) {
        char key[32];
        snprintf(key, sizeof key, "key.%d", i);
        if (quant_gguf_put_u32(&b.o, key, (uint32_t)i)) die("key");
    }
    file_end(&b, 0);
}

/* 16 matrices of F16, 8192 columns: 512 million weights, 1 GB. */
static void make_weights(const char *path)
{
    struct stat st;
    uint64_t ne[2] = { 8192, 3906 };
    bench_file b;
    int i;
    if (stat(path, &st) == 0 && (uint64_t)st.st_size > 16 * ne[0] * ne[1] * 2) return;
    file_begin(&b, path);
    for (i = 0; i < 16; i++) {
        char name[32];
        snprintf(name, sizeof name, "blk.%d.ffn_up.weight", i);
        if (quant_gguf_put_tensor(&b.o, name, QUANT_F16, ne, 2)) die("tensor");
    }
    file_end(&b, 16 * ne[0] * ne[1] * 2);
}

static void open_times(const char *path, const char *what, const char *asked)
{
    enum { RUNS = 21 };
    double t[RUNS];
    quant_alloc a;
    quant_gguf g;
    int i;
    a.alloc = count_alloc;
    a.free = count_free;
    a.user = NULL;
    for (i = 0; i < RUNS; i++) {
        t[i] = now();
        heap = 0;
        if (quant_gguf_open_file(&g, path, &a, NULL)) die("open");
        t[i] = now() - t[i];
        quant_gguf_close(&g);
    }
    printf("open %s\t%.2f ms\t%.2f MB heap\t(asked: %s)\n", what, 1e3 * median(t, RUNS),
           (double)heap * 1e-6, asked);
}

/* Encodes and decodes 64 rows of 4096 Gaussian weights, in millions of weights a second. */
static void rates(void)
{
    enum { COLS = 4096, ROWS = 64, RUNS = 5 };
    static float x[COLS * ROWS], y[COLS * ROWS], w[COLS];
    static uint8_t q[COLS * ROWS * 4];
    quant_type t;
    size_t i;
    uint32_t s = 1;
    for (i = 0; i < COLS * ROWS + COLS; i++) {
        float sum = -6;
        int k;
        for (k = 0; k < 12; k++) sum += (float)((s = s * 1664525u + 1013904223u) >> 8) / 16777216;
        if (i < COLS * ROWS) x[i] = 0.02f * sum;
        else w[i - COLS * ROWS] = expf(sum);
    }
    printf("type\tencode\tencode with importance\tdecode\t(10^6 weights/s, one thread)\n");
    for (t = 0; t < QUANT_TYPE_COUNT; t++) {
        const quant_type_info *info = quant_type_get(t);
        double time[3][RUNS], ms[3] = { 0, 0, 0 };
        int k, rows = info->flags & QUANT_TF_IMPORTANCE ? 8 : ROWS;
        int plain = info->flags & QUANT_TF_ENCODE && !(info->flags & QUANT_TF_NEEDS_IMPORTANCE);
        quant_encoder e;
        if (!(info->flags & QUANT_TF_DECODE)) continue;
        for (k = 0; k < RUNS; k++) {
            double a = now();
            if (info->flags & QUANT_TF_ENCODE && quant_encoder_init(&e, t, 0, NULL, 0))
                die("encoder");
            if (plain) {
                if (quant_from_f32(&e, q, x, (size_t)rows, COLS, NULL, NULL)) die("encode");
            }
            time[0][k] = now() - a;
            a = now();
            if ((info->flags & QUANT_TF_ENCODE) && (info->flags & QUANT_TF_IMPORTANCE))
                if (quant_from_f32(&e, q, x, (size_t)rows, COLS, w, NULL)) die("encode");
            time[1][k] = now() - a;
            a = now();
            if (quant_to_f32(t, y, q, ROWS, COLS)) die("decode");
            time[2][k] = now() - a;
        }
        for (k = 0; k < 3; k++)
            ms[k] = COLS * 1e-6 * (k < 2 ? rows : ROWS) / median(time[k], RUNS);
        printf("%s\t", info->name);
        if (plain) printf("%.1f\t", ms[0]);
        else printf("-\t");
        if (info->flags & QUANT_TF_IMPORTANCE && info->flags & QUANT_TF_ENCODE)
            printf("%.1f\t", ms[1]);
        else printf("-\t");
        printf("%.0f\n", ms[2]);
    }
}

/* The program end to end on a warm file, with its fsync. */
static void program(const char *type, const char *asked)
{
    char command[256];
    double t[3];
    int i;
    snprintf(command, sizeof command, "build/quantize --quiet --threads 2 build/files/weights.gguf "
             "build/files/out.gguf %s", type);
    for (i = -1; i < 3; i++) {
        double a = now();
        if (system(command)) die(command);
        if (i >= 0) t[i] = now() - a;
    }
    printf("quantize %s, 2 threads\t%.0f million weights/s\t(asked: %s)\n", type,
           16 * 8192 * 3906e-6 / median(t, 3), asked);
}

/* The format table of the README: relative RMS error of 64 x 4096 Gaussian weights of deviation
 * 0.02, without importance and with all ones (the wider search). */
static void formats(void)
{
    enum { COLS = 4096, ROWS = 64 };
    static float x[COLS * ROWS], ones[COLS];
    static uint8_t q[COLS * ROWS * 4];
    quant_type t;
    size_t i, r;
    uint64_t s = 11;
    for (i = 0; i < COLS * ROWS; i++) {
        double u[2];
        int k;
        for (k = 0; k < 2; k++) {
            uint64_t z = s += 0x9E3779B97F4A7C15u;
            z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
            z = (z ^ z >> 27) * 0x94D049BB133111EBu;
            u[k] = ((double)((z ^ z >> 31) >> 11) + 0.5) / 9007199254740992.0;
        }
        x[i] = (float)(0.02 * sqrt(-2 * log(u[0])) * cos(6.283185307179586 * u[1]));
    }
    for (i = 0; i < COLS; i++) ones[i] = 1;
    printf("| type | id | block | bytes | bits per weight | decode | encode | error | with flat "
           "importance |\n|---|---|---|---|---|---|---|---|---|\n");
    for (t = 0; t < QUANT_TYPE_COUNT; t++) {
        const quant_type_info *info = quant_type_get(t);
        int flat;
        if (!(info->flags & QUANT_TF_DECODE)) continue;
        printf("| %s | %u | %u | %u | %g | yes | %s |", info->name, (unsigned)t, info->block_len,
               info->block_size, 8.0 * info->block_size / info->block_len,
               info->flags & QUANT_TF_ENCODE ? "yes" : "no");
        for (flat = 0; flat < 2; flat++) {
            double e2 = 0, x2 = 0;
            quant_encoder e;
            if (!(info->flags & QUANT_TF_ENCODE) || t == QUANT_F32
                || !(flat ? info->flags & QUANT_TF_IMPORTANCE
                     : !(info->flags & QUANT_TF_NEEDS_IMPORTANCE))) {
                printf(" |");
                continue;
            }
            if (quant_encoder_init(&e, t, 0, NULL, 0)) die("encoder");
            e.tensor_scale = quant_tensor_scale(t, 0.1f);
            if (quant_from_f32(&e, q, x, ROWS, COLS, flat ? ones : NULL, NULL)) die("encode");
            for (r = 0; r < ROWS; r++)
                quant_row_error(t, &e2, &x2, x + r * COLS, q + r * quant_row_size(t, COLS), COLS,
                                NULL, e.tensor_scale);
            printf(" %.5f |", sqrt(e2 / x2));
        }
        printf("\n");
    }
}

/* --- matrix products ---------------------------------------------------------------------------*/
enum { MAX_THREADS = 64, SAMPLES = 100, PEAK_LOOPS = 5000000, LIMIT_SIZE = 512 << 20 };

/* What a thread does in a sample: `calls` products, each with the next copy of the weights; or a
 * part of the limits. */
typedef struct bench_job {
    int what;                       /* 0: products, 1: read memory, 2: vpdpbusd                  */
    const quant_matrix *copies;
    size_t n_copies, first, calls, tokens, row0, row1;
    const void *act;
    float *y;
    const uint8_t *p;
    size_t bytes;
    uint64_t sink;
} bench_job;

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
static uint64_t peak_loop(void)
{
    __m512i u = _mm512_set1_epi8(3), a = u, b = u, c = u, d = u, e = u, f = u, g = u, h = u, i = u,
        j = u, k = u, l = u;
    int n;
    for (n = 0; n < PEAK_LOOPS; n++)        /* twelve chains; asm, so that nothing is optimized  */
        __asm__ volatile(
            "vpdpbusd %12, %12, %0\n\tvpdpbusd %12, %12, %1\n\tvpdpbusd %12, %12, %2\n\t"
            "vpdpbusd %12, %12, %3\n\tvpdpbusd %12, %12, %4\n\tvpdpbusd %12, %12, %5\n\t"
            "vpdpbusd %12, %12, %6\n\tvpdpbusd %12, %12, %7\n\tvpdpbusd %12, %12, %8\n\t"
            "vpdpbusd %12, %12, %9\n\tvpdpbusd %12, %12, %10\n\tvpdpbusd %12, %12, %11"
            : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f), "+v"(g), "+v"(h), "+v"(i),
              "+v"(j), "+v"(k), "+v"(l) : "v"(u));
    return (uint64_t)_mm512_reduce_add_epi32(_mm512_add_epi32(a, l));
}
#else
static uint64_t peak_loop(void) { return 0; }
#endif

static void *bench_thread(void *arg)
{
    bench_job *j = (bench_job *)arg;
    size_t i;
    if (j->what == 0) {
        for (i = 0; i < j->calls; i++) {
            const quant_matrix *w = &j->copies[(j->first + i) % j->n_copies];
            quant_matmul(w, j->y, w->rows, j->act, j->tokens, j->row0, j->row1);
        }
    } else if (j->what == 1) {
        /* one line at a time, fetched 8 KiB ahead: the fastest of the patterns that were tried  */
        typedef uint64_t four __attribute__((vector_size(32)));
        const four *q = (const four *)(const void *)j->p;
        four s = { 0 }, r = { 0 };
        uint64_t a, b, c, d;
        for (i = 0; i + 4 <= j->bytes / sizeof *q; i += 4) {
            __builtin_prefetch(q + i + 256);
            __builtin_prefetch(q + i + 258);
            s += q[i] + q[i + 1];
            r += q[i + 2] + q[i + 3];
        }
        s += r;
        a = s[0];
        b = s[1];
        c = s[2];
        d = s[3];
        j->sink = a + b + c + d;
    } else {
        j->sink = peak_loop();
    }
    return NULL;
}

/* Seconds of one sample on all threads. */
static double bench_sample(bench_job *jobs, int threads)
{
    pthread_t id[MAX_THREADS];
    double t = now();
    int i;
    for (i = 1; i < threads; i++)
        if (pthread_create(&id[i], NULL, bench_thread, &jobs[i])) die("thread");
    bench_thread(&jobs[0]);
    for (i = 1; i < threads; i++) pthread_join(id[i], NULL);
    return now() - t;
}

typedef struct bench_options {
    const char *types, *tokens;
    int threads;
    size_t rows, cols, cold;
    quant_cpu cpu;
    double seconds;
    char wanted[QUANT_TYPE_COUNT];      /* of types                                              */
} bench_options;

/* One sample of GB/s of memory, or Gop/s of vpdpbusd (0 where there is none). */
static double bench_limit(int what, const uint8_t *p, size_t size, int threads)
{
    bench_job jobs[MAX_THREADS];
    double work;
    int i;
    if (what == 2 && !(quant_cpu_detect() & QUANT_CPU_AVX512VNNI)) return 0;
    memset(jobs, 0, sizeof jobs);
    for (i = 0; i < threads; i++) {
        jobs[i].what = what;
        jobs[i].bytes = size / (size_t)threads / 64 * 64;
        jobs[i].p = p + (size_t)i * jobs[i].bytes;
    }
    work = what == 1 ? (double)size : 12.0 * 128 * PEAK_LOOPS * threads;
    return work / bench_sample(jobs, threads) * 1e-9;
}

static double bench_limit_median(int what, const uint8_t *p, size_t size, int threads)
{
    double r[5];
    int i;
    for (i = 0; i < 5; i++) r[i] = bench_limit(what, p, size, threads);
    return median(r, 5);
}

/* Relative error of a few rows and tokens against sums in double. */
static double bench_error(quant_type t, const uint8_t *q, const float *x, const float *y,
                          size_t rows, size_t cols, size_t tokens)
{
    float *w = (float *)malloc(cols * sizeof *w);
    double err = 0, ref = 0;
    size_t r, k, i;
    if (!w) die("memory");
    for (r = 0; r < rows && r < 64; r++) {
        if (quant_to_f32(t, w, q + r * quant_row_size(t, cols), 1, cols)) die("decode");
        for (k = 0; k < tokens && k < 4; k++) {
            double sum = 0;
            for (i = 0; i < cols; i++) sum += (double)w[i] * (double)x[k * cols + i];
            err += (sum - (double)y[k * rows + r]) * (sum - (double)y[k * rows + r]);
            ref += sum * sum;
        }
    }
    free(w);
    return sqrt(err / ref);
}

/* The weights: 64 rows of Gaussian numbers, encoded, over and over. */
static uint8_t *bench_weights(quant_type t, size_t rows, size_t cols)
{
    size_t size = quant_row_size(t, cols), i;
    float *x = (float *)malloc(64 * cols * sizeof *x);
    float *flat = (float *)malloc(cols * sizeof *flat);
    uint8_t *q = (uint8_t *)malloc((rows + 64) * size);
    uint32_t s = 1;
    quant_encoder e;
    if (!x || !q || !flat) die("memory");
    for (i = 0; i < 64 * cols; i++) {
        float sum = -6;
        int k;
        for (k = 0; k < 12; k++) sum += (float)((s = s * 1664525u + 1013904223u) >> 8) / 16777216;
        x[i] = 0.02f * sum;
    }
    for (i = 0; i < cols; i++) flat[i] = 1;
    if (quant_encoder_init(&e, t, 0, NULL, 0) || quant_from_f32(&e, q, x, 64, cols,
        quant_type_get(t)->flags & QUANT_TF_NEEDS_IMPORTANCE ? flat : NULL, NULL)) die("encode");
    for (i = 64; i < rows; i += 64) memcpy(q + i * size, q, 64 * size);
    free(x);
    free(flat);
    return q;
}

static void bench_product(const bench_options *o, quant_type t, size_t tokens, uint8_t *pool,
                          size_t pool_size, const float *x)
{
    uint8_t *q = bench_weights(t, o->rows, o->cols);
    size_t size = quant_row_size(t, o->cols) * o->rows, packed, n, i, step, calls;
    quant_matrix m, *copies;
    bench_job jobs[MAX_THREADS];
    double times[SAMPLES], reads[SAMPLES], peaks[SAMPLES], end, us, gb, peak, one;
    double work = 2.0 * (double)tokens * (double)o->rows * (double)o->cols;
    float *y = (float *)malloc(tokens * o->rows * sizeof *y);
    void *act;
    int k;
    if (quant_matrix_init(&m, t, q, o->rows, o->cols, o->cpu)) die("matrix");
    packed = quant_matrix_pack_size(&m);
    if (!packed) memcpy(pool, q, size);
    else if (quant_matrix_pack(&m, &m, pool, pool_size)) die("pack");
    else size = packed;
    n = o->cold * 1000000 / size + 1;
    copies = (quant_matrix *)malloc(n * sizeof *copies);
    act = malloc(quant_act_size(&m, tokens) + 64);
    if (!copies || !act || !y) die("memory");
    for (i = 0; i < n; i++) {
        copies[i] = m;
        copies[i].data = pool + i * ((size + 63) / 64 * 64);
        if (i) memcpy(pool + i * ((size + 63) / 64 * 64), pool, size);
    }
    quant_act(&m, act, x, o->cols, tokens);
    step = quant_matrix_row_step(&m);
    memset(jobs, 0, sizeof jobs);
    for (k = 0; k < o->threads; k++) {
        size_t tiles = (o->rows + step - 1) / step;
        jobs[k].copies = copies;
        jobs[k].n_copies = n;
        jobs[k].tokens = tokens;
        jobs[k].act = act;
        jobs[k].y = y;
        jobs[k].row0 = tiles * (size_t)k / (size_t)o->threads * step;
        jobs[k].row1 = tiles * ((size_t)k + 1) / (size_t)o->threads * step;
        if (jobs[k].row1 > o->rows) jobs[k].row1 = o->rows;
        jobs[k].calls = 1;
    }
    one = bench_sample(jobs, o->threads);               /* a sample takes about 20 ms            */
    calls = one < 0.02 ? (size_t)(0.02 / one) + 1 : 1;
    end = now() + o->seconds;
    for (i = 0; i < SAMPLES && (i < 3 || now() < end); i++) {
        for (k = 0; k < o->threads; k++) {
            jobs[k].first = (jobs[k].first + jobs[k].calls) % n;
            jobs[k].calls = calls;
        }
        times[i] = bench_sample(jobs, o->threads) / (double)calls;
        /* fractions of limits measured at once: the load of a shared machine cancels out       */
        reads[i] = (double)size * 1e-9 / times[i]
                 / bench_limit(1, pool + pool_size, LIMIT_SIZE, o->threads);
        peak = bench_limit(2, NULL, 0, o->threads);
        peaks[i] = peak > 0 ? work * 1e-9 / times[i] / peak : 0;
    }
    us = 1e6 * median(times, (int)i);
    gb = (double)size * 1e-3 / us;
    printf("%s\t%s\t%d\t%d\t%.1f\t%.2f\t%.2f\t%.3f\t%.1f\t%.3f\t%.2e\n", quant_type_name(t),
           quant_cpu_name(m.cpu), (int)tokens, o->threads, us,
           1e-3 * (double)o->rows * (double)o->cols / us, gb, median(reads, (int)i),
           work * 1e-3 / us, median(peaks, (int)i),
           bench_error(t, q, x, y, o->rows, o->cols, tokens));
    fflush(stdout);
    free(q);
    free(copies);
    free(act);
    free(y);
}

static void products(const bench_options *o)
{
    size_t huge = (size_t)2 << 20, one = o->rows * o->cols * 4 + huge, i, most = 1;
    size_t size = (o->cold * 1000000 + 2 * one) / huge * huge, all = size + LIMIT_SIZE + huge;
    uint8_t *map = (uint8_t *)mmap(NULL, all, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *pool;
    const char *p;
    float *x;
    uint32_t s = 7;
    quant_type t;
    if (map == MAP_FAILED) die("memory");
    pool = map + (huge - (size_t)((uintptr_t)map % huge)) % huge;
    madvise(pool, size + LIMIT_SIZE, MADV_HUGEPAGE);
    memset(pool, 1, size + LIMIT_SIZE);     /* the weights; what the memory limit is read from   */
    for (p = o->tokens; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if ((size_t)atol(p) > most) most = (size_t)atol(p);
    x = (float *)malloc(most * o->cols * sizeof *x);
    if (!x) die("memory");
    for (i = 0; i < most * o->cols; i++) {
        int k;
        for (x[i] = -6, k = 0; k < 12; k++)
            x[i] += (float)((s = s * 1664525u + 1013904223u) >> 8) / 16777216;
    }
    printf("# DRAM read, 2 MiB pages and prefetch, %d threads: %.2f GB/s\n", o->threads,
           bench_limit_median(1, pool + size, LIMIT_SIZE, o->threads));
    printf("# vpdpbusd, zmm, %d threads: %.0f Gop/s (fractions: medians of ratios to limits "
           "measured after each sample)\n", o->threads, bench_limit_median(2, NULL, 0, o->threads));
    printf("type\tisa\ttokens\tthreads\tus\tgw_s\tgb_s\tfrac_dram\tgflops\tfrac_peak\trel_err\n");
    for (t = 0; t < QUANT_TYPE_COUNT; t++) {
        const quant_type_info *info = quant_type_get(t);
        if (!o->wanted[t]) continue;
        if (o->cols % info->block_len) {
            fprintf(stderr, "bench: %s left out: its blocks of %u do not divide %zu columns\n",
                    info->name, (unsigned)info->block_len, o->cols);
            continue;
        }
        for (p = o->tokens; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
            if (atol(p) > 0) bench_product(o, t, (size_t)atol(p), pool, size, x);
    }
    free(x);
    munmap(map, all);
}

/* What is done once: packing (GB/s of the file's bytes, one thread, warm) and, after the types,
 * activations to 8 bits (10^9 a second) with each instruction set. */
static void packing(void)
{
    enum { ROWS = 1024, COLS = 4096, TIMES = 9 };
    quant_type t;
    quant_cpu cpu;
    quant_matrix m;
    double s[TIMES];
    int i;
    float *x = (float *)calloc(64 * COLS, sizeof *x);
    if (!x) die("memory");
    printf("type\tpack_gb_s\n");
    for (t = 0; t < QUANT_TYPE_COUNT; t++) {
        size_t size = quant_row_size(t, COLS) * ROWS;
        uint8_t *q, *packed;
        if (!(quant_type_get(t)->flags & QUANT_TF_DECODE)) continue;
        q = bench_weights(t, ROWS, COLS);
        if (quant_matrix_init(&m, t, q, ROWS, COLS, 0)) die("matrix");
        packed = (uint8_t *)malloc(quant_matrix_pack_size(&m));
        if (!packed) die("memory");
        for (i = -1; i < TIMES; i++) {
            quant_matrix p;
            double a = now();
            if (quant_matrix_pack(&p, &m, packed, quant_matrix_pack_size(&m))) die("pack");
            if (i >= 0) s[i] = now() - a;
        }
        printf("%s\t%.2f\n", quant_type_name(t), (double)size * 1e-9 / median(s, TIMES));
        free(q);
        free(packed);
    }
    printf("isa\tact_g_s\n");
    for (i = 0; i < 64 * COLS; i++) x[i] = (float)(i % 17) - 8.1f;
    for (cpu = 0; cpu < 256; cpu = cpu ? cpu << 1 : 1) {
        void *act;
        if ((cpu & quant_cpu_detect()) != cpu) continue;
        if (quant_matrix_init(&m, QUANT_Q4_0, x, 64, COLS, cpu)) die("matrix");
        act = malloc(quant_act_size(&m, 64));
        if (!act) die("memory");
        for (i = -1; i < TIMES; i++) {
            double a = now();
            quant_act(&m, act, x, COLS, 64);
            if (i >= 0) s[i] = now() - a;
        }
        printf("%s\t%.2f\n", quant_cpu_name(cpu), 64 * COLS * 1e-9 / median(s, TIMES));
        free(act);
    }
    free(x);
}

/* The instruction set of that name; die if there is none, or not here */
static quant_cpu isa_of(const char *name)
{
    quant_cpu cpu = 128;
    while (cpu > 0 && strcmp(quant_cpu_name(cpu), name) != 0) cpu >>= 1;
    if ((!cpu && strcmp(name, "scalar") != 0) || (cpu & ~quant_cpu_detect()))
        die("--isa: this machine does not have it");
    return cpu;
}

/* NULL, or what is wrong with the options; sets o->wanted */
static const char *bad_options(bench_options *o)
{
    const char *p = o->types;
    char *end;
    quant_type t;
    if (o->threads < 1 || o->threads > MAX_THREADS) return "--threads: 1 to 64";
    if (!o->rows || !o->cols) return "--rows, --cols: at least 1";
    if (!(o->seconds > 0)) return "--seconds: more than 0";
    for (p = o->tokens; ; p = end + 1) {
        long m = strtol(p, &end, 10);
        if (end == p || m < 1 || m > 1 << 20) return "--tokens: numbers from 1 to 2^20";
        if (*end == 0) break;
        if (*end != ',') return "--tokens: numbers with commas between";
    }
    for (t = 0; t < QUANT_TYPE_COUNT; t++)
        o->wanted[t] = strcmp(o->types, "all") == 0 && quant_type_get(t)->flags & QUANT_TF_DECODE;
    if (strcmp(o->types, "all") == 0) return NULL;
    for (p = o->types; ; p++) {
        char name[32];
        size_t len = strcspn(p, ",");
        if (len >= sizeof name) return "--type: no such type";
        memcpy(name, p, len);
        name[len] = 0;
        t = quant_type_find(name);
        if (t >= QUANT_TYPE_COUNT || !(quant_type_get(t)->flags & QUANT_TF_DECODE))
            return "--type: no such type of weights (see build/inspect or the README's table)";
        o->wanted[t] = 1;
        p += len;
        if (!*p) return NULL;
    }
}

static int matmul_main(int argc, char **argv)
{
    const char *bad;
    bench_options o = { "all", "1,8,512", 1, 4096, 4096, 700, 0,
                        0.5, { 0 } };
    int i;
    o.cpu = quant_cpu_detect();
    for (i = 0; i + 1 < argc; i += 2) {
        const char *k = argv[i], *v = argv[i + 1];
        if (strcmp(k, "--type") == 0) o.types = v;
        else if (strcmp(k, "--tokens") == 0) o.tokens = v;
        else if (strcmp(k, "--threads") == 0) o.threads = atoi(v);
        else if (strcmp(k, "--rows") == 0) o.rows = (size_t)atol(v);
        else if (strcmp(k, "--cols") == 0) o.cols = (size_t)atol(v);
        else if (strcmp(k, "--cold") == 0) o.cold = (size_t)atol(v);
        else if (strcmp(k, "--seconds") == 0) o.seconds = atof(v);
        else if (strcmp(k, "--isa") == 0) o.cpu = isa_of(v);
        else break;
    }
    if (i < argc) {
        fprintf(stderr, "usage: bench matmul [options]\n"
                "  --type T,T|all   types of the weights (all)\n"
                "  --tokens M,M     rows of X (1,8,512)\n"
                "  --threads N      1 to 64, each with rows of its own (1)\n"
                "  --rows R --cols C  shape of W (4096 x 4096); types whose block does not divide "
                "C are left out\n"
                "  --isa I          kernels: scalar avx2 avxvnni avx512vnni neon dotprod i8mm "
                "wasm128 rvv\n"
                "                   (the best there is)\n"
                "  --cold MB        copies of W, used in turn (700)\n"
                "  --seconds S      for each line of the table, limits included (0.5)\n");
        return argc == 1 && strcmp(argv[0], "--help") == 0 ? 0 : 1;
    }
    if ((bad = bad_options(&o)) != NULL) die(bad);
    products(&o);
    return 0;
}

/* Linear algebra: build/bench linalg [--isa I] [--cols N] [--seconds S], fractions of the fp32 FMA
 * peak of the same registers, measured after each sample. */
enum { FMA_LOOPS = 1000000 };

#if defined(__x86_64__) && defined(__GNUC__)
#define FMA4(r, a, b, c, d) "vfmadd231ps %%" r "15,%%" r "15,%%" r a "\n\t" \
    "vfmadd231ps %%" r "15,%%" r "15,%%" r b "\n\tvfmadd231ps %%" r "15,%%" r "15,%%" r c "\n\t" \
    "vfmadd231ps %%" r "15,%%" r "15,%%" r d "\n\t"
#define FMA_LOOP(r) __asm__ volatile( \
    "1:\n\t" FMA4(r, "0", "1", "2", "3") FMA4(r, "4", "5", "6", "7") FMA4(r, "8", "9", "10", "11") \
    "dec %0\n\tjnz 1b" : "+r"(n) : : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", \
    "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm15", "cc")
#endif

/* Gflop/s of one sample. */
static double fma_peak(quant_cpu cpu)
{
    double t = now();
    uint64_t n = FMA_LOOPS;
#ifdef FMA_LOOP
    __asm__ volatile("vzeroall" : : : "xmm0", "xmm15");
    if (cpu & QUANT_CPU_AVX512VNNI) FMA_LOOP("zmm");
    else if (cpu & QUANT_CPU_AVX2) FMA_LOOP("ymm");
    else FMA_LOOP("xmm");
    __asm__ volatile("vzeroupper");
    return (cpu & QUANT_CPU_AVX512VNNI ? 16 : cpu & QUANT_CPU_AVX2 ? 8 : 4) * 24.0 * FMA_LOOPS
         / (now() - t) * 1e-9;
#else
    (void)cpu; (void)n;
    return t < 0;
#endif
}

typedef struct linalg_job {
    quant_cpu cpu;
    float *h;
    const float *x;
    size_t cols, tokens, row0, row1;
    void *scratch;
} linalg_job;

static void *hessian_thread(void *arg)
{
    linalg_job *j = (linalg_job *)arg;
    quant_hessian_add(j->h, j->cols, j->x, j->cols, j->tokens, j->cols, j->row0, j->row1, j->cpu,
                      j->scratch);
    return NULL;
}

static void *peak_thread(void *arg)
{
    double *r = (double *)arg;
    r[1] = fma_peak((quant_cpu)r[0]);
    return NULL;
}

/* Sum of the peaks of all threads at once. */
static double linalg_peak(quant_cpu cpu, int threads)
{
    double r[2][2], sum = 0;
    pthread_t id;
    int i;
    for (i = 0; i < 2; i++) r[i][0] = cpu;
    if (threads == 2 && pthread_create(&id, NULL, peak_thread, r[1])) die("thread");
    peak_thread(r[0]);
    if (threads == 2) pthread_join(id, NULL);
    for (i = 0; i < threads; i++) sum += r[i][1];
    return sum;
}

static void linalg_hessian(quant_cpu cpu, int threads, float *h, const float *x, size_t cols,
                           size_t tokens, double seconds)
{
    double times[SAMPLES], ratio[SAMPLES], work = (double)tokens * (double)cols * (double)cols;
    double end = now() + seconds;
    linalg_job job[2];
    pthread_t id;
    int i, n;
    for (i = 0; i < threads; i++) {
        job[i].cpu = cpu;
        job[i].h = h;
        job[i].x = x;
        job[i].cols = cols;
        job[i].tokens = tokens;
        job[i].row0 = quant_triangle_split(cols, (size_t)i, (size_t)threads);
        job[i].row1 = quant_triangle_split(cols, (size_t)i + 1, (size_t)threads);
        job[i].scratch = malloc(quant_linalg_scratch_size());
    }
    for (n = 0; n < SAMPLES && (n < 3 || now() < end); n++) {
        double t = now();
        if (threads == 2 && pthread_create(&id, NULL, hessian_thread, &job[1])) die("thread");
        hessian_thread(&job[0]);
        if (threads == 2) pthread_join(id, NULL);
        times[n] = now() - t;
        ratio[n] = work / times[n] * 1e-9 / linalg_peak(cpu, threads);
    }
    printf("hessian\t%s\t%d\t%d\t%.1f\t%.1f\t%.3f\n", quant_cpu_name(cpu), (int)cols, threads,
           1e3 * median(times, n), work / median(times, n) * 1e-9, median(ratio, n));
    for (i = 0; i < threads; i++) free(job[i].scratch);
}

/* Factor, then inverse of h + damping; a [cols x cols] is overwritten. */
static void linalg_factor(quant_cpu cpu, float *a, const float *h, size_t cols, double seconds)
{
    double f[SAMPLES], g[SAMPLES], rf[SAMPLES], rg[SAMPLES], peak, end = now() + seconds;
    double work = (double)cols * (double)cols * (double)cols / 3;
    void *scratch = malloc(quant_linalg_scratch_size());
    size_t i;
    int n;
    for (n = 0; n < SAMPLES && (n < 3 || now() < end); n++) {
        double t;
        memcpy(a, h, cols * cols * sizeof *a);
        for (i = 0; i < cols; i++) a[i * cols + i] *= 1.1f;
        t = now();
        if (quant_cholesky(a, cols, cols, cpu, scratch, NULL)) die("cholesky");
        f[n] = now() - t;
        t = now();
        if (quant_triangular_inverse(a, cols, cols, cpu, scratch, NULL)) die("inverse");
        g[n] = now() - t;
        peak = linalg_peak(cpu, 1);
        rf[n] = work / f[n] * 1e-9 / peak;
        rg[n] = work / g[n] * 1e-9 / peak;
    }
    printf("cholesky\t%s\t%d\t1\t%.1f\t%.1f\t%.3f\n", quant_cpu_name(cpu), (int)cols,
           1e3 * median(f, n), work / median(f, n) * 1e-9, median(rf, n));
    printf("inverse\t%s\t%d\t1\t%.1f\t%.1f\t%.3f\n", quant_cpu_name(cpu), (int)cols,
           1e3 * median(g, n), work / median(g, n) * 1e-9, median(rg, n));
    free(scratch);
}

static int linalg_main(int argc, char **argv)
{
    quant_cpu cpu = quant_cpu_detect();
    size_t cols = 4096, tokens = 512, i;
    double seconds = 1;
    float *h, *x, *a;
    uint32_t s = 3;
    for (i = 0; (int)i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--cols") == 0) cols = (size_t)atol(argv[i + 1]);
        else if (strcmp(argv[i], "--seconds") == 0) seconds = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--isa") == 0) cpu = isa_of(argv[i + 1]);
        else break;
    }
    if ((int)i < argc || !cols || !(seconds > 0)) {
        fprintf(stderr, "usage: bench linalg [--isa I] [--cols N] [--seconds S]\n");
        return 1;
    }
    h = (float *)calloc(cols * cols, sizeof *h);
    a = (float *)malloc(cols * cols * sizeof *a);
    x = (float *)malloc(cols * tokens * sizeof *x);
    if (!h || !a || !x || !cols) die("memory");
    for (i = 0; i < cols * tokens; i++)
        x[i] = (float)((s = s * 1664525u + 1013904223u) >> 8) / 16777216 - 0.5f;
    printf("# fp32 FMA of %s: %.1f Gflop/s on one thread, %.1f on two\n", quant_cpu_name(cpu),
           linalg_peak(cpu, 1), linalg_peak(cpu, 2));
    printf("what\tisa\tcols\tthreads\tms\tgflops\tfrac_peak\n");
    linalg_hessian(cpu, 1, h, x, cols, tokens, seconds);
    linalg_hessian(cpu, 2, h, x, cols, tokens, seconds);
    linalg_factor(cpu, a, h, cols, seconds);
    free(h);
    free(a);
    free(x);
    return 0;
}

/* Calibrated rounding: build/bench gptq [TYPE] [COLS], a square matrix, 1,024 tokens whose columns
 * hang together, two threads: seconds for the factor and for the rows. */
typedef struct gptq_job {
    const quant_gptq *g;
    const quant_gptq_out *out;
    const float *w;
    size_t cols, row0, row1;
} gptq_job;

static void *gptq_thread(void *arg)
{
    gptq_job *j = (gptq_job *)arg;
    size_t size = quant_gptq_scratch_size(j->g);
    void *scratch = malloc(size);
    if (!scratch || quant_gptq_rows(j->out, j->g, j->w, j->cols, j->row0, j->row1, scratch, size,
                                    NULL)) die("rows");
    free(scratch);
    return NULL;
}

static int gptq_main(int argc, char **argv)
{
    const char *name = argc > 0 ? argv[0] : "Q4_K";
    size_t cols = argc > 1 ? (size_t)atol(argv[1]) : 4096, tokens = 1024, size, i;
    quant_grid grid;
    quant_gptq g;
    quant_gptq_out out;
    quant_gptq_opt opt;
    gptq_job job[2];
    float *x, *h, *w;
    void *buf, *scratch = malloc(quant_linalg_scratch_size());
    double t0, t1, t2;
    uint32_t s = 1;
    pthread_t id;
    memset(&grid, 0, sizeof grid);
    memset(&out, 0, sizeof out);
    memset(&opt, 0, sizeof opt);
    grid.type = quant_type_find(name);
    if (!(size = quant_gptq_size(&grid, cols))) die("no such grid or shape");
    x = (float *)malloc(tokens * cols * sizeof *x);
    h = (float *)calloc(cols * cols, sizeof *h);
    w = (float *)malloc(cols * cols * sizeof *w);
    buf = malloc(size);
    out.rows = malloc(cols * quant_row_size(grid.type, cols));
    if (!x || !h || !w || !buf || !out.rows || !scratch) die("memory");
    for (i = 0; i < tokens * cols; i++) {
        x[i] = (float)((s = s * 1664525u + 1013904223u) >> 8) / 8388608 - 1;
        if (i % cols) x[i] += 0.5f * x[i - 1];
    }
    for (i = 0; i < cols * cols; i++)
        w[i] = ((float)((s = s * 1664525u + 1013904223u) >> 8) / 8388608 - 1) * 0.02f;
    quant_hessian_add(h, cols, x, cols, tokens, cols, 0, cols, quant_cpu_detect(), scratch);
    t0 = now();
    if (quant_gptq_prepare(&g, &grid, h, cols, cols, &opt, buf, size, quant_cpu_detect(), NULL))
        die("prepare");
    t1 = now();
    for (i = 0; i < 2; i++) {
        job[i].g = &g;
        job[i].out = &out;
        job[i].w = w;
        job[i].cols = cols;
        job[i].row0 = i * cols / 2;
        job[i].row1 = (i + 1) * cols / 2;
    }
    if (pthread_create(&id, NULL, gptq_thread, &job[1])) die("thread");
    gptq_thread(&job[0]);
    pthread_join(id, NULL);
    t2 = now();
    printf("type\tcols\tfactor_s\trows_s\tsum_s\n%s\t%d\t%.2f\t%.2f\t%.2f\n", name, (int)cols,
           t1 - t0, t2 - t1, t2 - t0);
    free(x); free(h); free(w); free(buf); free(out.rows); free(scratch);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "all";
    int all = strcmp(what, "all") == 0, known = all;
    if (argc > 2 && strcmp(what, "matmul") && strcmp(what, "linalg") && strcmp(what, "gptq"))
        what = "";
    if (strcmp(what, "matmul") == 0) return matmul_main(argc - 2, argv + 2);
    if (strcmp(what, "linalg") == 0) return linalg_main(argc - 2, argv + 2);
    if (strcmp(what, "gptq") == 0) return gptq_main(argc - 2, argv + 2);
    if (system("mkdir -p build/files")) die("build/files");
    if (all || strcmp(what, "open") == 0) {
        known = 1;
        make_vocabulary("build/files/vocabulary.gguf");
        make_keys("build/files/keys.gguf");
        open_times("build/files/vocabulary.gguf", "400 tensors, 128,256 tokens",
                   "3 ms, 1 MB; ggml 20.9 ms, 5.9 MB");
        open_times("build/files/keys.gguf", "200,000 keys",
                   "100 ms; ggml does not finish in 60 s");
    }
    if (all || strcmp(what, "rates") == 0) {
        known = 1;
        rates();
    }
    if (all || strcmp(what, "quantize") == 0) {
        known = 1;
        make_weights("build/files/weights.gguf");
        program("Q8_0", "300");
        program("Q4_0", "300");
    }
    if (strcmp(what, "pack") == 0) {
        known = 1;
        packing();
    }
    if (strcmp(what, "formats") == 0) {
        known = 1;
        formats();
    }
    if (!known)
        fprintf(stderr, "usage: bench [all|open|rates|quantize|formats|pack|linalg|gptq|matmul "
                "...]\n");
    return !known && strcmp(what, "--help") != 0;
}
