/* Helium: lanes of half and single precision.
 *
 * Vectors are computed with the standard settings: NaN is always the default one, single denormals are 0, half
 * denormals are not. Every lane is computed as a double, which is wide enough that rounding it once more gives the
 * nearest single or half. Source: Armv8-M Architecture Reference Manual (DDI 0553), C2. */
#include <fenv.h>

#include "float.h"
#include "vector.h"

enum { INPUT_DENORMAL = 128 }; /* in FPSCR */

static double wide_f32(machine_t *m, uint32_t x) {
    if (!(x & 0x7f800000) && x & 0x007fffff) {
        m->fpscr |= INPUT_DENORMAL;
        x &= 0x80000000;
    }
    return as_double(widen(m, x));
}

static double wide_f16(machine_t *m, uint32_t x) { return as_double(from_half(m, x)); }

static uint32_t narrow_f32(machine_t *m, double x) {
    if (x != x) return 0x7fc00000;
    if (x != 0 && fabs(x) < 0x1p-126) {
        m->fpscr |= UNDERFLOWED;
        return x < 0 ? 0x80000000 : 0;
    }
    return narrow(m, as_bits(x));
}

static uint32_t narrow_f16(machine_t *m, double x) { return x != x ? 0x7e00 : to_half(m, as_bits(x)); }

#define STORED_f16 u16
#define STORED_f32 u32
#define SIGN_f16 0x8000u
#define SIGN_f32 0x80000000u

/* Lanes of which some byte is active; only where the lowest one is they raise exceptions. */
typedef struct {
    fenv_t host;
    uint32_t fpscr;
    int quiet;
} exceptions_t;

static NEVER_INLINE void hold_exceptions(const machine_t *m, exceptions_t *held) {
    fegetenv(&held->host);
    held->fpscr = m->fpscr;
}

static NEVER_INLINE void restore_exceptions(machine_t *m, const exceptions_t *held) {
    fesetenv(&held->host);
    m->fpscr = held->fpscr;
}

static inline int begin_lane(const machine_t *m, exceptions_t *held, uint32_t mask, int bytes) {
    mask &= (1u << bytes) - 1;
    held->quiet = mask && !(mask & 1);
    if (UNLIKELY(held->quiet)) hold_exceptions(m, held);
    return mask != 0;
}

static inline void end_lane(machine_t *m, const exceptions_t *held) {
    if (UNLIKELY(held->quiet)) restore_exceptions(m, held);
}

