/* Double precision, which the M7 may have: FPv5-D16.
 *
 * Source: Armv7-M Architecture Reference Manual (DDI 0403), A2.5, A6 and A7. */
#include "float.h"

#define FLOAT double
#define WORD uint64_t
#define QUIET 0x0008000000000000u
#define DEFAULT_NAN 0x7ff8000000000000u
#define FMA fma
#define SQRT sqrt
#define GET(r) get_double(m, o->r)
#define SET(r, value) set_double(m, o->r, value)
#define GET_FIXED GET
#define SET_FIXED SET
#define WIDEN(x) (x)
#define NARROW(x) (x)
#define FORM_TWO form_two_doubles
#define FORM_THREE form_doubles
#define FORM_TO form_single_of_double
#define FORM_FROM form_double_of_single
#define FLOAT_REGISTERS 16
#define PRECISION "1011"

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

static OPERATION(vcvt_single) {
    m->s[o->d] = narrow(m, GET(m));
    NEXT;
}

static OPERATION(vcvt_from_single) {
    SET(d, widen(m, m->s[o->m]));
    NEXT;
}

const encoding_t float_double[] = {
    FLOAT_PATTERNS,
    MOVE_PATTERN,
    {"11101110 1-11 0111 ---- 1011 11-0 ----", RUN(vcvt_single), form_single_of_double},
    {"11101110 1-11 0111 ---- 1010 11-0 ----", RUN(vcvt_from_single), form_double_of_single},
    {.pattern = ""},
};
const encoding_t float_double_v5[] = {FLOAT_V5_PATTERNS, HALF_CONVERSIONS, {.pattern = ""}};
