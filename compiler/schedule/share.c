/* Which loops of a nest a team of threads divides.
 *
 * Every thread walks the whole tree of loops, but of the loops over one parallel axis
 * only its part.  No element's terms are split, so the result does not depend on how
 * many threads there are, bit by bit. */
#include "schedule.h"

enum {
    TEAM_MOST = 4,            /* teams of up to so many threads count in the choice */
    WORTH = 1 << 14           /* vector or scalar operations that outweigh a meeting of all threads */
};

/* Steps of thread `t` of `team` over the axis, all over the tree; *fit: the axis can be divided. */
static double part_of_thread(const Loop *l, int axis, int t, int team, double outer, bool *fit)
{
    double steps = 0;
    for (; l; l = l->next) {
        if (l->kind != LOOP_FOR)
            continue;
        int64_t trips = (l->end - l->begin) / l->step;
        if (l->axis != axis) {
            steps += part_of_thread(l->body, axis, t, team, outer * (double)trips, fit);
            continue;
        }
        *fit &= !l->lows && !l->highs && trips * l->step == l->end - l->begin;
        steps += outer * (double)((trips * (t + 1) / team - trips * t / team) * l->step);
    }
    return steps;
}

/* How evenly the axis divides, 1 being best: the mean over teams of what the slowest thread
 * leaves of their speed. */
static double evenness(const Nest *nest, int axis)
{
    bool fit = true;
    double sum = 0, whole = part_of_thread(nest->loops, axis, 0, 1, 1, &fit);
    for (int team = 2; team <= TEAM_MOST; team++) {
        double most = 0;
        for (int t = 0; t < team; t++) {
            double part = part_of_thread(nest->loops, axis, t, team, 1, &fit);
            most = part > most ? part : most;
        }
        sum += whole / (most * team);
    }
    return fit ? sum / (TEAM_MOST - 1) : 0;
}

static double operations(const Nest *nest, const Target *target)
{
    double points = 1;
    for (int i = 0; i < nest->axes; i++)
        points *= nest->axis[i].extent;
    return nest->lane >= 0 ? points / target->lanes : points;
}

/* An axis further inside must be worth the walk of all threads to it. */
int share_axis(const Schedule *s, int least)
{
    int best = -1;
    double best_evenness = 1.0 / TEAM_MOST;
    if (operations(s->nest, s->target) < (least ? least : WORTH))
        return -1;
    for (int i = 0; i < s->parallel; i++) {
        int axis = s->order[i];
        double even = axis == s->nest->lane || s->nest->axis[axis].reduce ? 0 : evenness(s->nest, axis);
        if (even > best_evenness * (best < 0 ? 1 : 1.1)) {
            best = axis;
            best_evenness = even;
        }
    }
    return best;
}
