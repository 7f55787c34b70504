/* GPTQ: against an explicit inverse of what remains at every step, against round to nearest, and
 * on Hessians that are not what they should be. */
#include "test.h"
#include <math.h>

static const quant_type targets[] = {
    QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0, QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K,
    QUANT_Q5_K, QUANT_Q6_K, QUANT_IQ4_NL, QUANT_IQ4_XS, QUANT_MXFP4, QUANT_NVFP4, QUANT_TQ2_0
};
enum { N_TARGETS = sizeof targets / sizeof *targets };

/* A layer: weights [rows x cols] and the lower half of H of correlated inputs. */
typedef struct layer {
    size_t rows, cols;
    float *w, *h;                   /* h [cols x cols]                                           */
    double *full;                   /* [cols x cols] symmetric, as given                         */
} layer;

static void layer_free(layer *l)
{
    free(l->w);
    free(l->h);
    free(l->full);
}

/* H of x [tokens x cols]. */
static void layer_hessian(layer *l, const float *x, size_t tokens)
{
    size_t i, j, t, n = l->cols;
    for (i = 0; i < n; i++)
        for (j = 0; j <= i; j++) {
            double s = 0;
            for (t = 0; t < tokens; t++) s += (double)x[t * n + i] * (double)x[t * n + j];
            l->h[i * n + j] = (float)s;
            l->full[i * n + j] = l->full[j * n + i] = (double)(float)s;
        }
}

/* Inputs with a few common causes and very different scales, columns 5 and 9 dead if asked. */
static void layer_make(layer *l, size_t rows, size_t cols, size_t tokens, uint64_t seed, int dead)
{
    enum { CAUSES = 6 };
    float *x = (float *)malloc((tokens + 1) * cols * sizeof *x);
    double *mix = (double *)malloc(cols * CAUSES * sizeof *mix);
    size_t t, i, k;
    l->rows = rows;
    l->cols = cols;
    l->w = (float *)malloc(rows * cols * sizeof *l->w);
    l->h = (float *)calloc(cols * cols, sizeof *l->h);
    l->full = (double *)calloc(cols * cols, sizeof *l->full);
    if (!x || !mix || !l->w || !l->h || !l->full) exit(1);
    for (i = 0; i < cols * CAUSES; i++) mix[i] = test_normal(&seed);
    for (t = 0; t < tokens; t++) {
        double cause[CAUSES];
        for (k = 0; k < CAUSES; k++) cause[k] = test_normal(&seed);
        for (i = 0; i < cols; i++) {
            double v = 0.4 * test_normal(&seed);
            for (k = 0; k < CAUSES; k++) v += 0.5 * mix[i * CAUSES + k] * cause[k];
            v *= exp(0.7 * sin((double)i * 1.7));
            x[t * cols + i] = dead && (i == 5 || i == 9) ? 0 : (float)v;
        }
    }
    for (i = 0; i < rows * cols; i++) l->w[i] = (float)(0.02 * test_normal(&seed));
    layer_hessian(l, x, tokens);
    free(x);
    free(mix);
}

/* (v - w) H (v - w)^T of one row. */
static double loss_of(const layer *l, size_t row, const float *v)
{
    size_t i, j, n = l->cols;
    double s = 0;
    for (i = 0; i < n; i++) {
        double a = 0;
        for (j = 0; j < n; j++)
            a += l->full[i * n + j] * ((double)v[j] - (double)l->w[row * n + j]);
        s += a * ((double)v[i] - (double)l->w[row * n + i]);
    }
    return s;
}

typedef struct result {
    quant_gptq g;
    void *buf, *scratch;
    uint8_t *bytes, *codes, *zeros, *plain;
    uint16_t *scales;
    float *values, *h;
    double *loss;
    quant_result code;
    quant_error err;
} result;

static void result_free(result *r)
{
    free(r->buf);
    free(r->scratch);
    free(r->bytes);
    free(r->codes);
    free(r->zeros);
    free(r->plain);
    free(r->scales);
    free(r->values);
    free(r->h);
    free(r->loss);
}

