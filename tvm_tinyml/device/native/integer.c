#include "integer.h"

#include "memory.h"

/* name##_register, name##_shifted, name##_immediate; with s behind the name they set N, Z and, from the shifter, C. */
#define LOGICAL(name, expression)                                                  \
    OPERATION(name##_register) {                                                   \
        uint32_t a = R(n), b = R(m);                                               \
        (void)a;                                                                   \
        R(d) = expression;                                                         \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##s_register) {                                                  \
        uint32_t a = R(n), b = R(m);                                               \
        (void)a;                                                                   \
        set_nz(m, R(d) = expression);                                              \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##_shifted) {                                                    \
        uint32_t a = R(n), b = shift(R(m), o->kind, o->amount, m->carry).value;    \
        (void)a;                                                                   \
        R(d) = expression;                                                         \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##s_shifted) {                                                   \
        shifted_t shifted = shift(R(m), o->kind, o->amount, m->carry);             \
        uint32_t a = R(n), b = shifted.value;                                      \
        (void)a;                                                                   \
        m->carry = shifted.carry;                                                  \
        set_nz(m, R(d) = expression);                                              \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##_immediate) {                                                  \
        uint32_t a = R(n), b = o->immediate;                                       \
        (void)a;                                                                   \
        R(d) = expression;                                                         \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##s_immediate) {                                                 \
        uint32_t a = R(n), b = o->immediate;                                       \
        (void)a;                                                                   \
        if (o->kind) m->carry = b >> 31; /* of an immediate that was rotated */    \
        set_nz(m, R(d) = expression);                                              \
        NEXT;                                                                      \
    }

LOGICAL(and, a & b)
LOGICAL(bic, a & ~b)
LOGICAL(orr, a | b)
LOGICAL(orn, a | ~b)
LOGICAL(eor, a ^ b)
LOGICAL(mov, b)
LOGICAL(mvn, ~b)

/* The same for sums of x, y and a carry, which set all four flags. */
#define ARITHMETIC(name, x, y, carry_in)                                           \
    OPERATION(name##_register) {                                                   \
        uint32_t a = R(n), b = R(m);                                               \
        R(d) = x + y + carry_in;                                                   \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##s_register) {                                                  \
        uint32_t a = R(n), b = R(m);                                               \
        R(d) = add_with_flags(m, x, y, carry_in);                                  \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##_shifted) {                                                    \
        uint32_t a = R(n), b = shift(R(m), o->kind, o->amount, m->carry).value;    \
        R(d) = x + y + carry_in;                                                   \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##s_shifted) {                                                   \
        uint32_t a = R(n), b = shift(R(m), o->kind, o->amount, m->carry).value;    \
        R(d) = add_with_flags(m, x, y, carry_in);                                  \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##_immediate) {                                                  \
        uint32_t a = R(n), b = o->immediate;                                       \
        R(d) = x + y + carry_in;                                                   \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##s_immediate) {                                                 \
        uint32_t a = R(n), b = o->immediate;                                       \
        R(d) = add_with_flags(m, x, y, carry_in);                                  \
        NEXT;                                                                      \
    }

ARITHMETIC(add, a, b, 0)
ARITHMETIC(adc, a, b, m->carry)
ARITHMETIC(sub, a, ~b, 1)
ARITHMETIC(sbc, a, ~b, m->carry)
ARITHMETIC(rsb, ~a, b, 1)

#define TEST(name, expression)                                                     \
    OPERATION(name##_register) {                                                   \
        uint32_t a = R(n), b = R(m);                                               \
        set_nz(m, expression);                                                     \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##_shifted) {                                                    \
        shifted_t shifted = shift(R(m), o->kind, o->amount, m->carry);             \
        uint32_t a = R(n), b = shifted.value;                                      \
        m->carry = shifted.carry;                                                  \
        set_nz(m, expression);                                                     \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##_immediate) {                                                  \
        uint32_t a = R(n), b = o->immediate;                                       \
        if (o->kind) m->carry = b >> 31;                                           \
        set_nz(m, expression);                                                     \
        NEXT;                                                                      \
    }

TEST(tst, a & b)
TEST(teq, a ^ b)

#define COMPARE(name, y, carry_in)                                                 \
    OPERATION(name##_register) {                                                   \
        uint32_t a = R(n), b = R(m);                                               \
        add_with_flags(m, a, y, carry_in);                                         \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##_shifted) {                                                    \
        uint32_t a = R(n), b = shift(R(m), o->kind, o->amount, m->carry).value;    \
        add_with_flags(m, a, y, carry_in);                                         \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##_immediate) {                                                  \
        uint32_t a = R(n), b = o->immediate;                                       \
        add_with_flags(m, a, y, carry_in);                                         \
        NEXT;                                                                      \
    }

COMPARE(cmp, ~b, 1)
COMPARE(cmn, b, 0)

#define SHIFT(name, kind)                                                          \
    OPERATION(name##_immediate) {                                                  \
        R(d) = shift(R(m), kind, o->amount, m->carry).value;                       \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##s_immediate) {                                                 \
        shifted_t shifted = shift(R(m), kind, o->amount, m->carry);                \
        m->carry = shifted.carry;                                                  \
        set_nz(m, R(d) = shifted.value);                                           \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##_register) {                                                   \
        R(d) = shift(R(n), kind, R(m) & 0xff, m->carry).value;                     \
        NEXT;                                                                      \
    }                                                                              \
    OPERATION(name##s_register) {                                                  \
        shifted_t shifted = shift(R(n), kind, R(m) & 0xff, m->carry);              \
        m->carry = shifted.carry;                                                  \
        set_nz(m, R(d) = shifted.value);                                           \
        NEXT;                                                                      \
    }

