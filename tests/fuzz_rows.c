/* Fuzz target: any bytes decode as any type, any floats encode into any type.  With
 * -fsanitize=fuzzer it is a libFuzzer target; with -DFUZZ_REPLAY it replays files, or without
 * arguments a fixed number of random inputs. */
#include "../quant.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void need(int ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "fuzz_rows: %s\n", what);
    abort();
}

/* Decodes `rows` rows from exactly sized memory, encodes the result again where it is finite. */
static void decode_and_encode(quant_type t, const uint8_t *data, size_t rows, size_t cols,
                              const float *importance)
{
    size_t size = rows * quant_row_size(t, cols), i;
    uint8_t *src = (uint8_t *)malloc(size + 1);
    float *y = (float *)malloc(rows * cols * 4 + 1);
    double e2 = 0, x2 = 0;
    int finite = 1;
    quant_encoder e;
    quant_error err;
    need(src && y, "out of memory");
    memcpy(src, data, size);
    need(quant_to_f32(t, y, src, rows, cols) == QUANT_OK, "bytes do not decode");
    for (i = 0; i < rows * cols; i++) finite &= isfinite(y[i]) != 0;
    if (quant_check_rows(t, src, rows, cols, &err) == QUANT_OK && t != QUANT_MXFP4)
        need(finite, "check_rows passed a value that is not finite");
    for (i = 0; i < rows; i++)
        need(quant_row_error(t, &e2, &x2, y + i * cols, src + i * quant_row_size(t, cols), cols,
                             NULL, 1) == QUANT_OK, "row_error");
    if (finite) need(e2 == 0, "a row differs from itself");
    for (t = 0; t < QUANT_TYPE_COUNT; t++) {
        const quant_type_info *info = quant_type_get(t);
        quant_result r;
        uint8_t *dst;
        if (quant_encoder_init(&e, t, 0, NULL, 0) != QUANT_OK || cols % info->block_len) continue;
        dst = (uint8_t *)malloc(rows * quant_row_size(t, cols) + 1);
        need(dst != NULL, "out of memory");
        r = quant_from_f32(&e, dst, y, rows, cols, importance, &err);
        if (!importance && info->flags & QUANT_TF_NEEDS_IMPORTANCE)
            need(r == QUANT_E_ARG, "encoded without importance");
        else need(r == QUANT_OK || r == QUANT_E_NUMERIC, "encoding failed in another way");
        if (r == QUANT_OK && info->flags & QUANT_TF_QUANTIZED)
            need(quant_check_rows(t, dst, rows, cols, &err) == QUANT_OK, "encoded a bad scale");
        free(dst);
    }
    free(src);
    free(y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float importance[512];
    quant_type t;
    size_t rows, cols, i;
    int with;
    if (size < 4) return 0;
    t = data[0] % QUANT_TYPE_COUNT;
    with = data[1] & 1;
    cols = data[1] & 2 ? 512 : 256;
    rows = 1 + data[2] % 2;
    for (i = 0; i < cols; i++) importance[i] = data[3] % 7 == 0 ? 0 : (float)((i * data[3]) % 31);
    data += 4;
    size -= 4;
    if (!(quant_type_get(t)->flags & QUANT_TF_DECODE)) return 0;
    if (rows * quant_row_size(t, cols) > size) return 0;
    decode_and_encode(t, data, rows, cols, with ? importance : NULL);
    return 0;
}

#ifdef FUZZ_REPLAY
int main(int argc, char **argv)
{
    static uint8_t b[8192];
    uint64_t s = 1, z;
    size_t n, i;
    int k;
    for (k = 1; k < argc; k++) {
        FILE *f = fopen(argv[k], "rb");
        if (!f) { perror(argv[k]); return 1; }
        n = fread(b, 1, sizeof b, f);
        fclose(f);
        LLVMFuzzerTestOneInput(b, n);
    }
    for (k = 0; argc == 1 && k < 400; k++) {
        for (i = 0; i < sizeof b; i++) {
            z = s += 0x9E3779B97F4A7C15u;
            z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
            z = (z ^ z >> 27) * 0x94D049BB133111EBu;
            b[i] = (uint8_t)(z ^ z >> 31);
        }
        LLVMFuzzerTestOneInput(b, sizeof b);
    }
    printf("fuzz_rows: %d inputs\n", argc > 1 ? argc - 1 : k);
    return 0;
}
#endif