/* Prepares and quantizes in row ranges of `step`. */
static void quantize(result *r, const layer *l, const quant_grid *grid, const quant_gptq_opt *opt,
                     size_t step)
{
    size_t size = quant_gptq_size(grid, l->cols), row, n = l->rows * l->cols, each;
    quant_gptq_out out;
    memset(r, 0, sizeof *r);
    memset(&out, 0, sizeof out);
    r->buf = malloc(size);
    r->h = (float *)malloc(l->cols * l->cols * sizeof *r->h);
    r->bytes = (uint8_t *)calloc(l->rows, grid->bits ? 1 : quant_row_size(grid->type, l->cols));
    r->codes = (uint8_t *)calloc(n, 1);
    r->zeros = (uint8_t *)calloc(n, 1);
    r->plain = (uint8_t *)calloc(l->rows, 1);
    r->scales = (uint16_t *)calloc(n, 2);
    r->values = (float *)calloc(n, sizeof *r->values);
    r->loss = (double *)calloc(l->rows, sizeof *r->loss);
    if (!r->buf || !r->h || !r->codes || !r->values || !r->loss || !r->plain) exit(1);
    memset(r->plain, 7, l->rows);
    memcpy(r->h, l->h, l->cols * l->cols * sizeof *r->h);
    out.rows = r->bytes;
    out.codes = r->codes;
    out.zeros = r->zeros;
    out.scales = r->scales;
    out.values = r->values;
    out.loss = r->loss;
    out.plain = r->plain;
    r->code = quant_gptq_prepare(&r->g, grid, r->h, l->cols, l->cols, opt, r->buf, size,
                                 quant_cpu_detect(), &r->err);
    if (r->code != QUANT_OK) return;
    each = quant_gptq_scratch_size(&r->g);
    r->scratch = malloc(each);
    if (!r->scratch) exit(1);
    for (row = 0; row < l->rows && r->code == QUANT_OK; row += step)
        r->code = quant_gptq_rows(&out, &r->g, l->w, l->cols, row,
                                  row + step < l->rows ? row + step : l->rows, r->scratch, each,
                                  &r->err);
}

static quant_grid grid_of(quant_type t)
{
    quant_grid g;
    memset(&g, 0, sizeof g);
    g.type = t;
    if (t == QUANT_NVFP4) g.tensor_scale = quant_tensor_scale(t, 0.09f);
    return g;
}

static quant_grid grid_int(uint32_t bits, uint32_t group, uint32_t symmetric, uint32_t search)
{
    quant_grid g;
    memset(&g, 0, sizeof g);
    g.bits = bits;
    g.group = group;
    g.symmetric = symmetric;
    g.search = search;
    return g;
}

/* Inverse of the lower right part of a [n x n] from `from`, by Gauss and Jordan. */
static void inverse_of(double *inv, const double *a, size_t n, size_t from)
{
    size_t m = n - from, i, j, k;
    double *t = (double *)malloc(m * 2 * m * sizeof *t);
    if (!t) exit(1);
    for (i = 0; i < m; i++)
        for (j = 0; j < m; j++) {
            t[i * 2 * m + j] = a[(from + i) * n + from + j];
            t[i * 2 * m + m + j] = i == j;
        }
    for (k = 0; k < m; k++) {
        double d = t[k * 2 * m + k];
        for (j = 0; j < 2 * m; j++) t[k * 2 * m + j] /= d;
        for (i = 0; i < m; i++) {
            double f = t[i * 2 * m + k];
            if (i == k) continue;
            for (j = 0; j < 2 * m; j++) t[i * 2 * m + j] -= f * t[k * 2 * m + j];
        }
    }
    for (i = 0; i < m; i++)
        for (j = 0; j < m; j++) inv[i * m + j] = t[i * 2 * m + m + j];
    free(t);
}

/* The definition: column after column, with the inverse of what remains computed anew; or, wrong,
 * with a slice of the inverse of the whole.  Codes of 4 bits with the scale and zero of each
 * row. */
