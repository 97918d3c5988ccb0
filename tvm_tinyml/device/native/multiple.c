#include "multiple.h"

#include "integer.h"
#include "memory.h"

int form_list(const instruction_t *i, operation_t *o) {
    (void)i;
    o->amount = 0;
    for (uint32_t list = o->immediate; list; list &= list - 1) o->amount += 4;
    return o->amount ? 0 : UNPREDICTABLE;
}

/* The lowest register lies at the lowest address. Returns 0 after a fault. */
static inline int load_list(machine_t *m, const operation_t *o) {
    uint32_t base = R(n), address = o->width ? base - o->amount : base;
    for (uint32_t list = o->immediate, i = 0; list; list >>= 1, i++) {
        if (!(list & 1)) continue;
        if (!may_access_words(m, o, address)) return 0;
        const uint8_t *p = readable(m, o, address, 4);
        if (!p) return 0;
        m->r[i] = load_word(p);
        address += 4;
    }
    if (o->kind) R(n) = o->width ? base - o->amount : base + o->amount;
    return 1;
}

OPERATION(ldm) {
    if (!load_list(m, o)) return;
    NEXT;
}

OPERATION(ldm_pc) {
    if (!load_list(m, o)) return;
    jump_interworking(m, o, m->r[PC]);
}

OPERATION(stm) {
    uint32_t base = R(n), address = o->width ? base - o->amount : base;
    for (uint32_t list = o->immediate, i = 0; list; list >>= 1, i++) {
        if (!(list & 1)) continue;
        if (!may_access_words(m, o, address)) return;
        uint8_t *p = writable(m, o, address, 4);
        if (!p) return;
        store_word(p, m->r[i]);
        address += 4;
    }
    if (o->kind) R(n) = o->width ? base - o->amount : base + o->amount;
    NEXT;
}
