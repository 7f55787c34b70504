/* demo: quantizes a model to several types and shows what each costs: `make demo`.
 *
 *     demo MODEL.gguf CALIBRATION.txt EVALUATION.txt DIRECTORY PICTURE.svg [CHUNKS]
 *
 * Runs the other programs as a user would (inspect, calibrate, quantize, perplexity, generate; each
 * command is shown), prints a table of type, size, bits per weight, perplexity, KL divergence and
 * speed, without and with importance and calibrated, and a paragraph of text before and after.
 * DIRECTORY gets the models, PICTURE shows size against perplexity.  CHUNKS: of 512 tokens to
 * evaluate, default 4. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { N_TYPES = 7, N_WAYS = 5, N_DRAWN = 3, AWQ_FROM = 3, TEXT = 4096 };
static const char *const types[N_TYPES] = {
    "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K"
};
/* Plain, importance, and calibrated; the last two from type AWQ_FROM on: above it they gain
 * nothing.  The picture shows the first three. */
static const char *const ways[N_WAYS] = { "no", "yes", "gptq", "awq", "awq+gptq" };

typedef struct result { double bytes, bpw, ppl, kld, speed; } result;

/* Runs a command and keeps the end of what it prints; leaves the program if it fails. */
static void run(char *text, const char *format, ...)
{
    char command[TEXT], line[TEXT];
    FILE *p;
    va_list a;
    va_start(a, format);
    vsnprintf(command, sizeof command, format, a);
    va_end(a);
    fflush(stdout);
    p = popen(command, "r");
    if (!p) { perror(command); exit(1); }
    text[0] = 0;
    while (fgets(line, sizeof line, p)) {
        size_t have = strlen(text), n = strlen(line), drop;
        drop = have + n < TEXT ? 0 : have + n - TEXT + 1;
        memmove(text, text + drop, have - drop + 1);
        strcpy(text + have - drop, line);
    }
    if (pclose(p) != 0) {
        fprintf(stderr, "demo: this command failed: %s\n%s", command, text);
        exit(1);
    }
}

/* The number after `word` in a text, NAN if there is none. */
static double after(const char *text, const char *word)
{
    const char *p = strstr(text, word);
    return p ? strtod(p + strlen(word), NULL) : NAN;
}

/* Bits per weight of the new file, from the summary of quantize. */
static double new_bpw(const char *text)
{
    const char *p = strstr(text, "bits per weight) -> ");
    return p ? after(p + 16, " (") : NAN;
}

static double file_size(const char *path)
{
    struct stat s;
    if (stat(path, &s) != 0) { perror(path); exit(1); }
    return (double)s.st_size;
}

/* Perplexity and divergence on the evaluation text, and generated tokens a second. */
static void measure(result *r, const char *path, const char *base, const char *text, int chunks)
{
    char out[TEXT];
    r->bytes = file_size(path);
    run(out, "build/perplexity '%s' '%s' --chunks %d --kld '%s' 2>&1", path, text, chunks, base);
    r->ppl = after(out, " ppl ");
    r->kld = after(out, " kld_mean ");
    run(out, "build/generate '%s' -p 'It was' -n 64 --temp 0 2>&1", path);
    r->speed = after(out, " tokens, ");
}

static void print_row(const char *type, const char *importance, const result *r)
{
    printf("%-8s %-10s %10.0f %7.2f %11.4f %10.5f %9.0f\n", type, importance, r->bytes, r->bpw,
           r->ppl, r->kld, r->speed);
    fflush(stdout);
}

/* The picture: pixels of a size and a perplexity; box = smallest and largest of either. */
static double pixel_x(const double *box, double bytes)
{
    return 70 + 540 * (bytes - box[0]) / (box[1] - box[0]);
}

static double pixel_y(const double *box, double ppl)
{
    return 330 - 270 * (log(ppl) - log(box[2])) / (log(box[3]) - log(box[2]));
}

