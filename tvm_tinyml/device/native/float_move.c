/* Moves of floating-point registers, which need no arithmetic: also of doubles on a core that cannot add them.
 *
 * Source: Armv7-M Architecture Reference Manual (DDI 0403), A6.5 to A6.7 and A7. */
#include "float.h"
#include "memory.h"
#include "system_float.h"

/* --- memory ------------------------------------------------------------------------------------------------------- */

static OPERATION(vldr_single) {
    uint32_t address = R(n) + o->immediate;
    if (!may_access_words(m, o, address)) return;
    const uint8_t *p = readable(m, o, address, 4);
    if (!p) return;
    m->s[o->d] = load_word(p);
    NEXT;
}

static OPERATION(vldr_double) {
    uint32_t address = R(n) + o->immediate;
    if (!may_access_words(m, o, address)) return;
    const uint8_t *p = readable(m, o, address, 8);
    if (!p) return;
    m->s[2 * o->d] = load_word(p);
    m->s[2 * o->d + 1] = load_word(p + 4);
    NEXT;
}

static OPERATION(vldr_single_literal) {
    const uint8_t *p = readable(m, o, o->immediate, 4);
    if (!p) return;
    m->s[o->d] = load_word(p);
    NEXT;
}

static OPERATION(vldr_double_literal) {
    const uint8_t *p = readable(m, o, o->immediate, 8);
    if (!p) return;
    m->s[2 * o->d] = load_word(p);
    m->s[2 * o->d + 1] = load_word(p + 4);
    NEXT;
}

static OPERATION(vstr_single) {
    uint32_t address = R(n) + o->immediate;
    if (!may_access_words(m, o, address)) return;
    uint8_t *p = writable(m, o, address, 4);
    if (!p) return;
    store_word(p, m->s[o->d]);
    NEXT;
}

static OPERATION(vstr_double) {
    uint32_t address = R(n) + o->immediate;
    if (!may_access_words(m, o, address)) return;
    uint8_t *p = writable(m, o, address, 8);
    if (!p) return;
    store_word(p, m->s[2 * o->d]);
    store_word(p + 4, m->s[2 * o->d + 1]);
    NEXT;
}

/* ``amount`` words from s[d] on, ``width`` of them in one access; kind: the base is written back. The immediate is what
 * is added to the base, negative when the words lie below it. */
static OPERATION(vldm) {
    uint32_t base = R(n), address = (int32_t)o->immediate < 0 ? base + o->immediate : base;
    for (uint32_t i = 0; i < o->amount; i += o->width, address += 4u * o->width) {
        if (!may_access_words(m, o, address)) return;
        const uint8_t *p = readable(m, o, address, 4u * o->width);
        if (!p) return;
        for (uint32_t k = 0; k < o->width; k++) m->s[o->d + i + k] = load_word(p + 4 * k);
    }
    if (o->kind) R(n) = base + o->immediate;
    NEXT;
}

static OPERATION(vstm) {
    uint32_t base = R(n), address = (int32_t)o->immediate < 0 ? base + o->immediate : base;
    for (uint32_t i = 0; i < o->amount; i += o->width, address += 4u * o->width) {
        if (!may_access_words(m, o, address)) return;
        uint8_t *p = writable(m, o, address, 4u * o->width);
        if (!p) return;
        for (uint32_t k = 0; k < o->width; k++) store_word(p + 4 * k, m->s[o->d + i + k]);
    }
    if (o->kind) R(n) = base + o->immediate;
    NEXT;
}

static int form_offset(const instruction_t *i, operation_t *o) { /* bits 23: add, 8: double */
    if (!bits(i->code, 23, 23)) o->immediate = -o->immediate;
    uint32_t vd = bits(i->code, 15, 12), extra = bits(i->code, 22, 22);
    o->d = (uint8_t)(bits(i->code, 8, 8) ? vd : vd << 1 | extra);
    return bits(i->code, 8, 8) && extra ? UNDEFINED : 0;
}

static int form_offset_literal(const instruction_t *i, operation_t *o) {
    int status = form_offset(i, o);
    o->immediate += (i->address + 4) & ~3u;
    return status;
}

static int form_words(const instruction_t *i, operation_t *o) { /* bits 24: before, 23: add, 21: write back */
    uint32_t count = bits(i->code, 7, 0), doubles = bits(i->code, 8, 8), extra = bits(i->code, 22, 22);
    if (doubles && (count & 1 || extra)) return UNDEFINED;
    o->d = (uint8_t)(bits(i->code, 15, 12) << 1 | extra);
    o->amount = (uint8_t)count;
    o->width = doubles ? 2 : 1;
    o->kind = (uint8_t)bits(i->code, 21, 21);
    o->immediate = bits(i->code, 24, 24) ? 0 - 4 * count : 4 * count;
    return !count || o->d + count > 32 ? UNPREDICTABLE : 0;
}

