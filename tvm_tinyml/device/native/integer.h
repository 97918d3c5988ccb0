/* Data processing and branches, which narrow and wide encodings share. */
#ifndef TINYML_INTEGER_H
#define TINYML_INTEGER_H

#include "machine.h"

enum { LSL, LSR, ASR, ROR, RRX };

typedef struct {
    uint32_t value, carry;
} shifted_t;

/* By 0 to 255; RRX by 1. By 0 both value and carry stay what they are. */
static inline shifted_t shift(uint32_t value, int kind, uint32_t amount, uint32_t carry) {
    shifted_t result = {value, carry};
    if (!amount) return result;
    switch (kind) {
    case LSL:
        result.value = amount < 32 ? value << amount : 0;
        result.carry = amount <= 32 ? value >> (32 - amount) & 1 : 0;
        break;
    case LSR:
        result.value = amount < 32 ? value >> amount : 0;
        result.carry = amount <= 32 ? value >> (amount - 1) & 1 : 0;
        break;
    case ASR:
        if (amount > 32) amount = 32;
        result.carry = value >> (amount - 1) & 1;
        result.value = (uint32_t)((int32_t)value >> (amount < 32 ? amount : 31));
        break;
    case ROR:
        amount &= 31;
        if (amount) result.value = value >> amount | value << (32 - amount);
        result.carry = result.value >> 31;
        break;
    default: /* RRX */
        result.value = value >> 1 | carry << 31;
        result.carry = value & 1;
    }
    return result;
}

/* The sum of a, b and a carry of 0 or 1, with all four flags. */
static inline uint32_t add_with_flags(machine_t *m, uint32_t a, uint32_t b, uint32_t carry) {
    uint64_t sum = (uint64_t)a + b + carry;
    uint32_t result = (uint32_t)sum;
    m->carry = (uint32_t)(sum >> 32);
    m->overflow = ((a ^ result) & (b ^ result)) >> 31;
    set_nz(m, result);
    return result;
}

/* Go on at an address whose lowest bit says Thumb; an even one is a fault. */
void jump_interworking(machine_t *m, const operation_t *o, uint32_t target);

#define DECLARE_DATA(name) run_fn name##_register, name##_shifted, name##_immediate
DECLARE_DATA(and);
DECLARE_DATA(ands);
DECLARE_DATA(bic);
DECLARE_DATA(bics);
DECLARE_DATA(orr);
DECLARE_DATA(orrs);
DECLARE_DATA(orn);
DECLARE_DATA(orns);
DECLARE_DATA(eor);
DECLARE_DATA(eors);
DECLARE_DATA(add);
DECLARE_DATA(adds);
DECLARE_DATA(adc);
DECLARE_DATA(adcs);
DECLARE_DATA(sbc);
DECLARE_DATA(sbcs);
DECLARE_DATA(sub);
DECLARE_DATA(subs);
DECLARE_DATA(rsb);
DECLARE_DATA(rsbs);
DECLARE_DATA(mov);
DECLARE_DATA(movs);
DECLARE_DATA(mvn);
DECLARE_DATA(mvns);
DECLARE_DATA(tst);
DECLARE_DATA(teq);
DECLARE_DATA(cmp);
DECLARE_DATA(cmn);

#define DECLARE_SHIFT(name) run_fn name##_immediate, name##s_immediate, name##_register, name##s_register
DECLARE_SHIFT(lsl);
DECLARE_SHIFT(lsr);
DECLARE_SHIFT(asr);
DECLARE_SHIFT(ror);

run_fn muls, mul, sxtb, sxth, uxtb, uxth, rev, rev16, revsh;
run_fn ldr_immediate, ldrb_immediate, ldrh_immediate, ldrsb_immediate, ldrsh_immediate;
run_fn str_immediate, strb_immediate, strh_immediate;
run_fn ldr_literal, adr;
run_fn b, bl, bx, blx, nop, udf, bkpt, svc, wait_for_event;

extern run_fn *const branch_if[15];  /* by condition: goes to the immediate or to the instruction behind */
extern run_fn *const skip_unless[15]; /* by condition: passes over the next operation when it does not hold */

#endif
