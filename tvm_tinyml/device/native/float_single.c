/* Single precision: FPv4-SP, and what FPv5 adds.
 *
 * Source: Armv7-M Architecture Reference Manual (DDI 0403), A2.5, A6 and A7. */
#include "float.h"

#define FLOAT float
#define WORD uint32_t
#define QUIET 0x00400000u
#define DEFAULT_NAN 0x7fc00000u
#define FMA fmaf
#define SQRT sqrtf
#define GET(r) m->s[o->r]
#define SET(r, value) m->s[o->r] = (value)
#define GET_FIXED(r) m->s[o->r]
#define SET_FIXED(r, value) m->s[o->r] = (uint32_t)(value)
#define WIDEN(x) widen(m, x)
#define NARROW(x) narrow(m, x)
#define FORM_TWO form_singles
#define FORM_THREE form_singles
#define FORM_TO form_singles
#define FORM_FROM form_singles
#define FLOAT_REGISTERS 32
#define PRECISION "1010"

static inline FLOAT number(machine_t *m, WORD x) {
    FLOAT value;
    (void)m;
    memcpy(&value, &x, sizeof value);
    return value;
}

static inline WORD word(machine_t *m, FLOAT x) {
    WORD value;
    (void)m;
    memcpy(&value, &x, sizeof value);
    return value;
}

#include "float_operations.h"

const encoding_t float_single[] = {FLOAT_PATTERNS, MOVE_PATTERN, HALF_CONVERSIONS, {.pattern = ""}};
const encoding_t float_single_v5[] = {FLOAT_V5_PATTERNS, {.pattern = ""}};
