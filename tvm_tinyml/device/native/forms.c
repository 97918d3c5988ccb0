/* How fields become operands, for forms that several tables use. */
#include "decode.h"
#include "integer.h"

/* An offset of as many bits as the encoding has, relative to the instruction + 4. */
int form_branch(const instruction_t *i, operation_t *o) {
    uint32_t code = i->code;
    if (o->size == 2) {
        o->immediate = sign_extend(o->immediate, code >> 12 == 0xd ? 9 : 12);
    } else if (!bits(code, 12, 12)) { /* conditional: S J2 J1 imm6 imm11 0 */
        o->immediate = sign_extend(
            bits(code, 26, 26) << 20 | bits(code, 11, 11) << 19 | bits(code, 13, 13) << 18 | bits(code, 21, 16) << 12 |
                bits(code, 10, 0) << 1, 21);
    } else { /* S I1 I2 imm10 imm11 0, where I1 is 1 if J1 equals S */
        uint32_t s = bits(code, 26, 26), i1 = bits(code, 13, 13) ^ s ^ 1, i2 = bits(code, 11, 11) ^ s ^ 1;
        o->immediate = sign_extend(
            s << 24 | i1 << 23 | i2 << 22 | bits(code, 25, 16) << 12 | bits(code, 10, 0) << 1, 25);
    }
    o->immediate += i->address + 4;
    return 0;
}

int form_branch_if(const instruction_t *i, operation_t *o) {
    if (o->kind > 13) return OTHER_PATTERN;
    o->run = branch_if[o->kind];
    return form_branch(i, o);
}

/* Relative to the word that the instruction + 4 lies in; bit 23 of a wide one says which way. */
int form_literal(const instruction_t *i, operation_t *o) {
    uint32_t base = (i->address + 4) & ~3u;
    o->immediate = o->size == 4 && !bits(i->code, 23, 23) ? base - o->immediate : base + o->immediate;
    return 0;
}

/* Right shifts by 0 mean 32. */
int form_shift(const instruction_t *i, operation_t *o) {
    (void)i;
    if (!o->amount) o->amount = 32;
    return 0;
}

int form_shifted(const instruction_t *i, operation_t *o) {
    (void)i;
    if (!o->amount && o->kind != LSL) {
        o->amount = o->kind == ROR ? 1 : 32;
        if (o->kind == ROR) o->kind = RRX;
    }
    return 0;
}

/* 12 bits: a byte, a byte repeated, or eight bits rotated; then ``kind`` is 1 and its top bit is the carry. */
int form_modified_immediate(const instruction_t *i, operation_t *o) {
    uint32_t byte = o->immediate & 0xff, how = o->immediate >> 8;
    (void)i;
    if (how > 3) {
        uint32_t rotation = o->immediate >> 7, value = byte | 0x80;
        o->immediate = value >> rotation | value << (32 - rotation);
        o->kind = 1;
        return 0;
    }
    if (how && !byte) return UNPREDICTABLE;
    o->immediate = how == 0 ? byte : how == 1 ? byte * 0x00010001u : how == 2 ? byte * 0x01000100u : byte * 0x01010101u;
    return 0;
}
