/* WebAssembly: the host gives put and calls run. */
#include <string.h>

#include "port.h"

__attribute__((import_module("host"), import_name("put"))) void host_put(const char *text, unsigned length);

void port_write(const char *text)
{
    host_put(text, (unsigned)strlen(text));
}

unsigned port_ticks(void)
{
    return 0;
}

unsigned port_stack(void (*work)(void))
{
    work();
    return 0;
}

__attribute__((export_name("run"))) int run(void)
{
    return program();
}
