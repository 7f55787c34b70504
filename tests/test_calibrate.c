/* calibrate gptq as a user runs it: same bytes for any number of threads and after interruptions,
 * mixes, and models that are nearer to the original than plain rounding makes them. */
#include "test.h"
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#define TINY "examples/models/tiny-f16.gguf"
#define DIR "build/calibrate.test/"
#define GPTQ "build/calibrate gptq " TINY " examples/models/story.txt " DIR

int test_make_model(const char *arch, const char *path, const char *lost);      /* test_llama.c  */

static int shell(const char *command, char *out, size_t size)
{
    char line[1024];
    FILE *f;
    size_t n;
    int r;
    mkdir(DIR, 0777);
    snprintf(line, sizeof line, "( %s ) > " DIR "out 2> " DIR "err", command);
    r = system(line);
    f = fopen(DIR "out", "rb");
    n = f ? fread(out, 1, size - 1, f) : 0;
    out[n] = 0;
    if (f) fclose(f);
    return r;
}

/* Are the words in what the last command had to say on stderr? */
static int said(const char *words)
{
    static char text[4096];
    FILE *f = fopen(DIR "err", "rb");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = 0;
    if (f) fclose(f);
    test_note("%s", text);
    return strstr(text, words) != NULL;
}

static int refuses(const char *command, const char *why)
{
    static char out[4096];
    return shell(command, out, sizeof out) != 0 && said(why);
}

static int same_files(const char *a, const char *b)
{
    size_t na, nb;
    uint8_t *x = test_file(a, &na), *y = test_file(b, &nb);
    int same = x && y && na == nb && memcmp(x, y, na) == 0;
    free(x);
    free(y);
    return same;
}

static void cli_gptq(void)
{
    static char out[4096];
    quant_gguf g;
    size_t i, quantized = 0;
    FILE *f;
    REQUIRE(shell(GPTQ "a.gguf Q4_0 --ctx 128 --tokens 512 -t 1 --report " DIR "r.tsv", out,
                  sizeof out) == 0);
    REQUIRE(shell(GPTQ "b.gguf q4_0 --ctx 128 --tokens 512 --threads 2", out, sizeof out) == 0);
    CHECK(same_files(DIR "a.gguf", DIR "b.gguf"));
    CHECK(access(DIR "a.gguf.part", F_OK) != 0);
    REQUIRE(quant_gguf_open_file(&g, DIR "a.gguf", NULL, NULL) == QUANT_OK);
    for (i = 0; i < g.n_tensors; i++) {
        uint32_t kind = quant_mix_kind(g.tensors[i].name);
        int block = kind >= QUANT_MIX_ATTN_Q && kind <= QUANT_MIX_FFN_DOWN;
        CHECK(block == (g.tensors[i].type == QUANT_Q4_0));
        quantized += block;
    }
    CHECK(quantized == 28);
    quant_gguf_close(&g);
    f = fopen(DIR "r.tsv", "r");
    REQUIRE(f);
    for (i = 0; fgets(out, sizeof out, f); i++) {}
    fclose(f);
    CHECK(i == 29);
}

/* Runs a command that makes `path` until the .part beside it has more than `size` bytes, then
 * interrupts it; 0, and a skip, if it was over by then. */
static int interrupt(const char *command, const char *path, int size)
{
    char line[1024], out[256];
    remove(path);
    snprintf(line, sizeof line, "%s & p=$!; until test `wc -c < %s.part` -gt %d; do sleep 0.02; "
             "kill -0 $p || exit 0; done; kill -INT $p; wait $p; test $? = 1", command, path, size);
    if (!CHECK(shell(line, out, sizeof out) == 0)) return 0;
    if (access(path, F_OK) != 0) return 1;
    test_skip("the run was over before it could be interrupted");
    return 0;
}

