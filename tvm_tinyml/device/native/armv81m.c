/* What Armv8.1-M adds to Armv8-M without vectors: low-overhead loops, selects, shifts of 64 bits.
 *
 * Source: Armv8-M Architecture Reference Manual (DDI 0553), C2. */
#include "integer.h"
#include "vector.h"

/* --- loops -------------------------------------------------------------------------------------------------------- */

/* width: log2 of the bytes of a lane, or NO_TAIL */
static OPERATION(dls) {
    m->r[LR] = R(n);
    m->ltpsize = o->width;
    NEXT;
}

static OPERATION(wls) {
    uint32_t count = R(n);
    if (!count) {
        m->r[PC] = o->immediate;
        return;
    }
    m->r[LR] = count;
    m->ltpsize = o->width;
    m->r[PC] = o->address + o->size;
}

static OPERATION(le) {
    if (m->r[LR] <= 1) {
        m->r[PC] = o->address + o->size;
        return;
    }
    m->r[LR]--;
    m->r[PC] = o->immediate;
}

static OPERATION(letp) { /* a round has as many lanes as a vector has of the size of the tail */
    uint32_t lanes = 16u >> m->ltpsize;
    if (m->r[LR] <= lanes) {
        m->ltpsize = NO_TAIL;
        m->r[PC] = o->address + o->size;
        return;
    }
    m->r[LR] -= lanes;
    m->r[PC] = o->immediate;
}

static OPERATION(lctp) {
    m->ltpsize = NO_TAIL;
    NEXT;
}

static int form_plain_loop(const instruction_t *i, operation_t *o) {
    uint32_t distance = bits(i->code, 10, 1) << 2 | bits(i->code, 11, 11) << 1;
    o->width = NO_TAIL;
    o->immediate = i->address + 4 + distance;
    return 0;
}

static int form_tail_loop(const instruction_t *i, operation_t *o) {
    form_plain_loop(i, o);
    o->width = (uint8_t)bits(i->code, 21, 20);
    return 0;
}

static int form_loop_end(const instruction_t *i, operation_t *o) {
    form_plain_loop(i, o);
    o->immediate = 2 * (i->address + 4) - o->immediate; /* backwards */
    return 0;
}

/* --- selects ------------------------------------------------------------------------------------------------------ */

static inline int holds(const machine_t *m, int condition) {
    int result;
    switch (condition >> 1) {
    case 0: result = !m->zero; break;
    case 1: result = (int)m->carry; break;
    case 2: result = (int)(m->negative >> 31); break;
    case 3: result = (int)m->overflow; break;
    case 4: result = m->carry && m->zero; break;
    case 5: result = m->negative >> 31 == m->overflow; break;
    default: result = m->zero && m->negative >> 31 == m->overflow;
    }
    return result != (condition & 1);
}

#define SELECT(name, otherwise)                                                    \
    static OPERATION(name) { /* register 15 is the constant 0 */                   \
        uint32_t a = o->n == PC ? 0 : R(n), b = o->m == PC ? 0 : R(m);             \
        R(d) = holds(m, o->kind) ? a : otherwise;                                  \
        NEXT;                                                                      \
    }

SELECT(csel, b)
SELECT(csinc, b + 1)
SELECT(csinv, ~b)
SELECT(csneg, 0 - b)

static int form_select(const instruction_t *i, operation_t *o) {
    (void)i;
    return o->kind > 13 ? OTHER_PATTERN : o->n == SP || o->m == SP ? UNPREDICTABLE : 0;
}

/* --- shifts of two registers -------------------------------------------------------------------------------------- */

/* d holds the low word (even), a the high one (odd). */
static inline uint64_t get_pair(const machine_t *m, const operation_t *o) { return (uint64_t)R(a) << 32 | R(d); }

static inline void set_pair(machine_t *m, const operation_t *o, uint64_t value) {
    R(d) = (uint32_t)value;
    R(a) = (uint32_t)(value >> 32);
}

static inline int64_t smallest(int width) { return width == 64 ? INT64_MIN : -((int64_t)1 << (width - 1)); }
static inline uint64_t largest(int width) { return width == 64 ? UINT64_MAX : ((uint64_t)1 << width) - 1; }

/* To the left by ``amount``, or to the right by less than 0, which may round; what ``width`` bits cannot hold saturates
 * when asked. */