static void by_definition(uint8_t *codes, const layer *l, const result *r, int wrong)
{
    size_t n = l->cols, row, i, j, at;
    double *a = (double *)calloc(n * n, sizeof *a);
    double *inv = (double *)calloc(n * n, sizeof *inv);
    double *w = (double *)malloc(l->rows * n * sizeof *w);
    if (!a || !inv || !w) exit(1);
    for (i = 0; i < n; i++)
        for (j = 0; j < n; j++)
            a[i * n + j] = l->full[r->g.order[i] * n + r->g.order[j]] +
                           (i == j ? (double)r->g.added : 0);
    for (row = 0; row < l->rows; row++)
        for (i = 0; i < n; i++) w[row * n + i] = (double)l->w[row * n + r->g.order[i]];
    if (wrong) inverse_of(inv, a, n, 0);
    for (at = 0; at < n; at++) {
        size_t m = n - at, ld = wrong ? n : m, first = wrong ? at * n + at : 0;
        if (!wrong) inverse_of(inv, a, n, at);
        for (row = 0; row < l->rows; row++) {
            float s;
            double z = r->zeros[row], q, e;
            quant_to_f32(QUANT_F16, &s, &r->scales[row], 1, 1);
            q = nearbyint(w[row * n + at] / (double)s + z);
            q = q < 0 ? 0 : q > 15 ? 15 : q;
            codes[row * n + r->g.order[at]] = (uint8_t)q;
            e = (w[row * n + at] - (double)s * (q - z)) / inv[first];
            for (j = 1; j < m; j++) w[row * n + at + j] -= e * inv[first + j];
        }
        (void)ld;
    }
    free(a);
    free(inv);
    free(w);
}

static void explicit_inverse(void)
{
    static const uint32_t orders[] = { QUANT_GPTQ_NATURAL, QUANT_GPTQ_GROUP, QUANT_GPTQ_ACT };
    size_t o, i;
    for (o = 0; o < 3; o++) {
        layer l;
        result r;
        quant_grid grid = grid_int(4, 0, 0, 0);
        quant_gptq_opt opt;
        size_t n, differ = 0, differ_wrong = 0;
        uint8_t *codes;
        memset(&opt, 0, sizeof opt);
        opt.sweeps = -1;
        opt.trials = 1;
        opt.order = orders[o];
        layer_make(&l, 40, 72, 300, 11 + o, 0);
        n = l.rows * l.cols;
        quantize(&r, &l, &grid, &opt, l.rows);
        CHECK(r.code == QUANT_OK);
        codes = (uint8_t *)malloc(n);
        if (!codes) exit(1);
        by_definition(codes, &l, &r, 0);
        for (i = 0; i < n; i++) differ += codes[i] != r.codes[i];
        by_definition(codes, &l, &r, 1);
        for (i = 0; i < n; i++) differ_wrong += codes[i] != r.codes[i];
        test_note("order %u: %zu of %zu codes differ, %zu with the wrong slice", orders[o], differ,
                  n, differ_wrong);
        CHECK(differ <= n / 500);       /* a float at a boundary may fall to the other side      */
        CHECK(differ_wrong >= n / 10);
        free(codes);
        result_free(&r);
        layer_free(&l);
    }
}

/* What is reported is what is stored: values, loss, and bytes that decode to them. */
static void stored_is_reported(void)
{
    size_t t, i;
    for (t = 0; t < N_TARGETS; t++) {
        layer l;
        result r;
        quant_grid grid = grid_of(targets[t]);
        float *y, amax = 0, diff = 0;
        double sum = 0, told = 0;
        layer_make(&l, 35, t % 4 ? 256 : 512, 400, 40 + t, 1);
        quantize(&r, &l, &grid, NULL, l.rows);
        test_note("%s: %s", quant_type_name(targets[t]), r.err.what ? r.err.what : "");
        CHECK(r.code == QUANT_OK);
        y = (float *)malloc(l.rows * l.cols * sizeof *y);
        if (!y) exit(1);
        CHECK(quant_to_f32(targets[t], y, r.bytes, l.rows, l.cols) == QUANT_OK);
        for (i = 0; i < l.rows * l.cols; i++) {
            float v = y[i] * r.g.grid.tensor_scale;
            amax = fmaxf(amax, fabsf(v));
            diff = fmaxf(diff, fabsf(v - r.values[i]));
        }
        for (i = 0; i < l.rows; i++) {
            sum += loss_of(&l, i, r.values + i * l.cols);
            told += r.loss[i];
        }
        test_note("%s: values differ by %g of %g, loss %g, told %g", quant_type_name(targets[t]),
                  (double)diff, (double)amax, sum, told);
        CHECK(diff <= 2e-6f * amax);
        CHECK(fabs(sum - told) <= 1e-3 * sum + 1e-9);
        CHECK(r.g.dead == 2);
        free(y);
        result_free(&r);
        layer_free(&l);
    }
}

