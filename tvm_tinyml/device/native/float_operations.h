/* Arithmetic for one width; included by the files of the widths, which define
 *
 *   FLOAT, WORD           the number and its bits
 *   number(m, bits), word(m, number)
 *   GET(r), SET(r, bits)  a register of that width
 *   FORM_TWO, FORM_THREE, FORM_TO, FORM_FROM  the forms of its registers; the last two also of a single with an integer
 *   PRECISION             the four bits that tell widths in patterns, as text
 *   GET_FIXED(r), SET_FIXED(r, bits)  the same for a number with a fixed point
 *   QUIET, DEFAULT_NAN    bits: the one that tells quiet NaNs, and the NaN that no operand gave
 *   FMA, SQRT             as fmaf and sqrtf
 *   WIDEN(bits), NARROW(bits)  to double and back
 */
#define SIGN ((WORD)((WORD)1 << (sizeof(WORD) * 8 - 1)))

static inline int is_nan(WORD x) { return (WORD)(x << 1) > (WORD)(((DEFAULT_NAN) & ~(WORD)(QUIET)) << 1); }
static inline int is_signaling(WORD x) { return is_nan(x) && !(x & QUIET); }

/* The NaN that operands give: the first that is signaling, else the first. */
static WORD nan_of(const WORD *operands, int count) {
    for (int i = 0; i < count; i++)
        if (is_signaling(operands[i])) return operands[i] | QUIET;
    for (int i = 0; i < count; i++)
        if (is_nan(operands[i])) return operands[i];
    return DEFAULT_NAN;
}

static NEVER_INLINE WORD nan_of_two(WORD a, WORD b) { return nan_of((const WORD[]){a, b}, 2); }

#define BINARY(name, operator)                                                     \
    static inline WORD name(machine_t *m, WORD a, WORD b) {                                      \
        FLOAT result = number(m, a) operator number(m, b);                         \
        return UNLIKELY(result != result) ? nan_of_two(a, b) : word(m, result);    \
    }

BINARY(add, +)
BINARY(subtract, -)
BINARY(multiply, *)
BINARY(divide, /)

static NEVER_INLINE WORD nan_of_fused(machine_t *m, WORD addend, WORD a, WORD b) {
    WORD infinity = DEFAULT_NAN & ~(WORD)QUIET, x = a & ~SIGN, y = b & ~SIGN;
    if (is_nan(addend) && !is_signaling(addend) && ((x == infinity && !y) || (!x && y == infinity))) {
        m->fpscr |= INVALID;
        return DEFAULT_NAN;
    }
    return nan_of((const WORD[]){addend, a, b}, 3);
}

static inline WORD fused(machine_t *m, WORD addend, WORD a, WORD b) {
    FLOAT result = FMA(number(m, a), number(m, b), number(m, addend));
    return UNLIKELY(result != result) ? nan_of_fused(m, addend, a, b) : word(m, result);
}

#define OPERATE(name, value)                                                       \
    static OPERATION(name) {                                                       \
        SET(d, value);                                                             \
        NEXT;                                                                      \
    }

OPERATE(vadd, add(m, GET(n), GET(m)))
OPERATE(vsub, subtract(m, GET(n), GET(m)))
OPERATE(vmul, multiply(m, GET(n), GET(m)))
OPERATE(vnmul, multiply(m, GET(n), GET(m)) ^ SIGN)
OPERATE(vdiv, divide(m, GET(n), GET(m)))
OPERATE(vmla, add(m, GET(d), multiply(m, GET(n), GET(m))))
OPERATE(vmls, add(m, GET(d), multiply(m, GET(n), GET(m)) ^ SIGN))
OPERATE(vnmla, add(m, GET(d) ^ SIGN, multiply(m, GET(n), GET(m)) ^ SIGN))
OPERATE(vnmls, add(m, GET(d) ^ SIGN, multiply(m, GET(n), GET(m))))
OPERATE(vfma, fused(m, GET(d), GET(n), GET(m)))
OPERATE(vfms, fused(m, GET(d), GET(n) ^ SIGN, GET(m)))
OPERATE(vfnma, fused(m, GET(d) ^ SIGN, GET(n) ^ SIGN, GET(m)))
OPERATE(vfnms, fused(m, GET(d) ^ SIGN, GET(n), GET(m)))
OPERATE(vabs, GET(m) & ~SIGN)
OPERATE(vneg, GET(m) ^ SIGN)

static inline WORD square_root(machine_t *m, WORD x) {
    FLOAT result = SQRT(number(m, x));
    return UNLIKELY(result != result) ? nan_of((const WORD[]){x}, 1) : word(m, result);
}

OPERATE(vsqrt, square_root(m, GET(m)))

static OPERATION(vmov_immediate) {
    SET(d, NARROW(widen(m, o->immediate)));
    NEXT;
}

