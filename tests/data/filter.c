/* Around the C made of graphs/cross_correlation.lua or true_convolution.lua as `net`,
 * with --train --input-grad: picture and target from standard input; the answer and
 * the gradients of kernel and picture to standard output, as floats. */
#include <stdio.h>

#include "net.h"

int main(void)
{
    static float image[NET_IMAGE_SIZE], target[NET_TARGET_SIZE], y[NET_FILTER_SIZE];
    static float kernel_grad[NET_PARAM_COUNT], image_grad[NET_IMAGE_SIZE];
    static _Alignas(NET_ALIGNMENT)
        unsigned char workspace[NET_WORKSPACE_BYTES + NET_TRAIN_WORKSPACE_BYTES + 1];
    static net_params params, grad;
    if (fread(image, sizeof image, 1, stdin) != 1 || fread(target, sizeof target, 1, stdin) != 1)
        return 1;
    net_init(&params, 0);
    net_forward(&params, image, y, workspace);
    net_backward(&params, image, target, &grad, image_grad, workspace);
    net_unpack(kernel_grad, &grad);
    return fwrite(y, sizeof y, 1, stdout) != 1 || fwrite(kernel_grad, sizeof kernel_grad, 1, stdout) != 1
        || fwrite(image_grad, sizeof image_grad, 1, stdout) != 1;
}
