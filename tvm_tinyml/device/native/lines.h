/* Which lines of a slow memory a buffer holds; a new one takes the place of the one used longest ago. */
#ifndef TINYML_LINES_H
#define TINYML_LINES_H

#include <stddef.h>
#include <stdint.h>

enum { HIT, MISS, NEXT_MISS }; /* NEXT_MISS: the line behind the one used last */

typedef struct {
    uint32_t shift, capacity; /* lines of 1 << shift bytes; capacity 0: nothing is watched */
    uint32_t held;
    uint32_t latest;           /* the line used last */
    uint32_t newest, oldest;   /* slots */
    uint32_t first_line;       /* of the memory */
    size_t lines;              /* of the memory */
    uint32_t *slot_of;         /* line - first_line -> slot + 1, or 0 */
    uint32_t *line_of;         /* slot -> line */
    uint32_t *older, *newer;   /* slot -> slot, in the order of use */
} lines_t;

/* Prepare for a memory of ``size`` bytes from ``start`` on, and ``slack`` bytes more. 0 when there is no room. */
int lines_init(lines_t *l, uint32_t start, uint32_t size, uint32_t slack, uint32_t shift, uint32_t capacity);
void lines_free(lines_t *l);
void lines_clear(lines_t *l);
int lines_touch_other(lines_t *l, uint32_t line);

static inline int lines_touch(lines_t *l, uint32_t line) {
    return line == l->latest && l->held ? HIT : lines_touch_other(l, line);
}

#endif
