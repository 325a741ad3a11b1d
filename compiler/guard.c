/* Cleaning up behind a failure.  fail() jumps over every function between itself
 * and its handler; these two stop it on the way, tidy up and let it go on. */
#include "cnnc.h"

#include <string.h>

void guard(Context *c, void (*body)(void *), void (*release)(void *), void *argument)
{
    bool done = attempt(c, body, argument);
    release(argument);
    if (!done)
        fail(c, c->status, "%s", c->message);
}

typedef struct Scratch {
    Context *c, work;
    void (*body)(Context *work, void *argument);
    void *argument;
} Scratch;

static void scratch_body(void *argument)
{
    Scratch *s = argument;
    s->work.handler = s->c->handler;       /* one handler, whichever context fails */
    s->work.fault = s->c->fault;
    s->body(&s->work, s->argument);
}

static void scratch_release(void *argument)
{
    Scratch *s = argument;
    if (s->work.status) {
        s->c->status = s->work.status;
        memcpy(s->c->message, s->work.message, sizeof s->c->message);
        s->c->quote = s->work.quote;
    }
    context_free(&s->work);
}

void scratch(Context *c, void (*body)(Context *work, void *argument), void *argument)
{
    Scratch s = {.c = c, .body = body, .argument = argument};
    context_init(&s.work);
    guard(c, scratch_body, scratch_release, &s);
}
