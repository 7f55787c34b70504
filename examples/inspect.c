/* inspect: what is in a GGUF, what memory it needs, what it would weigh in other types.
 *
 *   make && build/inspect model.gguf
 *   build/inspect --json model.gguf | jq .totals
 *
 * It shows reading metadata and tensor lists of files one does not trust: every number is checked
 * before it divides, indexes or is added up, and text is made harmless before it is printed. */
#include "common.h"
#include <math.h>

enum { EXIT_DONE = 0, EXIT_USAGE = 1, EXIT_INPUT = 2, EXIT_OUTPUT = 3 };

typedef struct inspector {
    model       in;
    const char *path;
    int         json, tensors;
    uint64_t    ctx;                    /* tokens; 0: not given                                  */
    double      weights, bytes, file_bytes;
    double      type_weights[QUANT_TYPE_COUNT + 1], type_bytes[QUANT_TYPE_COUNT + 1];
    size_t      type_count[QUANT_TYPE_COUNT + 1];   /* the last: ids that ggml never had         */
} inspector;

static int fail(int code, const char *what, const char *why)
{
    fprintf(stderr, "inspect: %s%s%s\n", what, why ? ": " : "", why ? why : "");
    return code;
}

/* JSON ------------------------------------------------------------------------------------------*/

static void json_str(quant_str s)
{
    size_t i = 0;
    putchar('"');
    while (i < s.n) {
        uint32_t cp;
        size_t len = utf8_next(s.p + i, s.n - i, &cp);
        if (cp == '"' || cp == '\\') printf("\\%c", (int)cp);
        else if (cp < 32 || cp == 127 || cp == 0xfffd) printf("\\u%04x", (unsigned)cp);
        else fwrite(s.p + i, 1, len, stdout);
        i += len;
    }
    putchar('"');
}

static void json_text(const char *text)
{
    quant_str s;
    s.p = text;
    s.n = strlen(text);
    json_str(s);
}

static void json_number(double v, int digits)
{
    if (isfinite(v)) printf("%.*g", digits, v);
    else printf("null");
}

static void json_key(const char *name, int first)
{
    printf("%s\n    \"%s\": ", first ? "" : ",", name);
}

/* Metadata --------------------------------------------------------------------------------------*/

static const char *kv_type_name(uint32_t type)
{
    static const char *const names[] = { "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool",
                                         "str", "array", "u64", "i64", "f64" };
    return type < QUANT_KV_TYPE_COUNT ? names[type] : "?";
}

/* Element i as JSON, or cut and cleaned for people. */
static void print_element(const quant_kv *kv, uint64_t i, quant_cursor *cur, int json)
{
    quant_str s;
    uint64_t u;
    int64_t n;
    double d;
    char text[64];
    switch (kv->elem_type) {
        case QUANT_KV_STR:
            if (quant_kv_str(kv, i, cur, &s) != QUANT_OK) { s.p = ""; s.n = 0; }
            if (json) json_str(s);
            else printf(kv->type == QUANT_KV_ARRAY ? "\"%s\"" : "%s",
                        clean_text(text, sizeof text, s));
            break;
        case QUANT_KV_BOOL:
            u = 0;
            quant_kv_u64(kv, i, &u);
            printf(u ? "true" : "false");
            break;
        case QUANT_KV_F32: case QUANT_KV_F64:
            d = 0;
            quant_kv_f64(kv, i, &d);
            if (json) json_number(d, kv->elem_type == QUANT_KV_F32 ? 9 : 17);
            else printf("%g", d);
            break;
        default:
            n = 0;
            u = 0;
            if (quant_kv_i64(kv, i, &n) == QUANT_OK) printf("%" PRId64, n);
            else { quant_kv_u64(kv, i, &u); printf("%" PRIu64, u); }
            break;
    }
}

static void print_kv(const quant_kv *kv)
{
    char key[80], type[48];
    quant_cursor cur = { 0, 0 };
    uint64_t i;
    if (kv->type == QUANT_KV_ARRAY)
        snprintf(type, sizeof type, "%s[%" PRIu64 "]", kv_type_name(kv->elem_type), kv->count);
    else
        snprintf(type, sizeof type, "%s", kv_type_name(kv->type));
    printf("  %-40s %-12s ", clean_text(key, sizeof key, kv->key), type);
    for (i = 0; i < kv->count && i < 4; i++) {
        if (i) printf(", ");
        print_element(kv, i, &cur, 0);
    }
    printf("%s\n", kv->count > 4 ? ", ..." : "");
}