/* Plain rounding of one row to y, by the type's encoder; bytes has room for a row. */
static void plain_row(float *y, uint8_t *bytes, const layer *l, const result *r, size_t row,
                      const float *importance)
{
    quant_encoder e;
    size_t i;
    quant_encoder_init(&e, r->g.grid.type, QUANT_EFFORT_REFERENCE, NULL, 0);
    e.tensor_scale = r->g.grid.tensor_scale;
    CHECK(quant_from_f32(&e, bytes, l->w + row * l->cols, 1, l->cols,
                         importance, NULL) == QUANT_OK);
    quant_to_f32(e.type, y, bytes, 1, l->cols);
    for (i = 0; i < l->cols; i++) y[i] *= e.tensor_scale;
}

/* The same to integers by the definition: range of each group, scale a half float. */
static void plain_integers(float *y, const layer *l, const result *r, size_t row)
{
    const quant_grid *grid = &r->g.grid;
    const float *w = l->w + row * l->cols, top = (float)((1 << grid->bits) - 1);
    size_t group = grid->group ? grid->group : l->cols, g, i;
    uint32_t g_idx[512];
    quant_gptq_groups(&r->g, g_idx);
    for (g = 0; g < l->cols / group; g++) {
        float lo = 0, hi = 0, s, z;
        uint16_t half;
        quant_encoder e;
        for (i = 0; i < l->cols; i++)
            if (g_idx[i] == g) { lo = fminf(lo, w[i]); hi = fmaxf(hi, w[i]); }
        if (grid->symmetric) { hi = fmaxf(hi, -lo); lo = -hi; }
        s = (hi - lo) / top;
        quant_encoder_init(&e, QUANT_F16, 0, NULL, 0);
        quant_from_f32(&e, &half, &s, 1, 1, NULL, NULL);
        quant_to_f32(QUANT_F16, &s, &half, 1, 1);
        z = grid->symmetric ? (top + 1) / 2 : fminf(fmaxf(nearbyintf(-lo / s), 0), top);
        for (i = 0; i < l->cols; i++)
            if (g_idx[i] == g)
                y[i] = s * (fminf(fmaxf(nearbyintf(w[i] / s) + z, 0), top) - z);
    }
}

/* Checks every row against plain rounding and adds up the losses of both; returns how many rows
 * were replaced by it. */
static size_t against_plain(const layer *l, const result *r, const char *what, double *ours,
                            double *theirs)
{
    uint8_t bytes[2048];
    float y[512];
    size_t i, k, row, replaced = 0, bits = r->g.grid.bits;
    size_t row_size = bits ? 0 : quant_row_size(r->g.grid.type, l->cols);
    for (row = 0; row < l->rows; row++) {
        double mine = loss_of(l, row, r->values + row * l->cols), plain = 0;
        int same = 0;
        for (k = 0; k < (bits ? 1 : 2); k++) {
            if (bits) plain_integers(y, l, r, row);
            else plain_row(y, bytes, l, r, row, k ? r->g.importance : NULL);
            plain = loss_of(l, row, y);
            test_note("%s %s%zu group %u order %u row %zu: %g, told %g, plain %g", what,
                      bits ? "int" : quant_type_name(r->g.grid.type), bits, r->g.grid.group,
                      r->g.opt.order, row, mine, r->loss[row], plain);
            CHECK(mine <= plain * (1 + 2e-5) + 1e-12);
            same |= !bits && memcmp(bytes, r->bytes + row * row_size, row_size) == 0;
            for (i = 0; i < l->cols && bits && r->plain[row]; i++)
                same |= y[i] > r->values[row * l->cols + i] - 1e-7f &&
                        y[i] < r->values[row * l->cols + i] + 1e-7f;
        }
        CHECK(fabs(mine - r->loss[row]) <= 1e-3 * plain + 1e-12);
        CHECK(r->plain[row] <= 1);
        CHECK(!r->plain[row] || same || r->g.grid.search);
        replaced += r->plain[row];
        *ours += mine;
        *theirs += plain;
    }
    return replaced;
}

