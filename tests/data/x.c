/* Around the C made of graphs/x.lua: the picture from standard input, all answers to
 * standard output, as floats. */
#include <stdio.h>

#include "x.h"

int main(void)
{
    static float image[X_IMAGE_SIZE], map[X_MAP_SIZE], relu[X_RELU_SIZE], pooled[X_POOLED_SIZE];
    static _Alignas(X_ALIGNMENT) unsigned char workspace[X_WORKSPACE_BYTES + 1];
    if (fread(image, sizeof image, 1, stdin) != 1)
        return 1;
    x_forward(&x_weights, image, map, relu, pooled, workspace);
    return fwrite(map, sizeof map, 1, stdout) != 1 || fwrite(relu, sizeof relu, 1, stdout) != 1
        || fwrite(pooled, sizeof pooled, 1, stdout) != 1;
}