/* --- registers ---------------------------------------------------------------------------------------------------- */

static OPERATION(vmov_from_core) {
    m->s[o->n] = R(d);
    NEXT;
}

static OPERATION(vmov_to_core) {
    R(d) = m->s[o->n];
    NEXT;
}

static OPERATION(vmov_two_from_core) {
    m->s[o->m] = R(d);
    m->s[o->m + 1] = R(a);
    NEXT;
}

static OPERATION(vmov_two_to_core) {
    R(d) = m->s[o->m];
    R(a) = m->s[o->m + 1];
    NEXT;
}

static int form_core(const instruction_t *i, operation_t *o) {
    o->n = (uint8_t)(bits(i->code, 19, 16) << 1 | bits(i->code, 7, 7));
    return 0;
}

static int form_scalar(const instruction_t *i, operation_t *o) { /* a half of a double; bit 21: which */
    o->n = (uint8_t)(bits(i->code, 19, 16) << 1 | bits(i->code, 21, 21));
    return bits(i->code, 7, 7) ? UNDEFINED : 0;
}

static int form_two_singles(const instruction_t *i, operation_t *o) {
    o->m = (uint8_t)(bits(i->code, 3, 0) << 1 | bits(i->code, 5, 5));
    int to_core = bits(i->code, 20, 20) != 0;
    return o->m == 31 || (to_core && o->d == o->a) ? UNPREDICTABLE : 0;
}

static int form_double_core(const instruction_t *i, operation_t *o) {
    o->m = (uint8_t)(bits(i->code, 3, 0) << 1);
    if (bits(i->code, 5, 5)) return UNDEFINED;
    int to_core = bits(i->code, 20, 20) != 0;
    return to_core && o->d == o->a ? UNPREDICTABLE : 0;
}

static OPERATION(vmrs) {
    R(d) = read_float_register(m, FPSCR);
    NEXT;
}

static OPERATION(vmrs_flags) {
    uint32_t flags = m->fpscr >> 28;
    m->negative = flags << 28;
    m->zero = !(flags & 4);
    m->carry = flags >> 1 & 1;
    m->overflow = flags & 1;
    NEXT;
}

static OPERATION(vmsr) {
    if (!write_float_register(m, o, FPSCR, R(d))) return;
    NEXT;
}

const encoding_t float_move[] = {
    {"1110 1101 --01 1111 ---- 1010 iiiiiiii", RUN(vldr_single_literal), form_offset_literal, .scale = 2},
    {"1110 1101 --01 1111 ---- 1011 iiiiiiii", RUN(vldr_double_literal), form_offset_literal, .scale = 2},
    {"1110 1101 --01 NNNN ---- 1010 iiiiiiii", RUN(vldr_single), form_offset, .scale = 2},
    {"1110 1101 --01 NNNN ---- 1011 iiiiiiii", RUN(vldr_double), form_offset, .scale = 2},
    {"1110 1101 --00 NNNN ---- 1010 iiiiiiii", RUN(vstr_single), form_offset, .scale = 2},
    {"1110 1101 --00 NNNN ---- 1011 iiiiiiii", RUN(vstr_double), form_offset, .scale = 2},
    {"1110 1100 1--1 NNNN ---- 101- --------", RUN(vldm), form_words},
    {"1110 1101 0-11 NNNN ---- 101- --------", RUN(vldm), form_words},
    {"1110 1100 1--0 NNNN ---- 101- --------", RUN(vstm), form_words},
    {"1110 1101 0-10 NNNN ---- 101- --------", RUN(vstm), form_words},

    {"1110 1110 0000 ---- dddd 1010 -001 0000", RUN(vmov_from_core), form_core},
    {"1110 1110 0001 ---- dddd 1010 -001 0000", RUN(vmov_to_core), form_core},
    {"1110 1110 00-0 ---- dddd 1011 -001 0000", RUN(vmov_from_core), form_scalar},
    {"1110 1110 00-1 ---- dddd 1011 -001 0000", RUN(vmov_to_core), form_scalar},
    {"1110 1100 0100 aaaa dddd 1010 00-1 ----", RUN(vmov_two_from_core), form_two_singles},
    {"1110 1100 0101 aaaa dddd 1010 00-1 ----", RUN(vmov_two_to_core), form_two_singles},
    {"1110 1100 0100 aaaa dddd 1011 00-1 ----", RUN(vmov_two_from_core), form_double_core},
    {"1110 1100 0101 aaaa dddd 1011 00-1 ----", RUN(vmov_two_to_core), form_double_core},
    {"1110 1110 1110 0001 dddd 1010 0001 0000", RUN(vmsr)},
    {"1110 1110 1111 0001 1111 1010 0001 0000", RUN(vmrs_flags)},
    {"1110 1110 1111 0001 dddd 1010 0001 0000", RUN(vmrs)},
    {.pattern = ""},
};
