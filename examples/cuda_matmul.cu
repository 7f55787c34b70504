/* cuda_matmul: multiplies by a GPTQ-packed matrix on the GPU and checks the result on the host.
 *
 *   make cuda && build/cuda_matmul
 *   nvcc -O3 -arch=native examples/cuda_matmul.cu quant_cuda.cu -o cuda_matmul     by hand
 *
 * It shows the five calls of section >>cuda of quant.h and whose memory is whose.  A real program
 * has qweight, scales and qzeros from a checkpoint; here they are made up. */
#define QUANT_CUDA
#include "../quant.h"
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 4096, COLS = 4096, GROUP = 128, TOKENS = 4 };

static int failed(const char *what, const char *why)
{
    printf("%s: %s\n", what, why);
    return 1;
}

int main(void)
{
    quant_cuda_device gpu;
    quant_cuda_source source = {};
    quant_cuda_matrix w;
    quant_error err;

    if (quant_cuda_query(&gpu, &err)) {
        printf("SKIPPED: no CUDA device (%s)\n", err.what);
        return 0;
    }
    printf("device of capability %u.%u, %u multiprocessors\n", gpu.capability / 10,
           gpu.capability % 10, gpu.sms);

    /* 1. A matrix as GPTQ stores it: qweight [COLS / 8][ROWS], scales [groups][ROWS]. */
    uint32_t *qweight = (uint32_t *)malloc(sizeof(uint32_t) * COLS / 8 * ROWS);
    uint16_t *scales = (uint16_t *)malloc(sizeof(uint16_t) * (COLS / GROUP) * ROWS);
    srand(1);
    for (size_t i = 0; i < (size_t)COLS / 8 * ROWS; i++)
        qweight[i] = (uint32_t)rand() << 16 ^ (uint32_t)rand();
    for (size_t i = 0; i < (size_t)(COLS / GROUP) * ROWS; i++)
        scales[i] = ((__half_raw)__float2half_rn(0.005f + 0.005f * (float)(i % 7))).x;
    source.format = QUANT_CUDA_GPTQ_V2;
    source.rows = ROWS;
    source.cols = COLS;
    source.group = GROUP;
    source.data = qweight;
    source.scales = scales;                     /* no zeros: symmetric                          */

    /* 2. Pack it on the host, copy it to the device.  Once for each matrix. */
    if (quant_cuda_matrix_init(&w, &source, &err)) return failed("init", err.what);
    void *packed = malloc(w.size), *data, *space = NULL;
    if (quant_cuda_pack(packed, &w, &source, &err)) return failed("pack", err.what);
    cudaMalloc(&data, w.size);
    cudaMemcpy(data, packed, w.size, cudaMemcpyHostToDevice);
    free(packed);
    w.data = data;
    printf("%zu bytes packed, %.2f bits a weight\n", w.size, 8.0 * (double)w.size / ROWS / COLS);

    /* 3. One workspace for all matrices of a stream, zeroed once. */
    size_t size = quant_cuda_workspace_size(&gpu, &w);
    if (size) {
        cudaMalloc(&space, size);
        cudaMemset(space, 0, size);
    }

    /* 4. Activations; any stream. */
    __half *x = (__half *)malloc(sizeof(__half) * TOKENS * COLS), *dx, *dy;
    __half *y = (__half *)malloc(sizeof(__half) * TOKENS * ROWS);
    for (int i = 0; i < TOKENS * COLS; i++)
        x[i] = __float2half_rn((float)rand() / (float)RAND_MAX - 0.5f);
    cudaMalloc(&dx, sizeof(__half) * TOKENS * COLS);
    cudaMalloc(&dy, sizeof(__half) * TOKENS * ROWS);
    cudaMemcpy(dx, x, sizeof(__half) * TOKENS * COLS, cudaMemcpyHostToDevice);
    cudaStream_t stream;
    cudaStreamCreate(&stream);
    if (quant_cuda_matmul(&gpu, &w, dy, ROWS, dx, COLS, TOKENS, QUANT_F16, space, size, stream,
                          &err))
        return failed("matmul", err.what);
    if (cudaStreamSynchronize(stream) != cudaSuccess)
        return failed("matmul", cudaGetErrorString(cudaGetLastError()));
    cudaMemcpy(y, dy, sizeof(__half) * TOKENS * ROWS, cudaMemcpyDeviceToHost);

    /* 5. The same in double. */
    double e2 = 0, r2 = 0;
    for (int t = 0; t < TOKENS; t++)
        for (size_t r = 0; r < ROWS; r++) {
            double sum = 0;
            for (size_t c = 0; c < COLS; c++) {
                int q = (int)(qweight[c / 8 * ROWS + r] >> c % 8 * 4 & 15) - 8;
                __half_raw s;
                s.x = scales[c / GROUP * ROWS + r];
                sum += (double)__half2float(__half(s)) * q * __half2float(x[t * COLS + c]);
            }
            double d = __half2float(y[t * ROWS + r]) - sum;
            e2 += d * d;
            r2 += sum * sum;
        }
    printf("relative error %.2e\n", sqrt(e2 / r2));
    cudaFree(data);
    cudaFree(space);
    cudaFree(dx);
    cudaFree(dy);
    free(qweight);
    free(scales);
    free(x);
    free(y);
    return !(e2 <= 25e-8 * r2);
}
