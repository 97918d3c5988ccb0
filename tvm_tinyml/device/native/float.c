#include "float.h"

#include <fenv.h>

void collect_exceptions(machine_t *m) {
    int host = fetestexcept(FE_ALL_EXCEPT);
    if (host & FE_INVALID) m->fpscr |= INVALID;
    if (host & FE_DIVBYZERO) m->fpscr |= DIVIDED_BY_0;
    if (host & FE_OVERFLOW) m->fpscr |= OVERFLOWED;
    if (host & FE_UNDERFLOW) m->fpscr |= UNDERFLOWED;
    if (host & FE_INEXACT) m->fpscr |= INEXACT;
}

/* --- registers out of their places -------------------------------------------------------------------------------- */

/* Four bits from ``low`` on, and one that lies apart: the lowest of a single's number, the highest of a double's. */
static uint8_t single(uint32_t code, int low, int apart) {
    return (uint8_t)(bits(code, low + 3, low) << 1 | bits(code, apart, apart));
}

static uint8_t twice(uint32_t code, int low, int apart) {
    return (uint8_t)(bits(code, apart, apart) << 4 | bits(code, low + 3, low));
}

int form_singles(const instruction_t *i, operation_t *o) {
    o->d = single(i->code, 12, 22);
    o->n = single(i->code, 16, 7);
    o->m = single(i->code, 0, 5);
    return 0;
}

int form_two_doubles(const instruction_t *i, operation_t *o) { /* there are 16 */
    o->d = twice(i->code, 12, 22);
    o->m = twice(i->code, 0, 5);
    return o->d > 15 || o->m > 15 ? UNDEFINED : 0;
}

int form_doubles(const instruction_t *i, operation_t *o) {
    o->n = twice(i->code, 16, 7);
    return o->n > 15 ? UNDEFINED : form_two_doubles(i, o);
}

int form_single_of_double(const instruction_t *i, operation_t *o) {
    o->d = single(i->code, 12, 22);
    o->m = twice(i->code, 0, 5);
    return o->m > 15 ? UNDEFINED : 0;
}

int form_double_of_single(const instruction_t *i, operation_t *o) {
    o->d = twice(i->code, 12, 22);
    o->m = single(i->code, 0, 5);
    return o->d > 15 ? UNDEFINED : 0;
}

/* --- conversions, all by way of double, which holds every single and half ----------------------------------------- */

static uint64_t fraction_of(uint64_t x) { return x & 0xfffffffffffffu; }
static int exponent_of(uint64_t x) { return (int)(x >> 52 & 0x7ff); }

/* A magnitude of significand * 2**exponent as an integer; it must be below 2**63. ``rest`` is set if it was none. */
static uint64_t round_magnitude(uint64_t significand, int exponent, int negative, int rounding, int *rest) {
    *rest = 0;
    if (exponent >= 0) return significand << exponent;
    int dropped = exponent < -63 ? 64 : -exponent;
    uint64_t whole = dropped < 64 ? significand >> dropped : 0;
    /* The rest compared with a half: significands have 53 bits, so behind 64 dropped ones it is less. */
    uint64_t low = dropped < 64 ? significand & ((1ull << dropped) - 1) : significand;
    uint64_t half = 1ull << (dropped - 1);
    int above = low > half, at = low == half;
    *rest = low != 0;
    switch (rounding) {
    case TO_NEAREST: return whole + (above || (at && whole & 1));
    case AWAY: return whole + (above || at);
    case TO_PLUS: return whole + (*rest && !negative);
    case TO_MINUS: return whole + (*rest && negative);
    default: return whole;
    }
}

static void take_apart(uint64_t value, uint64_t *significand, int *exponent) {
    int biased = exponent_of(value);
    *significand = fraction_of(value) | (biased ? 1ull << 52 : 0);
    *exponent = (biased ? biased : 1) - 1075;
}

uint32_t to_integer(machine_t *m, uint64_t value, int rounding, int is_signed, int width, int fraction) {
    int negative = (int)(value >> 63), exponent, rest = 0;
    uint64_t significand, magnitude, most = (1ull << (width - is_signed)) - 1;
    uint64_t limit = !negative ? most : is_signed ? most + 1 : 0;
    if (is_nan_double(value)) {
        m->fpscr |= INVALID;
        return 0;
    }
    take_apart(value, &significand, &exponent);
    exponent += fraction;
    if (exponent > 0 && significand) magnitude = UINT64_MAX; /* at least 2**53, out of every range */
    else magnitude = round_magnitude(significand, exponent > 0 ? 0 : exponent, negative, rounding, &rest);
    if (magnitude > limit) {
        m->fpscr |= INVALID;
        magnitude = limit;
    } else if (rest) {
        m->fpscr |= INEXACT;
    }
    return (uint32_t)(negative ? 0 - magnitude : magnitude);
}

