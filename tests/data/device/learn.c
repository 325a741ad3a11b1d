#include <stdio.h>
#include "digits.h"

/* Digits in 3x5 cells, drawn anywhere in 8x8 with noise by a seeded generator. */
static const char *const glyph[10] = {
    "####.##.##.####", ".#.##..#..#.###", "###..#####..###", "###..####..####", "#.##.####..#..#",
    "####..###..####", "####..####.####", "###..#.#..#..#.", "####.#####.####", "####.####..####"};
static uint32_t state = 1;
static uint32_t draw(uint32_t below)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 16) % below;
}
static int digit(float *image)
{
    const int kind = (int)draw(10), top = (int)draw(4), left = (int)draw(6);
    for (int i = 0; i < 64; i++)
        image[i] = (float)draw(64) / 256.0f;
    for (int i = 0; i < 15; i++)
        if (glyph[kind][i] == '#')
            image[(top + i / 3) * 8 + left + i % 3] += 0.75f;
    return kind;
}

static digits_params params, grad, velocity;
static union { char bytes[DIGITS_TRAIN_WORKSPACE_BYTES]; double align; } workspace;

int main(void)
{
    static const digits_params zero;
    float sum = 0;
    digits_init(&params, 1);
    for (int step = 1; step <= 300; step++) {
        float loss = 0, image[64];
        grad = zero;
        for (int i = 0; i < 10; i++) {              /* a batch of ten, one sample at a time */
            const int32_t label = digit(image);
            loss += digits_accumulate(&params, image, &label, &grad, workspace.bytes) / 10;
        }
        digits_sgd(&params, &grad, &velocity, 0.005f, 0.9f, 0.0f);
        sum += loss;
        if (step % 100 == 0) {
            printf("%d %.6f\n", step, (double)sum / 100);     /* the mean of a hundred steps */
            sum = 0;
        }
    }
    int right = 0;
    for (int i = 0; i < 200; i++) {
        float image[64], scores[10];
        int label = digit(image), best = 0;
        digits_forward(&params, image, scores, workspace.bytes);
        for (int k = 1; k < 10; k++)
            best = scores[k] > scores[best] ? k : best;
        right += best == label;
    }
    printf("right %d\n", right);
}
