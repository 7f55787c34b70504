/* generate: continues a text, or talks.
 *
 *     generate MODEL.gguf -p "Once upon a time" [-n 128] [--temp 0.8] [--top-k 40] [--top-p 0.95]
 *     generate MODEL.gguf --chat                    one line of yours at a time, until end of file
 *
 * The text streams to stdout; speeds and memory go to stderr at the end.  --temp 0 always takes the
 * most probable token.  --chat wraps what you say in the turns that the model was trained on, for
 * the families ChatML (SmolLM2, Qwen), Llama 3, Llama 2 / Mistral and Gemma. */
#include "common.h"
#include "llama.h"

typedef struct options {
    const char *model, *prompt, *file, *tokens;
    size_t      n, n_ctx, threads, top_k;
    double      temp, top_p;
    uint64_t    seed;
    int         chat, trace;
} options;

typedef struct session {
    const options *o;
    llama_model   *model;
    llama_context *c;
    float         *logits;          /* [n_vocab]                                                 */
    struct choice { float logit; int32_t id; } *choices;        /* [n_vocab]                     */
    uint64_t       random;
    size_t         n_prompt, n_made;        /* tokens                                            */
    int            closed;          /* the model ended its turn by itself                        */
    double         t_prompt, t_made;        /* seconds                                           */
} session;

static const char usage[] =
    "usage: generate MODEL.gguf [-p PROMPT] [-n N] [--temp T] [--top-k K] [--top-p P] [--seed S]\n"
    "                [--chat] [-c CTX] [-t THREADS]\n"
    "  -n N          at most so many tokens (128; a turn of a chat: 512)\n"
    "  --temp T      0 takes the most probable token always; default 0.8\n"
    "  --top-k K     choose among the K most probable tokens; 0: all; default 40\n"
    "  --top-p P     ... and among those that make up this probability; default 0.95\n"
    "  --seed S      same seed, same text; default 1\n"
    "  --chat        wrap the prompt, or each line of the input, in the model's turns\n"
    "  -c CTX        tokens that fit into the context\n"
    "  --prompt-file FILE  take the prompt from a file\n"
    "  --tokens FILE print the token ids of a text and nothing else\n"
    "  --trace       print the ids of generated tokens, their logits and the runner-up instead\n"
    "  -t N          threads, default: all processors\n";

static int fail(const char *what, const char *why)
{
    return complain("generate", what, why);
}

/* Sampling --------------------------------------------------------------------------------------*/

static double uniform(uint64_t *state)          /* splitmix64, [0, 1) */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) / 9007199254740992.0;
}