/* An interrupted run leaves no model, and the same command ends with the same bytes. */
static void cli_gptq_resumes(void)
{
    static char out[4096];
    const char *again = GPTQ "d.gguf Q2_K --ctx 64 --tokens 128 --sweeps 8 -t 1";
    REQUIRE(shell(GPTQ "c.gguf Q2_K --ctx 64 --tokens 128 --sweeps 8 -t 2", out, sizeof out)
            == 0);
    if (!interrupt(again, DIR "d.gguf", 100000)) return;
    CHECK(access(DIR "d.gguf.part", F_OK) == 0);
    CHECK(shell(again, out, sizeof out) == 0);
    CHECK(same_files(DIR "c.gguf", DIR "d.gguf"));
    CHECK(access(DIR "d.gguf.part", F_OK) != 0);
}

/* A disk that fills up (here: a limit on sizes) keeps what is finished: the same command goes on
 * from there, unless the model has become another of the same shape. */
static void cli_gptq_full_disk(void)
{
    static char out[4096];
    const char *run = "build/calibrate gptq " DIR "model.gguf examples/models/story.txt " DIR
                      "f.gguf Q4_0 --ctx 64 --tokens 128 --sweeps 0 -t 2";
    char line[512];
    quant_gguf g;
    size_t n;
    uint8_t *model;
    FILE *f;
    REQUIRE(shell("rm -f " DIR "f.gguf*; cp " TINY " " DIR "model.gguf", out, sizeof out) == 0);
    REQUIRE(shell(run, out, sizeof out) == 0 && !said("going on"));
    REQUIRE(rename(DIR "f.gguf", DIR "whole.gguf") == 0);
    snprintf(line, sizeof line, "ulimit -f 1000; %s", run);     /* of 512 bytes                   */
    CHECK(refuses(line, "File too large; the same command goes on"));
    CHECK(access(DIR "f.gguf", F_OK) != 0 && access(DIR "f.gguf.part", F_OK) == 0);
    snprintf(line, sizeof line, "ulimit -f 3700; %s", run);     /* room for matrices, not for all */
    CHECK(refuses(line, "File too large; the same command goes on") && said("going on after"));
    CHECK(refuses(line, "going on after 28 matrices"));
    CHECK(shell("ls " DIR " | grep -q '^f.gguf$\\|^f.gguf.[^p]'", out, sizeof out) != 0);
    REQUIRE(shell(run, out, sizeof out) == 0 && said("going on after 28 matrices"));
    CHECK(same_files(DIR "whole.gguf", DIR "f.gguf") && access(DIR "f.gguf.part", F_OK) != 0);
    snprintf(line, sizeof line, "ulimit -f 1000; %s", run);
    CHECK(refuses(line, "File too large; the same command goes on"));
    REQUIRE(quant_gguf_open_file(&g, TINY, NULL, NULL) == QUANT_OK);
    model = test_file(TINY, &n);
    REQUIRE(model);
    model[quant_gguf_find_tensor(&g, "blk.3.ffn_down.weight")->offset] ^= 1;
    quant_gguf_close(&g);
    f = fopen(DIR "model.gguf", "wb");
    REQUIRE(f && fwrite(model, 1, n, f) == n && fclose(f) == 0);
    free(model);
    CHECK(shell(run, out, sizeof out) == 0 && !said("going on"));
}

/* Nothing is begun that could not be written; warnings say what a user may not expect. */
static void cli_gptq_says_so_first(void)
{
    static char out[4096];
    CHECK(refuses("build/calibrate gptq " TINY " none.txt build Q4_0", "build: Is a directory"));
    CHECK(refuses("build/calibrate imatrix " TINY " none.txt build", "build: Is a directory"));
    CHECK(refuses("build/calibrate gptq " TINY " none.txt " DIR "none/x.gguf Q4_0",
                  "none/x.gguf: No such file"));
    CHECK(refuses(GPTQ "x.gguf Q4_KM", "Q4_KM: no such type or mix; `quantize --help` lists"));
    CHECK(refuses(GPTQ "x.gguf IQ3_S", "gptq is not for IQ3_S; it takes Q4_0 to Q8_0, "));
    REQUIRE(test_make_model("qwen2", DIR "narrow.gguf", NULL));
    CHECK(shell("build/calibrate gptq " DIR "narrow.gguf examples/models/story.txt " DIR
                "narrow-q.gguf Q4_K_M --ctx 64 --tokens 64", out, sizeof out) == 0);
    CHECK(said("warning: rows of 12 matrices do not fit Q4_K, they take Q5_0\n"));
    CHECK(said("warning: rows of 2 matrices do not fit Q6_K, they take Q8_0\n"));
    CHECK(!said("already"));
    CHECK(shell("build/calibrate gptq " DIR "narrow-q.gguf examples/models/story.txt " DIR
                "narrow-r.gguf Q4_0 --ctx 64 --tokens 64", out, sizeof out) == 0);
    CHECK(said("warning: 14 matrices are quantized already") && !said("do not fit"));
}

