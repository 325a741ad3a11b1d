/* Bare Cortex-M on QEMU's MPS2 boards: vector table, start, and the host by semihosting
 * (ARM, Semihosting for AArch32 and AArch64). */
#include <stdint.h>
#include <string.h>

#include "port.h"

extern uint32_t stack_top[], data_from[], data_begin[], data_end[], bss_begin[], bss_end[];

enum { SYS_WRITE0 = 0x04, SYS_EXIT = 0x18, APPLICATION_EXIT = 0x20026, RUNTIME_ERROR = 0x20023 };

static void host(int call, const void *argument)
{
    register int r0 __asm__("r0") = call;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void port_write(const char *text)
{
    host(SYS_WRITE0, text);
}

/* SysTick counts down 24 bits of the boards' clock of 25 MHz; with -icount shift=0 an instruction
 * takes a nanosecond, a tick 40 of them. */
static volatile uint32_t *const systick = (volatile uint32_t *)0xE000E010;
static volatile uint32_t wraps;

static void tick(void)
{
    wraps++;
}

unsigned port_ticks(void)
{
    uint32_t before, now;
    do {
        before = wraps;
        now = systick[2];
    } while (before != wraps);
    return (before << 24) + (0xFFFFFF - now);
}

/* Paints the stack below and looks how far the paint is gone. */
unsigned port_stack(void (*work)(void))
{
    enum { PAINT = 0x5AA5C33C };
    volatile uint32_t *const top = (uint32_t *)__builtin_frame_address(0) - 16;
    volatile uint32_t *const bottom = top - PORT_STACK / 4;
    for (volatile uint32_t *at = bottom; at < top; at++)
        *at = PAINT;
    work();
    const volatile uint32_t *at = bottom;
    while (at < top && *at == PAINT)
        at++;
    return (unsigned)((top - at) * 4) + 16 * 4;
}

static void failed(void)
{
    port_write("fault\n");
    host(SYS_EXIT, (const void *)RUNTIME_ERROR);
}

void start(void);
void start(void)
{
#ifdef __ARM_FP
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;      /* CPACR: coprocessors 10 and 11, the FPU */
    __asm__ volatile("dsb\n isb");
#endif
    memcpy(data_begin, data_from, (size_t)((char *)data_end - (char *)data_begin));
    memset(bss_begin, 0, (size_t)((char *)bss_end - (char *)bss_begin));
    systick[1] = 0xFFFFFF;
    systick[2] = 0;
    systick[0] = 7;                              /* the processor's clock, an interrupt a wrap, on */
    while (!systick[2])
        ;
    host(SYS_EXIT, (const void *)(program() ? RUNTIME_ERROR : APPLICATION_EXIT));
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, start, failed, failed, failed, failed, failed, [11] = failed, [15] = tick,
};