#define FOR_ACTIVE(size, ...)                                                      \
    for (int i = 0; i < LANES(u##size); i++) {                                     \
        exceptions_t held;                                                         \
        if (!begin_lane(m, &held, mask >> i * LANE_BYTES(u##size), LANE_BYTES(u##size))) continue; \
        __VA_ARGS__;                                                               \
        end_lane(m, &held);                                                        \
    }

#define FLOAT_LOOP(size, second, result)                                           \
    vector_t x = get_vector(m, o->n), r = get_vector(m, o->d);                     \
    uint32_t mask = active(m);                                                     \
    FOR_ACTIVE(size, {                                                             \
        double a = wide_f##size(m, x.u##size[i]), b = wide_f##size(m, second);     \
        r.u##size[i] = (uint##size##_t)narrow_f##size(m, result);                  \
    })                                                                              \
    put_vector(m, o->d, &r);                                                       \
    NEXT;

#define FLOAT(size, name, result)                                                  \
    static OPERATION(name##_f##size) {                                             \
        vector_t y = get_vector(m, o->m);                                          \
        FLOAT_LOOP(size, y.u##size[i], result)                                     \
    }
#define FLOAT_GENERAL(size, name, result) \
    static OPERATION(name##_general_f##size) { FLOAT_LOOP(size, (uint##size##_t)R(m), result) }
#define FLOATS(name, result) FLOAT(16, name, result) FLOAT(32, name, result)
#define FLOATS_GENERAL(name, result) FLOAT_GENERAL(16, name, result) FLOAT_GENERAL(32, name, result)

FLOATS(vadd, a + b)
FLOATS_GENERAL(vadd, a + b)
FLOATS(vsub, a - b)
FLOATS_GENERAL(vsub, a - b)
FLOATS(vmul, a * b)
FLOATS_GENERAL(vmul, a * b)
FLOATS(vabd, fabs(a - b))

#define ACCUMULATE(size, name, second, first, product_of, plus)                    \
    static OPERATION(name##_f##size) {                                             \
        vector_t x = get_vector(m, o->n), y = get_vector(m, o->m), r = get_vector(m, o->d); \
        uint32_t mask = active(m);                                                 \
        (void)y;                                                                   \
        FOR_ACTIVE(size, {                                                         \
            double n = wide_f##size(m, x.u##size[i]), s = wide_f##size(m, second), d = wide_f##size(m, r.u##size[i]); \
            r.u##size[i] = (uint##size##_t)narrow_f##size(m, fused_double(first, product_of, plus)); \
        })                                                                          \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

#define ACCUMULATE_BOTH(name, second, first, product_of, plus)                     \
    ACCUMULATE(16, name, (uint16_t)(second), first, product_of, plus)              \
    ACCUMULATE(32, name, (uint32_t)(second), first, product_of, plus)

ACCUMULATE(16, vfma, y.u16[i], n, s, d)
ACCUMULATE(32, vfma, y.u32[i], n, s, d)
ACCUMULATE(16, vfms, y.u16[i], -n, s, d)
ACCUMULATE(32, vfms, y.u32[i], -n, s, d)
ACCUMULATE_BOTH(vfma_general, R(m), n, s, d)
ACCUMULATE_BOTH(vfmas_general, R(m), d, n, s)

/* Signs only: nothing is rounded. */
#define SIGNS(size, name, result)                                                  \
    static OPERATION(name##_f##size) {                                             \
        vector_t y = get_vector(m, o->m), r;                                       \
        for (int i = 0; i < LANES(u##size); i++) r.u##size[i] = (uint##size##_t)(y.u##size[i] result); \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

SIGNS(16, vabs, &~SIGN_f16)
SIGNS(32, vabs, &~SIGN_f32)
SIGNS(16, vneg, ^SIGN_f16)
SIGNS(32, vneg, ^SIGN_f32)

/* --- pairs of lanes as complex numbers ---------------------------------------------------------------------------- */

/* kind: turned by 270 degrees instead of 90 */
#define COMPLEX_ADD(size)                                                          \
    static OPERATION(vcadd_f##size) {                                              \
        vector_t x = get_vector(m, o->n), y = get_vector(m, o->m), r = get_vector(m, o->d); \
        uint32_t mask = active(m);                                                 \
        FOR_ACTIVE(size, {                                                         \
            double a = wide_f##size(m, x.u##size[i]), b = wide_f##size(m, y.u##size[i ^ 1]); \
            r.u##size[i] = (uint##size##_t)narrow_f##size(m, (i & 1) == o->kind ? a - b : a + b); \
        })                                                                          \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

COMPLEX_ADD(16)
COMPLEX_ADD(32)

/* One of the two parts of n times m turned by kind * 90 degrees: what vcmul and vcmla take of two products. */
#define COMPLEX_PRODUCT(size, name, accumulator)                                   \
    static OPERATION(name##_f##size) {                                             \
        vector_t x = get_vector(m, o->n), y = get_vector(m, o->m), r = get_vector(m, o->d); \
        uint32_t mask = active(m), part = o->kind & 1;                             \
        FOR_ACTIVE(size, {                                                         \
            double a = wide_f##size(m, x.u##size[(i & ~1) + (int)part]);           \
            double b = wide_f##size(m, y.u##size[i ^ (int)part]);                  \
            int negative = part ? (i & 1) == o->kind >> 1 : o->kind >> 1;         \
            r.u##size[i] = (uint##size##_t)narrow_f##size(m, accumulator);         \
        })                                                                          \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

COMPLEX_PRODUCT(16, vcmul, a * (negative ? -b : b))
COMPLEX_PRODUCT(32, vcmul, a * (negative ? -b : b))
COMPLEX_PRODUCT(16, vcmla, fused_double(a, negative ? -b : b, wide_f16(m, r.u16[i])))
COMPLEX_PRODUCT(32, vcmla, fused_double(a, negative ? -b : b, wide_f32(m, r.u32[i])))

/* --- comparisons -------------------------------------------------------------------------------------------------- */

/* The lesser or the greater number; a quiet NaN loses. */
static double extremum(double a, double b, int smallest) {
    if (a != a) return b;
    if (b != b) return a;
    if (a == b) return (signbit(a) != 0) == smallest ? a : b;
    return (a < b) == smallest ? a : b;
}

static int signaling_f16(uint32_t x) { return (x & 0x7e00) == 0x7c00 && x & 0x1ff; }
static int signaling_f32(uint32_t x) { return (x & 0x7fc00000) == 0x7f800000 && x & 0x3fffff; }

#define EXTREMUM(size, a, b, smallest)                                             \
    (signaling_f##size(a) || signaling_f##size(b) ? (wide_f##size(m, a), wide_f##size(m, b), (double)NAN) \
                                                  : extremum(wide_f##size(m, a), wide_f##size(m, b), smallest))

#define EXTREMA(size, name, smallest)                                              \
    static OPERATION(name##_f##size) {                                             \
        vector_t x = get_vector(m, o->n), y = get_vector(m, o->m), r = get_vector(m, o->d); \
        uint32_t mask = active(m);                                                 \
        FOR_ACTIVE(size, r.u##size[i] =                                            \
            (uint##size##_t)narrow_f##size(m, EXTREMUM(size, x.u##size[i], y.u##size[i], smallest))) \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }                                                                              \
    static OPERATION(name##a_f##size) { /* of magnitudes, d with m */              \
        vector_t y = get_vector(m, o->m), r = get_vector(m, o->d);                 \
        uint32_t mask = active(m);                                                 \
        FOR_ACTIVE(size, {                                                         \
            uint32_t a = r.u##size[i] & ~SIGN_f##size, b = y.u##size[i] & ~SIGN_f##size; \
            r.u##size[i] = (uint##size##_t)narrow_f##size(m, EXTREMUM(size, a, b, smallest)); \
        })                                                                          \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }                                                                              \
    static OPERATION(name##v_f##size) { /* of all lanes; kind: of magnitudes */    \
        vector_t y = get_vector(m, o->m);                                          \
        uint32_t mask = active(m), best = (uint##size##_t)R(d);                    \
        FOR_ACTIVE(size, {                                                         \
            uint32_t b = o->kind ? y.u##size[i] & ~SIGN_f##size : y.u##size[i];    \
            if (!held.quiet) best = narrow_f##size(m, extremum(wide_f##size(m, best), wide_f##size(m, b), smallest)); \
        })                                                                          \
        R(d) = best;                                                               \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

EXTREMA(16, vmaxnm, 0)
EXTREMA(32, vmaxnm, 0)
EXTREMA(16, vminnm, 1)
EXTREMA(32, vminnm, 1)

/* amount: EQ, NE, GE, LT, GT, LE; kind: the mask of a VPT block that begins */
static int comparison(machine_t *m, double a, double b, int which) {
    if (a != a || b != b) {
        if (which > 1) m->fpscr |= INVALID;
        return which == 1 || which == 3 || which == 5; /* the opposites of EQ, GE and GT */
    }
    switch (which) {
    case 0: return a == b;
    case 1: return a != b;
    case 2: return a >= b;
    case 3: return a < b;
    case 4: return a > b;
    default: return a <= b;
    }
}

#define COMPARE_LOOP(size, second)                                                 \
    vector_t x = get_vector(m, o->n);                                              \
    uint32_t mask = active(m), holds = 0;                                          \
    FOR_ACTIVE(size, {                                                             \
        double a = wide_f##size(m, x.u##size[i]), b = wide_f##size(m, second);     \
        if (comparison(m, a, b, o->amount)) holds |= ((1u << LANE_BYTES(u##size)) - 1) << i * LANE_BYTES(u##size); \
    })                                                                              \
    set_predicate(m, o, holds);                                                    \
    NEXT;

#define COMPARE(size)                                                              \
    static OPERATION(vcmp_f##size) {                                               \
        vector_t y = get_vector(m, o->m);                                          \
        COMPARE_LOOP(size, y.u##size[i])                                           \
    }                                                                              \
    static OPERATION(vcmp_general_f##size) { COMPARE_LOOP(size, o->m == PC ? 0 : (uint##size##_t)R(m)) }

COMPARE(16)
COMPARE(32)

/* --- conversions -------------------------------------------------------------------------------------------------- */

/* kind: signed; amount: bits behind the point; width: how to round */
#define CONVERT(size)                                                              \
    static OPERATION(vcvt_f##size) {                                               \
        vector_t y = get_vector(m, o->m), r = get_vector(m, o->d);                 \
        uint32_t mask = active(m);                                                 \
        FOR_ACTIVE(size, r.u##size[i] = (uint##size##_t)to_integer(                \
            m, as_bits(wide_f##size(m, y.u##size[i])), o->width, o->kind, size, o->amount)) \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }                                                                              \
    static OPERATION(vcvt_from_f##size) {                                          \
        vector_t y = get_vector(m, o->m), r = get_vector(m, o->d);                 \
        uint32_t mask = active(m);                                                 \
        FOR_ACTIVE(size, {                                                         \
            double x = o->kind ? (double)y.s##size[i] : (double)y.u##size[i];      \
            r.u##size[i] = (uint##size##_t)narrow_f##size(m, ldexp(x, -o->amount)); \
        })                                                                          \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }                                                                              \
    static OPERATION(vrint_f##size) { /* kind: inexact is an exception */          \
        vector_t y = get_vector(m, o->m), r = get_vector(m, o->d);                 \
        uint32_t mask = active(m);                                                 \
        FOR_ACTIVE(size, r.u##size[i] = (uint##size##_t)narrow_f##size(            \
            m, as_double(to_integral(m, as_bits(wide_f##size(m, y.u##size[i])), o->width, o->kind)))) \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

CONVERT(16)
CONVERT(32)

/* amount: of or to the top halves */
static OPERATION(vcvt_widen) {
    vector_t y = get_vector(m, o->m), r = get_vector(m, o->d);
    uint32_t mask = active(m);
    FOR_ACTIVE(32, r.u32[i] = narrow_f32(m, wide_f16(m, y.u16[2 * i + o->amount])))
    put_vector(m, o->d, &r);
    NEXT;
}

static OPERATION(vcvt_narrow) {
    vector_t y = get_vector(m, o->m), r = get_vector(m, o->d);
    uint32_t mask = active(m), halves = o->amount ? 0xcccc : 0x3333;
    FOR_ACTIVE(32, r.u16[2 * i + o->amount] = (uint16_t)narrow_f16(m, wide_f32(m, y.u32[i])))
    merge_vector(m, o->d, &r, mask & halves);
    advance(m);
    NEXT;
}

/* --- forms -------------------------------------------------------------------------------------------------------- */

static int form_turn_add(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)bits(i->code, 24, 24);
    return 0;
}

static int form_turn_multiply(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)(bits(i->code, 12, 12) << 1 | bits(i->code, 0, 0));
    return 0;
}

static int form_turn_accumulate(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)bits(i->code, 24, 23);
    return 0;
}

static int form_magnitude(const instruction_t *i, operation_t *o) {
    o->kind = !bits(i->code, 17, 17);
    return 0;
}

/* Bits 12, 7 and the lowest (of vectors) or 5 (of general registers): EQ, NE, GE, LT, GT, LE. */
static int form_condition(const instruction_t *i, operation_t *o, int last) {
    int ordered = bits(i->code, 12, 12) != 0;
    if (!ordered && last) return OTHER_PATTERN;
    o->amount = (uint8_t)((ordered ? 2 + 2 * last : 0) + (int)bits(i->code, 7, 7));
    return form_mask(i, o);
}

static int form_compare(const instruction_t *i, operation_t *o) {
    return form_condition(i, o, (int)bits(i->code, 0, 0));
}

static int form_compare_general(const instruction_t *i, operation_t *o) {
    return o->m == SP ? OTHER_PATTERN : form_condition(i, o, (int)bits(i->code, 5, 5));
}

static int form_integer(const instruction_t *i, operation_t *o) { /* bit 7: unsigned */
    o->kind = !bits(i->code, 7, 7);
    o->width = TO_ZERO;
    return 0;
}

static const uint8_t roundings[] = {AWAY, TO_NEAREST, TO_PLUS, TO_MINUS};

static int form_integer_rounded(const instruction_t *i, operation_t *o) {
    o->kind = !bits(i->code, 7, 7);
    o->width = roundings[bits(i->code, 9, 8)];
    return 0;
}

static int form_fixed(const instruction_t *i, operation_t *o) { /* bit 28: unsigned; the field: 64 less the bits */
    o->kind = !bits(i->code, 28, 28);
    o->width = TO_ZERO;
    o->amount = (uint8_t)(64 - bits(i->code, 21, 16));
    return 0;
}

static int form_fixed_half(const instruction_t *i, operation_t *o) {
    form_fixed(i, o);
    return o->amount > 16 ? UNDEFINED : 0;
}

static int form_integral(const instruction_t *i, operation_t *o) {
    static const uint8_t ways[] = {TO_NEAREST, TO_NEAREST, AWAY, TO_ZERO, 0, TO_MINUS, 0, TO_PLUS};
    uint32_t way = bits(i->code, 9, 7);
    o->kind = way == 1;
    o->width = ways[way];
    return way == 4 || way == 6 ? UNDEFINED : 0;
}

static int form_top(const instruction_t *i, operation_t *o) {
    o->amount = (uint8_t)bits(i->code, 12, 12);
    return 0;
}

#define TWO(front16, front32, behind, name, form)                                  \
    {front16 behind, RUN(name##_f16), form}, {front32 behind, RUN(name##_f32), form}
#define BY_BIT_20(front, behind, name, form) TWO(front "1", front "0", behind, name, form)
#define BY_BIT_28(front, behind, name, form) TWO("1111 " front, "1110 " front, behind, name, form)
#define BY_SIZE(behind, name, form) TWO("1111 1111 1011 01", "1111 1111 1011 10", behind, name, form)

const encoding_t helium_float[] = {
    BY_BIT_20("1110 1111 000", "nnn0 ddd0 1101 0100 mmm0", vadd, NULL),
    BY_BIT_20("1110 1111 001", "nnn0 ddd0 1101 0100 mmm0", vsub, NULL),
    BY_BIT_20("1111 1111 001", "nnn0 ddd0 1101 0100 mmm0", vabd, NULL),
    BY_BIT_20("1111 1111 000", "nnn0 ddd0 1101 0101 mmm0", vmul, NULL),
    BY_BIT_20("1110 1111 000", "nnn0 ddd0 1100 0101 mmm0", vfma, NULL),
    BY_BIT_20("1110 1111 001", "nnn0 ddd0 1100 0101 mmm0", vfms, NULL),
    BY_BIT_20("1111 1111 000", "nnn0 ddd0 1111 0101 mmm0", vmaxnm, NULL),
    BY_BIT_20("1111 1111 001", "nnn0 ddd0 1111 0101 mmm0", vminnm, NULL),
    BY_BIT_28("1110 0011", "nnn0 ddd0 1111 0100 mmmm", vadd_general, NULL),
    BY_BIT_28("1110 0011", "nnn0 ddd1 1111 0100 mmmm", vsub_general, NULL),
    BY_BIT_28("1110 0011", "nnn1 ddd0 1110 0110 mmmm", vmul_general, NULL),
    BY_BIT_28("1110 0011", "nnn1 ddd0 1110 0100 mmmm", vfma_general, NULL),
    BY_BIT_28("1110 0011", "nnn1 ddd1 1110 0100 mmmm", vfmas_general, NULL),
    BY_BIT_28("1110 0011", "1111 ddd0 1110 1000 mmm1", vmaxnma, NULL),
    BY_BIT_28("1110 0011", "1111 ddd1 1110 1000 mmm1", vminnma, NULL),
    BY_BIT_28("1110 1110", "11-0 dddd 1111 0000 mmm0", vmaxnmv, form_magnitude),
    BY_BIT_28("1110 1110", "11-0 dddd 1111 1000 mmm0", vminnmv, form_magnitude),
    {"1111 110- 1000 nnn0 ddd0 1000 0100 mmm0", RUN(vcadd_f16), form_turn_add},
    {"1111 110- 1001 nnn0 ddd0 1000 0100 mmm0", RUN(vcadd_f32), form_turn_add},
    {"1110 1110 0011 nnn0 ddd- 1110 0000 mmm-", RUN(vcmul_f16), form_turn_multiply},
    {"1111 1110 0011 nnn0 ddd- 1110 0000 mmm-", RUN(vcmul_f32), form_turn_multiply},
    {"1111 110- -010 nnn0 ddd0 1000 0100 mmm0", RUN(vcmla_f16), form_turn_accumulate},
    {"1111 110- -011 nnn0 ddd0 1000 0100 mmm0", RUN(vcmla_f32), form_turn_accumulate},
    BY_SIZE("01 ddd0 0111 0100 mmm0", vabs, NULL),
    BY_SIZE("01 ddd0 0111 1100 mmm0", vneg, NULL),

    BY_BIT_28("1110 0-11", "nnn1 ---- 1111 -000 mmm-", vcmp, form_compare),
    BY_BIT_28("1110 0-11", "nnn1 ---- 1111 -1-0 zzzz", vcmp_general, form_compare_general),

    BY_SIZE("11 ddd0 0110 -100 mmm0", vcvt_from, form_integer),
    BY_SIZE("11 ddd0 0111 -100 mmm0", vcvt, form_integer),
    BY_SIZE("11 ddd0 00-- -100 mmm0", vcvt, form_integer_rounded),
    BY_SIZE("10 ddd0 01-- -100 mmm0", vrint, form_integral),
    {"111- 1111 1011 ---- ddd0 1100 0101 mmm0", RUN(vcvt_from_f16), form_fixed_half},
    {"111- 1111 1011 ---- ddd0 1101 0101 mmm0", RUN(vcvt_f16), form_fixed_half},
    {"111- 1111 101- ---- ddd0 1110 0101 mmm0", RUN(vcvt_from_f32), form_fixed},
    {"111- 1111 101- ---- ddd0 1111 0101 mmm0", RUN(vcvt_f32), form_fixed},
    {"1110 1110 0011 1111 ddd- 1110 0000 mmm1", RUN(vcvt_narrow), form_top},
    {"1111 1110 0011 1111 ddd- 1110 0000 mmm1", RUN(vcvt_widen), form_top},
    {.pattern = ""},
};