static double divergence(const char *file)
{
    static char out[4096];
    char command[256];
    const char *p;
    snprintf(command, sizeof command, "build/perplexity %s examples/models/letter.txt --ctx 256 "
             "--chunks 2 --kld " TINY, file);
    if (shell(command, out, sizeof out) != 0 || (p = strstr(out, "kld_mean ")) == NULL) return 99;
    return atof(p + 9);
}

static void cli_gptq_helps(void)
{
    static char out[4096];
    double plain, ours;
    REQUIRE(shell("build/quantize --pure --output-type F16 --embedding-type F16 " TINY " " DIR
                  "plain.gguf Q2_K", out, sizeof out) == 0);
    REQUIRE(shell(GPTQ "e.gguf Q2_K --ctx 256 --tokens 2048", out, sizeof out) == 0);
    plain = divergence(DIR "plain.gguf");
    ours = divergence(DIR "e.gguf");
    test_note("KL of Q2_K: plain %g, gptq %g", plain, ours);
    CHECK(plain < 2 && ours < 0.6 * plain);
}

/* A mix gives every tensor the type that it asks for; integers are stored as F16. */
static void cli_gptq_types(void)
{
    static char out[4096];
    quant_gguf g;
    const quant_tensor *t;
    REQUIRE(shell(GPTQ "m.gguf Q4_K_M --ctx 128 --tokens 256 --sweeps 0 "
                  "--asymmetric-calibration 0", out, sizeof out) == 0);
    REQUIRE(quant_gguf_open_file(&g, DIR "m.gguf", NULL, NULL) == QUANT_OK);
    t = quant_gguf_find_tensor(&g, "blk.0.attn_q.weight");
    CHECK(t && t->type == QUANT_Q4_K);
    t = quant_gguf_find_tensor(&g, "blk.3.ffn_down.weight");
    CHECK(t && t->type == QUANT_Q6_K);
    t = quant_gguf_find_tensor(&g, "output.weight");
    CHECK(t && t->type == QUANT_Q6_K);
    quant_gguf_close(&g);
    REQUIRE(shell(GPTQ "n.gguf NVFP4 --ctx 128 --tokens 256 --sweeps 1 --trials 1 --order act "
                  "--asymmetric-calibration --damp 0.05", out, sizeof out) == 0);
    REQUIRE(quant_gguf_open_file(&g, DIR "n.gguf", NULL, NULL) == QUANT_OK);
    t = quant_gguf_find_tensor(&g, "blk.2.attn_q.scale");
    CHECK(t && t->type == QUANT_F32);
    quant_gguf_close(&g);
    CHECK(divergence(DIR "n.gguf") < 0.2);
    REQUIRE(shell(GPTQ "i.gguf int3g128 --ctx 128 --tokens 512", out, sizeof out) == 0);
    CHECK(divergence(DIR "i.gguf") < 0.25);
}

static void cli_gptq_refuses(void)
{
    static char out[4096];
    CHECK(shell("build/calibrate --help", out, sizeof out) == 0 && strstr(out, "gptq"));
    CHECK(shell(GPTQ "x.gguf Q9_9", out, sizeof out) != 0);
    CHECK(shell(GPTQ "x.gguf int1", out, sizeof out) != 0);
    CHECK(shell(GPTQ "x.gguf", out, sizeof out) != 0);
    CHECK(shell(GPTQ "x.gguf Q4_0 --damp 2", out, sizeof out) != 0);
    CHECK(shell(GPTQ "x.gguf Q4_0 --order best", out, sizeof out) != 0);
    CHECK(shell(GPTQ "x.gguf Q4_0 --tokens 100", out, sizeof out) != 0);
    CHECK(shell(GPTQ "none/x.gguf Q4_0 --tokens 512", out, sizeof out) != 0);
    CHECK(access(DIR "x.gguf", F_OK) != 0);
}

