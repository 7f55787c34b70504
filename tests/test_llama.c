/* The example that runs models: tokenizers, every architecture, hostile metadata.  The tiny model
 * of the repository and models with random weights, made here; real ones: REAL_MODELS.md. */
#include "test.h"
#include "bytes.h"
#include "../examples/llama.h"
#include <sys/stat.h>

#define TINY "examples/models/tiny-f16.gguf"
#define TINY_PPL 2.6913             /* of `prose`, recorded                                      */
#define MADE "build/llama/made.gguf"

/* Models made here ------------------------------------------------------------------------------*/

/* What is to be written, and what is to be wrong with it. */
typedef struct spec {
    const char *arch;
    int         gpt2;               /* tokenizer                                                 */
    const char *pre;
    const char *key;                /* gets `value` instead of its own, or no value at all ...   */
    uint64_t    value;
    int         drop;               /* ... when this is set                                      */
    const char *text_key, *text;    /* a further key with a text                                 */
    const char *lost, *bent;        /* a tensor that is missing, one that has a row too many     */
    const char *path;               /* MADE if NULL                                              */
    size_t      n_layer, window;
    int         factors;            /* a tensor rope_freqs.weight, as Llama 3 has it             */
    double      linear;             /* linear scaling of positions, if not 0                     */
    quant_type  type;
} spec;

enum { EMBD = 64, HEADS = 4, KV = 2, DIM = 32, FF = 96 };

static char names[400][16];

/* 3 special tokens, 256 bytes and pieces (SPM), or 256 bytes, merged pieces and specials (gpt2). */
static size_t make_tokens(const spec *s, quant_str *text, float *score, int32_t *kind)
{
    static const char *spm[] = { "\xe2\x96\x81", "a", "b", "c", "ab", "bc", "abc",
                                 "\xe2\x96\x81\x61", "\xe2\x96\x81\x61\x62", "\xc3\xa9", "<tag>" };
    static const float spm_score[] = { -1, -2, -3, -4, -5, -6, -9, -8, -7, -10, 0 };
    static const char *bpe[] = { "ab", "bc", "abc", "\xc4\xa0\x61", "<|im_start|>", "<|im_end|>",
                                 "<|endoftext|>" };
    size_t n = 0, i, k;
    for (i = 0; i < 3 && !s->gpt2; i++, n++) {
        snprintf(names[n], 16, "%s", i == 0 ? "<unk>" : i == 1 ? "<s>" : "</s>");
        kind[n] = i ? 3 : 2;
    }
    for (i = 0; i < 256; i++, n++) {
        uint32_t c = llama__byte_char((uint8_t)i);
        if (!s->gpt2) snprintf(names[n], 16, "<0x%02X>", (unsigned)i);
        else if (c < 128) snprintf(names[n], 16, "%c", (int)c);
        else snprintf(names[n], 16, "%c%c", (char)(0xc0 | c >> 6), (char)(0x80 | (c & 63)));
        kind[n] = s->gpt2 ? 1 : 6;
    }
    for (k = 0; k < (s->gpt2 ? sizeof bpe : sizeof spm) / sizeof *bpe; k++, n++) {
        snprintf(names[n], 16, "%s", s->gpt2 ? bpe[k] : spm[k]);
        kind[n] = s->gpt2 ? k < 4 ? 1 : 3 : k < 10 ? 1 : 4;
        score[n] = s->gpt2 ? 0 : spm_score[k];
    }
    for (i = 0; i < n; i++) {
        text[i].p = names[i];
        text[i].n = strlen(names[i]);
    }
    return n;
}

/* A number of the architecture's metadata. */
static void put_number(quant_gguf_out *o, const spec *s, const char *suffix, double v, int real)
{
    char key[96];
    float f = (float)v;
    if (suffix[0] == '.') snprintf(key, sizeof key, "%s%s", s->arch, suffix);
    else snprintf(key, sizeof key, "%s", suffix);
    if (s->key && !strcmp(s->key, suffix)) {
        if (!s->drop) CHECK(quant_gguf_put(o, key, QUANT_KV_U64, &s->value) == QUANT_OK);
    } else if (real) {
        CHECK(quant_gguf_put(o, key, QUANT_KV_F32, &f) == QUANT_OK);
    } else {
        CHECK(quant_gguf_put_u32(o, key, (uint32_t)v) == QUANT_OK);
    }
}

static void put_tokenizer(quant_gguf_out *o, const spec *s, size_t *n_tokens)
{
    static const char *merges[] = { "a b", "b c", "ab c", "\xc4\xa0 a" };
    quant_str text[400], m[4];
    float score[400] = { 0 };
    int32_t kind[400];
    size_t i, n = make_tokens(s, text, score, kind);
    *n_tokens = n;
    quant_gguf_put_str(o, "tokenizer.ggml.model", s->gpt2 ? "gpt2" : "llama");
    if (s->gpt2) quant_gguf_put_str(o, "tokenizer.ggml.pre", s->pre ? s->pre : "qwen2");
    quant_gguf_put_array(o, "tokenizer.ggml.tokens", QUANT_KV_STR, text, n);
    quant_gguf_put_array(o, "tokenizer.ggml.token_type", QUANT_KV_I32, kind, n);
    if (!s->gpt2) quant_gguf_put_array(o, "tokenizer.ggml.scores", QUANT_KV_F32, score, n);
    for (i = 0; i < 4; i++) {
        m[i].p = merges[i];
        m[i].n = strlen(merges[i]);
    }
    if (s->gpt2) quant_gguf_put_array(o, "tokenizer.ggml.merges", QUANT_KV_STR, m, 4);
    put_number(o, s, "tokenizer.ggml.bos_token_id", 1, 0);
    put_number(o, s, "tokenizer.ggml.eos_token_id", 2, 0);
}