/* Every row of every type: never above plain rounding, with and without importance. */
static void never_above_nearest(void)
{
    size_t t, i, k;
    for (t = 0; t < N_TARGETS; t++) {
        layer l;
        result r;
        quant_grid grid = grid_of(targets[t]);
        double ours = 0, plain = 0;
        float y[512], importance[512];
        uint8_t bytes[2048];
        layer_make(&l, 32, t % 4 == 1 ? 512 : 256, t % 2 ? 400 : 60, 70 + t, t % 3 == 0);
        quantize(&r, &l, &grid, NULL, l.rows);
        CHECK(r.code == QUANT_OK);
        CHECK(against_plain(&l, &r, "usual", &ours, &plain) == 0);
        for (i = 0; i < l.cols; i++) importance[i] = (float)l.full[i * l.cols + i];
        for (k = 0; k < 2; k++)                 /* and with the diagonal as it is                */
            for (i = 0; i < l.rows; i++) {
                double nearest;
                plain_row(y, bytes, &l, &r, i, k ? importance : NULL);
                nearest = loss_of(&l, i, y);
                test_note("%s row %zu: loss %g, nearest %g", quant_type_name(targets[t]), i,
                          r.loss[i], nearest);
                CHECK(r.loss[i] <= nearest * (1 + 1e-6));
            }
        test_note("%s: loss %g, with importance alone %g", quant_type_name(targets[t]), ours,
                  plain);
        CHECK(ours < 0.8 * plain);
        result_free(&r);
        layer_free(&l);
    }
}

/* And where GPTQ does badly: hardly any tokens and the greatest damping, no sweeps, any order, and
 * weights that were moved towards other outputs first. */
static void never_above_nearest_anyhow(void)
{
    size_t t, k, replaced = 0, i;
    for (t = 0; t < N_TARGETS + 16; t++)
        for (k = 0; k < 4; k++) {
            static const size_t tokens[4] = { 1, 7, 30, 200 };
            layer l;
            result r;
            size_t n = t - N_TARGETS;
            quant_grid grid = t < N_TARGETS ? grid_of(targets[t])
                            : grid_int((uint32_t)(n % 4 == 3 ? 8 : n % 4 + 2),
                                       k == 3 ? 0 : 32u << k, n & 4 ? 1 : 0, n & 8 ? 1 : 0);
            quant_gptq_opt opt;
            double ours = 0, plain = 0;
            memset(&opt, 0, sizeof opt);
            opt.order = (uint32_t)((t + k) % 3);
            opt.damp = k < 2 ? 1 : 0.001f;
            opt.sweeps = k != 2 ? -1 : 1;
            opt.trials = k != 2 ? 1 : 0;
            layer_make(&l, 10, 256, tokens[k], 700 + 4 * t + k, k == 1);
            if (k == 2) {                       /* the target is not what the encoder is made for */
                quantize(&r, &l, &grid, &opt, l.rows);
                for (i = 0; i < l.rows * l.cols; i++) r.values[i] = 0.2f * l.w[l.cols + i % 777];
                CHECK(quant_gptq_shift(&r.g, l.w, l.cols, r.values, l.cols, 0, l.rows, 0.6f,
                                       r.scratch, quant_gptq_scratch_size(&r.g), NULL) == QUANT_OK);
                result_free(&r);
            }
            quantize(&r, &l, &grid, &opt, l.rows);
            test_note("%zu %zu: %s", t, k, r.err.what ? r.err.what : "");
            CHECK(r.code == QUANT_OK);
            if (r.code == QUANT_OK) replaced += against_plain(&l, &r, "odd", &ours, &plain);
            result_free(&r);
            layer_free(&l);
        }
    test_note("%zu rows replaced", replaced);
    CHECK(replaced > 0);
}