/* AWQ -------------------------------------------------------------------------------------------*/

#define RUN_AWQ(method) "build/calibrate " method " " TINY " examples/models/story.txt " DIR

/* Both methods: nearer than plain rounding, and all that a reader wants to know of the file. */
static void cli_awq(void)
{
    static const char *const methods[] = { "awq", "awq+gptq" };
    static const double most[] = { 0.7, 0.9 };
    static char out[4096];
    double plain, ours;
    size_t i;
    REQUIRE(shell("build/quantize --pure --output-type F16 --embedding-type F16 " TINY " " DIR
                  "plain.gguf Q4_0", out, sizeof out) == 0);
    plain = divergence(DIR "plain.gguf");
    for (i = 0; i < 2; i++) {
        char line[512], file[64];
        quant_gguf g;
        const quant_tensor *t;
        quant_str said;
        snprintf(file, sizeof file, DIR "w%zu.gguf", i);
        snprintf(line, sizeof line, "build/calibrate %s " TINY " examples/models/story.txt %s Q4_0 "
                 "--ctx 128 --tokens 512 -t 1", methods[i], file);
        REQUIRE(shell(line, out, sizeof out) == 0);
        ours = divergence(file);
        test_note("KL of Q4_0: plain %g, %s %g", plain, methods[i], ours);
        CHECK(plain < 0.1 && ours < most[i] * plain);
        REQUIRE(quant_gguf_open_file(&g, file, NULL, NULL) == QUANT_OK);
        t = quant_gguf_find_tensor(&g, "blk.1.ffn_down.weight");
        CHECK(t && t->type == QUANT_Q4_0);
        t = quant_gguf_find_tensor(&g, "blk.1.ffn_norm.weight");
        CHECK(t && t->type == QUANT_F32 && t->ne[0] == 256);
        CHECK(quant_gguf_get_str(&g, "quantize.calibration.method", &said) == QUANT_OK);
        CHECK(said.n == strlen(methods[i]) && !memcmp(said.p, methods[i], said.n));
        quant_gguf_close(&g);
    }
    REQUIRE(shell(RUN_AWQ("awq") "v.gguf q4_0 --ctx 128 --tokens 512 -t 2", out, sizeof out) == 0);
    CHECK(same_files(DIR "w0.gguf", DIR "v.gguf"));
}

/* Interrupted and begun again, with other numbers of threads: the same bytes, those of the folded
 * norms among them, which are not in the file of what is finished. */
static void cli_awq_resumes(void)
{
    static char out[4096];
    REQUIRE(access(DIR "w1.gguf", F_OK) == 0);
    remove(DIR "r.gguf.part");
    if (!interrupt(RUN_AWQ("awq+gptq") "r.gguf Q4_0 --ctx 128 --tokens 512 -t 1", DIR "r.gguf",
                   500000)) return;
    REQUIRE(shell(RUN_AWQ("awq+gptq") "r.gguf Q4_0 --ctx 128 --tokens 512 -t 2", out, sizeof out)
            == 0);
    CHECK(same_files(DIR "r.gguf", DIR "w1.gguf"));
    CHECK(access(DIR "r.gguf.part", F_OK) != 0);
}

static const char *const archs[] = { "llama", "qwen2", "qwen3", "gemma3" };

/* On every architecture each method is nearer to the model than plain rounding, by the margin that
 * was seen on such models (gptq .12 to .22 of it, awq .63 to .84). */
