/* Helium: moves between vectors and general registers, rows of numbers, and the predicate's register.
 *
 * Source: Armv8-M Architecture Reference Manual (DDI 0553), C2. */
#include "memory.h"
#include "system_float.h"
#include "vector.h"

#define DUPLICATE(lane, name)                                                      \
    static OPERATION(name##_##lane) {                                              \
        vector_t r;                                                                \
        for (int i = 0; i < LANES(lane); i++) r.lane[i] = (TYPE_##lane)R(m);       \
        put_vector(m, o->d, &r);                                                   \
        NEXT;                                                                      \
    }

FOR_UNSIGNED(DUPLICATE, vdup)

/* One lane, amount. */
#define LANE_TO_GENERAL(lane)                                                      \
    static OPERATION(vmov_to_##lane) {                                             \
        R(d) = (uint32_t)get_vector(m, o->n).lane[o->amount];                      \
        NEXT;                                                                      \
    }

#define LANE_FROM_GENERAL(lane)                                                    \
    static OPERATION(vmov_from_##lane) {                                           \
        vector_t v = get_vector(m, o->n);                                          \
        v.lane[o->amount] = (TYPE_##lane)R(d);                                     \
        set_vector(m, o->n, &v);                                                   \
        NEXT;                                                                      \
    }

LANE_TO_GENERAL(s8)
LANE_TO_GENERAL(u8)
LANE_TO_GENERAL(s16)
LANE_TO_GENERAL(u16)
LANE_FROM_GENERAL(u8)
LANE_FROM_GENERAL(u16)

/* Words ``amount`` (d) and the one two behind it (a). */
static OPERATION(vmov_two_to) {
    R(d) = m->s[4 * o->n + o->amount];
    R(a) = m->s[4 * o->n + o->amount + 2];
    NEXT;
}

static OPERATION(vmov_two_from) {
    m->s[4 * o->n + o->amount] = R(d);
    m->s[4 * o->n + o->amount + 2] = R(a);
    NEXT;
}

/* A row of numbers from an even register n on, in steps of ``amount``; up to a limit, an odd register a, they wrap. */
#define ROW(lane, name)                                                            \
    static OPERATION(vidup_##lane) {                                               \
        vector_t r;                                                                \
        uint32_t x = R(n);                                                         \
        for (int i = 0; i < LANES(lane); i++, x += o->amount) r.lane[i] = (TYPE_##lane)x; \
        put_vector(m, o->d, &r); /* LR may be n: what is active depends on it */   \
        R(n) = x;                                                                  \
        NEXT;                                                                      \
    }                                                                              \
    static OPERATION(vddup_##lane) {                                               \
        vector_t r;                                                                \
        uint32_t x = R(n);                                                         \
        for (int i = 0; i < LANES(lane); i++, x -= o->amount) r.lane[i] = (TYPE_##lane)x; \
        put_vector(m, o->d, &r); /* LR may be n: what is active depends on it */   \
        R(n) = x;                                                                  \
        NEXT;                                                                      \
    }                                                                              \
    static OPERATION(viwdup_##lane) {                                              \
        vector_t r;                                                                \
        uint32_t x = R(n), limit = R(a);                                           \
        for (int i = 0; i < LANES(lane); i++) {                                    \
            r.lane[i] = (TYPE_##lane)x;                                            \
            x += o->amount;                                                        \
            if (x == limit) x = 0;                                                 \
        }                                                                          \
        put_vector(m, o->d, &r); /* LR may be n: what is active depends on it */   \
        R(n) = x;                                                                  \
        NEXT;                                                                      \
    }                                                                              \
    static OPERATION(vdwdup_##lane) {                                              \
        vector_t r;                                                                \
        uint32_t x = R(n), limit = R(a);                                           \
        for (int i = 0; i < LANES(lane); i++) {                                    \
            r.lane[i] = (TYPE_##lane)x;                                            \
            if (x == 0) x = limit;                                                 \
            x -= o->amount;                                                        \
        }                                                                          \
        put_vector(m, o->d, &r); /* LR may be n: what is active depends on it */   \
        R(n) = x;                                                                  \
        NEXT;                                                                      \
    }

FOR_UNSIGNED(ROW, )

static OPERATION(vmrs_predicate) {
    R(d) = read_float_register(m, o->kind);
    NEXT;
}

static OPERATION(vmsr_predicate) {
    if (!write_float_register(m, o, o->kind, R(d))) return;
    NEXT;
}

static OPERATION(vldr_system) { /* width: 1 before, 2 after the access the base moves */
    uint32_t base = R(n), address = o->width == 2 ? base : base + o->immediate;
    if (!may_access_words(m, o, address)) return;
    const uint8_t *p = readable(m, o, address, 4);
    if (!p || !write_float_register(m, o, o->kind, load_word(p))) return;
    if (o->width) R(n) = base + o->immediate;
    NEXT;
}

static OPERATION(vstr_system) {
    uint32_t base = R(n), address = o->width == 2 ? base : base + o->immediate;
    if (!may_access_words(m, o, address)) return;
    uint8_t *p = writable(m, o, address, 4);
    if (!p) return;
    store_word(p, read_float_register(m, o->kind));
    if (o->width) R(n) = base + o->immediate;
    NEXT;
}

/* --- forms -------------------------------------------------------------------------------------------------------- */

static int form_lane_8(const instruction_t *i, operation_t *o) {
    o->amount = (uint8_t)(bits(i->code, 16, 16) << 3 | bits(i->code, 21, 21) << 2 | bits(i->code, 6, 5));
    return 0;
}

static int form_lane_16(const instruction_t *i, operation_t *o) {
    o->amount = (uint8_t)(bits(i->code, 16, 16) << 2 | bits(i->code, 21, 21) << 1 | bits(i->code, 6, 6));
    return 0;
}

static int form_two(const instruction_t *i, operation_t *o) {
    o->amount = (uint8_t)bits(i->code, 4, 4);
    return !bits(i->code, 20, 20) && o->a == o->d ? UNPREDICTABLE : 0;
}

static int form_row(const instruction_t *i, operation_t *o) {
    o->n *= 2;
    o->amount = (uint8_t)(1 << (bits(i->code, 7, 7) << 1 | bits(i->code, 0, 0)));
    return 0;
}

static int form_wrapping_row(const instruction_t *i, operation_t *o) {
    o->a = (uint8_t)(2 * o->a + 1);
    return o->a == PC ? OTHER_PATTERN : o->a == SP ? UNPREDICTABLE : form_row(i, o);
}

static int form_register(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)bits(i->code, 19, 16);
    return 0;
}

static int form_system(const instruction_t *i, operation_t *o) { /* bits 24: before, 23: add, 21: write back */
    int before = bits(i->code, 24, 24) != 0, write_back = bits(i->code, 21, 21) != 0;
    o->kind = (uint8_t)(bits(i->code, 22, 22) << 3 | bits(i->code, 15, 13));
    o->width = (uint8_t)(!before ? 2 : write_back);
    if (!bits(i->code, 23, 23)) o->immediate = -o->immediate;
    return o->kind == FPSCR || o->kind == FPSCR_NZCVQC || o->kind == VPR || o->kind == P0 ? 0 : UNSUPPORTED;
}

const encoding_t helium_move[] = {
    {"1110 1110 1110 ddd0 mmmm 1011 0001 0000", RUN(vdup_u8)},
    {"1110 1110 1010 ddd0 mmmm 1011 0011 0000", RUN(vdup_u16)},
    {"1110 1110 1010 ddd0 mmmm 1011 0001 0000", RUN(vdup_u32)},
    {"1110 1110 01-1 nnn- dddd 1011 0--1 0000", RUN(vmov_to_s8), form_lane_8},
    {"1110 1110 11-1 nnn- dddd 1011 0--1 0000", RUN(vmov_to_u8), form_lane_8},
    {"1110 1110 00-1 nnn- dddd 1011 0-11 0000", RUN(vmov_to_s16), form_lane_16},
    {"1110 1110 10-1 nnn- dddd 1011 0-11 0000", RUN(vmov_to_u16), form_lane_16},
    {"1110 1110 01-0 nnn- dddd 1011 0--1 0000", RUN(vmov_from_u8), form_lane_8},
    {"1110 1110 00-0 nnn- dddd 1011 0-11 0000", RUN(vmov_from_u16), form_lane_16},
    {"1110 1100 0000 aaaa nnn0 1111 000- dddd", RUN(vmov_two_to), form_two},
    {"1110 1100 0001 aaaa nnn0 1111 000- dddd", RUN(vmov_two_from), form_two},
    SIZES_UNSIGNED("1110 1110 00", "nnn1 ddd0 1111 -110 111-", vidup, form_row),
    SIZES_UNSIGNED("1110 1110 00", "nnn1 ddd1 1111 -110 111-", vddup, form_row),
    SIZES_UNSIGNED("1110 1110 00", "nnn1 ddd0 1111 -110 aaa-", viwdup, form_wrapping_row),
    SIZES_UNSIGNED("1110 1110 00", "nnn1 ddd1 1111 -110 aaa-", vdwdup, form_wrapping_row),
    {"1110 1110 1110 110- dddd 1010 0001 0000", RUN(vmsr_predicate), form_register},
    {"1110 1110 1111 110- dddd 1010 0001 0000", RUN(vmrs_predicate), form_register},
    {.pattern = ""},
};

/* Beside Helium: also a core without vectors has them. */
const encoding_t float_system[] = {
    {"1110 1110 1110 0010 dddd 1010 0001 0000", RUN(vmsr_predicate), form_register},
    {"1110 1110 1111 0010 dddd 1010 0001 0000", RUN(vmrs_predicate), form_register},
    {"1110 1101 ---1 NNNN ---0 1111 1 iiiiiii", RUN(vldr_system), form_system, .scale = 2},
    {"1110 1100 --11 NNNN ---0 1111 1 iiiiiii", RUN(vldr_system), form_system, .scale = 2},
    {"1110 1101 ---0 NNNN ---0 1111 1 iiiiiii", RUN(vstr_system), form_system, .scale = 2},
    {"1110 1100 --10 NNNN ---0 1111 1 iiiiiii", RUN(vstr_system), form_system, .scale = 2},
    {.pattern = ""},
};
