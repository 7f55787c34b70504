/* Types for whole models. */
#include "test.h"
#include <math.h>

static quant_str str(const char *s)
{
    quant_str r;
    r.p = s;
    r.n = strlen(s);
    return r;
}

static quant_tensor matrix(const char *name, uint64_t cols, uint64_t rows, uint64_t mats)
{
    quant_tensor t;
    memset(&t, 0, sizeof t);
    t.name = str(name);
    t.n_dims = mats > 1 ? 3 : 2;
    t.ne[0] = cols;
    t.ne[1] = rows;
    t.ne[2] = mats;
    t.ne[3] = 1;
    return t;
}

static void names_and_numbers(void)
{
    size_t i, j;
    for (i = 0; quant_mix_get(i); i++) {
        const quant_mix_info *m = quant_mix_get(i);
        CHECK(quant_mix_find(m->name) == (int)i);
        CHECK(quant_type_get(m->base) && quant_type_get(m->base)->block_len);
        for (j = 0; j < i; j++) CHECK(quant_mix_get(j)->file_type != m->file_type);
    }
    CHECK(i == 36);
    CHECK(quant_mix_find("q4_k_m") == quant_mix_find("Q4_K_M"));
    CHECK(quant_mix_find("Q4_K") == quant_mix_find("Q4_K_M"));
    CHECK(quant_mix_find("Q9") == -1 && quant_mix_find("") == -1);
}

/* Every tensor of the tiny model in 17 file types, against llama.cpp's quantizer. */
static void tiny_model_types(void)
{
    size_t size, line = 0, checked = 0;
    char *text = (char *)test_file("tests/golden/tiny.tensors.tsv", &size), *p;
    uint32_t seen[QUANT_MIX_KIND_COUNT], last = 999;
    char previous[64] = "";
    quant_gguf g;
    quant_set s;
    quant_mix_model m;
    REQUIRE(text);
    REQUIRE(quant_gguf_open_file(&g, "examples/models/tiny-f16.gguf", NULL, NULL) == QUANT_OK);
    REQUIRE(quant_set_init(&s, &g, 1, NULL) == QUANT_OK);
    quant_mix_model_init(&m, &s, 0);
    CHECK(m.n_layers == 4 && m.n_heads == 4 && m.n_heads_kv == 2 && m.n_experts == 0);
    CHECK(m.n_attn_v == 4 && !m.tied && !m.falcon && !m.llama_70b);
    text[size - 1] = 0;
    for (p = strtok(text, "\n"); p; p = strtok(NULL, "\n"), line++) {
        char name[64] = "", type[16] = "";
        uint32_t ft, i;
        const quant_tensor *t;
        quant_type got;
        if (line == 0) continue;
        REQUIRE(sscanf(p, "%u\t%63s\t%15s", &ft, name, type) == 3);
        if (ft != last) memset(seen, 0, sizeof seen);
        else CHECK(quant_mix_before(str(previous), str(name)));
        last = ft;
        strcpy(previous, name);
        t = quant_gguf_find_tensor(&g, name);
        REQUIRE(t);
        for (i = 0; quant_mix_get(i) && quant_mix_get(i)->file_type != ft; i++) {}
        got = !quant_mix_quantizable(t) ? t->type
            : quant_mix_fallback(quant_mix_choose((int)i, &m, t, seen[quant_mix_kind(t->name)]++),
                                 t->ne[0]);
        test_note("%s %s: %s, wanted %s", quant_mix_get(i)->name, name, quant_type_name(got), type);
        CHECK(strcmp(quant_type_name(got), type) == 0);
        checked++;
    }
    CHECK(checked == 17 * 39);
    quant_set_free(&s);
    quant_gguf_close(&g);
    free(text);
}

typedef struct shape { uint64_t embd, ff, kv, vocab; uint32_t layers; } shape;

