/* Draws a line of each kind and asks the network what it is. */
#include <stdio.h>

#include "@name@.h"

enum { SIZE = 12 };

static _Alignas(@NAME@_ALIGNMENT) char workspace[@NAME@_WORKSPACE_BYTES];

static void draw(float *image, int kind)
{
    for (int row = 0; row < SIZE; row++)
        for (int column = 0; column < SIZE; column++) {
            int at = kind == 0 ? row : kind == 1 ? column : row - column + SIZE / 2;
            image[row * SIZE + column] = at == 5;
        }
}

int main(void)
{
    static const char *const name[@NAME@_KIND_SIZE] = {"horizontal", "vertical", "diagonal"};
    for (int kind = 0; kind < @NAME@_KIND_SIZE; kind++) {
        float image[@NAME@_IMAGE_SIZE], score[@NAME@_KIND_SIZE];
        int best = 0;
        draw(image, kind);
        @name@_forward(&@name@_weights, image, score, workspace);
        for (int k = 1; k < @NAME@_KIND_SIZE; k++)
            best = score[k] > score[best] ? k : best;
        printf("a %s line: the network says %s\n", name[kind], name[best]);
    }
    return 0;
}