static void cli_architectures(void)
{
    static const struct { const char *method; double most; } methods[] = {
        { "gptq", 0.4 }, { "awq", 0.95 }, { "awq+gptq", 0.4 }
    };
    static char out[4096];
    size_t i, k;
    mkdir(DIR, 0777);
    for (i = 0; i < 4; i++) {
        char line[1024], was[64];
        double kl[4];
        snprintf(was, sizeof was, DIR "%s.gguf", archs[i]);
        REQUIRE(test_make_model(archs[i], was, NULL));
        for (k = 0; k < 4; k++) {
            int n = k == 0 ? snprintf(line, sizeof line, "build/quantize --quiet --pure "
                                      "--output-type F16 --embedding-type F16 %s " DIR
                                      "arch.gguf Q4_0", was)
                           : snprintf(line, sizeof line, "build/calibrate %s %s "
                                      "examples/models/story.txt " DIR "arch.gguf Q4_0 --ctx 64 "
                                      "--tokens 2048", methods[k - 1].method, was);
            snprintf(line + n, sizeof line - n, " && build/perplexity " DIR "arch.gguf "
                     "examples/models/letter.txt --ctx 64 --chunks 8 --kld %s", was);
            REQUIRE(shell(line, out, sizeof out) == 0 && strstr(out, "kld_mean "));
            kl[k] = atof(strstr(out, "kld_mean ") + 9);
        }
        test_note("%s: KL of Q4_0: plain %g, gptq %g, awq %g, both %g", archs[i], kl[0], kl[1],
                  kl[2], kl[3]);
        for (k = 1; k < 4; k++) CHECK(kl[k] > 0 && kl[k] < methods[k - 1].most * kl[0]);
    }
}

/* Scales alone: 8-bit integers change next to nothing, so what is left is what folding does wrong.
 * Biases (qwen2), norms of heads and after matrices (qwen3, gemma3), grouped queries (all). */
static void cli_awq_folding(void)
{
    static char out[4096];
    size_t i;
    mkdir(DIR, 0777);
    for (i = 0; i < 4; i++) {
        char line[1024], was[64], is[64], *p;
        quant_gguf a, b;
        size_t k, changed = 0, found = 0;
        double kl;
        snprintf(was, sizeof was, DIR "%s.gguf", archs[i]);
        snprintf(is, sizeof is, DIR "%s-awq.gguf", archs[i]);
        REQUIRE(test_make_model(archs[i], was, NULL));
        snprintf(line, sizeof line, "build/calibrate awq %s examples/models/story.txt %s int8g32 "
                 "--ctx 64 --tokens 128 --report " DIR "f.tsv && build/perplexity %s "
                 "examples/models/letter.txt --ctx 64 --chunks 2 --kld %s", was, is, is, was);
        REQUIRE(shell(line, out, sizeof out) == 0);
        p = strstr(out, "kld_mean ");
        kl = p ? atof(p + 9) : 99;
        REQUIRE(quant_gguf_open_file(&a, was, NULL, NULL) == QUANT_OK);
        REQUIRE(quant_gguf_open_file(&b, is, NULL, NULL) == QUANT_OK);
        for (k = 0; k < a.n_tensors; k++) {         /* norms and biases, F32 in both             */
            const quant_tensor *t = &a.tensors[k], *u = &b.tensors[k];
            if (t->type != QUANT_F32) continue;
            CHECK(u->type == QUANT_F32 && u->ne[0] == t->ne[0]);
            found++;
            changed += memcmp(quant_gguf_data(&a, t), quant_gguf_data(&b, u), t->ne[0] * 4) != 0;
        }
        quant_gguf_close(&a);
        quant_gguf_close(&b);
        test_note("%s: KL %g, %zu of %zu vectors folded", archs[i], kl, changed, found);
        CHECK(changed >= 2);
        CHECK(kl < 1.5e-3);
    }
}