/* The tensors of the model in their order: names, shapes, and which norm to ones. */
typedef struct shape { char name[64]; uint64_t ne[2]; uint32_t dims; } shape;

static size_t make_shapes(const spec *s, shape *out, size_t n_tokens)
{
    static const struct { const char *name; int cols, rows, archs; } blk[] = {
        { "attn_norm.weight", EMBD, 0, 15 }, { "ffn_norm.weight", EMBD, 0, 15 },
        { "attn_q.weight", EMBD, HEADS * DIM, 15 }, { "attn_k.weight", EMBD, KV * DIM, 15 },
        { "attn_v.weight", EMBD, KV * DIM, 15 }, { "attn_output.weight", HEADS * DIM, EMBD, 15 },
        { "ffn_gate.weight", EMBD, FF, 15 }, { "ffn_up.weight", EMBD, FF, 15 },
        { "ffn_down.weight", FF, EMBD, 15 }, { "attn_q.bias", HEADS * DIM, 0, 2 },
        { "attn_k.bias", KV * DIM, 0, 2 }, { "attn_v.bias", KV * DIM, 0, 2 },
        { "attn_q_norm.weight", DIM, 0, 12 }, { "attn_k_norm.weight", DIM, 0, 12 },
        { "post_attention_norm.weight", EMBD, 0, 8 }, { "post_ffw_norm.weight", EMBD, 0, 8 }
    };
    int arch = !strcmp(s->arch, "qwen2") ? 2 : !strcmp(s->arch, "qwen3") ? 4
             : !strcmp(s->arch, "gemma3") ? 8 : 1;
    size_t n = 0, i, k, kept = 0;
    for (i = 0; i < 3 + s->n_layer * 16; i++) {
        size_t b = (i - 3) % 16;
        if (i >= 3 && !(blk[b].archs & arch)) continue;
        if (i == 1 && arch != 1) continue;                      /* tied                          */
        snprintf(out[n].name, 64, "%s", i == 0 ? "token_embd.weight" : i == 1 ? "output.weight"
                 : "output_norm.weight");
        if (i >= 3) snprintf(out[n].name, 64, "blk.%zu.%s", (i - 3) / 16, blk[b].name);
        out[n].ne[0] = i < 3 ? EMBD : (uint64_t)blk[b].cols;
        out[n].ne[1] = i < 2 ? n_tokens : i == 2 ? 0 : (uint64_t)blk[b].rows;
        out[n].dims = out[n].ne[1] ? 2 : 1;
        n++;
    }
    if (s->factors) {
        snprintf(out[n].name, 64, "rope_freqs.weight");
        out[n].ne[0] = DIM / 2;
        out[n].ne[1] = 0;
        out[n++].dims = 1;
    }
    for (k = 0; k < n; k++) {
        if (s->lost && !strcmp(out[k].name, s->lost)) continue;
        if (s->bent && !strcmp(out[k].name, s->bent)) out[k].ne[out[k].dims - 1] += 32;
        out[kept++] = out[k];
    }
    return kept;
}

static void put_metadata(quant_gguf_out *o, const spec *s)
{
    quant_gguf_put_str(o, "general.architecture", s->arch);
    put_number(o, s, ".block_count", (double)s->n_layer, 0);
    put_number(o, s, ".context_length", 256, 0);
    put_number(o, s, ".embedding_length", EMBD, 0);
    put_number(o, s, ".feed_forward_length", FF, 0);
    put_number(o, s, ".attention.head_count", HEADS, 0);
    put_number(o, s, ".attention.head_count_kv", KV, 0);
    put_number(o, s, ".attention.key_length", DIM, 0);
    put_number(o, s, ".attention.value_length", DIM, 0);
    put_number(o, s, ".rope.dimension_count", DIM, 0);
    put_number(o, s, ".rope.freq_base", 10000, 1);
    put_number(o, s, ".attention.layer_norm_rms_epsilon", 1e-5, 1);
    if (s->window) put_number(o, s, ".attention.sliding_window", (double)s->window, 0);
    if (s->key && !strcmp(s->key, ".expert_count")) put_number(o, s, ".expert_count", 0, 0);
    if (s->linear > 0) put_number(o, s, ".rope.scaling.factor", s->linear, 1);
    if (s->text_key) quant_gguf_put_str(o, s->text_key, s->text);
}