static void json_metadata(const quant_gguf *g)
{
    size_t k;
    printf("  \"metadata\": {");
    for (k = 0; k < g->n_kv; k++) {
        const quant_kv *kv = &g->kv[k];
        quant_cursor cur = { 0, 0 };
        uint64_t i;
        printf("%s\n    ", k ? "," : "");
        json_str(kv->key);
        printf(": ");
        if (kv->type == QUANT_KV_ARRAY) printf("[");
        for (i = 0; i < kv->count; i++) {
            if (i) printf(", ");
            print_element(kv, i, &cur, 1);
        }
        if (kv->type == QUANT_KV_ARRAY) printf("]");
    }
    printf("\n  }");
}

/* Totals ----------------------------------------------------------------------------------------*/

static void add_up(inspector *n)
{
    size_t i;
    for (i = 0; i < n->in.n_shards; i++) n->file_bytes += (double)n->in.shards[i].file_size;
    for (i = 0; i < n->in.set.n_tensors; i++) {
        const quant_tensor *t = quant_set_tensor(&n->in.set, i, NULL);
        quant_type k = t->type < QUANT_TYPE_COUNT ? t->type : QUANT_TYPE_COUNT;
        n->type_count[k]++;
        n->type_weights[k] += tensor_weights(t);
        n->type_bytes[k] += (double)t->size;
        n->weights += tensor_weights(t);
        n->bytes += (double)t->size;
    }
}

static double bits_per_weight(double bytes, double weights)
{
    return weights > 0 ? 8 * bytes / weights : 0;
}

static const char *type_text(char *buf, quant_type t)
{
    if (t < QUANT_TYPE_COUNT) snprintf(buf, 32, "%s", quant_type_name(t));
    else snprintf(buf, 32, "type %" PRIu32, t);
    return buf;
}

static void print_totals(const inspector *n)
{
    char a[32], b[32];
    size_t i;
    printf("\nSizes\n  %zu tensors, %.1f million weights, %s, file %s, %.2f bits per weight\n",
           n->in.set.n_tensors, n->weights / 1e6, size_text(a, n->bytes),
           size_text(b, n->file_bytes), bits_per_weight(n->bytes, n->weights));
    for (i = 0; i <= QUANT_TYPE_COUNT; i++)
        if (n->type_count[i])
            printf("  %-10s %6zu tensors %12s %5.1f %% %7.2f bpw\n",
                   i < QUANT_TYPE_COUNT ? quant_type_name((quant_type)i) : "unknown",
                   n->type_count[i], size_text(a, n->type_bytes[i]),
                   n->bytes > 0 ? 100 * n->type_bytes[i] / n->bytes : 0.0,
                   bits_per_weight(n->type_bytes[i], n->type_weights[i]));
}

static void json_totals(const inspector *n)
{
    size_t i;
    int first = 1;
    printf("  \"totals\": {");
    json_key("tensors", 1);
    printf("%zu", n->in.set.n_tensors);
    json_key("weights", 0);
    json_number(n->weights, 17);
    json_key("bytes", 0);
    json_number(n->bytes, 17);
    json_key("file_bytes", 0);
    json_number(n->file_bytes, 17);
    json_key("bits_per_weight", 0);
    json_number(bits_per_weight(n->bytes, n->weights), 6);
    json_key("types", 0);
    printf("{");
    for (i = 0; i <= QUANT_TYPE_COUNT; i++) {
        if (!n->type_count[i]) continue;
        printf("%s\n      \"%s\": { \"tensors\": %zu, \"bytes\": ", first ? "" : ",",
               i < QUANT_TYPE_COUNT ? quant_type_name((quant_type)i) : "unknown",
               n->type_count[i]);
        json_number(n->type_bytes[i], 17);
        printf(", \"bits_per_weight\": ");
        json_number(bits_per_weight(n->type_bytes[i], n->type_weights[i]), 6);
        printf(" }");
        first = 0;
    }
    printf(" }\n  }");
}

/* Tensors ---------------------------------------------------------------------------------------*/