static int form_immediate(const instruction_t *i, operation_t *o) { /* sign, 3 bits of exponent, 4 of fraction */
    uint32_t high = bits(i->code, 19, 16), exponent = (high & 4 ? 0x7c : 0x80) | (high & 3);
    o->immediate = (high & 8) << 28 | exponent << 23 | bits(i->code, 3, 0) << 19;
    return FORM_TWO(i, o);
}

/* --- comparison, selection ---------------------------------------------------------------------------------------- */

static inline void set_flags(machine_t *m, uint64_t a, uint64_t b, int signal_every_nan) {
    uint32_t flags = compare(m, a, b, signal_every_nan); /* it may set others in FPSCR */
    m->fpscr = (m->fpscr & 0x0fffffff) | flags;
}

static OPERATION(vcmp) { /* kind: every NaN is invalid */
    set_flags(m, WIDEN(GET(d)), WIDEN(GET(m)), o->kind);
    NEXT;
}

static OPERATION(vcmp_zero) {
    set_flags(m, WIDEN(GET(d)), 0, o->kind);
    NEXT;
}

static int form_compare(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)bits(i->code, 7, 7);
    return FORM_TWO(i, o);
}

static OPERATION(vsel) { /* kind: EQ, VS, GE, GT */
    int same = m->negative >> 31 == m->overflow, holds;
    switch (o->kind) {
    case 0: holds = !m->zero; break;
    case 1: holds = (int)m->overflow; break;
    case 2: holds = same; break;
    default: holds = m->zero && same;
    }
    SET(d, holds ? GET(n) : GET(m));
    NEXT;
}

/* A quiet NaN loses against a number; +0 is more than -0. */
static WORD extremum(machine_t *m, WORD a, WORD b, int smallest) {
    int signaling = is_signaling(a) || is_signaling(b);
    if (signaling) m->fpscr |= INVALID;
    if (signaling || (is_nan(a) && is_nan(b))) return nan_of_two(a, b);
    if (is_nan(a)) return b;
    if (is_nan(b)) return a;
    int less = a >> (sizeof(WORD) * 8 - 1) != b >> (sizeof(WORD) * 8 - 1) ? (a & SIGN) != 0 : a & SIGN ? a > b : a < b;
    return less == smallest ? a : b;
}

OPERATE(vmaxnm, extremum(m, GET(n), GET(m), 0))
OPERATE(vminnm, extremum(m, GET(n), GET(m), 1))

/* --- conversions -------------------------------------------------------------------------------------------------- */

/* amount: the rounding; kind: signed */
static OPERATION(vcvt_integer) {
    m->s[o->d] = to_integer(m, WIDEN(GET(m)), o->amount, o->kind, 32, 0);
    NEXT;
}

static OPERATION(vcvt_from_integer) {
    uint32_t x = m->s[o->m];
    FLOAT value = o->kind ? (FLOAT)(int32_t)x : (FLOAT)x;
    SET(d, word(m, value));
    NEXT;
}

/* kind: signed; width: of the integer; amount: bits of it behind the point */
static OPERATION(vcvt_fixed) {
    uint32_t x = to_integer(m, WIDEN(GET(d)), TO_ZERO, o->kind, o->width, o->amount);
    SET_FIXED(d, o->kind ? (uint64_t)(int64_t)(int32_t)x : o->width == 16 ? (uint16_t)x : x);
    NEXT;
}

static OPERATION(vcvt_from_fixed) {
    uint32_t x = (uint32_t)GET_FIXED(d), shift = 32u - o->width;
    double value = o->kind ? (double)((int32_t)(x << shift) >> shift) : (double)(x << shift >> shift);
    FLOAT result = (FLOAT)ldexp(value, -o->amount);
    SET(d, word(m, result));
    NEXT;
}

OPERATE(vrint, NARROW(to_integral(m, WIDEN(GET(m)), o->amount, o->kind))) /* kind: inexact is an exception */

#ifndef IS_HALF
OPERATE(vmov, GET(m))

static OPERATION(vcvt_from_half) { /* amount: how far the half lies above the bottom */
    SET(d, NARROW(from_half(m, m->s[o->m] >> o->amount)));
    NEXT;
}

static OPERATION(vcvt_half) {
    uint32_t half = to_half(m, WIDEN(GET(m)));
    m->s[o->d] = (m->s[o->d] & 0xffff0000u >> o->amount) | half << o->amount;
    NEXT;
}
#endif

static const uint8_t roundings[] = {AWAY, TO_NEAREST, TO_PLUS, TO_MINUS};

static int form_to_integer(const instruction_t *i, operation_t *o) { /* bits 16: signed, 7: to zero */
    o->kind = (uint8_t)bits(i->code, 16, 16);
    o->amount = bits(i->code, 7, 7) ? TO_ZERO : TO_NEAREST;
    return FORM_TO(i, o);
}

