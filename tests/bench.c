/* Speed figures: `make bench`, or build/bench [open|rates|quantize|formats].  Prints a table of
 * opening times, encoders, decoders and the quantize program end to end, beside what was asked for.
 * Nothing here fails on a slow machine; build/files holds the files that it makes. */
#define QUANT_IMPLEMENTATION
#include "../quant.h"
#include <math.h>
#include <stdio.h>
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
        quant_encoder e;
        if (!(info->flags & QUANT_TF_DECODE)) continue;
        for (k = 0; k < RUNS; k++) {
            double a = now();
            if (info->flags & QUANT_TF_ENCODE) {
                if (quant_encoder_init(&e, t, 0, NULL, 0)) die("encoder");
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
        if (info->flags & QUANT_TF_ENCODE) printf("%.1f\t", ms[0]);
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
               info->flags & QUANT_TF_ENCODE ? "yes" : "not yet");
        for (flat = 0; flat < 2; flat++) {
            double e2 = 0, x2 = 0;
            quant_encoder e;
            if (!(info->flags & QUANT_TF_ENCODE) || t == QUANT_F32
                || (flat && !(info->flags & QUANT_TF_IMPORTANCE))) {
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

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "all";
    int all = strcmp(what, "all") == 0, known = all;
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
    if (strcmp(what, "formats") == 0) {
        known = 1;
        formats();
    }
    if (!known) fprintf(stderr, "usage: bench [all|open|rates|quantize|formats]\n");
    return !known;
}
