/* Reads AlphaPlus from shared memory: shared FILE SYMBOL TIMEFRAME MODEL
 *
 * Prints each new state of the stream until the appliance ends, then "closed" or "dead". Spins, as a trading process
 * does that has a core to itself: cc -std=c11 -O2 -I runtime/shared/include -o shared shared.c */

#include "alphaplus.h"

#include <inttypes.h>
#include <stdio.h>

static void print(const alphaplus_snapshot *now) {
    printf("%" PRIu64 " %" PRIu64 " %.17g %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64, now->state, now->seq, now->value,
           now->valid_until_ns, now->made_at_ns, now->open_time_ns, now->close_time_ns);
    printf(" %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s", now->horizon_bars, now->have,
           now->need, now->revision, now->flags, now->cause, now->label[0] ? now->label : "-");
    printf(" %" PRIu64 " %.17g %.17g %.17g %.17g\n", now->model_version, now->confidence, now->low, now->high, now->level);
}

int main(int count, char **arguments) {
    alphaplus_reader reader;
    alphaplus_snapshot now;
    alphaplus_result result;
    int64_t slot = -1;
    uint64_t seen = UINT64_MAX;
    if (count != 5) {
        fprintf(stderr, "shared FILE SYMBOL TIMEFRAME MODEL\n");
        return 2;
    }
    result = alphaplus_open(&reader, arguments[1]);
    if (result != ALPHAPLUS_OK) {
        fprintf(stderr, "%s can't be read: %d\n", arguments[1], (int)result);
        return 1;
    }
    while (slot < 0 && (result = alphaplus_alive(&reader)) == ALPHAPLUS_OK)
        slot = alphaplus_find(&reader, arguments[2], arguments[3], arguments[4]);
    while (result == ALPHAPLUS_OK || result == ALPHAPLUS_TORN) {
        result = alphaplus_read(&reader, (uint32_t)slot, &now);
        if (result == ALPHAPLUS_OK && now.seq != seen) {
            seen = now.seq;
            print(&now);
            fflush(stdout);
        }
    }
    printf("%s\n", result == ALPHAPLUS_CLOSED ? "closed" : result == ALPHAPLUS_DEAD ? "dead" : "damaged");
    alphaplus_close(&reader);
    return 0;
}