/* Few tokens ask for more damping. */
static void damp_by_tokens(void)
{
    static const struct { uint64_t tokens; float damp, want; } cases[] = {
        { 0, 0, 0.01f }, { 2560, 0, 0.1f }, { 2560, 0.3f, 0.3f }, { 100, 0, 1 },
        { 1 << 20, 0, 0.01f }
    };
    size_t i;
    layer l;
    layer_make(&l, 3, 256, 60, 3, 0);
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        quant_grid grid = grid_of(QUANT_Q4_0);
        quant_gptq_opt opt;
        result r;
        memset(&opt, 0, sizeof opt);
        opt.tokens = cases[i].tokens;
        opt.damp = cases[i].damp;
        quantize(&r, &l, &grid, &opt, l.rows);
        CHECK(r.code == QUANT_OK && fabsf(r.g.damp - cases[i].want) < 1e-6f);
        result_free(&r);
    }
    layer_free(&l);
}

/* Integers of all kinds: codes in range, values from codes, below plain rounding. */
static void integers(void)
{
    static const uint32_t bits[] = { 2, 3, 4, 8 }, groups[] = { 32, 64, 128, 0 };
    size_t b, k, i, order;
    for (b = 0; b < 4; b++)
        for (k = 0; k < 16; k++) {
            layer l;
            result r, plain;
            quant_grid grid = grid_int(bits[b], groups[k % 4], (uint32_t)(k / 4 & 1),
                                       (uint32_t)(k / 8));
            quant_gptq_opt opt;
            layer flat;
            double ours = 0, theirs = 0;
            memset(&opt, 0, sizeof opt);
            order = (b + k) % 3;
            opt.order = (uint32_t)order;
            layer_make(&l, 32, 256, 150, 200 + 16 * b + k, 0);
            quantize(&r, &l, &grid, &opt, l.rows);
            CHECK(r.code == QUANT_OK);
            flat = l;                           /* no data: plain rounding                        */
            flat.h = (float *)calloc(l.cols * l.cols, sizeof *flat.h);
            if (!flat.h) exit(1);
            quantize(&plain, &flat, &grid, &opt, l.rows);
            CHECK(plain.code == QUANT_OK && plain.g.dead == l.cols);
            for (i = 0; i < l.rows; i++) {
                ours += r.loss[i];
                theirs += loss_of(&l, i, plain.values + i * l.cols);
            }
            test_note("int%u group %u %s: loss %g, plain %g", grid.bits, grid.group,
                      grid.symmetric ? "symmetric" : "", ours, theirs);
            CHECK(ours < 0.75 * theirs);
            {
                uint32_t g_idx[256], seen[256] = { 0 };
                size_t group = grid.group ? grid.group : l.cols, bad = 0;
                quant_gptq_groups(&r.g, g_idx);
                for (i = 0; i < l.cols; i++) seen[g_idx[i] & 255]++;
                for (i = 0; i < l.cols / group; i++) CHECK(seen[i] == group);
                for (i = 0; i < l.rows * l.cols; i++) {
                    size_t at = i / l.cols * (l.cols / group) + g_idx[i % l.cols];
                    float s, v;
                    quant_to_f32(QUANT_F16, &s, &r.scales[at], 1, 1);
                    v = s * (float)((int)r.codes[i] - (int)r.zeros[at]);
                    bad += r.codes[i] >= 1u << grid.bits || r.zeros[at] >= 1u << grid.bits;
                    bad += fabsf(v - r.values[i]) > 1e-5f * fabsf(s) * 256;
                    bad += grid.symmetric && r.zeros[at] != 1u << (grid.bits - 1);
                }
                test_note("int%u group %u order %zu: %zu bad values", grid.bits, grid.group, order,
                          bad);
                CHECK(bad == 0);
            }
            free(flat.h);
            result_free(&plain);
            result_free(&r);
            layer_free(&l);
        }
}