/* Writes the model; returns 0 when something went wrong on the way. */
static int make(const spec *s)
{
    bytes b = { 0 };
    quant_gguf_out o;
    quant_encoder e;
    shape shapes[256];
    float *w = (float *)malloc(400 * 160 * sizeof *w);
    uint8_t *q = (uint8_t *)malloc(400 * 160 * 4);
    uint64_t seed = 7;
    size_t n_tokens, n, i, k;
    FILE *f;
    int ok;
    if (!w || !q) abort();
    mkdir("build/llama", 0777);
    quant_gguf_begin(&o, bytes_to(&b), 0, NULL);
    put_metadata(&o, s);
    put_tokenizer(&o, s, &n_tokens);
    n = make_shapes(s, shapes, n_tokens);
    for (i = 0; i < n; i++)
        quant_gguf_put_tensor(&o, shapes[i].name, shapes[i].dims == 1 ? QUANT_F32 : s->type,
                              shapes[i].ne, shapes[i].dims);
    quant_gguf_header(&o);
    for (i = 0; i < n; i++) {
        size_t cols = (size_t)shapes[i].ne[0];
        size_t rows = shapes[i].dims == 1 ? 1 : (size_t)shapes[i].ne[1];
        quant_type t = shapes[i].dims == 1 ? QUANT_F32 : s->type;
        double at = strstr(shapes[i].name, "norm") ? 1 : strstr(shapes[i].name, "freqs") ? 3 : 0;
        for (k = 0; k < rows * cols; k++) w[k] = (float)(at + 0.2 * test_normal(&seed));
        quant_encoder_init(&e, t, QUANT_EFFORT_REFERENCE, NULL, 0);
        quant_from_f32(&e, q, w, rows, cols, NULL, NULL);
        quant_gguf_write(&o, q, rows * quant_row_size(t, cols));
    }
    ok = quant_gguf_end(&o) == QUANT_OK;
    f = fopen(s->path ? s->path : MADE, "wb");
    ok &= f && fwrite(b.p, 1, b.n, f) == b.n;
    if (f) ok &= fclose(f) == 0;
    bytes_free(&b);
    free(w);
    free(q);
    return ok;
}

static spec plain(const char *arch)
{
    spec s;
    memset(&s, 0, sizeof s);
    s.arch = arch;
    s.gpt2 = strncmp(arch, "qwen", 4) == 0;
    s.n_layer = strcmp(arch, "gemma3") ? 2 : 7;
    s.window = strcmp(arch, "gemma3") ? 0 : 8;
    s.type = QUANT_F16;
    return s;
}

/* For other suites: a small F16 model of an architecture, perhaps without one of its tensors. */
int test_make_model(const char *arch, const char *path, const char *lost);
int test_make_model(const char *arch, const char *path, const char *lost)
{
    spec s = plain(arch);
    s.path = path;
    s.lost = lost;
    return make(&s);
}

/* Tokens ----------------------------------------------------------------------------------------*/

/* The tokens of a text as "1 5 17". */
static const char *ids(const llama_vocab *v, const char *text, int add_special, int parse_special)
{
    static char buf[4096];
    llama_tokens t = { NULL, 0, 0 };
    size_t i, n = 0;
    CHECK(llama_tokenize(v, &t, text, strlen(text), add_special, parse_special) == 0);
    buf[0] = 0;
    for (i = 0; i < t.n && n < sizeof buf - 16; i++)
        n += (size_t)snprintf(buf + n, sizeof buf - n, i ? " %ld" : "%ld", (long)t.id[i]);
    free(t.id);
    test_note("'%s' gives %s", text, buf);
    return buf;
}

/* Decoding what was encoded gives the text back; byte-level vocabularies keep every byte. */
static void round_trip(const llama_vocab *v, const char *text, size_t n)
{
    llama_tokens t = { NULL, 0, 0 };
    char back[8192];
    size_t i, k = 0, space = v->add_space && n > 0;
    CHECK(llama_tokenize(v, &t, text, n, 0, 0) == 0);
    for (i = 0; i < t.n; i++) k += llama_piece(v, t.id[i], back + k, sizeof back - k, 0);
    CHECK(k == n + space && memcmp(back + space, text, n) == 0);
    free(t.id);
}

static void tokens_come_back(void)
{
    static const char *archs[] = { NULL, "llama", "qwen2" };
    char all[600];
    size_t i, a;
    uint64_t seed = 5;
    for (i = 0; i < sizeof all; i++)
        all[i] = (char)(i < 256 ? i : test_random(&seed) & 1 ? test_random(&seed) & 255
                                                             : 'a' + i % 3);
    for (a = 0; a < 3; a++) {
        llama_model m;
        spec s = plain(archs[a] ? archs[a] : "llama");
        if (archs[a]) REQUIRE(make(&s));
        test_note("%s", m.err);
        REQUIRE(llama_model_open(&m, archs[a] ? MADE : TINY) == 0);
        round_trip(&m.vocab, "", 0);
        round_trip(&m.vocab, "Hello,  world\n\n abc ab a\tc 12345", 31);
        round_trip(&m.vocab, "\xc3\xa9t\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x98\x80 \xc3",
                   19);
        round_trip(&m.vocab, all, sizeof all);
        llama_model_close(&m);
    }
}