uint64_t to_integral(machine_t *m, uint64_t value, int rounding, int exact) {
    uint64_t significand, sign = value & 1ull << 63;
    int exponent, rest;
    if (is_nan_double(value)) {
        if (is_signaling_double(value)) m->fpscr |= INVALID;
        return value | 1ull << 51;
    }
    take_apart(value, &significand, &exponent);
    if (exponent >= 0) return value; /* infinities too */
    double whole = (double)round_magnitude(significand, exponent, sign != 0, rounding, &rest);
    if (rest && exact) m->fpscr |= INEXACT;
    return as_bits(whole) | sign;
}

uint32_t to_half(machine_t *m, uint64_t value) {
    uint32_t sign = (uint32_t)(value >> 48) & 0x8000;
    uint64_t significand;
    int exponent, rest, biased = exponent_of(value) - 1023 + 15;
    if (is_nan_double(value)) {
        if (is_signaling_double(value)) m->fpscr |= INVALID;
        return sign | 0x7e00 | (uint32_t)(fraction_of(value) >> 42);
    }
    if (exponent_of(value) == 0x7ff) return sign | 0x7c00;
    take_apart(value, &significand, &exponent);
    /* The last place of a half is 2**(biased - 25), of subnormal ones 2**-24. */
    int place = biased > 0 ? biased - 25 : -24;
    uint32_t result = (uint32_t)round_magnitude(significand, exponent - place, 0, TO_NEAREST, &rest);
    if (biased > 0) result += (uint32_t)(biased - 1) << 10; /* the hidden bit adds 1 to the exponent, a carry again */
    if (biased > 30 || result >= 0x7c00) {
        m->fpscr |= OVERFLOWED | INEXACT;
        return sign | 0x7c00;
    }
    if (rest) m->fpscr |= biased > 0 ? INEXACT : INEXACT | UNDERFLOWED;
    return sign | result;
}

uint64_t from_half(machine_t *m, uint32_t half) {
    uint64_t sign = (uint64_t)(half >> 15 & 1) << 63;
    uint32_t exponent = half >> 10 & 31, fraction = half & 0x3ff;
    if (exponent == 31) {
        if (fraction && !(fraction >> 9)) m->fpscr |= INVALID;
        return sign | 0x7ffull << 52 | (uint64_t)(fraction ? fraction | 0x200 : 0) << 42;
    }
    if (exponent) return sign | (uint64_t)(exponent - 15 + 1023) << 52 | (uint64_t)fraction << 42;
    return sign | as_bits(fraction * 0x1p-24);
}

uint64_t widen(machine_t *m, uint32_t single_bits) {
    if ((single_bits << 1) > 0xff000000u) { /* NaN */
        if (!(single_bits >> 22 & 1)) m->fpscr |= INVALID;
        return (uint64_t)(single_bits >> 31) << 63 | 0x7ff8ull << 48 | (uint64_t)(single_bits & 0x7fffff) << 29;
    }
    float value;
    memcpy(&value, &single_bits, sizeof value);
    return as_bits(value);
}

uint32_t narrow(machine_t *m, uint64_t value) {
    if (is_nan_double(value)) {
        if (is_signaling_double(value)) m->fpscr |= INVALID;
        return (uint32_t)(value >> 63) << 31 | 0x7fc00000 | (uint32_t)(fraction_of(value) >> 29);
    }
    float result = (float)as_double(value);
    uint32_t result_bits;
    memcpy(&result_bits, &result, sizeof result_bits);
    return result_bits;
}

uint32_t compare(machine_t *m, uint64_t a, uint64_t b, int signal_every_nan) {
    if (is_nan_double(a) || is_nan_double(b)) {
        if (signal_every_nan || is_signaling_double(a) || is_signaling_double(b)) m->fpscr |= INVALID;
        return 0x30000000;
    }
    if (a == b || !((a | b) << 1)) return 0x60000000;
    /* The bits of numbers are in their order, those of negative ones in the opposite. */
    int less = a >> 63 != b >> 63 ? (int)(a >> 63) : a >> 63 ? a > b : a < b;
    return less ? 0x80000000 : 0x20000000;
}
