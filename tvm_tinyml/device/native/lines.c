#include "lines.h"

#include <stdlib.h>
#include <string.h>

void lines_free(lines_t *l) {
    free(l->slot_of);
    free(l->line_of);
    free(l->older);
    free(l->newer);
    memset(l, 0, sizeof *l);
}

int lines_init(lines_t *l, uint32_t start, uint32_t size, uint32_t slack, uint32_t shift, uint32_t capacity) {
    size_t lines = (((size_t)size + slack) >> shift) + 2;
    if (l->capacity == capacity && l->shift == shift && l->first_line == start >> shift && l->lines == lines) return 1;
    lines_free(l);
    if (!capacity) return 1;
    l->slot_of = calloc(lines, sizeof *l->slot_of); /* large, but only what is touched becomes real */
    l->line_of = calloc(capacity, sizeof *l->line_of);
    l->older = calloc(capacity, sizeof *l->older);
    l->newer = calloc(capacity, sizeof *l->newer);
    if (!l->slot_of || !l->line_of || !l->older || !l->newer) {
        lines_free(l);
        return 0;
    }
    l->shift = shift;
    l->capacity = capacity;
    l->lines = lines;
    l->first_line = start >> shift;
    return 1;
}

void lines_clear(lines_t *l) {
    for (uint32_t slot = 0; slot < l->held; slot++) l->slot_of[l->line_of[slot] - l->first_line] = 0;
    l->held = l->newest = l->oldest = 0;
}

int lines_touch_other(lines_t *l, uint32_t line) {
    uint32_t *slot_of = &l->slot_of[line - l->first_line], slot;
    int result = *slot_of ? HIT : l->held && line == l->latest + 1 ? NEXT_MISS : MISS;
    l->latest = line;
    if (result != HIT && l->held < l->capacity) {
        slot = l->held++;
        if (!slot) l->oldest = slot;
    } else {
        slot = result == HIT ? *slot_of - 1 : l->oldest;
        if (slot == l->oldest) {
            if (slot != l->newest) l->oldest = l->newer[slot];
        } else if (slot != l->newest) {
            l->newer[l->older[slot]] = l->newer[slot];
            l->older[l->newer[slot]] = l->older[slot];
        }
        if (result != HIT) l->slot_of[l->line_of[slot] - l->first_line] = 0;
    }
    if (result != HIT) {
        l->line_of[slot] = line;
        *slot_of = slot + 1;
    }
    if (slot != l->newest || l->held == 1) { /* the slot becomes the newest; alone it already is */
        l->older[slot] = l->newest;
        l->newer[l->newest] = slot;
        l->newest = slot;
    }
    return result;
}