/* Bits per weight of a llama model of a given shape. */
static double bits_per_weight(const char *mix, const shape *s, const quant_mix_model *m)
{
    static const char *const part[] = { "attn_k", "attn_output", "attn_q", "attn_v", "ffn_down",
                                        "ffn_gate", "ffn_up" };
    double bits = 0, weights = 0;
    uint32_t l, k;
    int id = quant_mix_find(mix);
    for (l = 0; l < s->layers + 1; l++)
        for (k = 0; k < 7; k++) {
            char name[64];
            uint64_t rows = k == 0 || k == 3 ? s->kv : k >= 5 ? s->ff : s->embd;
            uint64_t cols = k == 4 ? s->ff : s->embd;
            quant_tensor t;
            const quant_type_info *i;
            snprintf(name, sizeof name, "blk.%u.%s.weight", l, part[k]);
            if (l == s->layers) {
                if (k > 1) break;
                snprintf(name, sizeof name, k ? "output.weight" : "token_embd.weight");
                rows = s->vocab;
                cols = s->embd;
            }
            t = matrix(name, cols, rows, 1);
            i = quant_type_get(quant_mix_choose(id, m, &t, l == s->layers ? 0 : l));
            CHECK(i != NULL);
            bits += 8.0 * (double)(rows * cols) / i->block_len * i->block_size;
            weights += (double)(rows * cols);
        }
    bits += 32.0 * (double)((2 * s->layers + 1) * s->embd);     /* norms stay F32                */
    weights += (double)((2 * s->layers + 1) * s->embd);
    return bits / weights;
}

/* llama.cpp's published sizes: a check of all layer rules on models of real shape. */
static void published_sizes(void)
{
    static const struct { const char *mix; double bpw; } l2[] = {
        { "Q3_K_S", 3.50 }, { "Q3_K_M", 3.91 }, { "Q3_K_L", 4.27 }, { "Q4_K_S", 4.58 },
        { "Q4_K_M", 4.84 }, { "Q5_K_S", 5.52 }, { "Q5_K_M", 5.68 }, { "Q6_K", 6.56 } }, l3[] = {
        { "IQ1_S", 2.0042 }, { "IQ1_M", 2.1460 }, { "IQ2_XXS", 2.3824 }, { "IQ2_XS", 2.5882 },
        { "IQ2_S", 2.7403 }, { "IQ2_M", 2.9294 }, { "IQ3_XXS", 3.2548 }, { "IQ3_XS", 3.4977 },
        { "IQ3_S", 3.6606 }, { "IQ3_M", 3.7628 }, { "IQ4_XS", 4.4597 }, { "IQ4_NL", 4.6818 },
        { "Q2_K_S", 2.9697 }, { "Q2_K", 3.1593 }, { "Q3_K_S", 3.6429 }, { "Q3_K_M", 3.9960 },
        { "Q3_K_L", 4.2979 }, { "Q4_K_S", 4.6672 }, { "Q4_K_M", 4.8944 }, { "Q5_K_S", 5.5704 },
        { "Q5_K_M", 5.7036 }, { "Q6_K", 6.5633 }, { "Q8_0", 8.5008 } };
    static const shape llama2 = { 4096, 11008, 4096, 32000, 32 };
    static const shape llama3 = { 4096, 14336, 1024, 128256, 32 };
    quant_mix_model m;
    size_t i;
    memset(&m, 0, sizeof m);
    m.n_layers = m.n_attn_v = m.n_heads = m.n_heads_kv = 32;
    for (i = 0; i < sizeof l2 / sizeof *l2; i++) {
        double got = bits_per_weight(l2[i].mix, &llama2, &m);
        test_note("Llama 2 7B %s: %.4f, published %.2f", l2[i].mix, got, l2[i].bpw);
        CHECK(fabs(got - l2[i].bpw) < 0.02);
    }
    m.n_heads_kv = 8;
    for (i = 0; i < sizeof l3 / sizeof *l3; i++) {
        double got;
        m.has_importance = strncmp(l3[i].mix, "IQ4", 3) != 0;   /* theirs were made without one  */
        got = bits_per_weight(l3[i].mix, &llama3, &m);
        test_note("Llama 3.1 8B %s: %.4f, published %.4f", l3[i].mix, got, l3[i].bpw);
        CHECK(fabs(got - l3[i].bpw) < 0.0005);
    }
}

static quant_type choose(const char *mix, const quant_mix_model *m, const char *name, uint32_t i)
{
    quant_tensor t = matrix(name, 4096, 4096, strstr(name, "exps") ? 8 : 1);
    return quant_mix_choose(quant_mix_find(mix), m, &t, i);
}