static void cli_awq_refuses(void)
{
    CHECK(refuses(RUN_AWQ("awq") "x.gguf Q9_9", "no such type"));
    CHECK(refuses(RUN_AWQ("awq") "x.gguf int9g32", "no such type"));
    CHECK(refuses(RUN_AWQ("awq") "x.gguf F16 --ctx 64 --tokens 128", "awq is not for F16"));
    CHECK(refuses(RUN_AWQ("awq+gptq") "x.gguf F32 --ctx 64 --tokens 128", "gptq is not for F32;"));
    CHECK(refuses(RUN_AWQ("awq") "x.gguf Q4_0 --sweeps 2", "bad argument"));
    CHECK(refuses(RUN_AWQ("awq") "x.gguf Q4_0 --damp .1", "bad argument"));
    CHECK(refuses(RUN_AWQ("awq") "x.gguf Q4_0 --order act", "bad argument"));
    CHECK(refuses("build/calibrate awq " TINY " " DIR "none.txt " DIR "x.gguf Q4_0", "none.txt"));
    CHECK(refuses("build/calibrate awq " DIR "none.gguf examples/models/story.txt " DIR
                  "x.gguf Q4_0", "none.gguf"));
    CHECK(refuses(": > " DIR "empty.txt; build/calibrate awq " TINY " " DIR "empty.txt " DIR
                  "x.gguf Q4_0", "shorter than one chunk"));
    REQUIRE(test_make_model("llama", DIR "lost.gguf", "blk.1.ffn_norm.weight"));
    CHECK(refuses("build/calibrate awq " DIR "lost.gguf examples/models/story.txt " DIR
                  "x.gguf Q4_0", "ffn_norm"));
    CHECK(access(DIR "x.gguf", F_OK) != 0 && access(DIR "x.gguf.part", F_OK) != 0);
}

#define SUMS "build/calibrate hessian " TINY " examples/models/story.txt " DIR

/* The file opened; tokens of all inputs are `tokens`. */
static int sums_open(quant_gguf *g, const char *path, uint64_t tokens)
{
    uint64_t v = 0;
    size_t i;
    if (!CHECK(quant_gguf_open_file(g, path, NULL, NULL) == QUANT_OK)) return 0;
    for (i = 0; i < g->n_tensors; i++)
        CHECK(quant_kv_u64(quant_gguf_find(g, "hessian.tokens"), i, &v) == QUANT_OK &&
              v == tokens);
    return CHECK(g->n_tensors == 16);
}

static size_t sums_sink(void *user, const void *src, size_t n)
{
    return fwrite(src, 1, n, (FILE *)user);
}

/* The file again with the tensor `odd` one element shorter (none: 99), and another model. */
static void sums_forge(const char *to, const quant_gguf *g, size_t odd, uint64_t model)
{
    quant_gguf_out o;
    quant_sink sink;
    size_t i;
    FILE *f = fopen(to, "wb");
    char name[128];
    if (!CHECK(f)) return;
    sink.write = sums_sink;
    sink.user = f;
    quant_gguf_begin(&o, sink, 0, NULL);
    quant_gguf_put_str(&o, "general.type", "hessian");
    quant_gguf_put(&o, "hessian.model", QUANT_KV_U64, &model);
    quant_gguf_put_kv(&o, quant_gguf_find(g, "hessian.tokens"));
    for (i = 0; i < g->n_tensors; i++) {
        uint64_t ne = g->tensors[i].ne[0] - (i == odd);
        snprintf(name, sizeof name, "%.*s", (int)g->tensors[i].name.n, g->tensors[i].name.p);
        quant_gguf_put_tensor(&o, name, QUANT_F32, &ne, 1);
    }
    quant_gguf_header(&o);
    for (i = 0; i < g->n_tensors; i++)
        quant_gguf_write(&o, quant_gguf_data(g, &g->tensors[i]),
                         (size_t)g->tensors[i].size - 4 * (i == odd));
    CHECK(quant_gguf_end(&o) == QUANT_OK);
    fclose(f);
}

/* Sums of two parts of a text, merged, are those of the whole but for rounding; files of other
 * models or shapes are refused and leave nothing. */
