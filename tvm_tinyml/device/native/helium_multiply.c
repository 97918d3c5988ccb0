/* Helium: products, and sums of products of all lanes.
 *
 * Source: Armv8-M Architecture Reference Manual (DDI 0553), C2. */
#include "vector.h"

#define PRODUCT_LOOP(lane, second, result)                                         \
    vector_t x = get_vector(m, o->n), z = get_vector(m, o->d), r;                  \
    (void)z;                                                                       \
    for (int i = 0; i < LANES(lane); i++) {                                        \
        int64_t a = x.lane[i], b = second, d = z.lane[i];                          \
        (void)d;                                                                   \
        r.lane[i] = (TYPE_##lane)(result);                                         \
    }                                                                              \
    put_vector(m, o->d, &r);                                                       \
    NEXT;

#define PRODUCT(lane, name, result)                                                \
    static OPERATION(name##_##lane) {                                              \
        vector_t y = get_vector(m, o->m);                                          \
        PRODUCT_LOOP(lane, y.lane[i], result)                                      \
    }

#define PRODUCT_GENERAL(lane, name, result) \
    static OPERATION(name##_general_##lane) { PRODUCT_LOOP(lane, (TYPE_##lane)R(m), result) }

FOR_UNSIGNED(PRODUCT, vmul, (uint64_t)a * (uint64_t)b)
FOR_UNSIGNED(PRODUCT_GENERAL, vmul, (uint64_t)a * (uint64_t)b)
FOR_UNSIGNED(PRODUCT_GENERAL, vmla, (uint64_t)d + (uint64_t)a * (uint64_t)b)
FOR_UNSIGNED(PRODUCT_GENERAL, vmlas, (uint64_t)d * (uint64_t)a + (uint64_t)b)

#define HALF(lane) ((uint64_t)1 << (8 * LANE_BYTES(lane) - 1))
#define HIGH_PARTS(lane, name)                                                     \
    PRODUCT(lane, vmulh, (uint64_t)a * (uint64_t)b >> 8 * LANE_BYTES(lane))        \
    PRODUCT(lane, vrmulh, ((uint64_t)a * (uint64_t)b + HALF(lane)) >> 8 * LANE_BYTES(lane))

FOR_ALL(HIGH_PARTS, )

/* --- doubled and saturated ---------------------------------------------------------------------------------------- */

/* The high half of twice some products below 2**62, an accumulator shifted there, and the half that rounds. */
static inline int64_t high_half(int64_t products, int64_t accumulator, int width, int round) {
    /* The sum itself may have a bit more than 64 bits have room for: its halves are added apart. */
    int64_t half = products + (round ? (int64_t)1 << (width - 2) : 0); /* twice this, over 2**width */
    return accumulator + (half >> (width - 1));
}

#define DOUBLED_LOOP(lane, second, products, accumulator, round)                   \
    vector_t x = get_vector(m, o->n), z = get_vector(m, o->d), r;                  \
    uint32_t saturated = 0;                                                        \
    (void)z;                                                                       \
    for (int i = 0; i < LANES(lane); i++) {                                        \
        int64_t a = x.lane[i], b = second, d = z.lane[i];                          \
        (void)d;                                                                   \
        int64_t value = high_half(products, accumulator, 8 * LANE_BYTES(lane), round); \
        r.lane[i] = (TYPE_##lane)value;                                            \
        if (value > LARGEST_##lane) r.lane[i] = LARGEST_##lane;                    \
        if (value < SMALLEST_##lane) r.lane[i] = SMALLEST_##lane;                  \
        if (r.lane[i] != value) saturated |= 1u << i * LANE_BYTES(lane);           \
    }                                                                              \
    put_saturated(m, o->d, &r, saturated);                                         \
    NEXT;

#define DOUBLED(lane, name, products, accumulator, round)                          \
    static OPERATION(name##_##lane) {                                              \
        vector_t y = get_vector(m, o->m);                                          \
        DOUBLED_LOOP(lane, y.lane[i], products, accumulator, round)                \
    }

#define DOUBLED_GENERAL(lane, name, products, accumulator, round)                  \
    static OPERATION(name##_general_##lane) {                                      \
        DOUBLED_LOOP(lane, (TYPE_##lane)R(m), products, accumulator, round)        \
    }

FOR_SIGNED(DOUBLED, vqdmulh, a * b, 0, 0)
FOR_SIGNED(DOUBLED, vqrdmulh, a * b, 0, 1)
FOR_SIGNED(DOUBLED_GENERAL, vqdmulh, a * b, 0, 0)
FOR_SIGNED(DOUBLED_GENERAL, vqrdmulh, a * b, 0, 1)
FOR_SIGNED(DOUBLED_GENERAL, vqdmlah, a * b, d, 0)
FOR_SIGNED(DOUBLED_GENERAL, vqrdmlah, a * b, d, 1)
FOR_SIGNED(DOUBLED_GENERAL, vqdmlash, d * a, b, 0)
FOR_SIGNED(DOUBLED_GENERAL, vqrdmlash, d * a, b, 1)

/* Of pairs of lanes; the results go to the lower lanes or, exchanged (kind), to the upper ones. */
#define DOUBLED_PAIRS(lane, name, sign, round)                                     \
    static OPERATION(name##_##lane) {                                              \
        vector_t x = get_vector(m, o->n), y = get_vector(m, o->m), r = get_vector(m, o->d); \
        uint32_t mask = active(m), written = 0, saturated = 0;                     \
        for (int i = o->kind; i < LANES(lane); i += 2) {                           \
            int low = i & ~1, width = 8 * LANE_BYTES(lane);                        \
            /* Both products may be as large as 2**62; each gives one of the two bits that go over. */ \
            int64_t first = (int64_t)x.lane[low + o->kind] * y.lane[low];          \
            int64_t second = (int64_t)x.lane[low + 1 - o->kind] * y.lane[low + 1]; \
            int64_t value = sum_of_pair(first, sign second, width, round);         \
            uint32_t bytes = ((1u << LANE_BYTES(lane)) - 1) << i * LANE_BYTES(lane); \
            r.lane[i] = (TYPE_##lane)value;                                        \
            if (value > LARGEST_##lane) r.lane[i] = LARGEST_##lane;                \
            if (value < SMALLEST_##lane) r.lane[i] = SMALLEST_##lane;              \
            if (r.lane[i] != value) saturated |= bytes & ~(bytes << 1);            \
            written |= bytes;                                                      \
        }                                                                          \
        if (saturated & mask) m->fpscr |= QC;                                      \
        merge_vector(m, o->d, &r, mask & written);                                 \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

/* The high half of twice the sum of two products of up to 2**62. */
static inline int64_t sum_of_pair(int64_t first, int64_t second, int width, int round) {
    int64_t low = (first & 1) + (second & 1); /* halved apart, since the sum may need 65 bits */
    int64_t half_sum = (first >> 1) + (second >> 1) + (low >> 1);
    if (round) half_sum += (int64_t)1 << (width - 3);
    return half_sum >> (width - 2);
}

FOR_SIGNED(DOUBLED_PAIRS, vqdmladh, +, 0)
FOR_SIGNED(DOUBLED_PAIRS, vqrdmladh, +, 1)
FOR_SIGNED(DOUBLED_PAIRS, vqdmlsdh, -, 0)
FOR_SIGNED(DOUBLED_PAIRS, vqrdmlsdh, -, 1)

/* --- longer results ----------------------------------------------------------------------------------------------- */

/* Of the bottom halves of lanes, or of the top ones (kind). */
#define LONG_PRODUCT(from, to)                                                     \
    static OPERATION(vmull_##from) {                                               \
        vector_t x = get_vector(m, o->n), y = get_vector(m, o->m), r;              \
        for (int i = 0; i < LANES(to); i++)                                        \
            r.to[i] = (uint64_t)(int64_t)x.from[2 * i + o->kind] * (uint64_t)(int64_t)y.from[2 * i + o->kind]; \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

LONG_PRODUCT(s8, u16)
LONG_PRODUCT(u8, u16)
LONG_PRODUCT(s16, u32)
LONG_PRODUCT(u16, u32)
LONG_PRODUCT(s32, u64)
LONG_PRODUCT(u32, u64)

#define LONG_DOUBLED_LOOP(from, to, second)                                        \
    vector_t x = get_vector(m, o->n), r;                                           \
    uint32_t saturated = 0;                                                        \
    for (int i = 0; i < LANES(to); i++) {                                          \
        int64_t product = (int64_t)x.from[2 * i + o->kind] * second;               \
        int overflow = product == (int64_t)SMALLEST_##from * SMALLEST_##from;      \
        r.to[i] = overflow ? INT##to##_LARGEST : 2 * product;                      \
        if (overflow) saturated |= 1u << i * LANE_BYTES(to);                       \
    }                                                                              \
    put_saturated(m, o->d, &r, saturated);                                         \
    NEXT;

#define LONG_DOUBLED(from, to)                                                     \
    static OPERATION(vqdmull_##from) {                                             \
        vector_t y = get_vector(m, o->m);                                          \
        LONG_DOUBLED_LOOP(from, to, y.from[2 * i + o->kind])                       \
    }                                                                              \
    static OPERATION(vqdmull_general_##from) { LONG_DOUBLED_LOOP(from, to, (TYPE_##from)R(m)) }

#define INTs32_LARGEST INT32_MAX
#define INTs64_LARGEST INT64_MAX

LONG_DOUBLED(s16, s32)
LONG_DOUBLED(s32, s64)

/* Products without carries, as polynomials over two elements. */
#define POLYNOMIAL(from, to)                                                       \
    static OPERATION(vmull_polynomial_##from) {                                    \
        vector_t x = get_vector(m, o->n), y = get_vector(m, o->m), r;              \
        for (int i = 0; i < LANES(to); i++) {                                      \
            uint32_t a = x.from[2 * i + o->kind], b = y.from[2 * i + o->kind], product = 0; \
            for (int bit = 0; bit < 8 * LANE_BYTES(from); bit++)                   \
                if (b >> bit & 1) product ^= a << bit;                             \
            r.to[i] = (TYPE_##to)product;                                          \
        }                                                                          \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

POLYNOMIAL(u8, u16)
POLYNOMIAL(u16, u32)

/* --- sums of products --------------------------------------------------------------------------------------------- */

/* kind: add to what is there; width: exchange the lanes of each pair of n; amount: subtract products of upper lanes */
#define PRODUCTS_OF_ACTIVE(lane, statement)                                        \
    vector_t x = get_vector(m, o->n), y = get_vector(m, o->m);                     \
    uint32_t mask = active(m);                                                     \
    for (int i = 0; i < LANES(lane); i++) {                                        \
        uint64_t product = (uint64_t)(int64_t)x.lane[i ^ o->width] * (uint64_t)(int64_t)y.lane[i]; \
        if (o->amount & i) product = 0 - product;                                  \
        if (mask >> i * LANE_BYTES(lane) & 1) statement;                           \
    }

#define DOT(lane, name)                                                            \
    static OPERATION(vmladav_##lane) {                                             \
        uint32_t sum = o->kind ? R(d) : 0;                                         \
        if (!o->width && !o->amount && active(m) == ALL) { /* the most common form, fast */ \
            vector_t x = get_vector(m, o->n), y = get_vector(m, o->m);             \
            for (int i = 0; i < LANES(lane); i++) sum += (uint32_t)x.lane[i] * (uint32_t)y.lane[i]; \
        } else {                                                                   \
            PRODUCTS_OF_ACTIVE(lane, sum += (uint32_t)product)                     \
        }                                                                          \
        R(d) = sum;                                                                \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

FOR_ALL(DOT, )

#define LONG_DOT(lane, name, statement)                                            \
    static OPERATION(name##_##lane) {                                              \
        uint64_t sum = o->kind ? (uint64_t)R(a) << 32 | R(d) : 0;                  \
        PRODUCTS_OF_ACTIVE(lane, statement)                                        \
        R(d) = (uint32_t)sum;                                                      \
        R(a) = (uint32_t)(sum >> 32);                                              \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

LONG_DOT(s16, vmlaldav, sum += product)
LONG_DOT(u16, vmlaldav, sum += product)
LONG_DOT(s32, vmlaldav, sum += product)
LONG_DOT(u32, vmlaldav, sum += product)
/* Of each product the part above 8 bits, rounded. */
LONG_DOT(s32, vrmlaldavh, sum += (uint64_t)((int64_t)product >> 8) + (product >> 7 & 1))
LONG_DOT(u32, vrmlaldavh, sum += (product >> 8) + (product >> 7 & 1))

static int form_top(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)bits(i->code, 12, 12);
    return 0;
}

/* Words are read after the first doubleword is written. */
static int form_top_words(const instruction_t *i, operation_t *o) {
    form_top(i, o);
    return o->d == o->n || o->d == o->m ? UNPREDICTABLE : 0;
}

static int form_top_words_general(const instruction_t *i, operation_t *o) {
    form_top(i, o);
    return o->d == o->n ? UNPREDICTABLE : 0;
}

/* Bit 5: accumulate, 12: exchange. d is an even register, of which the pattern holds three bits. */
static int form_dot(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)bits(i->code, 5, 5);
    o->width = (uint8_t)bits(i->code, 12, 12);
    o->d *= 2;
    return 0;
}

static int form_dot_subtracting(const instruction_t *i, operation_t *o) {
    o->amount = 1;
    return form_dot(i, o);
}

static int form_long_dot(const instruction_t *i, operation_t *o) { /* a is odd */
    o->a = (uint8_t)(2 * o->a + 1);
    return o->a >= SP ? OTHER_PATTERN : form_dot(i, o);
}

static int form_long_dot_subtracting(const instruction_t *i, operation_t *o) {
    o->amount = 1;
    return form_long_dot(i, o);
}

#define PAIRS(front, round, name) SIZES_SIGNED(front, "nnn0 ddd- 1110 0000 mmm" round, name, form_top)

const encoding_t helium_multiply[] = {
    SIZES_UNSIGNED("1110 1111 00", "nnn0 ddd0 1001 0101 mmm0", vmul, NULL),
    SIZES(" 1110 00", "nnn1 ddd0 1110 0000 mmm1", vmulh, NULL),
    SIZES(" 1110 00", "nnn1 ddd1 1110 0000 mmm1", vrmulh, NULL),
    SIZES_SIGNED("1110 1111 00", "nnn0 ddd0 1011 0100 mmm0", vqdmulh, NULL),
    SIZES_SIGNED("1111 1111 00", "nnn0 ddd0 1011 0100 mmm0", vqrdmulh, NULL),
    SIZES(" 1110 00", "nnn1 ddd- 1110 0000 mmm0", vmull, form_top),
    {"1110 1110 0011 nnn1 ddd- 1110 0000 mmm0", RUN(vmull_polynomial_u8), form_top},
    {"1111 1110 0011 nnn1 ddd- 1110 0000 mmm0", RUN(vmull_polynomial_u16), form_top},
    {"1110 1110 0011 nnn0 ddd- 1111 0000 mmm1", RUN(vqdmull_s16), form_top},
    {"1111 1110 0011 nnn0 ddd- 1111 0000 mmm1", RUN(vqdmull_s32), form_top_words},
    {"1110 1110 0011 nnn0 ddd- 1111 0110 mmmm", RUN(vqdmull_general_s16), form_top},
    {"1111 1110 0011 nnn0 ddd- 1111 0110 mmmm", RUN(vqdmull_general_s32), form_top_words_general},
    SIZES_UNSIGNED("1110 1110 00", "nnn1 ddd1 1110 0110 mmmm", vmul_general, NULL),
    SIZES_SIGNED("1110 1110 00", "nnn1 ddd0 1110 0110 mmmm", vqdmulh_general, NULL),
    SIZES_SIGNED("1111 1110 00", "nnn1 ddd0 1110 0110 mmmm", vqrdmulh_general, NULL),
    SIZES_UNSIGNED("111- 1110 00", "nnn1 ddd0 1110 0100 mmmm", vmla_general, NULL),
    SIZES_UNSIGNED("111- 1110 00", "nnn1 ddd1 1110 0100 mmmm", vmlas_general, NULL),
    SIZES_SIGNED("1110 1110 00", "nnn0 ddd0 1110 0110 mmmm", vqdmlah_general, NULL),
    SIZES_SIGNED("1110 1110 00", "nnn0 ddd1 1110 0110 mmmm", vqdmlash_general, NULL),
    SIZES_SIGNED("1110 1110 00", "nnn0 ddd0 1110 0100 mmmm", vqrdmlah_general, NULL),
    SIZES_SIGNED("1110 1110 00", "nnn0 ddd1 1110 0100 mmmm", vqrdmlash_general, NULL),
    PAIRS("1110 1110 00", "0", vqdmladh),
    PAIRS("1110 1110 00", "1", vqrdmladh),
    PAIRS("1111 1110 00", "0", vqdmlsdh),
    PAIRS("1111 1110 00", "1", vqrdmlsdh),

    {"1110 1110 1111 nnn0 ddd- 1111 00-0 mmm0", RUN(vmladav_s8), form_dot},
    {"1110 1110 1111 nnn0 ddd- 1110 00-0 mmm0", RUN(vmladav_s16), form_dot},
    {"1110 1110 1111 nnn1 ddd- 1110 00-0 mmm0", RUN(vmladav_s32), form_dot},
    {"1111 1110 1111 nnn0 ddd0 1111 00-0 mmm0", RUN(vmladav_u8), form_dot},
    {"1111 1110 1111 nnn0 ddd0 1110 00-0 mmm0", RUN(vmladav_u16), form_dot},
    {"1111 1110 1111 nnn1 ddd0 1110 00-0 mmm0", RUN(vmladav_u32), form_dot},
    {"1111 1110 1111 nnn0 ddd- 1110 00-0 mmm1", RUN(vmladav_s8), form_dot_subtracting},
    {"1110 1110 1111 nnn0 ddd- 1110 00-0 mmm1", RUN(vmladav_s16), form_dot_subtracting},
    {"1110 1110 1111 nnn1 ddd- 1110 00-0 mmm1", RUN(vmladav_s32), form_dot_subtracting},
    {"1110 1110 1aaa nnn0 ddd- 1110 00-0 mmm0", RUN(vmlaldav_s16), form_long_dot},
    {"1110 1110 1aaa nnn1 ddd- 1110 00-0 mmm0", RUN(vmlaldav_s32), form_long_dot},
    {"1111 1110 1aaa nnn0 ddd0 1110 00-0 mmm0", RUN(vmlaldav_u16), form_long_dot},
    {"1111 1110 1aaa nnn1 ddd0 1110 00-0 mmm0", RUN(vmlaldav_u32), form_long_dot},
    {"1110 1110 1aaa nnn0 ddd- 1110 00-0 mmm1", RUN(vmlaldav_s16), form_long_dot_subtracting},
    {"1110 1110 1aaa nnn1 ddd- 1110 00-0 mmm1", RUN(vmlaldav_s32), form_long_dot_subtracting},
    {"1110 1110 1aaa nnn0 ddd- 1111 00-0 mmm0", RUN(vrmlaldavh_s32), form_long_dot},
    {"1111 1110 1aaa nnn0 ddd0 1111 00-0 mmm0", RUN(vrmlaldavh_u32), form_long_dot},
    {"1111 1110 1aaa nnn0 ddd- 1110 00-0 mmm1", RUN(vrmlaldavh_s32), form_long_dot_subtracting},
    {.pattern = ""},
};
