/* Decodes a block: from its entry up to the first instruction that may jump. */
#include "blocks.h"

#include <stdlib.h>

#include "decode.h"
#include "integer.h"
#include "memory.h"

static operation_t *append(profile_t *p) {
    if (p->operation_count == p->operation_capacity) {
        uint32_t capacity = p->operation_capacity ? 2 * p->operation_capacity : 4096;
        operation_t *operations = realloc(p->operations, capacity * sizeof *operations);
        if (!operations) return NULL;
        p->operations = operations;
        p->operation_capacity = capacity;
    }
    operation_t *o = &p->operations[p->operation_count++];
    *o = (operation_t){0};
    return o;
}

/* What an IT instruction leaves for those behind it, as in the register ITSTATE: the condition on top, a mask below. */
static uint32_t next_it(uint32_t it_state) { return it_state & 7 ? (it_state & 0xe0) | (it_state << 1 & 0x1f) : 0; }

static OPERATION(align_stack) { /* the lowest two bits of SP are always 0 */
    m->r[SP] &= ~3u;
    NEXT;
}

uint32_t build_block(machine_t *m, uint32_t start) {
    profile_t *p = &m->profile;
    block_t block = {.start = start, .first = p->operation_count};
    uint32_t address = start, it_state = 0;
    for (int ended = 0; !ended;) {
        const uint8_t *code = within(&m->flash, address, 2);
        int wide = code && is_wide(load_half(code));
        if (wide) code = within(&m->flash, address, 4);
        if (!code && address == start) {
            m->status = NO_CODE;
            return OUTSIDE;
        }
        if (!code || (block.instructions >= BLOCK_INSTRUCTIONS && !it_state)) break;

        uint32_t condition = it_state >> 4, in_it = it_state != 0;
        instruction_t i = {wide ? load_half(code) << 16 | load_half(code + 2) : load_half(code), address, in_it != 0,
                           in_it && !(it_state & 7)};
        it_state = next_it(it_state);
        operation_t *o = append(p);
        if (!o) break;
        operation_t decoded;
        int moves_stack;
        const encoding_t *e = decode(m->decoder, &i, wide, &decoded, &moves_stack);
        if (in_it && condition < 14 && !(e && e->it == UNCONDITIONAL)) {
            o->run = skip_unless[condition];
            if (!append(p)) break;
        }
        p->operations[p->operation_count - 1] = decoded;
        if (moves_stack && (o = append(p)) != NULL) o->run = align_stack;
        if (e && e->run == it) it_state = i.code & 0xff;
        address += wide ? 4 : 2;
        block.instructions++;
        ended = (e && e->ends) || (!e && !it_state);
    }
    operation_t *last = append(p); /* goes on behind the block; reached when no jump was taken */
    if (!last) {
        m->status = OUT_OF_MEMORY;
        return OUTSIDE;
    }
    last->run = b;
    last->immediate = last->address = address;
    block.size = address - start;
    uint32_t index = profile_add(p, &block);
    if (index == OUTSIDE) m->status = OUT_OF_MEMORY;
    return index;
}
