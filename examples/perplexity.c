/* perplexity: how well a model predicts a text, and how far it is from another model.
 *
 *     perplexity MODEL.gguf TEXT [--ctx 512] [--chunks N] [--kld BASE.gguf] [-t THREADS]
 *
 * The text is cut into chunks of BOS and ctx - 1 tokens, one after the other, and every token after
 * the first of a chunk is scored.  The last line is for scripts:
 *
 *     tokens 51100 nll 1.0831 ppl 2.9538 bits_per_byte 1.5626
 *
 * nll is the mean of -ln p(token), ppl its exponential; bits_per_byte divides by the bytes that the
 * scored tokens stand for and so compares models with different tokenizers.  With --kld the line
 * goes on: `kld_mean A kld_99 B same_top C`, the mean and the 99 % quantile of KL(BASE || MODEL)
 * per token and the share of tokens where both give the same one the largest probability.  BASE
 * needs the same vocabulary; it is usually the F16 file that MODEL was quantized from. */
#include "common.h"
#include "llama.h"

typedef struct options {
    const char *model, *text, *base;
    size_t      n_ctx, chunks, threads;
} options;

/* One batch of logits to be scored, shared by the threads of the pool. */
typedef struct scoring {
    const float   *logits, *base;   /* [n x n_vocab]; base NULL without --kld                    */
    const int32_t *next;            /* [n] the tokens that came                                  */
    size_t         n, n_vocab;
    double        *nll, *kl;        /* [n]                                                       */
    uint8_t       *same;            /* [n]                                                       */
} scoring;

typedef struct totals {
    double  nll, bytes, same;
    double *kl;                     /* [cap] of all tokens                                       */
    size_t  n;
} totals;

static const char usage[] =
    "usage: perplexity MODEL.gguf TEXT [--ctx 512] [--chunks N] [--kld BASE.gguf] [-t THREADS]\n"
    "  --ctx N       tokens of a chunk\n"
    "  --chunks N    at most so many chunks\n"
    "  --kld BASE    also the KL divergence from BASE, a model with the same vocabulary\n"
    "  -t N          threads, default: all processors\n";

static int fail(const char *what, const char *why)
{
    return complain("perplexity", what, why);
}

/* ln of the sum of e^x, in double. */
static double log_sum_exp(const float *x, size_t n)
{
    float most = x[llama_argmax(x, n)];
    double sum[4] = { 0 };
    size_t i;
    for (i = 0; i < n; i++) sum[i % 4] += (double)expf(x[i] - most);
    return (double)most + log(sum[0] + sum[1] + (sum[2] + sum[3]));
}

static void score(void *arg, size_t thread, size_t n_threads)
{
    const scoring *s = (const scoring *)arg;
    size_t t, t1, i;
    llama_share(s->n, thread, n_threads, &t, &t1);
    for (; t < t1; t++) {
        const float *x = s->logits + t * s->n_vocab, *b;
        double lx = log_sum_exp(x, s->n_vocab), lb, kl = 0;
        s->nll[t] = lx - (double)x[s->next[t]];
        if (!s->base) continue;
        b = s->base + t * s->n_vocab;
        lb = log_sum_exp(b, s->n_vocab);
        for (i = 0; i < s->n_vocab; i++) {
            double p = (double)b[i] - lb;
            if (p > -40) kl += (double)expf((float)p) * (p - ((double)x[i] - lx));
        }
        s->kl[t] = kl;
        s->same[t] = llama_argmax(x, s->n_vocab) == llama_argmax(b, s->n_vocab);
    }
}

