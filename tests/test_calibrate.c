/* calibrate gptq as a user runs it: same bytes for any number of threads and after interruptions,
 * mixes, and models that are nearer to the original than plain rounding makes them. */
#include "test.h"
#include <sys/stat.h>
#include <unistd.h>

#define TINY "examples/models/tiny-f16.gguf"
#define DIR "build/calibrate.test/"
#define GPTQ "build/calibrate gptq " TINY " examples/models/story.txt " DIR

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

/* An interrupted run leaves no model, and the same command ends with the same bytes. */
static void cli_gptq_resumes(void)
{
    static char out[4096];
    const char *again = GPTQ "d.gguf Q2_K --ctx 64 --tokens 128 --sweeps 8 -t 1";
    REQUIRE(shell(GPTQ "c.gguf Q2_K --ctx 64 --tokens 128 --sweeps 8 -t 2", out, sizeof out)
            == 0);
    remove(DIR "d.gguf");
    REQUIRE(shell(GPTQ "d.gguf Q2_K --ctx 64 --tokens 128 --sweeps 8 -t 1 & p=$!; "
                  "until test `wc -c < " DIR "d.gguf.part` -gt 100000; do sleep 0.02; "
                  "kill -0 $p || exit 0; done; kill -INT $p; wait $p; test $? = 1", out, sizeof out)
            == 0);
    if (access(DIR "d.gguf", F_OK) == 0) {
        test_skip("the run was over before it could be interrupted");
        return;
    }
    CHECK(access(DIR "d.gguf.part", F_OK) == 0);
    CHECK(shell(again, out, sizeof out) == 0);
    CHECK(same_files(DIR "c.gguf", DIR "d.gguf"));
    CHECK(access(DIR "d.gguf.part", F_OK) != 0);
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

void suite_calibrate(void);
void suite_calibrate(void)
{
    RUN(cli_gptq);
    RUN(cli_gptq_resumes);
    RUN(cli_gptq_helps);
    RUN(cli_gptq_types);
    RUN(cli_gptq_refuses);
}
