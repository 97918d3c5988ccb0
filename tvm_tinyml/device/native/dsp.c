/* The DSP extension: arithmetic on two halfwords or four bytes of a register, and saturation.
 *
 * Source: Armv7-M Architecture Reference Manual (DDI 0403), A5.3.13 to A5.3.17 and A7. */
#include "decode.h"
#include "integer.h"

static inline int32_t bottom(uint32_t x) { return (int16_t)x; }
static inline int32_t top(uint32_t x) { return (int16_t)(x >> 16); }
static inline uint32_t exchange(uint32_t x) { return x >> 16 | x << 16; }
static inline uint32_t rotate(uint32_t x, uint32_t by) { return x >> by | x << (-by & 31); }

/* --- in parallel -------------------------------------------------------------------------------------------------- */

enum { WRAPPED, SATURATED, HALVED }; /* what becomes of a sum */

/* Lane ``i`` of ``width`` bits, put back in its place. ``ge`` collects the bits of GE. */
static inline uint32_t lane(
    uint32_t x, uint32_t y, int i, int width, int subtract, int is_signed, int what, uint32_t *ge) {
    int32_t mask = (1 << width) - 1, sign = is_signed << (width - 1);
    int32_t a = ((int32_t)(x >> i * width & (uint32_t)mask) ^ sign) - sign;
    int32_t b = ((int32_t)(y >> i * width & (uint32_t)mask) ^ sign) - sign;
    int32_t result = subtract ? a - b : a + b;
    if (what == WRAPPED) {
        int set = is_signed || subtract ? result >= 0 : result > mask;
        if (set) *ge |= (width == 16 ? 3u : 1u) << (i * width / 8);
    } else if (what == HALVED) {
        result >>= 1;
    } else {
        int32_t largest = is_signed ? mask >> 1 : mask, smallest = is_signed ? -largest - 1 : 0;
        result = result > largest ? largest : result < smallest ? smallest : result;
    }
    return ((uint32_t)result & (uint32_t)mask) << i * width;
}

static inline uint32_t lanes(
    machine_t *m, uint32_t x, uint32_t y, int width, int subtract_low, int subtract_high, int is_signed, int what) {
    uint32_t ge = 0, result = 0;
    for (int i = 0; i < 32 / width; i++)
        result |= lane(x, y, i, width, i ? subtract_high : subtract_low, is_signed, what, &ge);
    if (what == WRAPPED) m->greater_equal = ge;
    return result;
}

#define PARALLEL(name, y, width, subtract_low, subtract_high, is_signed, what)     \
    static OPERATION(name) {                                                       \
        R(d) = lanes(m, R(n), y, width, subtract_low, subtract_high, is_signed, what); \
        NEXT;                                                                      \
    }