/* By hand: pieces are 259 _, 260 a, b, c, 263 ab, bc, abc, 266 _a, _ab, 268 e', 269 <tag>. */
static void tokens_of_scores(void)
{
    llama_model m;
    spec s = plain("llama");
    REQUIRE(make(&s) && llama_model_open(&m, MADE) == 0);
    CHECK(!strcmp(ids(&m.vocab, "abc", 1, 0), "1 267 262"));        /* ab and _ab beat abc       */
    CHECK(!strcmp(ids(&m.vocab, "ab bc", 0, 0), "267 259 264"));
    CHECK(!strcmp(ids(&m.vocab, "z\xc3\xa9", 0, 0), "259 125 268"));  /* z has no piece        */
    CHECK(!strcmp(ids(&m.vocab, "<s>a<tag>a", 0, 1), "1 266 269 266"));
    CHECK(!strcmp(ids(&m.vocab, "a<tag>", 0, 0), "266 269"));
    CHECK(!strcmp(ids(&m.vocab, "<s>", 0, 0), "259 63 118 65"));    /* not forged by a user      */
    CHECK(!strcmp(ids(&m.vocab, "", 1, 0), "1"));
    CHECK(m.vocab.stop[2] && !m.vocab.stop[1]);
    llama_model_close(&m);
}

/* 256 ab, bc, abc, 259 _a, 260 <|im_start|>, <|im_end|>, 262 <|endoftext|>. */
static void tokens_of_merges(void)
{
    llama_model m;
    spec s = plain("qwen2");
    REQUIRE(make(&s) && llama_model_open(&m, MADE) == 0);
    CHECK(!strcmp(ids(&m.vocab, "abc bc", 1, 0), "258 32 257"));
    CHECK(!strcmp(ids(&m.vocab, "a abab", 1, 0), "97 32 256 256"));     /* a b before _ a        */
    CHECK(!strcmp(ids(&m.vocab, " a\n", 0, 0), "259 10"));
    CHECK(!strcmp(ids(&m.vocab, "<|im_start|>a<|im_end|>", 0, 1), "260 97 261"));
    CHECK(strcmp(ids(&m.vocab, "<|im_start|>", 0, 0), "260") != 0);
    CHECK(m.vocab.stop[261] && m.vocab.stop[262] && !m.vocab.stop[260]);
    llama_model_close(&m);
}

/* The words of a text, with bars between them. */
static void words(const char *pre, const char *text, const char *want)
{
    llama_model m;
    llama__merger g;
    spec s = plain("qwen2");
    char got[1024];
    size_t n = strlen(text), i = 0, k, at = 0, n_cp = 0;
    s.pre = pre;
    REQUIRE(make(&s) && llama_model_open(&m, MADE) == 0);
    memset(&g, 0, sizeof g);
    g.cp = (uint32_t *)malloc((n + 1) * sizeof *g.cp);
    g.cut = (uint8_t *)malloc(n + 1);
    while (i < n) i += llama_utf8(text + i, n - i, &g.cp[n_cp++]);
    llama__cut(&m.vocab, &g, n_cp);
    for (i = k = 0; i < n_cp; i++) {
        uint32_t cp;
        size_t len = llama_utf8(text + at, n - at, &cp);
        if (i && g.cut[i]) got[k++] = '|';
        memcpy(got + k, text + at, len);
        k += len;
        at += len;
    }
    got[k] = 0;
    test_note("%s: '%s'", pre, got);
    CHECK(!strcmp(got, want));
    free(g.cp);
    free(g.cut);
    llama_model_close(&m);
}

static void words_of_pre_tokenizers(void)
{
    words("gpt-2", "It's  12345 days!! ok\n\n x  ", "It|'s| | 12345| days|!!| ok|\n\n| x|  ");
    words("gpt-2", "WE'RE \xe4\xb8\xad\xe6\x96\x87\xef\xbc\x8c\xc3\xa9 \xe2\x85\xa7",
          "WE|'|RE| \xe4\xb8\xad\xe6\x96\x87|\xef\xbc\x8c|\xc3\xa9| \xe2\x85\xa7");
    words("llama-bpe", "It's  12345 days!!\n\nWE'RE\n x  ",
          "It|'s| | |123|45| days|!!\n\n|WE|'RE|\n| x|  ");
    words("llama-bpe", "(foo) \t\n\t bar.baz", "(foo|)| \t\n|\t| bar|.baz");
    words("qwen2", "It's  123 days", "It|'s| | |1|2|3| days");
    words("smollm", "in 2024: x1", "in| |2|0|2|4|:| x|1");
    words("default", "a+b=12345, (c)", "a|+|b|=|123|45|,| |(|c|)");
}

/* Running ---------------------------------------------------------------------------------------*/

static const char prose[] =
    "The harbour was quiet that morning. A man with a grey coat stood by the water and looked at "
    "the ships, as he had done every day since the letter came. \"You are early,\" said the woman "
    "who sold the bread. He did not answer; he had counted eleven masts, and yesterday there were "
    "ten.";

/* All logits of n tokens, [n x n_vocab]; NULL on failure.  free() them. */
static float *logits_of(llama_model *m, const int32_t *id, size_t n, size_t batch, size_t threads)
{
    llama_context c;
    float *y = (float *)malloc(n * m->vocab.n * sizeof *y);
    int r = llama_context_init(&c, m, n, batch, threads);
    test_note("%s", c.err);
    if (r == 0) r = llama_eval(&c, id, n, y, 1);
    test_note("%s", c.err);
    CHECK(r == 0);
    llama_context_free(&c);
    if (r == 0) return y;
    free(y);
    return NULL;
}