static void cli_hessian(void)
{
    static char out[4096];
    quant_gguf a, b, all, sum;
    size_t i, k;
    uint64_t model = 0;
    double worst = 0, most = 0;
    float va = 0, vb = 0;
    REQUIRE(shell(SUMS "h.gguf --ctx 64 --tokens 320 -t 2", out, sizeof out) == 0);
    REQUIRE(shell(SUMS "ha.gguf --ctx 64 --tokens 128 -t 1", out, sizeof out) == 0);
    REQUIRE(shell(SUMS "hb.gguf --ctx 64 --tokens 192 --skip-tokens 128", out, sizeof out) == 0);
    REQUIRE(shell("build/calibrate merge " DIR "ha.gguf " DIR "hb.gguf " DIR "hm.gguf", out,
                  sizeof out) == 0);
    REQUIRE(shell("build/calibrate merge " DIR "h.gguf " DIR "h1.gguf", out, sizeof out) == 0);
    CHECK(same_files(DIR "h.gguf", DIR "h1.gguf"));
    REQUIRE(sums_open(&all, DIR "h.gguf", 320) && sums_open(&sum, DIR "hm.gguf", 320));
    REQUIRE(sums_open(&a, DIR "ha.gguf", 128) && sums_open(&b, DIR "hb.gguf", 192));
    for (i = 0; i < all.n_tensors; i++)
        for (most = 0, k = 0; k < all.tensors[i].ne[0]; k += 1 + k % 13) {
            float x, y;
            quant_gguf_read(&all, &all.tensors[i], &x, 4 * k, 4);
            quant_gguf_read(&sum, &sum.tensors[i], &y, 4 * k, 4);
            quant_gguf_read(&a, &a.tensors[i], &va, 4 * k, 4);
            quant_gguf_read(&b, &b.tensors[i], &vb, 4 * k, 4);
            CHECK(y == (float)((double)va + (double)vb));
            most = fmax(most, fabs((double)x));
            worst = fmax(worst, fabs((double)x - (double)y) / (most + 1e-30));
        }
    test_note("merged sums differ by %g of the largest", worst);
    CHECK(worst < 1e-5 && most > 0);
    REQUIRE(shell("build/calibrate gptq " TINY " --hessian " DIR "hm.gguf " DIR "hq.gguf Q2_K -t 2",
                  out, sizeof out) == 0);
    CHECK(divergence(DIR "hq.gguf") < divergence(DIR "plain.gguf"));
    quant_gguf_get_u64(&all, "hessian.model", &model);
    sums_forge(DIR "shape.gguf", &all, 5, model);
    sums_forge(DIR "other.gguf", &all, 99, model + 1);
    CHECK(shell("build/calibrate merge " DIR "h.gguf " DIR "shape.gguf " DIR "hx.gguf", out,
                sizeof out) != 0);
    CHECK(shell("build/calibrate merge " DIR "h.gguf " DIR "other.gguf " DIR "hx.gguf", out,
                sizeof out) != 0);
    CHECK(shell("build/calibrate merge " DIR "h.gguf " TINY " " DIR "hx.gguf", out, sizeof out)
          != 0);
    CHECK(shell("build/calibrate gptq " TINY " --hessian " DIR "shape.gguf " DIR "hx.gguf Q4_0",
                out, sizeof out) != 0);
    CHECK(shell("build/calibrate gptq " TINY " --hessian " DIR "other.gguf " DIR "hx.gguf Q4_0",
                out, sizeof out) != 0);
    CHECK(shell("build/calibrate merge " DIR "h.gguf " DIR "none/hx.gguf", out, sizeof out) != 0);
    CHECK(shell(SUMS "hx.gguf --skip-tokens 100", out, sizeof out) != 0);
    CHECK(shell("ls " DIR " | grep -c 'hx\\.gguf'", out, sizeof out) != 0);
    quant_gguf_close(&all);
    quant_gguf_close(&sum);
    quant_gguf_close(&a);
    quant_gguf_close(&b);
}

void suite_calibrate(void);
void suite_calibrate(void)
{
    RUN(cli_gptq);
    RUN(cli_gptq_resumes);
    RUN(cli_gptq_full_disk);
    RUN(cli_gptq_says_so_first);
    RUN(cli_gptq_helps);
    RUN(cli_gptq_types);
    RUN(cli_gptq_refuses);
    RUN(cli_hessian);
    RUN(cli_awq);
    RUN(cli_awq_resumes);
    RUN(cli_architectures);
    RUN(cli_awq_folding);
    RUN(cli_awq_refuses);
}
