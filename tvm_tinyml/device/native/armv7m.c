/* What Armv7-M adds to Armv6-M: the wide encodings of data processing, loads and stores, division, bit fields.
 *
 * Source: Armv7-M Architecture Reference Manual (DDI 0403), A5 and A7. */
#include "decode.h"
#include "exclusive.h"
#include "integer.h"
#include "memory.h"
#include "multiple.h"
#include "special.h"

/* --- single loads and stores -------------------------------------------------------------------------------------- */

/* name##_pre, name##_post, name##_register and, of loads, name##_literal. */
#define ADDRESSES(ACCESS, name, bytes, what)                                       \
    ACCESS(name##_pre, bytes, what, R(n) + o->immediate, R(n) = address)           \
    ACCESS(name##_post, bytes, what, R(n), R(n) = address + o->immediate)          \
    ACCESS(name##_shifted, bytes, what, R(n) + (R(m) << o->amount), (void)0)

#define LOAD(name, bytes, value, where, write_back)                                \
    static OPERATION(name) {                                                       \
        uint32_t address = where;                                                  \
        if (!may_access(m, o, address, bytes)) return;                             \
        const uint8_t *p = readable(m, o, address, bytes);                         \
        if (!p) return;                                                            \
        write_back;                                                                \
        R(d) = value;                                                              \
        NEXT;                                                                      \
    }

#define LOAD_PC(name, bytes, value, where, write_back)                             \
    static OPERATION(name) {                                                       \
        uint32_t address = where;                                                  \
        if (!may_access_words(m, o, address)) return;                              \
        const uint8_t *p = readable(m, o, address, bytes);                         \
        if (!p) return;                                                            \
        write_back;                                                                \
        jump_interworking(m, o, value);                                            \
    }

#define STORE(name, bytes, statement, where, write_back)                           \
    static OPERATION(name) {                                                       \
        uint32_t address = where;                                                  \
        if (!may_access(m, o, address, bytes)) return;                             \
        uint8_t *p = writable(m, o, address, bytes);                               \
        if (!p) return;                                                            \
        statement;                                                                 \
        write_back;                                                                \
        NEXT;                                                                      \
    }

ADDRESSES(LOAD, ldr, 4, load_word(p))
ADDRESSES(LOAD, ldrh, 2, load_half(p))
ADDRESSES(LOAD, ldrb, 1, *p)
ADDRESSES(LOAD, ldrsh, 2, (uint32_t)(int16_t)load_half(p))
ADDRESSES(LOAD, ldrsb, 1, (uint32_t)(int8_t)*p)
LOAD(ldrh_literal, 2, load_half(p), o->immediate, (void)0)
LOAD(ldrb_literal, 1, *p, o->immediate, (void)0)
LOAD(ldrsh_literal, 2, (uint32_t)(int16_t)load_half(p), o->immediate, (void)0)
LOAD(ldrsb_literal, 1, (uint32_t)(int8_t)*p, o->immediate, (void)0)

ADDRESSES(LOAD_PC, ldr_pc, 4, load_word(p))
LOAD_PC(ldr_pc_immediate, 4, load_word(p), R(n) + o->immediate, (void)0)
LOAD_PC(ldr_pc_literal, 4, load_word(p), o->immediate, (void)0)

ADDRESSES(STORE, str, 4, store_word(p, R(d)))
ADDRESSES(STORE, strh, 2, store_half(p, R(d)))
ADDRESSES(STORE, strb, 1, *p = (uint8_t)R(d))

static int form_minus(const instruction_t *i, operation_t *o) {
    (void)i;
    o->immediate = -o->immediate;
    return 0;
}

static int form_index(const instruction_t *i, operation_t *o) { /* bit 9: add */
    if (!bits(i->code, 9, 9)) o->immediate = -o->immediate;
    return o->d == o->n ? UNPREDICTABLE : 0;
}

static int form_index_pc(const instruction_t *i, operation_t *o) {
    o->d = PC;
    return form_index(i, o);
}

/* --- several words ------------------------------------------------------------------------------------------------ */

/* Bits 24: the base lies behind the words, 21: it is written back. */
static int form_multiple(const instruction_t *i, operation_t *o) {
    uint32_t list = bits(i->code, 15, 0);
    o->immediate = list;
    o->kind = (uint8_t)bits(i->code, 21, 21);
    o->width = (uint8_t)bits(i->code, 24, 24);
    int load = bits(i->code, 20, 20) != 0, single = !(list & (list - 1));
    int pc = list >> PC & 1 && (!load || list >> LR & 1);
    return single || pc || list >> SP & 1 || (o->kind && list >> o->n & 1) ? UNPREDICTABLE : form_list(i, o);
}

/* --- two words, exclusive accesses -------------------------------------------------------------------------------- */

/* The address lies ``immediate`` behind the base; ``kind``: before (1) or after (2) the access the base moves there. */
static OPERATION(ldrd) {
    uint32_t base = R(n), address = o->kind == 2 ? base : base + o->immediate;
    if (!may_access_words(m, o, address)) return;
    const uint8_t *p = readable(m, o, address, 4);
    if (!p) return;
    uint32_t first = load_word(p);
    if (!may_access_words(m, o, address + 4)) return;
    p = readable(m, o, address + 4, 4);
    if (!p) return;
    if (o->kind) R(n) = base + o->immediate;
    R(d) = first;
    R(a) = load_word(p);
    NEXT;
}

static OPERATION(ldrd_literal) {
    uint32_t address = o->immediate;
    if (!may_access_words(m, o, address)) return;
    const uint8_t *p = readable(m, o, address, 4);
    if (!p) return;
    R(d) = load_word(p);
    p = readable(m, o, address + 4, 4);
    if (!p) return;
    R(a) = load_word(p);
    NEXT;
}

static OPERATION(strd) {
    uint32_t base = R(n), address = o->kind == 2 ? base : base + o->immediate;
    if (!may_access_words(m, o, address)) return;
    uint8_t *p = writable(m, o, address, 4);
    if (!p) return;
    store_word(p, R(d));
    if (!may_access_words(m, o, address + 4)) return;
    p = writable(m, o, address + 4, 4);
    if (!p) return;
    store_word(p, R(a));
    if (o->kind) R(n) = base + o->immediate;
    NEXT;
}

static int form_dual(const instruction_t *i, operation_t *o) { /* bits P U - W L */
    int before = bits(i->code, 24, 24), write_back = bits(i->code, 21, 21), load = bits(i->code, 20, 20);
    if (!bits(i->code, 23, 23)) o->immediate = -o->immediate;
    o->kind = (uint8_t)(!write_back ? 0 : before ? 1 : 2);
    if ((load && o->d == o->a) || (write_back && (o->n == o->d || o->n == o->a))) return UNPREDICTABLE;
    return 0;
}

static int form_dual_literal(const instruction_t *i, operation_t *o) {
    return o->d == o->a ? UNPREDICTABLE : form_literal(i, o);
}

int may_access_exclusively(machine_t *m, const operation_t *o, uint32_t address) {
    if (!(address & (o->amount - 1u))) return 1;
    access_fault(m, o, address, o->amount, MISALIGNED);
    return 0;
}

OPERATION(ldrex) { /* ``amount`` bytes */
    uint32_t address = R(n) + o->immediate;
    if (!may_access_exclusively(m, o, address)) return;
    const uint8_t *p = readable(m, o, address, o->amount);
    if (!p) return;
    R(d) = o->amount == 4 ? load_word(p) : o->amount == 2 ? load_half(p) : *p;
    m->exclusive = 1;
    m->exclusive_address = address;
    NEXT;
}

OPERATION(strex) { /* d: 0 when it was stored, a: what to store */
    uint32_t address = R(n) + o->immediate;
    if (!may_access_exclusively(m, o, address)) return;
    int stored = m->exclusive && m->exclusive_address == address;
    if (stored) {
        uint8_t *p = writable(m, o, address, o->amount);
        if (!p) return;
        if (o->amount == 4) store_word(p, R(a));
        else if (o->amount == 2) store_half(p, R(a));
        else *p = (uint8_t)R(a);
    }
    m->exclusive = 0;
    R(d) = !stored;
    NEXT;
}

static OPERATION(clrex) {
    m->exclusive = 0;
    NEXT;
}

static int form_strex(const instruction_t *i, operation_t *o) {
    int store = !bits(i->code, 20, 20);
    return store && (o->d == o->n || o->d == o->a) ? UNPREDICTABLE : 0;
}

int form_word(const instruction_t *i, operation_t *o) {
    o->amount = 4;
    return form_strex(i, o);
}

int form_half(const instruction_t *i, operation_t *o) {
    o->amount = 2;
    return form_strex(i, o);
}

int form_byte(const instruction_t *i, operation_t *o) {
    o->amount = 1;
    return form_strex(i, o);
}

/* --- branches ----------------------------------------------------------------------------------------------------- */

static OPERATION(cbz) { m->r[PC] = R(n) == 0 ? o->immediate : o->address + o->size; }
static OPERATION(cbnz) { m->r[PC] = R(n) != 0 ? o->immediate : o->address + o->size; }

static int form_cbz(const instruction_t *i, operation_t *o) {
    o->immediate += i->address + 4;
    return 0;
}

static OPERATION(tbb) {
    const uint8_t *p = readable(m, o, R(n) + R(m), 1);
    if (p) m->r[PC] = o->address + 4 + 2u * *p;
}

static OPERATION(tbh) {
    uint32_t address = R(n) + (R(m) << 1);
    if (!may_access(m, o, address, 2)) return;
    const uint8_t *p = readable(m, o, address, 2);
    if (p) m->r[PC] = o->address + 4 + 2 * load_half(p);
}

static OPERATION(tbb_literal) {
    const uint8_t *p = readable(m, o, o->address + 4 + R(m), 1);
    if (p) m->r[PC] = o->address + 4 + 2u * *p;
}

static OPERATION(tbh_literal) {
    const uint8_t *p = readable(m, o, o->address + 4 + (R(m) << 1), 2);
    if (p) m->r[PC] = o->address + 4 + 2 * load_half(p);
}

static int form_it(const instruction_t *i, operation_t *o) {
    uint32_t condition = bits(i->code, 7, 4), mask = bits(i->code, 3, 0);
    o->kind = (uint8_t)condition;
    return condition == 15 || (condition == 14 && mask & (mask - 1)) ? UNPREDICTABLE : 0;
}

OPERATION(it) { NEXT; }

/* --- data processing ---------------------------------------------------------------------------------------------- */

static OPERATION(movt) {
    R(d) = (uint16_t)R(d) | o->immediate << 16;
    NEXT;
}

static int form_mov_16(const instruction_t *i, operation_t *o) { /* i moves below the four bits of imm4 */
    uint32_t code = i->code;
    o->immediate = bits(code, 19, 16) << 12 | bits(code, 26, 26) << 11 | bits(code, 14, 12) << 8 | bits(code, 7, 0);
    return 0;
}

static int form_adr(const instruction_t *i, operation_t *o) { /* bit 23: subtract */
    uint32_t base = (i->address + 4) & ~3u;
    o->immediate = bits(i->code, 23, 23) ? base - o->immediate : base + o->immediate;
    return 0;
}

static int form_mov_wide(const instruction_t *i, operation_t *o) {
    (void)i;
    return o->d == SP && o->m == SP ? UNPREDICTABLE : 0;
}

/* Sums may go to SP if they come from there, shifted left by 3 at most. */
static int form_sum(const instruction_t *i, operation_t *o) {
    int status = form_shifted(i, o);
    return o->d == SP && (o->n != SP || o->kind != LSL || o->amount > 3) ? UNPREDICTABLE : status;
}

static int form_sum_immediate(const instruction_t *i, operation_t *o) {
    if (o->d == SP && o->n != SP) return UNPREDICTABLE;
    return form_modified_immediate(i, o);
}

static int form_sum_plain(const instruction_t *i, operation_t *o) {
    (void)i;
    return o->d == SP && o->n != SP ? UNPREDICTABLE : 0;
}

static int form_rrx(const instruction_t *i, operation_t *o) {
    (void)i;
    o->kind = RRX;
    o->amount = 1;
    return 0;
}

static OPERATION(bfi) { /* n -> d */
    R(d) = (R(d) & ~o->immediate) | (R(n) << o->amount & o->immediate);
    NEXT;
}

static OPERATION(bfc) {
    R(d) &= ~o->immediate;
    NEXT;
}

static OPERATION(sbfx) {
    R(d) = (uint32_t)((int32_t)(R(n) << (31 - o->amount - o->width)) >> (31 - o->width));
    NEXT;
}

static OPERATION(ubfx) {
    R(d) = R(n) << (31 - o->amount - o->width) >> (31 - o->width);
    NEXT;
}

static int form_bfi(const instruction_t *i, operation_t *o) { /* width: the top bit */
    (void)i;
    if (o->width < o->amount) return UNPREDICTABLE;
    o->immediate = (2u << (o->width - o->amount)) - 1;
    o->immediate <<= o->amount;
    return 0;
}

static int form_bfx(const instruction_t *i, operation_t *o) { /* width: less 1 */
    (void)i;
    return o->amount + o->width > 31 ? UNPREDICTABLE : 0;
}

static OPERATION(ssat) {
    int32_t value = (int32_t)shift(R(n), o->kind, o->amount, 0).value;
    int32_t largest = (int32_t)(UINT32_MAX >> (32 - o->width) >> 1), smallest = -largest - 1;
    int32_t result = value > largest ? largest : value < smallest ? smallest : value;
    if (result != value) m->saturated = 1;
    R(d) = (uint32_t)result;
    NEXT;
}

static OPERATION(usat) {
    int32_t value = (int32_t)shift(R(n), o->kind, o->amount, 0).value;
    int32_t largest = (int32_t)((1u << o->width) - 1);
    int32_t result = value > largest ? largest : value < 0 ? 0 : value;
    if (result != value) m->saturated = 1;
    R(d) = (uint32_t)result;
    NEXT;
}

static int form_usat(const instruction_t *i, operation_t *o) {
    (void)i;
    o->kind = o->kind ? ASR : LSL;
    return o->kind == ASR && !o->amount ? OTHER_PATTERN : 0; /* that is USAT16 */
}

static int form_ssat(const instruction_t *i, operation_t *o) {
    o->width++;
    return form_usat(i, o);
}

static OPERATION(rbit) {
    uint32_t x = R(m);
    x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
    x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
    x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
    x = (x >> 8 & 0x00ff00ff) | (x & 0x00ff00ff) << 8;
    R(d) = x >> 16 | x << 16;
    NEXT;
}

static OPERATION(clz) {
    uint32_t x = R(m), count = 0;
    if (!x) count = 32;
    else
        for (; !(x >> 31); x <<= 1) count++;
    R(d) = count;
    NEXT;
}

static int form_twice(const instruction_t *i, operation_t *o) { /* the operand is named twice */
    (void)i;
    return o->n != o->m ? UNPREDICTABLE : 0;
}

static int form_extend(const instruction_t *i, operation_t *o) {
    (void)i;
    o->amount *= 8;
    return 0;
}

/* --- multiplication, division ------------------------------------------------------------------------------------- */

static OPERATION(mla) {
    R(d) = R(a) + R(n) * R(m);
    NEXT;
}

static OPERATION(mls) {
    R(d) = R(a) - R(n) * R(m);
    NEXT;
}

/* a holds the low word, d the high one. */
static inline void set_long(machine_t *m, const operation_t *o, uint64_t value) {
    R(a) = (uint32_t)value;
    R(d) = (uint32_t)(value >> 32);
}

static inline uint64_t get_long(const machine_t *m, const operation_t *o) { return (uint64_t)R(d) << 32 | R(a); }

static inline uint64_t signed_product(const machine_t *m, const operation_t *o) {
    return (uint64_t)((int64_t)(int32_t)R(n) * (int32_t)R(m));
}

static OPERATION(smull) {
    set_long(m, o, signed_product(m, o));
    NEXT;
}

static OPERATION(smlal) {
    set_long(m, o, get_long(m, o) + signed_product(m, o));
    NEXT;
}

static OPERATION(umull) {
    set_long(m, o, (uint64_t)R(n) * R(m));
    NEXT;
}

static OPERATION(umlal) {
    set_long(m, o, get_long(m, o) + (uint64_t)R(n) * R(m));
    NEXT;
}

int form_long(const instruction_t *i, operation_t *o) {
    (void)i;
    return o->a == o->d ? UNPREDICTABLE : 0;
}

static OPERATION(sdiv) { /* by 0: 0; the one quotient that does not fit wraps around */
    int32_t n = (int32_t)R(n), divisor = (int32_t)R(m);
    R(d) = !divisor ? 0 : divisor == -1 ? 0u - (uint32_t)n : (uint32_t)(n / divisor);
    NEXT;
}

static OPERATION(udiv) {
    R(d) = R(m) ? R(n) / R(m) : 0;
    NEXT;
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

#define DATA_REGISTER(code, s, name, d, n, form_plain, form)                                       \
    {"1110101" code s n "0 000" d "00 00 mmmm", RUN(name##_register), form_plain},                 \
    {"1110101" code s n "0 sss" d "ss kk mmmm", RUN(name##_shifted), form}

#define DATA_IMMEDIATE(code, s, name, d, n, form) \
    {"11110 i 0" code s n "0 iii" d "iiiiiiii", RUN(name##_immediate), form}

#define DATA(code, name)                                                                           \
    DATA_REGISTER(code, "0", name, "dddd", "nnnn", NULL, form_shifted),                            \
    DATA_REGISTER(code, "1", name##s, "dddd", "nnnn", NULL, form_shifted),                         \
    DATA_IMMEDIATE(code, "0", name, "dddd", "nnnn", form_modified_immediate),                      \
    DATA_IMMEDIATE(code, "1", name##s, "dddd", "nnnn", form_modified_immediate)

/* Sums may be of and into SP. */
#define SUM(code, name)                                                                            \
    DATA_REGISTER(code, "0", name, "DDDD", "NNNN", form_sum, form_sum),                            \
    DATA_REGISTER(code, "1", name##s, "DDDD", "NNNN", form_sum, form_sum),                         \
    DATA_IMMEDIATE(code, "0", name, "DDDD", "NNNN", form_sum_immediate),                           \
    DATA_IMMEDIATE(code, "1", name##s, "DDDD", "NNNN", form_sum_immediate)

#define COMPARISON(code, name, n)                                                                  \
    DATA_REGISTER(code, "1", name, "1111", n, NULL, form_shifted),                                 \
    DATA_IMMEDIATE(code, "1", name, "1111", n, form_modified_immediate)

#define SHIFTS(s, suffix)                                                                          \
    {"1110101 0010" s "1111 0 sss dddd ss 00 mmmm", RUN(lsl##suffix##_immediate)},                 \
    {"1110101 0010" s "1111 0 sss dddd ss 01 mmmm", RUN(lsr##suffix##_immediate), form_shift},     \
    {"1110101 0010" s "1111 0 sss dddd ss 10 mmmm", RUN(asr##suffix##_immediate), form_shift},     \
    {"1110101 0010" s "1111 0 000 dddd 00 11 mmmm", RUN(mov##suffix##_shifted), form_rrx},         \
    {"1110101 0010" s "1111 0 sss dddd ss 11 mmmm", RUN(ror##suffix##_immediate)}

#define SHIFTS_BY_REGISTER(code, name)                                                             \
    {"11111010 0" code "0 nnnn 1111 dddd 0000 mmmm", RUN(name##_register)},                        \
    {"11111010 0" code "1 nnnn 1111 dddd 0000 mmmm", RUN(name##s_register)}

/* Loads: code is S, U and size are apart; words may go to SP. */
#define LOADS(sign, size, name, d)                                                                 \
    {"1111100" sign "-" size "1 1111" d "iiiiiiiiiiii", RUN(name##_literal), form_literal},        \
    {"1111100" sign "1" size "1 NNNN" d "iiiiiiiiiiii", RUN(name##_immediate)},                    \
    {"1111100" sign "0" size "1 NNNN" d "1110 iiiiiiii", RUN(name##_immediate)}, /* unprivileged */ \
    ACCESSES("1111100" sign "0" size "1", name, d)

#define STORES(size, name, d)                                                                      \
    {"1111100 0 1" size "0 NNNN" d "iiiiiiiiiiii", RUN(name##_immediate)},                         \
    {"1111100 0 0" size "0 NNNN" d "1110 iiiiiiii", RUN(name##_immediate)},                        \
    ACCESSES("1111100 0 0" size "0", name, d)

#define ACCESSES(code, name, d)                                                                    \
    {code "NNNN" d "1100 iiiiiiii", RUN(name##_immediate), form_minus},                            \
    {code "NNNN" d "11-1 iiiiiiii", RUN(name##_pre), form_index, .moves_base = 1},                                  \
    {code "NNNN" d "10-1 iiiiiiii", RUN(name##_post), form_index, .moves_base = 1},                                 \
    {code "NNNN" d "000000 ss mmmm", RUN(name##_shifted)}

#define LOADS_PC .it = LAST_IN_IT, .ends = 1

const encoding_t armv7m[] = {
    {"1011 0 0 i 1 iiiii nnn", RUN(cbz), form_cbz, .it = NOT_IN_IT, .ends = 1, .scale = 1},
    {"1011 1 0 i 1 iiiii nnn", RUN(cbnz), form_cbz, .it = NOT_IN_IT, .ends = 1, .scale = 1},
    {"1011 0110 011 k 00--", RUN(cps), form_cps, .it = NOT_IN_IT},
    {"1011 1111 ---- ----", RUN(it), form_it, .it = NOT_IN_IT},

    COMPARISON("0000", tst, "nnnn"),
    DATA("0000", and),
    DATA("0001", bic),
    {"1110101 0010 0 1111 0 000 DDDD 00 00 MMMM", RUN(mov_register), form_mov_wide},
    {"1110101 0010 1 1111 0 000 dddd 00 00 mmmm", RUN(movs_register)},
    SHIFTS("0", ),
    SHIFTS("1", s),
    DATA_IMMEDIATE("0010", "0", mov, "dddd", "1111", form_modified_immediate),
    DATA_IMMEDIATE("0010", "1", movs, "dddd", "1111", form_modified_immediate),
    DATA("0010", orr),
    DATA_REGISTER("0011", "0", mvn, "dddd", "1111", NULL, form_shifted),
    DATA_REGISTER("0011", "1", mvns, "dddd", "1111", NULL, form_shifted),
    DATA_IMMEDIATE("0011", "0", mvn, "dddd", "1111", form_modified_immediate),
    DATA_IMMEDIATE("0011", "1", mvns, "dddd", "1111", form_modified_immediate),
    DATA("0011", orn),
    COMPARISON("0100", teq, "nnnn"),
    DATA("0100", eor),
    COMPARISON("1000", cmn, "NNNN"),
    SUM("1000", add),
    DATA("1010", adc),
    DATA("1011", sbc),
    COMPARISON("1101", cmp, "NNNN"),
    SUM("1101", sub),
    DATA("1110", rsb),

    {"11110 i 1 0000 0 1111 0 iii dddd iiiiiiii", RUN(adr), form_adr},
    {"11110 i 1 0101 0 1111 0 iii dddd iiiiiiii", RUN(adr), form_adr},
    {"11110 i 1 0000 0 NNNN 0 iii DDDD iiiiiiii", RUN(add_immediate), form_sum_plain},
    {"11110 i 1 0101 0 NNNN 0 iii DDDD iiiiiiii", RUN(sub_immediate), form_sum_plain},
    {"11110 - 1 0010 0 ---- 0 --- dddd --------", RUN(mov_immediate), form_mov_16},
    {"11110 - 1 0110 0 ---- 0 --- dddd --------", RUN(movt), form_mov_16},
    {"11110 0 1 1 00 k 0 nnnn 0 sss dddd ss 0 wwwww", RUN(ssat), form_ssat},
    {"11110 0 1 1 10 k 0 nnnn 0 sss dddd ss 0 wwwww", RUN(usat), form_usat},
    {"11110 0 1 1 0100 nnnn 0 sss dddd ss 0 wwwww", RUN(sbfx), form_bfx},
    {"11110 0 1 1 0110 1111 0 sss dddd ss 0 wwwww", RUN(bfc), form_bfi},
    {"11110 0 1 1 0110 nnnn 0 sss dddd ss 0 wwwww", RUN(bfi), form_bfi},
    {"11110 0 1 1 1100 nnnn 0 sss dddd ss 0 wwwww", RUN(ubfx), form_bfx},

    SHIFTS_BY_REGISTER("00", lsl),
    SHIFTS_BY_REGISTER("01", lsr),
    SHIFTS_BY_REGISTER("10", asr),
    SHIFTS_BY_REGISTER("11", ror),
    {"11111010 0000 1111 1111 dddd 10 ss mmmm", RUN(sxth), form_extend},
    {"11111010 0001 1111 1111 dddd 10 ss mmmm", RUN(uxth), form_extend},
    {"11111010 0100 1111 1111 dddd 10 ss mmmm", RUN(sxtb), form_extend},
    {"11111010 0101 1111 1111 dddd 10 ss mmmm", RUN(uxtb), form_extend},
    {"11111010 1001 nnnn 1111 dddd 1000 mmmm", RUN(rev), form_twice},
    {"11111010 1001 nnnn 1111 dddd 1001 mmmm", RUN(rev16), form_twice},
    {"11111010 1001 nnnn 1111 dddd 1010 mmmm", RUN(rbit), form_twice},
    {"11111010 1001 nnnn 1111 dddd 1011 mmmm", RUN(revsh), form_twice},
    {"11111010 1011 nnnn 1111 dddd 1000 mmmm", RUN(clz), form_twice},

    {"11111011 0000 nnnn 1111 dddd 0000 mmmm", RUN(mul)},
    {"11111011 0000 nnnn aaaa dddd 0000 mmmm", RUN(mla)},
    {"11111011 0000 nnnn aaaa dddd 0001 mmmm", RUN(mls)},
    {"11111011 1000 nnnn aaaa dddd 0000 mmmm", RUN(smull), form_long},
    {"11111011 1001 nnnn 1111 dddd 1111 mmmm", RUN(sdiv)},
    {"11111011 1010 nnnn aaaa dddd 0000 mmmm", RUN(umull), form_long},
    {"11111011 1011 nnnn 1111 dddd 1111 mmmm", RUN(udiv)},
    {"11111011 1100 nnnn aaaa dddd 0000 mmmm", RUN(smlal), form_long},
    {"11111011 1110 nnnn aaaa dddd 0000 mmmm", RUN(umlal), form_long},

    /* Hints about bytes and halfwords that will be needed. */
    {"1111100 - 1 0 - 1 ---- 1111 ------------", RUN(nop)},
    {"1111100 - - 0 - 1 1111 1111 ------------", RUN(nop)},
    {"1111100 - 0 0 - 1 ---- 1111 1100 --------", RUN(nop)},
    {"1111100 - 0 0 - 1 ---- 1111 000000 -- mmmm", RUN(nop)},
    {"1111100 0 - 10 1 1111 1111 iiiiiiiiiiii", RUN(ldr_pc_literal), form_literal, LOADS_PC},
    {"1111100 0 1 10 1 NNNN 1111 iiiiiiiiiiii", RUN(ldr_pc_immediate), LOADS_PC},
    {"1111100 0 0 10 1 NNNN 1111 1100 iiiiiiii", RUN(ldr_pc_immediate), form_minus, LOADS_PC},
    {"1111100 0 0 10 1 NNNN 1111 11-1 iiiiiiii", RUN(ldr_pc_pre), form_index_pc, LOADS_PC, .moves_base = 1},
    {"1111100 0 0 10 1 NNNN 1111 10-1 iiiiiiii", RUN(ldr_pc_post), form_index_pc, LOADS_PC, .moves_base = 1},
    {"1111100 0 0 10 1 NNNN 1111 000000 ss mmmm", RUN(ldr_pc_shifted), LOADS_PC},
    LOADS("0", "00", ldrb, "dddd"),
    LOADS("0", "01", ldrh, "dddd"),
    LOADS("0", "10", ldr, "DDDD"),
    LOADS("1", "00", ldrsb, "dddd"),
    LOADS("1", "01", ldrsh, "dddd"),
    STORES("00", strb, "dddd"),
    STORES("01", strh, "dddd"),
    STORES("10", str, "DDDD"),

    {"1110100 01 0 - 0 NNNN ----------------", RUN(stm), form_multiple},
    {"1110100 10 0 - 0 NNNN ----------------", RUN(stm), form_multiple},
    {"1110100 01 0 - 1 NNNN 1---------------", RUN(ldm_pc), form_multiple, LOADS_PC},
    {"1110100 10 0 - 1 NNNN 1---------------", RUN(ldm_pc), form_multiple, LOADS_PC},
    {"1110100 01 0 - 1 NNNN 0---------------", RUN(ldm), form_multiple},
    {"1110100 10 0 - 1 NNNN 0---------------", RUN(ldm), form_multiple},

    {"1110100 1 - 1 0 1 1111 dddd aaaa iiiiiiii", RUN(ldrd_literal), form_dual_literal, .scale = 2},
    {"1110100 1 - 1 - 1 NNNN dddd aaaa iiiiiiii", RUN(ldrd), form_dual, .scale = 2},
    {"1110100 0 - 1 1 1 NNNN dddd aaaa iiiiiiii", RUN(ldrd), form_dual, .scale = 2},
    {"1110100 1 - 1 - 0 NNNN dddd aaaa iiiiiiii", RUN(strd), form_dual, .scale = 2},
    {"1110100 0 - 1 1 0 NNNN dddd aaaa iiiiiiii", RUN(strd), form_dual, .scale = 2},
    {"1110100 0010 0 NNNN aaaa dddd iiiiiiii", RUN(strex), form_word, .scale = 2},
    {"1110100 0010 1 NNNN dddd 1111 iiiiiiii", RUN(ldrex), form_word, .scale = 2},
    {"1110100 0110 0 NNNN aaaa 1111 0100 dddd", RUN(strex), form_byte},
    {"1110100 0110 0 NNNN aaaa 1111 0101 dddd", RUN(strex), form_half},
    {"1110100 0110 1 NNNN dddd 1111 0100 1111", RUN(ldrex), form_byte},
    {"1110100 0110 1 NNNN dddd 1111 0101 1111", RUN(ldrex), form_half},
    {"1110100 0110 1 1111 1111 0000 0000 mmmm", RUN(tbb_literal), LOADS_PC},
    {"1110100 0110 1 1111 1111 0000 0001 mmmm", RUN(tbh_literal), LOADS_PC},
    {"1110100 0110 1 nnnn 1111 0000 0000 mmmm", RUN(tbb), LOADS_PC},
    {"1110100 0110 1 nnnn 1111 0000 0001 mmmm", RUN(tbh), LOADS_PC},

    {"111100111011 1111 1000 1111 0010 1111", RUN(clrex)},
    {"11110011100 0 nnnn 10 0 0 --00 iiiiiiii", RUN(msr), form_msr},
    {"11110011101 0 1111 10 0 0 0 000 0000 0010", RUN(wait_for_event)},
    {"11110011101 0 1111 10 0 0 0 000 0000 0011", RUN(wait_for_event)},
    {"11110011101 0 1111 10 0 0 0 000 ---- ----", RUN(nop)},
    {"11110 - kkkk ------ 10 - 0 - -----------", RUN(b), form_branch_if, .it = NOT_IN_IT, .ends = 1},
    {"11110 - ---------- 10 - 1 - -----------", RUN(b), form_branch, .it = LAST_IN_IT, .ends = 1},
    {.pattern = ""},
};
