/* Helium: loads and stores.
 *
 * Elements are aligned, on every core. Lanes that are not active are 0 after a load, and not stored. Source: Armv8-M
 * Architecture Reference Manual (DDI 0553), C2. */
#include "memory.h"
#include "vector.h"

static inline int aligned(machine_t *m, const operation_t *o, uint32_t address, uint32_t size) {
    if (!UNLIKELY(address & (size - 1))) return 1;
    access_fault(m, o, address, size, MISALIGNED);
    return 0;
}

static inline const uint8_t *load_from(machine_t *m, const operation_t *o, uint32_t address, uint32_t size) {
    return aligned(m, o, address, size) ? readable(m, o, address, size) : NULL;
}

static inline uint8_t *store_to(machine_t *m, const operation_t *o, uint32_t address, uint32_t size) {
    return aligned(m, o, address, size) ? writable(m, o, address, size) : NULL;
}

/* All elements at once, or NULL when they must be looked at one by one: for a watched buffer, or for a fault. */
static inline const uint8_t *load_all(const machine_t *m, uint32_t address, uint32_t size, uint32_t element) {
    if (address & (element - 1) || address - m->watch_start < m->data_watch_size) return NULL;
    const uint8_t *p = within(&m->ram, address, size);
    if (!p) p = within(&m->flash, address, size);
    return p ? p : within(&m->stack, address, size);
}

#define LOAD_u8(p) (p)[0]
#define LOAD_u16(p) ((p)[0] | (uint32_t)(p)[1] << 8)
#define LOAD_u32(p) load_word(p)
#define LOAD_s8(p) (int8_t)(p)[0]
#define LOAD_s16(p) (int16_t)load_half(p)

#define BYTES(type) ((uint32_t)sizeof((vector_t *)0)->type[0])

/* Elements of a type in memory to lanes of another. The immediate is added to the base before, or (kind 2) after; kind:
 * the base is written back. */