SHIFT(lsl, LSL)
SHIFT(lsr, LSR)
SHIFT(asr, ASR)
SHIFT(ror, ROR)

OPERATION(mul) {
    R(d) = R(n) * R(m);
    NEXT;
}

OPERATION(muls) {
    set_nz(m, R(d) = R(n) * R(m));
    NEXT;
}

/* The wide forms rotate first, by ``amount`` bits. */
static inline uint32_t rotated(const machine_t *m, const operation_t *o) {
    return R(m) >> o->amount | R(m) << (-o->amount & 31);
}

OPERATION(sxtb) {
    R(d) = (uint32_t)(int8_t)rotated(m, o);
    NEXT;
}

OPERATION(sxth) {
    R(d) = (uint32_t)(int16_t)rotated(m, o);
    NEXT;
}

OPERATION(uxtb) {
    R(d) = (uint8_t)rotated(m, o);
    NEXT;
}

OPERATION(uxth) {
    R(d) = (uint16_t)rotated(m, o);
    NEXT;
}

OPERATION(rev) {
    uint32_t x = R(m);
    R(d) = x >> 24 | (x >> 8 & 0xff00) | (x << 8 & 0xff0000) | x << 24;
    NEXT;
}

OPERATION(rev16) {
    uint32_t x = R(m);
    R(d) = (x >> 8 & 0x00ff00ff) | (x << 8 & 0xff00ff00);
    NEXT;
}

OPERATION(revsh) {
    uint32_t x = R(m);
    R(d) = (uint32_t)(int16_t)(uint16_t)((x >> 8 & 0xff) | x << 8);
    NEXT;
}

#define LOAD(name, bytes, value)                                                   \
    OPERATION(name##_immediate) {                                                  \
        uint32_t address = R(n) + o->immediate;                                    \
        if (!may_access(m, o, address, bytes)) return;                             \
        const uint8_t *p = readable(m, o, address, bytes);                         \
        if (!p) return;                                                            \
        R(d) = value;                                                              \
        NEXT;                                                                      \
    }

LOAD(ldr, 4, load_word(p))
LOAD(ldrh, 2, load_half(p))
LOAD(ldrb, 1, *p)
LOAD(ldrsh, 2, (uint32_t)(int16_t)load_half(p))
LOAD(ldrsb, 1, (uint32_t)(int8_t)*p)

#define STORE(name, bytes, statement)                                              \
    OPERATION(name##_immediate) {                                                  \
        uint32_t address = R(n) + o->immediate;                                    \
        if (!may_access(m, o, address, bytes)) return;                             \
        uint8_t *p = writable(m, o, address, bytes);                               \
        if (!p) return;                                                            \
        statement;                                                                 \
        NEXT;                                                                      \
    }

STORE(str, 4, store_word(p, R(d)))
STORE(strh, 2, store_half(p, R(d)))
STORE(strb, 1, *p = (uint8_t)R(d))

OPERATION(ldr_literal) {
    if (!may_access(m, o, o->immediate, 4)) return;
    const uint8_t *p = readable(m, o, o->immediate, 4);
    if (!p) return;
    R(d) = load_word(p);
    NEXT;
}

OPERATION(adr) {
    R(d) = o->immediate;
    NEXT;
}

void jump_interworking(machine_t *m, const operation_t *o, uint32_t target) {
    m->r[PC] = target & ~1u;
    if (!(target & 1)) {
        fault(m, o, ARM_STATE);
        m->fault_address = target;
    }
}

OPERATION(b) { m->r[PC] = o->immediate; }

OPERATION(bl) {
    m->r[LR] = (o->address + o->size) | 1;
    m->r[PC] = o->immediate;
}

OPERATION(bx) { jump_interworking(m, o, R(m)); }

OPERATION(blx) {
    uint32_t target = R(m);
    m->r[LR] = (o->address + o->size) | 1;
    jump_interworking(m, o, target);
}

OPERATION(nop) { NEXT; }
OPERATION(udf) { fault(m, o, UNDEFINED); }
OPERATION(bkpt) { fault(m, o, BREAKPOINT); }
OPERATION(svc) { fault(m, o, SERVICE); }
OPERATION(wait_for_event) { fault(m, o, WAITING); }

#define CONDITION(name, test)                                                      \
    static OPERATION(branch_if_##name) { m->r[PC] = test ? o->immediate : o->address + o->size; } \
    static OPERATION(skip_unless_##name) {                                         \
        if (!(test)) o++;                                                          \
        NEXT;                                                                      \
    }

CONDITION(eq, (m->zero == 0))
CONDITION(ne, (m->zero != 0))
CONDITION(cs, (m->carry))
CONDITION(cc, (!m->carry))
CONDITION(mi, (m->negative >> 31))
CONDITION(pl, (!(m->negative >> 31)))
CONDITION(vs, (m->overflow))
CONDITION(vc, (!m->overflow))
CONDITION(hi, (m->carry && m->zero))
CONDITION(ls, (!m->carry || !m->zero))
CONDITION(ge, (m->negative >> 31 == m->overflow))
CONDITION(lt, (m->negative >> 31 != m->overflow))
CONDITION(gt, (m->zero && m->negative >> 31 == m->overflow))
CONDITION(le, (!m->zero || m->negative >> 31 != m->overflow))
CONDITION(al, (1))

#define BY_CONDITION(name)                                                                                    \
    run_fn *const name[15] = {name##_eq, name##_ne, name##_cs, name##_cc, name##_mi, name##_pl, name##_vs, name##_vc, \
                              name##_hi, name##_ls, name##_ge, name##_lt, name##_gt, name##_le, name##_al}

BY_CONDITION(branch_if);
BY_CONDITION(skip_unless);