static int falling(const void *a, const void *b)
{
    const struct choice *x = (const struct choice *)a, *y = (const struct choice *)b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Chooses a token by temperature, top-k and top-p. */
static int32_t sample(session *s)
{
    const options *o = s->o;
    size_t n_vocab = s->model->vocab.n, n = 0, i;
    float most = s->logits[llama_argmax(s->logits, n_vocab)];
    double sum = 0, part = 0, at;
    if (o->temp <= 0) return llama_argmax(s->logits, n_vocab);
    for (i = 0; i < n_vocab; i++) {             /* what is e^-40 as likely never comes           */
        if (!((double)(s->logits[i] - most) > -40 * o->temp)) continue;
        s->choices[n].logit = s->logits[i];
        s->choices[n++].id = (int32_t)i;
    }
    if (n == 0) return llama_argmax(s->logits, n_vocab);        /* NaN everywhere                */
    qsort(s->choices, n, sizeof *s->choices, falling);
    if (o->top_k && n > o->top_k) n = o->top_k;
    for (i = 0; i < n; i++) sum += exp((double)(s->choices[i].logit - most) / o->temp);
    for (i = 0; i < n && part < o->top_p * sum; i++)
        part += exp((double)(s->choices[i].logit - most) / o->temp);
    n = i ? i : 1;
    at = uniform(&s->random) * part;
    for (i = 0; i + 1 < n; i++) {
        at -= exp((double)(s->choices[i].logit - most) / o->temp);
        if (at < 0) break;
    }
    return s->choices[i].id;
}

/* Running ---------------------------------------------------------------------------------------*/

/* "id logit second-id second-logit": how near to a tie a choice was. */
static void trace(const session *s, int32_t id)
{
    size_t i, n = s->model->vocab.n, second = id == 0 && n > 1;
    for (i = 0; i < n; i++)
        if ((int32_t)i != id && s->logits[i] > s->logits[second]) second = i;
    printf("%ld %.4f %zu %.4f\n", (long)id, (double)s->logits[id], second,
           (double)s->logits[second]);
}

/* Reads the tokens and writes what follows, up to n tokens or the end of the turn. */
static int run(session *s, const llama_tokens *prompt, size_t n)
{
    const llama_vocab *v = &s->model->vocab;
    double t0 = llama_seconds();
    size_t i;
    int32_t id;
    char piece[1024];
    if (prompt->n == 0) return fail("the prompt is empty and the model has no token to start with",
                                    "");
    if (llama_eval(s->c, prompt->id, prompt->n, s->logits, 0)) return fail(s->c->err, "");
    s->n_prompt += prompt->n;
    s->t_prompt += llama_seconds() - t0;
    t0 = llama_seconds();
    s->closed = 0;
    for (i = 0; i < n && !stopped(); i++) {
        size_t len;
        id = sample(s);
        if (v->stop[id]) {                      /* a chat goes on behind it                      */
            if (s->o->trace) trace(s, id);
            if (s->o->chat && s->c->n_past < s->c->n_ctx) llama_eval(s->c, &id, 1, NULL, 0);
            s->closed = 1;
            break;
        }
        if (s->o->trace) {
            trace(s, id);
        } else {
            len = llama_piece(v, id, piece, sizeof piece, 0);
            fwrite(piece, 1, len < sizeof piece ? len : sizeof piece, stdout);
        }
        fflush(stdout);
        s->n_made++;
        if (i + 1 == n && !s->o->chat) break;
        if (s->c->n_past == s->c->n_ctx) {
            fprintf(stderr, "\n[the context of %zu tokens is full]", s->c->n_ctx);
            break;
        }
        if (llama_eval(s->c, &id, 1, s->logits, 0)) return fail(s->c->err, "");
    }
    s->t_made += llama_seconds() - t0;
    if (!s->o->trace) putchar('\n');
    return 0;
}

/* Chat ------------------------------------------------------------------------------------------
 * The turns of the families.  GGUF files carry a template in the Jinja language; running that would
 * take an interpreter, so the family is recognized by the tokens of its turns. */
typedef struct family {
    const char *mark;               /* a token that only this family has                         */
    const char *user, *assistant;   /* before what the user says; after it                       */
    const char *close, *end;        /* the end token of the assistant's turn; what follows it    */
} family;

static const family families[] = {
    { "<|im_start|>", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n",
      "<|im_end|>", "\n" },
    { "<|start_header_id|>", "<|start_header_id|>user<|end_header_id|>\n\n",
      "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
      "<|eot_id|>", "" },
    { "<start_of_turn>", "<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
      "<end_of_turn>", "\n" },
    { "[INST]", "[INST] ", " [/INST]", "</s>", "" }
};

static const family *find_family(const llama_model *m)
{
    quant_str t = { "", 0 };
    size_t i;
    quant_gguf_get_str(&m->shards[0], "tokenizer.chat_template", &t);
    for (i = 0; i < sizeof families / sizeof *families; i++) {
        quant_str mark;
        mark.p = families[i].mark;
        mark.n = strlen(mark.p);
        if (t.n >= mark.n && llama__search(t.p, t.n, mark)) return &families[i];
        if (t.n == 0 && llama_token_find(&m->vocab, mark.p, mark.n) >= 0) return &families[i];
    }
    return NULL;
}

/* ChatML templates often open with a fixed system turn: the text of the template between
 * "<|im_start|>system\n" and "<|im_end|>", if it has no code in it. */
static int add_system(const llama_model *m, llama_tokens *t)
{
    static const char open_text[] = "<|im_start|>system";
    quant_str s = { "", 0 }, mark = { open_text, sizeof open_text - 1 };
    const char *p, *end, *q;
    quant_gguf_get_str(&m->shards[0], "tokenizer.chat_template", &s);
    end = s.p + s.n;
    for (p = s.p; (p = llama__search(p, (size_t)(end - p), mark)) != NULL; ) {
        p += mark.n;
        if (end - p > 2 && p[0] == '\\' && p[1] == 'n') p += 2;
        else if (p < end && *p == '\n') p++;
        else continue;
        for (q = p; q < end && !strchr("'\"{}<\\", *q); q++) {}
        if (q == p || end - q < 10 || memcmp(q, "<|im_end|>", 10)) continue;
        return llama_tokenize(&m->vocab, t, "<|im_start|>system\n", 19, 0, 1) ||
               llama_tokenize(&m->vocab, t, p, (size_t)(q - p), 0, 0) ||
               llama_tokenize(&m->vocab, t, "<|im_end|>\n", 11, 0, 1) ? -1 : 0;
    }
    return 0;
}

/* One turn: what the user says is tokenized apart, so that it cannot contain control tokens. */
static int turn(session *s, const family *f, const char *said, size_t n, int first)
{
    llama_tokens t = { NULL, 0, 0 };
    const llama_vocab *v = &s->model->vocab;
    int r = 0;
    if (first) {
        if (v->add_bos) r = llama_tokens_add(&t, v->bos);
        if (r == 0 && f == &families[0]) r = add_system(s->model, &t);
    } else {
        if (!s->closed) r = llama_tokenize(v, &t, f->close, strlen(f->close), 0, 1);
        if (r == 0) r = llama_tokenize(v, &t, f->end, strlen(f->end), 0, 1);
    }
    if (r == 0) r = llama_tokenize(v, &t, f->user, strlen(f->user), 0, 1);
    if (r == 0) r = llama_tokenize(v, &t, said, n, 0, 0);
    if (r == 0) r = llama_tokenize(v, &t, f->assistant, strlen(f->assistant), 0, 1);
    if (r) r = fail("out of memory", "");
    else r = run(s, &t, s->o->n);
    free(t.id);
    return r;
}

static int chat(session *s)
{
    const family *f = find_family(s->model);
    char line[8192];
    int first = 1;
    if (!f) return fail("the model has no chat template that is known here", "");
    if (s->o->prompt) return turn(s, f, s->o->prompt, strlen(s->o->prompt), 1);
    while (!stopped()) {
        size_t n;
        if (isatty(0)) fputs("> ", stderr);
        if (!fgets(line, sizeof line, stdin)) break;
        n = strlen(line);
        while (n && (line[n - 1] == '\n' || line[n - 1] == '\r')) n--;
        if (n == 0) continue;
        if (turn(s, f, line, n, first)) return 1;
        first = 0;
    }
    return 0;
}

static int plain(session *s)
{
    llama_tokens t = { NULL, 0, 0 };
    const char *p = s->o->prompt ? s->o->prompt : "";
    char *text = NULL;
    size_t n = strlen(p);
    int r;
    if (s->o->file) {
        text = llama_read_file(s->o->file, &n);
        if (!text) return fail(s->o->file, "cannot be read");
        p = text;
    }
    if (llama_tokenize(&s->model->vocab, &t, p, n, 1, 0)) r = fail("out of memory", "");
    else {
        if (!s->o->trace) fwrite(p, 1, n, stdout);
        r = run(s, &t, s->o->n);
    }
    free(t.id);
    free(text);
    return r;
}

static int print_tokens(const llama_model *m, const char *path)
{
    llama_tokens t = { NULL, 0, 0 };
    size_t size = 0, i;
    char *text = llama_read_file(path, &size);
    int r = 0;
    if (!text) return fail(path, "cannot be read");
    if (llama_tokenize(&m->vocab, &t, text, size, 1, 0)) r = fail("out of memory", "");
    for (i = 0; i < t.n && r == 0; i++) printf("%ld\n", (long)t.id[i]);
    free(t.id);
    free(text);
    return r;
}

/* The program -----------------------------------------------------------------------------------*/

static int real(const char *s, double least, double most, double *out)
{
    char *end;
    double d = s ? strtod(s, &end) : 0;
    if (!s || end == s || *end || !(d >= least && d <= most)) return 0;
    *out = d;
    return 1;
}

static int parse(options *o, int argc, char **argv)
{
    double n = 0, ctx = 0, threads = (double)llama_n_threads(), k = 40, seed = 1;
    int i;
    memset(o, 0, sizeof *o);
    o->temp = 0.8;
    o->top_p = 0.95;
    for (i = 1; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        int ok;
        if (!strcmp(a, "--chat")) { o->chat = 1; continue; }
        if (!strcmp(a, "--trace")) { o->trace = 1; continue; }
        if (a[0] != '-') {
            if (o->model) return fail("bad argument (see --help)", a);
            o->model = a;
            continue;
        }
        if (!strcmp(a, "-p")) ok = (o->prompt = value) != NULL;
        else if (!strcmp(a, "--prompt-file")) ok = (o->file = value) != NULL;
        else if (!strcmp(a, "--tokens")) ok = (o->tokens = value) != NULL;
        else if (!strcmp(a, "-n")) ok = real(value, 1, 1e9, &n);
        else if (!strcmp(a, "-c")) ok = real(value, 2, 1e9, &ctx);
        else if (!strcmp(a, "-t")) ok = real(value, 1, 1024, &threads);
        else if (!strcmp(a, "--temp")) ok = real(value, 0, 100, &o->temp);
        else if (!strcmp(a, "--top-k")) ok = real(value, 0, 1e9, &k);
        else if (!strcmp(a, "--top-p")) ok = real(value, 0, 1, &o->top_p);
        else if (!strcmp(a, "--seed")) ok = real(value, 0, 9e15, &seed);
        else ok = 0;
        if (!ok) return fail("bad argument (see --help)", a);
        i++;
    }
    o->n = n > 0 ? (size_t)n : o->chat ? 512 : 128;
    o->n_ctx = (size_t)ctx;
    o->threads = (size_t)threads;
    o->top_k = (size_t)k;
    o->seed = (uint64_t)seed;
    return o->model ? 0 : fail("a model is needed (see --help)", "");
}

static void report(const session *s)
{
    double mib = 1.0 / (1 << 20);
    fflush(stdout);                     /* the text first, also where both go into one file      */
    fprintf(stderr, "prompt: %zu tokens, %.1f per second; generated: %zu tokens, %.1f per second\n",
            s->n_prompt, s->t_prompt > 0 ? (double)s->n_prompt / s->t_prompt : 0,
            s->n_made, s->t_made > 0 ? (double)s->n_made / s->t_made : 0);
    fprintf(stderr, "memory: weights %.1f MiB in the file, %.1f MiB made from them, context of %zu "
            "tokens %.1f MiB\n", (double)s->model->tensor_bytes * mib,
            (double)s->model->arena.bytes * mib, s->c->n_ctx, (double)s->c->arena.bytes * mib);
}

int main(int argc, char **argv)
{
    options o;
    llama_model lm;
    llama_context c;
    session s;
    int r = 1;
    if (wants_help(argc, argv, usage)) return 0;
    if (parse(&o, argc, argv)) return 2;
    catch_interrupt();
    if (llama_model_open(&lm, o.model)) return fail(lm.err, "");
    if (o.tokens) {
        r = print_tokens(&lm, o.tokens);
        llama_model_close(&lm);
        return r;
    }
    if (!o.n_ctx) o.n_ctx = lm.hp.n_ctx_train < 4096 ? lm.hp.n_ctx_train : 4096;
    memset(&s, 0, sizeof s);
    s.o = &o;
    s.model = &lm;
    s.c = &c;
    s.random = o.seed;
    s.logits = (float *)malloc(lm.vocab.n * sizeof *s.logits);
    s.choices = (struct choice *)malloc(lm.vocab.n * sizeof *s.choices);
    if (!s.logits || !s.choices) r = fail("out of memory", "");
    else if (llama_context_init(&c, &lm, o.n_ctx, 128, o.threads)) r = fail(c.err, "");
    else {
        r = o.chat ? chat(&s) : plain(&s);
        if (s.n_prompt) report(&s);
        llama_context_free(&c);
    }
    free(s.logits);
    free(s.choices);
    llama_model_close(&lm);
    return r;
}
