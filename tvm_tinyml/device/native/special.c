#include "special.h"

/* Numbers of the special registers. Interrupts never come, so their masks are numbers like others; what would change
 * the stack or the privileges is refused. */
enum { APSR = 0, XPSR = 3, IPSR = 5, IEPSR = 7, MSP = 8, PRIMASK = 16, BASEPRI, BASEPRI_MAX, FAULTMASK };

uint32_t read_apsr(const machine_t *m) {
    return (m->negative & 1u << 31) | (uint32_t)!m->zero << 30 | m->carry << 29 | m->overflow << 28 |
           m->saturated << 27 | m->greater_equal << 16;
}

void write_apsr(machine_t *m, uint32_t apsr, int flags, int greater_equal) {
    if (flags) {
        m->negative = apsr;
        m->zero = ~apsr & 1u << 30;
        m->carry = apsr >> 29 & 1;
        m->overflow = apsr >> 28 & 1;
        m->saturated = apsr >> 27 & 1;
    }
    if (greater_equal) m->greater_equal = apsr >> 16 & 15;
}

OPERATION(mrs) {
    switch (o->immediate) {
    case MSP: R(d) = m->r[SP]; break;
    case PRIMASK: R(d) = m->primask; break;
    case BASEPRI:
    case BASEPRI_MAX: R(d) = m->basepri; break;
    case FAULTMASK: R(d) = m->faultmask; break;
    default: R(d) = o->immediate <= XPSR ? read_apsr(m) : 0; /* no exception is active */
    }
    NEXT;
}

OPERATION(msr) {
    uint32_t value = R(n), level = value & 0xff;
    switch (o->immediate) {
    case MSP: m->r[SP] = value & ~3u; break;
    case PRIMASK: m->primask = value & 1; break;
    case BASEPRI: m->basepri = level; break;
    case BASEPRI_MAX:
        if (level && (!m->basepri || level < m->basepri)) m->basepri = level;
        break;
    case FAULTMASK: m->faultmask = value & 1; break;
    default: /* nothing of IPSR and EPSR can be written */
        if (o->immediate <= XPSR) write_apsr(m, value, o->kind & 2, o->kind & 1 && m->features & DSP);
    }
    NEXT;
}

OPERATION(cps) {
    if (o->width & 2) m->primask = o->kind;
    if (o->width & 1) m->faultmask = o->kind;
    NEXT;
}

static int known(uint32_t number) {
    return number <= XPSR || (number >= IPSR && number <= MSP) || (number >= PRIMASK && number <= FAULTMASK);
}

int form_mrs(const instruction_t *i, operation_t *o) {
    (void)i;
    return known(o->immediate) ? 0 : UNSUPPORTED;
}

int form_msr(const instruction_t *i, operation_t *o) {
    o->kind = (uint8_t)bits(i->code, 11, 10);
    if (!o->kind || (o->immediate > XPSR && o->kind != 2)) return UNPREDICTABLE;
    return known(o->immediate) ? 0 : UNSUPPORTED;
}

int form_cps(const instruction_t *i, operation_t *o) {
    o->width = (uint8_t)bits(i->code, 1, 0);
    return o->width ? 0 : UNPREDICTABLE;
}