/* One series: a line through the types and a dot for each. */
static void draw_series(FILE *f, const result *r, const double *box, const char *color)
{
    int i;
    fprintf(f, "<polyline fill='none' stroke='%s' stroke-width='2' points='", color);
    for (i = 0; i < N_TYPES; i++)
        fprintf(f, "%.1f,%.1f ", pixel_x(box, r[i].bytes), pixel_y(box, r[i].ppl));
    fprintf(f, "'/>\n");
    for (i = 0; i < N_TYPES; i++)
        fprintf(f, "<circle cx='%.1f' cy='%.1f' r='4' fill='%s'/>\n", pixel_x(box, r[i].bytes),
                pixel_y(box, r[i].ppl), color);
}

/* Axes, grid, legend and the line of the model that was quantized. */
static void draw_frame(FILE *f, const result *base, const double *box, const char *title)
{
    double step = pow(10, floor(log10(box[3] - box[2]))), v;
    if ((box[3] - box[2]) / step < 3) step /= 5;
    fprintf(f, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 640 400' width='640' "
            "height='400' font-family='sans-serif' font-size='12' fill='#333'>\n"
            "<rect width='640' height='400' fill='white'/>\n"
            "<text x='320' y='24' text-anchor='middle' font-size='15'>Size against perplexity: "
            "%s</text>\n", title);
    for (v = ceil(box[2] / step) * step; v <= box[3]; v += step)
        fprintf(f, "<line x1='70' x2='610' y1='%.1f' y2='%.1f' stroke='#ddd'/>"
                "<text x='62' y='%.1f' text-anchor='end'>%.4g</text>\n", pixel_y(box, v),
                pixel_y(box, v), pixel_y(box, v) + 4, v);
    step = pow(10, floor(log10(box[1]))) / 2;
    for (v = 0; v <= box[1]; v += step)
        fprintf(f, "<line x1='%.1f' x2='%.1f' y1='330' y2='335' stroke='#333'/>"
                "<text x='%.1f' y='350' text-anchor='middle'>%.4g</text>\n", pixel_x(box, v),
                pixel_x(box, v), pixel_x(box, v), v / 1e6);
    v = pixel_y(box, base->ppl);
    fprintf(f, "<line x1='70' x2='610' y1='330' y2='330' stroke='#333'/>"
            "<line x1='70' x2='70' y1='60' y2='330' stroke='#333'/>\n"
            "<line x1='70' x2='610' y1='%.1f' y2='%.1f' stroke='#888' stroke-dasharray='5 4'/>"
            "<text x='76' y='%.1f' fill='#666'>before, %.1f MB</text>\n"
            "<text x='340' y='376' text-anchor='middle'>file size, MB</text>\n"
            "<text x='18' y='195' transform='rotate(-90 18 195)' text-anchor='middle'>"
            "perplexity</text>\n", v, v, v - 5, base->bytes / 1e6);
    fprintf(f, "<circle cx='450' cy='60' r='4' fill='#c0504d'/><text x='460' y='64'>min/max, no "
            "data</text>\n<circle cx='450' cy='78' r='4' fill='#1f77b4'/><text x='460' y='82'>with "
            "importance</text>\n<circle cx='450' cy='96' r='4' fill='#2ca02c'/><text x='460' "
            "y='100'>calibrated (gptq)</text>\n");
}

/* Size against perplexity, the latter on a logarithmic axis. */
static void draw(const char *path, const char *title, const result *base,
                 result r[N_WAYS][N_TYPES])
{
    FILE *f = fopen(path, "w");
    double box[4], low = base->ppl, high = base->ppl;
    int i, k;
    if (!f) { perror(path); exit(1); }
    for (k = 0; k < N_DRAWN; k++)
        for (i = 0; i < N_TYPES; i++) {
            high = r[k][i].ppl > high ? r[k][i].ppl : high;
            low = r[k][i].ppl < low ? r[k][i].ppl : low;
        }
    box[0] = 0;
    box[1] = r[0][0].bytes * 1.1;
    box[2] = low * pow(low / high, 0.08);
    box[3] = high * pow(high / low, 0.12);
    draw_frame(f, base, box, title);
    draw_series(f, r[0], box, "#c0504d");
    draw_series(f, r[1], box, "#1f77b4");
    draw_series(f, r[2], box, "#2ca02c");
    for (i = 0; i < N_TYPES; i++) {         /* names, aslant above the higher of the two dots    */
        double a = r[0][i].ppl, b = r[1][i].ppl;
        double x = pixel_x(box, r[0][i].bytes) + 3, y = pixel_y(box, a > b ? a : b) - 8;
        fprintf(f, "<text x='%.1f' y='%.1f' transform='rotate(-45 %.1f %.1f)'>%s</text>\n", x, y, x,
                y, types[i]);
    }
    fprintf(f, "</svg>\n");
    if (fclose(f) != 0) { perror(path); exit(1); }
}