/* Any split into rows gives the same bytes. */
static void splits(void)
{
    static const quant_type some[] = { QUANT_Q4_0, QUANT_Q2_K, QUANT_Q4_K, QUANT_Q6_K };
    size_t t, s;
    for (t = 0; t < 4; t++) {
        layer l;
        result whole;
        quant_grid grid = grid_of(some[t]);
        layer_make(&l, 70, 256, 100, 300 + t, 0);
        quantize(&whole, &l, &grid, NULL, l.rows);
        for (s = 1; s < 70; s += 23) {
            result part;
            quantize(&part, &l, &grid, NULL, s);
            CHECK(part.code == QUANT_OK);
            CHECK(!memcmp(part.bytes, whole.bytes, l.rows * quant_row_size(some[t], l.cols)));
            CHECK(!memcmp(part.values, whole.values, l.rows * l.cols * sizeof(float)));
            result_free(&part);
        }
        result_free(&whole);
        layer_free(&l);
    }
}

/* Few tokens, equal columns, an outlier, nothing at all: no silent damage. */
static void bad_hessians(void)
{
    int kind;
    for (kind = 0; kind < 5; kind++) {
        layer l;
        result r;
        quant_grid grid = grid_of(QUANT_Q4_0);
        quant_gptq_opt opt;
        size_t i, j, n = 128;
        memset(&opt, 0, sizeof opt);
        layer_make(&l, 32, n, kind == 0 ? 3 : kind == 4 ? 0 : 300, 400 + (uint64_t)kind, 0);
        for (i = 0; i < n && kind == 1; i++)    /* columns 2k and 2k + 1 equal                   */
            for (j = 0; j <= i; j++) {
                double v = l.full[(i & ~(size_t)1) * n + (j & ~(size_t)1)];
                l.h[i * n + j] = (float)v;
            }
        for (i = 0; i < n && kind == 1; i++)
            for (j = 0; j < n; j++)
                l.full[i * n + j] = (double)(i >= j ? l.h[i * n + j] : l.h[j * n + i]);
        if (kind == 1) opt.damp = 1e-6f;
        if (kind == 2) { l.h[7 * n + 7] *= 1e8f; l.full[7 * n + 7] *= 1e8; }
        if (kind == 3) for (i = 1; i < n; i++) l.h[i * n + i - 1] *= 40;    /* not positive       */
        quantize(&r, &l, &grid, &opt, l.rows);
        test_note("kind %d: %s, damp %g, raised %u, dead %zu", kind, quant_result_text(r.code),
                  (double)r.g.damp, r.g.raised, r.g.dead);
        if (kind == 3) CHECK(r.code == QUANT_E_NUMERIC || r.g.raised > 0);
        else CHECK(r.code == QUANT_OK);
        if (kind == 1) CHECK(r.g.raised > 0 && r.g.damp > 1e-6f);
        if (kind == 4) {                        /* an expert without tokens: nearest, and said so */
            double near = 0, ours = 0;
            float y[128];
            uint8_t bytes[256];
            CHECK(r.g.dead == n);
            for (i = 0; i < l.rows; i++) {
                plain_row(y, bytes, &l, &r, i, NULL);
                for (j = 0; j < n; j++) {
                    near += pow((double)(y[j] - l.w[i * n + j]), 2);
                    ours += pow((double)(r.values[i * n + j] - l.w[i * n + j]), 2);
                }
            }
            test_note("squares %g, plain %g", ours, near);
            CHECK(ours <= near && ours > 0.3 * near);
        }
        for (i = 0; i < l.rows * n && r.code == QUANT_OK; i++)
            CHECK(fabsf(r.values[i] - l.w[i]) < 0.2f);
        result_free(&r);
        layer_free(&l);
    }
}

