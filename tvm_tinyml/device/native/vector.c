#include "vector.h"

void next_in_vpt_block(machine_t *m) {
    for (int half = 0; half < 2; half++) {
        uint32_t mask = m->vpr >> (16 + 4 * half) & 15;
        if (mask & 7 && mask & 8) m->vpr ^= 0xffu << 8 * half; /* the next instruction is on the other side */
        m->vpr = (m->vpr & ~(15u << (16 + 4 * half))) | (mask << 1 & 15) << (16 + 4 * half);
    }
}

void merge_vector(machine_t *m, int q, const vector_t *v, uint32_t mask) {
    vector_t old = get_vector(m, q);
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) old.u8[i] = v->u8[i];
    set_vector(m, q, &old);
}
