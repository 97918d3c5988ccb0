/* What instructions on floating-point numbers share: ARM's rules about NaN, and conversions.
 *
 * Sums and products are the host's, which rounds to nearest as IEEE 754 says; a program that asks for another rounding,
 * flush-to-zero or default NaNs is stopped. The host's exception flags collect the program's: exact, but that underflow
 * is found after rounding where ARM looks before. */
#ifndef TINYML_FLOAT_H
#define TINYML_FLOAT_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "decode.h"

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "float must be computed in float: on 32-bit x86, compile for SSE2"
#endif

/* The host's compiler must not fuse a product and a sum by itself; GCC is told so in setup.py. */
#if defined(_MSC_VER)
#pragma fp_contract(off)
#elif defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

enum { INVALID = 1, DIVIDED_BY_0 = 2, OVERFLOWED = 4, UNDERFLOWED = 8, INEXACT = 16 }; /* in FPSCR */

enum { TO_NEAREST, AWAY, TO_PLUS, TO_MINUS, TO_ZERO }; /* AWAY: to nearest, halves away from 0 */

void collect_exceptions(machine_t *m); /* the host's into FPSCR */

/* To an integer of ``width`` bits, 16 or 32, after ``fraction`` more bits; saturates, NaN gives 0. */
uint32_t to_integer(machine_t *m, uint64_t value, int rounding, int is_signed, int width, int fraction);

/* To an integral number; the sign of 0 stays. ``exact``: an inexact result is an exception. */
uint64_t to_integral(machine_t *m, uint64_t value, int rounding, int exact);

uint32_t to_half(machine_t *m, uint64_t value);
uint64_t from_half(machine_t *m, uint32_t half);
uint64_t widen(machine_t *m, uint32_t single);
uint32_t narrow(machine_t *m, uint64_t value);

/* N, Z, C, V of a comparison, at the top. */
uint32_t compare(machine_t *m, uint64_t a, uint64_t b, int signal_every_nan);

static inline double as_double(uint64_t x) {
    double value;
    memcpy(&value, &x, sizeof value);
    return value;
}

static inline uint64_t as_bits(double x) {
    uint64_t value;
    memcpy(&value, &x, sizeof value);
    return value;
}

/* a * b + c of singles or halves, where the product is exact. What the sum loses makes its last bit 1, so that rounding
 * it once more gives the nearest single or half. */
static inline double fused_double(double a, double b, double c) {
    double product = a * b, sum = product + c;
    if (sum != sum || isinf(sum)) return sum;
    double part = sum - product, lost = (product - (sum - part)) + (c - part);
    uint64_t bits = as_bits(sum);
    return lost == 0 || bits & 1 ? sum : as_double((lost > 0) == (sum > 0) ? bits + 1 : bits - 1);
}

static inline int is_nan_double(uint64_t x) { return (x << 1) > 0xffe0000000000000u; }
static inline int is_signaling_double(uint64_t x) { return is_nan_double(x) && !(x >> 51 & 1); }

static inline uint64_t get_double(const machine_t *m, int d) { return m->s[2 * d] | (uint64_t)m->s[2 * d + 1] << 32; }

static inline void set_double(machine_t *m, int d, uint64_t value) {
    m->s[2 * d] = (uint32_t)value;
    m->s[2 * d + 1] = (uint32_t)(value >> 32);
}

/* d, n and m out of their places in the encoding; the second has no n. */
form_fn form_singles, form_doubles, form_two_doubles, form_single_of_double, form_double_of_single;

#endif
