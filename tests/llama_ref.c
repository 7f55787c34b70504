/* Stock llama.cpp's answers for tests/real_models.sh, through its C API; needs libllama.
 *
 *     llama_ref tokens MODEL FILE               token ids of a text, one a line
 *     llama_ref greedy MODEL FILE N             "id logit second-id second-logit" of N tokens
 *     llama_ref ppl MODEL FILE CTX CHUNKS       the chunks and the last line of perplexity */
#include <llama.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static char *read_file(const char *path, int *n)
{
    FILE *f = fopen(path, "rb");
    char *p = (char *)malloc(1 << 26);
    *n = f && p ? (int)fread(p, 1, 1 << 26, f) : -1;
    if (f) fclose(f);
    return p;
}

static int best(const float *x, int n, int not)
{
    int i, b = not == 0;
    for (i = 0; i < n; i++) if (i != not && x[i] > x[b]) b = i;
    return b;
}

static int greedy(struct llama_context *c, const struct llama_vocab *v, llama_token *id, int n_id,
                  int n)
{
    int nv = llama_vocab_n_tokens(v), i;
    if (llama_decode(c, llama_batch_get_one(id, n_id))) return 1;
    for (i = 0; i < n; i++) {
        float *x = llama_get_logits_ith(c, -1);
        llama_token a = best(x, nv, -1), b = best(x, nv, a);
        printf("%d %.4f %d %.4f\n", a, (double)x[a], b, (double)x[b]);
        if (llama_vocab_is_eog(v, a)) break;
        if (llama_decode(c, llama_batch_get_one(&a, 1))) return 1;
    }
    return 0;
}

static int ppl(struct llama_context *c, const struct llama_vocab *v, const llama_token *id,
               int n_id, int ctx, int chunks)
{
    int nv = llama_vocab_n_tokens(v), bos = llama_vocab_get_add_bos(v) ? 1 : 0, k, i, j;
    long count = 0;
    double nll = 0;
    for (k = 0; k < chunks && (k + 1) * (ctx - bos) <= n_id; k++) {
        struct llama_batch b = llama_batch_init(ctx, 0, 1);
        if (bos) b.token[0] = llama_vocab_bos(v);
        memcpy(b.token + bos, id + k * (ctx - bos), (size_t)(ctx - bos) * sizeof *id);
        b.n_tokens = ctx;
        for (i = 0; i < ctx; i++) {
            b.pos[i] = i;
            b.n_seq_id[i] = 1;
            b.seq_id[i][0] = 0;
            b.logits[i] = 1;
        }
        llama_memory_clear(llama_get_memory(c), true);
        if (llama_decode(c, b)) return 1;
        for (i = 0; i + 1 < ctx; i++, count++) {
            float *x = llama_get_logits_ith(c, i), most = x[best(x, nv, -1)];
            double sum = 0;
            for (j = 0; j < nv; j++) sum += exp((double)(x[j] - most));
            nll += log(sum) + (double)most - (double)x[b.token[i + 1]];
        }
        llama_batch_free(b);
    }
    printf("tokens %ld nll %.6f ppl %.4f\n", count, nll / (double)count, exp(nll / (double)count));
    return 0;
}

int main(int argc, char **argv)
{
    struct llama_model_params mp = llama_model_default_params();
    struct llama_context_params cp = llama_context_default_params();
    struct llama_model *m;
    struct llama_context *c;
    const struct llama_vocab *v;
    llama_token *id;
    int size, n, i, r, mode;
    char *text;
    if (argc < 4) return 2;
    mode = argv[1][0];
    llama_log_set(quiet, NULL);
    llama_backend_init();
    mp.vocab_only = mode == 't';
    mp.use_extra_bufts = false;         /* its AMX kernels die under some virtual machines        */
    m = llama_model_load_from_file(argv[2], mp);
    text = read_file(argv[3], &size);
    if (!m || size < 0) return 1;
    v = llama_model_get_vocab(m);
    id = (llama_token *)malloc(((size_t)size + 16) * sizeof *id);
    if (!id) return 1;
    n = llama_tokenize(v, text, size, id, size + 16, mode != 'p', false);
    if (n < 0) return 1;
    if (mode == 't') {
        for (i = 0; i < n; i++) printf("%d\n", id[i]);
        return 0;
    }
    cp.n_ctx = mode == 'p' && argc > 4 ? (uint32_t)atoi(argv[4]) : 2048;
    cp.n_batch = 2048;
    cp.n_threads = cp.n_threads_batch = 2;
    c = llama_init_from_model(m, cp);
    if (!c || argc < 5) return 1;
    r = mode == 'g' ? greedy(c, v, id, n, atoi(argv[4]))
                    : ppl(c, v, id, n, atoi(argv[4]), argc > 5 ? atoi(argv[5]) : 1 << 20);
    llama_free(c);
    llama_model_free(m);
    return r;
}