static int form_to_integer_rounded(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)bits(i->code, 7, 7);
    o->amount = roundings[bits(i->code, 17, 16)];
    return FORM_TO(i, o);
}

static int form_from_integer(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)bits(i->code, 7, 7);
    return FORM_FROM(i, o);
}

static int form_fixed(const instruction_t *i, operation_t *o) { /* bits 16: unsigned, 7: 32 bits */
    uint32_t before = bits(i->code, 3, 0) << 1 | bits(i->code, 5, 5); /* the point; this is no second register */
    FORM_TWO(i, o);
    o->kind = !bits(i->code, 16, 16);
    o->width = bits(i->code, 7, 7) ? 32 : 16;
    o->amount = (uint8_t)(o->width - before);
    return before > o->width ? UNPREDICTABLE : o->d >= FLOAT_REGISTERS ? UNDEFINED : 0;
}

static int form_rint(const instruction_t *i, operation_t *o) { /* bits 16: X, 7: Z */
    o->kind = (uint8_t)bits(i->code, 16, 16);
    o->amount = bits(i->code, 7, 7) ? TO_ZERO : TO_NEAREST;
    return FORM_TWO(i, o);
}

static int form_rint_rounded(const instruction_t *i, operation_t *o) {
    o->amount = roundings[bits(i->code, 17, 16)];
    return FORM_TWO(i, o);
}

#ifndef IS_HALF
static int form_half(const instruction_t *i, operation_t *o) { /* bits 16: to half, 7: top */
    o->amount = bits(i->code, 7, 7) ? 16 : 0;
    return bits(i->code, 16, 16) ? FORM_TO(i, o) : FORM_FROM(i, o);
}
#endif

/* --- patterns ----------------------------------------------------------------------------------------------------- */

#define THREE(code, op, name) {"11101110" code "---- ---- " PRECISION "-" op "-0 ----", RUN(name), FORM_THREE}
#define TWO(code, op, name, form) {"11101110 1-11" code "---- " PRECISION op "-0 ----", RUN(name), form}

#define FLOAT_PATTERNS                                                             \
    THREE("0-00", "0", vmla),                                                      \
    THREE("0-00", "1", vmls),                                                      \
    THREE("0-01", "0", vnmls),                                                     \
    THREE("0-01", "1", vnmla),                                                     \
    THREE("0-10", "0", vmul),                                                      \
    THREE("0-10", "1", vnmul),                                                     \
    THREE("0-11", "0", vadd),                                                      \
    THREE("0-11", "1", vsub),                                                      \
    THREE("1-00", "0", vdiv),                                                      \
    THREE("1-01", "0", vfnms),                                                     \
    THREE("1-01", "1", vfnma),                                                     \
    THREE("1-10", "0", vfma),                                                      \
    THREE("1-10", "1", vfms),                                                      \
    {"11101110 1-11 ---- ---- " PRECISION "0000 ----", RUN(vmov_immediate), form_immediate}, \
    TWO("0000", "11", vabs, FORM_TWO),                                             \
    TWO("0001", "01", vneg, FORM_TWO),                                             \
    TWO("0001", "11", vsqrt, FORM_TWO),                                            \
    TWO("0100", "-1", vcmp, form_compare),                                         \
    {"11101110 1-11 0101 ---- " PRECISION "-100 0000", RUN(vcmp_zero), form_compare}, \
    TWO("1000", "-1", vcvt_from_integer, form_from_integer),                       \
    TWO("110-", "-1", vcvt_integer, form_to_integer),                              \
    TWO("101-", "-1", vcvt_from_fixed, form_fixed),                                \
    TWO("111-", "-1", vcvt_fixed, form_fixed)

#define MOVE_PATTERN TWO("0000", "01", vmov, FORM_TWO)

#define HALF_CONVERSIONS                                                           \
    TWO("0010", "-1", vcvt_from_half, form_half),                                  \
    TWO("0011", "-1", vcvt_half, form_half)

#define FLOAT_V5_PATTERNS                                                          \
    TWO("0110", "-1", vrint, form_rint),                                           \
    TWO("0111", "01", vrint, form_rint),                                           \
    {"11111110 0-kk ---- ---- " PRECISION "-0-0 ----", RUN(vsel), FORM_THREE, .it = NOT_IN_IT},  \
    {"11111110 1-00 ---- ---- " PRECISION "-0-0 ----", RUN(vmaxnm), FORM_THREE, .it = NOT_IN_IT}, \
    {"11111110 1-00 ---- ---- " PRECISION "-1-0 ----", RUN(vminnm), FORM_THREE, .it = NOT_IN_IT}, \
    {"11111110 1-11 10-- ---- " PRECISION "01-0 ----", RUN(vrint), form_rint_rounded, .it = NOT_IN_IT}, \
    {"11111110 1-11 11-- ---- " PRECISION "-1-0 ----", RUN(vcvt_integer), form_to_integer_rounded, .it = NOT_IN_IT}
