/* Loads and stores: where an address lies, whether the access is allowed, and what a watched run counts about it.
 *
 * ``readable`` and ``writable`` give the bytes, or NULL when the access is a fault; the instruction then ends at once.
 */
#ifndef TINYML_MEMORY_H
#define TINYML_MEMORY_H

#include "machine.h"

static inline uint32_t load_half(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }

static inline uint32_t load_word(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void store_half(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

static inline void store_word(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
    p[2] = (uint8_t)(value >> 16);
    p[3] = (uint8_t)(value >> 24);
}

/* The bytes from an address on, or NULL when not all of them lie in the region. A region has at least 4096 bytes. */
static inline uint8_t *within(const region_t *region, uint32_t address, uint32_t size) {
    uint32_t offset = address - region->origin;
    return offset <= region->size - size ? region->bytes + offset : NULL;
}

/* Slow paths; the first two return whether the access may go on. */
int misaligned_single(machine_t *m, const operation_t *o, uint32_t address, uint32_t size);
int misaligned_words(machine_t *m, const operation_t *o, uint32_t address);
void watch_data(machine_t *m, uint32_t address, uint32_t size);
void access_fault(machine_t *m, const operation_t *o, uint32_t address, uint32_t size, int status);

static inline const uint8_t *readable(machine_t *m, const operation_t *o, uint32_t address, uint32_t size) {
    if (UNLIKELY(address - m->watch_start < m->data_watch_size)) watch_data(m, address, size);
    const uint8_t *p = within(&m->ram, address, size);
    if (!p) p = within(&m->flash, address, size);
    if (!p) p = within(&m->stack, address, size);
    if (UNLIKELY(!p)) access_fault(m, o, address, size, READ_FAULT);
    return p;
}

static inline uint8_t *writable(machine_t *m, const operation_t *o, uint32_t address, uint32_t size) {
    uint8_t *p = within(&m->ram, address, size);
    if (!p) p = within(&m->stack, address, size);
    if (UNLIKELY(!p)) access_fault(m, o, address, size, within(&m->flash, address, size) ? READ_ONLY : WRITE_FAULT);
    return p;
}

/* One byte, halfword or word that may lie anywhere from Armv7-M on. */
static inline int may_access(machine_t *m, const operation_t *o, uint32_t address, uint32_t size) {
    return !UNLIKELY(address & (size - 1)) || misaligned_single(m, o, address, size);
}

/* Several words, or one that hardware wants aligned on every core. */
static inline int may_access_words(machine_t *m, const operation_t *o, uint32_t address) {
    return !UNLIKELY(address & 3) || misaligned_words(m, o, address);
}

#endif
