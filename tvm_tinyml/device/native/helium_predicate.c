/* Helium: comparisons, VPT blocks, and what else makes predicates.
 *
 * Source: Armv8-M Architecture Reference Manual (DDI 0553), B5.6 and C2. */
#include "vector.h"

#define COMPARE_LOOP(lane, second, comparison)                                     \
    vector_t x = get_vector(m, o->n);                                              \
    uint32_t holds = 0;                                                            \
    for (int i = 0; i < LANES(lane); i++) {                                        \
        TYPE_##lane a = x.lane[i], b = second;                                     \
        if (a comparison b) holds |= ((1u << LANE_BYTES(lane)) - 1) << i * LANE_BYTES(lane); \
    }                                                                              \
    set_predicate(m, o, holds);                                                    \
    NEXT;

#define COMPARE(lane, name, comparison)                                            \
    static OPERATION(name##_##lane) {                                              \
        vector_t y = get_vector(m, o->m);                                          \
        COMPARE_LOOP(lane, y.lane[i], comparison)                                  \
    }                                                                              \
    static OPERATION(name##_general_##lane) { COMPARE_LOOP(lane, (TYPE_##lane)(o->m == PC ? 0 : R(m)), comparison) }

FOR_UNSIGNED(COMPARE, vcmp_eq, ==)
FOR_UNSIGNED(COMPARE, vcmp_ne, !=)
FOR_UNSIGNED(COMPARE, vcmp_cs, >=)
FOR_UNSIGNED(COMPARE, vcmp_hi, >)
FOR_SIGNED(COMPARE, vcmp_ge, >=)
FOR_SIGNED(COMPARE, vcmp_lt, <)
FOR_SIGNED(COMPARE, vcmp_gt, >)
FOR_SIGNED(COMPARE, vcmp_le, <=)

int form_mask(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)(bits(i->code, 22, 22) << 3 | bits(i->code, 15, 13));
    return 0;
}

static int form_mask_general(const instruction_t *i, operation_t *o) { /* register 15 is the constant 0 */
    return o->m == SP ? OTHER_PATTERN : form_mask(i, o);
}

static OPERATION(vpst) {
    m->vpr = (m->vpr & 0xffff) | o->kind * 0x110000u;
    NEXT;
}

static OPERATION(vpnot) {
    m->vpr = (m->vpr & ~0xffffu) | (~m->vpr & active(m));
    advance(m);
    NEXT;
}

static OPERATION(vctp) { /* amount: log2 of the bytes of a lane */
    uint32_t count = R(n), tail = count >= 16u >> o->amount ? ALL : (1u << (count << o->amount)) - 1;
    m->vpr = (m->vpr & ~0xffffu) | (tail & active(m));
    advance(m);
    NEXT;
}

static int form_vpst(const instruction_t *i, operation_t *o) {
    form_mask(i, o);
    if (!o->kind) o->run = vpnot;
    return 0;
}

static int form_vctp(const instruction_t *i, operation_t *o) {
    o->amount = (uint8_t)bits(i->code, 21, 20);
    return 0;
}

static OPERATION(vpsel) {
    vector_t x = get_vector(m, o->n), r = get_vector(m, o->m);
    for (int i = 0; i < 16; i++)
        if (m->vpr >> i & 1) r.u8[i] = x.u8[i];
    put_vector(m, o->d, &r);
    NEXT;
}

#define VECTORS(front, behind, name, SIZES) SIZES(front, behind, name, form_mask)
#define GENERAL(front, behind, name, SIZES) SIZES(front, behind, name##_general, form_mask_general)

const encoding_t helium_predicate[] = {
    {"1111 1110 0-11 0001 ---0 1111 0100 1101", RUN(vpst), form_vpst},
    VECTORS("1111 1110 0-", "nnn1 ---0 1111 0000 mmm0", vcmp_eq, SIZES_UNSIGNED),
    VECTORS("1111 1110 0-", "nnn1 ---0 1111 1000 mmm0", vcmp_ne, SIZES_UNSIGNED),
    VECTORS("1111 1110 0-", "nnn1 ---0 1111 0000 mmm1", vcmp_cs, SIZES_UNSIGNED),
    VECTORS("1111 1110 0-", "nnn1 ---0 1111 1000 mmm1", vcmp_hi, SIZES_UNSIGNED),
    VECTORS("1111 1110 0-", "nnn1 ---1 1111 0000 mmm0", vcmp_ge, SIZES_SIGNED),
    VECTORS("1111 1110 0-", "nnn1 ---1 1111 1000 mmm0", vcmp_lt, SIZES_SIGNED),
    VECTORS("1111 1110 0-", "nnn1 ---1 1111 0000 mmm1", vcmp_gt, SIZES_SIGNED),
    VECTORS("1111 1110 0-", "nnn1 ---1 1111 1000 mmm1", vcmp_le, SIZES_SIGNED),
    GENERAL("1111 1110 0-", "nnn1 ---0 1111 0100 zzzz", vcmp_eq, SIZES_UNSIGNED),
    GENERAL("1111 1110 0-", "nnn1 ---0 1111 1100 zzzz", vcmp_ne, SIZES_UNSIGNED),
    GENERAL("1111 1110 0-", "nnn1 ---0 1111 0110 zzzz", vcmp_cs, SIZES_UNSIGNED),
    GENERAL("1111 1110 0-", "nnn1 ---0 1111 1110 zzzz", vcmp_hi, SIZES_UNSIGNED),
    GENERAL("1111 1110 0-", "nnn1 ---1 1111 0100 zzzz", vcmp_ge, SIZES_SIGNED),
    GENERAL("1111 1110 0-", "nnn1 ---1 1111 1100 zzzz", vcmp_lt, SIZES_SIGNED),
    GENERAL("1111 1110 0-", "nnn1 ---1 1111 0110 zzzz", vcmp_gt, SIZES_SIGNED),
    GENERAL("1111 1110 0-", "nnn1 ---1 1111 1110 zzzz", vcmp_le, SIZES_SIGNED),
    {"1111 0000 00-- nnnn 1110 1000 0000 0001", RUN(vctp), form_vctp},
    {"1111 1110 0011 nnn1 ddd0 1111 0000 mmm1", RUN(vpsel)},
    {.pattern = ""},
};
