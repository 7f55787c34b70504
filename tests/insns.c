/* Instructions for a weight and token of a matrix product, under an emulator.  Two programs:
 *   cc -O2 -fPIC -shared -DPLUGIN tests/insns.c -o build/insns.so      a plugin for qemu-user
 *   CROSS-cc -O2 tests/insns.c quant.c -lm -o build/insns              runs products
 *   qemu-ARCH -plugin build/insns.so build/insns TYPE CPU-BITS TOKENS REPEATS
 * prints the instructions of the whole run: take the difference of two numbers of repeats. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef PLUGIN
/* The part of qemu-plugin.h, version 1, that is used here. */
struct qemu_plugin_tb;
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *ptr,
                                              uint64_t imm);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
                                           void (*cb)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_atexit_cb(uint64_t id, void (*cb)(uint64_t, void *), void *user);
extern int qemu_plugin_version;
int qemu_plugin_version = 1;
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

static uint64_t count;

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &count, qemu_plugin_tb_n_insns(tb));
}

static void finished(uint64_t id, void *user)
{
    (void)id;
    (void)user;
    fprintf(stderr, "%llu\n", (unsigned long long)count);
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
#else
#include "../quant.h"

int main(int argc, char **argv)
{
    enum { ROWS = 64, COLS = 2048 };
    quant_matrix m;
    quant_type t = argc > 4 ? quant_type_find(argv[1]) : QUANT_F32;
    size_t tokens = argc > 4 ? (size_t)atol(argv[3]) : 1, i, size = ROWS * quant_row_size(t, COLS);
    int repeats = argc > 4 ? atoi(argv[4]) : 0;
    uint8_t *w = (uint8_t *)calloc(size, 1), *packed;
    float *x = (float *)calloc(tokens * COLS, 4), *y = (float *)calloc(tokens * ROWS, 4);
    void *act;
    if (argc < 5 || !w || !x || !y
        || quant_matrix_init(&m, t, w, ROWS, COLS, (quant_cpu)atoi(argv[2]))) return 1;
    size = quant_matrix_pack_size(&m);
    packed = (uint8_t *)calloc(size, 1);
    act = malloc(quant_act_size(&m, tokens));
    if (!packed || !act || quant_matrix_pack(&m, &m, packed, size)) return 1;
    for (i = 0; i < tokens * COLS; i++) x[i] = (float)(i % 7);
    quant_act(&m, act, x, COLS, tokens);
    while (repeats-- > 0) quant_matmul(&m, y, ROWS, act, tokens, 0, ROWS);
    return 0;
}
#endif