/* Recorded with this code, which gives stock llama.cpp's perplexity on other texts. */
static void tiny_perplexity(void)
{
    llama_model m;
    llama_tokens t = { NULL, 0, 0 };
    float *y;
    double nll = 0;
    size_t i, k;
    REQUIRE(llama_model_open(&m, TINY) == 0);
    CHECK(llama_tokenize(&m.vocab, &t, prose, sizeof prose - 1, 1, 0) == 0);
    CHECK(t.n == sizeof prose);
    y = logits_of(&m, t.id, t.n, 64, 2);
    REQUIRE(y);
    for (i = 0; i + 1 < t.n; i++) {
        double sum = 0;
        for (k = 0; k < m.vocab.n; k++) sum += exp((double)y[i * m.vocab.n + k]);
        nll += log(sum) - (double)y[i * m.vocab.n + (size_t)t.id[i + 1]];
    }
    test_note("perplexity %.5f", exp(nll / (double)(t.n - 1)));
    CHECK(fabs(exp(nll / (double)(t.n - 1)) - TINY_PPL) < 0.001);
    free(y);
    free(t.id);
    llama_model_close(&m);
}

/* The same bytes for any number of threads and any batches, and step by step. */
static void check_batches(llama_model *m, const int32_t *id, size_t n)
{
    static const size_t batch[] = { 1, 7, 64, 64 }, threads[] = { 1, 2, 1, 3 };
    size_t size = n * m->vocab.n * sizeof(float), i;
    float *want = logits_of(m, id, n, 64, 2), *got;
    llama_context c;
    REQUIRE(want);
    for (i = 0; i < n * m->vocab.n; i++) if (!(fabsf(want[i]) < 1e6f)) break;
    CHECK(i == n * m->vocab.n && "logits are finite");
    for (i = 0; i < 4; i++) {
        got = logits_of(m, id, n, batch[i], threads[i]);
        REQUIRE(got);
        CHECK(memcmp(got, want, size) == 0);
        free(got);
    }
    got = (float *)malloc(m->vocab.n * sizeof *got);
    REQUIRE(got && llama_context_init(&c, m, n, 16, 2) == 0);
    CHECK(llama_eval(&c, id, n / 2, NULL, 0) == 0);                 /* in two calls              */
    CHECK(llama_eval(&c, id + n / 2, n - n / 2, got, 0) == 0);
    CHECK(memcmp(got, want + (n - 1) * m->vocab.n, m->vocab.n * sizeof *got) == 0);
    CHECK(llama_eval(&c, id, 1, got, 0) == -1 && strstr(c.err, "full"));
    llama_context_free(&c);
    free(got);
    free(want);
}

static void tiny_threads_and_batches(void)
{
    llama_model m;
    llama_tokens t = { NULL, 0, 0 };
    REQUIRE(llama_model_open(&m, TINY) == 0);
    CHECK(llama_tokenize(&m.vocab, &t, prose, 130, 1, 0) == 0);
    check_batches(&m, t.id, t.n);
    free(t.id);
    llama_model_close(&m);
}

/* A mapped model has no copy of its matrices, and computes the same. */
static void mapped_matrices_stay_in_the_file(void)
{
    llama_model m, packed;
    llama_tokens t = { NULL, 0, 0 };
    float *a, *b;
    size_t i, k, shard;
    REQUIRE(llama_model_map(&m, TINY, 1) == 0 && llama_model_open(&packed, TINY) == 0);
    for (i = 0; i < m.hp.n_layer; i++)
        for (k = 0; llama_layer_matrix(&m.layers[i], k); k++) {
            const llama_linear *l = llama_layer_matrix(&m.layers[i], k);
            char name[128];
            snprintf(name, sizeof name, "%.*s", (int)l->tensor->name.n, l->tensor->name.p);
            REQUIRE(quant_set_find(&m.set, name, &shard) == l->tensor);
#ifdef QUANT_NO_MMAP                     /* a copy then, but not of another layout               */
            CHECK(!quant_gguf_data(&m.shards[shard], l->tensor) && l->m.data && !l->m.layout);
#else
            CHECK(l->m.data == quant_gguf_data(&m.shards[shard], l->tensor));
#endif
            CHECK(llama_layer_matrix(&packed.layers[i], k)->m.layout == 1);
        }
    CHECK(m.output.m.layout == 0 && packed.output.m.layout == 1);
    CHECK(llama_tokenize(&m.vocab, &t, prose, 100, 1, 0) == 0);
    a = logits_of(&m, t.id, t.n, 32, 2);
    b = logits_of(&packed, t.id, t.n, 32, 2);
    CHECK(a && b && memcmp(a, b, t.n * m.vocab.n * sizeof *a) == 0);
    free(a);
    free(b);
    free(t.id);
    llama_model_close(&m);
    llama_model_close(&packed);
}

