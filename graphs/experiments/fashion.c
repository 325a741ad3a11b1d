/* A program around the C that cnnc makes of graphs/lenet5.lua with its weights: it
 * looks at the test pictures of Fashion-MNIST and says what they are.
 *
 *     fashion IMAGES LABELS [ANSWERS]
 *
 * IMAGES and LABELS are the unpacked IDX files; ANSWERS, the labels that another
 * way of running the same weights gave, one byte each, are compared with. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lenet5.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, IMAGES_HEAD = 16, LABELS_HEAD = 8, SHOWN = 3 };

static const char *const clothes[LENET5_LOGITS_SIZE] = {
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
};

static unsigned char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    long size = file && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    unsigned char *data = size > 0 ? malloc((size_t)size) : NULL;
    if (!data || fseek(file, 0, SEEK_SET) != 0 || fread(data, 1, (size_t)size, file) != (size_t)size) {
        fprintf(stderr, "fashion: %s: cannot be read\n", path);
        exit(EXIT_FAILURE);
    }
    fclose(file);
    *length = (size_t)size;
    return data;
}

static int recognise(const unsigned char *pixel, void *workspace)
{
    float image[LENET5_IMAGE_SIZE], logits[LENET5_LOGITS_SIZE];
    for (int i = 0; i < PIXELS; i++)
        image[i] = (float)pixel[i] / 255;
    lenet5_forward(&lenet5_weights, image, logits, workspace);
    int best = 0;
    for (int k = 1; k < LENET5_LOGITS_SIZE; k++)
        if (logits[k] > logits[best])
            best = k;
    return best;
}

static void show(const unsigned char *pixel)
{
    static const char shade[] = " .:-=+*#%@";
    for (int y = 0; y < SIDE; y += 2) {          /* characters are twice as high as wide */
        printf("    ");
        for (int x = 0; x < SIDE; x++)
            putchar(shade[pixel[y * SIDE + x] * 9 / 255]);
        putchar('\n');
    }
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: fashion IMAGES LABELS [ANSWERS]\n");
        return 2;
    }
    size_t image_bytes, label_bytes, answer_bytes = 0;
    const unsigned char *image = read_file(argv[1], &image_bytes), *label = read_file(argv[2], &label_bytes);
    const unsigned char *answer = argc > 3 ? read_file(argv[3], &answer_bytes) : NULL;
    if (image_bytes < IMAGES_HEAD || label_bytes < LABELS_HEAD
        || (image_bytes - IMAGES_HEAD) / PIXELS != label_bytes - LABELS_HEAD
        || (answer && answer_bytes != label_bytes - LABELS_HEAD)) {
        fprintf(stderr, "fashion: the files do not hold the same number of pictures\n");
        return EXIT_FAILURE;
    }
    image += IMAGES_HEAD;
    label += LABELS_HEAD;
    int pictures = (int)(label_bytes - LABELS_HEAD), right = 0, same = 0;
    void *workspace = aligned_alloc(LENET5_ALIGNMENT,
                                    (LENET5_WORKSPACE_BYTES / LENET5_ALIGNMENT + 1) * LENET5_ALIGNMENT);
    if (!workspace)
        return EXIT_FAILURE;
    for (int i = 0; i < pictures; i++) {
        int found = recognise(image + (size_t)i * PIXELS, workspace);
        right += found == label[i];
        same += answer && found == answer[i];
        if (i < SHOWN) {
            show(image + (size_t)i * PIXELS);
            printf("    picture %d: %s (it is: %s)\n", i, clothes[found], clothes[label[i]]);
        }
    }
    printf("standalone C program: %d of %d pictures right, %.2f %%\n", right, pictures, 100.0 * right / pictures);
    if (answer)
        printf("same answer as in training, by libtcc: %d of %d\n", same, pictures);
    free(workspace);
    return EXIT_SUCCESS;
}