#define LOAD(type, lane)                                                           \
    static OPERATION(vldr_##type##_##lane) {                                       \
        uint32_t base = R(n), address = o->kind == 2 ? base : base + o->immediate, mask = active(m); \
        const uint8_t *p = load_all(m, address, LANES(lane) * BYTES(type), BYTES(type)); \
        vector_t r;                                                                \
        if (mask == ALL && p) {                                                    \
            for (int i = 0; i < LANES(lane); i++) r.lane[i] = (TYPE_##lane)LOAD_##type(p + i * BYTES(type)); \
        } else {                                                                   \
            for (int i = 0; i < LANES(lane); i++, address += BYTES(type)) {        \
                r.lane[i] = 0;                                                     \
                if (!(mask >> i * LANE_BYTES(lane) & 1)) continue;                 \
                p = load_from(m, o, address, BYTES(type));                         \
                if (!p) return;                                                    \
                r.lane[i] = (TYPE_##lane)LOAD_##type(p);                           \
            }                                                                      \
        }                                                                          \
        if (o->kind) R(n) = base + o->immediate;                                   \
        set_vector(m, o->d, &r);                                                   \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

LOAD(u8, u8)
LOAD(u8, u16)
LOAD(s8, u16)
LOAD(u8, u32)
LOAD(s8, u32)
LOAD(u16, u16)
LOAD(u16, u32)
LOAD(s16, u32)
LOAD(u32, u32)

static inline void store_element(uint8_t *p, uint32_t value, uint32_t size) {
    if (size == 1) *p = (uint8_t)value;
    else if (size == 2) store_half(p, value);
    else store_word(p, value);
}

#define STORE(type, lane)                                                          \
    static OPERATION(vstr_##type##_##lane) {                                       \
        uint32_t base = R(n), address = o->kind == 2 ? base : base + o->immediate, mask = active(m); \
        vector_t x = get_vector(m, o->d);                                          \
        for (int i = 0; i < LANES(lane); i++, address += BYTES(type)) {            \
            if (!(mask >> i * LANE_BYTES(lane) & 1)) continue;                     \
            uint8_t *p = store_to(m, o, address, BYTES(type));                     \
            if (!p) return;                                                        \
            store_element(p, x.lane[i], BYTES(type));                              \
        }                                                                          \
        if (o->kind) R(n) = base + o->immediate;                                   \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

STORE(u8, u8)
STORE(u8, u16)
STORE(u8, u32)
STORE(u16, u16)
STORE(u16, u32)
STORE(u32, u32)

/* --- to and from addresses in a vector ---------------------------------------------------------------------------- */

/* At the base and the offsets in m, shifted by ``amount``. */
#define GATHER(type, lane)                                                         \
    static OPERATION(vldr_offsets_##type##_##lane) {                               \
        vector_t offsets = get_vector(m, o->m), r;                                 \
        uint32_t mask = active(m);                                                 \
        for (int i = 0; i < LANES(lane); i++) {                                    \
            r.lane[i] = 0;                                                         \
            if (!(mask >> i * LANE_BYTES(lane) & 1)) continue;                     \
            const uint8_t *p = load_from(m, o, R(n) + ((uint32_t)offsets.lane[i] << o->amount), BYTES(type)); \
            if (!p) return;                                                        \
            r.lane[i] = (TYPE_##lane)LOAD_##type(p);                               \
        }                                                                          \
        set_vector(m, o->d, &r);                                                   \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

GATHER(u8, u8)
GATHER(u8, u16)
GATHER(s8, u16)
GATHER(u8, u32)
GATHER(s8, u32)
GATHER(u16, u16)
GATHER(u16, u32)
GATHER(s16, u32)
GATHER(u32, u32)

#define SCATTER(type, lane)                                                        \
    static OPERATION(vstr_offsets_##type##_##lane) {                               \
        vector_t offsets = get_vector(m, o->m), x = get_vector(m, o->d);           \
        uint32_t mask = active(m);                                                 \
        for (int i = 0; i < LANES(lane); i++) {                                    \
            if (!(mask >> i * LANE_BYTES(lane) & 1)) continue;                     \
            uint8_t *p = store_to(m, o, R(n) + ((uint32_t)offsets.lane[i] << o->amount), BYTES(type)); \
            if (!p) return;                                                        \
            store_element(p, x.lane[i], BYTES(type));                              \
        }                                                                          \
        advance(m);                                                                \
        NEXT;                                                                      \
    }

SCATTER(u8, u8)
SCATTER(u8, u16)
SCATTER(u8, u32)
SCATTER(u16, u16)
SCATTER(u16, u32)
SCATTER(u32, u32)

/* Words at addresses that the vector n holds, and the immediate; kind: the addresses are written back. If a is a
 * register, offsets from it. width: doublewords, with addresses in every second lane. */
static inline uint32_t word_address(const machine_t *m, const operation_t *o, const vector_t *v, int i) {
    int lane = o->width ? i & 2 : i;
    uint32_t start = o->a == PC ? v->u32[lane] + o->immediate : R(a) + (v->u32[lane] << o->amount);
    return start + (o->width ? 4u * (i & 1) : 0);
}

static void write_back(machine_t *m, const operation_t *o, vector_t *v) {
    if (!o->kind) return;
    for (int i = 0; i < 4; i += o->width ? 2 : 1) v->u32[i] += o->immediate;
    set_vector(m, o->n, v);
}

static OPERATION(vldr_words) {
    vector_t addresses = get_vector(m, o->n), r;
    uint32_t mask = active(m);
    for (int i = 0; i < 4; i++) {
        r.u32[i] = 0;
        if (!(mask >> 4 * i & 1)) continue;
        const uint8_t *p = load_from(m, o, word_address(m, o, &addresses, i), 4);
        if (!p) return;
        r.u32[i] = load_word(p);
    }
    write_back(m, o, &addresses);
    set_vector(m, o->d, &r);
    advance(m);
    NEXT;
}

static OPERATION(vstr_words) {
    vector_t addresses = get_vector(m, o->n), x = get_vector(m, o->d);
    uint32_t mask = active(m);
    for (int i = 0; i < 4; i++) {
        if (!(mask >> 4 * i & 1)) continue;
        uint8_t *p = store_to(m, o, word_address(m, o, &addresses, i), 4);
        if (!p) return;
        store_word(p, x.u32[i]);
    }
    write_back(m, o, &addresses);
    advance(m);
    NEXT;
}

/* --- structures of 2 or 4 elements, taken apart into as many vectors ---------------------------------------------- */

/* Each instruction moves four words, so that two or four of them move all. amount: the number of vectors, width: bytes
 * of an element, kind: the base is written back. */
static const uint8_t words_of_2[2][4] = {{0, 1, 6, 7}, {2, 3, 4, 5}};
static const uint8_t words_of_4[4][4] = {{0, 1, 10, 11}, {2, 3, 12, 13}, {4, 5, 14, 15}, {6, 7, 8, 9}};

static inline const uint8_t *words_moved(const operation_t *o) {
    return o->amount == 2 ? words_of_2[o->a] : words_of_4[o->a];
}

static OPERATION(vld_structures) {
    uint32_t base = R(n);
    for (int i = 0; i < 4; i++) {
        uint32_t word = words_moved(o)[i];
        if (!aligned(m, o, base, o->width)) return;
        const uint8_t *p = readable(m, o, base + 4 * word, 4);
        if (!p) return;
        for (uint32_t byte = 0; byte < 4; byte++) {
            uint32_t element = (4 * word + byte) / o->width, vector = o->d + element % o->amount;
            vector_t v = get_vector(m, (int)vector);
            v.u8[element / o->amount * o->width + byte % o->width] = p[byte];
            set_vector(m, (int)vector, &v);
        }
    }
    if (o->kind) R(n) = base + 16u * o->amount;
    NEXT;
}

static OPERATION(vst_structures) {
    uint32_t base = R(n);
    for (int i = 0; i < 4; i++) {
        uint32_t word = words_moved(o)[i];
        if (!aligned(m, o, base, o->width)) return;
        uint8_t *p = writable(m, o, base + 4 * word, 4);
        if (!p) return;
        for (uint32_t byte = 0; byte < 4; byte++) {
            uint32_t element = (4 * word + byte) / o->width, vector = o->d + element % o->amount;
            vector_t v = get_vector(m, (int)vector);
            p[byte] = v.u8[element / o->amount * o->width + byte % o->width];
        }
    }
    if (o->kind) R(n) = base + 16u * o->amount;
    NEXT;
}

/* --- forms -------------------------------------------------------------------------------------------------------- */

/* Bits 24: before, 23: add, 21: write back; scaled by the size of an element. */
static int form_contiguous(const instruction_t *i, operation_t *o, int scale) {
    int before = bits(i->code, 24, 24) != 0, write_back = bits(i->code, 21, 21) != 0;
    if (!before && !write_back) return OTHER_PATTERN;
    o->immediate = bits(i->code, 6, 0) << scale;
    if (!bits(i->code, 23, 23)) o->immediate = -o->immediate;
    o->kind = (uint8_t)(!before ? 2 : write_back);
    return 0;
}

static int form_bytes(const instruction_t *i, operation_t *o) { return form_contiguous(i, o, 0); }
static int form_halves(const instruction_t *i, operation_t *o) { return form_contiguous(i, o, 1); }
static int form_words(const instruction_t *i, operation_t *o) { return form_contiguous(i, o, 2); }

static int form_offset_bytes(const instruction_t *i, operation_t *o) {
    return bits(i->code, 20, 20) && o->d == o->m ? UNPREDICTABLE : 0;
}

static int form_offset_halves(const instruction_t *i, operation_t *o) {
    o->amount = (uint8_t)bits(i->code, 0, 0);
    return form_offset_bytes(i, o);
}

static int form_offset_words(const instruction_t *i, operation_t *o) {
    o->amount = bits(i->code, 0, 0) ? 2 : 0;
    return form_offset_bytes(i, o);
}

static int form_doublewords(const instruction_t *i, operation_t *o) {
    o->width = 1;
    o->amount = bits(i->code, 0, 0) ? 3 : 0;
    return bits(i->code, 20, 20) && o->d == o->n ? UNPREDICTABLE : 0;
}

static int form_addresses(const instruction_t *i, operation_t *o) { /* bits 23: add, 21: write back, 8: doublewords */
    o->width = (uint8_t)bits(i->code, 8, 8);
    o->immediate = bits(i->code, 6, 0) << (2 + o->width);
    if (!bits(i->code, 23, 23)) o->immediate = -o->immediate;
    o->kind = (uint8_t)bits(i->code, 21, 21);
    o->a = PC; /* none */
    return bits(i->code, 20, 20) && o->d == o->n ? UNPREDICTABLE : 0;
}

static int form_structures(const instruction_t *i, operation_t *o) {
    o->width = (uint8_t)(1 << bits(i->code, 8, 7));
    o->amount = bits(i->code, 0, 0) ? 4 : 2;
    o->a = (uint8_t)bits(i->code, o->amount == 4 ? 6 : 5, 5);
    o->kind = (uint8_t)bits(i->code, 21, 21);
    return o->width > 4 || o->d + o->amount > 8 ? UNDEFINED : 0;
}

/* Any general register as base, for elements as wide as lanes; r0 to r7 where elements are widened or narrowed. */
#define WHOLE(load, behind, name, form) \
    {"1110 110- -0-" load "NNNN ddd1 111" behind "--- ----", RUN(name), form, .moves_base = 1}
#define PART(sign, load, half, behind, name, form)                                 \
    {"111" sign "110- -0-" load half "nnn ddd0 111" behind "--- ----", RUN(name), form}

const encoding_t helium_memory[] = {
    WHOLE("1", "0 0", vldr_u8_u8, form_bytes),
    WHOLE("1", "0 1", vldr_u16_u16, form_halves),
    WHOLE("1", "1 0", vldr_u32_u32, form_words),
    WHOLE("0", "0 0", vstr_u8_u8, form_bytes),
    WHOLE("0", "0 1", vstr_u16_u16, form_halves),
    WHOLE("0", "1 0", vstr_u32_u32, form_words),
    PART("1", "1", "0", "0 1", vldr_u8_u16, form_bytes),
    PART("0", "1", "0", "0 1", vldr_s8_u16, form_bytes),
    PART("1", "1", "0", "1 0", vldr_u8_u32, form_bytes),
    PART("0", "1", "0", "1 0", vldr_s8_u32, form_bytes),
    PART("1", "1", "1", "1 0", vldr_u16_u32, form_halves),
    PART("0", "1", "1", "1 0", vldr_s16_u32, form_halves),
    PART("0", "0", "0", "0 1", vstr_u8_u16, form_bytes),
    PART("0", "0", "0", "1 0", vstr_u8_u32, form_bytes),
    PART("0", "0", "1", "1 0", vstr_u16_u32, form_halves),

    {"1111 1100 1001 NNNN ddd0 1110 0000 mmm0", RUN(vldr_offsets_u8_u8), form_offset_bytes},
    {"1111 1100 1001 NNNN ddd0 1110 1000 mmm0", RUN(vldr_offsets_u8_u16), form_offset_bytes},
    {"1110 1100 1001 NNNN ddd0 1110 1000 mmm0", RUN(vldr_offsets_s8_u16), form_offset_bytes},
    {"1111 1100 1001 NNNN ddd0 1111 0000 mmm0", RUN(vldr_offsets_u8_u32), form_offset_bytes},
    {"1110 1100 1001 NNNN ddd0 1111 0000 mmm0", RUN(vldr_offsets_s8_u32), form_offset_bytes},
    {"1111 1100 1001 NNNN ddd0 1110 1001 mmm-", RUN(vldr_offsets_u16_u16), form_offset_halves},
    {"1111 1100 1001 NNNN ddd0 1111 0001 mmm-", RUN(vldr_offsets_u16_u32), form_offset_halves},
    {"1110 1100 1001 NNNN ddd0 1111 0001 mmm-", RUN(vldr_offsets_s16_u32), form_offset_halves},
    {"1111 1100 1001 NNNN ddd0 1111 0100 mmm-", RUN(vldr_offsets_u32_u32), form_offset_words},
    {"1111 1100 1001 AAAA ddd0 1111 1101 nnn-", RUN(vldr_words), form_doublewords},
    {"1111 1101 -0-1 nnn0 ddd1 111- 0--- ----", RUN(vldr_words), form_addresses},
    {"1110 1100 1000 NNNN ddd0 1110 0000 mmm0", RUN(vstr_offsets_u8_u8), form_offset_bytes},
    {"1110 1100 1000 NNNN ddd0 1110 1000 mmm0", RUN(vstr_offsets_u8_u16), form_offset_bytes},
    {"1110 1100 1000 NNNN ddd0 1111 0000 mmm0", RUN(vstr_offsets_u8_u32), form_offset_bytes},
    {"1110 1100 1000 NNNN ddd0 1110 1001 mmm-", RUN(vstr_offsets_u16_u16), form_offset_halves},
    {"1110 1100 1000 NNNN ddd0 1111 0001 mmm-", RUN(vstr_offsets_u16_u32), form_offset_halves},
    {"1110 1100 1000 NNNN ddd0 1111 0100 mmm-", RUN(vstr_offsets_u32_u32), form_offset_words},
    {"1110 1100 1000 AAAA ddd0 1111 1101 nnn-", RUN(vstr_words), form_doublewords},
    {"1111 1101 -0-0 nnn0 ddd1 111- 0--- ----", RUN(vstr_words), form_addresses},

    {"1111 1100 10-1 NNNN ddd1 111- -0-0 0000", RUN(vld_structures), form_structures},
    {"1111 1100 10-1 NNNN ddd1 111- ---0 0001", RUN(vld_structures), form_structures},
    {"1111 1100 10-0 NNNN ddd1 111- -0-0 0000", RUN(vst_structures), form_structures},
    {"1111 1100 10-0 NNNN ddd1 111- ---0 0001", RUN(vst_structures), form_structures},
    {.pattern = ""},
};