static void every_architecture_runs(void)
{
    static const char *archs[] = { "llama", "qwen2", "qwen3", "gemma3", "llama" };
    static const quant_type types[] = { QUANT_F16, QUANT_Q8_0, QUANT_Q4_0, QUANT_BF16, QUANT_F32 };
    int32_t id[70];
    uint64_t seed = 11;
    size_t a, i;
    for (i = 0; i < 70; i++) id[i] = (int32_t)(test_random(&seed) % 260);
    for (a = 0; a < 5; a++) {
        llama_model m;
        spec s = plain(archs[a]);
        char path[64];
        snprintf(path, sizeof path, "build/llama/%s%s.gguf", archs[a], a < 4 ? "" : "-scaled");
        s.factors = a == 4;
        s.linear = a == 4 ? 2.5 : 0;
        s.path = path;
        s.type = types[a];
        REQUIRE(make(&s));
        test_note("%s: %s", archs[a], m.err);
        REQUIRE(llama_model_open(&m, path) == 0);
        CHECK(!strcmp(m.arch->name, archs[a]));
        check_batches(&m, id, 70);
        llama_model_close(&m);
    }
}

/* What scales positions changes what comes out, and a bad tensor of factors is refused. */
static void positions_are_scaled(void)
{
    spec s = plain("llama");
    int32_t id[20];
    float *y[3];
    llama_model m;
    size_t i;
    for (i = 0; i < 20; i++) id[i] = (int32_t)(3 + i);
    for (i = 0; i < 3; i++) {
        s.factors = i == 1;
        s.linear = i == 2 ? 4 : 0;
        REQUIRE(make(&s) && llama_model_open(&m, MADE) == 0);
        y[i] = logits_of(&m, id, 20, 64, 1);
        REQUIRE(y[i]);
        CHECK(i == 0 || memcmp(y[0], y[i], 4 * m.vocab.n) == 0);            /* position 0        */
        CHECK(i == 0 || memcmp(y[0] + m.vocab.n, y[i] + m.vocab.n, 4 * m.vocab.n) != 0);
        llama_model_close(&m);
    }
    for (i = 0; i < 3; i++) free(y[i]);
    s.factors = 1;
    s.bent = "rope_freqs.weight";
    CHECK(make(&s) && llama_model_open(&m, MADE) == -1 && strstr(m.err, "rope_freqs"));
}

/* A layer with a window does not see what is further back: with windows in all layers, tokens in
 * front of all of them cannot matter. */
static void windows_are_kept(void)
{
    llama_model m;
    spec s = plain("llama");
    int32_t id[40];
    float *a, *b;
    size_t i;
    s.window = 8;
    REQUIRE(make(&s) && llama_model_open(&m, MADE) == 0);
    for (i = 0; i < 40; i++) id[i] = (int32_t)(3 + i);
    a = logits_of(&m, id, 40, 64, 1);
    id[39 - 2 * 7 - 1]++;                       /* two layers reach back by seven each           */
    b = logits_of(&m, id, 40, 16, 1);
    REQUIRE(a && b);
    CHECK(memcmp(a + 39 * m.vocab.n, b + 39 * m.vocab.n, m.vocab.n * 4) == 0);
    CHECK(memcmp(a + 38 * m.vocab.n, b + 38 * m.vocab.n, m.vocab.n * 4) != 0);
    free(a);
    free(b);
    llama_model_close(&m);
}

typedef struct seen { size_t calls, tokens; const float *x; double first; } seen;
static void see(void *user, const llama_linear *w, const float *x, size_t tokens)
{
    seen *s = (seen *)user;
    s->calls++;
    s->tokens += tokens;
    CHECK(w->tensor && w->m.cols > 0 && x[0] == x[0]);
}

static void hooks_see_every_matrix(void)
{
    llama_model m;
    llama_context c;
    seen s = { 0, 0, NULL, 0 };
    spec sp = plain("llama");
    int32_t id[10] = { 1, 5, 6, 7, 8, 9, 10, 11, 12, 13 };
    REQUIRE(make(&sp) && llama_model_open(&m, MADE) == 0);
    REQUIRE(llama_context_init(&c, &m, 16, 4, 2) == 0);
    c.hook = see;
    c.user = &s;
    CHECK(llama_eval(&c, id, 10, NULL, 1) == 0);
    CHECK(s.calls == 3 * 2 * 7 && s.tokens == 10 * 2 * 7);
    llama_context_free(&c);
    llama_model_close(&m);
}

/* Hostile ---------------------------------------------------------------------------------------*/

static void refuse(const spec *s, const char *word)
{
    llama_model m;
    int r;
    REQUIRE(make(s));
    r = llama_model_open(&m, MADE);
    test_note("%s wanted, got: %s", word, r ? m.err : "a model");
    CHECK(r == -1 && strstr(m.err, word) && !strchr(m.err, '\n'));
    if (r == 0) llama_model_close(&m);
}

