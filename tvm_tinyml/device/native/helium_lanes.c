/* Helium: sums, comparisons and logic, lane by lane, and what runs through all lanes.
 *
 * Source: Armv8-M Architecture Reference Manual (DDI 0553), C2. */
#include "vector.h"

/* A result of lanes a and b; the second operand is a vector or, in the form that ends in _general, a register. */
#define LANE_LOOP(lane, second, result)                                            \
    vector_t x = get_vector(m, o->n), r;                                           \
    for (int i = 0; i < LANES(lane); i++) {                                        \
        WIDE_##lane a = x.lane[i], b = second;                                     \
        (void)a;                                                                   \
        r.lane[i] = (TYPE_##lane)(result);                                         \
    }                                                                              \
    put_vector(m, o->d, &r);                                                       \
    NEXT;

#define SATURATED_LOOP(lane, second, result)                                       \
    vector_t x = get_vector(m, o->n), r;                                           \
    uint32_t saturated = 0;                                                        \
    for (int i = 0; i < LANES(lane); i++) {                                        \
        WIDE_##lane a = x.lane[i], b = second, sum = result;                       \
        (void)a;                                                                   \
        r.lane[i] = (TYPE_##lane)sum;                                              \
        if (sum > LARGEST_##lane) r.lane[i] = (TYPE_##lane)LARGEST_##lane;         \
        if (sum < SMALLEST_##lane) r.lane[i] = (TYPE_##lane)SMALLEST_##lane;       \
        if (sum > LARGEST_##lane || sum < SMALLEST_##lane) saturated |= 1u << i * LANE_BYTES(lane); \
    }                                                                              \
    put_saturated(m, o->d, &r, saturated);                                         \
    NEXT;

#define BINARY(lane, name, LOOP, result)                                           \
    static OPERATION(name##_##lane) {                                              \
        vector_t y = get_vector(m, o->m);                                          \
        LOOP(lane, y.lane[i], result)                                              \
    }

#define BY_GENERAL(lane, name, LOOP, result)                                       \
    static OPERATION(name##_general_##lane) { LOOP(lane, (TYPE_##lane)R(m), result) }

FOR_UNSIGNED(BINARY, vadd, LANE_LOOP, a + b)
FOR_UNSIGNED(BY_GENERAL, vadd, LANE_LOOP, a + b)
FOR_UNSIGNED(BINARY, vsub, LANE_LOOP, a - b)
FOR_UNSIGNED(BY_GENERAL, vsub, LANE_LOOP, a - b)
FOR_ALL(BINARY, vhadd, LANE_LOOP, (a + b) >> 1)
FOR_ALL(BY_GENERAL, vhadd, LANE_LOOP, (a + b) >> 1)
FOR_ALL(BINARY, vhsub, LANE_LOOP, (a - b) >> 1)
FOR_ALL(BY_GENERAL, vhsub, LANE_LOOP, (a - b) >> 1)
FOR_ALL(BINARY, vrhadd, LANE_LOOP, (a + b + 1) >> 1)
FOR_ALL(BINARY, vabd, LANE_LOOP, a > b ? a - b : b - a)
FOR_ALL(BINARY, vmax, LANE_LOOP, a > b ? a : b)
FOR_ALL(BINARY, vmin, LANE_LOOP, a < b ? a : b)
FOR_ALL(BINARY, vqadd, SATURATED_LOOP, a + b)
FOR_ALL(BY_GENERAL, vqadd, SATURATED_LOOP, a + b)
FOR_ALL(BINARY, vqsub, SATURATED_LOOP, a - b)
FOR_ALL(BY_GENERAL, vqsub, SATURATED_LOOP, a - b)

/* d against the magnitude of m */
#define AGAINST_MAGNITUDE(size, name, comparison)                                  \
    static OPERATION(name##_s##size) {                                             \
        vector_t x = get_vector(m, o->d), y = get_vector(m, o->m), r;              \
        for (int i = 0; i < LANES(u##size); i++) {                                 \
            int64_t a = x.u##size[i], b = y.s##size[i];                            \
            b = b < 0 ? -b : b;                                                    \
            r.u##size[i] = (TYPE_u##size)(a comparison b ? a : b);                 \
        }                                                                          \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

AGAINST_MAGNITUDE(8, vmaxa, >)
AGAINST_MAGNITUDE(16, vmaxa, >)
AGAINST_MAGNITUDE(32, vmaxa, >)
AGAINST_MAGNITUDE(8, vmina, <)
AGAINST_MAGNITUDE(16, vmina, <)
AGAINST_MAGNITUDE(32, vmina, <)

/* Of one vector: b. */
FOR_SIGNED(BINARY, vabs, LANE_LOOP, b < 0 ? -b : b)
FOR_SIGNED(BINARY, vneg, LANE_LOOP, -b)
FOR_SIGNED(BINARY, vqabs, SATURATED_LOOP, b < 0 ? -b : b)
FOR_SIGNED(BINARY, vqneg, SATURATED_LOOP, -b)

static inline int leading_zeros(uint32_t x, int width) {
    int count = 0;
    for (uint32_t bit = 1u << (width - 1); bit && !(x & bit); bit >>= 1) count++;
    return count;
}

#define WIDTH(lane) (8 * LANE_BYTES(lane))

#define COUNTS(size)                                                               \
    BINARY(u##size, vclz, LANE_LOOP, leading_zeros((uint32_t)b, size))             \
    BINARY(s##size, vcls, LANE_LOOP, leading_zeros((uint32_t)(b < 0 ? ~b : b), size) - 1)

COUNTS(8)
COUNTS(16)
COUNTS(32)

/* Lanes in the opposite order within groups of ``group`` bytes. */
#define REVERSE(name, lane, group)                                                 \
    static OPERATION(name##_##lane) {                                              \
        vector_t y = get_vector(m, o->m), r;                                       \
        for (int i = 0; i < LANES(lane); i++) r.lane[i] = y.lane[i ^ (group / LANE_BYTES(lane) - 1)]; \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

REVERSE(vrev64, u8, 8)
REVERSE(vrev64, u16, 8)
REVERSE(vrev64, u32, 8)
REVERSE(vrev32, u8, 4)
REVERSE(vrev32, u16, 4)
REVERSE(vrev16, u8, 2)

/* Pairs of lanes as complex numbers, the second one turned by 90 or 270 degrees. kind: 270 */
#define COMPLEX(lane, name, halving)                                               \
    static OPERATION(name##_##lane) {                                              \
        vector_t x = get_vector(m, o->n), y = get_vector(m, o->m), r;              \
        for (int i = 0; i < LANES(lane); i++) {                                    \
            WIDE_##lane a = x.lane[i], b = y.lane[i ^ 1];                          \
            int subtract = (i & 1) == o->kind;                                     \
            r.lane[i] = (TYPE_##lane)((subtract ? a - b : a + b) >> halving);      \
        }                                                                          \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

FOR_UNSIGNED(COMPLEX, vcadd, 0)
FOR_SIGNED(COMPLEX, vhcadd, 1)

/* --- sums with a carry through all lanes -------------------------------------------------------------------------- */

/* kind: begin with the carry that subtracts or adds nothing */
static void add_through(machine_t *m, const operation_t *o, uint32_t inverted) {
    vector_t x = get_vector(m, o->n), y = get_vector(m, o->m), r;
    uint32_t mask = active(m), carry = o->kind ? inverted & 1 : m->fpscr >> 29 & 1;
    for (int i = 0; i < 4; i++) {
        uint64_t sum = (uint64_t)x.u32[i] + (y.u32[i] ^ inverted) + carry;
        r.u32[i] = (uint32_t)sum;
        if (mask >> 4 * i & 1) carry = (uint32_t)(sum >> 32);
    }
    if (mask & 0x1111 || o->kind) m->fpscr = (m->fpscr & 0x0fffffff) | carry << 29;
    put_vector(m, o->d, &r);
}

static OPERATION(vadc) {
    add_through(m, o, 0);
    NEXT;
}

static OPERATION(vsbc) {
    add_through(m, o, UINT32_MAX);
    NEXT;
}

/* --- logic -------------------------------------------------------------------------------------------------------- */

#define LOGICAL(name, result)                                                      \
    static OPERATION(name) {                                                       \
        vector_t x = get_vector(m, o->n), y = get_vector(m, o->m), r;              \
        for (int i = 0; i < 2; i++) {                                              \
            uint64_t a = x.u64[i], b = y.u64[i];                                   \
            (void)a;                                                               \
            r.u64[i] = result;                                                     \
        }                                                                          \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

LOGICAL(vand, a & b)
LOGICAL(vbic, a & ~b)
LOGICAL(vorr, a | b)
LOGICAL(vorn, a | ~b)
LOGICAL(veor, a ^ b)
LOGICAL(vmvn, ~b)

/* With a constant of 64 bits, from eight bits and how to spread them (width). */
static uint64_t spread(const operation_t *o) {
    uint64_t x = o->immediate, result = 0;
    switch (o->width >> 1) {
    case 0: case 1: case 2: case 3: return (x << 8 * (o->width >> 1)) * 0x100000001u;
    case 4: return x * 0x0001000100010001u;
    case 5: return x * 0x0100010001000100u;
    case 6: return ((x << 8 | 0xff) << (o->width & 1 ? 8 : 0) | (o->width & 1 ? 0xff : 0)) * 0x100000001u;
    default:
        if (o->width == 15) { /* a float: sign, 3 bits of exponent, 4 of fraction */
            uint64_t exponent = (x & 0x40 ? 0x7c : 0x80) | (x >> 4 & 3);
            return ((x & 0x80) << 24 | exponent << 23 | (x & 15) << 19) * 0x100000001u;
        }
        if (!o->kind) return x * 0x0101010101010101u;
        for (int i = 0; i < 8; i++) /* a bit for each byte */
            if (x >> i & 1) result |= 0xffull << 8 * i;
        return result;
    }
}

#define WITH_CONSTANT(name, result)                                                \
    static OPERATION(name##_immediate) {                                           \
        vector_t x = get_vector(m, o->d), r;                                       \
        uint64_t b = spread(o);                                                    \
        for (int i = 0; i < 2; i++) {                                              \
            uint64_t a = x.u64[i];                                                 \
            (void)a;                                                               \
            r.u64[i] = result;                                                     \
        }                                                                          \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

WITH_CONSTANT(vorr, a | b)
WITH_CONSTANT(vbic, a & ~b)
WITH_CONSTANT(vmov, b)
WITH_CONSTANT(vmvn, ~b)

static int form_constant(const instruction_t *i, operation_t *o) {
    o->immediate = bits(i->code, 28, 28) << 7 | bits(i->code, 18, 16) << 4 | bits(i->code, 3, 0);
    o->width = (uint8_t)bits(i->code, 11, 8);
    o->kind = (uint8_t)bits(i->code, 5, 5);
    return 0;
}

/* --- all lanes to one --------------------------------------------------------------------------------------------- */

#define LARGEST_OF(lane, name, start, number, comparison)                          \
    static OPERATION(name##_##lane) {                                              \
        vector_t y = get_vector(m, o->m);                                          \
        uint32_t mask = active(m);                                                 \
        int64_t best = start;                                                      \
        for (int i = 0; i < LANES(lane); i++) {                                    \
            int64_t b = y.lane[i];                                                 \
            b = number;                                                            \
            if (mask >> i * LANE_BYTES(lane) & 1 && b comparison best) best = b;   \
        }                                                                          \
        R(d) = (uint32_t)best;                                                     \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

#define LARGEST_OF_ALL(lane)                                                       \
    LARGEST_OF(lane, vmaxv, (TYPE_##lane)R(d), b, >)                               \
    LARGEST_OF(lane, vminv, (TYPE_##lane)R(d), b, <)

LARGEST_OF_ALL(s8)
LARGEST_OF_ALL(s16)
LARGEST_OF_ALL(s32)
LARGEST_OF_ALL(u8)
LARGEST_OF_ALL(u16)
LARGEST_OF_ALL(u32)
LARGEST_OF(s8, vmaxav, (uint8_t)R(d), b < 0 ? -b : b, >)
LARGEST_OF(s16, vmaxav, (uint16_t)R(d), b < 0 ? -b : b, >)
LARGEST_OF(s32, vmaxav, (uint32_t)R(d), b < 0 ? -b : b, >)
LARGEST_OF(s8, vminav, (uint8_t)R(d), b < 0 ? -b : b, <)
LARGEST_OF(s16, vminav, (uint16_t)R(d), b < 0 ? -b : b, <)
LARGEST_OF(s32, vminav, (uint32_t)R(d), b < 0 ? -b : b, <)

/* kind: add to what is there */
#define SUM_OF(lane, name)                                                         \
    static OPERATION(name##_##lane) {                                              \
        vector_t y = get_vector(m, o->m);                                          \
        uint32_t mask = active(m), sum = o->kind ? R(d) : 0;                       \
        for (int i = 0; i < LANES(lane); i++)                                      \
            if (mask >> i * LANE_BYTES(lane) & 1) sum += (uint32_t)y.lane[i];      \
        R(d) = sum;                                                                \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

FOR_ALL(SUM_OF, vaddv)

#define LONG_SUM_OF(lane)                                                          \
    static OPERATION(vaddlv_##lane) {                                              \
        vector_t y = get_vector(m, o->m);                                          \
        uint32_t mask = active(m);                                                 \
        uint64_t sum = o->kind ? (uint64_t)R(a) << 32 | R(d) : 0;                  \
        for (int i = 0; i < 4; i++)                                                \
            if (mask >> 4 * i & 1) sum += (uint64_t)(int64_t)y.lane[i];            \
        R(d) = (uint32_t)sum;                                                      \
        R(a) = (uint32_t)(sum >> 32);                                              \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

LONG_SUM_OF(s32)
LONG_SUM_OF(u32)

#define DISTANCE(lane, name)                                                       \
    static OPERATION(name##_##lane) {                                              \
        vector_t x = get_vector(m, o->n), y = get_vector(m, o->m);                 \
        uint32_t mask = active(m), sum = R(d);                                     \
        for (int i = 0; i < LANES(lane); i++) {                                    \
            int64_t difference = (int64_t)x.lane[i] - y.lane[i];                   \
            if (mask >> i * LANE_BYTES(lane) & 1) sum += (uint32_t)(difference < 0 ? -difference : difference); \
        }                                                                          \
        R(d) = sum;                                                                \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

FOR_ALL(DISTANCE, vabav)

/* d (low) and a (high) are an even and an odd register, of which the pattern holds three bits. */
static int form_even(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)bits(i->code, 5, 5);
    o->d *= 2;
    return 0;
}

static int form_pair(const instruction_t *i, operation_t *o) {
    o->a = (uint8_t)(2 * o->a + 1);
    return o->a >= SP ? OTHER_PATTERN : form_even(i, o);
}

static int form_turn(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)bits(i->code, 12, 12);
    return 0;
}

const encoding_t helium_lanes[] = {
    SIZES_UNSIGNED("1110 1111 00", "nnn0 ddd0 1000 0100 mmm0", vadd, NULL),
    SIZES_UNSIGNED("1111 1111 00", "nnn0 ddd0 1000 0100 mmm0", vsub, NULL),
    SIZES(" 1111 00", "nnn0 ddd0 0000 0101 mmm0", vqadd, NULL),
    SIZES(" 1111 00", "nnn0 ddd0 0010 0101 mmm0", vqsub, NULL),
    SIZES(" 1111 00", "nnn0 ddd0 0000 0100 mmm0", vhadd, NULL),
    SIZES(" 1111 00", "nnn0 ddd0 0010 0100 mmm0", vhsub, NULL),
    SIZES(" 1111 00", "nnn0 ddd0 0001 0100 mmm0", vrhadd, NULL),
    SIZES(" 1111 00", "nnn0 ddd0 0111 0100 mmm0", vabd, NULL),
    SIZES(" 1111 00", "nnn0 ddd0 0110 0100 mmm0", vmax, NULL),
    SIZES(" 1111 00", "nnn0 ddd0 0110 0101 mmm0", vmin, NULL),
    SIZES_SIGNED("1110 1110 0011", "11 ddd0 1110 1000 mmm1", vmaxa, NULL),
    SIZES_SIGNED("1110 1110 0011", "11 ddd1 1110 1000 mmm1", vmina, NULL),
    SIZES_SIGNED("1111 1111 1011", "01 ddd0 0011 0100 mmm0", vabs, NULL),
    SIZES_SIGNED("1111 1111 1011", "01 ddd0 0011 1100 mmm0", vneg, NULL),
    SIZES_SIGNED("1111 1111 1011", "00 ddd0 0111 0100 mmm0", vqabs, NULL),
    SIZES_SIGNED("1111 1111 1011", "00 ddd0 0111 1100 mmm0", vqneg, NULL),
    SIZES_UNSIGNED("1111 1110 00", "nnn0 ddd- 1111 0000 mmm0", vcadd, form_turn),
    SIZES_SIGNED("1110 1110 00", "nnn0 ddd- 1111 0000 mmm0", vhcadd, form_turn),
    SIZES_UNSIGNED("1110 1110 00", "nnn1 ddd0 1111 0100 mmmm", vadd_general, NULL),
    SIZES_UNSIGNED("1110 1110 00", "nnn1 ddd1 1111 0100 mmmm", vsub_general, NULL),
    SIZES(" 1110 00", "nnn0 ddd0 1111 0110 mmmm", vqadd_general, NULL),
    SIZES(" 1110 00", "nnn0 ddd1 1111 0110 mmmm", vqsub_general, NULL),
    SIZES(" 1110 00", "nnn0 ddd0 1111 0100 mmmm", vhadd_general, NULL),
    SIZES(" 1110 00", "nnn0 ddd1 1111 0100 mmmm", vhsub_general, NULL),
    {"1110 1110 0011 nnn0 ddd- 1111 0000 mmm0", RUN(vadc), form_turn},
    {"1111 1110 0011 nnn0 ddd- 1111 0000 mmm0", RUN(vsbc), form_turn},

    {"1110 1111 0000 nnn0 ddd0 0001 0101 mmm0", RUN(vand)},
    {"1110 1111 0001 nnn0 ddd0 0001 0101 mmm0", RUN(vbic)},
    {"1110 1111 0010 nnn0 ddd0 0001 0101 mmm0", RUN(vorr)},
    {"1110 1111 0011 nnn0 ddd0 0001 0101 mmm0", RUN(vorn)},
    {"1111 1111 0000 nnn0 ddd0 0001 0101 mmm0", RUN(veor)},
    {"1111 1111 1011 0000 ddd0 0101 1100 mmm0", RUN(vmvn)},
    {"111- 1111 1000 0--- ddd0 0--1 0101 ----", RUN(vorr_immediate), form_constant},
    {"111- 1111 1000 0--- ddd0 10-1 0101 ----", RUN(vorr_immediate), form_constant},
    {"111- 1111 1000 0--- ddd0 0--1 0111 ----", RUN(vbic_immediate), form_constant},
    {"111- 1111 1000 0--- ddd0 10-1 0111 ----", RUN(vbic_immediate), form_constant},
    {"111- 1111 1000 0--- ddd0 0--0 0111 ----", RUN(vmvn_immediate), form_constant},
    {"111- 1111 1000 0--- ddd0 10-0 0111 ----", RUN(vmvn_immediate), form_constant},
    {"111- 1111 1000 0--- ddd0 110- 0111 ----", RUN(vmvn_immediate), form_constant},
    {"111- 1111 1000 0--- ddd0 1110 0111 ----", RUN(vmov_immediate), form_constant},
    {"111- 1111 1000 0--- ddd0 ---- 0101 ----", RUN(vmov_immediate), form_constant},
    {"1111 1111 1011 0000 ddd0 0000 0100 mmm0", RUN(vrev64_u8)},
    {"1111 1111 1011 0100 ddd0 0000 0100 mmm0", RUN(vrev64_u16)},
    {"1111 1111 1011 1000 ddd0 0000 0100 mmm0", RUN(vrev64_u32)},
    {"1111 1111 1011 0000 ddd0 0000 1100 mmm0", RUN(vrev32_u8)},
    {"1111 1111 1011 0100 ddd0 0000 1100 mmm0", RUN(vrev32_u16)},
    {"1111 1111 1011 0000 ddd0 0001 0100 mmm0", RUN(vrev16_u8)},
    SIZES_SIGNED("1111 1111 1011", "00 ddd0 0100 0100 mmm0", vcls, NULL),
    SIZES_UNSIGNED("1111 1111 1011", "00 ddd0 0100 1100 mmm0", vclz, NULL),

    SIZES(" 1110 1110", "10 dddd 1111 0000 mmm0", vmaxv, NULL),
    SIZES(" 1110 1110", "10 dddd 1111 1000 mmm0", vminv, NULL),
    SIZES_SIGNED("1110 1110 1110", "00 dddd 1111 0000 mmm0", vmaxav, NULL),
    SIZES_SIGNED("1110 1110 1110", "00 dddd 1111 1000 mmm0", vminav, NULL),
    SIZES(" 1110 1111", "01 ddd0 1111 00-0 mmm0", vaddv, form_even),
    {"1110 1110 1aaa 1001 ddd0 1111 00-0 mmm0", RUN(vaddlv_s32), form_pair},
    {"1111 1110 1aaa 1001 ddd0 1111 00-0 mmm0", RUN(vaddlv_u32), form_pair},
    SIZES(" 1110 10", "nnn0 dddd 1111 0000 mmm1", vabav, NULL),
    {.pattern = ""},
};
