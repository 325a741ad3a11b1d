/* Teams: the threads that share the work of one call.  Every thread runs the whole driver;
 * shared kernels divide loops by the team, the others are the first thread's, and between
 * kernels all threads meet.  In a file the team is OpenMP's, in code for the host the host's. */
#include "print.h"

bool function_shared(const Function *f)
{
    for (int k = 0; f && k < f->kernels; k++)
        if (kernel_shared(f->kernel[k]))
            return true;
    return false;
}

bool program_shared(const Program *p)
{
    return function_shared(p->forward) || function_shared(p->loss) || function_shared(p->backward);
}

/* OpenMP's own barrier calls the system each time: a tenth of a training step of small layers. */
static const char meeting[] =
    "/* Waits for the whole team: what one thread has written the others read.  Each thread\n"
    " * counts itself in, and goes on when as many have as make the team complete. */\n"
    "static inline void @_meet(const @_team *team)\n{\n    (void)team;\n"
    "#ifdef _OPENMP\n"
    "    int come;\n"
    "#pragma omp flush\n"
    "#pragma omp atomic capture\n"
    "    come = ++*team->come;\n"
    "    const int all = (come + team->threads - 1) / team->threads * team->threads;\n"
    "    for (int looks = 0; come < all; looks++) {\n"
    "#ifdef __unix__\n"
    "        if (looks > 20000)\n"
    "            sched_yield();\n"
    "#endif\n"
    "#pragma omp atomic read\n"
    "        come = *team->come;\n"
    "    }\n"
    "#pragma omp flush\n"
    "#endif\n}\n";

void print_team_types(Text *t, const Program *p, PrintKind kind)
{
    print_named(t, p, "\n/* A thread of those that share the work of a call. */\n"
                "typedef struct @_team { int thread, threads; %s } @_team;\n\n",
                kind == PRINT_HOSTED ? "void *pool;" : "int *come;");       /* runtime.h's Team */
    print_named(t, p,
                "/* Where the thread's part of n steps begins (end = 0) and where it ends (end = 1). */\n"
                "static inline int @_part(const @_team *team, int n, int end)\n{\n"
                "    return (int)((long long)n * (team->thread + end) / team->threads);\n}\n\n");
    if (kind == PRINT_HOSTED) {
        print_named(t, p, "void cnnc_meet(const @_team *team);\n#define @_meet cnnc_meet\n");
        return;
    }
    if (kind == PRINT_LIBRARY)                   /* which includes nothing */
        text_add(t, "#ifdef _OPENMP\n"
                    "int omp_get_thread_num(void), omp_get_num_threads(void), sched_yield(void);\n"
                    "void omp_set_num_threads(int);\n#endif\n\n");
    print_named(t, p, meeting);
}

void print_team(Text *t, const Program *p, const char *name, Signature kind)
{
    Text list = {.c = p->c};
    print_argument_names(&list, p, kind);
    const char *loss = print_free_name(p, "loss"), *come = print_free_name(p, "come");
    const char *sum = kind == FORWARD ? "" : format(p->c, "%s += ", loss);
    const char *call = format(p->c, "%s%s_%s_share(%s, &self);\n", sum, p->prefix, name, list.data);
    if (kind != FORWARD)
        text_add(t, "    float %s = 0.0f;\n", loss);
    text_add(t, "#ifdef _OPENMP\n    int %s = 0;\n#pragma omp parallel", come);
    if (kind != FORWARD)
        text_add(t, " reduction(+ : %s)", loss);      /* the first thread's: the others give zero */
    print_named(t, p,
                "\n    {\n        const @_team self = {omp_get_thread_num(), omp_get_num_threads(), &%s};\n"
                "        %s    }\n#else\n    const @_team self = {0, 1, 0};\n    %s#endif\n",
                come, call, call);
    if (kind != FORWARD)
        text_add(t, "    return %s;\n", loss);
}