static void bad_numbers_are_refused(void)
{
    static const struct { const char *key; uint64_t value; const char *word; } bad[] = {
        { ".attention.head_count", 0, "head_count is 0" },
        { ".attention.head_count", 3, "do not fit together" },
        { ".attention.head_count", ~(uint64_t)0, "not between" },
        { ".attention.head_count_kv", 0, "head_count_kv is 0" },
        { ".attention.head_count_kv", 3, "do not fit together" },
        { ".attention.head_count_kv", 64, "not between" },
        { ".attention.key_length", 0, "key_length is 0" },
        { ".attention.key_length", 33, "do not fit together" },
        { ".attention.key_length", 64, "differ" },
        { ".attention.value_length", 64, "differ" },
        { ".attention.layer_norm_rms_epsilon", 1u << 20, "epsilon is not" },
        { ".block_count", 0, "block_count is 0" },
        { ".block_count", 3, "no tensor blk.2" },
        { ".block_count", 1u << 31, "not between" },
        { ".embedding_length", 0, "embedding_length is 0" },
        { ".embedding_length", 128, "token_embd.weight is" },
        { ".embedding_length", (uint64_t)1 << 40, "not between" },
        { ".feed_forward_length", 0, "feed_forward_length is 0" },
        { ".feed_forward_length", 1u << 20, "ffn_gate.weight is" },
        { ".feed_forward_length", (uint64_t)1 << 62, "not between" },
        { ".rope.dimension_count", 0, "dimension_count is 0" },
        { ".rope.dimension_count", 31, "odd" },
        { ".rope.dimension_count", 64, "not between" },
        { ".rope.freq_base", 0, "freq_base is not" },
        { ".context_length", 0, "context_length is 0" },
        { ".expert_count", 8, "experts" },
        { "tokenizer.ggml.bos_token_id", 400, "bos_token_id is 400" },
        { "tokenizer.ggml.bos_token_id", ~(uint64_t)0, "bos_token_id is" },
        { "tokenizer.ggml.eos_token_id", 270, "eos_token_id is 270" }
    };
    static const char *needed[] = { ".block_count", ".embedding_length", ".feed_forward_length",
                                    ".attention.head_count" };
    size_t i;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        spec s = plain("llama");
        s.key = bad[i].key;
        s.value = bad[i].value;
        refuse(&s, bad[i].word);
    }
    for (i = 0; i < 4; i++) {
        spec s = plain("llama");
        s.key = needed[i];
        s.drop = 1;
        refuse(&s, "has no key");
    }
}

static void bad_models_are_refused(void)
{
    static const char *tensors[] = {
        "token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.1.attn_q.weight",
        "blk.1.attn_k.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight",
        "blk.1.ffn_norm.weight", "blk.1.ffn_gate.weight", "blk.0.ffn_up.weight",
        "blk.1.ffn_down.weight"
    };
    size_t i;
    spec s;
    for (i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        s = plain("llama");
        s.lost = tensors[i];
        refuse(&s, tensors[i]);
        s.lost = NULL;
        s.bent = tensors[i];
        refuse(&s, tensors[i]);
    }
    s = plain("llama");
    s.bent = "output.weight";
    refuse(&s, "output.weight");
    s = plain("qwen3");
    s.lost = "blk.1.attn_q_norm.weight";
    refuse(&s, "attn_q_norm");
    s = plain("qwen2");
    s.bent = "blk.1.attn_k.bias";
    refuse(&s, "attn_k.bias");
    s = plain("mamba");
    refuse(&s, "'mamba'");
    s = plain("bad\x1b[2J\narch");
    refuse(&s, "'bad?[2J?arch'");
    s = plain("qwen2");
    s.pre = "tekken";
    refuse(&s, "'tekken'");
    s = plain("llama");
    s.text_key = "llama.rope.scaling.type";
    s.text = "yarn";
    refuse(&s, "'yarn'");
}

static void bad_calls_are_refused(void)
{
    llama_model m;
    llama_context c;
    float y[400];
    int32_t id[3] = { 1, 270, 5 };
    spec s = plain("llama");
    CHECK(llama_model_open(&m, "build/llama/none.gguf") == -1 && strstr(m.err, "none.gguf"));
    CHECK(llama_model_open(&m, "tests/test_llama.c") == -1 && m.err[0]);
    REQUIRE(make(&s) && llama_model_open(&m, MADE) == 0);
    CHECK(llama_context_init(&c, &m, 0, 1, 1) == -1);
    CHECK(llama_context_init(&c, &m, 16, 0, 1) == -1);
    CHECK(llama_context_init(&c, &m, 16, 8, 0) == -1);
    CHECK(llama_context_init(&c, &m, 16, 8, 5000) == -1 && strstr(c.err, "threads"));
    REQUIRE(llama_context_init(&c, &m, 16, 8, 1) == 0);
    CHECK(llama_eval(&c, id, 3, y, 0) == -1 && strstr(c.err, "token 270") && c.n_past == 0);
    id[1] = -1;
    CHECK(llama_eval(&c, id, 3, y, 0) == -1 && strstr(c.err, "token -1") && c.n_past == 0);
    id[1] = 2;
    CHECK(llama_eval(&c, id, 3, y, 0) == 0 && c.n_past == 3);
    llama_context_free(&c);
    llama_model_close(&m);
}

/* Any single byte of a model's header changed: an error or a model, never a crash. */
static void broken_headers_do_not_crash(void)
{
    spec s = plain("llama");
    size_t size, i, opened = 0;
    uint64_t seed = 3;
    uint8_t *p;
    REQUIRE(make(&s));
    p = test_file(MADE, &size);
    REQUIRE(p && size > 20000);
    for (i = 0; i < 300; i++) {
        llama_model m;
        FILE *f = fopen("build/llama/broken.gguf", "wb");
        size_t at = test_random(&seed) % 12000;
        uint8_t old = p[at];
        REQUIRE(f);
        p[at] = (uint8_t)test_random(&seed);
        fwrite(p, 1, size, f);
        fclose(f);
        p[at] = old;
        if (llama_model_open(&m, "build/llama/broken.gguf") == 0) {
            llama_context c;
            int32_t id[4] = { 1, 40, 41, 42 };
            if (llama_context_init(&c, &m, 8, 4, 1) == 0) {
                llama_eval(&c, id, 4, NULL, 0);
                llama_context_free(&c);
                opened++;
            }
            llama_model_close(&m);
        }
    }
    test_note("%zu opened", opened);
    CHECK(opened > 50);
    free(p);
}