static void paragraph(const char *name, const char *path)
{
    char out[TEXT];
    run(out, "build/generate '%s' -p 'The old man looked' -n 320 --temp 0.6 --seed 3 2>/dev/null",
        path);
    printf("\n%s:\n%s\n", name, out);
}

int main(int argc, char **argv)
{
    static result r[N_WAYS][N_TYPES];
    char out[TEXT], path[TEXT], imatrix[TEXT];
    result base;
    int i, k, chunks = argc > 6 ? atoi(argv[6]) : 4;
    if (argc < 6 || argc > 7 || chunks < 1) {
        fprintf(stderr, "usage: demo MODEL.gguf CALIBRATION.txt EVALUATION.txt DIRECTORY "
                "PICTURE.svg [CHUNKS]\n");
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 1;
    }
    snprintf(imatrix, sizeof imatrix, "%s/imatrix.gguf", argv[4]);
    run(out, "mkdir -p '%s' && build/inspect '%s' 2>&1", argv[4], argv[1]);
    printf("build/inspect %s\n\n%s\n", argv[1], out);
    printf("build/calibrate imatrix %s %s %s\n", argv[1], argv[2], imatrix);
    run(out, "build/calibrate imatrix '%s' '%s' '%s' 2>&1", argv[1], argv[2], imatrix);
    printf("build/quantize [--imatrix %s] %s %s/TYPE.gguf TYPE\n", imatrix, argv[1], argv[4]);
    printf("build/calibrate gptq|awq|awq+gptq --mix %s %s %s/TYPE.gguf TYPE\n", argv[1], argv[2],
           argv[4]);
    printf("build/perplexity %s/TYPE.gguf %s --chunks %d --kld %s\n\n", argv[4], argv[3], chunks,
           argv[1]);
    printf("%-8s %-10s %10s %7s %11s %10s %9s\n", "type", "importance", "bytes", "bpw",
           "perplexity", "mean KL", "tokens/s");
    measure(&base, argv[1], argv[1], argv[3], chunks);
    run(out, "build/quantize --dry-run '%s' F16", argv[1]);
    base.bpw = new_bpw(out);
    print_row("F16", "", &base);
    for (i = 0; i < N_TYPES; i++)
        for (k = 0; k < (i < AWQ_FROM ? N_DRAWN : N_WAYS); k++) {
            char option[TEXT + 16] = "";
            if (k) snprintf(option, sizeof option, "--imatrix '%s'", imatrix);
            snprintf(path, sizeof path, "%s/%s%s%s.gguf", argv[4], types[i], k ? "-" : "",
                     k > 1 ? ways[k] : k ? "imatrix" : "");
            if (k < 2) {
                run(out, "build/quantize %s '%s' '%s' %s 2>&1", option, argv[1], path, types[i]);
                r[k][i].bpw = new_bpw(out);
            } else {
                run(out, "build/calibrate %s --mix '%s' '%s' '%s' %s 2>&1", ways[k], argv[1],
                    argv[2], path, types[i]);
                r[k][i].bpw = r[1][i].bpw;      /* the same types                                */
            }
            measure(&r[k][i], path, argv[1], argv[3], chunks);
            print_row(types[i], ways[k], &r[k][i]);
        }
    draw(argv[5], strrchr(argv[1], '/') ? strrchr(argv[1], '/') + 1 : argv[1], &base, r);
    paragraph("F16", argv[1]);
    snprintf(out, sizeof out, "%s/Q4_K_M-imatrix.gguf", argv[4]);
    paragraph("Q4_K_M with importance", out);
    printf("\nThe picture is %s.\n", argv[5]);
    return 0;
}