/* Runs one chunk [n_ctx] through the models in step and adds its scores. */
static int run_chunk(llama_context *c, llama_context *base, const int32_t *chunk, size_t n_ctx,
                     float *logits, scoring *s, totals *sum)
{
    size_t i, k, n = n_ctx - 1, t;
    c->n_past = 0;
    if (base) base->n_past = 0;
    for (i = 0; i < n; i += k) {
        k = n - i < c->n_batch ? n - i : c->n_batch;
        if (llama_eval(c, chunk + i, k, logits, 1)) return fail(c->err, "");
        s->logits = logits;
        s->base = NULL;
        if (base) {
            s->base = logits + c->n_batch * s->n_vocab;
            if (llama_eval(base, chunk + i, k, logits + c->n_batch * s->n_vocab, 1))
                return fail(base->err, "");
        }
        s->next = chunk + i + 1;
        s->n = k;
        llama_pool_run(&c->pool, score, s);
        for (t = 0; t < k; t++) {
            sum->nll += s->nll[t];
            sum->bytes += (double)llama_piece(&c->model->vocab, s->next[t], NULL, 0, 1);
            if (base) {
                sum->kl[sum->n] = s->kl[t];
                sum->same += s->same[t];
            }
            sum->n++;
        }
        if (stopped()) break;
    }
    return 0;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(totals *sum, int kld)
{
    double n = (double)sum->n, nll = sum->nll / n, mean = 0;
    size_t i;
    printf("tokens %zu nll %.6f ppl %.4f bits_per_byte %.4f", sum->n, nll, exp(nll),
           sum->nll / log(2) / (sum->bytes > 0 ? sum->bytes : 1));
    if (kld) {
        for (i = 0; i < sum->n; i++) mean += sum->kl[i] / n;
        qsort(sum->kl, sum->n, sizeof *sum->kl, rising);
        printf(" kld_mean %.6f kld_99 %.6f same_top %.4f", mean,
               sum->kl[(size_t)(0.99 * (n - 1))], sum->same / n);
    }
    putchar('\n');
}

static int run(const options *o, llama_context *c, llama_context *base, const llama_tokens *t)
{
    const llama_vocab *v = &c->model->vocab;
    size_t chunks = llama_n_chunks(v, t, o->n_ctx), i, b = c->n_batch;
    double since = llama_seconds();
    float *logits = (float *)malloc((base ? 2 : 1) * b * v->n * sizeof *logits);
    int32_t *chunk = (int32_t *)malloc(o->n_ctx * sizeof *chunk);
    scoring s;
    totals sum;
    int r = 0;
    memset(&sum, 0, sizeof sum);
    if (chunks > o->chunks) chunks = o->chunks;
    s.n_vocab = v->n;
    s.nll = (double *)malloc(b * sizeof *s.nll);
    s.kl = (double *)malloc(b * sizeof *s.kl);
    s.same = (uint8_t *)malloc(b);
    sum.kl = (double *)malloc((base ? chunks : 1) * o->n_ctx * sizeof *sum.kl);
    if (!logits || !chunk || !s.nll || !s.kl || !s.same || !sum.kl) r = fail("out of memory", "");
    for (i = 0; i < chunks && r == 0 && !stopped(); i++) {
        char note[64] = "";
        llama_chunk(v, t, o->n_ctx, i, chunk);
        r = run_chunk(c, base, chunk, o->n_ctx, logits, &s, &sum);
        if (sum.n) snprintf(note, sizeof note, "ppl %.4f", exp(sum.nll / (double)sum.n));
        if (r == 0) llama_progress(i + 1, chunks, since, note);
    }
    if (r == 0 && stopped()) r = fail("interrupted", "");
    if (sum.n && (r == 0 || stopped())) {
        fprintf(stderr, "%.1f s, %.1f tokens per second\n", llama_seconds() - since,
                (double)sum.n / (llama_seconds() - since));
        report(&sum, base != NULL);
    }
    free(logits);
    free(chunk);
    free(s.nll);
    free(s.kl);
    free(s.same);
    free(sum.kl);
    return r;
}

static int same_vocab(const llama_vocab *a, const llama_vocab *b)
{
    size_t i;
    if (a->n != b->n || a->add_bos != b->add_bos) return 0;
    for (i = 0; i < a->n; i++)
        if (a->text[i].n != b->text[i].n ||
            memcmp(a->text[i].p, b->text[i].p, a->text[i].n)) return 0;
    return 1;
}

static int number(const char *s, size_t least, size_t *out)
{
    char *end;
    unsigned long n = s ? strtoul(s, &end, 10) : 0;
    if (!s || *end || end == s || *s == '-' || n < least || n > 1u << 30) return 0;
    *out = n;
    return 1;
}

static int parse(options *o, int argc, char **argv)
{
    int i;
    memset(o, 0, sizeof *o);
    o->n_ctx = 512;
    o->chunks = (size_t)-1;
    o->threads = llama_n_threads();
    for (i = 1; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        int ok = 1;
        if (a[0] != '-') {
            if (!o->model) o->model = a;
            else if (!o->text) o->text = a;
            else ok = 0;
        } else {
            if (!strcmp(a, "--ctx")) ok = number(value, 2, &o->n_ctx);
            else if (!strcmp(a, "--chunks")) ok = number(value, 1, &o->chunks);
            else if (!strcmp(a, "-t")) ok = number(value, 1, &o->threads);
            else if (!strcmp(a, "--kld")) ok = (o->base = value) != NULL;
            else ok = 0;
            i++;
        }
        if (!ok) return fail("bad argument (see --help)", a);
    }
    return o->text ? 0 : fail("a model and a text are needed (see --help)", "");
}

int main(int argc, char **argv)
{
    options o;
    llama_model lm, base;
    llama_context c, cb;
    llama_tokens t = { NULL, 0, 0 };
    size_t size = 0, batch;
    char *text;
    int r = 1;
    if (wants_help(argc, argv, usage)) return 0;
    if (parse(&o, argc, argv)) return 2;
    catch_interrupt();
    memset(&base, 0, sizeof base);
    memset(&c, 0, sizeof c);
    memset(&cb, 0, sizeof cb);
    text = llama_read_file(o.text, &size);
    if (!text) return fail(o.text, "cannot be read");
    if (llama_model_open(&lm, o.model)) {
        free(text);
        return fail(lm.err, "");
    }
    batch = (1u << 23) / lm.vocab.n;            /* logits of a batch: some 32 MiB                */
    batch = batch < 8 ? 8 : batch > 128 ? 128 : batch;
    if (o.base && llama_model_open(&base, o.base)) fail(base.err, "");
    else if (o.base && !same_vocab(&lm.vocab, &base.vocab))
        fail(o.base, "has another vocabulary than the model");
    else if (llama_context_init(&c, &lm, o.n_ctx, batch, o.threads)) fail(c.err, "");
    else if (o.base && llama_context_init(&cb, &base, o.n_ctx, batch, o.threads)) fail(cb.err, "");
    else if (llama_tokenize(&lm.vocab, &t, text, size, 0, 0)) fail("out of memory", "");
    else if (llama_n_chunks(&lm.vocab, &t, o.n_ctx) == 0)
        fail(o.text, "the text is shorter than one chunk of --ctx tokens");
    else r = run(&o, &c, o.base ? &cb : NULL, &t);
    llama_context_free(&c);
    llama_context_free(&cb);
    llama_model_close(&lm);
    llama_model_close(&base);
    free(t.id);
    free(text);
    return r;
}