static int64_t shift_signed(machine_t *m, int64_t x, int amount, int width, int round, int saturate) {
    int64_t low = smallest(width), high = -(low + 1);
    if (amount >= 0) {
        int fits = amount < 64 && x >= low >> (amount > 62 ? 62 : amount) && x <= high >> (amount > 62 ? 62 : amount);
        if (amount >= 64 || (amount == 63 && x)) fits = !x || (amount == 63 && x == -1 && width == 64);
        if (saturate && !fits) {
            m->saturated = 1;
            return x < 0 ? low : high;
        }
        return amount < 64 ? (int64_t)((uint64_t)x << amount) : 0;
    }
    if (amount < -64) amount = -64;
    int64_t result = amount == -64 ? x >> 63 : x >> -amount;
    if (round) result = amount == -64 ? ((x >> 63) + 1) >> 1 : result + (x >> (-amount - 1) & 1);
    if (saturate && (result < low || result > high)) {
        m->saturated = 1;
        return result < 0 ? low : high;
    }
    return result;
}

static uint64_t shift_unsigned(machine_t *m, uint64_t x, int amount, int width, int round, int saturate) {
    uint64_t high = largest(width), result;
    if (amount >= 0) {
        if (saturate && x && (amount >= 64 || x > high >> amount)) {
            m->saturated = 1;
            return high;
        }
        return amount < 64 ? x << amount : 0;
    }
    if (amount < -64) return 0;
    result = amount == -64 ? 0 : x >> -amount;
    if (round) result += x >> (-amount - 1) & 1;
    if (saturate && result > high) {
        m->saturated = 1;
        return high;
    }
    return result;
}

