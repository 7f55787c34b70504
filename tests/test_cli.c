/* The programs, run as a user would.  Files go to build/cli, which is emptied first. */
#include "test.h"
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#  define SANITIZED
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) \
    || __has_feature(thread_sanitizer)
#    define SANITIZED
#  endif
#endif
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define D "build/cli/"
#define TINY "examples/models/tiny-f16.gguf"
#define QUANTIZE "build/quantize --quiet "

/* Helpers ---------------------------------------------------------------------------------------*/

static char out_text[1 << 16], err_text[1 << 16];      /* what the last command printed          */

static void slurp(const char *path, char *buf, size_t size)
{
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(buf, 1, size - 1, f) : 0;
    buf[n] = 0;
    if (f) fclose(f);
}

/* Runs a shell command and returns its exit code. */
static int sh(const char *format, ...)
{
    char line[2048], all[2200];
    int status;
    va_list a;
    va_start(a, format);
    vsnprintf(line, sizeof line, format, a);
    va_end(a);
    snprintf(all, sizeof all, "{ %s\n} >" D "stdout 2>" D "stderr", line);
    status = system(all);
    slurp(D "stdout", out_text, sizeof out_text);
    slurp(D "stderr", err_text, sizeof err_text);
    test_note("%.300s: %.160s", line, err_text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int one_line(const char *s)
{
    const char *end = strchr(s, '\n');
    return end && end > s && !end[1];
}

/* A command that must fail with this code and say one line with this word in it. */
static void refused(int code, const char *word, const char *command)
{
    CHECK(sh("%s", command) == code);
    CHECK(one_line(err_text));
    CHECK(strstr(err_text, word) != NULL);
}

static int exists(const char *path)
{
    struct stat s;
    return lstat(path, &s) == 0;
}

/* Nothing that begins like a temporary name is left. */
static int no_temps(void)
{
    return sh("ls " D "*.tmp-* 2>/dev/null") != 0;
}

static int same_files(const char *a, const char *b)
{
    return sh("cmp %s %s", a, b) == 0;
}

/* SHA-256 (FIPS 180-4), over all of p. */
static uint32_t rotated(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void sha_block(uint32_t *h, const uint32_t *k, const uint8_t *p)
{
    uint32_t w[64], v[8];
    int i;
    for (i = 0; i < 16; i++, p += 4)
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) +
               (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
    }
    memcpy(v, h, sizeof v);
    for (i = 0; i < 64; i++) {
        uint32_t t1 = v[7] + (rotated(v[4], 6) ^ rotated(v[4], 11) ^ rotated(v[4], 25)) +
                      ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
        uint32_t t2 = (rotated(v[0], 2) ^ rotated(v[0], 13) ^ rotated(v[0], 22)) +
                      ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (i = 0; i < 8; i++) h[i] += v[i];
}

/* The constants are the fractions of square and cube roots of the first primes. */
static uint32_t root_bits(double root)
{
    return (uint32_t)((root - floor(root)) * 4294967296.0);
}

static void sha256(char *hex, const uint8_t *p, size_t n)
{
    uint32_t h[8], k[64];
    uint8_t last[128] = { 0 };
    size_t rest = n % 64, len = rest < 56 ? 64 : 128, i;
    int prime = 2, found, d;
    for (found = 0; found < 64; prime++) {
        for (d = 2; d * d <= prime && prime % d; d++) { }
        if (d * d <= prime) continue;
        if (found < 8) h[found] = root_bits(sqrt(prime));
        k[found++] = root_bits(cbrt(prime));
    }
    for (i = 0; i + 64 <= n; i += 64) sha_block(h, k, p + i);
    memcpy(last, p + i, rest);
    last[rest] = 0x80;
    for (i = 0; i < 8; i++) last[len - 1 - i] = (uint8_t)((uint64_t)n * 8 >> 8 * i);
    for (i = 0; i < len; i += 64) sha_block(h, k, last + i);
    for (i = 0; i < 8; i++) sprintf(hex + 8 * i, "%08x", (unsigned)h[i]);
}

/* Writing test files: a sink on stdio. */
static size_t file_write(void *user, const void *src, size_t n)
{
    return fwrite(src, 1, n, (FILE *)user);
}

typedef struct maker { FILE *f; quant_gguf_out o; } maker;

static void make_begin(maker *m, const char *path)
{
    quant_sink s;
    m->f = fopen(path, "wb");
    s.write = file_write;
    s.user = m->f;
    CHECK(m->f && quant_gguf_begin(&m->o, s, 0, NULL) == QUANT_OK);
    CHECK(quant_gguf_put_str(&m->o, "general.architecture", "llama") == QUANT_OK);
}

static void make_tensor(maker *m, const char *name, quant_type t, uint64_t a, uint64_t b,
                        uint64_t c)
{
    uint64_t ne[3];
    ne[0] = a;
    ne[1] = b;
    ne[2] = c;
    CHECK(quant_gguf_put_tensor(&m->o, name, t, ne, c > 1 ? 3 : b > 1 ? 2 : 1) == QUANT_OK);
}

/* Sends n normal numbers as F32. */
static void make_normal(maker *m, size_t n, double scale, uint64_t seed)
{
    size_t i;
    for (i = 0; i < n; i++) {
        float x = (float)(scale * test_normal(&seed));
        uint8_t b[4];
        quant_encoder e;
        quant_encoder_init(&e, QUANT_F32, 0, NULL, 0);
        quant_from_f32(&e, b, &x, 1, 1, NULL, NULL);
        quant_gguf_write(&m->o, b, 4);
    }
}

static void make_end(maker *m)
{
    CHECK(quant_gguf_end(&m->o) == QUANT_OK);
    CHECK(fclose(m->f) == 0);
}

/* A file whose one F16 tensor is `rows` x 4096 zeros that take no disk. */
static void make_sparse(const char *path, uint64_t rows)
{
    maker m;
    uint64_t ne[2];
    long header;
    ne[0] = 4096;
    ne[1] = rows;
    make_begin(&m, path);
    CHECK(quant_gguf_put_tensor(&m.o, "blk.0.ffn_up.weight", QUANT_F16, ne, 2) == QUANT_OK);
    CHECK(quant_gguf_header(&m.o) == QUANT_OK);
    fflush(m.f);
    header = ftell(m.f);
    CHECK(quant_gguf_end(&m.o) == QUANT_E_STATE);       /* bytes are missing: the hole is them   */
    CHECK(ftruncate(fileno(m.f), (off_t)(((uint64_t)header + 31) / 32 * 32 + rows * 8192)) == 0);
    fclose(m.f);
}

/* Two files have the same tensors, by name, type, shape and bytes, in this order. */
static void same_tensors(const char *a, const char *b)
{
    quant_gguf x, y;
    size_t i;
    CHECK(quant_gguf_open_file(&x, a, NULL, NULL) == QUANT_OK);
    CHECK(quant_gguf_open_file(&y, b, NULL, NULL) == QUANT_OK);
    CHECK(x.n_tensors == y.n_tensors && x.n_tensors > 0);
    for (i = 0; i < x.n_tensors && i < y.n_tensors; i++) {
        const quant_tensor *s = &x.tensors[i], *t = &y.tensors[i];
        CHECK(s->name.n == t->name.n && !memcmp(s->name.p, t->name.p, s->name.n));
        CHECK(s->type == t->type && s->size == t->size && !memcmp(s->ne, t->ne, sizeof s->ne));
        CHECK(s->size == t->size &&
              !memcmp(quant_gguf_data(&x, s), quant_gguf_data(&y, t), (size_t)s->size));
    }
    quant_gguf_close(&x);
    quant_gguf_close(&y);
}

/* The type of a tensor in a report, "" if it is not there. */
static const char *report_type(const char *path, const char *tensor)
{
    static char type[32];
    char line[1000], name[300], from[32];
    FILE *f = fopen(path, "r");
    *type = 0;
    while (f && fgets(line, sizeof line, f)) {
        char to[32];
        if (sscanf(line, "%299s %*s %31s %31s", name, from, to) == 3 && !strcmp(name, tensor))
            strcpy(type, to);
    }
    if (f) fclose(f);
    return type;
}

/* Usage -----------------------------------------------------------------------------------------*/

static void cli_usage(void)
{
    static const char *const bad[] = {
        "", "a b", "a b Q4_K_M d", "a b Q9", "a b Q4_K_M --nonsense", "a b Q4_K_M --imatrix",
        "a b Q4_K_M --threads 0", "a b Q4_K_M --threads 65", "a b Q4_K_M --threads x",
        "a b Q4_K_M --threads -1", "a b Q4_K_M --effort most", "a b Q4_K_M --tensor-type x",
        "a b Q4_K_M --tensor-type =Q4_K", "a b Q4_K_M --tensor-type 'x=Q99'",
        "a b Q4_K_M --output-type Q4_K_M", "a b Q4_K_M --embedding-type=", "a b Q4_K_M --pure=1",
        "a b Q4_K_M --split-max-size 0", "a b Q4_K_M --split-max-size 5T",
        "a b Q4_K_M --split-max-size 99999999999G", "a b Q4_K_M --override-kv x",
        "a b Q4_K_M --override-kv x=int", "a b Q4_K_M --override-kv x=int:1.5",
        "a b Q4_K_M --override-kv x=u8:256", "a b Q4_K_M --override-kv x=i8:-129",
        "a b Q4_K_M --override-kv x=u8:-1", "a b Q4_K_M --override-kv x=bool:1",
        "a b Q4_K_M --override-kv x=float:abc", "a b Q4_K_M --override-kv =int:1",
        "a b Q4_K_M --override-kv x=int:99999999999999999999999", "a b Q4_K_M --override-kv x=z:1",
        "a b Q4_K_M --override-kv split.no=u16:1",
        "a b Q4_K_M --override-kv general.alignment=u32:8",
        "a b Q4_K_M --override-kv x=int:1 --override-kv x=int:2",
        "a b Q4_K_M --keep-split --split-max-size 1G"
    };
    size_t i;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(sh("build/quantize %s", bad[i]) == 1);
        CHECK(one_line(err_text) && !*out_text);
    }
    CHECK(sh("build/quantize --help") == 0 && strstr(out_text, "Q4_K_M") && !*err_text);
    CHECK(sh("build/quantize -h a b c") == 0);
    CHECK(sh("build/inspect --help") == 0 && strstr(out_text, "--json") && !*err_text);
    CHECK(sh("build/inspect") == 1 && one_line(err_text));
    CHECK(sh("build/inspect a b") == 1 && one_line(err_text));
    CHECK(sh("build/inspect a --ctx 0") == 1 && one_line(err_text));
    CHECK(sh("build/inspect a --ctx") == 1 && one_line(err_text));
    CHECK(sh("build/inspect --what a") == 1 && one_line(err_text));
    CHECK(sh("build/quantize --help >/dev/full") == 3);
    CHECK(sh("build/inspect " TINY " >/dev/full") == 3);
}

/* Against llama.cpp ----------------------------------------------------------------------------*/

/* All keys of the input but general.file_type, then the two of the quantizer. */
static void check_metadata(const quant_gguf *g, uint64_t ftype)
{
    quant_gguf in;
    uint64_t v = 0;
    size_t i, k = 0;
    CHECK(quant_gguf_open_file(&in, TINY, NULL, NULL) == QUANT_OK);
    CHECK(g->n_kv == in.n_kv + 1);
    for (i = 0; i < in.n_kv; i++) {
        const quant_kv *a = &in.kv[i], *b = &g->kv[k];
        if (a->key.n == 17 && !memcmp(a->key.p, "general.file_type", 17)) continue;
        CHECK(a->key.n == b->key.n && !memcmp(a->key.p, b->key.p, a->key.n));
        CHECK(a->type == b->type && a->raw_size == b->raw_size &&
              !memcmp(a->raw, b->raw, (size_t)a->raw_size));
        k++;
    }
    CHECK(k + 2 == g->n_kv);
    CHECK(!memcmp(g->kv[k].key.p, "general.quantization_version", 28));
    CHECK(quant_kv_u64(&g->kv[k], 0, &v) == QUANT_OK && v == 2 && g->kv[k].type == QUANT_KV_U32);
    CHECK(!memcmp(g->kv[k + 1].key.p, "general.file_type", 17));
    CHECK(quant_kv_u64(&g->kv[k + 1], 0, &v) == QUANT_OK && v == ftype);
    CHECK(g->kv[k + 1].type == QUANT_KV_U32 && g->alignment == 32);
    quant_gguf_close(&in);
}

static const char *mix_of(uint32_t ftype)
{
    size_t i;
    for (i = 0; quant_mix_get(i); i++)
        if (quant_mix_get(i)->file_type == ftype) return quant_mix_get(i)->name;
    return "?";
}

/* One file type: rows of the table begin at *line; *line moves to the next file type. */
static void check_golden(char **line, unsigned ftype)
{
    quant_gguf g;
    char *p = *line, name[128], type[16], hash[80], hex[80];
    unsigned row_type;
    size_t i = 0;
    int used;
    memset(&g, 0, sizeof g);
    CHECK(sh(QUANTIZE "--effort reference " TINY " " D "g.gguf %s", mix_of(ftype)) == 0);
    CHECK(!*err_text && !*out_text);
    CHECK(quant_gguf_open_file(&g, D "g.gguf", NULL, NULL) == QUANT_OK);
    check_metadata(&g, ftype);
    for (; sscanf(p, "%u %127s %15s %79s %*s%n", &row_type, name, type, hash, &used) == 4 &&
           row_type == ftype; i++) {
        p += used;
        test_note("%s %s", mix_of(ftype), name);
        REQUIRE(i < g.n_tensors);
        CHECK(g.tensors[i].name.n == strlen(name) &&
              !memcmp(g.tensors[i].name.p, name, strlen(name)));
        CHECK(!strcmp(quant_type_name(g.tensors[i].type), type));
        sha256(hex, (const uint8_t *)quant_gguf_data(&g, &g.tensors[i]),
               (size_t)g.tensors[i].size);
        CHECK(!strcmp(hex, hash));
    }
    CHECK(i == 39 && g.n_tensors == 39);
    quant_gguf_close(&g);
    *line = p;
}

static void cli_golden(void)
{
    size_t size, types = 0;
    uint8_t *table = test_file("tests/golden/tiny.tensors.tsv", &size);
    char *text, *line;
    unsigned ftype;
    REQUIRE(table);
    text = (char *)calloc(size + 1, 1);
    memcpy(text, table, size);
    free(table);
    line = strchr(text, '\n') + 1;
    for (; sscanf(line, "%u", &ftype) == 1; types++) check_golden(&line, ftype);
    CHECK(types == 17);
    free(text);
}

/* Options ---------------------------------------------------------------------------------------*/

static const char *planned(const char *options, const char *tensor)
{
    CHECK(sh("build/quantize --dry-run --report=" D "p.tsv %s " TINY " " D "none.gguf Q4_K_M",
             options) == 0);
    return report_type(D "p.tsv", tensor);
}

static void cli_types(void)
{
    static const char up[] = "blk.0.ffn_up.weight", out[] = "output.weight",
                      embd[] = "token_embd.weight";
    CHECK(!strcmp(planned("", up), "Q4_K"));
    CHECK(strstr(out_text, "bits per weight") && strstr(out_text, up));
    CHECK(!strcmp(planned("", out), "Q6_K"));
    CHECK(!strcmp(planned("", "blk.0.attn_norm.weight"), "F32"));
    CHECK(!strcmp(planned("--pure", out), "Q4_K"));
    CHECK(!strcmp(planned("--pure --output-type Q5_K", out), "Q5_K"));
    CHECK(!strcmp(planned("--output-type=q8_0", out), "Q8_0"));
    CHECK(!strcmp(planned("--embedding-type F16 --pure", embd), "F16"));
    CHECK(!strcmp(planned("--embedding-type BF16", embd), "BF16"));
    CHECK(!strcmp(planned("--tensor-type 'blk.?.ffn_up.*=Q8_0'", up), "Q8_0"));
    CHECK(!strcmp(planned("--tensor-type 'blk.?.ffn_up=Q8_0'", up), "Q4_K"));
    CHECK(!strcmp(planned("--tensor-type '*up*=Q5_0' --tensor-type 'blk*=Q8_0'", up), "Q5_0"));
    CHECK(!strcmp(planned("--tensor-type '*=Q5_1' --output-type Q8_0", out), "Q5_1"));
    CHECK(!strcmp(planned("--tensor-type '*.ffn_up.weight=F32'", up), "F32"));
    CHECK(!strcmp(planned("--tensor-type '*=Q8_0'", "blk.1.ffn_norm.weight"), "F32"));
    CHECK(sh("build/quantize --dry-run " TINY " Q4_0") == 0);           /* OUT left out          */
    CHECK(!exists(D "none.gguf") && no_temps());
    /* options anywhere, "--" ends them */
    CHECK(sh("build/quantize " TINY " --quiet " D "a.gguf --threads=2 -- Q8_0") == 0);
    CHECK(sh("cd " D " && ../../build/quantize --quiet -- ../../" TINY " -b.gguf Q8_0") == 0);
    CHECK(same_files(D "a.gguf", D "-b.gguf"));
    CHECK(sh("build/quantize --effort fast " TINY " " D "c.gguf Q8_0") == 0);
    CHECK(strstr(out_text, "bits per weight") && strstr(out_text, "blk.3.ffn_up.weight"));
    CHECK(sh(QUANTIZE "--effort best " TINY " " D "c.gguf Q8_0") == 0 && !*out_text);
    /* plain types: no mix */
    CHECK(sh(QUANTIZE TINY " " D "f32.gguf F32") == 0);
    CHECK(sh(QUANTIZE D "f32.gguf " D "f16.gguf F16") == 0);
    CHECK(sh(QUANTIZE TINY " " D "f16b.gguf F16") == 0);
    same_tensors(D "f16.gguf", D "f16b.gguf");
    CHECK(sh(QUANTIZE TINY " " D "bf16.gguf BF16") == 0);
    CHECK(sh(QUANTIZE D "f32.gguf " D "q1.gguf Q4_0") == 0);
    CHECK(sh(QUANTIZE TINY " " D "q2.gguf Q4_0") == 0);
    same_tensors(D "q1.gguf", D "q2.gguf");
    /* quantized already */
    CHECK(sh(QUANTIZE D "q1.gguf " D "q3.gguf Q8_0") == 0 && strstr(err_text, "already"));
    CHECK(sh(QUANTIZE D "q1.gguf " D "q3.gguf Q4_0") == 0 && !*err_text);
    same_tensors(D "q1.gguf", D "q3.gguf");
}

static void cli_threads(void)
{
    CHECK(sh(QUANTIZE "--threads 1 --report " D "r1 " TINY " " D "t1.gguf Q4_K_M") == 0);
    CHECK(sh(QUANTIZE "--threads 2 --report " D "r2 " TINY " " D "t2.gguf Q4_K_M") == 0);
    CHECK(sh(QUANTIZE "--threads 5 --report " D "r5 " TINY " " D "t5.gguf Q4_K_M") == 0);
    CHECK(same_files(D "t1.gguf", D "t2.gguf") && same_files(D "t1.gguf", D "t5.gguf"));
    CHECK(same_files(D "r1", D "r2") && same_files(D "r1", D "r5"));
}

static void cli_report(void)
{
    static const struct { const char *mix; double low, high; } expect[] = {
        { "Q8_0", 0.003, 0.008 }, { "Q6_K", 0.01, 0.03 }, { "Q4_K_S", 0.05, 0.09 },
        { "Q4_0", 0.07, 0.13 }
    };
    size_t i;
    for (i = 0; i < sizeof expect / sizeof *expect; i++) {
        char line[1000], name[100], shape[50], from[20], to[20];
        unsigned long bytes, n = 0;
        double error;
        FILE *f;
        CHECK(sh(QUANTIZE "--pure --report " D "e.tsv " TINY " " D "e.gguf %s",
                 expect[i].mix) == 0);
        f = fopen(D "e.tsv", "r");
        REQUIRE(f);
        CHECK(fgets(line, sizeof line, f) &&
              !strcmp(line, "name\tshape\tfrom\tto\tbytes\terror\n"));
        for (; fgets(line, sizeof line, f); n++) {
            test_note("%s", line);
            CHECK(sscanf(line, "%99[^\t]\t%49[^\t]\t%19[^\t]\t%19[^\t]\t%lu\t%lf\n", name, shape,
                         from, to, &bytes, &error) == 6);
            CHECK(bytes >= 1024 && shape[0] >= '1');
            if (!strcmp(from, to)) CHECK(error == 0);
            else CHECK(error > expect[i].low && error < expect[i].high);
        }
        fclose(f);
        CHECK(n == 39);
    }
}

static void cli_override(void)
{
    quant_gguf g;
    const quant_kv *kv;
    quant_str s = { "", 0 };
    double d = 0;
    int64_t n = 0;
    uint64_t u = 0;
    CHECK(sh(QUANTIZE TINY " " D "o.gguf Q8_0 --override-kv general.name=str:'a b=c:d' "
             "--override-kv llama.context_length=int:1024 --override-kv x.neg=int:-5 "
             "--override-kv x.big=int:18446744073709551615 --override-kv x.flag=bool:true "
             "--override-kv x.f=float:0.5 --override-kv x.d=f64:0.25 --override-kv x.u8=u8:255 "
             "--override-kv x.i16=i16:-32768 --override-kv general.file_type=u32:1000") == 0);
    REQUIRE(quant_gguf_open_file(&g, D "o.gguf", NULL, NULL) == QUANT_OK);
    CHECK(quant_gguf_get_str(&g, "general.name", &s) == QUANT_OK && s.n == 7 &&
          !memcmp(s.p, "a b=c:d", 7));
    CHECK(quant_gguf_find(&g, "general.name") == &g.kv[2]);             /* in its place          */
    kv = quant_gguf_find(&g, "llama.context_length");
    CHECK(kv && kv->type == QUANT_KV_U32 && quant_kv_u64(kv, 0, &u) == QUANT_OK && u == 1024);
    kv = quant_gguf_find(&g, "x.neg");
    CHECK(kv && kv->type == QUANT_KV_I64 && quant_kv_i64(kv, 0, &n) == QUANT_OK && n == -5);
    kv = quant_gguf_find(&g, "x.big");
    CHECK(kv && kv->type == QUANT_KV_U64 && quant_kv_u64(kv, 0, &u) == QUANT_OK && u == UINT64_MAX);
    kv = quant_gguf_find(&g, "x.flag");
    CHECK(kv && kv->type == QUANT_KV_BOOL && kv->raw[0] == 1);
    kv = quant_gguf_find(&g, "x.f");
    CHECK(kv && kv->type == QUANT_KV_F32 && quant_kv_f64(kv, 0, &d) == QUANT_OK && d == 0.5);
    kv = quant_gguf_find(&g, "x.d");
    CHECK(kv && kv->type == QUANT_KV_F64 && quant_kv_f64(kv, 0, &d) == QUANT_OK && d == 0.25);
    kv = quant_gguf_find(&g, "x.u8");
    CHECK(kv && kv->type == QUANT_KV_U8 && kv->raw[0] == 255);
    kv = quant_gguf_find(&g, "x.i16");
    CHECK(kv && kv->type == QUANT_KV_I16 && quant_kv_i64(kv, 0, &n) == QUANT_OK && n == -32768);
    CHECK(quant_gguf_get_u64(&g, "general.file_type", &u) == QUANT_OK && u == 1000);
    CHECK(g.n_kv == 24 + 1 + 7);
    quant_gguf_close(&g);
}

/* Shapes and importance -------------------------------------------------------------------------*/

static void make_layout(const char *path)
{
    maker m;
    make_begin(&m, path);
    make_tensor(&m, "blk.0.ffn_up.weight", QUANT_F32, 600064, 2, 1);    /* rows in pieces        */
    make_tensor(&m, "blk.0.ffn_gate_exps.weight", QUANT_F32, 256, 100, 3);
    make_tensor(&m, "blk.0.attn_q.weight", QUANT_F32, 32, 5, 1);
    make_tensor(&m, "blk.0.ffn_down.weight", QUANT_F32, 96, 7, 1);
    make_tensor(&m, "blk.0.attn_k.weight", QUANT_F32, 100, 3, 1);
    CHECK(quant_gguf_header(&m.o) == QUANT_OK);
    make_normal(&m, 600064 * 2 + 256 * 300 + 32 * 5 + 96 * 7 + 300, 0.02, 5);
    make_end(&m);
}

/* Importance for the first three; the third matrix of the experts saw nothing. */
static void make_importance(const char *path, uint64_t q_cols)
{
    static const uint8_t counts[4 * 5] = { 0, 0, 128, 63, 0, 0, 128, 63, 0, 0, 128, 63, 0, 0, 0, 0,
                                           0, 0, 128, 63 };             /* 1 1 1 0 1             */
    quant_str set = { "some.txt", 8 };
    uint64_t seed = 9, i, one = 1, three[2] = { 1, 3 };
    maker m;
    make_begin(&m, path);
    CHECK(quant_gguf_put_str(&m.o, "general.type", "imatrix") == QUANT_OK);
    CHECK(quant_gguf_put_array(&m.o, "imatrix.datasets", QUANT_KV_STR, &set, 1) == QUANT_OK);
    CHECK(quant_gguf_put_u32(&m.o, "imatrix.chunk_count", 7) == QUANT_OK);
    CHECK(quant_gguf_put_u32(&m.o, "imatrix.chunk_size", 512) == QUANT_OK);
    make_tensor(&m, "blk.0.ffn_up.weight.in_sum2", QUANT_F32, 600064, 1, 1);
    make_tensor(&m, "blk.0.ffn_gate_exps.weight.in_sum2", QUANT_F32, 256, 3, 1);
    make_tensor(&m, "blk.0.attn_q.weight.in_sum2", QUANT_F32, q_cols, 1, 1);
    CHECK(quant_gguf_put_tensor(&m.o, "blk.0.ffn_up.weight.counts", QUANT_F32, &one, 1) == 0);
    CHECK(quant_gguf_put_tensor(&m.o, "blk.0.ffn_gate_exps.weight.counts", QUANT_F32, three, 2)
          == QUANT_OK);
    CHECK(quant_gguf_put_tensor(&m.o, "blk.0.attn_q.weight.counts", QUANT_F32, &one, 1) == 0);
    CHECK(quant_gguf_header(&m.o) == QUANT_OK);
    for (i = 0; i < 600064 + 768 + q_cols; i++) {
        float x = (float)exp(test_normal(&seed));
        quant_gguf_write(&m.o, &x, 4);                  /* tests run on little-endian machines   */
    }
    quant_gguf_write(&m.o, counts, sizeof counts);
    make_end(&m);
}

/* Every tensor of `out` is what one call of the encoder a matrix gives. */
static void check_encoded(const char *in, const char *out, const quant_imatrix *im)
{
    quant_gguf a, b;
    size_t i;
    CHECK(quant_gguf_open_file(&a, in, NULL, NULL) == QUANT_OK);
    CHECK(quant_gguf_open_file(&b, out, NULL, NULL) == QUANT_OK);
    CHECK(a.n_tensors == b.n_tensors);
    for (i = 0; i < a.n_tensors; i++) {
        const quant_tensor *t = &a.tensors[i], *u;
        char name[100];
        size_t rows = (size_t)t->ne[1], cols = (size_t)t->ne[0], m;
        uint8_t *want;
        quant_encoder e;
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
        u = quant_gguf_find_tensor(&b, name);
        REQUIRE(u);
        test_note("%s %s", name, quant_type_name(u->type));
        want = (uint8_t *)malloc((size_t)u->size);
        CHECK(quant_encoder_init(&e, u->type, QUANT_EFFORT_REFERENCE, NULL, 0) == QUANT_OK);
        for (m = 0; m < t->ne[2]; m++) {
            const float *w = NULL;
            if (im) CHECK(quant_imatrix_find(im, &w, t->name, cols, m, t->ne[2]) == QUANT_OK);
            CHECK(quant_from_f32(&e, want + m * rows * quant_row_size(u->type, cols),
                                 (const float *)quant_gguf_data(&a, t) + m * rows * cols, rows,
                                 cols, w, NULL) == QUANT_OK);
        }
        CHECK(!memcmp(want, quant_gguf_data(&b, u), (size_t)u->size));
        free(want);
    }
    quant_gguf_close(&a);
    quant_gguf_close(&b);
}

static void cli_shapes(void)
{
    static const char *const mixes[] = { "Q4_0", "Q8_0", "BF16" };
    size_t i;
    make_layout(D "l.gguf");
    for (i = 0; i < 3; i++) {
        CHECK(sh(QUANTIZE "--threads 3 --pure " D "l.gguf " D "lo.gguf %s", mixes[i]) == 0);
        check_encoded(D "l.gguf", D "lo.gguf", NULL);
    }
    CHECK(sh(QUANTIZE "--pure " D "l.gguf " D "lo.gguf Q8_0") == 0);
    CHECK(strstr(err_text, "blk.0.attn_k.weight: rows of 100 do not fit Q8_0, takes F16"));
    CHECK(sh("build/quantize --pure --dry-run --report " D "f.tsv " D "l.gguf Q4_K_M") == 0);
    CHECK(strstr(out_text, "3 fallbacks"));
    CHECK(!strcmp(report_type(D "f.tsv", "blk.0.ffn_down.weight"), "Q5_0"));
    CHECK(!strcmp(report_type(D "f.tsv", "blk.0.attn_k.weight"), "F16"));
    CHECK(sh(QUANTIZE "--no-fallback " D "l.gguf " D "x.gguf Q4_K_M") == 4);
    CHECK(strstr(err_text, "leave out --no-fallback") && !exists(D "x.gguf") && no_temps());
    CHECK(sh(QUANTIZE "--no-fallback --tensor-type '*.attn_?.weight=F16' --tensor-type '*down*=F16'"
             " " D "l.gguf " D "x.gguf Q4_K_M") == 0);
}

static void put_be(FILE *f, uint64_t v, int bytes)
{
    while (bytes--) fputc((int)(v >> 8 * bytes & 255), f);
}

/* The same model in both byte orders gives the same output, copied tensors included. */
static void cli_big_endian(void)
{
    static const char *const names[] = { "blk.0.ffn_up.weight", "blk.0.ffn_norm.weight" };
    FILE *f = fopen(D "be.gguf", "wb");
    uint64_t seed = 4;
    maker m;
    int i;
    REQUIRE(f);
    fputs("GGUF", f);
    put_be(f, 3, 4);
    put_be(f, 2, 8);
    put_be(f, 1, 8);
    put_be(f, 20, 8);
    fputs("general.architecture", f);
    put_be(f, QUANT_KV_STR, 4);
    put_be(f, 5, 8);
    fputs("llama", f);
    for (i = 0; i < 2; i++) {
        put_be(f, strlen(names[i]), 8);
        fputs(names[i], f);
        put_be(f, i ? 1 : 2, 4);
        put_be(f, 64, 8);
        if (!i) put_be(f, 100, 8);
        put_be(f, QUANT_F32, 4);
        put_be(f, i ? 25600 : 0, 8);
    }
    while (ftell(f) % 32) fputc(0, f);
    for (i = 0; i < 6464; i++) {
        float x = (float)(0.02 * test_normal(&seed));
        uint32_t u;
        memcpy(&u, &x, 4);
        put_be(f, u, 4);
    }
    CHECK(fclose(f) == 0);
    make_begin(&m, D "le.gguf");
    make_tensor(&m, names[0], QUANT_F32, 64, 100, 1);
    make_tensor(&m, names[1], QUANT_F32, 64, 1, 1);
    CHECK(quant_gguf_header(&m.o) == QUANT_OK);
    make_normal(&m, 6464, 0.02, 4);
    make_end(&m);
    CHECK(sh(QUANTIZE D "be.gguf " D "b.gguf Q4_0") == 0);
    CHECK(sh(QUANTIZE D "le.gguf " D "l.gguf Q4_0") == 0);
    CHECK(same_files(D "b.gguf", D "l.gguf"));
    CHECK(sh("build/inspect " D "be.gguf") == 0 && strstr(out_text, "big-endian"));
}

static void cli_imatrix(void)
{
    quant_imatrix im;
    quant_gguf g;
    quant_str s = { "", 0 };
    uint64_t u = 0;
    make_layout(D "l.gguf");
    make_importance(D "im.gguf", 32);
    make_importance(D "bad.gguf", 64);
    REQUIRE(quant_imatrix_open_file(&im, D "im.gguf", NULL, NULL) == QUANT_OK);
    CHECK(sh(QUANTIZE "--threads 2 --pure --imatrix " D "im.gguf " D "l.gguf " D "i.gguf Q4_0")
          == 0);
    CHECK(strstr(err_text, "no importance for 1 tensors: blk.0.ffn_down.weight"));
    CHECK(strstr(err_text, "1 matrices of 1 tensors (blk.0.ffn_gate_exps.weight)"));
    check_encoded(D "l.gguf", D "i.gguf", &im);
    REQUIRE(quant_gguf_open_file(&g, D "i.gguf", NULL, NULL) == QUANT_OK);
    CHECK(g.n_kv == 1 + 2 + 4);
    CHECK(quant_gguf_get_str(&g, "quantize.imatrix.file", &s) == QUANT_OK &&
          s.n == strlen(D "im.gguf"));
    CHECK(quant_gguf_get_str(&g, "quantize.imatrix.dataset", &s) == QUANT_OK && s.n == 8);
    CHECK(quant_gguf_get_u64(&g, "quantize.imatrix.entries_count", &u) == QUANT_OK && u == 3);
    CHECK(quant_gguf_get_u64(&g, "quantize.imatrix.chunks_count", &u) == QUANT_OK && u == 7);
    CHECK(quant_gguf_find(&g, "general.file_type") == &g.kv[2]);
    quant_gguf_close(&g);
    quant_imatrix_close(&im);
    CHECK(sh(QUANTIZE "--imatrix " D "im.gguf --override-kv quantize.imatrix.file=str:x " D
             "l.gguf " D "i.gguf Q8_0") == 0);
    CHECK(sh(QUANTIZE "--imatrix " D "bad.gguf " D "l.gguf " D "x.gguf Q4_0") == 2);
    CHECK(strstr(err_text, "blk.0.attn_q.weight: the importance in"));
    refused(2, "none.dat", QUANTIZE "--imatrix " D "none.dat " TINY " " D "x.gguf Q4_0");
    refused(2, "gguf: ", QUANTIZE "--imatrix " TINY " " TINY " " D "x.gguf Q4_0");
    CHECK(sh(QUANTIZE "--imatrix " D "im.gguf " D "l.gguf " D "im.gguf Q4_0") == 1);
    CHECK(strstr(err_text, "is the importance file"));
    refused(4, "--imatrix", QUANTIZE TINY " " D "x.gguf Q2_K_S");
    CHECK(!exists(D "x.gguf") && no_temps());
}

static double scaled_error(const quant_gguf *in, const quant_gguf *out, const char *name,
                           const char *scale)
{
    const quant_tensor *t = quant_gguf_find_tensor(in, name), *u, *s;
    size_t n, m, i;
    double err2 = 0, ref2 = 0;
    float *y;
    u = quant_gguf_find_tensor(out, name);
    s = scale ? quant_gguf_find_tensor(out, scale) : NULL;
    if (!t || !u || u->type != QUANT_NVFP4 || (scale && !s)) return 99;
    if (s && (s->type != QUANT_F32 || s->n_dims != 1 || s->ne[0] != t->ne[2])) return 98;
    if (s && s != u + 1) return 97;                     /* directly after the weight             */
    n = (size_t)(t->ne[0] * t->ne[1]);
    y = (float *)malloc(n * 4);
    for (m = 0; m < t->ne[2]; m++) {
        const float *x = (const float *)quant_gguf_data(in, t) + m * n;
        float f = s ? ((const float *)quant_gguf_data(out, s))[m] : 1;
        quant_to_f32(u->type, y, (const uint8_t *)quant_gguf_data(out, u) + m * (n / 64 * 36),
                     (size_t)t->ne[1], (size_t)t->ne[0]);
        for (i = 0; i < n; i++) {
            err2 += ((double)x[i] - (double)f * y[i]) * ((double)x[i] - (double)f * y[i]);
            ref2 += (double)x[i] * x[i];
        }
    }
    free(y);
    return sqrt(err2 / ref2);
}

static void cli_nvfp4(void)
{
    quant_gguf in, out;
    maker m;
    make_begin(&m, D "n.gguf");
    make_tensor(&m, "token_embd.weight", QUANT_F32, 128, 64, 1);
    make_tensor(&m, "blk.0.ffn_up.weight", QUANT_F32, 512, 300, 1);
    make_tensor(&m, "blk.0.ffn_up_exps.weight", QUANT_F32, 64, 33, 5);
    make_tensor(&m, "blk.1.ffn_up.weight", QUANT_F32, 64, 2, 1);
    CHECK(quant_gguf_header(&m.o) == QUANT_OK);
    make_normal(&m, 128 * 64, 1, 1);
    make_normal(&m, 512 * 300, 0.001, 2);
    make_normal(&m, 64 * 33 * 3, 1e-6, 3);
    make_normal(&m, 64 * 33 * 2, 100, 4);
    make_normal(&m, 128, 0, 4);                         /* all zero: scale 1                     */
    make_end(&m);
    CHECK(sh(QUANTIZE "--pure --report " D "n.tsv --threads 2 " D "n.gguf " D "no.gguf NVFP4")
          == 0);
    CHECK(sh(QUANTIZE "--pure --threads 5 " D "n.gguf " D "no5.gguf NVFP4") == 0);
    CHECK(same_files(D "no.gguf", D "no5.gguf"));
    REQUIRE(quant_gguf_open_file(&in, D "n.gguf", NULL, NULL) == QUANT_OK);
    REQUIRE(quant_gguf_open_file(&out, D "no.gguf", NULL, NULL) == QUANT_OK);
    CHECK(out.n_tensors == 4 + 3);
    CHECK(scaled_error(&in, &out, "token_embd.weight", NULL) < 0.12);
    CHECK(scaled_error(&in, &out, "blk.0.ffn_up.weight", "blk.0.ffn_up.scale") < 0.12);
    CHECK(scaled_error(&in, &out, "blk.0.ffn_up_exps.weight", "blk.0.ffn_up_exps.scale") < 0.12);
    quant_gguf_close(&in);
    quant_gguf_close(&out);
    /* the scales stay when the weights take another type; a second set has no place */
    CHECK(sh(QUANTIZE D "no.gguf " D "nq.gguf Q8_0") == 0 && strstr(err_text, "already"));
    CHECK(sh(QUANTIZE "--tensor-type '*.0.ffn_up.weight=NVFP4' " D "nq.gguf " D "x.gguf Q8_0")
          == 4);
    CHECK(strstr(err_text, "blk.0.ffn_up.scale already"));
    CHECK(!exists(D "x.gguf"));
}

/* Splits ----------------------------------------------------------------------------------------*/

static void cli_split(void)
{
    quant_gguf shards[64];
    quant_set set;
    uint32_t n, i, count;
    char name[200];
    CHECK(sh(QUANTIZE TINY " " D "whole.gguf Q8_0") == 0);
    CHECK(sh(QUANTIZE "--split-max-size 1M " TINY " " D "s.gguf Q8_0") == 0);
    for (count = 2; count < 64; count++) {
        quant_split_name(name, sizeof name, D "s", 0, count);
        if (exists(name)) break;
    }
    REQUIRE(count < 64 && count >= 4);
    for (i = n = 0; i < count; i++) {
        uint64_t no = 99, all = 0;
        quant_split_name(name, sizeof name, D "s", i, count);
        REQUIRE(quant_gguf_open_file(&shards[i], name, NULL, NULL) == QUANT_OK);
        CHECK(shards[i].file_size <= 1000000);
        CHECK(quant_gguf_get_u64(&shards[i], "split.no", &no) == QUANT_OK && no == i);
        CHECK(quant_gguf_get_u64(&shards[i], "split.tensors.count", &all) == 0 && all == 39);
        CHECK(quant_gguf_find(&shards[i], "split.count")->type == QUANT_KV_U16);
        CHECK(quant_gguf_find(&shards[i], "split.tensors.count")->type == QUANT_KV_I32);
        CHECK(i == 0 || shards[i].n_kv == 3);
        n += (uint32_t)shards[i].n_tensors;
    }
    CHECK(n == 39 && !exists(D "s.gguf"));
    CHECK(quant_set_init(&set, shards, count, NULL) == QUANT_OK && set.n_tensors == 39);
    quant_set_free(&set);
    for (i = 0; i < count; i++) quant_gguf_close(&shards[i]);
    /* any shard stands for all */
    CHECK(sh(QUANTIZE "%s " D "again.gguf Q8_0", name) == 0);
    CHECK(same_files(D "whole.gguf", D "again.gguf"));
    CHECK(sh("build/inspect --json %s", name) == 0 && strstr(out_text, "\"tensors\": 39"));
    CHECK(sh("build/inspect --tensors %s", name) == 0 && strstr(out_text, "shards"));
    /* the same shards again, in other types */
    CHECK(sh(QUANTIZE "--keep-split %s " D "k.gguf Q4_0", name) == 0);
    for (i = 0; i < count; i++) {
        quant_gguf a, b;
        quant_split_name(name, sizeof name, D "s", i, count);
        CHECK(quant_gguf_open_file(&a, name, NULL, NULL) == QUANT_OK);
        quant_split_name(name, sizeof name, D "k", i, count);
        CHECK(quant_gguf_open_file(&b, name, NULL, NULL) == QUANT_OK);
        CHECK(a.n_tensors == b.n_tensors);
        CHECK(!memcmp(a.tensors[0].name.p, b.tensors[0].name.p, b.tensors[0].name.n));
        quant_gguf_close(&a);
        quant_gguf_close(&b);
    }
    CHECK(sh(QUANTIZE "%s " D "k1.gguf Q8_0", name) == 0);
    CHECK(sh(QUANTIZE "--keep-split " TINY " " D "k2.gguf Q8_0") == 0);    /* one file stays one */
    CHECK(sh("build/inspect " D "k2.gguf") == 0 && strstr(out_text, "1 file\n"));
    /* over itself, and with a shard missing */
    CHECK(sh(QUANTIZE "--keep-split %s " D "k.gguf Q4_0", name) == 1 && one_line(err_text));
    CHECK(sh(QUANTIZE "--split-max-size 500M " TINY " " D "one.gguf Q8_0") == 0);
    CHECK(sh(QUANTIZE D "one-00001-of-00001.gguf " D "one.gguf Q8_0") == 0);
    CHECK(same_files(D "whole.gguf", D "one.gguf"));
    unlink(name);
    quant_split_name(name, sizeof name, D "k", 0, count);
    CHECK(sh(QUANTIZE "%s " D "k1.gguf Q8_0", name) == 2 && one_line(err_text));
    CHECK(sh("build/inspect %s", name) == 2 && one_line(err_text));
    CHECK(sh("mv %s " D "renamed.gguf; build/inspect " D "renamed.gguf", name) == 2);
    CHECK(one_line(err_text) && no_temps());
}

/* Failures --------------------------------------------------------------------------------------*/

static void cli_same_file(void)
{
    CHECK(sh("cp " TINY " " D "in.gguf; ln -s in.gguf " D "sym.gguf; ln " D "in.gguf " D
             "hard.gguf; mkdir -p " D "dir.gguf; ln -s . " D "loop") == 0);
    refused(1, "is the input itself", QUANTIZE D "in.gguf " D "in.gguf Q8_0");
    refused(1, "is the input itself", QUANTIZE D "in.gguf ./" D "/in.gguf Q8_0");
    refused(1, "is the input itself", QUANTIZE D "in.gguf " D "sym.gguf Q8_0");
    refused(1, "is the input itself", QUANTIZE D "sym.gguf " D "in.gguf Q8_0");
    refused(1, "is the input itself", QUANTIZE D "in.gguf " D "hard.gguf Q8_0");
    refused(1, "is the input itself", QUANTIZE D "in.gguf " D "loop/in.gguf Q8_0");
    refused(1, "is the input itself", QUANTIZE "--report " D "in.gguf " D "in.gguf " D "x Q8_0");
    refused(1, "is the output, too", QUANTIZE "--report " D "x " D "in.gguf " D "x Q8_0");
    refused(3, "not a regular file", QUANTIZE D "in.gguf " D "dir.gguf Q8_0");
    refused(3, "not a regular file", QUANTIZE D "in.gguf /dev/null Q8_0");
    CHECK(same_files(TINY, D "in.gguf") && no_temps() && !exists(D "x"));
}

static void cli_bad_input(void)
{
    static const char *const cuts[] = { "0", "3", "24", "1000", "100000", "6574848" };
    size_t i;
    char line[500];
    CHECK(sh("echo precious > " D "out.gguf; cp " D "out.gguf " D "was") == 0);
    for (i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        snprintf(line, sizeof line, "head -c %s " TINY " > " D "cut.gguf; " QUANTIZE D "cut.gguf " D
                 "out.gguf Q4_0", cuts[i]);
        refused(2, "cut.gguf: ", line);
        refused(2, "cut.gguf: ", "build/inspect " D "cut.gguf");
        refused(2, "cut.gguf: ", "build/inspect --json " D "cut.gguf");
    }
    for (i = 0; i < 1500; i += 97) {    /* a byte of the header changed: any answer but a crash  */
        CHECK(sh("cp " TINY " " D "cut.gguf; printf '\\377' | dd of=" D "cut.gguf bs=1 seek=%zu "
                 "conv=notrunc 2>/dev/null; build/inspect --json " D "cut.gguf", i) <= 2);
        CHECK(sh("build/quantize --dry-run " D "cut.gguf Q4_0") <= 4);
    }
    refused(2, "none.gguf: No such file", QUANTIZE D "none.gguf " D "out.gguf Q4_0");
    refused(2, "not a regular file", QUANTIZE "build " D "out.gguf Q4_0");
    refused(2, "not a regular file", QUANTIZE "/dev/zero " D "out.gguf Q4_0");
    CHECK(same_files(D "out.gguf", D "was") && no_temps());
}

/* Puts a tensor's type into a copy of the tiny model. */
static void patch_type(const char *path, const char *tensor, uint8_t type)
{
    size_t size, i, n = strlen(tensor);
    uint8_t *p = test_file(TINY, &size);
    FILE *f = fopen(path, "wb");
    REQUIRE(p && f);
    for (i = 0; i + n < size && memcmp(p + i, tensor, n) != 0; i++) { }
    p[i + n + 4 + 2 * 8] = type;        /* after the name: number of dims, two dims              */
    CHECK(fwrite(p, 1, size, f) == size && fclose(f) == 0);
    free(p);
}

static void cli_types_unknown(void)
{
    maker m;
    uint8_t ints[4 * 64 * 3] = { 0 };
    patch_type(D "u.gguf", "blk.0.attn_q.weight", 77);
    refused(2, "blk.0.attn_q.weight: type 77", QUANTIZE D "u.gguf " D "x.gguf Q4_0");
    CHECK(sh("build/inspect --tensors " D "u.gguf") == 0 && strstr(out_text, "type 77"));
    patch_type(D "u.gguf", "blk.0.attn_q.weight", 4);
    refused(2, "blk.0.attn_q.weight: type 4", QUANTIZE D "u.gguf " D "x.gguf Q4_0");
    CHECK(sh("build/inspect --json --tensors " D "u.gguf") == 0);
    CHECK(!exists(D "x.gguf"));
    make_begin(&m, D "i32.gguf");
    make_tensor(&m, "blk.0.ffn_up.weight", QUANT_I32, 64, 3, 1);
    make_tensor(&m, "blk.0.ffn_down.weight", QUANT_F32, 64, 3, 1);
    CHECK(quant_gguf_header(&m.o) == QUANT_OK);
    quant_gguf_write(&m.o, ints, sizeof ints);
    make_normal(&m, 64 * 3, 1, 1);
    make_end(&m);
    CHECK(sh(QUANTIZE "--report " D "i.tsv " D "i32.gguf " D "io.gguf Q4_0") == 0);
    CHECK(strstr(err_text, "blk.0.ffn_up.weight: I32 cannot be decoded, copied as it is"));
    CHECK(!strcmp(report_type(D "i.tsv", "blk.0.ffn_up.weight"), "I32"));
    CHECK(!strcmp(report_type(D "i.tsv", "blk.0.ffn_down.weight"), "Q4_0"));
}

static void cli_not_finite(void)
{
    static const struct { const char *command; int code; } runs[] = {
        { QUANTIZE D "nan.gguf " D "x.gguf Q4_0", 2 },
        { QUANTIZE D "nan.gguf " D "x.gguf Q8_0", 2 },
        { QUANTIZE "--pure --threads 5 " D "nan.gguf " D "x.gguf NVFP4", 2 },
        { QUANTIZE D "nan.gguf " D "f16.gguf F16", 0 },
        { QUANTIZE D "f16.gguf " D "x.gguf Q8_0", 2 }
    };
    static const uint8_t nan[4] = { 0, 0, 192, 127 };
    maker m;
    size_t i;
    make_begin(&m, D "nan.gguf");
    make_tensor(&m, "blk.0.ffn_up.weight", QUANT_F32, 512, 300, 1);
    CHECK(quant_gguf_header(&m.o) == QUANT_OK);
    make_normal(&m, 201 * 512 + 77, 1, 1);
    quant_gguf_write(&m.o, nan, 4);                     /* row 201, column 77                    */
    make_normal(&m, 512 * 300 - 201 * 512 - 79, 1, 1);
    quant_gguf_write(&m.o, nan, 4);                     /* and the last one                      */
    make_end(&m);
    for (i = 0; i < sizeof runs / sizeof *runs; i++) {
        if (runs[i].code) refused(2, "blk.0.ffn_up.weight: row 201, column 77", runs[i].command);
        else CHECK(sh("%s", runs[i].command) == 0);
    }
    CHECK(!exists(D "x.gguf") && no_temps());
}

static void cli_bad_output(void)
{
    CHECK(sh("echo precious > " D "out.gguf; cp " D "out.gguf " D "was") == 0);
    refused(3, "No such file", QUANTIZE TINY " " D "nowhere/out.gguf Q8_0");
    refused(3, "Not a directory", QUANTIZE TINY " " D "was/out.gguf Q8_0");
    refused(3, "ulimit -f", "ulimit -f 200; " QUANTIZE TINY " " D "out.gguf Q8_0");
    refused(3, "ulimit -f", "ulimit -f 600; " QUANTIZE "--split-max-size 1M " TINY " " D
            "full.gguf Q8_0");
    refused(3, "report", QUANTIZE "--report /dev/full " TINY " " D "out.gguf Q8_0");
    refused(3, "No such file", QUANTIZE "--report " D "nowhere/r " TINY " " D "out.gguf Q8_0");
    if (geteuid() != 0) {
        CHECK(sh("mkdir " D "locked; chmod 555 " D "locked") == 0);
        refused(3, "Permission denied", QUANTIZE TINY " " D "locked/out.gguf Q8_0");
    }
    CHECK(same_files(D "out.gguf", D "was") && no_temps());
    CHECK(sh("ls " D "full*") != 0);
    CHECK(sh("umask 027; " QUANTIZE TINY " " D "out.gguf Q8_0; ls -l " D "out.gguf") == 0);
    CHECK(!strncmp(out_text, "-rw-r-----", 10));
    CHECK(!same_files(D "out.gguf", D "was") && no_temps());
}

/* Starts build/quantize without a shell, sends a signal (0: none) once it writes, and waits. */
static int run_signal(const char *out, int number)
{
    int status;
    pid_t pid = fork();
    struct timespec t = { 0, 2000000 };
    char temp[200];
    int tries;
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        dup2(null, 2);
        if (number) signal(number, SIG_DFL);    /* a run in the background ignores SIGINT       */
        execl("build/quantize", "quantize", "--threads", "2", D "sparse.gguf", out, "Q4_0",
              (char *)NULL);
        _exit(99);
    }
    snprintf(temp, sizeof temp, "%s.tmp-%ld", out, (long)pid);
    for (tries = 0; number && tries < 5000 && !exists(temp); tries++) nanosleep(&t, NULL);
    t.tv_nsec = 50000000;
    if (number) { nanosleep(&t, NULL); kill(pid, number); }
    if (waitpid(pid, &status, 0) != pid) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void cli_signals(void)
{
    make_sparse(D "sparse.gguf", 262144);               /* 2 GiB of holes: a second and more     */
    CHECK(run_signal(D "sig.gguf", SIGINT) == 130);
    CHECK(run_signal(D "sig.gguf", SIGTERM) == 130);
    CHECK(run_signal(D "sig.gguf", SIGHUP) == 130);
    CHECK(!exists(D "sig.gguf") && no_temps());
    CHECK(run_signal(D "sig.gguf", SIGKILL) == 1000 + SIGKILL);
    CHECK(!exists(D "sig.gguf") && !no_temps());        /* a temporary may stay, OUT may not be  */
    CHECK(sh("rm -f " D "*.tmp-*; truncate -s 1000000000 " D "sparse.gguf; " QUANTIZE D
             "sparse.gguf " D "sig.gguf Q4_0") == 2);
    CHECK(one_line(err_text) && strstr(err_text, "needs"));
    unlink(D "sparse.gguf");
}

static void cli_memory(void)
{
    struct rusage u;
    int full = getenv("QUANT_TEST_LONG") != NULL;
#ifdef SANITIZED
    test_skip("resident memory means nothing under a sanitizer");
    return;
#endif
    make_sparse(D "sparse.gguf", full ? 262144 : 36864);        /* 2 GiB or 300 MB               */
    CHECK(run_signal(D "m.gguf", 0) == 0);
    CHECK(getrusage(RUSAGE_CHILDREN, &u) == 0);         /* of the largest child so far           */
    test_note("%ld KiB", u.ru_maxrss);
    CHECK(u.ru_maxrss <= 65536 && u.ru_maxrss > 500);
    unlink(D "sparse.gguf");
    unlink(D "m.gguf");
}

/* Inspect ---------------------------------------------------------------------------------------*/

/* A checker for JSON (RFC 8259) that moves *p behind one value; 0 if there is none. */
static int json_value(const char **p, int depth);

static void json_space(const char **p)
{
    while (**p == ' ' || **p == '\n' || **p == '\t' || **p == '\r') ++*p;
}

static int json_string(const char **p)
{
    if (*(*p)++ != '"') return 0;
    for (;; ++*p) {
        uint8_t c = (uint8_t)**p, n = c < 0x80 ? 0 : c < 0xc2 ? 9 : c < 0xe0 ? 1 : c < 0xf0 ? 2 :
                                      c < 0xf5 ? 3 : 9;
        if (c == '"') { ++*p; return 1; }
        if (c < 32 || n == 9) return 0;
        for (; n; n--) if (((uint8_t)*++*p & 0xc0) != 0x80) return 0;
        if (c != '\\') continue;
        c = (uint8_t)*++*p;
        if (c == 'u') {
            if (strspn(*p + 1, "0123456789abcdefABCDEF") < 4) return 0;
            *p += 4;
        } else if (!c || !strchr("\"\\/bfnrt", c)) {
            return 0;
        }
    }
}

static int json_digits(const char **p)
{
    size_t n = strspn(*p, "0123456789");
    *p += n;
    return n > 0;
}

static int json_numeral(const char **p)
{
    if (**p == '-') ++*p;
    if (**p == '0') ++*p;
    else if (!json_digits(p)) return 0;
    if (**p == '.') { ++*p; if (!json_digits(p)) return 0; }
    if (**p == 'e' || **p == 'E') {
        ++*p;
        if (**p == '+' || **p == '-') ++*p;
        if (!json_digits(p)) return 0;
    }
    return 1;
}

static int json_members(const char **p, char close, int depth)
{
    ++*p;
    json_space(p);
    if (**p == close) { ++*p; return 1; }
    for (;;) {
        json_space(p);
        if (close == '}') {
            if (!json_string(p)) return 0;
            json_space(p);
            if (*(*p)++ != ':') return 0;
        }
        if (!json_value(p, depth + 1)) return 0;
        json_space(p);
        if (**p == close) { ++*p; return 1; }
        if (*(*p)++ != ',') return 0;
    }
}

static int json_value(const char **p, int depth)
{
    static const char *const words[] = { "true", "false", "null" };
    size_t i;
    json_space(p);
    if (depth > 20) return 0;
    if (**p == '{') return json_members(p, '}', depth);
    if (**p == '[') return json_members(p, ']', depth);
    if (**p == '"') return json_string(p);
    for (i = 0; i < 3; i++)
        if (!strncmp(*p, words[i], strlen(words[i]))) { *p += strlen(words[i]); return 1; }
    return json_numeral(p);
}

static int json_valid(const char *p)
{
    if (!json_value(&p, 0)) return 0;
    json_space(&p);
    return !*p;
}

/* Metadata that lies in every way that a reader lets pass. */
static void make_hostile(const char *path)
{
    static const float floats[3] = { NAN, INFINITY, -0.0f };
    static const double doubles[2] = { -INFINITY, 1e300 };
    static const uint64_t huge[2] = { UINT64_MAX, 0 };
    uint64_t big = UINT64_MAX;
    quant_str s[3] = { { "\"\\\n\t\x01\x7f\x1b[31m", 11 }, { "\xff\xc0\x80\xed\xa0\x80\xf5", 7 },
                       { "\xc2\x9b\xe2\x80\xae\xe2\x96\x81", 8 } };
    maker m;
    make_begin(&m, path);
    quant_gguf_put_array(&m.o, "s", QUANT_KV_STR, s, 3);
    quant_gguf_put(&m.o, "a\"b\\c\x1b", QUANT_KV_STR, &s[0]);
    quant_gguf_put(&m.o, "cut", QUANT_KV_STR, &s[1]);
    quant_gguf_put_array(&m.o, "f", QUANT_KV_F32, floats, 3);
    quant_gguf_put_array(&m.o, "d", QUANT_KV_F64, doubles, 2);
    quant_gguf_put_array(&m.o, "u", QUANT_KV_U64, huge, 2);
    quant_gguf_put_array(&m.o, "none", QUANT_KV_STR, s, 0);
    quant_gguf_put(&m.o, "llama.block_count", QUANT_KV_U64, &big);
    quant_gguf_put(&m.o, "llama.context_length", QUANT_KV_F32, floats);
    quant_gguf_put(&m.o, "llama.embedding_length", QUANT_KV_U64, &big);
    quant_gguf_put_array(&m.o, "llama.attention.head_count", QUANT_KV_U64, huge + 1, 1);
    quant_gguf_put_array(&m.o, "llama.attention.head_count_kv", QUANT_KV_U64, huge, 2);
    make_tensor(&m, "blk.0.attn_v.weight", QUANT_F32, 32, 2, 1);
    make_tensor(&m, "blk.4294967295.ffn_down.\x1b\"\xff.weight", QUANT_F32, 32, 2, 1);
    CHECK(quant_gguf_header(&m.o) == QUANT_OK);
    make_normal(&m, 128, 1, 1);
    make_end(&m);
}

static void cli_inspect(void)
{
    size_t i;
    CHECK(sh("build/inspect " TINY) == 0 && !*err_text);
    CHECK(strstr(out_text, "general.architecture") && strstr(out_text, "str[259]"));
    CHECK(strstr(out_text, "16.01 bits per weight") && strstr(out_text, "Q4_K_M"));
    CHECK(strstr(out_text, "Memory for 512 tokens") && strstr(out_text, "KV cache 1.00 MiB"));
    CHECK(!strstr(out_text, "blk.0.attn_q.weight"));
    CHECK(sh("build/inspect " TINY " --tensors --ctx=1024") == 0);
    CHECK(strstr(out_text, "blk.0.attn_q.weight") && strstr(out_text, "KV cache 2.00 MiB"));
    CHECK(sh("build/inspect --json --ctx 1024 -- " TINY) == 0 && json_valid(out_text));
    CHECK(strstr(out_text, "\"kv_cache\": 2097152") && strstr(out_text, "\"Q4_K_M\": {"));
    CHECK(strstr(out_text, "\"blk.3.ffn_up.weight\", \"shape\": [256, 768], \"type\": \"F16\""));
    make_hostile(D "h\".gguf");
    CHECK(sh("build/inspect --json " D "'h\".gguf'") == 0 && json_valid(out_text));
    CHECK(strstr(out_text, "[null, null, -0]") && strstr(out_text, "18446744073709551615"));
    CHECK(sh("build/inspect --tensors " D "'h\".gguf'") == 0 && strstr(out_text, "cannot tell"));
    for (i = 0; out_text[i]; i++) CHECK(out_text[i] == '\n' || (uint8_t)out_text[i] >= 32);
    CHECK(!strstr(out_text, "\x7f") && !strstr(out_text, "\xc2\x9b"));
    CHECK(sh("build/quantize --pure --report " D "h.tsv " D "'h\".gguf' " D "ho.gguf Q8_0") == 0);
    for (i = 0; out_text[i]; i++) CHECK(out_text[i] == '\n' || (uint8_t)out_text[i] >= 32);
    CHECK(sh("build/inspect --json " D "ho.gguf") == 0 && json_valid(out_text));
}

/* Every test starts with an empty directory. */
static void fresh(void)
{
    CHECK(system("rm -rf " D " && mkdir -p " D) == 0);
}

#define CLI(fn) do { fresh(); RUN(fn); } while (0)

void suite_cli(void);
void suite_cli(void)
{
    CLI(cli_usage);
    CLI(cli_golden);
    CLI(cli_types);
    CLI(cli_threads);
    CLI(cli_report);
    CLI(cli_override);
    CLI(cli_shapes);
    CLI(cli_big_endian);
    CLI(cli_imatrix);
    CLI(cli_nvfp4);
    CLI(cli_split);
    CLI(cli_same_file);
    CLI(cli_bad_input);
    CLI(cli_types_unknown);
    CLI(cli_not_finite);
    CLI(cli_bad_output);
    CLI(cli_signals);
    CLI(cli_memory);
    CLI(cli_inspect);
}