/* One line per rule that the shapes above do not reach. */
static void special_rules(void)
{
    quant_mix_model m;
    memset(&m, 0, sizeof m);
    m.n_layers = m.n_attn_v = 32;
    m.n_heads = m.n_heads_kv = 32;
    CHECK(choose("IQ2_XXS", &m, "token_embd.weight", 0) == QUANT_Q2_K);
    CHECK(choose("IQ2_M", &m, "token_embd.weight", 0) == QUANT_IQ3_S);
    CHECK(choose("TQ1_0", &m, "token_embd.weight", 0) == QUANT_Q4_K);
    CHECK(choose("IQ1_S", &m, "output.weight", 0) == QUANT_Q5_K);
    CHECK(choose("Q8_0", &m, "output.weight", 0) == QUANT_Q8_0);
    CHECK(choose("IQ1_M", &m, "blk.9.attn_output.weight", 9) == QUANT_IQ2_XXS);
    CHECK(choose("IQ2_S", &m, "blk.9.attn_v.weight", 9) == QUANT_IQ3_S);
    CHECK(choose("IQ2_XS", &m, "blk.3.ffn_down.weight", 3) == QUANT_Q2_K);
    CHECK(choose("IQ2_XS", &m, "blk.4.ffn_down.weight", 4) == QUANT_IQ2_XS);
    CHECK(choose("IQ3_XXS", &m, "blk.4.attn_q.weight", 4) == QUANT_IQ2_S);
    CHECK(choose("IQ3_XXS", &m, "blk.4.ffn_down.weight", 4) == QUANT_Q3_K);
    CHECK(choose("IQ3_XXS", &m, "blk.3.ffn_down.weight", 3) == QUANT_Q4_K);
    CHECK(choose("IQ3_XS", &m, "blk.4.ffn_up.weight", 4) == QUANT_IQ3_XXS);
    CHECK(choose("IQ3_XS", &m, "blk.3.ffn_up.weight", 3) == QUANT_IQ3_S);
    CHECK(choose("IQ3_XS", &m, "blk.28.ffn_gate.weight", 28) == QUANT_IQ3_S);
    CHECK(choose("Q4_K_M", &m, "blk.6.attn_qkv.weight", 6) == QUANT_Q6_K);
    CHECK(choose("Q4_K_M", &m, "blk.5.attn_qkv.weight", 5) == QUANT_Q4_K);
    CHECK(choose("NVFP4", &m, "token_embd.weight", 0) == QUANT_Q4_K);
    CHECK(choose("NVFP4", &m, "blk.5.ffn_up.weight", 5) == QUANT_NVFP4);
    CHECK(choose("MXFP4_MOE", &m, "blk.5.ffn_up_exps.weight", 5) == QUANT_MXFP4);
    CHECK(choose("MXFP4_MOE", &m, "blk.5.attn_q.weight", 5) == QUANT_Q8_0);
    CHECK(choose("F16", &m, "output.weight", 0) == QUANT_F16);
    m.has_importance = 1;
    CHECK(choose("Q4_0", &m, "blk.3.ffn_down.weight", 3) == QUANT_Q4_1);
    CHECK(choose("Q5_0", &m, "blk.4.ffn_down.weight", 4) == QUANT_Q5_0);
    CHECK(choose("IQ3_XXS", &m, "blk.4.attn_v.weight", 4) == QUANT_IQ3_XXS);
    CHECK(choose("IQ4_NL", &m, "blk.0.ffn_down.weight", 0) == QUANT_IQ4_NL);
    m.tied = 1;
    CHECK(choose("Q4_K_M", &m, "token_embd.weight", 0) == QUANT_Q6_K);
    m.n_experts = 8;
    CHECK(choose("Q4_K_M", &m, "blk.9.attn_k.weight", 9) == QUANT_Q8_0);
    CHECK(choose("Q4_K_M", &m, "blk.9.attn_v.weight", 9) == QUANT_Q8_0);
    CHECK(choose("Q4_K_M", &m, "blk.9.attn_output.weight", 9) == QUANT_Q5_K);
    CHECK(choose("Q4_K_S", &m, "blk.3.ffn_down_exps.weight", 77) == QUANT_Q5_K);
    m.n_experts = 0;
    m.falcon = 1;
    CHECK(choose("Q4_K_M", &m, "blk.1.ffn_down.weight", 1) == QUANT_Q6_K);
    CHECK(choose("Q4_K_M", &m, "blk.2.ffn_down.weight", 2) == QUANT_Q5_K);
    CHECK(choose("Q4_K_S", &m, "blk.0.ffn_down.weight", 0) == QUANT_Q4_K);
    CHECK(choose("Q3_K_L", &m, "blk.0.attn_output.weight", 0) == QUANT_Q4_K);
    m.falcon = 0;
    m.llama_70b = 1;
    CHECK(choose("Q4_K_S", &m, "blk.9.attn_v.weight", 9) == QUANT_Q5_K);
    CHECK(quant_mix_choose(-1, &m, NULL, 0) == QUANT_TYPE_COUNT);
    CHECK(quant_mix_choose(36, &m, NULL, 0) == QUANT_TYPE_COUNT);
    /* nothing in the metadata may be divided by */
    memset(&m, 0, sizeof m);
    CHECK(choose("Q2_K", &m, "blk.9.attn_v.weight", 9) == QUANT_Q3_K);
    CHECK(choose("Q4_K_M", &m, "foo.weight", 0) == QUANT_Q4_K);
}