static void print_tensors(const inspector *n)
{
    size_t i, shard;
    char name[100], shape[96], type[32], size[32];
    printf("\nTensors%s\n", n->in.n_shards > 1 ? " (shard:offset)" : "");
    for (i = 0; i < n->in.set.n_tensors; i++) {
        const quant_tensor *t = quant_set_tensor(&n->in.set, i, &shard);
        printf("  %-36s %16s %-8s %10s  ", clean_text(name, sizeof name, t->name),
               shape_text(shape, t), type_text(type, t->type), size_text(size, (double)t->size));
        if (n->in.n_shards > 1) printf("%zu:", shard);
        printf("%" PRIu64 "\n", t->offset);
    }
}

static void json_tensors(const inspector *n)
{
    size_t i, shard;
    uint32_t d;
    char type[32];
    printf("  \"tensors\": [");
    for (i = 0; i < n->in.set.n_tensors; i++) {
        const quant_tensor *t = quant_set_tensor(&n->in.set, i, &shard);
        printf("%s\n    { \"name\": ", i ? "," : "");
        json_str(t->name);
        printf(", \"shape\": [");
        for (d = 0; d < t->n_dims && d < 4; d++) printf("%s%" PRIu64, d ? ", " : "", t->ne[d]);
        printf("], \"type\": ");
        json_text(type_text(type, t->type));
        printf(", \"bytes\": %" PRIu64 ", \"offset\": %" PRIu64 ", \"shard\": %zu }", t->size,
               t->offset, shard);
    }
    printf("\n  ]");
}

/* Memory ----------------------------------------------------------------------------------------
 * The cache holds a key and a value vector, in half floats, for every layer, head and token. */

/* "ARCH.suffix", NULL when the architecture is missing or absurd. */
static const char *arch_key(char *buf, size_t size, const quant_gguf *g, const char *suffix)
{
    quant_str arch;
    if (quant_gguf_get_str(g, "general.architecture", &arch) != QUANT_OK) return NULL;
    if (arch.n == 0 || arch.n > 64 || memchr(arch.p, 0, arch.n)) return NULL;
    snprintf(buf, size, "%.*s.%s", (int)arch.n, arch.p, suffix);
    return buf;
}

static const quant_kv *arch_find(const quant_gguf *g, const char *suffix)
{
    char key[128];
    return arch_key(key, sizeof key, g, suffix) ? quant_gguf_find(g, key) : NULL;
}

/* The number for layer `l`: one for all layers, or an array with one for each. */
static int arch_number(const quant_gguf *g, const char *suffix, uint64_t l, double *v)
{
    const quant_kv *kv = arch_find(g, suffix);
    uint64_t u;
    if (!kv || quant_kv_u64(kv, kv->type == QUANT_KV_ARRAY ? l : 0, &u) != QUANT_OK) return 0;
    *v = (double)u;
    return 1;
}

/* Length of a head's vectors. */
static int head_length(const quant_gguf *g, const char *suffix, double *v)
{
    double width, heads;
    if (arch_number(g, suffix, 0, v)) return 1;
    if (!arch_number(g, "embedding_length", 0, &width)) return 0;
    if (!arch_number(g, "attention.head_count", 0, &heads) || heads < 1) return 0;
    *v = width / heads;
    return 1;
}

/* Bytes of the cache for one token; NULL, or why it cannot be told. */
static const char *cache_per_token(const quant_gguf *g, double *bytes)
{
    double layers, heads, k, v, sum = 0;
    const quant_kv *per_layer = arch_find(g, "attention.head_count_kv");
    const char *name = "attention.head_count_kv";
    uint64_t l;
    if (arch_find(g, "attention.kv_lora_rank")) return "the model's attention is compressed";
    if (arch_find(g, "ssm.state_size") || arch_find(g, "wkv.head_size"))
        return "the model has recurrent layers";
    if (!arch_number(g, "block_count", 0, &layers)) return "block_count is missing";
    if (!head_length(g, "attention.key_length", &k) ||
        !head_length(g, "attention.value_length", &v)) return "the length of heads is missing";
    if (!per_layer) {                   /* every head has its own keys                           */
        name = "attention.head_count";
        per_layer = arch_find(g, name);
    }
    if (per_layer && per_layer->type == QUANT_KV_ARRAY) {
        for (l = 0; (double)l < layers; l++) {          /* ends with the array at the latest     */
            if (!arch_number(g, name, l, &heads)) return "head counts are missing";
            sum += heads;
        }
    } else {
        if (!arch_number(g, name, 0, &heads)) return "head counts are missing";
        sum = heads * layers;
    }
    *bytes = 2 * sum * (k + v);
    return NULL;
}

