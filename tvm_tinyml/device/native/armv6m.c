/* Armv6-M: what every Cortex-M executes.
 *
 * Source: Armv6-M Architecture Reference Manual (DDI 0419), A5 and A6. */
#include "decode.h"
#include "integer.h"
#include "memory.h"
#include "multiple.h"
#include "special.h"

/* --- loads and stores --------------------------------------------------------------------------------------------- */

#define LOAD_REGISTER(name, bytes, value)                                          \
    static OPERATION(name##_register) {                                            \
        uint32_t address = R(n) + R(m);                                            \
        if (!may_access(m, o, address, bytes)) return;                             \
        const uint8_t *p = readable(m, o, address, bytes);                         \
        if (!p) return;                                                            \
        R(d) = value;                                                              \
        NEXT;                                                                      \
    }

LOAD_REGISTER(ldr, 4, load_word(p))
LOAD_REGISTER(ldrh, 2, load_half(p))
LOAD_REGISTER(ldrb, 1, *p)
LOAD_REGISTER(ldrsh, 2, (uint32_t)(int16_t)load_half(p))
LOAD_REGISTER(ldrsb, 1, (uint32_t)(int8_t)*p)

#define STORE_REGISTER(name, bytes, statement)                                     \
    static OPERATION(name##_register) {                                            \
        uint32_t address = R(n) + R(m);                                            \
        if (!may_access(m, o, address, bytes)) return;                             \
        uint8_t *p = writable(m, o, address, bytes);                               \
        if (!p) return;                                                            \
        statement;                                                                 \
        NEXT;                                                                      \
    }

STORE_REGISTER(str, 4, store_word(p, R(d)))
STORE_REGISTER(strh, 2, store_half(p, R(d)))
STORE_REGISTER(strb, 1, *p = (uint8_t)R(d))

/* --- registers that a program can only move ----------------------------------------------------------------------- */

static OPERATION(mov_pc) { m->r[PC] = R(m) & ~1u; }
static OPERATION(add_pc) { m->r[PC] = (R(m) + o->immediate) & ~1u; }

/* An operand may be PC, which reads as the instruction + 4. */
static int form_operand(const instruction_t *i, operation_t *o, run_fn *immediate) {
    o->immediate = i->address + 4;
    if (o->m == PC) o->run = immediate;
    return 0;
}

static int form_mov(const instruction_t *i, operation_t *o) { return form_operand(i, o, mov_immediate); }

static int form_add(const instruction_t *i, operation_t *o) {
    o->n = o->d;
    return form_operand(i, o, add_immediate);
}

static int form_mov_pc(const instruction_t *i, operation_t *o) {
    (void)i;
    return o->m == PC ? UNPREDICTABLE : 0;
}

static int form_add_pc(const instruction_t *i, operation_t *o) {
    o->immediate = i->address + 4;
    return o->m == PC ? UNPREDICTABLE : 0;
}

static int form_cmp(const instruction_t *i, operation_t *o) {
    (void)i;
    return (o->n < 8 && o->m < 8) || o->n == PC || o->m == PC ? UNPREDICTABLE : 0;
}

static int form_same(const instruction_t *i, operation_t *o) { /* destination and first operand */
    (void)i;
    o->n = o->d;
    return 0;
}

static int form_negate(const instruction_t *i, operation_t *o) { /* 0 - n */
    (void)i;
    o->immediate = 0;
    return 0;
}

static int form_move(const instruction_t *i, operation_t *o) { /* LSLS by 0 */
    (void)o;
    return i->in_it ? UNPREDICTABLE : 0;
}

static int form_stack(const instruction_t *i, operation_t *o) { /* relative to SP */
    (void)i;
    o->n = SP;
    return 0;
}

static int form_stack_move(const instruction_t *i, operation_t *o) {
    (void)i;
    o->n = o->d = SP;
    return 0;
}

/* --- several registers -------------------------------------------------------------------------------------------- */

static int form_push(const instruction_t *i, operation_t *o) {
    o->immediate = bits(i->code, 7, 0) | bits(i->code, 8, 8) << LR;
    o->n = SP;
    o->kind = o->width = 1;
    return form_list(i, o);
}

