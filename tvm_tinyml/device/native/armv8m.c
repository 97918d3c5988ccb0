/* What the mainline of Armv8-M adds to Armv7-M: loads and stores with acquire and release.
 *
 * The security extension is refused: a simulated core has one state. Source: Armv8-M Architecture Reference Manual
 * (DDI 0553), C2. */
#include "decode.h"
#include "exclusive.h"
#include "integer.h"
#include "memory.h"

static OPERATION(lda) {
    uint32_t address = R(n);
    if (!may_access_exclusively(m, o, address)) return;
    const uint8_t *p = readable(m, o, address, o->amount);
    if (!p) return;
    R(d) = o->amount == 4 ? load_word(p) : o->amount == 2 ? load_half(p) : *p;
    NEXT;
}

static OPERATION(stl) {
    uint32_t address = R(n);
    if (!may_access_exclusively(m, o, address)) return;
    uint8_t *p = writable(m, o, address, o->amount);
    if (!p) return;
    if (o->amount == 4) store_word(p, R(d));
    else if (o->amount == 2) store_half(p, R(d));
    else *p = (uint8_t)R(d);
    NEXT;
}

static int form_size(const instruction_t *i, operation_t *o) {
    o->amount = (uint8_t)(1 << bits(i->code, 5, 4));
    return 0;
}

static OPERATION(tt) { fault(m, o, UNSUPPORTED); }
static OPERATION(bxns) { fault(m, o, UNSUPPORTED); }
static OPERATION(vlstm) { fault(m, o, UNSUPPORTED); }

#define SIZES(load, op, name, form_all) \
    {"1110100 0110" load "NNNN dddd 1111" op "00 1111", RUN(name), form_all},      \
    {"1110100 0110" load "NNNN dddd 1111" op "01 1111", RUN(name), form_all},      \
    {"1110100 0110" load "NNNN dddd 1111" op "10 1111", RUN(name), form_all}

const encoding_t armv8m[] = {
    SIZES("1", "10", lda, form_size),
    SIZES("0", "10", stl, form_size),
    {"1110100 0110 1 NNNN dddd 1111 1100 1111", RUN(ldrex), form_byte},
    {"1110100 0110 1 NNNN dddd 1111 1101 1111", RUN(ldrex), form_half},
    {"1110100 0110 1 NNNN dddd 1111 1110 1111", RUN(ldrex), form_word},
    {"1110100 0110 0 NNNN aaaa 1111 1100 dddd", RUN(strex), form_byte},
    {"1110100 0110 0 NNNN aaaa 1111 1101 dddd", RUN(strex), form_half},
    {"1110100 0110 0 NNNN aaaa 1111 1110 dddd", RUN(strex), form_word},
    {"1110100 0010 0 NNNN 1111 dddd -- 000000", RUN(tt)},
    {"1110100 1011 1 1111 1110 1001 0111 1111", RUN(nop), .it = NOT_IN_IT}, /* SG */
    {"010001 11 - zzzz 100", RUN(bxns)},
    {"1110110 0001 - ---- 0000 1010 0000 0000", RUN(vlstm)},
    {.pattern = ""},
};