/* Programs --------------------------------------------------------------------------------------*/

/* Runs a shell command; its stdout goes to out [size]. */
static int shell(const char *command, char *out, size_t size)
{
    char line[512];
    FILE *f;
    size_t n;
    int r;
    snprintf(line, sizeof line, "%s > build/llama/out 2> build/llama/err", command);
    mkdir("build/llama", 0777);
    r = system(line);
    f = fopen("build/llama/out", "rb");
    n = f ? fread(out, 1, size - 1, f) : 0;
    out[n] = 0;
    if (f) fclose(f);
    test_note("%s: %d, '%s'", command, r, out);
    return r;
}

static void cli_models(void)
{
    static char out[8192], again[8192];
    double nll = 0, ppl = 0, bits = 0, kl = 1, top = 0;
    unsigned n = 0;
    CHECK(shell("build/perplexity " TINY " examples/models/story.txt --ctx 128 --chunks 2 --kld "
                TINY, out, sizeof out) == 0);
    CHECK(sscanf(out, "tokens %u nll %lf ppl %lf bits_per_byte %lf kld_mean %lf kld_99 %*f same_top"
                 " %lf", &n, &nll, &ppl, &bits, &kl, &top) == 6);
    CHECK(n == 2 * 127 && fabs(exp(nll) - ppl) < 1e-3 && kl == 0 && top == 1);
    CHECK(fabs(nll / log(2) - bits) < 1e-3);                        /* a token is a byte here    */
    CHECK(shell("build/generate " TINY " -p The -n 8 --temp 0", out, sizeof out) == 0);
    CHECK(strlen(out) == 3 + 8 + 1 && memcmp(out, "The", 3) == 0);
    CHECK(shell("build/generate " TINY " -p The -n 8 --seed 4 -t 1", out, sizeof out) == 0);
    memcpy(again, out, sizeof out);
    CHECK(shell("build/generate " TINY " -p The -n 8 --seed 4 -t 2", out, sizeof out) == 0);
    CHECK(!strcmp(again, out));
    CHECK(shell("build/generate --help", out, sizeof out) == 0 && strstr(out, "usage"));
    CHECK(shell("build/generate " TINY " -n none", out, sizeof out) != 0);
    CHECK(shell("build/generate build/llama/none.gguf", out, sizeof out) != 0);
    CHECK(shell("build/perplexity " TINY, out, sizeof out) != 0);
    CHECK(shell("build/calibrate hessian a b c", out, sizeof out) != 0);
}

/* What calibrate writes is what the hook saw, in both forms. */
static void cli_calibrate(void)
{
    static char out[8192];
    quant_imatrix a, b;
    size_t i, k, cols;
    REQUIRE(shell("build/calibrate imatrix " TINY " examples/models/story.txt build/llama/i.gguf "
                  "--ctx 64 --chunks 3", out, sizeof out) == 0);
    REQUIRE(shell("build/calibrate imatrix " TINY " examples/models/story.txt build/llama/i.dat "
                  "--ctx 64 --chunks 3 -t 1", out, sizeof out) == 0);
    REQUIRE(quant_imatrix_open_file(&a, "build/llama/i.gguf", NULL, NULL) == QUANT_OK);
    REQUIRE(quant_imatrix_open_file(&b, "build/llama/i.dat", NULL, NULL) == QUANT_OK);
    CHECK(a.n_entries == 28 && b.n_entries == 28 && a.n_chunks == 3 && b.n_chunks == 3);
    CHECK(a.dataset.n == 9 && memcmp(a.dataset.p, "story.txt", 9) == 0);
    for (i = 0; i < a.n_entries; i++) {
        const float *other;
        cols = (size_t)a.entries[i].size;
        CHECK(quant_imatrix_find(&b, &other, a.entries[i].name, cols, 0, 1) == QUANT_OK);
        REQUIRE(other);
        for (k = 0; k < cols; k++)
            if (!(fabsf(other[k] - a.entries[i].values[k]) <= 1e-5f * other[k])) break;
        CHECK(k == cols && a.entries[i].values[0] > 0);
    }
    quant_imatrix_close(&a);
    quant_imatrix_close(&b);
}

void suite_llama(void)
{
    RUN(tokens_come_back);
    RUN(tokens_of_scores);
    RUN(tokens_of_merges);
    RUN(words_of_pre_tokenizers);
    RUN(tiny_perplexity);
    RUN(tiny_threads_and_batches);
    RUN(mapped_matrices_stay_in_the_file);
    RUN(every_architecture_runs);
    RUN(positions_are_scaled);
    RUN(windows_are_kept);
    RUN(hooks_see_every_matrix);
    RUN(bad_numbers_are_refused);
    RUN(bad_models_are_refused);
    RUN(bad_calls_are_refused);
    RUN(broken_headers_do_not_crash);
    RUN(cli_models);
    RUN(cli_calibrate);
}