/* W + E (H + damp)^-1 by the factor is what an inverse gives. */
static void shift(void)
{
    layer l;
    result r;
    quant_grid grid = grid_of(QUANT_Q4_0);
    size_t n = 96, rows = 37, i, j, k;
    float *e, *w;
    double *a, *inv, worst = 0, most = 0;
    uint64_t seed = 5;
    layer_make(&l, rows, n, 200, 500, 1);
    quantize(&r, &l, &grid, NULL, rows);
    e = (float *)malloc(rows * n * sizeof *e);
    w = (float *)malloc(rows * n * sizeof *w);
    a = (double *)malloc(n * n * sizeof *a);
    inv = (double *)malloc(n * n * sizeof *inv);
    if (!e || !w || !a || !inv) exit(1);
    for (i = 0; i < rows * n; i++) e[i] = (float)test_normal(&seed);
    memcpy(w, l.w, rows * n * sizeof *w);
    CHECK(quant_gptq_shift(&r.g, w, n, e, n, 0, 5, 0.5f, r.scratch, quant_gptq_scratch_size(&r.g),
                           NULL) == QUANT_OK);
    CHECK(quant_gptq_shift(&r.g, w, n, e, n, 5, rows, 0.5f, r.scratch,
                           quant_gptq_scratch_size(&r.g), NULL) == QUANT_OK);
    for (i = 0; i < n * n; i++) a[i] = l.full[i] + (i % (n + 1) == 0 ? (double)r.g.added : 0);
    inverse_of(inv, a, n, 0);
    for (i = 0; i < rows; i++)
        for (j = 0; j < n; j++) {
            double want = 0;
            for (k = 0; k < n; k++) want += 0.5 * (double)e[i * n + k] * inv[k * n + j];
            most = fmax(most, fabs(want));
            want += (double)l.w[i * n + j];
            worst = fmax(worst, fabs(want - (double)w[i * n + j]));
        }
    test_note("differs by %g of %g", worst, most);
    CHECK(worst < 1e-4 * most);
    free(e);
    free(w);
    free(a);
    free(inv);
    result_free(&r);
    layer_free(&l);
}

static void refusals(void)
{
    layer l;
    result r;
    quant_grid grid = grid_of(QUANT_Q4_K), bad = grid_of(QUANT_IQ2_XS);
    quant_gptq g;
    quant_error err;
    quant_gptq_out out;
    size_t size = quant_gptq_size(&grid, 256);
    float keep;
    memset(&out, 0, sizeof out);
    layer_make(&l, 32, 256, 300, 600, 0);
    CHECK(quant_gptq_size(&bad, 256) == 0);
    CHECK(quant_gptq_size(&grid, 128) == 0 && quant_gptq_size(&grid, 0) == 0);
    bad = grid_int(9, 32, 0, 0);
    CHECK(quant_gptq_size(&bad, 256) == 0);
    bad = grid_int(4, 48, 0, 0);
    CHECK(quant_gptq_size(&bad, 480) == 0);
    quantize(&r, &l, &grid, NULL, 32);
    CHECK(r.code == QUANT_OK);
    CHECK(quant_gptq_prepare(&g, &grid, r.h, 256, 256, NULL, r.buf, size - 1, 0, &err)
          == QUANT_E_MEMORY && err.need == size);
    CHECK(quant_gptq_rows(&out, &r.g, l.w, 256, 0, 32, r.scratch,
                          quant_gptq_scratch_size(&r.g) - 1, &err) == QUANT_E_MEMORY);
    keep = l.w[300];
    l.w[300] = NAN;
    CHECK(quant_gptq_rows(&out, &r.g, l.w, 256, 0, 32, r.scratch, quant_gptq_scratch_size(&r.g),
                          &err) == QUANT_E_NUMERIC && err.where == 300);
    l.w[300] = keep;
    result_free(&r);
    l.h[70 * 256 + 3] = INFINITY;
    quantize(&r, &l, &grid, NULL, 32);
    CHECK(r.code == QUANT_E_NUMERIC && r.err.where == 3);
    result_free(&r);
    l.h[70 * 256 + 3] = 0;
    l.h[9 * 256 + 9] = -1;
    quantize(&r, &l, &grid, NULL, 32);
    CHECK(r.code == QUANT_E_NUMERIC && r.err.where == 9);
    result_free(&r);
    layer_free(&l);
}

void suite_gptq(void);
void suite_gptq(void)
{
    RUN(explicit_inverse);
    RUN(stored_is_reported);
    RUN(never_above_nearest);
    RUN(never_above_nearest_anyhow);
    RUN(damp_by_tokens);
    RUN(integers);
    RUN(splits);
    RUN(bad_hessians);
    RUN(shift);
    RUN(refusals);
}