#define PARALLEL_ALL(prefix, is_signed, what)                                      \
    PARALLEL(prefix##add16, R(m), 16, 0, 0, is_signed, what)                       \
    PARALLEL(prefix##asx, exchange(R(m)), 16, 1, 0, is_signed, what)               \
    PARALLEL(prefix##sax, exchange(R(m)), 16, 0, 1, is_signed, what)               \
    PARALLEL(prefix##sub16, R(m), 16, 1, 1, is_signed, what)                       \
    PARALLEL(prefix##add8, R(m), 8, 0, 0, is_signed, what)                         \
    PARALLEL(prefix##sub8, R(m), 8, 1, 1, is_signed, what)

PARALLEL_ALL(s, 1, WRAPPED)
PARALLEL_ALL(q, 1, SATURATED)
PARALLEL_ALL(sh, 1, HALVED)
PARALLEL_ALL(u, 0, WRAPPED)
PARALLEL_ALL(uq, 0, SATURATED)
PARALLEL_ALL(uh, 0, HALVED)

static OPERATION(sel) {
    uint32_t ge = m->greater_equal;
    uint32_t low = (ge & 1 ? 0xffu : 0) | (ge & 2 ? 0xff00u : 0), high = (ge & 4 ? 0xffu : 0) | (ge & 8 ? 0xff00u : 0);
    uint32_t mask = low | high << 16;
    R(d) = (R(n) & mask) | (R(m) & ~mask);
    NEXT;
}

static uint32_t differences(uint32_t x, uint32_t y) {
    uint32_t sum = 0;
    for (int i = 0; i < 32; i += 8) {
        int32_t difference = (int32_t)(x >> i & 0xff) - (int32_t)(y >> i & 0xff);
        sum += (uint32_t)(difference < 0 ? -difference : difference);
    }
    return sum;
}

static OPERATION(usad8) {
    R(d) = differences(R(n), R(m));
    NEXT;
}

static OPERATION(usada8) {
    R(d) = R(a) + differences(R(n), R(m));
    NEXT;
}

/* --- saturation --------------------------------------------------------------------------------------------------- */

static inline int32_t saturate(machine_t *m, int64_t value) {
    if (value != (int32_t)value) {
        m->saturated = 1;
        return value < 0 ? INT32_MIN : INT32_MAX;
    }
    return (int32_t)value;
}

#define SATURATING(name, value)                                                    \
    static OPERATION(name) {                                                       \
        int64_t x = (int32_t)R(m), y = (int32_t)R(n);                              \
        R(d) = (uint32_t)saturate(m, value);                                       \
        NEXT;                                                                      \
    }

SATURATING(qadd, x + y)
SATURATING(qsub, x - y)
SATURATING(qdadd, x + saturate(m, 2 * y))
SATURATING(qdsub, x - saturate(m, 2 * y))

static inline uint32_t clamp(machine_t *m, int32_t value, int32_t smallest, int32_t largest) {
    int32_t result = value > largest ? largest : value < smallest ? smallest : value;
    if (result != value) m->saturated = 1;
    return (uint16_t)result;
}

static OPERATION(ssat16) { /* width: less 1 */
    int32_t largest = (1 << o->width) - 1;
    R(d) = clamp(m, bottom(R(n)), -largest - 1, largest) | clamp(m, top(R(n)), -largest - 1, largest) << 16;
    NEXT;
}

static OPERATION(usat16) {
    int32_t largest = (1 << o->width) - 1;
    R(d) = clamp(m, bottom(R(n)), 0, largest) | clamp(m, top(R(n)), 0, largest) << 16;
    NEXT;
}

/* --- packing and extending ---------------------------------------------------------------------------------------- */

static OPERATION(pkhbt) {
    R(d) = (R(n) & 0xffff) | (R(m) << o->amount & 0xffff0000);
    NEXT;
}

static OPERATION(pkhtb) {
    R(d) = (R(n) & 0xffff0000) | (shift(R(m), ASR, o->amount, 0).value & 0xffff);
    NEXT;
}

#define EXTENDING(name, value)                                                     \
    static OPERATION(name) {                                                       \
        uint32_t x = rotate(R(m), o->amount);                                      \
        R(d) = value;                                                              \
        NEXT;                                                                      \
    }

#define HALVES(low, high) (((uint32_t)(low) & 0xffff) | (uint32_t)(high) << 16)

EXTENDING(sxtab, R(n) + (uint32_t)(int8_t)x)
EXTENDING(uxtab, R(n) + (uint8_t)x)
EXTENDING(sxtah, R(n) + (uint32_t)(int16_t)x)
EXTENDING(uxtah, R(n) + (uint16_t)x)
EXTENDING(sxtb16, HALVES((int8_t)x, (int8_t)(x >> 16)))
EXTENDING(uxtb16, HALVES((uint8_t)x, (uint8_t)(x >> 16)))
EXTENDING(sxtab16, HALVES(R(n) + (uint32_t)(int8_t)x, (R(n) >> 16) + (uint32_t)(int8_t)(x >> 16)))
EXTENDING(uxtab16, HALVES(R(n) + (uint8_t)x, (R(n) >> 16) + (uint8_t)(x >> 16)))

static int form_rotation(const instruction_t *i, operation_t *o) {
    (void)i;
    o->amount *= 8;
    return 0;
}

/* --- multiplication ----------------------------------------------------------------------------------------------- */

/* A sum of 32 bits that sets Q, and does not saturate, when it does not fit. */
static inline uint32_t accumulate(machine_t *m, int64_t sum) {
    if (sum != (int32_t)sum) m->saturated = 1;
    return (uint32_t)sum;
}

/* Of a halfword: 0 bottom, 1 top. */
static inline int64_t half(uint32_t x, int which) { return which ? top(x) : bottom(x); }

static OPERATION(smulxy) { /* kind: which halves, of n and of m */
    R(d) = (uint32_t)(half(R(n), o->kind & 2) * half(R(m), o->kind & 1));
    NEXT;
}

static OPERATION(smlaxy) {
    R(d) = accumulate(m, (int32_t)R(a) + half(R(n), o->kind & 2) * half(R(m), o->kind & 1));
    NEXT;
}

static OPERATION(smulw) { /* kind: which half of m */
    R(d) = (uint32_t)((int32_t)R(n) * half(R(m), o->kind) >> 16);
    NEXT;
}

static OPERATION(smlaw) {
    R(d) = accumulate(m, (int32_t)R(a) + ((int32_t)R(n) * half(R(m), o->kind) >> 16));
    NEXT;
}

/* Two products of halfwords; name##x exchanges those of the second operand. */
#define TWO_PRODUCTS(name, body)                                                   \
    static OPERATION(name) {                                                       \
        uint32_t x = R(n), y = R(m);                                               \
        body;                                                                      \
        NEXT;                                                                      \
    }                                                                              \
    static OPERATION(name##x) {                                                    \
        uint32_t x = R(n), y = exchange(R(m));                                     \
        body;                                                                      \
        NEXT;                                                                      \
    }

#define SUM ((int64_t)bottom(x) * bottom(y) + (int64_t)top(x) * top(y))
#define DIFFERENCE ((int64_t)bottom(x) * bottom(y) - (int64_t)top(x) * top(y))
#define LONG ((int64_t)((uint64_t)R(d) << 32 | R(a)))
#define SET_LONG(value)                                                            \
    do {                                                                           \
        uint64_t sum = (uint64_t)(value);                                          \
        R(a) = (uint32_t)sum;                                                      \
        R(d) = (uint32_t)(sum >> 32);                                              \
    } while (0)

TWO_PRODUCTS(smuad, R(d) = accumulate(m, SUM))
TWO_PRODUCTS(smusd, R(d) = (uint32_t)DIFFERENCE)
TWO_PRODUCTS(smlad, R(d) = accumulate(m, (int32_t)R(a) + SUM))
TWO_PRODUCTS(smlsd, R(d) = accumulate(m, (int32_t)R(a) + DIFFERENCE))
TWO_PRODUCTS(smlald, SET_LONG((uint64_t)LONG + (uint64_t)SUM))
TWO_PRODUCTS(smlsld, SET_LONG((uint64_t)LONG + (uint64_t)DIFFERENCE))

static OPERATION(smlalxy) {
    SET_LONG((uint64_t)LONG + (uint64_t)(half(R(n), o->kind & 2) * half(R(m), o->kind & 1)));
    NEXT;
}

static OPERATION(umaal) {
    SET_LONG((uint64_t)R(n) * R(m) + R(a) + R(d));
    NEXT;
}

/* The top words of products; immediate: what is added to round. */
#define PRODUCT ((uint64_t)((int64_t)(int32_t)R(n) * (int32_t)R(m)))

static OPERATION(smmul) {
    R(d) = (uint32_t)((PRODUCT + o->immediate) >> 32);
    NEXT;
}

static OPERATION(smmla) {
    R(d) = (uint32_t)((((uint64_t)R(a) << 32) + PRODUCT + o->immediate) >> 32);
    NEXT;
}

static OPERATION(smmls) {
    R(d) = (uint32_t)((((uint64_t)R(a) << 32) - PRODUCT + o->immediate) >> 32);
    NEXT;
}

static int form_rounded(const instruction_t *i, operation_t *o) {
    o->immediate = bits(i->code, 4, 4) << 31;
    return 0;
}

#define PARALLEL_PATTERNS(prefix, code)                                            \
    {"11111010 1001 nnnn 1111 dddd" code "mmmm", RUN(prefix##add16)},              \
    {"11111010 1010 nnnn 1111 dddd" code "mmmm", RUN(prefix##asx)},                \
    {"11111010 1110 nnnn 1111 dddd" code "mmmm", RUN(prefix##sax)},                \
    {"11111010 1101 nnnn 1111 dddd" code "mmmm", RUN(prefix##sub16)},              \
    {"11111010 1000 nnnn 1111 dddd" code "mmmm", RUN(prefix##add8)},               \
    {"11111010 1100 nnnn 1111 dddd" code "mmmm", RUN(prefix##sub8)}

#define TWO_PATTERNS(code, last, a, name)                                          \
    {"11111011" code "nnnn" a "dddd" last "0 mmmm", RUN(name)},                    \
    {"11111011" code "nnnn" a "dddd" last "1 mmmm", RUN(name##x)}

#define TWO_PATTERNS_LONG(code, last, name)                                        \
    {"11111011" code "nnnn aaaa dddd" last "0 mmmm", RUN(name), form_long},        \
    {"11111011" code "nnnn aaaa dddd" last "1 mmmm", RUN(name##x), form_long}

const encoding_t dsp[] = {
    PARALLEL_PATTERNS(s, "0000"),
    PARALLEL_PATTERNS(q, "0001"),
    PARALLEL_PATTERNS(sh, "0010"),
    PARALLEL_PATTERNS(u, "0100"),
    PARALLEL_PATTERNS(uq, "0101"),
    PARALLEL_PATTERNS(uh, "0110"),
    {"11111010 1010 nnnn 1111 dddd 1000 mmmm", RUN(sel)},
    {"11111011 0111 nnnn 1111 dddd 0000 mmmm", RUN(usad8)},
    {"11111011 0111 nnnn aaaa dddd 0000 mmmm", RUN(usada8)},

    {"11111010 1000 nnnn 1111 dddd 1000 mmmm", RUN(qadd)},
    {"11111010 1000 nnnn 1111 dddd 1001 mmmm", RUN(qdadd)},
    {"11111010 1000 nnnn 1111 dddd 1010 mmmm", RUN(qsub)},
    {"11111010 1000 nnnn 1111 dddd 1011 mmmm", RUN(qdsub)},
    {"11110 0 1 1 0010 nnnn 0 000 dddd 00 00 wwww", RUN(ssat16)},
    {"11110 0 1 1 1010 nnnn 0 000 dddd 00 00 wwww", RUN(usat16)},

    {"1110101 0110 0 nnnn 0 sss dddd ss 00 mmmm", RUN(pkhbt)},
    {"1110101 0110 0 nnnn 0 sss dddd ss 10 mmmm", RUN(pkhtb), form_shift},
    {"11111010 0010 1111 1111 dddd 10 ss mmmm", RUN(sxtb16), form_rotation},
    {"11111010 0011 1111 1111 dddd 10 ss mmmm", RUN(uxtb16), form_rotation},
    {"11111010 0000 nnnn 1111 dddd 10 ss mmmm", RUN(sxtah), form_rotation},
    {"11111010 0001 nnnn 1111 dddd 10 ss mmmm", RUN(uxtah), form_rotation},
    {"11111010 0010 nnnn 1111 dddd 10 ss mmmm", RUN(sxtab16), form_rotation},
    {"11111010 0011 nnnn 1111 dddd 10 ss mmmm", RUN(uxtab16), form_rotation},
    {"11111010 0100 nnnn 1111 dddd 10 ss mmmm", RUN(sxtab), form_rotation},
    {"11111010 0101 nnnn 1111 dddd 10 ss mmmm", RUN(uxtab), form_rotation},

    {"11111011 0001 nnnn 1111 dddd 00 kk mmmm", RUN(smulxy)},
    {"11111011 0001 nnnn aaaa dddd 00 kk mmmm", RUN(smlaxy)},
    {"11111011 0011 nnnn 1111 dddd 000 k mmmm", RUN(smulw)},
    {"11111011 0011 nnnn aaaa dddd 000 k mmmm", RUN(smlaw)},
    TWO_PATTERNS("0010", "000", "1111", smuad),
    TWO_PATTERNS("0010", "000", "aaaa", smlad),
    TWO_PATTERNS("0100", "000", "1111", smusd),
    TWO_PATTERNS("0100", "000", "aaaa", smlsd),
    {"11111011 0101 nnnn 1111 dddd 000 - mmmm", RUN(smmul), form_rounded},
    {"11111011 0101 nnnn aaaa dddd 000 - mmmm", RUN(smmla), form_rounded},
    {"11111011 0110 nnnn aaaa dddd 000 - mmmm", RUN(smmls), form_rounded},
    {"11111011 1100 nnnn aaaa dddd 10 kk mmmm", RUN(smlalxy), form_long},
    TWO_PATTERNS_LONG("1100", "110", smlald),
    TWO_PATTERNS_LONG("1101", "110", smlsld),
    {"11111011 1110 nnnn aaaa dddd 0110 mmmm", RUN(umaal), form_long},
    {.pattern = ""},
};