static double context(const inspector *n)
{
    double limit;
    if (n->ctx) return (double)n->ctx;
    if (!arch_number(&n->in.shards[0], "context_length", 0, &limit) || limit < 1) return 4096;
    return limit < 4096 ? limit : 4096;
}

static void print_memory(const inspector *n)
{
    double ctx = context(n), cache = 0;
    const char *why = cache_per_token(&n->in.shards[0], &cache);
    char a[32], b[32], c[32];
    printf("\nMemory for %.0f tokens\n  weights %s", ctx, size_text(a, n->bytes));
    if (why) {
        printf("\n  KV cache: cannot tell, %s\n", why);
        return;
    }
    printf(" + KV cache %s = %s%s\n", size_text(b, cache * ctx),
           size_text(c, n->bytes + cache * ctx),
           arch_find(&n->in.shards[0], "attention.sliding_window")
               ? " at most (layers with a sliding window need less)" : "");
    printf("  and what the program needs to compute\n");
}

static void json_memory(const inspector *n)
{
    double ctx = context(n), cache = 0;
    const char *why = cache_per_token(&n->in.shards[0], &cache);
    printf("  \"memory\": {");
    json_key("tokens", 1);
    json_number(ctx, 17);
    json_key("weights", 0);
    json_number(n->bytes, 17);
    json_key("kv_cache", 0);
    json_number(why ? NAN : cache * ctx, 17);
    if (why) {
        json_key("kv_cache_unknown", 0);
        json_text(why);
    }
    printf("\n  }");
}

/* Mixes -----------------------------------------------------------------------------------------*/

