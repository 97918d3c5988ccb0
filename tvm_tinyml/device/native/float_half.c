/* Half precision, which Armv8.1-M may have: computed as double and rounded, which gives the nearest half.
 *
 * Source: Armv8-M Architecture Reference Manual (DDI 0553), C2. */
#include "float.h"
#include "memory.h"
#include "vector.h"

#define FLOAT double
#define WORD uint16_t
#define QUIET 0x0200u
#define DEFAULT_NAN 0x7e00u
#define FMA fused_double
#define SQRT sqrt
#define GET(r) (uint16_t)m->s[o->r]
#define SET(r, value) m->s[o->r] = (uint16_t)(value)
#define GET_FIXED(r) m->s[o->r]
#define SET_FIXED(r, value) m->s[o->r] = (uint32_t)(value)
#define WIDEN(x) from_half(m, x)
#define NARROW(x) to_half(m, x)
#define FORM_TWO form_singles
#define FORM_THREE form_singles
#define FORM_TO form_singles
#define FORM_FROM form_singles
#define FLOAT_REGISTERS 32
#define PRECISION "1001"

static inline double number(machine_t *m, uint16_t x) { return as_double(from_half(m, x)); }
static inline uint16_t word(machine_t *m, double x) { return (uint16_t)to_half(m, as_bits(x)); }

#define IS_HALF
#include "float_operations.h"

static OPERATION(vldr_half) {
    uint32_t address = (o->n == PC ? (o->address + 4) & ~3u : R(n)) + o->immediate;
    if (!may_access(m, o, address, 2)) return;
    const uint8_t *p = readable(m, o, address, 2);
    if (!p) return;
    m->s[o->d] = load_half(p);
    NEXT;
}

static OPERATION(vstr_half) {
    uint32_t address = R(n) + o->immediate;
    if (!may_access(m, o, address, 2)) return;
    uint8_t *p = writable(m, o, address, 2);
    if (!p) return;
    store_half(p, m->s[o->d]);
    NEXT;
}

static OPERATION(vmov_from_core) {
    m->s[o->n] = (uint16_t)R(d);
    NEXT;
}

static OPERATION(vmov_to_core) {
    R(d) = (uint16_t)m->s[o->n];
    NEXT;
}

static OPERATION(vins) {
    m->s[o->d] = (uint16_t)m->s[o->d] | m->s[o->m] << 16;
    NEXT;
}

static OPERATION(vmovx) {
    m->s[o->d] = m->s[o->m] >> 16;
    NEXT;
}

static int form_offset(const instruction_t *i, operation_t *o) { /* bit 23: add */
    if (!bits(i->code, 23, 23)) o->immediate = -o->immediate;
    o->d = (uint8_t)(bits(i->code, 15, 12) << 1 | bits(i->code, 22, 22));
    return 0;
}

static int form_core(const instruction_t *i, operation_t *o) {
    o->n = (uint8_t)(bits(i->code, 19, 16) << 1 | bits(i->code, 7, 7));
    return 0;
}

const encoding_t float_half[] = {
    FLOAT_PATTERNS,
    FLOAT_V5_PATTERNS,
    {"1110 1101 --01 yyyy ---- 1001 iiiiiiii", RUN(vldr_half), form_offset, .scale = 1},
    {"1110 1101 --00 NNNN ---- 1001 iiiiiiii", RUN(vstr_half), form_offset, .scale = 1},
    {"1110 1110 0000 ---- dddd 1001 -001 0000", RUN(vmov_from_core), form_core},
    {"1110 1110 0001 ---- dddd 1001 -001 0000", RUN(vmov_to_core), form_core},
    {"1111 1110 1-11 0000 ---- 1010 11-0 ----", RUN(vins), form_singles, .it = NOT_IN_IT},
    {"1111 1110 1-11 0000 ---- 1010 01-0 ----", RUN(vmovx), form_singles, .it = NOT_IN_IT},
    {.pattern = ""},
};
