/* Vectors of the M-profile vector extension (Helium): their lanes, and which of them an instruction works on. */
#ifndef TINYML_VECTOR_H
#define TINYML_VECTOR_H

#include <string.h>

#include "decode.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "lanes lie in memory as on a little-endian host"
#endif

typedef union {
    uint8_t u8[16];
    uint16_t u16[8];
    uint32_t u32[4];
    uint64_t u64[2];
    int8_t s8[16];
    int16_t s16[8];
    int32_t s32[4];
    int64_t s64[2];
} vector_t;

#define LANES(lane) ((int)(16 / sizeof((vector_t *)0)->lane[0]))
#define LANE_BYTES(lane) ((int)sizeof((vector_t *)0)->lane[0])

enum { ALL = 0xffff, NO_TAIL = 4 }; /* a bit for each byte; LTPSIZE without a tail */

#define QC (1u << 27) /* in FPSCR: something was saturated */

static inline vector_t get_vector(const machine_t *m, int q) {
    vector_t v;
    memcpy(&v, m->s + 4 * q, sizeof v);
    return v;
}

static inline void set_vector(machine_t *m, int q, const vector_t *v) { memcpy(m->s + 4 * q, v, sizeof *v); }

/* The bytes that an instruction works on: as the VPT block says, and in the last round of a loop the tail. */
static inline uint32_t active(const machine_t *m) {
    uint32_t mask = ALL;
    if (UNLIKELY(m->vpr >> 16)) {
        mask = m->vpr & 0xffff;
        if (!(m->vpr & 0x0f0000)) mask |= 0x00ff;
        if (!(m->vpr & 0xf00000)) mask |= 0xff00;
    }
    if (m->ltpsize < NO_TAIL && m->r[LR] < 16u >> m->ltpsize) mask &= (1u << (m->r[LR] << m->ltpsize)) - 1;
    return mask;
}

void next_in_vpt_block(machine_t *m);

/* Every vector instruction ends with this. */
static inline void advance(machine_t *m) {
    if (UNLIKELY(m->vpr >> 16)) next_in_vpt_block(m);
}

/* Write the bytes of ``mask`` only. */
void merge_vector(machine_t *m, int q, const vector_t *v, uint32_t mask);

/* Write what is active, and end the instruction. */
static inline void put_vector(machine_t *m, int q, const vector_t *v) {
    uint32_t mask = active(m);
    if (mask == ALL) set_vector(m, q, v);
    else merge_vector(m, q, v, mask);
    advance(m);
}

/* The same for a result of which the lanes that begin at these bytes were saturated. */
static inline void put_saturated(machine_t *m, int q, const vector_t *v, uint32_t saturated) {
    if (saturated & active(m)) m->fpscr |= QC;
    put_vector(m, q, v);
}

/* What is true of active lanes becomes P0; kind: the mask of a VPT block that begins, or 0. */
static inline void set_predicate(machine_t *m, const operation_t *o, uint32_t holds) {
    m->vpr = (m->vpr & ~0xffffu) | (holds & active(m));
    if (o->kind) m->vpr = (m->vpr & 0xffff) | o->kind * 0x110000u;
    else advance(m);
}

form_fn form_mask; /* kind: the four bits of the mask of VPT, which are 0 in VCMP */

/* Numbers wide enough for sums and products of two lanes. */
#define WIDE_s8 int32_t
#define WIDE_u8 int32_t
#define WIDE_s16 int64_t
#define WIDE_u16 int64_t
#define WIDE_s32 int64_t
#define WIDE_u32 int64_t
#define LARGEST_s8 INT8_MAX
#define LARGEST_u8 UINT8_MAX
#define LARGEST_s16 INT16_MAX
#define LARGEST_u16 UINT16_MAX
#define LARGEST_s32 INT32_MAX
#define LARGEST_u32 ((int64_t)UINT32_MAX)
#define SMALLEST_s8 INT8_MIN
#define SMALLEST_u8 0
#define SMALLEST_s16 INT16_MIN
#define SMALLEST_u16 0
#define SMALLEST_s32 INT32_MIN
#define SMALLEST_u32 0
#define TYPE_s8 int8_t
#define TYPE_u8 uint8_t
#define TYPE_s16 int16_t
#define TYPE_u16 uint16_t
#define TYPE_s32 int32_t
#define TYPE_u32 uint32_t

#define FOR_SIGNED(MACRO, ...) MACRO(s8, __VA_ARGS__) MACRO(s16, __VA_ARGS__) MACRO(s32, __VA_ARGS__)
#define FOR_UNSIGNED(MACRO, ...) MACRO(u8, __VA_ARGS__) MACRO(u16, __VA_ARGS__) MACRO(u32, __VA_ARGS__)
#define FOR_ALL(MACRO, ...) FOR_SIGNED(MACRO, __VA_ARGS__) FOR_UNSIGNED(MACRO, __VA_ARGS__)

/* Patterns of all sizes: what stands in front of the two bits and behind them. */
#define SIZES_UNSIGNED(front, behind, name, form)                                  \
    {front "00" behind, RUN(name##_u8), form},                                     \
    {front "01" behind, RUN(name##_u16), form},                                    \
    {front "10" behind, RUN(name##_u32), form}
#define SIZES_SIGNED(front, behind, name, form)                                    \
    {front "00" behind, RUN(name##_s8), form},                                     \
    {front "01" behind, RUN(name##_s16), form},                                    \
    {front "10" behind, RUN(name##_s32), form}
#define SIZES(front, behind, name, form)                                           \
    SIZES_SIGNED("1110" front, behind, name, form), SIZES_UNSIGNED("1111" front, behind, name, form)

extern const encoding_t armv81m[], float_system[], float_half[], helium_integer[];
extern const encoding_t helium_memory[], helium_lanes[], helium_shift[], helium_multiply[];
extern const encoding_t helium_predicate[], helium_move[], helium_float[];

#endif
