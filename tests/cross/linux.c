/* Programs of Linux, under QEMU. */
#include <stdio.h>
#include <time.h>

#include "port.h"

void port_write(const char *text)
{
    fputs(text, stdout);
}

unsigned port_ticks(void)
{
    return (unsigned)clock();
}

unsigned port_stack(void (*work)(void))
{
    work();
    return 0;                                    /* unknown */
}

int main(void)
{
    return program();
}