static const char *const mix_names[] = { "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M",
    "Q4_K_S", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K" };

/* Bytes of all tensors in the types of a mix. */
static double mix_bytes(const inspector *n, const tensor_ref *refs, int mix)
{
    uint32_t counts[QUANT_MIX_KIND_COUNT] = { 0 };
    quant_mix_model rules;
    double sum = 0;
    size_t i;
    quant_mix_model_init(&rules, &n->in.set, 0);
    for (i = 0; i < n->in.set.n_tensors; i++) {
        const quant_tensor *t = refs[i].t;
        const quant_type_info *info = quant_type_get(t->type);
        uint64_t size = 0;
        if (info && quant_mix_quantizable(t)) {
            quant_type to = mix_next(mix, &rules, t, counts);
            if (info->flags & QUANT_TF_DECODE)
                size = tensor_bytes(t, quant_mix_fallback(to, t->ne[0]));
        }
        sum += (double)(size ? size : t->size);
    }
    return sum;
}

static void print_mixes(const inspector *n, const tensor_ref *refs)
{
    double header = n->file_bytes - n->bytes;
    char size[32];
    size_t i;
    printf("\nIn other types\n");
    for (i = 0; i < sizeof mix_names / sizeof *mix_names; i++) {
        int mix = quant_mix_find(mix_names[i]);
        double bytes = mix < 0 ? 0 : mix_bytes(n, refs, mix);
        if (mix >= 0)
            printf("  %-8s %10s %7.2f bpw\n", mix_names[i], size_text(size, bytes + header),
                   bits_per_weight(bytes, n->weights));
    }
}

static void json_mixes(const inspector *n, const tensor_ref *refs)
{
    size_t i;
    int first = 1;
    printf("  \"mixes\": {");
    for (i = 0; i < sizeof mix_names / sizeof *mix_names; i++) {
        int mix = quant_mix_find(mix_names[i]);
        double bytes = mix < 0 ? 0 : mix_bytes(n, refs, mix);
        if (mix < 0) continue;
        json_key(mix_names[i], first);
        printf("{ \"bytes\": ");
        json_number(bytes, 17);
        printf(", \"bits_per_weight\": ");
        json_number(bits_per_weight(bytes, n->weights), 6);
        printf(" }");
        first = 0;
    }
    printf("\n  }");
}

/* Program ---------------------------------------------------------------------------------------*/

static void print_all(const inspector *n, const tensor_ref *refs)
{
    const quant_gguf *g = &n->in.shards[0];
    size_t i;
    printf("%s: GGUF version %" PRIu32 ", %s, alignment %" PRIu32 ", %zu %s\n\nMetadata\n",
           n->path, g->version, g->big_endian ? "big-endian" : "little-endian", g->alignment,
           n->in.n_shards, n->in.n_shards == 1 ? "file" : "shards");
    for (i = 0; i < g->n_kv; i++) print_kv(&g->kv[i]);
    if (n->tensors) print_tensors(n);
    print_totals(n);
    print_memory(n);
    print_mixes(n, refs);
}

static void json_all(const inspector *n, const tensor_ref *refs)
{
    const quant_gguf *g = &n->in.shards[0];
    printf("{\n  \"file\": ");
    json_text(n->path);
    printf(",\n  \"version\": %" PRIu32 ",\n  \"big_endian\": %s,\n  \"alignment\": %" PRIu32
           ",\n  \"shards\": %zu,\n", g->version, g->big_endian ? "true" : "false", g->alignment,
           n->in.n_shards);
    json_metadata(g);
    printf(",\n");
    json_totals(n);
    printf(",\n");
    json_memory(n);
    printf(",\n");
    json_mixes(n, refs);
    printf(",\n");
    json_tensors(n);
    printf("\n}\n");
}

static const char help_text[] =
"usage: inspect [options] FILE.gguf\n"
"\n"
"Shows metadata, sizes by type, memory needed and sizes in other types.  Any shard of a split\n"
"model stands for all.\n"
"\n"
"  --tensors    list every tensor: name, shape, type, size, offset in the file\n"
"  --ctx N      tokens in the KV cache (default: the model's context, 4096 at most)\n"
"  --json       everything as JSON\n"
"  --help       this text\n"
"\n"
"Exit codes: 0 done, 1 bad usage, 2 bad input, 3 output failed.\n";

/* 1: go on, 0: help was asked for, -1: bad usage. */
static int parse_options(inspector *n, int argc, char **argv)
{
    int i, ended = 0;
    for (i = 1; i < argc; i++) {
        const char *a = argv[i], *v = NULL;
        char *end;
        if (ended || a[0] != '-') {
            if (n->path) { fail(EXIT_USAGE, a, "too many arguments, see --help"); return -1; }
            n->path = a;
        } else if (!strcmp(a, "--")) {
            ended = 1;
        } else if (!strcmp(a, "--help") || !strcmp(a, "-h")) {
            return 0;
        } else if (!strcmp(a, "--json")) {
            n->json = 1;
        } else if (!strcmp(a, "--tensors")) {
            n->tensors = 1;
        } else if (!strcmp(a, "--ctx") || !strncmp(a, "--ctx=", 6)) {
            v = a[5] ? a + 6 : i + 1 < argc ? argv[++i] : "";
            errno = 0;
            n->ctx = strtoull(v, &end, 10);
            if (*v < '0' || *v > '9' || *end || errno || n->ctx == 0) {
                fail(EXIT_USAGE, "--ctx", "needs a number above 0");
                return -1;
            }
        } else {
            fail(EXIT_USAGE, a, "there is no such option, see --help");
            return -1;
        }
    }
    if (!n->path) { fail(EXIT_USAGE, "needs FILE.gguf, see --help", NULL); return -1; }
    return 1;
}

int main(int argc, char **argv)
{
    static inspector n;
    tensor_ref *refs;
    int go = parse_options(&n, argc, argv);
    if (go < 0) return EXIT_USAGE;
    if (go == 0) {
        fputs(help_text, stdout);
    } else {
        if (!model_open(&n.in, n.path)) {
            fail(EXIT_INPUT, n.in.error, NULL);
            model_close(&n.in);
            return EXIT_INPUT;
        }
        refs = tensors_sorted(&n.in.set);
        if (!refs) return fail(EXIT_OUTPUT, "out of memory", NULL);
        add_up(&n);
        if (n.json) json_all(&n, refs);
        else print_all(&n, refs);
        free(refs);
        model_close(&n.in);
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        return fail(EXIT_OUTPUT, "writing the output failed", strerror(errno));
    return EXIT_DONE;
}