/* By a constant, amount: the form has made shifts to the right less than 0. */
#define PAIR(name, kind, round, saturate)                                          \
    static OPERATION(name) {                                                       \
        TYPE_##kind pair = (TYPE_##kind)get_pair(m, o);                            \
        set_pair(m, o, (uint64_t)shift_##kind(m, pair, (int8_t)o->amount, 64, round, saturate)); \
        NEXT;                                                                      \
    }

#define TYPE_signed int64_t
#define TYPE_unsigned uint64_t

PAIR(asrl, signed, 0, 0)
PAIR(lsll, unsigned, 0, 0)
PAIR(lsrl, unsigned, 0, 0)
PAIR(sqshll, signed, 0, 1)
PAIR(uqshll, unsigned, 0, 1)
PAIR(srshrl, signed, 1, 0)
PAIR(urshrl, unsigned, 1, 0)

/* By the lowest byte of m; width: of what saturates. Shifts to the right go by its negative. */
#define PAIR_BY_REGISTER(name, kind, sign, round, saturate)                        \
    static OPERATION(name##_register) {                                            \
        int by = sign(int8_t)R(m);                                                 \
        set_pair(m, o, (uint64_t)shift_##kind(m, (TYPE_##kind)get_pair(m, o), by, o->width, round, saturate)); \
        NEXT;                                                                      \
    }

PAIR_BY_REGISTER(asrl, signed, -, 0, 0)
PAIR_BY_REGISTER(lsll, unsigned, +, 0, 0)
PAIR_BY_REGISTER(sqrshrl, signed, -, 1, 1)
PAIR_BY_REGISTER(uqrshll, unsigned, +, 1, 1)

#define SINGLE(name, kind, by, round)                                              \
    static OPERATION(name) {                                                       \
        R(d) = (uint32_t)shift_##kind(m, (HALF_##kind)R(d), by, 32, round, 1);     \
        NEXT;                                                                      \
    }

#define HALF_signed int32_t
#define HALF_unsigned uint32_t

SINGLE(sqshl, signed, (int8_t)o->amount, 0)
SINGLE(uqshl, unsigned, (int8_t)o->amount, 0)
SINGLE(srshr, signed, (int8_t)o->amount, 1)
SINGLE(urshr, unsigned, (int8_t)o->amount, 1)
SINGLE(sqrshr, signed, -(int8_t)R(m), 1)
SINGLE(uqrshl, unsigned, +(int8_t)R(m), 1)

static int form_left(const instruction_t *i, operation_t *o) { /* by 1 to 32 */
    (void)i;
    if (!o->amount) o->amount = 32;
    return 0;
}

static int form_right(const instruction_t *i, operation_t *o) {
    form_left(i, o);
    o->amount = (uint8_t)-o->amount;
    return 0;
}

static int make_pair(const instruction_t *i, operation_t *o, form_fn *form) {
    o->d *= 2;
    o->a = (uint8_t)(2 * o->a + 1);
    return o->a >= SP ? OTHER_PATTERN : form(i, o);
}

static int form_pair_left(const instruction_t *i, operation_t *o) { return make_pair(i, o, form_left); }
static int form_pair_right(const instruction_t *i, operation_t *o) { return make_pair(i, o, form_right); }

static int form_pair_register(const instruction_t *i, operation_t *o) { /* bit 7: saturates to 48 bits */
    int status = make_pair(i, o, form_left);
    o->width = bits(i->code, 7, 7) ? 48 : 64;
    return !status && (o->m == o->d || o->m == o->a) ? UNPREDICTABLE : status;
}

static int form_single_register(const instruction_t *i, operation_t *o) {
    (void)i;
    return o->m == o->d ? UNPREDICTABLE : 0;
}

/* --- clearing ----------------------------------------------------------------------------------------------------- */

static OPERATION(clrm) { /* the list's bit 15 means APSR */
    for (uint32_t i = 0; i < 15; i++)
        if (o->immediate >> i & 1) m->r[i] = 0;
    if (o->immediate >> 15 & 1) write_apsr(m, 0, 1, 1);
    NEXT;
}

static int form_clrm(const instruction_t *i, operation_t *o) {
    (void)i;
    return !o->immediate || o->immediate >> SP & 1 ? UNPREDICTABLE : 0;
}

#define LONG(bit16, behind, name, form) {"1110 1010 0101 ddd" bit16 "0sss aaa1 ss" behind "1111", RUN(name), form}

const encoding_t armv81m[] = {
    {"1111 0000 0000 1111 1110 0000 0000 0001", RUN(lctp)},
    {"1111 0000 0100 nnnn 1110 0000 0000 0001", RUN(dls), form_plain_loop, .it = NOT_IN_IT},
    {"1111 0000 0100 nnnn 1100 ---- ---- ---1", RUN(wls), form_plain_loop, .it = NOT_IN_IT, .ends = 1},
    {"1111 0000 0010 1111 1100 ---- ---- ---1", RUN(b), form_loop_end, .it = NOT_IN_IT, .ends = 1},
    {"1111 0000 0000 1111 1100 ---- ---- ---1", RUN(le), form_loop_end, .it = NOT_IN_IT, .ends = 1},

    {"1110 1010 0101 yyyy 1000 dddd kkkk zzzz", RUN(csel), form_select, .it = NOT_IN_IT},
    {"1110 1010 0101 yyyy 1001 dddd kkkk zzzz", RUN(csinc), form_select, .it = NOT_IN_IT},
    {"1110 1010 0101 yyyy 1010 dddd kkkk zzzz", RUN(csinv), form_select, .it = NOT_IN_IT},
    {"1110 1010 0101 yyyy 1011 dddd kkkk zzzz", RUN(csneg), form_select, .it = NOT_IN_IT},

    {"1110 1000 1001 1111 iiiiiiiiiiiiiiii", RUN(clrm), form_clrm},
    {.pattern = ""},
};

/* What of these comes with Helium. */
const encoding_t helium_integer[] = {
    {"1111 0000 0001 1111 1100 ---- ---- ---1", RUN(letp), form_loop_end, .it = NOT_IN_IT, .ends = 1},
    {"1111 0000 00-- nnnn 1110 0000 0000 0001", RUN(dls), form_tail_loop, .it = NOT_IN_IT},
    {"1111 0000 00-- nnnn 1100 ---- ---- ---1", RUN(wls), form_tail_loop, .it = NOT_IN_IT, .ends = 1},

    LONG("0", "10", asrl, form_pair_right),
    LONG("0", "00", lsll, form_pair_left),
    LONG("0", "01", lsrl, form_pair_right),
    LONG("1", "11", sqshll, form_pair_left),
    LONG("1", "10", srshrl, form_pair_right),
    LONG("1", "00", uqshll, form_pair_left),
    LONG("1", "01", urshrl, form_pair_right),
    {"1110 1010 0101 ddd0 mmmm aaa1 0010 1101", RUN(asrl_register), form_pair_register},
    {"1110 1010 0101 ddd0 mmmm aaa1 0000 1101", RUN(lsll_register), form_pair_register},
    {"1110 1010 0101 ddd1 mmmm aaa1 -010 1101", RUN(sqrshrl_register), form_pair_register},
    {"1110 1010 0101 ddd1 mmmm aaa1 -000 1101", RUN(uqrshll_register), form_pair_register},
    {"1110 1010 0101 dddd mmmm 1111 0010 1101", RUN(sqrshr), form_single_register},
    {"1110 1010 0101 dddd mmmm 1111 0000 1101", RUN(uqrshl), form_single_register},
    {"1110 1010 0101 dddd 0sss 1111 ss11 1111", RUN(sqshl), form_left},
    {"1110 1010 0101 dddd 0sss 1111 ss10 1111", RUN(srshr), form_right},
    {"1110 1010 0101 dddd 0sss 1111 ss00 1111", RUN(uqshl), form_left},
    {"1110 1010 0101 dddd 0sss 1111 ss01 1111", RUN(urshr), form_right},
    {.pattern = ""},
};
