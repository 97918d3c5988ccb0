/* Helium: shifts, and conversions between lanes of different widths.
 *
 * Source: Armv8-M Architecture Reference Manual (DDI 0553), C2. */
#include "vector.h"

/* A lane of ``width`` bits to the left, or to the right by less than 0. Behind the left end it is out of every range,
 * and its low bits are 0. */
static inline int64_t shifted(int64_t x, int amount, int width, int round) {
    if (amount >= width) return x == 0 ? 0 : x < 0 ? -((int64_t)1 << 62) : (int64_t)1 << 62;
    if (amount >= 0) return (int64_t)((uint64_t)x << amount);
    if (amount < -63) amount = -63;
    return round ? ((x >> (-amount - 1)) + 1) >> 1 : x >> -amount;
}

#define SHIFT_LOOP(lane, source, result_lane, by, round, saturate)                 \
    vector_t x = get_vector(m, source), r;                                         \
    uint32_t saturated = 0;                                                        \
    for (int i = 0; i < LANES(lane); i++) {                                        \
        int64_t value = shifted(x.lane[i], by, 8 * LANE_BYTES(lane), round);       \
        int64_t nearest = value > LARGEST_##result_lane    ? LARGEST_##result_lane \
                          : value < SMALLEST_##result_lane ? SMALLEST_##result_lane \
                                                           : value;                \
        if (saturate && nearest != value) saturated |= 1u << i * LANE_BYTES(lane); \
        r.result_lane[i] = (TYPE_##result_lane)(saturate ? nearest : value);       \
    }                                                                              \
    put_saturated(m, o->d, &r, saturated);                                         \
    NEXT;

/* By the lowest byte of each lane of n, or of a general register: name##_vector, name##_general. */
#define BY_REGISTER(lane, name, round, saturate)                                   \
    static OPERATION(name##_vector_##lane) {                                       \
        vector_t y = get_vector(m, o->n);                                          \
        SHIFT_LOOP(lane, o->m, lane, (int8_t)y.lane[i], round, saturate)           \
    }                                                                              \
    static OPERATION(name##_general_##lane) { SHIFT_LOOP(lane, o->d, lane, (int8_t)R(m), round, saturate) }

FOR_ALL(BY_REGISTER, vshl, 0, 0)
FOR_ALL(BY_REGISTER, vrshl, 1, 0)
FOR_ALL(BY_REGISTER, vqshl, 0, 1)
FOR_ALL(BY_REGISTER, vqrshl, 1, 1)

/* By a constant, ``amount``, to the right when it is less than 0. */
#define BY_CONSTANT(lane, name, round, saturate) \
    static OPERATION(name##_##lane) { SHIFT_LOOP(lane, o->m, lane, (int8_t)o->amount, round, saturate) }

FOR_UNSIGNED(BY_CONSTANT, vshl, 0, 0)
FOR_ALL(BY_CONSTANT, vshr, 0, 0)
FOR_ALL(BY_CONSTANT, vrshr, 1, 0)
FOR_ALL(BY_CONSTANT, vqshl, 0, 1)

static OPERATION(vqshlu_s8) { SHIFT_LOOP(s8, o->m, u8, (int8_t)o->amount, 0, 1) }
static OPERATION(vqshlu_s16) { SHIFT_LOOP(s16, o->m, u16, (int8_t)o->amount, 0, 1) }
static OPERATION(vqshlu_s32) { SHIFT_LOOP(s32, o->m, u32, (int8_t)o->amount, 0, 1) }

/* Into d, whose other bits stay. */
#define INSERT(lane, name)                                                         \
    static OPERATION(name##_##lane) {                                              \
        vector_t x = get_vector(m, o->m), r = get_vector(m, o->d);                 \
        int amount = (int8_t)o->amount, width = 8 * LANE_BYTES(lane);              \
        TYPE_##lane mask = (TYPE_##lane)shifted(LARGEST_##lane, amount, width, 0); \
        for (int i = 0; i < LANES(lane); i++)                                      \
            r.lane[i] = (TYPE_##lane)((r.lane[i] & ~mask) | (shifted(x.lane[i], amount, width, 0) & mask)); \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

FOR_UNSIGNED(INSERT, vsli)
FOR_UNSIGNED(INSERT, vsri)

/* --- from wide lanes to halves of them, and back ------------------------------------------------------------------ */

/* width: the top half is written; amount: a shift to the right before */
#define NARROW(name, from, to, round, saturate)                                    \
    static OPERATION(name##_##from) {                                              \
        vector_t x = get_vector(m, o->m), r = get_vector(m, o->d);                 \
        uint32_t mask = active(m), saturated = 0, halves = 0;                      \
        for (int i = 0; i < LANES(from); i++) {                                    \
            int64_t value = shifted(x.from[i], -(int)o->amount, 64, round);        \
            int64_t nearest = value > LARGEST_##to ? LARGEST_##to : value < SMALLEST_##to ? SMALLEST_##to : value; \
            uint32_t bytes = ((1u << LANE_BYTES(to)) - 1) << (2 * i + o->width) * LANE_BYTES(to); \
            if (saturate && nearest != value) saturated |= bytes & ~(bytes << 1);  \
            r.to[2 * i + o->width] = (TYPE_##to)(saturate ? nearest : value);      \
            halves |= bytes;                                                       \
        }                                                                          \
        if (saturated & mask) m->fpscr |= QC;                                      \
        merge_vector(m, o->d, &r, mask & halves);                                  \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

#define NARROW_BOTH(name, round)                                                   \
    NARROW(name, u16, u8, round, 0)                                                \
    NARROW(name, u32, u16, round, 0)

#define NARROW_SATURATED(name, round)                                              \
    NARROW(name, s16, s8, round, 1)                                                \
    NARROW(name, u16, u8, round, 1)                                                \
    NARROW(name, s32, s16, round, 1)                                               \
    NARROW(name, u32, u16, round, 1)

#define NARROW_UNSIGNED(name, round)                                               \
    NARROW(name, s16, u8, round, 1)                                                \
    NARROW(name, s32, u16, round, 1)

NARROW_BOTH(vshrn, 0)
NARROW_BOTH(vrshrn, 1)
NARROW_SATURATED(vqshrn, 0)
NARROW_SATURATED(vqrshrn, 1)
NARROW_UNSIGNED(vqshrun, 0)
NARROW_UNSIGNED(vqrshrun, 1)

/* width: of the top halves; amount: a shift to the left behind */
#define WIDEN(from, to)                                                            \
    static OPERATION(vshll_##from) {                                               \
        vector_t x = get_vector(m, o->m), r;                                       \
        for (int i = 0; i < LANES(to); i++)                                        \
            r.to[i] = (TYPE_##to)((uint32_t)x.from[2 * i + o->width] << o->amount); \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

WIDEN(s8, s16)
WIDEN(u8, u16)
WIDEN(s16, s32)
WIDEN(u16, u32)

/* --- through all lanes, and within them --------------------------------------------------------------------------- */

static OPERATION(vshlc) { /* what a register holds comes in at the bottom; what leaves at the top goes there */
    vector_t r = get_vector(m, o->d);
    uint32_t mask = active(m), carry = R(m);
    for (int i = 0; i < 4; i++) {
        uint32_t x = r.u32[i];
        r.u32[i] = o->amount == 32 ? carry : x << o->amount | (carry & ((1u << o->amount) - 1));
        if (mask >> 4 * i & 1) carry = o->amount == 32 ? x : x >> (32 - o->amount);
    }
    put_vector(m, o->d, &r);
    R(m) = carry;
    NEXT;
}

#define REVERSE_BITS(lane, name)                                                   \
    static OPERATION(name##_##lane) {                                              \
        vector_t x = get_vector(m, o->n), r;                                       \
        uint32_t width = 8 * LANE_BYTES(lane), count = R(m) & 0xff;                \
        if (count > width) count = width;                                          \
        for (int i = 0; i < LANES(lane); i++) {                                    \
            uint32_t result = 0;                                                   \
            for (uint32_t bit = 0; bit < count; bit++)                             \
                result |= (uint32_t)(x.lane[i] >> bit & 1) << (count - 1 - bit);   \
            r.lane[i] = (TYPE_##lane)result;                                       \
        }                                                                          \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

FOR_UNSIGNED(REVERSE_BITS, vbrsr)

/* --- forms -------------------------------------------------------------------------------------------------------- */

/* The bits from 16 on: the width of a lane, of which the highest bit is the one set, and the shift. */
static uint32_t lane_width(uint32_t field) { return field & 32 ? 32 : field & 16 ? 16 : 8; }

static int form_left(const instruction_t *i, operation_t *o) {
    uint32_t field = bits(i->code, 21, 16);
    o->amount = (uint8_t)(field - lane_width(field));
    return 0;
}

static int form_right(const instruction_t *i, operation_t *o) {
    uint32_t field = bits(i->code, 21, 16);
    o->amount = (uint8_t)(field - 2 * lane_width(field));
    return 0;
}

static int form_half(const instruction_t *i, operation_t *o) {
    o->width = (uint8_t)bits(i->code, 12, 12);
    return 0;
}

static int form_narrow(const instruction_t *i, operation_t *o) {
    uint32_t field = bits(i->code, 20, 16);
    o->amount = (uint8_t)(2 * lane_width(field) - field);
    return form_half(i, o);
}

static int form_widen(const instruction_t *i, operation_t *o) {
    uint32_t field = bits(i->code, 20, 16);
    o->amount = (uint8_t)(field - lane_width(field));
    return form_half(i, o);
}

static int form_widen_whole(const instruction_t *i, operation_t *o) { /* by as much as a narrow lane has */
    o->amount = bits(i->code, 18, 18) ? 16 : 8;
    return form_half(i, o);
}

#define CONSTANTS_UNSIGNED(front, behind, name, form)                              \
    {front "001---" behind, RUN(name##_u8), form},                                 \
    {front "01----" behind, RUN(name##_u16), form},                                \
    {front "1-----" behind, RUN(name##_u32), form}
#define CONSTANTS_SIGNED(front, behind, name, form)                                \
    {front "001---" behind, RUN(name##_s8), form},                                 \
    {front "01----" behind, RUN(name##_s16), form},                                \
    {front "1-----" behind, RUN(name##_s32), form}
#define CONSTANTS(behind, name, form)                                              \
    CONSTANTS_SIGNED("1110 1111 10", behind, name, form), CONSTANTS_UNSIGNED("1111 1111 10", behind, name, form)

#define NARROW_SHIFT(front, behind, name, from16, from32)                          \
    {front "1110 1000 1--- ddd- 1111" behind, RUN(name##_##from16), form_narrow},  \
    {front "1110 1001 ---- ddd- 1111" behind, RUN(name##_##from32), form_narrow}

#define NARROW_MOVE(front, behind, name, from16, from32)                           \
    {front "1110 0011 00" behind, RUN(name##_##from16), form_half},                \
    {front "1110 0011 01" behind, RUN(name##_##from32), form_half}

const encoding_t helium_shift[] = {
    SIZES(" 1111 00", "nnn0 ddd0 0100 0100 mmm0", vshl_vector, NULL),
    SIZES(" 1111 00", "nnn0 ddd0 0101 0100 mmm0", vrshl_vector, NULL),
    SIZES(" 1111 00", "nnn0 ddd0 0100 0101 mmm0", vqshl_vector, NULL),
    SIZES(" 1111 00", "nnn0 ddd0 0101 0101 mmm0", vqrshl_vector, NULL),
    SIZES(" 1110 0011", "01 ddd1 1110 0110 mmmm", vshl_general, NULL),
    SIZES(" 1110 0011", "11 ddd1 1110 0110 mmmm", vrshl_general, NULL),
    SIZES(" 1110 0011", "01 ddd1 1110 1110 mmmm", vqshl_general, NULL),
    SIZES(" 1110 0011", "11 ddd1 1110 1110 mmmm", vqrshl_general, NULL),
    CONSTANTS_UNSIGNED("1110 1111 10", "ddd0 0101 0101 mmm0", vshl, form_left),
    CONSTANTS_UNSIGNED("1111 1111 10", "ddd0 0101 0101 mmm0", vsli, form_left),
    CONSTANTS_UNSIGNED("1111 1111 10", "ddd0 0100 0101 mmm0", vsri, form_right),
    CONSTANTS("ddd0 0000 0101 mmm0", vshr, form_right),
    CONSTANTS("ddd0 0010 0101 mmm0", vrshr, form_right),
    CONSTANTS("ddd0 0111 0101 mmm0", vqshl, form_left),
    CONSTANTS_SIGNED("1111 1111 10", "ddd0 0110 0101 mmm0", vqshlu, form_left),

    NARROW_SHIFT("1110", "1100 mmm1", vshrn, u16, u32),
    NARROW_SHIFT("1111", "1100 mmm1", vrshrn, u16, u32),
    NARROW_SHIFT("1110", "0100 mmm0", vqshrn, s16, s32),
    NARROW_SHIFT("1111", "0100 mmm0", vqshrn, u16, u32),
    NARROW_SHIFT("1110", "0100 mmm1", vqrshrn, s16, s32),
    NARROW_SHIFT("1111", "0100 mmm1", vqrshrn, u16, u32),
    NARROW_SHIFT("1110", "1100 mmm0", vqshrun, s16, s32),
    NARROW_SHIFT("1111", "1100 mmm0", vqrshrun, s16, s32),
    NARROW_MOVE("1111", "01 ddd- 1110 1000 mmm1", vshrn, u16, u32),
    NARROW_MOVE("1110", "11 ddd- 1110 0000 mmm1", vqshrn, s16, s32),
    NARROW_MOVE("1111", "11 ddd- 1110 0000 mmm1", vqshrn, u16, u32),
    NARROW_MOVE("1110", "01 ddd- 1110 1000 mmm1", vqshrun, s16, s32),
    {"1110 1110 1010 1--- ddd- 1111 0100 mmm0", RUN(vshll_s8), form_widen},
    {"1111 1110 1010 1--- ddd- 1111 0100 mmm0", RUN(vshll_u8), form_widen},
    {"1110 1110 1011 ---- ddd- 1111 0100 mmm0", RUN(vshll_s16), form_widen},
    {"1111 1110 1011 ---- ddd- 1111 0100 mmm0", RUN(vshll_u16), form_widen},
    {"1110 1110 0011 0001 ddd- 1110 0000 mmm1", RUN(vshll_s8), form_widen_whole},
    {"1111 1110 0011 0001 ddd- 1110 0000 mmm1", RUN(vshll_u8), form_widen_whole},
    {"1110 1110 0011 0101 ddd- 1110 0000 mmm1", RUN(vshll_s16), form_widen_whole},
    {"1111 1110 0011 0101 ddd- 1110 0000 mmm1", RUN(vshll_u16), form_widen_whole},

    {"1110 1110 101 sssss ddd0 1111 1100 mmmm", RUN(vshlc), form_shift},
    SIZES_UNSIGNED("1111 1110 00", "nnn1 ddd1 1110 0110 mmmm", vbrsr, NULL),
    {.pattern = ""},
};
