/* What programs of the cross tests need of a machine: a file a machine implements it. */
#ifndef PORT_H
#define PORT_H

void port_write(const char *text);               /* to the host's standard output */
unsigned port_ticks(void);                       /* of a clock that never goes back; see the port */
enum { PORT_STACK = 16384 };                     /* bytes that port_stack can tell of */
unsigned port_stack(void (*work)(void));         /* runs work; the bytes of stack that it took */
int program(void);                              /* what a test or bench is; 0: it went well */

#endif