static void quantizable(void)
{
    static const struct { const char *name; uint64_t rows; int yes; } c[] = {
        { "blk.0.attn_q.weight", 8, 1 }, { "blk.0.attn_q.bias", 8, 0 },
        { "blk.0.attn_norm.weight", 8, 0 }, { "blk.0.attn_q.weight", 1, 0 },
        { "blk.0.ffn_gate_inp.weight", 8, 0 }, { "position_embd.weight", 8, 0 },
        { "token_types.weight", 8, 0 }, { "v.position_embd.weight", 8, 0 },
        { "model.layers.0.mlp.weight", 8, 1 }, { "weight", 8, 1 }, { "eight", 8, 0 },
        { "blk.1.ssm_conv1d.weight", 4, 0 }, { "blk.0.time_mix_w2.weight", 8, 0 } };
    size_t i;
    for (i = 0; i < sizeof c / sizeof *c; i++) {
        quant_tensor t = matrix(c[i].name, 64, c[i].rows, 1);
        test_note("%s", c[i].name);
        CHECK(quant_mix_quantizable(&t) == c[i].yes);
    }
}

static void fallbacks_fit(void)
{
    quant_type t;
    uint64_t cols;
    for (t = 0; t < QUANT_TYPE_COUNT; t++) {
        const quant_type_info *i = quant_type_get(t);
        if (!i->block_len) continue;
        for (cols = 1; cols < 600; cols++) {
            quant_type f = quant_mix_fallback(t, cols);
            CHECK(cols % quant_type_get(f)->block_len == 0);
            CHECK(f == t || cols % i->block_len);
        }
    }
    CHECK(quant_mix_fallback(QUANT_Q4_K, 96) == QUANT_Q5_0);
    CHECK(quant_mix_fallback(QUANT_Q6_K, 96) == QUANT_Q8_0);
    CHECK(quant_mix_fallback(QUANT_IQ2_S, 96) == QUANT_IQ4_NL);
    CHECK(quant_mix_fallback(QUANT_Q2_K, 96) == QUANT_Q4_0);
    CHECK(quant_mix_fallback(QUANT_Q4_K, 100) == QUANT_F16);
    CHECK(quant_mix_fallback(QUANT_Q8_0, 100) == QUANT_F16);
    CHECK(quant_mix_fallback(999, 100) == 999);
}

static void order(void)
{
    static const char *const sorted[] = { "a", "blk.x.q", "output.weight", "token_embd.weight",
        "blk.0.attn_k.weight", "blk.0.attn_q.weight", "blk.2.a", "blk.2.ab", "blk.10.a" };
    size_t i, j, n = sizeof sorted / sizeof *sorted;
    for (i = 0; i < n; i++)
        for (j = 0; j < n; j++)
            CHECK(quant_mix_before(str(sorted[i]), str(sorted[j])) == (i < j));
}

static void importance_needed(void)
{
    int q2s = quant_mix_find("Q2_K_S"), q2 = quant_mix_find("Q2_K");
    CHECK(quant_mix_needs_importance(q2s, QUANT_Q2_K, str("blk.0.ffn_up.weight")));
    CHECK(!quant_mix_needs_importance(q2, QUANT_Q2_K, str("blk.0.ffn_up.weight")));
    CHECK(quant_mix_needs_importance(q2, QUANT_IQ2_XS, str("blk.0.ffn_up.weight")));
    CHECK(!quant_mix_needs_importance(q2, QUANT_IQ2_XS, str("token_embd.weight")));
    CHECK(!quant_mix_needs_importance(q2, QUANT_IQ3_S, str("blk.0.ffn_up.weight")));
}

void suite_mix(void);
void suite_mix(void)
{
    RUN(names_and_numbers);
    RUN(tiny_model_types);
    RUN(published_sizes);
    RUN(special_rules);
    RUN(quantizable);
    RUN(fallbacks_fit);
    RUN(order);
    RUN(importance_needed);
}