static int form_pop(const instruction_t *i, operation_t *o) {
    o->immediate = bits(i->code, 7, 0) | bits(i->code, 8, 8) << PC;
    o->n = SP;
    o->kind = 1;
    return form_list(i, o);
}

static int form_stm(const instruction_t *i, operation_t *o) {
    o->kind = 1;
    return form_list(i, o);
}

static int form_ldm(const instruction_t *i, operation_t *o) {
    o->kind = !(o->immediate >> o->n & 1);
    return form_list(i, o);
}

const encoding_t armv6m[] = {
    {"00000 00000 mmm ddd", RUN(movs_register), form_move},
    {"00000 sssss mmm ddd", RUN(lsls_immediate), NULL, lsl_immediate},
    {"00001 sssss mmm ddd", RUN(lsrs_immediate), form_shift, lsr_immediate},
    {"00010 sssss mmm ddd", RUN(asrs_immediate), form_shift, asr_immediate},
    {"0001100 mmm nnn ddd", RUN(adds_register), NULL, add_register},
    {"0001101 mmm nnn ddd", RUN(subs_register), NULL, sub_register},
    {"0001110 iii nnn ddd", RUN(adds_immediate), NULL, add_immediate},
    {"0001111 iii nnn ddd", RUN(subs_immediate), NULL, sub_immediate},
    {"00100 ddd iiiiiiii", RUN(movs_immediate), NULL, mov_immediate},
    {"00101 nnn iiiiiiii", RUN(cmp_immediate)},
    {"00110 ddd iiiiiiii", RUN(adds_immediate), form_same, add_immediate},
    {"00111 ddd iiiiiiii", RUN(subs_immediate), form_same, sub_immediate},

    {"010000 0000 mmm ddd", RUN(ands_register), form_same, and_register},
    {"010000 0001 mmm ddd", RUN(eors_register), form_same, eor_register},
    {"010000 0010 mmm ddd", RUN(lsls_register), form_same, lsl_register},
    {"010000 0011 mmm ddd", RUN(lsrs_register), form_same, lsr_register},
    {"010000 0100 mmm ddd", RUN(asrs_register), form_same, asr_register},
    {"010000 0101 mmm ddd", RUN(adcs_register), form_same, adc_register},
    {"010000 0110 mmm ddd", RUN(sbcs_register), form_same, sbc_register},
    {"010000 0111 mmm ddd", RUN(rors_register), form_same, ror_register},
    {"010000 1000 mmm nnn", RUN(tst_register)},
    {"010000 1001 nnn ddd", RUN(rsbs_immediate), form_negate, rsb_immediate},
    {"010000 1010 mmm nnn", RUN(cmp_register)},
    {"010000 1011 mmm nnn", RUN(cmn_register)},
    {"010000 1100 mmm ddd", RUN(orrs_register), form_same, orr_register},
    {"010000 1101 mmm ddd", RUN(muls), form_same, mul},
    {"010000 1110 mmm ddd", RUN(bics_register), form_same, bic_register},
    {"010000 1111 mmm ddd", RUN(mvns_register), NULL, mvn_register},

    {"010001 00 1 zzzz 111", RUN(add_pc), form_add_pc, .it = LAST_IN_IT, .ends = 1},
    {"010001 00 x zzzz xxx", RUN(add_register), form_add},
    {"010001 01 y zzzz yyy", RUN(cmp_register), form_cmp},
    {"010001 10 1 zzzz 111", RUN(mov_pc), form_mov_pc, .it = LAST_IN_IT, .ends = 1},
    {"010001 10 x zzzz xxx", RUN(mov_register), form_mov},
    {"010001 11 0 zzzz 000", RUN(bx), form_mov_pc, .it = LAST_IN_IT, .ends = 1},
    {"010001 11 1 zzzz 000", RUN(blx), form_mov_pc, .it = LAST_IN_IT, .ends = 1},

    {"01001 ddd iiiiiiii", RUN(ldr_literal), form_literal, .scale = 2},
    {"0101 000 mmm nnn ddd", RUN(str_register)},
    {"0101 001 mmm nnn ddd", RUN(strh_register)},
    {"0101 010 mmm nnn ddd", RUN(strb_register)},
    {"0101 011 mmm nnn ddd", RUN(ldrsb_register)},
    {"0101 100 mmm nnn ddd", RUN(ldr_register)},
    {"0101 101 mmm nnn ddd", RUN(ldrh_register)},
    {"0101 110 mmm nnn ddd", RUN(ldrb_register)},
    {"0101 111 mmm nnn ddd", RUN(ldrsh_register)},
    {"01100 iiiii nnn ddd", RUN(str_immediate), .scale = 2},
    {"01101 iiiii nnn ddd", RUN(ldr_immediate), .scale = 2},
    {"01110 iiiii nnn ddd", RUN(strb_immediate)},
    {"01111 iiiii nnn ddd", RUN(ldrb_immediate)},
    {"10000 iiiii nnn ddd", RUN(strh_immediate), .scale = 1},
    {"10001 iiiii nnn ddd", RUN(ldrh_immediate), .scale = 1},
    {"10010 ddd iiiiiiii", RUN(str_immediate), form_stack, .scale = 2},
    {"10011 ddd iiiiiiii", RUN(ldr_immediate), form_stack, .scale = 2},
    {"10100 ddd iiiiiiii", RUN(adr), form_literal, .scale = 2},
    {"10101 ddd iiiiiiii", RUN(add_immediate), form_stack, .scale = 2},

    {"1011 0000 0 iiiiiii", RUN(add_immediate), form_stack_move, .scale = 2},
    {"1011 0000 1 iiiiiii", RUN(sub_immediate), form_stack_move, .scale = 2},
    {"1011 0010 00 mmm ddd", RUN(sxth)},
    {"1011 0010 01 mmm ddd", RUN(sxtb)},
    {"1011 0010 10 mmm ddd", RUN(uxth)},
    {"1011 0010 11 mmm ddd", RUN(uxtb)},
    {"1011 0100 --------", RUN(stm), form_push},
    {"1011 0101 --------", RUN(stm), form_push},
    {"1011 1100 --------", RUN(ldm), form_pop},
    {"1011 1101 --------", RUN(ldm_pc), form_pop, .it = LAST_IN_IT, .ends = 1},
    {"1011 0110 011 k 0010", RUN(cps), form_cps, .it = NOT_IN_IT},
    {"1011 1010 00 mmm ddd", RUN(rev)},
    {"1011 1010 01 mmm ddd", RUN(rev16)},
    {"1011 1010 11 mmm ddd", RUN(revsh)},
    {"1011 1110 iiiiiiii", RUN(bkpt), .it = UNCONDITIONAL},
    {"1011 1111 0010 0000", RUN(wait_for_event)},
    {"1011 1111 0011 0000", RUN(wait_for_event)},
    {"1011 1111 ---- 0000", RUN(nop)}, /* NOP, YIELD, SEV; hints that mean nothing yet */

    {"11000 nnn iiiiiiii", RUN(stm), form_stm},
    {"11001 nnn iiiiiiii", RUN(ldm), form_ldm},

    {"1101 1110 iiiiiiii", RUN(udf)},
    {"1101 1111 iiiiiiii", RUN(svc)},
    {"1101 kkkk iiiiiiii", RUN(b), form_branch_if, .it = NOT_IN_IT, .ends = 1, .scale = 1},
    {"11100 iiiiiiiiiii", RUN(b), form_branch, .it = LAST_IN_IT, .ends = 1, .scale = 1},

    {"11110 - ---------- 11 - 1 - -----------", RUN(bl), form_branch, .it = LAST_IN_IT, .ends = 1},
    {"11110011100 0 nnnn 10 0 0 1000 iiiiiiii", RUN(msr), form_msr},
    {"11110011111 0 1111 10 0 0 dddd iiiiiiii", RUN(mrs), form_mrs},
    {"11110011101 1 1111 10 0 0 1111 0100 ----", RUN(nop)}, /* DSB */
    {"11110011101 1 1111 10 0 0 1111 0101 ----", RUN(nop)}, /* DMB */
    {"11110011101 1 1111 10 0 0 1111 0110 ----", RUN(nop)}, /* ISB */
    {"11110111111 1 ---- 1 010 ---- ---- ----", RUN(udf)},
    {.pattern = ""},
};
