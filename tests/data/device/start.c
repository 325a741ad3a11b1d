/* Where a Cortex-M4 begins: its vectors, and newlib's start behind them. */
#include <stdint.h>

extern void _start(void);

void reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;         /* the FPU is for everyone */
    _start();
}

static void stop(void)
{
    for (;;)
        ;
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    (void *)0x20400000, (void *)reset, (void *)stop, (void *)stop, (void *)stop, (void *)stop, (void *)stop};
