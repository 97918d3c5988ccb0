#include "memory.h"

void access_fault(machine_t *m, const operation_t *o, uint32_t address, uint32_t size, int status) {
    fault(m, o, status);
    m->fault_address = address;
    m->fault_size = size;
}

int misaligned_single(machine_t *m, const operation_t *o, uint32_t address, uint32_t size) {
    if (!(m->features & ARMV7M)) {
        access_fault(m, o, address, size, MISALIGNED);
        return 0;
    }
    m->events[size == 2 ? HALFWORD_AT_ODD : address & 1 ? WORD_AT_ODD : WORD_AT_EVEN]++;
    return 1;
}

int misaligned_words(machine_t *m, const operation_t *o, uint32_t address) {
    int status = m->features & ARMV7M ? MISALIGNED_WORDS : MISALIGNED;
    if (status == MISALIGNED || m->check_alignment) {
        access_fault(m, o, address, 4, status);
        return 0;
    }
    m->events[address & 1 ? WORD_AT_ODD : WORD_AT_EVEN]++;
    return 1;
}

void watch_data(machine_t *m, uint32_t address, uint32_t size) {
    uint32_t first = address >> m->data.shift, last = (address + size - 1) >> m->data.shift;
    m->events[DATA_MISS] += lines_touch(&m->data, first) != HIT;
    if (first != last) m->events[DATA_MISS] += lines_touch(&m->data, last) != HIT;
}
